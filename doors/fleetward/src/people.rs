//! `fleetward access people …`, `fleetward access token …`, `fleetward access whoami`: who may ask
//! what of the plane.

use crate::client::Ask;
use crate::files::{self, shown};
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::Context;
use clap::Subcommand;
use model::{ApiTokenId, PasskeyId, PersonId, ProposalId};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum PeopleVerb {
    /// List everybody who ever could sign in.
    #[command(after_help = "Examples:\n  fleetward access people list\n  \
        fleetward access people list --output json")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Add a person; they join by the link in the file, once, within a day.
    #[command(after_help = "Examples:\n  \
        fleetward access people add \"Ada\" --role operator --role auditor --out ada-link\n\n\
        Roles: viewer, operator, release-manager, release-approver, pki-admin, policy-admin, \
        auditor, tenant-admin. The name is kept beside the row and never in the log.")]
    Add {
        /// What they are called.
        name: String,
        /// May be said several times.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// Where the link goes (mode 0600; must not exist).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Give a person these roles and no others. One who was disabled may sign in again.
    #[command(after_help = "Examples:\n  \
        fleetward access people change p-1a2b3c4d5e6f7081 --role viewer")]
    Change {
        person: PersonId,
        /// May be said several times.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// What they are called from now on.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Make a new link for a person; it works once, within a day.
    #[command(after_help = "Examples:\n  \
        fleetward access people link p-1a2b3c4d5e6f7081 --out link")]
    Link {
        person: PersonId,
        /// Where the link goes (mode 0600; must not exist).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Let a person in no more and end their sessions at once.
    #[command(after_help = "Examples:\n  fleetward access people disable p-1a2b3c4d5e6f7081")]
    Disable {
        person: PersonId,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum ApiTokenVerb {
    /// Make a token for a program: `Authorization: Bearer <the file's line>`.
    #[command(after_help = "Examples:\n  \
        fleetward access token make ci --role viewer --days 90 --out ci.token\n  \
        fleetward access token make prometheus --role auditor --days 365 \\\n    \
        --from 10.0.0.0/8 --from 2001:db8::/32 --out prometheus.token\n\n\
        The file has mode 0600 and is the only place where the token stands: the plane keeps its \
        hash.")]
    Make {
        /// What it is for.
        note: String,
        /// May be said several times; every role but tenant-admin.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// After so many days it opens nothing.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=397))]
        days: u32,
        /// Only from these addresses; may be said several times. From anywhere if left out.
        #[arg(long = "from", value_name = "NETWORK")]
        networks: Vec<String>,
        /// Where the token goes (mode 0600; must not exist).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// List tokens, the newest first, also those that open nothing any more.
    #[command(after_help = "Examples:\n  fleetward access token list\n  \
        fleetward access token list --output json")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// From here on it opens nothing.
    #[command(after_help = "Examples:\n  fleetward access token revoke t-1a2b3c4d5e")]
    Revoke {
        token: ApiTokenId,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum PasskeyVerb {
    /// List the passkeys of a person. They are added in the console, by the person alone.
    #[command(after_help = "Examples:\n  \
        fleetward access passkey list p-1a2b3c4d5e6f7081")]
    List {
        person: PersonId,
        #[command(flatten)]
        place: Place,
    },
    /// Take a passkey away that was lost or is in other hands; its person's sessions end too.
    #[command(after_help = "Examples:\n  \
        fleetward access passkey remove p-1a2b3c4d5e6f7081 k-1a2b3c4d5e")]
    Remove {
        person: PersonId,
        passkey: PasskeyId,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum ProposalVerb {
    /// List acts that wait for a second person, and those that were decided, the newest first.
    #[command(after_help = "Examples:\n  fleetward access proposal list")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show one with what was sent.
    #[command(after_help = "Examples:\n  fleetward access proposal show a-1a2b3c4d5e6f7081")]
    Show {
        proposal: ProposalId,
        #[command(flatten)]
        place: Place,
    },
    /// Approve an act of another person; it is done at once, exactly as it was shown.
    ///
    /// If what it builds on has moved, nothing is decided and nothing is done.
    #[command(after_help = "Examples:\n  \
        fleetward access proposal approve a-1a2b3c4d5e6f7081 --act 9f86d0…\n\n\
        A secret that the act answers with (a token, a link) is in the file of --out, and nowhere \
        else.")]
    Approve {
        proposal: ProposalId,
        /// The digest of the act that was looked at, as `show` prints it.
        #[arg(long, value_name = "SHA256")]
        act: String,
        /// Where the act's answer goes (JSON, mode 0600; must not exist).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Refuse an act.
    #[command(after_help = "Examples:\n  fleetward access proposal refuse a-1a2b3c4d5e6f7081")]
    Refuse {
        proposal: ProposalId,
        #[command(flatten)]
        place: Place,
    },
}

const PROPOSALS: [Column; 7] = [
    ("proposal", "/proposal"),
    ("class", "/class"),
    ("action", "/action"),
    ("by", "/proposed_by"),
    ("until", "/expires_at"),
    ("approved", "/approved"),
    ("decided by", "/decided_by"),
];
const PROPOSAL: [Column; 10] = [
    ("proposal", "/proposal"),
    ("class", "/class"),
    ("action", "/action"),
    ("request", "/method"),
    ("of", "/target"),
    ("by", "/proposed_by"),
    ("until", "/expires_at"),
    ("approved", "/approved"),
    ("act", "/act_sha256"),
    ("body", "/body"),
];
const ACT: [Column; 3] = [
    ("proposal", "/proposal"),
    ("status", "/status"),
    ("file", "/file"),
];
const PROPOSALS_PATH: &str = "/api/v1/access/proposals";

const PEOPLE: [Column; 6] = [
    ("person", "/person"),
    ("name", "/name"),
    ("roles", "/roles"),
    ("joined", "/joined_at"),
    ("disabled", "/disabled_at"),
    ("version", "/version"),
];
const PERSON: [Column; 4] = [
    ("person", "/person/person"),
    ("name", "/person/name"),
    ("roles", "/person/roles"),
    ("entry", "/recorded/entry"),
];
const LINK: [Column; 2] = [("file", "/file"), ("until", "/expires_at")];
const ADDED: [Column; 6] = [
    ("person", "/person/person"),
    ("name", "/person/name"),
    ("roles", "/person/roles"),
    ("file", "/file"),
    ("until", "/expires_at"),
    ("entry", "/recorded/entry"),
];
const TOKENS: [Column; 8] = [
    ("token", "/token"),
    ("for", "/note"),
    ("roles", "/roles"),
    ("from", "/networks"),
    ("by", "/made_by"),
    ("until", "/expires_at"),
    ("revoked", "/revoked_at"),
    ("used", "/used_at"),
];
const MADE: [Column; 6] = [
    ("token", "/token/token"),
    ("roles", "/token/roles"),
    ("from", "/token/networks"),
    ("until", "/token/expires_at"),
    ("file", "/file"),
    ("entry", "/recorded/entry"),
];
const PASSKEYS: [Column; 5] = [
    ("passkey", "/passkey"),
    ("called", "/note"),
    ("synced", "/synced"),
    ("added", "/made_at"),
    ("used", "/used_at"),
];
const DONE: [Column; 1] = [("entry", "/entry")];
const WHO: [Column; 7] = [
    ("actor", "/actor"),
    ("kind", "/kind"),
    ("name", "/name"),
    ("roles", "/roles"),
    ("actions", "/actions"),
    ("fresh until", "/fresh_until"),
    ("session ends", "/session_ends_at"),
];

const PATH: &str = "/api/v1/access/people";
const TOKENS_PATH: &str = "/api/v1/access/tokens";

/// # Errors
/// The plane.
pub fn whoami(place: &Place, output: Output) -> anyhow::Result<()> {
    let who = place.client()?.json(Ask::get("/api/v1/access/whoami"))?;
    show::fields(output, &who, &WHO)
}

impl PeopleVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List { place } => {
                let people = place.client()?.json(Ask::get(PATH))?;
                if people.as_array().is_some_and(Vec::is_empty) && output == Output::Table {
                    return show::line(
                        "nobody yet: whoever opens the link of `fleetward access admin-link` is \
                         the first",
                    );
                }
                show::rows(output, &people, &PEOPLE)
            }
            Self::Add {
                name,
                roles,
                out,
                place,
            } => {
                let body = json!({ "name": name, "roles": roles });
                let ask = Ask::post(PATH).json(&body);
                let added = keeping(out, "/link", || place.client()?.json(ask))?;
                show::fields(output, &added, &ADDED)
            }
            Self::Change {
                person,
                roles,
                name,
                place,
            } => {
                let mut client = place.client()?;
                let people = client.json(Ask::get(PATH))?;
                let known = one_of(&people, person)?;
                let text = |at| {
                    known
                        .pointer(at)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                };
                let name = name.as_deref().unwrap_or_else(|| text("/name"));
                let version = known.pointer("/version").and_then(Value::as_u64);
                let path = format!("{PATH}/{person}");
                let body = json!({ "name": name, "roles": roles });
                let ask = Ask::put(&path).json(&body);
                let changed = client.json(ask.if_version(version.unwrap_or_default()))?;
                show::fields(output, &changed, &PERSON)
            }
            Self::Link { person, out, place } => {
                let path = format!("{PATH}/{person}/link");
                let link = keeping(out, "/link", || place.client()?.json(Ask::post(&path)))?;
                show::fields(output, &link, &LINK)
            }
            Self::Disable { person, place } => {
                let path = format!("{PATH}/{person}");
                let done = place.client()?.json(Ask::delete(&path))?;
                show::fields(output, &done, &DONE)
            }
        }
    }
}

impl ApiTokenVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Make {
                note,
                roles,
                days,
                networks,
                out,
                place,
            } => {
                let body = json!({
                    "note": note, "roles": roles, "days": days, "networks": networks,
                });
                let ask = Ask::post(TOKENS_PATH).json(&body);
                let made = keeping(out, "/secret", || place.client()?.json(ask))?;
                show::fields(output, &made, &MADE)
            }
            Self::List { place } => {
                let tokens = place.client()?.json(Ask::get(TOKENS_PATH))?;
                if tokens.as_array().is_some_and(Vec::is_empty) && output == Output::Table {
                    return show::line("no tokens: `fleetward access token make` makes one");
                }
                show::rows(output, &tokens, &TOKENS)
            }
            Self::Revoke { token, place } => {
                let path = format!("{TOKENS_PATH}/{token}");
                let done = place.client()?.json(Ask::delete(&path))?;
                show::fields(output, &done, &DONE)
            }
        }
    }
}

impl PasskeyVerb {
    /// # Errors
    /// The plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List { person, place } => {
                let people = place.client()?.json(Ask::get(PATH))?;
                let known = one_of(&people, person)?;
                let none = Value::Array(Vec::new());
                let own = known.pointer("/passkeys").unwrap_or(&none);
                if own.as_array().is_some_and(Vec::is_empty) && output == Output::Table {
                    return show::line(
                        "no passkeys: their person adds one in the console, under Access",
                    );
                }
                show::rows(output, own, &PASSKEYS)
            }
            Self::Remove {
                person,
                passkey,
                place,
            } => {
                let path = format!("{PATH}/{person}/passkeys/{passkey}");
                let done = place.client()?.json(Ask::delete(&path))?;
                show::fields(output, &done, &DONE)
            }
        }
    }
}

impl ProposalVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List { place } => {
                let all = place.client()?.json(Ask::get(PROPOSALS_PATH))?;
                if all.as_array().is_some_and(Vec::is_empty) && output == Output::Table {
                    return show::line("nothing waits for a second person");
                }
                show::rows(output, &all, &PROPOSALS)
            }
            Self::Show { proposal, place } => {
                let path = format!("{PROPOSALS_PATH}/{proposal}");
                let one = place.client()?.json(Ask::get(&path))?;
                show::fields(output, &one, &PROPOSAL)
            }
            Self::Approve {
                proposal,
                act,
                out,
                place,
            } => {
                let path = format!("{PROPOSALS_PATH}/{proposal}/approve");
                let ask = Ask::post(&path).json(&json!({ "act_sha256": act }));
                let done = keeping(out, "/answer", || place.client()?.json(ask))?;
                show::fields(output, &done, &ACT)
            }
            Self::Refuse { proposal, place } => {
                let path = format!("{PROPOSALS_PATH}/{proposal}/refuse");
                place.client()?.json(Ask::post(&path))?;
                match output {
                    Output::Json => show::value(&json!({ "proposal": proposal.as_str() })),
                    Output::Table => show::line(&format!("{proposal} will not be done.")),
                }
            }
        }
    }
}

fn one_of<'p>(people: &'p Value, person: &PersonId) -> anyhow::Result<&'p Value> {
    let is_theirs =
        |one: &&Value| one.pointer("/person").and_then(Value::as_str) == Some(person.as_str());
    let known = people.as_array().into_iter().flatten().find(is_theirs);
    known.with_context(|| {
        format!("there is no person {person}; `fleetward access people list` lists them")
    })
}

/// Asks for something with a secret in it and moves the secret into a file, which is made before
/// anything else: a secret that cannot be kept helps nobody.
fn keeping(
    out: &Path,
    secret_at: &str,
    ask: impl FnOnce() -> anyhow::Result<Value>,
) -> anyhow::Result<Value> {
    files::create_secret(out, b"")?;
    let made = ask().and_then(|mut made| {
        let secret = made.pointer(secret_at).map(|secret| match secret {
            Value::String(text) => text.clone(),
            whole => whole.to_string(),
        });
        let secret = secret.context("the plane's answer holds no secret; update this program")?;
        files::replace(out, format!("{secret}\n").as_bytes(), 0o600)?;
        if let Some(fields) = made.as_object_mut() {
            fields.remove(secret_at.trim_start_matches('/'));
            fields.insert("file".to_owned(), json!(shown(out)));
        }
        Ok(made)
    });
    if made.is_err() {
        let _ = std::fs::remove_file(out);
    }
    made
}
