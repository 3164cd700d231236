//! `fleetward identity import …`: fleets that exist already.

use super::{LIST_BYTES_MAX, PEM_BYTES_MAX};
use crate::ask;
use crate::client::Ask;
use crate::files;
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use identity::BadKeys;
use identity::expected::{ExpectedDevice, csv_header};
use identity::import::{Finding, Findings, Import, Terms};
use indicatif::{ProgressBar, ProgressStyle};
use model::{AttributeId, ManufacturerId, ProductId, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A list of four million keys.
const KEYS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The longest line of a PEM file that is looked at.
const PEM_LINE_BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug, Subcommand)]
pub enum ImportVerb {
    /// Believe the certificates that a fleet has already, until it has moved.
    #[command(after_help = "Examples:\n  \
        fleetward identity import add --name legacy --ca old-ca.pem --naming cn \\\n    \
        --list devices.csv --until 2027-06-30 --dry-run\n  \
        fleetward identity import add --name legacy --naming fingerprint \\\n    \
        --leaves leaves.pem --product sensor --until 2027-06-30\n\n\
        A list in CSV (serial is what the rule finds in a certificate):\n  \
        serial,product,device,groups,client_id,attribute.site\n  \
        dev-0001,sensor,,eu,urn:dev:1,north\n\n\
        A rule is cn, serial-number, san-dns, san-uri, san-email or fingerprint, and behind a \
        colon what stands around the name: san-dns:*.devices.example")]
    Add(Box<Add>),
    /// List imported fleets and how far each has come.
    #[command(after_help = "Examples:\n  fleetward identity import list")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// List devices that have no certificate of ours yet.
    #[command(after_help = "Examples:\n  fleetward identity import waiting --name legacy")]
    Waiting {
        #[arg(long)]
        name: ManufacturerId,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// End an imported fleet: its certificates open no door any more when this returns.
    #[command(after_help = "Examples:\n  \
        fleetward identity import retire --name legacy --dry-run\n  \
        fleetward identity import retire --name legacy\n\n\
        Refused while devices would be locked out, unless --leave-behind says that it is meant.")]
    Retire(Retire),
}

#[derive(Debug, Args)]
pub struct Add {
    /// Its name here, beside those of manufacturers.
    #[arg(long)]
    name: ManufacturerId,
    /// Which field of a certificate names its device.
    #[arg(long, value_name = "RULE")]
    naming: identity::Naming,
    /// The last day on which its certificates open the MQTT door, as 2027-06-30.
    #[arg(long, value_name = "DAY")]
    until: String,
    /// Its CA certificates, PEM. Without them leaves are believed by fingerprint alone.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Its devices: CSV, or JSON if the name ends in .json.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Its devices' certificates, PEM, one after the other.
    #[arg(long, value_name = "FILE")]
    leaves: Option<PathBuf>,
    /// The product of all devices, where there is no list.
    #[arg(long, conflicts_with = "list")]
    product: Option<ProductId>,
    /// Believe each leaf for its fingerprint, also where a CA issued it.
    #[arg(long, requires = "leaves")]
    pin: bool,
    /// Take certificates that several devices share.
    #[arg(long)]
    shared: bool,
    /// Take certificates that ended.
    #[arg(long)]
    accept_expired: bool,
    /// Keys whose private half is known: SHA-256 of the SubjectPublicKeyInfo, one a line.
    #[arg(long, value_name = "FILE")]
    known_bad_keys: Option<PathBuf>,
    /// RSA keys of Debian's broken OpenSSL, a list of openssl-blacklist.
    #[arg(long, value_name = "FILE")]
    debian_weak_keys: Option<PathBuf>,
    /// Say what it would do, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct Retire {
    #[arg(long)]
    name: ManufacturerId,
    /// Devices that have not moved are locked out.
    #[arg(long)]
    leave_behind: bool,
    /// Say who has not moved, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

const FLEETS: [Column; 8] = [
    ("fleet", "/fleet"),
    ("naming", "/naming"),
    ("until", "/until"),
    ("devices", "/devices"),
    ("moved", "/moved"),
    ("pinned", "/pinned"),
    ("sharing", "/sharing"),
    ("retired", "/retired_at"),
];

const FOUND: [Column; 4] = [
    ("found", "/found"),
    ("count", "/count"),
    ("taken", "/taken"),
    ("examples", "/examples"),
];

impl ImportVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Add(add) => add.run(output),
            Self::List { place } => {
                let list = place.client()?.json(Ask::get("/api/v1/identity/imports"))?;
                show::rows(output, &list, &FLEETS)
            }
            Self::Waiting { name, limit, place } => {
                let path = format!("/api/v1/identity/imports/{name}/waiting?limit={limit}");
                let waiting = place.client()?.json(Ask::get(&path))?;
                show_waiting(output, &waiting)
            }
            Self::Retire(retire) => retire.run(output),
        }
    }
}

impl Add {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let ca_pem = match &self.ca {
            Some(file) => files::read_text(file, PEM_BYTES_MAX)?,
            None => String::new(),
        };
        let (devices, findings) = self.read(&ca_pem)?;
        let mut found = told(&findings);
        let mut client = self.place.client()?;
        let terms = json!({
            "fleet": self.name.as_str(),
            "naming": self.naming.to_string(),
            "until": self.until,
            "accept_expired": self.accept_expired,
            "ca_pem": ca_pem,
            "dry_run": self.dry_run,
        });
        let mut last = client.json(Ask::post("/api/v1/identity/imports").json(&terms))?;
        if !devices.is_empty() {
            let text = csv(&devices);
            if text.len() > LIST_BYTES_MAX * 2 {
                bail!("the list is longer than the plane takes at once; import it in parts");
            }
            let path = format!(
                "/api/v1/identity/imports/{}/devices?dry_run={}&shared={}",
                self.name, self.dry_run, self.shared
            );
            let progress = super::upload_bar(text.len())?;
            let ask = Ask::post(&path)
                .text("text/csv", text)
                .shown_by(progress.clone());
            let taken = client.json(ask);
            progress.finish_and_clear();
            last = taken?;
            found.extend(told_by_plane(&last));
        }
        let summary = json!({
            "fleet": self.name.as_str(),
            "dry_run": self.dry_run,
            "devices": devices.len(),
            "entry": last.pointer("/recorded/entry"),
            "findings": found,
        });
        if output == Output::Json {
            return show::value(&summary);
        }
        show::rows(output, &Value::Array(found), &FOUND)?;
        let said = match (self.dry_run, devices.len()) {
            (true, count) => format!("{count} devices would be imported; nothing was written"),
            (false, count) => format!("{count} devices imported"),
        };
        show::line(&format!("\n{said}"))
    }

    fn bad_keys(&self) -> anyhow::Result<BadKeys> {
        let read = |file: &Option<PathBuf>| match file {
            Some(file) => files::read_text(file, KEYS_BYTES_MAX),
            None => Ok(String::new()),
        };
        let (published, debian) = (read(&self.known_bad_keys)?, read(&self.debian_weak_keys)?);
        BadKeys::read(&published, &debian).context("--known-bad-keys or --debian-weak-keys")
    }

    /// The devices to import, out of the list and the certificates.
    fn read(&self, ca_pem: &str) -> anyhow::Result<(Vec<ExpectedDevice>, Findings)> {
        let list = match &self.list {
            Some(file) => read_list(file)?,
            None => Vec::new(),
        };
        let Some(leaves) = &self.leaves else {
            return Ok((list, Findings::new()));
        };
        if self.list.is_none() && self.product.is_none() {
            bail!("name the product of these devices with --product, or list them with --list");
        }
        let mut cas = Vec::new();
        each_certificate(ca_pem.as_bytes(), &mut |der, _| cas.push(der))?;
        let terms = Terms {
            naming: self.naming.clone(),
            cas,
            accept_expired: self.accept_expired,
            pin: self.pin,
            product: self.product.clone(),
            bad_keys: self.bad_keys()?,
        };
        let mut import = Import::new(terms, list, now())?;
        let shown = files::shown(leaves);
        let file =
            std::fs::File::open(leaves).with_context(|| format!("{shown} cannot be read"))?;
        let bytes = file.metadata()?.len();
        let progress = ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
            "{bar:40} {bytes} of {total_bytes} read, {msg} certificates",
        )?);
        let mut count = 0u64;
        let read = each_certificate(BufReader::new(file), &mut |der, at| {
            import.leaf(&der);
            count += 1;
            if count.is_multiple_of(1000) {
                progress.set_position(at);
                progress.set_message(count.to_string());
            }
        });
        progress.finish_and_clear();
        read.with_context(|| format!("{shown} cannot be read"))?;
        Ok(import.finish())
    }
}

impl Retire {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut client = self.place.client()?;
        let path = format!("/api/v1/identity/imports/{}/waiting?limit=10", self.name);
        let waiting = client.json(Ask::get(&path))?;
        if self.dry_run {
            return show_waiting(output, &waiting);
        }
        let count = waiting
            .pointer("/count")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        if !self.yes && std::io::stdin().is_terminal() {
            let question = format!(
                "Retire {}? {count} devices have not moved and would be locked out.",
                self.name
            );
            if !ask::yes(&question)? {
                bail!("nothing was retired");
            }
        }
        let path = format!("/api/v1/identity/imports/{}/retirement", self.name);
        let body = json!({ "leave_behind": self.leave_behind });
        let done = client.json(Ask::post(&path).json(&body))?;
        let columns = [
            ("left behind", "/left_behind"),
            ("sessions closed", "/sessions_closed"),
            ("entry", "/recorded/entry"),
        ];
        show::fields(output, &done, &columns)
    }
}

fn show_waiting(output: Output, waiting: &Value) -> anyhow::Result<()> {
    if output == Output::Json {
        return show::value(waiting);
    }
    let count = waiting
        .pointer("/count")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    if count == 0 {
        return show::line("every device has a certificate of ours; the import may be retired");
    }
    for device in waiting
        .pointer("/devices")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        show::line(&show::escaped(device.as_str().unwrap_or_default()))?;
    }
    show::line(&format!(
        "\n{count} devices have no certificate of ours yet"
    ))
}

fn read_list(file: &Path) -> anyhow::Result<Vec<ExpectedDevice>> {
    let text = files::read_text(file, LIST_BYTES_MAX * 2)?;
    let is_json = file
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let read = if is_json {
        identity::expected::parse_json(&text)
    } else {
        identity::expected::parse_csv(&text)
    };
    read.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{} is not taken:\n{}", files::shown(file), lines.join("\n"))
    })
}

fn csv(devices: &[ExpectedDevice]) -> String {
    let attributes: BTreeSet<AttributeId> = (devices.iter())
        .flat_map(|device| device.attributes.iter().map(|(name, _)| name.clone()))
        .collect();
    let attributes: Vec<AttributeId> = attributes.into_iter().collect();
    let mut text = csv_header(&attributes);
    text.push('\n');
    for device in devices {
        text.push_str(&device.csv_line(&attributes));
        text.push('\n');
    }
    text
}

/// What the certificates showed.
fn told(findings: &Findings) -> Vec<Value> {
    let row = |(kind, finding): (&identity::import::Found, &Finding)| {
        json!({
            "found": kind.name(),
            "count": finding.count,
            "taken": if kind.is_taken() { "yes" } else { "no" },
            "examples": finding.examples.join(" "),
        })
    };
    findings.iter().map(row).collect()
}

/// What the plane says of the list.
fn told_by_plane(taken: &Value) -> Vec<Value> {
    let findings = taken.pointer("/findings").and_then(Value::as_object);
    let row = |(kind, finding): (&String, &Value)| {
        let examples = finding.pointer("/examples").and_then(Value::as_array);
        let examples = examples.into_iter().flatten().filter_map(Value::as_str);
        json!({
            "found": kind,
            "count": finding.pointer("/count"),
            "taken": "",
            "examples": examples.collect::<Vec<_>>().join(" "),
        })
    };
    findings.into_iter().flatten().map(row).collect()
}

/// Each certificate of a PEM file, with how many bytes were read by then; one at a time, so that a
/// file of any length takes little memory. Other blocks and text between them are passed over.
fn each_certificate(
    mut file: impl BufRead,
    each: &mut dyn FnMut(Vec<u8>, u64),
) -> anyhow::Result<()> {
    let (mut line, mut block, mut read) = (String::new(), None::<String>, 0u64);
    loop {
        line.clear();
        let got = std::io::Read::take(&mut file, PEM_LINE_BYTES_MAX).read_line(&mut line)?;
        if got == 0 {
            if block.is_some() {
                bail!("the last certificate has no end");
            }
            return Ok(());
        }
        read += got as u64;
        match (line.trim(), &mut block) {
            ("-----BEGIN CERTIFICATE-----", None) => block = Some(String::new()),
            ("-----END CERTIFICATE-----", Some(base64)) => {
                let der = STANDARD.decode(base64.as_str());
                each(der.context("a certificate's base64 is not valid")?, read);
                block = None;
            }
            (text, Some(base64)) if base64.len() + text.len() <= PEM_BYTES_MAX => {
                base64.push_str(text);
            }
            (_, Some(_)) => bail!("a certificate is longer than any that is taken"),
            (_, None) => {}
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_seconds(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_one_by_one_out_of_what_openssl_writes() {
        let der: Vec<u8> = (0..=255).collect();
        let base64 = STANDARD.encode(&der);
        let (first, rest) = base64.split_at(64);
        let text = format!(
            "subject=CN = x\r\n-----BEGIN CERTIFICATE-----\r\n{first}\r\n{rest}\r\n\
             -----END CERTIFICATE-----\r\n\n-----BEGIN CERTIFICATE-----\n{base64}\n\
             -----END CERTIFICATE-----"
        );
        let mut all = Vec::new();
        each_certificate(text.as_bytes(), &mut |der, at| all.push((der, at))).unwrap();
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|(read, _)| *read == der));
        assert_eq!(all[1].1, text.len() as u64);
        for bad in [
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
        ] {
            assert!(
                each_certificate(bad.as_bytes(), &mut |_, _| {}).is_err(),
                "{bad}"
            );
        }
    }
}
