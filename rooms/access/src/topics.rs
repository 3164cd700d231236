//! Topic → channel and owner: one tree over levels, walked for every message.

use crate::fleet::Channel;
use crate::template::{Level, is_name, is_value};

/// The templates of all channels as one tree.
///
/// Templates are pairwise disjoint, so a topic has one channel at most, and each node is visited
/// at most once per topic: the work is bounded by the size of the tree, and is a handful of
/// comparisons in a fleet whose templates differ in their first levels. Nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by text.
    literals: Vec<(Box<str>, Node)>,
    device: Option<Box<Node>>,
    /// Of every attribute: templates that differ in its name alone admit the same topics.
    attribute: Option<Box<Node>>,
    any: Option<Box<Node>>,
    /// The channel of topics that go on as they like, or end here.
    rest: Option<u16>,
    /// The channel of the topic that ends here.
    end: Option<u16>,
}

/// A topic's place in the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved<'t> {
    pub channel: u16,
    pub owner: Option<&'t str>,
}

impl Topics {
    /// `channels` are at most 65,535 (the cap of `fleet` is far lower).
    pub(crate) fn new(channels: &[Channel]) -> Self {
        let mut topics = Self::default();
        for (index, channel) in (0u16..).zip(channels) {
            topics.root.insert(channel.template.levels(), index);
        }
        topics
    }

    pub(crate) fn resolve<'t>(&self, topic: &'t str) -> Option<Resolved<'t>> {
        self.root.resolve(Some(topic), None)
    }
}

impl Node {
    fn insert(&mut self, levels: &[Level], channel: u16) {
        let Some((level, levels)) = levels.split_first() else {
            self.end = Some(channel);
            return;
        };
        match level {
            Level::Literal(text) => {
                let at = match self.literals.binary_search_by(|(other, _)| other.cmp(text)) {
                    Ok(at) => at,
                    Err(at) => {
                        self.literals.insert(at, (text.clone(), Self::default()));
                        at
                    }
                };
                if let Some((_, node)) = self.literals.get_mut(at) {
                    node.insert(levels, channel);
                }
            }
            Level::Device => self.device.get_or_insert_default().insert(levels, channel),
            Level::Attribute(_) => (self.attribute.get_or_insert_default()).insert(levels, channel),
            Level::Any => self.any.get_or_insert_default().insert(levels, channel),
            Level::Rest => self.rest = Some(channel),
        }
    }

    /// `rest` is what of the topic is below this node; `None` at its end. The depth of the
    /// recursion is that of the tree: 16 levels.
    fn resolve<'t>(&self, rest: Option<&'t str>, owner: Option<&'t str>) -> Option<Resolved<'t>> {
        let found = |channel| Resolved { channel, owner };
        let Some(rest) = rest else {
            return self.end.or(self.rest).map(found);
        };
        let (level, below) = match rest.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        let literal = (self.literals)
            .binary_search_by(|(text, _)| text.as_ref().cmp(level))
            .ok()
            .and_then(|at| self.literals.get(at))
            .and_then(|(_, node)| node.resolve(below, owner));
        // What is no device's name is owned by nobody, and admitted nowhere: a topic cannot
        // smuggle an owner such as "+" or "" past a comparison of names.
        literal
            .or_else(|| {
                let node = self.device.as_ref().filter(|_| is_name(level))?;
                node.resolve(below, Some(level))
            })
            .or_else(|| {
                let node = self.attribute.as_ref().filter(|_| is_value(level))?;
                node.resolve(below, owner.or(Some(level)))
            })
            .or_else(|| self.any.as_ref()?.resolve(below, owner))
            .or_else(|| self.rest.map(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{ChannelId, Direction};
    use crate::template::Template;
    use proptest::prelude::*;

    /// The meaning of a template, said once more and slowly.
    fn admits<'t>(
        levels: &[Level],
        topic: &[&'t str],
        owner: Option<&'t str>,
    ) -> Option<Option<&'t str>> {
        match (levels.split_first(), topic.split_first()) {
            (None, None) => Some(owner),
            (Some((Level::Rest, _)), _) => Some(owner),
            (Some((level, levels)), Some((text, topic))) => match level {
                Level::Literal(literal) if literal.as_ref() != *text => None,
                Level::Device if model::DeviceId::new(text).is_err() => None,
                Level::Device => admits(levels, topic, Some(text)),
                Level::Attribute(_) if model::AttributeValue::new(text).is_err() => None,
                Level::Attribute(_) => admits(levels, topic, owner.or(Some(text))),
                _ => admits(levels, topic, owner),
            },
            _ => None,
        }
    }

    fn all_topics() -> Vec<Vec<&'static str>> {
        const TEXTS: [&str; 5] = ["a", "b", "$c", "", "+"];
        let mut all: Vec<Vec<&str>> = vec![];
        let mut last: Vec<Vec<&str>> = vec![vec![]];
        for _ in 0..4 {
            last = (last.iter())
                .flat_map(|topic| {
                    TEXTS
                        .iter()
                        .map(|text| [topic.as_slice(), &[*text]].concat())
                })
                .collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    fn template() -> impl Strategy<Value = Template> {
        let first = prop::sample::select(vec!["a", "b", "{device}"]);
        let level = prop::sample::select(vec!["a", "b", "$c", "{device}", "{any}"]);
        let rest = prop::sample::select(vec!["", "", "/{rest...}"]);
        (first, prop::collection::vec(level, 0..3), rest)
            .prop_map(|(first, levels, rest)| {
                format!("{}{rest}", [vec![first], levels].concat().join("/"))
            })
            .prop_filter_map("one owner", |text| Template::parse(&text).ok())
    }

    fn channel(index: usize, template: &Template) -> Channel {
        Channel {
            id: ChannelId::new(&format!("c{index}")).unwrap(),
            template: template.clone(),
            direction: Direction::FromDevice,
            payload_bytes_max: 1,
            rate_per_minute: None,
            retained_max: 0,
            contract: None,
            retained_days: 30,
            fan_out_per_minute: 1,
            response: None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 200,
            failure_persistence: None,
            rng_seed: prop::test_runner::RngSeed::Fixed(11),
            ..ProptestConfig::default()
        })]

        #[test]
        fn templates_are_disjoint_exactly_if_no_topic_is_in_both(
            left in template(),
            right in template(),
        ) {
            let is_in = |template: &Template, topic: &[&'static str]| {
                admits(template.levels(), topic, None).is_some()
            };
            let both =
                all_topics().into_iter().find(|topic| is_in(&left, topic) && is_in(&right, topic));
            let said = left.common_topic(&right);
            prop_assert_eq!(said.is_some(), both.is_some(), "{} {} {:?}", left, right, both);
            if let Some(topic) = said {
                let topic: Vec<&str> = topic.split('/').collect();
                prop_assert!(admits(left.levels(), &topic, None).is_some());
                prop_assert!(admits(right.levels(), &topic, None).is_some());
            }
        }

        #[test]
        fn a_topic_has_the_channel_and_the_owner_that_its_template_says(
            templates in prop::collection::vec(template(), 1..8)
        ) {
            let mut channels: Vec<Channel> = Vec::new();
            for template in &templates {
                if channels.iter().all(|other| other.template.common_topic(template).is_none()) {
                    channels.push(channel(channels.len(), template));
                }
            }
            let topics = Topics::new(&channels);
            for topic in all_topics() {
                let expected = (0u16..).zip(&channels).find_map(|(index, channel)| {
                    let owner = admits(channel.template.levels(), &topic, None)?;
                    Some(Resolved { channel: index, owner })
                });
                let text = topic.join("/");
                prop_assert_eq!(topics.resolve(&text), expected, "{}", text);
            }
        }

        #[test]
        fn an_owner_is_a_name_exactly_if_a_device_can_have_it(
            text in "[a-zA-Z0-9._+#$/ é-]{0,3}|[a-z]{60,68}"
        ) {
            prop_assert_eq!(is_name(&text), model::DeviceId::new(&text).is_ok());
            prop_assert_eq!(is_value(&text), model::AttributeValue::new(&text).is_ok());
        }
    }
}
