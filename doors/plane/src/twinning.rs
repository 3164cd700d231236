//! Twins: people and services say what state a device should have; the device is told, and says what it
//! has.
//!
//! Set is durable first, then told. Told is always the newest: who sets, and who answers a device that
//! subscribed, do it one at a time.

use crate::clock;
use crate::entries::{self, Actor};
use crate::events::About;
use crate::judge::signals::Told;
use crate::plane::Plane;
use crate::shared::{Locked, OneAtATime, off_thread};
use crate::trouble::Trouble;
use gateway::twin::{self, TwinRefusal};
use model::{Attribution, DeviceId, Principal, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::{Change, Direction, Receipt, Twin, TwinWrite};
use tokio::sync::Notify;

/// Of what devices said and nobody wrote down yet.
const REPORTED_BYTES_MAX: usize = 32 * 1024 * 1024;
const ROWS_AT_ONCE: usize = 500;

/// What shards tell of twins, until their task takes it: of each device its last word.
#[derive(Default)]
pub struct Twins {
    waiting: Locked<Waiting>,
    nudge: Notify,
    /// Held from reading a twin until its device is told.
    telling: OneAtATime,
    dropped: Locked<u64>,
}

#[derive(Default)]
struct Waiting {
    /// Devices that subscribed to what they should be.
    asked: BTreeSet<DeviceId>,
    reported: BTreeMap<DeviceId, (Vec<u8>, Timestamp)>,
    bytes: usize,
}

impl Twins {
    /// Never waits: a shard says it.
    pub fn wants(&self, device: DeviceId) {
        self.waiting.lock().asked.insert(device);
        self.nudge.notify_one();
    }

    /// Never waits. What does not fit is counted, and the device's next word tells the same.
    pub fn says(&self, device: DeviceId, payload: Vec<u8>, at: Timestamp) {
        {
            let mut waiting = self.waiting.lock();
            let before = waiting.reported.get(&device).map_or(0, |(it, _)| it.len());
            let bytes = waiting.bytes - before + payload.len();
            if bytes > REPORTED_BYTES_MAX {
                *self.dropped.lock() += 1;
                return;
            }
            waiting.bytes = bytes;
            waiting.reported.insert(device, (payload, at));
        }
        self.nudge.notify_one();
    }

    /// Returns when something was told since the last time.
    pub async fn wait(&self) {
        self.nudge.notified().await;
    }

    /// Words of devices that found no room since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        *self.dropped.lock()
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock())
    }
}

/// What a device is and should be.
#[derive(Debug)]
pub struct Shown {
    pub twin: Twin,
    pub desired: Value,
    pub reported: Option<Value>,
    /// What it still has to change.
    pub delta: Value,
}

/// How it was set.
#[derive(Debug)]
pub struct Set {
    pub shown: Shown,
    pub receipt: Option<Receipt>,
    /// Sessions of the device that were told at once.
    pub told: u32,
}

/// # Errors
/// There is no such device; the disk.
pub async fn show(plane: &Arc<Plane>, device: &DeviceId) -> Result<Shown, Trouble> {
    if plane.trust().registry().device(device).is_none() {
        return Err(Trouble::device_unknown(device));
    }
    let (reading, id) = (Arc::clone(plane), device.clone());
    let found = off_thread(move || reading.store.twin(&id)).await??;
    let twin = found.unwrap_or_else(|| Twin {
        device: device.clone(),
        desired: Vec::new(),
        version: 0,
        desired_at: None,
        desired_by: None,
        reported: None,
        reported_at: None,
    });
    Ok(shown(twin))
}

/// Changes what a device should be by a merge patch, if it is at `version` still.
///
/// # Errors
/// It was set meanwhile, or would be too large; trouble of ours.
pub async fn set(
    plane: &Arc<Plane>,
    device: &DeviceId,
    patch: &Value,
    version: Option<u64>,
    actor: &Actor,
    dry_run: bool,
) -> Result<Set, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.twins.telling.begin().await;
    let before = show(plane, device).await?;
    if version.is_some_and(|version| version != before.twin.version) {
        let now = before.twin.version;
        return Err(Trouble::Stale {
            code: "version-moved",
            text: format!("the desired state of {device} is at version {now}; read it again"),
        });
    }
    if !dry_run && let Actor::Service(service) = actor {
        plane.commanding.check_reach(plane, service, device)?;
    }
    let desired = twin::patched(&before.desired, patch).map_err(refused)?;
    let at = clock::now();
    let document = desired.to_string().into_bytes();
    let mut after = before.twin;
    let version = after.version;
    after.desired.clone_from(&document);
    after.version += 1;
    after.desired_at = Some(at);
    after.desired_by = Some(actor.to_string());
    if dry_run {
        return Ok(Set {
            shown: shown(after),
            receipt: None,
            told: 0,
        });
    }
    let act = entries::desired_state_set(at, actor, device, after.version, &document);
    let change = Change::new(Direction::Grant)
        .write(TwinWrite::Desire {
            device: device.clone(),
            document,
            version,
            by: actor.to_string(),
            at,
        })
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    let shown = shown(after);
    let told = tell(plane, &shown).await;
    let change =
        json!({ "id": device.to_string(), "change": { "desired_version": shown.twin.version } });
    plane.events.tell(About::Device, &change);
    Ok(Set {
        shown,
        receipt: Some(receipt),
        told,
    })
}

/// Answers devices that subscribed, and writes down what devices said.
///
/// # Errors
/// The store's; what devices said is then lost, and their next word tells the same.
pub async fn carry(plane: &Arc<Plane>) -> Result<(), Trouble> {
    let Waiting {
        asked, reported, ..
    } = plane.twins.take();
    let mut rows = Vec::with_capacity(reported.len());
    for (device, (payload, at)) in reported {
        match twin::read(&payload) {
            Ok(document) => rows.push((device, document.to_string().into_bytes(), at)),
            Err(refusal) => refuse(plane, &device, &refusal, at),
        }
    }
    // What is written out may be longer than it was, by how numbers and letters are spelled.
    rows.retain(|(_, document, _)| document.len() <= 2 * twin::DOCUMENT_BYTES_MAX);
    for part in rows.chunks(ROWS_AT_ONCE) {
        let write = TwinWrite::Report(part.to_vec());
        plane
            .commit(Change::new(Direction::Neutral).write(write))
            .await?;
    }
    for device in asked {
        let _one_at_a_time = plane.twins.telling.begin().await;
        let Ok(shown) = show(plane, &device).await else {
            continue;
        };
        if shown.twin.version > 0 {
            tell(plane, &shown).await;
        }
    }
    Ok(())
}

/// What is not a document changes nothing, and is told to whoever watches.
fn refuse(plane: &Plane, device: &DeviceId, refusal: &TwinRefusal, at: Timestamp) {
    tracing::warn!(
        target: "devices",
        "device/{device}: refused {}: the state that it reports: {refusal} [device must act]",
        refusal.code()
    );
    plane.signals.tell(Told::denied(
        Principal::Device(device.clone()),
        Attribution::Proven,
        ("report-state", ""),
        refusal.code(),
        at,
    ));
}

async fn tell(plane: &Plane, shown: &Shown) -> u32 {
    let word = json!({
        "version": shown.twin.version,
        "desired": shown.desired,
        "delta": shown.delta,
    });
    let device = &shown.twin.device;
    let topic = access::desired_topic(device);
    let payload = word.to_string().into_bytes();
    plane.shards().tell_device(device, &topic, payload).await
}

fn shown(twin: Twin) -> Shown {
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_else(|_| json!({}));
    let desired = read(&twin.desired);
    let reported = twin.reported.as_deref().map(read);
    let delta = twin::delta(&desired, reported.as_ref().unwrap_or(&json!({})));
    Shown {
        twin,
        desired,
        reported,
        delta,
    }
}

fn refused(refusal: TwinRefusal) -> Trouble {
    Trouble::refused(refusal.code(), refusal.to_string())
}
