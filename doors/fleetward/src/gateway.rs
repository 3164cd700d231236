//! `fleetward gateway …`: who is connected, and what devices are told.

use crate::client::Ask;
use crate::command::CommandVerb;
use crate::place::Place;
use crate::show::{self, Column, Output};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum GatewayVerb {
    /// List MQTT sessions: live ones, and persistent ones that wait.
    #[command(after_help = "Examples:\n  fleetward gateway sessions\n  \
        fleetward gateway sessions --output json")]
    Sessions {
        #[command(flatten)]
        place: Place,
    },
    /// What devices are told, and how far it came.
    #[command(subcommand)]
    Command(CommandVerb),
}

const SESSIONS: [Column; 9] = [
    ("principal", "/principal"),
    ("client", "/client_id"),
    ("connected", "/connected"),
    ("persistent", "/persistent"),
    ("shard", "/shard"),
    ("opened", "/opened_at"),
    ("subscriptions", "/subscriptions"),
    ("queued", "/queued_messages"),
    ("bytes", "/queued_bytes"),
];

impl GatewayVerb {
    /// # Errors
    /// The plane.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Sessions { place } => {
                let sessions = place.client()?.json(Ask::get("/api/v1/gateway/sessions"))?;
                show::rows(output, &sessions, &SESSIONS)
            }
            Self::Command(verb) => verb.run(output),
        }
    }
}
