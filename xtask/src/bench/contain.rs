//! Quarantine and policy under load: devices cut off one after the other, many in one go, a policy
//! that takes from half of the fleet what it may send and gives it back, and that half quarantined in
//! one act. Mosquitto reads its
//! access list anew on a signal and answers nobody, so ours stands alone.
//!
//! The load judges each message by when it was sent: what was forbidden when an act was acknowledged
//! and passes after it, or is delivered, or anything else that is refused, is no figure but an error.

use super::Setting;
use super::figure::{Figure, Name};
use super::load::{Containment, Load, Outcome, Scenario};
use super::paired::quantile;
use super::server::{Durability, Kind, Server};
use anyhow::{bail, ensure};

const RATE_PER_SECOND: u32 = 5_000;
/// Of one core: beyond it a queue would be measured and not an act.
const BUSY_MAX: f64 = 0.6;
const ALONE: usize = 200;
const TOGETHER: usize = 100;
const CHANGES: usize = 10;
/// 200 quarantines at 50 ms, the rest behind them takes what it takes.
const SECONDS: u32 = 12;

pub fn bench(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    if setting.ours == Kind::Mosquitto {
        bail!("mosquitto has no quarantine to measure; leave out --against-itself");
    }
    let sessions = setting.contain_sessions;
    let of_line = sessions / 2;
    let server = Server::fleetward_with_line(
        &setting.scratch,
        sessions - of_line,
        of_line,
        Durability::Power,
    )?;
    let scenario = Scenario::Contain {
        devices: sessions,
        rate_per_second: RATE_PER_SECOND,
        seconds: SECONDS,
        alone: ALONE.min(sessions / 10),
        together: TOGETHER.min(sessions / 10),
        changes: CHANGES,
        fleet: server.fleet(),
    };
    let run = Load::new(&server, &scenario).run(|| server.cpu())?;
    let outcome = run.outcome;
    let busy = run.after.since(&run.before)? / (outcome.lasted_seconds * 1e6);
    eprintln!(
        "  {} live sessions, {RATE_PER_SECOND} messages/s: {:.0} % of a core ({}); the generator \
         was {:.1} ms late in 1 of 100 messages; {} messages refused as they had to be",
        outcome.connected,
        busy * 100.0,
        server.account(),
        outcome.generator_lag_p99_us.unwrap_or(0.0) / 1000.0,
        outcome.withheld,
    );
    ensure!(
        busy <= BUSY_MAX,
        "the server was busy beyond what this bench offers; a quieter machine?"
    );
    figures(&outcome)
}

/// What is said of acts of one kind: (kind, figure, share of all, goal); in milliseconds.
const TOLD: [(&str, &str, f64, Option<f64>); 8] = [
    (
        "one-device",
        "quarantine of one device, asked to acknowledged, p50",
        0.5,
        None,
    ),
    (
        "one-device",
        "quarantine of one device, asked to acknowledged, p99",
        0.99,
        Some(1000.0),
    ),
    (
        "devices",
        "quarantine of 100 devices, a request each, first asked to last acknowledged",
        1.0,
        // Not one act.
        None,
    ),
    (
        "policy-takes",
        "policy that takes from half of the fleet, asked to acknowledged, p50",
        0.5,
        None,
    ),
    (
        "policy-takes",
        "policy that takes from half of the fleet, asked to acknowledged, most",
        1.0,
        Some(1000.0),
    ),
    (
        "policy-gives",
        "policy that gives it back, asked to acknowledged, p50",
        0.5,
        None,
    ),
    (
        "policy-gives",
        "policy that gives it back, asked to acknowledged, most",
        1.0,
        Some(1000.0),
    ),
    (
        "product",
        "quarantine of half of the fleet in one act, asked to acknowledged",
        1.0,
        Some(1000.0),
    ),
];

fn figures(outcome: &Outcome) -> anyhow::Result<Vec<Figure>> {
    for one in &outcome.containments {
        if let Some(why) = &one.refused {
            bail!("an act ({}) was not carried out: {why}", one.what);
        }
        // Without messages after it, nothing was shown of an act.
        ensure!(
            one.sent_after > 0,
            "nothing was sent after an act ({}) was acknowledged",
            one.what
        );
    }
    ensure!(outcome.withheld > 0, "no message was ever refused");
    ensure!(
        outcome.lost == 0,
        "{} messages were acknowledged and not delivered",
        outcome.lost
    );
    let of = |kind: &str| -> Vec<&Containment> {
        let acts = outcome.containments.iter();
        acts.filter(|one| one.what == kind).collect()
    };
    let mut figures = Vec::new();
    for (kind, figure, share, goal) in TOLD {
        let acts = of(kind);
        ensure!(!acts.is_empty(), "no act was a {kind}");
        let millis: Vec<f64> = acts
            .iter()
            .map(|one| one.acknowledged_us / 1000.0)
            .collect();
        let name = Name {
            bench: "contain",
            figure,
            unit: "ms",
            goal,
            durability: Durability::Power.name(),
        };
        figures.push(Figure::alone(name, quantile(&millis, share), millis.len()));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(acts: &[(&str, u64)]) -> Outcome {
        let acts: Vec<_> = (acts.iter())
            .map(|(what, sent_after)| {
                serde_json::json!({ "what": what, "sessions": 1, "acknowledged_us": 1500.0,
                    "sent_after": sent_after, "last_accepted_us": null })
            })
            .collect();
        let report = serde_json::json!({ "withheld": 1, "containments": acts });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn an_act_after_which_nothing_was_sent_shows_nothing() {
        let all = [
            ("one-device", 3),
            ("devices", 3),
            ("policy-takes", 3),
            ("policy-gives", 3),
            ("product", 3),
        ];
        let figures = figures(&outcome(&all)).unwrap();
        assert_eq!(figures.len(), TOLD.len());
        assert!(figures.iter().all(|figure| figure.ours == Some(1.5)));
        let error = super::figures(&outcome(&[("one-device", 0)])).unwrap_err();
        assert!(error.to_string().contains("nothing was sent"), "{error}");
        let error = super::figures(&outcome(&all[..3])).unwrap_err();
        assert!(error.to_string().contains("policy-gives"), "{error}");
    }
}
