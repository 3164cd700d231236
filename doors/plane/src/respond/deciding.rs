//! What a person decides: done at once, then told to the incident it belongs to, so that the
//! timeline is whole and playbooks keep off.

use crate::clock;
use crate::entries::Actor;
use crate::flow;
use crate::plane::Plane;
use crate::trouble::Trouble;
use crate::withdrawing::{
    Containing, ContainmentReceipt, RestoreReceipt, Restoring, RevocationReceipt, Revoking,
};
use model::{IncidentId, Principal, ProductId, Revocable, Subject};
use response::{Decision, Outcome, PersonAct};
use std::sync::Arc;
use store::{Change, Direction, Write};

/// Cuts a device off.
///
/// # Errors
/// As [`flow::contain`].
pub async fn contain(
    plane: &Arc<Plane>,
    what: Containing,
    actor: &Actor,
) -> Result<ContainmentReceipt, Trouble> {
    let done = flow::contain(plane, &what, actor).await;
    let decision = Decision::Contain {
        device: what.device.clone(),
        containment: what.containment,
    };
    let outcome = match &done {
        Ok(done) => Ok((
            done.receipt.map(|receipt| receipt.first_leaf_index),
            format!("{} session(s) felt it at once", done.sessions_touched),
        )),
        Err(trouble) => Err(trouble),
    };
    tell(plane, actor, what.reason, decision, outcome).await;
    done
}

/// Gives a device back what it was cut off from.
///
/// # Errors
/// As [`flow::restore`].
pub async fn restore(
    plane: &Arc<Plane>,
    what: Restoring,
    actor: &Actor,
) -> Result<RestoreReceipt, Trouble> {
    let done = flow::restore(plane, &what, actor).await?;
    let decision = Decision::Restore {
        device: what.device,
    };
    let entry = Some(done.receipt.first_leaf_index);
    tell(
        plane,
        actor,
        what.reason,
        decision,
        Ok((entry, String::new())),
    )
    .await;
    Ok(done)
}

/// Withdraws an identity. It is told to the incident that is open about the device; to withdraw
/// what is lost or scrapped is no incident.
///
/// # Errors
/// As [`flow::revoke`].
pub async fn revoke(
    plane: &Arc<Plane>,
    what: &Revoking,
    actor: &Actor,
) -> Result<RevocationReceipt, Trouble> {
    let done = flow::revoke(plane, what, actor).await;
    let devices = what.what.iter().filter_map(|one| match one {
        Revocable::Principal(Principal::Device(device)) => Some(device),
        _ => None,
    });
    for device in devices {
        let subject = Subject::Device(device.clone());
        if (plane.judgement.lock()).open_incident(&subject).is_none() {
            continue;
        }
        let outcome = match &done {
            Ok(done) => Ok((
                Some(done.entry),
                format!("{} session(s) closed at once", done.sessions_closed),
            )),
            Err(trouble) => Err(trouble),
        };
        let decision = Decision::Revoke {
            device: device.clone(),
        };
        let reason = what.reason.name().to_owned();
        tell(plane, actor, reason, decision, outcome).await;
    }
    done
}

/// Ends an incident.
///
/// # Errors
/// It is not open.
pub async fn close(
    plane: &Arc<Plane>,
    incident: IncidentId,
    reason: String,
    actor: &Actor,
) -> Result<(), Trouble> {
    plane.granting_allowed()?;
    let act = PersonAct {
        actor: actor.to_string(),
        reason,
        decision: Decision::Close { incident },
        outcome: None,
    };
    flow::decided(plane, &act).await
}

/// A person takes what was proposed as normal: on record first, as playbooks may act on it then.
/// How many entries became normal.
///
/// # Errors
/// The product has no baseline; trouble of ours.
pub async fn accept_baseline(
    plane: &Arc<Plane>,
    product: &ProductId,
    actor: &Actor,
) -> Result<(usize, store::Receipt), Trouble> {
    let _one_at_a_time = plane.judging.begin().await;
    let is_known = (plane.judgement.lock().detector.baselines().iter())
        .any(|baseline| baseline.product == *product);
    if !is_known {
        return Err(Trouble::refused(
            "baseline-unknown",
            format!("nothing is known of how {product} devices behave; nothing was accepted"),
        ));
    }
    let at = clock::now();
    let entry = plane.leaf(&crate::entries::baseline_accepted(at, actor, product))?;
    let change = Change::new(Direction::Grant)
        .write(Write::PutMeta {
            key: accepted_key(product),
            value: actor.to_string().into_bytes(),
        })
        .entry(entry);
    let receipt = plane.commit(change).await?;
    let count = plane.judgement.lock().detector.accept(product, at);
    plane.keep_baselines().await?;
    Ok((count.unwrap_or_default(), receipt))
}

fn accepted_key(product: &ProductId) -> String {
    format!("detection.accepted-by/{product}")
}

impl Plane {
    /// Who accepted the baseline of a product last, as in the log.
    ///
    /// # Errors
    /// The disk.
    pub fn accepted_by(&self, product: &ProductId) -> Result<Option<String>, store::ReadError> {
        let stored = self.store.meta(&accepted_key(product))?;
        Ok(stored.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

pub(super) async fn tell(
    plane: &Arc<Plane>,
    actor: &Actor,
    reason: String,
    decision: Decision,
    outcome: Result<(Option<u64>, String), &Trouble>,
) {
    let outcome = match outcome {
        Ok((entry, note)) => Outcome::Done { entry, note },
        // It is in force, which is what the timeline is about.
        Err(Trouble::InForceUnrecorded(error)) => Outcome::Done {
            entry: None,
            note: format!("in force, not on record yet: {error}"),
        },
        Err(trouble) => Outcome::Failed {
            why: trouble.to_string(),
        },
    };
    let act = PersonAct {
        actor: actor.to_string(),
        reason,
        decision,
        outcome: Some(outcome),
    };
    // The act itself is done; only an incident that is to be closed can be unknown.
    let _ = flow::decided(plane, &act).await;
}
