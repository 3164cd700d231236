//! How much goes through a session just now: two windows of five seconds, in constant memory.

use model::Timestamp;

/// Messages and bytes of their payloads a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    pub messages: f64,
    pub bytes: f64,
}

/// One direction of a session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flow {
    window: u64,
    now: Counted,
    before: Counted,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    messages: u32,
    bytes: u32,
}

const WINDOW_MILLIS: u64 = 5000;

impl Flow {
    pub fn count(&mut self, bytes: usize, now: Timestamp) {
        self.turn_to(now);
        self.now.messages = self.now.messages.saturating_add(1);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.now.bytes = self.now.bytes.saturating_add(bytes);
    }

    /// Over the last five seconds: this window, and of the one before what is not yet over.
    pub fn rate(mut self, now: Timestamp) -> Rate {
        self.turn_to(now);
        let into = (now.as_millis() % WINDOW_MILLIS) as f64 / WINDOW_MILLIS as f64;
        let seconds = WINDOW_MILLIS as f64 / 1000.0;
        let over =
            |now: u32, before: u32| (f64::from(now) + f64::from(before) * (1.0 - into)) / seconds;
        Rate {
            messages: over(self.now.messages, self.before.messages),
            bytes: over(self.now.bytes, self.before.bytes),
        }
    }

    fn turn_to(&mut self, now: Timestamp) {
        let window = now.as_millis() / WINDOW_MILLIS;
        if window == self.window {
            return;
        }
        self.before = match window == self.window + 1 {
            true => self.now,
            false => Counted::default(),
        };
        self.now = Counted::default();
        self.window = window;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_steady_flow_has_its_rate_and_one_that_stopped_has_none() {
        let start = Timestamp::from_seconds(1_700_000_000);
        let mut flow = Flow::default();
        for step in 0..200_u64 {
            flow.count(10, start.plus(Duration::from_millis(step * 100)));
        }
        let end = start.plus(Duration::from_secs(20));
        let Rate { messages, bytes } = flow.rate(end);
        assert!((9.0..=11.0).contains(&messages), "{messages}");
        assert!((90.0..=110.0).contains(&bytes), "{bytes}");
        assert_eq!(
            flow.rate(end.plus(Duration::from_secs(10))),
            Rate::default()
        );
    }
}
