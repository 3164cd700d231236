//! `fleetward access blast-radius · observed`: what a device could do, and what devices do.

use crate::client::Ask;
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub struct BlastRadius {
    /// A device by its name.
    #[arg(long)]
    device: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct Observed {
    /// The product whose devices were watched.
    #[arg(long)]
    product: String,
    /// Propose only what at least so many devices do.
    #[arg(long, default_value_t = 2)]
    support: u64,
    /// Print what is proposed as a file for destinations/ instead of the list.
    #[arg(long)]
    propose: bool,
    #[command(flatten)]
    place: Place,
}

const CHANNELS: [Column; 7] = [
    ("channel", "/channel"),
    ("sends own", "/publishes_own"),
    ("sends others'", "/publishes_others"),
    ("hears own", "/receives_own"),
    ("hears others'", "/receives_others"),
    ("heard by devices", "/devices"),
    ("heard by services", "/services_named"),
];

const DESTINATIONS: [Column; 5] = [
    ("destination", "/destination"),
    ("place", "/place"),
    ("ports", "/ports"),
    ("protocol", "/protocol"),
    ("policy", "/policy"),
];

const PLACES: [Column; 8] = [
    ("host", "/host"),
    ("address", "/address"),
    ("port", "/port"),
    ("protocol", "/protocol"),
    ("devices", "/devices"),
    ("seen from outside", "/seen_from_outside"),
    ("declared", "/declared"),
    ("proposed", "/proposed"),
];

impl BlastRadius {
    /// # Errors
    /// The plane, or a device that it does not know.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let path = format!("/api/v1/access/blast-radius/{}", self.device);
        let answer = self.place.client()?.json(Ask::get(&path))?;
        if output == Output::Json {
            return show::value(&answer);
        }
        for (words, at) in [("If it is free", "/free"), ("As it is now", "/now")] {
            let spread = answer.pointer(at).cloned().unwrap_or_default();
            show::line(&format!("{words}:"))?;
            let list = |name: &str| {
                let list = spread.pointer(name).and_then(Value::as_array);
                list.cloned().unwrap_or_default()
            };
            let (mut channels, destinations) = (list("/channels"), list("/destinations"));
            for channel in &mut channels {
                let named = channel.pointer("/services").and_then(Value::as_array);
                let named: Vec<String> = (named.into_iter().flatten())
                    .map(|one| {
                        let text = |at| one.pointer(at).and_then(Value::as_str).unwrap_or_default();
                        format!("{} ({})", text("/name"), text("/policy"))
                    })
                    .collect();
                if let Some(channel) = channel.as_object_mut() {
                    channel.insert("services_named".into(), named.join(", ").into());
                }
            }
            if channels.is_empty() && destinations.is_empty() {
                show::line("  nothing but the plane, if that")?;
                continue;
            }
            show::rows(output, &Value::Array(channels), &CHANNELS)?;
            show::rows(output, &Value::Array(destinations), &DESTINATIONS)?;
        }
        show::line("\nNot covered:")?;
        let not_covered = answer.pointer("/not_covered").and_then(Value::as_array);
        for text in not_covered.into_iter().flatten().filter_map(Value::as_str) {
            show::line(&format!("  {}", escaped(text)))?;
        }
        Ok(())
    }
}

impl Observed {
    /// # Errors
    /// The plane.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let path = format!(
            "/api/v1/access/observed?product={}&support={}",
            self.product, self.support
        );
        let answer = self.place.client()?.json(Ask::get(&path))?;
        if output == Output::Json {
            return show::value(&answer);
        }
        let places = answer.pointer("/places").and_then(Value::as_array);
        let places = places.cloned().unwrap_or_default();
        let is = |place: &Value, at: &str| place.pointer(at) == Some(&Value::Bool(true));
        let refused: Vec<&Value> = places
            .iter()
            .filter(|place| !is(place, "/declared"))
            .collect();
        let proposed: Vec<&Value> = places
            .iter()
            .filter(|place| is(place, "/proposed"))
            .collect();
        if self.propose {
            return show::line(proposal(&self.product, &proposed).trim_end());
        }
        if places.is_empty() {
            return show::line(&format!(
                "No device of {} was seen to reach anybody yet. An observer or an agent tells.",
                escaped(&self.product)
            ));
        }
        show::rows(output, &Value::Array(places.clone()), &PLACES)?;
        show::line(&format!(
            "\n{} of {} places are not declared and would be refused; {} may be declared: --propose \
             prints them. What is left was seen of fewer than {} devices, by themselves alone, or \
             without a name: look first.",
            refused.len(),
            places.len(),
            proposed.len(),
            self.support
        ))
    }
}

/// A file for destinations/, and the line for the product as a comment.
fn proposal(product: &str, places: &[&Value]) -> String {
    let mut out = String::new();
    let mut names = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let text = |at: &str| {
            place
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let count = |at: &str| {
            place
                .pointer(at)
                .and_then(Value::as_u64)
                .unwrap_or_default()
        };
        let host = text("/host").to_ascii_lowercase();
        // What a device said in a question is no DNS name until it looks like one.
        let is_name =
            (host.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        if !is_name {
            continue;
        }
        let name = format!("{product:.40}-seen-{}", number + 1);
        let _ = writeln!(
            out,
            "[{name}]\ndescription = \"seen of {} devices\"\nhost = \"{host}\"\nports = [{}]\nprotocol = \"{}\"\n",
            count("/devices"),
            count("/port"),
            text("/protocol"),
        );
        names.push(format!("\"{name}\""));
    }
    if names.is_empty() {
        return "# Nothing is to be proposed.".to_owned();
    }
    let _ = writeln!(
        out,
        "# and in the product: add {} to behaviour.destinations",
        names.join(", ")
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_proposal_can_be_put_into_a_fleet_and_hostile_names_cannot() {
        let good = json!({ "host": "API.example", "port": 443, "protocol": "tcp", "devices": 3 });
        let bad = json!({ "host": "x\"]\n[evil", "port": 1, "protocol": "tcp", "devices": 9 });
        let text = proposal("camera", &[&good, &bad]);
        assert!(
            text.contains("host = \"api.example\"\nports = [443]"),
            "{text}"
        );
        assert!(!text.contains("evil"), "{text}");
        let files = [
            ("fleet.toml", "name = \"x\"".to_owned()),
            ("destinations/seen.toml", text),
        ]
        .map(|(path, text)| access::SourceFile {
            path: path.into(),
            text,
        });
        assert!(access::Fleet::read(&files).is_ok());
        assert!(proposal("camera", &[&bad]).starts_with('#'));
    }
}
