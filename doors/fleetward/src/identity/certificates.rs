//! `fleetward identity certificates` and `… revocations`: what was issued, and what of it opens no
//! door any more.

use crate::client::Ask;
use crate::place::Place;
use crate::show::{self, Column, Output};
use clap::Args;
use model::ProductId;
use serde_json::Value;

#[derive(Debug, Args)]
pub struct Certificates {
    /// Of the devices of this product.
    #[arg(long)]
    product: Option<ProductId>,
    /// Of this device or service: `device/cam-1`.
    #[arg(long, value_name = "HOLDER", value_parser = in_a_path)]
    holder: Option<String>,
    /// Of this issuing CA: the digest before the colon of a certificate's name.
    #[arg(long, value_name = "DIGEST", value_parser = in_a_path)]
    issuer: Option<String>,
    #[arg(long, value_parser = ["current", "superseded", "on-hold", "revoked", "ended"])]
    state: Option<String>,
    /// That end within so many days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36500))]
    within: Option<u32>,
    /// Begin after this: what the page before ended with.
    #[arg(long, value_name = "NEXT", value_parser = in_a_path)]
    after: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct Revocations {
    /// Only what is on hold, which alone can be released.
    #[arg(long)]
    on_hold: bool,
    /// Begin after this one.
    #[arg(long, value_name = "NAME", value_parser = in_a_path)]
    after: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    place: Place,
}

const CERTIFICATES: [Column; 8] = [
    ("certificate", "/certificate"),
    ("device", "/device"),
    ("service", "/service"),
    ("ca", "/ca"),
    ("key", "/key_kind"),
    ("until", "/not_after"),
    ("state", "/state"),
    ("entry", "/entry"),
];

const REVOCATIONS: [Column; 3] = [("what", "/what"), ("reason", "/reason"), ("since", "/at")];

impl Certificates {
    /// # Errors
    /// The plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut path = format!("/api/v1/identity/certificates?limit={}", self.limit);
        let within = self.within.map(|days| days.to_string());
        let asked = [
            ("product", self.product.as_ref().map(ProductId::as_str)),
            ("holder", self.holder.as_deref()),
            ("issuer", self.issuer.as_deref()),
            ("state", self.state.as_deref()),
            ("within_days", within.as_deref()),
            ("after", self.after.as_deref()),
        ];
        for (name, value) in asked {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        let page = self.place.client()?.json(Ask::get(&path))?;
        pages(
            output,
            &page,
            "/certificates",
            &CERTIFICATES,
            "no certificate is like that",
        )
    }
}

impl Revocations {
    /// # Errors
    /// The plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut path = format!("/api/v1/identity/revocations?limit={}", self.limit);
        if self.on_hold {
            path.push_str("&on_hold=true");
        }
        if let Some(after) = &self.after {
            path.push_str(&format!("&after={after}"));
        }
        let page = self.place.client()?.json(Ask::get(&path))?;
        let none = if self.on_hold {
            "nothing is on hold"
        } else {
            "nothing is revoked"
        };
        pages(output, &page, "/revocations", &REVOCATIONS, none)
    }
}

fn pages(
    output: Output,
    page: &Value,
    rows: &str,
    columns: &[Column],
    none: &str,
) -> anyhow::Result<()> {
    if output == Output::Json {
        return show::value(page);
    }
    let empty = Value::Array(Vec::new());
    let list = page.pointer(rows).unwrap_or(&empty);
    if list.as_array().is_none_or(Vec::is_empty) {
        return show::line(none);
    }
    show::rows(output, list, columns)?;
    if let Some(next) = page.pointer("/next").and_then(Value::as_str) {
        show::line(&format!("\nThe next page: --after {}", show::escaped(next)))?;
    }
    Ok(())
}

/// It becomes part of a path, so it is nothing but what lists show.
fn in_a_path(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte);
    if !text.is_empty() && text.len() <= 512 && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err("it is named as the lists show it".to_owned())
}
