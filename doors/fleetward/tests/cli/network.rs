//! What a gateway is told, without a plane.

use crate::support::{run, text};
use std::fs;
use std::path::Path;

/// A fleet with one MUD file, its site and its devices.
fn scene(folder: &Path) {
    for part in [
        "fleet/products",
        "fleet/mud",
        "fleet/destinations",
        "fleet/policies",
    ] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(folder.join(path), text).unwrap();
    write("fleet/fleet.toml", "name = \"home\"\n");
    write(
        "fleet/products/p.toml",
        "[lamp]\nmud = \"mud/lamp.json\"\n[lock]\n[lock.behaviour]\ndestinations = [\"hub\"]\nlistens = [\"tcp/80\"]\nserves = [\"hub\"]\n",
    );
    write(
        "fleet/destinations/d.toml",
        "[hub]\nlocal = \"hub\"\nports = [8883]\n",
    );
    write(
        "fleet/policies/p.cedar",
        "@id(\"device-reaches-declared\")\npermit (principal is Device, action == Action::\"connect\", resource)\nwhen { resource.owner == principal };\n",
    );
    write(
        "fleet/mud/lamp.json",
        include_str!("../../../../rooms/access/tests/it/network/lamp.json"),
    );
    write(
        "site.toml",
        "interfaces = [\"iot0\"]\nlocal_networks = [\"10.1.0.0/24\"]\nresolvers = [\"10.1.0.1\"]\n[local]\nhub = [\"10.1.0.5\"]\n[names]\n\"api.lamps.example\" = [\"198.51.100.7\"]\n",
    );
    write(
        "devices.csv",
        "device,product,mac,ipv4,ipv6,note\nlamp-1,lamp,02:00:00:00:00:01,10.1.0.20,2001:db8::20,hall\nlock-1,lock,,10.1.0.21,,\n",
    );
}

#[test]
fn a_site_gets_its_nftables_and_its_containment() {
    let scratch = tempfile::tempdir().unwrap();
    scene(scratch.path());
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (fleet, site, devices) = (at("fleet"), at("site.toml"), at("devices.csv"));
    let base = [
        "access",
        "nftables",
        &fleet,
        "--site",
        &site,
        "--devices",
        &devices,
    ];
    let ran = run(&base);
    let table = ran.well();
    assert!(
        table.starts_with("table inet fleetward\ndelete table inet fleetward\n"),
        "{table}"
    );
    for line in [
        "add element inet fleetward from4 { 10.1.0.20 : jump p0_from, 10.1.0.21 : jump p1_from }",
        "add element inet fleetward bound4 { 02:00:00:00:00:01 . 10.1.0.20 }",
        "tcp dport 8883 counter goto judged comment \"hub\"",
        "tcp dport 80 counter accept comment \"hub\"",
        "iifname { \"iot0\" } counter drop",
    ] {
        assert!(table.contains(line), "{line}\n{table}");
    }
    assert!(
        ran.err
            .contains("controller urn:example:hub has no address at this site"),
        "{}",
        ran.err
    );
    let json = run(&[&base[..], &["--output", "json"]].concat()).json();
    assert_eq!(json["batches"].as_array().unwrap().len(), 1);
    let cut = run(&[&base[..], &["--contain", "lamp-1=quarantined"]].concat());
    assert!(
        cut.well()
            .contains("add element inet fleetward quarantined6 { 2001:db8::20 }")
    );
    assert!(cut.well().contains("conntrack -D -s 10.1.0.20"));
    for (wrong, words) in [
        ("lamp-1=cut", "write DEVICE=quarantined"),
        ("lamp-9=free", "is not in the list"),
    ] {
        let ran = run(&[&base[..], &["--contain", wrong]].concat());
        assert!(ran.refused().contains(words), "{ran:?}");
    }
    fs::write(
        scratch.path().join("devices.csv"),
        "device,product,ipv4\na,lamp,10.1.0.1\nb,lock,10.1.0.1\n",
    )
    .unwrap();
    assert!(run(&base).refused().contains("is listed for a and for b"));
}

#[test]
fn a_mud_file_is_shown_as_rules_and_a_signature_may_be_der() {
    let scratch = tempfile::tempdir().unwrap();
    scene(scratch.path());
    let fleet = scratch.path().join("fleet");
    let list = ["access", "mud", text(&fleet), "--product", "lamp"];
    let shown = run(&list);
    assert!(shown.well().contains("api.lamps.example"), "{shown:?}");
    fs::write(fleet.join("mud/lamp.p7s"), [0x30, 0x80]).unwrap();
    let json = run(&[&list[..], &["--output", "json"]].concat()).json();
    assert_eq!(json["rules"].as_array().unwrap().len(), 10);
    assert_eq!(json["unenforced"].as_array().unwrap().len(), 0);
    let ran = run(&["access", "mud", text(&fleet), "--product", "none"]);
    assert!(ran.refused().contains("declares no product none"));
}
