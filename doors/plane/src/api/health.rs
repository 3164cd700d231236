//! Health, metrics and the interface itself.

use super::caller::Sent;
use super::guard::{Allowed, admit};
use super::{Caller, Problem, Shared, bytes};
use crate::plane::Plane;
use access::Action;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use gateway::Counters;
use std::fmt::Write as _;

/// The process answers. Open to everybody; says nothing else.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 204)))]
pub async fn alive() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Ready to grant and to withdraw. A stranger gets the status, an auditor the reasons.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 204), (status = 503, body = super::problem::ProblemBody)))]
pub async fn ready(
    State(plane): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let reasons = plane.unready().await;
    if reasons.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let told = admit(&plane, &caller, Sent::reading(&headers), Action::Measure).is_ok();
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "the plane is not ready",
    );
    Err(if told {
        problem.with_errors(reasons)
    } else {
        problem
    })
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, content_type = "text/plain", body = String),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn metrics(State(plane): State<Shared>, _: Allowed) -> Result<Response, Problem> {
    let mut text = String::new();
    let mut say = |name: &str, kind: &str, labels: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# TYPE fleetward_{name} {kind}\nfleetward_{name}{labels} {value}"
        );
    };
    {
        let registry = plane.trust().registry();
        say(
            "identity_devices_expected",
            "gauge",
            "",
            registry.device_count() as u64,
        );
        say(
            "identity_devices_enrolled",
            "gauge",
            "",
            registry.enrolled_count() as u64,
        );
        say(
            "identity_certificates",
            "gauge",
            "",
            registry.certificate_count() as u64,
        );
    }
    let served = plane.trust().served.get();
    let troubled = served.entries().iter().filter(|one| one.trouble.is_some());
    say(
        "identity_served_troubled",
        "gauge",
        "",
        troubled.count() as u64,
    );
    say(
        "access_fleet_version",
        "gauge",
        "",
        plane.admission.fleet.get().version,
    );
    say(
        "access_grant_classes",
        "gauge",
        "",
        plane.grants().class_count() as u64,
    );
    say("audit_entries", "counter", "", plane.store.leaf_count()?);
    let proven = plane
        .store
        .last_checkpoint()?
        .map_or(0, |checkpoint| checkpoint.size);
    say("audit_entries_proven", "counter", "", proven);
    say(
        "detection_signals_dropped_total",
        "counter",
        "",
        plane.signals.dropped(),
    );
    say_carried(&plane, &mut say);
    for report in plane.shards().reports().await {
        let shard = format!("{{shard=\"{}\"}}", report.shard);
        say(
            "gateway_connections",
            "gauge",
            &shard,
            report.connections as u64,
        );
        say(
            "gateway_handshakes_in_flight",
            "gauge",
            &shard,
            report.handshaking as u64,
        );
        say(
            "gateway_handshakes_total",
            "counter",
            &shard,
            report.handshakes_done,
        );
        say(
            "gateway_handshakes_refused_total",
            "counter",
            &shard,
            report.handshakes_refused,
        );
        for (name, value) in named(&report.counters) {
            say(&format!("gateway_{name}_total"), "counter", &shard, value);
        }
        for (channel, count) in &report.violations {
            let labels = format!("{{shard=\"{}\",channel=\"{channel}\"}}", report.shard);
            say(
                "gateway_channel_violations_total",
                "counter",
                &labels,
                *count,
            );
        }
    }
    Ok(bytes("text/plain; version=0.0.4", text.into_bytes()))
}

/// This interface, OpenAPI 3.1. Open to everybody: it is in the source.
pub async fn openapi() -> Result<Response, Problem> {
    let json = super::openapi_json().map_err(crate::trouble::Trouble::fault)?;
    Ok(bytes("application/json", json.into_bytes()))
}

/// The gateway's totals under the names of their metrics.
fn named(counters: &Counters) -> [(&'static str, u64); 36] {
    let Counters {
        connections_opened,
        connections_closed,
        sessions_opened,
        sessions_resumed,
        connects_refused,
        connects_put_off,
        takeovers,
        publishes_received,
        payload_bytes_received,
        publishes_denied,
        reports,
        rate_exceeded,
        payload_too_large,
        contract_violations,
        subscribes_denied,
        subscriptions_dropped,
        deliveries,
        redeliveries,
        deliveries_withheld,
        dropped_queue_full,
        dropped_expired,
        dropped_too_large_for_client,
        dropped_slow_consumer,
        dropped_retain,
        retained_sent,
        malformed,
        keep_alive_expired,
        consumers_stalled,
        pauses,
        wills_fired,
        wills_suppressed,
        sessions_expired,
        revoked,
        to_other_shards,
        from_other_shards,
        journal_records,
    } = *counters;
    [
        ("connections_opened", connections_opened),
        ("connections_closed", connections_closed),
        ("sessions_opened", sessions_opened),
        ("sessions_resumed", sessions_resumed),
        ("connects_refused", connects_refused),
        ("connects_put_off", connects_put_off),
        ("takeovers", takeovers),
        ("publishes_received", publishes_received),
        ("payload_bytes_received", payload_bytes_received),
        ("publishes_denied", publishes_denied),
        ("reports", reports),
        ("rate_exceeded", rate_exceeded),
        ("payload_too_large", payload_too_large),
        ("contract_violations", contract_violations),
        ("subscribes_denied", subscribes_denied),
        ("subscriptions_dropped", subscriptions_dropped),
        ("deliveries", deliveries),
        ("redeliveries", redeliveries),
        ("deliveries_withheld", deliveries_withheld),
        ("dropped_queue_full", dropped_queue_full),
        ("dropped_expired", dropped_expired),
        ("dropped_too_large_for_client", dropped_too_large_for_client),
        ("dropped_slow_consumer", dropped_slow_consumer),
        ("dropped_retain", dropped_retain),
        ("retained_sent", retained_sent),
        ("malformed", malformed),
        ("keep_alive_expired", keep_alive_expired),
        ("consumers_stalled", consumers_stalled),
        ("pauses", pauses),
        ("wills_fired", wills_fired),
        ("wills_suppressed", wills_suppressed),
        ("sessions_expired", sessions_expired),
        ("revoked", revoked),
        ("to_other_shards", to_other_shards),
        ("from_other_shards", from_other_shards),
        ("journal_records", journal_records),
    ]
}

/// What is carried for others: messages to and from another broker, states that devices report.
fn say_carried(plane: &Plane, say: &mut impl FnMut(&str, &str, &str, u64)) {
    let forwarded = plane.forwarding.standing().counts;
    for (name, value) in [
        ("gateway_forward_up_total", forwarded.up),
        (
            "gateway_forward_up_acknowledged_total",
            forwarded.up_acknowledged,
        ),
        ("gateway_forward_down_total", forwarded.down),
        ("gateway_forward_down_refused_total", forwarded.down_refused),
        (
            "gateway_reported_states_dropped_total",
            plane.twins.dropped(),
        ),
    ] {
        say(name, "counter", "", value);
    }
}
