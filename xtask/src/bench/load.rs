//! Driving the load generator, `sim load`, and reading a server exactly around its work.
//!
//! ```text
//! sim load handshakes   --address A --credentials DIR --count N --at-once N
//! sim load publish      --address A --credentials DIR --devices N --rate N --seconds N --payload-bytes N
//! sim load idle         --address A --credentials DIR --connections N
//! sim load until-closed --address A --credentials DIR --device N --rate N
//! ```
//! It speaks in lines of JSON and waits for us in between, so that no CPU time of its preparation
//! is counted: it connects what it needs, prints `{"phase":"ready"}`, waits for a line on its
//! standard input, works, prints `{"phase":"end", ...}` with its outcome, keeps its connections
//! open until its input closes, and ends. Topics are `t/<device>/up` at QoS 1 and the consumer's
//! filter is `t/+/up` at QoS 1.

use super::credentials::device_name;
use super::server::Server;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

#[derive(Debug, Clone)]
pub enum Scenario {
    /// `count` full handshakes with CONNECT and CONNACK, each closed again, `at_once` in flight.
    Handshakes { count: usize, at_once: usize },
    /// QoS 1 from `devices`, together `rate_per_second`, to one consumer.
    Publish {
        devices: usize,
        rate_per_second: u32,
        seconds: u32,
        payload_bytes: usize,
    },
    /// Connections with one subscription each and no traffic.
    Idle { connections: usize },
    /// One device publishes, each time after the last acknowledgement, until it is cut off.
    UntilClosed { device: usize, rate_per_second: u32 },
}

/// What the load achieved.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Outcome {
    /// Handshakes made, messages delivered to the consumer, or connections opened.
    pub done: u64,
    /// Messages acknowledged but not delivered when the load ended; a lossy run is no figure.
    #[serde(default)]
    pub lost: u64,
    /// By the clock of this machine.
    #[serde(default)]
    pub last_accepted_unix_micros: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
enum Line {
    Ready,
    End(Outcome),
}

pub struct Load {
    program: PathBuf,
    arguments: Vec<String>,
}

/// What was read of the server before and after the load's work.
pub struct Run<T> {
    pub before: T,
    pub after: T,
    pub outcome: Outcome,
}

/// # Errors
/// If `sim` does not build.
pub fn build(root: &Path) -> anyhow::Result<()> {
    crate::steps::cargo(root, &["build", "--release", "-p", "sim"])
}

impl Load {
    pub fn new(server: &Server, scenario: &Scenario) -> Self {
        let mut arguments = vec!["load".to_owned()];
        arguments.extend(scenario.arguments());
        for (flag, value) in [
            ("--address", server.address.to_string()),
            (
                "--credentials",
                server.credentials.folder.display().to_string(),
            ),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        Self {
            program: crate::root_of_repository().join("target/release/sim"),
            arguments,
        }
    }

    /// Reads the server right before and right after the work, while the connections stand.
    ///
    /// # Errors
    /// If the load fails, speaks out of turn or loses a message.
    pub fn run<T>(&self, read: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<Run<T>> {
        let mut conversation = Conversation::start(&self.program, &self.arguments)?;
        let before = read()?;
        conversation.go()?;
        let outcome = conversation.outcome()?;
        let after = read()?;
        conversation.finish()?;
        if outcome.lost > 0 {
            bail!("{} acknowledged messages were lost", outcome.lost);
        }
        Ok(Run {
            before,
            after,
            outcome,
        })
    }

    /// Lets the load work, acts, and waits until the load ends because of it.
    ///
    /// # Errors
    /// If the load or the act fails.
    pub fn run_while_open(
        &self,
        act: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let mut conversation = Conversation::start(&self.program, &self.arguments)?;
        conversation.go()?;
        act()?;
        let outcome = conversation.outcome()?;
        conversation.finish()?;
        Ok(outcome)
    }
}

impl Scenario {
    fn arguments(&self) -> Vec<String> {
        let (verb, flags): (&str, Vec<(&str, String)>) = match self {
            Self::Handshakes { count, at_once } => (
                "handshakes",
                vec![
                    ("--count", count.to_string()),
                    ("--at-once", at_once.to_string()),
                ],
            ),
            Self::Publish {
                devices,
                rate_per_second,
                seconds,
                payload_bytes,
            } => (
                "publish",
                vec![
                    ("--devices", devices.to_string()),
                    ("--rate", rate_per_second.to_string()),
                    ("--seconds", seconds.to_string()),
                    ("--payload-bytes", payload_bytes.to_string()),
                ],
            ),
            Self::Idle { connections } => {
                ("idle", vec![("--connections", connections.to_string())])
            }
            Self::UntilClosed {
                device,
                rate_per_second,
            } => (
                "until-closed",
                vec![
                    ("--device", device_name(*device)),
                    ("--rate", rate_per_second.to_string()),
                ],
            ),
        };
        std::iter::once(verb.to_owned())
            .chain(
                flags
                    .into_iter()
                    .flat_map(|(flag, value)| [flag.to_owned(), value]),
            )
            .collect()
    }
}

/// A running load generator; ended by its process id when dropped.
struct Conversation {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Conversation {
    /// Returns when the load is ready.
    fn start(program: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("no pipe to the load")?);
        let mut conversation = Self { child, lines };
        match conversation.line()? {
            Line::Ready => Ok(conversation),
            Line::End(_) => bail!("the load ended before it was told to begin"),
        }
    }

    fn go(&mut self) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("no pipe to the load")?;
        input.write_all(b"go\n")?;
        Ok(input.flush()?)
    }

    fn outcome(&mut self) -> anyhow::Result<Outcome> {
        match self.line()? {
            Line::End(outcome) => Ok(outcome),
            Line::Ready => bail!("the load said ready twice"),
        }
    }

    fn line(&mut self) -> anyhow::Result<Line> {
        let mut text = String::new();
        if self.lines.read_line(&mut text)? == 0 {
            bail!("the load ended without a word: {}", self.child.wait()?);
        }
        serde_json::from_str(&text).with_context(|| format!("the load said {text:?}"))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the load failed: {status}");
        }
        Ok(())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

pub fn unix_micros() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_micros() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load generator of three lines of shell.
    fn spoken(script: &str) -> Load {
        Load {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
        }
    }

    const READY: &str = "echo '{\"phase\":\"ready\"}'; read go;";

    #[test]
    fn the_server_is_read_around_the_work_and_not_before_it_is_ready() {
        let reads = std::cell::Cell::new(0);
        let load = spoken(&format!(
            "{READY} echo '{{\"phase\":\"end\",\"done\":7}}'; cat >/dev/null"
        ));
        let run = load
            .run(|| {
                reads.set(reads.get() + 1);
                Ok(reads.get())
            })
            .unwrap();
        assert_eq!((run.before, run.after, run.outcome.done), (1, 2, 7));
    }

    #[test]
    fn a_load_that_loses_fails_or_talks_nonsense_gives_no_figure() {
        for (script, says) in [
            (
                format!("{READY} echo '{{\"phase\":\"end\",\"done\":7,\"lost\":2}}'"),
                "2 acknowledged messages were lost",
            ),
            (
                format!("{READY} echo '{{\"phase\":\"end\",\"done\":7}}'; exit 3"),
                "the load failed",
            ),
            (format!("{READY} exit 1"), "ended without a word"),
            ("echo hello".to_owned(), "the load said"),
            (
                "echo '{\"phase\":\"end\",\"done\":1}'".to_owned(),
                "before it was told",
            ),
        ] {
            let error = spoken(&script).run(|| Ok(())).err().unwrap();
            assert!(format!("{error:#}").contains(says), "{script}: {error:#}");
        }
    }

    #[test]
    fn an_act_ends_the_load() {
        let folder = tempfile::tempdir().unwrap();
        let flag = folder.path().join("revoked");
        let load = spoken(&format!(
            "{READY} while [ ! -e {} ]; do sleep 0.01; done; \
             echo '{{\"phase\":\"end\",\"done\":3,\"last_accepted_unix_micros\":5.0}}'",
            flag.display()
        ));
        let outcome = load
            .run_while_open(|| Ok(std::fs::write(&flag, "")?))
            .unwrap();
        assert_eq!(outcome.last_accepted_unix_micros, Some(5.0));
    }

    #[test]
    fn the_command_line_is_the_one_in_the_manual() {
        let arguments = Scenario::Publish {
            devices: 1000,
            rate_per_second: 5000,
            seconds: 3,
            payload_bytes: 128,
        }
        .arguments();
        assert_eq!(
            arguments.join(" "),
            "publish --devices 1000 --rate 5000 --seconds 3 --payload-bytes 128"
        );
    }
}
