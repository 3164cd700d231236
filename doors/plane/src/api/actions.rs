//! Which action each endpoint is, and which kind of act. One line an endpoint; what has none is
//! refused.

use access::Action::{self, *};
use axum::http::Method;

/// The action of an endpoint, by the path as it is routed.
pub fn of(method: &Method, path: &str) -> Option<Action> {
    // What answers GET answers HEAD.
    let method = match method.as_str() {
        "HEAD" => "GET",
        method => method,
    };
    (ENDPOINTS.iter())
        .find(|(its_method, its_path, _)| *its_method == method && *its_path == path)
        .map(|(_, _, action)| *action)
}

/// What a call does. Calls of each kind are paced by themselves, so that whoever reads much can still
/// cut a device off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Reads,
    Acts,
    /// Takes something away from somebody, which does not wait.
    Withdraws,
}

pub fn kind_of(method: &Method, path: &str, action: Action) -> Kind {
    if method.is_safe() {
        return Kind::Reads;
    }
    match action {
        // They are asked by POST, as the question is long.
        AccessRead | AccessPlan | InventoryRead | PublicRead => Kind::Reads,
        Contain | Revoke | IdentityUnlist => Kind::Withdraws,
        PeopleChange if *method == Method::DELETE => Kind::Withdraws,
        OwnAccess | ProposalsRead => Kind::Withdraws,
        Command if path.ends_with("/cancel") => Kind::Withdraws,
        _ => Kind::Acts,
    }
}

pub const ENDPOINTS: &[(&str, &str, Action)] = &[
    ("GET", "/healthz", PublicRead),
    ("GET", "/readyz", PublicRead),
    ("GET", "/metrics", Measure),
    ("GET", "/openapi.json", PublicRead),
    ("POST", "/api/v1/access/admin-links", AdminLink),
    ("GET", "/api/v1/access/blast-radius/{device}", AccessRead),
    ("POST", "/api/v1/access/explain", AccessRead),
    ("GET", "/api/v1/access/fleet", AccessRead),
    ("PUT", "/api/v1/access/fleet", AccessApply),
    ("GET", "/api/v1/access/history", AccessRead),
    ("GET", "/api/v1/access/history/{version}", AccessRead),
    ("GET", "/api/v1/access/observed", AccessRead),
    ("GET", "/api/v1/access/own-rules", DeviceTell),
    ("GET", "/api/v1/access/passkeys", OwnAccess),
    ("POST", "/api/v1/access/passkeys", OwnPasskeys),
    ("POST", "/api/v1/access/passkeys/challenges", OwnPasskeys),
    ("DELETE", "/api/v1/access/passkeys/{passkey}", OwnPasskeys),
    ("GET", "/api/v1/access/people", PeopleRead),
    ("POST", "/api/v1/access/people", PeopleChange),
    ("GET", "/api/v1/access/people/{person}", PeopleRead),
    ("PUT", "/api/v1/access/people/{person}", PeopleChange),
    ("DELETE", "/api/v1/access/people/{person}", PeopleChange),
    ("POST", "/api/v1/access/people/{person}/link", PeopleChange),
    (
        "DELETE",
        "/api/v1/access/people/{person}/passkeys/{passkey}",
        PeopleChange,
    ),
    ("POST", "/api/v1/access/plan", AccessPlan),
    ("GET", "/api/v1/access/segments", AccessRead),
    ("GET", "/api/v1/access/sign-in", SignIn),
    ("POST", "/api/v1/access/sign-in", SignIn),
    ("POST", "/api/v1/access/sign-in/challenges", SignIn),
    ("POST", "/api/v1/access/sign-in/passkey", SignIn),
    ("POST", "/api/v1/access/sign-in/provider", SignIn),
    ("POST", "/api/v1/access/sign-in/provider/code", SignIn),
    ("POST", "/api/v1/access/sign-in/provider/sign-out", SignIn),
    ("GET", "/api/v1/access/sign-in/refusals", PeopleRead),
    ("POST", "/api/v1/access/sign-out", OwnAccess),
    ("POST", "/api/v1/access/break-glass", BreakGlass),
    ("GET", "/api/v1/access/proposals", ProposalsRead),
    ("GET", "/api/v1/access/proposals/{proposal}", ProposalsRead),
    (
        "POST",
        "/api/v1/access/proposals/{proposal}/approve",
        ProposalDecide,
    ),
    (
        "POST",
        "/api/v1/access/proposals/{proposal}/refuse",
        ProposalsRead,
    ),
    ("GET", "/api/v1/access/tokens", PeopleRead),
    ("POST", "/api/v1/access/tokens", PeopleChange),
    ("DELETE", "/api/v1/access/tokens/{token}", PeopleChange),
    ("GET", "/api/v1/access/whoami", OwnAccess),
    ("GET", "/api/v1/audit/bundle", AuditRead),
    ("GET", "/api/v1/audit/entries", AuditRead),
    ("GET", "/api/v1/audit/key", AuditRead),
    ("DELETE", "/api/v1/audit/seal", Unseal),
    ("GET", "/api/v1/audit/seal", AuditRead),
    ("GET", "/api/v1/detection/alerts", DetectionRead),
    ("GET", "/api/v1/detection/baselines", DetectionRead),
    (
        "POST",
        "/api/v1/detection/baselines/{product}/accept",
        BaselineAccept,
    ),
    ("POST", "/api/v1/detection/observations", Observe),
    ("GET", "/api/v1/events", InventoryRead),
    ("GET", "/api/v1/gateway/commands", CommandRead),
    ("POST", "/api/v1/gateway/commands", Command),
    ("GET", "/api/v1/gateway/commands/{command}", CommandRead),
    ("POST", "/api/v1/gateway/commands/{command}/cancel", Command),
    ("GET", "/api/v1/gateway/connectivity", InventoryRead),
    ("GET", "/api/v1/gateway/forward", InventoryRead),
    ("GET", "/api/v1/gateway/refusals", InventoryRead),
    ("GET", "/api/v1/gateway/sessions", InventoryRead),
    ("GET", "/api/v1/gateway/speech", InventoryRead),
    ("GET", "/api/v1/gateway/tail", InventoryRead),
    ("GET", "/api/v1/gateway/twins/{device}", CommandRead),
    ("PATCH", "/api/v1/gateway/twins/{device}", Command),
    ("GET", "/api/v1/identity/attestations", DeviceTell),
    ("POST", "/api/v1/identity/attestations", DeviceTell),
    ("GET", "/api/v1/identity/attestations/token", DeviceTell),
    ("POST", "/api/v1/identity/attestations/token", DeviceTell),
    ("GET", "/api/v1/identity/authorities", IdentityRead),
    ("POST", "/api/v1/identity/authorities", CaPrepare),
    (
        "POST",
        "/api/v1/identity/authorities/{name}/certificate",
        CaPrepare,
    ),
    (
        "POST",
        "/api/v1/identity/authorities/{name}/import",
        CaPrepare,
    ),
    (
        "POST",
        "/api/v1/identity/authorities/{name}/request",
        CaPrepare,
    ),
    (
        "POST",
        "/api/v1/identity/authorities/{name}/rollover",
        CaChange,
    ),
    ("GET", "/api/v1/identity/ca", PublicRead),
    ("GET", "/api/v1/identity/certificates", IdentityRead),
    ("GET", "/api/v1/identity/certificates/summary", IdentityRead),
    ("GET", "/api/v1/identity/claim-certificates", IdentityRead),
    ("POST", "/api/v1/identity/claim-certificates", IdentityTrust),
    (
        "POST",
        "/api/v1/identity/claim-certificates/{claim}/retirement",
        IdentityUnlist,
    ),
    ("DELETE", "/api/v1/identity/claim-tokens", IdentityUnlist),
    ("GET", "/api/v1/identity/claim-tokens", IdentityRead),
    ("POST", "/api/v1/identity/claim-tokens", IdentityExpect),
    (
        "GET",
        "/api/v1/identity/claim-tokens/{manufacturer}",
        IdentityRead,
    ),
    ("GET", "/api/v1/identity/crl", PublicRead),
    ("GET", "/api/v1/identity/devices", IdentityRead),
    ("GET", "/api/v1/identity/devices/{device}", IdentityRead),
    ("POST", "/api/v1/identity/expected-devices", IdentityExpect),
    ("GET", "/api/v1/identity/imports", IdentityRead),
    ("POST", "/api/v1/identity/imports", IdentityTrust),
    (
        "POST",
        "/api/v1/identity/imports/{fleet}/devices",
        IdentityExpect,
    ),
    (
        "POST",
        "/api/v1/identity/imports/{fleet}/retirement",
        IdentityUnlist,
    ),
    (
        "GET",
        "/api/v1/identity/imports/{fleet}/waiting",
        IdentityRead,
    ),
    ("GET", "/api/v1/identity/manufacturers", IdentityRead),
    ("POST", "/api/v1/identity/manufacturers", IdentityTrust),
    ("POST", "/api/v1/identity/ownership-codes", IdentityExpect),
    ("POST", "/api/v1/identity/ownership-codes/own", DeviceTell),
    ("GET", "/api/v1/identity/ownership/{device}", Ownership),
    (
        "POST",
        "/api/v1/identity/ownership/{device}/accept",
        Ownership,
    ),
    (
        "POST",
        "/api/v1/identity/ownership/{device}/claim",
        Ownership,
    ),
    (
        "POST",
        "/api/v1/identity/ownership/{device}/offer",
        Ownership,
    ),
    (
        "POST",
        "/api/v1/identity/ownership/{device}/release",
        Ownership,
    ),
    ("GET", "/api/v1/identity/pending", IdentityRead),
    (
        "POST",
        "/api/v1/identity/pending/{id}/approve",
        IdentityDecide,
    ),
    (
        "POST",
        "/api/v1/identity/pending/{id}/refuse",
        IdentityDecide,
    ),
    ("POST", "/api/v1/identity/releases", Release),
    ("GET", "/api/v1/identity/revocations", IdentityRead),
    ("POST", "/api/v1/identity/revocations", Revoke),
    ("POST", "/api/v1/identity/revocations/list", Revoke),
    ("POST", "/api/v1/identity/roots", CaPrepare),
    ("PUT", "/api/v1/identity/roots/crl", CaPrepare),
    ("POST", "/api/v1/identity/roots/crl/request", CaPrepare),
    ("POST", "/api/v1/identity/roots/export", CaChange),
    ("DELETE", "/api/v1/identity/roots/key", CaChange),
    ("PUT", "/api/v1/identity/roots/learned", DeviceTell),
    ("POST", "/api/v1/identity/roots/retire", CaChange),
    ("POST", "/api/v1/identity/roots/rollover", CaChange),
    ("GET", "/api/v1/identity/served", IdentityRead),
    ("POST", "/api/v1/identity/served/reload", CaPrepare),
    (
        "POST",
        "/api/v1/identity/services/{service}/certificates",
        CertifyService,
    ),
    ("POST", "/api/v1/identity/tpm/challenges", DeviceEnroll),
    (
        "DELETE",
        "/api/v1/identity/tpm/endorsement-keys",
        IdentityUnlist,
    ),
    ("GET", "/api/v1/identity/tpm/endorsement-keys", IdentityRead),
    (
        "POST",
        "/api/v1/identity/tpm/endorsement-keys",
        IdentityExpect,
    ),
    ("POST", "/api/v1/identity/tpm/enrollments", DeviceEnroll),
    ("GET", "/api/v1/identity/tpm/vendors", IdentityRead),
    ("POST", "/api/v1/identity/tpm/vendors", IdentityTrust),
    ("GET", "/api/v1/inventory/devices", InventoryRead),
    ("GET", "/api/v1/inventory/devices/{device}", InventoryRead),
    ("GET", "/api/v1/inventory/export", InventoryExport),
    ("POST", "/api/v1/inventory/findings", InventoryRead),
    ("POST", "/api/v1/inventory/imports", InventoryImport),
    ("GET", "/api/v1/overview", InventoryRead),
    ("GET", "/api/v1/response/containments", ResponseRead),
    ("POST", "/api/v1/response/containments", Contain),
    ("DELETE", "/api/v1/response/containments/{device}", Restore),
    ("GET", "/api/v1/response/group-containments", ResponseRead),
    ("POST", "/api/v1/response/group-containments", Contain),
    (
        "DELETE",
        "/api/v1/response/group-containments/{act}",
        Restore,
    ),
    ("GET", "/api/v1/response/incidents", ResponseRead),
    ("GET", "/api/v1/response/incidents/{incident}", ResponseRead),
    (
        "POST",
        "/api/v1/response/incidents/{incident}/close",
        Contain,
    ),
    ("GET", "/api/v1/response/playbooks", ResponseRead),
    ("GET", "/log/{*path}", AuditRead),
    ("GET", "/status/crl/{issuer}/{count}/{file}", PublicRead),
    ("POST", "/status/ocsp", PublicRead),
    ("GET", "/status/ocsp/{*request}", PublicRead),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_away_is_paced_by_itself() {
        let mut withdraws = Vec::new();
        for (method, path, action) in ENDPOINTS {
            let method: Method = method.parse().unwrap();
            if kind_of(&method, path, *action) == Kind::Withdraws {
                withdraws.push(format!("{method} {path}"));
            }
        }
        assert_eq!(
            withdraws,
            [
                "DELETE /api/v1/access/people/{person}",
                "DELETE /api/v1/access/people/{person}/passkeys/{passkey}",
                "POST /api/v1/access/sign-out",
                "POST /api/v1/access/proposals/{proposal}/refuse",
                "DELETE /api/v1/access/tokens/{token}",
                "POST /api/v1/gateway/commands/{command}/cancel",
                "POST /api/v1/identity/claim-certificates/{claim}/retirement",
                "DELETE /api/v1/identity/claim-tokens",
                "POST /api/v1/identity/imports/{fleet}/retirement",
                "POST /api/v1/identity/revocations",
                "POST /api/v1/identity/revocations/list",
                "DELETE /api/v1/identity/tpm/endorsement-keys",
                "POST /api/v1/response/containments",
                "POST /api/v1/response/group-containments",
                "POST /api/v1/response/incidents/{incident}/close",
            ]
        );
    }
}
