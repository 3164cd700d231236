//! `fleetward detection …`: what behaves otherwise than expected, and what is expected.

use crate::ask;
use crate::client::Ask;
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use anyhow::bail;
use clap::Subcommand;
use model::{DeviceId, ProductId};
use serde_json::Value;
use std::io::IsTerminal;

#[derive(Debug, Subcommand)]
pub enum DetectionVerb {
    /// List alerts, the newest first: expected, seen, since when, by whom.
    #[command(after_help = "Examples:\n  fleetward detection alerts --open\n  \
        fleetward detection alerts --device cam-1 --output json")]
    Alerts {
        /// Only what is open.
        #[arg(long)]
        open: bool,
        /// Only of this device.
        #[arg(long)]
        device: Option<DeviceId>,
        /// Begin after the alert of this number.
        #[arg(long, value_name = "ALERT")]
        after: Option<u64>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Show what the devices of each product usually do: declared, learned, accepted.
    #[command(after_help = "Examples:\n  fleetward detection baselines\n  \
        fleetward detection baselines --product camera")]
    Baselines {
        /// Only of this product, with each entry.
        #[arg(long)]
        product: Option<ProductId>,
        #[command(flatten)]
        place: Place,
    },
    /// Take what was learned of a product as normal: from then on playbooks may act on it.
    #[command(after_help = "Examples:\n  fleetward detection accept camera\n  \
        fleetward detection accept camera --yes\n\n\
        Look at it first: fleetward detection baselines --product camera. On a terminal it asks; \
        elsewhere say --yes.")]
    Accept {
        product: ProductId,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

const ALERTS: [Column; 12] = [
    ("alert", "/id"),
    ("subject", "/subject"),
    ("kind", "/kind"),
    ("severity", "/severity"),
    ("state", "/state"),
    ("count", "/count"),
    ("since", "/since"),
    ("expected", "/expected"),
    ("seen", "/seen"),
    ("by", "/observed_by"),
    ("attribution", "/attribution"),
    ("incident", "/incident"),
];

const BASELINES: [Column; 5] = [
    ("product", "/product"),
    ("state", "/state"),
    ("devices", "/devices"),
    ("accepted", "/accepted_at"),
    ("by", "/accepted_by"),
];

const ENTRIES: [Column; 6] = [
    ("feature", "/feature"),
    ("value", "/value"),
    ("devices", "/devices"),
    ("reported", "/reported"),
    ("declared", "/declared"),
    ("normal", "/accepted"),
];

impl DetectionVerb {
    /// # Errors
    /// The plane, or nobody said yes.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Alerts {
                open,
                device,
                after,
                limit,
                place,
            } => {
                let mut path = format!("/api/v1/detection/alerts?limit={limit}&open={open}");
                if let Some(device) = device {
                    path.push_str(&format!("&device={device}"));
                }
                if let Some(after) = after {
                    path.push_str(&format!("&after={after}"));
                }
                let found = place.client()?.json(Ask::get(&path))?;
                if output == Output::Json {
                    return show::value(&found);
                }
                let list = found.pointer("/alerts").unwrap_or(&Value::Null);
                if list.as_array().is_none_or(Vec::is_empty) {
                    return show::line("No alert. Everything that was seen is as expected.");
                }
                show::rows(output, list, &ALERTS)?;
                match found.pointer("/next").and_then(Value::as_u64) {
                    Some(next) => show::line(&format!("\nmore: --after {next}")),
                    None => Ok(()),
                }
            }
            Self::Baselines { product, place } => {
                let all = place
                    .client()?
                    .json(Ask::get("/api/v1/detection/baselines"))?;
                baselines(&all, product.as_ref(), output)
            }
            Self::Accept {
                product,
                yes,
                place,
            } => {
                if !yes {
                    if !std::io::stdin().is_terminal() {
                        bail!("nothing was accepted: there is no terminal to ask on; say --yes");
                    }
                    let question = format!(
                        "Take what was learned of {} as normal? Playbooks may act on it then.",
                        escaped(product.as_str())
                    );
                    if !ask::yes(&question)? {
                        bail!("nothing was accepted");
                    }
                }
                let path = format!("/api/v1/detection/baselines/{product}/accept");
                let done = place.client()?.json(Ask::post(&path))?;
                let columns = [
                    ("product", "/product"),
                    ("entries now normal", "/entries"),
                    ("entry", "/recorded/entry"),
                ];
                show::fields(output, &done, &columns)
            }
        }
    }
}

fn baselines(all: &Value, product: Option<&ProductId>, output: Output) -> anyhow::Result<()> {
    let list = all.pointer("/baselines").unwrap_or(&Value::Null);
    let Some(product) = product else {
        if output == Output::Json {
            return show::value(all);
        }
        if list.as_array().is_none_or(Vec::is_empty) {
            return show::line(
                "No baseline yet: apply a fleet that declares products, or wait until devices come.",
            );
        }
        return show::rows(output, list, &BASELINES);
    };
    let of_product =
        |one: &&Value| one.pointer("/product").and_then(Value::as_str) == Some(product.as_str());
    let found = list
        .as_array()
        .and_then(|list| list.iter().find(of_product));
    let Some(found) = found else {
        bail!("no baseline of {product}; fleetward detection baselines lists those there are");
    };
    show::fields(output, found, &BASELINES)?;
    match found.pointer("/entries") {
        Some(entries) if output == Output::Table => {
            show::line("")?;
            show::rows(output, entries, &ENTRIES)
        }
        _ => Ok(()),
    }
}
