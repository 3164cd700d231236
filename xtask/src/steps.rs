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

/// Runs `cargo test`, shows its output and counts what it reports. `true` if it succeeded.
///
/// # Errors
/// If it cannot be run.
pub fn counted_tests(command: &mut Command) -> anyhow::Result<(bool, Tests)> {
    println!("$ {}", written(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", written(command)))?;
    let mut tests = Tests::default();
    for line in BufReader::new(child.stdout.take().context("no pipe")?).lines() {
        let line = line?;
        println!("{line}");
        tests.add(&line);
    }
    Ok((child.wait()?.success(), tests))
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
