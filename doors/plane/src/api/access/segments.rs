//! `/api/v1/access/segments`: the map of who may reach what, and what of it is used.

use crate::api::guard::Allowed;
use crate::api::problem::ProblemBody;
use crate::api::{Problem, Shared};
use crate::clock;
use crate::fleet::recorded::{DAYS, day_of};
use crate::shared::off_thread;
use crate::trouble::Trouble;
use access::Facts;
use axum::Json;
use axum::extract::State;
use model::Principal;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A row for all who may do the same; in it what is granted and what of that was used.
#[derive(Serialize, ToSchema)]
pub struct Segments {
    /// Of the fleet in force; 0: none.
    version: u64,
    /// Days of which messages are counted, 30 at most; 0: none yet, so nothing can be called unused.
    days: u32,
    channels: Vec<SegmentChannel>,
    destinations: Vec<SegmentDestination>,
    segments: Vec<Segment>,
    /// Segments beyond 1,000.
    left_out: u64,
}

#[derive(Serialize, ToSchema)]
pub struct SegmentChannel {
    id: String,
    topics: String,
    /// `from-device` or `to-device`.
    direction: &'static str,
}

#[derive(Serialize, ToSchema)]
pub struct SegmentDestination {
    id: String,
    /// What it is: a name, a network, a role or a class.
    place: String,
}

#[derive(Serialize, ToSchema)]
pub struct Segment {
    /// `devices` or `services`.
    of: &'static str,
    members: u64,
    /// Products with groups, or services; 50 at most.
    kinds: Vec<String>,
    kinds_left_out: u64,
    channels: Vec<SegmentCell>,
    /// Places in `destinations`.
    destinations: Vec<usize>,
}

/// What is granted in a channel.
#[derive(Serialize, ToSchema)]
pub struct SegmentCell {
    /// Its place in `channels`.
    channel: usize,
    publish: Option<SegmentRight>,
    receive: Option<SegmentRight>,
}

#[derive(Serialize, ToSchema)]
pub struct SegmentRight {
    policy: Option<String>,
    /// Topics of others too: one member reaches many.
    others: bool,
    /// Counted in these days.
    messages: u64,
    /// About how many devices these were of.
    devices: u64,
}

/// Who may reach what, and what of it was used.
#[utoipa::path(get, path = "/api/v1/access/segments", tag = "access",
    responses((status = 200, body = Segments), (status = 401, body = ProblemBody)))]
pub async fn segments(State(plane): State<Shared>, _: Allowed) -> Result<Json<Segments>, Problem> {
    Ok(Json(off_thread(move || map(&plane)).await??))
}

fn map(plane: &Shared) -> Result<Segments, Trouble> {
    let recorded = plane.recorded_traffic().map_err(Trouble::fault)?;
    let (grants, version) = (plane.grants(), plane.admission.fleet.get().version);
    let now = clock::now();
    let found = {
        let registry = plane.trust().registry();
        let devices = registry.devices().map(|device| Facts {
            assurance: registry.assurance(&device.device, now),
            principal: Principal::Device(device.device),
            product: Some(device.product.clone()),
            groups: device.groups.to_vec(),
            attributes: Arc::default(),
            containment: None,
        });
        grants.segments(devices, &recorded)
    };
    let fleet = grants.fleet();
    let first = recorded.iter().map(|row| row.day).min();
    let days = first.map_or(0, |day| day_of(now).saturating_sub(day) + 1);
    let place = |id: &access::ChannelId| fleet.channels().position(|one| one.id == *id);
    let segments = found.segments.iter().map(|segment| Segment {
        of: if segment.is_service {
            "services"
        } else {
            "devices"
        },
        members: segment.members,
        kinds: segment.kinds.iter().map(ToString::to_string).collect(),
        kinds_left_out: segment.kinds_left_out as u64,
        channels: (segment.channels.iter())
            .filter_map(|cell| {
                Some(SegmentCell {
                    channel: place(&cell.channel)?,
                    publish: cell.publish.as_ref().map(SegmentRight::of),
                    receive: cell.receive.as_ref().map(SegmentRight::of),
                })
            })
            .collect(),
        destinations: (segment.destinations.iter())
            .filter_map(|id| fleet.destinations().position(|one| one.id == *id))
            .collect(),
    });
    Ok(Segments {
        version,
        days: days.min(DAYS),
        segments: segments.collect(),
        channels: (fleet.channels())
            .map(|channel| SegmentChannel {
                id: channel.id.to_string(),
                topics: channel.template.to_string(),
                direction: channel.direction.name(),
            })
            .collect(),
        destinations: (fleet.destinations())
            .map(|one| SegmentDestination {
                id: one.id.to_string(),
                place: one.remote.to_string(),
            })
            .collect(),
        left_out: found.left_out as u64,
    })
}

impl SegmentRight {
    fn of(right: &access::Right) -> Self {
        Self {
            policy: right.policy.as_ref().map(ToString::to_string),
            others: right.others,
            messages: right.messages,
            devices: right.devices.estimate(),
        }
    }
}
