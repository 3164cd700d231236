//! From what was told to what is judged, known and shown: the judgement of a running plane.

use super::Judged;
use crate::events::About;
use crate::fleet::FleetInForce;
use crate::judge::signals::Told;
use crate::plane::Plane;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use access::{Behaviour, Fleet, TlsVersion};
use detection::{Alert, AlertId, Declared, DeclaredDestination, DeclaredFirmware};
use model::{Attribution, Source, Timestamp};
use serde_json::json;
use std::sync::Arc;
use store::{AlertRow, FactsWrite};

/// Where what was learned is kept in `facts.db`: that of groups, and of each part of the devices.
pub fn learned_keys() -> impl Iterator<Item = String> {
    let of_devices = (0..=u8::MAX).map(key_of_devices);
    std::iter::once(OF_GROUPS.to_owned()).chain(of_devices)
}

const OF_GROUPS: &str = "detection.groups";

fn key_of_devices(part: u8) -> String {
    format!("detection.devices.{part}")
}

impl Plane {
    /// Hands a batch to the machines, in order.
    #[must_use]
    pub fn judge(&self, told: &[Told], now: Timestamp) -> Judged {
        self.sight(told);
        let mut judgement = self.judgement.lock();
        let mut judged = Judged::default();
        for one in told {
            // Lent for one at a time: whoever is withdrawn meanwhile does not wait for the batch.
            let registry = self.trust().registry();
            match one {
                Told::Observation(seen) => judgement.observe(seen, &registry, &mut judged),
                Told::Report {
                    device,
                    payload,
                    at,
                } => match judgement.report(device, payload, *at, &registry, &mut judged) {
                    Ok((report, seen)) => {
                        self.sight_said(device, Some(&report.unseen), &seen, *at);
                    }
                    Err(error) => tracing::debug!("a report of {device} is refused: {error}"),
                },
                Told::DefenderReport {
                    device,
                    topic,
                    payload,
                    at,
                } => {
                    let Some(topic) = access::DefenderTopic::of(topic) else {
                        continue;
                    };
                    match judgement.defender_report(
                        device,
                        topic,
                        payload,
                        *at,
                        &registry,
                        &mut judged,
                    ) {
                        Ok(seen) => self.sight_said(device, None, &seen, *at),
                        Err(refusal) => tracing::info!(
                            target: "gateway",
                            "device/{device}: a report of its Device Defender agent is refused, \
                             {}: {refusal} [device must act]",
                            refusal.code()
                        ),
                    }
                }
                Told::Connected { .. } | Told::Disconnected { .. } | Told::Sessions { .. } => {}
            }
        }
        if judgement.next_deadline().is_some_and(|due| due <= now) {
            let registry = self.trust().registry();
            judgement.wake(now, &registry, &mut judged);
        }
        judged
    }

    /// Tells the screens of alerts.
    pub fn tell_alerts(&self, alerts: &[AlertId]) {
        for id in alerts {
            let told = self.judgement.lock().alerts.alert(*id).map(|alert| {
                json!({
                    "id": alert.id.0,
                    "subject": alert.subject.to_string(),
                    "kind": alert.kind.name(),
                    "entity": alert.entity,
                    "severity": alert.severity.name(),
                    "state": alert.state.name(),
                })
            });
            if let Some(told) = told {
                self.events.tell(About::Alert, &told);
            }
        }
    }

    /// Writes the alerts that changed since the last time.
    pub async fn keep_alerts(self: &Arc<Self>) {
        let changed = self.judgement.lock().take_changed();
        if changed.is_empty() {
            return;
        }
        let batch: Vec<FactsWrite> = changed.iter().map(row).map(FactsWrite::Alert).collect();
        if let Err(trouble) = self.keep(batch).await {
            tracing::warn!("alerts are not kept ({trouble}); they are tried again");
            let ids = changed.iter().map(|alert| alert.id);
            self.judgement.lock().changed.extend(ids);
        }
    }

    /// Keeps what was learned of groups.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep_baselines(self: &Arc<Self>) -> Result<(), Trouble> {
        let value = self.judgement.lock().detector.snapshot_of_groups();
        let key = OF_GROUPS.to_owned();
        self.keep(vec![FactsWrite::PutBlob { key, value }]).await
    }

    /// Keeps what was learned of some parts of the devices.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep_learned(
        self: &Arc<Self>,
        parts: impl Iterator<Item = u8>,
    ) -> Result<(), Trouble> {
        let kept = parts.map(|part| FactsWrite::PutBlob {
            key: key_of_devices(part),
            // Locked for one at a time: the judge goes on meanwhile.
            value: self.judgement.lock().detector.snapshot_of_devices(part),
        });
        self.keep(kept.collect()).await
    }

    async fn keep(self: &Arc<Self>, batch: Vec<FactsWrite>) -> Result<(), Trouble> {
        let plane = Arc::clone(self);
        Ok(off_thread(move || plane.facts.write(&batch)).await??)
    }
}

impl FleetInForce {
    /// What the fleet declares of how each product behaves.
    #[must_use]
    pub fn declared(&self) -> Vec<Declared> {
        let Some(fleet) = &self.fleet else {
            return Vec::new();
        };
        (fleet.products())
            .map(|product| declared(fleet, product.id.clone(), &product.behaviour))
            .collect()
    }
}

/// One for each place it may be at; none where it is neither TCP nor UDP, which nobody observes.
fn declared_destinations(one: &access::Destination) -> Vec<DeclaredDestination> {
    let Some(protocol) = one.protocol else {
        return Vec::new();
    };
    let at = |network: Option<access::Network>| DeclaredDestination {
        name: one.id.as_str().to_owned(),
        host: one.host().map(str::to_owned),
        network: network.map(|network| (network.address(), network.prefix())),
        ports: one.ports.clone().unwrap_or_default(),
        protocol,
    };
    match one.networks().as_slice() {
        [] => vec![at(None)],
        networks => networks.iter().map(|network| at(Some(*network))).collect(),
    }
}

/// What is left out is not declared: it is learned. An empty list is declared: none is expected;
/// of firmware there is always one.
fn declared(fleet: &Fleet, product: model::ProductId, behaviour: &Behaviour) -> Declared {
    let destinations = behaviour.destinations.as_ref().map(|ids| {
        ids.iter()
            .filter_map(|id| fleet.destination(id))
            .flat_map(declared_destinations)
            .collect()
    });
    let firmware = (behaviour.firmware.iter()).map(|one| DeclaredFirmware {
        version: one.version.clone(),
        digest: Some(one.sha256),
    });
    Declared {
        product,
        destinations,
        listens: behaviour.listens.clone(),
        dns_per_minute_max: behaviour.dns_per_minute_max.map(u64::from),
        bytes_out_per_minute_max: behaviour.bytes_out_per_minute_max,
        tls_version_min: behaviour.tls_version_min.map(|version| {
            let name = match version {
                TlsVersion::Tls12 => "1.2",
                TlsVersion::Tls13 => "1.3",
            };
            name.to_owned()
        }),
        firmware: some(firmware.collect()),
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

// ---- alerts in rows ----

/// What a row has no column for.
#[derive(serde::Serialize, serde::Deserialize)]
struct Rest {
    state: String,
    group: Option<String>,
    group_size: u64,
    since: u64,
    accepted_baseline: bool,
    fleet_event: bool,
    subjects: u64,
    evidence: Vec<KeptEvidence>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct KeptEvidence {
    at: u64,
    expected: String,
    seen: String,
    source: String,
    attribution: String,
    observed_by: String,
    severity: String,
    accepted_baseline: bool,
}

fn row(alert: &Alert) -> AlertRow {
    let evidence = alert.evidence.iter().map(|one| KeptEvidence {
        at: one.at.as_millis(),
        expected: one.expected.clone(),
        seen: one.seen.clone(),
        source: one.source.name().to_owned(),
        attribution: one.attribution.name().to_owned(),
        observed_by: one.observed_by.clone(),
        severity: one.severity.name().to_owned(),
        accepted_baseline: one.accepted_baseline,
    });
    let rest = Rest {
        state: alert.state.name().to_owned(),
        group: alert.group.as_ref().map(ToString::to_string),
        group_size: alert.group_size,
        since: alert.since.as_millis(),
        accepted_baseline: alert.accepted_baseline,
        fleet_event: alert.fleet_event,
        subjects: alert.subjects,
        evidence: evidence.collect(),
    };
    AlertRow {
        id: alert.id.0,
        subject: alert.subject.clone(),
        kind: alert.kind,
        entity: alert.entity.clone(),
        severity: alert.severity,
        open: alert.state == detection::AlertState::Open,
        count: alert.count,
        first_seen: alert.first_seen,
        last_seen: alert.last_seen,
        expected: alert.expected.clone(),
        seen: alert.seen.clone(),
        source: alert.source,
        attribution: alert.attribution,
        observed_by: alert.observed_by.clone(),
        incident: None,
        // Nothing in it can fail to be written.
        evidence: serde_json::to_vec(&rest).unwrap_or_default(),
    }
}

/// The alert of a row; `None` for one that another version wrote.
#[must_use]
pub fn alert_of(row: AlertRow) -> Option<Alert> {
    let rest: Rest = serde_json::from_slice(&row.evidence).ok()?;
    let evidence = rest.evidence.into_iter().map(|one| {
        Some(detection::Evidence {
            at: Timestamp::from_millis(one.at),
            expected: one.expected,
            seen: one.seen,
            source: Source::from_name(&one.source)?,
            attribution: Attribution::from_name(&one.attribution)?,
            observed_by: one.observed_by,
            severity: model::Severity::from_name(&one.severity)?,
            accepted_baseline: one.accepted_baseline,
        })
    });
    Some(Alert {
        id: AlertId(row.id),
        subject: row.subject,
        group: match rest.group {
            Some(name) => Some(name.parse().ok()?),
            None => None,
        },
        group_size: rest.group_size,
        kind: row.kind,
        entity: row.entity,
        severity: row.severity,
        state: detection::AlertState::from_name(&rest.state)?,
        count: row.count,
        first_seen: row.first_seen,
        last_seen: row.last_seen,
        since: Timestamp::from_millis(rest.since),
        expected: row.expected,
        seen: row.seen,
        source: row.source,
        attribution: row.attribution,
        observed_by: row.observed_by,
        accepted_baseline: rest.accepted_baseline,
        evidence: evidence.collect::<Option<_>>()?,
        fleet_event: rest.fleet_event,
        subjects: rest.subjects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use detection::{AlertState, Evidence};
    use model::{DeviationKind, Severity};

    #[test]
    fn an_empty_list_is_declared_and_one_left_out_is_not() {
        let with = |behaviour: &str| {
            let file = access::SourceFile {
                path: "products/p.toml".into(),
                text: format!("[camera]\n[camera.behaviour]\n{behaviour}\n"),
            };
            let name = access::SourceFile {
                path: "fleet.toml".into(),
                text: "name = \"test\"\n".into(),
            };
            let fleet = Fleet::read(&[name, file]).unwrap();
            let product = fleet.products().next().unwrap();
            let all = declared(&fleet, product.id.clone(), &product.behaviour);
            (all.destinations, all.listens)
        };
        assert_eq!(with(""), (None, None));
        assert_eq!(with("destinations = []"), (Some(Vec::new()), None));
        assert_eq!(with("listens = []"), (None, Some(Vec::new())));
    }

    #[test]
    fn an_alert_is_read_back_from_its_row() {
        let at = Timestamp::from_millis(1_795_330_039_123);
        for (state, fleet_event) in AlertState::ALL.into_iter().zip([false, true, false, true]) {
            let alert = Alert {
                id: AlertId(7),
                subject: "device/cam-1".parse().unwrap(),
                group: Some("camera".parse().unwrap()),
                group_size: 5,
                kind: DeviationKind::UnexpectedDestination,
                entity: "203.0.113.66:4444/tcp".into(),
                severity: Severity::High,
                state,
                count: 3,
                first_seen: at,
                last_seen: at,
                since: at,
                expected: "video.example.net:443".into(),
                seen: "\u{fffd}[2J".into(),
                source: Source::Network,
                attribution: Attribution::Proven,
                observed_by: "network (bridge port)".into(),
                accepted_baseline: true,
                evidence: vec![Evidence {
                    at,
                    expected: "a".into(),
                    seen: "b".into(),
                    source: Source::Gateway,
                    attribution: Attribution::Claimed,
                    observed_by: "gateway".into(),
                    severity: Severity::Low,
                    accepted_baseline: false,
                }],
                fleet_event,
                subjects: 2,
            };
            assert_eq!(alert_of(row(&alert)), Some(alert));
        }
    }
}
