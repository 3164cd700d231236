//! A will: promised at CONNECT, held against the grants then and again when it fires.

use crate::contract::is_removal;
use crate::deliver::expires_at;
use crate::gateway::{Gateway, WillFate};
use crate::journal::Record;
use crate::queue::Outbound;
use crate::signal::{Signal, cut};
use crate::state::{Session, Will, WillDue};
use crate::turn::Turn;
use access::Denied;
use model::{DenyReason, Timestamp};
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

    /// A will is held against the grants of now: they may have changed since CONNECT.
    pub(crate) fn fire_will(&mut self, due: &WillDue, now: Timestamp, turn: &mut Turn) {
        let will = &due.will;
        let subject = self.grants.subject(&due.facts);
        let permitted = match self.grants.publish(&subject, &will.topic) {
            Ok(permitted) => self.fits(&permitted, will).map(|()| permitted),
            Err(denied) => Err(denied),
        };
        let permitted = match permitted {
            Ok(permitted) => permitted,
            Err(denied) => {
                self.counters.wills_suppressed += 1;
                turn.signal(self.limits.signals_per_turn_max, || Signal::PublishDenied {
                    principal: due.facts.principal.clone(),
                    topic: cut(&will.topic),
                    verdict: self.grants.verdict(&denied),
                    will: true,
                });
                return;
            }
        };
        if !is_removal(&will.payload, will.retain)
            && let Err(violation) = self.hold_to_contract(&permitted, &will.payload)
        {
            self.counters.wills_suppressed += 1;
            self.note_violation(&due.facts.principal, &permitted, &violation, true, turn);
            return;
        }
        if let Some(rate) = permitted.rate_per_minute
            && let Some(index) = self.by_principal.get(&due.facts.principal)
            && let Some(known) = self.principals.get_mut(*index)
            && !known
                .rates
                .allows(permitted.channel_index(), rate, now, &self.limits, true)
        {
            // Else connecting and breaking off would be a way to send more.
            self.counters.wills_suppressed += 1;
            self.counters.rate_exceeded += 1;
            return;
        }
        self.counters.wills_fired += 1;
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

    /// Size, and room among what is retained.
    fn fits(&self, permitted: &access::Publish<'_>, will: &Will) -> Result<(), Denied> {
        if will.payload.len() > permitted.payload_bytes_max as usize {
            return Err(Denied::new(DenyReason::PayloadTooLarge));
        }
        if will.retain {
            self.retained
                .has_room(permitted, will.payload.len(), &self.limits)?;
        }
        Ok(())
    }
}
