//! `fleetward identity pending …`: who waits, who is let in, who is not.

use crate::ask;
use crate::client::Ask;
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::bail;
use clap::{Args, Subcommand};
use model::{DeviceId, GroupId, ProductId};
use serde_json::{Value, json};
use std::io::IsTerminal;

#[derive(Debug, Subcommand)]
pub enum PendingVerb {
    /// List who waits, the one that has waited longest first.
    #[command(after_help = "Examples:\n  fleetward identity pending list\n  \
        fleetward identity pending list --limit 1000 --output json\n\n\
        A device waits if it is genuine by its manufacturer's word and on no list (unlisted), or if \
        its product has enrollment = \"approval\" (approval). It asks again by itself. Nobody who \
        waits for 30 days is kept.")]
    List {
        /// Begin after this enrollment.
        #[arg(long, value_name = "ID", value_parser = enrollment)]
        after: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Let one have its certificate: it gets it when it asks again.
    #[command(after_help = "Examples:\n  \
        fleetward identity pending approve 5f… --product camera --device cam-7 --group lobby\n  \
        fleetward identity pending approve 5f…\n\n\
        A device on no list is put on it, so say what it is; its name is its serial number unless \
        you give it another. A device on a list stays what the list says.")]
    Approve(Approve),
    /// Do not let one in: it is refused for 30 days, whatever it sends.
    #[command(
        after_help = "Examples:\n  fleetward identity pending refuse 5f… --yes\n  \
        fleetward identity pending refuse 5f… --reason 'not of our batch' --yes"
    )]
    Refuse {
        /// The enrollment, as the list shows it.
        #[arg(value_parser = enrollment)]
        id: String,
        /// Why, for the log.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Approve {
    /// The enrollment, as the list shows it.
    #[arg(value_parser = enrollment)]
    id: String,
    /// What it is; for a device on no list.
    #[arg(long)]
    product: Option<ProductId>,
    /// Its name from here on.
    #[arg(long)]
    device: Option<DeviceId>,
    /// A group that it is in; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupId>,
    /// Why, for the log.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    place: Place,
}

const PENDING: [Column; 9] = [
    ("enrollment", "/id"),
    ("manufacturer", "/manufacturer"),
    ("serial", "/serial"),
    ("reason", "/reason"),
    ("product", "/product"),
    ("device", "/device"),
    ("state", "/state"),
    ("asked", "/asked_at"),
    ("from", "/asked_from"),
];

impl PendingVerb {
    /// # Errors
    /// The plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List {
                after,
                limit,
                place,
            } => {
                let mut path = format!("/api/v1/identity/pending?limit={limit}");
                if let Some(after) = after {
                    path.push_str(&format!("&after={after}"));
                }
                let list = place.client()?.json(Ask::get(&path))?;
                let is_empty = list.as_array().is_some_and(Vec::is_empty);
                if is_empty && output == Output::Table {
                    return show::line("nobody waits");
                }
                show::rows(output, &list, &PENDING)
            }
            Self::Approve(approve) => approve.run(output),
            Self::Refuse {
                id,
                reason,
                yes,
                place,
            } => {
                if !yes && std::io::stdin().is_terminal() && !ask::yes(&format!("Refuse {id}?"))? {
                    bail!("nobody was refused");
                }
                let path = format!("/api/v1/identity/pending/{id}/refuse");
                let recorded = place
                    .client()?
                    .json(Ask::post(&path).json(&json!({ "reason": reason })))?;
                show::fields(output, &recorded, &[("entry", "/entry")])
            }
        }
    }
}

/// It becomes part of a path, so it is nothing but what the list shows.
fn enrollment(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err("an enrollment is named by 64 hex digits, as the list shows it".to_owned())
}

impl Approve {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut body = json!({});
        let mut say = |key: &str, value: Value| {
            if let Some(fields) = body.as_object_mut() {
                fields.insert(key.to_owned(), value);
            }
        };
        if let Some(product) = &self.product {
            say("product", product.as_str().into());
        }
        if let Some(device) = &self.device {
            say("device", device.as_str().into());
        }
        let groups: Vec<&str> = self.groups.iter().map(GroupId::as_str).collect();
        say("groups", groups.into());
        say("reason", self.reason.as_str().into());
        let path = format!("/api/v1/identity/pending/{}/approve", self.id);
        let done = self.place.client()?.json(Ask::post(&path).json(&body))?;
        let columns = [
            ("device", "/device"),
            ("product", "/product"),
            ("entry", "/recorded/entry"),
        ];
        show::fields(output, &done, &columns)
    }
}
