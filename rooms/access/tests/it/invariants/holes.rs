//! One hole of each kind in a sound fleet, and edits beside them that open none.

use super::{broken, outcome, source};
use crate::example_files;
use access::{Outcome, SourceFile};

/// More of what people write, beside the example fleet.
const POLICIES: &str = "\
    @id(\"beta-notifies\")\n\
    permit (principal in Group::\"beta\", action == Action::\"publish\", resource == Channel::\"notice\");\n\
    @id(\"but-devices-do-not\")\n\
    forbid (principal is Device, action == Action::\"publish\", resource == Channel::\"notice\");\n";
const NO_PATH: &str = "[no-path]\nfrom = [\"devices\"]\nto = [\"devices\"]\n";
const NO_PEER: &str = "[no-peer]\nlocal_only = [\"product/thermostat\"]\n";

/// The fleet with each first text replaced by the second in the file before it.
fn edited(invariant: &str, edits: &[(&str, &str, &str)]) -> Vec<SourceFile> {
    let mut files = example_files();
    files.retain(|file| file.path != "invariants.toml");
    files.push(source("policies/more.cedar", POLICIES));
    files.push(source("invariants.toml", invariant));
    for (path, before, after) in edits {
        let file = files.iter_mut().find(|file| file.path == *path).unwrap();
        assert!(file.text.contains(before), "{path}: {before}");
        file.text = file.text.replace(before, after);
    }
    files
}

const DEVICES: &str = "policies/devices.cedar";
const SERVICES: &str = "policies/services.cedar";
const MORE: &str = "policies/more.cedar";

#[test]
fn each_kind_of_hole_is_found_and_said_from_end_to_end() {
    assert_eq!(outcome(&edited(NO_PATH, &[])), Outcome::Holds);
    // What was done, the edits, who may publish where and by what, who hears it and by what.
    type Hole<'a> = (&'a str, &'a [(&'a str, &'a str, &'a str)], [&'a str; 2]);
    let holes: [Hole<'_>; 10] = [
        (
            "a service's policy made everybody's",
            &[(SERVICES, "principal == Service::\"ingest\"", "principal")],
            [
                "a device of product camera may publish to its own topics of camera-state by policy device-sends-own (",
                "a device of product camera receives that by policy ingest-receives-all (",
            ],
        ),
        (
            "a service named by a group that devices can be in",
            &[(
                SERVICES,
                "(principal == Service::\"commander\", action == Action::\"publish\"",
                "(principal in Group::\"back-end\", action == Action::\"publish\"",
            )],
            [
                "a device of product camera, in back-end may publish to the other's topics of camera-command by policy commander-sends (",
                "a device of product camera receives that by policy device-hears-own (",
            ],
        ),
        (
            "a policy of one channel made one of all",
            &[(
                DEVICES,
                "action == Action::\"receive\", resource == Channel::\"notice\"",
                "action == Action::\"receive\", resource",
            )],
            [
                "a device of product camera may publish to its own topics of camera-state by policy device-sends-own (",
                "a device of product camera receives that by policy device-hears-notices (",
            ],
        ),
        (
            "a channel more in a list",
            &[(
                DEVICES,
                "action == Action::\"receive\", resource == Channel::\"notice\")",
                "action == Action::\"receive\", resource) when { resource in [Channel::\"notice\", Channel::\"lock-state\"] }",
            )],
            [
                "a device of product lock may publish to its own topics of lock-state by policy device-sends-own (",
                "a device of product lock receives that by policy device-hears-notices (",
            ],
        ),
        (
            "the owner forgotten, and the other direction",
            &[(
                DEVICES,
                "resource.owner == principal && resource.direction == \"from-device\"",
                "resource.direction == \"to-device\"",
            )],
            [
                "a device of product camera may publish to the other's topics of camera-command by policy device-sends-own (",
                "a device of product camera receives that by policy device-hears-own (",
            ],
        ),
        (
            "an action more",
            &[
                (
                    DEVICES,
                    "action == Action::\"receive\", resource == Channel::\"notice\"",
                    "action, resource == Channel::\"notice\"",
                ),
                (
                    MORE,
                    "forbid (principal is Device,",
                    "forbid (principal is Device in Product::\"lock\",",
                ),
            ],
            [
                "may publish to notice, which nobody owns by policy device-hears-notices (",
                "receives that by policy device-hears-notices (",
            ],
        ),
        (
            "a forbid taken away",
            &[(
                MORE,
                "@id(\"but-devices-do-not\")\nforbid (principal is Device, action == Action::\"publish\", resource == Channel::\"notice\");\n",
                "",
            )],
            [
                "in beta may publish to notice, which nobody owns by policy beta-notifies (",
                "receives that by policy device-hears-notices (",
            ],
        ),
        (
            "a forbid that excepts somebody",
            &[(
                MORE,
                "forbid (principal is Device, action == Action::\"publish\", resource == Channel::\"notice\");",
                "forbid (principal is Device, action == Action::\"publish\", resource == Channel::\"notice\")\nunless { principal.assurance == \"attested\" };",
            )],
            [
                "in beta, attested may publish to notice, which nobody owns by policy beta-notifies (",
                "receives that by policy device-hears-notices (",
            ],
        ),
        (
            "a slot in a template",
            &[
                (
                    "channels/common.toml",
                    "topic = \"v1/notice/{any}\"\ndirection = \"to-device\"",
                    "topic = \"v1/notice/{device}\"\ndirection = \"from-device\"",
                ),
                (
                    MORE,
                    "permit (principal in Group::\"beta\"",
                    "permit (principal == Service::\"ingest\"",
                ),
                (
                    MORE,
                    "forbid (principal is Device,",
                    "forbid (principal is Service,",
                ),
            ],
            [
                "may publish to its own topics of notice by policy device-sends-own (",
                "receives that by policy device-hears-notices (",
            ],
        ),
        (
            "a message that is retained and heard by whoever comes later",
            &[
                (
                    "channels/camera.toml",
                    "retained_max = 50000",
                    "retained_max = 100",
                ),
                (
                    DEVICES,
                    "resource.owner == principal && resource.direction == \"to-device\"",
                    "resource.owner == principal || resource == Channel::\"camera-state\"",
                ),
            ],
            [
                "a device of product camera may publish to its own topics of camera-state by policy device-sends-own (",
                "a device of product camera receives that by policy device-hears-own (",
            ],
        ),
    ];
    for (what, edits, [sends, hears]) in holes {
        let Outcome::Broken(case) = outcome(&edited(NO_PATH, edits)) else {
            panic!("{what} opens no path");
        };
        let (from, to) = case.split_once(", and ").unwrap();
        assert!(
            from.starts_with("a device ") && from.contains(sends),
            "{what}: {case}"
        );
        assert!(
            to.starts_with("a device ") && to.contains(hears),
            "{what}: {case}"
        );
        // File and line of both.
        assert!(
            from.ends_with(')')
                && to.ends_with(')')
                && case.matches("(fleet/policies/").count() == 2
        );
    }
}

/// No way by messages: beside the plane, to another device of the same house.
#[test]
fn a_destination_that_is_a_peer_in_the_house_is_found() {
    let destinations = "destinations/internet.toml";
    let to_hub = (
        destinations,
        "host = \"time.example.net\"",
        "local = \"hub\"",
    );
    assert_eq!(outcome(&edited(NO_PEER, &[])), Outcome::Holds);
    let case = broken(outcome(&edited(NO_PEER, &[to_hub])));
    let said = "a device of product lock may connect with time (local hub) by policy device-reaches-declared (fleet/policies/devices.cedar:";
    assert!(case.starts_with(said), "{case}");
    // By its number; and one that nobody declares, by a policy that asks for no owner.
    let by_address = (
        destinations,
        "host = \"video.example.net\"",
        "address = \"192.168.0.0/16\"",
    );
    let case = broken(outcome(&edited(NO_PEER, &[by_address])));
    assert!(
        case.contains("may connect with cloud-video (192.168.0.0/16) by"),
        "{case}"
    );
    let elsewhere = (
        destinations,
        "host = \"video.example.net\"",
        "address = \"203.0.113.7\"",
    );
    assert_eq!(outcome(&edited(NO_PEER, &[elsewhere])), Outcome::Holds);
    let not_declared = (
        "products/home.toml",
        "destinations = [\"cloud-video\", \"time\"]",
        "destinations = [\"cloud-video\"]",
    );
    let only_thermostats = (
        "products/home.toml",
        "[lock.behaviour]\ndestinations = [\"time\"]",
        "[lock.behaviour]\ndestinations = []",
    );
    let held = [to_hub, not_declared, only_thermostats];
    assert_eq!(outcome(&edited(NO_PEER, &held)), Outcome::Holds);
    let ownerless = (
        DEVICES,
        "action == Action::\"connect\", resource)\nwhen { resource.owner == principal }",
        "action == Action::\"connect\", resource)",
    );
    let all = [to_hub, not_declared, only_thermostats, ownerless];
    let case = broken(outcome(&edited(NO_PEER, &all)));
    assert!(
        case.contains("may connect with time (local hub) by policy device-reaches-declared"),
        "{case}"
    );
    // Whoever may open connections to a device is a destination of its as well.
    let serves = (
        "products/home.toml",
        "[camera.behaviour]\n",
        "[camera.behaviour]\nserves = [\"cloud-video\"]\n",
    );
    let phone = (
        destinations,
        "host = \"video.example.net\"",
        "local = \"phone\"",
    );
    let served = [
        phone,
        serves,
        (
            "products/home.toml",
            "destinations = [\"cloud-video\", \"time\"]",
            "destinations = [\"time\"]",
        ),
    ];
    let case = broken(outcome(&edited(NO_PEER, &served)));
    assert!(
        case.contains("product camera may connect with cloud-video (local phone)"),
        "{case}"
    );
    // These by name.
    let named = "[x]\ndestinations = [\"cloud-video\"]\nconnect_only = [\"product/camera\"]\n";
    assert_eq!(outcome(&edited(named, &[])), Outcome::Holds);
    let case = broken(outcome(&edited(&named.replace("camera", "lock"), &[])));
    assert!(
        case.contains("product camera may connect with cloud-video (video.example.net)"),
        "{case}"
    );
}

#[test]
fn edits_that_open_nothing_are_no_alarm() {
    for edit in [
        (
            "services/back-end.toml",
            "[ingest]\n",
            "[ingest]\nshares = [\"ingest\", \"other\"]\n",
        ),
        (
            "channels/common.toml",
            "rate_per_minute = 10",
            "rate_per_minute = 10\nretained_max = 50",
        ),
        (
            "channels/camera.toml",
            "v1/camera/{device}/state",
            "v2/camera/{device}/state/{rest...}",
        ),
        // Owned by nobody, it can be nobody's own.
        (
            "channels/camera.toml",
            "v1/camera/{device}/state",
            "v1/cameras/{any}/state",
        ),
        (
            DEVICES,
            "resource.owner == principal && resource.direction == \"from-device\"",
            "resource.owner == principal",
        ),
        (
            DEVICES,
            "resource.owner == principal && resource.direction == \"to-device\"",
            "resource.owner == principal",
        ),
        (
            DEVICES,
            "unless { principal in Product::\"camera\" }",
            "unless { principal in Product::\"camera\" || principal in Product::\"lock\" }",
        ),
        (DEVICES, "unless { principal in Group::\"beta\" }", ""),
        (
            SERVICES,
            "resource.direction == \"from-device\"",
            "resource.direction == \"to-device\"",
        ),
        (MORE, "principal in Group::\"beta\"", "principal"),
        (
            "fleet.toml",
            "[groups.beta]\n",
            "[groups.beta]\nin = [\"back-end\"]\n",
        ),
        (
            "destinations/internet.toml",
            "host = \"time.example.net\"",
            "local = \"hub\"",
        ),
    ] {
        assert_eq!(
            outcome(&edited(NO_PATH, &[edit])),
            Outcome::Holds,
            "{edit:?}"
        );
    }
}
