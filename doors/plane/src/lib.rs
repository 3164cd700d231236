//! The plane: the server shell that composes rooms and keeps.
//!
//! **Question:** in which order do checks, records and effects happen?
//! **In:** a configuration, sockets, signals of the operating system.
//! **Out:** a running plane; one line for each refusal, naming who must act.
//! **Refuses to know:** how anything is decided (rooms), stored (`store`) or signed (`signer`).
//!
//! Read [`flow`] first: it is the story as one run of calls. `listen/` holds sockets and TLS,
//! `shards/` the MQTT threads, `api/` HTTP, `tasks/` what runs by itself. What `flow` calls lies
//! beside it by station: `certify/`, `commanding/`, `fleet/`, `judge/`, `respond/`, `stock/`, `withdrawing.rs`. What
//! our doors show is in `served/`, how a fleet's other broker learns of a revocation in `broker/`.

#[cfg(test)]
mod acts_tests;
pub mod api;
mod broker;
mod certify;
mod clock;
mod commanding;
pub mod config;
#[cfg(test)]
mod doors_tests;
mod entries;
mod events;
mod fleet;
mod flow;
mod forward;
mod judge;
mod listen;
mod outward;
mod pem;
mod people;
mod plane;
mod respond;
mod secret;
mod served;
mod shards;
mod shared;
mod sign_in;
mod startup;
mod stock;
mod tasks;
mod trouble;
mod twinning;
mod withdrawing;

pub use config::{Config, ConfigError};

use listen::{DevicesDoor, Doors, PeopleDoor};
use startup::Foundation;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Where a plane listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub people: SocketAddr,
    pub devices: SocketAddr,
    pub mqtt: SocketAddr,
    /// MQTT and HTTP for devices, by ALPN.
    pub alpn: Option<SocketAddr>,
}

/// Runs a plane until `stop` resolves, then drains it.
///
/// `ready` is called once every door answers.
///
/// # Errors
/// One line: what is wrong, who must act and how. Nothing is listened on before all that can be
/// checked has been.
pub async fn serve(
    mut config: Config,
    ready: impl FnOnce(Addresses),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let first_start = !config.data_dir.join("control.db").exists();
    let foundation = Foundation::open(&config)?;
    let doors = Doors::bind(&config.listen)?;
    let addresses = doors.addresses()?;
    config.listen.people = addresses.people;
    config.listen.devices = addresses.devices;
    config.listen.mqtt = addresses.mqtt;
    config.listen.alpn.address = addresses.alpn;
    let local = listen::bind_local(&config.socket_file())?;
    config.gateway.connections_max = listen::connections_allowed(&config.gateway);
    let plane = foundation.into_plane(config, &doors)?;
    drop(doors.mqtt);

    let (stopping, stopped) = watch::channel(false);
    let mut tasks = tasks::start(&plane, &stopped);
    let people = api::people_router(&plane);
    let devices = api::devices_router(&plane);
    let trust = Arc::clone(plane.trust());
    let mut served = tokio::task::JoinSet::new();
    served.spawn(listen::serve_local(local, people.clone(), stopped.clone()));
    let door = PeopleDoor {
        trust: Arc::clone(&trust),
        tls_1_2: plane.config.listen.people_tls_1_2,
    };
    served.spawn(listen::serve_door(
        listen::Arrivals::of(doors.people, &Arc::default())?,
        door,
        people,
        plane.signals.clone(),
        stopped.clone(),
    ));
    let door = DevicesDoor {
        trust,
        terms: plane.config.identity.tls_terms(),
    };
    served.spawn(listen::serve_door(
        listen::Arrivals::of(doors.devices, &plane.config.listen.proxies())?,
        door.clone(),
        devices.clone(),
        plane.signals.clone(),
        stopped.clone(),
    ));
    if let Some(alpn) = doors.alpn {
        let door = DevicesDoor {
            terms: plane.config.listen.alpn.tls_terms()?,
            ..door
        };
        served.spawn(listen::serve_door(
            listen::Arrivals::Handed(alpn.http),
            door,
            match plane.config.listen.alpn.websocket {
                true => listen::with_websocket(devices, &plane),
                false => devices,
            },
            plane.signals.clone(),
            stopped.clone(),
        ));
    }
    if let Some(listener) = doors.challenges {
        let trust = Arc::clone(plane.trust());
        served.spawn(listen::serve_challenges(listener, trust, stopped.clone()));
    }
    if first_start {
        sign_in::link::make_admin_link(&plane).await?;
    }
    plane.committed.notify_one();
    let by_alpn = (addresses.alpn).map_or(String::new(), |at| format!(", both by ALPN on {at}"));
    tracing::info!(
        "serving people on {}, devices on {}, MQTT on {}{by_alpn}; log {}",
        addresses.people,
        addresses.devices,
        addresses.mqtt,
        plane.config.log_dir.display()
    );
    ready(addresses);

    let ended = tokio::select! {
        () = stop => None,
        ended = served.join_next() => ended,
    };
    tracing::info!("stopping: sessions are ended in order, the log is published");
    plane.events.end();
    // Nobody listens if all doors have ended already.
    let _ = stopping.send(true);
    let draining = Arc::clone(&plane);
    shared::off_thread(move || draining.shards().drain()).await?;
    while served.join_next().await.is_some() {}
    while tasks.join_next().await.is_some() {}
    match ended {
        Some(Ok(Err(error))) => Err(error.context("a door ended")),
        Some(Err(fault)) => Err(anyhow::anyhow!("a door ended by a fault of ours: {fault}")),
        Some(Ok(Ok(()))) | None => Ok(()),
    }
}
