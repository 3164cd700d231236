//! Letters to a shard: what the plane and other shards ask of it, in the order in which they came.

use super::{SessionRow, Shard, ShardReport, Slot};
use crate::judge::signals::Told;
use crate::shards::{Letter, Sight};
use gateway::CommandTo;
use model::{Principal, Timestamp};
use std::time::Instant;
use tokio::sync::mpsc;

impl Shard {
    pub(super) fn read_mail(&mut self, now: Timestamp) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(self.index)) {
            mailbox.collect(&mut self.letters);
        }
        while let Some(letter) = self.letters.pop_front() {
            match letter {
                Letter::Connection(handed) => self.welcome(*handed, now),
                // Nothing of it could be journaled or acknowledged.
                Letter::FromShard(_) if self.failed => {}
                Letter::FromShard(message) => self.gateway.from_shard(message, now, &mut self.turn),
                Letter::Withdraw {
                    what,
                    bitten,
                    closed,
                } => {
                    // This thread is the only one that takes in what these sessions send, so from
                    // here on nothing of them is accepted.
                    let at = Instant::now();
                    let sessions = self.gateway.revoke(&what, now, &mut self.turn);
                    // Whoever asked may have gone; the withdrawal stands.
                    let _ = bitten.send((sessions, at));
                    self.carry_out(now);
                    self.leaving.tell_when_all_ended(closed);
                }
                Letter::WithdrawRetired(reply) => {
                    let closed = {
                        let registry = self.admission.trust.registry();
                        let is_retired = |principal: &Principal, certificate| match principal {
                            Principal::Device(id) => registry.is_retired(id, &certificate),
                            Principal::Service(_) => false,
                        };
                        self.gateway.revoke_where(is_retired, now, &mut self.turn)
                    };
                    self.carry_out(now);
                    let _ = reply.send(closed);
                }
                Letter::EndShared(principal, reply) => {
                    let ended = self.gateway.end_shared(&principal, now, &mut self.turn);
                    self.carry_out(now);
                    let _ = reply.send(ended);
                }
                Letter::WithdrawClaims(reply) => {
                    let _ = reply.send(self.withdraw_claims(now));
                }
                Letter::Answer {
                    to,
                    accepted,
                    payload,
                } => self.answer_claim(to.slot, to.generation, accepted, &payload, now),
                Letter::Count(what, reply) => {
                    let _ = reply.send(self.gateway.sessions_of(&what));
                }
                Letter::Regrant(grants, reply) => {
                    self.count_traffic(now);
                    self.gateway.regrant(grants, now, &mut self.turn);
                    self.carry_out(now);
                    let _ = reply.send(());
                }
                Letter::Reclassify(principal) => self.reclassify(principal, now),
                Letter::Contain(principal, reply) => {
                    // What was decided before goes out first, so that a quarantine finds nothing
                    // in the way that it would have to drop with the connection.
                    self.carry_out(now);
                    let facts = self.admission.facts_of(&principal);
                    let touched = self.gateway.contain(facts, now, &mut self.turn);
                    self.carry_out(now);
                    let _ = reply.send(touched);
                }
                Letter::ContainMany(principals, reply) => {
                    let touched = self.contain_many(&principals, now);
                    let _ = reply.send(touched);
                }
                Letter::Know(principals, reply) => {
                    for principal in principals.iter() {
                        let facts = self.admission.facts_of(principal);
                        self.gateway.know_publisher(&facts);
                    }
                    let _ = reply.send(());
                }
                Letter::Tell {
                    topic,
                    payload,
                    reply,
                } => {
                    let told = self.gateway.tell(&topic, &payload, now, &mut self.turn);
                    self.carry_out(now);
                    let _ = reply.send(told);
                }
                Letter::Commands(commands) => self.command(commands, now),
                Letter::CancelCommand(id, reply) => {
                    let count = self.gateway.cancel_command(id, &mut self.turn);
                    self.carry_out(now);
                    let _ = reply.send(count);
                }
                Letter::Report(reply) => {
                    let _ = reply.send(self.report());
                }
                Letter::Sessions(after, limit, reply) => {
                    let _ = reply.send(self.session_rows(after.as_ref(), limit, now));
                }
                Letter::Refusals(of, limit, reply) => {
                    let _ = reply.send(self.watching.refusals(of.as_ref(), limit));
                }
                Letter::Links(after, limit, reply) => {
                    let _ = reply.send(self.watching.links(after.as_ref(), limit));
                }
                Letter::LookAt(principal, rows, reply) => {
                    let _ = reply.send(u32::from(self.look_at(principal, rows)));
                }
                Letter::Recount => self.recount(now),
                Letter::Drain => self.drain(now),
            }
        }
    }

    fn reclassify(&mut self, principal: Principal, now: Timestamp) {
        let facts = self.admission.facts_of(&principal);
        self.gateway.know_publisher(&facts);
        if gateway::home_shard(&principal, self.shards) != self.index {
            return;
        }
        self.gateway.reclassify(facts, now, &mut self.turn);
        self.carry_out(now);
        for (shard, mailbox) in (0..).zip(&self.mailboxes) {
            if shard != self.index {
                mailbox.post(Letter::Reclassify(principal.clone()));
            }
        }
    }

    /// As the letter `Contain`, one after the other; returns the sessions touched.
    fn contain_many(&mut self, principals: &[Principal], now: Timestamp) -> u32 {
        self.carry_out(now);
        let mut touched = 0;
        for principal in principals {
            if gateway::home_shard(principal, self.shards) == self.index {
                let facts = self.admission.facts_of(principal);
                touched += self.gateway.contain(facts, now, &mut self.turn);
            }
        }
        self.carry_out(now);
        touched
    }

    fn report(&self) -> ShardReport {
        ShardReport {
            shard: self.index,
            connections: self.slots.len() - self.handshaking - self.leaving.lingering(),
            handshaking: self.handshaking,
            handshakes_done: self.handshakes_done,
            handshakes_refused: self.handshakes_refused,
            counters: *self.gateway.counters(),
            violations: (self.gateway.contract_violations())
                .map(|(channel, count)| (channel.clone(), count))
                .collect(),
            failed: self.failed,
        }
    }

    fn command(&mut self, commands: Vec<CommandTo>, now: Timestamp) {
        // Those of a shard whose journal failed are handed out again at the next start.
        if !self.failed {
            for to in commands {
                self.gateway.command(to, now, &mut self.turn);
            }
            self.carry_out(now);
        }
    }

    fn recount(&mut self, now: Timestamp) {
        // What happened before is told before.
        self.carry_out(now);
        let connected = (self.gateway.sessions()).filter(|session| session.connection.is_some());
        let devices = connected.filter_map(|session| match session.principal {
            Principal::Device(device) => Some(device.clone()),
            Principal::Service(_) => None,
        });
        self.telling.tell(Told::Sessions {
            shard: self.index,
            devices: devices.collect(),
        });
    }

    /// False: as many are looked at as can be.
    fn look_at(&mut self, principal: Principal, rows: mpsc::Sender<Sight>) -> bool {
        let is_possible = self.watching.has_room_to_look() && self.gateway.watch(&principal);
        if is_possible {
            self.watching.look_at(principal, rows);
        }
        is_possible
    }

    fn session_rows(
        &mut self,
        after: Option<&(Principal, String)>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<SessionRow> {
        let Self {
            gateway,
            slots,
            watching,
            index,
            ..
        } = self;
        let sessions = gateway.sessions_after(after, limit).into_iter();
        sessions
            .map(|session| {
                let live = session.connection.and_then(|id| slots.entry(id.0));
                let (version, group) = match live {
                    Some(Slot::Live(live)) => live.transport.negotiated(),
                    _ => (None, None),
                };
                SessionRow {
                    principal: session.principal.clone(),
                    client_id: session.client_id.to_owned(),
                    shard: *index,
                    connected: session.connection.is_some(),
                    persistent: session.persistent,
                    opened_at: session.opened_at,
                    subscriptions: session.subscriptions,
                    queued_messages: session.queued_messages,
                    queued_bytes: session.queued_bytes,
                    address: session.address,
                    version: session.version,
                    tls: (
                        version.map(|version| format!("{version:?}")),
                        group.map(|group| format!("{group:?}")),
                    ),
                    incoming: session.incoming(now),
                    outgoing: session.outgoing(now),
                    link: watching.link(session.principal).cloned(),
                }
            })
            .collect()
    }
}
