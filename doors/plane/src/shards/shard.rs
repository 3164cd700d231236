//! One shard: an epoll loop that carries bytes between sockets and the gateway's machine.
//!
//! A turn: poll, serve live sessions, collect letters, then give handshakes as much time as the
//! live sessions took. What a turn decided is carried out in one order: journal, other shards,
//! sockets. So no acknowledgement leaves before what it promises is durable, and each touched
//! connection is written once.

use super::Letter;
use super::mailbox::Mailbox;
use super::slots::Slots;
use super::transport::{Arrival, Failure, Transport};
use crate::clock::SteadyClock;
use crate::config::GatewayConfig;
use crate::flow::Admission;
use crate::listen::refused;
use crate::listen::tls::Sight;
use access::Grants;
use gateway::{CloseReason, ConnectionId, Counters, Gateway, Limits, ToShard, Turn};
use identity::Presented;
use model::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use store::journal::Journal;

/// Bytes read from one socket in one turn, at most.
const READ_BYTES: usize = 128 * 1024;
/// Connections accepted in one turn, at most.
const ACCEPTS_A_TURN: usize = 64;
/// Above half of the places for handshakes, one source address may have this many.
const HANDSHAKES_A_SOURCE: u32 = 64;
/// Letters waiting at another shard above which our publishers to it pause.
const CONGESTED_LETTERS: usize = 8192;
/// Log lines about refused peers a second; the rest is counted and summed up in one line.
const REFUSAL_LINES_A_SECOND: u32 = 50;

const LISTENER: u64 = u64::MAX;
const MAILBOX: u64 = u64::MAX - 1;

/// A proven connection on its way to its home shard.
pub struct Handed {
    transport: Transport,
    peer: SocketAddr,
    presented: Presented,
    /// Decrypted bytes that came with the end of the handshake.
    early: Vec<u8>,
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
    pub sessions: Vec<gateway::SessionSummary>,
    /// The journal could not be written: nothing is accepted any more.
    pub failed: bool,
}

enum Slot {
    Handshaking(Handshaking),
    Live(Live),
}

struct Handshaking {
    transport: Transport,
    peer: SocketAddr,
    sight: Sight,
    early: Vec<u8>,
}

struct Live {
    transport: Transport,
    peer: SocketAddr,
    /// Decrypted bytes that the gateway has not consumed: part of a packet, or all while paused.
    pending: Vec<u8>,
    paused: bool,
    polled: EventFlags,
}

pub struct Shard {
    index: u16,
    shards: u16,
    config: GatewayConfig,
    admission: Arc<Admission>,
    epoll: OwnedFd,
    listener: TcpListener,
    accepting: bool,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    gateway: Gateway,
    journal: Journal,
    clock: SteadyClock,
    slots: Slots<Slot>,
    handshaking: usize,
    handshakes_by_source: HashMap<IpAddr, u32>,
    /// Handshakes by the time they must be done, oldest first.
    deadlines: VecDeque<(Timestamp, u32, u32)>,
    handshakes_done: u64,
    handshakes_refused: u64,
    lines: LineBudget,
    draining: bool,
    failed: bool,
    /// Buffers used again each turn.
    turn: Turn,
    letters: VecDeque<Letter>,
    outbox: Vec<Vec<Letter>>,
    congested: Vec<bool>,
    scratch: Vec<u8>,
    spare: Vec<u8>,
}

impl Shard {
    pub fn open(
        index: u16,
        config: &GatewayConfig,
        journal_dir: &Path,
        listener: TcpListener,
        mailboxes: Vec<Arc<Mailbox<Letter>>>,
        admission: Arc<Admission>,
        grants: Arc<Grants>,
    ) -> anyhow::Result<Self> {
        let durability = match config.durability {
            crate::config::Durability::Power => store::journal::Durability::Power,
            crate::config::Durability::Process => store::journal::Durability::Process,
        };
        let (journal, records) =
            Journal::open(&journal_dir.join(format!("shard-{index}")), durability)?;
        let clock = SteadyClock::start();
        let limits =
            Limits { packet_bytes_max: config.packet_bytes_max, ..Limits::default() };
        let mut gateway = Gateway::new(limits, index, config.shards, grants);
        gateway.recover(records.iter().map(Vec::as_slice), clock.now())?;

        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        listener.set_nonblocking(true)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN | EventFlags::EXCLUSIVE,
        )?;
        if let Some(mailbox) = mailboxes.get(usize::from(index)) {
            epoll::add(&epoll, mailbox.wake_fd(), EventData::new_u64(MAILBOX), EventFlags::IN)?;
        }
        let outbox = mailboxes.iter().map(|_| Vec::new()).collect();
        let congested = vec![false; mailboxes.len()];
        Ok(Self {
            index,
            shards: config.shards,
            config: config.clone(),
            admission,
            epoll,
            listener,
            accepting: true,
            mailboxes,
            gateway,
            journal,
            clock,
            slots: Slots::new(),
            handshaking: 0,
            handshakes_by_source: HashMap::new(),
            deadlines: VecDeque::new(),
            handshakes_done: 0,
            handshakes_refused: 0,
            lines: LineBudget::default(),
            draining: false,
            failed: false,
            turn: Turn::default(),
            letters: VecDeque::new(),
            outbox,
            congested,
            scratch: vec![0; READ_BYTES],
            spare: Vec::new(),
        })
    }

    pub fn run(mut self) {
        let mut events = Vec::with_capacity(1024);
        let mut shaking = Vec::new();
        while !(self.draining && self.slots.len() == 0) {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    tracing::error!("shard {}: the poll failed ({e}); ending", self.index);
                    return;
                }
            }
            let started = Instant::now();
            let now = self.clock.now();
            let (mut knocking, mut mail) = (false, false);
            shaking.clear();
            for event in &events {
                match event.data.u64() {
                    LISTENER => knocking = true,
                    MAILBOX => mail = true,
                    token => match self.slot_of(token) {
                        Some((id, Slot::Live(_))) => self.serve(id, event.flags, now),
                        Some((id, Slot::Handshaking(_))) => shaking.push(id),
                        None => {}
                    },
                }
            }
            if mail {
                self.read_mail(now);
            }
            self.gateway.tick(now, &mut self.turn);
            self.carry_out(now);

            // Live sessions keep at least half of the thread whatever knocks at the door.
            let budget = started.elapsed().max(Duration::from_millis(1));
            let shaking_since = Instant::now();
            for id in &shaking {
                if shaking_since.elapsed() > budget {
                    break;
                }
                self.shake(*id, now);
            }
            if knocking {
                self.accept(now);
            }
            self.end_overdue_handshakes(now);
            self.carry_out(now);
            self.lines.tell(self.index, now);
        }
    }

    fn timeout(&self) -> Timespec {
        let now = self.clock.now();
        let next = [self.gateway.next_deadline(), self.deadlines.front().map(|first| first.0)]
            .into_iter()
            .flatten()
            .min();
        // A second at most, so that summed-up log lines do not wait for traffic.
        let wait = next
            .map_or(Duration::from_secs(1), |deadline| deadline.since(now))
            .min(Duration::from_secs(1));
        Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(wait.subsec_nanos()),
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

    // ---- live sessions ----

    fn serve(&mut self, id: u32, flags: EventFlags, now: Timestamp) {
        if flags.contains(EventFlags::OUT) {
            self.write(id, now);
        }
        let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if gone && matches!(self.slots.entry(id), Some(Slot::Live(live)) if live.paused) {
            // It may not be read while paused, and nobody is left to acknowledge to.
            self.gateway.closed(
                ConnectionId(id),
                CloseReason::ConnectionLost,
                now,
                &mut self.turn,
            );
            self.remove(id);
        } else if gone || flags.contains(EventFlags::IN) {
            self.read(id, now);
        }
    }

    fn read(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Live(live)) = self.slots.entry(id) else { return };
        let Live { transport, pending, .. } = live;
        let (gateway, turn) = (&mut self.gateway, &mut self.turn);
        let arrival = transport.read(&mut self.scratch, &mut |payload| {
            feed(gateway, turn, ConnectionId(id), pending, payload, now);
        });
        let lost = match arrival {
            Ok(Arrival::Progress | Arrival::Nothing) => return,
            Ok(Arrival::End) => CloseReason::PeerClosed,
            Err(_) => CloseReason::ConnectionLost,
        };
        self.gateway.closed(ConnectionId(id), lost, now, &mut self.turn);
        self.remove(id);
    }

    /// Encrypts what the gateway has for this connection and gives the socket what it takes.
    fn write(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Live(live)) = self.slots.entry(id) else { return };
        let connection = ConnectionId(id);
        let mut sent = Ok(true);
        if let Some(output) = self.gateway.output(connection)
            && !output.is_empty()
        {
            sent = live.transport.encrypt(output, &mut self.spare).map(|()| true);
            output.clear();
        }
        sent = sent.and_then(|_| live.transport.flush(&mut self.spare));
        match sent {
            Ok(_) => {
                let unsent = live.transport.unsent_bytes();
                self.gateway.written(connection, unsent, now, &mut self.turn);
                self.poll_for_what_matters(id);
            }
            Err(_) => {
                self.gateway.closed(connection, CloseReason::ConnectionLost, now, &mut self.turn);
                self.remove(id);
            }
        }
    }

    /// A paused connection is not read, a drained one is not asked whether it may be written.
    fn poll_for_what_matters(&mut self, id: u32) {
        let Some(generation) = self.slots.generation(id) else { return };
        let Some(Slot::Live(live)) = self.slots.entry(id) else { return };
        let mut wanted = EventFlags::empty();
        if !live.paused {
            wanted |= EventFlags::IN;
        }
        if live.transport.unsent_bytes() > 0 {
            wanted |= EventFlags::OUT;
        }
        if wanted != live.polled
            && epoll::modify(&self.epoll, live.transport.socket(), token(id, generation), wanted)
                .is_ok()
        {
            live.polled = wanted;
        }
    }

    fn remove(&mut self, id: u32) {
        match self.slots.remove(id) {
            Some(Slot::Live(live)) => live.transport.close(),
            Some(Slot::Handshaking(handshaking)) => {
                self.forget_handshake(handshaking.peer.ip());
                handshaking.transport.close();
            }
            None => {}
        }
        self.accept_again();
    }

    // ---- what a turn decided ----

    fn carry_out(&mut self, now: Timestamp) {
        // Writing may resume a publisher, whose waiting bytes decide more: go on until it is calm.
        for _ in 0..64 {
            if !self.commit_journal() {
                return self.fail(now);
            }
            self.post_to_shards();
            let quiet = self.turn.touched.is_empty()
                && self.turn.close.is_empty()
                && self.turn.resume.is_empty()
                && self.turn.pause.is_empty();
            self.log_signals();
            if quiet {
                return;
            }
            for connection in std::mem::take(&mut self.turn.pause) {
                self.set_paused(connection.0, true);
            }
            for connection in std::mem::take(&mut self.turn.resume) {
                self.set_paused(connection.0, false);
                self.feed_pending(connection.0, now);
            }
            // Acknowledgements of what was fed just now wait for the next round's journal commit.
            if self.turn.journal.is_empty() {
                for connection in std::mem::take(&mut self.turn.touched) {
                    self.write(connection.0, now);
                }
                for (connection, _) in std::mem::take(&mut self.turn.close) {
                    self.write(connection.0, now);
                    if let Some(Slot::Live(live)) = self.slots.entry(connection.0) {
                        live.transport.goodbye();
                    }
                    self.remove(connection.0);
                }
            }
        }
    }

    /// False if the journal cannot be written: then nothing of this turn may be acknowledged.
    fn commit_journal(&mut self) -> bool {
        if self.turn.journal.is_empty() {
            return true;
        }
        let journal = &mut self.journal;
        let appended = self.turn.journal.drain().try_for_each(|record| {
            journal.append(record.partition, record.bytes)
        });
        let done = appended.and_then(|()| journal.commit());
        if let Err(e) = done {
            tracing::error!(
                "shard {}: the journal cannot be written ({e}); no message is accepted until the \
                 operator has made room and restarted",
                self.index
            );
            return false;
        }
        if self.journal.wants_snapshot() {
            let mut records = Vec::new();
            self.gateway.snapshot(&mut |partition, record| {
                records.push((partition, record.to_vec()));
            });
            if let Err(e) = self.journal.snapshot(&records) {
                tracing::error!("shard {}: the journal's snapshot failed ({e})", self.index);
                return false;
            }
        }
        true
    }

    /// Closes everything unacknowledged: a lost connection is repeated by its client, a false
    /// acknowledgement never is.
    fn fail(&mut self, now: Timestamp) {
        self.failed = true;
        self.turn = Turn::default();
        for id in self.slots.indices() {
            self.gateway.closed(ConnectionId(id), CloseReason::ConnectionLost, now, &mut self.turn);
            self.remove(id);
        }
        self.turn = Turn::default();
        self.stop_accepting();
    }

    fn post_to_shards(&mut self) {
        if self.shards == 1 {
            self.turn.to_shards.clear();
            return;
        }
        for (shard, message) in self.turn.to_shards.drain(..) {
            if let Some(batch) = self.outbox.get_mut(usize::from(shard)) {
                batch.push(Letter::FromShard(message));
            }
        }
        for (shard, mailbox) in self.mailboxes.iter().enumerate() {
            if let Some(batch) = self.outbox.get_mut(shard)
                && !batch.is_empty()
            {
                mailbox.post_all(batch.drain(..));
            }
            let full = mailbox.waiting() > CONGESTED_LETTERS;
            if let (Some(was), Ok(shard)) = (self.congested.get_mut(shard), u16::try_from(shard))
                && *was != full
            {
                *was = full;
                self.gateway.shard_congested(shard, full, &mut self.turn);
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
        let Some(Slot::Live(live)) = self.slots.entry(id) else { return };
        feed(&mut self.gateway, &mut self.turn, ConnectionId(id), &mut live.pending, &[], now);
    }

    fn log_signals(&mut self) {
        for signal in self.turn.signals.drain() {
            if self.lines.take() {
                tracing::warn!(target: "gateway", "{signal}");
            }
        }
    }

    // ---- letters ----

    fn read_mail(&mut self, now: Timestamp) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(self.index)) {
            mailbox.collect(&mut self.letters);
        }
        while let Some(letter) = self.letters.pop_front() {
            match letter {
                Letter::Connection(handed) => self.welcome(*handed, now),
                Letter::FromShard(message) => self.gateway.from_shard(message, now, &mut self.turn),
                Letter::Withdraw(what, reply) => {
                    let closed = self.gateway.revoke(&what, now, &mut self.turn);
                    self.carry_out(now);
                    // Whoever asked may have gone; the withdrawal stands.
                    let _ = reply.send(closed);
                }
                Letter::Regrant(grants, reply) => {
                    self.gateway.regrant(grants, now, &mut self.turn);
                    self.carry_out(now);
                    let _ = reply.send(());
                }
                Letter::Report(reply) => {
                    let _ = reply.send(self.report());
                }
                Letter::Drain => self.drain(now),
            }
        }
    }

    fn report(&self) -> ShardReport {
        ShardReport {
            shard: self.index,
            connections: self.slots.len() - self.handshaking,
            handshaking: self.handshaking,
            handshakes_done: self.handshakes_done,
            handshakes_refused: self.handshakes_refused,
            counters: self.gateway.counters().clone(),
            sessions: self.gateway.sessions().collect(),
            failed: self.failed,
        }
    }

    fn drain(&mut self, now: Timestamp) {
        self.draining = true;
        self.stop_accepting();
        self.gateway.shut_down(now, &mut self.turn);
        self.carry_out(now);
        for id in self.slots.indices() {
            self.remove(id);
        }
    }

    // ---- handshakes ----

    fn accept(&mut self, now: Timestamp) {
        for _ in 0..ACCEPTS_A_TURN {
            if self.handshaking >= self.config.handshakes_max
                || self.slots.len() >= self.config.connections_max
            {
                // The rest wait in the kernel's backlog.
                return self.stop_accepting();
            }
            let (socket, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) => {
                    if self.lines.take() {
                        tracing::warn!("shard {}: accept failed ({e})", self.index);
                    }
                    return;
                }
            };
            if let Err(e) = self.begin_handshake(socket, peer, now)
                && self.lines.take()
            {
                tracing::warn!("{peer}: the connection could not be set up ({e})");
            }
        }
    }

    fn begin_handshake(
        &mut self,
        socket: std::net::TcpStream,
        peer: SocketAddr,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let from_source = self.handshakes_by_source.get(&peer.ip()).copied().unwrap_or(0);
        if self.handshaking > self.config.handshakes_max / 2 && from_source >= HANDSHAKES_A_SOURCE {
            anyhow::bail!("{from_source} handshakes from this address are not done yet");
        }
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let (config, sight) = self.admission.trust.device_door(
            identity::Door::Gateway,
            self.config.tls_1_2,
        )?;
        let transport = Transport::new(socket, config)?;
        let slot = Slot::Handshaking(Handshaking { transport, peer, sight, early: Vec::new() });
        let (id, generation) = self.slots.insert(slot);
        if let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) {
            epoll::add(
                &self.epoll,
                handshaking.transport.socket(),
                token(id, generation),
                EventFlags::IN,
            )?;
        }
        self.handshaking += 1;
        *self.handshakes_by_source.entry(peer.ip()).or_default() += 1;
        let deadline = now.plus(Duration::from_secs(self.config.handshake_seconds_max));
        self.deadlines.push_back((deadline, id, generation));
        Ok(())
    }

    /// One step of a handshake; at its end the connection goes to its home shard.
    fn shake(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else { return };
        let Handshaking { transport, early, .. } = handshaking;
        let arrival =
            transport.read(&mut self.scratch, &mut |payload| early.extend_from_slice(payload));
        let flushed = transport.flush(&mut self.spare);
        let failure = match (arrival, flushed) {
            (Err(failure), _) | (Ok(_), Err(failure)) => Some(failure),
            (Ok(Arrival::End), Ok(_)) => {
                Some(Failure::Socket(std::io::Error::from(ErrorKind::UnexpectedEof)))
            }
            (Ok(_), Ok(_)) => None,
        };
        if let Some(failure) = failure {
            return self.refuse_handshake(id, Some(&failure));
        }
        if !transport.is_handshaking() {
            self.end_handshake(id, now);
        }
    }

    fn end_handshake(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else { return };
        let proven = {
            let mut seen = handshaking.sight.lock().unwrap_or_else(PoisonError::into_inner);
            seen.proven.take()
        };
        let full = handshaking.transport.was_full_handshake();
        let (Some(presented), true) = (proven, full) else {
            return self.refuse_handshake(id, None);
        };
        let Some(Slot::Handshaking(done)) = self.slots.remove(id) else { return };
        self.forget_handshake(done.peer.ip());
        self.handshakes_done += 1;
        if epoll::delete(&self.epoll, done.transport.socket()).is_err() {
            return;
        }
        let home = self.admission.home(&presented, self.shards);
        let handed = Handed {
            transport: done.transport,
            peer: done.peer,
            presented,
            early: done.early,
        };
        if home == self.index {
            self.welcome(handed, now);
        } else if let Some(mailbox) = self.mailboxes.get(usize::from(home)) {
            mailbox.post(Letter::Connection(Box::new(handed)));
        }
    }

    /// A connection comes home. It is authenticated here and now: a withdrawal that was carried
    /// out while it was on its way must not be outrun.
    fn welcome(&mut self, handed: Handed, now: Timestamp) {
        if self.draining || self.failed {
            return handed.transport.close();
        }
        let peer = handed.peer;
        let slot = Slot::Live(Live {
            transport: handed.transport,
            peer,
            pending: handed.early,
            paused: false,
            polled: EventFlags::IN,
        });
        let (id, generation) = self.slots.insert(slot);
        let admitted = match self.admission.connect(&handed.presented, ConnectionId(id)) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.handshakes_refused += 1;
                if self.lines.take() {
                    tracing::warn!(target: "gateway", "{peer}: {}", refused::line(&refusal));
                }
                return self.remove(id);
            }
        };
        let Some(Slot::Live(live)) = self.slots.entry(id) else { return };
        let added = epoll::add(
            &self.epoll,
            live.transport.socket(),
            token(id, generation),
            live.polled,
        );
        if added.is_err() {
            return self.remove(id);
        }
        tracing::debug!(target: "gateway", "{}: {} is here", live.peer, admitted.facts.principal);
        self.gateway.open(admitted, now, &mut self.turn);
        self.feed_pending(id, now);
    }

    fn refuse_handshake(&mut self, id: u32, failure: Option<&Failure>) {
        self.handshakes_refused += 1;
        if let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id)
            && self.lines.take()
        {
            let seen = handshaking.sight.lock().unwrap_or_else(PoisonError::into_inner);
            let error = match failure {
                Some(Failure::Tls(error)) => refused::Cause::Tls(error),
                Some(Failure::Socket(error)) => refused::Cause::Socket(error),
                Some(Failure::Overlong) => refused::Cause::Overlong,
                None => refused::Cause::NotProven,
            };
            tracing::warn!(
                target: "gateway",
                "{}: {}",
                handshaking.peer,
                refused::handshake(&seen, &error)
            );
        }
        self.remove(id);
    }

    fn end_overdue_handshakes(&mut self, now: Timestamp) {
        while let Some((deadline, id, generation)) = self.deadlines.front().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if self.slots.generation(id) == Some(generation)
                && matches!(self.slots.entry(id), Some(Slot::Handshaking(_)))
            {
                let late = Failure::Socket(std::io::Error::from(ErrorKind::TimedOut));
                self.refuse_handshake(id, Some(&late));
            }
        }
    }

    fn forget_handshake(&mut self, source: IpAddr) {
        self.handshaking = self.handshaking.saturating_sub(1);
        if let Some(count) = self.handshakes_by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.handshakes_by_source.remove(&source);
            }
        }
    }

    fn stop_accepting(&mut self) {
        if self.accepting && epoll::delete(&self.epoll, &self.listener).is_ok() {
            self.accepting = false;
        }
    }

    fn accept_again(&mut self) {
        let room = self.handshaking < self.config.handshakes_max
            && self.slots.len() < self.config.connections_max;
        if !self.accepting
            && room
            && !self.draining
            && !self.failed
            && epoll::add(
                &self.epoll,
                &self.listener,
                EventData::new_u64(LISTENER),
                EventFlags::IN | EventFlags::EXCLUSIVE,
            )
            .is_ok()
        {
            self.accepting = true;
        }
    }
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

/// Lets a bounded number of lines a second through and says how many it kept back.
#[derive(Default)]
struct LineBudget {
    second: u64,
    used: u32,
    kept_back: u64,
}

impl LineBudget {
    fn take(&mut self) -> bool {
        if self.used < REFUSAL_LINES_A_SECOND {
            self.used += 1;
            return true;
        }
        self.kept_back += 1;
        false
    }

    fn tell(&mut self, shard: u16, now: Timestamp) {
        if self.second == now.as_seconds() {
            return;
        }
        if self.kept_back > 0 {
            tracing::warn!("shard {shard}: {} more lines like these kept back", self.kept_back);
        }
        *self = Self { second: now.as_seconds(), used: 0, kept_back: 0 };
    }
}
