//! Which plane is meant: its configuration and its data folder.

use crate::client::Client;
use clap::Args;
use plane::Config;
use std::path::PathBuf;

/// Where the plane is.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The plane's configuration file; without it, defaults and the environment (FLEETWARD_…).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The plane's data folder; goes before the file and the environment.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl Place {
    /// The configuration as the plane itself reads it.
    ///
    /// # Errors
    /// What is wrong in the file or the environment.
    pub fn config(&self) -> anyhow::Result<Config> {
        // Absolute, so that a folder named like a number is still a folder.
        let data = match &self.data {
            Some(data) => Some(
                std::path::absolute(data)?
                    .into_os_string()
                    .into_string()
                    .map_err(|data| {
                        anyhow::anyhow!("--data {} is not UTF-8", data.to_string_lossy())
                    })?,
            ),
            None => None,
        };
        let environment = |name: &str| match (name, &data) {
            ("FLEETWARD_DATA_DIR", Some(data)) => Some(data.clone()),
            _ => std::env::var(name).ok(),
        };
        Ok(Config::load(self.config.as_deref(), &environment)?)
    }

    /// The plane that runs there.
    ///
    /// # Errors
    /// The configuration; that none runs is found out at the first request.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::local(&self.config()?.socket_file())
    }
}
