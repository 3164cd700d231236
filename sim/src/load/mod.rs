//! A load generator for any broker of MQTT over mutual TLS: ours, or one to compare with.
//!
//! Open loop: messages are due when they are, whatever the server does, and their latency
//! counts from when they were due. What cannot be sent because a device's window or socket is
//! full is counted as held back, never queued. One thread, one epoll.

mod asker;
mod certificates;
mod come_back;
mod contain;
mod histogram;
mod reactor;
mod revoke;
mod schedule;
mod tally;
mod wire;

pub use certificates::{CertificatePaths, CertificateSet, make as make_certificates};
pub use come_back::Returned;
pub use contain::{Containment, Containments};
pub use histogram::Histogram;
pub use revoke::{Revocation, Revocations, Withdrawn};

use crate::credential::{Presented, read_certificates};
use crate::random::Random;
use crate::refusal::{Refusal, SetupError};
use crate::tls::{Client, Endpoint, Groups, Options, Versions};
use crate::{ledger::Stamp, ledger::Totals};
use contain::Container;
use mqtt::{Connect, Qos, Version, encode};
use reactor::Reactor;
use revoke::Revoker;
use schedule::Schedule;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tally::{Message, Phase, Slot, Tally};
use wire::Wire;

/// What kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Devices publish at `rate` in sum; the consumer receives.
    Publish,
    /// Devices connect and leave again, as fast as it goes with `handshakes` at a time.
    Connect,
    /// Devices connect, subscribe to their own topic, and stay.
    Idle,
    /// The consumer's identity publishes at `rate`; every device receives every message.
    Fanout,
    /// As publish, and some devices are revoked on the way.
    Revoke,
    /// As publish, and devices are quarantined and policy is changed on the way.
    Contain,
    /// As idle, until the server goes away: then all come back.
    Return,
}

/// How messages of many devices lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Together they are at even distances: no two at once.
    Even,
    /// Each device sends by a clock of its own: with one period, at a moment that chance gave it.
    Own,
    /// At even distances, but only at the ticks of a coarse timer of a millisecond: what falls between
    /// two comes at the first.
    Ticks,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub mode: Mode,
    pub address: SocketAddr,
    /// What the server's certificate must bear.
    pub server_name: String,
    /// PEM file of trust anchors.
    pub ca: PathBuf,
    /// Holds `<name>.pem` and `<name>.key` per device; the name is the client id.
    pub cert_dir: PathBuf,
    /// The first so many of that folder, by name.
    pub devices: usize,
    /// Messages per second in sum.
    pub rate: f64,
    pub arrivals: Arrivals,
    /// At least [`Stamp::BYTES_MAX`].
    pub payload_bytes: usize,
    /// 0 or 1.
    pub qos: Qos,
    pub warmup: Duration,
    /// What is measured, after the warm-up.
    pub measured: Duration,
    /// How long to wait at the end for what is still on its way.
    pub drain: Duration,
    /// `{device}` is the client id.
    pub topic_template: String,
    /// What a device subscribes to in idle and fan-out mode; `{device}` likewise.
    pub device_filter: String,
    /// PEM files: certificate and key.
    pub consumer: Option<(PathBuf, PathBuf)>,
    /// Client id of the consumer.
    pub consumer_id: String,
    pub consumer_filter: String,
    /// Clean start false and an expiry of an hour.
    pub consumer_persistent: bool,
    /// In revoke mode.
    pub revocations: Option<Revocations>,
    /// In contain mode.
    pub containments: Option<Containments>,
    /// Connections being opened at a time.
    pub handshakes: usize,
    /// Messages in flight per sender, if the server permits as many.
    pub window: usize,
    pub keep_alive_seconds: u16,
    pub version: Version,
    /// Without TLS: to the forwarder of [`crate::forward`], and to nothing else.
    pub in_clear: bool,
    pub tls: Versions,
    pub groups: Groups,
    /// Whether tickets are kept and offered.
    pub resume: bool,
    /// Decides which device's turn it is.
    pub seed: u64,
}

/// Moments at which an observer of the server's CPU or memory wants to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// So many connections stand.
    Connected(usize),
    MeasuringBegins,
    MeasuringEnds,
}

/// How it went. Latencies are in microseconds and of the measured window only; counts of
/// messages are of the whole run, so that they must agree.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub mode: &'static str,
    pub devices: usize,
    /// Devices that were connected when the load began.
    pub connected: usize,
    /// In connect mode: of these, those that came by a ticket.
    pub resumed: usize,
    pub seconds: f64,
    /// How long measuring lasted: longer than `seconds` if revocations took longer.
    pub lasted_seconds: f64,
    /// PUBLISH packets written.
    pub published: u64,
    /// `sent` is the number of deliveries owed: `published`, times the receivers in fan-out.
    #[serde(flatten)]
    pub totals: Totals,
    /// Acknowledged with a reason of failure.
    pub refused: u64,
    /// Due, but not sent: the device's window or socket was full, the device was gone, or the
    /// generator was late.
    pub held_back: u64,
    /// Sent, with no acknowledgement at the end.
    pub unacknowledged: u64,
    /// Sessions that ended by themselves; those of revoked devices are not among them.
    pub disconnected: u64,
    /// Deliveries that arrived while measuring.
    pub window_delivered: u64,
    pub delivered_per_second: f64,
    pub latency_p50_us: Option<f64>,
    pub latency_p99_us: Option<f64>,
    pub latency_max_us: Option<f64>,
    pub acknowledged_p50_us: Option<f64>,
    pub acknowledged_p99_us: Option<f64>,
    /// How late the generator itself was in sending.
    pub generator_lag_p99_us: Option<f64>,
    /// CPU time of the generator per delivery while measuring.
    pub generator_cpu_us_per_delivery: Option<f64>,
    /// Connections completed (CONNACK, SUBACK if there is a subscription) per second: while
    /// measuring in connect mode, while ramping up in the others.
    pub connects_per_second: f64,
    pub connect_p50_us: Option<f64>,
    pub connect_p99_us: Option<f64>,
    /// By [`Refusal::kind`].
    pub failures: BTreeMap<String, u64>,
    /// One failure in full.
    pub example: Option<String>,
    /// In revoke mode, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Revocation>,
    /// Messages that were refused as they had to be, or might be while an act was under way.
    pub withheld: u64,
    /// In contain mode, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containments: Vec<Containment>,
    /// In return mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<Returned>,
}

/// Runs the load and reports. `observe` is called at the marks.
///
/// # Errors
/// If something cannot be prepared here. What the server refuses is in the report.
pub fn run(settings: &Settings, observe: &mut dyn FnMut(Mark)) -> Result<Report, SetupError> {
    let mut run = Run::new(settings)?;
    match settings.mode {
        Mode::Connect => run.connects(observe)?,
        Mode::Idle => {
            run.connect_all(observe)?;
            run.hold(observe)?;
        }
        Mode::Return => {
            run.connect_all(observe)?;
            run.come_back(observe)?;
        }
        Mode::Publish | Mode::Fanout | Mode::Revoke | Mode::Contain => {
            run.connect_all(observe)?;
            run.publishes(observe)?;
        }
    }
    run.leave();
    Ok(run.report())
}

struct Run<'a> {
    settings: &'a Settings,
    reactor: Reactor,
    tally: Tally,
    /// One per slot.
    clients: Vec<Client>,
    /// What each device shows, in the order of the slots.
    presented: Vec<Presented>,
    /// Where each device publishes.
    topics: Vec<String>,
    connected: usize,
    resumed: usize,
    connects_per_second: f64,
    held_back: u64,
    lag: Histogram,
    cpu: Duration,
    swept_at: Instant,
    /// From the beginning to the end of measuring.
    lasted: Duration,
    revocations: Vec<Revocation>,
    containments: Vec<Containment>,
    returned: Option<Returned>,
}

/// The longest turn without looking after keep-alives and stuck connections.
const SWEEP: Duration = Duration::from_millis(500);
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// After the last delivery, how long to wait for another.
const DRAIN_QUIET: Duration = Duration::from_secs(3);
/// Messages sent in one turn at most, so that a lagging generator still listens.
const BURST: usize = 1024;

impl<'a> Run<'a> {
    fn new(settings: &'a Settings) -> Result<Self, SetupError> {
        check(settings)?;
        let roots = read_certificates(&settings.ca)?;
        let endpoint = Endpoint::new(settings.address, &settings.server_name, &roots)?;
        let options = Options {
            versions: settings.tls,
            groups: settings.groups,
            resume: settings.resume,
            ..Options::default()
        };
        let offer = Client::new(&endpoint, None, &options)?;
        let names = device_names(&settings.cert_dir, settings.devices)?;
        let mut clients = Vec::with_capacity(names.len() + 1);
        let mut slots = Vec::with_capacity(names.len() + 1);
        let mut topics = Vec::with_capacity(names.len());
        let mut shown = Vec::with_capacity(names.len());
        let subscribes = matches!(settings.mode, Mode::Idle | Mode::Fanout | Mode::Return);
        for name in names {
            let folder = &settings.cert_dir;
            let presented = Presented::read(
                &folder.join(format!("{name}.pem")),
                &folder.join(format!("{name}.key")),
            )?;
            clients.push(offer.presenting(&presented));
            shown.push(presented);
            topics.push(settings.topic_template.replace("{device}", &name));
            let filter = settings.device_filter.replace("{device}", &name);
            slots.push(Slot::new(
                name,
                subscribes.then_some((filter, settings.qos)),
            ));
        }
        if let Some((certificate, key)) = &settings.consumer
            && !matches!(settings.mode, Mode::Connect | Mode::Idle | Mode::Return)
        {
            clients.push(offer.presenting(&Presented::read(certificate, key)?));
            let filter = (settings.mode != Mode::Fanout)
                .then(|| (settings.consumer_filter.clone(), settings.qos));
            slots.push(Slot::new(settings.consumer_id.clone(), filter));
        }
        Ok(Self {
            settings,
            reactor: Reactor::new(slots.len())?,
            tally: Tally::new(
                settings.version,
                slots,
                topics.len(),
                settings.mode == Mode::Fanout,
            ),
            clients,
            presented: shown,
            topics,
            connected: 0,
            resumed: 0,
            connects_per_second: 0.0,
            held_back: 0,
            lag: Histogram::default(),
            cpu: Duration::ZERO,
            swept_at: Instant::now(),
            lasted: settings.measured,
            revocations: Vec::new(),
            containments: Vec::new(),
            returned: None,
        })
    }

    /// Opens everything, the consumer first, `handshakes` at a time.
    fn connect_all(&mut self, observe: &mut dyn FnMut(Mark)) -> Result<(), SetupError> {
        let devices = self.topics.len();
        if self.clients.len() > devices {
            self.open(devices);
            while self.tally.opening > 0 {
                self.turn(Instant::now() + SWEEP)?;
            }
            if self.tally.ready == 0 {
                return Err(SetupError::Argument(format!(
                    "the consumer could not connect and subscribe: {}",
                    self.tally.example.as_deref().unwrap_or("no reason given")
                )));
            }
        }
        let begun = Instant::now();
        let already = self.tally.ready;
        let mut next = 0;
        while next < devices || self.tally.opening > 0 {
            while next < devices && self.tally.opening < self.settings.handshakes {
                self.open(next);
                next += 1;
            }
            self.turn(Instant::now() + SWEEP)?;
        }
        self.connected = self.tally.ready - already;
        self.connects_per_second = per_second(self.connected as u64, begun.elapsed());
        observe(Mark::Connected(self.connected));
        Ok(())
    }

    /// Connect mode: every slot leaves as soon as it is ready, and the next begins. As many
    /// slots as handshakes are at work, each with every n-th device, so that no device meets
    /// itself.
    fn connects(&mut self, observe: &mut dyn FnMut(Mark)) -> Result<(), SetupError> {
        let devices = self.topics.len();
        let lanes = self.settings.handshakes.min(devices).max(1);
        let begun = Instant::now();
        let (measuring, end) = self.period(begun);
        let mut marked = false;
        let mut counted = 0;
        let mut idle: Vec<usize> = (0..lanes).collect();
        while Instant::now() < end {
            if !marked && Instant::now() >= measuring {
                marked = true;
                observe(Mark::MeasuringBegins);
                self.tally.connect_latency = Histogram::default();
                self.cpu = cpu_time();
            }
            for index in idle.drain(..) {
                self.open(index);
            }
            self.turn(end.min(Instant::now() + SWEEP))?;
            for index in std::mem::take(&mut self.tally.became_ready) {
                self.resumed += usize::from(marked && self.reactor.is_resumed(index));
                self.reactor.close(index);
                self.tally.closed(index);
                counted += u64::from(marked);
                let next = index + lanes;
                idle.push(if next < devices { next } else { index % lanes });
            }
            // A lane whose connection failed goes on with the same device, at the next sweep at
            // the earliest: a server that refuses shall not be hammered.
            if self.tally.opening + idle.len() < lanes && self.sweep_is_due() {
                let busy: Vec<usize> = (0..devices)
                    .filter(|index| self.phase(*index) == Phase::Opening)
                    .chain(idle.iter().copied())
                    .map(|index| index % lanes)
                    .collect();
                idle.extend((0..lanes).filter(|lane| !busy.contains(lane)));
            }
        }
        observe(Mark::MeasuringEnds);
        self.cpu = cpu_time().saturating_sub(self.cpu);
        self.connected = usize::try_from(counted).unwrap_or(usize::MAX);
        self.connects_per_second = per_second(counted, self.settings.measured);
        Ok(())
    }

    /// Idle mode: stays connected, with keep-alives.
    fn hold(&mut self, observe: &mut dyn FnMut(Mark)) -> Result<(), SetupError> {
        let (measuring, end) = self.period(Instant::now());
        while Instant::now() < measuring {
            self.turn(measuring.min(Instant::now() + SWEEP))?;
        }
        observe(Mark::MeasuringBegins);
        while Instant::now() < end {
            self.turn(end.min(Instant::now() + SWEEP))?;
        }
        observe(Mark::MeasuringEnds);
        Ok(())
    }

    /// Publish and fan-out: messages when they are due, then a drain.
    fn publishes(&mut self, observe: &mut dyn FnMut(Mark)) -> Result<(), SetupError> {
        let devices = self.topics.len();
        let mut order: Vec<usize> = (0..devices)
            .filter(|index| self.phase(*index) == Phase::Ready)
            .collect();
        Random::new(self.settings.seed).shuffle(&mut order);
        let receivers: Vec<u32> = order
            .iter()
            .filter_map(|index| u32::try_from(*index).ok())
            .collect();
        let begun = Instant::now();
        let origin = begun.saturating_duration_since(self.tally.started());
        let (measuring, end) = self.period(begun);
        self.tally.window = Some((
            origin + self.settings.warmup,
            origin + self.settings.warmup + self.settings.measured,
        ));
        let mut revoker = match &self.settings.revocations {
            Some(wanted) => {
                let lasts = self.settings.measured;
                Some(Revoker::start(wanted, self, &mut order, measuring, lasts)?)
            }
            None => None,
        };
        let mut container = match &self.settings.containments {
            Some(wanted) => {
                let lasts = self.settings.measured;
                Some(Container::start(wanted, self, &order, measuring, lasts)?)
            }
            None => None,
        };
        let schedule = Schedule::new(self.settings, order.len());
        let mut number: u32 = 0;
        let mut marked = false;
        let mut payload = Vec::new();
        while !order.is_empty() {
            let now = Instant::now();
            // Late as it may be, each act has its turn.
            let all_done = revoker.as_ref().is_none_or(Revoker::is_done)
                && container.as_ref().is_none_or(Container::is_done);
            if now >= end && all_done {
                break;
            }
            if !marked && now >= measuring {
                marked = true;
                observe(Mark::MeasuringBegins);
                self.cpu = cpu_time();
            }
            let mut due = begun + schedule.due(number);
            let mut burst = 0;
            while due <= now && burst < BURST {
                if marked {
                    self.lag.record(now - due);
                }
                let device = order.get(number as usize % order.len()).copied();
                let message = Message {
                    qos: self.settings.qos,
                    payload_bytes: self.settings.payload_bytes,
                    scheduled: due.saturating_duration_since(self.tally.started()),
                };
                self.publish(device.unwrap_or(0), &receivers, &mut payload, &message);
                number = number.saturating_add(1);
                burst += 1;
                due = begun + schedule.due(number);
            }
            let revokes_at = revoker
                .as_mut()
                .and_then(|revoker| self.revoke(revoker, now, &mut payload));
            let contains_at = container
                .as_mut()
                .and_then(|container| self.contain(container, now, &mut payload));
            let until = due.min(now + SWEEP);
            let until = if now < end { until.min(end) } else { until };
            let acts_at = revokes_at.into_iter().chain(contains_at).min();
            self.turn(acts_at.map_or(until, |at| at.min(until)))?;
        }
        observe(Mark::MeasuringEnds);
        self.lasted = measuring.elapsed();
        self.cpu = cpu_time().saturating_sub(self.cpu);
        // What a lagging generator did not come to.
        while !order.is_empty() && begun + schedule.due(number) < end {
            self.held_back += 1;
            number = number.saturating_add(1);
        }
        self.drain()?;
        if let Some(revoker) = revoker {
            self.revocations = self.finish(revoker)?;
        }
        self.containments = container.map(Container::finish).unwrap_or_default();
        Ok(())
    }

    /// Says goodbye on every connection.
    fn leave(&mut self) {
        for index in 0..self.clients.len() {
            self.reactor.close(index);
        }
    }

    fn publish(
        &mut self,
        device: usize,
        receivers: &[u32],
        payload: &mut Vec<u8>,
        message: &Message,
    ) {
        let own;
        let (sender, pages, topic) = if self.settings.mode == Mode::Fanout {
            let topic = self.settings.topic_template.as_str();
            (self.topics.len(), receivers, topic)
        } else {
            own = [u32::try_from(device).unwrap_or(u32::MAX)];
            let topic = self.topics.get(device).map_or("", String::as_str);
            (device, own.as_slice(), topic)
        };
        let has_room =
            self.tally.slots.get(sender).is_some_and(|slot| {
                slot.phase == Phase::Ready && slot.has_room(self.settings.window)
            });
        match self.reactor.sendable(sender).filter(|_| has_room) {
            Some(out) => self
                .tally
                .publish(sender, pages, topic, payload, message, out),
            None => self.held_back += 1,
        }
    }

    /// Waits for what is on its way, as long as something still arrives.
    fn drain(&mut self) -> Result<(), SetupError> {
        let end = Instant::now() + self.settings.drain;
        let expects_deliveries = self.clients.len() > self.topics.len();
        let mut last = (self.tally.in_flight, self.tally.ledger.totals());
        let mut moved_at = Instant::now();
        loop {
            let now = Instant::now();
            let (in_flight, totals) = (self.tally.in_flight, self.tally.ledger.totals());
            let done = in_flight == 0 && (totals.lost == 0 || !expects_deliveries);
            if (in_flight, totals) != last {
                last = (in_flight, totals);
                moved_at = now;
            }
            if done || now >= end || now - moved_at > DRAIN_QUIET {
                return Ok(());
            }
            self.turn(end.min(now + Duration::from_millis(50)))?;
        }
    }

    fn open(&mut self, index: usize) {
        let source = self.source_of(index);
        let (Some(slot), Some(client)) = (self.tally.slots.get_mut(index), self.clients.get(index))
        else {
            return;
        };
        slot.keep_alive = match self.settings.keep_alive_seconds {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds.into()),
        };
        let persistent = self.settings.consumer_persistent && index >= self.topics.len();
        let connect = Connect {
            clean_start: !persistent,
            keep_alive_seconds: self.settings.keep_alive_seconds,
            session_expiry_seconds: (persistent && self.settings.version == Version::V5)
                .then_some(3600),
            ..Connect::new(self.settings.version, &slot.name)
        };
        let in_clear = self.settings.in_clear;
        let outcome = (self.reactor).open(index, client, in_clear, source, &connect);
        match outcome {
            Ok(()) => {
                let port = self.reactor.wire(index).and_then(Wire::port);
                self.tally.opened(index, port);
            }
            Err(refusal) => self.tally.ended(index, &refusal),
        }
    }

    /// Devices that only connect do so each from an address of its own, as far as this machine has
    /// them: what a server allows one address is not what is asked.
    fn source_of(&self, index: usize) -> Option<Ipv4Addr> {
        let is_here = self.settings.address.ip() == Ipv4Addr::LOCALHOST;
        let [.., high, low] = u32::try_from(index).ok()?.to_be_bytes();
        let source = Ipv4Addr::new(127, 1, high, low);
        (self.settings.mode == Mode::Idle && is_here).then_some(source)
    }

    fn turn(&mut self, until: Instant) -> Result<(), SetupError> {
        if self.sweep_is_due() {
            self.sweep();
        }
        self.reactor.turn(until, &mut self.tally)
    }

    fn sweep_is_due(&self) -> bool {
        self.swept_at.elapsed() >= SWEEP
    }

    /// Keep-alives, and an end to connections that never come to stand.
    fn sweep(&mut self) {
        self.swept_at = Instant::now();
        if let Some(since) = Instant::now().checked_sub(CONNECT_PATIENCE) {
            for index in self.tally.stuck(since) {
                self.reactor.cut(index);
                self.tally.ended(index, &Refusal::Timeout);
            }
        }
        for index in 0..self.clients.len() {
            let due = self
                .tally
                .slots
                .get(index)
                .zip(self.reactor.wire(index))
                .is_some_and(|(slot, wire)| {
                    slot.phase == Phase::Ready && wire.wrote_at.elapsed() > slot.keep_alive / 2
                });
            if due && let Some(out) = self.reactor.sendable(index) {
                encode::pingreq(out);
            }
        }
    }

    fn phase(&self, index: usize) -> Phase {
        self.tally
            .slots
            .get(index)
            .map_or(Phase::Closed, |slot| slot.phase)
    }

    /// When measuring begins and ends.
    fn period(&self, begun: Instant) -> (Instant, Instant) {
        let measuring = begun + self.settings.warmup;
        (measuring, measuring + self.settings.measured)
    }

    fn report(self) -> Report {
        let Self {
            settings, tally, ..
        } = self;
        let quantile = |histogram: &Histogram, of| histogram.quantile_micros(of);
        Report {
            mode: match settings.mode {
                Mode::Publish => "publish",
                Mode::Connect => "connect",
                Mode::Idle => "idle",
                Mode::Fanout => "fanout",
                Mode::Revoke => "revoke",
                Mode::Contain => "contain",
                Mode::Return => "return",
            },
            devices: self.topics.len(),
            connected: self.connected,
            resumed: self.resumed,
            seconds: settings.measured.as_secs_f64(),
            lasted_seconds: self.lasted.as_secs_f64(),
            published: tally.published,
            totals: tally.ledger.totals(),
            refused: tally.refused,
            held_back: self.held_back,
            unacknowledged: tally.in_flight,
            disconnected: tally.disconnected,
            window_delivered: tally.window_delivered,
            delivered_per_second: per_second(tally.window_delivered, settings.measured),
            latency_p50_us: quantile(&tally.delivery_latency, 0.5),
            latency_p99_us: quantile(&tally.delivery_latency, 0.99),
            latency_max_us: tally.delivery_latency.max_micros(),
            acknowledged_p50_us: quantile(&tally.acknowledgement_latency, 0.5),
            acknowledged_p99_us: quantile(&tally.acknowledgement_latency, 0.99),
            generator_lag_p99_us: quantile(&self.lag, 0.99),
            generator_cpu_us_per_delivery: (tally.window_delivered > 0).then(|| {
                per_second(1, Duration::from_secs(tally.window_delivered))
                    * self.cpu.as_secs_f64()
                    * 1e6
            }),
            connects_per_second: self.connects_per_second,
            connect_p50_us: quantile(&tally.connect_latency, 0.5),
            connect_p99_us: quantile(&tally.connect_latency, 0.99),
            failures: tally.failures,
            example: tally.example,
            revocations: self.revocations,
            withheld: tally.withheld,
            containments: self.containments,
            returned: self.returned,
        }
    }
}

fn check(settings: &Settings) -> Result<(), SetupError> {
    let wrong = |text: String| Err(SetupError::Argument(text));
    if settings.payload_bytes < Stamp::BYTES_MAX {
        return wrong(format!(
            "a payload of {} bytes does not hold the stamp; use {} or more",
            settings.payload_bytes,
            Stamp::BYTES_MAX
        ));
    }
    if !(settings.rate > 0.0 && settings.rate <= 1e7) {
        return wrong(format!(
            "a rate of {} is not between 0 and 10,000,000 messages a second",
            settings.rate
        ));
    }
    if settings.qos == Qos::ExactlyOnce {
        return wrong("QoS 2 is not generated; use 0 or 1".to_owned());
    }
    if settings.measured.is_zero() || settings.handshakes == 0 || settings.window == 0 {
        return wrong("seconds, handshakes and window must be above 0".to_owned());
    }
    if settings.mode == Mode::Fanout && settings.consumer.is_none() {
        return wrong("fan-out publishes by the consumer's certificate: name it".to_owned());
    }
    let revokes = match settings.revocations.as_ref().map(|wanted| &wanted.what) {
        None => 0,
        Some(Withdrawn::Devices(count)) => *count,
        // How many that are is seen in their certificates.
        Some(Withdrawn::Issuer(_)) => 1,
    };
    if (settings.mode == Mode::Revoke) != (revokes > 0) || revokes >= settings.devices.max(1) {
        return wrong(
            "revoke mode, and no other, revokes: one device or more, and not all of them"
                .to_owned(),
        );
    }
    if (settings.mode == Mode::Contain) != settings.containments.is_some() {
        return wrong("contain mode, and no other, contains".to_owned());
    }
    Ok(())
}

/// From `origin` to `at`, which may lie before it.
fn micros(at: Instant, origin: Instant) -> f64 {
    let nanos = |duration: Duration| duration.as_secs_f64() * 1e6;
    let micros = match at.checked_duration_since(origin) {
        Some(after) => nanos(after),
        None => -nanos(origin.saturating_duration_since(at)),
    };
    (micros * 10.0).round() / 10.0
}

/// The names of the first `count` pairs in the folder.
fn device_names(folder: &Path, count: usize) -> Result<Vec<String>, SetupError> {
    let entries = std::fs::read_dir(folder).map_err(|source| SetupError::File {
        what: "read the folder",
        path: folder.display().to_string(),
        source,
    })?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".key").map(str::to_owned))
        .filter(|name| folder.join(format!("{name}.pem")).is_file())
        .collect();
    names.sort_unstable();
    if names.len() < count {
        return Err(SetupError::Argument(format!(
            "{} holds {} pairs of NAME.pem and NAME.key, {count} are asked for",
            folder.display(),
            names.len()
        )));
    }
    names.truncate(count);
    Ok(names)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_second(count: u64, duration: Duration) -> f64 {
    if duration.is_zero() {
        0.0
    } else {
        count as f64 / duration.as_secs_f64()
    }
}

/// CPU time of this thread so far; zero where the kernel does not say.
fn cpu_time() -> Duration {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or(Duration::ZERO, Duration::from_nanos)
}
