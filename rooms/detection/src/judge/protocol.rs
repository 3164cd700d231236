//! A protocol older than what the device spoke before.

use super::{Judgement, Sight};
use crate::baseline::Group;
use crate::device::Device;
use crate::statistics::seconds;
use crate::text::shown;
use model::{DeviationKind, Severity};

/// How long what it once spoke is held against it: a session may last as long as its certificate,
/// so what was seen once must be remembered for longer than any.
const MEMORY_SECONDS: u32 = 120 * 86_400;
/// A new image may bring another TLS library.
const CHANGE_SECONDS: u32 = 86_400;

/// Newer is greater; `None` for what we do not know, of which nothing follows.
fn version_rank(version: &str) -> Option<u8> {
    let digits: String = version
        .chars()
        .filter(|c| c.is_ascii_digit())
        .take(2)
        .collect();
    match (
        version.to_ascii_lowercase().contains("ssl"),
        digits.as_str(),
    ) {
        (true, "2" | "20") => Some(1),
        (true, "3" | "30") => Some(2),
        (false, "1" | "10") => Some(3),
        (false, "11") => Some(4),
        (false, "12") => Some(5),
        (false, "13") => Some(6),
        _ => None,
    }
}

fn version_name(rank: u8) -> &'static str {
    match rank {
        1 => "SSL 2",
        2 => "SSL 3",
        3 => "TLS 1.0",
        4 => "TLS 1.1",
        5 => "TLS 1.2",
        6 => "TLS 1.3",
        _ => "unknown",
    }
}

/// Versions only go up; so does the key exchange, from classical to hybrid.
pub fn session(
    group: &Group,
    device: &mut Device,
    sight: &Sight<'_>,
    version: &str,
    exchange: Option<&str>,
) -> Option<Judgement> {
    let rank = version_rank(version)?;
    let now = seconds(sight.now);
    let hybrid = exchange.map(|name| name.to_ascii_uppercase().contains("MLKEM"));
    let tls = &mut device.tls;
    let recent = |at: u32| now.saturating_sub(at) <= MEMORY_SECONDS;
    let best = if recent(tls.version_at) {
        tls.version
    } else {
        0
    };
    let was_hybrid = tls.hybrid && recent(tls.hybrid_at);

    let judgement = |entity: String, expected: String, seen: String, severity, accepted| {
        Some(Judgement {
            kind: DeviationKind::ProtocolDowngrade,
            entity,
            expected,
            seen,
            since: sight.now,
            severity,
            accepted,
        })
    };
    let least = group
        .declared
        .as_ref()
        .and_then(|d| d.tls_version_min.as_deref());
    let least = least.and_then(version_rank).unwrap_or(0);
    let found = if rank < least.max(best) {
        let declared = rank < least;
        let expected = if declared {
            format!("{} or newer (declared)", version_name(least))
        } else {
            format!("{}, which it spoke before", version_name(best))
        };
        let new_image = device.firmware.changed_at != 0
            && now.saturating_sub(device.firmware.changed_at) <= CHANGE_SECONDS;
        let severity = if new_image {
            Severity::Medium
        } else {
            Severity::High
        };
        judgement(
            version_name(rank).to_owned(),
            expected,
            format!("a session by {}", version_name(rank)),
            severity,
            declared || group.is_accepted(),
        )
    } else if was_hybrid && hybrid == Some(false) {
        judgement(
            "key exchange".to_owned(),
            "a hybrid key exchange, as before".to_owned(),
            format!("a classical one ({})", shown(exchange.unwrap_or(""), 32)),
            Severity::Low,
            group.is_accepted(),
        )
    } else {
        None
    };
    if sight.is_proven_outside() {
        if rank >= best {
            tls.version = rank;
            tls.version_at = now;
        }
        if hybrid == Some(true) {
            tls.hybrid = true;
            tls.hybrid_at = now;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_however_they_are_written() {
        for (text, rank) in [
            ("TLSv1_3", Some(6)),
            ("1.3", Some(6)),
            ("TLSv1.2", Some(5)),
            ("TLS 1.0", Some(3)),
            ("SSLv3", Some(2)),
            ("", None),
            ("Unknown(0x0305)", None),
        ] {
            assert_eq!(version_rank(text), rank, "{text}");
        }
    }
}
