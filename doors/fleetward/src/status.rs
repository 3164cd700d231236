//! `fleetward status`: is the plane well, and what does it hold?

use crate::client::{Ask, Refused};
use crate::place::Place;
use crate::show::{self, Column, Output};
use clap::Args;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

const METRICS_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    place: Place,
}

const STATUS: [Column; 13] = [
    ("ready", "/ready"),
    ("reasons", "/reasons"),
    ("plane", "/plane_version"),
    ("this program", "/cli_version"),
    ("log", "/log_origin"),
    ("devices expected", "/counts/identity_devices_expected"),
    ("devices enrolled", "/counts/identity_devices_enrolled"),
    ("certificates", "/counts/identity_certificates"),
    ("fleet version", "/counts/access_fleet_version"),
    ("grant classes", "/counts/access_grant_classes"),
    ("connections", "/counts/gateway_connections"),
    ("log entries", "/counts/audit_entries"),
    ("of them proven", "/counts/audit_entries_proven"),
];

impl Status {
    /// Exit status 0 if the plane is ready, 1 if it is not.
    ///
    /// # Errors
    /// The plane does not answer.
    pub fn run(&self, output: Output) -> anyhow::Result<ExitCode> {
        let mut client = self.place.client()?;
        let reasons = match client.json(Ask::get("/readyz")) {
            Ok(_) => Vec::new(),
            Err(error) => match error.downcast::<Refused>() {
                Ok(refused) if refused.errors.is_empty() => vec![refused.to_string()],
                Ok(refused) => refused.errors,
                Err(other) => return Err(other),
            },
        };
        let metrics = client.bytes(Ask::get("/metrics"), METRICS_BYTES_MAX)?;
        let interface = client.json(Ask::get("/openapi.json"))?;
        let key = client.json(Ask::get("/api/v1/audit/key"))?;
        let ready = reasons.is_empty();
        let status = json!({
            "ready": ready,
            "reasons": reasons,
            "plane_version": interface.pointer("/info/version"),
            "cli_version": env!("CARGO_PKG_VERSION"),
            "log_origin": key.pointer("/origin"),
            "counts": counts(&String::from_utf8_lossy(&metrics)),
        });
        show::fields(output, &status, &STATUS)?;
        Ok(if ready {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Prometheus' text as totals, the shards of one metric summed up.
fn counts(metrics: &str) -> Map<String, Value> {
    let mut counts = Map::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = name.split('{').next().unwrap_or_default();
        let Some(name) = name.strip_prefix("fleetward_") else {
            continue;
        };
        let Ok(value) = value.parse::<u64>() else {
            continue;
        };
        let total = counts.get(name).and_then(Value::as_u64).unwrap_or(0);
        counts.insert(name.to_owned(), total.saturating_add(value).into());
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_strangers_passed_over() {
        let text = "# TYPE fleetward_a gauge\nfleetward_a{shard=\"0\"} 2\nfleetward_a{shard=\"1\"} 3\n\
                    other 9\nfleetward_b 1\nfleetward_c x\n";
        assert_eq!(Value::from(counts(text)), json!({"a": 5, "b": 1}));
    }
}
