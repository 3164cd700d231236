//! The running plane: its parts, and the few acts that every part of the story shares.

use crate::api::Askers;
use crate::broker::Brokers;
use crate::certify::over_mqtt::Asking;
use crate::certify::pace::Pace;
use crate::certify::status::StatusDesk;
use crate::certify::tpm::Chips;
use crate::certify::tree::Tree;
use crate::commanding::Commanding;
use crate::config::{Config, Console};
use crate::entries::Act;
use crate::events::{About, Events};
use crate::fleet::planning;
use crate::fleet::{FleetInForce, population};
use crate::flow::Admission;
use crate::forward::Forwarding;
use crate::judge::Judgement;
use crate::judge::signals::{Inbox, Signals};
use crate::listen::tls::Trust;
use crate::people::Roster;
use crate::respond::notify::Notifier;
use crate::shards::{Shards, Withdrawn};
use crate::shared::{Latest, Locked, OneAtATime, off_thread};
use crate::sign_in::SignIns;
use crate::sign_in::provider::Provider;
use crate::trouble::Trouble;
use crate::twinning::Twins;
use crate::withdrawing::{Containments, RevocationPreview, Standing};
use access::{Facts, Grants, TrafficLedger};
use audit::Vkey;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use identity::pending::Pending;
use identity::{Fact, Realm};
use inventory::{Cut, Inventory};
use model::{CertificateId, Containment, DeviceId, Digest, Principal, Revocable, Timestamp};
use signer::{Purpose, SealKey, Signer};
use std::sync::Arc;
use store::{Change, CommitError, Direction, Published, Receipt, Store, Write};
use tokio::sync::{Notify, oneshot};

/// Everything that a running plane holds.
pub struct Plane {
    pub config: Config,
    pub store: Store,
    pub published: Published,
    /// What was observed; nothing that gates a privilege.
    pub facts: store::Facts,
    /// Every device as it is known.
    pub inventory: Locked<Inventory>,
    pub admission: Arc<Admission>,
    /// The key by which anybody verifies the log.
    pub log_key: Vkey,
    pub sign_ins: SignIns,
    /// Of people's identities, if one is configured.
    pub provider: Option<Provider>,
    /// Who may ask what of the API.
    pub roster: Roster,
    /// What doors and shards see, for the judge.
    pub signals: Signals,
    /// The other end, until the judge takes it.
    pub inbox: Locked<Option<Inbox>>,
    /// Certificate requests that came over MQTT, until their task takes them.
    pub(crate) asking: Locked<Option<Asking>>,
    /// Commands to devices.
    pub(crate) commanding: Commanding,
    /// How forwarding to another broker stands.
    pub(crate) forwarding: Forwarding,
    /// What devices should be and say that they are.
    pub(crate) twins: Arc<Twins>,
    /// What is sent and heard today, in numbers.
    pub(crate) traffic: Arc<Locked<TrafficLedger>>,
    /// What the API remembers of those who ask.
    pub(crate) askers: Askers,
    /// Held while a fleet is applied.
    pub applying: OneAtATime,
    /// Held while a list (our CAs, manufacturers, expected devices) goes from the record to memory.
    pub listing: OneAtATime,
    /// Held while what our doors show is replaced.
    pub(crate) serving: OneAtATime,
    /// Told when a CA is worth asking again.
    pub(crate) obtaining: Notify,
    /// Seals secrets that are kept in the database and are no key of the signer's.
    pub(crate) seal: SealKey,
    /// Enrollments that wait for a person; changed only while `waiting` is held.
    pub pending: Locked<Pending>,
    /// Held while an enrollment that waits goes from the record to memory.
    pub(crate) waiting: OneAtATime,
    /// Held while a certificate that was made by a claim certificate becomes its device's.
    pub(crate) claiming: OneAtATime,
    /// Held while grants are replaced.
    pub(crate) regranting: OneAtATime,
    /// Told of each commit with entries: the sequencer's nudge.
    pub committed: Notify,
    /// What has just happened, for open screens.
    pub events: Arc<Events>,
    /// Detector, alerts, responder: changed by one judgement at a time.
    pub judgement: Locked<Judgement>,
    /// Held from a judgement until its effects are carried out.
    pub judging: OneAtATime,
    /// When the last checkpoint was published in this run.
    pub(crate) checkpoint_at: Locked<Option<Timestamp>>,
    /// Held while a containment goes from memory to the shards; never while a disk is waited for.
    pub(crate) containing: OneAtATime,
    /// Who is cut off; changed only while `containing` is held.
    pub containments: Locked<Containments>,
    /// Who is told of incidents.
    pub(crate) notifier: Notifier,
    /// Whom revocations are carried to.
    pub(crate) brokers: Brokers,
    /// How fast certificates follow one another.
    pub(crate) pace: Pace,
    /// Why the lists of bad keys are not as their files have them now.
    pub(crate) bad_keys_trouble: Locked<Option<String>>,
    /// What is asked of TPMs.
    pub(crate) chips: Chips,
    pub(crate) signer: Signer,
    pub(crate) realm: Realm,
    /// Which CAs there are; replaced while `listing` is held.
    pub(crate) tree: Latest<Tree>,
    pub(crate) grants: Latest<Grants>,
    pub(crate) shards: Shards,
    /// Withdrawals in force that the store has not taken yet.
    pub(crate) unrecorded: Locked<Vec<Change>>,
    /// How often claim tokens were tried in this minute.
    pub(crate) token_attempts: Locked<identity::claim_token::Attempts>,
    /// What outsiders are told of our certificates.
    pub(crate) status: StatusDesk,
    /// The one sequencer; locked for one batch.
    pub(crate) sequencer: Locked<audit::Sequencer>,
    pub(crate) sequencer_trouble: Locked<Option<String>>,
}
impl Plane {
    #[must_use]
    pub fn trust(&self) -> &Arc<Trust> {
        &self.admission.trust
    }

    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Our CAs.
    #[must_use]
    pub fn tree(&self) -> Arc<Tree> {
        self.tree.get()
    }

    /// The MQTT door's threads.
    #[must_use]
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    pub fn sign(&self, purpose: Purpose, to_be_signed: &[u8]) -> Result<Vec<u8>, Trouble> {
        self.signer
            .sign(purpose, to_be_signed)
            .map_err(Trouble::fault)
    }

    /// The bytes that the log keeps of an act.
    pub fn leaf(&self, act: &Act) -> Result<Vec<u8>, Trouble> {
        leaf(self.realm.tenant().clone(), act)
    }

    /// # Errors
    /// While a withdrawal is not on record nothing is granted.
    pub fn granting_allowed(&self) -> Result<(), Trouble> {
        if self.unrecorded.lock().is_empty() {
            Ok(())
        } else {
            Err(Trouble::GrantingStopped)
        }
    }

    /// Returns when the change is durable.
    ///
    /// # Errors
    /// The store's; and a grant is refused while a withdrawal is not on record.
    pub async fn commit(&self, change: Change) -> Result<Receipt, Trouble> {
        if change.direction == Direction::Grant {
            self.granting_allowed()?;
        }
        Ok(self.submit(change).await?)
    }

    async fn submit(&self, change: Change) -> Result<Receipt, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.store.submit(change, move |result| {
            // Whoever asked may have gone; the change is durable all the same.
            let _ = reply.send(result);
        });
        let receipt = answer.await.map_err(|_| CommitError::Closed)??;
        self.committed.notify_one();
        Ok(receipt)
    }

    /// Records a withdrawal that is in force. One that cannot be recorded is kept and tried again.
    pub async fn commit_withdrawal(&self, change: Change) -> Result<Receipt, Trouble> {
        let mut recorded = self.submit(self.as_it_stands(change.clone())).await;
        if let Err(CommitError::Conflict { .. }) = &recorded {
            // What is harder came into force meanwhile and was on record first.
            recorded = self.submit(self.as_it_stands(change.clone())).await;
        }
        recorded.map_err(|error| {
            self.unrecorded.lock().push(change);
            tracing::error!("a withdrawal could not be recorded ({error}); granting stops");
            Trouble::InForceUnrecorded(error)
        })
    }

    /// Containments as they are in force now: a softer one would be refused, today and at each
    /// later try, once a harder one is on record.
    fn as_it_stands(&self, mut change: Change) -> Change {
        let containments = self.containments.lock();
        for write in &mut change.writes {
            let Write::PutContainment(row) = write else {
                continue;
            };
            let device = row.device.clone();
            if let Some(standing) = containments.of(&device)
                && standing.containment > row.containment
            {
                *write = standing.row(&device);
            }
        }
        change
    }

    /// Tries again to record what is in force; true when nothing is left.
    pub async fn record_withdrawals(&self) -> bool {
        let count = self.unrecorded.lock().len();
        for _ in 0..count {
            let Some(change) = self.unrecorded.lock().first().cloned() else {
                break;
            };
            let recorded = self.submit(self.as_it_stands(change)).await.is_ok();
            // It stays in the list until it is on record, for so long nothing is granted. Only
            // this task takes away; others come behind it.
            let mut waiting = self.unrecorded.lock();
            if recorded {
                waiting.remove(0);
            } else {
                waiting.rotate_left(1);
            }
        }
        self.unrecorded.lock().is_empty()
    }

    /// Takes a fact into memory.
    pub fn learn(&self, fact: &Fact) -> Result<(), Trouble> {
        self.trust()
            .registry_mut()
            .apply(fact)
            .map_err(|conflict| Trouble::refused("fact-conflict", conflict.to_string()))?;
        self.note(fact);
        Ok(())
    }

    /// Certificates of a principal that open doors now.
    #[must_use]
    pub fn certificates_in_force(
        &self,
        principal: &Principal,
        now: Timestamp,
    ) -> Vec<CertificateId> {
        let registry = self.trust().registry();
        (registry.certificates_of(principal).into_iter())
            .filter(|(id, end)| *end >= now && registry.certificate_revocation(id).is_none())
            .map(|(id, _)| id)
            .collect()
    }

    /// Whether what is to be revoked is on record.
    #[must_use]
    pub fn knows(&self, what: &Revocable) -> bool {
        let listed = match what {
            Revocable::Principal(Principal::Service(id)) => {
                self.admission.fleet.get().has_service(id)
            }
            Revocable::Issuer(id) => {
                let tree = self.tree();
                tree.issuing().iter().any(|one| one.issuer.id() == *id)
            }
            _ => false,
        };
        listed || self.trust().registry().knows(what)
    }

    /// What a revocation would do: how much is not on record, whom it would bar, how many sessions
    /// it would close.
    pub async fn preview(
        self: &Arc<Self>,
        what: Vec<Revocable>,
    ) -> Result<RevocationPreview, Trouble> {
        let what: Arc<[Revocable]> = what.into();
        let sessions = self.shards.sessions_of(&what).await;
        let plane = Arc::clone(self);
        off_thread(move || {
            let unknown = what.iter().filter(|one| !plane.knows(one)).count() as u64;
            let meant = what.iter().cloned().collect();
            let reach = plane.trust().registry().reach(&meant);
            RevocationPreview {
                unknown,
                reach,
                sessions,
            }
        })
        .await
    }

    /// Bars all of it at every door and ends its sessions.
    pub async fn withdraw(
        &self,
        facts: &[Fact],
        what: Vec<Revocable>,
    ) -> Result<Withdrawn, Trouble> {
        // A look-up at a door never waits for a whole list.
        const FACTS_AT_ONCE: usize = 1000;
        for part in facts.chunks(FACTS_AT_ONCE) {
            let mut registry = self.trust().registry_mut();
            for fact in part {
                registry.apply(fact).map_err(Trouble::fault)?;
            }
        }
        let withdrawn = self.shards.withdraw(what.into()).await;
        self.status.changed();
        self.brokers.nudge();
        Ok(withdrawn)
    }

    /// Cuts a device off in memory and on every shard; whether it is news, and the number of
    /// sessions that felt it.
    pub async fn cut_off(
        &self,
        device: &DeviceId,
        standing: &Standing,
    ) -> Result<(bool, u32), Trouble> {
        let _one_at_a_time = self.containing.begin().await;
        let is_news = self.containments.lock().put(device, standing.clone());
        if is_news {
            self.learn(&Fact::DeviceContained {
                device: device.clone(),
                containment: standing.containment,
                at: standing.since,
            })?;
        }
        let facts = self.facts_of_device(device);
        Ok((is_news, self.shards.contain(&facts).await))
    }

    /// Takes in what lowers a device's assurance: when this returns it bites on its live session.
    pub async fn lower(&self, device: &DeviceId, fact: &Fact) -> Result<(), Trouble> {
        self.learn(fact)?;
        self.reclassified(&self.facts_of_device(device)).await;
        Ok(())
    }

    /// A device has a certificate of its own, which is known: when this returns its sessions on one
    /// that it shared with others have ended.
    pub async fn shares_no_more(&self, principal: &Principal) {
        let any_shared = self.trust().registry().has_shared_certificates();
        if any_shared {
            self.shards.end_shared(principal).await;
        }
    }

    /// Returns when the sessions of this principal are judged by what is known of it now.
    pub async fn reclassified(&self, facts: &Facts) {
        self.shards.reclassify(facts);
        // Letters are read in order: this one comes back when the one before was read.
        self.shards.contain(facts).await;
    }

    /// Gives back, unless another containment came since `change`.
    pub async fn give_back(&self, device: &DeviceId, change: u64) -> Result<(), Trouble> {
        let _one_at_a_time = self.containing.begin().await;
        if self.containments.lock().take(device, change) {
            self.learn(&Fact::DeviceRestored {
                device: device.clone(),
            })?;
            let facts = self.facts_of_device(device);
            self.shards.contain(&facts).await;
        }
        Ok(())
    }

    /// How a device is cut off, and the change that did it.
    ///
    /// # Errors
    /// It is not, or its identity is gone.
    pub fn contained(&self, device: &DeviceId) -> Result<(Standing, u64), Trouble> {
        let principal = Principal::Device(device.clone());
        if self
            .trust()
            .registry()
            .principal_revocation(&principal)
            .is_some()
        {
            return Err(Trouble::refused(
                "device-revoked",
                format!("{device} was revoked: restoring it gives nothing back"),
            ));
        }
        let containments = self.containments.lock();
        containments
            .of(device)
            .cloned()
            .zip(containments.change_of(device))
            .ok_or_else(|| Trouble::refused("not-contained", format!("{device} is not cut off")))
    }

    /// How far a device is cut off.
    #[must_use]
    pub fn containment(&self, device: &DeviceId) -> Option<Containment> {
        let containments = self.containments.lock();
        containments.of(device).map(|standing| standing.containment)
    }

    /// Says how far a device is cut off: to its live session, which may do with it what it wants,
    /// to the inventory and to the screens.
    pub async fn tell_containment(&self, device: &DeviceId) {
        let told = self.list_containment(device);
        self.send_containment(device, &told).await;
        let told = serde_json::json!({ "id": device.to_string(), "change": told });
        self.events.tell(About::Device, &told);
    }

    /// As [`Plane::tell_containment`], of many; screens are told once.
    pub async fn tell_containments(&self, devices: &[DeviceId]) {
        for device in devices {
            let told = self.list_containment(device);
            self.send_containment(device, &told).await;
        }
        let told = serde_json::json!({ "change": "containments", "devices": devices.len() });
        self.events.tell(About::Device, &told);
    }

    /// Says it to the inventory; what the device is to be told.
    fn list_containment(&self, device: &DeviceId) -> serde_json::Value {
        // Held until the inventory knows, so that an earlier standing is never written last.
        // Always in this order: containments, then inventory.
        let containments = self.containments.lock();
        let standing = containments.of(device);
        let cut = standing.map(|one| Cut {
            containment: one.containment,
            since: one.since,
            incident: one.incident,
            by: one.by.clone(),
        });
        self.inventory.lock().contained(device, cut);
        word_of(standing)
    }

    /// Says it to the device once more, if it is cut off: it may have come back since, and a
    /// session is told only what happens while it lasts.
    pub async fn remind_of_containment(&self, device: &DeviceId) {
        let standing = self.containments.lock().of(device).cloned();
        if standing.is_some() {
            self.send_containment(device, &word_of(standing.as_ref()))
                .await;
        }
    }

    async fn send_containment(&self, device: &DeviceId, word: &serde_json::Value) {
        let topic = access::containment_topic(device);
        let payload = word.to_string().into_bytes();
        self.shards.tell_device(device, &topic, payload).await;
    }

    /// Where people reach the console.
    #[must_use]
    pub fn console(&self) -> Console {
        self.config.console()
    }

    /// Makes sure that grants know somebody of this kind.
    pub async fn cover(&self, facts: &Facts) -> Result<(), Trouble> {
        loop {
            let known = self.grants();
            let (from, asked) = (Arc::clone(&known), facts.clone());
            // Cedar may take its time.
            let extended = off_thread(move || from.extended(&asked))
                .await?
                .map_err(Trouble::Fleet)?;
            let Some(grants) = extended else {
                return Ok(());
            };
            let _one_at_a_time = self.regranting.begin().await;
            // Others may have come first; what they added must stay.
            if Arc::ptr_eq(&known, &self.grants()) {
                self.regrant(Arc::new(grants)).await;
                return Ok(());
            }
        }
    }

    /// Compiles a fleet for everybody who is known, off the async threads.
    pub async fn compile(&self, fleet: &Arc<FleetInForce>) -> Result<Grants, Trouble> {
        let population = self.population(fleet);
        let fleet = Arc::clone(fleet);
        let config = self.config.gateway.clone();
        off_thread(move || planning::compile(&fleet, population, &config)).await?
    }

    /// One of each kind that is known: the same product and groups are the same to policy.
    pub fn population(&self, fleet: &FleetInForce) -> Vec<Facts> {
        let registry = self.trust().registry();
        population(&registry, fleet)
    }

    /// From here on every shard judges by the new fleet.
    pub async fn put_in_force(&self, fleet: Arc<FleetInForce>, grants: Arc<Grants>) {
        let _one_at_a_time = self.regranting.begin().await;
        {
            let mut judgement = self.judgement.lock();
            judgement.detector.declare(&fleet.declared());
            judgement.responder.playbooks(fleet.playbooks.clone());
        }
        self.trust()
            .grace
            .replace(Arc::new(fleet.renewal_grace_max()));
        self.admission.fleet.replace(fleet);
        self.regrant(grants).await;
    }

    async fn regrant(&self, grants: Arc<Grants>) {
        self.grants.replace(Arc::clone(&grants));
        self.shards.regrant(&grants).await;
    }

    #[must_use]
    pub fn grants(&self) -> Arc<Grants> {
        self.grants.get()
    }

    /// Why this plane is not ready, if it is not. For operators, not for strangers.
    pub async fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Err(trouble) = self.granting_allowed() {
            reasons.push(trouble.to_string());
        }
        if let Some(reason) = self.store.sealed() {
            reasons.push(format!(
                "sealed: {reason}; look at it, then run `fleetward audit unseal --reason …`"
            ));
        }
        if let Some(failing) = self.store.failing() {
            reasons.push(failing);
        }
        if self.signals.is_unheard() {
            let what = "nothing that is seen is judged any more, by a fault of ours; restart the \
                        plane and report it";
            reasons.push(what.to_owned());
        }
        let trouble = self.sequencer_trouble.lock().clone();
        reasons.extend(trouble.map(|what| format!("the log is not published: {what}")));
        reasons.extend(self.trust().served.get().ended(crate::clock::now()));
        let reports = self.shards.reports().await;
        let ended = usize::from(self.shards.shard_count()).saturating_sub(reports.len());
        if ended > 0 {
            reasons.push(format!("{ended} shard(s) have ended; restart the plane"));
        }
        for report in reports {
            if report.failed {
                reasons.push(format!("shard {}: its journal failed", report.shard));
            }
        }
        reasons
    }
}

/// What a device is told of its containment, and nobody else needs to know the rest.
fn word_of(standing: Option<&crate::withdrawing::Standing>) -> serde_json::Value {
    let incident = standing.and_then(|one| one.incident);
    serde_json::json!({
        "containment": standing.map(|one| one.containment.name()),
        "since": standing.map(|one| one.since.to_string()),
        "incident": incident.map(|id| id.to_string()),
    })
}

/// The bytes that the log keeps of an act.
pub fn leaf(tenant: model::TenantId, act: &Act) -> Result<Vec<u8>, Trouble> {
    audit::Entry {
        time: act.time,
        tenant,
        actor: act.actor.clone(),
        action: act.action.to_owned(),
        object: act.object.clone(),
        details: act.details.clone(),
        request: None,
    }
    .to_leaf()
    .map_err(Trouble::fault)
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> Result<[u8; N], Trouble> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Trouble::fault("the system gives no random bytes"))?;
    Ok(bytes)
}

/// SHA-256, for names of things in the log.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    for (to, from) in out.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    Digest(out)
}

/// Over several texts, each with its length, so that no two lists are one.
pub fn digest_of(parts: &[&[u8]]) -> Digest {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    digest(&all)
}
