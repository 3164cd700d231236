//! `/api/v1/identity/claim-tokens`: a first identity for devices that have no certificate.

use super::{Recorded, invalid};
use crate::api::guard::Allowed;
use crate::api::page::{Page, Rows};
use crate::api::read::{Asked, Body, Named};
use crate::api::{Problem, Shared};
use crate::certify::tokens;
use crate::clock;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use identity::claim_token::BATCH_MAX;
use model::{ManufacturerId, SerialNumber};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

const DAYS_MAX: u32 = 3650;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokens {
    /// Whose serial numbers they are.
    manufacturer: String,
    /// 1 to 100,000 of them, each on the list of expected devices.
    serials: Vec<String>,
    /// After so many days an unused token ends, 1 to 3650.
    days: u32,
}

#[derive(Serialize, ToSchema)]
pub struct Token {
    serial: String,
    /// Shown this once.
    token: String,
}

#[derive(Serialize, ToSchema)]
pub struct TokensMade {
    tokens: Vec<Token>,
    expires_at: String,
    recorded: Recorded,
}

/// Makes a claim token for each serial number; an earlier one of the same serial number ends.
#[utoipa::path(post, path = "/api/v1/identity/claim-tokens", tag = "identity",
    request_body = NewTokens, operation_id = "make_claim_tokens",
    responses((status = 201, body = TokensMade), (status = 400, body = crate::api::problem::ProblemBody),
        (status = 401, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn make_tokens(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewTokens>,
) -> Result<(StatusCode, Json<TokensMade>), Problem> {
    let manufacturer = ManufacturerId::new(&new.manufacturer).map_err(invalid)?;
    if !(1..=BATCH_MAX).contains(&new.serials.len()) {
        return Err(invalid("name 1 to 100,000 serial numbers"));
    }
    if !(1..=DAYS_MAX).contains(&new.days) {
        return Err(invalid("days is 1 to 3650"));
    }
    let mut serials = (new.serials.iter())
        .map(|serial| SerialNumber::new(serial).map_err(invalid))
        .collect::<Result<Vec<_>, _>>()?;
    serials.sort_unstable();
    serials.dedup();
    let lifetime = Duration::from_secs(u64::from(new.days) * 86_400);
    let (fresh, expires_at, receipt) =
        to_its_end(
            async move { tokens::make(&plane, &manufacturer, serials, lifetime, &actor).await },
        )
        .await?;
    let tokens = fresh.into_iter().map(|fresh| Token {
        serial: fresh.serial.to_string(),
        token: fresh.token,
    });
    let made = TokensMade {
        tokens: tokens.collect(),
        expires_at: expires_at.to_string(),
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

#[derive(Serialize, ToSchema)]
pub struct TokenCounts {
    manufacturer: String,
    unused: u64,
    used: u64,
    /// Ended without having been used.
    ended: u64,
}

/// How many claim tokens there are, by manufacturer.
#[utoipa::path(get, path = "/api/v1/identity/claim-tokens", tag = "identity",
    operation_id = "claim_tokens", params(Page), responses((status = 200, body = [TokenCounts]), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn tokens(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<Page>,
) -> Result<Rows<TokenCounts>, Problem> {
    let now = clock::now();
    let mut all: std::collections::BTreeMap<ManufacturerId, TokenCounts> = Default::default();
    plane.store.for_each_claim_token(|row| {
        let counts = all.entry(row.manufacturer.clone()).or_insert(TokenCounts {
            manufacturer: row.manufacturer.to_string(),
            unused: 0,
            used: 0,
            ended: 0,
        });
        match row.used {
            Some(_) => counts.used += 1,
            None if row.expires_at <= now => counts.ended += 1,
            None => counts.unused += 1,
        }
    })?;
    page.cut(all.into_values().collect(), |row: &TokenCounts| {
        row.manufacturer.clone()
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenPage {
    /// Begin after this serial number.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

/// A claim token without its secret, which nobody has but the one it was given to.
#[derive(Serialize, ToSchema)]
pub struct KnownToken {
    serial: String,
    /// `unused`, `used` or `ended`.
    state: &'static str,
    made_at: String,
    expires_at: String,
    used_at: Option<String>,
    /// What it was used for.
    certificate: Option<String>,
}

/// Claim tokens of a manufacturer's devices, by serial number.
#[utoipa::path(get, path = "/api/v1/identity/claim-tokens/{manufacturer}", tag = "identity",
    params(("manufacturer" = String, Path, description = "its name"), TokenPage),
    operation_id = "claim_tokens_of",
    responses((status = 200, body = [KnownToken]), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn tokens_of(
    State(plane): State<Shared>,
    _: Allowed,
    Named(manufacturer): Named<String>,
    Asked(page): Asked<TokenPage>,
) -> Result<Json<Vec<KnownToken>>, Problem> {
    let manufacturer = ManufacturerId::new(&manufacturer).map_err(invalid)?;
    let after = (page.after.as_deref().map(SerialNumber::new))
        .transpose()
        .map_err(invalid)?;
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let now = clock::now();
    let rows = plane
        .store
        .claim_tokens(&manufacturer, after.as_ref(), limit)?;
    let shown = rows.into_iter().map(|row| KnownToken {
        serial: row.serial.to_string(),
        state: match row.used {
            Some(_) => "used",
            None if row.expires_at <= now => "ended",
            None => "unused",
        },
        made_at: row.made_at.to_string(),
        expires_at: row.expires_at.to_string(),
        used_at: row.used.as_ref().map(|used| used.at.to_string()),
        certificate: row.used.map(|used| used.certificate.to_string()),
    });
    Ok(Json(shown.collect()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichTokens {
    manufacturer: String,
    /// Of this serial number; all unused ones of the manufacturer if absent.
    serial: Option<String>,
}

/// Unused claim tokens open nothing any more.
#[utoipa::path(delete, path = "/api/v1/identity/claim-tokens", tag = "identity",
    params(WhichTokens), operation_id = "withdraw_claim_tokens",
    responses((status = 200, body = Recorded), (status = 401, body = crate::api::problem::ProblemBody),
        (status = 503, body = crate::api::problem::ProblemBody)))]
pub async fn withdraw_tokens(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Asked(which): Asked<WhichTokens>,
) -> Result<Json<Recorded>, Problem> {
    let manufacturer = ManufacturerId::new(&which.manufacturer).map_err(invalid)?;
    let serial = (which.serial.as_deref())
        .map(|serial| SerialNumber::new(serial).map_err(invalid))
        .transpose()?;
    let receipt = to_its_end(async move {
        tokens::withdraw(&plane, &manufacturer, serial.as_ref(), &actor).await
    })
    .await?;
    Ok(Json(receipt.into()))
}
