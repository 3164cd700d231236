//! Where a command goes: the topic of a device in a channel, and where its answer is awaited.

use crate::class::Facts;
use crate::fleet::{Channel, Direction, Fleet};
use crate::grants::Grants;
use crate::template::{Level, Slots, Template, is_value};
use model::{DeliveryRefusal, GroupId, Principal};

/// What stands in the free levels of a channel's topics: at most this many.
pub(crate) const FREE_LEVELS_MAX: usize = 16;

/// A command's way to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    pub topic: String,
    /// Where the device answers, if the channel says so and the device may.
    pub response_topic: Option<String>,
}

/// Why a command cannot be addressed, whatever the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unaddressable {
    #[error(
        "channel {0} is declared from-device: nobody is told anything in it; operator: name a to-device channel"
    )]
    FromDevice(String),
    #[error(
        "the topics of channel {0} belong to no device; operator: name one with {{device}} in its topic"
    )]
    Unowned(String),
    #[error(
        "the topics of channel {channel} have {wanted} free level(s), and {given} were given; each is 1 to \
         128 printable characters without space, / + #"
    )]
    Levels {
        channel: String,
        wanted: String,
        given: usize,
    },
}

impl Channel {
    /// May a command go by this channel, with this in the free levels of its topics?
    ///
    /// # Errors
    /// What is wrong with the channel or the levels.
    pub fn takes_command(&self, levels: &[String]) -> Result<(), Unaddressable> {
        let channel = self.id.to_string();
        if self.direction != Direction::ToDevice {
            return Err(Unaddressable::FromDevice(channel));
        }
        if !self.template.has_owner() {
            return Err(Unaddressable::Unowned(channel));
        }
        let (free, has_rest) = self.template.free_levels();
        let fits = levels.len() == free || (has_rest && levels.len() > free);
        if fits && levels.len() <= FREE_LEVELS_MAX && levels.iter().all(|level| is_value(level)) {
            return Ok(());
        }
        Err(Unaddressable::Levels {
            channel,
            wanted: if has_rest {
                format!("{free} or more")
            } else {
                free.to_string()
            },
            given: levels.len(),
        })
    }
}

impl Grants {
    /// Where a command of `channel` goes to this device, if the device may have it. The free levels
    /// were looked at before ([`Channel::takes_command`]).
    ///
    /// # Errors
    /// Why this device will not get it.
    pub fn address(
        &self,
        channel: &Channel,
        levels: &[String],
        device: &Facts,
    ) -> Result<Addressed, DeliveryRefusal> {
        if device.containment.is_some() {
            return Err(DeliveryRefusal::Contained);
        }
        let Principal::Device(id) = &device.principal else {
            return Err(DeliveryRefusal::NoTopic);
        };
        let slots = Slots {
            device: id.as_str(),
            attributes: &device.attributes,
        };
        let topic = (channel.template.topic(slots, levels, false))
            .filter(|topic| mqtt::is_topic(topic))
            .ok_or(DeliveryRefusal::NoTopic)?;
        let subject = self.subject(device);
        let may_receive =
            (self.resolve(&topic)).is_some_and(|place| self.receive(&subject, &place));
        if !may_receive {
            return Err(DeliveryRefusal::NoGrant);
        }
        let response_topic = (channel.response.as_ref())
            .and_then(|id| self.fleet().channel(id))
            .and_then(|answers| answers.template.topic(slots, levels, true))
            .filter(|topic| mqtt::is_topic(topic) && self.publish(&subject, topic).is_ok());
        Ok(Addressed {
            topic,
            response_topic,
        })
    }
}

impl Fleet {
    /// Whether somebody in these groups is in `group`, directly or by the groups that contain them.
    #[must_use]
    pub fn is_within(&self, groups: &[GroupId], group: &GroupId) -> bool {
        self.ancestors(groups).contains(group)
    }
}

impl Template {
    /// How many `{any}` there are, and whether `{rest...}` ends it.
    fn free_levels(&self) -> (usize, bool) {
        let any = self.levels().iter().filter(|level| **level == Level::Any);
        (any.count(), self.levels().last() == Some(&Level::Rest))
    }

    /// The owner's topic with `free` in its free levels, in order. `None` if the owner lacks an
    /// attribute, or too few were given; with `as_far_as_given` a free level without one is `_`, and
    /// what is left over is left out.
    fn topic(&self, owner: Slots<'_>, free: &[String], as_far_as_given: bool) -> Option<String> {
        let mut free = free.iter().map(String::as_str);
        let mut levels: Vec<&str> = Vec::with_capacity(self.levels().len());
        for level in self.levels() {
            match level {
                Level::Literal(text) => levels.push(text),
                Level::Device => levels.push(owner.device),
                Level::Attribute(name) => levels.push(owner.attribute(name)?),
                Level::Any => match free.next() {
                    Some(text) => levels.push(text),
                    None if as_far_as_given => levels.push("_"),
                    None => return None,
                },
                Level::Rest => levels.extend(free.by_ref()),
            }
        }
        (as_far_as_given || free.next().is_none()).then(|| levels.join("/"))
    }
}
