//! `/api/v1/identity/served`: the certificates that our doors show.

use super::guard::Allowed;
use super::identity::Recorded;
use super::{Problem, Shared};
use crate::served::{self, Entry};
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// One certificate with the place it has.
#[derive(Serialize, ToSchema)]
pub struct ServedCertificate {
    /// `own`, `imported` or `acme`.
    source: String,
    /// The file it was read from, or the directory of its CA.
    from: Option<String>,
    /// Names it is shown for.
    names: Vec<String>,
    /// `people`, `devices`, `mqtt`.
    doors: Vec<String>,
    /// Also shown to clients that ask for no name.
    default: bool,
    /// The leaf first; empty while there is none yet.
    chain: Vec<ShownCertificate>,
    /// When the first certificate of the chain ends.
    ends_at: Option<String>,
    /// When its successor is asked for; absent for what is imported.
    renews_at: Option<String>,
    /// Why its successor is not in force.
    trouble: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct ShownCertificate {
    subject: String,
    sha256: String,
    not_before: String,
    not_after: String,
}

impl From<&Entry> for ServedCertificate {
    fn from(entry: &Entry) -> Self {
        let shown = entry.shown.as_deref();
        let chain = shown.map_or(&[][..], |shown| shown.chain.certificates());
        Self {
            source: entry.source.name().to_owned(),
            from: entry.source.from(),
            names: entry.names().to_vec(),
            doors: (entry.doors.iter())
                .map(|door| door.name().to_owned())
                .collect(),
            default: entry.is_default,
            chain: (chain.iter())
                .map(|one| ShownCertificate {
                    subject: one.subject.clone(),
                    sha256: one.sha256.to_string(),
                    not_before: one.not_before.to_string(),
                    not_after: one.not_after.to_string(),
                })
                .collect(),
            ends_at: shown.map(|shown| shown.chain.not_after().to_string()),
            renews_at: entry.renews_at.map(|at| at.to_string()),
            trouble: entry.trouble.clone(),
        }
    }
}

/// What our doors show, in the order of the configuration, our own last.
#[utoipa::path(get, path = "/api/v1/identity/served", tag = "identity",
    responses((status = 200, body = [ServedCertificate]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn served(
    State(plane): State<Shared>,
    _: Allowed,
) -> Result<Json<Vec<ServedCertificate>>, Problem> {
    let served = plane.trust().served.get();
    Ok(Json(served.entries().iter().map(Into::into).collect()))
}

#[derive(Serialize, ToSchema)]
pub struct ServedReloaded {
    /// Absent: every file holds what is shown already.
    recorded: Option<Recorded>,
}

/// Reads the files of imported certificates again. What is good is shown from now on, also if
/// another file is not and the answer is an error.
#[utoipa::path(post, path = "/api/v1/identity/served/reload", tag = "identity",
    responses((status = 200, body = ServedReloaded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody), (status = 503, body = super::problem::ProblemBody)))]
pub async fn reload_served(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
) -> Result<Json<ServedReloaded>, Problem> {
    let done = to_its_end(async move { served::reload(&plane, &actor).await }).await?;
    if !done.errors.is_empty() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "served-not-replaced",
            "not every certificate could be replaced; the one before is still shown for each",
        )
        .with_errors(done.errors));
    }
    Ok(Json(ServedReloaded {
        recorded: done.receipt.map(Into::into),
    }))
}
