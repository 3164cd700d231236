//! Signing in by a provider of identities: OpenID Connect's code flow with PKCE (RFC 7636).
//!
//! Nothing is kept of a sign-in that was begun: its state, nonce and verifier are derived from a
//! challenge that lies in a cookie of the browser that began it, by a key that only this plane has.

mod directory;
pub mod sign_out;

use super::challenges::LIFETIME;
use super::{Asking, AtProvider, FRESH_FOR, Proven, Way, open, same_person, told};
use crate::clock;
use crate::config::{AccessConfig, ProviderConfig};
use crate::entries::{self, Actor};
use crate::people::Member;
use crate::people::changing::{self, PEOPLE_MAX};
use crate::plane::{Plane, digest};
use crate::secret::read_secret;
use crate::shared::{Locked, to_its_end};
use crate::trouble::Trouble;
use access::Roles;
use anyhow::Context;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use directory::{Directory, Document};
use identity::person::id_token::{self, IdTokenRefusal, Known};
use identity::person::provider::Keys;
use model::{Digest, PersonId, Timestamp};
use serde::Deserialize;
use std::sync::Arc;
use store::{Change, Direction, Person};
use zeroize::Zeroizing;

const PURPOSE: &str = "provider sign-in";
/// As above, and the provider asks anew who they are.
const PURPOSE_AGAIN: &str = "provider sign-in again";
/// How long ago somebody may have signed in at the provider: as long as a session of ours.
const MAX_AGE_SECONDS: u64 = 12 * 3600;
const CODE_BYTES_MAX: usize = 4096;
const ANSWER_BYTES_MAX: usize = 128 * 1024;
/// Codes that are asked about at a time: strangers cannot have more asked.
const ASKING_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 128;
/// Of a token that is shown to the provider again, in an address: longer ones are not kept.
const HINT_BYTES_MAX: usize = 4096;

pub struct Provider {
    settings: ProviderConfig,
    secret: Option<Zeroizing<String>>,
    directory: Directory,
    asking: Locked<usize>,
}

/// What the browser is told to do.
pub struct Beginning {
    /// Where it goes.
    pub location: String,
    /// What it keeps until it comes back.
    pub cookie: String,
}

/// With what it comes back.
pub struct Answer {
    /// What it kept.
    pub cookie: String,
    pub code: String,
    pub state: String,
    /// RFC 9207: which provider answers.
    pub issuer: Option<String>,
}

impl Provider {
    /// # Errors
    /// The secret or the roots cannot be read.
    pub fn new(access: &AccessConfig) -> anyhow::Result<Option<Self>> {
        let settings = access.provider.clone();
        if settings.issuer.is_empty() {
            return Ok(None);
        }
        let file = &settings.client_secret_file;
        let secret = match file.as_os_str().is_empty() {
            true => None,
            false => Some(read_secret(file, 1).context("access.provider.client_secret_file")?),
        };
        let directory = Directory::new(&settings)?;
        Ok(Some(Self {
            settings,
            secret,
            directory,
            asking: Locked::default(),
        }))
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Names one of its subjects here.
    fn person(&self, subject: &str) -> Digest {
        digest(format!("{}\0{subject}", self.settings.issuer).as_bytes())
    }

    /// Trades the code for the token (RFC 6749 section 4.1.3).
    async fn token(
        &self,
        document: &Document,
        code: &str,
        redirect: &str,
        verifier: &str,
    ) -> Result<Zeroizing<String>, Trouble> {
        #[derive(Deserialize)]
        struct Granted {
            id_token: String,
        }
        #[derive(Deserialize)]
        struct Denied {
            error: String,
        }
        let mut form = query(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ]);
        let client = encoded(&self.settings.client_id);
        let authorization = match &self.secret {
            // RFC 6749 section 2.3.1: both parts encoded, then joined.
            Some(secret) => {
                let both = Zeroizing::new(format!("{client}:{}", encoded(secret)));
                Some(Zeroizing::new(format!("Basic {}", STANDARD.encode(&*both))))
            }
            None => {
                form.push_str(&format!("&client_id={client}"));
                None
            }
        };
        let authorization = authorization.as_ref().map(|value| value.as_str());
        let answer = document
            .token
            .post_form(form, authorization, ANSWER_BYTES_MAX);
        let answer = answer.await.map_err(|why| {
            self.directory.tell(clock::now(), &why);
            unreachable()
        })?;
        if answer.status.is_success() {
            let granted: Granted = serde_json::from_slice(&answer.body)
                .map_err(|_| refused(IdTokenRefusal::Malformed("the answer")))?;
            return Ok(Zeroizing::new(granted.id_token));
        }
        let denied: Option<Denied> = serde_json::from_slice(&answer.body).ok();
        let why = denied.map_or_else(String::new, |denied| plain(&denied.error));
        Err(Trouble::refused(
            "provider-refused",
            format!(
                "the provider did not take the code ({} {why}); begin again. Operator: if it stays so, \
                 look at access.provider.client_id, its secret and the redirect address {redirect}",
                answer.status.as_u16()
            ),
        ))
    }

    /// What is read of a token by the keys that are known, or by newer ones if it names none of them.
    async fn by_its_keys<T>(
        &self,
        document: &Document,
        now: Timestamp,
        read: impl Fn(&Keys) -> Result<T, IdTokenRefusal>,
    ) -> Result<T, IdTokenRefusal> {
        match read(&document.keys) {
            Err(IdTokenRefusal::UnknownKey) => {
                let newer = self.directory.document(now, Some(document.read_at));
                match newer.await {
                    Ok(newer) => read(&newer.keys),
                    Err(_) => Err(IdTokenRefusal::UnknownKey),
                }
            }
            done => done,
        }
    }

    fn place(&self) -> Result<Place<'_>, Trouble> {
        let mut asking = self.asking.lock();
        if *asking >= ASKING_MAX {
            return Err(Trouble::Later {
                code: "too-many-sign-ins",
                text: "too many people are signing in by the provider; try again in a moment"
                    .into(),
                seconds: 2,
                too_often: false,
            });
        }
        *asking += 1;
        Ok(Place(&self.asking))
    }
}

/// One of those that may ask the provider at a time.
struct Place<'p>(&'p Locked<usize>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut asking = self.0.lock();
        *asking = asking.saturating_sub(1);
    }
}

/// Sends the browser to the provider. `again`: who is signed in there must prove it anew.
///
/// # Errors
/// There is no provider, or it does not answer.
pub async fn begin(plane: &Plane, again: bool) -> Result<Beginning, Trouble> {
    let provider = configured(plane)?;
    let document = provider.directory.document(clock::now(), None).await?;
    let purpose = if again { PURPOSE_AGAIN } else { PURPOSE };
    let seed = plane.sign_ins.challenges.make(purpose, clock::now())?;
    let begun = Begun::of(plane, seed);
    let redirect = redirect(plane);
    let challenge = URL_SAFE_NO_PAD.encode(digest(begun.verifier.as_bytes()).0);
    let max_age = if again {
        FRESH_FOR.as_secs()
    } else {
        MAX_AGE_SECONDS
    };
    let max_age = max_age.to_string();
    let mut asked = vec![
        ("response_type", "code"),
        ("client_id", provider.settings.client_id.as_str()),
        ("redirect_uri", redirect.as_str()),
        ("scope", provider.settings.scope.as_str()),
        ("state", begun.state.as_str()),
        ("nonce", begun.nonce.as_str()),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
        ("max_age", max_age.as_str()),
    ];
    if again {
        asked.push(("prompt", "login"));
    }
    Ok(Beginning {
        location: asking_at(&document.authorization, &asked),
        cookie: URL_SAFE_NO_PAD.encode(&begun.seed),
    })
}

/// Opens a session for whom the provider names.
///
/// # Errors
/// Why it does not prove anybody who may come in.
pub async fn sign_in(
    plane: &Arc<Plane>,
    answer: &Answer,
    asking: Asking,
) -> Result<Zeroizing<String>, Trouble> {
    let from = asking.from;
    let done = match check(plane, answer).await {
        // To its end, also if the browser hangs up.
        Ok(came) => {
            let plane = Arc::clone(plane);
            to_its_end(async move { come_in(&plane, came, &asking).await }).await
        }
        Err(trouble) => Err(trouble),
    };
    told(plane, Way::Provider, from, done)
}

/// Somebody whom the provider names.
struct Came {
    begun_at: Timestamp,
    known: Known,
    proven_at: Timestamp,
    token: Zeroizing<String>,
}

async fn check(plane: &Arc<Plane>, answer: &Answer) -> Result<Came, Trouble> {
    let provider = configured(plane)?;
    let now = clock::now();
    let seed = URL_SAFE_NO_PAD.decode(&answer.cookie).unwrap_or_default();
    let challenges = &plane.sign_ins.challenges;
    let begun_at = challenges.made_at(PURPOSE, &seed, now);
    let again_at = challenges.made_at(PURPOSE_AGAIN, &seed, now);
    let Some(begun_at) = begun_at.or(again_at) else {
        return Err(Trouble::refused(
            "sign-in-not-begun",
            format!(
                "this browser began no sign-in within {} minutes; begin again",
                LIFETIME.as_secs() / 60
            ),
        ));
    };
    let begun = Begun::of(plane, seed);
    if verify_slices_are_equal(begun.state.as_bytes(), answer.state.as_bytes()).is_err() {
        return Err(Trouble::refused(
            "sign-in-other-state",
            "this answers a sign-in that another page began; begin again here",
        ));
    }
    let other_issuer = |issuer: &String| *issuer != provider.settings.issuer;
    if answer.issuer.as_ref().is_some_and(other_issuer) {
        return Err(refused(IdTokenRefusal::OtherIssuer));
    }
    if answer.code.is_empty() || answer.code.len() > CODE_BYTES_MAX {
        return Err(refused(IdTokenRefusal::Malformed("the code")));
    }
    let _place = provider.place()?;
    let document = provider.directory.document(now, None).await?;
    if document.names_itself && answer.issuer.is_none() {
        return Err(refused(IdTokenRefusal::OtherIssuer));
    }
    // A code that leaked later is worth nothing here.
    if !challenges.spend(&begun.seed, now)? {
        return Err(refused(IdTokenRefusal::OtherNonce));
    }
    let (redirect, verifier) = (redirect(plane), &begun.verifier);
    let token = provider.token(&document, &answer.code, &redirect, verifier);
    let token = token.await?;
    let now = clock::now();
    let asked = id_token::Asked {
        issuer: &provider.settings.issuer,
        client: &provider.settings.client_id,
        nonce: &begun.nonce,
        now,
        proven_since: again_at,
        groups_claim: &provider.settings.groups_claim,
    };
    let read = |keys: &Keys| id_token::verify(&token, keys, &asked);
    let known = provider.by_its_keys(&document, now, read).await;
    let known = known.map_err(refused)?;
    // One that does not say when opens nothing that is dangerous.
    let proven_at = known.proven_at().unwrap_or_default().min(now);
    Ok(Came {
        begun_at,
        known,
        proven_at,
        token,
    })
}

/// What the provider says of somebody is what they are from now on: a new group gives, and one that
/// they left takes.
async fn come_in(
    plane: &Arc<Plane>,
    came: Came,
    asking: &Asking,
) -> Result<(Zeroizing<String>, PersonId), Trouble> {
    let provider = configured(plane)?;
    let known = &came.known;
    let roles = provider.settings.roles_of(known.groups());
    let subject = provider.person(known.subject());
    let _one_at_a_time = plane.roster.changing.begin().await;
    let member = plane.roster.person_by_subject(&subject);
    if let Some(member) = &member {
        same_person(asking, &member.row.id)?;
        if !member.is_active() {
            return Err(Trouble::refused(
                "person-disabled",
                format!(
                    "{} is let in no more; a tenant-admin decides",
                    member.row.id
                ),
            ));
        }
    } else if asking.before.is_some() {
        return Err(Trouble::refused(
            "another-person",
            "this proves somebody else than who is signed in here; sign out first",
        ));
    }
    let now = clock::now();
    if roles.is_empty() {
        if let Some(member) = member {
            leave(plane, member, now).await?;
        }
        return Err(Trouble::refused(
            "no-role-for-groups",
            format!(
                "none of your groups at {} has a role here; ask whoever runs it for one, or operator: \
                 name a group of theirs in access.provider.roles",
                provider.name()
            ),
        ));
    }
    let name = plain_name(known.name());
    let mut change = Change::new(Direction::Grant);
    let row = match member {
        None => {
            if plane.roster.people().len() >= PEOPLE_MAX {
                let text = format!("a plane has at most {PEOPLE_MAX} people");
                return Err(Trouble::refused("too-many-people", text));
            }
            let row = new_person(name, roles, subject, now)?;
            let added = entries::person_added(now, &Actor::Plane, &row.id, roles);
            change = change.entry(plane.leaf(&added)?);
            row
        }
        Some(member) => {
            let row = Person {
                name,
                roles: roles.to_string(),
                joined_at: member.row.joined_at.or(Some(now)),
                ..member.row.clone()
            };
            if row == member.row {
                row
            } else {
                let before = member.roles;
                let act = entries::person_changed(now, &Actor::Plane, &row.id, before, roles);
                change = change.entry(plane.leaf(&act)?);
                let version = row.version.saturating_add(1);
                Person { version, ..row }
            }
        }
    };
    let id = row.id.clone();
    let is_known = plane
        .roster
        .person(&id)
        .is_some_and(|known| known.row == row);
    let rows = if is_known { Vec::new() } else { vec![row] };
    let proven = Proven {
        way: Way::Provider,
        at: came.proven_at,
        at_provider: Some(Arc::new(AtProvider {
            begun_at: came.begun_at,
            subject,
            session: known.session().map(str::to_owned),
            token: match came.token.len() {
                0..=HINT_BYTES_MAX => came.token,
                _ => Zeroizing::default(),
            },
        })),
    };
    let cookie = open(plane, change, rows, id.clone(), proven, asking).await?;
    Ok((cookie, id))
}

/// Takes away what the provider gave: in memory first, then on record.
async fn leave(plane: &Arc<Plane>, member: Member, now: Timestamp) -> Result<(), Trouble> {
    if member.roles.is_empty() {
        return Ok(());
    }
    let id = member.row.id.clone();
    let row = Person {
        roles: String::new(),
        version: member.row.version.saturating_add(1),
        ..member.row
    };
    let act = entries::person_changed(now, &Actor::Plane, &id, member.roles, Roles::NONE);
    plane.roster.put(row.clone());
    plane.sign_ins.close_all_of(&id);
    plane.events.nudge();
    let change = Change::new(Direction::Withdraw)
        .write(changing::narrowing(&row))
        .entry(plane.leaf(&act)?);
    plane.commit_withdrawal(change).await.map(drop)
}

fn new_person(
    name: String,
    roles: Roles,
    subject: Digest,
    now: Timestamp,
) -> Result<Person, Trouble> {
    Ok(Person {
        id: changing::fresh_id()?,
        name,
        roles: roles.to_string(),
        created_at: now,
        joined_at: Some(now),
        disabled_at: None,
        version: 1,
        subject: Some(subject),
    })
}

/// What belongs to one sign-in that was begun.
struct Begun {
    seed: Vec<u8>,
    state: String,
    nonce: String,
    verifier: Zeroizing<String>,
}

impl Begun {
    fn of(plane: &Plane, seed: Vec<u8>) -> Self {
        let challenges = &plane.sign_ins.challenges;
        let derived = |what: &str| URL_SAFE_NO_PAD.encode(challenges.derive(what, &seed));
        Self {
            state: derived("provider state"),
            nonce: derived("provider nonce"),
            verifier: Zeroizing::new(derived("provider verifier")),
            seed,
        }
    }
}

fn configured(plane: &Plane) -> Result<&Provider, Trouble> {
    plane.provider.as_ref().ok_or_else(|| Trouble::Unknown {
        code: "no-provider",
        text: "no provider is configured; operator: see [access.provider]".into(),
    })
}

/// Where the provider sends browsers back to: the console, which takes the code out of the address.
fn redirect(plane: &Plane) -> String {
    format!("{}/", plane.console().origin)
}

fn unreachable() -> Trouble {
    Trouble::Later {
        code: "provider-unreachable",
        text: "the provider does not answer as it should; try again. Operator: the plane's own log says \
               why"
            .into(),
        seconds: 10,
        too_often: false,
    }
}

fn refused(why: IdTokenRefusal) -> Trouble {
    Trouble::refused(why.code(), why.to_string())
}

/// RFC 3986 section 2.3: everything else is written by its bytes.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The address with these in its query, beside what it has there.
fn asking_at(address: &str, pairs: &[(&str, &str)]) -> String {
    let joint = if address.contains('?') { '&' } else { '?' };
    format!("{address}{joint}{}", query(pairs))
}

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

/// An error's code as providers write them; nothing else of theirs is repeated.
fn plain(code: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_lowercase() || *c == '_';
    code.chars().take(64).filter(is_plain).collect()
}

fn plain_name(name: &str) -> String {
    let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_an_address_cannot_leave_its_place() {
        assert_eq!(encoded("a-B.0_~"), "a-B.0_~");
        assert_eq!(
            query(&[("a", "x&b=y #?/"), ("c", "é\r\n")]),
            "a=x%26b%3Dy%20%23%3F%2F&c=%C3%A9%0D%0A"
        );
        assert_eq!(
            plain("invalid_grant<script>\u{202e}"),
            "invalid_grantscript"
        );
        assert_eq!(plain_name(" Ada\r\n\u{0} Lovelace "), "Ada Lovelace");
        assert!(plain_name(&"é".repeat(500)).len() <= NAME_BYTES_MAX);
    }
}
