//! What a client hears back, held against Cedar's own authorizer over real entities: PUBLISH by its
//! acknowledgement, SUBSCRIBE to a topic by its SUBACK. Ten thousand questions of random policies.

use crate::house::{Heard, House, device, files, service};
use access::{Facts, Fleet, Grants, schema};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression, Schema,
};
use model::{GroupId, Principal, ProductId};
use mqtt::Version;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const FLEETS: u64 = 40;
const QUESTIONS: u64 = 10_000;
/// Channel, its topics (`*` is the owner), and its direction.
const CHANNELS: [(&str, &str, &str); 4] = [
    ("up", "v1/*/up/x", "from-device"),
    ("alarm", "v1/*/alarm", "from-device"),
    ("down", "v1/*/down/x", "to-device"),
    ("state", "v1/*/state/x", "from-device"),
];
const OWNERS: [&str; 4] = ["cam-1", "cam-2", "lock-1", "ghost"];

/// SplitMix64: the same questions in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }
}

fn condition(dice: &mut Dice, depth: usize) -> String {
    match dice.roll(if depth == 0 { 6 } else { 9 }) {
        0 => "resource.owner == principal".into(),
        1 => "resource.direction == \"from-device\"".into(),
        2 => format!(
            "principal in Group::\"{}\"",
            dice.one_of(&["site", "attic"])
        ),
        3 => format!(
            "resource in [Channel::\"{}\", Channel::\"{}\"]",
            dice.one_of(&CHANNELS).0,
            dice.one_of(&CHANNELS).0
        ),
        4 => "principal is Device".into(),
        5 => "action == Action::\"publish\"".into(),
        6 => format!("!({})", condition(dice, depth - 1)),
        7 => format!(
            "({} && {})",
            condition(dice, depth - 1),
            condition(dice, depth - 1)
        ),
        _ => format!(
            "({} || {})",
            condition(dice, depth - 1),
            condition(dice, depth - 1)
        ),
    }
}

fn policy(dice: &mut Dice, number: usize) -> String {
    let effect = dice.one_of(&["permit", "permit", "permit", "forbid"]);
    let scope = dice.one_of(&[
        "principal is Device",
        "principal is Device in Product::\"camera\"",
        "principal is Service",
        "principal == Service::\"control\"",
        "principal",
    ]);
    let condition = condition(dice, 2);
    format!("@id(\"p{number}\")\n{effect} ({scope}, action, resource) when {{ {condition} }};\n")
}

fn everybody() -> Vec<Facts> {
    let with = |name: &str, product: &str, group: &str| Facts {
        product: Some(ProductId::new(product).unwrap()),
        groups: vec![GroupId::new(group).unwrap()],
        ..device(name)
    };
    vec![
        with("cam-1", "camera", "site"),
        with("cam-2", "camera", "attic"),
        with("lock-1", "lock", "site"),
        service("ingest"),
        service("control"),
    ]
}

/// The fleet with those of the random policies that it takes.
fn fleet(dice: &mut Dice) -> (Fleet, PolicySet) {
    let read = |policies: &str| {
        let mut files = files(policies);
        for file in &mut files {
            match file.path.as_str() {
                "fleet.toml" => file.text = "name = \"x\"\n[groups.site]\n[groups.attic]\n".into(),
                "products/p.toml" => file.text = "[camera]\n[lock]\n".into(),
                // Rates are another matter.
                "channels/c.toml" => file.text = file.text.replace("rate_per_minute = 6\n", ""),
                _ => {}
            }
        }
        Fleet::read(&files)
    };
    let mut taken = String::new();
    for number in 0..6 {
        let one = policy(dice, number);
        if read(&one).is_ok() {
            taken += &one;
        }
    }
    let fleet = read(&taken).unwrap_or_else(|wrong| panic!("{wrong:?}\n{taken}"));
    (fleet, taken.parse().unwrap())
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::\"{id}\"").parse().unwrap()
}

fn principal_of(facts: &Facts) -> EntityUid {
    match &facts.principal {
        Principal::Device(id) => uid("Device", id.as_str()),
        Principal::Service(id) => uid("Service", id.as_str()),
    }
}

fn cedar_allows(
    policies: &PolicySet,
    schema: &Schema,
    facts: &Facts,
    action: &str,
    channel: (&str, &str, &str),
    owner: &str,
) -> bool {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let (name, _, direction) = channel;
    let mut parents: HashSet<EntityUid> = (facts.groups.iter())
        .map(|group| uid("Group", group.as_str()))
        .collect();
    parents.extend(facts.product.iter().map(|id| uid("Product", id.as_str())));
    let of_principal = match &facts.principal {
        Principal::Device(_) => HashMap::from([("assurance".to_owned(), text("identified"))]),
        Principal::Service(_) => HashMap::new(),
    };
    let of_channel = HashMap::from([
        (
            "owner".to_owned(),
            RestrictedExpression::new_entity_uid(uid("Device", owner)),
        ),
        ("direction".to_owned(), text(direction)),
    ]);
    let (principal, resource) = (principal_of(facts), uid("Channel", name));
    let entities = Entities::from_entities(
        [
            Entity::new(principal.clone(), of_principal, parents).unwrap(),
            Entity::new(resource.clone(), of_channel, HashSet::new()).unwrap(),
        ],
        Some(schema),
    )
    .unwrap();
    let request = Request::new(
        principal,
        uid("Action", action),
        resource,
        Context::empty(),
        Some(schema),
    );
    let response = Authorizer::new().is_authorized(&request.unwrap(), policies, &entities);
    assert!(response.diagnostics().errors().next().is_none());
    response.decision() == Decision::Allow
}

#[test]
fn ten_thousand_decisions_at_the_gateway_are_those_of_cedar() {
    let schema = Schema::from_cedarschema_str(schema()).unwrap().0;
    let mut dice = Dice(6);
    let (mut permitted, mut denied) = (0, 0);
    let mut fleets = 0;
    while fleets < FLEETS {
        let (fleet, policies) = fleet(&mut dice);
        let Ok(grants) = Grants::compile(&fleet, everybody()) else {
            // Others' topics without one's own: no filter says that.
            continue;
        };
        fleets += 1;
        let mut house = House::new();
        let grants = Arc::new(grants);
        house.with_gateway(0, |gateway, now, turn| {
            gateway.regrant(Arc::clone(&grants), now, turn);
        });
        let clients: Vec<(Facts, usize)> = (everybody().into_iter())
            .map(|facts| {
                let client = house.join(&facts, Version::V5);
                (facts, client)
            })
            .collect();
        for number in 0..QUESTIONS / FLEETS {
            if number % 50 == 49 {
                // So many subscriptions a minute and no more.
                house.now = house.now.plus(Duration::from_secs(30));
            }
            let (facts, client) = &clients[dice.roll(clients.len())];
            let (channel, owner) = (dice.one_of(&CHANNELS), dice.one_of(&OWNERS));
            let topic = channel.1.replace('*', owner);
            let publishes = dice.roll(2) == 0;
            let ours = if publishes {
                let id = u16::try_from(number + 1).unwrap();
                house.publish(*client, &topic, b"x", Some(id));
                let codes = house
                    .heard(*client)
                    .into_iter()
                    .filter_map(|heard| match heard {
                        Heard::Puback { id: of, code, .. } if of == id => Some(code),
                        _ => None,
                    });
                let codes: Vec<u8> = codes.collect();
                assert_eq!(codes.len(), 1, "{topic}");
                assert!(
                    matches!(codes[0], 0 | 0x10 | 0x87),
                    "{:#x} for {topic}",
                    codes[0]
                );
                codes[0] < 0x80
            } else {
                let codes = house.subscribe(*client, &[&topic]);
                assert!(matches!(codes[..], [1 | 0x87]), "{codes:?} for {topic}");
                codes[0] < 0x80
            };
            let action = if publishes { "publish" } else { "receive" };
            let theirs = cedar_allows(&policies, &schema, facts, action, channel, owner);
            assert_eq!(
                ours, theirs,
                "{} {action} {topic} by\n{policies}",
                facts.principal
            );
            if ours { permitted += 1 } else { denied += 1 }
        }
    }
    println!("{permitted} permitted and {denied} denied alike");
    assert_eq!(permitted + denied, QUESTIONS);
    assert!(permitted > 1000 && denied > 1000, "{permitted} {denied}");
}
