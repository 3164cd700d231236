//! Moments as lists spell them.

use model::Timestamp;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// Reads `2026-11-22`, `2026-11-22 19:21[:07[.123]]`, the same with `T` and `Z` or an offset
/// (RFC 3339), `Nov 22 19:21:07 2026 GMT` (openssl), seconds or milliseconds since 1970. Without an
/// offset it is UTC. Years 1970 to 9999.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() > 40 || !text.is_ascii() {
        return None;
    }
    if text.len() >= 9 && text.bytes().all(|b| b.is_ascii_digit()) {
        let number: u64 = text.parse().ok()?;
        // Seconds reach the year 9999 with 12 digits; milliseconds have had 12 since 1973.
        return Some(if number < 100_000_000_000 {
            Timestamp::from_seconds(number)
        } else {
            Timestamp::from_millis(number)
        });
    }
    if text.bytes().next()?.is_ascii_alphabetic() {
        return openssl(text);
    }
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(place) => (text.get(..place)?, text.get(place.checked_add(1)?..)?),
        None => (text, ""),
    };
    let mut parts = date.split('-');
    let day = day(
        number(parts.next()?, 4)?,
        number(parts.next()?, 2)?,
        number(parts.next()?, 2)?,
    )?;
    if parts.next().is_some() {
        return None;
    }
    at(day, rest)
}

/// Reads a date alone: `2031-12-31`.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    (text.trim().len() == 10).then(|| moment(text)).flatten()
}

/// The day of a moment, as [`date`] reads it.
pub(crate) fn day_text(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn openssl(text: &str) -> Option<Timestamp> {
    let mut words = text.split_ascii_whitespace();
    let name = words.next()?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|month| **month == *name)?;
    let (of_month, clock, year) = (words.next()?, words.next()?, words.next()?);
    if !matches!(
        (words.next(), words.next()),
        (None | Some("GMT" | "UTC"), None)
    ) {
        return None;
    }
    let month = u64::try_from(month).ok()?.checked_add(1)?;
    let day = day(number(year, 4)?, month, of_month.parse().ok()?)?;
    at(day, clock)
}

/// A time of day, perhaps with an offset, after the day's beginning.
fn at(day: u64, clock: &str) -> Option<Timestamp> {
    let day_millis = i64::try_from(day.checked_mul(86_400_000)?).ok()?;
    if clock.is_empty() {
        return Some(Timestamp::from_millis(u64::try_from(day_millis).ok()?));
    }
    let place = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, offset) = (clock.get(..place)?, clock.get(place..)?);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = whole.trim().split(':');
    let hours = number(parts.next()?, 2)?;
    let minutes = number(parts.next()?, 2)?;
    let seconds = parts.next().map_or(Some(0), |text| number(text, 2))?;
    if parts.next().is_some() || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let millis = u64::from(format!("{fraction:0<3}").get(..3)?.parse::<u16>().ok()?);
    let of_day = hours
        .checked_mul(3600)?
        .checked_add(minutes.checked_mul(60)?)?
        .checked_add(seconds)?
        .checked_mul(1000)?
        .checked_add(millis)?;
    let total = day_millis
        .checked_add(i64::try_from(of_day).ok()?)?
        .checked_sub(offset_millis(offset)?)?;
    Some(Timestamp::from_millis(u64::try_from(total).ok()?))
}

fn offset_millis(text: &str) -> Option<i64> {
    let (sign, rest) = match text {
        "" | "Z" | "z" => return Some(0),
        _ => (if text.starts_with('-') { -1 } else { 1 }, text.get(1..)?),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let minutes = number(hours, 2)?
        .checked_mul(60)?
        .checked_add(number(minutes, 2)?)?;
    i64::try_from(minutes).ok()?.checked_mul(60_000 * sign)
}

/// Exactly `digits` digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Days since 1970 of a date that exists (H. Hinnant, "chrono-compatible low-level date algorithms").
fn day(year: u64, month: u64, of_month: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if year < 1970 || of_month == 0 || of_month > length {
        return None;
    }
    let (years, months) = if month > 2 {
        (year, month.checked_sub(3)?)
    } else {
        (year.checked_sub(1)?, month.checked_add(9)?)
    };
    let era = years / 400;
    let of_era = years % 400;
    let of_year = (153 * months + 2) / 5 + of_month - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (era * 146_097 + days).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_moment_in_many_spellings() {
        for text in [
            "2026-11-22T19:21:07Z",
            "2026-11-22 19:21:07",
            "2026-11-22t20:21:07.000+01:00",
            "Nov 22 19:21:07 2026 GMT",
            "1795375267",
            "1795375267000",
        ] {
            assert_eq!(
                moment(text).map(|at| at.to_string()).as_deref(),
                Some("2026-11-22T19:21:07.000Z"),
                "{text}"
            );
        }
        assert_eq!(
            date("2031-12-31").map(day_text).as_deref(),
            Some("2031-12-31")
        );
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "soon",
            "2026-02-29",
            "2026-13-01",
            "1969-12-31",
            "26-01-01",
            "2026-1-1",
            "2026-01-01T25:00:00Z",
            "31.12.2031",
            "2026-01-01T00:00:00+25",
            "١٢٣٤",
            "Foo 1 1 1",
        ] {
            assert_eq!(moment(text), None, "{text:?}");
        }
        assert_eq!(date("2026-11-22T19:21:07Z"), None);
    }
}
