//! What a playbook or a person asked the responder for, carried out by the same acts that people
//! use, in the name of who decided.

use crate::entries::Actor;
use crate::flow;
use crate::plane::Plane;
use crate::trouble::Trouble;
use crate::withdrawing::{Containing, Restoring, Revoking};
use model::{Principal, Revocable, RevocationReason};
use response::{Effect, Outcome, Token};
use std::sync::Arc;

/// Does it, and says how it ended; `None` for what is only a line of a timeline.
pub async fn act(plane: &Arc<Plane>, effect: Effect) -> Option<(Token, Outcome)> {
    match effect {
        Effect::Contain {
            token,
            device,
            containment,
            incident,
            by,
        } => {
            let what = Containing {
                device,
                containment,
                incident: Some(incident),
                reason: incident.to_string(),
            };
            let done = flow::contain(plane, &what, &Actor::named(&by)).await;
            let outcome = done.map(|done| {
                let entry = done.receipt.map(|receipt| receipt.first_leaf_index);
                let sessions = done.sessions_touched;
                (entry, format!("{sessions} session(s) felt it at once"))
            });
            Some((token, outcome_of(outcome)))
        }
        Effect::Revoke {
            token, device, by, ..
        } => {
            let what = Revocable::Principal(Principal::Device(device));
            let what = Revoking::one(what, RevocationReason::KeyCompromise);
            let done = flow::revoke(plane, &what, &Actor::named(&by)).await;
            let outcome = done.map(|done| {
                let closed = done.sessions_closed;
                let note = format!("{closed} session(s) closed at once");
                (Some(done.entry), note)
            });
            Some((token, outcome_of(outcome)))
        }
        Effect::Restore {
            token,
            device,
            incident,
            by,
        } => {
            let what = Restoring {
                device,
                incident: Some(incident),
                reason: incident.to_string(),
            };
            let done = flow::restore(plane, &what, &Actor::named(&by)).await;
            let outcome = done.map(|done| (Some(done.receipt.first_leaf_index), String::new()));
            Some((token, outcome_of(outcome)))
        }
        Effect::Notify {
            token,
            incident,
            to,
            subject,
            text,
        } => {
            let queued = plane.notify(token, incident, &to, &subject, &text).await;
            Some((token, outcome_of(queued.map(|()| (None, String::new())))))
        }
        Effect::Open(_)
        | Effect::Changed(_)
        | Effect::Step(..)
        | Effect::Held { .. }
        | Effect::Close(_) => None,
    }
}

fn outcome_of(result: Result<(Option<u64>, String), Trouble>) -> Outcome {
    match result {
        Ok((entry, note)) => Outcome::Done { entry, note },
        // It is cut off; that the disk did not take it yet stops granting and is said elsewhere.
        Err(Trouble::InForceUnrecorded(error)) => Outcome::Done {
            entry: None,
            note: format!("in force, not on record yet: {error}"),
        },
        Err(trouble) => Outcome::Failed {
            why: trouble.to_string(),
        },
    }
}
