//! `fleetward inventory …`: what is out there, lists in and out, what a foreign list tells.

use crate::client::Ask;
use crate::files;
use crate::place::Place;
use crate::show::{self, Column, Output};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Containment, DeviceId, GroupId, ProductId};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the plane takes in one list.
const LIST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A million devices with their addresses.
const EXPORT_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Below it the plane answers sooner than a bar is read.
const PROGRESS_BYTES_MIN: usize = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub enum InventoryVerb {
    /// List devices by search and filters, in the order of their names.
    #[command(after_help = "Examples:\n  fleetward inventory list\n  \
        fleetward inventory list --search 10.20. --lifecycle silent\n  \
        fleetward inventory list --product camera --containment quarantined --output json")]
    List(List),
    /// Show one device: where it is, whom it talks to, what it runs, what it can reach.
    #[command(after_help = "Examples:\n  fleetward inventory show cam-1")]
    Show {
        device: DeviceId,
        #[command(flatten)]
        place: Place,
    },
    /// Take a list (CSV) of what is known of devices besides their identity. It grants nothing.
    #[command(
        after_help = "Examples:\n  fleetward inventory import fleet.csv --dry-run\n  \
        fleetward inventory import fleet.csv\n\n\
        A list:\n  device,country,support_until,lifecycle,note\n  \
        cam-1,DE,2031-12-31,,north gate\n  cam-2,FR,2029-06-30,retired,\n\n\
        Other columns: product, groups, manufacturer, serial. A column that is absent changes \
        nothing, an empty cell clears. A refused line leaves the others standing."
    )]
    Import {
        list: PathBuf,
        /// Say what would change; change nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Write every device as CSV; no cell begins a formula.
    #[command(after_help = "Examples:\n  fleetward inventory export --out devices.csv")]
    Export {
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Say what is wrong in a list of devices or certificates (CSV or PEM); store nothing of it.
    #[command(
        after_help = "Examples:\n  fleetward inventory findings old-fleet.csv\n  \
        fleetward inventory findings certificates.pem --output json\n\n\
        It looks for shared certificates and keys, weak keys and signatures, certificates that \
        ended or soon end, unknown issuers, serial numbers and names that stand there twice, \
        and passwords that everybody knows."
    )]
    Findings {
        list: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct List {
    /// Anywhere in name, serial number, product, group, country, firmware or an address.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[arg(long)]
    product: Option<ProductId>,
    #[arg(long)]
    group: Option<GroupId>,
    #[arg(long, value_parser = ["expected", "enrolled", "active", "silent", "retired", "revoked"])]
    lifecycle: Option<String>,
    #[arg(long, value_parser = ["trusted", "shared", "suspect", "contained", "revoked"])]
    posture: Option<String>,
    #[arg(long, value_parser = Containment::ALL.map(Containment::name))]
    containment: Option<String>,
    /// Only those with a session now.
    #[arg(long)]
    connected: bool,
    /// Begin after this device.
    #[arg(long, value_name = "DEVICE")]
    after: Option<DeviceId>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    place: Place,
}

const DEVICES: [Column; 8] = [
    ("device", "/device"),
    ("product", "/product"),
    ("lifecycle", "/lifecycle"),
    ("posture", "/posture"),
    ("connected", "/connected"),
    ("last seen", "/last_seen"),
    ("address", "/addresses/0/address"),
    ("firmware", "/firmware/version"),
];

const DEVICE: [Column; 17] = [
    ("device", "/device"),
    ("product", "/product"),
    ("groups", "/groups"),
    ("manufacturer", "/manufacturer"),
    ("serial", "/serial"),
    ("lifecycle", "/lifecycle"),
    ("posture", "/posture"),
    ("because", "/posture_cause"),
    ("incident", "/incident"),
    ("connected", "/connected"),
    ("first seen", "/first_seen"),
    ("last seen", "/last_seen"),
    ("firmware", "/firmware/version"),
    ("said by", "/firmware/source"),
    ("country", "/country"),
    ("support until", "/support_until"),
    ("cannot be seen", "/unseen"),
];

const ADDRESSES: [Column; 4] = [
    ("address", "/address"),
    ("since", "/first_seen"),
    ("last seen", "/last_seen"),
    ("seen by", "/source"),
];

const PEERS: [Column; 8] = [
    ("talks to", "/address"),
    ("name", "/host"),
    ("port", "/port"),
    ("over", "/protocol"),
    ("last seen", "/last_seen"),
    ("bytes out", "/bytes_out"),
    ("seen by", "/source"),
    ("expected", "/expected"),
];

const REACH: [Column; 3] = [
    ("can reach", "/name"),
    ("kind", "/kind"),
    ("direction", "/direction"),
];

const IMPORTED: [Column; 6] = [
    ("rows", "/rows"),
    ("added", "/added"),
    ("changed", "/changed"),
    ("unchanged", "/unchanged"),
    ("refused", "/refused_count"),
    ("entry", "/entry"),
];

impl InventoryVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(output),
            Self::Show { device, place } => show_device(device, place, output),
            Self::Import {
                list,
                dry_run,
                place,
            } => import(list, *dry_run, place, output),
            Self::Export { out, place } => {
                let ask = Ask::get("/api/v1/inventory/export");
                let csv = place.client()?.bytes(ask, EXPORT_BYTES_MAX)?;
                // Where devices are is not for others on this machine.
                files::replace(out, &csv, 0o600)?;
                let said = json!({ "file": out.display().to_string(), "bytes": csv.len() });
                show::fields(output, &said, &[("file", "/file"), ("bytes", "/bytes")])
            }
            Self::Findings { list, place } => findings(list, place, output),
        }
    }
}

impl List {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let page = self.place.client()?.json(Ask::get(&self.path()))?;
        if output == Output::Json {
            return show::value(&page);
        }
        let number = |at: &str| page.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        let none = Value::Array(Vec::new());
        let devices = page.pointer("/devices").unwrap_or(&none);
        if number("/total") == 0 {
            return show::line(if self.is_filtered() {
                "No device is like that. `fleetward inventory list` shows them all."
            } else {
                "No device is known yet. List the serial numbers that may enroll (`fleetward \
                 identity expect`), or what you have (`fleetward inventory import`)."
            });
        }
        show::rows(output, devices, &DEVICES)?;
        if let Some(next) = page.pointer("/next").and_then(Value::as_str) {
            let next = show::escaped(next);
            show::line("")?;
            show::line(&format!(
                "{} in all; go on with --after {next}",
                number("/total")
            ))?;
        }
        Ok(())
    }

    fn is_filtered(&self) -> bool {
        self.connected
            || self.product.is_some()
            || self.group.is_some()
            || [
                &self.search,
                &self.lifecycle,
                &self.posture,
                &self.containment,
            ]
            .iter()
            .any(|filter| filter.is_some())
    }

    fn path(&self) -> String {
        let mut path = format!("/api/v1/inventory/devices?limit={}", self.limit);
        let filters = [
            ("search", self.search.as_deref()),
            ("product", self.product.as_ref().map(|id| id.as_str())),
            ("group", self.group.as_ref().map(|id| id.as_str())),
            ("lifecycle", self.lifecycle.as_deref()),
            ("posture", self.posture.as_deref()),
            ("containment", self.containment.as_deref()),
            ("connected", self.connected.then_some("true")),
            ("after", self.after.as_ref().map(|id| id.as_str())),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                path.push('&');
                path.push_str(name);
                path.push('=');
                encode(&mut path, value);
            }
        }
        path
    }
}

fn show_device(device: &DeviceId, place: &Place, output: Output) -> anyhow::Result<()> {
    let path = format!("/api/v1/inventory/devices/{device}");
    let found = place.client()?.json(Ask::get(&path))?;
    show::fields(output, &found, &DEVICE)?;
    if output == Output::Json {
        return Ok(());
    }
    for (at, columns) in [
        ("/addresses", ADDRESSES.as_slice()),
        ("/peers", PEERS.as_slice()),
        ("/reach/now", REACH.as_slice()),
    ] {
        let list = found.pointer(at);
        if let Some(list) = list.filter(|list| list.as_array().is_some_and(|all| !all.is_empty())) {
            show::line("")?;
            show::rows(output, list, columns)?;
        }
    }
    Ok(())
}

fn import(list: &Path, dry_run: bool, place: &Place, output: Output) -> anyhow::Result<()> {
    let path = format!("/api/v1/inventory/imports?dry_run={dry_run}");
    let done = send(list, &path, place)?;
    refused(&done);
    if output == Output::Table && dry_run {
        show::line("Nothing was changed; it would be:")?;
    }
    show::fields(output, &done, &IMPORTED)
}

fn findings(list: &Path, place: &Place, output: Output) -> anyhow::Result<()> {
    let judged = send(list, "/api/v1/inventory/findings", place)?;
    if output == Output::Json {
        return show::value(&judged);
    }
    refused(&judged);
    let number = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    show::line(&format!(
        "{} rows, {} with a certificate; nothing of the list was stored.",
        number(&judged, "/rows"),
        number(&judged, "/certificates")
    ))?;
    let none = Vec::new();
    let found = judged
        .pointer("/findings")
        .and_then(Value::as_array)
        .unwrap_or(&none);
    if found.is_empty() {
        return show::line("Nothing was found.");
    }
    let text = |value: &Value, at: &str| {
        show::escaped(value.pointer(at).and_then(Value::as_str).unwrap_or("-"))
    };
    for finding in found {
        show::line("")?;
        show::line(&format!(
            "{}  {}  {}",
            text(finding, "/severity"),
            text(finding, "/kind"),
            number(finding, "/count")
        ))?;
        show::line(&format!("  {}", text(finding, "/why")))?;
        show::line(&format!("  {}", text(finding, "/next")))?;
        let examples = finding.pointer("/examples").and_then(Value::as_array);
        for example in examples.unwrap_or(&none) {
            let example = example.as_str().unwrap_or("-");
            show::line(&format!("  - {}", show::escaped(example)))?;
        }
    }
    Ok(())
}

/// Lines that were not taken, on standard error.
fn refused(answer: &Value) {
    let lines = answer.pointer("/refused").and_then(Value::as_array);
    for line in lines.into_iter().flatten() {
        let number = line.pointer("/line").and_then(Value::as_u64).unwrap_or(0);
        let text = line.pointer("/text").and_then(Value::as_str).unwrap_or("-");
        eprintln!("line {number}: {}", show::escaped(text));
    }
}

fn send(list: &Path, path: &str, place: &Place) -> anyhow::Result<Value> {
    let text = files::read_text(list, LIST_BYTES_MAX)?;
    let progress = if text.len() < PROGRESS_BYTES_MIN {
        ProgressBar::hidden()
    } else {
        let style =
            "{bar:40} {bytes} of {total_bytes} sent, then the plane takes them up {spinner}";
        let bar =
            ProgressBar::new(text.len() as u64).with_style(ProgressStyle::with_template(style)?);
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        bar
    };
    let ask = Ask::post(path)
        .text("text/csv", text)
        .shown_by(progress.clone());
    let answer = place.client()?.json(ask);
    progress.finish_and_clear();
    answer
}

/// Percent-encoding of what is not unreserved (RFC 3986 section 2.3).
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
