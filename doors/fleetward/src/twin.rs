//! `fleetward gateway twin …`: what state a device should have, and what it says that it has.

use crate::client::Ask;
use crate::files;
use crate::place::Place;
use crate::show::{self, Column, Output};
use anyhow::Context;
use clap::{Args, Subcommand};
use model::DeviceId;
use serde_json::Value;
use std::path::PathBuf;

const PATCH_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Subcommand)]
pub enum TwinVerb {
    /// Show what a device should be, what it says that it is, and what it has to change.
    #[command(after_help = "Examples:\n  fleetward gateway twin show cam-1\n  \
        fleetward gateway twin show cam-1 --output json")]
    Show {
        device: DeviceId,
        #[command(flatten)]
        place: Place,
    },
    /// Change what a device should be, by a JSON merge patch (RFC 7396).
    #[command(after_help = "Examples:\n  \
        fleetward gateway twin set cam-1 --patch '{\"led\": {\"on\": true}}'\n  \
        fleetward gateway twin set cam-1 --patch-file state.json --if-version 3 --dry-run\n\n\
        A null takes a field out. Without --if-version it is changed whatever it was.")]
    Set(Set),
}

#[derive(Debug, Args)]
pub struct Set {
    device: DeviceId,
    #[command(flatten)]
    patch: Patch,
    /// Refuse if somebody set it since this version was read.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    /// Say what would stand there and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Patch {
    /// The patch as text. Others on this machine can see it: take a file for what is secret.
    #[arg(long, value_name = "JSON")]
    patch: Option<String>,
    /// The patch from a file or a pipe.
    #[arg(long, value_name = "FILE")]
    patch_file: Option<PathBuf>,
}

const TWIN: [Column; 10] = [
    ("device", "/device"),
    ("version", "/version"),
    ("desired", "/desired"),
    ("set at", "/desired_at"),
    ("set by", "/desired_by"),
    ("reported", "/reported"),
    ("reported at", "/reported_at"),
    ("to change", "/delta"),
    ("sessions told", "/sessions_told"),
    ("entry", "/entry"),
];

impl TwinVerb {
    /// # Errors
    /// The plane, or the patch.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let found = match self {
            Self::Show { device, place } => {
                let path = format!("/api/v1/gateway/twins/{device}");
                place.client()?.json(Ask::get(&path))?
            }
            Self::Set(set) => set.run()?,
        };
        show::fields(output, &found, &TWIN)
    }
}

impl Set {
    fn run(&self) -> anyhow::Result<Value> {
        let patch = match (&self.patch.patch, &self.patch.patch_file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) => files::read_text(file, PATCH_BYTES_MAX)?,
            (None, None) => String::new(),
        };
        serde_json::from_str::<Value>(&patch).context("the patch is not JSON")?;
        let dry_run = self.dry_run;
        let path = format!("/api/v1/gateway/twins/{}?dry_run={dry_run}", self.device);
        let version = self.if_version.map(|version| format!("\"{version}\""));
        let ask = Ask::patch(&path)
            .text("application/merge-patch+json", patch)
            .if_match(version.as_deref().unwrap_or("*"));
        self.place.client()?.json(ask)
    }
}
