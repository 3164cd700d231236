//! From a data folder to a plane: what is there is checked, what is missing at the first start is
//! made, and a data folder older than its published log is sealed before anything is granted.

use crate::api::Askers;
use crate::broker::Brokers;
use crate::certify::pace::Pace;
use crate::certify::rotation::{self, Proofs};
use crate::certify::status::StatusDesk;
use crate::certify::tpm::{self, Chips};
use crate::certify::tree::{self, Tree};
use crate::certify::{bad_keys, claiming, counting, imports, lists, over_mqtt, waiting};
use crate::clock;
use crate::commanding::Commanding;
use crate::config::Config;
use crate::entries::{self, Withdrawn};
use crate::events::Events;
use crate::fleet::{FleetInForce, population};
use crate::fleet::{planning, recorded};
use crate::flow::Admission;
use crate::forward::Forwarding;
use crate::judge::signals::Signals;
use crate::judge::{self, Judgement};
use crate::listen::Doors;
use crate::listen::tls::Trust;
use crate::people::Roster;
use crate::plane::{Plane, leaf, random};
use crate::respond::notify::Notifier;
use crate::respond::timeline;
use crate::served::{Maker, Served};
use crate::shards::{self, Journals, Shards};
use crate::shared::{Latest, Locked, OneAtATime};
use crate::sign_in::SignIns;
use crate::sign_in::provider::Provider;
use crate::stock::sightings;
use crate::trouble::Trouble;
use crate::twinning::Twins;
use crate::withdrawing::{self, Containments};
use access::Grants;
use anyhow::{Context, bail};
use audit::{Checkpoint, KeyKind, PublishedTree, Sequencer, Standing, Vkey, merkle};
use detection::{Alerts, Detector};
use identity::pending::Pending;
use identity::{Anchors, Fact, Realm, Registry, profile};
use model::{TenantId, Timestamp};
use response::Responder;
use signer::{HighMark, Rules, SealKey, Signer};
use std::path::Path;
use std::sync::Arc;
use store::{CHANGE_ROWS_MAX, Change, Direction, Options, Published, Store, Write};

/// What stands when the data folder has been opened and no port has.
pub struct Foundation {
    notifier: Notifier,
    provider: Option<Provider>,
    brokers: Brokers,
    status: StatusDesk,
    store: Store,
    published: Published,
    seal: SealKey,
    facts: store::Facts,
    inventory: inventory::Inventory,
    signer: Signer,
    log_key: Vkey,
    sequencer: Sequencer,
    realm: Realm,
    tree: Tree,
    trust: Trust,
    fleet: FleetInForce,
    grants: Grants,
    journals: Journals,
    chips: Chips,
    containments: Containments,
    pending: Pending,
    judgement: Judgement,
    roster: Roster,
}

impl Foundation {
    /// Opens or makes everything below the data folder.
    ///
    /// # Errors
    /// One line each: what is wrong, who must act and how.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let now = clock::now();
        check_clock(now, built_at(), "this program was built")?;
        let notifier = Notifier::new(config)?;
        let provider = Provider::new(&config.access)?;
        let brokers = Brokers::new(config)?;
        let tenant = TenantId::new(&config.tenant)?;
        let realm = Realm::new(&config.trust_domain, tenant.clone())?;
        let store = Store::open(&config.data_dir, Options::new(tenant.clone()))?;
        let facts = store::Facts::open(&config.data_dir, &tenant)?;
        let published = Published::open(&config.log_dir)?;
        let seal = seal_key(&config.seal_key_file, &config.data_dir)?;

        let signer = open_signer(config, &store, &published, &seal, &tenant)?;
        let log_key = Vkey::new(
            &config.log_origin(),
            KeyKind::Ed25519,
            signer.log_public_key(),
        )?;
        let sequencer = reconcile(config, &store, &published, &log_key)?;
        tell_seal(&store, &tenant, now)?;
        replay_withdrawals(&store)?;
        if let Some(last) = store.leaf_count()?.checked_sub(1)
            && let Some(entry) = store.leaf(last)?
        {
            let written = audit::Entry::from_leaf(&entry)?.time;
            check_clock(now, written, "the last entry of the log was written")?;
        }

        let tree = Tree::open(&store, &signer, &realm, &log_key, now)?;
        counting::reconcile(&store, &signer, &tree, &realm, now)?;
        let maker = Maker {
            config,
            store: &store,
            signer: &signer,
            realm: &realm,
            tree: &tree,
        };
        let bad_keys = bad_keys::read(&config.identity)?;
        let served = Served::open(config, &store, &seal, &bad_keys, maker)?;
        let mut manufacturers = Vec::new();
        store.for_each_manufacturer(|row| manufacturers.push((row.id, row.ca)))?;
        let anchors = Anchors::new(realm.clone(), &tree.own_cas(), manufacturers)?
            .with_imported(imports::anchors_of(&store.imported_fleets()?)?)?;
        let (registry, containments) = remember(&store)?;
        let inventory = sightings::remember(&config.inventory, &registry, &store, &facts)?;
        let fleet = match store.fleet()? {
            Some(row) => FleetInForce::from_row(&row).map_err(readable)?,
            None => FleetInForce::none(),
        };
        let grants = planning::compile(&fleet, population(&registry, &fleet), &config.gateway)
            .map_err(readable)?;
        let journals = Journals::open(&config.gateway, &config.data_dir.join("journal"))?;
        let judgement = recall(config, &store, &facts, &registry, &fleet)?;
        let chips = tpm::vendors(&store)
            .and_then(Chips::new)
            .map_err(readable)?;
        let pending = waiting::remember(&store)?;
        let roster = Roster::remember(&store)?;
        let trust = Trust::new(served, anchors, registry, bad_keys);
        trust.grace.replace(Arc::new(fleet.renewal_grace_max()));
        let status = StatusDesk::open(&store, config.status_point()?)?;
        Ok(Self {
            notifier,
            provider,
            brokers,
            status,
            store,
            published,
            seal,
            facts,
            inventory,
            signer,
            log_key,
            sequencer,
            realm,
            tree,
            trust,
            fleet,
            grants,
            journals,
            chips,
            containments,
            pending,
            judgement,
            roster,
        })
    }

    /// The plane, with its MQTT threads running behind their door.
    ///
    /// # Errors
    /// The system refuses a thread or a wake.
    pub fn into_plane(self, config: Config, doors: &Doors) -> anyhow::Result<Arc<Plane>> {
        let grants = Arc::new(self.grants);
        let admission = Arc::new(Admission {
            trust: Arc::new(self.trust),
            fleet: Latest::new(self.fleet),
            proofs: Proofs::default(),
        });
        let (signals, inbox) = Signals::new();
        let (requests, asking) = over_mqtt::queue();
        let commanding = Commanding::default();
        let twins = Arc::<Twins>::default();
        let traffic = Arc::new(Locked::new(recorded::ledger(&self.facts)?));
        let shards = Shards::start(
            &config.gateway,
            self.journals,
            doors.shard_doors(&config)?,
            &shards::Around {
                admission: Arc::clone(&admission),
                grants: Arc::clone(&grants),
                signals: signals.clone(),
                requests,
                news: Arc::clone(&commanding.news),
                twins: Arc::clone(&twins),
                traffic: Arc::clone(&traffic),
            },
        )?;
        let run = u32::from_be_bytes(random().map_err(readable)?);
        let pace = Pace::new(&config.identity);
        Ok(Arc::new(Plane {
            config,
            store: self.store,
            published: self.published,
            facts: self.facts,
            inventory: Locked::new(self.inventory),
            admission,
            log_key: self.log_key,
            sign_ins: SignIns::new().map_err(readable)?,
            provider: self.provider,
            roster: self.roster,
            signals,
            inbox: Locked::new(Some(inbox)),
            asking: Locked::new(Some(asking)),
            commanding,
            forwarding: Forwarding::default(),
            twins,
            traffic,
            events: Arc::new(Events::new(run)),
            judgement: Locked::new(self.judgement),
            judging: OneAtATime::default(),
            checkpoint_at: Locked::default(),
            containing: OneAtATime::default(),
            containments: Locked::new(self.containments),
            askers: Askers::default(),
            applying: OneAtATime::default(),
            listing: OneAtATime::default(),
            serving: OneAtATime::default(),
            obtaining: tokio::sync::Notify::new(),
            seal: self.seal,
            pending: Locked::new(self.pending),
            waiting: OneAtATime::default(),
            claiming: OneAtATime::default(),
            regranting: OneAtATime::default(),
            committed: tokio::sync::Notify::new(),
            notifier: self.notifier,
            brokers: self.brokers,
            pace,
            bad_keys_trouble: Locked::default(),
            chips: self.chips,
            signer: self.signer,
            realm: self.realm,
            tree: Latest::new(self.tree),
            grants: Latest::of(grants),
            shards,
            unrecorded: Locked::default(),
            token_attempts: Locked::default(),
            status: self.status,
            sequencer: Locked::new(self.sequencer),
            sequencer_trouble: Locked::default(),
        }))
    }
}

fn built_at() -> Timestamp {
    Timestamp::from_seconds(env!("FLEETWARD_BUILT_AT").parse().unwrap_or(0))
}

fn check_clock(now: Timestamp, earliest: Timestamp, what: &str) -> anyhow::Result<()> {
    if now < earliest {
        bail!(
            "it cannot be {now}, as {what} at {earliest}; operator: set this machine's clock and \
             start again"
        );
    }
    Ok(())
}

fn seal_key(file: &Path, data_dir: &Path) -> anyhow::Result<SealKey> {
    if !file.exists() {
        if data_dir.join("keys").exists() {
            bail!(
                "{} is not there, and without it the keys in {} cannot be opened; operator: \
                 restore it, or name its place with seal_key_file",
                file.display(),
                data_dir.join("keys").display()
            );
        }
        return Ok(SealKey::create(file)?);
    }
    Ok(SealKey::read(file)?)
}

fn open_signer(
    config: &Config,
    store: &Store,
    published: &Published,
    seal: &SealKey,
    tenant: &TenantId,
) -> anyhow::Result<Signer> {
    let keys = config.data_dir.join("keys");
    let token = config.signer.token();
    if !keys.exists() {
        if tree::is_founded(store)? {
            bail!(
                "{} is not there, but the database knows a CA; operator: restore the keys of the \
                 same backup",
                keys.display()
            );
        }
        Signer::create(&keys, seal, token.as_ref())?;
    }
    // Whatever was signed last, here or in the published log, is never signed below again.
    let origin = config.log_origin();
    let stored = store.last_checkpoint()?.map(|checkpoint| checkpoint.note);
    let marks = [stored, published.checkpoint()?]
        .into_iter()
        .flatten()
        .filter_map(|note| {
            let text = String::from_utf8(note).ok()?;
            let (body, _) = text.rsplit_once("\n\n")?;
            HighMark::read(&format!("{body}\n"), &origin).ok()
        });
    let rules = Rules {
        trust_domain: config.trust_domain.clone(),
        tenant: tenant.clone(),
        leaf_lifetime_max: profile::LEAF_LIFETIME_MAX,
        log_origin: origin.clone(),
        checkpoint: marks.max_by_key(|mark| mark.size),
    };
    Ok(Signer::open(&keys, seal, token.as_ref(), rules)?)
}

/// Compares the database with the published log. The same: go on. Published less: publish the rest
/// later. Published more: the database is an older copy; take the missing leaves in and seal.
fn reconcile(
    config: &Config,
    store: &Store,
    published: &Published,
    log_key: &Vkey,
) -> anyhow::Result<Sequencer> {
    let keys = [log_key.clone()];
    let open = |note: &[u8]| -> anyhow::Result<Checkpoint> {
        let text = std::str::from_utf8(note).context("a checkpoint is not text")?;
        Ok(Checkpoint::open(text, &keys)?.checkpoint)
    };
    let log_dir = config.log_dir.display();
    let stored = store.last_checkpoint()?;
    let visible = published.checkpoint()?;
    let of_store = stored
        .as_ref()
        .map(|checkpoint| open(&checkpoint.note))
        .transpose()?;
    let of_log =
        visible.as_deref().map(open).transpose().with_context(|| {
            format!("{log_dir}/checkpoint is not this log's; operator: restore it")
        })?;
    let stored_size = of_store.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let log_size = of_log.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let Some(last) = [of_store, of_log]
        .into_iter()
        .flatten()
        .max_by_key(|one| one.size)
    else {
        return Ok(Sequencer::new(&config.log_origin()));
    };

    let mut load = |path: &str| published.read(path).ok().flatten();
    let damaged =
        || format!("the published log in {log_dir} is damaged; operator: restore it from a copy");
    let sequencer = Sequencer::restore(last.clone(), &mut load).with_context(damaged)?;
    // Entries too: nothing below reads them, and what is appended to them would hide the damage.
    audit::check_tree(&last, &mut load, &mut |_, _| {}).with_context(damaged)?;
    let mut tree = PublishedTree::new(last.size, &mut load);
    let committed = store.leaf_count()?;
    let mut window = Window::default();
    let standing = audit::compare(&mut tree, committed, 0, &mut |index| {
        window.hash(store, index)
    })?;
    match standing {
        Standing::Equal | Standing::Behind { .. } => {}
        Standing::Divergent { index } => bail!(
            "the database and the published log in {log_dir} differ at entry {index}: they are two \
             histories; operator: find out which is true and restore the other from a copy"
        ),
        Standing::Ahead {
            unknown_to_database,
        } => {
            let reason = format!(
                "the database is an older copy: it lacks entries {} to {} of the published log",
                unknown_to_database.start,
                unknown_to_database.end - 1
            );
            tracing::error!("{reason}; starting sealed");
            let mut from = unknown_to_database.start;
            while from < unknown_to_database.end {
                let to = unknown_to_database.end.min(from + CHANGE_ROWS_MAX as u64);
                let leaves = (from..to)
                    .map(|index| tree.leaf(index))
                    .collect::<Result<Vec<_>, _>>()?;
                store.import_leaves(from, leaves, &reason)?;
                from = to;
            }
        }
    }
    if log_size > stored_size
        && let Some(note) = &visible
    {
        store.put_checkpoint(stored_size, log_size, note.clone())?;
    }
    if stored_size > log_size
        && let Some(checkpoint) = &stored
    {
        // The last stop came between storing the checkpoint and showing it.
        published.write_checkpoint(&checkpoint.note)?;
    }
    Ok(sequencer)
}

/// Leaf hashes of the database, read a thousand at a time.
#[derive(Default)]
struct Window {
    first: u64,
    hashes: Vec<model::Digest>,
}

impl Window {
    fn hash(&mut self, store: &Store, index: u64) -> Option<model::Digest> {
        let inside = |first: u64, len: usize| index >= first && index - first < len as u64;
        if !inside(self.first, self.hashes.len()) {
            let leaves = store.leaves(index, 1000).ok()?;
            self.first = index;
            self.hashes = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
        }
        self.hashes
            .get(usize::try_from(index - self.first).ok()?)
            .copied()
    }
}

/// A seal that was set while the leaves were taken in is told in the log, once.
fn tell_seal(store: &Store, tenant: &TenantId, now: Timestamp) -> anyhow::Result<()> {
    const TOLD: &str = "audit.seal-told";
    let Some(from) = store.imported_from() else {
        return Ok(());
    };
    let mark = from.to_string().into_bytes();
    if store.meta(TOLD)?.as_ref() == Some(&mark) {
        return Ok(());
    }
    let reason = store.sealed().unwrap_or_default();
    let entry = leaf(tenant.clone(), &entries::sealed(now, &reason)).map_err(readable)?;
    let change = Change::new(Direction::Neutral)
        .write(Write::PutMeta {
            key: TOLD.into(),
            value: mark,
        })
        .entry(entry);
    store.commit(change)?;
    Ok(())
}

/// Revocations, containments and numbers of incidents that a restored database missed, taken from
/// the leaves it was given back. Done again at each start while sealed, since a crash may have come
/// in between.
fn replay_withdrawals(store: &Store) -> anyhow::Result<()> {
    let Some(mut from) = store.imported_from() else {
        return Ok(());
    };
    let known = timeline::last_incident(store)?;
    let mut last_incident = known;
    loop {
        let leaves = store.leaves(from, 1000)?;
        if leaves.is_empty() {
            break;
        }
        from += leaves.len() as u64;
        for leaf in leaves {
            let entry = audit::Entry::from_leaf(&leaf)?;
            if let Some(told) = entries::incident_told_by(&entry) {
                last_incident = last_incident.max(told.0);
            }
            match entries::withdrawal_told_by(&entry) {
                Some(Withdrawn::Revoked(what, reason)) => {
                    let at = entry.time;
                    let write = Write::Revoke { what, at, reason };
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::Contained(devices, standing)) => {
                    let mut change = Change::new(Direction::Withdraw);
                    for device in &devices {
                        let present = store.containment(device)?;
                        // The harder one stands, whichever came last.
                        if present.is_none_or(|known| known.containment < standing.containment) {
                            change = change.write(standing.row(device));
                        }
                    }
                    if !change.writes.is_empty() {
                        store.commit(change)?;
                    }
                }
                Some(Withdrawn::GroupContained(row)) => {
                    // One that is on record may be undone there already.
                    let known = store.group_containment(&row.id)?;
                    let write = Write::PutGroupContainment(known.unwrap_or(row));
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::FleetRetired(fleet)) => {
                    let at = entry.time;
                    let write = Write::RetireImportedFleet { fleet, at };
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::ClaimCertificateRetired(claim)) => {
                    let at = entry.time;
                    let write = Write::RetireClaimCertificate { claim, at };
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::TpmUnlisted(key)) => {
                    let write = Write::DropEndorsementKeys(vec![key]);
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::PersonNarrowed {
                    person,
                    roles,
                    disabled_at,
                }) => {
                    let write = Write::NarrowPerson {
                        person,
                        roles,
                        disabled_at,
                    };
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::TokenRevoked(token)) => {
                    let at = entry.time;
                    let write = Write::RevokeApiToken { token, at };
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::PasskeyRemoved(passkey)) => {
                    let write = Write::DropPasskey(passkey);
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                Some(Withdrawn::Contraindicated(result)) => {
                    let write = Write::PutAttestationResult(result);
                    store.commit(Change::new(Direction::Withdraw).write(write))?;
                }
                None => {}
            }
        }
    }
    if last_incident > known {
        // Kept, since nobody looks into the log again once the seal is gone.
        let write = Write::PutMeta {
            key: timeline::LAST_TOLD.into(),
            value: last_incident.to_string().into_bytes(),
        };
        store.commit(Change::new(Direction::Neutral).write(write))?;
    }
    Ok(())
}

/// The registry as the rows tell it.
fn remember(store: &Store) -> anyhow::Result<(Registry, Containments)> {
    let mut registry = Registry::new();
    let mut containments = Containments::default();
    let mut conflict = None;
    let mut learn = |fact: Fact| {
        if let Err(error) = registry.apply(&fact) {
            conflict.get_or_insert(error);
        }
    };
    for row in store.imported_fleets()? {
        imports::facts_of(&row).into_iter().for_each(&mut learn);
    }
    store.for_each_expected_device(|row| learn(lists::fact_of_expected(row)))?;
    store.for_each_described(|row| {
        learn(Fact::DeviceDescribed {
            device: row.device,
            attributes: row.attributes,
        });
    })?;
    store.for_each_pinned_leaf(|row| {
        learn(Fact::LeafPinned {
            fingerprint: row.fingerprint,
            device: row.device,
            shared: row.shared,
        });
    })?;
    store.for_each_issued(|row| {
        let (key, certificate, not_after) = (key_of(&row), row.certificate, row.not_after);
        learn(match row.principal {
            Some(principal) => Fact::CertificateIssued {
                principal,
                certificate,
                key,
                not_after,
            },
            None => Fact::ServerCertified {
                certificate,
                key,
                not_after,
            },
        });
    })?;
    store.for_each_shown_key(|device, key| learn(Fact::KeyShown { device, key }))?;
    store.for_each_revocation(|what, revocation| {
        let (at, reason) = (revocation.at, revocation.reason);
        learn(Fact::Revoked { what, reason, at });
    })?;
    store.for_each_superseded(|row| learn(rotation::fact_of(&row)))?;
    for row in store.claim_certificates()? {
        learn(claiming::fact_of(&row)?);
    }
    store.for_each_reservation(|row| {
        learn(Fact::CertificateReserved {
            certificate: row.certificate,
        });
    })?;
    store.for_each_endorsement_key(|row| {
        learn(Fact::EndorsementListed {
            endorsement: row.endorsement,
            manufacturer: row.manufacturer,
            serial: row.serial,
        });
    })?;
    store.for_each_held_key(|row| {
        learn(Fact::KeyHeld {
            device: row.device,
            key: Some(row.key),
        });
    })?;
    store.for_each_attestation_result(|row| learn(tpm::fact_of_result(row)))?;
    store.for_each_containment(|row| {
        learn(Fact::DeviceContained {
            device: row.device.clone(),
            containment: row.containment,
            at: row.since,
        });
        let standing = withdrawing::Standing {
            containment: row.containment,
            since: row.since,
            incident: row.incident,
            by: row.by,
            group: row.group,
        };
        containments.put(&row.device, standing);
    })?;
    match conflict {
        Some(error) => {
            bail!("the database contradicts itself ({error}); operator: restore a backup")
        }
        None => Ok((registry, containments)),
    }
}

/// A row of an earlier format has no digest of its key. What cannot be read opens no door either.
fn key_of(row: &store::IssuedRow) -> model::Digest {
    let der = row.der.as_deref().unwrap_or_default();
    row.key
        .or_else(|| identity::public_key_digest(der).ok())
        .unwrap_or_else(|| crate::plane::digest(der))
}

/// The judgement as it was: what was learned and raised comes from `facts.db`, what is declared
/// and planned from the fleet. Incidents are taken up by its task, since they may ask for acts.
fn recall(
    config: &Config,
    store: &Store,
    facts: &store::Facts,
    registry: &Registry,
    fleet: &FleetInForce,
) -> anyhow::Result<Judgement> {
    let mut detector = Detector::new(detection::Settings::default());
    detector.declare(&fleet.declared());
    let mut alerts = Alerts::new(detection::AlertSettings::default());
    let mut kept = Vec::new();
    facts.for_each_alert(|row| kept.extend(judge::alert_of(row)))?;
    alerts.restore(kept);
    let mut responder = Responder::new(config.response.settings());
    responder.playbooks(fleet.playbooks.clone());
    // Before anything else can ask for a number: an incident's is never given twice.
    let last = response::Remembered {
        last_incident: timeline::last_incident(store)?,
        ..response::Remembered::default()
    };
    responder.restore_state(&last, clock::now(), &mut Vec::new())?;
    let mut judgement = Judgement::new(
        detector,
        alerts,
        responder,
        config.gateway.device_defender_interval_min(),
    );
    for device in registry.devices().filter(|device| device.enrolled) {
        judgement.introduce(&device.device, registry);
    }
    // After the devices are known: what is remembered of others is left out.
    for key in judge::learned_keys() {
        if let Some(snapshot) = facts.blob(&key)?
            && let Err(error) = judgement.detector.restore(&snapshot)
        {
            tracing::error!("{key}: {error}");
        }
    }
    Ok(judgement)
}

/// A trouble as the one line that a start ends with.
fn readable(trouble: Trouble) -> anyhow::Error {
    match trouble {
        Trouble::Fleet(diagnostics) => {
            let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(
                "the fleet in force is refused by this version:\n{}",
                lines.join("\n")
            )
        }
        other => anyhow::anyhow!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The copy knows nothing of incidents 1 to 12, which the log tells of: the next is 13, also
    /// when the seal is gone.
    #[test]
    fn a_restored_database_gives_no_number_of_an_incident_again() {
        let scratch = tempfile::tempdir().unwrap();
        let tenant = TenantId::new("acme").unwrap();
        let store = Store::open(&scratch.path().join("data"), Options::new(tenant)).unwrap();
        let leaf = |action: &str, object: &str| {
            let entry = audit::Entry {
                time: Timestamp::from_seconds(1),
                tenant: "acme".parse().unwrap(),
                actor: "detection".into(),
                action: action.into(),
                object: object.into(),
                details: std::collections::BTreeMap::new(),
                request: None,
            };
            entry.to_leaf().unwrap()
        };
        let leaves = vec![
            leaf("response.incident-opened", "incident/INC-12"),
            leaf("response.incident-closed", "incident/INC-3"),
            leaf("access.fleet-applied", "fleet/99"),
        ];
        store.import_leaves(0, leaves, "an older copy").unwrap();
        assert_eq!(timeline::last_incident(&store).unwrap(), 0);
        replay_withdrawals(&store).unwrap();
        replay_withdrawals(&store).unwrap();
        assert_eq!(timeline::last_incident(&store).unwrap(), 12);
        let change = Change::new(Direction::Neutral).write(Write::Unseal);
        let seen = leaf("audit.unsealed", "plane");
        store.commit(change.entry(seen)).unwrap();
        assert_eq!(store.imported_from(), None);
        assert_eq!(timeline::last_incident(&store).unwrap(), 12);
    }

    #[test]
    fn a_clock_before_the_build_or_the_last_entry_is_refused() {
        let earliest = Timestamp::from_seconds(1_000);
        assert!(check_clock(earliest, earliest, "it was built").is_ok());
        let early = Timestamp::from_millis(999_999);
        let said = check_clock(early, earliest, "it was built")
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("it cannot be 1970-01-01T00:16:39.999Z"),
            "{said}"
        );
        assert!(
            said.contains("operator: set this machine's clock"),
            "{said}"
        );
        assert!(built_at() > Timestamp::from_seconds(1_700_000_000));
        assert!(built_at() <= clock::now());
    }
}
