//! Commands to devices: sent when the device listens, once where it acknowledges, to nobody else.

use crate::house::{Heard, House, POLICIES, device, grants_of, message, service};
use access::Facts;
use gateway::{Command, CommandTo, Limits};
use model::{
    CommandId, Containment, Delivery, DeliveryRefusal, DeliveryWait, DeviceId, Principal,
    Revocable, Timestamp,
};
use mqtt::{ForwardProperties, Packet, Qos, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const AWAY: Delivery = Delivery::Waiting(DeliveryWait::Away);
const NOT_SUBSCRIBED: Delivery = Delivery::Waiting(DeliveryWait::NotSubscribed);

fn number(number: u16) -> CommandId {
    CommandId::made(Timestamp::from_seconds(1_700_000_000), number)
}

fn to(house: &House, name: &str, id: u16) -> CommandTo {
    CommandTo {
        command: Arc::new(Command {
            id: number(id),
            payload: format!("do {id}").into_bytes().into(),
            expires_at: house.now.plus(Duration::from_secs(60)),
        }),
        device: DeviceId::new(name).unwrap(),
        topic: format!("v1/{name}/down/do").into(),
        response_topic: None,
        delivery: AWAY,
    }
}

fn ask(house: &mut House, to: CommandTo) {
    let shards = u16::try_from(house.gateways.len()).unwrap();
    let home = gateway::home_shard(&Principal::Device(to.device.clone()), shards);
    house.with_gateway(usize::from(home), |gateway, now, turn| {
        gateway.command(to, now, turn);
    });
}

/// How far each command came, and nothing told twice.
fn told(house: &mut House) -> Vec<Delivery> {
    let told = std::mem::take(&mut house.progress);
    told.into_iter().map(|one| one.delivery).collect()
}

fn camera(house: &mut House) -> usize {
    let camera = house.join(&device("cam-1"), Version::V5);
    assert_eq!(house.subscribe(camera, &["v1/cam-1/down/+"]), [1]);
    camera
}

fn received(house: &mut House, client: usize) -> Vec<(u16, String)> {
    (house.heard(client).into_iter())
        .filter_map(|heard| match heard {
            Heard::Publish { payload, id, .. } => {
                Some((id.unwrap_or(0), String::from_utf8(payload).unwrap()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_device_that_listens_gets_it_at_once_and_acknowledges() {
    let mut house = House::new();
    let camera = camera(&mut house);
    let command = to(&house, "cam-1", 1);
    ask(&mut house, command.clone());
    assert_eq!(told(&mut house), [Delivery::Sent]);
    // Said again, after a crash of whoever asks for one, it is not sent again.
    ask(&mut house, command);
    let heard = received(&mut house, camera);
    assert_eq!(heard, [(heard[0].0, "do 1".to_owned())]);
    house.puback(camera, heard[0].0);
    assert_eq!(told(&mut house), [Delivery::Delivered]);
    house.lose(camera);
    house.pass(Duration::from_secs(100));
    assert_eq!(told(&mut house), []);
}

#[test]
fn it_waits_for_a_device_that_is_away_or_does_not_listen_yet() {
    let mut house = House::new();
    let command = to(&house, "cam-1", 1);
    ask(&mut house, command);
    assert_eq!(told(&mut house), [], "it was away from the start");
    let camera = house.join(&device("cam-1"), Version::V311);
    let second = to(&house, "cam-1", 2);
    ask(&mut house, second);
    assert_eq!(told(&mut house), [NOT_SUBSCRIBED]);
    house.send(camera, |out, version| {
        mqtt::encode::subscribe(out, version, 7, &[("v1/cam-1/down/do", Qos::AtLeastOnce)]);
    });
    let heard = house.heard(camera);
    assert!(matches!(heard[0], Heard::Suback { .. }), "{heard:?}");
    let payloads: Vec<_> = (heard[1..].iter())
        .map(|one| match one {
            Heard::Publish { payload, .. } => String::from_utf8(payload.clone()).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        payloads,
        ["do 1", "do 2"],
        "in the order in which they were asked for"
    );
    assert_eq!(told(&mut house), [Delivery::Sent, Delivery::Sent]);
}

#[test]
fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let mut house = House::new();
    let camera = camera(&mut house);
    for id in [1, 2] {
        let command = to(&house, "cam-1", id);
        ask(&mut house, command);
    }
    let heard = received(&mut house, camera);
    house.puback(camera, heard[0].0);
    house.lose(camera);
    assert_eq!(
        told(&mut house),
        [Delivery::Sent, Delivery::Sent, Delivery::Delivered, AWAY]
    );
    let camera = self::camera(&mut house);
    let _ = camera;
    assert_eq!(told(&mut house), [Delivery::Sent]);
}

#[test]
fn nobody_else_who_may_receive_the_topic_gets_a_command() {
    let open = format!(
        "{POLICIES}\n@id(\"archive-sees-commands\")\npermit (principal == Service::\"archive\", \
         action == Action::\"receive\", resource == Channel::\"down\");"
    );
    let mut house = House::new();
    house.grants = grants_of(&open);
    house.gateways[0] = gateway::Gateway::new(Limits::default(), 0, 1, Arc::clone(&house.grants));
    let archive = house.join(&service("archive"), Version::V5);
    assert_eq!(house.subscribe(archive, &["v1/+/down/+"]), [1]);
    let camera = camera(&mut house);
    let command = to(&house, "cam-1", 1);
    ask(&mut house, command);
    assert_eq!(received(&mut house, camera).len(), 1);
    assert_eq!(received(&mut house, archive), []);
}

#[test]
fn a_command_that_is_too_old_is_never_sent_and_it_says_why() {
    let mut house = House::new();
    let away = to(&house, "cam-2", 1);
    ask(&mut house, away);
    let deaf = house.join(&device("cam-1"), Version::V5);
    let command = to(&house, "cam-1", 2);
    ask(&mut house, command);
    house.pass(Duration::from_secs(59));
    assert_eq!(told(&mut house), [NOT_SUBSCRIBED]);
    house.pass(Duration::from_secs(1));
    let refused = Delivery::Refused(DeliveryRefusal::NotSubscribed);
    let mut over = told(&mut house);
    over.sort();
    assert_eq!(over, [Delivery::Expired, refused]);
    assert_eq!(house.subscribe(deaf, &["v1/cam-1/down/+"]), [1]);
    assert_eq!(received(&mut house, deaf), []);
    // What comes with its time over, after a restart, ends at the next look.
    let late = to(&house, "cam-1", 3);
    house.now = house.now.plus(Duration::from_secs(61));
    ask(&mut house, late);
    house.pass(Duration::ZERO);
    assert_eq!(told(&mut house), [Delivery::Expired]);
    assert_eq!(received(&mut house, deaf), []);
}

#[test]
fn a_device_that_was_cut_off_hears_no_command() {
    for containment in Containment::ALL {
        let mut house = House::new();
        let waits = to(&house, "cam-1", 1);
        ask(&mut house, waits);
        let facts = Facts {
            containment: Some(containment),
            ..device("cam-1")
        };
        house.with_gateway(0, |gateway, now, turn| {
            gateway.contain(facts.clone(), now, turn)
        });
        let refused = Delivery::Refused(DeliveryRefusal::Contained);
        assert_eq!(told(&mut house), [refused]);
        if containment == Containment::Quarantined {
            house.join(&facts, Version::V5);
            let command = to(&house, "cam-1", 2);
            ask(&mut house, command);
            assert_eq!(told(&mut house), [refused]);
        }
    }
    let mut house = House::new();
    let waits = to(&house, "cam-1", 1);
    ask(&mut house, waits);
    let what = [Revocable::Principal(device("cam-1").principal)];
    house.with_gateway(0, |gateway, now, turn| gateway.revoke(&what, now, turn));
    let revoked = Delivery::Refused(DeliveryRefusal::Revoked);
    assert_eq!(told(&mut house), [revoked]);
    // With its whole product, while it is here and does not listen.
    let mut house = House::new();
    house.join(&device("cam-1"), Version::V5);
    let waits = to(&house, "cam-1", 1);
    ask(&mut house, waits);
    let what = [Revocable::Product("camera".parse().unwrap())];
    house.with_gateway(0, |gateway, now, turn| gateway.revoke(&what, now, turn));
    assert_eq!(told(&mut house), [NOT_SUBSCRIBED, revoked]);
}

#[test]
fn a_grant_that_was_taken_away_meanwhile_counts() {
    let mut house = House::new();
    let command = to(&house, "cam-1", 1);
    ask(&mut house, command);
    let camera = house.join(&device("cam-1"), Version::V5);
    let grants = grants_of("@id(\"none\") forbid (principal, action, resource);");
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    assert_eq!(house.subscribe(camera, &["v1/cam-1/down/+"]), [135]);
    let refused = Delivery::Refused(DeliveryRefusal::NoGrant);
    assert_eq!(told(&mut house), [refused]);
    assert_eq!(received(&mut house, camera), []);
}

#[test]
fn a_cancelled_command_is_not_sent_and_one_that_was_sent_stays_sent() {
    let mut house = House::new();
    let waits = to(&house, "cam-2", 1);
    let command = Arc::clone(&waits.command);
    ask(&mut house, waits);
    let sent = camera(&mut house);
    let same = CommandTo {
        command,
        ..to(&house, "cam-1", 1)
    };
    ask(&mut house, same);
    told(&mut house);
    let count = house.with_gateway(0, |gateway, _, turn| {
        gateway.cancel_command(number(1), turn)
    });
    assert_eq!((count, told(&mut house)), (1, vec![Delivery::Cancelled]));
    let late = house.join(&device("cam-2"), Version::V5);
    assert_eq!(house.subscribe(late, &["v1/cam-2/down/+"]), [1]);
    assert_eq!(received(&mut house, late), []);
    // Nor again, to the one that did not acknowledge it.
    house.lose(sent);
    let again = camera(&mut house);
    assert_eq!(received(&mut house, again), []);
    assert_eq!(told(&mut house), []);
}

#[test]
fn a_cancelled_command_is_taken_out_of_the_queue_of_a_connection_that_takes_no_more() {
    let mut house = House::new();
    let connect = mqtt::Connect {
        receive_maximum: Some(1),
        ..mqtt::Connect::new(Version::V5, "cam-1")
    };
    let camera = house.connect(&device("cam-1"), &connect);
    house.heard(camera);
    assert_eq!(house.subscribe(camera, &["v1/cam-1/down/+"]), [1]);
    for id in 1..=3 {
        let command = to(&house, "cam-1", id);
        ask(&mut house, command);
    }
    assert_eq!(told(&mut house), [Delivery::Sent; 3]);
    let first = received(&mut house, camera);
    assert_eq!(first.len(), 1, "its window is full");
    let count = house.with_gateway(0, |gateway, _, turn| {
        gateway.cancel_command(number(2), turn)
    });
    assert_eq!((count, told(&mut house)), (1, vec![Delivery::Cancelled]));
    house.puback(camera, first[0].0);
    let next = received(&mut house, camera);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].1, "do 3");
    assert_eq!(told(&mut house), [Delivery::Delivered]);
}

#[test]
fn a_device_says_no_or_acknowledges_nothing_at_all() {
    let mut house = House::new();
    let camera = camera(&mut house);
    let command = to(&house, "cam-1", 1);
    ask(&mut house, command);
    let id = received(&mut house, camera)[0].0;
    house.send(camera, |out, version| {
        mqtt::encode::puback(out, version, id, mqtt::Reason::UNSPECIFIED_ERROR, None);
    });
    let no = Delivery::Refused(DeliveryRefusal::ByDevice);
    assert_eq!(told(&mut house), [Delivery::Sent, no]);

    let deaf = house.join(&device("cam-3"), Version::V5);
    house.send(deaf, |out, version| {
        mqtt::encode::subscribe(out, version, 7, &[("v1/cam-3/down/do", Qos::AtMostOnce)]);
    });
    let command = to(&house, "cam-3", 2);
    ask(&mut house, command);
    assert_eq!(told(&mut house), [Delivery::Sent]);
    house.lose(deaf);
    house.pass(Duration::from_secs(61));
    assert_eq!(told(&mut house), [], "sent is the last that is known");
}

#[test]
fn an_answer_is_one_with_the_commands_id_on_its_topic_by_its_device() {
    let mut house = House::new();
    let camera = camera(&mut house);
    let other = house.join(&device("cam-2"), Version::V5);
    let command = CommandTo {
        response_topic: Some("v1/cam-1/up/done".into()),
        ..to(&house, "cam-1", 1)
    };
    ask(&mut house, command);
    let bytes = house.drain(camera);
    let Packet::Publish(heard) = mqtt::decode_from_server(Version::V5, &bytes).unwrap() else {
        panic!("{bytes:?}")
    };
    assert_eq!(heard.forward.response_topic(), Some("v1/cam-1/up/done"));
    let correlation = heard.forward.correlation_data().unwrap().to_vec();
    assert_eq!(correlation, number(1).to_string().into_bytes());
    assert_eq!(heard.forward.message_expiry_seconds(), Some(60));
    house.puback(camera, heard.packet_id.unwrap());
    assert_eq!(told(&mut house), [Delivery::Sent, Delivery::Delivered]);

    let answer = |house: &mut House, client, topic: &str, correlation: &[u8]| {
        let mut properties = Vec::new();
        mqtt::encode::request_properties(&mut properties, 60, Some(("v1/x", correlation)));
        // Only the correlation data: a response topic would have to be the device's own.
        let at = properties.iter().position(|byte| *byte == 0x09).unwrap();
        let forward = ForwardProperties::from_validated(&properties[at..]);
        let fields = mqtt::Publish {
            forward,
            ..message(topic, b"done", Some(9))
        };
        house.publish_as(client, &fields);
        told(house)
    };
    // Of another device, with another id, on another topic: none of them.
    assert_eq!(
        answer(&mut house, other, "v1/cam-2/up/done", &correlation),
        []
    );
    let foreign = number(2).to_string();
    assert_eq!(
        answer(&mut house, camera, "v1/cam-1/up/done", foreign.as_bytes()),
        []
    );
    assert_eq!(
        answer(&mut house, camera, "v1/cam-1/up/else", &correlation),
        []
    );
    let answered = answer(&mut house, camera, "v1/cam-1/up/done", &correlation);
    assert_eq!(answered, [Delivery::Answered]);
    assert_eq!(
        answer(&mut house, camera, "v1/cam-1/up/done", &correlation),
        []
    );
}

#[test]
fn a_device_that_never_comes_holds_so_many_commands_and_no_more() {
    let mut house = House::with(
        Limits {
            commands_per_device_max: 2,
            ..Limits::default()
        },
        1,
    );
    for id in 1..=3 {
        let command = to(&house, "cam-1", id);
        ask(&mut house, command);
    }
    let many = Delivery::Refused(DeliveryRefusal::TooMany);
    assert_eq!(told(&mut house), [many]);
}

/// Whatever connects, breaks off, acknowledges and expires: nothing is sent twice within a session,
/// what was acknowledged never comes again, and in the end every command is over.
#[test]
fn at_least_once_over_any_course_of_connections() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..200 {
        let mut house = House::new();
        let mut client: Option<usize> = None;
        let mut last: BTreeMap<CommandId, Delivery> = BTreeMap::new();
        let mut acknowledged: Vec<String> = Vec::new();
        let mut unacknowledged: Vec<(u16, String)> = Vec::new();
        for step in 0..40_u16 {
            match (random(6), client) {
                (0 | 1, _) => {
                    let command = to(&house, "cam-1", step);
                    last.insert(command.command.id, command.delivery);
                    ask(&mut house, command);
                }
                (2, None) => {
                    client = Some(camera(&mut house));
                    unacknowledged.clear();
                }
                (3, Some(here)) => {
                    house.lose(here);
                    client = None;
                }
                (4, Some(here)) if !unacknowledged.is_empty() => {
                    let (id, text) = unacknowledged.remove(0);
                    house.puback(here, id);
                    acknowledged.push(text);
                }
                _ => house.pass(Duration::from_secs(random(20))),
            }
            if let Some(here) = client {
                for (id, text) in received(&mut house, here) {
                    assert!(!acknowledged.contains(&text), "{text} again");
                    assert!(unacknowledged.iter().all(|(_, other)| *other != text));
                    unacknowledged.push((id, text));
                }
            }
            for one in house.progress.drain(..) {
                last.insert(one.command, one.delivery);
            }
        }
        house.pass(Duration::from_secs(61));
        for one in house.progress.drain(..) {
            last.insert(one.command, one.delivery);
        }
        for (id, delivery) in last {
            assert!(!delivery.is_waiting(), "{id} still waits: {delivery:?}");
        }
    }
}
