//! `fleetward demo --simulated`: a hundred simulated devices over real TLS on loopback, one of
//! them revoked, the plane killed and started again, and the proof that all of it happened.

mod report;

use super::process::{self, Place, PlaneProcess, Scratch};
use super::{Demo, say};
use anyhow::{Context, bail};
use audit::Vkey;
use report::Report;
use sim::device::{Doors, Manner, Return};
use sim::fleet::{Consumer, Fleet, FleetSpec, Observation};
use sim::{Factory, Service};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const MANUFACTURER: &str = "demo-works";
const SERVICE: &str = "ingest";
const PATIENCE: Duration = Duration::from_secs(30);
/// What a device publishes in one round.
const MESSAGES: usize = 5;

const FLEET: [(&str, &str); 5] = [
    ("fleet.toml", include_str!("simulated/fleet/fleet.toml")),
    (
        "products/demo.toml",
        include_str!("simulated/fleet/products.toml"),
    ),
    (
        "channels/demo.toml",
        include_str!("simulated/fleet/channels.toml"),
    ),
    (
        "services/demo.toml",
        include_str!("simulated/fleet/services.toml"),
    ),
    (
        "policies/demo.cedar",
        include_str!("simulated/fleet/policies.cedar"),
    ),
];

/// Runs the story; the exit status says whether every promise held.
///
/// # Errors
/// The demo itself could not go on.
pub fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    let scratch = Scratch::make(demo.keep)?;
    let mut story = Story::begin(demo, &scratch)?;
    story.enroll_and_publish()?;
    story.revoke_one()?;
    story.kill_and_start_again(&scratch)?;
    let report = story.end(demo.seed)?;
    if let Some(file) = &demo.report {
        std::fs::write(file, report.to_json()? + "\n")
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    for line in report.told() {
        say(&line);
    }
    if demo.keep {
        say(&format!("kept: {}", scratch.path().display()));
    }
    if !demo.headless {
        say("next: fleetward serve --data ./plane, and docs/cli.md for every verb");
    }
    Ok(if report.held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The demo between two of its steps.
struct Story {
    plane: PlaneProcess,
    key: Vkey,
    fleet: Fleet,
    consumer: Consumer,
    manner: Manner,
    victim: usize,
    revoked: Option<Revocation>,
    enrolled: usize,
    reconnected: usize,
    back_again: Option<Return>,
}

/// What was seen of the one that was revoked.
struct Revocation {
    receipt: process::Revoked,
    asked_at: Instant,
    seen: Observation,
    others_disconnected: u64,
    back: Return,
}

impl Story {
    /// A plane from an empty folder, a factory, a fleet that is expected, a service that listens.
    fn begin(demo: &Demo, scratch: &Scratch) -> anyhow::Result<Self> {
        say(&format!("a plane in {}", scratch.path().display()));
        let mut plane = PlaneProcess::start(scratch.path(), &Place::anywhere(), None)?;
        let key = plane.log_key()?;
        let spec = FleetSpec {
            devices: demo.devices as usize,
            seed: demo.seed,
            prefix: "sensor".into(),
            product: "sensor".into(),
            groups: Vec::new(),
            topic_template: "v1/sensor/{device}/telemetry".into(),
            payload_bytes: 128,
            threads: 4,
        };
        let now = sim::now();
        let factory = Factory::new("Demo Works Factory CA", now)?;
        let fleet = Fleet::new(&spec, &factory, now)?;
        let list = fleet.expected_csv(&spec);
        plane.register(MANUFACTURER, &factory.certificate_pem(), list, &FLEET)?;
        let ingest = plane.certify(SERVICE)?;
        let manner = Manner::default();
        let filters = vec![("v1/sensor/+/telemetry".to_owned(), mqtt::Qos::AtLeastOnce)];
        let door = plane.doors()?.mqtt;
        let service = Service::new(
            SERVICE.parse()?,
            door,
            ingest.presented(),
            filters,
            manner.clone(),
        );
        let consumer = Consumer::start(service, fleet.books())
            .map_err(|refusal| anyhow::anyhow!("the service was refused: {refusal}"))?;
        Ok(Self {
            plane,
            key,
            victim: fleet.pick(1).context("an empty fleet")?,
            fleet,
            consumer,
            manner,
            revoked: None,
            enrolled: 0,
            reconnected: 0,
            back_again: None,
        })
    }

    fn enroll_and_publish(&mut self) -> anyhow::Result<()> {
        let doors = self.plane.doors()?;
        let enrolled = self.fleet.enroll_all(&doors, &self.manner);
        complain("enrolling", &enrolled);
        say(&format!(
            "{} of {} devices proved a factory identity and were given their own, in {:.1?}",
            enrolled.succeeded,
            self.fleet.len(),
            enrolled.elapsed
        ));
        self.enrolled = enrolled.succeeded;
        let connected = self.fleet.connect_all(&doors, &self.manner);
        complain("connecting", &connected);
        let published = self.fleet.publish_round(MESSAGES);
        complain("publishing", &published);
        say(&format!(
            "{} connected; {} messages acknowledged",
            connected.succeeded, published.succeeded
        ));
        Ok(())
    }

    /// One device publishes without pause, is revoked, and tries every way back.
    fn revoke_one(&mut self) -> anyhow::Result<()> {
        let doors = self.plane.doors()?;
        let name = self.name_of_victim();
        let observer = self.fleet.observe(self.victim, Duration::from_millis(1))?;
        if !observer.wait_accepted(20, PATIENCE) {
            bail!("{name} could not publish before its revocation");
        }
        let asked_at = Instant::now();
        let receipt = self.plane.revoke(&name)?;
        let seen = observer.finish(PATIENCE);
        say(&format!(
            "{name} revoked: nothing of it is accepted after {} µs (the server's clock)",
            receipt.in_force_after_micros
        ));
        let others = self.fleet.ping_all();
        complain("the others", &others);
        let back = self
            .fleet
            .try_return(self.victim, &doors, &self.manner)
            .context("no such device")?;
        let outcome = if back.reconnect_refused() && back.reenroll_refused() {
            "all refused"
        } else {
            "IT CAME IN"
        };
        say(&format!(
            "{name} tries its certificate, its factory identity, its ticket: {outcome}"
        ));
        self.revoked = Some(Revocation {
            receipt,
            asked_at,
            seen,
            others_disconnected: others.failed(),
            back,
        });
        Ok(())
    }

    /// Nothing acknowledged may be missing after SIGKILL, and nothing revoked may come back.
    fn kill_and_start_again(&mut self, scratch: &Scratch) -> anyhow::Result<()> {
        self.plane.kill()?;
        say("the plane was killed (SIGKILL); starting it again on the same folder");
        self.plane = PlaneProcess::start(scratch.path(), &Place::anywhere(), None)?;
        let doors = self.plane.doors()?;
        self.consumer.moved_to(doors.mqtt.clone());
        let again = reconnect(&mut self.fleet, self.victim, &doors, &self.manner);
        complain("reconnecting", &again);
        // The revoked one was passed over, and counts as done there.
        self.reconnected = again.succeeded.saturating_sub(1);
        complain("publishing again", &self.fleet.publish_round(MESSAGES));
        self.back_again = self.fleet.try_return(self.victim, &doors, &self.manner);
        Ok(())
    }

    fn end(mut self, seed: u64) -> anyhow::Result<Report> {
        let totals = self.consumer.settle(PATIENCE);
        let (_, consumer) = self.consumer.stop();
        let revoked = self.revoked.context("nobody was revoked")?;
        let back_again = self.back_again.context("nobody tried to come back")?;
        let proof = self
            .plane
            .proof(&self.key, revoked.receipt.recorded.entry)?;
        self.plane.stop()?;
        let (seen, asked_at) = (revoked.seen, revoked.asked_at);
        Ok(Report {
            devices: self.fleet.len(),
            enrolled: self.enrolled,
            messages_sent: totals.sent,
            messages_acknowledged: totals.acknowledged,
            messages_delivered: totals.delivered,
            lost: totals.lost,
            duplicates: totals.duplicates,
            order_violations: totals.order_violations,
            revoke_in_force_micros: revoked.receipt.in_force_after_micros,
            revoke_to_last_accepted_ms: seen.to_last_accepted(asked_at).map(report::millis),
            revoke_to_closed_ms: seen.to_closed(asked_at).map(report::millis),
            reconnect_refused: revoked.back.reconnect_refused() && back_again.reconnect_refused(),
            reenroll_refused: revoked.back.reenroll_refused() && back_again.reenroll_refused(),
            others_disconnected: revoked.others_disconnected,
            reconnected_after_kill: self.reconnected,
            consumer_sessions_forgotten: consumer.sessions_forgotten,
            audit_entries: proof.entries,
            audit_verified: proof.verified,
            audit_warnings: proof.warnings,
            durability: process::DURABILITY,
            seed,
        })
    }

    fn name_of_victim(&self) -> String {
        let device = self.fleet.device(self.victim);
        device
            .map(|device| device.id().to_string())
            .unwrap_or_default()
    }
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
