//! `fleetward gateway …`: who is connected.

use crate::client::Ask;
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
        let Self::Sessions { place } = self;
        let sessions = place.client()?.json(Ask::get("/api/v1/gateway/sessions"))?;
        show::rows(output, &sessions, &SESSIONS)
    }
}
