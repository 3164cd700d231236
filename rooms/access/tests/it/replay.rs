//! Recorded traffic under other policies: what counts say is what deciding each message again would say.

use crate::differential::{Rule, SERVICES, World, accepted, rule, world};
use crate::{compile, device, lines, service, sources};
use access::{
    Facts, Fleet, Grants, Passed, Passes, Replay, SourceFile, TrafficDay, TrafficLedger, replay,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

const CHANNELS: &str = "
[up]
topic = \"v1/{device}/up\"
direction = \"from-device\"
payload_bytes_max = 100
[thumbnail]
topic = \"v1/{device}/thumbnail\"
direction = \"from-device\"
payload_bytes_max = 100
";
const POLICIES: &str = "
@id(\"devices-send\")
permit (principal is Device, action == Action::\"publish\", resource) when { resource.owner == principal };
@id(\"ingest-hears\")
permit (principal == Service::\"ingest\", action == Action::\"receive\", resource);
";

fn files(channels: &str, policies: &str) -> Vec<SourceFile> {
    sources([
        ("fleet.toml", "name = \"x\"\n[groups.beta]\n[groups.eu]\n"),
        ("products/p.toml", "[camera]\n[lock]\n"),
        ("services/s.toml", "[ingest]\n"),
        ("channels/c.toml", channels),
        ("policies/p.cedar", policies),
    ])
}

/// What a gateway hands on of one message: who sent it, and who heard it.
fn count(
    ledger: &mut TrafficLedger,
    grants: &Grants,
    day: u32,
    facts: &Facts,
    topic: &str,
    received: bool,
    bytes: u32,
) {
    let message = grants.resolve(topic).unwrap();
    let passed = Passed {
        received,
        own: grants.is_own(&grants.subject(facts), &message),
        messages: 1,
        bytes: u64::from(bytes),
        bytes_max: bytes,
    };
    ledger.count(day, facts, grants.channel(&message).unwrap(), &passed);
}

/// Fifty cameras, of which ten in beta, send ten messages each on two days.
fn recorded() -> Vec<TrafficDay> {
    let grants = compile(&files(CHANNELS, POLICIES), &[device("c", "camera", &[])]);
    let mut ledger = TrafficLedger::default();
    let mut rows = Vec::new();
    for day in [20_000, 20_001] {
        for number in 0..50 {
            let groups: &[&str] = if number < 10 { &["beta"] } else { &[] };
            let name = format!("cam-{number}");
            let facts = device(&name, "camera", groups);
            for round in 0..10 {
                let channel = if round == 0 { "thumbnail" } else { "up" };
                let topic = format!("v1/{name}/{channel}");
                count(&mut ledger, &grants, day, &facts, &topic, false, 40 + round);
                count(
                    &mut ledger,
                    &grants,
                    day,
                    &service("ingest"),
                    &topic,
                    true,
                    40,
                );
            }
        }
        rows.extend(ledger.take());
        assert!(
            ledger.take().is_empty(),
            "what was taken is not taken twice"
        );
    }
    rows
}

fn under(channels: &str, policies: &str) -> Replay {
    let grants = compile(&files(channels, policies), &[]);
    replay(recorded(), &grants).unwrap_or_else(|wrong| panic!("{}", lines(&wrong)))
}

#[test]
fn the_same_fleet_refuses_nothing_and_everything_is_counted() {
    let found = under(CHANNELS, POLICIES);
    assert_eq!((found.sent.messages, found.sent.refused), (1000, 0));
    assert_eq!((found.heard.messages, found.heard.refused), (1000, 0));
    assert_eq!((found.lines.len(), found.untold), (0, 0));
    assert_eq!(found.first_day, Some(20_000));
}

#[test]
fn a_group_that_no_policy_named_when_it_was_recorded_is_told_apart() {
    let forbid = format!(
        "{POLICIES}\n@id(\"no-thumbnails\")\nforbid (principal is Device, action == \
         Action::\"publish\", resource == Channel::\"thumbnail\") unless {{ principal in \
         Group::\"beta\" }};"
    );
    let found = under(CHANNELS, &forbid);
    assert_eq!(found.sent.refused, 80);
    let devices = found.sent.devices.estimate();
    assert!((36..=44).contains(&devices), "{devices} for 40");
    let [line] = found.lines.as_slice() else {
        panic!("{:?}", found.lines);
    };
    assert_eq!(line.kind.to_string(), "product camera");
    assert_eq!(line.topics, "v1/{device}/thumbnail");
    assert!(
        matches!(&line.why, Passes::No { policy: Some(policy), .. } if policy.as_str() == "no-thumbnails")
    );
}

#[test]
fn a_channel_by_another_name_is_the_same_and_other_topics_are_not() {
    let renamed = CHANNELS.replace("[thumbnail]", "[picture]");
    assert_eq!(under(&renamed, POLICIES).sent.refused, 0);
    let gone = CHANNELS.split("[thumbnail]").next().unwrap();
    let found = under(gone, POLICIES);
    assert_eq!((found.sent.refused, found.heard.refused), (100, 100));
    // What a wider channel takes of it, counts cannot say.
    let wider = CHANNELS.replace("{device}/thumbnail", "{device}/thumbnail/{rest...}");
    let found = under(&wider, POLICIES);
    assert_eq!((found.sent.refused, found.sent.undecided), (0, 100));
}

#[test]
fn larger_messages_than_the_channel_will_take_are_undecided() {
    let small = CHANNELS.replace("payload_bytes_max = 100", "payload_bytes_max = 45");
    let found = under(&small, POLICIES);
    // Of thumbnails each had 40 bytes.
    assert_eq!((found.sent.refused, found.sent.undecided), (0, 900));
    assert_eq!(found.lines[0].why, Passes::SomeTooLarge);
}

#[test]
fn who_is_no_longer_declared_is_refused() {
    let mut files = files(CHANNELS, POLICIES);
    for file in &mut files {
        if file.path == "products/p.toml" {
            file.text = "[lock]\n".into();
        }
    }
    let grants = compile(&files, &[]);
    let found = replay(recorded(), &grants).unwrap();
    assert_eq!(found.sent.refused, 1000);
    assert_eq!(found.heard.refused, 0, "ingest is declared");
}

#[test]
fn a_flood_of_kinds_takes_no_more_memory_and_is_one_number() {
    let grants = compile(&files(CHANNELS, POLICIES), &[]);
    let mut ledger = TrafficLedger::default();
    for number in 0..12_000_u32 {
        let mut facts = device("d", "camera", &[]);
        facts.groups = vec![model::GroupId::new(&format!("g{number}")).unwrap()];
        count(&mut ledger, &grants, 1, &facts, "v1/d/up", false, 1);
    }
    let rows = ledger.take();
    assert_eq!(rows.len(), 10_001);
    let untold = rows.iter().find(|row| row.stream.is_none()).unwrap();
    assert_eq!(untold.tally.messages, 2_000);
}

#[test]
fn a_day_that_ends_is_kept_and_a_restart_goes_on_with_it() {
    let grants = compile(&files(CHANNELS, POLICIES), &[]);
    let facts = device("cam-1", "camera", &[]);
    let mut ledger = TrafficLedger::default();
    count(&mut ledger, &grants, 5, &facts, "v1/cam-1/up", false, 1);
    count(&mut ledger, &grants, 6, &facts, "v1/cam-1/up", false, 1);
    // A shard that is late by a moment does not begin the day before again.
    count(&mut ledger, &grants, 5, &facts, "v1/cam-1/up", false, 1);
    let rows = ledger.take();
    let told: Vec<(u32, u64)> = (rows.iter())
        .map(|row| (row.day, row.tally.messages))
        .collect();
    assert_eq!(told, [(5, 1), (6, 2)]);
    ledger.take_again(&rows);
    assert_eq!(ledger.take().len(), 2, "what could not be kept comes again");
    let mut restarted = TrafficLedger::default();
    restarted.restore(rows[1].clone());
    count(&mut restarted, &grants, 6, &facts, "v1/cam-1/up", false, 1);
    assert_eq!(restarted.take()[0].tally.messages, 3);
}

/// Each message that the old grants let through, decided again one by one.
fn refused_one_by_one(
    old: &Grants,
    new: &Grants,
    everybody: &[Facts],
    topics: &[String],
) -> (Vec<TrafficDay>, u64, u64) {
    let mut ledger = TrafficLedger::default();
    let (mut sent, mut heard) = (0, 0);
    for facts in everybody {
        let (was, is) = (old.subject(facts), new.subject(facts));
        for topic in topics {
            let Some(message) = old.resolve(topic) else {
                continue;
            };
            let now = new.resolve(topic).unwrap();
            if old.publish(&was, topic).is_ok() {
                count(&mut ledger, old, 9, facts, topic, false, 1);
                sent += u64::from(new.publish(&is, topic).is_err());
            }
            if old.receive(&was, &message) {
                count(&mut ledger, old, 9, facts, topic, true, 1);
                heard += u64::from(!new.receive(&is, &now));
            }
        }
    }
    (ledger.take(), sent, heard)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, rng_seed: prop::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn counts_say_what_every_single_message_says(
        world in world(),
        before in prop::collection::vec(rule(), 1..6),
        after in prop::collection::vec(rule(), 1..6),
    ) {
        let grants = |world: &World, rules: Vec<Rule>, everybody: &[Facts]| {
            let fleet = Fleet::read(&world.files(&accepted(world, rules))).unwrap();
            Grants::compile(&fleet, everybody.iter().cloned())
        };
        let names: BTreeSet<String> = (0..4).map(|number| format!("d{number}")).collect();
        let mut everybody: Vec<Facts> = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let groups: Vec<String> = world.device_groups[number % world.device_groups.len()]
                .iter()
                .map(|group| format!("g{group}"))
                .collect();
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            everybody.push(device(name, ["p0", "p1"][number % 2], &groups));
        }
        everybody.extend(SERVICES.map(service));
        let (Ok(old), Ok(new)) = (
            grants(&world, before, &everybody),
            grants(&world, after, &everybody),
        ) else {
            // What no filter can say is refused, and is another test's matter.
            return Ok(());
        };
        let topics: Vec<String> = (names.iter())
            .flat_map(|name| [format!("a/{name}/up"), format!("a/{name}/z/x"), format!("{name}/q/q")])
            .chain(["z/x".to_owned(), "up/x/y/z".to_owned()])
            .collect();
        let (rows, sent, heard) = refused_one_by_one(&old, &new, &everybody, &topics);
        let found = replay(rows, &new).unwrap();
        prop_assert_eq!((found.sent.refused, found.heard.refused), (sent, heard));
        prop_assert_eq!((found.sent.undecided, found.heard.undecided), (0, 0));
    }
}
