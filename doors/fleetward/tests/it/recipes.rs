//! The recipes of the chapter, as they stand in it: what a reader copies is what runs here.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings};
use crate::small_device;
use crate::tools::{have, openssl_well, run, write_credential, write_root};
use std::process::{Command, Stdio};

/// How a page's chip is spoken to, as the first shell of that page says it; others do not ask.
pub fn chip(home: &Home) -> [String; 3] {
    let bus = home.path("tpm/bus");
    [
        format!("DBUS_SESSION_BUS_ADDRESS=unix:path={}", bus.display()),
        "TPM2TOOLS_TCTI=tabrmd:bus_type=session".to_owned(),
        "TPM2OPENSSL_TCTI=tabrmd:bus_type=session".to_owned(),
    ]
}

/// Runs the shell blocks under these headings of a page, one after the other in one shell.
#[track_caller]
pub fn follow(home: &Home, plane: &Plane, page: &str, headings: &[&str]) {
    follow_with(home, plane, page, headings, |script| script);
}

/// As [`follow`], with more that differs from house to house.
#[track_caller]
pub fn follow_with(
    home: &Home,
    plane: &Plane,
    page: &str,
    headings: &[&str],
    here: impl FnOnce(String) -> String,
) {
    let mut script = String::from("set -e\n");
    for heading in headings {
        let section = section(page, heading);
        let mut lines = section.lines();
        let before = script.len();
        while lines.by_ref().any(|line| line == "```sh") {
            for line in lines.by_ref().take_while(|line| *line != "```") {
                script.push_str(line);
                script.push('\n');
            }
        }
        assert!(script.len() > before, "no recipe under {heading:?}");
    }
    run_script(home, &here(at_home(plane, &script)));
}

/// What differs from house to house.
fn at_home(plane: &Plane, script: &str) -> String {
    script
        .replace(":8443", &format!(":{}", plane.people.port()))
        .replace(":8444/", &format!(":{}/", plane.devices.port()))
        .replace(
            "localhost:8444",
            &format!("localhost:{}", plane.devices.port()),
        )
        .replace(
            "localhost:8883",
            &format!("localhost:{}", plane.mqtt.port()),
        )
        .replace("-p 8883", &format!("-p {}", plane.mqtt.port()))
        .replace("fleet.example", "fleetward.internal")
}

/// The blocks of one kind in a text, in order.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let all = text.split(&fence).skip(1);
    all.map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// The fleet with what a page says of its product, whatever it is called there.
fn apply_product(plane: &Plane, name: &str, page: &str) {
    let table = format!("[{name}]\n");
    let settings: String = (blocks(page, "toml").iter())
        .filter_map(|block| Some(block.split_once(&table)?.1))
        .collect();
    assert!(!settings.is_empty(), "the page says nothing of {name}");
    let product = format!("{table}description = \"as the page says\"\n{settings}");
    let files: Vec<_> = (fleet().into_iter())
        .chain([("products/page.toml", product)])
        .collect();
    plane.apply(&files);
}

/// Runs it in the scratch folder, where `fleetward` is ours and knows this plane.
#[track_caller]
fn run_script(home: &Home, script: &str) {
    let script = script.replace("/etc/fleetward/", &format!("{}/", home.path("").display()));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_fleetward"));
    let path = format!(
        "PATH={}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let data = format!("FLEETWARD_DATA_DIR={}", home.data_dir().display());
    let [bus, tools, openssl] = chip(home);
    let shell = ["sh", "-x", "-c", &script];
    let arguments = [&[&*path, &data, &bus, &tools, &openssl], &shell[..]].concat();
    let ran = run(home, "env", &arguments, b"");
    assert!(ran.good, "{}\n{}", ran.text(), ran.err);
}

/// The text under a heading of the second level.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let title = format!("\n## {heading}\n");
    let (_, rest) = page
        .split_once(&title)
        .unwrap_or_else(|| panic!("no {heading:?}"));
    rest.split_once("\n## ")
        .map_or(rest, |(section, _)| section)
}

/// A plane that expects the device of the chapter, with its factory identity and our root in files.
fn scene() -> (Home, Plane) {
    scene_of(&Settings::default())
}

fn scene_of(settings: &Settings) -> (Home, Plane) {
    let home = Home::new(settings);
    let plane = home.start_prepared();
    let device = home.device("d1");
    plane.expect([&device]);
    write_credential(&home, device.idevid(), "idevid");
    write_root(&home, &plane);
    (home, plane)
}

#[test]
fn est_by_curl_and_openssl() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene();
    let page = include_str!("../../../../docs/identity/est.md");
    apply_product(&plane, "camera", page);
    follow(&home, &plane, page, &EST);
    let recorded = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    assert_eq!(recorded["certificates"].as_array().unwrap().len(), 3);
    // Small readers look for exactly this.
    let small = std::fs::read_to_string(home.path("small.pem")).unwrap();
    assert!(
        small.starts_with("-----BEGIN CERTIFICATE-----\n"),
        "{small}"
    );
    assert!(small.ends_with("\n-----END CERTIFICATE-----\n"), "{small}");
    assert!(small.lines().all(|line| line.len() <= 64), "{small}");
}

#[test]
fn a_rotation() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene();
    follow(&home, &plane, PAGE_EST, &EST[..2]);
    let page = include_str!("../../../../docs/identity/rotation.md");
    apply_product(&plane, "lock", page);
    follow(&home, &plane, page, &["Try it"]);
    let recorded = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    let certificates = recorded["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 2);
    // Within the overlap nothing is taken away.
    assert!(certificates.iter().all(|one| one["revoked"].is_null()));
}

#[test]
fn renewal_over_mqtt() {
    if !have(&["curl", "openssl"]) || Command::new("mosquitto_pub").output().is_err() {
        println!("skipped: curl, openssl or mosquitto_pub is not installed");
        return;
    }
    let (home, plane) = scene();
    follow(&home, &plane, PAGE_EST, &EST[..2]);
    let page = include_str!("../../../../docs/identity/over-mqtt.md");
    let [hears, asks] = &blocks(page, "sh")[..] else {
        panic!("the page has another form");
    };
    // Two terminals: the one that hears is there first, and says so itself.
    let hears = at_home(&plane, hears).replace("mosquitto_sub ", "exec mosquitto_sub ");
    let mut hearing = Command::new("sh")
        .args(["-ec", &hears])
        .current_dir(home.path(""))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    crate::plane::wait_until("it hears", || {
        let sessions = plane.get("/api/v1/gateway/sessions").expect(200).json();
        let all = sessions.as_array().unwrap().clone();
        all.iter()
            .any(|one| one["client_id"] == "d1:hears" && one["subscriptions"] == 1)
    });
    run_script(&home, &format!("set -e\n{}", at_home(&plane, asks)));
    assert!(hearing.wait().unwrap().success());
    let key = openssl_well(&home, &["pkey", "-in", "k2.pem", "-pubout"], b"");
    let issued = openssl_well(&home, &["x509", "-in", "c2.pem", "-noout", "-pubkey"], b"");
    assert_eq!(key, issued);
}

#[test]
fn revocation() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let page = include_str!("../../../../docs/identity/revocation.md");
    let status = section(page, "For those who verify our certificates elsewhere");
    let home = Home::new(&Settings {
        gateway: blocks(status, "toml").concat(),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    apply_product(
        &plane,
        "lock",
        include_str!("../../../../docs/identity/rotation.md"),
    );
    let device = home.device("d1");
    let list = format!("serial,product,device\n{},lock,d1\n", device.serial());
    plane.expect_csv(&list).expect(201);
    write_credential(&home, device.idevid(), "idevid");
    write_root(&home, &plane);
    follow(&home, &plane, PAGE_EST, &EST[..2]);
    let shown = openssl_well(&home, &["x509", "-in", "c.pem", "-noout", "-text"], b"");
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.contains("URI:http://status.fleet.example/status/crl/"),
        "{shown}"
    );
    follow(&home, &plane, page, &REVOCATION);
    let entries = plane.entries();
    let told = |action: &str| entries.iter().filter(|one| one["action"] == action).count();
    assert_eq!(told("identity.product-revoked"), 1);
    assert_eq!(told("identity.hold-released"), 1);
    assert_eq!(told("identity.device-revoked"), 2);
}

const PAGE_EST: &str = include_str!("../../../../docs/identity/est.md");
const EST: [&str; 5] = [
    "The CA certificates",
    "Enroll",
    "Renew",
    "PEM, for devices that cannot read CMS",
    "What a request should hold",
];
const REVOCATION: [&str; 2] = [
    "What can be revoked",
    "For those who verify our certificates elsewhere",
];
const APPROVAL: [&str; 2] = ["What the device does", "What the person does"];
const CLAIM_TOKEN: [&str; 3] = ["Make tokens", "Enroll with one", "Withdraw"];
const EXISTING_FLEET: [&str; 5] = [
    "Rehearse",
    "Import",
    "Where the CA's key is at hand",
    "Move a device",
    "Retire",
];

/// The sections of each page whose commands run here; `None`: another test runs the whole page.
const RUN: [(&str, Option<&[&str]>); 16] = [
    ("approval.md", Some(&APPROVAL)),
    ("attestation.md", Some(&["Attest", "Tokens"])),
    (
        "aws-provisioning.md",
        Some(&[
            "Make a claim certificate",
            "Add it",
            "What the device does",
            "Retire it",
        ]),
    ),
    ("ca-tree.md", None),
    ("claim-token.md", Some(&CLAIM_TOKEN)),
    ("est.md", Some(&EST)),
    ("existing-fleet.md", Some(&EXISTING_FLEET)),
    ("misuse.md", Some(&["Keys that are no secret"])),
    ("over-mqtt.md", Some(&["Try it"])),
    ("ownership.md", Some(&["Codes", "Claim", "Hand it on"])),
    ("pkcs11.md", None),
    ("revocation.md", Some(&REVOCATION)),
    ("rotation.md", Some(&["Try it"])),
    (
        "server-certificates.md",
        Some(&["A chain of another CA", "A new file, live"]),
    ),
    ("small-devices.md", Some(&["Try it"])),
    ("tpm.md", Some(&crate::tpm::SECTIONS)),
];

#[test]
fn every_page_has_its_recipe_and_every_recipe_its_test() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/identity");
    let mut pages: Vec<String> = (std::fs::read_dir(&folder).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let known: Vec<&str> = RUN.iter().map(|(page, _)| *page).collect();
    assert_eq!(pages, known, "a page without a test of its recipes");
    for (page, run) in RUN {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains("```sh\n"), "{page} has nothing to try");
        let Some(run) = run else { continue };
        for section in text.split("\n## ") {
            let heading = section.lines().next().unwrap();
            if section.contains("```sh\n") {
                assert!(run.contains(&heading), "{page}: nothing runs {heading:?}");
            }
        }
    }
}

#[test]
fn a_small_device_on_mbedtls() {
    if !small_device::can_be_built() {
        return;
    }
    let (home, plane) = scene_of(&Settings {
        gateway: "tls_1_2 = true".into(),
        ..Settings::default()
    });
    // The recipe is followed in the root of a checkout.
    let device = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device");
    std::os::unix::fs::symlink(device, home.path("device")).unwrap();
    let page = include_str!("../../../../docs/identity/small-devices.md");
    follow(&home, &plane, page, &["Try it"]);
    let recorded = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    assert_eq!(recorded["certificates"].as_array().unwrap().len(), 1);
}

#[test]
fn approval_by_a_person() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    write_credential(&home, home.device("d1").idevid(), "idevid");
    write_root(&home, &plane);
    let page = include_str!("../../../../docs/identity/approval.md");
    follow(&home, &plane, page, &APPROVAL);
    let known = plane
        .get("/api/v1/identity/devices/hall-1")
        .expect(200)
        .json();
    assert_eq!(known["serial"], "SN-d1");
}

#[test]
fn claim_tokens() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    write_root(&home, &plane);
    let list = "serial,product,device\nSN1,sensor,t1\n";
    plane.expect_csv(list).expect(201);
    home.write("batch.csv", list.as_bytes());
    let page = include_str!("../../../../docs/identity/claim-token.md");
    follow(&home, &plane, page, &CLAIM_TOKEN);
    plane.get("/api/v1/identity/devices/t1").expect(200);
}

#[test]
fn an_existing_fleet() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    write_root(&home, &plane);
    let old = "\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
          -keyout old-ca.key -out old-ca.pem -days 30 -subj '/CN=Old Root' \
          -addext keyUsage=keyCertSign,cRLSign 2>/dev/null\n\
        openssl req -newkey rsa:2048 -nodes -keyout old.key -subj /CN=old-0001 2>/dev/null |\
          openssl x509 -req -CA old-ca.pem -CAkey old-ca.key -days 30 -extfile ext > old.pem\n\
        cp old.pem leaves.pem";
    home.write("ext", b"extendedKeyUsage=clientAuth\n");
    let made = run(&home, "sh", &["-ec", old], b"");
    assert!(made.good, "{}", made.err);
    let list = "serial,product,device,groups,client_id,attribute.site\n\
                old-0001,sensor,old-1,,urn:dev:0001,north\nold-0002,sensor,,,,south\n";
    home.write("devices.csv", list.as_bytes());
    let page = include_str!("../../../../docs/identity/existing-fleet.md");
    follow(&home, &plane, page, &EXISTING_FLEET);
    plane.get("/api/v1/identity/devices/old-1").expect(200);
    let told = run(
        &home,
        "openssl",
        &["x509", "-in", "new.pem", "-noout", "-issuer"],
        b"",
    );
    assert!(
        told.text().contains("Issuing CA"),
        "moved below a CA of ours: {}",
        told.text()
    );
}

#[test]
fn server_certificates_of_another_ca() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let page = include_str!("../../../../docs/identity/server-certificates.md");
    let import = "A chain of another CA";
    let blocks = |kind: &str| blocks(section(page, import), kind);
    let home = Home::new(&Settings::default());
    let [make, look] = &blocks("sh")[..] else {
        panic!("the page has another form");
    };
    run_script(&home, &format!("set -e\n{make}"));
    let [block] = &blocks("toml")[..] else {
        panic!("the page has another form");
    };
    let block = block.replace("/etc/fleetward", &home.path("").display().to_string());
    home.configure(&Settings {
        gateway: block,
        ..Settings::default()
    });
    let plane = home.start();
    let look = look.replace(":8443", &format!(":{}", plane.people.port()));
    run_script(&home, &format!("set -e\n{look}"));
    let leaf = || {
        let served = plane.get("/api/v1/identity/served").expect(200).json();
        served[0]["chain"][0]["sha256"].clone()
    };
    let before = leaf();
    follow(&home, &plane, page, &["A new file, live"]);
    assert_ne!(leaf(), before);
}

#[test]
fn keys_that_are_no_secret() {
    if !have(&["openssl", "sha256sum", "sha1sum"]) {
        return;
    }
    let (home, plane) = scene();
    // One key has been published, one is of Debian's list, one is nobody else's.
    let make = "for name in leaked device good; do\n\
        openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out $name.pem -subj /CN=$name -days 90\n\
        done\n\
        cat leaked.pem device.pem good.pem > leaves.pem\n\
        openssl x509 -in device.pem -noout -modulus | sha1sum | cut -c21-40 > blacklist.RSA-2048";
    let made = run(&home, "sh", &["-ec", make], b"");
    assert!(made.good, "{}", made.err);
    let page = include_str!("../../../../docs/identity/misuse.md");
    let heading = "Keys that are no secret";
    follow(&home, &plane, page, &[heading]);
    let last = section(page, heading).rsplit("```sh\n").next().unwrap();
    let last = last.split("```").next().unwrap().trim();
    run_script(&home, &format!("{last} > found.txt"));
    let found = std::fs::read_to_string(home.path("found.txt")).unwrap();
    let line = |kind: &str| {
        let found = found.lines().find(|line| line.starts_with(kind));
        found.unwrap_or_else(|| panic!("{found:?}")).to_owned()
    };
    let bad = line("known-bad-key");
    assert!(bad.contains("leaked") && bad.contains("device"), "{bad}");
    assert!(found.contains("\n1 devices would be imported"), "{found}");
}
