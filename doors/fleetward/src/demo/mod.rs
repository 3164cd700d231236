//! `fleetward demo`: a plane in a scratch folder, a hundred devices over real TLS on loopback, one
//! of them revoked, the plane killed and started again, and the proof that all of it happened.

mod process;
mod report;

pub use report::Report;

use anyhow::{Context, bail};
use clap::Args;
use process::PlaneProcess;
use sim::device::{Doors, Manner};
use sim::fleet::{Consumer, Fleet, FleetSpec};
use sim::{Factory, Service};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the demo is told.
#[derive(Debug, Args)]
pub struct Options {
    /// No interaction: run to the end, say what happened, exit 0 only if every promise held.
    #[arg(long)]
    headless: bool,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Simulated devices.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1000))]
    devices: u32,
    /// Decides serial numbers, the order of events and which device is revoked.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the scratch folder and say where it is.
    #[arg(long)]
    keep: bool,
}

const MANUFACTURER: &str = "demo-works";
const SERVICE: &str = "ingest";
const PATIENCE: Duration = Duration::from_secs(30);
/// What a device publishes in one round.
const MESSAGES: usize = 5;

const FLEET: [(&str, &str); 5] = [
    ("fleet.toml", include_str!("fleet/fleet.toml")),
    ("products/demo.toml", include_str!("fleet/products.toml")),
    ("channels/demo.toml", include_str!("fleet/channels.toml")),
    ("services/demo.toml", include_str!("fleet/services.toml")),
    ("policies/demo.cedar", include_str!("fleet/policies.cedar")),
];

/// Runs the story. `Ok(true)`: every promise held.
///
/// # Errors
/// The demo itself could not go on.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let scratch = process::Scratch::make(options.keep)?;
    say(&format!("a plane in {}", scratch.path().display()));
    let mut plane = PlaneProcess::start(scratch.path())?;
    let key: String = plane.get_text("/api/v1/audit/key", "vkey")?;

    let spec = FleetSpec {
        devices: options.devices as usize,
        seed: options.seed,
        prefix: "sensor".into(),
        product: "sensor".into(),
        groups: Vec::new(),
        topic_template: "v1/sensor/{device}/telemetry".into(),
        payload_bytes: 128,
        threads: 4,
    };
    let now = sim::now();
    let factory = Factory::new("Demo Works Factory CA", now)?;
    let mut fleet = Fleet::new(&spec, &factory, now)?;
    plane.register(
        MANUFACTURER,
        &factory.certificate_pem(),
        &fleet.expected_csv(&spec),
        &FLEET,
    )?;
    let ingest = plane.certify(SERVICE)?;

    let manner = Manner::default();
    let doors = plane.doors()?;
    let filters = vec![("v1/sensor/+/telemetry".to_owned(), mqtt::Qos::AtLeastOnce)];
    let service = Service::new(
        SERVICE.parse()?,
        doors.mqtt.clone(),
        ingest.presented(),
        filters,
        manner.clone(),
    );
    let consumer = Consumer::start(service, fleet.books())
        .map_err(|refusal| anyhow::anyhow!("the service was refused: {refusal}"))?;

    let enrolled = fleet.enroll_all(&doors, &manner);
    say(&format!(
        "{} of {} devices proved a factory identity and were given their own, in {:.1?}",
        enrolled.succeeded,
        fleet.len(),
        enrolled.elapsed
    ));
    complain("enrolling", &enrolled);
    let connected = fleet.connect_all(&doors, &manner);
    complain("connecting", &connected);
    let published = fleet.publish_round(MESSAGES);
    say(&format!(
        "{} connected; {} messages acknowledged",
        connected.succeeded, published.succeeded
    ));
    complain("publishing", &published);

    let victim = fleet.pick(1).context("an empty fleet")?;
    let name = fleet
        .device(victim)
        .map(|device| device.id().to_string())
        .unwrap_or_default();
    let observer = fleet.observe(victim, Duration::from_millis(1))?;
    if !observer.wait_accepted(20, PATIENCE) {
        bail!("{name} could not publish before its revocation");
    }
    let revoked_at = Instant::now();
    let receipt = plane.revoke(&name)?;
    let seen = observer.finish(PATIENCE);
    let micros = receipt.in_force_after_micros;
    say(&format!(
        "{name} revoked: nothing of it is accepted after {micros} µs (server's clock)"
    ));

    let others = fleet.ping_all();
    complain("the others", &others);
    let back = fleet
        .try_return(victim, &doors, &manner)
        .context("no victim")?;
    say(&format!(
        "{name} tries its certificate, its factory identity, its ticket: {}",
        if back.reconnect_refused() && back.reenroll_refused() {
            "all refused"
        } else {
            "IT CAME IN"
        }
    ));

    plane.kill()?;
    say("the plane was killed (SIGKILL); starting it again on the same folder");
    plane = PlaneProcess::start(scratch.path())?;
    let doors = plane.doors()?;
    consumer.moved_to(doors.mqtt.clone());
    let again = reconnect(&mut fleet, victim, &doors, &manner);
    complain("reconnecting", &again);
    let published_again = fleet.publish_round(MESSAGES);
    complain("publishing again", &published_again);
    let back_again = fleet
        .try_return(victim, &doors, &manner)
        .context("no victim")?;
    let totals = consumer.settle(PATIENCE);
    let (_, consumer_report) = consumer.stop();

    let proof = plane.proof(&key, receipt.entry)?;
    let report = Report {
        devices: fleet.len(),
        enrolled: enrolled.succeeded,
        messages_sent: totals.sent,
        messages_acknowledged: totals.acknowledged,
        messages_delivered: totals.delivered,
        lost: totals.lost,
        duplicates: totals.duplicates,
        order_violations: totals.order_violations,
        revoke_in_force_micros: micros,
        revoke_to_last_accepted_ms: seen.to_last_accepted(revoked_at).map(report::millis),
        revoke_to_closed_ms: seen.to_closed(revoked_at).map(report::millis),
        reconnect_refused: back.reconnect_refused() && back_again.reconnect_refused(),
        reenroll_refused: back.reenroll_refused() && back_again.reenroll_refused(),
        others_disconnected: others.failed(),
        reconnected_after_kill: again.succeeded,
        consumer_sessions_forgotten: consumer_report.sessions_forgotten,
        audit_entries: proof.entries,
        audit_verified: proof.verified,
        audit_warnings: proof.warnings,
        durability: process::DURABILITY,
        seed: options.seed,
    };
    plane.stop()?;
    if let Some(file) = &options.report {
        std::fs::write(file, report.to_json()? + "\n")
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    for line in report.told() {
        say(&line);
    }
    if !options.headless {
        say("try it yourself: fleetward serve --help, then docs/cli.md");
    }
    Ok(report.held())
}

/// Everybody but the revoked one comes back.
fn reconnect(
    fleet: &mut Fleet,
    victim: usize,
    doors: &Doors,
    manner: &Manner,
) -> sim::fleet::StepReport {
    fleet.each(|index, device| {
        if index == victim {
            return Ok(());
        }
        drop(device.take_session());
        device.connect(doors, manner)
    })
}

fn complain(step: &str, report: &sim::fleet::StepReport) {
    if report.failed() > 0 {
        let example = report.example.as_deref().unwrap_or_default();
        say(&format!(
            "{step}: {} failed, for example {example}",
            report.failed()
        ));
    }
}

fn say(line: &str) {
    // A closed terminal ends the telling, not the demo.
    let _ = writeln!(std::io::stderr(), "demo: {line}");
}
