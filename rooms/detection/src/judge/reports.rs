//! Reports that come twice, and reports that do not come.

use super::{Judgement, Sight};
use crate::Settings;
use crate::device::{Device, short};
use crate::pack::digest;
use crate::statistics::seconds;
use crate::text::{duration, shown};
use model::{DeviationKind, Severity, Timestamp};
use std::time::Duration;

/// A session that ended before the acknowledgement came makes an agent send the last few again.
const RESENT_MAX: u64 = 8;
/// And no more often than this within ten minutes.
const REPEATS_MAX: u32 = 8;
const REPEAT_WINDOW: u32 = 600;

/// A report arrived. One that was here before is no sign of life.
pub fn report(
    device: &mut Device,
    sight: &Sight<'_>,
    boot: &str,
    sequence: u64,
    interval: Duration,
) -> Option<Judgement> {
    let reports = &mut device.reports;
    let mark = digest(boot.as_bytes()).max(1);
    let was = short(&[boot.as_bytes()]);
    if mark != reports.boot && reports.earlier_boots.contains(&was) {
        return Some(replayed(
            sight,
            format!(
                "reports of the present start of the device, {} or later",
                reports.sequence
            ),
            format!(
                "report {sequence} of an earlier start ({})",
                shown(boot, 36)
            ),
        ));
    }
    if mark == reports.boot && sequence <= reports.sequence {
        let repeats = reports.repeats.add(1, sight.now, REPEAT_WINDOW);
        let old = reports.sequence - sequence >= RESENT_MAX;
        return (old || repeats > REPEATS_MAX).then(|| {
            replayed(
                sight,
                format!("report {} or later", reports.sequence.saturating_add(1)),
                format!("report {sequence} again"),
            )
        });
    }
    if mark != reports.boot {
        if reports.boot != 0 {
            reports.earlier_boots.rotate_right(1);
            if let Some(first) = reports.earlier_boots.first_mut() {
                *first = reports.present_boot;
            }
        }
        reports.boot = mark;
        reports.present_boot = was;
    }
    reports.sequence = sequence;
    let now = seconds(sight.now);
    if reports.last_at != 0 {
        let gap = now.saturating_sub(reports.last_at);
        // What was long once is forgotten slowly, so that a seasonal sleeper is remembered.
        let faded = reports.longest_gap_seconds - reports.longest_gap_seconds / 1024;
        reports.longest_gap_seconds = faded.max(gap);
    }
    reports.last_at = now;
    reports.interval_seconds = u32::try_from(interval.as_secs()).unwrap_or(u32::MAX);
    reports.silence_said = false;
    None
}

fn replayed(sight: &Sight<'_>, expected: String, seen: String) -> Judgement {
    Judgement {
        kind: DeviationKind::ReplayedReport,
        entity: "reports".to_owned(),
        expected,
        seen,
        since: sight.now,
        severity: Severity::Medium,
        accepted: true,
    }
}

/// When its silence would be worth a word; `None` before its first report.
pub fn silent_at(settings: &Settings, device: &Device) -> Option<Timestamp> {
    let reports = &device.reports;
    if reports.last_at == 0 || reports.silence_said {
        return None;
    }
    let patience = u64::from(reports.longest_gap_seconds)
        .saturating_mul(2)
        .max(u64::from(reports.interval_seconds).saturating_mul(20))
        .max(settings.silence_min.as_secs());
    Some(Timestamp::from_seconds(u64::from(reports.last_at)).plus(Duration::from_secs(patience)))
}

/// It should report and does not. Never more than worth a look: batteries end, houses are left.
pub fn silence(settings: &Settings, device: &mut Device, now: Timestamp) -> Option<Judgement> {
    if silent_at(settings, device)? > now {
        return None;
    }
    let reports = &mut device.reports;
    reports.silence_said = true;
    let last = Timestamp::from_seconds(u64::from(reports.last_at));
    Some(Judgement {
        kind: DeviationKind::Silence,
        entity: "reports".to_owned(),
        expected: format!(
            "a report every {}, never more than {} apart so far",
            duration(Duration::from_secs(u64::from(reports.interval_seconds))),
            duration(Duration::from_secs(u64::from(reports.longest_gap_seconds)))
        ),
        seen: format!("none for {}", duration(now.since(last))),
        since: last,
        severity: Severity::Low,
        accepted: true,
    })
}
