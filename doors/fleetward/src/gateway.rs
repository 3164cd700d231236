//! `fleetward gateway …`: who is connected, and what devices are told.

use crate::client::Ask;
use crate::command::CommandVerb;
use crate::place::Place;
use crate::show::{self, Column, Output};
use crate::twin::TwinVerb;
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
    /// Say how forwarding to another broker stands.
    #[command(after_help = "Examples:\n  fleetward gateway forward\n  \
        fleetward gateway forward --output json")]
    Forward {
        #[command(flatten)]
        place: Place,
    },
    /// What devices are told, and how far it came.
    #[command(subcommand)]
    Command(CommandVerb),
    /// What state devices should have, and what they say that they have.
    #[command(subcommand)]
    Twin(TwinVerb),
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

const FORWARD: [Column; 9] = [
    ("other broker", "/upstream"),
    ("state", "/state"),
    ("since", "/since"),
    ("failed last", "/trouble"),
    ("connected", "/connected"),
    ("sent up", "/up"),
    ("acknowledged", "/up_acknowledged"),
    ("taken from there", "/down"),
    ("refused", "/down_refused"),
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
            Self::Forward { place } => {
                let found = place.client()?.json(Ask::get("/api/v1/gateway/forward"))?;
                show::fields(output, &found, &FORWARD)
            }
            Self::Command(verb) => verb.run(output),
            Self::Twin(verb) => verb.run(output),
        }
    }
}
