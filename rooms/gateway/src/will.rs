//! A will: promised at CONNECT, held against the grants then and again when it fires.

use crate::contract::is_removal;
use crate::deliver::expires_at;
use crate::gateway::{Gateway, WillFate};
use crate::journal::Record;
use crate::publish::check_size;
use crate::queue::Outbound;
use crate::signal::{Signal, cut};
use crate::state::{Session, Will, WillDue};
use crate::turn::Turn;
use access::Denied;
use model::{CertificateId, Principal, Revocable, Timestamp};
use mqtt::ForwardProperties;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Gateway {
    pub(crate) fn decide_will(&mut self, session: u32, will: Box<Will>, fate: WillFate) {
        let principal = self.sessions.get(session).map(|session| session.principal);
        match fate {
            WillFate::Fires => {
                if let Some(known) = principal.and_then(|index| self.principals.get(index)) {
                    self.wills.push(WillDue {
                        facts: known.facts.clone(),
                        will,
                    });
                }
            }
            WillFate::Suppressed => self.counters.wills_suppressed += 1,
            WillFate::Discarded => {}
        }
    }

    /// Says to the journal what will a session that lasts has: that of its client, or the one that
    /// waits for its delay. So a crash of the server loses it as little as any other loss does.
    pub(crate) fn record_will(&mut self, index: u32, turn: &mut Turn) {
        let Some(key) = self.journal_key(index) else {
            return;
        };
        let Some(session) = self.sessions.get(index) else {
            return;
        };
        let record = match self.will_of(session) {
            Some((due_at, will)) => Record::Will {
                due_at,
                delay_seconds: will.delay_seconds,
                certificate: will.certificate,
                message: will.message(),
            },
            None if session.will_recorded => Record::WillGone,
            None => return,
        };
        let is_recorded = matches!(record, Record::Will { .. });
        turn.journal
            .append(key.partition, |out| record.write(key, out));
        self.counters.journal_records += 1;
        if let Some(session) = self.sessions.get_mut(index) {
            session.will_recorded = is_recorded;
        }
    }

    /// The will that a session has, and when it is due if its client is gone.
    pub(crate) fn will_of<'g>(
        &'g self,
        session: &'g Session,
    ) -> Option<(Option<Timestamp>, &'g Will)> {
        if let Some((at, will)) = &session.delayed_will {
            return Some((Some(*at), will));
        }
        let connection = session.connection.and_then(|id| self.connection(id));
        Some((None, connection?.will.as_deref()?))
    }

    /// A will is held against the grants and the limits of now: they may have changed since CONNECT,
    /// and connecting and breaking off must be no way to send more, nor to more devices.
    pub(crate) fn fire_will(&mut self, due: &WillDue, now: Timestamp, turn: &mut Turn) {
        let will = &due.will;
        // It had a session until a moment ago; of whom nothing is known nothing can be held to limits.
        let Some(principal) = self.by_principal.get(&due.facts.principal).copied() else {
            self.counters.wills_suppressed += 1;
            return;
        };
        let subject = self.grants.subject(&due.facts);
        let permitted = (self.grants.publish(&subject, &will.topic)).and_then(|permitted| {
            let (bytes, forward) = (will.payload.len(), will.forward());
            self.fits(
                &due.facts.principal,
                &permitted,
                bytes,
                will.retain,
                &forward,
            )?;
            Ok(permitted)
        });
        let permitted = match permitted {
            Ok(permitted) => permitted,
            Err(denied) => return self.suppress_will(principal, will, &denied, turn),
        };
        if let Some(topic) = self.foreign_response_topic(principal, &will.forward()) {
            self.counters.wills_suppressed += 1;
            self.signal(turn, principal, |principal| Signal::ResponseTopicDenied {
                principal,
                topic: cut(topic),
            });
            return;
        }
        if !is_removal(&will.payload, will.retain)
            && let Err(violation) = self.hold_to_contract(&permitted, &will.payload)
        {
            self.counters.wills_suppressed += 1;
            self.note_violation(&due.facts.principal, &permitted, &violation, true, turn);
            return;
        }
        if let Err(denied) = self.check_pace(principal, &permitted, now) {
            return self.suppress_will(principal, will, &denied, turn);
        }
        self.take_rate(principal, &permitted, now);
        self.counters.wills_fired += 1;
        self.meter(principal, |meter| {
            meter.messages += 1;
            meter.bytes += will.payload.len() as u64;
        });
        self.count_sent(principal, &permitted, will.payload.len());
        self.find_receivers(&permitted, will.qos, None);
        if will.retain {
            self.add_shards_for_retained(&will.topic);
        }
        let message = Outbound {
            expires_at: expires_at(&will.forward(), now),
            ..will.message()
        };
        let kept = if will.retain {
            let publisher = Arc::new(due.facts.clone());
            self.retain_of(publisher, &permitted, &message, now, turn)
        } else {
            None
        };
        self.count_heard(&permitted, will.payload.len());
        self.deliver_to_matches(&message, now, turn);
        if !self.remotes.is_empty() {
            // Nobody waits for its acknowledgement.
            self.hand_to_shards(u32::MAX, &message, kept, turn);
        }
    }

    fn suppress_will(&mut self, principal: u32, will: &Will, denied: &Denied, turn: &mut Turn) {
        self.counters.wills_suppressed += 1;
        self.deny_publish(principal, &will.topic, denied, true, turn);
    }

    /// Delayed wills that were promised with a certificate which is withdrawn now: whoever had its key
    /// must not be heard by them.
    pub(crate) fn suppress_wills_of(&mut self, what: &[Revocable], turn: &mut Turn) {
        let promised = |session: &Session| {
            let will = session.delayed_will.as_ref();
            will.map(|(_, will)| will.certificate)
        };
        let waiting: Vec<(u32, CertificateId)> = (self.sessions.iter())
            .filter_map(|(index, session)| Some((index, promised(session)?)))
            .collect();
        if waiting.is_empty() {
            return;
        }
        let withdrawn: BTreeSet<&Revocable> = what.iter().collect();
        for (index, certificate) in waiting {
            let by_whom = [
                Revocable::Certificate(certificate),
                Revocable::Issuer(certificate.issuer()),
            ];
            if !by_whom.iter().any(|one| withdrawn.contains(one)) {
                continue;
            }
            if let Some(session) = self.sessions.get_mut(index) {
                session.delayed_will = None;
                self.counters.wills_suppressed += 1;
            }
            self.record_will(index, turn);
        }
    }

    /// Size, and room among what is retained.
    pub(crate) fn fits(
        &self,
        publisher: &Principal,
        permitted: &access::Publish<'_>,
        payload_bytes: usize,
        retain: bool,
        forward: &ForwardProperties<'_>,
    ) -> Result<(), Denied> {
        check_size(permitted, payload_bytes, forward)?;
        if retain {
            let bytes = payload_bytes + forward.encoded_length();
            let is_removal = payload_bytes == 0;
            (self.retained).has_room(publisher, permitted, is_removal, bytes, &self.limits)?;
        }
        Ok(())
    }
}
