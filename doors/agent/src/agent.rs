//! The loop: one turn does what is due, moves what can be moved, and waits.

mod containing;
mod enforcing;
mod identity;
mod link;
mod roots;
#[cfg(test)]
mod tests;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::Config;
use crate::containment::Kept;
use crate::credential::Credential;
use crate::destinations::Rules;
use crate::failure::Failure;
use crate::folder::Folder;
use crate::life::{Life, Step};
use crate::nft::Table;
use crate::outbox::{Class, Outbox};
use crate::random;
use crate::roots::Roots;
use crate::signals::Gauges;
use crate::status::{CertificateStatus, Status, Trouble};
use crate::tls::Trust;
use crate::waiting::Waiting;
use anyhow::Context;
use link::Link;
use model::Containment;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

const OUTBOX_FILE: &str = "outbox.json";
/// No configured file is larger.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// The status file is written at least this often, and at once when something changes.
const STATUS_EVERY: Duration = Duration::from_secs(60);
/// A session that lived so long was a good one: the next failure is a first one.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// How long a clean end waits for acknowledgements.
const FAREWELL: Duration = Duration::from_secs(2);
/// A new session is told so soon after its beginning whether the device is contained; a plane that
/// says nothing means free.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// Renewal is tried again no sooner than this cap allows.
const RENEWAL_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// A device's agent.
pub struct Agent {
    config: Config,
    folder: Folder,
    life: Life,
    idevid: Credential,
    clock: Clock,
    roots: Roots,
    /// Those roots.
    trust: Trust,
    waiting: Waiting,
    outbox: Outbox,
    gauges: Gauges,
    table: Option<Table>,
    link: Option<Link>,
    next_attempt: Instant,
    backoff: Backoff,
    renewal_after: Instant,
    renewal_backoff: Backoff,
    next_roots: Instant,
    containment: Option<Containment>,
    /// What the state folder says of it.
    kept: Kept,
    fenced: bool,
    /// The last attempt found no plane.
    is_lost: bool,
    /// What this device may send, as the plane said last; `None`: it never has, or nobody wants it
    /// enforced here.
    rules: Option<Rules>,
    next_rules: Instant,
    rules_backoff: Backoff,
    next_names: Instant,
    /// Rules that the kernel held when we made them; 0: none are in force.
    granted: usize,
    /// Why they are not in force, or what was done to them, for the next report.
    enforcement: Option<String>,
    /// Addresses of the plane's doors as they were last reached.
    doors: Vec<SocketAddr>,
    duties: Vec<Instant>,
    next_report: Instant,
    next_status: Instant,
    /// Messages published as duties since the start.
    published: u64,
    started: Instant,
    tls_failures: u64,
    tls_failures_reported: u64,
    status: Status,
}

impl Agent {
    /// Reads everything that the configuration names.
    ///
    /// # Errors
    /// Says which file cannot be used and why.
    pub fn open(config: Config) -> anyhow::Result<Self> {
        // Before anything else may start a thread: see there.
        let waiting = Waiting::new().context("signals cannot be waited for")?;
        let folder = Folder::open(&config.state_dir)
            .with_context(|| format!("state_dir {} cannot be used", config.state_dir.display()))?;
        let kept = Kept::read(&folder);
        let mut table = make_table(&config);
        let fenced = containing::resume(&config, &kept, table.as_mut());
        let life = Life::open(&folder)?;
        let idevid = Credential::read(
            &read_pem(&config.idevid_certificate_file)?,
            &zeroize::Zeroizing::new(read_pem(&config.idevid_key_file)?),
        )
        .context("the IDevID (idevid_certificate_file, idevid_key_file) cannot be used")?;
        let roots = Roots::open(&folder, given_roots(&config.roots_file)?)?;
        let trust = Trust {
            roots: roots.store(),
            source_address: config.source_address,
            reached: Vec::new(),
        };
        let mut outbox = Outbox::new(config.queue_messages_max);
        outbox.restore(&folder.read(OUTBOX_FILE)?.unwrap_or_default());
        folder.remove(OUTBOX_FILE)?;
        let now = Instant::now();
        let mut agent = Self {
            gauges: Gauges::start(&config, table.is_some()),
            clock: Clock::open(&folder)?,
            backoff: Backoff::new(config.reconnect_max),
            renewal_backoff: Backoff::new(RENEWAL_PAUSE_MAX),
            duties: config.publish.iter().map(|_| now).collect(),
            next_report: now,
            folder,
            life,
            idevid,
            roots,
            trust,
            waiting,
            outbox,
            table,
            link: None,
            next_attempt: now,
            renewal_after: now,
            next_roots: now,
            containment: kept.containment,
            fenced,
            is_lost: false,
            rules: None,
            next_rules: now,
            rules_backoff: Backoff::new(enforcing::ASK_EVERY),
            next_names: now,
            granted: 0,
            enforcement: None,
            doors: containing::doors_before_any(&config, &kept),
            kept,
            next_status: now,
            published: 0,
            started: now,
            tls_failures: 0,
            tls_failures_reported: 0,
            status: Status::default(),
            config,
        };
        agent.aim();
        agent.plan_renewal();
        agent.take_kept_rules();
        Ok(agent)
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Only what makes it pointless to go on; a plane that is away is none.
    pub fn run(mut self) -> anyhow::Result<()> {
        say(&format!(
            "{} ({}), reporting every {} s",
            self.config.device,
            self.config.product,
            self.config.report_every.as_secs()
        ));
        self.ask_plane();
        loop {
            match self.turn() {
                Ok(()) => {}
                Err(Failure::Stopped) => return self.end(),
                Err(failure) => return Err(anyhow::anyhow!("{failure}")),
            }
        }
    }

    /// Enrolls if needed and proves the certificate by one session.
    ///
    /// # Errors
    /// The first failure.
    pub fn enroll_only(mut self) -> anyhow::Result<()> {
        self.ask_plane();
        let outcome = self.connect();
        self.note_status("ended");
        outcome.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        if let Some(link) = self.link.take() {
            link.close();
        }
        say("enrolled: the certificate has opened a session");
        Ok(())
    }

    /// One round of what is due. Only what cannot be gone on from is an error.
    fn turn(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.do_duties(now);
        if self.link.is_none() && now >= self.next_attempt {
            self.try_connect()?;
        }
        if self.link.is_some()
            && now >= self.renewal_after
            && matches!(self.next_step(true), Step::Obtain(_))
        {
            self.renew()?;
        }
        if self.link.as_ref().is_some_and(Link::is_open) && now >= self.next_roots {
            self.see_to_roots()?;
        }
        self.see_to_rules(now)?;
        if let Err(failure) = self.serve_link() {
            self.lose_link(&failure)?;
        }
        if self.gauges.is_busy() {
            self.gauges.step();
        }
        if now >= self.next_status {
            self.see_to_containment();
            self.note_status(self.state());
        }
        let deadline = self.deadline();
        let socket = self
            .link
            .as_ref()
            .map(|link| (link.as_fd(), link.interest()));
        self.waiting.until(socket, deadline)?;
        Ok(())
    }

    /// Publishes and reports what is due, connected or not: the outbox keeps it.
    fn do_duties(&mut self, now: Instant) {
        if self.containment.is_none() {
            for (duty, due) in self.config.publish.iter().zip(&mut self.duties) {
                if *due > now {
                    continue;
                }
                self.published += 1;
                let payload = serde_json::json!({
                    "device": self.config.device.as_str(),
                    "product": self.config.product.as_str(),
                    "boot": self.gauges.boot(),
                    "n": self.published,
                    "at": self.clock.now().as_millis(),
                    "uptime_seconds": self.started.elapsed().as_secs(),
                });
                self.outbox
                    .push(Class::Duty, &duty.topic, payload.to_string());
                *due = now + duty.every;
            }
        }
        // The digest of the firmware belongs into the first report.
        if now >= self.next_report && !(self.gauges.is_busy() && self.gauges.sequence() == 0) {
            self.report();
            self.next_report = now + self.config.report_every;
        }
    }

    fn report(&mut self) {
        let new_failures = self.tls_failures - self.tls_failures_reported;
        let mut report = self.gauges.report(
            self.clock.now(),
            new_failures,
            self.table.as_mut(),
            &self.doors,
        );
        self.tell_enforcement(&mut report);
        self.status.seen_by.clone_from(&report.seen_by);
        self.status.unseen.clone_from(&report.unseen);
        match report.write().map(String::from_utf8) {
            Ok(Ok(text)) => {
                self.tls_failures_reported = self.tls_failures;
                self.outbox
                    .push(Class::Report, &self.config.report_topic(), text);
            }
            _ => say("a report that the plane could not read was not sent"),
        }
    }

    fn state(&self) -> &'static str {
        match &self.link {
            Some(link) if link.is_open() => "connected",
            _ if self.life.newest().is_none() => "enrolling",
            _ => "connecting",
        }
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        if self.gauges.is_busy() {
            return now;
        }
        let mut deadline = self.next_report.min(self.next_status);
        if self.containment.is_none() {
            deadline = self.duties.iter().copied().fold(deadline, Instant::min);
        }
        match &self.link {
            None => deadline = deadline.min(self.next_attempt),
            Some(link) => {
                deadline = deadline.min(link.next_deadline()).min(self.next_roots);
                if self.config.enforce_destinations {
                    deadline = deadline.min(self.next_rules).min(self.next_names);
                }
                deadline = self
                    .outbox
                    .next_deadline()
                    .map_or(deadline, |at| deadline.min(at));
                let renewal = now + self.life.renew_at().since(self.clock.now());
                deadline = deadline.min(renewal.max(self.renewal_after));
            }
        }
        deadline
    }

    fn trouble(&mut self, text: &str) {
        say(text);
        self.status.last_trouble = Some(Trouble {
            at: self.clock.now().as_millis(),
            text: text.to_owned(),
        });
        self.next_status = Instant::now();
    }

    fn note_status(&mut self, state: &str) {
        let certificate = self.life.newest().map(|credential| CertificateStatus {
            not_before: credential.not_before.as_millis(),
            not_after: credential.not_after.as_millis(),
            renew_at: self.life.renew_at().as_millis(),
        });
        self.status = Status {
            device: self.config.device.to_string(),
            product: self.config.product.to_string(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            written_at: self.clock.now().as_millis(),
            state: state.to_owned(),
            containment: self.containment.map(|degree| degree.name().to_owned()),
            enforced_locally: self.fenced,
            destination_rules: self.granted,
            connected_since: self.link.as_ref().and_then(Link::open_since),
            certificate,
            queue_messages: self.outbox.len(),
            counts: self.outbox.counts(),
            boot: self.gauges.boot().to_owned(),
            report_sequence: self.gauges.sequence(),
            tls_failures: self.tls_failures,
            clock_error_seconds: self.clock.error_seconds(),
            roots: self
                .roots
                .digests()
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..std::mem::take(&mut self.status)
        };
        if let Err(error) = self.status.write(&self.folder) {
            say(&format!("the status cannot be written ({error})"));
        }
        if let Err(error) = self.clock.keep(&self.folder) {
            say(&format!("the time cannot be kept ({error})"));
        }
        self.next_status = Instant::now() + STATUS_EVERY;
    }

    /// Ends cleanly: what is on the wire may be acknowledged, the rest waits for the next start.
    fn end(mut self) -> anyhow::Result<()> {
        let until = Instant::now() + FAREWELL;
        while self.outbox.in_flight() > 0 && Instant::now() < until {
            if self.serve_link().is_err() {
                break;
            }
            let socket = self
                .link
                .as_ref()
                .map(|link| (link.as_fd(), link.interest()));
            // The signal that ends us stays readable: wait by the socket alone.
            if socket.is_none() || crate::waiting::for_socket(socket, until).is_err() {
                break;
            }
        }
        if let Some(link) = self.link.take() {
            link.close();
        }
        if !self.outbox.is_empty() {
            self.folder.write(OUTBOX_FILE, &self.outbox.save())?;
        }
        self.note_status("ended");
        say("ended");
        Ok(())
    }
}

/// Reads the signals and prints reports, without a plane.
///
/// # Errors
/// If there is no output to print to.
pub fn print_reports(config: &Config, once: bool) -> anyhow::Result<()> {
    let waiting = Waiting::new().context("signals cannot be waited for")?;
    let mut table = make_table(config);
    let mut gauges = Gauges::start(config, table.is_some());
    // Counters say nothing at once.
    let mut pause = Duration::from_secs(1);
    loop {
        if waiting.until(None, Instant::now() + pause).is_err() {
            return Ok(());
        }
        pause = config.report_every;
        while gauges.is_busy() {
            gauges.step();
        }
        let report = gauges.report(crate::clock::system_time(), 0, table.as_mut(), &[]);
        let mut out = std::io::stdout().lock();
        out.write_all(&report.write()?)?;
        out.write_all(b"\n")?;
        out.flush()?;
        drop(out);
        if once {
            return Ok(());
        }
    }
}

/// A table of our own where counting or fencing is wanted and permitted.
fn make_table(config: &Config) -> Option<Table> {
    use crate::config::DestinationSource::{Auto, Nft};
    let wanted = config.enforce_locally
        || config.enforce_destinations
        || matches!(config.sources.destinations, Auto | Nft);
    wanted.then(|| Table::make().ok()).flatten()
}

fn given_roots(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut given = Vec::new();
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read_pem(path)?) {
        let certificate =
            certificate.map_err(|_| anyhow::anyhow!("roots_file {} is not PEM", path.display()))?;
        given.push(certificate.as_ref().to_vec());
        store
            .add(certificate)
            .with_context(|| format!("roots_file {} holds no root", path.display()))?;
    }
    anyhow::ensure!(
        !given.is_empty(),
        "roots_file {} holds no certificate: put the plane's root there",
        path.display()
    );
    Ok(given)
}

fn read_pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("{} cannot be read", path.display());
    let length = std::fs::metadata(path).with_context(context)?.len();
    anyhow::ensure!(
        length <= PEM_BYTES_MAX,
        "{} is larger than 1 MiB",
        path.display()
    );
    std::fs::read(path).with_context(context)
}

/// A line for the log. Everything from outside in it is printable.
fn say(text: &str) {
    eprintln!("fleetward-agent: {text}");
}

fn pause(backoff: &mut Backoff) -> Duration {
    backoff.pause(random::bits())
}
