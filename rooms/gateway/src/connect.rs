//! CONNECT: who may open which session.

use crate::alias::Aliases;
use crate::deadline::Owner;
use crate::gateway::{Gateway, WillFate};
use crate::signal::{Signal, cut};
use crate::state::{Phase, Session, Will};
use crate::turn::{CloseReason, Turn};
use access::{ClientIds, Denied};
use model::{DenyReason, Timestamp};
use mqtt::encode::ConnackFields;
use mqtt::{Connect, Malformed, Packet, Reason, Version};
use std::time::Duration;

/// Why a CONNECT is refused: the MQTT 5 code, and what the client must change.
struct Refusal {
    code: Reason,
    why: &'static str,
    /// A signal says it already, with more.
    is_told: bool,
}

impl Refusal {
    const fn new(code: Reason, why: &'static str) -> Self {
        Self {
            code,
            why,
            is_told: false,
        }
    }

    const fn told(code: Reason, why: &'static str) -> Self {
        Self {
            code,
            why,
            is_told: true,
        }
    }
}

impl Gateway {
    pub(crate) fn first_packet(&mut self, id: u32, frame: &[u8], now: Timestamp, turn: &mut Turn) {
        let version = match mqtt::connect_version(frame) {
            Ok(version) => version,
            Err(error) => {
                let answer = ConnackFields {
                    reason: Reason::UNSUPPORTED_PROTOCOL_VERSION,
                    ..ConnackFields::default()
                };
                if let Some(version) = error.answer_in() {
                    self.send(id, turn, |out, _| {
                        mqtt::encode::connack(out, version, &answer)
                    });
                }
                let rule = match error {
                    mqtt::ConnectVersionError::Malformed(malformed) => malformed.rule,
                    mqtt::ConnectVersionError::UnsupportedLevel(_) => {
                        "the protocol level is 4 (MQTT 3.1.1) or 5"
                    }
                };
                self.malformed(
                    id,
                    &Malformed {
                        reason: Reason::MALFORMED_PACKET,
                        rule,
                    },
                    now,
                    turn,
                );
                return;
            }
        };
        if let Some(connection) = self.connection_mut(id) {
            connection.version = version;
        }
        match mqtt::decode(version, frame) {
            Ok(Packet::Connect(connect)) => self.on_connect(id, &connect, now, turn),
            Ok(_) => {}
            Err(malformed) => {
                let answer = ConnackFields {
                    reason: malformed.reason,
                    ..ConnackFields::default()
                };
                self.send(id, turn, |out, version| {
                    mqtt::encode::connack(out, version, &answer)
                });
                self.malformed(id, &malformed, now, turn);
            }
        }
    }

    fn on_connect(&mut self, id: u32, connect: &Connect<'_>, now: Timestamp, turn: &mut Turn) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let principal = connection.principal;
        let client_ids = connection.client_ids;
        let checked = (self.admit(now))
            .and_then(|()| self.check_connect(principal, client_ids, connect, turn));
        if let Err(Refusal { code, why, is_told }) = checked {
            self.counters.connects_refused += 1;
            if !is_told {
                self.signal(turn, principal, |principal| Signal::ConnectRefused {
                    principal,
                    code,
                    why,
                });
            }
            // No packet may be larger than its client takes (MQTT 5: 3.2.2.3.9).
            let fits = (connect.packet_bytes_max).is_none_or(|bytes| bytes >= 1024);
            let answer = ConnackFields {
                reason: code,
                reason_string: fits.then_some(why),
                ..ConnackFields::default()
            };
            self.send(id, turn, |out, version| {
                mqtt::encode::connack(out, version, &answer)
            });
            self.shut(
                id,
                CloseReason::Refused,
                None,
                WillFate::Discarded,
                now,
                turn,
            );
            return;
        }
        let assigned = connect
            .client_id
            .is_empty()
            .then(|| self.assign_client_id(principal));
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let old = self.session_of(principal, client_id);
        if let Some(old) = old {
            self.take_over(id, old, client_id, connect.clean_start, now, turn);
        }
        // Taking over may have ended it.
        let old = old.and_then(|_| self.session_of(principal, client_id));
        let expiry_seconds = self.expiry_for(principal, connect);
        let (session, resumed) = match old {
            Some(session) if !connect.clean_start => {
                // It may come out of a journal that knew of more grants than there are now.
                self.recheck(principal, now, turn);
                (session, true)
            }
            old => {
                if let Some(old) = old {
                    self.end_session(old, WillFate::Fires, turn);
                }
                (
                    self.new_session(principal, client_id, expiry_seconds, now),
                    false,
                )
            }
        };
        self.bind(id, session, expiry_seconds, connect, now, turn);
        let requested = connect.session_expiry_seconds.unwrap_or(0);
        let keep_alive = self.keep_alive_for(connect);
        let answer = ConnackFields {
            session_present: resumed,
            reason: Reason::SUCCESS,
            session_expiry_seconds: (requested != expiry_seconds).then_some(expiry_seconds),
            receive_maximum: Some(self.limits.inflight_max),
            maximum_qos_1: false,
            retain_available: true,
            packet_bytes_max: u32::try_from(self.limits.packet_bytes_max).ok(),
            assigned_client_id: assigned.as_deref(),
            topic_alias_maximum: self.limits.topic_alias_max,
            reason_string: None,
            wildcard_available: true,
            subscription_ids_available: true,
            shared_available: true,
            server_keep_alive_seconds: (keep_alive != connect.keep_alive_seconds)
                .then_some(keep_alive),
        };
        self.send(id, turn, |out, version| {
            mqtt::encode::connack(out, version, &answer)
        });
        self.counters.sessions_opened += u64::from(!resumed);
        self.counters.sessions_resumed += u64::from(resumed);
        if let Some((certificate, address)) = self
            .connection(id)
            .map(|connection| (connection.certificate, connection.address))
        {
            let persistent = expiry_seconds > 0;
            self.signal_once(turn, principal, |principal| Signal::SessionOpened {
                principal,
                client_id: cut(client_id),
                certificate,
                address,
                version: connect.version,
                persistent,
                resumed,
            });
        }
        self.pump(session, None, now, turn);
        self.note_pressure(session, now, turn);
    }

    /// After a restart a whole fleet comes at once: those above the rate come again later.
    fn admit(&mut self, now: Timestamp) -> Result<(), Refusal> {
        const SECOND_MICROS: u64 = 1_000_000;
        let rate = u64::from(self.limits.connects_per_second.max(1));
        let now = now.as_millis().saturating_mul(1000);
        let next = now
            .max(self.connects_arrival)
            .saturating_add(SECOND_MICROS / rate);
        if next > now.saturating_add(SECOND_MICROS) {
            self.counters.connects_put_off += 1;
            return Err(Refusal::new(
                Reason::SERVER_BUSY,
                "many connect at this moment; connect again in 1 to 30 seconds, at random",
            ));
        }
        self.connects_arrival = next;
        Ok(())
    }

    fn check_connect(
        &mut self,
        principal: u32,
        client_ids: ClientIds,
        connect: &Connect<'_>,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        if connect.authentication_method.is_some() {
            return Err(Refusal::new(
                Reason::BAD_AUTHENTICATION_METHOD,
                "the TLS certificate authenticates, no other method is taken",
            ));
        }
        let Some(known) = self.principals.get(principal) else {
            return Err(Refusal::new(
                Reason::SERVER_UNAVAILABLE,
                "the connection is not known",
            ));
        };
        let name = known.facts.principal.name();
        let client_id = connect.client_id;
        let is_own = client_ids.permit(name, client_id);
        // What a list says it has always been called is its own too.
        let is_own = is_own
            || (known.facts.attributes.iter())
                .any(|(name, value)| name.as_str() == "client_id" && value.as_str() == client_id);
        // 3.1.1 gives it none back, and may ask for it with a clean session only.
        let is_assigned = client_id.is_empty();
        if !is_own && !is_assigned {
            self.signal(turn, principal, |principal| Signal::ForeignClientId {
                principal,
                client_id: cut(client_id),
            });
            return Err(Refusal::told(
                Reason::CLIENT_IDENTIFIER_NOT_VALID,
                "the client identifier must be the certificate's name, or begin with it and a colon; \
                 or what client_ids says of its product",
            ));
        }
        if client_id.len() > self.limits.client_id_bytes_max {
            return Err(Refusal::new(
                Reason::CLIENT_IDENTIFIER_NOT_VALID,
                "the client identifier is too long",
            ));
        }
        let sessions = known.sessions.len();
        if sessions >= self.limits.sessions_per_principal_max
            && self.session_of(principal, client_id).is_none()
        {
            self.signal(turn, principal, |principal| Signal::SessionLimit {
                principal,
                limit: "the number of sessions of one principal",
            });
            return Err(Refusal::told(
                Reason::QUOTA_EXCEEDED,
                "this principal has too many sessions",
            ));
        }
        match &connect.will {
            Some(will) => self.check_will(principal, will, turn),
            None => Ok(()),
        }
    }

    /// A will is a publish that is promised now, so it is authorised now; and again when it fires.
    fn check_will(
        &mut self,
        principal: u32,
        will: &mqtt::Will<'_>,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let Some(known) = self.principals.get(principal) else {
            return Err(Refusal::new(
                Reason::SERVER_UNAVAILABLE,
                "the connection is not known",
            ));
        };
        // A contained device may connect with its will, which is held back when it is due. Else it
        // could not reach the plane either.
        let denied = if self.is_topic_too_long(will.topic) {
            Denied::new(DenyReason::UnlistedTopic)
        } else {
            let subject = known.subject.uncontained();
            match self.grants.publish(&subject, will.topic) {
                // The plane wants to hear from a device, not of it.
                Ok(permitted) if permitted.is_to_plane() => Denied::new(DenyReason::NoPermit),
                Ok(permitted) => {
                    let publisher = &known.facts.principal;
                    let bytes = will.payload.len();
                    match self.fits(publisher, &permitted, bytes, will.retain, &will.forward) {
                        Ok(()) => return self.check_promise(principal, &permitted, will, turn),
                        Err(denied) => denied,
                    }
                }
                Err(denied) => denied,
            }
        };
        self.deny_publish(principal, will.topic, &denied, true, turn);
        Err(Refusal::told(
            Reason::NOT_AUTHORIZED,
            "this client may not publish its will",
        ))
    }

    /// What a permitted will says, and where it wants answers.
    fn check_promise(
        &mut self,
        principal: u32,
        permitted: &access::Publish<'_>,
        will: &mqtt::Will<'_>,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        if let Some(topic) = self.foreign_response_topic(principal, &will.forward) {
            self.signal(turn, principal, |principal| Signal::ResponseTopicDenied {
                principal,
                topic: cut(topic),
            });
            return Err(Refusal::told(
                Reason::NOT_AUTHORIZED,
                "the will's response topic is not one that this client may receive",
            ));
        }
        (self.check_will_payload(principal, permitted, will.payload, will.retain, turn)).map_err(
            |_| {
                let why = "the will's payload is not what its channel carries";
                Refusal::told(Reason::PAYLOAD_FORMAT_INVALID, why)
            },
        )
    }

    fn take_over(
        &mut self,
        id: u32,
        session: u32,
        client_id: &str,
        clean_start: bool,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(old_id) = self
            .sessions
            .get(session)
            .and_then(|session| session.connection)
        else {
            return;
        };
        let new = self
            .connection(id)
            .map(|found| (found.principal, found.certificate, found.address));
        let old = self
            .connection(old_id)
            .map(|connection| (connection.certificate, connection.address));
        let (Some((principal, certificate, address)), Some((previous, previous_address))) =
            (new, old)
        else {
            return;
        };
        self.counters.takeovers += 1;
        self.signal_once(turn, principal, |principal| Signal::TakenOver {
            principal,
            client_id: cut(client_id),
            certificate,
            previous,
            address,
            previous_address,
        });
        let why = Some((
            Reason::SESSION_TAKEN_OVER,
            "this client identifier connected again",
        ));
        self.shut(
            old_id,
            CloseReason::TakenOver,
            why,
            WillFate::Fires,
            now,
            turn,
        );
        // The new connection came before a delayed will's time (MQTT 5: 3.1.3.2.2).
        if !clean_start && let Some(session) = self.sessions.get_mut(session) {
            session.delayed_will = None;
        }
    }

    fn new_session(
        &mut self,
        principal: u32,
        client_id: &str,
        expiry_seconds: u32,
        now: Timestamp,
    ) -> u32 {
        let number = if expiry_seconds > 0 {
            self.next_number(principal)
        } else {
            None
        };
        // Bound and recorded by `bind`.
        let session = (self.sessions).insert(Session::new(principal, client_id, number, 0, now));
        if let Some(known) = self.principals.get_mut(principal) {
            known.sessions.push(session);
        }
        session
    }

    fn next_number(&mut self, principal: u32) -> Option<u32> {
        let principal = &self.principals.get(principal)?.facts.principal;
        let partition = usize::from(crate::home::partition(principal));
        let next = self.next_numbers.get_mut(partition)?;
        let number = *next;
        *next = next.checked_add(1)?;
        Some(number)
    }

    fn bind(
        &mut self,
        id: u32,
        session: u32,
        expiry_seconds: u32,
        connect: &Connect<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let keep_alive_seconds = self.keep_alive_for(connect);
        let inflight_max = self.limits.inflight_max.max(1);
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return;
        };
        let Some(connection) = slot.connection.as_mut() else {
            return;
        };
        connection.phase = Phase::Open { session };
        connection.keep_alive_seconds = keep_alive_seconds;
        connection.packet_bytes_max = (connect.packet_bytes_max)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(usize::MAX);
        connection.receive_maximum = connect
            .receive_maximum
            .unwrap_or(u16::MAX)
            .min(inflight_max);
        connection.wants_reasons =
            connect.request_problem_information && connection.packet_bytes_max >= 1024;
        connection.asked_to_last = connect.session_expiry_seconds.unwrap_or(0) > 0;
        let certificate = connection.certificate;
        connection.will = (connect.will.as_ref()).map(|will| Box::new(Will::of(will, certificate)));
        let alias_max = connect.topic_alias_maximum.unwrap_or(0);
        connection.aliases = (connect.version == Version::V5 && alias_max > 0)
            .then(|| Box::new(Aliases::new(alias_max.min(self.limits.topic_alias_max))));
        let silent = now.plus(Duration::from_secs(u64::from(keep_alive_seconds)) * 3 / 2);
        let due = silent.min(connection.expires_at);
        self.deadlines
            .schedule(Owner::Connection(id), &mut slot.scheduled, due);
        if let Some(found) = self.sessions.get_mut(session) {
            found.connection = Some(id);
            found.delayed_will = None;
            let waited = found.ends_at.take().is_some();
            let changed = found.expiry_seconds != expiry_seconds;
            found.expiry_seconds = expiry_seconds;
            if changed && found.is_persistent() {
                self.record_opened(session, turn);
            }
            if waited {
                self.record_waits(session, turn);
            }
        }
        self.record_will(session, turn);
        self.tell_shares_of(session, turn);
    }

    /// 0 for a device whatever it asks: what must reach an absent device is its desired state, not
    /// a queue that grows with every device in a drawer.
    fn expiry_for(&self, principal: u32, connect: &Connect<'_>) -> u32 {
        let is_device = self
            .principals
            .get(principal)
            .is_none_or(|known| known.is_device());
        let max = self.limits.session_expiry_seconds_max;
        match connect.version {
            _ if is_device => 0,
            Version::V311 if connect.clean_start => 0,
            Version::V311 => max,
            Version::V5 => connect.session_expiry_seconds.unwrap_or(0).min(max),
        }
    }

    fn keep_alive_for(&self, connect: &Connect<'_>) -> u16 {
        let max = self.limits.keep_alive_seconds_max.max(1);
        match connect.keep_alive_seconds {
            0 => max,
            seconds => seconds.min(max),
        }
    }

    fn assign_client_id(&mut self, principal: u32) -> String {
        let name =
            (self.principals.get(principal)).map_or("", |known| known.facts.principal.name());
        let name = name.to_owned();
        loop {
            self.assigned_client_ids += 1;
            let client_id = format!("{name}:{}", self.assigned_client_ids);
            if self.session_of(principal, &client_id).is_none() {
                return client_id;
            }
        }
    }

    pub(crate) fn session_of(&self, principal: u32, client_id: &str) -> Option<u32> {
        let known = self.principals.get(principal)?;
        (known.sessions.iter().copied()).find(|index| {
            self.sessions
                .get(*index)
                .is_some_and(|session| *session.client_id == *client_id)
        })
    }
}
