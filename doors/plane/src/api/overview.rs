//! `GET /api/v1/overview`: the state in one sentence, with its causes.

use super::guard::Allowed;
use super::{Problem, Shared};
use crate::certify::authorities;
use crate::clock;
use axum::Json;
use axum::extract::State;
use detection::AlertState;
use model::Severity;
use serde::Serialize;
use utoipa::ToSchema;

/// Causes that are named; the rest is counted in the sentence.
const CAUSES_MAX: usize = 8;

#[derive(Serialize, ToSchema)]
pub struct Overview {
    /// How it stands, for a person.
    sentence: String,
    /// `calm`, `attention` (somebody should look), `incident` (somebody must).
    level: &'static str,
    /// Why it is not calm, the gravest first.
    causes: Vec<Cause>,
    /// What somebody should change about the plane itself in quiet times.
    findings: Vec<String>,
    devices: Devices,
    incidents_open: usize,
    alerts_open: usize,
    /// Devices that wait for a person before they get a certificate.
    pending: usize,
    /// 0: none was applied yet.
    fleet_version: u64,
    log: Log,
    plane: PlaneState,
    /// It runs a demo: devices and attack are made up.
    simulated: bool,
}

#[derive(Serialize, ToSchema)]
pub struct Cause {
    text: String,
    /// A path of the console: `/incidents/INC-7`.
    link: String,
}

#[derive(Serialize, ToSchema)]
pub struct Devices {
    /// Expected or enrolled.
    total: u64,
    enrolled: usize,
    connected: u64,
    contained: u64,
    revoked: u64,
    /// Enrolled, should report, and have not for long.
    silent: u64,
    /// With a certificate that others have as well, and none of their own.
    sharing: u64,
}

#[derive(Serialize, ToSchema)]
pub struct Log {
    size: u64,
    checkpoint_at: Option<String>,
    origin: String,
}

#[derive(Serialize, ToSchema)]
pub struct PlaneState {
    version: &'static str,
    ready: bool,
    reasons: Vec<String>,
}

/// How it stands, in one sentence with its causes.
#[utoipa::path(get, path = "/api/v1/overview", tag = "overview",
    responses((status = 200, body = Overview), (status = 401, body = super::problem::ProblemBody)))]
pub async fn overview(State(plane): State<Shared>, _: Allowed) -> Result<Json<Overview>, Problem> {
    let reasons = plane.unready().await;
    let log = Log {
        size: plane.store.leaf_count()?,
        checkpoint_at: (*plane.checkpoint_at.lock()).map(|at| at.to_string()),
        origin: plane.config.log_origin(),
    };
    let devices = devices(&plane);
    let mut findings = authorities::findings(&plane);
    if devices.sharing > 0 {
        findings.push(format!(
            "{} whoever has it can be any of them. Give each a claim token: fleetward identity token \
             (posture shared in the inventory)",
            match devices.sharing {
                1 => "1 device has a certificate that is other devices' as well;".to_owned(),
                n => format!("{n} devices share certificates with others;"),
            }
        ));
    }
    let (incidents, alerts_open) = at_work(&plane);
    let mut causes: Vec<Cause> = reasons
        .iter()
        .map(|reason| Cause {
            text: reason.clone(),
            link: "/plane".to_owned(),
        })
        .collect();
    let is_urgent = incidents.iter().any(|one| one.urgent);
    let incidents_open = incidents.len();
    causes.extend(incidents.into_iter().map(|one| one.cause));
    if alerts_open > 0 && incidents_open == 0 {
        causes.push(Cause {
            text: counted(alerts_open, "alert is open", "alerts are open"),
            link: "/alerts".to_owned(),
        });
    }
    let level = if is_urgent {
        "incident"
    } else if causes.is_empty() {
        "calm"
    } else {
        "attention"
    };
    let sentence = sentence(&devices, incidents_open, alerts_open, &reasons);
    causes.truncate(CAUSES_MAX);
    Ok(Json(Overview {
        sentence,
        level,
        causes,
        findings,
        devices,
        incidents_open,
        alerts_open,
        pending: plane.pending.lock().waiting_count(clock::now()),
        fleet_version: plane.admission.fleet.get().version,
        log,
        plane: PlaneState {
            version: env!("CARGO_PKG_VERSION"),
            ready: reasons.is_empty(),
            reasons,
        },
        simulated: plane.config.simulated,
    }))
}

struct AtWork {
    cause: Cause,
    /// Not cut off yet, or grave.
    urgent: bool,
}

/// Open incidents, those that somebody must look at first; and the number of open alerts.
fn at_work(plane: &Shared) -> (Vec<AtWork>, usize) {
    let judgement = plane.judgement.lock();
    let mut open: Vec<&response::Incident> = (judgement.responder.incidents())
        .filter(|incident| incident.is_open())
        .collect();
    open.sort_by_key(|one| {
        let is_loose = one.containment.is_none() && !one.revoked;
        std::cmp::Reverse((is_loose, one.severity, one.opened_at))
    });
    let incidents = open.into_iter().map(|one| {
        let is_loose = one.containment.is_none() && !one.revoked;
        let state = match one.containment {
            _ if one.revoked => "its identity is revoked",
            Some(containment) => containment.name(),
            None => "not cut off",
        };
        AtWork {
            cause: Cause {
                text: format!("{}: {} ({state})", one.id, one.title()),
                link: format!("/incidents/{}", one.id),
            },
            urgent: is_loose || one.severity >= Severity::High,
        }
    });
    let incidents = incidents.collect();
    let alerts = judgement.alerts.iter();
    let alerts_open = alerts
        .filter(|alert| alert.state == AlertState::Open)
        .count();
    (incidents, alerts_open)
}

fn devices(plane: &Shared) -> Devices {
    let seen = plane.inventory.lock().summary(clock::now());
    let registry = plane.trust().registry();
    Devices {
        total: seen.total,
        enrolled: registry.enrolled_count(),
        connected: seen.connected,
        contained: seen.contained,
        revoked: seen.revoked,
        silent: seen.silent,
        sharing: seen.sharing,
    }
}

fn sentence(devices: &Devices, incidents: usize, alerts: usize, reasons: &[String]) -> String {
    if !reasons.is_empty() {
        return "The plane itself needs somebody: it withdraws, and may not grant.".to_owned();
    }
    let cut_off = match devices.contained {
        0 => String::new(),
        1 => ", 1 device is cut off".to_owned(),
        n => format!(", {n} devices are cut off"),
    };
    match (incidents, alerts) {
        (0, 0) if devices.total == 0 => {
            "No device is known yet: register a manufacturer and list its devices.".to_owned()
        }
        (0, 0) => format!(
            "All is calm: {}, {} connected{cut_off}.",
            counted(devices.enrolled, "device", "devices"),
            devices.connected
        ),
        (0, alerts) => format!(
            "{}, no incident{cut_off}.",
            counted(alerts, "alert is open", "alerts are open")
        ),
        (incidents, _) => format!(
            "{}{cut_off}; {} of {} are connected.",
            counted(incidents, "incident is open", "incidents are open"),
            devices.connected,
            counted(devices.enrolled, "device", "devices"),
        ),
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(contained: u64) -> Devices {
        Devices {
            total: 12,
            enrolled: 12,
            connected: 11,
            contained,
            revoked: 0,
            silent: 0,
            sharing: 0,
        }
    }

    #[test]
    fn one_sentence_says_how_it_stands() {
        let said = sentence(&devices(0), 0, 0, &[]);
        assert_eq!(said, "All is calm: 12 devices, 11 connected.");
        let said = sentence(&devices(1), 1, 4, &[]);
        let told = "1 incident is open, 1 device is cut off; 11 of 12 devices are connected.";
        assert_eq!(said, told);
        let said = sentence(&devices(0), 0, 1, &[]);
        assert_eq!(said, "1 alert is open, no incident.");
        let said = sentence(&devices(0), 1, 0, &["sealed".into()]);
        assert!(said.contains("needs somebody"), "{said}");
    }
}
