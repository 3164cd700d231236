//! Running programs one after the other, saying which and how long.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Passed as far as it could be judged here; what was left out.
    Partly(String),
    Failed(String),
}

/// Steps done so far, for the summary at the end.
#[derive(Debug, Default)]
pub struct Steps(Vec<(String, Duration, Outcome)>);

impl Steps {
    /// Every step runs, so that one call shows all that is wrong.
    pub fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<Outcome>) {
        println!("\n== {name}");
        let begun = Instant::now();
        let outcome = step().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        if let Outcome::Failed(why) | Outcome::Partly(why) = &outcome {
            println!("{name}: {why}");
        }
        self.0.push((name.to_owned(), begun.elapsed(), outcome));
    }

    pub fn outcomes(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        self.0
            .iter()
            .map(|(name, _, outcome)| (name.as_str(), outcome))
    }

    pub fn has_failed(&self, step: &str) -> bool {
        self.outcomes()
            .any(|(name, outcome)| name == step && matches!(outcome, Outcome::Failed(_)))
    }

    pub fn failed(&self) -> usize {
        self.0
            .iter()
            .filter(|(_, _, outcome)| matches!(outcome, Outcome::Failed(_)))
            .count()
    }

    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (name, took, outcome) in &self.0 {
            let (verdict, why) = match outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::Partly(why) => ("partly", why.as_str()),
                Outcome::Failed(why) => ("FAILED", why.as_str()),
            };
            let why = why.lines().next().unwrap_or_default();
            let line = format!(
                "{verdict:<7} {name:<22} {:>6.1} s  {why}",
                took.as_secs_f64()
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Runs `cargo` with its output on ours.
///
/// # Errors
/// If it cannot be run or does not succeed.
pub fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    succeed(cargo_command(root).args(arguments))
}

/// The cargo that runs us, so that all steps share one toolchain.
pub fn cargo_command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// # Errors
/// If the program cannot be run or does not succeed; names the whole command.
pub fn succeed(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", written(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", written(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", written(command));
    }
    Ok(())
}

/// How many tests ran, as the test programs themselves said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tests {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
}

/// A test that returned early for want of something, and what it wanted: tests say so by a line
/// that begins with `skipped: `. To the test programs it passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    pub test: String,
    pub why: String,
}

/// What the test programs said, read line by line.
#[derive(Debug, Default)]
pub struct Heard {
    pub tests: Tests,
    pub skips: Vec<Skip>,
    /// Names of tests that failed.
    pub failures: Vec<String>,
    /// In the block that repeats what passed tests printed.
    among_passed: bool,
    test: String,
}

/// Runs `cargo test ... -- --show-output`, shows what it says, but of passed tests only why they
/// were skipped, and counts what it reports. `true` if it succeeded.
///
/// # Errors
/// If it cannot be run.
pub fn counted_tests(command: &mut Command) -> anyhow::Result<(bool, Heard)> {
    println!("$ {}", written(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", written(command)))?;
    let mut heard = Heard::default();
    // Tests may print what is not text, and that must not end the count.
    for line in BufReader::new(child.stdout.take().context("no pipe")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if heard.hear(&line) {
            println!("{line}");
        }
    }
    Ok((child.wait()?.success(), heard))
}

impl Heard {
    /// `true` if the line is worth showing.
    fn hear(&mut self, line: &str) -> bool {
        self.tests.add(line);
        let failed = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"));
        self.failures.extend(failed.map(str::to_owned));
        if let Some(why) = line.strip_prefix("skipped: ") {
            self.skips.push(Skip {
                test: self.test.clone(),
                why: why.to_owned(),
            });
            return true;
        }
        if let Some(test) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            test.clone_into(&mut self.test);
        } else if line == "successes:" {
            self.among_passed = true;
            return false;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.among_passed = false;
            self.test.clear();
        }
        !self.among_passed
    }
}

impl Tests {
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; ...`
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            if let Some((number, what)) = part.split_once(' ') {
                let number = number.parse().unwrap_or(0);
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }
}

fn written(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_as_reported() {
        let mut tests = Tests::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "test passed ... ok",
            "99 passed; 99 failed",
        ] {
            tests.add(line);
        }
        assert_eq!(
            tests,
            Tests {
                passed: 15,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_test_that_was_skipped_is_counted_by_name_and_other_talk_is_not_shown() {
        let mut heard = Heard::default();
        let shown: Vec<&str> = [
            "test nft::loads ... ok",
            "",
            "successes:",
            "",
            "---- nft::loads stdout ----",
            "skipped: nftables is not permitted here",
            "",
            "---- other stdout ----",
            "seed 7; nothing was skipped: all is well",
            "",
            "successes:",
            "    nft::loads",
            "failures:",
            "---- third stdout ----",
            "it broke",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "test next ... ok",
            "test third ... FAILED",
        ]
        .into_iter()
        .filter(|line| heard.hear(line))
        .collect();
        assert_eq!(
            heard.skips,
            [Skip {
                test: "nft::loads".into(),
                why: "nftables is not permitted here".into()
            }]
        );
        assert_eq!((heard.tests.passed, heard.tests.failed), (2, 1));
        assert_eq!(heard.failures, ["third"]);
        assert!(shown.contains(&"skipped: nftables is not permitted here"));
        assert!(shown.contains(&"it broke") && shown.contains(&"test next ... ok"));
        assert!(!shown.iter().any(|line| line.contains("seed 7")));
    }

    #[test]
    fn a_failed_step_does_not_stop_the_rest_and_shows_in_the_summary() {
        let mut steps = Steps::default();
        steps.run("one", || Ok(Outcome::Passed));
        steps.run("two", || bail!("it broke"));
        steps.run("three", || Ok(Outcome::Partly("no network".to_owned())));
        assert_eq!((steps.outcomes().count(), steps.failed()), (3, 1));
        assert!(steps.has_failed("two") && !steps.has_failed("three"));
        let summary = steps.summary();
        assert!(summary.contains("FAILED  two"), "{summary}");
        assert!(summary.contains("no network"), "{summary}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_that_names_it() {
        let error = succeed(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(error.to_string().contains("sh -c exit 3"), "{error}");
    }
}
