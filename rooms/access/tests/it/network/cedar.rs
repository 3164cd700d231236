//! Cedar by itself: whole policies, one question at a time, nothing compiled. Tests of other crates
//! include this file.

use super::decisions::Scene;
use access::{Flow, Host};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use model::Containment;
use std::collections::{HashMap, HashSet};

pub struct Cedar {
    policies: PolicySet,
}

/// What is asked for: a channel or a destination.
pub struct Resource<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub direction: &'a str,
    /// The device that owns it; nobody does if there is none.
    pub owner: Option<&'a str>,
}

impl Cedar {
    pub fn new(policies: &str) -> Self {
        Self {
            policies: policies.parse().unwrap(),
        }
    }

    /// Whether a device that nobody cut off may.
    pub fn permits(&self, host: &Host, action: &str, resource: &Resource<'_>) -> bool {
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let principal = uid("Device", host.device.as_str());
        let parents: HashSet<EntityUid> = (host.groups.iter())
            .map(|group| uid("Group", group.as_str()))
            .chain([uid("Product", host.product.as_str())])
            .collect();
        let owner = uid("Device", resource.owner.unwrap_or_default());
        let attributes = HashMap::from([
            (
                "owner".to_owned(),
                RestrictedExpression::new_entity_uid(owner),
            ),
            ("direction".to_owned(), text(resource.direction)),
        ]);
        let assurance = HashMap::from([("assurance".to_owned(), text("identified"))]);
        let id = uid(resource.kind, resource.id);
        let entities = Entities::from_entities(
            [
                Entity::new(principal.clone(), assurance, parents).unwrap(),
                Entity::new(id.clone(), attributes, HashSet::new()).unwrap(),
            ],
            None,
        )
        .unwrap();
        let action = uid("Action", action);
        let request = Request::new(principal, action, id, Context::empty(), None).unwrap();
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        assert_eq!(response.diagnostics().errors().count(), 0);
        response.decision() == Decision::Allow
    }

    /// One question for each destination that lies where the flow goes. The plane and containment are
    /// no matter of policies.
    pub fn lets_through(&self, scene: &Scene, number: usize, flow: &Flow) -> bool {
        let host = &scene.site.hosts[number];
        let goes_to_plane = flow.protocol == 6
            && (scene.site.plane.iter())
                .any(|door| door.ip() == flow.remote && door.port() == flow.remote_port);
        match host.containment {
            Some(Containment::Isolated) => return false,
            _ if goes_to_plane => return true,
            Some(Containment::Quarantined) => return false,
            None => {}
        }
        scene.places.iter().any(|place| {
            let is_there = place.protocol == flow.protocol
                && place.ports.contains(&flow.remote_port)
                && place
                    .networks
                    .iter()
                    .any(|network| network.contains(flow.remote));
            let declares = place.declared_by.contains(&host.product.as_str());
            let resource = Resource {
                kind: "Destination",
                id: &place.id,
                direction: "from-device",
                owner: declares.then_some(host.device.as_str()),
            };
            is_there && self.permits(host, "connect", &resource)
        })
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::{id:?}").parse().unwrap()
}
