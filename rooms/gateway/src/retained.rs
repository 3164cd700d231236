//! Retained messages: the last word on a topic, for whoever subscribes later.
//!
//! Every shard holds all of them; the bytes are shared. A retained message goes to every shard, wanted
//! or not, and there in one step to the store and to the subscriptions that stand. So a subscription
//! that is made in one shard finds a message in the store or gets it live, whatever crosses. Where two
//! publishers meet, the greater version stays, in every shard alike. The shard of the topic's partition
//! journals it, and its publisher's acknowledgement waits for that.
//!
//! A subscriber gets them as it reads: its session remembers how far it is, not the messages.

use crate::deadline::Owner;
use crate::deliver::{Match, seconds_until};
use crate::gateway::Gateway;
use crate::journal::{Key, Options, Record};
use crate::limits::Limits;
use crate::queue::Outbound;
use crate::turn::{Kept, Message, ToShard, Turn};
use access::{Denied, Facts, Grants, Publish};
use model::{DenyReason, Principal, Revocable, Timestamp};
use mqtt::Filter;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// How often what has expired is taken out.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a message waits for a channel that was taken away to come back.
const DAYS_IN_NO_CHANNEL: u32 = 30;

/// What is retained, by topic.
#[derive(Debug, Default)]
pub(crate) struct Store {
    by_topic: BTreeMap<Arc<str>, Retained>,
    by_publisher: BTreeMap<Principal, Theirs>,
    /// Messages, their bytes, and how many there are in each channel.
    count: usize,
    bytes: usize,
    by_channel: BTreeMap<u16, u32>,
    /// The greatest version seen.
    clock: u64,
    /// How often something changed here: what a subscription finds is what came before it.
    changes: u64,
    pub scheduled: Option<Timestamp>,
}

/// Of one publisher.
#[derive(Debug, Default)]
struct Theirs {
    topics: BTreeSet<Arc<str>>,
    bytes: usize,
}

#[derive(Debug)]
struct Retained {
    /// `None`: taken away lately. Stays a while, so that an older one that is still on its way from
    /// another shard does not come back.
    message: Option<Arc<Message>>,
    version: (u64, u16),
    kept_at: Timestamp,
    /// As it is known now: a contained publisher's word is withheld.
    publisher: Arc<Facts>,
    expires_at: Timestamp,
    channel: Option<u16>,
    change: u64,
}

/// Retained messages that one subscription is still to get.
#[derive(Debug, Clone)]
pub(crate) struct Backlog {
    filter: Filter,
    options: Options,
    /// The topic sent last.
    after: Option<Arc<str>>,
    /// The last change that came before the subscription; what came later came live.
    until: u64,
}

impl Backlog {
    pub(crate) fn is_of(&self, filter: &Filter) -> bool {
        self.filter == *filter
    }
}

impl Store {
    /// May `publisher` have one more kept, of so many bytes beside its topic? Taking one away needs no
    /// room. One device may not have all of it: a flood of its own would leave the others none.
    pub(crate) fn has_room(
        &self,
        publisher: &Principal,
        place: &Publish<'_>,
        is_removal: bool,
        message_bytes: usize,
        limits: &Limits,
    ) -> Result<(), Denied> {
        if is_removal {
            return Ok(());
        }
        let more = message_bytes + place.topic.len();
        let bytes = self.bytes.saturating_add(more);
        let is_known = (self.by_topic.get(place.topic)).is_some_and(|it| it.message.is_some());
        let of_channel = self.by_channel.get(&place.channel_index()).copied();
        let theirs = match publisher {
            Principal::Device(_) => self.by_publisher.get(publisher),
            Principal::Service(_) => None,
        };
        let is_full = self.count >= limits.retained_messages_max
            || of_channel.unwrap_or(0) >= place.retained_max
            || theirs.is_some_and(|it| it.topics.len() >= limits.retained_of_device_max);
        let is_heavy = bytes > limits.retained_bytes_max
            || theirs.is_some_and(|it| {
                it.bytes.saturating_add(more) > limits.retained_bytes_of_device_max
            });
        if place.retained_max == 0 || is_heavy || (is_full && !is_known) {
            return Err(Denied::new(DenyReason::NotRetained));
        }
        Ok(())
    }

    /// Takes a word over if it is newer than what is there. True if it is.
    fn apply(&mut self, topic: &str, new: Retained, keeps_removals: bool) -> bool {
        let old = self.by_topic.get(topic);
        if old.is_some_and(|old| old.version >= new.version) {
            return false;
        }
        self.clock = self.clock.max(new.version.0);
        self.changes += 1;
        self.take_out(topic);
        let change = self.changes;
        let bytes = (new.message.as_ref()).map_or(0, |message| message.bytes.len());
        match &new.message {
            Some(_) => {
                self.count += 1;
                self.bytes += bytes;
                if let Some(channel) = new.channel {
                    *self.by_channel.entry(channel).or_default() += 1;
                }
            }
            None if !keeps_removals => return true,
            None => {}
        }
        let topic: Arc<str> = topic.into();
        let publisher = new.publisher.principal.clone();
        let theirs = self.by_publisher.entry(publisher).or_default();
        theirs.topics.insert(Arc::clone(&topic));
        theirs.bytes += bytes;
        self.by_topic.insert(topic, Retained { change, ..new });
        true
    }

    fn take_out(&mut self, topic: &str) -> Option<Retained> {
        let old = self.by_topic.remove(topic)?;
        let bytes = (old.message.as_ref()).map_or(0, |message| message.bytes.len());
        if let Some(theirs) = self.by_publisher.get_mut(&old.publisher.principal) {
            theirs.topics.remove(topic);
            theirs.bytes = theirs.bytes.saturating_sub(bytes);
            if theirs.topics.is_empty() {
                self.by_publisher.remove(&old.publisher.principal);
            }
        }
        if old.message.is_some() {
            self.count -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            if let Some(count) = (old.channel).and_then(|it| self.by_channel.get_mut(&it)) {
                *count = count.saturating_sub(1);
            }
        }
        Some(old)
    }

    /// The first after `backlog.after` that its filter matches and that came before it.
    fn next(&self, backlog: &Backlog, now: Timestamp) -> Option<(&Arc<str>, &Retained)> {
        let text = backlog.filter.as_str();
        // All topics of the filter begin with this; `a/#` matches `a` too.
        let fixed = text
            .find(['+', '#'])
            .map_or(text, |end| text.get(..end).unwrap_or(""));
        let fixed = fixed.strip_suffix('/').unwrap_or(fixed);
        let from = match &backlog.after {
            Some(after) => Bound::Excluded(&**after),
            None => Bound::Included(fixed),
        };
        (self.by_topic.range::<str, _>((from, Bound::Unbounded)))
            .take_while(|(topic, _)| topic.starts_with(fixed))
            .find(|(topic, it)| {
                it.message.is_some()
                    && it.change <= backlog.until
                    && it.expires_at > now
                    && backlog.filter.matches(topic)
            })
    }

    /// Channels are numbered by the fleet, and it says how long they keep.
    fn recount(&mut self, grants: &Grants) {
        self.by_channel.clear();
        for (topic, it) in &mut self.by_topic {
            let place = grants.resolve(topic);
            it.channel = place.map(|place| place.channel_index());
            it.expires_at = expires_at(it.message.as_deref(), it.kept_at, place.as_ref());
            if let (Some(channel), Some(_)) = (it.channel, &it.message) {
                *self.by_channel.entry(channel).or_default() += 1;
            }
        }
    }
}

impl Gateway {
    /// Messages retained here.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        self.retained.count
    }

    /// Who published what is retained, each once: after [`Gateway::recover`] the caller says what is
    /// known of each ([`Gateway::know_publisher`]); until then it is withheld.
    #[must_use]
    pub fn retained_publishers(&self) -> Vec<Principal> {
        self.retained.by_publisher.keys().cloned().collect()
    }

    /// What is known of a publisher now, in each shard: while it is contained, and while no policy
    /// permits it, what is retained of it is withheld.
    pub fn know_publisher(&mut self, facts: &Facts) {
        let Store {
            by_topic,
            by_publisher,
            ..
        } = &mut self.retained;
        let Some(theirs) = by_publisher.get(&facts.principal) else {
            return;
        };
        let facts = Arc::new(facts.clone());
        for topic in &theirs.topics {
            if let Some(it) = by_topic.get_mut(topic) {
                it.publisher = Arc::clone(&facts);
            }
        }
    }

    /// A publish with retain goes to every shard, and is journaled where its topic is at home.
    pub(crate) fn add_shards_for_retained(&mut self, topic: &str) {
        let home = self.home_of_topic(topic);
        for shard in (0..self.shards).filter(|shard| *shard != self.shard) {
            let known = self.remotes.iter_mut().find(|remote| remote.shard == shard);
            match known {
                Some(remote) => {
                    remote.persistent |= shard == home;
                    remote.direct = true;
                }
                None => self.remotes.push(crate::deliver::Remote {
                    shard,
                    persistent: shard == home,
                    direct: true,
                }),
            }
        }
    }

    /// Keeps a permitted message, or takes away what was kept if it is empty. Returns it as it goes
    /// to the other shards.
    pub(crate) fn retain(
        &mut self,
        principal: u32,
        place: &Publish<'_>,
        message: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Option<Arc<Message>> {
        let facts = Arc::new(self.principals.get(principal)?.facts.clone());
        self.retain_of(facts, place, message, now, turn)
    }

    pub(crate) fn retain_of(
        &mut self,
        publisher: Arc<Facts>,
        place: &Publish<'_>,
        message: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Option<Arc<Message>> {
        let kept = Kept {
            version: (self.retained.clock + 1, self.shard),
            kept_at: now,
            publisher,
        };
        let message = Arc::new(Message {
            kept: Some(kept),
            ..Message::of(message)
        });
        self.keep(&message, Some(place), turn);
        Some(message)
    }

    /// A message with `kept`, of this shard or another, and its place among the grants of now. Out
    /// of a journal it may have none yet: nobody gets it then.
    pub(crate) fn keep(
        &mut self,
        message: &Arc<Message>,
        place: Option<&Publish<'_>>,
        turn: &mut Turn,
    ) {
        let Some(kept) = &message.kept else {
            return;
        };
        let outbound = message.outbound();
        let is_removal = outbound.payload.is_empty();
        let new = Retained {
            message: (!is_removal).then(|| Arc::clone(message)),
            version: kept.version,
            kept_at: kept.kept_at,
            publisher: Arc::clone(&kept.publisher),
            expires_at: expires_at(Some(message), kept.kept_at, place),
            channel: place.map(Publish::channel_index),
            change: 0,
        };
        let was_there = self.retained.by_topic.contains_key(outbound.topic);
        let keeps_removals =
            self.shards > 1 && self.retained.by_topic.len() < 2 * self.limits.retained_messages_max;
        if !self.retained.apply(outbound.topic, new, keeps_removals) {
            return;
        }
        let at = kept.kept_at.plus(SWEEP);
        let Self {
            retained,
            deadlines,
            ..
        } = self;
        deadlines.schedule(Owner::Retained, &mut retained.scheduled, at);
        if self.home_of_topic(outbound.topic) == self.shard && (!is_removal || was_there) {
            let record = match is_removal {
                true => Record::Forgotten {
                    topic: outbound.topic,
                },
                false => Record::Retained {
                    publisher: kept.publisher.principal.clone(),
                    kept_at: kept.kept_at,
                    message: outbound,
                },
            };
            self.record_retained(outbound.topic, &record, turn);
        }
    }

    /// The subscription of a session is to get what is retained now.
    pub(crate) fn backlog_of(&self, filter: &Filter, options: Options) -> Option<Backlog> {
        (self.retained.count > 0).then(|| Backlog {
            filter: filter.clone(),
            options,
            after: None,
            until: self.retained.changes,
        })
    }

    /// Sends what is retained, as far as the session's window and its reading allow.
    pub(crate) fn send_backlog(&mut self, index: u32, now: Timestamp, turn: &mut Turn) {
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        if session.backlog.is_empty() {
            return;
        }
        // What is delivered pumps again; it finds nothing here meanwhile.
        let mut waiting = std::mem::take(&mut session.backlog);
        let mut done = 0;
        'all: for backlog in &mut waiting {
            loop {
                if !self.takes_more(index) {
                    break 'all;
                }
                let Some((topic, found)) = self.retained.next(backlog, now) else {
                    break;
                };
                backlog.after = Some(Arc::clone(topic));
                let (message, publisher) = (found.message.clone(), Arc::clone(&found.publisher));
                if let Some(message) = message {
                    self.send_retained(index, backlog.options, &message, &publisher, now, turn);
                }
            }
            done += 1;
        }
        waiting.drain(..done);
        if let Some(session) = self.sessions.get_mut(index) {
            session.backlog = waiting;
        }
    }

    fn takes_more(&self, index: u32) -> bool {
        let Some(session) = self.sessions.get(index) else {
            return false;
        };
        (session.connection.and_then(|id| self.connection(id))).is_some_and(|connection| {
            connection.outgoing_bytes() <= self.limits.outgoing_bytes_high
                && session.queue.may_send_at_once(connection.receive_maximum)
        })
    }

    /// Both sides are held against the grants of now.
    fn send_retained(
        &mut self,
        index: u32,
        options: Options,
        message: &Arc<Message>,
        publisher: &Facts,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let mut outbound = message.outbound();
        let subject = (self.sessions.get(index))
            .and_then(|session| self.principals.get(session.principal))
            .map(|known| &known.subject);
        let may_receive = (self.grants.resolve(outbound.topic)).is_some_and(|place| {
            subject.is_some_and(|subject| self.grants.receive(subject, &place))
        });
        let publisher = self.grants.subject(publisher);
        if !may_receive || self.grants.publish(&publisher, outbound.topic).is_err() {
            self.counters.deliveries_withheld += 1;
            return;
        }
        if let Some(at) = outbound.expires_at {
            outbound.forward = outbound.forward.with_expiry_left(seconds_until(at, now));
        }
        // Sent for the subscription, so as retained whatever the option says (MQTT 5: 3.3.1.3).
        let options = Options {
            retain_as_published: true,
            ..options
        };
        let found = [Match {
            session: index,
            share: None,
            options,
        }];
        self.deliver(index, None, &found, &outbound, now, turn);
        self.counters.retained_sent += 1;
    }

    /// Takes out what has expired, and removals that no older message can follow any more.
    pub(crate) fn retained_due(&mut self, now: Timestamp) {
        let gone: Vec<Arc<str>> = (self.retained.by_topic.iter())
            .filter(|(_, it)| match it.message {
                Some(_) => it.expires_at <= now,
                None => it.kept_at.plus(SWEEP) <= now,
            })
            .map(|(topic, _)| topic.clone())
            .collect();
        // The journal needs no word of it: what has expired is left out when it is read.
        for topic in gone {
            self.retained.take_out(&topic);
        }
        if !self.retained.by_topic.is_empty() {
            let Self {
                retained,
                deadlines,
                ..
            } = self;
            deadlines.schedule(Owner::Retained, &mut retained.scheduled, now.plus(SWEEP));
        }
    }

    /// What is retained of the withdrawn is gone for good.
    pub(crate) fn forget_retained_of(&mut self, what: &[Revocable], turn: &mut Turn) {
        let mut products = BTreeSet::new();
        let mut gone: Vec<Arc<str>> = Vec::new();
        for one in what {
            match one {
                Revocable::Principal(principal) => {
                    let theirs = self.retained.by_publisher.get(principal);
                    gone.extend(theirs.into_iter().flat_map(|it| it.topics.iter().cloned()));
                }
                Revocable::Product(product) => drop(products.insert(product)),
                Revocable::Certificate(_) | Revocable::Issuer(_) => {}
            }
        }
        if !products.is_empty() {
            let is_of = |it: &Retained| {
                (it.publisher.product.as_ref()).is_some_and(|product| products.contains(product))
            };
            let theirs = self.retained.by_topic.iter().filter(|(_, it)| is_of(it));
            gone.extend(theirs.map(|(topic, _)| Arc::clone(topic)));
        }
        for topic in gone {
            self.retained.take_out(&topic);
            if self.home_of_topic(&topic) == self.shard {
                self.record_retained(&topic, &Record::Forgotten { topic: &topic }, turn);
            }
        }
    }

    /// Each shard is told of a withdrawal by itself, and may be told before the last message of whoever
    /// is withdrawn comes to it from here.
    pub(crate) fn tell_others_to_forget(&self, what: &[Revocable], turn: &mut Turn) {
        if self.shards == 1 {
            return;
        }
        // Of a long list those alone who are here: whoever published lately is known for a while.
        let from_here = what.iter().filter(|one| match one {
            Revocable::Principal(principal) => self.by_principal.contains_key(principal),
            Revocable::Product(_) => true,
            Revocable::Certificate(_) | Revocable::Issuer(_) => false,
        });
        let what: Arc<[Revocable]> = from_here.cloned().collect();
        if what.is_empty() {
            return;
        }
        for shard in (0..self.shards).filter(|shard| *shard != self.shard) {
            let what = Arc::clone(&what);
            turn.to_shards.push((shard, ToShard::Forget { what }));
        }
    }

    pub(crate) fn recount_retained(&mut self) {
        let grants = Arc::clone(&self.grants);
        self.retained.recount(&grants);
    }

    pub(crate) fn replay_retained(
        &mut self,
        publisher: Principal,
        kept_at: Timestamp,
        message: &Outbound<'_>,
        turn: &mut Turn,
    ) {
        let publisher = Facts {
            principal: publisher,
            product: None,
            groups: Vec::new(),
            attributes: Default::default(),
            containment: None,
            assurance: model::Assurance::default(),
        };
        let kept = Kept {
            version: (self.retained.clock + 1, self.shard),
            kept_at,
            publisher: Arc::new(publisher),
        };
        let message = Arc::new(Message {
            kept: Some(kept),
            ..Message::of(message)
        });
        let grants = Arc::clone(&self.grants);
        let place = grants.resolve(message.outbound().topic);
        self.keep(&message, place.as_ref(), turn);
    }

    pub(crate) fn replay_forgotten(&mut self, topic: &str) {
        self.retained.take_out(topic);
    }

    /// What this shard journals, for a snapshot or for the other shards after a restart.
    pub(crate) fn retained_at_home(&self) -> impl Iterator<Item = &Arc<Message>> {
        (self.retained.by_topic.iter())
            .filter(|(topic, _)| self.home_of_topic(topic) == self.shard)
            .filter_map(|(_, it)| it.message.as_ref())
    }

    pub(crate) fn record_retained(&mut self, topic: &str, record: &Record<'_>, turn: &mut Turn) {
        let key = retained_key(topic);
        (turn.journal).append(key.partition, |out| record.write(key, out));
        self.counters.journal_records += 1;
    }

    pub(crate) fn home_of_topic(&self, topic: &str) -> u16 {
        u16::from(crate::home::partition_of_topic(topic)) % self.shards
    }
}

/// When a message is kept no longer: its publisher's word, and its channel's.
fn expires_at(
    message: Option<&Message>,
    kept_at: Timestamp,
    place: Option<&Publish<'_>>,
) -> Timestamp {
    let days = place.map_or(DAYS_IN_NO_CHANNEL, |place| place.retained_days);
    let oldest = kept_at.plus(Duration::from_secs(u64::from(days) * 86_400));
    let said = message.and_then(|message| message.expires_at);
    said.map_or(oldest, |at| at.min(oldest))
}

/// Of records about a topic: sessions are numbered from 1.
pub(crate) fn retained_key(topic: &str) -> Key {
    Key {
        partition: crate::home::partition_of_topic(topic),
        number: 0,
    }
}

/// The record of a message that is kept.
pub(crate) fn record_of(message: &Message) -> Option<Record<'_>> {
    let kept = message.kept.as_ref()?;
    Some(Record::Retained {
        publisher: kept.publisher.principal.clone(),
        kept_at: kept.kept_at,
        message: message.outbound(),
    })
}
