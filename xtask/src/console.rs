//! `cargo xtask console`: builds the console that the plane embeds, and lets a browser try it.

use crate::steps::{cargo, succeed};
use crate::tools::{self, Tool};
use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// What building it needs; the browser is needed only to try it.
pub const BUILDS: [Tool; 2] = [tools::NODE, tools::NPM];
pub const TRIES: [Tool; 3] = [tools::CHROMIUM, tools::OPENSSL, tools::MOSQUITTO_CLIENTS];
const PICTURED: [Tool; 2] = [tools::INTER, tools::JETBRAINS_MONO];

/// The oldest Node.js that the bundler runs on.
const NODE_MIN: (u32, u32) = (20, 19);
const PICTURES: &str = "docs/pictures";

#[derive(clap::Args)]
pub struct Arguments {
    /// Also run its tests, in a browser against a plane too
    #[arg(long)]
    test: bool,
    /// Also take the pictures of the documents anew
    #[arg(long)]
    pictures: bool,
}

/// # Errors
/// If a tool is missing and may not be installed here, or something does not build or hold.
pub fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    tools::ensure(root, &BUILDS)?;
    build(root)?;
    if arguments.test || arguments.pictures {
        tools::ensure(root, &TRIES)?;
        unit(root)?;
        if arguments.pictures {
            tools::ensure(root, &PICTURED)?;
        }
        browser(root, arguments.pictures)?;
    }
    println!("the console is built; the next build of the plane embeds it");
    Ok(())
}

/// Into `console/dist/site`, from what the lock file names and nothing else.
///
/// # Errors
/// If Node.js is too old, a package cannot be fetched, or the types do not fit.
pub fn build(root: &Path) -> anyhow::Result<()> {
    node_is_new_enough()?;
    // Nothing of a package runs at its installation.
    npm(root, &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
    npm(root, &["run", "check"])?;
    npm(root, &["run", "build"])
}

/// # Errors
/// If a test fails.
pub fn unit(root: &Path) -> anyhow::Result<()> {
    npm(root, &["run", "unit"])
}

/// A browser against fixtures, then against a plane of this build.
///
/// # Errors
/// If the plane does not build or a test fails.
pub fn browser(root: &Path, pictures: bool) -> anyhow::Result<()> {
    cargo(root, &["build", "--locked", "-p", "fleetward", "-p", "sim"])?;
    let report = crate::built(root, "debug", "browser.json");
    let mut command = npm_command(root, &["run", "browser", "--"]);
    command.args(["--reporter=default", "--reporter=json"]);
    command.arg(format!("--outputFile.json={}", report.display()));
    command.env("FLEETWARD", crate::built(root, "debug", "fleetward"));
    if pictures {
        command.env("PICTURES", root.join(PICTURES));
    }
    // What an earlier run left is not this one's.
    let _ = std::fs::remove_file(&report);
    let Err(error) = succeed(&mut command) else {
        return Ok(());
    };
    let failed = std::fs::read(&report).map(|report| failures(&report));
    match failed {
        Ok(Ok(failed)) if !failed.is_empty() => {
            bail!("{} failed: {}", failed.len(), failed.join("; "))
        }
        _ => Err(error),
    }
}

/// Which tests failed, each with the first line of why, from the report of Vitest (Jest's form).
fn failures(report: &[u8]) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(rename = "testResults")]
        files: Vec<File>,
    }
    #[derive(Deserialize)]
    struct File {
        /// Why none of it ran.
        #[serde(default)]
        message: String,
        #[serde(rename = "assertionResults")]
        tests: Vec<Test>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Test {
        full_name: String,
        status: String,
        #[serde(default)]
        failure_messages: Vec<String>,
    }
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let report: Report = serde_json::from_slice(report)?;
    let mut failed = Vec::new();
    for file in report.files {
        failed.extend(Some(first(&file.message)).filter(|why| !why.is_empty()));
        for test in file.tests.iter().filter(|test| test.status == "failed") {
            let why = test.failure_messages.first().map_or("", String::as_str);
            failed.push(format!("{}: {}", test.full_name, first(why)));
        }
    }
    Ok(failed)
}

fn npm(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    succeed(&mut npm_command(root, arguments))
}

fn npm_command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command
        .args(arguments)
        .current_dir(root.join("console"))
        .env("NO_UPDATE_NOTIFIER", "1");
    command
}

fn node_is_new_enough() -> anyhow::Result<()> {
    let output = Command::new("node").arg("--version").output();
    let said = output.context("cannot run node")?.stdout;
    let said = String::from_utf8_lossy(&said);
    if version(&said).is_none_or(|found| found < NODE_MIN) {
        bail!(
            "Node.js {} is too old for the console: {}.{} or newer is needed (Debian 13 has it; \
             elsewhere see https://nodejs.org). The plane builds without it",
            said.trim(),
            NODE_MIN.0,
            NODE_MIN.1
        );
    }
    Ok(())
}

/// `v20.19.2`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.trim().strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_test_that_fails_is_named_with_its_reason() {
        let report = br#"{"numFailedTests": 2, "testResults": [
            {"message": "Error: no browser\n    at launch", "assertionResults": []},
            {"message": "", "assertionResults": [
                {"fullName": " signs out", "status": "passed", "failureMessages": []},
                {"fullName": "on a plane signs in", "status": "failed",
                 "failureMessages": ["TimeoutError: 30000ms exceeded.\nCall log:\n  - waiting"]}]}]}"#;
        assert_eq!(
            failures(report).unwrap(),
            [
                "Error: no browser",
                "on a plane signs in: TimeoutError: 30000ms exceeded."
            ]
        );
        assert!(failures(b"{}").is_err());
    }

    #[test]
    fn an_old_node_is_known_by_its_version() {
        assert!(version("v18.20.4\n").unwrap() < NODE_MIN);
        assert!(version("v20.18.9").unwrap() < NODE_MIN);
        assert!(version("v20.19.0").unwrap() >= NODE_MIN);
        assert!(version("v22.1.0").unwrap() >= NODE_MIN);
        assert_eq!(version("node"), None);
    }
}
