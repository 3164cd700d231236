//! What a fleet would change, and its grants: compiled, not in force.

use crate::fleet::FleetInForce;
use crate::plane::Plane;
use crate::trouble::Trouble;
use access::{Facts, Grants, SourceFile};
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
    pub changes: Vec<String>,
}

/// Compiles a fleet and compares its names with those in force; changes nothing.
///
/// # Errors
/// Diagnostics with file and line.
pub async fn plan(plane: &Arc<Plane>, files: &[SourceFile]) -> Result<Plan, Trouble> {
    let before = plane.admission.fleet.get();
    let next = Arc::new(FleetInForce::read(before.version + 1, files)?);
    next.check_authorities(&plane.tree())?;
    let grants = plane.compile(&next).await?;
    let (old, new) = (before.names(), next.names());
    let mut changes: Vec<String> = old
        .difference(&new)
        .map(|name| format!("- {name}"))
        .collect();
    changes.extend(new.difference(&old).map(|name| format!("+ {name}")));
    Ok(Plan {
        version: next.version,
        unchanged: before.digest() == next.digest(),
        grant_classes: grants.class_count(),
        changes,
    })
}

/// Grants for a population, compiled off the async threads: Cedar may take its time.
pub fn compile(fleet: &FleetInForce, population: Vec<Facts>) -> Result<Grants, Trouble> {
    match &fleet.fleet {
        Some(fleet) => Grants::compile(fleet, population).map_err(Trouble::Fleet),
        None => Ok(Grants::none()),
    }
}
