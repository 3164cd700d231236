//! Shared subscriptions (MQTT 5: 4.8.2): each message goes to one of those who joined.
//!
//! Every shard knows of each share how many members the others have, and the publisher's shard
//! chooses: in turn over all members that are there and keep up, wherever they live. Only if none is
//! there a message waits for one that is away. Which member of another shard gets it that shard says,
//! as it alone knows them.
//!
//! A member that leaves for good leaves what it was sent and did not acknowledge to the others; of
//! QoS 2 only what it was never sent.

use crate::deliver::{Match, Remote, seconds_until};
use crate::gateway::Gateway;
use crate::journal::Options;
use crate::state::Subscribed;
use crate::turn::{Message, ToShard, Turn};
use access::Denied;
use model::Timestamp;
use mqtt::{Filter, Qos};
use std::sync::Arc;

/// Who shares one filter under one name.
#[derive(Debug)]
pub(crate) struct Share {
    /// As it is asked for, with `$share/` and the name.
    asked: Filter,
    filter: Filter,
    members: Vec<(u32, Options)>,
    remotes: Vec<Members>,
    /// Whose turn it is, counted through all who are there.
    turn: u32,
    /// Members here that are connected, as the other shards were told.
    told: u32,
}

/// The members in another shard.
#[derive(Debug)]
struct Members {
    shard: u16,
    live: bool,
    persistent: bool,
    connected: u32,
}

/// A message that lost its member.
pub(crate) type Orphan = Message;

/// Name and filter of a shared subscription; `None` for an ordinary one, or a broken one.
pub(crate) fn share_of(text: &str) -> Option<(&str, &str)> {
    let (name, filter) = text.strip_prefix("$share/")?.split_once('/')?;
    let is_well_formed = !name.is_empty() && !name.contains(['+', '#']) && !filter.is_empty();
    is_well_formed.then_some((name, filter))
}

impl Gateway {
    /// May a subject have this subscription: the filter, and the share's name if it is shared?
    pub(crate) fn may_subscribe(
        &self,
        subject: &access::Subject,
        filter: &Filter,
    ) -> Result<(), Denied> {
        let inner = match share_of(filter.as_str()) {
            None => return self.grants.subscribe(subject, filter).map(drop),
            Some((name, inner)) => {
                self.grants.share(subject, name)?;
                Filter::new(inner)
            }
        };
        match inner {
            Ok(inner) => self.grants.subscribe(subject, &inner).map(drop),
            Err(_) => Err(Denied::new(model::DenyReason::UnlistedTopic)),
        }
    }

    pub(crate) fn join_share(&mut self, session: u32, subscribed: &Subscribed, turn: &mut Turn) {
        if let Some(share) = self.share(&subscribed.filter) {
            if let Some(found) = self.shares.get_mut(&share) {
                found.members.push((session, subscribed.options));
            }
            self.tell_members(share, turn);
        }
    }

    pub(crate) fn leave_share(&mut self, session: u32, subscribed: &Subscribed, turn: &mut Turn) {
        let Some(share) = self.share_ids.get(&subscribed.filter).copied() else {
            return;
        };
        if let Some(found) = self.shares.get_mut(&share) {
            let member = (session, subscribed.options);
            if let Some(place) = found.members.iter().position(|other| *other == member) {
                found.members.remove(place);
            }
        }
        self.tell_members(share, turn);
        self.forget_share_if_empty(share);
    }

    /// A session of this shard came or went: the others are told how many are there now.
    pub(crate) fn tell_shares_of(&mut self, session: u32, turn: &mut Turn) {
        if self.share_ids.is_empty() || self.shards == 1 {
            return;
        }
        let Some(found) = self.sessions.get(session) else {
            return;
        };
        let shares: Vec<u32> = (found.subscriptions.iter())
            .filter_map(|subscribed| self.share_ids.get(&subscribed.filter).copied())
            .collect();
        for share in shares {
            self.tell_members(share, turn);
        }
    }

    /// Another shard has members of a share (or no longer).
    pub(crate) fn share_elsewhere(
        &mut self,
        from: u16,
        filter: &Filter,
        persistent: bool,
        wanted: bool,
    ) {
        let Some(share) = self.share(filter) else {
            return;
        };
        if let Some(found) = self.shares.get_mut(&share) {
            found.change_members_in(from, |members| match persistent {
                true => members.persistent = wanted,
                false => members.live = wanted,
            });
            found.forget_empty_shards();
        }
        self.forget_share_if_empty(share);
    }

    pub(crate) fn members_elsewhere(&mut self, from: u16, filter: &Filter, connected: u32) {
        let Some(share) = self.share(filter) else {
            return;
        };
        if let Some(found) = self.shares.get_mut(&share) {
            found.change_members_in(from, |members| members.connected = connected);
            found.forget_empty_shards();
        }
        self.forget_share_if_empty(share);
    }

    /// Adds one member to `matches`, or its shard to `remotes`.
    pub(crate) fn choose_member(&mut self, share: u32, message: &access::Publish<'_>, qos: Qos) {
        let elsewhere = self.shares.get(&share).map_or(0, |found| {
            found.remotes.iter().map(|it| it.connected).sum::<u32>()
        });
        let here = self.connected_members(share, message);
        let all = here.saturating_add(elsewhere);
        let Some(found) = self.shares.get_mut(&share) else {
            return;
        };
        found.turn = found.turn.wrapping_add(1);
        if all == 0 {
            if qos != Qos::AtMostOnce {
                self.choose_absent_member(share, message);
            }
            return;
        }
        let mut place = found.turn % all;
        if place < here {
            self.choose_member_here(share, message, place);
            return;
        }
        place -= here;
        let chosen = found.remotes.iter().find_map(|it| {
            if place < it.connected {
                return Some((it.shard, it.persistent));
            }
            place -= it.connected;
            None
        });
        if let Some((shard, persistent)) = chosen {
            self.send_share_to(share, shard, persistent);
        }
    }

    /// A message of a share that another shard chose this one for.
    pub(crate) fn choose_from_elsewhere(
        &mut self,
        filter: &Filter,
        message: &access::Publish<'_>,
        qos: Qos,
    ) {
        let Some(share) = self.share_ids.get(filter).copied() else {
            return;
        };
        let here = self.connected_members(share, message);
        if here > 0 {
            let turn = self.shares.get_mut(&share).map_or(0, |found| {
                found.turn = found.turn.wrapping_add(1);
                found.turn
            });
            self.choose_member_here(share, message, turn % here);
        } else if qos != Qos::AtMostOnce {
            self.choose_absent_member(share, message);
        }
    }

    /// Gives each message that lost its member to another one.
    pub(crate) fn adopt(&mut self, orphan: &Orphan, now: Timestamp, turn: &mut Turn) {
        let mut outbound = orphan.outbound();
        let Some(share) = outbound.share else {
            return;
        };
        // It waited with the member that left.
        if let Some(at) = outbound.expires_at {
            if at <= now {
                self.counters.dropped_expired += 1;
                return;
            }
            outbound.forward = outbound.forward.with_expiry_left(seconds_until(at, now));
        }
        let grants = Arc::clone(&self.grants);
        let (Some(place), true) = (
            grants.resolve(outbound.topic),
            self.shares.contains_key(&share),
        ) else {
            return;
        };
        self.matches.clear();
        self.remotes.clear();
        self.remote_shares.clear();
        self.choose_member(share, &place, outbound.qos);
        if self.matches.is_empty() && self.remotes.is_empty() {
            self.counters.deliveries_withheld += 1;
            return;
        }
        self.deliver_to_matches(&outbound, now, turn);
        if !self.remotes.is_empty() {
            // Nobody waits for its acknowledgement: its publisher has it.
            self.hand_to_shards(u32::MAX, &outbound, None, turn);
        }
    }

    /// What a session that ends leaves to the other members of its shares.
    pub(crate) fn orphan_shared(&mut self, session: u32) {
        let Self {
            sessions, orphans, ..
        } = self;
        if let Some(found) = sessions.get(session) {
            orphans.extend(found.queue.shared().map(|message| Message::of(&message)));
        }
    }

    /// The share of a message out of the journal.
    pub(crate) fn share_by_topic(&self, session: u32, topic: &str) -> Option<u32> {
        let subscriptions = &self.sessions.get(session)?.subscriptions;
        subscriptions.iter().find_map(|subscribed| {
            let share = self.share_ids.get(&subscribed.filter)?;
            (self.shares.get(share)?.filter.matches(topic)).then_some(*share)
        })
    }

    fn send_share_to(&mut self, share: u32, shard: u16, persistent: bool) {
        self.remote_shares.push((shard, share));
        self.remotes.push(Remote {
            shard,
            persistent,
            direct: false,
        });
    }

    /// Members here that are connected and may have the message now.
    fn connected_members(&self, share: u32, message: &access::Publish<'_>) -> u32 {
        let members = self.shares.get(&share).map(|found| found.members.iter());
        let count = (members.into_iter().flatten())
            .filter(|(session, _)| self.is_ready(*session, message))
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn is_ready(&self, session: u32, message: &access::Publish<'_>) -> bool {
        (self.sessions.get(session)).is_some_and(|found| found.connection.is_some())
            && self.may_receive(session, message)
    }

    fn may_receive(&self, session: u32, message: &access::Publish<'_>) -> bool {
        (self.sessions.get(session))
            .and_then(|found| self.principals.get(found.principal))
            .is_some_and(|known| self.grants.receive(&known.subject, message))
    }

    /// The member whose turn it is; the next that keeps up, if it does not.
    fn choose_member_here(&mut self, share: u32, message: &access::Publish<'_>, place: u32) {
        let Some(found) = self.shares.get(&share) else {
            return;
        };
        let ready = |member: &&(u32, Options)| self.is_ready(member.0, message);
        let place = usize::try_from(place).unwrap_or(0);
        let in_turn = || {
            let from = found.members.iter().filter(ready).skip(place);
            from.chain(found.members.iter().filter(ready).take(place))
        };
        let keeps_up = |(session, _): &&(u32, Options)| {
            (self.sessions.get(*session)).is_some_and(|found| found.pressure.since.is_none())
        };
        let chosen = in_turn()
            .find(keeps_up)
            .or_else(|| in_turn().next())
            .copied();
        if let Some((session, options)) = chosen {
            self.matches.push(Match {
                session,
                share: Some(share),
                options,
            });
        }
    }

    fn choose_absent_member(&mut self, share: u32, message: &access::Publish<'_>) {
        let Some(found) = self.shares.get(&share) else {
            return;
        };
        let may_wait = |(session, _): &&(u32, Options)| {
            (self.sessions.get(*session)).is_some_and(|found| found.is_persistent())
                && self.may_receive(*session, message)
        };
        let has_room = |(session, _): &&(u32, Options)| self.has_room(*session, 0);
        // Where none has room the publisher is told by whose turn it would be.
        let waiting = || found.members.iter().filter(may_wait);
        let turn = |count: usize| (found.turn as usize).checked_rem(count).unwrap_or(0);
        let chosen = match waiting().filter(has_room).count() {
            0 => waiting().nth(turn(waiting().count())),
            count => waiting().filter(has_room).nth(turn(count)),
        };
        if let Some((session, options)) = chosen.copied() {
            self.matches.push(Match {
                session,
                share: Some(share),
                options,
            });
        } else if let Some(shard) = (found.remotes.iter())
            .find(|it| it.persistent)
            .map(|it| it.shard)
        {
            self.send_share_to(share, shard, true);
        }
    }

    /// The number of a share, made if it is new.
    fn share(&mut self, asked: &Filter) -> Option<u32> {
        if let Some(share) = self.share_ids.get(asked) {
            return Some(*share);
        }
        let (_, inner) = share_of(asked.as_str())?;
        let filter = Filter::new(inner).ok()?;
        // Never used again: a message that waits for a share that is gone finds none.
        let share = self.next_share;
        self.next_share = self.next_share.wrapping_add(1);
        let interested = crate::deliver::Interested::Share { share };
        self.subscriptions.insert(&filter, interested);
        self.share_ids.insert(asked.clone(), share);
        self.shares.insert(
            share,
            Share {
                asked: asked.clone(),
                filter,
                members: Vec::new(),
                remotes: Vec::new(),
                turn: 0,
                told: 0,
            },
        );
        Some(share)
    }

    fn forget_share_if_empty(&mut self, share: u32) {
        let is_empty = (self.shares.get(&share))
            .is_some_and(|found| found.members.is_empty() && found.remotes.is_empty());
        if is_empty && let Some(found) = self.shares.remove(&share) {
            self.share_ids.remove(&found.asked);
            let interested = crate::deliver::Interested::Share { share };
            self.subscriptions.remove(&found.filter, &interested);
        }
    }

    fn tell_members(&mut self, share: u32, turn: &mut Turn) {
        if self.shards == 1 {
            return;
        }
        let Some(found) = self.shares.get(&share) else {
            return;
        };
        let connected = (found.members.iter()).filter(|(session, _)| {
            (self.sessions.get(*session)).is_some_and(|found| found.connection.is_some())
        });
        let connected = u32::try_from(connected.count()).unwrap_or(u32::MAX);
        let Some(found) = self.shares.get_mut(&share) else {
            return;
        };
        if std::mem::replace(&mut found.told, connected) == connected {
            return;
        }
        for shard in (0..self.shards).filter(|shard| *shard != self.shard) {
            let (from, filter) = (self.shard, found.asked.clone());
            turn.to_shards.push((
                shard,
                ToShard::Members {
                    from,
                    filter,
                    connected,
                },
            ));
        }
    }
}

impl Share {
    pub(crate) fn asked(&self) -> &Filter {
        &self.asked
    }

    fn forget_empty_shards(&mut self) {
        self.remotes
            .retain(|it| it.live || it.persistent || it.connected > 0);
    }

    /// The members in another shard change.
    fn change_members_in(&mut self, shard: u16, change: impl FnOnce(&mut Members)) {
        if !self.remotes.iter().any(|it| it.shard == shard) {
            self.remotes.push(Members {
                shard,
                live: false,
                persistent: false,
                connected: 0,
            });
        }
        if let Some(members) = self.remotes.iter_mut().find(|it| it.shard == shard) {
            change(members);
        }
    }
}
