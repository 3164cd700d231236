//! The MQTT door's threads: one epoll loop a shard, and the letters they are sent.
//!
//! A connection is accepted and proven in any shard, then handed once to its principal's home
//! shard, where it stays. So takeover, revocation and a persistent session are one thread's affair.

mod kernel;
mod mailbox;
mod shard;
mod slots;
mod sync;
mod telling;
mod transport;
mod watching;

use crate::certify::claiming::Asker;
use crate::certify::over_mqtt::Requests;
use crate::commanding::News;
use crate::config::{Durability, GatewayConfig};
use crate::flow::Admission;
use crate::judge::signals::Signals;
use crate::listen::tls::Terms;
use crate::listen::{Arrived, Proxies};
use crate::shared::Locked;
use crate::twinning::Twins;
use access::{Facts, Grants, TrafficLedger};
use gateway::{CommandTo, ToShard};
use mailbox::Mailbox;
use model::{CommandId, DeviceId, Principal, Revocable};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::{Journal, JournalOptions};
use tokio::sync::{mpsc, oneshot};

pub use shard::{Handed, SessionRow, ShardReport};
pub use watching::{Link, Refusal, Sight, Sights};

/// A listener that the shards accept at.
pub struct ShardDoor {
    pub listener: TcpListener,
    /// Who says for whom it comes.
    pub proxies: Arc<Proxies>,
    pub spoken: Spoken,
    pub terms: Terms,
}

/// What is spoken at a listener.
#[derive(Clone)]
pub enum Spoken {
    Mqtt,
    /// What the client offers: MQTT here, HTTP there.
    ByAlpn(ToHttp),
}

/// Where shards hand connections to that want HTTP, and where these are taken from.
pub type ToHttp = mpsc::Sender<Arrived>;
pub type FromShards = mpsc::Receiver<Arrived>;

/// Handed on and not yet taken. Who comes beyond them comes again.
const TO_HTTP_MAX: usize = 256;

/// What a shard runs for at a time, as the scheduler is told: the least that it can be told. A shard runs
/// for some ten microseconds, and is else put aside by whom it has just woken.
const SLICE: Duration = Duration::from_micros(100);

#[must_use]
pub fn to_http() -> (ToHttp, FromShards) {
    mpsc::channel(TO_HTTP_MAX)
}

/// What a shard can be told.
pub enum Letter {
    /// A proven connection whose home is this shard.
    Connection(Box<Handed>),
    FromShard(ToShard),
    /// Bites at once.
    Withdraw {
        what: Arc<[Revocable]>,
        /// How many sessions end, and the moment from which nothing of them is accepted.
        bitten: oneshot::Sender<(u32, Instant)>,
        /// When the last of their connections was closed.
        closed: oneshot::Sender<Instant>,
    },
    /// Answered with the number of sessions that `Withdraw` would close.
    Count(Arc<[Revocable]>, oneshot::Sender<u32>),
    /// A new policy; answered when every session of the shard is under it.
    Regrant(Arc<Grants>, oneshot::Sender<()>),
    /// Somebody's product or groups are others now. Its facts are looked up when the letter is
    /// read, so that two letters which cross cannot undo what was said last. Its home tells the other
    /// shards, which may have retained what it published, behind the last message of before.
    Reclassify(Principal),
    /// Sessions on certificates of a retired fleet end; answered with their number.
    WithdrawRetired(oneshot::Sender<u32>),
    /// Its sessions on a certificate that others hold too end; answered with their number.
    EndShared(Principal, oneshot::Sender<u32>),
    /// Connections by claim certificates that were withdrawn end; answered with their number.
    WithdrawClaims(oneshot::Sender<u32>),
    /// The answer to what a connection by a claim certificate asked.
    Answer {
        to: Asker,
        accepted: bool,
        payload: Vec<u8>,
    },
    /// Somebody is contained or restored, as the registry says when the letter is read; answered
    /// with the number of sessions touched when it bites.
    Contain(Principal, oneshot::Sender<u32>),
    /// As `Contain`, of those whose home this is: answered with the number of sessions touched here.
    ContainMany(Arc<[Principal]>, oneshot::Sender<u32>),

    /// What somebody published and is retained is withheld or given out again, as the registry says;
    /// answered when it is so.
    Know(Arc<[Principal]>, oneshot::Sender<()>),
    /// A word of the plane to a device; answered with the number of sessions it was handed to.
    Tell {
        topic: String,
        payload: Vec<u8>,
        reply: oneshot::Sender<u32>,
    },
    /// Commands for devices whose home this shard is.
    Commands(Vec<CommandTo>),
    /// Takes a command back; answered with the number of devices that will not have it.
    CancelCommand(CommandId, oneshot::Sender<u32>),
    Report(oneshot::Sender<ShardReport>),
    /// Sessions in the order of principals and client identifiers, behind the first, so many at most.
    Sessions(
        Option<(Principal, String)>,
        usize,
        oneshot::Sender<Vec<SessionRow>>,
    ),
    /// What was refused, to one or to all.
    Refusals(
        Option<Principal>,
        usize,
        oneshot::Sender<Vec<(Principal, Refusal)>>,
    ),
    /// How well connections hold, in the order of principals.
    Links(
        Option<Principal>,
        usize,
        oneshot::Sender<Vec<(Principal, Link)>>,
    ),
    /// From here on somebody looks at a principal; answered with 1 if that is possible.
    LookAt(Principal, mpsc::Sender<Sight>, oneshot::Sender<u32>),
    /// Tell the judge who is connected ([`crate::judge::signals::Told::Sessions`]).
    Recount,
    /// Say goodbye to all, then end.
    Drain,
}

/// Each shard's journal with the records it held.
pub struct Journals(Vec<(Journal, Vec<Vec<u8>>)>);

impl Journals {
    /// Opens the journals in `dir`, before any port.
    ///
    /// # Errors
    /// Damage, named with segment and offset.
    pub fn open(config: &GatewayConfig, dir: &Path) -> anyhow::Result<Self> {
        let options = JournalOptions::new(match config.durability {
            Durability::Power => store::Durability::Power,
            Durability::Process => store::Durability::Process,
        });
        let mut records: Vec<Vec<Vec<u8>>> = vec![Vec::new(); usize::from(config.shards)];
        let journals = Journal::open_shards(dir, config.shards, options, &mut |record| {
            let home = usize::from(u16::from(record.partition) % config.shards);
            if let Some(own) = records.get_mut(home) {
                own.push(record.payload.to_vec());
            }
        })?;
        let journals = journals.into_iter().map(|(journal, _)| journal);
        Ok(Self(journals.zip(records).collect()))
    }
}

impl Letter {
    /// Bytes that it keeps in memory, about.
    fn weight(&self) -> usize {
        const AT_LEAST: usize = 256;
        match self {
            Self::FromShard(message) => AT_LEAST + message.payload_bytes(),
            Self::Commands(commands) => AT_LEAST * commands.len(),
            Self::Tell { payload, .. } | Self::Answer { payload, .. } => AT_LEAST + payload.len(),
            _ => AT_LEAST,
        }
    }
}

/// The same doors for one more shard.
fn again(doors: &[ShardDoor]) -> std::io::Result<Vec<ShardDoor>> {
    let again = |door: &ShardDoor| {
        Ok(ShardDoor {
            listener: door.listener.try_clone()?,
            proxies: Arc::clone(&door.proxies),
            spoken: door.spoken.clone(),
            terms: door.terms.clone(),
        })
    };
    doors.iter().map(again).collect()
}

/// What all shards share.
#[derive(Clone)]
pub struct Around {
    pub admission: Arc<Admission>,
    pub grants: Arc<Grants>,
    pub signals: Signals,
    /// For certificate requests of devices.
    pub requests: Requests,
    /// For how far commands came.
    pub news: Arc<News>,
    /// For what devices say that they are, and those that want to know what they should be.
    pub twins: Arc<Twins>,
    /// For what is sent and heard, in numbers.
    pub traffic: Arc<Locked<TrafficLedger>>,
}

/// What a withdrawal found open.
pub struct Withdrawn {
    /// Sessions that ended.
    pub sessions: u32,
    /// From then on nothing of what was withdrawn is accepted in any shard.
    pub in_force_at: Instant,
    closing: Vec<oneshot::Receiver<Instant>>,
}

impl Withdrawn {
    /// Waits until the last of their connections is closed; when that was.
    pub async fn all_closed(self) -> Instant {
        let mut last = self.in_force_at;
        for closing in self.closing {
            // A shard that has ended has no connection left.
            last = last.max(closing.await.unwrap_or(last));
        }
        last
    }
}

/// The running shards.
pub struct Shards {
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Shards {
    /// Starts each shard's thread on what its journal holds. `doors` are shared by all.
    ///
    /// # Errors
    /// A damaged journal or a refused thread, named.
    pub fn start(
        config: &GatewayConfig,
        journals: Journals,
        doors: Vec<ShardDoor>,
        around: &Around,
    ) -> anyhow::Result<Self> {
        let mailboxes = (0..config.shards)
            .map(|_| Mailbox::new(Letter::weight).map(Arc::new))
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut shards = Vec::with_capacity(mailboxes.len());
        for (index, (journal, records)) in (0..config.shards).zip(journals.0) {
            let mut shard = shard::Shard::open(
                index,
                config,
                journal,
                again(&doors)?,
                mailboxes.clone(),
                around.clone(),
            )?;
            shard.recover(&records);
            shards.push(shard);
        }
        // A publish must find every waiting session: all interests are exchanged before any
        // connection is taken.
        loop {
            let spoke = shards
                .iter_mut()
                .filter_map(|shard| shard.speak().then_some(()))
                .count();
            if spoke == 0 {
                break;
            }
            shards.iter_mut().for_each(shard::Shard::listen);
        }
        shards.iter_mut().for_each(shard::Shard::know_publishers);
        let threads = shards
            .into_iter()
            .enumerate()
            .map(|(index, shard)| {
                std::thread::Builder::new()
                    .name(format!("shard-{index}"))
                    .spawn(move || {
                        if let Err(error) = kernel::run_for_short_moments(SLICE) {
                            tracing::debug!(
                                target: "gateway",
                                "shard {index}: runs by the scheduler's own measure ({error})"
                            );
                        }
                        shard.run();
                    })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self {
            mailboxes,
            threads: Mutex::new(threads),
        })
    }

    /// Ends every session of what is withdrawn, in every shard. When this returns nothing more of
    /// them is accepted; their connections are closed meanwhile.
    pub async fn withdraw(&self, what: Arc<[Revocable]>) -> Withdrawn {
        let mut withdrawn = Withdrawn {
            sessions: 0,
            in_force_at: Instant::now(),
            closing: Vec::with_capacity(self.mailboxes.len()),
        };
        let bites = self.ask(|bitten| {
            let (closed, closing) = oneshot::channel();
            withdrawn.closing.push(closing);
            Letter::Withdraw {
                what: Arc::clone(&what),
                bitten,
                closed,
            }
        });
        for (sessions, at) in bites.await {
            withdrawn.sessions += sessions;
            withdrawn.in_force_at = withdrawn.in_force_at.max(at);
        }
        withdrawn
    }

    /// How many sessions [`Shards::withdraw`] would close now.
    pub async fn sessions_of(&self, what: &Arc<[Revocable]>) -> u32 {
        let answers = self
            .ask(|reply| Letter::Count(Arc::clone(what), reply))
            .await;
        answers.into_iter().sum()
    }

    /// Closes every session that stands on a certificate of a retired fleet, as the registry says;
    /// returns how many there were.
    pub async fn withdraw_retired(&self) -> u32 {
        self.ask(Letter::WithdrawRetired).await.into_iter().sum()
    }

    /// Ends the sessions of somebody that stand on a certificate which others hold too; returns how
    /// many there were.
    pub async fn end_shared(&self, principal: &Principal) -> u32 {
        self.ask_home(principal, |reply| {
            Letter::EndShared(principal.clone(), reply)
        })
        .await
    }

    /// Closes every connection whose claim certificate the registry does not believe any more;
    /// returns how many there were.
    pub async fn withdraw_claims(&self) -> u32 {
        self.ask(Letter::WithdrawClaims).await.into_iter().sum()
    }

    /// Tells a connection by a claim certificate what became of its question, if it is still there.
    pub fn answer_claim(&self, to: Asker, accepted: bool, payload: Vec<u8>) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(to.shard)) {
            mailbox.post(Letter::Answer {
                to,
                accepted,
                payload,
            });
        }
    }

    /// Returns when every session is under the new grants.
    pub async fn regrant(&self, grants: &Arc<Grants>) {
        self.ask(|reply| Letter::Regrant(Arc::clone(grants), reply))
            .await;
    }

    pub async fn reports(&self) -> Vec<ShardReport> {
        self.ask(Letter::Report).await
    }

    /// A page of all shards' sessions, in the order of principals and client identifiers.
    pub async fn sessions(
        &self,
        after: Option<(Principal, String)>,
        limit: usize,
    ) -> Vec<SessionRow> {
        let asked = self.ask(|reply| Letter::Sessions(after.clone(), limit, reply));
        let mut rows: Vec<SessionRow> = asked.await.into_iter().flatten().collect();
        rows.sort_by(|one, other| {
            let key = |row: &SessionRow| (row.principal.clone(), row.client_id.clone());
            key(one).cmp(&key(other))
        });
        rows.truncate(limit);
        rows
    }

    /// What was refused, the latest first.
    pub async fn refusals(&self, of: Option<Principal>, limit: usize) -> Vec<(Principal, Refusal)> {
        let asked = self.ask(|reply| Letter::Refusals(of.clone(), limit, reply));
        let mut rows: Vec<(Principal, Refusal)> = asked.await.into_iter().flatten().collect();
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.last_at));
        rows.truncate(limit);
        rows
    }

    /// How well connections hold, in the order of principals.
    pub async fn links(&self, after: Option<Principal>, limit: usize) -> Vec<(Principal, Link)> {
        let asked = self.ask(|reply| Letter::Links(after.clone(), limit, reply));
        let mut rows: Vec<(Principal, Link)> = asked.await.into_iter().flatten().collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        rows.truncate(limit);
        rows
    }

    /// What this principal does from here on, until the reader is gone. `None`: as many are looked
    /// at as can be.
    pub async fn look_at(&self, principal: &Principal) -> Option<Sights> {
        let (rows, sights) = Sights::new();
        let looked = self.ask_home(principal, |reply| {
            Letter::LookAt(principal.clone(), rows, reply)
        });
        (looked.await == 1).then_some(sights)
    }

    /// Has every shard tell the judge who is connected, in order with what it tells else.
    pub fn recount(&self) {
        for mailbox in &self.mailboxes {
            mailbox.post(Letter::Recount);
        }
    }

    /// Sessions of this principal go on under its new facts.
    pub fn reclassify(&self, facts: &Facts) {
        if let Some(mailbox) = self.home_of(&facts.principal) {
            mailbox.post(Letter::Reclassify(facts.principal.clone()));
        }
    }

    /// Brings the sessions of this principal under the containment that the registry has of it
    /// (say [`identity::Fact::DeviceContained`] or `DeviceRestored` to it before): when this
    /// returns it bites, on live sessions and on every connection that is on its way. Returns the
    /// number of sessions touched.
    pub async fn contain(&self, facts: &Facts) -> u32 {
        let principal = &facts.principal;
        let touched = self
            .ask_home(principal, |reply| Letter::Contain(principal.clone(), reply))
            .await;
        // Behind the last message of its that is retained: from there on no other comes.
        let known: Arc<[Principal]> = [principal.clone()].into();
        self.ask(|reply| Letter::Know(Arc::clone(&known), reply))
            .await;
        touched
    }

    /// As [`Shards::contain`], of many at once. A shard takes some of them at a time, and serves its
    /// sessions in between.
    pub async fn contain_many(&self, principals: &[Principal]) -> u32 {
        const AT_ONCE: usize = 128;
        let mut touched = 0;
        for part in principals.chunks(AT_ONCE) {
            let part: Arc<[Principal]> = part.into();
            let answers = self.ask(|reply| Letter::ContainMany(Arc::clone(&part), reply));
            touched += answers.await.into_iter().sum::<u32>();
            self.ask(|reply| Letter::Know(Arc::clone(&part), reply))
                .await;
        }
        touched
    }

    /// Tells a device something on one of the plane's own channels ([`access::containment_topic`]),
    /// QoS 1, where it has subscribed. Returns to how many of its sessions; a device that comes
    /// later is not told.
    pub async fn tell_device(&self, device: &DeviceId, topic: &str, payload: Vec<u8>) -> u32 {
        let principal = Principal::Device(device.clone());
        let topic = topic.to_owned();
        self.ask_home(&principal, |reply| Letter::Tell {
            topic,
            payload,
            reply,
        })
        .await
    }

    /// A connection that another door proved goes to its principal's shard.
    pub fn bring(&self, principal: &Principal, handed: Handed) {
        if let Some(mailbox) = self.home_of(principal) {
            mailbox.post(Letter::Connection(Box::new(handed)));
        }
    }

    /// Hands commands to the shards of their devices. Each shard does some of them at a time, and
    /// serves its sessions in between.
    pub fn command(&self, commands: impl Iterator<Item = CommandTo>) {
        const AT_ONCE: usize = 64;
        let mut batches: Vec<Vec<CommandTo>> = vec![Vec::new(); self.mailboxes.len()];
        for to in commands {
            let principal = Principal::Device(to.device.clone());
            let home = usize::from(gateway::home_shard(&principal, self.shard_count()));
            let (Some(batch), Some(mailbox)) = (batches.get_mut(home), self.mailboxes.get(home))
            else {
                continue;
            };
            batch.push(to);
            if batch.len() >= AT_ONCE {
                mailbox.post(Letter::Commands(std::mem::take(batch)));
            }
        }
        for (batch, mailbox) in batches.into_iter().zip(&self.mailboxes) {
            if !batch.is_empty() {
                mailbox.post(Letter::Commands(batch));
            }
        }
    }

    /// Takes a command back in every shard; returns from how many devices that were not sent it.
    pub async fn cancel_command(&self, id: CommandId) -> u32 {
        let counts = self.ask(|reply| Letter::CancelCommand(id, reply)).await;
        counts.into_iter().sum()
    }

    fn home_of(&self, principal: &Principal) -> Option<&Mailbox<Letter>> {
        let home = gateway::home_shard(principal, self.shard_count());
        self.mailboxes.get(usize::from(home)).map(Arc::as_ref)
    }

    /// The answer of the one shard that has this principal's sessions; 0 if it has ended.
    async fn ask_home(
        &self,
        principal: &Principal,
        letter: impl FnOnce(oneshot::Sender<u32>) -> Letter,
    ) -> u32 {
        let (reply, answer) = oneshot::channel();
        if let Some(mailbox) = self.home_of(principal) {
            mailbox.post(letter(reply));
        }
        answer.await.unwrap_or(0)
    }

    /// How many there are, running or ended.
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.mailboxes.len()).unwrap_or(u16::MAX)
    }

    /// Ends all sessions in order and waits for the threads.
    pub fn drain(&self) {
        for mailbox in &self.mailboxes {
            mailbox.post(Letter::Drain);
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard ended by a fault of ours; please report it");
            }
        }
    }

    /// One answer a shard. A shard that has ended has no session left: its answer is left out.
    async fn ask<T>(&self, mut letter: impl FnMut(oneshot::Sender<T>) -> Letter) -> Vec<T> {
        let waiting: Vec<oneshot::Receiver<T>> = self
            .mailboxes
            .iter()
            .map(|mailbox| {
                let (reply, answer) = oneshot::channel();
                mailbox.post(letter(reply));
                answer
            })
            .collect();
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.extend(answer.await);
        }
        answers
    }
}
