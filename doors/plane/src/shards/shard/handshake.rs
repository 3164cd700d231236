//! From a knock to a session: connections are accepted, shaken hands with under caps and a time
//! limit, and brought to their home shard.

use super::arriving::Arriving;
use super::gathering::Habit;
use super::serving::WHEN_MORE_COMES;
use super::{Handed, Handshaking, Live, Shard, Slot, token, watch};
use crate::judge::signals::Told;
use crate::listen::proxied::{ProxyRefusal, SIGNATURE};
use crate::listen::refused::{self, Failed};
use crate::listen::source_of;
use crate::listen::tls::{Seen, Sight, Whom};
use crate::shards::telling::DOOR;
use crate::shards::transport::{Arrival, Failure, Transport};
use crate::shards::{Letter, Spoken};
use detection::Feature;
use gateway::ConnectionId;
use identity::Presented;
use model::{Attribution, Principal, Timestamp};
use mqtt::encode::ConnackFields;
use mqtt::{Reason, Version};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustls::ServerConfig;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Connections accepted in one turn, at most.
const ACCEPTS_A_TURN: usize = 64;
/// Above half of the places for handshakes, one source address may have this many.
const HANDSHAKES_A_SOURCE: u32 = 64;
/// How long nobody is accepted after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Shard {
    pub(super) fn accept(&mut self, door: usize, now: Timestamp) {
        for _ in 0..ACCEPTS_A_TURN {
            if self.handshaking >= self.config.handshakes_max
                || self.slots.len() >= self.config.connections_max
            {
                // The rest wait in the kernel's backlog.
                return self.stop_accepting();
            }
            let Some(listener) = self.doors.get(door).map(|door| &door.listener) else {
                return;
            };
            let (socket, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // That one peer has gone already.
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => {
                    if self.lines.take() {
                        tracing::warn!("shard {}: accept failed ({e})", self.index);
                    }
                    // No file or memory is left: the listener stays readable, and asking it again
                    // and again would take the time of those who are here.
                    self.accept_at = now.plus(ACCEPT_PAUSE);
                    return self.stop_accepting();
                }
            };
            if let Err(e) = self.begin_handshake(socket, peer, door, now)
                && self.lines.take()
            {
                tracing::warn!(target: "gateway", "{peer}: {e}");
            }
        }
    }

    fn begin_handshake(
        &mut self,
        socket: std::net::TcpStream,
        peer: SocketAddr,
        door: usize,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let source = source_of(peer.ip());
        let from_source = self.handshakes_by_source.get(&source).copied().unwrap_or(0);
        let door_here = self.doors.get(door);
        let is_forwarded = door_here.is_some_and(|door| door.proxies.hold(peer.ip()));
        // A balancer is asked for whom it comes first.
        if !is_forwarded && self.is_crowded(from_source) {
            anyhow::bail!(
                "refused handshakes-in-flight: {from_source} handshakes from this address are not \
                 done yet; device: back off and try again [device must act]"
            );
        }
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let by_alpn = self.is_by_alpn(door);
        let slot = if is_forwarded || by_alpn {
            let arriving = Arriving::new(socket, peer, door, is_forwarded);
            Slot::Arriving(Box::new(arriving))
        } else {
            let Some((config, sight)) = self.offer(door) else {
                anyhow::bail!("this door has no TLS configuration; please report this");
            };
            Slot::Handshaking(Handshaking {
                transport: Transport::new(socket, config)?,
                peer,
                sight,
                early: Vec::new(),
                unnamed: None,
            })
        };
        let (id, generation) = self.slots.insert(slot);
        let socket = match self.slots.entry(id) {
            Some(Slot::Handshaking(handshaking)) => handshaking.transport.socket(),
            Some(Slot::Arriving(arriving)) => &arriving.socket,
            _ => return Ok(()),
        };
        if let Err(e) = epoll::add(
            &self.entrance,
            socket,
            token(id, generation),
            EventFlags::IN,
        ) {
            // Nobody would ever look at it again.
            self.slots.remove(id);
            return Err(e.into());
        }
        self.handshaking += 1;
        *self.handshakes_by_source.entry(source).or_default() += 1;
        let deadline = now.plus(Duration::from_secs(self.config.handshake_seconds_max));
        self.deadlines.push_back((deadline, id, generation));
        Ok(())
    }

    pub(super) fn is_by_alpn(&self, door: usize) -> bool {
        (self.doors.get(door)).is_some_and(|door| matches!(door.spoken, Spoken::ByAlpn(_)))
    }

    /// Whether somebody with so many handshakes under way may have no more.
    pub(super) fn is_crowded(&self, from_source: u32) -> bool {
        self.handshaking > self.config.handshakes_max / 2 && from_source >= HANDSHAKES_A_SOURCE
    }

    /// What a door offers one connection.
    pub(super) fn offer(&self, door: usize) -> Option<(Arc<ServerConfig>, Sight)> {
        let terms = &self.doors.get(door)?.terms;
        let trust = &self.admission.trust;
        trust.device_door(identity::Door::Gateway, terms).ok()
    }

    /// One step of somebody who is not in yet; at the end of a handshake the connection goes to its home shard.
    pub(super) fn shake(&mut self, id: u32, now: Timestamp) {
        match self.slots.entry(id) {
            Some(Slot::Claiming(_)) => return self.hear_claim(id, now),
            Some(Slot::Arriving(_)) => return self.hear_arriving(id, now),
            _ => {}
        }
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else {
            return;
        };
        let Handshaking {
            transport, early, ..
        } = handshaking;
        let arrival = transport.read(&mut self.scratch, &mut |payload| {
            early.extend_from_slice(payload)
        });
        let arrival = match arrival {
            Err(Failure::Tls(_)) if self.scratch.starts_with(&SIGNATURE) => {
                Err(Failure::Proxy(ProxyRefusal::Unexpected))
            }
            arrival => arrival,
        };
        self.go_on_shaking(id, arrival, now);
    }

    /// What becomes of a handshake after something came.
    pub(super) fn go_on_shaking(
        &mut self,
        id: u32,
        arrival: Result<Arrival, Failure>,
        now: Timestamp,
    ) {
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else {
            return;
        };
        let transport = &mut handshaking.transport;
        let flushed = transport.flush(&mut self.spare);
        let failure = match (arrival, flushed) {
            (Err(failure), _) | (Ok(_), Err(failure)) => Some(failure),
            (Ok(Arrival::End), Ok(_)) => Some(ended()),
            (Ok(_), Ok(_)) => None,
        };
        if let Some(failure) = failure {
            return self.refuse_handshake(id, Some(&failure));
        }
        if handshaking.unnamed.is_some() {
            self.name_by_connect(id, now);
        } else if !transport.is_handshaking() {
            self.end_handshake(id, now);
        }
    }

    /// A certificate that many devices share says nothing of which one is here: its CONNECT does.
    /// It holds the place and the deadline of a handshake until then.
    fn name_by_connect(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else {
            return;
        };
        let said = match client_id_of(&handshaking.early) {
            Ok(None) => return,
            Ok(Some(said)) => Some(said),
            Err(()) => None,
        };
        let Some(presented) = handshaking.unnamed.take() else {
            return;
        };
        let client_id = said.as_ref().map(|(_, client_id)| client_id.as_str());
        let presented = presented.calling_itself(client_id.unwrap_or_default());
        let trust = &self.admission.trust;
        match trust.authenticate(identity::Door::Gateway, &presented) {
            Ok(who) => self.hand_on(id, who.principal().clone(), presented, now),
            Err(refusal) => {
                if let Some((version, _)) = said {
                    let mut answer = Vec::new();
                    let why = refusal.to_string();
                    let fields = ConnackFields {
                        reason: Reason::NOT_AUTHORIZED,
                        reason_string: Some(&why),
                        ..ConnackFields::default()
                    };
                    mqtt::encode::connack(&mut answer, version, &fields);
                    // What cannot be encrypted any more is not sent; it is over all the same.
                    let _ = handshaking.transport.encrypt(&answer, &mut self.spare);
                }
                handshaking.transport.goodbye();
                handshaking.sight.lock().refusal = Some(refusal);
                self.refuse_handshake(id, None);
            }
        }
    }

    fn end_handshake(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else {
            return;
        };
        let proven = {
            let mut seen = handshaking.sight.lock();
            seen.proven.take()
        };
        let proven = match (proven, handshaking.transport.was_full_handshake()) {
            (Some(proven), true) => proven,
            // The verifier saw nothing of it.
            (None, false) => {
                let chain = handshaking.transport.certificates();
                match self.admission.trust.resumed(identity::Door::Gateway, chain) {
                    Ok(proven) => proven,
                    Err((refusal, barred)) => {
                        let mut seen = handshaking.sight.lock();
                        (seen.refusal, seen.barred) = (Some(refusal), barred);
                        drop(seen);
                        handshaking.transport.goodbye();
                        return self.refuse_handshake(id, None);
                    }
                }
            }
            _ => return self.refuse_handshake(id, None),
        };
        match proven.whom {
            Whom::One(principal) => self.hand_on(id, principal, proven.presented, now),
            Whom::Claiming => self.begin_claim(id, proven.presented, now),
            Whom::Sharing => {
                handshaking.unnamed = Some(Box::new(proven.presented));
                self.name_by_connect(id, now);
            }
        }
    }

    /// Brings a connection whose holder is known to its home shard.
    fn hand_on(&mut self, id: u32, principal: Principal, presented: Presented, now: Timestamp) {
        let Some(Slot::Handshaking(done)) = self.slots.remove(id) else {
            return;
        };
        self.forget_handshake(done.peer.ip());
        self.accept_again();
        self.handshakes_done += 1;
        if epoll::delete(&self.entrance, done.transport.socket()).is_err() {
            return;
        }
        let home = gateway::home_shard(&principal, self.shards);
        let handed = Handed {
            transport: done.transport,
            peer: done.peer,
            presented,
            early: done.early,
            websocket: None,
        };
        if home == self.index {
            self.welcome(handed, now);
        } else if let Some(mailbox) = self.mailboxes.get(usize::from(home)) {
            mailbox.post(Letter::Connection(Box::new(handed)));
        }
    }

    /// A connection comes home. It is authenticated here and now: a withdrawal that was carried
    /// out while it was on its way must not be outrun.
    pub(super) fn welcome(&mut self, mut handed: Handed, now: Timestamp) {
        if self.draining || self.failed || self.slots.len() >= self.config.connections_max {
            return;
        }
        let peer = handed.peer;
        let slot = Slot::Live(Live {
            transport: handed.transport,
            pending: match handed.websocket {
                Some(_) => Vec::new(),
                None => std::mem::take(&mut handed.early),
            },
            websocket: handed.websocket,
            paused: false,
            polled: WHEN_MORE_COMES,
            ending: false,
            habit: Habit::new(now),
        });
        let (id, generation) = self.slots.insert(slot);
        let added = match self.slots.entry(id) {
            Some(Slot::Live(live)) => {
                let socket = live.transport.socket();
                epoll::add(&self.epoll, socket, token(id, generation), live.polled)
            }
            _ => return,
        };
        if added.is_err() {
            return self.remove(id);
        }
        let connection = ConnectionId(id);
        let admitted = match self
            .admission
            .connect(&handed.presented, connection, peer.ip())
        {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.handshakes_refused += 1;
                let principal = self.admission.trust.registry().named_by(&handed.presented);
                let failed = Failed::proven(principal, &refusal);
                self.telling.failed(&failed, peer.ip(), now);
                if self.lines.take() {
                    tracing::warn!(target: "gateway", "{peer}: {}", failed.line);
                }
                if let Some(Slot::Live(live)) = self.slots.entry(id) {
                    live.transport.goodbye();
                }
                return self.linger(id, now);
            }
        };
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return;
        };
        if let Some(flaw) = self
            .admission
            .trust
            .bad_keys
            .get()
            .flaw_of(&handed.presented)
        {
            let principal = admitted.facts.principal.clone();
            self.telling.known_key(principal, flaw.name(), now);
        }
        if let Err(error) = live.transport.settle() {
            tracing::error!("{peer}: its handshake left no keys ({error}); please report this");
            return self.remove(id);
        }
        let (version, group) = live.transport.negotiated();
        tracing::debug!(
            target: "gateway",
            "{peer}: {} is here by {version:?} {group:?}",
            admitted.facts.principal,
        );
        if let Some(version) = version {
            self.telling.tell(Told::seen(
                admitted.facts.principal.clone(),
                Attribution::Proven,
                Feature::TlsSession {
                    version: format!("{version:?}"),
                    group: group.map(|group| format!("{group:?}")),
                    door: DOOR.to_owned(),
                },
                now,
            ));
        }
        self.gateway.open(admitted, now, &mut self.turn);
        if !self.take_frames(id, &handed.early, now) {
            let closed = gateway::Closed::ByPeer;
            (self.gateway).closed(connection, closed, now, &mut self.turn);
            return self.linger(id, now);
        }
        self.feed_pending(id, now);
    }

    pub(super) fn refuse_handshake(&mut self, id: u32, failure: Option<&Failure>) {
        self.handshakes_refused += 1;
        let known = match self.slots.entry(id) {
            Some(Slot::Handshaking(one)) => {
                Some((one.peer, std::mem::take(&mut *one.sight.lock())))
            }
            Some(Slot::Arriving(one)) => Some((one.peer, Seen::default())),
            _ => None,
        };
        if let Some((peer, seen)) = known {
            let error = match failure {
                Some(Failure::Tls(error)) => refused::Cause::Tls(error),
                Some(Failure::Socket(error)) => refused::Cause::Socket(error),
                Some(Failure::Overlong) => refused::Cause::Overlong,
                Some(Failure::Proxy(refusal)) => refused::Cause::Proxy(*refusal),
                Some(Failure::Crowded) => refused::Cause::Crowded,
                None => refused::Cause::NotProven,
            };
            let failed = refused::handshake(&seen, &error);
            self.telling.failed(&failed, peer.ip(), self.clock.now());
            if self.lines.take() {
                tracing::warn!(target: "gateway", "{peer}: {}", failed.line);
            }
        }
        match failure {
            // It has left, or said nothing so long that it will not hear either.
            Some(Failure::Socket(_)) => self.remove(id),
            _ => self.linger(id, self.clock.now()),
        }
    }

    pub(super) fn end_overdue_handshakes(&mut self, now: Timestamp) {
        while let Some((deadline, id, generation)) = self.deadlines.front().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if self.slots.generation(id) == Some(generation)
                && matches!(
                    self.slots.entry(id),
                    Some(Slot::Handshaking(_) | Slot::Arriving(_))
                )
            {
                let late = Failure::Socket(std::io::Error::from(ErrorKind::TimedOut));
                self.refuse_handshake(id, Some(&late));
            }
        }
    }

    pub(super) fn forget_handshake(&mut self, peer: IpAddr) {
        self.handshaking = self.handshaking.saturating_sub(1);
        self.forget_source(peer);
    }

    pub(super) fn forget_source(&mut self, peer: IpAddr) {
        let source = source_of(peer);
        if let Some(count) = self.handshakes_by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.handshakes_by_source.remove(&source);
            }
        }
    }

    pub(super) fn stop_accepting(&mut self) {
        if !self.accepting {
            return;
        }
        for door in &self.doors {
            // It is watched, so it can be left alone.
            let _ = epoll::delete(&self.epoll, &door.listener);
        }
        self.accepting = false;
    }

    pub(super) fn accept_again(&mut self) {
        if self.accepting {
            return;
        }
        let room = self.clock.now() >= self.accept_at
            && self.handshaking < self.config.handshakes_max
            && self.slots.len() < self.config.connections_max;
        if !room || self.draining || self.failed {
            return;
        }
        let watched = (self.doors.iter().enumerate())
            .map(|(place, door)| watch(&self.epoll, door, place))
            .filter(|watched| matches!(watched, Ok(()) | Err(Errno::EXIST)))
            .count();
        // If one is not, all are tried again.
        self.accepting = watched == self.doors.len();
    }
}

/// The peer has left.
pub(super) fn ended() -> Failure {
    Failure::Socket(std::io::Error::from(ErrorKind::UnexpectedEof))
}

/// Bytes of a CONNECT that is read before its sender has a name.
const CONNECT_BYTES_MAX: usize = 4096;

/// The version and the client identifier of a CONNECT, once all of it is here; nothing else is read
/// of it, and it goes on as it came. The error: it is no CONNECT of a size that is taken.
fn client_id_of(bytes: &[u8]) -> Result<Option<(Version, String)>, ()> {
    let Some(length) = mqtt::frame_length(bytes, CONNECT_BYTES_MAX).map_err(drop)? else {
        return Ok(None);
    };
    let Some(frame) = bytes.get(..length) else {
        return Ok(None);
    };
    let version = mqtt::connect_version(frame).map_err(drop)?;
    match mqtt::decode(version, frame).map_err(drop)? {
        mqtt::Packet::Connect(connect) => Ok(Some((version, connect.client_id.to_owned()))),
        _ => Err(()),
    }
}
