//! Where a command goes, and to whom it does not.

use crate::{compile, device, sources};
use access::{ChannelId, Facts, Grants};
use model::{Containment, DeliveryRefusal};

const CHANNELS: &str = "
[tell]
topic = \"v1/{device}/tell/{any}\"
direction = \"to-device\"
payload_bytes_max = 100
response = \"answer\"
[tell-deep]
topic = \"{attribute.site}/{device}/deep/{any}/{rest...}\"
direction = \"to-device\"
payload_bytes_max = 100
fan_out_per_minute = 7
[tell-all]
topic = \"v2/all\"
direction = \"to-device\"
payload_bytes_max = 100
[answer]
topic = \"v1/{device}/answer/{any}/{any}\"
direction = \"from-device\"
payload_bytes_max = 100
";
const POLICIES: &str = "
@id(\"own\") permit (principal in Product::\"camera\", action, resource)
when { resource.owner == principal };
@id(\"deaf\") forbid (principal in Group::\"deaf\", action == Action::\"receive\", resource);
@id(\"mute\") forbid (principal in Group::\"mute\", action == Action::\"publish\", resource);
";

fn grants() -> Grants {
    let files = sources([
        (
            "fleet.toml",
            "name = \"t\"\n[groups.deaf]\n[groups.mute]\n[groups.deaf-too]\nin = [\"deaf\"]\n",
        ),
        ("products/p.toml", "[camera]\n"),
        ("channels/c.toml", CHANNELS),
        ("policies/p.cedar", POLICIES),
    ]);
    let population = ["", "deaf", "mute"].map(|group| {
        let groups: Vec<&str> = Some(group)
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect();
        device("cam-1", "camera", &groups)
    });
    compile(&files, &population)
}

fn levels(levels: &[&str]) -> Vec<String> {
    levels.iter().map(|level| (*level).to_owned()).collect()
}

fn address(
    grants: &Grants,
    channel: &str,
    free: &[&str],
    facts: &Facts,
) -> Result<(String, Option<String>), DeliveryRefusal> {
    let channel = grants
        .fleet()
        .channel(&ChannelId::new(channel).unwrap())
        .unwrap();
    channel.takes_command(&levels(free)).unwrap();
    let to = grants.address(channel, &levels(free), facts)?;
    Ok((to.topic, to.response_topic))
}

#[test]
fn each_device_has_its_topic_and_its_place_to_answer() {
    let grants = grants();
    let camera = device("cam-1", "camera", &[]);
    let to = address(&grants, "tell", &["on"], &camera).unwrap();
    let answer = Some("v1/cam-1/answer/on/_".to_owned());
    assert_eq!(to, ("v1/cam-1/tell/on".to_owned(), answer));
    let deep = address(&grants, "tell-deep", &["a", "b", "c"], &camera);
    assert_eq!(deep, Err(DeliveryRefusal::NoTopic), "it has no site");
    let at_site = Facts {
        attributes: [("site".parse().unwrap(), "north".parse().unwrap())].into(),
        ..camera
    };
    let deep = address(&grants, "tell-deep", &["a", "b", "c"], &at_site).unwrap();
    assert_eq!(deep, ("north/cam-1/deep/a/b/c".to_owned(), None));
}

#[test]
fn who_may_not_hear_is_told_nothing_and_who_may_not_answer_is_not_asked_to() {
    let grants = grants();
    let deaf = device("cam-1", "camera", &["deaf"]);
    assert_eq!(
        address(&grants, "tell", &["on"], &deaf),
        Err(DeliveryRefusal::NoGrant)
    );
    let mute = device("cam-1", "camera", &["mute"]);
    assert_eq!(address(&grants, "tell", &["on"], &mute).unwrap().1, None);
    for containment in Containment::ALL {
        let cut = Facts {
            containment: Some(containment),
            ..device("cam-1", "camera", &[])
        };
        assert_eq!(
            address(&grants, "tell", &["on"], &cut),
            Err(DeliveryRefusal::Contained)
        );
    }
}

#[test]
fn a_level_cannot_reach_out_of_its_channel_and_a_channel_must_be_to_a_device() {
    let grants = grants();
    let takes = |channel: &str, free: &[&str]| {
        let channel = grants.fleet().channel(&ChannelId::new(channel).unwrap());
        channel.unwrap().takes_command(&levels(free)).is_ok()
    };
    assert!(takes("tell", &["on"]));
    for free in [
        &[][..],
        &["a", "b"],
        &["a/b"],
        &["+"],
        &["#"],
        &[""],
        &["a b"],
        &["$x"],
    ] {
        assert!(!takes("tell", free), "{free:?}");
    }
    assert!(!takes("tell-deep", &[]));
    assert!(!takes("tell-deep", &vec!["x"; 17]));
    assert!(!takes("answer", &["a", "b"]), "it is from-device");
    assert!(!takes("tell-all", &[]), "nobody owns it");
}

#[test]
fn a_group_holds_the_groups_in_it() {
    let grants = grants();
    let group = |name: &str| name.parse::<model::GroupId>().unwrap();
    let fleet = grants.fleet();
    assert!(fleet.is_within(&[group("deaf-too")], &group("deaf")));
    assert!(!fleet.is_within(&[group("deaf")], &group("deaf-too")));
    assert!(!fleet.is_within(&[], &group("deaf")));
}
