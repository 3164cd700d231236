//! Whom a command is for: named devices, a group or a product become devices, each with its topic or
//! with why it will not have it.

use super::budget::limit_of;
use crate::entries::Actor;
use crate::plane::{Plane, digest};
use crate::shared::off_thread;
use crate::trouble::Trouble;
use access::{Addressed, ChannelId, PayloadScratch};
use model::{
    DeliveryRefusal, DeviceId, Digest, GroupId, Principal, ProductId, ServiceId, Timestamp,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use store::CommandDelivery;

/// One command is one transaction with all its devices.
const DEVICES_MAX: usize = 9000;
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
const EXPIRES_IN_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Names that an error lists.
const NAMED_MAX: usize = 10;

/// A command as it is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub channel: String,
    /// What stands in the free levels of the channel's topics.
    pub levels: Vec<String>,
    pub target: Target,
    pub payload: Vec<u8>,
    pub expires_in: Duration,
    pub key: Option<String>,
}

/// For whom it is.
#[derive(Debug, Clone)]
pub enum Target {
    Devices(BTreeSet<DeviceId>),
    Group(GroupId),
    Product(ProductId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devices(devices) => match (devices.len(), devices.first()) {
                (1, Some(device)) => write!(f, "device/{device}"),
                (count, _) => write!(f, "{count} devices"),
            },
            Self::Group(group) => write!(f, "group/{group}"),
            Self::Product(product) => write!(f, "product/{product}"),
        }
    }
}

impl Asked {
    /// Over all that is asked but the key.
    pub fn digest(&self) -> Digest {
        let names: Vec<&str> = match &self.target {
            Target::Devices(devices) => devices.iter().map(DeviceId::as_str).collect(),
            Target::Group(_) | Target::Product(_) => Vec::new(),
        };
        let asked = serde_json::json!([
            self.channel,
            self.levels,
            self.target.to_string(),
            names,
            digest(&self.payload).to_string(),
            self.expires_in.as_secs(),
        ]);
        digest(asked.to_string().as_bytes())
    }

    /// # Errors
    /// It is over before it begins, or lasts longer than a command may.
    pub fn expires_at(&self, now: Timestamp) -> Result<Timestamp, Trouble> {
        if self.expires_in.is_zero() || self.expires_in > EXPIRES_IN_MAX {
            return Err(Trouble::refused(
                "expiry-out-of-range",
                "a command lasts 1 second to 30 days",
            ));
        }
        Ok(now.plus(self.expires_in))
    }
}

/// Whom a command reaches, and how.
#[derive(Debug)]
pub struct Aim {
    pub channel: String,
    /// Devices that this asker may command here in a minute without a second person.
    pub fan_out_per_minute: u32,
    /// In the order of their names.
    pub devices: Vec<(DeviceId, Result<Addressed, DeliveryRefusal>)>,
}

impl Aim {
    /// Those that are to have it.
    pub fn reached(&self) -> impl Iterator<Item = &DeviceId> {
        let devices = self.devices.iter();
        devices.filter_map(|(device, to)| to.is_ok().then_some(device))
    }
}

/// Looks up who is meant, and holds it against the grants of now: of the devices, and of a service
/// that asks.
///
/// # Errors
/// What is unknown, too much or not permitted.
pub async fn take(plane: &Arc<Plane>, asked: &Asked, actor: &Actor) -> Result<Aim, Trouble> {
    let (plane, asked, actor) = (Arc::clone(plane), asked.clone(), actor.clone());
    off_thread(move || look_up(&plane, &asked, &actor)).await?
}

fn look_up(plane: &Plane, asked: &Asked, actor: &Actor) -> Result<Aim, Trouble> {
    let grants = plane.grants();
    let channel = ChannelId::new(&asked.channel)
        .and_then(|id| grants.fleet().channel(&id).cloned())
        .ok_or_else(|| Trouble::Unknown {
            code: "channel-unknown",
            text: "the fleet in force declares no such channel; name one of its to-device channels"
                .to_owned(),
        })?;
    (channel.takes_command(&asked.levels))
        .map_err(|error| Trouble::refused("channel-refused", error.to_string()))?;
    let bytes_max = PAYLOAD_BYTES_MAX.min(channel.payload_bytes_max as usize);
    if asked.payload.len() > bytes_max {
        let bytes = asked.payload.len();
        let text = format!(
            "a payload of {bytes} bytes; {} takes {bytes_max}",
            channel.id
        );
        return Err(Trouble::refused("payload-too-large", text));
    }
    if let Some(contract) = &channel.contract
        && let Err(violation) = contract.check(&asked.payload, &mut PayloadScratch::default())
    {
        let text = format!("{violation}, by the contract of channel {}", channel.id);
        return Err(Trouble::refused("contract-violation", text));
    }
    let meant = asked.target.devices(plane, grants.fleet())?;
    if meant.len() > DEVICES_MAX {
        let (target, count) = (&asked.target, meant.len());
        let text = format!(
            "{target} has {count} devices, and one command is for {DEVICES_MAX} at most; ask for \
             smaller groups one after the other"
        );
        return Err(Trouble::refused("too-many-devices", text));
    }
    let mut devices = Vec::with_capacity(meant.len());
    for device in meant {
        let facts = plane.facts_of_device(&device);
        let is_revoked = (plane.trust().registry())
            .principal_revocation(&facts.principal)
            .is_some();
        let to = match is_revoked {
            true => Err(DeliveryRefusal::Revoked),
            false => grants.address(&channel, &asked.levels, &facts),
        };
        devices.push((device, to));
    }
    let aim = Aim {
        channel: channel.id.to_string(),
        fan_out_per_minute: limit_of(grants.fleet(), &channel, actor),
        devices,
    };
    if let Actor::Service(service) = actor {
        let reached = aim.devices.iter().filter_map(|(_, to)| to.as_ref().ok());
        let topics = reached.map(|to| to.topic.as_str());
        permitted(plane, &grants, service, &aim.channel, topics)?;
    }
    Ok(aim)
}

/// Whether a service may tell by the grants of now what it asked for earlier.
///
/// # Errors
/// It may not, or not all of it.
pub fn still_permitted(
    plane: &Plane,
    service: &ServiceId,
    channel: &str,
    deliveries: &[CommandDelivery],
) -> Result<(), Trouble> {
    let topics = deliveries.iter().map(|row| row.topic.as_str());
    permitted(plane, &plane.grants(), service, channel, topics)
}

/// What a service may tell over MQTT it may tell so, and nothing else.
fn permitted<'t>(
    plane: &Plane,
    grants: &access::Grants,
    service: &ServiceId,
    channel: &str,
    topics: impl Iterator<Item = &'t str>,
) -> Result<(), Trouble> {
    let facts = (plane.admission).facts_of(&Principal::Service(service.clone()));
    let subject = grants.subject(&facts);
    for topic in topics {
        if let Err(denied) = grants.publish(&subject, topic) {
            let (principal, reason) = (&facts.principal, denied.reason);
            return Err(Trouble::Forbidden {
                code: "command-not-permitted",
                text: format!(
                    "{principal} may not publish to {topic} in channel {channel} ({reason}); operator: \
                     see `fleetward access explain`"
                ),
            });
        }
    }
    Ok(())
}

impl Target {
    /// What [`Target`] prints of a set that the fleet declares.
    pub fn of_set(text: &str) -> Option<Self> {
        match text.split_once('/')? {
            ("group", name) => name.parse().ok().map(Self::Group),
            ("product", name) => name.parse().ok().map(Self::Product),
            _ => None,
        }
    }

    /// Who is meant now, in the order of their names.
    ///
    /// # Errors
    /// A device is not known, the fleet declares no such set, or nobody is in it.
    pub fn devices(&self, plane: &Plane, fleet: &access::Fleet) -> Result<Vec<DeviceId>, Trouble> {
        let registry = plane.trust().registry();
        let unknown = |code, text| Err(Trouble::Unknown { code, text });
        let mut found: Vec<DeviceId> = match self {
            Target::Devices(devices) => {
                let strangers: Vec<&str> = (devices.iter())
                    .filter(|device| registry.device(device).is_none())
                    .map(DeviceId::as_str)
                    .take(NAMED_MAX)
                    .collect();
                if !strangers.is_empty() {
                    let text = format!("no such device: {}", strangers.join(", "));
                    return unknown("device-unknown", text);
                }
                devices.iter().cloned().collect()
            }
            Target::Group(group) => {
                if fleet.group(group).is_none() {
                    let text = format!("the fleet in force declares no group {group}");
                    return unknown("group-unknown", text);
                }
                let devices = registry.devices();
                (devices.filter(|one| fleet.is_within(one.groups, group)))
                    .map(|one| one.device)
                    .collect()
            }
            Target::Product(product) => {
                if fleet.product(product).is_none() {
                    let text = format!("the fleet in force declares no product {product}");
                    return unknown("product-unknown", text);
                }
                let devices = registry.devices();
                (devices.filter(|one| one.product == product))
                    .map(|one| one.device)
                    .collect()
            }
        };
        if found.is_empty() {
            return Err(Trouble::refused(
                "no-devices",
                format!("there is no device in {self}"),
            ));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}
