//! Running the binary, and logs of a test key to run it on.

use audit::{Entry, KeyKind, PublishedTree, Sequencer, Vkey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use model::{TenantId, Timestamp};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const ORIGIN: &str = "audit.example.com/test";

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// It said no in exactly one line, which is returned.
    #[track_caller]
    pub fn refused(&self) -> &str {
        assert_eq!(self.code, 1, "{self:?}");
        let lines: Vec<_> = self.err.lines().collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0]
    }

    #[track_caller]
    pub fn well(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The binary in an environment that holds nothing of ours.
pub fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetward"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLEETWARD_") {
            command.env_remove(name);
        }
    }
    command
}

pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    finished(&mut command(arguments))
}

pub fn finished(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The plain Python verifier, if this machine can run it.
pub fn python_verifier(arguments: &[&str]) -> Option<Ran> {
    let knows = |code: &str| {
        Command::new("python3")
            .args(["-c", code])
            .stderr(Stdio::null())
            .status()
            .ok()?
            .success()
            .then_some(())
    };
    if knows("import cryptography").is_none() {
        eprintln!("skipped: python3 with the package cryptography is not installed");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify/verify.py");
    Some(finished(
        Command::new("python3").arg(script).args(arguments),
    ))
}

/// A published log in a folder, written by the audit room with a key of ours.
pub struct Log {
    scratch: tempfile::TempDir,
    key: Ed25519KeyPair,
    pub vkey: Vkey,
    sequencer: Sequencer,
    /// What makes its entries differ from those of another history.
    history: &'static str,
    note: String,
}

impl Log {
    /// `seed` makes the key: two logs of one seed are two histories signed by one operator.
    pub fn new(seed: u8, history: &'static str, entries: u64) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = key.public_key().as_ref().try_into().unwrap();
        let mut log = Self {
            scratch: tempfile::tempdir().unwrap(),
            vkey: Vkey::new(ORIGIN, KeyKind::Ed25519, public).unwrap(),
            key,
            sequencer: Sequencer::new(ORIGIN),
            history,
            note: String::new(),
        };
        log.grow(entries);
        log
    }

    pub fn grow(&mut self, entries: u64) {
        let first = self.sequencer.published().size;
        let leaves: Vec<_> = (first..first + entries).map(|i| self.entry(i)).collect();
        let integration = self.sequencer.integrate(&leaves).unwrap();
        for file in integration.writes() {
            let path = self.dir().join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &file.bytes).unwrap();
        }
        let signature = self.key.sign(integration.checkpoint_text().as_bytes());
        let signed = integration.signed(&self.vkey, signature.as_ref()).unwrap();
        self.note = signed.note().to_owned();
        fs::write(self.dir().join("checkpoint"), &self.note).unwrap();
        self.sequencer.publish(signed).unwrap();
    }

    fn entry(&self, index: u64) -> Vec<u8> {
        let entry = Entry {
            time: Timestamp::from_seconds(1_793_000_000 + index),
            tenant: TenantId::new("test").unwrap(),
            actor: "operator/7f3a".into(),
            action: "identity.device-enrolled".into(),
            object: format!("device/cam-{index}"),
            // What a hostile device would like to say to a terminal.
            details: BTreeMap::from([(
                "serial".into(),
                format!("\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}{}{index}", self.history),
            )]),
            request: None,
        };
        entry.to_leaf().unwrap()
    }

    pub fn dir(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// A file beside the log.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn note(&self) -> &str {
        &self.note
    }

    pub fn key(&self) -> String {
        self.vkey.to_string()
    }

    pub fn bundle(&self, indices: std::ops::Range<u64>, since: Option<u64>) -> String {
        let dir = self.dir();
        let mut load = |path: &str| fs::read(dir.join(path)).ok();
        let mut tree = PublishedTree::new(self.sequencer.published().size, &mut load);
        audit::build(
            &self.note,
            std::slice::from_ref(&self.vkey),
            &mut tree,
            &indices.collect(),
            since,
        )
        .unwrap()
    }
}

/// Changes one byte of a file to another.
pub fn alter(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
