//! `fleetward identity served …`: the certificates that the plane's doors show.

use crate::client::Ask;
use crate::place::Place;
use crate::show::{self, Column, Output};
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Served {
    #[command(subcommand)]
    verb: Option<ServedVerb>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum ServedVerb {
    /// Read the files of imported certificates again, as SIGHUP does.
    #[command(
        after_help = "What is good is shown to the next client that connects; a file that is not \
        leaves the one before in force, and the exit status is 1.\n\nExamples:\n  \
        fleetward identity served reload"
    )]
    Reload {
        #[command(flatten)]
        place: Place,
    },
}

const SERVED: [Column; 8] = [
    ("source", "/source"),
    ("names", "/names"),
    ("doors", "/doors"),
    ("default", "/default"),
    ("leaf sha-256", "/chain/0/sha256"),
    ("ends", "/ends_at"),
    ("renews", "/renews_at"),
    ("trouble", "/trouble"),
];

impl Served {
    /// # Errors
    /// The plane, or a file that it could not take.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match &self.verb {
            None => {
                let list = self
                    .place
                    .client()?
                    .json(Ask::get("/api/v1/identity/served"))?;
                show::rows(output, &list, &SERVED)
            }
            Some(ServedVerb::Reload { place }) => {
                let ask = Ask::post("/api/v1/identity/served/reload");
                let done = place.client()?.json(ask)?;
                show::fields(output, &done, &[("entry", "/recorded/entry")])
            }
        }
    }
}
