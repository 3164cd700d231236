//! `fleetward identity revoke` and `release`.

use crate::ask;
use crate::client::Ask;
use crate::files;
use crate::identity::{LIST_BYTES_MAX, upload_bar};
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::bail;
use clap::Args;
use model::{DeviceId, ProductId, RevocationReason, ServiceId};
use serde_json::{Map, Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Revoke {
    #[command(flatten)]
    what: Named,
    /// A file with one name a line, revoked in one act.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "Named",
        required_unless_present = "Named"
    )]
    list: Option<PathBuf>,
    /// Why; it stands in the log and in revocation lists.
    #[arg(long, value_parser = RevocationReason::ALL.map(RevocationReason::name))]
    reason: String,
    /// Say what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Named {
    /// A device: all its certificates and its factory identity.
    #[arg(long)]
    device: Option<DeviceId>,
    /// A service: all its certificates.
    #[arg(long)]
    service: Option<ServiceId>,
    /// One certificate, as `identity show` names it: <issuer digest>:<serial>.
    #[arg(long, value_name = "ID")]
    certificate: Option<String>,
    /// A product: every device of it, present and to come.
    #[arg(long)]
    product: Option<ProductId>,
    /// A CA: everything it issued. The issuer digest of its certificates.
    #[arg(long, value_name = "DIGEST")]
    ca: Option<String>,
}

impl Named {
    fn kind_and_name(&self) -> Option<(&'static str, &str)> {
        let device = self.device.as_ref().map(|id| ("device", id.as_str()));
        let service = self.service.as_ref().map(|id| ("service", id.as_str()));
        let certificate = self.certificate.as_deref().map(|id| ("certificate", id));
        let product = self.product.as_ref().map(|id| ("product", id.as_str()));
        let ca = self.ca.as_deref().map(|id| ("ca", id));
        device.or(service).or(certificate).or(product).or(ca)
    }
}

#[derive(Debug, Args)]
pub struct Release {
    #[command(flatten)]
    what: Named,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    place: Place,
}

const PREVIEW: [Column; 4] = [
    ("not on record", "/unknown"),
    ("devices", "/devices"),
    ("certificates", "/certificates"),
    ("sessions", "/sessions"),
];

const DONE: [Column; 8] = [
    ("was on record", "/known"),
    ("sessions closed", "/sessions_closed"),
    ("in force after µs", "/in_force_after_micros"),
    ("connections closed after µs", "/closed_after_micros"),
    ("recorded after µs", "/recorded_after_micros"),
    ("entry", "/recorded/entry"),
    ("proof", "/proof"),
    ("carried to", "/carried_to"),
];

impl Revoke {
    /// # Errors
    /// The plane, the list, or a person who says no.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match (&self.list, self.what.kind_and_name()) {
            (Some(list), _) => self.list(list, output),
            (None, Some((kind, name))) => self.one(kind, name, output),
            (None, None) => {
                bail!("name one of --device, --service, --certificate, --product, --ca, --list")
            }
        }
    }

    fn one(&self, kind: &'static str, name: &str, output: Output) -> anyhow::Result<()> {
        let mut client = self.place.client()?;
        let ask = |dry_run: bool| {
            let mut body = json!({ "reason": self.reason, "dry_run": dry_run });
            if let Some(fields) = body.as_object_mut() {
                fields.insert(kind.to_owned(), name.into());
            }
            Ask::post("/api/v1/identity/revocations").json(&body)
        };
        if self.dry_run {
            return show::fields(output, &client.json(ask(true))?, &PREVIEW);
        }
        if self.wants_an_answer() {
            let preview = client.json(ask(true))?;
            self.confirm(&format!("{kind} {}", show::escaped(name)), &preview)?;
        }
        show::fields(output, &client.json(ask(false))?, &DONE)
    }

    fn list(&self, list: &Path, output: Output) -> anyhow::Result<()> {
        let text = files::read_text(list, LIST_BYTES_MAX)?;
        let mut client = self.place.client()?;
        let mut send = |dry_run: bool| -> anyhow::Result<Value> {
            let progress = upload_bar(text.len())?;
            let path = format!(
                "/api/v1/identity/revocations/list?reason={}&dry_run={dry_run}",
                self.reason
            );
            let ask = Ask::post(&path)
                .text("text/plain", text.clone())
                .shown_by(progress.clone());
            let answer = client.json(ask);
            progress.finish_and_clear();
            answer
        };
        if self.dry_run {
            return show::fields(output, &send(true)?, &PREVIEW);
        }
        if self.wants_an_answer() {
            let preview = send(true)?;
            self.confirm(&format!("the list {}", list.display()), &preview)?;
        }
        show::fields(output, &send(false)?, &DONE)
    }

    fn wants_an_answer(&self) -> bool {
        !self.yes && std::io::stdin().is_terminal()
    }

    fn confirm(&self, what: &str, preview: &Value) -> anyhow::Result<()> {
        let count = |at: &str| preview.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        let end = if self.reason == RevocationReason::CertificateHold.name() {
            "It can be released again."
        } else {
            "It cannot be taken back."
        };
        let question = format!(
            "Revoke {what}? {} device(s), {} certificate(s) and {} session(s) are hit; {} of what \
             is named is not on record. {end}",
            count("/devices"),
            count("/certificates"),
            count("/sessions"),
            count("/unknown"),
        );
        if !ask::yes(&question)? {
            bail!("nothing was revoked");
        }
        Ok(())
    }
}

impl Release {
    /// # Errors
    /// The plane: it is not on hold, or revoked for good.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let Some((kind, name)) = self.what.kind_and_name() else {
            bail!("name one of --device, --service, --certificate, --product, --ca");
        };
        let mut body = Map::new();
        body.insert(kind.to_owned(), name.into());
        body.insert("reason".to_owned(), self.reason.as_str().into());
        let ask = Ask::post("/api/v1/identity/releases").json(&Value::Object(body));
        let columns = [
            ("released", "/released"),
            ("entry", "/recorded/entry"),
            ("proof", "/proof"),
        ];
        show::fields(output, &self.place.client()?.json(ask)?, &columns)
    }
}
