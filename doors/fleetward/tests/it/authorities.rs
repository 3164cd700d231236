//! The CA tree from outside: the chapter's recipes as they stand, verified by openssl.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings};
use crate::tools::{have, openssl, openssl_well, write_credential};
use sim::device::Manner;
use std::path::Path;
use std::process::{Command, Stdio};

/// The shell blocks of a page, in order.
fn recipes(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split_once("```").unwrap().0.to_owned())
        .collect()
}

/// Runs a recipe as an operator would, in the folder of the plane.
#[track_caller]
pub fn run(home: &Home, recipe: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_fleetward"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let ran = Command::new("sh")
        .args(["-euc", recipe])
        .current_dir(home.path(""))
        .env("PATH", path)
        .env("FLEETWARD_DATA_DIR", home.data_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout).into_owned(),
        String::from_utf8_lossy(&ran.stderr).into_owned(),
    );
    assert!(ran.status.success(), "{recipe}\n{out}\n{err}");
    out
}

/// What the device door shows: whether a client that trusts only `root` believes it.
fn is_believed(home: &Home, plane: &Plane, root: &str) -> bool {
    let at = plane.devices.to_string();
    let shake = [
        "s_client",
        "-connect",
        &at,
        "-servername",
        "localhost",
        "-CAfile",
        root,
        "-verify_return_error",
        "-verify_hostname",
        "localhost",
        "-brief",
    ];
    openssl(home, &shake, b"").good
}

#[test]
fn the_recipes_of_the_ca_tree() {
    if !have(&["openssl", "sh"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let page = include_str!("../../../../docs/identity/ca-tree.md");
    let [
        list,
        offline,
        below,
        next,
        issuing,
        learned,
        serve,
        retire,
        crl,
    ] = <[String; 9]>::try_from(recipes(page)).unwrap();
    let learned = learned.replace(":8444", &format!(":{}", plane.devices.port()));

    let told = run(&home, &list);
    assert!(
        told.contains("finding: the root's key is on this machine"),
        "{told}"
    );
    let overview = plane.get("/api/v1/overview").expect(200).text();
    assert!(overview.contains("identity root export"), "{overview}");

    // The root moves offline: the finding goes with it, and nothing here makes a CA any more.
    run(&home, &offline);
    let told = run(&home, &list);
    assert!(!told.contains("finding"), "{told}");
    let new = serde_json::json!({ "name": "locks", "uses": "device" });
    let refused = plane.post("/api/v1/identity/authorities", &new).expect(409);
    assert!(
        refused.text().contains("root-offline"),
        "{}",
        refused.text()
    );

    run(&home, &below);
    let text = openssl_well(
        &home,
        &["x509", "-in", "cameras.pem", "-noout", "-text"],
        b"",
    );
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("X509v3 Name Constraints: critical"), "{text}");
    assert!(text.contains("URI:fleetward.internal"), "{text}");
    assert!(text.contains("OU = cameras"), "{text}");

    // A device of a product that names the CA is certified by it, and comes in.
    let with_ca: Vec<_> = fleet()
        .into_iter()
        .map(|(path, text)| match path {
            "products/p.toml" => (path, format!("{text}ca = \"cameras\"\n")),
            _ => (path, text),
        })
        .collect();
    plane.apply(&with_ca);
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    let verify = |root: &str, untrusted: &str, what: &str| {
        let arguments = [
            "verify",
            "-x509_strict",
            "-CAfile",
            root,
            "-untrusted",
            untrusted,
            what,
        ];
        openssl(&home, &arguments, b"").good
    };
    assert!(verify("root.pem", "cameras.pem", "cam.pem"));
    let counted = run(&home, &list);
    let line = counted
        .lines()
        .find(|line| line.contains("device-certificate"));
    assert!(
        line.is_some_and(|line| line.contains("cameras")),
        "{counted}"
    );

    // The next root is known and serves nobody; then it serves, and either root is enough.
    run(&home, &next);
    assert!(is_believed(&home, &plane, "root.pem"));
    assert!(!is_believed(&home, &plane, "root-2.pem"));
    // It is only by its link that the one is believed who trusts the other.
    let blocks = std::fs::read_to_string(home.path("next-root.pem")).unwrap();
    let blocks: Vec<&str> = blocks
        .split_inclusive("-----END CERTIFICATE-----\n")
        .collect();
    let [_, link, link_back] = blocks.as_slice() else {
        panic!("{blocks:?}");
    };
    home.write("link.pem", link.as_bytes());
    let cameras = std::fs::read_to_string(home.path("cameras.pem")).unwrap();
    home.write("back.pem", format!("{cameras}{link_back}").as_bytes());
    assert!(verify("root-2.pem", "back.pem", "cam.pem"));
    assert!(!verify("root-2.pem", "cameras.pem", "cam.pem"));
    run(&home, &issuing);
    assert!(verify("root-2.pem", "default.pem", "default.pem"));
    assert!(verify("root.pem", "link.pem", "default.pem"));
    assert!(is_believed(&home, &plane, "root.pem"));
    // Not while a device has not said that it knows the new root.
    let step = serde_json::json!({});
    let refused = plane.post("/api/v1/identity/roots/rollover", &step);
    let refused = refused.expect(409).text();
    assert!(
        refused.contains("root-unlearned") && refused.contains("cam"),
        "{refused}"
    );
    run(&home, &learned);
    let told = run(&home, &serve);
    let line = |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("devices enrolled").ends_with(" 1"), "{told}");
    assert!(line("have not learned it").ends_with(" 0"), "{told}");
    assert!(is_believed(&home, &plane, "root.pem"));
    assert!(is_believed(&home, &plane, "root-2.pem"));

    // A root in use is not taken away; then it goes, and with it the link.
    let in_use = plane.post("/api/v1/identity/roots/retire", &step);
    assert!(in_use.expect(409).text().contains("root-in-use"));
    run(&home, &retire);
    assert!(!is_believed(&home, &plane, "root.pem"));
    assert!(is_believed(&home, &plane, "root-2.pem"));
    run(&home, &crl);
    let read = [
        "crl",
        "-in",
        "root-crl.pem",
        "-CAfile",
        "root-2.pem",
        "-noout",
    ];
    assert!(openssl(&home, &read, b"").err.contains("verify OK"));

    // All of it stands after a kill, and the log tells the story.
    drop(plane);
    let plane = home.start();
    assert!(!is_believed(&home, &plane, "root.pem"));
    assert!(is_believed(&home, &plane, "root-2.pem"));
    let actions: Vec<String> = (plane.entries().iter())
        .map(|entry| entry["action"].as_str().unwrap().to_owned())
        .collect();
    for action in [
        "identity.root-exported",
        "identity.root-key-destroyed",
        "identity.authority-requested",
        "identity.authority-certified",
        "identity.root-announced",
        "identity.root-rolled-over",
        "identity.root-retired",
        "identity.root-list-installed",
    ] {
        assert!(
            actions.iter().any(|one| one == action),
            "{action}: {actions:?}"
        );
    }
    let differ = "identity.signatures-differ";
    assert!(!actions.iter().any(|one| one == differ), "{actions:?}");
}

/// A CA of others, on the curve that signs here, and what it certified.
const ELSEWHERE: &str = "\
    umask 077\n\
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout old.key \
      -out old.pem -days 30 -subj '/O=Old Works/CN=Old CA' \
      -addext keyUsage=critical,keyCertSign,cRLSign\n\
    openssl req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.pem -days 30 -subj /CN=RSA\n\
    openssl ecparam -name prime256v1 -genkey -noout -out other.key\n\
    openssl req -x509 -key other.key -out leaf-only.pem -days 30 -subj /CN=Leaf \
      -addext keyUsage=critical,digitalSignature\n\
    cp old.key open.key; chmod 644 open.key\n";

#[test]
fn a_ca_that_came_with_its_key_certifies_by_our_rules_and_is_told_of() {
    if !have(&["openssl", "sh"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    run(&home, ELSEWHERE);
    let import = |uses: &str, certificate: &str, key: &str| {
        let recipe = format!(
            "fleetward identity ca import legacy --for {uses} --certificate {certificate} \
             --key-file {key} 2>&1 || true"
        );
        run(&home, &recipe)
    };
    for (uses, certificate, key, why) in [
        ("device", "old.pem", "open.key", "chmod 600"),
        ("device", "rsa.pem", "rsa.key", "P-256"),
        ("device", "old.pem", "other.key", "another key"),
        ("device", "leaf-only.pem", "other.key", "keyUsage"),
        ("server", "old.pem", "old.key", "devices and services only"),
        ("every", "old.pem", "old.key", "devices and services only"),
    ] {
        let told = import(uses, certificate, key);
        assert!(told.contains(why), "{certificate} {key}: {told}");
    }
    let told = import("device", "old.pem", "old.key");
    assert!(told.contains("entry"), "{told}");
    let text = std::fs::read_to_string(home.path("old.key")).unwrap();
    let secret: Vec<u8> = text.lines().nth(1).unwrap().bytes().collect();
    for file in std::fs::read_dir(home.data_dir().join("keys")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }

    let with_ca: Vec<_> = fleet()
        .into_iter()
        .map(|(path, text)| match path {
            "products/p.toml" => (path, format!("{text}ca = \"legacy\"\n")),
            _ => (path, text),
        })
        .collect();
    plane.apply(&with_ca);
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    let verify = [
        "verify",
        "-x509_strict",
        "-CAfile",
        "old.pem",
        "-purpose",
        "sslclient",
        "cam.pem",
    ];
    assert!(openssl(&home, &verify, b"").good);
    device.connect(&plane.doors(), &Manner::default()).unwrap();

    // A manufacturer cannot be registered by the same CA: who vouches would not be told apart.
    let same = serde_json::json!({
        "manufacturer": "old", "ca_pem": std::fs::read_to_string(home.path("old.pem")).unwrap(),
    });
    let refused = plane
        .post("/api/v1/identity/manufacturers", &same)
        .expect(409);
    assert!(refused.text().contains("ca-refused"), "{}", refused.text());

    // Counted over a restart, and told of until it has a key of ours.
    drop(plane);
    let plane = home.start();
    let list = run(&home, "fleetward identity ca list");
    assert!(list.contains("legacy was made elsewhere"), "{list}");
    let counted = list
        .lines()
        .find(|line| line.contains("legacy") && line.contains("device-cert"));
    let counted: Vec<&str> = counted.unwrap().split_whitespace().collect();
    assert_eq!(counted[2..], ["1", "1", "0"], "{list}");
    let differ = "identity.signatures-differ";
    assert!(
        plane
            .entries()
            .iter()
            .all(|entry| entry["action"] != differ)
    );
    run(&home, "fleetward identity ca rollover legacy");
    let list = run(&home, "fleetward identity ca list");
    assert!(!list.contains("legacy was made elsewhere"), "{list}");
    plane.stop_well();
}

#[test]
fn the_recipe_of_a_pkcs11_token() {
    if !have(&["openssl", "sh", "softhsm2-util"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let page = include_str!("../../../../docs/identity/pkcs11.md");
    let [token] = <[String; 1]>::try_from(recipes(page)).unwrap();
    run(&home, &token);
    let (_, section) = page.split_once("```toml\n").unwrap();
    let section = section.split_once("```").unwrap().0;
    let pin = home.path("token.pin");
    let section = section.replace("token.pin", &pin.display().to_string());
    let config = std::fs::read_to_string(home.path("plane.toml")).unwrap();
    home.write("plane.toml", format!("{config}{section}").as_bytes());

    let conf = home.path("softhsm2.conf");
    let start = || home.start_with(&[("SOFTHSM2_CONF", conf.as_path())]);
    let plane = start();
    let keys: Vec<String> = std::fs::read_dir(home.data_dir().join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !keys
            .iter()
            .any(|key| key.starts_with("root") || key.starts_with("issuing"))
    );
    let root = plane.get("/api/v1/identity/ca").expect(200).text();
    home.write("root.pem", root.as_bytes());
    assert!(is_believed(&home, &plane, "root.pem"));
    run(&home, "fleetward identity ca rollover default");
    drop(plane);
    let plane = start();
    assert!(is_believed(&home, &plane, "root.pem"));
    let list = run(&home, "fleetward identity ca list");
    assert!(list.contains("retiring"), "{list}");
}
