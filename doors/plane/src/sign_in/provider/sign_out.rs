//! Signing out at the provider. A browser is told where (RP-Initiated Logout 1.0); and of those who
//! signed out there the provider tells us (Back-Channel Logout 1.0).

use super::{asking_at, configured, redirect, refused};
use crate::clock;
use crate::entries;
use crate::plane::{Plane, digest_of};
use crate::sign_in::Session;
use crate::sign_in::heard::Over;
use crate::trouble::Trouble;
use identity::person::provider::Keys;
use identity::person::sign_out::{self, Asked};
use std::sync::Arc;
use store::{Change, Direction};

/// Where whoever has this session signs out at the provider, if they came by it and it says where.
/// Nobody is asked for it: to end a session here waits for nobody.
#[must_use]
pub fn location(plane: &Plane, session: &Session) -> Option<String> {
    let at_provider = session.at_provider.as_ref()?;
    let provider = plane.provider.as_ref()?;
    let document = provider.directory.known(clock::now())?;
    let redirect = redirect(plane);
    let mut asked = vec![
        ("client_id", provider.settings.client_id.as_str()),
        ("post_logout_redirect_uri", redirect.as_str()),
    ];
    // Without it the provider asks its person who is meant.
    if !at_provider.token.is_empty() {
        asked.push(("id_token_hint", at_provider.token.as_str()));
    }
    (document.end_session.as_deref()).map(|address| asking_at(address, &asked))
}

/// Ends the sessions of whoever signed out at the provider, by its word: at once, then on record.
///
/// # Errors
/// It is not the provider's word, or it could not be recorded; sessions are over all the same.
pub async fn told(plane: &Arc<Plane>, token: &str) -> Result<(), Trouble> {
    let provider = configured(plane)?;
    let _place = provider.place()?;
    let now = clock::now();
    let document = provider.directory.document(now, None).await?;
    let asked = Asked {
        issuer: &provider.settings.issuer,
        client: &provider.settings.client_id,
        now,
    };
    let read = |keys: &Keys| sign_out::verify(token, keys, &asked);
    let word = provider.by_its_keys(&document, now, read).await;
    let word = word.map_err(refused)?;
    // Said again, it would end what began since. It is remembered for longer than it is believed; if
    // there is no room for that, it ends what it ends all the same.
    let id = digest_of(&["sign-out by the provider".as_bytes(), word.id().as_bytes()]);
    if let Ok(false) = plane.sign_ins.challenges.spend(&id.0, now) {
        return Ok(());
    }
    let subject = word.subject().map(|subject| provider.person(subject));
    let closed = plane.sign_ins.hear(Over { word, subject }, clock::now());
    if closed.is_empty() {
        return Ok(());
    }
    plane.events.nudge();
    let mut change = Change::new(Direction::Withdraw);
    for session in closed {
        let out = entries::signed_out_at_provider(now, &session.person, &session.name);
        change = change.entry(plane.leaf(&out)?);
    }
    plane.commit_withdrawal(change).await.map(drop)
}
