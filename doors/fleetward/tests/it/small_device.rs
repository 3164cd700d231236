//! The small device of `device/c` at a real plane: C99 on mbedTLS, under AddressSanitizer where it
//! speaks with what is hostile.

use crate::agent::Got;
use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use model::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use sim::Device;
use sim::device::Manner;
use sim::load::{CertificatePaths, CertificateSet, make_certificates};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What it must fit into beside its own code: the heap's peak with one session, and its own code
/// without mbedTLS, in bytes. Recorded in `docs/identity/small-devices.md`.
const HEAP_BYTES_MAX: u64 = 60 * 1024;
const CODE_BYTES_MAX: u64 = 32 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    /// As it would ship.
    Small,
    /// With AddressSanitizer and UBSan.
    Sanitized,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device/c")
}

fn folder(build: Build) -> PathBuf {
    let name = match build {
        Build::Small => "device-c",
        Build::Sanitized => "device-c-sanitized",
    };
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn run_make(build: Build, more: &[&str]) -> Output {
    let mut make = Command::new("make");
    make.arg("-C").arg(source());
    make.arg(format!("BUILD={}", folder(build).display()));
    if build == Build::Sanitized {
        make.arg("SANITIZE=1");
    }
    make.args(more).output().unwrap()
}

/// Whether there is a compiler with mbedTLS; says so if a test is skipped for want of it.
pub fn can_be_built() -> bool {
    static CAN_BE_BUILT: OnceLock<bool> = OnceLock::new();
    let can = *CAN_BE_BUILT.get_or_init(|| {
        let succeeds = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            command.output().is_ok_and(|output| output.status.success())
        };
        let header = ["-E", "-include", "mbedtls/ssl.h", "-x", "c", "/dev/null"];
        succeeds("make", &["--version"]) && succeeds("cc", &header)
    });
    if !can {
        println!("skipped: a C compiler, make or mbedTLS (libmbedtls-dev) is not installed");
    }
    can
}

/// The program; `None`, and said so, where it cannot be built.
fn program(build: Build) -> Option<PathBuf> {
    static BUILT: [OnceLock<()>; 2] = [OnceLock::new(), OnceLock::new()];
    if !can_be_built() {
        return None;
    }
    BUILT[build as usize].get_or_init(|| {
        for target in [&[][..], &["preloads"]] {
            let output = run_make(build, target);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
        }
    });
    Some(folder(build).join("fleetward-device"))
}

/// A small device with a folder of its own.
struct SmallDevice {
    folder: PathBuf,
    program: PathBuf,
    running: Option<Child>,
}

impl SmallDevice {
    fn of(home: &Home, plane: &Plane, device: &Device, build: Build, more: &str) -> Option<Self> {
        let program = program(build)?;
        let folder = home.path(&format!("small-{}", device.id()));
        std::fs::create_dir(&folder).unwrap();
        device.idevid().write(&folder, "idevid").unwrap();
        let roots = sim::credential::pem("CERTIFICATE", &plane.root());
        std::fs::write(folder.join("roots.pem"), roots).unwrap();
        let small = Self {
            folder,
            program,
            running: None,
        };
        small.configure(device, plane.devices, plane.mqtt, more);
        Some(small)
    }

    fn configure(&self, device: &Device, est: SocketAddr, mqtt: SocketAddr, more: &str) {
        let id = device.id();
        let text = format!(
            "# of a test\ndevice = {id}\nstate_dir = state\nroots_file = roots.pem\n\
             idevid_certificate_file = idevid.pem\nidevid_key_file = idevid.key\n\
             firmware_version = 1.2.3\npublish_topic = v1/sensor/{id}/telemetry/status\n\
             publish_seconds = 1\nreport_seconds = 1\nreconnect_seconds_max = 1\n\
             est = localhost:{}\nmqtt = localhost:{}\n{more}\n",
            est.port(),
            mqtt.port(),
        );
        std::fs::write(self.folder.join("device.conf"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("device.conf").current_dir(&self.folder);
        command.stdin(Stdio::null());
        command
    }

    fn once(&self) -> Output {
        self.command().arg("--once").output().unwrap()
    }

    /// Delivers one message, enrolling first if needed.
    #[track_caller]
    fn once_well(&self) -> String {
        let output = self.once();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    fn start(&mut self) {
        let mut log = std::fs::OpenOptions::new();
        let log = log.create(true).append(true);
        let log = log.open(self.folder.join("log")).unwrap();
        self.running = Some(self.command().stderr(log).spawn().unwrap());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_for(&self, mark: usize, text: &str) {
        wait_until(text, || self.log()[mark..].contains(text));
    }

    /// Asks it to end, and it must do so without a finding of the sanitizers.
    #[track_caller]
    fn stop(&mut self) {
        let mut child = self.running.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    fn stored(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.join("state"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for SmallDevice {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("the small device's lines:\n{}", self.log());
        }
    }
}

/// Small devices speak TLS 1.2.
fn plane() -> (Home, Plane) {
    let home = Home::new(&Settings {
        gateway: "tls_1_2 = true".into(),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    (home, plane)
}

#[test]
fn a_small_device_enrolls_publishes_renews_obeys_and_stays_out_when_revoked() {
    let (home, plane) = plane();
    let device = home.device("small-1");
    plane.expect([&device]);
    let more = "renew_seconds_max = 2";
    let Some(mut small) = SmallDevice::of(&home, &plane, &device, Build::Sanitized, more) else {
        return;
    };
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();
    small.start();
    let mut got = Got::default();
    got.take_until(&mut ingest, |got| !got.0.is_empty());

    // A renewal after each session that settled; the old certificate has retired.
    let slot = |small: &SmallDevice| small.stored().join(" ");
    wait_until("two renewals", || {
        small.log().matches("renewing the certificate").count() >= 2
    });
    wait_until("one slot is left", || {
        let stored = slot(&small);
        stored.contains("proven") && !(stored.contains("slot-a") && stored.contains("slot-b"))
    });
    let recorded = plane.get("/api/v1/identity/devices/small-1").expect(200);
    let certificates = recorded.json()["certificates"].as_array().unwrap().len();
    assert!(certificates >= 2, "{certificates}");
    got.take_until(&mut ingest, |got| got.0.len() >= 2 && got.is_whole());

    // Quarantined, it keeps quiet; it reports, so a new session is told again.
    let containments = "/api/v1/response/containments";
    let contain = |degree: &str| {
        let act = serde_json::json!({
            "device": "small-1", "containment": degree, "reason": "a drill",
        });
        plane.post(containments, &act).expect(201);
    };
    let restore = || {
        let path = format!("{containments}/small-1");
        plane.try_ask("DELETE", &path, None).unwrap().expect(200);
    };
    let mark = small.log().len();
    contain("quarantined");
    small.wait_for(mark, "the plane says: quarantined");
    let mark = small.log().len();
    small.wait_for(mark, "connected to");
    small.wait_for(mark, "the plane says: quarantined");
    let mark = small.log().len();
    restore();
    small.wait_for(mark, "the plane says: free");
    let before = got.0.len();
    got.take_until(&mut ingest, |got| got.0.len() > before && got.is_whole());

    // Isolated, it closes and is let in nowhere; restored, it comes back by itself.
    let mark = small.log().len();
    contain("isolated");
    wait_until("its session has ended", || {
        !plane.connected().contains(&"device/small-1".to_owned())
    });
    small.wait_for(mark, "the plane refuses by TLS alert");
    let mark = small.log().len();
    restore();
    small.wait_for(mark, "connected to");
    let before = got.0.len();
    got.take_until(&mut ingest, |got| got.0.len() > before && got.is_whole());

    // Revoked, it is refused with its factory identity too, and goes on asking.
    let mark = small.log().len();
    plane.revoke(device.id());
    small.wait_for(mark, "asking for a certificate by the factory identity");
    small.wait_for(mark, "not enrolled");
    assert!(!plane.connected().contains(&"device/small-1".to_owned()));
    assert!(
        !small.log().contains("refuses a message"),
        "it published what it may not"
    );
    small.stop();
    plane.stop_well();
}

#[test]
fn a_small_device_is_small() {
    let (home, plane) = plane();
    let device = home.device("small-2");
    plane.expect([&device]);
    let Some(small) = SmallDevice::of(&home, &plane, &device, Build::Small, "") else {
        return;
    };
    let said = small.once_well();
    let peak: u64 = said
        .rsplit_once("heap peak ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .unwrap();
    let output = run_make(Build::Small, &["--silent", "sizes"]);
    let sizes = String::from_utf8(output.stdout).unwrap();
    // text, data, bss, dec, hex, file
    let rows: Vec<Vec<&str>> = sizes
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let number = |row: &[&str], column: usize| row[column].parse::<u64>().unwrap();
    let (own, whole): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row[5].ends_with(".o"));
    let code: u64 = own.iter().map(|row| number(row, 0)).sum();
    println!(
        "small device: heap peak {peak} bytes, its own code {code} bytes, with mbedTLS {} bytes",
        number(whole[0], 0)
    );
    assert!(peak <= HEAP_BYTES_MAX, "{peak}");
    assert!(code <= CODE_BYTES_MAX, "{code}");
    plane.stop_well();
}

#[test]
fn a_clock_in_1970_or_2060_does_not_lock_a_small_device_out() {
    let (home, plane) = plane();
    for (name, clock) in [("early", 0u64), ("late", 2_840_140_800)] {
        let device = home.device(name);
        plane.expect([&device]);
        let Some(small) = SmallDevice::of(&home, &plane, &device, Build::Small, "") else {
            return;
        };
        let preload = folder(Build::Small).join("wrong_clock.so");
        let output = small
            .command()
            .arg("--once")
            .env("LD_PRELOAD", preload)
            .env("WRONG_CLOCK", clock.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
    }
    plane.stop_well();
}

/// Many devices at once, each with its power cut at another step.
fn cut_at_each(steps: usize, life: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for step in 1..=steps {
            let life = &life;
            scope.spawn(move || life(step));
        }
    });
}

/// The steps of an enrollment or of a renewal, and a few more: opening the folder, the key asked
/// for, the slot, the switch, the old slot's end, the clock.
const STEPS: usize = 28;
/// The preloaded library's exit status.
const CUT: i32 = 77;

#[test]
fn a_power_cut_at_any_step_of_enrollment_locks_no_small_device_out() {
    let (home, plane) = plane();
    if program(Build::Small).is_none() {
        return;
    }
    let devices: Vec<Device> = (1..=STEPS)
        .map(|step| home.device(&format!("cut-{step}")))
        .collect();
    plane.expect(&devices);
    let preload = folder(Build::Small).join("power_cut.so");
    let cut = std::sync::Mutex::new(0);
    cut_at_each(STEPS, |step| {
        let device = &devices[step - 1];
        let small = SmallDevice::of(&home, &plane, device, Build::Small, "").unwrap();
        let output = small
            .command()
            .arg("--once")
            .env("LD_PRELOAD", &preload)
            .env("POWER_CUT_AT", step.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(CUT) => *cut.lock().unwrap() += 1,
            // It has no so late a step.
            code => assert_eq!(code, Some(0), "step {step}: {said}"),
        }
        small.once_well();
        assert!(!small.stored().contains(&"unfinished".to_owned()));
    });
    let cut = cut.into_inner().unwrap();
    println!("the power was cut at {cut} steps of an enrollment");
    assert!(cut >= 15, "{cut}");
    plane.stop_well();
}

#[test]
fn a_power_cut_at_any_step_of_renewal_locks_no_small_device_out() {
    let (home, plane) = plane();
    if program(Build::Small).is_none() {
        return;
    }
    let devices: Vec<Device> = (1..=STEPS)
        .map(|step| home.device(&format!("cut-{step}")))
        .collect();
    plane.expect(&devices);
    let preload = folder(Build::Small).join("power_cut.so");
    cut_at_each(STEPS, |step| {
        let device = &devices[step - 1];
        let more = "renew_seconds_max = 1";
        let small = SmallDevice::of(&home, &plane, device, Build::Small, more).unwrap();
        small.once_well();
        // It renews again and again, so that the step comes.
        let output = small
            .command()
            .env("LD_PRELOAD", &preload)
            .env("POWER_CUT_AT", step.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(CUT), "step {step}: {said}");
        let said = small.once_well();
        // The certificates on the device were enough: the factory's word was not needed again.
        assert!(!said.contains("factory identity"), "step {step}: {said}");
        let stored = small.stored();
        let slots = stored.iter().filter(|name| name.starts_with("slot-"));
        assert_eq!(slots.count(), 1, "step {step}: {stored:?}");
    });
    plane.stop_well();
}

/// A server that bears a certificate of `ca.pem` and gives each connection the same answer.
struct FakeServer {
    address: SocketAddr,
    answer: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl FakeServer {
    /// `certificates` as [`make_certificates`] leaves them.
    fn start(certificates: &Path) -> Self {
        let paths = CertificatePaths::of(certificates);
        let chain = vec![CertificateDer::from_pem_file(&paths.server.0).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&paths.server.1).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(std::sync::Mutex::new(Vec::new()));
        let answers = Arc::clone(&answer);
        // Ends with the test's process; it waits for connections and does nothing else.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, answer) = (Arc::clone(&config), answers.lock().unwrap().clone());
                std::thread::spawn(move || {
                    let mut tcp = stream.unwrap();
                    tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    let mut tls = ServerConnection::new(config).unwrap();
                    let mut stream = Stream::new(&mut tls, &mut tcp);
                    let mut asked = [0; 4096];
                    // A client that does not like us goes away, which is its right.
                    if stream.read(&mut asked).is_ok_and(|read| read > 0) {
                        let _ = stream.write_all(&answer);
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                        while stream.sock.read(&mut asked).is_ok_and(|read| read > 0) {}
                    }
                });
            }
        });
        Self { address, answer }
    }

    fn answer_with(&self, bytes: &[u8]) {
        *self.answer.lock().unwrap() = bytes.to_vec();
    }
}

/// A failure that the device sees and says; a finding of a sanitizer ends it otherwise.
#[track_caller]
fn assert_refuses_well(small: &SmallDevice, what: &str) {
    let output = small.once();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    for finding in ["Sanitizer", "runtime error"] {
        assert!(!said.contains(finding), "{what}: {said}");
    }
}

/// A fake server's certificates, as of then, for so many days; and the device believes their CA.
fn fake_certificates(home: &Home, small: &SmallDevice, at: Timestamp, days: u32) -> PathBuf {
    let folder = home.path("fake");
    let set = CertificateSet {
        folder: &folder,
        devices: 0,
        prefix: "x",
        days,
    };
    make_certificates(&set, at).unwrap();
    let roots = small.folder.join("roots.pem");
    let both = [std::fs::read(&roots), std::fs::read(folder.join("ca.pem"))];
    std::fs::write(&roots, both.map(Result::unwrap).concat()).unwrap();
    folder
}

/// Replaces bytes at places that a seed chooses.
fn mutated(good: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let mut bytes = good.to_vec();
    for _ in 0..=next(4) {
        if bytes.is_empty() {
            break;
        }
        let at = next(bytes.len());
        match next(4) {
            0 => bytes[at] = [0, 0xff, 0x7f, 0x80, b'9', b'"', b'\\'][next(7)],
            1 => bytes.truncate(at),
            2 => bytes.insert(at, u8::try_from(next(256)).unwrap()),
            _ => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece);
            }
        }
    }
    bytes
}

#[test]
fn hostile_est_answers_do_a_small_device_no_harm() {
    let (home, plane) = plane();
    let device = home.device("small-3");
    let Some(small) = SmallDevice::of(&home, &plane, &device, Build::Sanitized, "") else {
        return;
    };
    let certificates = fake_certificates(&home, &small, sim::now(), 30);
    let fake = FakeServer::start(&certificates);
    small.configure(&device, fake.address, fake.address, "");
    let pem_type = "Content-Type: application/pem-certificate-chain";
    let pem = std::fs::read_to_string(certificates.join("server.pem")).unwrap();
    let good = format!(
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 2044 08:49:37 GMT\r\n{pem_type}\r\n\
         Content-Length: {}\r\n\r\n{pem}",
        pem.len()
    );
    let with =
        |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{pem_type}\r\n{head}\r\n\r\n{body}");
    let cases: Vec<(&str, String)> = vec![
        ("nothing", String::new()),
        ("another's certificate", good.clone()),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n".into()),
        (
            "an endless head",
            format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(2000)),
        ),
        (
            "a head without an end",
            "HTTP/1.1 200 OK\r\nContent-Length: 5".into(),
        ),
        (
            "an oversized length",
            with("Content-Length: 99999999999999999999", &pem),
        ),
        (
            "a length just too large",
            with("Content-Length: 4096", &pem),
        ),
        ("a negative length", with("Content-Length: -1", &pem)),
        ("a length that is none", with("Content-Length: 12x", &pem)),
        (
            "two lengths",
            with("Content-Length: 5\r\nContent-Length: 6", &pem),
        ),
        (
            "a longer length than body",
            with("Content-Length: 4000", &pem),
        ),
        ("no length", with("Server: x", &pem)),
        (
            "chunked",
            with("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "chunked with a huge chunk",
            with("Transfer-Encoding: chunked", "ffffffffffffffff\r\n"),
        ),
        ("an empty body", with("Content-Length: 0", "")),
        (
            "a truncated PEM",
            with(
                &format!("Content-Length: {}", pem.len() / 2),
                &pem[..pem.len() / 2],
            ),
        ),
        ("no PEM", with("Content-Length: 20", "-----BEGIN CERTIFICA")),
        ("zeros", with("Content-Length: 64", &"\0".repeat(64))),
        (
            "a refusal that acts in a terminal",
            "HTTP/1.1 403 No\r\nContent-Length: 11\r\n\r\n\u{1b}[2Jcleared".into(),
        ),
        (
            "a strange status",
            "HTTP/1.1 -7 x\r\nContent-Length: 0\r\n\r\n".into(),
        ),
        (
            "a strange date",
            "HTTP/1.1 200 x\r\nDate: Sun, 99 Foo 99999 99:99:99 GMT\r\nContent-Length: 0\r\n\r\n"
                .into(),
        ),
    ];
    for (what, answer) in &cases {
        fake.answer_with(answer.as_bytes());
        assert_refuses_well(&small, what);
    }
    for seed in 0..60 {
        fake.answer_with(&mutated(good.as_bytes(), seed));
        assert_refuses_well(&small, &format!("seed {seed}"));
    }
    plane.stop_well();
}

/// One MQTT 5 packet of up to 16,383 bytes.
fn packet(kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = rest.len();
    let low = u8::try_from(length % 128).unwrap();
    match u8::try_from(length / 128).unwrap() {
        0 => [&[kind, low], rest].concat(),
        high => [&[kind, low | 0x80, high], rest].concat(),
    }
}

/// What a plane sends in a session, all at once: the session opens, the subscription, the report
/// and the first message are acknowledged, and in between it speaks of containment.
fn said_in_a_session(device: &Device, told: &[&str]) -> Vec<u8> {
    let topic = format!("$fleetward/devices/{}/containment", device.id());
    let tell = |payload: &&str| {
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        let rest = [&length, topic.as_bytes(), &[0, 7, 0], payload.as_bytes()].concat();
        packet(0x32, &rest)
    };
    // A server keep-alive, a receive maximum, a reason, a user property.
    let properties = b"\x13\x00\x1e\x21\x00\x05\x1f\x00\x02ok\x26\x00\x01a\x00\x01b";
    let length = u8::try_from(properties.len()).unwrap();
    let connack = packet(0x20, &[&[0, 0, length], &properties[..]].concat());
    let suback = packet(0x90, &[0, 1, 0, 1]);
    let told: Vec<u8> = told.iter().flat_map(tell).collect();
    [
        connack,
        suback,
        packet(0x40, &[0, 2]),
        told,
        packet(0x40, &[0, 3, 0, 0]),
    ]
    .concat()
}

#[test]
fn a_hostile_mqtt_server_does_a_small_device_no_harm() {
    let (home, plane) = plane();
    let device = home.device("small-4");
    plane.expect([&device]);
    let Some(small) = SmallDevice::of(&home, &plane, &device, Build::Sanitized, "") else {
        return;
    };
    let certificates = fake_certificates(&home, &small, sim::now(), 30);
    let fake = FakeServer::start(&certificates);
    small.configure(&device, plane.devices, fake.address, "");
    let good = said_in_a_session(&device, &[r#"{"containment":null}"#]);
    fake.answer_with(&good);
    small.once_well();

    // The CONNACK, the SUBACK and the PUBACK before which the rest lies.
    let opened = good.len() - packet(0x40, &[0, 3, 0, 0]).len();
    let cases: &[(&str, Vec<u8>)] = &[
        ("nothing", vec![]),
        (
            "a length without an end",
            vec![0x20, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        ("a packet of 256 MiB", vec![0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("a packet just too large", vec![0x30, 0xfe, 0x0f]),
        (
            "properties longer than their packet",
            vec![0x20, 3, 0, 0, 0x7f],
        ),
        (
            "a text longer than its properties",
            vec![0x20, 7, 0, 0, 4, 0x1f, 0xff, 0xff, b'x'],
        ),
        (
            "a property that there is not",
            vec![0x20, 5, 0, 0, 2, 0x7e, 0],
        ),
        (
            "a topic longer than its packet",
            [&good[..opened], &[0x30, 3, 0xff, 0xff, b'x']].concat(),
        ),
        (
            "a packet that a server may not send",
            [&good[..opened], &[0x82, 0]].concat(),
        ),
        (
            "an empty packet of each kind",
            (0..16).flat_map(|kind| [kind << 4, 0]).collect(),
        ),
        ("the end", [&good[..opened], &[0xe0, 0]].concat()),
    ];
    for (what, answer) in cases {
        fake.answer_with(answer);
        assert_refuses_well(&small, what);
    }
    let told = [
        r#"{"containment":null}"#,
        r#"{"since":[1,{"a":"b\\\"}"},null],"x":-1e9,"containment":null}"#,
        r#"[[[[[[[[[[[[[[[[[[[["#,
        r#"{"containment":"forgotten","containment":null}"#,
    ];
    for seed in 0..80 {
        let told = told.map(|json| mutated(json.as_bytes(), seed));
        let told: Vec<String> = told
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let session = said_in_a_session(&device, &told);
        fake.answer_with(&if seed % 2 == 0 {
            session
        } else {
            mutated(&session, seed)
        });
        let output = small.once();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Some of them still say what lets it go on.
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "seed {seed}: {said}"
        );
        assert!(!said.contains("runtime error"), "seed {seed}: {said}");
    }
    plane.stop_well();
}

#[test]
fn an_ended_certificate_of_the_plane_does_not_come_back_with_a_clock_of_its_time() {
    let (home, plane) = plane();
    let device = home.device("small-5");
    let Some(small) = SmallDevice::of(&home, &plane, &device, Build::Small, "") else {
        return;
    };
    // 2020-01-01: before this program was built, and before any time that was proven to it.
    let then = Timestamp::from_seconds(1_577_836_800);
    let fake = FakeServer::start(&fake_certificates(&home, &small, then, 30));
    small.configure(&device, fake.address, fake.address, "");
    let output = small
        .command()
        .arg("--once")
        .env("LD_PRELOAD", folder(Build::Small).join("wrong_clock.so"))
        .env("WRONG_CLOCK", then.as_seconds().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("or has ended (flags 0x1)"), "{said}");
    plane.stop_well();
}

/// Passes one connection on and looks at the records that the server sends.
fn watch_records(listener: &TcpListener, server: SocketAddr, largest: &AtomicUsize) {
    let (mut client, _) = listener.accept().unwrap();
    let mut server = TcpStream::connect(server).unwrap();
    let (mut to_server, mut from_client) =
        (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    // Type, version, length: the header is never encrypted.
    let mut header = [0; 5];
    while server.read_exact(&mut header).is_ok() {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        largest.fetch_max(length, Ordering::SeqCst);
        let mut record = vec![0; length];
        let whole = server.read_exact(&mut record).is_ok();
        if !whole || client.write_all(&[&header[..], &record].concat()).is_err() {
            break;
        }
    }
}

/// What a small stack has room for: 4 KiB, and what encryption adds.
#[test]
fn records_are_small_where_small_stacks_come_in() {
    let (home, plane) = plane();
    let mut device = home.device("large");
    plane.expect([&device]);
    let (doors, manner) = (plane.doors(), Manner::default());
    device.enroll(&doors, &manner).unwrap();
    device.connect(&doors, &manner).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let watched = listener.local_addr().unwrap();
    let largest = Arc::new(AtomicUsize::new(0));
    let (mqtt, seen) = (plane.mqtt, Arc::clone(&largest));
    let watching = std::thread::spawn(move || watch_records(&listener, mqtt, &seen));
    let mut ingest = plane.ingest();
    let mut endpoint = doors.mqtt;
    endpoint.address = watched;
    ingest.set_endpoint(endpoint);
    ingest.connect().unwrap();
    let payload = vec![b'x'; 100_000];
    let session = device.session().unwrap();
    session
        .publish("v1/sensor/large/telemetry/x", &payload)
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let session = ingest.session().unwrap();
    let delivery = session.next_delivery(deadline).unwrap().unwrap();
    assert_eq!(delivery.payload, payload);
    let largest = largest.load(Ordering::SeqCst);
    println!("the largest record has {largest} bytes");
    assert!((4096..4096 + 256).contains(&largest), "{largest}");
    plane.stop_well();
    watching.join().unwrap();
}
