//! `/api/v1/audit` and `/log`: the verifiable log, its key, its bundles and its files.

use super::guard::Allowed;
use super::identity::Recorded;
use super::read::{Asked, Body, Named};
use super::{Problem, Shared, bytes};
use crate::clock;
use crate::entries;
use crate::shared::off_thread;
use crate::tasks::sequence::publish_all;
use crate::trouble::Trouble;
use audit::{Checkpoint, PublishedTree};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use store::{Change, Direction, Write};
use utoipa::{IntoParams, ToSchema};

#[derive(Serialize, ToSchema)]
pub struct Key {
    /// The log's name.
    origin: String,
    /// The key that verifies it (C2SP signed-note vkey). Keep it elsewhere.
    vkey: String,
}

/// The log's name and key.
#[utoipa::path(get, path = "/api/v1/audit/key", tag = "audit",
    responses((status = 200, body = Key), (status = 401, body = super::problem::ProblemBody)))]
pub async fn key(State(plane): State<Shared>, _: Allowed) -> Result<Json<Key>, Problem> {
    Ok(Json(Key {
        origin: plane.config.log_origin(),
        vkey: plane.log_key.to_string(),
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EntriesAsked {
    /// Index of the first entry; 0 if absent.
    from: Option<u64>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct EntryRow {
    index: u64,
    /// In the published checkpoint, so that anybody can prove it.
    proven: bool,
    time: String,
    actor: String,
    action: String,
    object: String,
    details: std::collections::BTreeMap<String, String>,
}

/// Entries of the log, oldest first.
#[utoipa::path(get, path = "/api/v1/audit/entries", tag = "audit", params(EntriesAsked),
    responses((status = 200, body = [EntryRow]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn entries(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<EntriesAsked>,
) -> Result<Json<Vec<EntryRow>>, Problem> {
    let from = asked.from.unwrap_or(0);
    let leaves = plane
        .store
        .leaves(from, asked.limit.unwrap_or(100).clamp(1, 1000))?;
    let proven_below = plane
        .store
        .last_checkpoint()?
        .map_or(0, |checkpoint| checkpoint.size);
    let rows = leaves.iter().zip(from..).map(|(leaf, index)| {
        let entry = audit::Entry::from_leaf(leaf).map_err(Trouble::fault)?;
        Ok(EntryRow {
            index,
            proven: index < proven_below,
            time: entry.time.to_string(),
            actor: entry.actor,
            action: entry.action,
            object: entry.object,
            details: entry.details,
        })
    });
    Ok(Json(rows.collect::<Result<_, Trouble>>()?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BundleAsked {
    /// Index of the first entry; 0 if absent.
    from: Option<u64>,
    /// Index after the last; the end of the published log if absent.
    to: Option<u64>,
    /// Size of a checkpoint that you kept: the bundle then proves that the log only grew from it.
    since: Option<u64>,
}

/// Entries with their proofs and the signed checkpoint: verified offline by
/// `fleetward audit verify` or by the plain Python verifier in `docs/verify`.
#[utoipa::path(get, path = "/api/v1/audit/bundle", tag = "audit", params(BundleAsked),
    responses((status = 200, content_type = "application/json", body = Object),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn bundle(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<BundleAsked>,
) -> Result<Response, Problem> {
    let made = off_thread(move || {
        let refuse = |error: &dyn std::fmt::Display| {
            Problem::new(StatusCode::CONFLICT, "bundle-refused", error.to_string())
        };
        // What was acknowledged before this was asked is in the bundle, proven.
        publish_all(&plane).map_err(|e| refuse(&e))?;
        let note = plane
            .published
            .checkpoint()
            .map_err(|e| refuse(&e))?
            .and_then(|note| String::from_utf8(note).ok())
            .ok_or_else(|| refuse(&"the log has no entry yet"))?;
        let keys = [plane.log_key.clone()];
        let size = Checkpoint::open(&note, &keys)
            .map_err(|e| refuse(&e))?
            .checkpoint
            .size;
        let mut load = |path: &str| plane.published.read(path).ok().flatten();
        let mut tree = PublishedTree::new(size, &mut load);
        let to = asked.to.unwrap_or(size);
        if to > size {
            return Err(refuse(&format_args!(
                "the log has {size} entries, not {to}"
            )));
        }
        let indices: BTreeSet<u64> = (asked.from.unwrap_or(0)..to).take(65_537).collect();
        audit::build(&note, &keys, &mut tree, &indices, asked.since).map_err(|e| refuse(&e))
    });
    let bundle = made.await??;
    Ok(bytes("application/json", bundle.into_bytes()))
}

#[derive(Serialize, ToSchema)]
pub struct Seal {
    /// Why nothing is granted; absent when all is well.
    sealed: Option<String>,
}

/// Whether granting has stopped, and why.
#[utoipa::path(get, path = "/api/v1/audit/seal", tag = "audit",
    responses((status = 200, body = Seal), (status = 401, body = super::problem::ProblemBody)))]
pub async fn seal(State(plane): State<Shared>, _: Allowed) -> Result<Json<Seal>, Problem> {
    Ok(Json(Seal {
        sealed: plane.store.sealed(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// What was found and why granting may go on: it stands in the log.
    reason: String,
}

/// Lets granting go on after an operator has looked. Recorded with its reason.
#[utoipa::path(delete, path = "/api/v1/audit/seal", tag = "audit", request_body = Unseal,
    responses((status = 200, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn unseal(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(unseal): Body<Unseal>,
) -> Result<Json<Recorded>, Problem> {
    if plane.store.sealed().is_none() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "not-sealed",
            "the plane is not sealed; nothing was changed",
        ));
    }
    let act = entries::unsealed(clock::now(), &actor, &unseal.reason);
    let change = Change::new(Direction::Neutral)
        .write(Write::Unseal)
        .entry(plane.leaf(&act)?);
    Ok(Json(plane.commit(change).await?.into()))
}

/// The published log: `checkpoint`, `tile/…` (C2SP tlog-tiles).
#[utoipa::path(get, path = "/log/{path}", tag = "audit",
    params(("path" = String, Path, description = "checkpoint, tile/<L>/<N>, tile/entries/<N>")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 401, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody)))]
pub async fn published(
    State(plane): State<Shared>,
    _: Allowed,
    Named(path): Named<String>,
) -> Result<Response, Problem> {
    let is_checkpoint = path == audit::tiles::CHECKPOINT_PATH;
    let read = off_thread(move || plane.published.read(&path).ok().flatten());
    let Some(file) = read.await? else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "the log has no such file",
        ));
    };
    let (media_type, caching) = if is_checkpoint {
        ("text/plain; charset=utf-8", "no-cache")
    } else {
        (
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        )
    };
    let mut response = bytes(media_type, file);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    Ok(response)
}
