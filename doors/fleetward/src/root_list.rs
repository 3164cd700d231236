//! `fleetward identity root crl …`: a root says which of its issuing CAs were revoked.

use crate::ask;
use crate::client::Ask;
use crate::files;
use crate::identity::{PEM_BYTES_MAX, RECORDED};
use crate::place::Place;
use crate::request::{from_pem, pem};
use crate::root::{Passphrase, append, now, read_bundle, sha256};
use crate::show::{self, Column, Output};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use identity::crl::Contents;
use identity::profile::Issuer;
use serde_json::{Value, json};
use signer::Purpose;
use std::io::IsTerminal;
use std::path::PathBuf;

/// As the plane writes it: TBSCertList in DER.
const REQUEST: &str = "FLEETWARD ROOT CRL REQUEST";
const CRL: &str = "X509 CRL";

#[derive(Debug, Subcommand)]
pub enum RootListVerb {
    /// Write the list as it should be now, for the root to sign.
    #[command(after_help = "Examples:\n  fleetward identity root crl request --out root-crl.req")]
    Request {
        /// Where the request (PEM) goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The root, by the SHA-256 of its certificate; without it the one whose list is due.
        #[arg(long, value_name = "SHA256")]
        root: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Sign a list, after showing what it says. Needs no plane.
    #[command(
        after_help = "Examples:\n  fleetward identity root crl sign --bundle root.bundle \
        --request root-crl.req --out root-crl.pem --record ceremony.jsonl\n\n\
        On a terminal it shows the list and asks; elsewhere --yes says that somebody has looked."
    )]
    Sign(Sign),
    /// Serve a list that the root signed.
    #[command(after_help = "Examples:\n  fleetward identity root crl install root-crl.pem")]
    Install {
        list: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Sign {
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// What `fleetward identity root crl request` wrote.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Where the list (PEM) goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A line about the ceremony is appended here.
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
    /// Show what would be signed, and sign nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

const LIST: [Column; 4] = [
    ("number", "/number"),
    ("from", "/this_update"),
    ("until", "/next_update"),
    ("revoked", "/revoked"),
];

impl RootListVerb {
    /// # Errors
    /// A file, a passphrase, the plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Request { out, root, place } => {
                let body = json!({ "root_sha256": root });
                let ask = Ask::post("/api/v1/identity/roots/crl/request").json(&body);
                let made = place.client()?.json(ask)?;
                let request = made.pointer("/request_pem").and_then(Value::as_str);
                let request =
                    request.context("the plane's answer holds no request; update this program")?;
                files::replace(out, request.as_bytes(), 0o644)?;
                let said = json!({
                    "file": out.display().to_string(),
                    "root_sha256": made.pointer("/root_sha256"),
                });
                let columns = [("file", "/file"), ("root sha-256", "/root_sha256")];
                show::fields(output, &said, &columns)
            }
            Self::Sign(sign) => sign.run(output),
            Self::Install { list, place } => {
                let pem = files::read_text(list, PEM_BYTES_MAX)?;
                let ask = Ask::put("/api/v1/identity/roots/crl").json(&json!({ "crl_pem": pem }));
                show::fields(output, &place.client()?.json(ask)?, &RECORDED)
            }
        }
    }
}

impl Sign {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let bundle = read_bundle(&self.bundle)?;
        let to_be_signed = from_pem(&files::read_text(&self.request, PEM_BYTES_MAX)?, REQUEST)?;
        let contents = Contents::read(&to_be_signed)?;
        if contents.issuer != Issuer::from_certificate(&bundle.certificate)?.id() {
            bail!("the list is another root's than the bundle's; nothing was signed");
        }
        let revoked: Vec<String> = (contents.entries.iter())
            .map(|one| format!("{} at {}: {}", one.certificate, one.at, one.reason.name()))
            .collect();
        let mut shown = json!({
            "number": contents.number,
            "this_update": contents.this_update.to_string(),
            "next_update": contents.next_update.to_string(),
            "revoked": revoked,
        });
        if self.dry_run {
            return show::fields(output, &shown, &LIST);
        }
        if !self.yes {
            if !std::io::stdin().is_terminal() {
                bail!("nobody has looked at what is signed: --dry-run shows it, --yes signs it");
            }
            show::fields(Output::Table, &shown, &LIST)?;
            if !ask::yes("Sign this list?")? {
                bail!("nothing was signed");
            }
        }
        let root = bundle.open(&self.passphrase.known()?)?;
        let signature = root.sign(Purpose::Crl, &to_be_signed)?;
        let list = identity::crl::assemble(&to_be_signed, &signature)?;
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("at".into(), now().to_string().into());
            fields.insert("root_sha256".into(), sha256(&bundle.certificate).into());
            fields.insert("crl_sha256".into(), sha256(&list).into());
        }
        append(&self.record, &shown)?;
        files::replace(&self.out, pem(CRL, &list).as_bytes(), 0o644)?;
        show::fields(output, &shown, &LIST)
    }
}
