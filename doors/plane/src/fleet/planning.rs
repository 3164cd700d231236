//! What a fleet would change, and its grants: compiled, not in force.

use crate::clock;
use crate::config::GatewayConfig;
use crate::fleet::FleetInForce;
use crate::fleet::recorded::{DAYS, day_of};
use crate::plane::Plane;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use access::{ChannelId, Difference, Facts, Grants, How, Kind, Replay, SourceFile};
use identity::Registry;
use identity::expected::ExpectedDevice;
use model::{DeviceId, Digest, Principal};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use store::Receipt;

/// What applying a fleet did.
pub struct ApplyReceipt {
    pub version: u64,
    pub grant_classes: usize,
    pub receipt: Receipt,
}

/// What applying a fleet would do.
pub struct Plan {
    pub version: u64,
    pub unchanged: bool,
    pub grant_classes: usize,
    /// What it declares differently, as `+ channel telemetry`.
    pub changes: Vec<String>,
    pub difference: Difference,
    /// What may hurt, though it can be applied.
    pub warnings: Vec<String>,
    /// Channels whose payloads are held to no contract.
    pub without_contract: Vec<String>,
    /// Of all that: who applies it by this digest applies exactly what was shown.
    pub digest: Digest,
}

/// A fleet that could be in force, and what was in force when it was looked at.
pub struct Candidate {
    pub before: Arc<FleetInForce>,
    pub next: Arc<FleetInForce>,
    pub grants: Arc<Grants>,
}

/// What of the recorded traffic would not pass.
pub struct Replayed {
    /// Since the first that is recorded, today included.
    pub days: u32,
    pub replay: Replay,
    /// For each line devices that are of its kind now.
    pub examples: Vec<Vec<String>>,
}

/// Reads, checks and compiles a fleet; changes nothing.
///
/// # Errors
/// Diagnostics with file and line.
pub async fn compile_candidate(
    plane: &Arc<Plane>,
    files: &[SourceFile],
) -> Result<Candidate, Trouble> {
    let before = plane.admission.fleet.get();
    let next = Arc::new(FleetInForce::read(before.version + 1, files)?);
    next.check_authorities(&plane.tree())?;
    check_mud(&next, files)?;
    check_slots(plane, &next)?;
    check_invariants(&next).await?;
    let grants = Arc::new(plane.compile(&next).await?);
    Ok(Candidate {
        before,
        next,
        grants,
    })
}

/// # Errors
/// A manufacturer's file that is not signed by whom the fleet believes.
fn check_mud(next: &FleetInForce, files: &[SourceFile]) -> Result<(), Trouble> {
    let fleet = next.fleet.iter();
    let wrong: Vec<_> = fleet
        .flat_map(|fleet| access::check_mud_signatures(fleet, files, clock::now()))
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Trouble::Fleet(wrong))
    }
}

/// What it would change for the devices that are known now.
///
/// # Errors
/// A fault of ours.
pub async fn plan(plane: &Arc<Plane>, candidate: &Candidate) -> Result<Plan, Trouble> {
    let Candidate {
        before,
        next,
        grants,
    } = candidate;
    let (known, in_force, compiled) = (Arc::clone(plane), plane.grants(), Arc::clone(grants));
    let difference = off_thread(move || {
        let registry = known.trust().registry();
        let now = clock::now();
        let devices = registry.devices().map(|device| Facts {
            assurance: registry.assurance(&device.device, now),
            principal: Principal::Device(device.device),
            product: Some(device.product.clone()),
            groups: device.groups.to_vec(),
            attributes: Arc::default(),
            containment: None,
        });
        in_force.difference(&compiled, devices)
    })
    .await?;
    let mut changes: Vec<String> = (difference.things.iter())
        .map(|thing| format!("{} {} {}", sign(thing.how), thing.kind, thing.name))
        .collect();
    changes.extend(before.changed_playbooks(next));
    let warnings = next.warnings();
    let digest = digest(&format!(
        "{} {} {difference:?} {changes:?} {warnings:?}",
        before.version,
        next.digest()
    ));
    Ok(Plan {
        version: next.version,
        unchanged: before.digest() == next.digest(),
        grant_classes: grants.class_count(),
        changes,
        difference,
        warnings,
        without_contract: next.without_contract(),
        digest,
    })
}

/// What of the recorded traffic it would refuse. No part of a plan's digest, as it changes by the
/// minute.
///
/// # Errors
/// A recorded kind of principal cannot be compiled, or a fault of ours.
pub async fn replay(plane: &Arc<Plane>, candidate: &Candidate) -> Result<Replayed, Trouble> {
    let (plane, next) = (Arc::clone(plane), Arc::clone(&candidate.grants));
    off_thread(move || {
        let rows = plane.recorded_traffic().map_err(Trouble::fault)?;
        let replay = access::replay(rows, &next).map_err(Trouble::Fleet)?;
        let today = day_of(clock::now());
        let days = (replay.first_day).map_or(0, |day| today.saturating_sub(day) + 1);
        let examples = examples(&plane.trust().registry(), &replay);
        Ok(Replayed {
            days: days.min(DAYS),
            replay,
            examples,
        })
    })
    .await?
}

/// For each line a few devices that are of its kind now.
fn examples(registry: &Registry, replay: &Replay) -> Vec<Vec<String>> {
    let mut by_kind: BTreeMap<Kind, Vec<String>> = (replay.lines.iter())
        .map(|line| (line.kind.clone(), Vec::new()))
        .collect();
    if by_kind.keys().any(|kind| kind.service.is_none()) {
        let now = clock::now();
        for device in registry.devices() {
            let facts = Facts {
                assurance: registry.assurance(&device.device, now),
                principal: Principal::Device(device.device.clone()),
                product: Some(device.product.clone()),
                groups: device.groups.to_vec(),
                attributes: Arc::default(),
                containment: None,
            };
            if let Some(known) = by_kind.get_mut(&Kind::of(&facts))
                && known.len() < access::EXAMPLES_MAX
            {
                known.push(device.device.to_string());
            }
        }
    }
    let lines = replay.lines.iter();
    lines
        .map(|line| by_kind.get(&line.kind).cloned().unwrap_or_default())
        .collect()
}

/// How a change of a thing is marked.
pub const fn sign(how: How) -> char {
    match how {
        How::Added => '+',
        How::Changed => '~',
        How::Removed => '-',
    }
}

/// No two known devices may own the same topics.
///
/// # Errors
/// Which channel, and which devices.
pub fn check_slots(plane: &Plane, fleet: &FleetInForce) -> Result<(), Trouble> {
    let shared = shared_topics(&plane.trust().registry(), fleet, &[]);
    let Some((channel, one, other)) = shared.first() else {
        return Ok(());
    };
    let text = format!(
        "channel {channel}: {one} and {other} would own the same topics ({} such pairs or more), \
         as their attributes are equal; give them different ones, or put {{device}} into its topic",
        shared.len()
    );
    Err(Trouble::refused("topics-shared", text))
}

/// Every invariant that it declares holds, whatever devices it may have one day.
///
/// # Errors
/// Which does not, and the way through.
pub async fn check_invariants(fleet: &Arc<FleetInForce>) -> Result<(), Trouble> {
    let proving = Arc::clone(fleet);
    let proofs = off_thread(move || {
        proving
            .fleet
            .as_ref()
            .map(access::prove)
            .unwrap_or_default()
    })
    .await?;
    let broken: Vec<_> = (proofs.iter()).filter_map(access::Proof::refusal).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Trouble::Fleet(broken.into_iter().cloned().collect()))
}

/// Devices that would own the same topics of a channel, once `list` is taken in.
pub fn shared_topics(
    registry: &Registry,
    fleet: &FleetInForce,
    list: &[ExpectedDevice],
) -> Vec<(ChannelId, DeviceId, DeviceId)> {
    let Some(fleet) = &fleet.fleet else {
        return Vec::new();
    };
    if !fleet.has_attribute_slots() {
        return Vec::new();
    }
    let listed: HashSet<&DeviceId> = list.iter().map(|row| &row.device).collect();
    let known: Vec<_> = (registry.described())
        .filter(|(device, _)| !listed.contains(device))
        .collect();
    let known = known
        .iter()
        .map(|(device, attributes)| (device, *attributes));
    let new = list
        .iter()
        .map(|row| (&row.device, row.attributes.as_slice()));
    fleet.shared_topics(known.chain(new))
}

/// Grants for a population, compiled off the async threads: Cedar may take its time.
pub fn compile(
    fleet: &FleetInForce,
    population: Vec<Facts>,
    config: &GatewayConfig,
) -> Result<Grants, Trouble> {
    let grants = match &fleet.fleet {
        Some(fleet) => Grants::compile(fleet, population).map_err(Trouble::Fleet)?,
        None => Grants::none(),
    };
    Ok(grants.with_device_defender(config.device_defender))
}

fn digest(text: &str) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    Digest(digest)
}
