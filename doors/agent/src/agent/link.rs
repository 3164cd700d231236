//! The connection to the plane: made, served, lost.

use super::{Agent, GOOD_SESSION, TOLD_WITHIN, pause, say};
use crate::containment::said;
use crate::failure::{Failure, printable};
use crate::outbox::Acknowledged;
use crate::session::{Event, Session};
use crate::tls::Transport;
use model::{Containment, Timestamp};
use rustix::event::PollFlags;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The whole of connecting, from the first packet to CONNACK.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// A connection with its session.
pub struct Link {
    transport: Transport,
    session: Session,
    began: Instant,
    open_since: Option<Timestamp>,
    /// When the plane's silence about containment means free; `None` once it is settled.
    settle_at: Option<Instant>,
}

impl Link {
    pub fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Milliseconds since 1970.
    pub fn open_since(&self) -> Option<u64> {
        self.open_since.map(Timestamp::as_millis)
    }

    pub fn interest(&self) -> PollFlags {
        self.transport.interest()
    }

    pub fn next_deadline(&self) -> Instant {
        let ping = self.session.next_deadline();
        self.settle_at.map_or(ping, |settle| settle.min(ping))
    }

    /// Says goodbye in MQTT and TLS.
    pub fn close(mut self) {
        self.session.disconnect();
        let _ = self.flush();
        self.transport.close();
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let out = self.session.take_output(Instant::now());
        self.transport.write(&out)?;
        self.transport.turn(&mut self.session.received)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

impl Agent {
    /// Connects, enrolling first where there is no certificate yet, and waits until the session
    /// is open and subscribed: then, and not before, the newest certificate is proven.
    pub(super) fn connect(&mut self) -> Result<(), Failure> {
        // The plane may have moved to an address that our own rules do not know.
        self.look_for_doors();
        self.enforce();
        self.equip()?;
        let Some(credential) = self.life.newest() else {
            return Err(Failure::Protocol("no certificate after enrollment"));
        };
        let now = Instant::now();
        let deadline = now + CONNECT_PATIENCE;
        let transport = Transport::open(
            &self.config.mqtt,
            Some(&credential.certified),
            b"mqtt",
            &self.trust,
            &mut self.clock,
            &self.waiting,
            deadline,
        )?;
        let device = self.config.device.as_str();
        let mut link = Link {
            session: Session::begin(device, self.config.keep_alive_seconds, now),
            transport,
            began: now,
            open_since: None,
            settle_at: None,
        };
        while !link.is_open() {
            let flushed = link.flush();
            if link.session.next_event()?.is_none() {
                flushed?;
                self.waiting
                    .for_one(link.as_fd(), link.interest(), deadline)?;
            }
        }
        link.open_since = Some(self.clock.now());
        link.settle_at = Some(now + TOLD_WITHIN);
        link.session.subscribe(&self.config.containment_topic());
        self.learn_door(link.transport.peer());
        self.link = Some(link);
        // After the subscription, so that the plane can answer it with how we are contained.
        self.next_report = Instant::now();
        match self.life.opened(&self.folder) {
            Ok(true) => say("the certificate has opened a session; older ones have retired"),
            Ok(false) => {}
            // It is proven all the same; the next start proves it again.
            Err(error) => self.trouble(&format!("the keyring cannot be written ({error:#})")),
        }
        self.next_status = Instant::now();
        say(&format!("connected to {}", self.config.mqtt.host));
        Ok(())
    }

    /// Connects if it can be; else the next attempt is planned.
    pub(super) fn try_connect(&mut self) -> Result<(), Failure> {
        match self.connect() {
            Ok(()) => Ok(()),
            Err(failure) => self.lose_link(&failure),
        }
    }

    /// Moves bytes, hears what the plane says, sends what waits.
    pub(super) fn serve_link(&mut self) -> Result<(), Failure> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let now = Instant::now();
        let moved = link.flush();
        // What came before the end counts, an acknowledgement above all.
        let mut heard = Vec::new();
        let ended = loop {
            match link.session.next_event() {
                Ok(Some(event)) => heard.push(event),
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        let settled = link.settle_at.is_some_and(|at| at <= now);
        for event in heard {
            self.hear(event);
        }
        ended?;
        moved?;
        if settled {
            self.obey(None);
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let held = self.containment.is_some();
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        // Containment is heard before duties are sent: nothing is thrown at a closed door.
        let held = held || link.settle_at.is_some();
        let most = link.session.in_flight_max();
        let mut too_large = Vec::new();
        while let Some((packet_id, topic, payload)) = self.outbox.next(now, most, held) {
            if !link.session.publish(packet_id, topic, payload) {
                too_large.push(packet_id);
            }
        }
        for packet_id in too_large {
            self.outbox
                .acknowledge(packet_id, mqtt::Reason::PACKET_TOO_LARGE, now);
        }
        link.session.wake(now)?;
        link.flush()
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Open => {}
            Event::Subscribed(Ok(())) => {}
            Event::Subscribed(Err(reason)) => self.trouble(&format!(
                "the plane does not let us hear about containment: {}",
                reason.name()
            )),
            Event::Acknowledged { packet_id, reason } => {
                let now = Instant::now();
                if let Acknowledged::Refused(topic) =
                    self.outbox.acknowledge(packet_id, reason, now)
                {
                    self.trouble(&format!(
                        "the plane refused a message on {}: {}",
                        printable(&topic),
                        reason.name()
                    ));
                }
            }
            Event::Message {
                packet_id,
                topic,
                payload,
            } => {
                let kept = topic != self.config.containment_topic() || self.hear_word(&payload);
                if let (Some(packet_id), Some(link)) = (packet_id, &mut self.link) {
                    link.session.acknowledge(packet_id, kept);
                }
            }
        }
    }

    /// The plane's word on containment. False if it could not be kept.
    fn hear_word(&mut self, payload: &[u8]) -> bool {
        let Some(containment) = said(payload) else {
            self.trouble("what the plane said about containment cannot be read");
            return true;
        };
        self.obey(containment)
    }

    /// Obeys a word, or a silence that is one. What cannot be given back now is tried again soon.
    fn obey(&mut self, containment: Option<Containment>) -> bool {
        let is_kept = self.contain(containment);
        if let Some(link) = &mut self.link {
            let again = containment.is_none() && !is_kept;
            link.settle_at = again.then(|| Instant::now() + TOLD_WITHIN);
        }
        is_kept
    }

    /// The link is gone, or could not be made: what was on the wire waits, and so do we.
    pub(super) fn lose_link(&mut self, failure: &Failure) -> Result<(), Failure> {
        if matches!(failure, Failure::Stopped) {
            return Err(Failure::Stopped);
        }
        let link = self.link.take();
        self.is_lost = link.is_none() && failure.finds_nobody();
        self.outbox.disconnect();
        if link.is_some_and(|link| link.began.elapsed() >= GOOD_SESSION) {
            self.backoff.reset();
        }
        if failure.is_tls() {
            self.tls_failures += 1;
        }
        if failure.cuts_off() {
            // How far, the next session is told; until there is one, as far as can be.
            self.contain(Some(Containment::Isolated));
        }
        let mut wait = pause(&mut self.backoff);
        if let Failure::Pending(seconds) = failure {
            wait = wait.max(Duration::from_secs(*seconds));
        }
        self.next_attempt = Instant::now() + wait;
        self.trouble(&format!(
            "{failure}; trying again in {:.1} s",
            wait.as_secs_f32()
        ));
        if failure.refuses_certificate() {
            self.reconsider_certificate();
        }
        Ok(())
    }

    /// Remembers where the plane is, for the fence and for what a report leaves out.
    fn learn_door(&mut self, mqtt: std::net::SocketAddr) {
        let est = std::net::SocketAddr::new(mqtt.ip(), self.config.est.port);
        let doors = vec![mqtt, est];
        if self.doors != doors {
            self.doors = doors;
            self.enforce();
            self.see_to_containment();
        }
    }
}
