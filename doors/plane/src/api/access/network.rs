//! What devices may reach, do reach and could reach: `/api/v1/access/blast-radius`, `observed`, and
//! the rules that a device asks for itself.

use crate::api::caller::Shown;
use crate::api::guard::Allowed;
use crate::api::problem::ProblemBody;
use crate::api::read::Asked;
use crate::api::{Problem, Shared};
use crate::clock;
use crate::shared::off_thread;
use crate::stock::Expectation;
use access::{Direction, Facts, Family, Ports, Remote, Rule};
use axum::Json;
use axum::extract::{Path as Named, State};
use axum::http::StatusCode;
use identity::Door;
use model::{DeviceId, Principal, ProductId, Source};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

#[derive(Serialize, ToSchema)]
pub struct BlastRadius {
    device: String,
    containment: Option<&'static str>,
    /// If it were not contained.
    free: Spread,
    /// As it is.
    now: Spread,
    /// What this does not cover, for people.
    not_covered: Vec<&'static str>,
}

#[derive(Clone, Default, Serialize, ToSchema)]
pub struct Spread {
    channels: Vec<Touched>,
    destinations: Vec<ReachedPlace>,
}

/// Each verb with the policy that permits it; absent where none does.
#[derive(Clone, Serialize, ToSchema)]
pub struct Touched {
    channel: String,
    publishes_own: Option<String>,
    publishes_others: Option<String>,
    receives_own: Option<String>,
    receives_others: Option<String>,
    /// Services that would hear it.
    services: Vec<Heard>,
    /// Other devices that would.
    devices: u64,
    examples: Vec<Heard>,
}

#[derive(Clone, Serialize, ToSchema)]
pub struct Heard {
    name: String,
    policy: String,
}

#[derive(Clone, Serialize, ToSchema)]
pub struct ReachedPlace {
    destination: String,
    /// What it is: a name, a network, a role or a class.
    place: String,
    /// Absent: any.
    ports: Option<Vec<u16>>,
    /// `tcp` or `udp`; absent: another.
    protocol: Option<&'static str>,
    policy: Option<String>,
}

const NOT_COVERED: [&str; 3] = [
    "what whoever hears it hands on: one more hop, through a service or a device that relays",
    "devices on the same link, which no gateway parts",
    "what a network lets through that does not enforce these rules",
];

/// What a hijacked device could do: in which channels and through which policy, who would hear it,
/// and where it could go in the network; free, and as it is now.
#[utoipa::path(get, path = "/api/v1/access/blast-radius/{device}", tag = "access",
    params(("device" = String, Path, description = "its name")),
    responses((status = 200, body = BlastRadius), (status = 400, body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn blast_radius(
    State(plane): State<Shared>,
    _: Allowed,
    Named(device): Named<String>,
) -> Result<Json<BlastRadius>, Problem> {
    let device = DeviceId::new(&device).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "request-refused",
            error.to_string(),
        )
    })?;
    if plane
        .inventory
        .lock()
        .device(&device, clock::now())
        .is_none()
    {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "device-unknown",
            format!("no device {device} is listed, enrolled or imported"),
        ));
    }
    let facts = plane.facts_of_device(&device);
    let is_revoked = (plane.trust().registry())
        .principal_revocation(&facts.principal)
        .is_some();
    let known = Arc::clone(&plane);
    let asked = facts.clone();
    let (free, now) = off_thread(move || {
        let registry = known.trust().registry();
        let devices = registry.devices().map(|device| Facts {
            principal: Principal::Device(device.device),
            product: Some(device.product.clone()),
            groups: device.groups.to_vec(),
            attributes: Arc::default(),
            containment: None,
            assurance: model::Assurance::default(),
        });
        let grants = known.grants();
        let free = Facts {
            containment: None,
            ..asked.clone()
        };
        let free = spread(&grants, &grants.blast_radius(&free, devices));
        let now = if asked.containment.is_some() || is_revoked {
            Spread::default()
        } else {
            free.clone()
        };
        (free, now)
    })
    .await?;
    Ok(Json(BlastRadius {
        device: device.to_string(),
        containment: facts.containment.map(model::Containment::name),
        free,
        now,
        not_covered: NOT_COVERED.to_vec(),
    }))
}

fn spread(grants: &access::Grants, radius: &access::BlastRadius) -> Spread {
    let named = |policy: &Option<model::PolicyId>| policy.as_ref().map(ToString::to_string);
    let channels = radius.channels.iter().map(|one| Touched {
        channel: one.channel.clone(),
        publishes_own: named(&one.publishes_own),
        publishes_others: named(&one.publishes_others),
        receives_own: named(&one.receives_own),
        receives_others: named(&one.receives_others),
        services: (one.services.iter())
            .map(|(service, policy)| Heard {
                name: service.to_string(),
                policy: policy.to_string(),
            })
            .collect(),
        devices: one.devices,
        examples: (one.examples.iter())
            .map(|(device, policy)| Heard {
                name: device.to_string(),
                policy: policy.to_string(),
            })
            .collect(),
    });
    let destinations = radius.destinations.iter().filter_map(|(id, policy)| {
        let destination = grants.fleet().destination(id)?;
        Some(ReachedPlace {
            destination: id.to_string(),
            place: destination.remote.to_string(),
            ports: destination.ports.clone(),
            protocol: destination.protocol.map(model::Protocol::name),
            policy: named(policy),
        })
    });
    Spread {
        channels: channels.collect(),
        destinations: destinations.collect(),
    }
}

#[derive(Serialize, ToSchema)]
pub struct OwnRules {
    /// In the order in which they decide; what none accepts is denied.
    rules: Vec<OwnRule>,
}

/// Of what a device sends.
#[derive(Serialize, ToSchema)]
pub struct OwnRule {
    name: String,
    accepts: bool,
    /// A DNS name; absent where `networks` say where it is.
    host: Option<String>,
    /// As `192.0.2.0/24`.
    networks: Vec<String>,
    /// `networks` are wider than what is meant, which only the site knows.
    widened: bool,
    /// 4 or 6; absent: both.
    ip_version: Option<u8>,
    /// By its number; absent: any.
    protocol: Option<u8>,
    /// First and last; absent: any.
    ports: Option<(u16, u16)>,
    /// The one that does not count.
    ports_not: Option<u16>,
    /// Type and, if it matters, code.
    icmp: Option<(u8, Option<u8>)>,
}

/// What a device may send to whom, by its certificate of ours, at the door for devices. Its agent can
/// enforce it in the device too.
#[utoipa::path(get, path = "/api/v1/access/own-rules", tag = "access",
    responses((status = 200, body = OwnRules), (status = 401, body = ProblemBody),
        (status = 403, body = ProblemBody)))]
pub async fn own_rules(
    State(plane): State<Shared>,
    Shown(presented): Shown,
) -> Result<Json<OwnRules>, Problem> {
    let who = plane.trust().authenticate(Door::Devices, &presented)?;
    let Principal::Device(device) = who.principal() else {
        return Err(identity::Refusal::NotADevice.into());
    };
    let facts = plane.facts_of_device(device);
    let rules = plane.grants().rules_of(&facts);
    let own = rules
        .iter()
        .filter(|rule| rule.direction == Direction::FromDevice && !rule.is_for_answers());
    Ok(Json(OwnRules {
        rules: own.map(own_rule).collect(),
    }))
}

fn own_rule(rule: &Rule) -> OwnRule {
    let networks = match (&rule.remote, rule.remote_network) {
        (_, Some(network)) => vec![network],
        (Remote::Host(_), None) => Vec::new(),
        (Remote::Network(network), None) => vec![*network],
        (remote, None) => remote.networks(),
    };
    OwnRule {
        name: rule.name.clone(),
        accepts: rule.accepts,
        host: match &rule.remote {
            Remote::Host(host) => Some(host.clone()),
            _ => None,
        },
        networks: networks.iter().map(ToString::to_string).collect(),
        widened: !matches!(
            rule.remote,
            Remote::Host(_) | Remote::Network(_) | Remote::Anyone
        ),
        ip_version: rule
            .family
            .map(|family| if family == Family::V4 { 4 } else { 6 }),
        protocol: rule.protocol,
        ports: match rule.remote_ports {
            Ports::Range(from, to) => Some((from, to)),
            _ => None,
        },
        ports_not: match rule.remote_ports {
            Ports::Not(port) => Some(port),
            _ => None,
        },
        icmp: rule.icmp,
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Watched {
    product: String,
    /// Seen of at least so many devices to be proposed; 2 if absent.
    support: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct Observed {
    product: String,
    /// Devices of the product of which any peer is known.
    devices: u64,
    /// By the number of devices.
    places: Vec<Place>,
}

/// Where devices of a product were seen to go.
#[derive(Serialize, ToSchema)]
pub struct Place {
    /// The name by which it was asked for.
    host: Option<String>,
    /// Where no name was seen.
    address: Option<String>,
    port: u16,
    protocol: &'static str,
    devices: u64,
    bytes_out: u64,
    last_seen: String,
    /// Somebody other than the device saw it.
    seen_from_outside: bool,
    /// It is declared. What is not would be refused where the rules are enforced.
    declared: bool,
    /// It may be declared: enough devices do it, somebody else saw it, and it has a name.
    proposed: bool,
}

const PLACES_MAX: usize = 1000;

/// What devices of a product were seen to reach, what of it the fleet in force would refuse, and what
/// may be declared.
#[utoipa::path(get, path = "/api/v1/access/observed", tag = "access", params(Watched),
    responses((status = 200, body = Observed), (status = 400, body = ProblemBody),
        (status = 401, body = ProblemBody)))]
pub async fn observed(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<Watched>,
) -> Result<Json<Observed>, Problem> {
    let product = ProductId::new(&asked.product).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "request-refused",
            error.to_string(),
        )
    })?;
    let support = asked.support.unwrap_or(2).max(1);
    let observed = off_thread(move || gather(&plane, &product, support)).await?;
    Ok(Json(observed))
}

#[derive(Default)]
struct Tally {
    devices: BTreeSet<DeviceId>,
    bytes_out: u64,
    last_seen: Option<model::Timestamp>,
    from_outside: bool,
    declared: bool,
}

fn gather(plane: &Shared, product: &ProductId, support: u64) -> Observed {
    type Key = (
        Option<String>,
        Option<core::net::IpAddr>,
        u16,
        model::Protocol,
    );
    let expectation = Expectation::of(plane, Some(product));
    let registry = plane.trust().registry();
    let mut tallies: BTreeMap<Key, Tally> = BTreeMap::new();
    let mut devices = 0;
    for device in registry
        .devices()
        .filter(|device| device.product == product)
    {
        // Held for one device at a time: signals go on meanwhile.
        let peers = plane.inventory.lock().peers(&device.device);
        devices += u64::from(!peers.is_empty());
        for peer in peers {
            let address = peer.host.is_none().then_some(peer.address);
            let key = (peer.host.clone(), address, peer.port, peer.protocol);
            if tallies.len() >= PLACES_MAX && !tallies.contains_key(&key) {
                continue;
            }
            let tally = tallies.entry(key).or_default();
            tally.declared |= expectation.as_ref().is_some_and(|all| all.holds(&peer));
            tally.from_outside |= peer.source != Source::Device;
            tally.bytes_out = tally.bytes_out.saturating_add(peer.bytes_out);
            tally.last_seen = tally.last_seen.max(Some(peer.last_seen));
            tally.devices.insert(device.device.clone());
        }
    }
    let mut places: Vec<Place> = (tallies.into_iter())
        .map(|((host, address, port, protocol), tally)| {
            let devices = tally.devices.len() as u64;
            Place {
                // An address says nothing about whose it will be tomorrow: a person decides.
                proposed: !tally.declared
                    && tally.from_outside
                    && devices >= support
                    && host.is_some(),
                host,
                address: address.map(|address| address.to_string()),
                port,
                protocol: protocol.name(),
                devices,
                bytes_out: tally.bytes_out,
                last_seen: tally.last_seen.map(|at| at.to_string()).unwrap_or_default(),
                seen_from_outside: tally.from_outside,
                declared: tally.declared,
            }
        })
        .collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.devices));
    Observed {
        product: product.to_string(),
        devices,
        places,
    }
}
