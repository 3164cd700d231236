//! `cargo xtask test`: everything the CI runs, in one command.

use crate::steps::{Heard, Outcome, Steps, Tests, cargo, cargo_command, counted_tests, succeed};
use crate::tools::{self, Tool};
use crate::{console, demo};
use anyhow::bail;
use std::path::Path;

const NEEDED: &[Tool] = &[
    tools::RUSTFMT,
    tools::CLIPPY,
    tools::CURL,
    tools::OPENSSL,
    tools::PEBBLE,
    tools::ZSTD,
    tools::GCC,
    tools::MAKE,
    tools::MBEDTLS,
    tools::PYTHON,
    tools::CRYPTOGRAPHY,
    tools::AIOSMTPD,
    tools::PAHO,
    tools::VENV,
    tools::AWS_SDK,
    tools::DEFENDER_AGENT,
    tools::PYCOSE,
    tools::JSONSCHEMA,
    tools::SCHEMATHESIS,
    tools::BOTOCORE,
    tools::SOFTHSM,
    tools::MOSQUITTO,
    tools::SWTPM,
    tools::SWTPM_TOOLS,
    tools::TPM2_TOOLS,
    tools::TPM2_OPENSSL,
    tools::TPM2_ABRMD,
    tools::TCTI_TABRMD,
    tools::DBUS_DAEMON,
    tools::MOSQUITTO_CLIENTS,
    tools::CARGO_DENY,
    tools::NODE,
    tools::NPM,
    tools::CHROMIUM,
    tools::IPROUTE2,
    tools::HAPROXY,
    tools::NFTABLES,
];

const TESTS: &str = "tests";

/// `true` if all is well.
///
/// # Errors
/// If a tool is missing and may not be installed here.
pub fn run(root: &Path) -> anyhow::Result<bool> {
    tools::ensure(root, NEEDED)?;
    let mut steps = Steps::default();
    let mut heard: Option<Heard> = None;
    // First, so that the plane that is tested holds it.
    steps.run("console: build", || passed(console::build(root)));
    steps.run("console: unit tests", || passed(console::unit(root)));
    steps.run("fmt", || passed(cargo(root, &["fmt", "--all", "--check"])));
    steps.run("clippy", || {
        passed(cargo(
            root,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
        ))
    });
    // A test cannot build the program of another crate; it would be skipped without it.
    steps.run("programs that tests start", || {
        passed(cargo(
            root,
            &["build", "--locked", "-p", "fleetward", "-p", "agent"],
        ))
    });
    steps.run(TESTS, || {
        let mut command = cargo_command(root);
        command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
        command.args(["--", "--show-output"]);
        let (succeeded, said) = counted_tests(&mut command)?;
        let outcome = judge_tests(succeeded, &said);
        heard = Some(said);
        outcome
    });
    steps.run("console: in a browser", || {
        passed(console::browser(root, false))
    });
    // Alone: a dozen programs and a network. How soon it is, is for `cargo xtask demo` to say.
    steps.run("demo", || {
        let arguments = demo::Arguments {
            debug: true,
            arguments: ["--headless", "--incident-within", "600"]
                .map(String::from)
                .into(),
        };
        passed(demo::play(root, &arguments))
    });
    steps.run("licences, bans, sources", || {
        passed(succeed(tools::cargo_tool(root, tools::CARGO_DENY).args([
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ])))
    });
    steps.run("advisories", || advisories(root));
    steps.run("tidy", || {
        if crate::tidy_command(root)? {
            Ok(Outcome::Passed)
        } else {
            bail!("a rule of the house is broken; see above")
        }
    });
    println!("\n{}", steps.summary());
    for skip in heard.iter().flat_map(|heard| &heard.skips) {
        println!("skipped {}: {}", skip.test, skip.why);
    }
    match conclusion(&steps, heard.map(|heard| heard.tests)) {
        Some(line) => println!("{line}"),
        None => println!("not counted: not all tests were built and run"),
    }
    Ok(steps.failed() == 0)
}

fn passed(result: anyhow::Result<()>) -> anyhow::Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

/// A skipped test says nothing, and nobody reads a thousand lines: the summary says how many.
fn judge_tests(succeeded: bool, heard: &Heard) -> anyhow::Result<Outcome> {
    match (succeeded, heard.tests.failed) {
        (true, 0) if heard.tests.passed > 0 && !heard.skips.is_empty() => Ok(Outcome::Partly(
            format!("{} SKIPPED; listed below", heard.skips.len()),
        )),
        (true, 0) if heard.tests.passed > 0 => Ok(Outcome::Passed),
        (true, 0) => bail!("no test ran"),
        (false, 0) => bail!("a test program did not build or did not finish"),
        (_, failed) => bail!("{failed} failed: {}", heard.failures.join(", ")),
    }
}

/// The database is fetched from the network. Without one, nothing is known about advisories, and
/// that is said rather than passed over; the other checks need no network.
fn advisories(root: &Path) -> anyhow::Result<Outcome> {
    let mut command = tools::cargo_tool(root, tools::CARGO_DENY);
    command.args(["check", "--hide-inclusion-graph", "advisories"]);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    print!("{said}");
    if output.status.success() {
        return Ok(Outcome::Passed);
    }
    if is_out_of_reach(&said) {
        return Ok(Outcome::Partly(
            "NOT CHECKED: the advisory database cannot be reached from here".to_owned(),
        ));
    }
    bail!("an advisory concerns a crate of ours; see above")
}

fn is_out_of_reach(said: &str) -> bool {
    said.contains("failed to fetch advisory database")
}

/// The last line: each test and each other check counts once, and one that could not be judged
/// not at all. `None` where the tests themselves could not be counted.
fn conclusion(steps: &Steps, tests: Option<Tests>) -> Option<String> {
    let tests = tests?;
    if tests.failed == 0 && (tests.passed == 0 || steps.has_failed(TESTS)) {
        return None;
    }
    let (mut passed, mut failed) = (tests.passed, tests.failed);
    for (name, outcome) in steps.outcomes() {
        match outcome {
            _ if name == TESTS => {}
            Outcome::Passed => passed += 1,
            Outcome::Partly(_) => {}
            Outcome::Failed(_) => failed += 1,
        }
    }
    Some(format!("{passed} passed, {failed} failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::Skip;

    fn tests(passed: usize, failed: usize) -> Tests {
        Tests {
            passed,
            failed,
            ignored: 0,
        }
    }

    #[test]
    fn silence_is_not_success() {
        let judge = |succeeded, passed, failed, skips: &[&str]| {
            let mut heard = Heard::default();
            heard.tests = tests(passed, failed);
            heard.failures = vec!["b::c".into(); failed];
            heard.skips = (skips.iter())
                .map(|why| Skip {
                    test: "a".into(),
                    why: (*why).into(),
                })
                .collect();
            judge_tests(succeeded, &heard)
        };
        assert!(judge(true, 0, 0, &[]).is_err());
        assert!(judge(false, 5, 0, &[]).is_err());
        let error = judge(false, 5, 1, &[]).unwrap_err();
        assert_eq!(error.to_string(), "1 failed: b::c");
        assert_eq!(judge(true, 5, 0, &[]).unwrap(), Outcome::Passed);
        assert!(matches!(
            judge(true, 5, 0, &["no nft"]).unwrap(),
            Outcome::Partly(why) if why.contains('1')
        ));
    }

    #[test]
    fn the_count_holds_what_was_judged_and_nothing_else() {
        let mut steps = Steps::default();
        steps.run("fmt", || Ok(Outcome::Passed));
        steps.run("tidy", || bail!("a rule is broken"));
        steps.run("advisories", || {
            Ok(Outcome::Partly("no network".to_owned()))
        });
        let line = |steps: &Steps, counted| conclusion(steps, counted);
        assert_eq!(line(&steps, None), None);
        assert_eq!(line(&steps, Some(tests(0, 0))), None);
        assert_eq!(
            line(&steps, Some(tests(5, 2))).unwrap(),
            "6 passed, 3 failed"
        );
        // Five tests ran, then a test program did not build: five is not the number of tests.
        steps.run(TESTS, || bail!("did not build"));
        assert_eq!(line(&steps, Some(tests(5, 0))), None);
    }

    #[test]
    fn only_a_fetch_that_failed_excuses_the_advisories() {
        assert!(is_out_of_reach(
            "[ERROR] failed to fetch advisory database https://example.org/db\nCaused by: x"
        ));
        assert!(!is_out_of_reach("error[vulnerability]: a hole in x"));
    }
}
