//! What a file means, what of it is refused, and that nothing of it is passed over.

use super::*;
use access::{Ports, protocol};

#[test]
fn every_entry_of_every_collected_file_is_a_rule_or_says_why_not() {
    let files = collected();
    let (mut rules, mut unenforced) = (0, BTreeMap::<String, usize>::new());
    for (name, text) in &files {
        let (_, mud) = read(text);
        assert_eq!(
            mud.rules.len() + mud.unenforced.len(),
            text.matches("\"forwarding\"").count(),
            "{name}"
        );
        rules += mud.rules.len();
        for one in mud.unenforced {
            assert!(one.line > 1, "{name}: {}", one.entry);
            *unenforced.entry(one.why).or_default() += 1;
        }
    }
    for (why, count) in &unenforced {
        println!("{count:4} {why}");
    }
    println!("{rules} rules");
    if !files.is_empty() {
        assert_eq!(files.len(), 15);
        assert_eq!(rules + unenforced.values().sum::<usize>(), 673);
        // EAPOL and frames without a type; group frames of no IP group; extension headers.
        assert_eq!(unenforced.values().sum::<usize>(), 27 + 3 + 8);
    }
}

#[test]
fn a_file_means_what_it_says() {
    let (fleet, mud) = read(LAMP);
    assert_eq!(mud.unenforced, []);
    assert_eq!(mud.url, "https://lamps.example/lamp-2.json");
    let of = |name: &str| mud.rules.iter().find(|rule| rule.name == name).unwrap();
    assert!(!of("refused-port").accepts);
    assert_eq!(of("cloud").remote_ports, Ports::Range(8000, 8883));
    assert!(of("cloud").bars_opening_by_other());
    assert_eq!(of("own-controller").remote, Remote::MyController);
    assert_eq!(of("own-controller").remote_ports, Ports::Not(53));
    assert_eq!(of("network").icmp, Some((8, None)));
    assert_eq!(of("phones").device_ports, Ports::one(80));
    assert_eq!(of("echo6").protocol, Some(protocol::ICMPV6));
    assert_eq!(
        of("hub-asks").remote_network,
        Network::parse("2001:db8:1::/64")
    );
    // Its destinations join those that the fleet declares.
    let declared = &fleet.product(&product("camera")).unwrap().behaviour;
    let names: Vec<&str> = declared
        .destinations
        .iter()
        .flatten()
        .map(|id| id.as_str())
        .collect();
    assert!(names.contains(&"camera.mud-1"), "{names:?}");
    let cloud = fleet.destination(&of("cloud").destination).unwrap();
    assert_eq!(cloud.host(), Some("api.lamps.example"));
    assert_eq!(cloud.ports, None, "a range of ports is not listed");
}

#[test]
fn what_is_not_understood_is_never_read_as_less() {
    let change = |from: &str, to: &str| {
        assert!(LAMP.contains(from), "{from}");
        LAMP.replacen(from, to, 1)
    };
    for (from, to, words) in [
        (
            "\"mud-version\": 1",
            "\"mud-version\": 2",
            "only mud-version 1",
        ),
        ("\"systeminfo\"", "\"client-profiles\"", "not known"),
        (
            "\"is-supported\": true",
            "\"extensions\": [\"ol\"]",
            "extensions",
        ),
        (
            "https://lamps.example/lamp-2.json",
            "http://lamps.example/x",
            "https URL",
        ),
        (
            "{ \"name\": \"v6-to\" }",
            "{ \"name\": \"none\" }",
            "no list is called so",
        ),
        (
            "\"cache-validity\": 48",
            "\"mud-version\": 1",
            "stands twice",
        ),
        (
            "\"cache-validity\": 48",
            "\"ietf-mud:mud-version\": 1",
            "stands twice",
        ),
        // A refusal that cannot be made would open what comes after it.
        (
            "\"tcp\": { \"destination-port\": { \"operator\": \"eq\", \"port\": 8080 } }",
            "\"tcp\": { \"flags\": \"syn\" }",
            "refuses what later entries permit",
        ),
    ] {
        let said = refused(&change(from, to));
        assert!(
            said.starts_with("fleet/mud/camera.json:") && said.contains(words),
            "{to}: {said}"
        );
    }
    // An entry that narrows by something unknown costs itself, and is said.
    for (from, to) in [
        (
            "\"icmp\": { \"type\": 8 }",
            "\"icmp\": { \"type\": 8, \"identifier\": 1 }",
        ),
        (
            "\"icmp\": { \"type\": 8 }",
            "\"ietf-mud-tls:client-profile\": {}",
        ),
        (
            "\"destination-ipv4-network\": \"198.51.100.0/25\"",
            "\"dscp\": 3",
        ),
        (
            "\"destination-ipv4-network\": \"198.51.100.0/25\"",
            "\"ietf-acldns:src-dnsname\": \"a.example\"",
        ),
        (
            "\"destination-ipv4-network\": \"198.51.100.0/25\"",
            "\"destination-ipv4-network\": \"198.51.100.7/25\"",
        ),
    ] {
        let (_, mud) = read(&change(from, to));
        let entries: Vec<&str> = mud
            .unenforced
            .iter()
            .map(|one| one.entry.as_str())
            .collect();
        assert_eq!(entries, ["network"], "{to}");
        assert!(mud.rules.iter().all(|rule| rule.name != "network"));
    }
    let stray = base_with(&[("mud/camera.json", LAMP)]);
    assert!(lines(&Fleet::read(&stray).unwrap_err()).contains("no product names it"));
    let missing = base_with(&[("products/p.toml", "[bulb]\nmud = \"mud/bulb.json\"\n")]);
    assert!(lines(&Fleet::read(&missing).unwrap_err()).contains("is not there"));
}

/// `^` marks the place that is to be named.
#[test]
fn what_is_wrong_is_said_with_its_line_and_column() {
    let changed = |edits: &[(&str, &str)]| {
        let mut text = LAMP.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let (before, behind) = text.split_once('^').unwrap();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        (format!("{before}{behind}"), line, column)
    };
    let cases: [&[(&str, &str)]; 9] = [
        &[("\"cache-validity\": 48", "\"cache-validity\": 48 ^48")],
        &[("\"Lamp, second generation\"", "\"Lämpchen\" ^48")],
        &[("\"mud-version\": 1", "\"mud-version\": ^2")],
        &[("\"systeminfo\"", "^\"client-profiles\"")],
        &[("\"is-supported\": true", "\"extensions\": ^[\"ol\"]")],
        &[(
            "\"https://lamps.example/lamp-2.json\"",
            "^\"http://lamps.example/x\"",
        )],
        &[("{ \"name\": \"v6-to\" }", "{ \"name\": ^\"none\" }")],
        &[(
            "\"ietf-access-control-list:acls\": {",
            "\"ietf-access-control-list:acls\": ^{ \"x\": 1,",
        )],
        // Its name stands in the file before, as something else.
        &[
            ("\"name\": \"refused-port\"", "\"name\": ^\"Lamps\""),
            ("\"port\": 8080", "\"flags\": \"syn\""),
        ],
    ];
    for edits in cases {
        let (text, line, column) = changed(edits);
        let said = refused(&text);
        let place = format!("fleet/mud/camera.json:{line}:{column}: ");
        assert!(said.starts_with(&place), "{place} {said}");
    }
    let (text, line, _) = changed(&[
        ("\"name\": \"network\"", "\"name\": ^\"cloud\""),
        (
            "\"destination-ipv4-network\": \"198.51.100.0/25\"",
            "\"dscp\": 3",
        ),
    ]);
    let (_, mud) = read(&text);
    let found: Vec<(&str, u32)> = (mud.unenforced.iter())
        .map(|one| (one.entry.as_str(), one.line))
        .collect();
    assert_eq!(found, [("cloud", u32::try_from(line).unwrap())]);
}

#[test]
fn a_site_says_where_it_is_wrong() {
    for (text, said) in [
        (
            "interfaces = [\"lan0\", \"a b\"]\n",
            "1:23: \"a b\" is no name of an interface",
        ),
        (
            "# ä\nlocal_networks = [\"192.0.2.1/24\"]\n",
            "2:19: \"192.0.2.1/24\" is no address and no network",
        ),
        ("[local]\nhub = [\"x\"]\n", "2:8: \"x\" is no address"),
        ("[my_controllers]\n\"a b\" = []\n", "2:1: "),
        ("gateway = [\"x\"]\n", "1:12: "),
        ("plane = []\ncolour = 1\n", "2:1: unknown field `colour`"),
        ("plane = [\n", "1:10: unclosed array"),
    ] {
        let wrong = Site::read(text).unwrap_err().to_string();
        assert!(wrong.starts_with(said), "{text}: {wrong}");
    }
}

#[test]
fn no_mutation_of_a_file_makes_it_panic_or_lose_an_entry() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let pieces = [
        "\"", "{", "}", "[", "]", ",", "null", "-1", "1e9", "true", "\\u0000", "é", "65536", ":",
    ];
    let mut read_anyway = 0;
    for _ in 0..3000 {
        let mut text: Vec<char> = LAMP.chars().collect();
        for _ in 0..=random(2) {
            let at = random(text.len());
            let piece = pieces[random(pieces.len())];
            text.splice(at..(at + random(3)).min(text.len()), piece.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(fleet) = Fleet::read(&with_mud(&text)) {
            read_anyway += 1;
            let mud = fleet
                .product(&product("camera"))
                .unwrap()
                .mud
                .clone()
                .unwrap();
            let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
            let lists = whole["ietf-access-control-list:acls"]["acl"]
                .as_array()
                .unwrap();
            let entries = lists
                .iter()
                .map(|list| list["aces"]["ace"].as_array().unwrap().len());
            assert_eq!(
                mud.rules.len() + mud.unenforced.len(),
                entries.sum::<usize>(),
                "{text}"
            );
        }
    }
    assert!(read_anyway > 100, "{read_anyway}");
}

/// What is written reads as the same rules, whoever's file they came from.
#[test]
fn a_file_that_is_written_means_the_same() {
    let mut files = collected();
    files.push(("lamp".into(), LAMP.into()));
    for (name, text) in &files {
        let (fleet, mud) = read(text);
        let rules = fleet.rules(&product("camera"));
        let now = model::Timestamp::from_seconds(1_767_225_600);
        let written = access::write_mud(&rules, "camera", &mud.url, now).unwrap();
        let (again, of_it) = read(&written);
        assert_eq!(of_it.unenforced, [], "{name}");
        // By address family, which is how they are written, and without their names.
        let bare = |rules: Vec<Rule>| {
            let mut texts: Vec<String> = (rules.into_iter())
                .map(|rule| Rule {
                    name: String::new(),
                    destination: mud.rules[0].destination.clone(),
                    ..rule
                })
                .map(|rule| format!("{:?} {rule:?}", rule.direction))
                .collect();
            texts.sort();
            texts
        };
        let again = again.rules(&product("camera"));
        assert_eq!(bare(rules), bare(again), "{name}\n{written}");
    }
    assert!(
        access::write_mud(
            &[],
            "camera",
            "http://x/",
            model::Timestamp::from_seconds(0)
        )
        .is_err()
    );
}
