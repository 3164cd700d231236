//! `fleetward identity ownership …`: whose a device is.

use super::LIST_BYTES_MAX;
use crate::client::Ask;
use crate::files;
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::{Context, bail};
use clap::Subcommand;
use model::{DeviceId, OwnerId};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One code in a file.
const CODE_BYTES_MAX: usize = 4096;

#[derive(Debug, Subcommand)]
pub enum OwnershipVerb {
    /// Show whose a device is and was.
    #[command(after_help = "Examples:\n  fleetward identity ownership show cam-1")]
    Show {
        device: DeviceId,
        #[command(flatten)]
        place: Place,
    },
    /// Make a code for each device, to be packed with it; a new one replaces the one before.
    #[command(after_help = "Examples:\n  \
        fleetward identity ownership codes --list devices.txt --days 730 --out codes.csv\n\n\
        The list has one device a line. The file that is written has mode 0600 and is the only \
        place where the codes stand: the plane keeps their hashes.")]
    Codes {
        /// One device a line.
        #[arg(long, value_name = "FILE")]
        list: PathBuf,
        /// After so many days an unused code ends.
        #[arg(long, default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Where devices and codes go (mode 0600; must not exist).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Claim a device that is nobody's, with a code of it.
    #[command(after_help = "Examples:\n  \
        fleetward identity ownership claim cam-1 --owner customer-4711 --code-file code.txt\n\n\
        The code is a secret, so it comes in a file.")]
    Claim {
        device: DeviceId,
        /// Opaque: a customer number, never a name or an address.
        #[arg(long)]
        owner: OwnerId,
        #[arg(long, value_name = "FILE")]
        code_file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Offer a device to its next owner, who must accept; without --to take an offer back.
    #[command(after_help = "Examples:\n  \
        fleetward identity ownership offer cam-1 --owner customer-4711 --to customer-4712\n  \
        fleetward identity ownership offer cam-1 --owner customer-4711")]
    Offer {
        device: DeviceId,
        #[arg(long)]
        owner: OwnerId,
        #[arg(long)]
        to: Option<OwnerId>,
        #[command(flatten)]
        place: Place,
    },
    /// Take a device that was offered.
    #[command(after_help = "Examples:\n  \
        fleetward identity ownership accept cam-1 --owner customer-4712")]
    Accept {
        device: DeviceId,
        #[arg(long)]
        owner: OwnerId,
        #[command(flatten)]
        place: Place,
    },
    /// A device is nobody's from here on: by its owner's word, or by yours.
    #[command(after_help = "Examples:\n  \
        fleetward identity ownership release cam-1 --owner customer-4712\n  \
        fleetward identity ownership release cam-1 --whoever-owns-it\n\n\
        Its certificates and its history stay.")]
    Release {
        device: DeviceId,
        #[arg(
            long,
            required_unless_present = "whoever_owns_it",
            conflicts_with = "whoever_owns_it"
        )]
        owner: Option<OwnerId>,
        /// The operator's word stands for the owner's; the log says so.
        #[arg(long)]
        whoever_owns_it: bool,
        #[command(flatten)]
        place: Place,
    },
}

const SETTLED: [Column; 5] = [
    ("device", "/device"),
    ("owner", "/owner"),
    ("offered to", "/offered_to"),
    ("in the log as", "/owner_commitment"),
    ("entry", "/recorded/entry"),
];

const SHOWN: [Column; 3] = [
    ("device", "/device"),
    ("owner", "/owner"),
    ("offered to", "/offered_to"),
];

const HISTORY: [Column; 3] = [
    ("owner", "/owner"),
    ("since", "/since"),
    ("until", "/until"),
];

const PATH: &str = "/api/v1/identity/ownership";

impl OwnershipVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let act = |place: &Place, device: &DeviceId, verb: &str, body: Value| {
            let path = format!("{PATH}/{device}/{verb}");
            let settled = place.client()?.json(Ask::post(&path).json(&body))?;
            show::fields(output, &settled, &SETTLED)
        };
        match self {
            Self::Show { device, place } => {
                let found = place
                    .client()?
                    .json(Ask::get(&format!("{PATH}/{device}")))?;
                show::fields(output, &found, &SHOWN)?;
                match found.pointer("/history") {
                    Some(history) if output == Output::Table => {
                        show::line("")?;
                        show::rows(output, history, &HISTORY)
                    }
                    _ => Ok(()),
                }
            }
            Self::Codes {
                list,
                days,
                out,
                place,
            } => codes(list, *days, out, place, output),
            Self::Claim {
                device,
                owner,
                code_file,
                place,
            } => {
                let code = files::read_text(code_file, CODE_BYTES_MAX)?;
                let body = json!({ "owner": owner.as_str(), "code": code.trim() });
                act(place, device, "claim", body)
            }
            Self::Offer {
                device,
                owner,
                to,
                place,
            } => {
                let to = to.as_ref().map(OwnerId::as_str);
                let body = json!({ "owner": owner.as_str(), "to": to });
                act(place, device, "offer", body)
            }
            Self::Accept {
                device,
                owner,
                place,
            } => act(place, device, "accept", json!({ "owner": owner.as_str() })),
            Self::Release {
                device,
                owner,
                place,
                ..
            } => {
                let owner = owner.as_ref().map(OwnerId::as_str);
                act(place, device, "release", json!({ "owner": owner }))
            }
        }
    }
}

fn codes(list: &Path, days: u32, out: &Path, place: &Place, output: Output) -> anyhow::Result<()> {
    let text = files::read_text(list, LIST_BYTES_MAX)?;
    let devices: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .collect();
    if devices.is_empty() {
        bail!("{} names no device", files::shown(list));
    }
    // Before anything is made: codes that cannot be kept help nobody.
    files::create_secret(out, b"")?;
    let body = json!({ "devices": devices, "days": days });
    let ask = Ask::post("/api/v1/identity/ownership-codes").json(&body);
    let made = place
        .client()
        .and_then(|mut client| client.json(ask))
        .and_then(|made| keep(&made, out));
    if made.is_err() {
        let _ = std::fs::remove_file(out);
    }
    let columns = [
        ("codes", "/codes"),
        ("until", "/expires_at"),
        ("file", "/file"),
        ("entry", "/entry"),
    ];
    show::fields(output, &made?, &columns)
}

/// Writes the codes down; what is shown of them is their number.
fn keep(made: &Value, out: &Path) -> anyhow::Result<Value> {
    let codes = made.pointer("/codes").and_then(Value::as_array);
    let codes = codes.context("the plane's answer holds no code; update this program")?;
    let mut text = String::from("device,code\n");
    for one in codes {
        let part = |name: &str| {
            one.pointer(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        text.push_str(&format!("{},{}\n", part("/device"), part("/code")));
    }
    files::replace(out, text.as_bytes(), 0o600)?;
    Ok(json!({
        "codes": codes.len(),
        "expires_at": made.pointer("/expires_at"),
        "file": out.display().to_string(),
        "entry": made.pointer("/recorded/entry"),
    }))
}
