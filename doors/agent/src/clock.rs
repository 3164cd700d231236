//! What time it is, on a device that may not know.
//!
//! A device wakes after a year in a box, or begins in 1970 at each start. So the plane's word
//! (the date of its answers at the EST door, over a verified connection) counts before the
//! device's own clock, and the latest such word is a floor that no start goes below.

use crate::folder::Folder;
use model::Timestamp;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const FLOOR_FILE: &str = "clock";
/// A floor that moved less is not worth a write to flash.
const FLOOR_STEP: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Clock {
    /// It is not before this.
    floor: Timestamp,
    /// The floor as it was last written.
    written: Timestamp,
    /// What the plane said, and when by the monotonic clock.
    told: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// # Errors
    /// If the state folder cannot be read. A file that is damaged is as good as none.
    pub fn open(folder: &Folder) -> io::Result<Self> {
        let floor = folder
            .read(FLOOR_FILE)?
            .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok())
            .map_or(Timestamp::from_seconds(0), Timestamp::from_millis);
        Ok(Self {
            floor,
            written: floor,
            told: None,
        })
    }

    /// The best that is known.
    pub fn now(&self) -> Timestamp {
        self.told().unwrap_or_else(|| system_time().max(self.floor))
    }

    /// By the plane's word, if it gave it since the start.
    pub fn told(&self) -> Option<Timestamp> {
        self.told
            .map(|(time, at)| time.plus(steady().saturating_duration_since(at)))
    }

    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// How far the device's own clock is off, if the plane has told us the time.
    pub fn error_seconds(&self) -> Option<i64> {
        let right = i64::try_from(self.told()?.as_seconds()).ok()?;
        Some(i64::try_from(system_time().as_seconds()).ok()? - right)
    }

    /// The plane says what time it is, over a verified connection.
    pub fn hear(&mut self, time: Timestamp) {
        self.told = Some((time, steady()));
        self.raise(time);
    }

    /// Something that the plane has signed is valid from here on: it is not earlier.
    pub fn raise(&mut self, floor: Timestamp) {
        self.floor = self.floor.max(floor);
    }

    /// Writes the floor if it has moved by an hour.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&mut self, folder: &Folder) -> io::Result<()> {
        if self.floor.since(self.written) >= FLOOR_STEP {
            folder.write(FLOOR_FILE, self.floor.as_millis().to_string().as_bytes())?;
            self.written = self.floor;
        }
        Ok(())
    }
}

/// What the device's own clock says.
pub fn system_time() -> Timestamp {
    #[cfg(test)]
    if let Some((system, _)) = simulated::CLOCKS.get() {
        return system;
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that nobody sets.
fn steady() -> Instant {
    #[cfg(test)]
    if let Some((_, steady)) = simulated::CLOCKS.get() {
        return steady;
    }
    Instant::now()
}

/// For tests that live through years.
#[cfg(test)]
pub mod simulated {
    use model::Timestamp;
    use std::cell::Cell;
    use std::time::Instant;

    thread_local! {
        /// What the device's own clock says, and the one that nobody sets.
        pub static CLOCKS: Cell<Option<(Timestamp, Instant)>> = const { Cell::new(None) };
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7; the obsolete forms are not read).
pub fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|d| (1..=31).contains(d))?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|y| (1970..=9999).contains(y))?;
    let mut clock = words.next()?.split(':');
    let mut part = |max: u64| clock.next()?.parse::<u64>().ok().filter(|n| *n <= max);
    let seconds = part(23)? * 3600 + part(59)? * 60 + part(60)?;
    if words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    // Days from 1970-01-01 in the proleptic Gregorian calendar, years beginning in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    Some(Timestamp::from_seconds(
        days.checked_sub(719_468)? * 86_400 + seconds,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        let seconds = |text| http_date(text).map(Timestamp::as_seconds);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            seconds("Tue, 29 Feb 2028 23:59:59 GMT"),
            Some(1_835_481_599)
        );
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_start_goes_back_behind_what_the_plane_said() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let later = system_time().plus(Duration::from_secs(86_400 * 365));
        let mut clock = Clock::open(&folder).unwrap();
        clock.hear(later);
        clock.keep(&folder).unwrap();
        let clock = Clock::open(&folder).unwrap();
        assert_eq!(clock.now(), later);
        assert_eq!(clock.error_seconds(), None);
    }

    #[test]
    fn a_damaged_floor_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        folder.write(FLOOR_FILE, &[0xff, 0, 7]).unwrap();
        assert_eq!(
            Clock::open(&folder).unwrap().floor(),
            Timestamp::from_seconds(0)
        );
    }
}
