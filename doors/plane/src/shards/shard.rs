//! One shard: an epoll loop that carries bytes between sockets and the gateway's machine.
//!
//! A turn: poll, serve live sessions, collect letters, then give handshakes as much time as the
//! live sessions took. What a turn decided is carried out in one order: journal, other shards,
//! sockets. So no acknowledgement leaves before what it promises is durable, and each touched
//! connection is written once.

mod alarm;
mod arriving;
mod claiming;
mod framed;
mod gathering;
mod handshake;
mod leaving;
mod mail;
mod pacing;
mod serving;

use super::mailbox::Mailbox;
use super::slots::Slots;
use super::telling::Telling;
use super::transport::Transport;
use super::watching::{Link, Watching};
use super::{Around, Letter, ShardDoor};
use crate::certify::over_mqtt::{self, Asked, Request, Requests};
use crate::clock::SteadyClock;
use crate::commanding::News;
use crate::config::GatewayConfig;
use crate::fleet::recorded::day_of;
use crate::flow::Admission;
use crate::judge::signals::Told;
use crate::listen::refused::LineBudget;
use crate::listen::tls::Sight;
use crate::shared::Locked;
use crate::twinning::Twins;
use access::{ChannelId, TrafficLedger};
use alarm::Alarm;
use gateway::{Closed, ConnectionId, Counters, FromDevice, Gateway, Limits, Rate, Said, Turn};
use gathering::{Gathering, Habit};
use identity::Presented;
use leaving::{Leaving, Lingering};
use model::{Principal, Revocable, Timestamp};
use mqtt::websocket::WebSocket;
use pacing::Pace;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustls::ServerConnection;
use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Journal;
use tokio::sync::mpsc::error::TrySendError;

/// Bytes read from one socket in one turn, at most.
const READ_BYTES: usize = 128 * 1024;
/// Bytes waiting at another shard above which our publishers to it pause.
const CONGESTED_BYTES: usize = 32 * 1024 * 1024;

/// Events of one turn that are served before the mailbox is looked at again.
const SERVED_BETWEEN_MAIL: usize = 32;

const MAILBOX: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;
const ENTRANCE: u64 = u64::MAX - 2;
/// Of the first door; those of the others lie below. No connection's is as great.
const DOOR: u64 = u64::MAX - 3;
const DOORS_MAX: usize = 8;

/// A proven connection on its way to its home shard.
pub struct Handed {
    transport: Transport,
    peer: SocketAddr,
    presented: Presented,
    /// Decrypted bytes that came with the end of the handshake.
    early: Vec<u8>,
    /// It speaks MQTT in frames.
    websocket: Option<Box<WebSocket>>,
}

impl Handed {
    /// One that an HTTP door proved and upgraded to WebSocket; `early` is what came behind the
    /// request.
    pub fn upgraded(
        socket: TcpStream,
        tls: ServerConnection,
        peer: SocketAddr,
        presented: Presented,
        early: &[u8],
    ) -> Self {
        let mut early = early.to_vec();
        let more = &mut |payload: &[u8]| early.extend_from_slice(payload);
        Self {
            transport: Transport::go_on(socket, tls, more),
            peer,
            presented,
            early,
            websocket: Some(Box::default()),
        }
    }
}

/// What a shard says of itself.
#[derive(Debug, Clone)]
pub struct ShardReport {
    pub shard: u16,
    pub connections: usize,
    pub handshaking: usize,
    pub handshakes_done: u64,
    pub handshakes_refused: u64,
    pub counters: Counters,
    /// Payloads that broke their channel's contract.
    pub violations: Vec<(ChannelId, u64)>,
    /// The journal could not be written: nothing is accepted any more.
    pub failed: bool,
}

/// A session as an operator sees it.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub principal: Principal,
    pub client_id: String,
    pub shard: u16,
    pub connected: bool,
    pub persistent: bool,
    pub opened_at: Timestamp,
    pub subscriptions: usize,
    pub queued_messages: usize,
    pub queued_bytes: usize,
    pub address: Option<IpAddr>,
    pub version: Option<mqtt::Version>,
    /// Version and key exchange.
    pub tls: (Option<String>, Option<String>),
    pub incoming: Rate,
    pub outgoing: Rate,
    pub link: Option<Link>,
}

enum Slot {
    /// Boxed: it is short, and a hello is large.
    Arriving(Box<arriving::Arriving>),
    Handshaking(Handshaking),
    Live(Live),
    Lingering(Lingering),
    /// Boxed: few, and large.
    Claiming(Box<claiming::Claiming>),
}

struct Handshaking {
    transport: Transport,
    peer: SocketAddr,
    sight: Sight,
    early: Vec<u8>,
    /// Proved a certificate that many devices share, and has not called itself anything yet.
    unnamed: Option<Box<Presented>>,
}

struct Live {
    transport: Transport,
    /// Decrypted bytes that the gateway has not consumed: part of a packet, or all while paused.
    pending: Vec<u8>,
    /// It speaks MQTT in frames. Boxed: few do.
    websocket: Option<Box<WebSocket>>,
    paused: bool,
    polled: EventFlags,
    habit: Habit,
    /// The gateway is done with it and it waits for its turn to be closed.
    ending: bool,
}

pub struct Shard {
    index: u16,
    shards: u16,
    config: GatewayConfig,
    admission: Arc<Admission>,
    epoll: OwnedFd,
    /// The poll of those who are not in yet, which the other one polls: they wait in a line of their own,
    /// and however long it is, looking for what live sessions sent takes no longer.
    entrance: OwnedFd,
    alarm: Alarm,
    doors: Vec<ShardDoor>,
    accepting: bool,
    /// Not before this.
    accept_at: Timestamp,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    gateway: Gateway,
    journal: Journal,
    clock: SteadyClock,
    slots: Slots<Slot>,
    handshaking: usize,
    handshakes_by_source: HashMap<IpAddr, u32>,
    /// Connections by claim certificates, and when they end, oldest first.
    claiming: usize,
    claims_end: VecDeque<(Timestamp, u32, u32)>,
    /// Handshakes by the time they must be done, oldest first.
    deadlines: VecDeque<(Timestamp, u32, u32)>,
    handshakes_done: u64,
    handshakes_refused: u64,
    /// Of strangers and of those who are known, so that the first cannot hide the second.
    lines: LineBudget,
    signal_lines: LineBudget,
    telling: Telling,
    watching: Watching,
    requests: Requests,
    news: Arc<News>,
    twins: Arc<Twins>,
    traffic: Arc<Locked<TrafficLedger>>,
    leaving: Leaving,
    gathering: Gathering,
    pace: Pace,
    draining: bool,
    failed: bool,
    /// What has been decided and not carried out; and, while it is carried out, what it was.
    turn: Turn,
    carried: Turn,
    letters: VecDeque<Letter>,
    outbox: Vec<Vec<Letter>>,
    congested: Vec<bool>,
    scratch: Vec<u8>,
    spare: Vec<u8>,
}

impl Shard {
    /// A shard whose gateway has recovered and has spoken with the others ([`Shard::gateway_mut`]).
    pub fn open(
        index: u16,
        config: &GatewayConfig,
        journal: Journal,
        doors: Vec<ShardDoor>,
        mailboxes: Vec<Arc<Mailbox<Letter>>>,
        around: Around,
    ) -> anyhow::Result<Self> {
        let Around {
            admission,
            grants,
            signals,
            requests,
            news,
            twins,
            traffic,
        } = around;
        let clock = SteadyClock::start();
        let limits = Limits {
            packet_bytes_max: config.packet_bytes_max,
            reports_per_minute: config.reports_per_minute,
            keep_alive_seconds_max: config.keep_alive_seconds_max,
            ..Limits::default()
        };
        let gateway = Gateway::new(limits, index, config.shards, grants);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (place, door) in doors.iter().enumerate() {
            door.listener.set_nonblocking(true)?;
            watch(&epoll, door, place)?;
        }
        if let Some(mailbox) = mailboxes.get(usize::from(index)) {
            epoll::add(
                &epoll,
                mailbox.wake(),
                EventData::new_u64(MAILBOX),
                EventFlags::IN,
            )?;
        }
        let entrance = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &entrance,
            EventData::new_u64(ENTRANCE),
            EventFlags::IN,
        )?;
        let alarm = Alarm::new(&epoll, ALARM)?;
        let outbox = mailboxes.iter().map(|_| Vec::new()).collect();
        let congested = vec![false; mailboxes.len()];
        Ok(Self {
            index,
            shards: config.shards,
            config: config.clone(),
            admission,
            epoll,
            entrance,
            alarm,
            doors,
            accepting: true,
            accept_at: clock.now(),
            mailboxes,
            gateway,
            journal,
            clock,
            slots: Slots::new(),
            handshaking: 0,
            handshakes_by_source: HashMap::new(),
            claiming: 0,
            claims_end: VecDeque::new(),
            deadlines: VecDeque::new(),
            handshakes_done: 0,
            handshakes_refused: 0,
            lines: LineBudget::default(),
            signal_lines: LineBudget::default(),
            telling: Telling::new(signals),
            watching: Watching::default(),
            requests,
            news,
            twins,
            traffic,
            leaving: Leaving::new(config.connections_max),
            gathering: Gathering::default(),
            pace: Pace::new(Instant::now()),
            draining: false,
            failed: false,
            turn: Turn::default(),
            carried: Turn::default(),
            letters: VecDeque::new(),
            outbox,
            congested,
            scratch: vec![0; READ_BYTES],
            spare: Vec::new(),
        })
    }

    /// Takes in what the journal holds. Before the threads start.
    pub fn recover(&mut self, records: &[Vec<u8>]) {
        let now = self.clock.now();
        let records = records.iter().map(Vec::as_slice);
        let found = self.gateway.recover(records, now, &mut self.turn);
        if found.damaged > 0 {
            tracing::error!(
                "shard {}: {} journal records could not be read and were left out; please report \
                 this",
                self.index,
                found.damaged
            );
        }
        self.end_revoked(now);
    }

    /// Ends the recovered sessions of whoever is revoked: the last stop came before the journal was
    /// told, or it is an older copy. Nobody will fetch what would pile up for them.
    fn end_revoked(&mut self, now: Timestamp) {
        let revoked: Vec<Principal> = {
            let registry = self.admission.trust.registry();
            let sessions = self.gateway.sessions();
            (sessions.map(|session| session.principal.clone()))
                .chain(self.gateway.retained_publishers())
                .filter(|principal| registry.principal_revocation(principal).is_some())
                .collect()
        };
        for principal in revoked {
            let what = [Revocable::Principal(principal)];
            self.gateway.revoke(&what, now, &mut self.turn);
        }
    }

    /// Says of each publisher of a retained message what is known of it. When all have recovered.
    pub fn know_publishers(&mut self) {
        for principal in self.gateway.retained_publishers() {
            let facts = self.admission.facts_of(&principal);
            self.gateway.know_publisher(&facts);
        }
    }

    /// Hands over what recovering makes this shard tell the others; true if it was anything.
    pub fn speak(&mut self) -> bool {
        let spoke = !self.turn.to_shards.is_empty();
        std::mem::swap(&mut self.turn, &mut self.carried);
        // What ended while recovering: else a later session of the same client would be a second.
        if !self.commit_journal() {
            self.fail(self.clock.now());
        }
        self.post_to_shards();
        self.carried.clear();
        spoke
    }

    /// Reads what the others said while all recover.
    pub fn listen(&mut self) {
        self.read_mail(self.clock.now());
    }

    pub fn run(mut self) {
        let mut events = Vec::with_capacity(1024);
        let mut now = self.clock.now();
        while !(self.draining && self.slots.len() == 0) {
            if !has_work(&self.turn) && !self.leaving.is_under_way() {
                self.slots.reuse();
            }
            self.rest();
            events.clear();
            let timeout = self.timeout(now);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    tracing::error!("shard {}: the poll failed ({e}); ending", self.index);
                    return;
                }
            }
            let started = Instant::now();
            self.pace.begin(started, events.len());
            now = self.clock.at(started);
            let mut knocking = [false; DOORS_MAX];
            let mut somebody_enters = false;
            let mut mail_was_read = false;
            self.expect(events.first());
            for (number, event) in events.iter().enumerate() {
                self.expect(events.get(number + 1));
                // First, and again after each few: what is withdrawn waits for no queue.
                if number % SERVED_BETWEEN_MAIL == 0 && self.has_mail() {
                    self.read_mail(now);
                    mail_was_read = true;
                }
                match event.data.u64() {
                    // That took the wake back; a letter since then has raised it anew.
                    MAILBOX if mail_was_read => {}
                    MAILBOX => self.read_mail(now),
                    ALARM => self.alarm.rang(),
                    ENTRANCE => somebody_enters = true,
                    token if token > DOOR - DOORS_MAX as u64 => {
                        let place = usize::try_from(DOOR - token).unwrap_or(DOORS_MAX);
                        if let Some(knocks) = knocking.get_mut(place) {
                            *knocks = true;
                        }
                    }
                    token => match self.slot_of(token) {
                        Some((id, Slot::Live(_))) => self.serve(id, event.flags, now),
                        Some((id, Slot::Lingering(_))) => self.drain_lingering(id),
                        _ => {}
                    },
                }
            }
            self.read_gathered(now);
            self.gateway.tick(now, &mut self.turn);
            self.carry_out(now);

            if somebody_enters {
                self.let_some_enter(started, now);
            }
            for (place, _) in knocking.iter().enumerate().filter(|(_, knocks)| **knocks) {
                self.accept(place, now);
            }
            self.end_overdue_handshakes(now);
            self.end_overdue_lingering(now);
            self.end_overdue_claims(now);
            self.accept_again();
            self.carry_out(now);
            self.lines
                .tell(format_args!("shard {}, handshakes", self.index), now);
            self.signal_lines
                .tell(format_args!("shard {}, signals", self.index), now);
            if self.telling.is_metering_due(now) {
                for principal in self.watching.forget_gone() {
                    self.gateway.unwatch(&principal);
                }
                let telling = &self.telling;
                self.gateway.take_metered(now, |principal, metered| {
                    telling.metered(principal, metered, now);
                });
                self.count_traffic(now);
            }
        }
    }

    /// Hands on what was sent and heard, in numbers.
    fn count_traffic(&mut self, now: Timestamp) {
        let (day, mut ledger) = (day_of(now), self.traffic.lock());
        (self.gateway).take_traffic(|facts, channel, passed| {
            ledger.count(day, facts, channel, &passed);
        });
    }

    fn has_mail(&self) -> bool {
        let own = self.mailboxes.get(usize::from(self.index));
        own.is_some_and(|mailbox| mailbox.waiting() > 0)
    }

    /// After a turn that began at `now`. `None`: something will wake the thread in time.
    fn timeout(&mut self, now: Timestamp) -> Option<Timespec> {
        if has_work(&self.turn) || self.leaving.is_under_way() {
            return Some(Timespec::default());
        }
        let next = [
            self.gateway.next_deadline(),
            self.deadlines.front().map(|first| first.0),
            self.leaving.next_deadline(),
            self.gathering.next_deadline(),
            self.claims_end.front().map(|first| first.0),
            (!self.accepting && self.accept_at > now).then_some(self.accept_at),
        ]
        .into_iter()
        .flatten()
        .min();
        // A second at most, so that summed-up log lines do not wait for traffic.
        let latest = now.plus(Duration::from_secs(1));
        let deadline = next.map_or(latest, |deadline| deadline.min(latest));
        self.alarm.wait(deadline, || self.clock.now())
    }

    /// Steps of those who are not in yet. Live sessions, whose turn began at `started`, keep at least
    /// half of the thread whatever knocks at the door.
    fn let_some_enter(&mut self, started: Instant, now: Timestamp) {
        let budget = started.elapsed().max(Duration::from_millis(1));
        let entering_since = Instant::now();
        while entering_since.elapsed() <= budget {
            // One alone: who were told of and not heard would lose their place in the line.
            let mut next = [MaybeUninit::uninit(); 1];
            let at_once = Timespec::default();
            let Ok(([next], _)) = epoll::wait(&self.entrance, &mut next, Some(&at_once)) else {
                return;
            };
            let token = next.data.u64();
            if self.has_mail() {
                self.read_mail(now);
            }
            match self.slot_of(token) {
                // Who was refused lingers where it waited.
                Some((id, Slot::Lingering(_))) => self.drain_lingering(id),
                Some((id, _)) => self.shake(id, now),
                None => {}
            }
        }
    }

    fn slot_of(&mut self, token: u64) -> Option<(u32, &mut Slot)> {
        let index = u32::try_from(token & u64::from(u32::MAX)).ok()?;
        let generation = u32::try_from(token >> 32).ok()?;
        if self.slots.generation(index) != Some(generation) {
            return None;
        }
        self.slots.entry(index).map(|slot| (index, slot))
    }

    // ---- what a turn decided ----

    fn carry_out(&mut self, now: Timestamp) {
        if self.failed {
            // Other shards still speak to this one; nothing of it may leave or pile up.
            self.turn.clear();
            return;
        }
        // Writing may resume a publisher, whose waiting bytes decide more: go on until it is calm.
        while !self.failed && has_work(&self.turn) {
            std::mem::swap(&mut self.turn, &mut self.carried);
            if !self.commit_journal() {
                return self.fail(now);
            }
            self.post_to_shards();
            self.tell_signals(now);
            self.begin_endings();
            for place in 0..self.carried.pause.len() {
                if let Some(ConnectionId(id)) = self.carried.pause.get(place).copied() {
                    self.set_paused(id, true);
                }
            }
            for place in 0..self.carried.touched.len() {
                if let Some(ConnectionId(id)) = self.carried.touched.get(place).copied() {
                    self.write(id, now);
                }
            }
            // Last: what is fed here may be acknowledged only after the next round's journal.
            for place in 0..self.carried.resume.len() {
                if let Some(ConnectionId(id)) = self.carried.resume.get(place).copied() {
                    self.set_paused(id, false);
                    self.feed_pending(id, now);
                }
            }
            self.carried.clear();
        }
        self.end_some(now);
        self.report_congestion(now);
    }

    /// False if the journal cannot be written: then nothing of this turn may be acknowledged.
    fn commit_journal(&mut self) -> bool {
        if self.carried.journal.is_empty() {
            return true;
        }
        let journal = &mut self.journal;
        let appended = self
            .carried
            .journal
            .records()
            .try_for_each(|(partition, record)| journal.append(partition, record));
        if let Err(error) = appended.and_then(|()| journal.commit()) {
            tracing::error!(
                "shard {}: {error}; no message is accepted any more",
                self.index
            );
            return false;
        }
        if self.journal.wants_snapshot() {
            let gateway = &self.gateway;
            let made = self.journal.snapshot(&mut |sink| {
                gateway.snapshot(&mut |partition, record| sink.record(partition, record));
            });
            if let Err(error) = made {
                tracing::error!("shard {}: {error}", self.index);
                return !matches!(error, store::JournalError::Stopped { .. });
            }
        }
        true
    }

    /// Closes everything unacknowledged: a lost connection is repeated by its client, a false
    /// acknowledgement never is.
    fn fail(&mut self, now: Timestamp) {
        self.failed = true;
        for id in self.slots.indices() {
            self.gateway
                .closed(ConnectionId(id), Closed::ByPeer, now, &mut self.turn);
            self.remove(id);
        }
        self.turn = Turn::default();
        self.carried = Turn::default();
        self.leaving.all_have_left();
        self.stop_accepting();
    }

    fn post_to_shards(&mut self) {
        for (shard, message) in self.carried.to_shards.drain(..) {
            if let Some(batch) = self.outbox.get_mut(usize::from(shard)) {
                batch.push(Letter::FromShard(message));
            }
        }
        for (batch, mailbox) in self.outbox.iter_mut().zip(&self.mailboxes) {
            if !batch.is_empty() {
                mailbox.post_all(batch.drain(..));
            }
        }
    }

    /// Tells the gateway which shards cannot follow, so that publishers to them pause.
    fn report_congestion(&mut self, now: Timestamp) {
        for shard in (0..self.shards).filter(|shard| *shard != self.index) {
            let place = usize::from(shard);
            let full = self
                .mailboxes
                .get(place)
                .is_some_and(|box_| box_.waiting() > CONGESTED_BYTES);
            if let Some(was) = self.congested.get_mut(place)
                && *was != full
            {
                *was = full;
                self.gateway
                    .shard_congested(shard, full, now, &mut self.turn);
            }
        }
    }

    fn set_paused(&mut self, id: u32, paused: bool) {
        if let Some(Slot::Live(live)) = self.slots.entry(id) {
            live.paused = paused;
        }
        self.poll_for_what_matters(id);
    }

    fn feed_pending(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return;
        };
        if live.ending {
            return;
        }
        feed(
            &mut self.gateway,
            &mut self.turn,
            ConnectionId(id),
            &mut live.pending,
            &[],
            now,
        );
    }

    fn tell_signals(&mut self, now: Timestamp) {
        for progress in self.carried.progress.drain(..) {
            self.news.tell(progress, now);
        }
        for word in self.carried.reports.drain(..) {
            let FromDevice {
                device,
                said,
                payload,
                at,
            } = word;
            let certificate = match said {
                Said::Report => {
                    let report = Told::Report {
                        device,
                        payload,
                        at,
                    };
                    self.telling.tell(report);
                    continue;
                }
                Said::State => {
                    self.twins.says(device, payload, at);
                    continue;
                }
                Said::WantsState => {
                    self.twins.wants(device);
                    continue;
                }
                Said::DefenderReport { topic } => {
                    let report = Told::DefenderReport {
                        device,
                        topic,
                        payload,
                        at,
                    };
                    self.telling.tell(report);
                    continue;
                }
                Said::Request { certificate } => certificate,
            };
            let request = Request {
                device,
                certificate,
                payload,
                at,
            };
            if let Err(
                TrySendError::Full(Asked::Renewal(request))
                | TrySendError::Closed(Asked::Renewal(request)),
            ) = self.requests.try_send(Asked::Renewal(request))
            {
                let topic = access::certificate_topic(&request.device);
                let busy = over_mqtt::busy(&request.payload);
                self.gateway.tell(&topic, &busy, now, &mut self.turn);
            }
        }
        for signal in self.carried.signals.drain(..) {
            self.telling.signal(&signal, now);
            if let Some(principal) = self.watching.signal(&signal, now) {
                self.gateway.unwatch(&principal);
            }
            if signal.actor() == gateway::Actor::Nobody {
                tracing::debug!(target: "gateway", "{signal}");
            } else if self.signal_lines.take() {
                tracing::warn!(target: "gateway", "{signal}");
            }
        }
        self.signal_lines.kept_back += self.carried.signals_dropped;
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(self.index)) {
            mailbox.close();
        }
    }
}

fn has_work(turn: &Turn) -> bool {
    !(turn.touched.is_empty()
        && turn.close.is_empty()
        && turn.pause.is_empty()
        && turn.resume.is_empty()
        && turn.journal.is_empty()
        && turn.to_shards.is_empty()
        && turn.signals.is_empty()
        && turn.reports.is_empty()
        && turn.progress.is_empty())
}

/// Has the poll say when somebody knocks at a door.
fn watch(epoll: &OwnedFd, door: &ShardDoor, place: usize) -> rustix::io::Result<()> {
    let token = EventData::new_u64(DOOR - place as u64);
    epoll::add(
        epoll,
        &door.listener,
        token,
        EventFlags::IN | EventFlags::EXCLUSIVE,
    )
}

fn token(id: u32, generation: u32) -> EventData {
    EventData::new_u64(u64::from(generation) << 32 | u64::from(id))
}

/// Gives the gateway `pending` and `payload` in order and keeps what it does not take yet.
fn feed(
    gateway: &mut Gateway,
    turn: &mut Turn,
    connection: ConnectionId,
    pending: &mut Vec<u8>,
    payload: &[u8],
    now: Timestamp,
) {
    if pending.is_empty() {
        let used = gateway.receive(connection, payload, now, turn);
        pending.extend_from_slice(payload.get(used..).unwrap_or_default());
        return;
    }
    pending.extend_from_slice(payload);
    let used = gateway.receive(connection, pending, now, turn);
    if used >= pending.len() {
        *pending = Vec::new();
    } else {
        pending.drain(..used);
    }
}
