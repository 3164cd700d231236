//! One policy, asked everywhere: Cedar itself, our compiled decision and a gateway's nftables.

use super::decisions::{self, Random, Scene};
use super::packets::{may_have_a_gateway, passed};
use access::{Flow, Grants, Site, decide, nftables};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use model::Containment;
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

const SCENES: usize = 20;
const FLOWS: usize = 500;

#[test]
fn ten_thousand_decisions_are_the_same_in_cedar_in_our_function_and_at_a_gateway() {
    let mut random = Random::new(20260101);
    let mut scenes = Vec::new();
    for _ in 0..SCENES {
        let scene = decisions::scene(&mut random);
        let flows: Vec<(usize, Flow)> = (0..FLOWS)
            .map(|_| decisions::flow(&mut random, &scene))
            .collect();
        scenes.push((scene, flows));
    }
    let mut permitted = 0;
    let mut rulesets = Vec::new();
    let mut decided: Vec<Vec<bool>> = Vec::new();
    for (scene, flows) in &scenes {
        // Some random policies say nothing that could ever apply; reading says so.
        let grants: Grants = crate::compile(&scene.files, &[]);
        let population = scene.site.hosts.iter().map(|host| {
            let groups: Vec<&str> = host.groups.iter().map(|group| group.as_str()).collect();
            crate::device(host.device.as_str(), host.product.as_str(), &groups)
        });
        let grants = Grants::compile(grants.fleet(), population).unwrap();
        let cedar = Cedar::new(scene);
        let mut answers = Vec::new();
        for (number, flow) in flows {
            let host = &scene.site.hosts[*number];
            let rules = grants.network_rules(host);
            let ours = decide(&rules, &scene.site, host, flow).is_permitted();
            assert_eq!(
                ours,
                cedar.permits(scene, *number, flow),
                "{flow:?} of {host:?}\n{}",
                scene.policies
            );
            permitted += usize::from(ours);
            answers.push(ours);
        }
        rulesets.push(nftables(&grants, &scene.site).unwrap());
        decided.push(answers);
    }
    println!(
        "{} decisions, {permitted} permitted: Cedar and ours agree",
        SCENES * FLOWS
    );
    assert!((1000..9000).contains(&permitted), "{permitted}");
    if !may_have_a_gateway() {
        return;
    }
    let flows: Vec<Vec<Flow>> = scenes
        .iter()
        .map(|(_, flows)| flows.iter().map(|(_, flow)| *flow).collect())
        .collect();
    let asked: Vec<(Vec<String>, &[Flow])> = (rulesets.iter().zip(&flows))
        .map(|(ruleset, flows)| (ruleset.batches.clone(), flows.as_slice()))
        .collect();
    for (number, (through, decided)) in passed(&asked).iter().zip(&decided).enumerate() {
        for (at, (through, decided)) in through.iter().zip(decided).enumerate() {
            assert_eq!(
                through, decided,
                "{:?}\n{}",
                scenes[number].1[at], rulesets[number].batches[0]
            );
        }
    }
    println!("and a gateway's nftables");
}

/// Cedar by itself: whole policies, one question for each destination that lies where the flow goes.
struct Cedar {
    policies: PolicySet,
}

impl Cedar {
    fn new(scene: &Scene) -> Self {
        Self {
            policies: scene.policies.parse().unwrap(),
        }
    }

    fn permits(&self, scene: &Scene, number: usize, flow: &Flow) -> bool {
        let host = &scene.site.hosts[number];
        match host.containment {
            Some(Containment::Isolated) => return false,
            Some(Containment::Quarantined) => return is_plane(&scene.site, flow),
            None => {}
        }
        scene.places.iter().any(|place| {
            let is_there = place.protocol == flow.protocol
                && place.ports.contains(&flow.remote_port)
                && place
                    .networks
                    .iter()
                    .any(|network| network.contains(flow.remote));
            if !is_there {
                return false;
            }
            let declares = place.declared_by.contains(&host.product.as_str());
            let uid = |text: &str| EntityUid::from_str(text).unwrap();
            let principal = uid(&format!("Device::\"{}\"", host.device));
            let resource = uid(&format!("Destination::{:?}", place.id));
            let owner = if declares {
                principal.clone()
            } else {
                uid("Device::\"\"")
            };
            let parents: HashSet<EntityUid> = (host.groups.iter())
                .map(|group| uid(&format!("Group::\"{group}\"")))
                .chain([uid(&format!("Product::\"{}\"", host.product))])
                .collect();
            let attributes = HashMap::from([
                (
                    "owner".to_owned(),
                    RestrictedExpression::new_entity_uid(owner),
                ),
                (
                    "direction".to_owned(),
                    RestrictedExpression::new_string("from-device".to_owned()),
                ),
            ]);
            let assurance = HashMap::from([(
                "assurance".to_owned(),
                RestrictedExpression::new_string("identified".to_owned()),
            )]);
            let entities = Entities::from_entities(
                [
                    Entity::new(principal.clone(), assurance, parents).unwrap(),
                    Entity::new(resource.clone(), attributes, HashSet::new()).unwrap(),
                ],
                None,
            )
            .unwrap();
            let connect = uid("Action::\"connect\"");
            let request =
                Request::new(principal, connect, resource, Context::empty(), None).unwrap();
            let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
            assert_eq!(response.diagnostics().errors().count(), 0);
            response.decision() == Decision::Allow
        })
    }
}

fn is_plane(site: &Site, flow: &Flow) -> bool {
    flow.protocol == 6
        && site
            .plane
            .iter()
            .any(|door| door.ip() == flow.remote && door.port() == flow.remote_port)
}
