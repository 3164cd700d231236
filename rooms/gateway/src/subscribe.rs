//! SUBSCRIBE and UNSUBSCRIBE: who wants what, as far as it may.

use crate::deliver::Interested;
use crate::gateway::Gateway;
use crate::journal::{Options, Record};
use crate::principal::SUBSCRIBES;
use crate::receive::Step;
use crate::shares::share_of;
use crate::signal::{Signal, cut};
use crate::state::{PendingSuback, Subscribed};
use crate::turn::Turn;
use model::{DenyReason, Timestamp, Verdict};
use mqtt::{Filter, Reason, Subscribe, SubscribeEntry, Unsubscribe};

impl Gateway {
    pub(crate) fn on_subscribe(
        &mut self,
        id: u32,
        session: u32,
        subscribe: &Subscribe<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let mut waiting = PendingSuback {
            number: 0,
            packet_id: subscribe.packet_id,
            reasons: Vec::new(),
            reason_string: None,
            outstanding: 0,
            backlog: Vec::new(),
            wants_state: false,
            asked: Vec::new(),
        };
        let filters_max = self.limits.filters_per_packet_max;
        for (place, entry) in subscribe.entries().enumerate() {
            if place >= filters_max {
                waiting.reasons.push(Reason::QUOTA_EXCEEDED);
                let text = || format!("at most {filters_max} filters in one SUBSCRIBE");
                waiting.reason_string.get_or_insert_with(text);
                continue;
            }
            let identifier = subscribe.subscription_id;
            let reason = self.subscribe_one(session, &entry, identifier, &mut waiting, now, turn);
            waiting.reasons.push(match reason {
                Ok(granted) => granted,
                Err((code, text)) => {
                    waiting.reason_string.get_or_insert(text);
                    code
                }
            });
        }
        self.answer_subscribe(id, waiting, now, turn);
    }

    /// The code of one entry, or the failure and its text.
    fn subscribe_one(
        &mut self,
        session: u32,
        entry: &SubscribeEntry<'_>,
        subscription_id: Option<u32>,
        waiting: &mut PendingSuback,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Result<Reason, (Reason, String)> {
        // In 3.1.1 too, whose decoder takes it for an ordinary filter.
        if entry.is_shared() && share_of(entry.filter).is_none() {
            return Err((
                Reason::TOPIC_FILTER_INVALID,
                "a shared subscription is $share/{name}/{filter}".to_owned(),
            ));
        }
        if self.is_topic_too_long(entry.filter) {
            return Err((
                Reason::TOPIC_FILTER_INVALID,
                format!(
                    "a filter has at most {} bytes and {} levels",
                    self.limits.topic_bytes_max, self.limits.topic_levels_max
                ),
            ));
        }
        let filter = Filter::new(entry.filter)
            .map_err(|error| (Reason::TOPIC_FILTER_INVALID, error.to_string()))?;
        let Some(found) = self.sessions.get(session) else {
            return Err((Reason::UNSPECIFIED_ERROR, "the session is gone".to_owned()));
        };
        let principal = found.principal;
        let known_filters = found.subscriptions.len();
        let earlier = (found.subscriptions.iter()).position(|other| other.filter == filter);
        let Some(known) = self.principals.get_mut(principal) else {
            return Err((Reason::UNSPECIFIED_ERROR, "the session is gone".to_owned()));
        };
        // Deciding on a filter costs more than on a message, so asking has a rate.
        let per_minute = self.limits.subscribes_per_minute;
        if !known
            .rates
            .allows(SUBSCRIBES, per_minute, now, &self.limits, true)
        {
            self.counters.rate_exceeded += 1;
            return Err((
                Reason::QUOTA_EXCEEDED,
                format!("at most {per_minute} filters a minute"),
            ));
        }
        let subject = known.subject.clone();
        if let Err(denied) = self.may_subscribe(&subject, &filter) {
            let verdict = self.grants.verdict(&denied);
            let text = deny_text(&verdict);
            self.counters.subscribes_denied += 1;
            self.meter(principal, |meter| meter.denied += 1);
            self.signal(turn, principal, |principal| Signal::SubscribeDenied {
                principal,
                filter: cut(filter.as_str()),
                verdict,
            });
            return Err((Reason::NOT_AUTHORIZED, text));
        }
        if earlier.is_none() && known_filters >= self.limits.subscriptions_max {
            return Err((
                Reason::QUOTA_EXCEEDED,
                format!(
                    "at most {} subscriptions in a session",
                    self.limits.subscriptions_max
                ),
            ));
        }
        waiting.wants_state |= subject.is_own_desired_state(&filter);
        let options = Options {
            qos: entry.qos,
            no_local: entry.no_local,
            retain_as_published: entry.retain_as_published,
            subscription_id,
        };
        let subscribed = Subscribed {
            filter: filter.clone(),
            options,
        };
        self.record(
            session,
            &Record::Subscribed {
                filter: filter.clone(),
                options,
            },
            turn,
        );
        self.link(session, subscribed, earlier, turn);
        self.ask_others(session, &filter, waiting);
        // Retained messages are of ordinary subscriptions only (MQTT 5: 4.8.2).
        let wants_retained = !entry.is_shared()
            && (entry.retain_handling == 0 || (entry.retain_handling == 1 && earlier.is_none()));
        if wants_retained {
            waiting.backlog.extend(self.backlog_of(&filter, options));
        }
        Ok(entry.qos.granted())
    }

    /// Enters a subscription, in place of one with the same filter if there is one.
    pub(crate) fn link(
        &mut self,
        session: u32,
        subscribed: Subscribed,
        earlier: Option<usize>,
        turn: &mut Turn,
    ) {
        let Some(found) = self.sessions.get_mut(session) else {
            return;
        };
        let persistent = found.is_persistent();
        let replaced = match earlier.and_then(|at| found.subscriptions.get_mut(at)) {
            Some(place) => Some(std::mem::replace(place, subscribed.clone())),
            None => {
                if found.subscriptions.is_empty() {
                    // Most devices have one; a list makes room for four by itself.
                    found.subscriptions.reserve_exact(1);
                }
                found.subscriptions.push(subscribed.clone());
                None
            }
        };
        // The new one first, so that interest of other shards never falls to none in between.
        if replaced.as_ref() != Some(&subscribed) {
            if share_of(subscribed.filter.as_str()).is_some() {
                self.join_share(session, &subscribed, turn);
            } else {
                let interested = Interested::session(session, subscribed.options);
                self.subscriptions.insert(&subscribed.filter, interested);
            }
            self.count_interest(&subscribed.filter, persistent);
            if let Some(replaced) = replaced {
                self.unlink(session, &replaced, turn);
            }
        }
    }

    pub(crate) fn on_unsubscribe(
        &mut self,
        id: u32,
        session: u32,
        unsubscribe: &Unsubscribe<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Step {
        // Each is looked for, and nobody has so many.
        let filters_max = self.limits.subscriptions_max.saturating_mul(4);
        if unsubscribe.filters().nth(filters_max).is_some() {
            let what = "far more filters in one UNSUBSCRIBE than a session may have";
            return self.refuse_packet(id, Reason::QUOTA_EXCEEDED, what, now, turn);
        }
        let reasons: Vec<Reason> = (unsubscribe.filters())
            .map(|text| match Filter::new(text) {
                Ok(filter) if self.unsubscribe(session, &filter, turn) => Reason::SUCCESS,
                _ => Reason::NO_SUBSCRIPTION_EXISTED,
            })
            .collect();
        let packet_id = unsubscribe.packet_id;
        self.send(id, turn, |out, version| {
            mqtt::encode::unsuback(out, version, packet_id, &reasons);
        });
        Step::Consumed(0)
    }

    /// False if the session has no such filter.
    pub(crate) fn unsubscribe(&mut self, session: u32, filter: &Filter, turn: &mut Turn) -> bool {
        let Some(found) = self.sessions.get_mut(session) else {
            return false;
        };
        let Some(at) = found
            .subscriptions
            .iter()
            .position(|other| other.filter == *filter)
        else {
            return false;
        };
        let subscribed = found.subscriptions.remove(at);
        // What is retained is not sent on either (MQTT 3.10.4-2).
        found.backlog.retain(|backlog| !backlog.is_of(filter));
        let connection = found.connection;
        let pending = connection
            .and_then(|id| self.connection_mut(id))
            .and_then(|connection| connection.pending.as_mut());
        for suback in pending.into_iter().flat_map(|it| &mut it.subacks) {
            suback.backlog.retain(|backlog| !backlog.is_of(filter));
        }
        self.record(
            session,
            &Record::Unsubscribed {
                filter: filter.clone(),
            },
            turn,
        );
        self.unlink(session, &subscribed, turn);
        true
    }

    /// Takes a subscription out of what is matched.
    pub(crate) fn unlink(&mut self, session: u32, subscribed: &Subscribed, turn: &mut Turn) {
        let persistent = self
            .sessions
            .get(session)
            .is_some_and(|found| found.is_persistent());
        if share_of(subscribed.filter.as_str()).is_some() {
            self.leave_share(session, subscribed, turn);
        } else {
            let interested = Interested::session(session, subscribed.options);
            self.subscriptions.remove(&subscribed.filter, &interested);
        }
        self.discount_interest(&subscribed.filter, persistent, turn);
    }

    pub(crate) fn is_topic_too_long(&self, topic: &str) -> bool {
        topic.len() > self.limits.topic_bytes_max
            || topic.bytes().filter(|byte| *byte == b'/').count() >= self.limits.topic_levels_max
    }
}

/// What a client is told of a refusal: the reason, and the policy that an operator can look up.
pub(crate) fn deny_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Permit { policy } => format!("permitted by {policy}"),
        Verdict::Deny {
            reason,
            policy: Some(policy),
        } => format!("{reason}; policy {policy}"),
        Verdict::Deny {
            reason,
            policy: None,
        } => format!("{reason}; {}", meaning(*reason)),
    }
}

const fn meaning(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::UnlistedTopic => "no channel of the fleet has it",
        DenyReason::NoPermit => "no policy permits it",
        DenyReason::Forbidden => "a policy forbids it",
        DenyReason::UnknownClass => "no policy was asked about such a client",
        DenyReason::FilterTooWide => "not all of its topics are permitted",
        DenyReason::PayloadTooLarge => "its channel takes less",
        DenyReason::PropertiesTooLarge => {
            "what a message says of itself may be as large as a payload"
        }
        DenyReason::RateExceeded => "its channel takes fewer a minute",
        DenyReason::Contained => "this device is cut off",
        DenyReason::FanOutExceeded => "this service may reach fewer devices a minute",
        DenyReason::NotRetained => {
            "its channel keeps none, or no more, or this device has its share"
        }
        DenyReason::ContractViolation => "it is not what its channel carries",
        DenyReason::ShareNotGranted => "the fleet gives this client no such share",
    }
}
