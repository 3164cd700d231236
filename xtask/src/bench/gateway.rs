//! `cargo xtask bench gateway`: what a message, a delivery, a connection and its silence cost.

use super::figure::{Figure, Name};
use super::load::{Load, Scenario};
use super::paired::paired;
use super::server::{Durability, Kind, Server};
use super::{Setting, cpu_micros_each, cpu_micros_of};
use anyhow::{Context, ensure};
use std::path::Path;

/// Connections between which the memory of one is found: the difference knows nothing of what a
/// server holds by itself.
const IDLE: (usize, usize) = (1_000, 9_900);
/// Connections that come at once.
const STORM: usize = 2_000;

/// Each by itself, in this order.
const PARTS: [(&str, Part); 13] = [
    ("paced-even", paced_even),
    ("paced-own", paced_own),
    ("paced-ticks", paced_ticks),
    ("offered", offered),
    ("rumqttd", against_rumqttd),
    ("stored", stored),
    ("fan-out", fan_out),
    ("storm", storm),
    ("storm-hybrid", storm_hybrid),
    ("idle", idle),
    ("contract", contract),
    ("machine", machine),
    ("floor", floor),
];

type Part = fn(&Setting) -> anyhow::Result<Vec<Figure>>;

/// # Errors
/// There is no such part; with those that there are.
pub fn check_part(only: &str) -> anyhow::Result<()> {
    let names = PARTS.map(|(name, _)| name);
    ensure!(
        names.contains(&only),
        "no part {only:?} of gateway; there are {}",
        names.join(", ")
    );
    Ok(())
}

pub fn bench(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, part) in PARTS {
        if (setting.only.as_deref()).is_none_or(|only| only == name) {
            eprintln!("  {name}");
            figures.extend(part(setting)?);
        }
    }
    Ok(figures)
}

/// No two at once is the hardest that a rate can be: each message wakes the server. Devices do not
/// agree on that: told are three ways.
fn paced_even(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    paced(
        setting,
        "even",
        "server CPU per delivered message, 5,000/s evenly apart",
        "from due to delivered, p99, 5,000/s evenly apart",
    )
}

fn paced_own(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    paced(
        setting,
        "own",
        "server CPU per delivered message, 5,000/s by the devices' own clocks",
        "from due to delivered, p99, 5,000/s by the devices' own clocks",
    )
}

/// Timers of small devices count in milliseconds, and so did the generator by which the goal was found.
fn paced_ticks(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    paced(
        setting,
        "ticks",
        "server CPU per delivered message, 5,000/s, five at each millisecond",
        "from due to delivered, p99, 5,000/s, five at each millisecond",
    )
}

fn paced(
    setting: &Setting,
    arrivals: &'static str,
    cpu: &'static str,
    latency: &'static str,
) -> anyhow::Result<Vec<Figure>> {
    let names = [
        name(setting, cpu, "µs", 0.6),
        name(setting, latency, "µs", 1.25),
    ];
    let scenario = publishing(setting, 5_000, arrivals, "up");
    setting.compare(Kind::Mosquitto, names, setting.sessions, |server| {
        let run = Load::new(server, &scenario).run(|| server.cpu())?;
        let latency = run.outcome.latency_p99_us;
        let latency = latency.context("nothing was delivered")?;
        let micros = cpu_micros_of(&run, |outcome| outcome.window_delivered)?;
        Ok([micros, latency])
    })
}

fn offered(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let figure = "server CPU per delivered message, 30,000/s offered";
    let names = [name(setting, figure, "µs", 0.5)];
    let scenario = publishing(setting, 30_000, "even", "up");
    setting.compare(Kind::Mosquitto, names, setting.sessions, |server| {
        Ok([delivered_micros(server, &scenario)?])
    })
}

/// Per delivered message; ours may lose none that it acknowledged.
fn delivered_micros(server: &Server, scenario: &Scenario) -> anyhow::Result<f64> {
    let run = Load::new(server, scenario).run(|| server.cpu())?;
    let ours = server.socket.is_some();
    ensure!(
        !ours || run.outcome.lost == 0,
        "{} acknowledged and lost",
        run.outcome.lost
    );
    cpu_micros_of(&run, |outcome| outcome.window_delivered)
}

fn fan_out(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let figure = "server CPU per delivery, one message to 1,000";
    let names = [name(setting, figure, "µs", 0.55)];
    let scenario = Scenario::FanOut {
        devices: 1_000,
        rate_per_second: 20,
        seconds: setting.seconds,
        payload_bytes: 128,
    };
    setting.compare(Kind::Mosquitto, names, 1_000, |server| {
        Ok([cpu_micros_each(server, &scenario, |outcome| {
            outcome.window_delivered
        })?])
    })
}

/// By the key exchange that both have.
fn storm(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let figure = "server CPU per connection, 2,000 at once, X25519";
    storm_by(setting, "classic", name(setting, figure, "µs", 0.3))
}

/// As clients come that offer both: ours takes X25519MLKEM768, which Mosquitto does not have. What is
/// compared is not the same work, so there is no goal.
fn storm_hybrid(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let figure = "server CPU per connection, 2,000 at once, X25519MLKEM768 with ours";
    storm_by(
        setting,
        "all",
        Name {
            goal: None,
            ..name(setting, figure, "µs", 0.0)
        },
    )
}

fn storm_by(
    setting: &Setting,
    key_exchange: &'static str,
    name: Name,
) -> anyhow::Result<Vec<Figure>> {
    let storm = Scenario::Idle {
        devices: STORM,
        at_once: STORM,
        key_exchange,
        idle_seconds: 1,
    };
    setting.compare(Kind::Mosquitto, [name], STORM, |server| {
        let before = syns_sent_again()?;
        let run = Load::new(server, &storm).run(|| server.cpu())?;
        let connected = run.outcome.connected;
        ensure!(
            connected == STORM as u64,
            "only {connected} of {STORM} connections stood"
        );
        let again = syns_sent_again()?.saturating_sub(before);
        if again > 0 {
            eprintln!("  {again} connections had to knock again");
        }
        ensure!(
            again == 0 || server.socket.is_none(),
            "{again} connections had to knock again"
        );
        Ok([run.before.since(&run.at_start)? / connected as f64])
    })
}

/// The same messages on a channel with a schema and on one without, at one server, in turns: what the
/// contract adds to a message.
fn contract(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    ensure!(
        setting.ours == Kind::Fleetward,
        "mosquitto knows no contracts; leave out --against-itself"
    );
    let server = setting.start(Kind::Fleetward, setting.sessions)?;
    let each = |channel| {
        let micros = delivered_micros(&server, &publishing(setting, 5_000, "own", channel))?;
        eprintln!("  {channel}: {micros:.1} µs ({})", server.account());
        anyhow::Ok([micros])
    };
    // What a start leaves to be done for the first time is no part of the question.
    each("up")?;
    let [found] = paired(setting.pairs, || each("told"), || each("up"))?;
    let figure = "server CPU per delivered message, with a schema against without, 5,000/s";
    let name = name(setting, figure, "µs", 3.0);
    let peer = "fleetward, a channel without a schema";
    Ok(vec![Figure::added(name, peer, &found)])
}

/// The session machine in one process, without sockets and TLS, as its room measures it.
fn machine(_: &Setting) -> anyhow::Result<Vec<Figure>> {
    const FIGURES: [(&str, &str, Option<f64>); 7] = [
        ("a message, live consumer", "µs", None),
        ("a message, stored session", "µs", None),
        ("a message, JSON without a schema", "µs", None),
        ("a message, JSON with a schema", "µs", None),
        ("what a schema adds to a message", "µs", Some(3.0)),
        ("allocations of 1,000 messages", "", Some(0.0)),
        ("a message, CBOR with a schema", "µs", None),
    ];
    let arguments = [
        "test",
        "--release",
        "--locked",
        "-p",
        "gateway",
        "--test",
        "it",
        "--",
        "--ignored",
        "--exact",
        "--nocapture",
        "timing::figures_of_the_machine",
    ];
    super::access::printed("gateway", &arguments, &FIGURES)
}

/// How far from the least that this machine asks for a message: a loop over plain TCP that reads and
/// writes as often and does nothing else.
fn floor(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (rate_per_second, figure) in [
        (
            5_000,
            "server CPU per delivered message, 5,000/s evenly apart",
        ),
        (30_000, "server CPU per delivered message, 30,000/s offered"),
    ] {
        let names = [name(setting, figure, "µs", 1.6)];
        let scenario = publishing(setting, rate_per_second, "even", "up");
        figures.extend(
            setting.compare(Kind::Forwarder, names, setting.sessions, |server| {
                Ok([delivered_micros(server, &scenario)?])
            })?,
        );
    }
    Ok(figures)
}

fn name(setting: &Setting, figure: &'static str, unit: &'static str, goal: f64) -> Name {
    Name {
        bench: "gateway",
        figure,
        unit,
        goal: Some(goal),
        durability: setting.durability.name(),
    }
}

/// What a connection holds that says nothing.
fn idle(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let names = [Name {
        bench: "gateway",
        figure: "memory per idle connection (proportional set)",
        unit: "kB",
        goal: Some(0.35),
        durability: "none",
    }];
    let (few, many) = IDLE;
    let kilobytes = |kind, devices| {
        let server = setting.start(kind, many)?;
        let idle = Scenario::Idle {
            devices,
            at_once: 32,
            key_exchange: "classic",
            idle_seconds: setting.idle_seconds,
        };
        let run = Load::new(&server, &idle).run(|| server.proportional_kilobytes())?;
        let connected = run.outcome.connected;
        ensure!(
            connected == devices as u64,
            "only {connected} of {devices} connections stood"
        );
        anyhow::Ok(run.before)
    };
    let slope = |kind: Kind| {
        let each = (kilobytes(kind, many)? - kilobytes(kind, few)?) / (many - few) as f64;
        eprintln!("  {}: {each:.2} kB", kind.name());
        Ok([each])
    };
    setting.compare_starting(Kind::Mosquitto, names, slope)
}

/// From all devices to one consumer whose session is clean.
fn publishing(
    setting: &Setting,
    rate_per_second: u32,
    arrivals: &'static str,
    channel: &'static str,
) -> Scenario {
    Scenario::Publish {
        devices: setting.sessions,
        rate_per_second,
        arrivals,
        seconds: setting.seconds,
        payload_bytes: 128,
        lasting: false,
        channel,
    }
}

/// It asks no access list and no revocation list: it does less.
fn against_rumqttd(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (rate_per_second, figure) in [
        (
            5_000,
            "server CPU per delivered message, 5,000/s evenly apart",
        ),
        (30_000, "server CPU per delivered message, 30,000/s offered"),
    ] {
        let names = [Name {
            bench: "gateway",
            figure,
            unit: "µs",
            goal: Some(1.0),
            durability: setting.durability.name(),
        }];
        let scenario = publishing(setting, rate_per_second, "even", "up");
        let each = |server: &Server| {
            Ok([cpu_micros_each(server, &scenario, |outcome| {
                outcome.window_delivered
            })?])
        };
        figures.extend(setting.compare(Kind::Rumqttd, names, setting.sessions, each)?);
    }
    Ok(figures)
}

/// To a consumer whose session lasts. An acknowledgement of ours outlives a power cut here; what
/// Mosquitto acknowledged is on disk up to a second later. So there is no goal.
fn stored(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let scenario = Scenario::Publish {
        devices: setting.sessions,
        rate_per_second: 5_000,
        arrivals: "even",
        seconds: setting.seconds,
        payload_bytes: 128,
        lasting: true,
        channel: "up",
    };
    let names = [Name {
        bench: "gateway",
        figure: "server CPU per delivered message, 5,000/s to a stored session",
        unit: "µs",
        goal: None,
        durability: Durability::Power.name(),
    }];
    let run = |kind| {
        let server = match kind {
            Kind::Fleetward => {
                Server::fleetward(&setting.scratch, setting.sessions, Durability::Power)?
            }
            other => setting.start(other, setting.sessions)?,
        };
        let micros = cpu_micros_each(&server, &scenario, |outcome| outcome.window_delivered)?;
        eprintln!("  {}: {micros:.1} µs", kind.name());
        Ok([micros])
    };
    setting.compare_starting(Kind::MosquittoPersistent, names, run)
}

/// Connection requests of this machine that nobody answered in time, so that they were repeated.
fn syns_sent_again() -> anyhow::Result<u64> {
    let path = Path::new("/proc/net/netstat");
    let text = std::fs::read_to_string(path).context("cannot read /proc/net/netstat")?;
    counter_of(&text, "TcpExt:", "TCPSynRetrans").context("no TCPSynRetrans in /proc/net/netstat")
}

/// The file has a line of names and a line of values for each group.
fn counter_of(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let place = lines
        .next()?
        .split_whitespace()
        .position(|found| found == name)?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stands_under_its_name() {
        let text = "TcpExt: SyncookiesSent TCPSynRetrans X\nTcpExt: 3 41 5\nIpExt: A\nIpExt: 9\n";
        assert_eq!(counter_of(text, "TcpExt:", "TCPSynRetrans"), Some(41));
        assert_eq!(counter_of(text, "TcpExt:", "Nothing"), None);
        assert_eq!(counter_of(text, "IpExt:", "A"), Some(9));
    }
}
