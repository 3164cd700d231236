//! The map of segments: who is in one row may do the same, and what was used is said of it.

use crate::{compile, device, example_fleet, service};
use access::{Facts, Grants, Passed, SegmentMap, TrafficLedger};
use model::Principal;

fn population() -> Vec<Facts> {
    let mut all: Vec<Facts> = Vec::new();
    for number in 0..40 {
        let product = ["camera", "lock", "thermostat"][number % 3];
        let groups: &[&str] = match number % 4 {
            0 => &["beta"],
            1 => &["suspended"],
            2 => &["lost"],
            _ => &[],
        };
        all.push(device(&format!("d-{number}"), product, groups));
    }
    all
}

fn map(grants: &Grants, ledger: &mut TrafficLedger) -> SegmentMap {
    grants.segments(population().into_iter(), &ledger.take())
}

#[test]
fn a_row_is_all_who_may_do_the_same_and_nobody_else() {
    let fleet = example_fleet();
    let grants = Grants::compile(&fleet, population()).unwrap();
    let found = map(&grants, &mut TrafficLedger::default());
    let devices = found.segments.iter().filter(|one| !one.is_service);
    assert_eq!(devices.map(|one| one.members).sum::<u64>(), 40);
    assert_eq!(found.left_out, 0);
    // Each device is in the row of its kind, and may do exactly what the row says.
    for facts in population() {
        let reach = grants.reach(&facts);
        let kind = access::Kind::of(&facts);
        let mut rows = found
            .segments
            .iter()
            .filter(|one| one.kinds.contains(&kind));
        let row = rows.next().unwrap();
        assert!(rows.next().is_none(), "{kind} stands in two rows");
        let said: Vec<(String, bool, bool)> = (row.channels.iter())
            .map(|cell| {
                let (publishes, receives) = (cell.publish.is_some(), cell.receive.is_some());
                (cell.channel.to_string(), publishes, receives)
            })
            .collect();
        let real: Vec<(String, bool, bool)> = (reach.channels.iter())
            .filter(|one| !one.channel.starts_with('$'))
            .map(|one| (one.channel.clone(), one.publishes, one.receives))
            .collect();
        assert_eq!(said, real, "{}", facts.principal);
        assert_eq!(row.destinations, reach.destinations);
    }
    // Lost devices are suspended ones: they stand in one row with them.
    let locks = (found.segments.iter())
        .find(|one| {
            one.kinds
                .iter()
                .any(|kind| kind.to_string() == "product lock, group lost")
        })
        .unwrap();
    let names: Vec<String> = locks.kinds.iter().map(ToString::to_string).collect();
    assert!(
        names.contains(&"product lock, group suspended".to_owned()),
        "{names:?}"
    );
}

#[test]
fn what_was_used_is_said_of_its_row_and_the_rest_is_unused() {
    let fleet = example_fleet();
    let grants = Grants::compile(&fleet, population()).unwrap();
    let mut ledger = TrafficLedger::default();
    for facts in population() {
        let (Principal::Device(id), Some(product)) = (&facts.principal, &facts.product) else {
            continue;
        };
        if product.as_str() != "camera" {
            continue;
        }
        let topic = format!("v1/camera/{id}/state");
        let message = grants.resolve(&topic).unwrap();
        for (facts, received) in [(facts.clone(), false), (service("ingest"), true)] {
            let passed = Passed {
                received,
                own: !received,
                messages: 3,
                bytes: 30,
                bytes_max: 10,
            };
            ledger.count(7, &facts, grants.channel(&message).unwrap(), &passed);
        }
    }
    let found = map(&grants, &mut ledger);
    let mut sent = 0;
    for segment in &found.segments {
        for cell in &segment.channels {
            let is_state = cell.channel.as_str() == "camera-state";
            for right in [&cell.publish, &cell.receive].into_iter().flatten() {
                assert!(right.policy.is_some());
                let by_ingest = segment.kinds[0].to_string() == "service ingest";
                let is_used = is_state && (by_ingest || !segment.is_service);
                assert_eq!(
                    right.messages > 0,
                    is_used,
                    "{} {}",
                    segment.kinds[0],
                    cell.channel
                );
                assert_eq!(
                    right.others,
                    segment.is_service && cell.channel.as_str() != "notice"
                );
            }
            if is_state && !segment.is_service {
                let right = cell.publish.as_ref().unwrap();
                sent += right.messages;
                assert_eq!(right.devices.estimate(), segment.members);
            }
        }
    }
    assert_eq!(sent, 14 * 3);
}

/// Two hundred groups that policies name: rows for what differs, and no more.
#[test]
fn two_hundred_groups_are_as_many_rows_as_they_differ() {
    let groups: String = (0..200)
        .map(|number| format!("[groups.g{number}]\n"))
        .collect();
    let names: Vec<String> = (0..20)
        .map(|number| format!("Group::\"g{number}\""))
        .collect();
    let policies = format!(
        "@id(\"a\")\npermit (principal is Device, action == Action::\"publish\", resource) when {{ \
         resource.owner == principal && principal in [{}] }};",
        names.join(", ")
    );
    let files = crate::base_with(&[
        (
            "fleet.toml",
            &format!("name = \"x\"\n{groups}[groups.floor]\n[groups.back-end]\n"),
        ),
        ("policies/p.cedar", &policies),
    ]);
    let population: Vec<Facts> = (0..1000)
        .map(|number| {
            device(
                &format!("d{number}"),
                "camera",
                &[&format!("g{}", number % 200)],
            )
        })
        .collect();
    let grants = compile(&files, &population);
    let found = grants.segments(population.into_iter(), &[]);
    let devices: Vec<_> = found
        .segments
        .iter()
        .filter(|one| !one.is_service)
        .collect();
    let members: Vec<u64> = devices.iter().map(|one| one.members).collect();
    assert_eq!(members, [900, 100]);
    assert_eq!(
        (devices[0].kinds.len(), devices[0].kinds_left_out),
        (50, 130)
    );
}
