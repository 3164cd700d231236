//! `fleetward identity token …`: claim tokens for devices that have no certificate.

use super::{LIST_BYTES_MAX, query};
use crate::client::Ask;
use crate::files;
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::{Context, bail};
use clap::Subcommand;
use model::{ManufacturerId, SerialNumber};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token for each serial number of a list; a new one replaces the one before.
    #[command(after_help = "Examples:\n  \
        fleetward identity token create --manufacturer acme --list batch-17.csv \\\n    \
        --days 90 --out tokens.csv\n\n\
        The list is the one that `identity expect` took, or one serial number a line. The file \
        that is written has mode 0600 and is the only place where the tokens stand: the plane \
        keeps their hashes.")]
    Create {
        /// Whose serial numbers they are.
        #[arg(long, value_name = "NAME")]
        manufacturer: ManufacturerId,
        #[arg(long, value_name = "FILE")]
        list: PathBuf,
        /// After so many days an unused token ends.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Where serial numbers and tokens go (mode 0600; must not exist).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Count tokens by manufacturer: unused, used, ended; or list those of one.
    #[command(after_help = "Examples:\n  fleetward identity token list\n  \
        fleetward identity token list --manufacturer acme --after SN-0100")]
    List {
        /// One by one, without their secrets, which nobody has but the one they were given to.
        #[arg(long, value_name = "NAME")]
        manufacturer: Option<ManufacturerId>,
        /// Begin after this serial number.
        #[arg(long, value_name = "SERIAL", requires = "manufacturer")]
        after: Option<SerialNumber>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Withdraw unused tokens: of one serial number, or all of a manufacturer.
    #[command(after_help = "Examples:\n  \
        fleetward identity token withdraw --manufacturer acme --serial SN-0001\n  \
        fleetward identity token withdraw --manufacturer acme --all")]
    Withdraw {
        #[arg(long, value_name = "NAME")]
        manufacturer: ManufacturerId,
        #[arg(long, required_unless_present = "all", conflicts_with = "all")]
        serial: Option<SerialNumber>,
        /// All unused tokens of the manufacturer.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: Place,
    },
}

const COUNTS: [Column; 4] = [
    ("manufacturer", "/manufacturer"),
    ("unused", "/unused"),
    ("used", "/used"),
    ("ended", "/ended"),
];

const TOKENS: [Column; 5] = [
    ("serial", "/serial"),
    ("state", "/state"),
    ("made", "/made_at"),
    ("until", "/expires_at"),
    ("used", "/used_at"),
];

const PATH: &str = "/api/v1/identity/claim-tokens";

impl TokenVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create {
                manufacturer,
                list,
                days,
                out,
                place,
            } => {
                let serials = serials(&files::read_text(list, LIST_BYTES_MAX)?);
                if serials.is_empty() {
                    bail!("{} holds no serial number", files::shown(list));
                }
                // Before anything is made: tokens that cannot be kept help nobody.
                files::create_secret(out, b"")?;
                let body = json!({
                    "manufacturer": manufacturer.as_str(), "serials": serials, "days": days,
                });
                let made = place
                    .client()
                    .and_then(|mut client| client.json(Ask::post(PATH).json(&body)));
                let made = made.and_then(|made| keep(&made, out));
                if made.is_err() {
                    let _ = std::fs::remove_file(out);
                }
                let columns = [
                    ("tokens", "/tokens"),
                    ("until", "/expires_at"),
                    ("file", "/file"),
                    ("entry", "/entry"),
                ];
                show::fields(output, &made?, &columns)
            }
            Self::List {
                manufacturer: None,
                place,
                ..
            } => show::rows(output, &place.client()?.json(Ask::get(PATH))?, &COUNTS),
            Self::List {
                manufacturer: Some(manufacturer),
                after,
                limit,
                place,
            } => {
                let mut path = format!("{PATH}/{manufacturer}?limit={limit}");
                if let Some(after) = after {
                    path.push_str(&format!("&after={}", query(after.as_str())));
                }
                show::rows(output, &place.client()?.json(Ask::get(&path))?, &TOKENS)
            }
            Self::Withdraw {
                manufacturer,
                serial,
                place,
                ..
            } => {
                let mut path = format!("{PATH}?manufacturer={manufacturer}");
                if let Some(serial) = serial {
                    path.push_str(&format!("&serial={}", query(serial.as_str())));
                }
                let done = place.client()?.json(Ask::delete(&path))?;
                show::fields(output, &done, &[("entry", "/entry")])
            }
        }
    }
}

/// Writes the tokens down; what is shown of them is their number.
fn keep(made: &Value, out: &Path) -> anyhow::Result<Value> {
    let tokens = made.pointer("/tokens").and_then(Value::as_array);
    let tokens = tokens.context("the plane's answer holds no token; update this program")?;
    let mut text = String::from("serial,token\n");
    for one in tokens {
        let part = |name: &str| {
            one.pointer(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let serial = part("/serial").replace('"', "\"\"");
        text.push_str(&format!("\"{serial}\",{}\n", part("/token")));
    }
    files::replace(out, text.as_bytes(), 0o600)?;
    Ok(json!({
        "tokens": tokens.len(),
        "expires_at": made.pointer("/expires_at"),
        "file": out.display().to_string(),
        "entry": made.pointer("/recorded/entry"),
    }))
}

/// The serial numbers of a list: its column `serial`, or whole lines where it has none.
fn serials(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let field = |line: &str, place: usize| {
        let field = line.split(',').nth(place).unwrap_or_default().trim();
        field.trim_matches('"').to_owned()
    };
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .peekable();
    let header = lines
        .peek()
        .map(|line| line.to_ascii_lowercase())
        .unwrap_or_default();
    match header.split(',').position(|name| name.trim() == "serial") {
        Some(place) => lines.skip(1).map(|line| field(line, place)).collect(),
        None => lines.map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_found_in_either_kind_of_list() {
        assert_eq!(
            serials("product,Serial\ncamera,SN1\n\ncamera,SN2\n"),
            ["SN1", "SN2"]
        );
        assert_eq!(serials("\u{feff}SN 1\r\nSN,2\r\n"), ["SN 1", "SN,2"]);
        assert!(serials("serial,product\n").is_empty());
    }
}
