//! `cargo xtask bench gateway`: what a message, a delivery, a connection and its silence cost.

use super::figure::{Figure, Name};
use super::load::{Load, Scenario};
use super::server::{Durability, Kind, Server};
use super::{Setting, cpu_micros_each, cpu_micros_of};
use anyhow::{Context, ensure};
use std::path::Path;

/// Connections between which the memory of one is found: the difference knows nothing of what a
/// server holds by itself.
const IDLE: (usize, usize) = (1_000, 9_900);
/// Connections that come at once.
const STORM: usize = 2_000;

pub fn bench(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let name = |figure, unit, goal| Name {
        bench: "gateway",
        figure,
        unit,
        goal: Some(goal),
        durability: setting.durability.name(),
    };
    let publish = |rate_per_second, arrivals| publishing(setting, rate_per_second, arrivals);
    let mut figures = Vec::new();

    // No two at once is the hardest that a rate can be: each message wakes the server. Devices do not
    // agree on that, so both are told.
    for (arrivals, [cpu, latency]) in [
        (
            "even",
            [
                "server CPU per delivered message, 5,000/s evenly apart",
                "from due to delivered, p99, 5,000/s evenly apart",
            ],
        ),
        (
            "own",
            [
                "server CPU per delivered message, 5,000/s by the devices' own clocks",
                "from due to delivered, p99, 5,000/s by the devices' own clocks",
            ],
        ),
    ] {
        let names = [name(cpu, "µs", 0.6), name(latency, "µs", 1.25)];
        figures.extend(
            setting.compare(Kind::Mosquitto, names, setting.sessions, |server| {
                let run = Load::new(server, &publish(5_000, arrivals)).run(|| server.cpu())?;
                let latency = run
                    .outcome
                    .latency_p99_us
                    .context("nothing was delivered")?;
                let micros = cpu_micros_of(&run, |outcome| outcome.window_delivered)?;
                Ok([micros, latency])
            })?,
        );
    }

    let names = [name(
        "server CPU per delivered message, 30,000/s offered",
        "µs",
        0.5,
    )];
    figures.extend(
        setting.compare(Kind::Mosquitto, names, setting.sessions, |server| {
            let run = Load::new(server, &publish(30_000, "even")).run(|| server.cpu())?;
            let ours = server.socket.is_some();
            ensure!(
                !ours || run.outcome.lost == 0,
                "{} acknowledged and lost",
                run.outcome.lost
            );
            Ok([cpu_micros_of(&run, |outcome| outcome.window_delivered)?])
        })?,
    );

    figures.extend(against_rumqttd(setting)?);
    figures.extend(stored(setting)?);

    let names = [name(
        "server CPU per delivery, one message to 1,000",
        "µs",
        0.55,
    )];
    let fan_out = Scenario::FanOut {
        devices: 1_000,
        rate_per_second: 20,
        seconds: setting.seconds,
        payload_bytes: 128,
    };
    figures.extend(setting.compare(Kind::Mosquitto, names, 1_000, |server| {
        Ok([cpu_micros_each(server, &fan_out, |outcome| {
            outcome.window_delivered
        })?])
    })?);

    let names = [name("server CPU per connection, 2,000 at once", "µs", 0.3)];
    let storm = Scenario::Idle {
        devices: STORM,
        at_once: STORM,
        idle_seconds: 1,
    };
    figures.extend(setting.compare(Kind::Mosquitto, names, STORM, |server| {
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
    })?);

    figures.extend(idle(setting)?);
    Ok(figures)
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
fn publishing(setting: &Setting, rate_per_second: u32, arrivals: &'static str) -> Scenario {
    Scenario::Publish {
        devices: setting.sessions,
        rate_per_second,
        arrivals,
        seconds: setting.seconds,
        payload_bytes: 128,
        lasting: false,
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
        let scenario = publishing(setting, rate_per_second, "even");
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
