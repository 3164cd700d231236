//! `fleetward identity ca …`: the CAs of a plane.

use crate::client::Ask;
use crate::files;
use crate::identity::{PEM_BYTES_MAX, RECORDED};
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::Context;
use clap::Subcommand;
use model::{AuthorityId, CertificateUses};
use serde_json::{Value, json};
use std::path::PathBuf;
use zeroize::Zeroizing;

#[derive(Debug, Subcommand)]
pub enum CaVerb {
    /// List roots and issuing CAs, and what should be changed about them.
    #[command(after_help = "Examples:\n  fleetward identity ca list")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Make an issuing CA of its own for a product or purpose, under a root on the plane's machine.
    #[command(
        after_help = "Examples:\n  fleetward identity ca create cameras --for device\n  \
        fleetward identity ca create doors --for server\n\n\
        A CA for devices serves the products that name it in the fleet: ca = \"cameras\". One for \
        servers, services or operators serves all of them from now on."
    )]
    Create {
        name: AuthorityId,
        /// What it certifies: device, service, operator (several joined by +), server, or every.
        #[arg(long = "for", value_name = "USES")]
        uses: CertificateUses,
        #[command(flatten)]
        place: Place,
    },
    /// Write the request of an issuing CA to a root that is kept offline. Its key is born in the
    /// plane and stays there.
    #[command(
        after_help = "Examples:\n  fleetward identity ca request cameras --for device --out cameras.csr\n  \
        fleetward identity ca request default --out default.csr\n\n\
        Without --for it is the next key of a CA that exists."
    )]
    Request {
        name: AuthorityId,
        /// As with create; for a CA that does not exist yet.
        #[arg(long = "for", value_name = "USES")]
        uses: Option<CertificateUses>,
        /// Where the request (PEM) goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Put an issuing CA into service with the certificate that the root made for its request.
    #[command(after_help = "Examples:\n  fleetward identity ca install cameras cameras.pem")]
    Install {
        name: AuthorityId,
        certificate: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Take in an issuing CA that was made elsewhere, with its key: it certifies from then on.
    #[command(
        after_help = "Examples:\n  fleetward identity ca import legacy --for device \
        --certificate old-ca.pem --key-file old-ca.key --dry-run\n\n\
        The key is ECDSA on P-256, in PEM, not encrypted, in a file of mode 0600. It goes to the \
        signer (a sealed file, or the token) and nowhere else; destroy the other copies."
    )]
    Import {
        /// Its name here, for products: ca = \"legacy\".
        name: AuthorityId,
        /// What it certifies: device, service or device+service.
        #[arg(long = "for", value_name = "USES")]
        uses: CertificateUses,
        /// The CA's certificate (PEM).
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Its private key (PEM), mode 0600.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Say what it would do, and take nothing in.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Give an issuing CA its next key. What it certified before is believed to its end.
    #[command(after_help = "Examples:\n  fleetward identity ca rollover cameras")]
    Rollover {
        name: AuthorityId,
        #[command(flatten)]
        place: Place,
    },
}

const ROOTS: [Column; 4] = [
    ("root", "/state"),
    ("key on this machine", "/online"),
    ("until", "/not_after"),
    ("sha-256", "/sha256"),
];

const IMPORT: [Column; 4] = [
    ("until", "/not_after"),
    ("issuer", "/issuer"),
    ("names permitted", "/permitted"),
    ("imported fleet of this CA", "/fleet"),
];

const SIGNATURES: [Column; 5] = [
    ("issuing CA", "/name"),
    ("signatures", "/purpose"),
    ("signed", "/signed"),
    ("on record", "/recorded"),
    ("without record", "/unrecorded"),
];

const ISSUING: [Column; 5] = [
    ("issuing CA", "/name"),
    ("for", "/uses"),
    ("state", "/state"),
    ("names permitted", "/permitted"),
    ("until", "/not_after"),
];

impl CaVerb {
    /// # Errors
    /// The plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        const PATH: &str = "/api/v1/identity/authorities";
        match self {
            Self::List { place } => list(&place.client()?.json(Ask::get(PATH))?, output),
            Self::Create { name, uses, place } => {
                let body = json!({ "name": name.as_str(), "uses": uses.to_string() });
                let ask = Ask::post(PATH).json(&body);
                show::fields(output, &place.client()?.json(ask)?, &RECORDED)
            }
            Self::Request {
                name,
                uses,
                out,
                place,
            } => {
                let path = format!("{PATH}/{name}/request");
                let body = json!({ "uses": uses.map(|uses| uses.to_string()) });
                let made = place.client()?.json(Ask::post(&path).json(&body))?;
                let request = made.pointer("/request_pem").and_then(Value::as_str);
                let request =
                    request.context("the plane's answer holds no request; update this program")?;
                files::replace(out, request.as_bytes(), 0o644)?;
                let said = json!({
                    "file": out.display().to_string(),
                    "entry": made.pointer("/recorded/entry"),
                });
                show::fields(output, &said, &[("file", "/file"), ("entry", "/entry")])
            }
            Self::Install {
                name,
                certificate,
                place,
            } => {
                let path = format!("{PATH}/{name}/certificate");
                let pem = files::read_text(certificate, PEM_BYTES_MAX)?;
                let ask = Ask::post(&path).json(&json!({ "certificate_pem": pem }));
                show::fields(output, &place.client()?.json(ask)?, &RECORDED)
            }
            Self::Import {
                name,
                uses,
                certificate,
                key_file,
                dry_run,
                place,
            } => {
                let key = Zeroizing::new(files::read_secret(key_file, PEM_BYTES_MAX)?);
                let key = std::str::from_utf8(&key).context("the key's file is not PEM")?;
                let body = json!({
                    "uses": uses.to_string(),
                    "certificate_pem": files::read_text(certificate, PEM_BYTES_MAX)?,
                    "private_key_pem": key,
                    "dry_run": dry_run,
                });
                let path = format!("{PATH}/{name}/import");
                let answer = place.client()?.json(Ask::post(&path).json(&body))?;
                let columns: &[Column] = if *dry_run { &IMPORT } else { &RECORDED };
                show::fields(output, &answer, columns)
            }
            Self::Rollover { name, place } => {
                let path = format!("{PATH}/{name}/rollover");
                let ask = Ask::post(&path).json(&json!({}));
                show::fields(output, &place.client()?.json(ask)?, &RECORDED)
            }
        }
    }
}

fn list(found: &Value, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return show::value(found);
    }
    let part = |name: &str| found.pointer(name).cloned().unwrap_or_default();
    show::rows(output, &part("/roots"), &ROOTS)?;
    show::line("")?;
    show::rows(output, &part("/issuing"), &ISSUING)?;
    show::line("")?;
    show::rows(output, &signatures(&part("/issuing")), &SIGNATURES)?;
    let findings = part("/findings");
    for finding in findings.as_array().into_iter().flatten() {
        let text = finding.as_str().unwrap_or_default();
        show::line(&format!("\nfinding: {}", show::escaped(text)))?;
    }
    Ok(())
}

/// One row a CA and purpose.
fn signatures(issuing: &Value) -> Value {
    let mut rows = Vec::new();
    for one in issuing.as_array().into_iter().flatten() {
        let counts = one.pointer("/signatures").and_then(Value::as_array);
        for count in counts.into_iter().flatten() {
            let mut row = count.clone();
            if let (Some(fields), Some(name)) = (row.as_object_mut(), one.pointer("/name")) {
                fields.insert("name".into(), name.clone());
            }
            rows.push(row);
        }
    }
    rows.into()
}

/// # Errors
/// The plane.
pub fn print_root(place: &Place, output: Output) -> anyhow::Result<()> {
    let pem = place
        .client()?
        .bytes(Ask::get("/api/v1/identity/ca"), PEM_BYTES_MAX)?;
    let pem = String::from_utf8(pem).context("the plane's answer is not text")?;
    if output == Output::Json {
        return show::value(&json!({ "root_pem": pem }));
    }
    // PEM is plain ASCII; whatever is not is dropped rather than shown.
    let plain = |c: &char| *c == '\n' || c.is_ascii_graphic() || *c == ' ';
    show::line(pem.chars().filter(plain).collect::<String>().trim_end())
}
