//! Topic aliases (MQTT 5: 3.3.2.3.4): a number in the place of a topic, for one connection and one
//! direction.

/// Of one connection. Both tables are bounded by `Limits::topic_alias_max`.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    /// The client's: place `n` is alias `n + 1`; empty: not said yet.
    incoming: Vec<String>,
    /// Ours: whoever came first keeps its alias.
    outgoing: Vec<Box<str>>,
    outgoing_max: usize,
}

/// How a topic goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Plain,
    /// The client knows it: the alias alone.
    Known(u16),
    /// With topic and alias.
    New(u16),
}

impl Aliases {
    /// `outgoing_max`: of the client, as far as we use it.
    pub(crate) fn new(outgoing_max: u16) -> Self {
        Self {
            outgoing_max: usize::from(outgoing_max),
            ..Self::default()
        }
    }

    /// What a PUBLISH with this alias says of its topic; false if the alias is too great. Of a topic that
    /// is longer than any may be, as much is kept as shows that it is.
    pub(crate) fn hear(
        &mut self,
        alias: u16,
        topic: &str,
        incoming_max: u16,
        topic_bytes_max: usize,
    ) -> bool {
        if alias > incoming_max {
            return false;
        }
        let place = usize::from(alias.saturating_sub(1));
        if self.incoming.len() <= place {
            self.incoming.resize_with(place + 1, String::new);
        }
        if let Some(known) = self.incoming.get_mut(place) {
            known.clear();
            let end = topic.ceil_char_boundary(topic_bytes_max.saturating_add(1));
            known.push_str(topic.get(..end).unwrap_or(topic));
        }
        true
    }

    /// The topic that the client gave this alias.
    pub(crate) fn topic(&self, alias: u16) -> Option<&str> {
        let place = usize::from(alias.checked_sub(1)?);
        (self.incoming.get(place))
            .map(String::as_str)
            .filter(|topic| !topic.is_empty())
    }

    pub(crate) fn outgoing(&self, topic: &str) -> Outgoing {
        let alias = |place: usize| u16::try_from(place + 1).unwrap_or(u16::MAX);
        if let Some(place) = self.outgoing.iter().position(|known| **known == *topic) {
            Outgoing::Known(alias(place))
        } else if self.outgoing.len() < self.outgoing_max {
            Outgoing::New(alias(self.outgoing.len()))
        } else {
            Outgoing::Plain
        }
    }

    /// A message that [`Outgoing::New`] was said of is on its way.
    pub(crate) fn sent(&mut self, topic: &str) {
        self.outgoing.push(topic.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_what_was_said_last_and_none_above_the_maximum() {
        let mut aliases = Aliases::new(0);
        assert_eq!(aliases.topic(1), None);
        assert!(aliases.hear(2, "a", 2, 9));
        assert!(!aliases.hear(3, "a", 2, 9));
        assert_eq!((aliases.topic(1), aliases.topic(2)), (None, Some("a")));
        assert!(aliases.hear(2, "b", 2, 9));
        assert_eq!(aliases.topic(2), Some("b"));
        assert_eq!(aliases.topic(0), None);
        assert_eq!(aliases.outgoing("a"), Outgoing::Plain);
    }

    #[test]
    fn of_a_topic_that_is_too_long_no_more_is_kept_than_shows_it() {
        let mut aliases = Aliases::new(0);
        for (topic, kept) in [
            ("123456789", 9),
            ("12345678901234", 10),
            ("12345678\u{e9}\u{e9}\u{e9}", 10),
            ("123456789\u{e9}\u{e9}", 11),
        ] {
            assert!(aliases.hear(1, topic, 1, 9));
            assert_eq!(aliases.topic(1).map(str::len), Some(kept), "{topic}");
        }
    }

    #[test]
    fn the_first_topics_get_our_aliases_and_keep_them() {
        let mut aliases = Aliases::new(2);
        for (topic, alias) in [("a", 1), ("b", 2)] {
            assert_eq!(aliases.outgoing(topic), Outgoing::New(alias));
            aliases.sent(topic);
            assert_eq!(aliases.outgoing(topic), Outgoing::Known(alias));
        }
        assert_eq!(aliases.outgoing("c"), Outgoing::Plain);
    }
}
