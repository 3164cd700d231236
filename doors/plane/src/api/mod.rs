//! HTTP, and the one mapping from our troubles to statuses. A file a room.
//!
//! The same API stands behind three doors; what differs is who the caller can be. Unknown fields,
//! methods and paths are refused.

mod access;
mod actions;
mod answers;
mod attestation;
mod audit;
mod authorities;
mod caller;
mod console;
mod detection;
mod est;
mod events;
mod gateway;
mod guard;
mod guesses;
mod health;
mod identity;
mod inventory;
mod once;
mod overview;
mod page;
mod passkeys;
mod pending;
mod people;
mod places;
mod problem;
mod proposals;
mod rates;
mod reach;
mod read;
mod response;
mod revocation;
mod root_list;
mod roots;
mod second;
mod served;
mod shapes;
mod sign_in;
mod status;
mod steps;
mod tpm;
mod watched;

pub use caller::Caller;
pub use inventory::Reached;
pub use problem::Problem;

use crate::plane::Plane;
use answers::AnswersOfAll;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use guard::Gate;
use guesses::Guesses;
use once::Once;
use places::Places;
use rates::Rates;
use std::sync::Arc;
use std::time::Duration;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;

/// Files of a fleet.
const FLEET_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A list of expected devices may be large; nothing else is.
const LIST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// But that of an existing fleet, with its fingerprints.
const IMPORT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a stranger may send: the token of a link.
const TOKEN_BYTES_MAX: usize = 1024;
/// Or what a passkey or a provider answers.
const PROOF_BYTES_MAX: usize = 32 * 1024;
/// A token of a device; what is longer is refused by its own limit.
const TOKEN_EVIDENCE_BYTES_MAX: usize = 2 * ::identity::eat::TOKEN_BYTES_MAX;
/// What is longer is refused as malformed, in OCSP's own words.
const OCSP_BYTES_MAX: usize = 2 * ::identity::ocsp::REQUEST_BYTES_MAX;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const REQUEST_SECONDS_MAX: Duration = Duration::from_secs(60);
/// A million rows on a slow disk.
const LIST_SECONDS_MAX: Duration = Duration::from_secs(600);

const SAME_OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const SAME_READER: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");

type Shared = Arc<Plane>;

/// What the API remembers of those who ask, until the plane is started again.
#[derive(Default)]
pub struct Askers {
    /// How often each of them asks.
    rates: Rates,
    /// Wrong secrets, by where they come from.
    pub guesses: Guesses,
    /// What became of acts that may be asked for again.
    once: Once,
    /// From where secrets were used, as the judge was told.
    places: Places,
}

#[cfg(test)]
impl Askers {
    /// As somebody does who asked too often for an hour: longer than a test takes.
    pub fn use_up_reads(&self, whose: &model::Subject) {
        let later = crate::clock::now().plus(Duration::from_secs(3600));
        while self.rates.take(actions::Kind::Reads, whose, later).is_ok() {}
    }
}

/// The API for people and for the local command line, and the console.
pub fn people_router(plane: &Shared) -> Router {
    let gate = Gate::new(plane);
    let guarded = gate.guarded(api()).merge(console::router());
    finish(guarded, gate.guarded(lists()), plane)
}

/// The same behind mutual TLS, and EST beside it.
pub fn devices_router(plane: &Shared) -> Router {
    let gate = Gate::new(plane);
    let guarded = gate.guarded(api().merge(tpm::router()));
    finish(guarded.merge(est::router()), gate.guarded(lists()), plane)
}

fn api() -> Router<Shared> {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(health::openapi))
        .route(
            "/api/v1/identity/manufacturers",
            get(identity::manufacturers).post(identity::add_manufacturer),
        )
        .route("/api/v1/identity/devices", get(identity::devices))
        .route("/api/v1/identity/devices/{device}", get(identity::device))
        .route(
            "/api/v1/identity/services/{service}/certificates",
            post(identity::certify_service),
        )
        .route("/api/v1/identity/pending", get(pending::list))
        .route(
            "/api/v1/identity/pending/{id}/approve",
            post(pending::approve),
        )
        .route(
            "/api/v1/identity/pending/{id}/refuse",
            post(pending::refuse),
        )
        .route(
            "/api/v1/identity/imports",
            get(identity::imports::list).post(identity::imports::import),
        )
        .route(
            "/api/v1/identity/imports/{fleet}/waiting",
            get(identity::imports::waiting),
        )
        .route(
            "/api/v1/identity/imports/{fleet}/retirement",
            post(identity::imports::retire),
        )
        .route("/api/v1/identity/served", get(served::served))
        .route(
            "/api/v1/identity/served/reload",
            post(served::reload_served),
        )
        .merge(own_cas())
        .route(
            "/api/v1/access/fleet",
            get(access::fleet)
                .put(access::apply)
                .layer(DefaultBodyLimit::max(FLEET_BYTES_MAX)),
        )
        .route(
            "/api/v1/access/plan",
            post(access::plan).layer(DefaultBodyLimit::max(FLEET_BYTES_MAX)),
        )
        .route("/api/v1/access/history", get(access::history))
        .route("/api/v1/access/history/{version}", get(access::version))
        .route("/api/v1/access/explain", post(access::explain))
        .route(
            "/api/v1/access/blast-radius/{device}",
            get(access::network::blast_radius),
        )
        .route("/api/v1/access/observed", get(access::network::observed))
        .route("/api/v1/access/segments", get(access::segments::segments))
        .route("/api/v1/access/own-rules", get(access::network::own_rules))
        .route("/api/v1/access/admin-links", post(access::admin_link))
        .merge(ways_in())
        .merge(people())
        .route("/api/v1/inventory/devices", get(inventory::devices))
        .route("/api/v1/inventory/devices/{device}", get(inventory::device))
        .route(
            "/api/v1/inventory/imports",
            post(inventory::import).layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
        )
        .route("/api/v1/inventory/export", get(inventory::export))
        .route(
            "/api/v1/inventory/findings",
            post(inventory::findings).layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
        )
        .route("/api/v1/gateway/sessions", get(gateway::sessions))
        .route("/api/v1/gateway/forward", get(gateway::forward::forward))
        .route("/api/v1/gateway/refusals", get(gateway::refusals))
        .route("/api/v1/gateway/connectivity", get(gateway::connectivity))
        .route("/api/v1/gateway/speech", get(gateway::speech))
        .route("/api/v1/gateway/tail", get(gateway::tail::tail))
        .merge(commands())
        .merge(issued())
        .merge(chips())
        .merge(claims())
        .merge(judged())
        .route("/api/v1/audit/key", get(audit::key))
        .route("/api/v1/audit/entries", get(audit::entries))
        .route("/api/v1/audit/bundle", get(audit::bundle))
        .route("/api/v1/audit/seal", get(audit::seal).delete(audit::unseal))
        .route("/log/{*path}", get(audit::published))
        .route("/status/crl/{issuer}/{count}/{file}", get(status::crl_of))
        .route(
            "/status/ocsp",
            post(status::ocsp_post).layer(DefaultBodyLimit::max(OCSP_BYTES_MAX)),
        )
        .route("/status/ocsp/{*request}", get(status::ocsp_get))
}

/// How people prove who they are: strangers ask here, so that bodies are small.
fn ways_in() -> Router<Shared> {
    Router::new()
        .route(
            "/api/v1/access/sign-in",
            get(sign_in::ways)
                .post(sign_in::sign_in)
                .layer(DefaultBodyLimit::max(TOKEN_BYTES_MAX)),
        )
        .route(
            "/api/v1/access/sign-in/challenges",
            post(sign_in::ask_passkey),
        )
        .route(
            "/api/v1/access/sign-in/passkey",
            post(sign_in::by_passkey).layer(DefaultBodyLimit::max(PROOF_BYTES_MAX)),
        )
        .route(
            "/api/v1/access/sign-in/provider",
            post(sign_in::begin_by_provider).layer(DefaultBodyLimit::max(TOKEN_BYTES_MAX)),
        )
        .route(
            "/api/v1/access/sign-in/provider/code",
            post(sign_in::by_provider).layer(DefaultBodyLimit::max(PROOF_BYTES_MAX)),
        )
        .route(
            "/api/v1/access/sign-in/provider/sign-out",
            post(sign_in::out_by_provider).layer(DefaultBodyLimit::max(PROOF_BYTES_MAX)),
        )
        .route("/api/v1/access/sign-in/refusals", get(sign_in::refusals))
        .route("/api/v1/access/sign-out", post(sign_in::sign_out))
        .route(
            "/api/v1/access/passkeys",
            get(passkeys::list)
                .post(passkeys::add)
                .layer(DefaultBodyLimit::max(PROOF_BYTES_MAX)),
        )
        .route("/api/v1/access/passkeys/challenges", post(passkeys::offer))
        .route(
            "/api/v1/access/passkeys/{passkey}",
            delete(passkeys::remove),
        )
        .route(
            "/api/v1/access/people/{person}/passkeys/{passkey}",
            delete(passkeys::remove_of),
        )
}

/// People, and the tokens of programs.
fn people() -> Router<Shared> {
    Router::new()
        .route("/api/v1/access/whoami", get(people::whoami))
        .route("/api/v1/access/people", get(people::list).post(people::add))
        .route(
            "/api/v1/access/people/{person}",
            get(people::show)
                .put(people::change)
                .delete(people::disable),
        )
        .route("/api/v1/access/people/{person}/link", post(people::link))
        .route(
            "/api/v1/access/tokens",
            get(people::tokens).post(people::make_token),
        )
        .route("/api/v1/access/proposals", get(proposals::list))
        .route("/api/v1/access/proposals/{proposal}", get(proposals::show))
        .route(
            "/api/v1/access/proposals/{proposal}/approve",
            post(proposals::approve),
        )
        .route(
            "/api/v1/access/proposals/{proposal}/refuse",
            post(proposals::refuse),
        )
        .route("/api/v1/access/break-glass", post(proposals::break_glass))
        .route(
            "/api/v1/access/tokens/{token}",
            delete(people::revoke_token),
        )
}

/// What devices are told.
fn commands() -> Router<Shared> {
    Router::new()
        .route(
            "/api/v1/gateway/commands",
            get(gateway::commands::list).post(gateway::commands::ask),
        )
        .route(
            "/api/v1/gateway/commands/{command}",
            get(gateway::commands::show),
        )
        .route(
            "/api/v1/gateway/commands/{command}/cancel",
            post(gateway::commands::cancel),
        )
        .route(
            "/api/v1/gateway/twins/{device}",
            get(gateway::twins::show).patch(gateway::twins::set),
        )
}

/// Whom a device belongs to before it is known, and after.
fn claims() -> Router<Shared> {
    Router::new()
        .route(
            "/api/v1/identity/claim-certificates",
            get(identity::claiming::list).post(identity::claiming::add),
        )
        .route(
            "/api/v1/identity/claim-certificates/{claim}/retirement",
            post(identity::claiming::retire),
        )
        .route(
            "/api/v1/identity/ownership/{device}",
            get(identity::ownership::show),
        )
        .route(
            "/api/v1/identity/ownership/{device}/claim",
            post(identity::ownership::claim),
        )
        .route(
            "/api/v1/identity/ownership/{device}/offer",
            post(identity::ownership::offer),
        )
        .route(
            "/api/v1/identity/ownership/{device}/accept",
            post(identity::ownership::accept),
        )
        .route(
            "/api/v1/identity/ownership/{device}/release",
            post(identity::ownership::release),
        )
        .route(
            "/api/v1/identity/ownership-codes",
            post(identity::ownership::make_codes).layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
        )
        .route(
            "/api/v1/identity/ownership-codes/own",
            post(identity::ownership::own_code),
        )
}

/// Our CAs: roots, issuing CAs, and what outsiders are told of them.
fn own_cas() -> Router<Shared> {
    Router::new()
        .route("/api/v1/identity/ca", get(identity::ca))
        .route(
            "/api/v1/identity/authorities",
            get(authorities::authorities).post(authorities::create_authority),
        )
        .route(
            "/api/v1/identity/authorities/{name}/rollover",
            post(authorities::roll_authority_over),
        )
        .route(
            "/api/v1/identity/authorities/{name}/import",
            post(authorities::import_authority),
        )
        .route("/api/v1/identity/crl", get(status::crl))
        .route(
            "/api/v1/identity/authorities/{name}/request",
            post(authorities::request_authority),
        )
        .route(
            "/api/v1/identity/authorities/{name}/certificate",
            post(authorities::install_authority),
        )
        .route("/api/v1/identity/roots", post(roots::announce_root))
        .route(
            "/api/v1/identity/roots/rollover",
            post(roots::roll_root_over),
        )
        .route(
            "/api/v1/identity/roots/crl",
            put(root_list::install_root_list),
        )
        .route(
            "/api/v1/identity/roots/crl/request",
            post(root_list::request_root_list),
        )
        .route("/api/v1/identity/roots/retire", post(roots::retire_root))
        .route("/api/v1/identity/roots/learned", put(roots::learned_roots))
        .route("/api/v1/identity/roots/export", post(roots::export_root))
        .route(
            "/api/v1/identity/roots/key",
            delete(roots::destroy_root_key),
        )
}

/// Lists of whole fleets, which take their time.
fn lists() -> Router<Shared> {
    Router::new()
        .route(
            "/api/v1/identity/expected-devices",
            post(identity::expect_devices).layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
        )
        .route(
            "/api/v1/identity/imports/{fleet}/devices",
            post(identity::imports::devices).layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX)),
        )
        .layer(timeout(LIST_SECONDS_MAX))
}

fn timeout(limit: Duration) -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, limit)
}

/// What was given to prove an identity by, and what of it is withdrawn.
fn issued() -> Router<Shared> {
    Router::new()
        .route(
            "/api/v1/identity/claim-tokens",
            get(identity::claims::tokens)
                .post(identity::claims::make_tokens)
                .delete(identity::claims::withdraw_tokens)
                .layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
        )
        .route(
            "/api/v1/identity/claim-tokens/{manufacturer}",
            get(identity::claims::tokens_of),
        )
        .route(
            "/api/v1/identity/certificates",
            get(identity::certificates::list),
        )
        .route(
            "/api/v1/identity/certificates/summary",
            get(identity::certificates::summary),
        )
        .route(
            "/api/v1/identity/revocations",
            get(revocation::revocations).post(revocation::revoke),
        )
        .route(
            "/api/v1/identity/revocations/list",
            post(revocation::revoke_list).layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
        )
        .route("/api/v1/identity/releases", post(revocation::release))
}

/// Which TPMs are expected, and what devices attest by them.
fn chips() -> Router<Shared> {
    Router::new()
        .route(
            "/api/v1/identity/tpm/endorsement-keys",
            get(tpm::endorsement_keys)
                .post(tpm::list_endorsement_keys)
                .delete(tpm::unlist_endorsement_keys)
                .layer(DefaultBodyLimit::max(LIST_BYTES_MAX)),
        )
        .route(
            "/api/v1/identity/tpm/vendors",
            get(tpm::tpm_vendors).post(tpm::add_tpm_vendor),
        )
        .route(
            "/api/v1/identity/attestations",
            get(attestation::evidence_wanted).post(attestation::attest),
        )
        .route(
            "/api/v1/identity/attestations/token",
            get(attestation::token_wanted)
                .post(attestation::attest_by_token)
                .layer(DefaultBodyLimit::max(TOKEN_EVIDENCE_BYTES_MAX)),
        )
}

/// What was seen, what it means and what is done about it.
fn judged() -> Router<Shared> {
    Router::new()
        .route("/api/v1/overview", get(overview::overview))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/detection/alerts", get(detection::alerts))
        .route("/api/v1/detection/baselines", get(detection::baselines))
        .route(
            "/api/v1/detection/baselines/{product}/accept",
            post(detection::accept),
        )
        .route(
            "/api/v1/detection/observations",
            post(detection::observations),
        )
        .route("/api/v1/response/incidents", get(response::incidents))
        .route(
            "/api/v1/response/incidents/{incident}",
            get(response::incident),
        )
        .route(
            "/api/v1/response/incidents/{incident}/close",
            post(response::close),
        )
        .route(
            "/api/v1/response/containments",
            get(response::containments).post(response::contain),
        )
        .route(
            "/api/v1/response/containments/{device}",
            delete(response::restore),
        )
        .route(
            "/api/v1/response/group-containments",
            get(response::groups::list).post(response::groups::contain),
        )
        .route(
            "/api/v1/response/group-containments/{act}",
            delete(response::groups::restore),
        )
        .route("/api/v1/response/playbooks", get(response::playbooks))
}

/// Largest body that an endpoint takes, where somebody reads it before the endpoint does.
fn body_bytes_max(path: &str) -> usize {
    match path {
        "/api/v1/access/fleet" | "/api/v1/access/plan" => FLEET_BYTES_MAX,
        "/api/v1/identity/claim-tokens"
        | "/api/v1/identity/expected-devices"
        | "/api/v1/identity/ownership-codes"
        | "/api/v1/identity/revocations/list"
        | "/api/v1/identity/tpm/endorsement-keys"
        | "/api/v1/inventory/imports"
        | "/api/v1/inventory/findings" => LIST_BYTES_MAX,
        "/api/v1/identity/imports/{fleet}/devices" => IMPORT_BYTES_MAX,
        _ => BODY_BYTES_MAX,
    }
}

/// `slow` has its own time.
fn finish(router: Router<Shared>, slow: Router<Shared>, plane: &Shared) -> Router {
    let set = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .layer(timeout(REQUEST_SECONDS_MAX))
        .merge(slow)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(plane),
            watched::watch,
        ))
        .layer(set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(set(header::CACHE_CONTROL, "no-store"))
        .layer(set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"))
        .layer(set(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ))
        .layer(set(header::REFERRER_POLICY, "no-referrer"))
        .layer(set(header::X_FRAME_OPTIONS, "DENY"))
        .layer(set(SAME_OPENER, "same-origin"))
        .layer(set(SAME_READER, "same-origin"))
        .layer(set(
            PERMISSIONS,
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ))
        .with_state(Arc::clone(plane))
}

async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "there is nothing at this path",
    )
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this path does not take this method; see /openapi.json",
    )
}

/// The interface as it is checked in: `doors/plane/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fleetward",
        description = "The API of one plane. Errors are problem+json with a code that stays.",
        license(name = "Apache-2.0")
    ),
    paths(
        health::alive,
        health::ready,
        health::metrics,
        identity::manufacturers,
        identity::add_manufacturer,
        identity::expect_devices,
        identity::devices,
        identity::device,
        identity::certify_service,
        pending::list,
        pending::approve,
        pending::refuse,
        identity::imports::list,
        identity::imports::import,
        identity::imports::devices,
        identity::imports::waiting,
        identity::imports::retire,
        identity::claiming::list,
        identity::claiming::add,
        identity::claiming::retire,
        identity::ownership::show,
        identity::ownership::claim,
        identity::ownership::offer,
        identity::ownership::accept,
        identity::ownership::release,
        identity::ownership::make_codes,
        identity::ownership::own_code,
        identity::certificates::list,
        identity::certificates::summary,
        identity::claims::tokens,
        identity::claims::tokens_of,
        identity::claims::make_tokens,
        identity::claims::withdraw_tokens,
        revocation::revocations,
        revocation::revoke,
        revocation::revoke_list,
        revocation::release,
        tpm::endorsement_keys,
        tpm::list_endorsement_keys,
        tpm::unlist_endorsement_keys,
        tpm::tpm_vendors,
        tpm::add_tpm_vendor,
        tpm::challenge_tpm,
        tpm::enroll_by_tpm,
        attestation::evidence_wanted,
        attestation::attest,
        attestation::token_wanted,
        attestation::attest_by_token,
        served::served,
        served::reload_served,
        identity::ca,
        authorities::authorities,
        authorities::create_authority,
        authorities::roll_authority_over,
        authorities::import_authority,
        status::crl,
        authorities::request_authority,
        authorities::install_authority,
        roots::announce_root,
        roots::roll_root_over,
        root_list::request_root_list,
        root_list::install_root_list,
        roots::retire_root,
        roots::learned_roots,
        roots::export_root,
        roots::destroy_root_key,
        access::fleet,
        access::apply,
        access::plan,
        access::history,
        access::version,
        access::explain,
        access::network::blast_radius,
        access::network::observed,
        access::network::own_rules,
        access::segments::segments,
        access::admin_link,
        sign_in::ways,
        sign_in::sign_in,
        sign_in::ask_passkey,
        sign_in::by_passkey,
        sign_in::begin_by_provider,
        sign_in::by_provider,
        sign_in::out_by_provider,
        sign_in::refusals,
        sign_in::sign_out,
        passkeys::list,
        passkeys::offer,
        passkeys::add,
        passkeys::remove,
        passkeys::remove_of,
        people::whoami,
        people::list,
        people::show,
        people::add,
        people::change,
        people::disable,
        people::link,
        people::tokens,
        people::make_token,
        people::revoke_token,
        proposals::list,
        proposals::show,
        proposals::approve,
        proposals::refuse,
        proposals::break_glass,
        inventory::devices,
        inventory::device,
        inventory::import,
        inventory::export,
        inventory::findings,
        gateway::sessions,
        gateway::forward::forward,
        gateway::refusals,
        gateway::connectivity,
        gateway::speech,
        gateway::tail::tail,
        gateway::commands::list,
        gateway::commands::ask,
        gateway::commands::show,
        gateway::commands::cancel,
        gateway::twins::show,
        gateway::twins::set,
        overview::overview,
        events::events,
        detection::alerts,
        detection::baselines,
        detection::accept,
        detection::observations,
        response::incidents,
        response::incident,
        response::close,
        response::containments,
        response::contain,
        response::restore,
        response::groups::list,
        response::groups::contain,
        response::groups::restore,
        response::playbooks,
        audit::key,
        audit::entries,
        audit::bundle,
        audit::seal,
        audit::unseal,
        audit::published,
    ),
    components(schemas(problem::ProblemBody)),
    modifiers(&NamesOfOperations, &AnswersOfAll)
)]
pub struct Interface;

/// Two rooms may have a function of one name; clients are made from operations, whose names are
/// told apart by the room.
struct NamesOfOperations;

impl utoipa::Modify for NamesOfOperations {
    fn modify(&self, interface: &mut utoipa::openapi::OpenApi) {
        for path in interface.paths.paths.values_mut() {
            let operations = [
                &mut path.get,
                &mut path.put,
                &mut path.post,
                &mut path.patch,
                &mut path.delete,
            ];
            for operation in operations.into_iter().flatten() {
                let room = operation.tags.iter().flatten().next();
                if let (Some(room), Some(name)) = (room, &operation.operation_id) {
                    operation.operation_id = Some(format!("{room}_{name}"));
                }
            }
        }
    }
}

/// The checked-in form of the interface.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Interface::openapi()).map(|text| text + "\n")
}

/// An answer of bytes with its media type.
fn bytes(media_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(axum::body::Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests;
