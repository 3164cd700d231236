//! Acts on the root: it moves offline, and another takes its place.

use super::authorities::{believe, is_online};
use super::tree::{Root, Tree, row};
use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, digest};
use crate::served;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use identity::profile::{self, AuthorityRefusal, check_link, check_root};
use std::sync::Arc;
use store::{Authority, AuthorityRole, AuthorityState, Change, Direction, Receipt, Write};
use zeroize::Zeroizing;

/// The root's key as a bundle under a passphrase. Told in the log before it leaves.
///
/// # Errors
/// The root is not here, or in a token; the passphrase is too short.
pub async fn export(
    plane: &Arc<Plane>,
    passphrase: Zeroizing<String>,
    actor: &Actor,
) -> Result<(String, Receipt), Trouble> {
    plane.granting_allowed()?;
    let tree = plane.tree();
    let certificate = online(plane, &tree)?.certificate.clone();
    let exporting = Arc::clone(plane);
    let bundle = off_thread(move || {
        exporting
            .signer
            .export_root(&certificate, passphrase.as_bytes())
    })
    .await?
    .map_err(signer_refusal)?;
    let text = bundle.to_text();
    let act = entries::root_exported(clock::now(), actor, digest(text.as_bytes()));
    let change = Change::new(Direction::Grant).entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    Ok((text, receipt))
}

/// Removes the root's key from this machine. What it could do is over when this returns; the entry
/// follows, as with everything that withdraws.
///
/// # Errors
/// The root is not here, or in a token.
pub async fn destroy(plane: &Arc<Plane>, actor: &Actor) -> Result<Receipt, Trouble> {
    let _one_at_a_time = plane.listing.begin().await;
    let root = digest(&online(plane, &plane.tree())?.certificate);
    let destroying = Arc::clone(plane);
    off_thread(move || destroying.signer.destroy_root())
        .await?
        .map_err(signer_refusal)?;
    let act = entries::root_key_destroyed(clock::now(), actor, root);
    let change = Change::new(Direction::Withdraw).entry(plane.leaf(&act)?);
    plane.commit_withdrawal(change).await
}

fn online<'a>(plane: &Plane, tree: &'a Tree) -> Result<&'a Root, Trouble> {
    (tree.roots().iter())
        .find(|root| is_online(plane, root))
        .ok_or_else(|| Trouble::refused("root-offline", "the root's key is not on this machine"))
}

fn signer_refusal(error: signer::SignerError) -> Trouble {
    match error {
        signer::SignerError::Passphrase { .. }
        | signer::SignerError::NoRoot
        | signer::SignerError::RootInToken => Trouble::refused("root-refused", error.to_string()),
        other => Trouble::fault(other),
    }
}

/// Makes the next root known. It serves nobody yet: devices learn of it first, by its link.
///
/// `certificates` are the new root, and then, in any order, the link to it and the link back.
///
/// # Errors
/// It is no root, or the links are not between it and the one that serves.
pub async fn announce(
    plane: &Arc<Plane>,
    certificates: Vec<Vec<u8>>,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let now = clock::now();
    let tree = plane.tree();
    let Ok([next, one, other]) = <[Vec<u8>; 3]>::try_from(certificates) else {
        return Err(Trouble::refused(
            "root-refused",
            "send three certificates: the new root, its link by the old one and the old one's by it",
        ));
    };
    check_root(&next, now).map_err(refused)?;
    let is_link = |der: &[u8]| check_link(der, &next, tree.root(), now);
    let (link, link_back) = if is_link(&one).is_ok() {
        (one, other)
    } else {
        (other, one)
    };
    is_link(&link).map_err(refused)?;
    check_link(&link_back, tree.root(), &next, now).map_err(refused)?;
    let mut next_row = row(AuthorityRole::Root, next)?;
    if tree
        .roots()
        .iter()
        .any(|root| root.issuer.id() == next_row.subject)
    {
        return Err(Trouble::refused(
            "root-exists",
            "this root is known already",
        ));
    }
    next_row.state = AuthorityState::Next;
    next_row.created_at = now;
    let act = entries::root_announced(now, actor, digest(&next_row.certificate));
    let [key, key_back] = Tree::link_keys(&next_row.subject);
    let change = Change::new(Direction::Grant)
        .write(Write::PutMeta { key, value: link })
        .write(Write::PutMeta {
            key: key_back,
            value: link_back,
        })
        .write(Write::PutAuthority(next_row))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    believe(plane)?;
    Ok(receipt)
}

fn refused(refusal: AuthorityRefusal) -> Trouble {
    Trouble::refused("root-refused", refusal.to_string())
}

/// The next root takes the place of the one that serves: this plane's own certificate moves below
/// it, with the link in its chain for whoever knows the old one only.
///
/// # Errors
/// There is no next root, or no CA below it that certifies servers.
pub async fn roll_over(plane: &Arc<Plane>, actor: &Actor) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let now = clock::now();
    let tree = plane.tree();
    let mut next = None;
    let mut before = None;
    for root in tree.roots() {
        match root.state {
            AuthorityState::Next => next = Some(root),
            AuthorityState::Current => before = Some(root),
            AuthorityState::Retiring | AuthorityState::Ended => {}
        }
    }
    let (Some(next), Some(before)) = (next, before) else {
        return Err(Trouble::refused(
            "root-unknown",
            "there is no next root: `fleetward identity root install` makes it known",
        ));
    };
    let names: Vec<&str> = (plane.config.server_names.iter())
        .map(String::as_str)
        .collect();
    tree.for_server_below(&next.issuer.id(), &names)?;
    let act = entries::root_rolled_over(
        now,
        actor,
        digest(&before.certificate),
        digest(&next.certificate),
    );
    let moved = |root: &Root, state| Authority {
        subject: root.issuer.id(),
        role: AuthorityRole::Root,
        state,
        certificate: root.certificate.clone(),
        created_at: root.created_at,
    };
    let change = Change::new(Direction::Grant)
        .write(Write::PutAuthority(moved(before, AuthorityState::Retiring)))
        .write(Write::PutAuthority(moved(next, AuthorityState::Current)))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    believe(plane)?;
    served::renew_own(plane).await.map_err(Trouble::fault)?;
    Ok(receipt)
}

/// The certificate that a ceremony made for a CA, in service from here on.
///
/// # Errors
/// It is not what was asked for, or not by a root of ours.
pub fn check_installed(
    plane: &Plane,
    tree: &Tree,
    certificate: &[u8],
    key: &signer::IssuingKey,
    limits: &profile::NameLimits,
) -> Result<(), Trouble> {
    let mut refusal = AuthorityRefusal::ForeignRoot;
    for root in tree.roots() {
        let checked = profile::check_issuing(
            plane.realm(),
            certificate,
            &root.certificate,
            &key.authority,
            limits,
            &key.public,
            clock::now(),
        );
        match checked {
            Ok(()) => return Ok(()),
            Err(AuthorityRefusal::ForeignRoot) => {}
            Err(other) => refusal = other,
        }
    }
    Err(Trouble::refused("authority-refused", refusal.to_string()))
}
