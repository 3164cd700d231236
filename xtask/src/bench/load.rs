//! Driving the load generator, `sim load`, and reading a server exactly around its work.
//!
//! `sim load` connects what it needs, says `measuring` and later `measured` on its standard error,
//! and ends with one line of JSON on its standard output. The server is read at its start and at
//! these two marks, so neither connecting nor draining is counted where it is not meant to be.

use super::server::Server;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Clone)]
pub enum Scenario {
    /// Full handshakes with CONNECT and CONNACK, each closed again, `at_once` in flight.
    Handshakes {
        devices: usize,
        at_once: usize,
        seconds: u32,
        /// As `sim load --key-exchange` has it.
        key_exchange: &'static str,
        /// By tickets, from each device's second one on.
        resume: bool,
    },
    /// QoS 1 from `devices` on `t/<device>/up`, together `rate_per_second`, to one consumer.
    Publish {
        devices: usize,
        rate_per_second: u32,
        /// As `sim load --arrivals` has it.
        arrivals: &'static str,
        seconds: u32,
        payload_bytes: usize,
        /// The consumer's session outlives its connection.
        lasting: bool,
        /// The last level of the topics.
        channel: &'static str,
    },
    /// QoS 1 from the consumer's identity on `n/all`, which all of `devices` receive.
    FanOut {
        devices: usize,
        rate_per_second: u32,
        seconds: u32,
        payload_bytes: usize,
    },
    /// Connections with one subscription each, `at_once` being opened, and no traffic for as long.
    Idle {
        devices: usize,
        at_once: usize,
        /// As `sim load --key-exchange` has it.
        key_exchange: &'static str,
        idle_seconds: u32,
    },
    /// As `Idle`, until the server is ended and started anew at the mark: then all come back.
    Return { devices: usize, at_once: usize },
    /// As `Publish`, while identities are withdrawn.
    Revoke {
        devices: usize,
        rate_per_second: u32,
        seconds: u32,
        what: Withdrawn,
    },
    /// As `Publish`, while devices are quarantined and the policy of the product `line` changes.
    Contain {
        devices: usize,
        rate_per_second: u32,
        seconds: u32,
        alone: usize,
        together: usize,
        changes: usize,
        fleet: PathBuf,
    },
}

#[derive(Debug, Clone)]
pub enum Withdrawn {
    /// So many of the devices, one after the other.
    Devices(usize),
    /// All that a CA issued, at once: the SHA-256 of its name.
    Issuer(String),
}

/// What `sim load` reports, as far as a bench needs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Outcome {
    /// Connections that stand; in a handshake run, those completed while measuring.
    #[serde(default)]
    pub connected: u64,
    /// Of these, those that came by a ticket.
    #[serde(default)]
    pub resumed: u64,
    /// Certificates that came while measuring.
    #[serde(default)]
    pub issued: u64,
    #[serde(default)]
    pub latency_p50_us: Option<f64>,
    #[serde(default)]
    pub latency_p99_us: Option<f64>,
    /// Why a CA refused, if it did.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Messages that arrived at the consumer while measuring.
    #[serde(default)]
    pub window_delivered: u64,
    /// Acknowledged and not delivered, even after the drain.
    #[serde(default)]
    pub lost: u64,
    /// Sessions that ended by themselves.
    #[serde(default)]
    pub disconnected: u64,
    /// How late the generator itself was in sending, 99 of 100 times; microseconds.
    #[serde(default)]
    pub generator_lag_p99_us: Option<f64>,
    /// Refusals by kind.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// One of them in full.
    #[serde(default)]
    pub example: Option<String>,
    /// How long measuring lasted.
    #[serde(default)]
    pub lasted_seconds: f64,
    #[serde(default)]
    pub revocations: Vec<Revocation>,
    /// Messages that were refused as they had to be.
    #[serde(default)]
    pub withheld: u64,
    #[serde(default)]
    pub containments: Vec<Containment>,
    #[serde(default)]
    pub returned: Option<Returned>,
}

/// How a fleet came back; seconds from the first connection that was lost.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Returned {
    pub half_seconds: f64,
    pub most_seconds: f64,
    pub all_seconds: f64,
    pub attempts: u64,
    pub put_off: u64,
}

/// One act that takes or gives; microseconds from the moment before its first request was sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Containment {
    pub what: String,
    /// Live sessions that it was about.
    pub sessions: usize,
    /// Why the API did not take it.
    #[serde(default)]
    pub refused: Option<String>,
    pub acknowledged_us: f64,
    /// Messages of these sessions sent after that, each of them refused or accepted as the act says.
    pub sent_after: u64,
    pub last_accepted_us: Option<f64>,
}

/// One revocation; microseconds from the moment before its request was sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Revocation {
    pub what: String,
    /// Connections of the generator that it was to end.
    pub connections: usize,
    /// Why the API did not take it.
    #[serde(default)]
    pub refused: Option<String>,
    /// By the plane's receipt, from the moment when the request was parsed.
    pub sessions_closed: Option<usize>,
    pub in_force_after_micros: Option<f64>,
    pub closed_after_micros: Option<f64>,
    pub recorded_after_micros: Option<f64>,
    /// When it was in force, by the plane's clock; microseconds since 1970.
    pub in_force_at_unix_micros: Option<u64>,
    /// As the devices saw it: the last acknowledgement, which may have come before the request.
    pub last_accepted_us: Option<f64>,
    /// As the devices saw it: the end of the last of their connections.
    pub closed_us: Option<f64>,
    /// Devices that saw no end, and those of them whom the plane has connected.
    pub not_closed: Vec<String>,
    pub left_open: Vec<String>,
    /// The devices' TCP ports.
    pub ports: Vec<u16>,
}

pub struct Load {
    program: PathBuf,
    arguments: Vec<String>,
}

/// What was read of the server around the load's work.
#[derive(Debug)]
pub struct Run<T> {
    /// Before the first connection.
    pub at_start: T,
    /// Everything is connected and warm.
    pub before: T,
    pub after: T,
    pub outcome: Outcome,
}

/// # Errors
/// If `sim` does not build.
pub fn build(root: &Path) -> anyhow::Result<()> {
    crate::steps::cargo(root, &["build", "--release", "--locked", "-p", "sim"])
}

impl Load {
    pub fn new(server: &Server, scenario: &Scenario) -> Self {
        let file = |name: &str| server.credentials.folder.join(name).display().to_string();
        let mut arguments = vec!["load".to_owned()];
        for (flag, value) in [
            ("--address", server.address.to_string()),
            ("--server-name", "localhost".to_owned()),
            ("--ca", file("ca.pem")),
            ("--cert-dir", file("devices")),
            ("--consumer-cert", file("consumer.pem")),
            ("--consumer-filter", format!("t/+/{}", scenario.channel())),
            ("--qos", "1".to_owned()),
        ]
        .into_iter()
        .chain(scenario.topics())
        .chain(scenario.flags())
        .chain(
            server
                .socket
                .as_ref()
                .map(|path| ("--socket", path.display().to_string())),
        ) {
            arguments.extend([flag.to_owned(), value]);
        }
        if matches!(scenario, Scenario::Publish { lasting: true, .. }) {
            arguments.push("--consumer-persistent".to_owned());
        }
        if matches!(scenario, Scenario::Handshakes { resume: true, .. }) {
            arguments.push("--resume".to_owned());
        }
        if server.is_in_clear() {
            arguments.push("--in-clear".to_owned());
        }
        Self {
            program: crate::built(&crate::root_of_repository(), "release", "sim"),
            arguments,
        }
    }

    /// Certificates of a plane or of cfssl, `in_flight` at a time.
    pub fn issuing(from: &super::server::Api, in_flight: usize, seconds: u32) -> Self {
        let mut arguments = vec!["issue".to_owned()];
        for (flag, value) in [
            from.flag(),
            ("--in-flight", in_flight.to_string()),
            ("--seconds", seconds.to_string()),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        Self {
            program: crate::built(&crate::root_of_repository(), "release", "sim"),
            arguments,
        }
    }

    /// # Errors
    /// If the load fails, leaves out a mark, or anything was refused or cut off: a figure of a
    /// server that did less work is no figure.
    pub fn run<T>(&self, mut read: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<Run<T>> {
        let at_start = read()?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        // Beside the marks, or a report larger than a pipe holds would wait for us and we for it.
        let mut stdout = child.stdout.take().context("no pipe to the load")?;
        let report = std::thread::spawn(move || {
            let mut report = String::new();
            stdout.read_to_string(&mut report).map(|_| report)
        });
        let marks = BufReader::new(child.stderr.take().context("no pipe to the load")?);
        let (mut before, mut after, mut last_words) = (None, None, String::new());
        for line in marks.lines() {
            match line?.as_str() {
                "measuring" => before = Some(read()),
                "measured" => after = Some(read()),
                words => last_words = words.to_owned(),
            }
        }
        let report = report
            .join()
            .map_err(|_| anyhow::anyhow!("the report was not read by a fault of ours"))??;
        let status = child.wait()?;
        if !status.success() {
            bail!("the load failed ({status}): {last_words}");
        }
        let outcome: Outcome = serde_json::from_str(report.trim())
            .with_context(|| format!("the load reported {report:?}"))?;
        if outcome.disconnected > 0 || !outcome.failures.is_empty() {
            bail!(
                "{} sessions were cut off, refusals {:?}: {}",
                outcome.disconnected,
                outcome.failures,
                outcome.example.as_deref().unwrap_or("no example")
            );
        }
        if let Some(why) = &outcome.refusal {
            bail!("a certificate was refused: {why}");
        }
        Ok(Run {
            at_start,
            before: before.context("the load never said measuring")??,
            after: after.context("the load never said measured")??,
            outcome,
        })
    }
}

impl Scenario {
    /// Where devices send, or the one who speaks to all; and what devices subscribe to.
    fn topics(&self) -> [(&'static str, String); 2] {
        let (up, down) = match self {
            Self::FanOut { .. } => ("n/all".to_owned(), "n/all"),
            _ => (
                format!("t/{{device}}/{}", self.channel()),
                "t/{device}/down",
            ),
        };
        [
            ("--topic-template", up),
            ("--device-filter", down.to_owned()),
        ]
    }

    /// The last level of the topics to which devices send.
    fn channel(&self) -> &'static str {
        match self {
            Self::Publish { channel, .. } => channel,
            _ => "up",
        }
    }

    fn flags(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Handshakes {
                devices,
                at_once,
                seconds,
                key_exchange,
                resume: _,
            } => vec![
                ("--mode", "connect".to_owned()),
                ("--key-exchange", (*key_exchange).to_owned()),
                ("--devices", devices.to_string()),
                ("--handshakes", at_once.to_string()),
                ("--warmup", "0.5".to_owned()),
                ("--seconds", seconds.to_string()),
            ],
            Self::Publish {
                devices,
                rate_per_second,
                arrivals,
                seconds,
                payload_bytes,
                ..
            } => vec![
                ("--mode", "publish".to_owned()),
                ("--devices", devices.to_string()),
                ("--rate", rate_per_second.to_string()),
                ("--arrivals", (*arrivals).to_owned()),
                ("--payload-bytes", payload_bytes.to_string()),
                ("--warmup", "1".to_owned()),
                ("--seconds", seconds.to_string()),
            ],
            Self::Revoke {
                devices,
                rate_per_second,
                seconds,
                what,
            } => vec![
                match what {
                    Withdrawn::Devices(count) => ("--revocations", count.to_string()),
                    Withdrawn::Issuer(issuer) => ("--revoke-ca", issuer.clone()),
                },
                ("--mode", "revoke".to_owned()),
                ("--devices", devices.to_string()),
                ("--rate", rate_per_second.to_string()),
                ("--warmup", "1".to_owned()),
                ("--seconds", seconds.to_string()),
            ],
            Self::Contain {
                devices,
                rate_per_second,
                seconds,
                alone,
                together,
                changes,
                fleet,
            } => vec![
                ("--mode", "contain".to_owned()),
                ("--devices", devices.to_string()),
                ("--rate", rate_per_second.to_string()),
                ("--quarantines", alone.to_string()),
                ("--quarantines-together", together.to_string()),
                ("--policy-changes", changes.to_string()),
                ("--fleet", fleet.display().to_string()),
                ("--product", super::server::LINE.to_owned()),
                ("--quarantine-product", "true".to_owned()),
                ("--warmup", "1".to_owned()),
                ("--seconds", seconds.to_string()),
            ],
            Self::FanOut {
                devices,
                rate_per_second,
                seconds,
                payload_bytes,
            } => vec![
                ("--mode", "fanout".to_owned()),
                ("--devices", devices.to_string()),
                ("--rate", rate_per_second.to_string()),
                ("--payload-bytes", payload_bytes.to_string()),
                ("--warmup", "1".to_owned()),
                ("--seconds", seconds.to_string()),
            ],
            Self::Return { devices, at_once } => vec![
                ("--mode", "return".to_owned()),
                ("--devices", devices.to_string()),
                ("--handshakes", at_once.to_string()),
            ],
            Self::Idle {
                devices,
                at_once,
                key_exchange,
                idle_seconds,
            } => vec![
                ("--mode", "idle".to_owned()),
                ("--key-exchange", (*key_exchange).to_owned()),
                ("--devices", devices.to_string()),
                ("--handshakes", at_once.to_string()),
                ("--warmup", idle_seconds.to_string()),
                ("--seconds", "1".to_owned()),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load generator of a few lines of shell.
    fn spoken(script: &str) -> Load {
        Load {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
        }
    }

    const MARKS: &str = "echo connected 9 >&2; echo measuring >&2; echo measured >&2;";
    const REPORT: &str =
        r#"{"mode":"publish","connected":9,"window_delivered":7,"lost":0,"disconnected":0"#;

    #[test]
    fn the_server_is_read_at_the_start_and_at_both_marks() {
        let mut reads = 0;
        let run = spoken(&format!("{MARKS} echo '{REPORT}}}'"))
            .run(|| {
                reads += 1;
                Ok(reads)
            })
            .unwrap();
        assert_eq!((run.at_start, run.before, run.after), (1, 2, 3));
        assert_eq!(run.outcome.window_delivered, 7);
    }

    #[test]
    fn revocations_are_read_with_what_is_missing_in_them() {
        let receipt = "\"in_force_after_micros\":7,\"sessions_closed\":1,";
        let report = format!(
            "{REPORT},\"lasted_seconds\":1.5,\"revocations\":[{{\"what\":\"device/d\",\
             \"connections\":1,{receipt}\"answered_us\":9.5,\"last_accepted_us\":-3.5,\
             \"closed_us\":null,\"not_closed\":[\"d\"],\"left_open\":[],\"ports\":[7]}}]}}"
        );
        let run = spoken(&format!("{MARKS} echo '{report}'"))
            .run(|| Ok(()))
            .unwrap();
        assert_eq!(run.outcome.lasted_seconds, 1.5);
        let one = &run.outcome.revocations[0];
        assert_eq!(one.in_force_after_micros, Some(7.0));
        assert_eq!(one.recorded_after_micros, None);
        assert_eq!(one.last_accepted_us, Some(-3.5));
        assert_eq!((one.closed_us, one.not_closed.len()), (None, 1));
    }

    #[test]
    fn acts_are_read() {
        let report = format!(
            "{REPORT},\"withheld\":9,\"containments\":[{{\"what\":\"one-device\",\"sessions\":1,\
             \"acknowledged_us\":2.5,\"sent_after\":3,\"last_accepted_us\":null}}]}}"
        );
        let run = spoken(&format!("{MARKS} echo '{report}'"))
            .run(|| Ok(()))
            .unwrap();
        assert_eq!(run.outcome.withheld, 9);
        let one = &run.outcome.containments[0];
        assert_eq!((one.sent_after, one.last_accepted_us), (3, None));
        assert_eq!(one.refused, None);
    }

    #[test]
    fn a_load_that_fails_is_refused_or_talks_nonsense_gives_no_figure() {
        for (script, says) in [
            (
                format!("{MARKS} echo '{REPORT},\"failures\":{{\"tcp\":2}},\"example\":\"why\"}}'"),
                "why",
            ),
            (
                format!("{MARKS} echo '{}}}'", REPORT.replace("ted\":0", "ted\":3")),
                "3 sessions were cut off",
            ),
            (
                "echo 'error: no such file' >&2; exit 3".to_owned(),
                "error: no such file",
            ),
            (format!("echo '{REPORT}}}'"), "never said measuring"),
            (
                format!("echo measuring >&2; echo '{REPORT}}}'"),
                "never said measured",
            ),
            (format!("{MARKS} echo hello"), "the load reported"),
        ] {
            let error = spoken(&script).run(|| Ok(())).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{script}: {error:#}");
        }
    }

    #[test]
    fn a_server_that_cannot_be_read_gives_no_figure() {
        let load = spoken(&format!("{MARKS} echo '{REPORT}}}'"));
        assert!(load.run::<()>(|| bail!("the server has ended")).is_err());
    }
}
