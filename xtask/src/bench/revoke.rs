//! Live revocation: devices one after the other, then all of one CA at once. Mosquitto cannot do
//! this to a live session, so ours stands alone. A revocation is on record, so it outlives a power
//! cut.
//!
//! Three clocks tell of each: the server's receipt, the devices', and a capture from outside, which
//! must not contradict the receipt.

use super::Setting;
use super::capture::{Capture, Sent};
use super::figure::{Figure, Name};
use super::load::{Load, Outcome, Revocation, Scenario, Withdrawn};
use super::paired::quantile;
use super::server::{Durability, Kind, Server};
use anyhow::{Context, bail, ensure};

const RATE_PER_SECOND: u32 = 5_000;
/// Of one core: beyond it a queue would be measured and not a revocation.
const BUSY_MAX: f64 = 0.6;
/// Receipt and capture may differ by so much, and a withdrawal may take as long.
const GOAL_MILLIS: f64 = 5.0;

pub fn bench(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    if setting.ours == Kind::Mosquitto {
        bail!("mosquitto has no live revocation to measure; leave out --against-itself");
    }
    let mut figures = one_by_one(setting).context("devices one by one")?;
    figures.extend(whole_ca(setting).context("a whole CA")?);
    Ok(figures)
}

fn one_by_one(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let devices = setting.revoke_sessions;
    let server = Server::fleetward(&setting.scratch, devices, Durability::Power)?;
    let scenario = Scenario::Revoke {
        devices,
        rate_per_second: RATE_PER_SECOND,
        // 50 ms each.
        seconds: u32::try_from(setting.revocations.div_ceil(20))?,
        what: Withdrawn::Devices(setting.revocations),
    };
    let (outcome, sent) = run(setting, &server, &scenario)?;
    let revocations = &outcome.revocations;
    ensure!(
        revocations.len() == setting.revocations,
        "{} of {} revocations were made",
        revocations.len(),
        setting.revocations
    );
    figures(&ONE_BY_ONE, revocations, sent.as_ref())
}

/// Sessions of a named issuing CA beside a tenth as many of another, which must stay.
fn whole_ca(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let of_line = setting.revoke_sessions;
    let beside = (of_line / 10).max(1);
    let server = Server::fleetward_with_line(&setting.scratch, beside, of_line, Durability::Power)?;
    let scenario = Scenario::Revoke {
        devices: beside + of_line,
        rate_per_second: RATE_PER_SECOND,
        seconds: 6,
        what: Withdrawn::Issuer(server.issuer_of_line()?),
    };
    let (outcome, sent) = run(setting, &server, &scenario)?;
    let [all] = outcome.revocations.as_slice() else {
        bail!(
            "{} revocations were made, not one",
            outcome.revocations.len()
        );
    };
    ensure!(
        all.connections == of_line,
        "{} of {of_line} devices of the CA were connected",
        all.connections
    );
    eprintln!("  {of_line} sessions of the CA ended, {beside} of another were not touched");
    figures(&WHOLE_CA, &outcome.revocations, sent.as_ref())
}

/// Runs the load under a capture. What the load says was refused or cut off beside the revoked, or
/// was left open, is no figure but an error.
fn run(
    setting: &Setting,
    server: &Server,
    scenario: &Scenario,
) -> anyhow::Result<(Outcome, Option<Sent>)> {
    let capture = if crate::tools::is_root() {
        Some(Capture::start(
            server.address.port(),
            setting.scratch.folder(),
        )?)
    } else {
        eprintln!("  skipped: the capture from outside needs root");
        None
    };
    let run = Load::new(server, scenario).run(|| server.cpu())?;
    let sent = capture.map(Capture::end).transpose()?;
    let outcome = run.outcome;
    let busy = run.after.since(&run.before)? / (outcome.lasted_seconds * 1e6);
    eprintln!(
        "  {} live sessions, {RATE_PER_SECOND} messages/s: {:.0} % of a core ({}); the generator \
         was {:.1} ms late in 1 of 100 messages",
        outcome.connected,
        busy * 100.0,
        server.account(),
        outcome.generator_lag_p99_us.unwrap_or(0.0) / 1000.0,
    );
    ensure!(
        busy <= BUSY_MAX,
        "the server was busy beyond what this bench offers; a quieter machine?"
    );
    for one in &outcome.revocations {
        if let Some(why) = &one.refused {
            bail!("{} was not revoked: {why}", one.what);
        }
        ensure!(
            one.not_closed.is_empty(),
            "{} device(s) of {} saw no end of their connection, {} of them has the plane still \
             connected: {:?}",
            one.not_closed.len(),
            one.what,
            one.left_open.len(),
            one.not_closed.first()
        );
        ensure!(
            one.sessions_closed == Some(one.connections),
            "{}: the receipt tells of {:?} sessions, {} were open",
            one.what,
            one.sessions_closed,
            one.connections
        );
    }
    ensure!(
        outcome.lost == 0,
        "{} messages were acknowledged and not delivered",
        outcome.lost
    );
    Ok((outcome, sent))
}

/// What is said of revocations: a name, which share of all it stands for, its goal; in
/// milliseconds.
struct Told {
    at: &'static [(&'static str, f64, Option<f64>)],
    /// Microseconds; `None`: it cannot be told.
    of: fn(&Revocation, Option<&Ends>) -> Option<f64>,
    /// Only a capture tells it.
    from_outside: bool,
}

/// The ends of one revocation's connections in a capture; microseconds since 1970.
struct Ends {
    last_accepted: Option<u64>,
    last_closed: u64,
}

const ONE_BY_ONE: [Told; 7] = [
    Told {
        at: &[
            (
                "request parsed to last packet accepted, p50",
                0.5,
                Some(1.0),
            ),
            (
                "request parsed to last packet accepted, p99",
                0.99,
                Some(GOAL_MILLIS),
            ),
        ],
        of: |one, _| one.in_force_after_micros,
        from_outside: false,
    },
    Told {
        at: &[
            ("request parsed to socket closed, p50", 0.5, None),
            ("request parsed to socket closed, p99", 0.99, None),
        ],
        of: |one, _| one.closed_after_micros,
        from_outside: false,
    },
    Told {
        at: &[
            ("request parsed to recorded, p50", 0.5, None),
            ("request parsed to recorded, p99", 0.99, None),
        ],
        of: |one, _| one.recorded_after_micros,
        from_outside: false,
    },
    Told {
        at: &[(
            "acceptance on the wire after the receipt's moment, most",
            1.0,
            Some(GOAL_MILLIS),
        )],
        of: accepted_behind_receipt,
        from_outside: true,
    },
    Told {
        at: &[
            ("end on the wire against the receipt's, p99", 0.99, None),
            (
                "end on the wire against the receipt's, most",
                1.0,
                Some(GOAL_MILLIS),
            ),
        ],
        of: closed_against_receipt,
        from_outside: true,
    },
    Told {
        at: &[
            (
                "request sent to last acceptance at the device, p50",
                0.5,
                None,
            ),
            (
                "request sent to last acceptance at the device, p99",
                0.99,
                None,
            ),
        ],
        // Before the request is as good as at once.
        of: |one, _| Some(one.last_accepted_us.unwrap_or(0.0).max(0.0)),
        from_outside: false,
    },
    Told {
        at: &[
            ("request sent to end at the device, p50", 0.5, None),
            ("request sent to end at the device, p99", 0.99, None),
        ],
        of: |one, _| one.closed_us,
        from_outside: false,
    },
];

const WHOLE_CA: [Told; 6] = [
    Told {
        at: &[(
            "a whole CA: request parsed to last packet accepted",
            1.0,
            Some(GOAL_MILLIS),
        )],
        of: |one, _| one.in_force_after_micros,
        from_outside: false,
    },
    Told {
        at: &[(
            "a whole CA: request parsed to last socket closed",
            1.0,
            Some(1000.0),
        )],
        of: |one, _| one.closed_after_micros,
        from_outside: false,
    },
    Told {
        at: &[("a whole CA: request parsed to recorded", 1.0, None)],
        of: |one, _| one.recorded_after_micros,
        from_outside: false,
    },
    Told {
        at: &[(
            "a whole CA: acceptance on the wire after the receipt's moment",
            1.0,
            Some(GOAL_MILLIS),
        )],
        of: accepted_behind_receipt,
        from_outside: true,
    },
    Told {
        at: &[(
            "a whole CA: last end on the wire against the receipt's",
            1.0,
            Some(GOAL_MILLIS),
        )],
        of: closed_against_receipt,
        from_outside: true,
    },
    Told {
        at: &[(
            "a whole CA: request sent to last end at a device",
            1.0,
            None,
        )],
        of: |one, _| one.closed_us,
        from_outside: false,
    },
];

/// How long after the moment in the receipt a PUBACK was still on the wire.
fn accepted_behind_receipt(one: &Revocation, ends: Option<&Ends>) -> Option<f64> {
    let moment = one.in_force_at_unix_micros?;
    let behind = |last: u64| last.saturating_sub(moment) as f64;
    Some(ends?.last_accepted.map_or(0.0, behind))
}

fn closed_against_receipt(one: &Revocation, ends: Option<&Ends>) -> Option<f64> {
    let closing = one.closed_after_micros? - one.in_force_after_micros?;
    let moment = one.in_force_at_unix_micros? as f64 + closing;
    Some((ends?.last_closed as f64 - moment).abs())
}

fn figures(
    told: &[Told],
    revocations: &[Revocation],
    sent: Option<&Sent>,
) -> anyhow::Result<Vec<Figure>> {
    let ends = sent.map(|sent| ends_of(revocations, sent)).transpose()?;
    let mut figures = Vec::new();
    for told in told
        .iter()
        .filter(|told| sent.is_some() || !told.from_outside)
    {
        let millis: Option<Vec<f64>> = (0..)
            .zip(revocations)
            .map(|(number, one)| {
                let ends = ends.as_ref().and_then(|ends| ends.get::<usize>(number));
                (told.of)(one, ends).map(|micros| micros / 1000.0)
            })
            .collect();
        let millis = millis.with_context(|| format!("a revocation without {:?}", told.at))?;
        for (figure, share, goal) in told.at {
            let name = Name {
                bench: "revoke",
                figure,
                unit: "ms",
                goal: *goal,
                durability: Durability::Power.name(),
            };
            figures.push(Figure::alone(name, quantile(&millis, *share), millis.len()));
        }
    }
    Ok(figures)
}

/// # Errors
/// If a connection did not end on the wire, or nothing was ever accepted of one.
fn ends_of(revocations: &[Revocation], sent: &Sent) -> anyhow::Result<Vec<Ends>> {
    let mut all = Vec::with_capacity(revocations.len());
    for one in revocations {
        let mut found = Ends {
            last_accepted: None,
            last_closed: 0,
        };
        for port in &one.ports {
            let end = sent.end_of(*port).with_context(|| {
                format!(
                    "{}: the connection of port {port} has no end on the wire",
                    one.what
                )
            })?;
            found.last_accepted = found.last_accepted.max(end.last_accepted);
            found.last_closed = found.last_closed.max(end.closed);
        }
        ensure!(found.last_closed > 0, "{} has no port", one.what);
        // All of them publish until their end: a capture without would agree with anything.
        ensure!(
            found.last_accepted.is_some(),
            "{}: the capture shows no acceptance at all",
            one.what
        );
        all.push(found);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation() -> Revocation {
        Revocation {
            what: "device/d".into(),
            connections: 1,
            refused: None,
            sessions_closed: Some(1),
            in_force_after_micros: Some(200.0),
            closed_after_micros: Some(900.0),
            recorded_after_micros: Some(3000.0),
            in_force_at_unix_micros: Some(1_000_000),
            last_accepted_us: Some(-3.5),
            closed_us: Some(1000.0),
            not_closed: Vec::new(),
            left_open: Vec::new(),
            ports: vec![7],
        }
    }

    #[test]
    fn a_capture_that_contradicts_the_receipt_is_told() {
        let one = revocation();
        let ends = |last_accepted, last_closed| Ends {
            last_accepted,
            last_closed,
        };
        for (seen, behind, against) in [
            (ends(Some(999_000), 1_000_700), 0.0, 0.0),
            (ends(None, 1_000_700), 0.0, 0.0),
            (ends(Some(1_006_000), 1_000_200), 6000.0, 500.0),
            (ends(Some(1_006_000), 1_007_000), 6000.0, 6300.0),
        ] {
            assert_eq!(accepted_behind_receipt(&one, Some(&seen)), Some(behind));
            assert_eq!(closed_against_receipt(&one, Some(&seen)), Some(against));
        }
        assert_eq!(closed_against_receipt(&one, None), None);
    }

    #[test]
    fn without_a_capture_only_what_needs_it_is_left_out() {
        let outside = ONE_BY_ONE.iter().filter(|told| told.from_outside);
        let outside: usize = outside.map(|told| told.at.len()).sum();
        let all: usize = ONE_BY_ONE.iter().map(|told| told.at.len()).sum();
        let figures = figures(&ONE_BY_ONE, &[revocation()], None).unwrap();
        assert_eq!(figures.len(), all - outside);
        let lost = Revocation {
            closed_us: None,
            ..revocation()
        };
        let error = super::figures(&ONE_BY_ONE, &[lost], None).unwrap_err();
        assert!(error.to_string().contains("end at the device"), "{error}");
    }
}
