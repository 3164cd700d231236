//! The programs that our commands call, and how they come onto a machine.
//!
//! As root on Debian, or in CI, what is missing is installed and said; elsewhere the one line
//! that would install it is printed and nothing is touched.

use crate::steps::{cargo_command, succeed};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    pub name: &'static str,
    source: Source,
    /// Shows by succeeding that the tool is there.
    probe: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Debian,
    /// Into target/tools of this checkout, at this version; a person's own tools stay as they are.
    Cargo(&'static str),
    /// Likewise, with these features, optimised as its users run it, and without its lock file,
    /// which no longer builds: what is measured against.
    CargoPeer(&'static str, &'static str),
    Rustup,
    /// Into an environment of its own, target/tools/python, at this version.
    PyPi(&'static str),
}

const fn debian(name: &'static str, probe: &'static [&'static str]) -> Tool {
    Tool {
        name,
        source: Source::Debian,
        probe,
    }
}

pub const MOSQUITTO: Tool = debian("mosquitto", &["test", "-x", "/usr/sbin/mosquitto"]);
pub const MOSQUITTO_CLIENTS: Tool = debian("mosquitto-clients", &["which", "mosquitto_pub"]);
pub const CURL: Tool = debian("curl", &["curl", "--version"]);
pub const OPENSSL: Tool = debian("openssl", &["openssl", "version"]);
/// A TPM without a chip, the tools that speak to it, and OpenSSL's way to its keys.
pub const SWTPM: Tool = debian("swtpm", &["swtpm", "--version"]);
pub const SWTPM_TOOLS: Tool = debian("swtpm-tools", &["swtpm_ioctl", "--version"]);
pub const TPM2_TOOLS: Tool = debian("tpm2-tools", &["tpm2_createek", "--version"]);
pub const TPM2_OPENSSL: Tool = debian(
    "tpm2-openssl",
    &[
        "sh",
        "-c",
        r#"test -f "$(openssl version -m | cut -d'"' -f2)/tpm2.so""#,
    ],
);
/// An ACME CA for tests.
pub const PEBBLE: Tool = debian("pebble", &["test", "-x", "/usr/bin/pebble"]);
/// What the kernel does for a real chip: it puts keys out of the way. It speaks over D-Bus.
pub const TPM2_ABRMD: Tool = debian("tpm2-abrmd", &["test", "-x", "/usr/sbin/tpm2-abrmd"]);
pub const TCTI_TABRMD: Tool = debian(
    "libtss2-tcti-tabrmd0",
    &["sh", "-c", "ls /usr/lib/*/libtss2-tcti-tabrmd.so.0"],
);
pub const DBUS_DAEMON: Tool = debian("dbus-daemon", &["dbus-daemon", "--version"]);
pub const PYTHON: Tool = debian("python3", &["python3", "--version"]);
pub const CRYPTOGRAPHY: Tool = debian(
    "python3-cryptography",
    &["python3", "-c", "import cryptography"],
);
pub const IPROUTE2: Tool = debian("iproute2", &["env", "PATH=/usr/bin:/usr/sbin", "ip", "-V"]);
pub const NFTABLES: Tool = debian("nftables", &["env", "PATH=/usr/bin:/usr/sbin", "nft", "-v"]);
/// For Debian's Python, which need not be the first on the path.
pub const AIOSMTPD: Tool = debian(
    "python3-aiosmtpd",
    &["/usr/bin/python3", "-c", "import aiosmtpd"],
);
/// Likewise; unmodified clients of a fleet that moves.
pub const PAHO: Tool = debian(
    "python3-paho-mqtt",
    &["/usr/bin/python3", "-c", "import paho.mqtt.client"],
);
/// Sees from outside what a server sends.
pub const TCPDUMP: Tool = debian(
    "tcpdump",
    &["env", "PATH=/usr/bin:/usr/sbin", "tcpdump", "--version"],
);
pub const VENV: Tool = debian(
    "python3-venv",
    &["/usr/bin/python3", "-c", "import ensurepip"],
);
/// Unmodified clients: a device that enrolls as at AWS, and one that attests by a token.
pub const AWS_SDK: Tool = Tool {
    name: "awsiotsdk",
    source: Source::PyPi("1.31.0"),
    probe: &[],
};
/// What devices run at AWS to report how they behave.
pub const DEFENDER_AGENT: Tool = Tool {
    name: "AWSIoTDeviceDefenderAgentSDK",
    source: Source::PyPi("2.0.0"),
    probe: &[],
};
pub const PYCOSE: Tool = Tool {
    name: "pycose",
    source: Source::PyPi("1.1.0"),
    probe: &[],
};
/// Asks every operation of the API what its description leaves open.
pub const SCHEMATHESIS: Tool = Tool {
    name: "schemathesis",
    source: Source::PyPi("4.32.5"),
    probe: &[],
};
/// A second opinion on payload schemas.
pub const JSONSCHEMA: Tool = Tool {
    name: "jsonschema",
    source: Source::PyPi("4.26.0"),
    probe: &[],
};
/// Likewise; AWS's own library, which our signatures for its interface are held against.
pub const BOTOCORE: Tool = debian(
    "python3-botocore",
    &["/usr/bin/python3", "-c", "import botocore"],
);
pub const NODE: Tool = debian("nodejs", &["node", "--version"]);
pub const NPM: Tool = debian("npm", &["npm", "--version"]);
pub const CHROMIUM: Tool = debian("chromium", &["test", "-x", "/usr/bin/chromium"]);
/// The typefaces of the pictures in the documents; the console takes what a system has.
pub const INTER: Tool = debian(
    "fonts-inter",
    &["test", "-d", "/usr/share/fonts/opentype/inter"],
);
pub const JETBRAINS_MONO: Tool = debian(
    "fonts-jetbrains-mono",
    &["test", "-d", "/usr/share/fonts/truetype/jetbrains-mono"],
);
pub const SOFTHSM: Tool = debian("softhsm2", &["softhsm2-util", "--version"]);
/// A balancer in front of our doors.
pub const HAPROXY: Tool = debian(
    "haproxy",
    &["env", "PATH=/usr/bin:/usr/sbin", "haproxy", "-v"],
);
/// Packs the vectors that tests read.
pub const ZSTD: Tool = debian("zstd", &["zstd", "--version"]);
pub const GCC: Tool = debian("gcc", &["cc", "--version"]);
/// What builds and links the small device's client, with the compiler.
pub const MAKE: Tool = debian("make", &["make", "--version"]);
pub const MBEDTLS: Tool = debian(
    "libmbedtls-dev",
    &["test", "-e", "/usr/include/mbedtls/ssl.h"],
);
/// Decides what Cedar's symbolic compiler asks.
pub const CVC5: Tool = debian("cvc5", &["cvc5", "--version"]);
pub const GXX: Tool = debian("g++", &["c++", "--version"]);
pub const RUSTFMT: Tool = Tool {
    name: "rustfmt",
    source: Source::Rustup,
    probe: &["cargo", "fmt", "--version"],
};
pub const CLIPPY: Tool = Tool {
    name: "clippy",
    source: Source::Rustup,
    probe: &["cargo", "clippy", "--version"],
};
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    source: Source::Cargo("0.20.2"),
    probe: &[],
};
pub const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    source: Source::Cargo("0.13.2"),
    probe: &[],
};

pub const CFSSL: Tool = debian("golang-cfssl", &["which", "cfssl"]);
pub const RUMQTTD: Tool = Tool {
    name: "rumqttd",
    source: Source::CargoPeer("0.20.0", "verify-client-cert"),
    probe: &[],
};

/// Where packages of Python lie that tests start; they look there.
const PYTHON_FOLDER: &str = "target/tools/python";

/// Installs what is missing of `tools` where that is allowed.
///
/// # Errors
/// With the line to run if this machine is not ours to change, or if an installation fails.
pub fn ensure(root: &Path, tools: &[Tool]) -> anyhow::Result<()> {
    let missing: Vec<Tool> = tools
        .iter()
        .copied()
        .filter(|tool| !tool.is_present(root))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.name).collect();
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let debian = Path::new("/etc/debian_version").exists();
    let root_user = is_root();
    let apt = missing.iter().any(|tool| tool.source == Source::Debian);
    if !(ci || debian && root_user) || (apt && !debian) {
        bail!(
            "missing: {}. Run this, then try again:\n  {}",
            names.join(", "),
            by_hand(&missing)
        );
    }
    println!("installing what is missing: {}", names.join(", "));
    install_debian(&missing, root_user)?;
    for tool in &missing {
        match tool.source {
            Source::Debian => {}
            Source::PyPi(version) => {
                let python = root.join(PYTHON_FOLDER);
                if !python.join("bin/pip").exists() {
                    let mut venv = Command::new("/usr/bin/python3");
                    succeed(venv.args(["-m", "venv"]).arg(&python))?;
                }
                let mut pip = Command::new(python.join("bin/pip"));
                let package = format!("{}=={version}", tool.name);
                succeed(pip.args(["install", "--quiet", &package]))?;
            }
            Source::Rustup => {
                succeed(Command::new("rustup").args(["component", "add", tool.name]))?;
            }
            // Unoptimised: these tools run for seconds and would build for minutes.
            Source::Cargo(version) => succeed(
                cargo_command(root)
                    .args(["install", "--locked", "--debug", "--root"])
                    .arg(root.join("target/tools"))
                    .arg(format!("{}@{version}", tool.name)),
            )?,
            Source::CargoPeer(version, features) => succeed(
                cargo_command(root)
                    .args(["install", "--features", features, "--root"])
                    .arg(root.join("target/tools"))
                    .arg(format!("{}@{version}", tool.name)),
            )?,
        }
        if !tool.is_present(root) {
            bail!("{} was installed and is still not found", tool.name);
        }
    }
    Ok(())
}

/// True if none of `tools` would have to be installed.
pub fn are_present(root: &Path, tools: &[Tool]) -> bool {
    tools.iter().all(|tool| tool.is_present(root))
}

/// `cargo <verb>` by a tool of ours at its pinned version.
pub fn cargo_tool(root: &Path, tool: Tool) -> Command {
    let verb = tool.name.trim_start_matches("cargo-");
    let mut command = Command::new(tool.program(root).unwrap_or_else(|| tool.name.into()));
    command.current_dir(root).arg(verb);
    command
}

impl Tool {
    fn is_present(self, root: &Path) -> bool {
        match self.source {
            Source::Cargo(_) | Source::CargoPeer(..) => self.program(root).is_some(),
            Source::PyPi(version) => {
                let shown = Command::new(root.join(PYTHON_FOLDER).join("bin/pip"))
                    .args(["show", self.name])
                    .output();
                shown.is_ok_and(|shown| {
                    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
                    text.lines()
                        .any(|line| line == format!("Version: {version}"))
                })
            }
            Source::Debian | Source::Rustup => {
                let mut words = self.probe.iter();
                words.next().is_some_and(|program| {
                    Command::new(program)
                        .args(words)
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status()
                        .is_ok_and(|status| status.success())
                })
            }
        }
    }

    /// In target/tools or on the path, at the pinned version.
    pub fn program(self, root: &Path) -> Option<PathBuf> {
        let (Source::Cargo(version) | Source::CargoPeer(version, _)) = self.source else {
            return None;
        };
        [
            root.join("target/tools/bin").join(self.name),
            self.name.into(),
        ]
        .into_iter()
        .find(|program| {
            Command::new(program)
                .arg("--version")
                .output()
                .is_ok_and(|output| {
                    String::from_utf8_lossy(&output.stdout)
                        .split_whitespace()
                        .any(|word| word == version)
                })
        })
    }
}

/// Debian starts and enables a service when its package arrives. Nothing may listen on 1883
/// because somebody ran our tests: starting is refused during the installation, enabling undone.
fn install_debian(missing: &[Tool], root_user: bool) -> anyhow::Result<()> {
    const POLICY: &str = "/usr/sbin/policy-rc.d";
    let packages: Vec<&str> = missing
        .iter()
        .filter(|tool| tool.source == Source::Debian)
        .map(|tool| tool.name)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    let as_root = |words: &[&str]| {
        let mut command = Command::new(if root_user { "env" } else { "sudo" });
        if !root_user {
            command.args(["-n", "env"]);
        }
        command.arg("DEBIAN_FRONTEND=noninteractive").args(words);
        command
    };
    let policy_is_ours = !Path::new(POLICY).exists();
    if policy_is_ours {
        let write = format!("printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}");
        succeed(&mut as_root(&["sh", "-c", &write]))?;
    }
    let mut install = vec!["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&packages);
    let installed = succeed(&mut as_root(&["apt-get", "update", "-qq"]))
        .and_then(|()| succeed(&mut as_root(&install)));
    if policy_is_ours {
        succeed(&mut as_root(&["rm", "-f", POLICY]))?;
    }
    installed.context("apt-get could not install what is missing")?;
    if packages.contains(&MOSQUITTO.name) && Path::new("/bin/systemctl").exists() {
        let disable = as_root(&["systemctl", "disable", "--now", "mosquitto.service"])
            .stderr(Stdio::null())
            .status();
        // Without a running systemd there is nothing to stop, and --now fails after disabling.
        drop(disable);
    }
    Ok(())
}

fn by_hand(missing: &[Tool]) -> String {
    let of = |wanted: fn(&Source) -> bool| -> Vec<&Tool> {
        missing.iter().filter(|tool| wanted(&tool.source)).collect()
    };
    let mut parts = Vec::new();
    let debian = of(|source| matches!(source, Source::Debian));
    if !debian.is_empty() {
        let names: Vec<&str> = debian.iter().map(|tool| tool.name).collect();
        parts.push(format!(
            "sudo apt-get install -y --no-install-recommends {}",
            names.join(" ")
        ));
    }
    for tool in of(|source| matches!(source, Source::Rustup)) {
        parts.push(format!("rustup component add {}", tool.name));
    }
    for tool in missing {
        let (how, version) = match tool.source {
            Source::Cargo(version) => ("--locked --debug".to_owned(), version),
            Source::CargoPeer(version, features) => (format!("--features {features}"), version),
            Source::PyPi(version) => {
                parts.push(format!(
                    "python3 -m venv {PYTHON_FOLDER} && {PYTHON_FOLDER}/bin/pip install {}=={version}",
                    tool.name
                ));
                continue;
            }
            Source::Debian | Source::Rustup => continue,
        };
        parts.push(format!(
            "cargo install {how} --root target/tools {}@{version}",
            tool.name
        ));
    }
    parts.join(" && ")
}

pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_not_ours_gets_one_line_to_run() {
        let line = by_hand(&[MOSQUITTO, CARGO_DENY, CURL, CLIPPY]);
        assert_eq!(
            line,
            "sudo apt-get install -y --no-install-recommends mosquitto curl && \
             rustup component add clippy && \
             cargo install --locked --debug --root target/tools cargo-deny@0.20.2"
        );
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn a_tool_of_another_version_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let tool = Tool {
            name: "cargo-fleetward-nothing",
            source: Source::Cargo("1.2.3"),
            probe: &[],
        };
        assert!(!tool.is_present(folder.path()));
        let bin = folder.path().join("target/tools/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (version, present) in [("1.2.30", false), ("1.2.3", true)] {
            let program = bin.join(tool.name);
            let script = format!("#!/bin/sh\necho {} {version}\n", tool.name);
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(
                &program,
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )
            .unwrap();
            assert_eq!(tool.is_present(folder.path()), present, "{version}");
        }
    }

    #[test]
    fn what_is_there_is_not_installed_again() {
        assert!(GCC.is_present(Path::new("/nowhere")));
        assert!(ensure(Path::new("/nowhere"), &[GCC]).is_ok());
    }
}
