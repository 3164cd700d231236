//! What the plane says of the attack, read again and again from its API: alerts, incidents, who is
//! cut off. New lines are told; what the report needs is noted with the plane's own times.

use super::process::PlaneProcess;
use super::telling::{Telling, Voice};
use crate::client::Ask;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Everything of one device that matters to the demo. Times are milliseconds since 1970.
#[derive(Debug, Default, Clone)]
pub struct Case {
    pub incident: Option<String>,
    pub opened: Option<u64>,
    pub first_alert: Option<u64>,
    pub contained: Option<u64>,
    pub containment: Option<String>,
    pub revoked: Option<u64>,
    /// Index in the log of the revocation's entry.
    pub revocation_entry: Option<u64>,
    /// Kind → sources.
    pub kinds: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Default)]
pub struct Watch {
    cases: BTreeMap<String, Case>,
    /// Alerts told, with the source they were told with.
    alerts: BTreeSet<(String, String)>,
    /// Steps told, by incident.
    steps: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    #[serde(deserialize_with = "any_text")]
    id: String,
    subject: String,
    kind: String,
    first_seen: String,
    expected: String,
    seen: String,
    source: String,
    attribution: String,
    observed_by: String,
}

#[derive(Deserialize)]
struct Incidents {
    incidents: Vec<Incident>,
}

#[derive(Deserialize)]
struct Incident {
    #[serde(deserialize_with = "any_text")]
    id: String,
    device: Option<String>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    opened_at: String,
    #[serde(default)]
    containment: Option<String>,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Containments {
    containments: Vec<Contained>,
}

#[derive(Deserialize)]
struct Contained {
    device: String,
    containment: String,
    since: String,
}

#[derive(Deserialize)]
struct Step {
    at: String,
    actor: String,
    what: String,
    seen: Option<String>,
    entry: Option<u64>,
}

/// Numbers and texts alike, as text.
fn any_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(from)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    })
}

impl Watch {
    /// Asks the plane once and tells what is new.
    ///
    /// # Errors
    /// The plane does not answer, or not as its contract says.
    pub fn look(&mut self, plane: &mut PlaneProcess, telling: &Telling) -> anyhow::Result<()> {
        let answer = plane.ask(Ask::get("/api/v1/detection/alerts?limit=500"))?;
        let alerts: Alerts = serde_json::from_value(answer)?;
        for alert in alerts.alerts {
            self.note_alert(alert, telling);
        }
        let answer = plane.ask(Ask::get("/api/v1/response/containments"))?;
        let containments: Containments = serde_json::from_value(answer)?;
        for one in containments.containments {
            let case = self.cases.entry(one.device).or_default();
            case.contained = case.contained.or_else(|| parse_millis(&one.since));
            case.containment = Some(one.containment);
        }
        let answer = plane.ask(Ask::get("/api/v1/response/incidents"))?;
        let incidents: Incidents = serde_json::from_value(answer)?;
        for incident in incidents.incidents {
            let path = format!("/api/v1/response/incidents/{}", incident.id);
            let whole: Incident = serde_json::from_value(plane.ask(Ask::get(&path))?)?;
            self.note_incident(whole, telling);
        }
        Ok(())
    }

    /// What is known of a device so far.
    pub fn case(&self, device: &str) -> Case {
        self.cases.get(device).cloned().unwrap_or_default()
    }

    /// Devices that are cut off.
    pub fn contained(&self) -> impl Iterator<Item = &str> {
        self.cases
            .iter()
            .filter(|(_, case)| case.containment.is_some() || case.revoked.is_some())
            .map(|(device, _)| device.as_str())
    }

    fn note_alert(&mut self, alert: Alert, telling: &Telling) {
        let Alert {
            kind,
            expected,
            seen,
            source,
            attribution,
            observed_by,
            ..
        } = alert;
        if !self.alerts.insert((alert.id, source.clone())) {
            return;
        }
        let subject = alert.subject;
        telling.tell(
            Voice::Seen,
            &format!(
                "{subject} {kind}: expected {expected}; seen {seen}; since {}; by {observed_by} \
                 ({attribution})",
                time_of_day(&alert.first_seen)
            ),
        );
        let Some(device) = subject.strip_prefix("device/") else {
            return;
        };
        let case = self.cases.entry(device.to_owned()).or_default();
        case.kinds.entry(kind).or_default().insert(source);
        let at = parse_millis(&alert.first_seen);
        case.first_alert = case.first_alert.into_iter().chain(at).min();
    }

    fn note_incident(&mut self, incident: Incident, telling: &Telling) {
        let told = self.steps.entry(incident.id.clone()).or_default();
        if *told == 0 {
            let Incident { id, title, .. } = &incident;
            telling.tell(Voice::Done, &format!("incident {id}: {title}"));
        }
        let new = incident.steps.get(*told..).unwrap_or_default();
        // An incident without steps is told once, too.
        *told = incident.steps.len().max(1);
        let case = incident.device.as_ref().map(|device| {
            let name = device.strip_prefix("device/").unwrap_or(device);
            self.cases.entry(name.to_owned()).or_default()
        });
        for step in new {
            // What was seen has been told with its alert.
            if step.seen.is_none() {
                let entry = step
                    .entry
                    .map_or(String::new(), |entry| format!(" (entry {entry})"));
                let Step { what, actor, .. } = step;
                telling.tell(Voice::Done, &format!("{what}, by {actor}{entry}"));
            }
        }
        let Some(case) = case else { return };
        case.incident.get_or_insert(incident.id);
        case.opened = case.opened.or_else(|| parse_millis(&incident.opened_at));
        if incident.containment.is_none() {
            case.containment = None;
        }
        for step in incident.steps.iter().filter(|_| incident.revoked) {
            if step.entry.is_some() && step.what.starts_with("revoked") {
                case.revoked = case.revoked.or_else(|| parse_millis(&step.at));
                case.revocation_entry = step.entry;
            }
        }
    }
}

fn time_of_day(rfc3339: &str) -> &str {
    rfc3339
        .split_once('T')
        .map_or(rfc3339, |(_, time)| time.trim_end_matches('Z'))
}

/// RFC 3339 in UTC, as the plane prints it, to milliseconds since 1970.
pub fn parse_millis(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':');
    let hours: u64 = time.next()?.parse().ok()?;
    let minutes: u64 = time.next()?.parse().ok()?;
    let seconds: f64 = time.next()?.parse().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
    let days = days.checked_sub(719_468)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds of a minute"
    )]
    let millis = (seconds.clamp(0.0, 60.999) * 1000.0).round() as u64;
    Some(((days * 24 + hours) * 60 + minutes) * 60_000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    #[test]
    fn times_read_back_as_the_plane_writes_them() {
        for millis in [0, 951_782_400_000, 1_709_164_800_123, 1_795_330_039_999] {
            let text = Timestamp::from_millis(millis).to_string();
            assert_eq!(parse_millis(&text), Some(millis), "{text}");
        }
        for text in ["", "2026", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00"] {
            assert_eq!(parse_millis(text), None);
        }
    }
}
