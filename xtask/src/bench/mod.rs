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

use anyhow::{Context, bail, ensure};
use figure::{Figure, Name};
use load::{Load, Outcome, Scenario};
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
    /// How long one run is measured
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Put Mosquitto in the place of ours: a sound harness finds a ratio whose interval holds 1
    #[arg(long)]
    against_itself: bool,
    /// Use the release builds as they stand
    #[arg(long)]
    no_build: bool,
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
    crate::tools::ensure(root, &[crate::tools::MOSQUITTO, crate::tools::OPENSSL])?;
    let ours = if arguments.against_itself {
        Kind::Mosquitto
    } else {
        Kind::Fleetward
    };
    if !arguments.no_build {
        load::build(root)?;
        if ours == Kind::Fleetward {
            server::build(root)?;
        }
    }
    let setting = Setting {
        scratch: server::Scratch::new()?,
        ours,
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
    const DEVICES: usize = 100;
    let scenario = Scenario::Handshakes {
        devices: DEVICES,
        at_once: 32,
        seconds: setting.seconds,
    };
    let name = Name {
        bench: "handshake",
        figure: "server CPU per handshake and CONNECT",
        unit: "µs",
        goal: None,
        durability: "none",
    };
    Ok(vec![setting.compare(name, DEVICES, |server| {
        cpu_micros_each(server, &scenario, |outcome| outcome.connected)
    })?])
}

fn gateway(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    const PUBLISHING: usize = 1000;
    const IDLE: usize = 5000;
    let mut figures = Vec::new();
    for (figure, rate_per_second) in [
        ("server CPU per delivered message, 5,000/s paced", 5_000),
        ("server CPU per delivered message, 30,000/s offered", 30_000),
    ] {
        let scenario = Scenario::Publish {
            devices: PUBLISHING,
            rate_per_second,
            seconds: setting.seconds,
            payload_bytes: 128,
        };
        let name = Name {
            bench: "gateway",
            figure,
            unit: "µs",
            goal: None,
            durability: setting.ours.durability(),
        };
        figures.push(setting.compare(name, PUBLISHING, |server| {
            cpu_micros_each(server, &scenario, |outcome| outcome.window_delivered)
        })?);
    }
    let name = Name {
        bench: "gateway",
        figure: "memory per idle connection",
        unit: "kB",
        goal: None,
        durability: "none",
    };
    figures.push(setting.compare(name, IDLE, |server| {
        let run = Load::new(server, &Scenario::Idle { devices: IDLE })
            .run(|| server.resident_kilobytes())?;
        ensure!(
            run.outcome.connected == IDLE as u64,
            "only {} of {IDLE} connections stood",
            run.outcome.connected
        );
        Ok((run.after - run.at_start) / IDLE as f64)
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
    let millis = server::revocations(&setting.scratch, REVOCATIONS)?;
    ensure!(
        millis.len() == REVOCATIONS,
        "only {} of {REVOCATIONS} revocations were measured",
        millis.len()
    );
    Ok([("p50", 0.5), ("p99", 0.99)]
        .into_iter()
        .map(|(figure, share)| {
            let name = Name {
                bench: "revoke",
                figure,
                unit: "ms",
                goal: None,
                durability: "power",
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

/// CPU of the server while the load measures, per thing done.
fn cpu_micros_each(
    server: &Server,
    scenario: &Scenario,
    done: impl Fn(&Outcome) -> u64,
) -> anyhow::Result<f64> {
    let run = Load::new(server, scenario).run(|| server.cpu())?;
    let done = done(&run.outcome);
    ensure!(done > 0, "the load got nothing done: {:?}", run.outcome);
    // Said, not hidden: a lagging generator measures itself, and beyond its capacity a server may
    // still be delivering at the end.
    let lag_millis = run.outcome.generator_lag_p99_us.unwrap_or(0.0) / 1000.0;
    if lag_millis > 100.0 {
        eprintln!("  doubtful: the load generator was {lag_millis:.0} ms late; a quieter machine?");
    }
    if run.outcome.lost > 0 {
        // Said, not hidden: beyond its capacity a server may still be delivering at the end.
        eprintln!(
            "  {} acknowledged messages were not delivered",
            run.outcome.lost
        );
    }
    Ok(run.after.since(&run.before)? / done as f64)
}
