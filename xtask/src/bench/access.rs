//! What compiling grants, changing them and asking them costs, for a million devices: no server and no
//! peer, the room's own bench in one process (`rooms/access/benches/scale.rs`).

use super::Setting;
use super::figure::{Figure, Name};
use anyhow::{Context, bail};
use serde_json::Value;
use std::process::Stdio;

/// The names that the room prints, with what is wanted of each.
const FIGURES: [(&str, &str, Option<f64>); 8] = [
    ("1,000,000 devices in 200 groups compiled", "s", Some(10.0)),
    ("classes of them", "", None),
    ("memory to compile, most", "MiB", Some(512.0)),
    ("memory of a device's grants", "B", Some(64.0)),
    (
        "one device changed, into a class that nobody had",
        "ms",
        Some(1.0),
    ),
    ("a group of 10,000 changed", "ms", Some(100.0)),
    ("authorisation of a publish", "µs", Some(0.5)),
    ("allocations of 1,000 authorisations", "", Some(0.0)),
];

pub fn bench(_: &Setting) -> anyhow::Result<Vec<Figure>> {
    let arguments = ["bench", "--locked", "-p", "access", "--bench", "scale"];
    printed("access", &arguments, &FIGURES)
}

/// Figures that a room prints of itself, a line of JSON each, when cargo is asked so.
pub fn printed(
    bench: &'static str,
    arguments: &[&str],
    figures: &[(&'static str, &'static str, Option<f64>)],
) -> anyhow::Result<Vec<Figure>> {
    let output = crate::steps::cargo_command(&crate::root_of_repository())
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!(
            "`cargo {}` ended with {}",
            arguments.join(" "),
            output.status
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = (text.lines())
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    (figures.iter())
        .map(|(figure, unit, goal)| {
            let line = lines.iter().find(|line| line["figure"] == *figure);
            let value = line
                .filter(|line| line["unit"] == *unit)
                .and_then(|line| line["value"].as_f64())
                .with_context(|| format!("it printed no figure {figure:?} in {unit:?}"))?;
            let name = Name {
                bench,
                figure,
                unit,
                goal: *goal,
                durability: "none",
            };
            Ok(Figure::alone(name, value, 1))
        })
        .collect()
}
