//! A TPM of swtpm, driven by tpm2-tools: the real peer.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs until it is dropped.
pub struct Chip {
    folder: tempfile::TempDir,
}

impl Chip {
    /// `None` where swtpm or tpm2-tools are missing.
    pub fn start() -> Option<Self> {
        for program in ["swtpm", "swtpm_ioctl", "tpm2_createek"] {
            let found = Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if found.is_err() {
                println!("skipped: no {program} on this machine");
                return None;
            }
        }
        let chip = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        // It goes to the background when its sockets are open, so the first command finds them.
        chip.run(
            "swtpm socket --daemon --tpm2 --tpmstate dir=\"$PWD\" --server type=unixio,path=tpm.sock \
             --ctrl type=unixio,path=tpm.sock.ctrl --flags not-need-init,startup-clear",
        );
        Some(chip)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder().join(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder().join(name)).unwrap()
    }

    /// A script of the shell, each line of which must succeed.
    #[track_caller]
    pub fn run(&self, script: &str) {
        assert!(self.succeeds(script), "{script}");
    }

    pub fn succeeds(&self, script: &str) -> bool {
        let tcti = format!("swtpm:path={}", self.folder().join("tpm.sock").display());
        let ran = Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.folder())
            .env("TPM2TOOLS_TCTI", &tcti)
            .env("TPM2OPENSSL_TCTI", &tcti)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        ran.success()
    }

    /// An endorsement and an attestation key of this kind (`rsa` or `ecc`): `ek.pub`, `ak.pub`.
    pub fn make_keys(&self, kind: &str) {
        let scheme = if kind == "rsa" { "rsassa" } else { "ecdsa" };
        self.run(&format!(
            "tpm2_createek -Q -c ek.ctx -G {kind} -u ek.pub; tpm2_flushcontext -t
             tpm2_createak -Q -C ek.ctx -c ak.ctx -G {kind} -g sha256 -s {scheme} -u ak.pub -n ak.name
             tpm2_flushcontext -t"
        ));
    }

    /// What the chip gives back for `credential`.
    pub fn activate(&self, credential: &[u8]) -> Option<Vec<u8>> {
        self.write("credential", credential);
        self.succeeds(
            "tpm2_startauthsession -Q --policy-session -S s.ctx
             tpm2_policysecret -Q -S s.ctx -c e
             tpm2_activatecredential -Q -c ak.ctx -C ek.ctx -i credential -o secret -P session:s.ctx \
             || { tpm2_flushcontext s.ctx; tpm2_flushcontext -t; exit 1; }
             tpm2_flushcontext s.ctx; tpm2_flushcontext -t",
        )
        .then(|| self.read("secret"))
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        let _ = Command::new("swtpm_ioctl")
            .args(["--unix", "tpm.sock.ctrl", "-s"])
            .current_dir(self.folder())
            .status();
    }
}
