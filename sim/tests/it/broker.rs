//! Mosquitto on a port of its own, ended by its process id.

use sim::credential::{read_certificates, write_certificates};
use sim::load::{CertificatePaths, CertificateSet, make_certificates};
use sim::tls::Endpoint;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/sbin/mosquitto";

pub struct Broker {
    process: Child,
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    pub paths: CertificatePaths,
}

impl Broker {
    /// Trusts the certificates of `make_certificates` and `more_cas`. A client may publish and
    /// subscribe below `t/<client id>/`; the certificate with the name `consumer` reads `t/#`.
    /// `None`, with a message, where Mosquitto is not installed.
    pub fn start(devices: usize, more_cas: &[Vec<u8>]) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            println!("skipped: {PROGRAM} is not installed (Debian: apt-get install mosquitto)");
            return None;
        }
        let folder = crate::folder();
        let set = CertificateSet {
            folder: folder.path(),
            devices,
            prefix: "device",
            days: 2,
        };
        let paths = make_certificates(&set, sim::now()).unwrap();
        let mut cas = read_certificates(&paths.ca).unwrap();
        cas.extend_from_slice(more_cas);
        write_certificates(&folder.path().join("clients.pem"), &cas).unwrap();
        fs::write(
            folder.path().join("acl"),
            "pattern readwrite t/%c/#\n\nuser consumer\ntopic readwrite t/#\n",
        )
        .unwrap();
        let address = free_address();
        let process = run(folder.path(), address);
        Some(Self {
            process,
            folder,
            address,
            paths,
        })
    }

    pub fn endpoint(&self) -> Endpoint {
        let roots = read_certificates(&self.paths.ca).unwrap();
        Endpoint::new(self.address, "localhost", &roots).unwrap()
    }

    /// Ends it without a word to its clients.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, with nothing remembered.
    pub fn restart(&mut self) {
        self.kill();
        self.process = run(self.folder.path(), self.address);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(folder: &Path, address: SocketAddr) -> Child {
    let path = folder.display();
    let user = if fs::metadata(folder.join("server.key")).is_ok() && is_root() {
        "user root\n"
    } else {
        ""
    };
    // Not `max_queued_messages 0`: with it, Mosquitto 2.0.11 ends a client's session at the first
    // packet after a PUBLISH that it denied.
    let configuration = format!(
        "{user}persistence false\nallow_anonymous false\nlistener {} 127.0.0.1\n\
         cafile {path}/clients.pem\ncertfile {path}/server.pem\nkeyfile {path}/server.key\n\
         require_certificate true\nuse_identity_as_username true\nset_tcp_nodelay true\n\
         max_inflight_messages 0\nmax_queued_messages 1000000\nacl_file {path}/acl\n",
        address.port()
    );
    let file = folder.join("mosquitto.conf");
    fs::write(&file, configuration).unwrap();
    let mut process = Command::new(PROGRAM)
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(
            process.try_wait().unwrap().is_none() && Instant::now() < deadline,
            "mosquitto does not start"
        );
        std::thread::yield_now();
    }
    process
}

/// Mosquitto, started by root, becomes another user who could not read the keys.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}
