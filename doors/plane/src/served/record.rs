//! What the log says of what our doors show: each chain that is shown from now on, and each that
//! is no longer. Our own is told of when it is made.

use super::{Entry, Served, Source};
use crate::entries::{self, Actor};
use crate::plane::{Plane, leaf};
use crate::trouble::Trouble;
use model::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Change, Direction, Store, Write};

/// What was shown when this was written last.
const SHOWN: &str = "identity.served";

/// A shown chain as the log names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub leaf_sha256: String,
    pub source: String,
    pub names: Vec<String>,
    pub doors: Vec<String>,
    pub default: bool,
    pub not_after: String,
}

/// Records what differs from the last run. Neutral: a sealed plane must show something to whoever
/// comes to unseal it.
pub fn at_start(
    store: &Store,
    tenant: &TenantId,
    served: &Served,
    now: Timestamp,
) -> anyhow::Result<()> {
    let before: Vec<Told> = match store.meta(SHOWN)? {
        Some(json) => serde_json::from_slice(&json)?,
        None => Vec::new(),
    };
    let change = difference(
        Direction::Neutral,
        tenant,
        &before,
        served,
        now,
        &Actor::Plane,
    )
    .map_err(|trouble| anyhow::anyhow!("{trouble}"))?;
    if let Some(change) = change {
        store.commit(change)?;
    }
    Ok(())
}

/// The change that must be durable before `next` is shown; `None` if it shows the same.
pub fn change(
    plane: &Plane,
    before: &Served,
    next: &Served,
    actor: &Actor,
) -> Result<Option<Change>, Trouble> {
    let now = crate::clock::now();
    let tenant = plane.realm().tenant();
    difference(Direction::Grant, tenant, &told(before), next, now, actor)
}

fn difference(
    direction: Direction,
    tenant: &TenantId,
    before: &[Told],
    next: &Served,
    now: Timestamp,
    actor: &Actor,
) -> Result<Option<Change>, Trouble> {
    let after = told(next);
    if before == after {
        return Ok(None);
    }
    let mut change = Change::new(direction).write(Write::PutMeta {
        key: SHOWN.into(),
        value: serde_json::to_vec(&after).map_err(Trouble::fault)?,
    });
    for one in after.iter().filter(|one| !before.contains(one)) {
        let act = entries::certificate_shown(now, actor, one);
        change = change.entry(leaf(tenant.clone(), &act)?);
    }
    for one in before.iter().filter(|one| !after.contains(one)) {
        let act = entries::certificate_no_longer_shown(now, actor, one);
        change = change.entry(leaf(tenant.clone(), &act)?);
    }
    Ok(Some(change))
}

fn told(served: &Served) -> Vec<Told> {
    let others = served
        .entries()
        .iter()
        .filter(|one| one.source != Source::Own);
    others.filter_map(told_of).collect()
}

fn told_of(entry: &Entry) -> Option<Told> {
    let shown = entry.shown.as_ref()?;
    Some(Told {
        leaf_sha256: shown.chain.leaf().to_string(),
        source: entry.source.name().to_owned(),
        names: shown.names.clone(),
        doors: entry
            .doors
            .iter()
            .map(|door| door.name().to_owned())
            .collect(),
        default: entry.is_default,
        not_after: shown.chain.not_after().to_string(),
    })
}
