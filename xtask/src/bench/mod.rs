//! `cargo xtask bench`: ours against a peer, or ours alone where no peer can do it.
//!
//! Each bench alternates the two servers (`paired.rs`), each run with a fresh server in a control
//! group of its own (`cpu.rs`) under the load of the `sim` program (`load.rs`). Starting servers
//! is in `server.rs`, and only there is it known which one runs.

mod cpu;
mod credentials;
mod figure;
mod load;
mod paired;
mod server;

use anyhow::{Context, bail};
use figure::{Figure, Name};
use load::{Load, Scenario};
use paired::{PAIRS_MIN, paired, quantile};
use server::{Kind, Server};
use std::path::Path;

#[derive(clap::Args)]
pub struct Arguments {
    /// handshake, gateway, revoke; all of them when none is named
    names: Vec<String>,
    /// How many pairs of runs, ours and peer
    #[arg(long, default_value_t = PAIRS_MIN)]
    pairs: usize,
    /// How long one run of the gateway bench lasts
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Put Mosquitto in the place of ours: a sound harness finds a ratio whose interval holds 1
    #[arg(long)]
    against_itself: bool,
}

const BENCHES: [(&str, Bench); 3] = [
    ("handshake", handshake),
    ("gateway", gateway),
    ("revoke", revoke),
];

type Bench = fn(&Setting) -> anyhow::Result<Vec<Figure>>;

/// What all benches of one call share.
struct Setting {
    /// Keys, configurations and data folders, removed at the end.
    scratch: server::Scratch,
    ours: Kind,
    pairs: usize,
    seconds: u32,
}

/// Prints a JSON line per figure as it comes, then a table of all.
///
/// # Errors
/// If a name is unknown, a program is missing, or a run fails: no figure is made up.
pub fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let wanted: Vec<&(&str, Bench)> = if arguments.names.is_empty() {
        BENCHES.iter().collect()
    } else {
        arguments
            .names
            .iter()
            .map(|name| {
                BENCHES
                    .iter()
                    .find(|(known, _)| known == name)
                    .with_context(|| {
                        format!("no bench {name:?}; there are handshake, gateway and revoke")
                    })
            })
            .collect::<Result<_, _>>()?
    };
    if cfg!(debug_assertions) {
        eprintln!("note: the servers are release builds; xtask itself need not be");
    }
    load::build(root)?;
    let setting = Setting {
        scratch: server::Scratch::new()?,
        ours: if arguments.against_itself {
            Kind::Mosquitto
        } else {
            server::build(root)?;
            Kind::Fleetward
        },
        pairs: arguments.pairs,
        seconds: arguments.seconds,
    };
    let mut figures = Vec::new();
    for (name, bench) in wanted {
        eprintln!("bench {name}: {} pairs", setting.pairs);
        for figure in bench(&setting).with_context(|| format!("bench {name}"))? {
            println!("{}", serde_json::to_string(&figure)?);
            figures.push(figure);
        }
    }
    println!("\n{}", figure::table(&figures));
    Ok(())
}

/// A full mutual-TLS handshake with its CONNECT and CONNACK, no resumption.
fn handshake(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let scenario = Scenario::Handshakes {
        count: 2000,
        at_once: 32,
    };
    let name = Name {
        bench: "handshake",
        figure: "server CPU per handshake and CONNECT",
        unit: "µs",
        goal: None,
        durability: "none",
    };
    Ok(vec![setting.compare(name, 100, |server| {
        cpu_micros_each(server, &scenario)
    })?])
}

fn gateway(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    const DEVICES: usize = 1000;
    const CONNECTIONS: usize = 5000;
    let durability = setting.ours.durability();
    let mut figures = Vec::new();
    for (figure, rate_per_second) in [
        ("server CPU per delivered message, 5,000/s paced", 5_000),
        ("server CPU per delivered message, 30,000/s offered", 30_000),
    ] {
        let scenario = Scenario::Publish {
            devices: DEVICES,
            rate_per_second,
            seconds: setting.seconds,
            payload_bytes: 128,
        };
        let name = Name {
            bench: "gateway",
            figure,
            unit: "µs",
            goal: None,
            durability,
        };
        figures.push(setting.compare(name, DEVICES, |server| cpu_micros_each(server, &scenario))?);
    }
    let name = Name {
        bench: "gateway",
        figure: "memory per idle connection",
        unit: "kB",
        goal: None,
        durability: "none",
    };
    figures.push(setting.compare(name, CONNECTIONS, |server| {
        let scenario = Scenario::Idle {
            connections: CONNECTIONS,
        };
        let load = Load::new(server, &scenario);
        let run = load.run(|| server.resident_kilobytes())?;
        Ok((run.after - run.before) / run.outcome.done as f64)
    })?);
    Ok(figures)
}

/// From the request to revoke to the last packet of that device which was acknowledged. Mosquitto
/// cannot do this to a live session, so ours stands alone.
fn revoke(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    const REVOCATIONS: usize = 100;
    if setting.ours == Kind::Mosquitto {
        bail!("mosquitto has no live revocation to measure; leave out --against-itself");
    }
    let server = setting.start(setting.ours, REVOCATIONS)?;
    let mut millis = Vec::new();
    for device in 0..REVOCATIONS {
        let scenario = Scenario::UntilClosed {
            device,
            rate_per_second: 1000,
        };
        let mut requested = 0.0;
        let outcome = Load::new(&server, &scenario).run_while_open(|| {
            requested = load::unix_micros();
            server.revoke(device)
        })?;
        let last = outcome
            .last_accepted_unix_micros
            .context("the load did not say when the last packet was accepted")?;
        // A device may have been between two packets: then nothing was accepted after the request.
        millis.push((last - requested).max(0.0) / 1000.0);
    }
    Ok([("p50", 0.5), ("p99", 0.99)]
        .into_iter()
        .map(|(figure, share)| {
            let name = Name {
                bench: "revoke",
                figure,
                unit: "ms",
                goal: None,
                durability: setting.ours.durability(),
            };
            Figure::alone(name, quantile(&millis, share), REVOCATIONS)
        })
        .collect())
}

impl Setting {
    /// Every run has a fresh server: what one leaves behind must not help or hurt the next.
    fn compare(
        &self,
        name: Name,
        devices: usize,
        measure: impl Fn(&Server) -> anyhow::Result<f64>,
    ) -> anyhow::Result<Figure> {
        let run = |kind| {
            let server = self.start(kind, devices)?;
            let value = measure(&server)?;
            eprintln!(
                "  {}: {value:.1} {} ({}; CPU by {})",
                kind.name(),
                name.unit,
                name.figure,
                server.account()
            );
            Ok(value)
        };
        let found = paired(self.pairs, || run(self.ours), || run(Kind::Mosquitto))?;
        Ok(Figure::compared(
            name,
            &server::mosquitto_version()?,
            &found,
        ))
    }

    fn start(&self, kind: Kind, devices: usize) -> anyhow::Result<Server> {
        match kind {
            Kind::Fleetward => Server::fleetward(&self.scratch, devices),
            Kind::Mosquitto => Server::mosquitto(&self.scratch, devices),
        }
    }
}

/// CPU of the server between the start and the end of the load, per thing done.
fn cpu_micros_each(server: &Server, scenario: &Scenario) -> anyhow::Result<f64> {
    let run = Load::new(server, scenario).run(|| server.cpu())?;
    let done = run.outcome.done;
    if done == 0 {
        bail!("the load got nothing done: {:?}", run.outcome);
    }
    Ok(run.after.since(&run.before)? / done as f64)
}
