//! `cargo xtask bench`: ours against a peer, or ours alone where no peer can do it.
//!
//! Each bench alternates the two servers (`paired.rs`), each run with a fresh server in a control
//! group of its own (`cpu.rs`) under the load of the `sim` program (`load.rs`). Starting servers
//! is in `server.rs`, and only there is it known which one runs.

mod access;
mod agent;
mod capture;
mod contain;
mod cpu;
mod credentials;
mod figure;
mod fleet;
mod gateway;
mod load;
mod machine;
mod paired;
mod restart;
mod revoke;
mod server;

use anyhow::{Context, bail, ensure};
use figure::{Figure, Name};
use load::{Load, Outcome, Run, Scenario};
use machine::Machine;
use paired::{PAIRS_MIN, paired};
use server::{Durability, Keeps, Kind, Server};
use std::path::Path;

#[derive(clap::Args)]
pub struct Arguments {
    /// handshake, gateway, issue, revoke, contain, restart, access, agent; all of them when none is
    /// named
    names: Vec<String>,
    /// One part of gateway alone: paced-even, paced-own, paced-ticks, offered, rumqttd, stored, fan-out,
    /// storm, storm-hybrid, idle, contract, machine, floor
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// How many pairs of runs, ours and peer: from 9 on the interval leaves out the extremes
    #[arg(long, default_value_t = 12)]
    pairs: usize,
    /// How long one run is measured
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Devices connected in gateway
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// How long connections are left idle before the memory that they hold is read
    #[arg(long, default_value_t = 60)]
    idle_seconds: u32,
    /// Devices connected in revoke
    #[arg(long, default_value_t = 10_000)]
    revoke_sessions: usize,
    /// Devices connected in contain and in restart
    #[arg(long, default_value_t = 10_000)]
    contain_sessions: usize,
    /// Devices revoked one by one in revoke
    #[arg(long, default_value_t = 500)]
    revocations: usize,
    /// Certificates stored in the larger of the two planes that issue is measured on
    #[arg(long, default_value_t = 1_000_000)]
    stored: u32,
    /// What an acknowledgement of ours outlives
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    durability: Durability,
    /// Put Mosquitto in the place of ours: a sound harness finds a ratio whose interval holds 1
    #[arg(long)]
    against_itself: bool,
    /// Use the release builds as they stand
    #[arg(long)]
    no_build: bool,
}

const BENCHES: [(&str, Bench); 8] = [
    ("handshake", handshake),
    ("gateway", gateway::bench),
    ("issue", issue),
    ("revoke", revoke::bench),
    ("contain", contain::bench),
    ("restart", restart::bench),
    ("access", access::bench),
    ("agent", agent::bench),
];

type Bench = fn(&Setting) -> anyhow::Result<Vec<Figure>>;

/// What all benches of one call share.
struct Setting {
    /// Keys, configurations and data folders, removed at the end.
    scratch: server::Scratch,
    ours: Kind,
    pairs: usize,
    seconds: u32,
    sessions: usize,
    idle_seconds: u32,
    revoke_sessions: usize,
    revocations: usize,
    contain_sessions: usize,
    stored: u32,
    durability: Durability,
    /// A part of a bench that has parts.
    only: Option<String>,
}

/// Prints a JSON line per figure as it comes, then a table of all.
///
/// # Errors
/// If a name is unknown, a program is missing, or a bench fails: no figure is made up.
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
                        let known = BENCHES.map(|(known, _)| known).join(", ");
                        format!("no bench {name:?}; there are {known}")
                    })
            })
            .collect::<Result<_, _>>()?
    };
    if let Some(only) = &arguments.only {
        let is_gateway_alone = matches!(wanted.as_slice(), [("gateway", _)]);
        ensure!(
            is_gateway_alone,
            "only gateway has parts: bench gateway --only {only}"
        );
        gateway::check_part(only)?;
    }
    ensure!(
        arguments.pairs >= PAIRS_MIN,
        "{} pairs give no 95 % interval; ask for {PAIRS_MIN} or more",
        arguments.pairs
    );
    let named = |bench| wanted.iter().any(|(name, _)| *name == bench);
    let needs_server = wanted.iter().any(|(name, _)| *name != "access");
    let mut tools = match needs_server {
        true => vec![crate::tools::MOSQUITTO, crate::tools::OPENSSL],
        false => Vec::new(),
    };
    let asks_rumqttd = (arguments.only.as_deref()).is_none_or(|only| only == "rumqttd");
    if named("handshake") || (named("gateway") && asks_rumqttd) {
        tools.push(crate::tools::RUMQTTD);
    }
    if named("revoke") && crate::tools::is_root() {
        tools.push(crate::tools::TCPDUMP);
    }
    if named("issue") {
        tools.extend([crate::tools::CFSSL, crate::tools::PYTHON]);
    }
    crate::tools::ensure(root, &tools)?;
    let ours = if arguments.against_itself {
        Kind::Mosquitto
    } else {
        Kind::Fleetward
    };
    if !arguments.no_build && needs_server {
        load::build(root)?;
        if named("agent") {
            crate::steps::cargo(root, &["build", "--release", "--locked", "-p", "agent"])?;
        }
        if ours == Kind::Fleetward {
            server::build(root)?;
        }
    }
    let setting = Setting {
        scratch: server::Scratch::new()?,
        ours,
        pairs: arguments.pairs,
        seconds: arguments.seconds,
        sessions: arguments.sessions,
        idle_seconds: arguments.idle_seconds,
        revoke_sessions: arguments.revoke_sessions,
        revocations: arguments.revocations,
        contain_sessions: arguments.contain_sessions,
        stored: arguments.stored,
        durability: arguments.durability,
        only: arguments.only.clone(),
    };
    let (mut figures, mut without) = (Vec::new(), Vec::new());
    for (name, bench) in wanted {
        eprintln!("bench {name}");
        let before = Machine::look();
        let found = match bench(&setting) {
            Ok(found) => found,
            // What the others find is worth no less for it.
            Err(error) => {
                eprintln!("bench {name} has no figure: {error:#}");
                without.push(*name);
                continue;
            }
        };
        let others = (before.zip(Machine::look()))
            .map(|(before, after)| after.used_by_others_since(&before));
        for mut figure in found {
            figure.machine_used_by_others = others.map(figure::round);
            println!("{}", serde_json::to_string(&figure)?);
            figures.push(figure);
        }
    }
    println!("\n{}", figure::table(&figures));
    for line in figures.iter().filter_map(Figure::verdict) {
        println!("{line}");
    }
    ensure!(without.is_empty(), "no figure of {}", without.join(", "));
    Ok(())
}

/// A full mutual-TLS handshake with its CONNECT and CONNACK, no resumption: against two peers;
/// the hybrid key exchange against the classic one, and by tickets against without, both of ours.
fn handshake(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    const DEVICES: usize = 100;
    // Of ours alone few at once: at the rate that many reach, it says "busy" to some.
    const FEW: usize = 2;
    let scenario = |at_once, key_exchange, resume| Scenario::Handshakes {
        devices: DEVICES,
        at_once,
        seconds: setting.seconds,
        key_exchange,
        resume,
    };
    let each = |server: &Server, at_once, key_exchange| {
        let whole = scenario(at_once, key_exchange, false);
        cpu_micros_each(server, &whole, |outcome| outcome.connected)
    };
    let mut figures = Vec::new();
    for (peer, goal) in [(Kind::Mosquitto, 0.25), (Kind::Rumqttd, 0.55)] {
        let name = Name {
            bench: "handshake",
            figure: "server CPU per handshake and CONNECT",
            unit: "µs",
            goal: Some(goal),
            durability: "none",
        };
        let run = |server: &Server| Ok([each(server, 32, "all")?]);
        figures.extend(setting.compare(peer, [name], DEVICES, run)?);
    }
    if setting.ours == Kind::Fleetward {
        let name = Name {
            bench: "handshake",
            figure: "server CPU, X25519MLKEM768 against X25519 of ours",
            unit: "µs",
            goal: Some(1.2),
            durability: "none",
        };
        let run = |key_exchange| {
            Ok([each(
                &setting.start(Kind::Fleetward, DEVICES)?,
                FEW,
                key_exchange,
            )?])
        };
        let [found] = paired(setting.pairs, || run("hybrid"), || run("classic"))?;
        figures.push(Figure::compared(name, "fleetward, X25519", &found));
        let name = Name {
            bench: "handshake",
            figure: "server CPU, by a ticket against the whole, both ours",
            unit: "µs",
            goal: None,
            durability: "none",
        };
        let by_ticket = || {
            let (scratch, durability) = (&setting.scratch, setting.durability);
            let server = Server::fleetward_giving_tickets(scratch, DEVICES, durability)?;
            let run = Load::new(&server, &scenario(FEW, "all", true)).run(|| server.cpu())?;
            let Outcome {
                connected, resumed, ..
            } = run.outcome;
            ensure!(
                resumed >= connected / 10 * 9,
                "of {connected} connections {resumed} came by a ticket"
            );
            Ok([cpu_micros_of(&run, |outcome| outcome.connected)?])
        };
        let whole = || Ok([each(&setting.start(Kind::Fleetward, DEVICES)?, FEW, "all")?]);
        let [found] = paired(setting.pairs, by_ticket, whole)?;
        figures.push(Figure::compared(
            name,
            "fleetward, whole handshakes",
            &found,
        ));
    }
    Ok(figures)
}

/// Certificates over the API, 8 requests at a time, each on record before it is answered: against a
/// CA that keeps a row of each on disk, against the same CA when it keeps nothing, and with a thousand
/// and with a million of them stored. What a machine without counters cannot say in instructions is
/// said in CPU time.
fn issue(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    const IN_FLIGHT: usize = 8;
    const STORED_FEW: u32 = 1000;
    if setting.ours == Kind::Mosquitto {
        bail!("mosquitto issues no certificates; leave out --against-itself");
    }
    let each = |server: &Server| {
        let load = Load::issuing(&server.api(), IN_FLIGHT, setting.seconds);
        let run = load.run(|| server.cpu())?;
        let issued = run.outcome.issued;
        ensure!(issued > 0, "no certificate came: {:?}", run.outcome);
        if let Some(records) = server.records()? {
            ensure!(records >= issued, "{issued} came, {records} on record");
        }
        let micros = run.after.since(&run.before)? / issued as f64;
        eprintln!(
            "  {micros:.0} µs of CPU a certificate, {:.0} a second, p50 {:.1} ms ({})",
            issued as f64 / f64::from(setting.seconds),
            run.outcome.latency_p50_us.unwrap_or(f64::NAN) / 1000.0,
            server.account()
        );
        Ok([micros])
    };
    let name = |figure, goal| Name {
        bench: "issue",
        figure,
        unit: "µs",
        goal,
        durability: Durability::Power.name(),
    };
    let ours = || each(&Server::fleetward(&setting.scratch, 1, Durability::Power)?);
    let mut figures = Vec::new();
    // One who writes nothing down does less: that ratio is told, the goal is for the same work.
    for (keeps, how, goal) in [
        (Keeps::Records, "keeping a row on disk", Some(0.35)),
        (Keeps::Nothing, "keeping nothing", None),
    ] {
        let [found] = paired(setting.pairs, ours, || {
            each(&Server::cfssl(&setting.scratch, keeps)?)
        })?;
        let peer = format!("{}, {how}", server::version_of(Kind::Cfssl)?);
        let figure = "server CPU per certificate, on record, 8 in flight";
        figures.push(Figure::compared(name(figure, goal), &peer, &found));
    }
    let many = Server::fleetward_storing(&setting.scratch, setting.stored)?;
    let few = Server::fleetward_storing(&setting.scratch, STORED_FEW)?;
    // What a start leaves to be read for the first time is no part of the question.
    for server in [&many, &few] {
        each(server)?;
    }
    let [growth] = paired(setting.pairs, || each(&many), || each(&few))?;
    let figure = "server CPU per certificate, many stored against 1,000";
    let peer = "fleetward, 1,000 stored";
    figures.push(Figure::compared(name(figure, Some(1.15)), peer, &growth));
    Ok(figures)
}

impl Setting {
    /// Every run has a fresh server: what one leaves behind must not help or hurt the next.
    fn compare<const MEASURES: usize>(
        &self,
        peer: Kind,
        names: [Name; MEASURES],
        devices: usize,
        measure: impl Fn(&Server) -> anyhow::Result<[f64; MEASURES]>,
    ) -> anyhow::Result<Vec<Figure>> {
        let run = |kind| {
            let server = self.start(kind, devices)?;
            let values = measure(&server)?;
            for (name, value) in names.iter().zip(&values) {
                eprintln!(
                    "  {}: {value:.1} {} ({}; CPU by {})",
                    kind.name(),
                    name.unit,
                    name.figure,
                    server.account()
                );
            }
            Ok(values)
        };
        self.compare_starting(peer, names, run)
    }

    /// As [`Self::compare`], of what starts its servers by itself.
    fn compare_starting<const MEASURES: usize>(
        &self,
        peer: Kind,
        names: [Name; MEASURES],
        run: impl Fn(Kind) -> anyhow::Result<[f64; MEASURES]>,
    ) -> anyhow::Result<Vec<Figure>> {
        let found = paired(self.pairs, || run(self.ours), || run(peer))?;
        let version = server::version_of(peer)?;
        let figures = names.into_iter().zip(&found);
        Ok(figures
            .map(|(name, found)| Figure::compared(name, &version, found))
            .collect())
    }

    fn start(&self, kind: Kind, devices: usize) -> anyhow::Result<Server> {
        match kind {
            Kind::Fleetward => Server::fleetward(&self.scratch, devices, self.durability),
            Kind::Mosquitto | Kind::MosquittoPersistent => {
                Server::mosquitto(&self.scratch, devices, kind)
            }
            Kind::Rumqttd => Server::rumqttd(&self.scratch, devices),
            Kind::Forwarder => Server::forwarder(&self.scratch, devices),
            Kind::Cfssl => Server::cfssl(&self.scratch, Keeps::Records),
        }
    }
}

/// CPU of the server while the load measures, per thing done.
fn cpu_micros_each(
    server: &Server,
    scenario: &Scenario,
    done: impl Fn(&Outcome) -> u64,
) -> anyhow::Result<f64> {
    cpu_micros_of(&Load::new(server, scenario).run(|| server.cpu())?, done)
}

fn cpu_micros_of(run: &Run<cpu::Reading>, done: impl Fn(&Outcome) -> u64) -> anyhow::Result<f64> {
    let done = done(&run.outcome);
    ensure!(done > 0, "the load got nothing done: {:?}", run.outcome);
    // Said, not hidden: a lagging generator measures itself, and beyond its capacity a server may
    // still be delivering at the end.
    let lag_millis = run.outcome.generator_lag_p99_us.unwrap_or(0.0) / 1000.0;
    if lag_millis > 100.0 {
        eprintln!("  doubtful: the load generator was {lag_millis:.0} ms late; a quieter machine?");
    }
    if run.outcome.lost > 0 {
        eprintln!(
            "  {} acknowledged messages were not delivered",
            run.outcome.lost
        );
    }
    Ok(run.after.since(&run.before)? / done as f64)
}
