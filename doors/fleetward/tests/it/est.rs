//! EST beyond the plain case: who waits for a person, answers that were lost, labels, what a product
//! asks for, keys made by the plane.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings};
use crate::tools::{Curled, curl, have, openssl_well, write_credential, write_root};
use serde_json::{Value, json};

const EST: &str = "/.well-known/est";
const PEM: &str = "Accept: application/pem-certificate-chain";

/// A plane whose sensors are of the product as written, `idev` (the factory identity of `cam`, on
/// no list) and a request in `cam.csr`.
fn scene(product: &str) -> (Home, Plane) {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut files = fleet();
    for (path, text) in &mut files {
        if *path == "products/p.toml" {
            *text = format!("[sensor]\n{product}\n[lock]\n");
        }
    }
    plane.apply(&files);
    write_credential(&home, home.device("cam").idevid(), "idev");
    write_root(&home, &plane);
    make_request(&home, "cam");
    (home, plane)
}

fn make_request(home: &Home, name: &str) {
    let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
    let make = [
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
    ];
    openssl_well(home, &[&make[..], &[&key]].concat(), b"");
    let ask = ["req", "-new", "-key", &key, "-subj", "/CN=x", "-out", &csr];
    openssl_well(home, &ask, b"");
}

/// The request of this name to an operation, in PEM, showing the factory identity.
fn post(home: &Home, plane: &Plane, operation: &str, name: &str) -> Curled {
    let csr = format!("@{name}.csr");
    let arguments = [
        "--cert",
        "idev.pem",
        "--key",
        "idev.key",
        "--http1.1",
        "-H",
        "Content-Type: application/x-pem-file",
        "-H",
        PEM,
        "--data-binary",
        &csr,
    ];
    curl(home, plane, &format!("{EST}/{operation}"), &arguments)
}

#[track_caller]
fn waits(answer: Curled) {
    let answer = answer.expect(202);
    let seconds = answer.head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after")
            .then(|| value.trim().parse::<u32>())
    });
    assert!(
        (1..=3600).contains(&seconds.unwrap().unwrap()),
        "{}",
        answer.head
    );
}

fn pending(plane: &Plane) -> Vec<Value> {
    let list = plane.get("/api/v1/identity/pending").expect(200).json();
    list.as_array().unwrap().clone()
}

fn approve(plane: &Plane, row: &Value, body: &Value) -> crate::http::Answer {
    let id = row["id"].as_str().unwrap();
    plane.post(&format!("/api/v1/identity/pending/{id}/approve"), body)
}

fn refuse(plane: &Plane, row: &Value) -> crate::http::Answer {
    let id = row["id"].as_str().unwrap();
    let path = format!("/api/v1/identity/pending/{id}/refuse");
    plane.post(&path, &json!({ "reason": "not of our batch" }))
}

fn actions(plane: &Plane) -> Vec<String> {
    let entries = plane.entries();
    let action = |entry: &Value| entry["action"].as_str().unwrap().to_owned();
    entries.iter().map(action).collect()
}

#[test]
fn an_unknown_but_genuine_device_waits_and_is_let_in_by_a_person_once() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene("");
    waits(post(&home, &plane, "sensor/simpleenroll", "cam"));
    let row = pending(&plane).remove(0);
    for (field, value) in [
        ("serial", "SN-cam"),
        ("reason", "unlisted"),
        ("product", "sensor"),
        ("state", "waiting"),
        ("key_kind", "P-256"),
        ("asked_from", "127.0.0.1"),
    ] {
        assert_eq!(row[field], value, "{row}");
    }
    // The same again is the same; another key within the minute is not taken.
    waits(post(&home, &plane, "sensor/simpleenroll", "cam"));
    assert_eq!(pending(&plane), std::slice::from_ref(&row));
    make_request(&home, "other");
    let hasty = post(&home, &plane, "simpleenroll", "other").expect(429);
    assert!(hasty.refusal().contains("pending-too-often"));
    // It opens nothing meanwhile.
    let shown = ["--cert", "idev.pem", "--key", "idev.key"];
    for path in [
        "/metrics",
        "/api/v1/audit/entries",
        "/api/v1/identity/pending",
        "/log/checkpoint",
    ] {
        let answer = curl(&home, &plane, path, &shown);
        assert!(
            [401, 403].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
    }
    assert!(!actions(&plane).contains(&"identity.device-enrolled".to_owned()));

    // Over a restart it waits on.
    plane.kill();
    let plane = home.start();
    assert_eq!(pending(&plane), std::slice::from_ref(&row));
    let twice = json!({ "device": "cam", "product": "sensor", "groups": [] });
    let done = approve(&plane, &row, &twice).expect(200).json();
    assert_eq!(done["device"], "cam");
    approve(&plane, &row, &json!({})).expect(409);
    assert_eq!(pending(&plane)[0]["state"], "approved");

    let first = post(&home, &plane, "sensor/simpleenroll", "cam").expect(200);
    assert_eq!(pending(&plane), [] as [Value; 0]);
    refuse(&plane, &row).expect(404);
    // The answer was lost, and then the machine.
    let again = post(&home, &plane, "sensor/simpleenroll", "cam").expect(200);
    assert_eq!(first.body, again.body);
    plane.kill();
    let plane = home.start();
    let again = post(&home, &plane, "simpleenroll", "cam").expect(200);
    assert_eq!(first.body, again.body);
    let made = |action: &String| action == "identity.device-enrolled";
    assert_eq!(actions(&plane).iter().filter(|a| made(a)).count(), 1);
    assert!(actions(&plane).contains(&"identity.enrollment-approved".to_owned()));

    // Once that certificate is revoked, the same request gets another.
    let told = plane.get("/api/v1/identity/devices/cam").expect(200).json();
    let revoke = json!({
        "certificate": told["certificates"][0]["certificate"], "reason": "superseded",
    });
    plane
        .post("/api/v1/identity/revocations", &revoke)
        .expect(201);
    let next = post(&home, &plane, "simpleenroll", "cam").expect(200);
    assert_ne!(first.body, next.body);
}

#[test]
fn a_device_that_a_person_refused_stays_out_whatever_it_sends() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene("");
    waits(post(&home, &plane, "simpleenroll", "cam"));
    let row = pending(&plane).remove(0);
    // Nobody knows yet what it is.
    let refused = approve(&plane, &row, &json!({})).expect(409);
    assert_eq!(refused.json()["code"], "pending-product-needed");
    refuse(&plane, &row).expect(200);
    let told = plane.entries().pop().unwrap();
    assert_eq!(told["details"]["reason"], "not of our batch", "{told}");
    make_request(&home, "other");
    for name in ["cam", "other"] {
        let refused = post(&home, &plane, "simpleenroll", name).expect(403);
        assert!(refused.refusal().contains("enrollment-refused"));
    }
    plane.kill();
    let plane = home.start();
    post(&home, &plane, "simpleenroll", "cam").expect(403);
    // A person may think again.
    let row = pending(&plane).remove(0);
    assert_eq!(row["state"], "refused");
    let body = json!({ "product": "sensor", "groups": [] });
    let done = approve(&plane, &row, &body).expect(200).json();
    assert_eq!(done["device"], "SN-cam");
    post(&home, &plane, "simpleenroll", "cam").expect(200);
}

#[test]
fn a_product_with_approval_wants_a_person_for_each_request_by_a_factory_identity() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene("enrollment = \"approval\"");
    plane.expect([&home.device("cam")]);
    waits(post(&home, &plane, "simpleenroll", "cam"));
    let row = pending(&plane).remove(0);
    assert_eq!(
        (&row["reason"], &row["device"]),
        (&json!("approval"), &json!("cam"))
    );
    // The list says what it is.
    let other = json!({ "device": "other", "groups": [] });
    let refused = approve(&plane, &row, &other).expect(409);
    assert_eq!(refused.json()["code"], "pending-is-listed");
    approve(&plane, &row, &json!({})).expect(200);
    let issued = post(&home, &plane, "simpleenroll", "cam").expect(200);
    // Lost and asked again: the same. With another key: a person, again.
    assert_eq!(
        post(&home, &plane, "simpleenroll", "cam").expect(200).body,
        issued.body
    );
    make_request(&home, "other");
    waits(post(&home, &plane, "simpleenroll", "other"));
    // A renewal by the certificate itself needs nobody.
    home.write("cam.pem", &issued.body);
    let san = "subjectAltName=URI:spiffe://fleetward.internal/acme/device/cam";
    let ask = [
        "req",
        "-new",
        "-key",
        "cam.key",
        "-subj",
        "/O=acme/CN=cam",
        "-addext",
        san,
        "-out",
        "r.csr",
    ];
    openssl_well(&home, &ask, b"");
    let renew = [
        "--cert",
        "cam.pem",
        "--key",
        "cam.key",
        "-H",
        "Content-Type: application/x-pem-file",
        "--data-binary",
        "@r.csr",
    ];
    curl(&home, &plane, &format!("{EST}/simplereenroll"), &renew).expect(200);
}

#[test]
fn a_label_is_the_devices_own_product() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene("");
    plane.expect([&home.device("cam")]);
    let refused = post(&home, &plane, "lock/simpleenroll", "cam").expect(403);
    assert!(refused.refusal().contains("label-of-another-product"));
    post(&home, &plane, "camera/simpleenroll", "cam")
        .expect(404)
        .refusal();
    post(&home, &plane, "sensor/simpleenroll", "cam").expect(200);
}

#[test]
fn csrattrs_say_what_a_product_takes_and_openssl_reads_them() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene("ldevid_key = \"p384\"");
    plane.expect([&home.device("cam")]);
    let read = |path: &str, shown: &[&str]| {
        let answer = curl(&home, &plane, path, shown).expect(200);
        assert!(
            answer.head.contains("application/csrattrs"),
            "{}",
            answer.head
        );
        let der = openssl_well(&home, &["base64", "-d", "-A"], &answer.body);
        let text = openssl_well(&home, &["asn1parse", "-inform", "DER"], &der);
        String::from_utf8(text).unwrap()
    };
    // By the label to anybody, without one to the device itself.
    let text = read(&format!("{EST}/sensor/csrattrs"), &[]);
    let shown = ["--cert", "idev.pem", "--key", "idev.key"];
    assert_eq!(read(&format!("{EST}/csrattrs"), &shown), text);
    curl(&home, &plane, &format!("{EST}/csrattrs"), &[]).expect(204);
    curl(&home, &plane, &format!("{EST}/lock/csrattrs"), &[]).expect(204);
    for (what, times) in [
        (":id-ecPublicKey", 2),
        (":secp384r1", 2),
        (":ecdsa-with-SHA384", 1),
        (":1.2.840.113549.1.9.16.2.61", 1),
        (":1.2.840.113549.1.9.16.2.62", 1),
        (":X509v3 Extended Key Usage", 1),
    ] {
        assert_eq!(text.matches(what).count(), times, "{what}: {text}");
    }
    // It is no mere advice.
    let refused = post(&home, &plane, "simpleenroll", "cam").expect(403);
    assert!(refused.refusal().contains("request-key-unwanted"));
    let make = [
        "ecparam",
        "-name",
        "secp384r1",
        "-genkey",
        "-noout",
        "-out",
        "big.key",
    ];
    openssl_well(&home, &make, b"");
    let ask = [
        "req", "-new", "-key", "big.key", "-subj", "/CN=x", "-out", "big.csr",
    ];
    openssl_well(&home, &ask, b"");
    post(&home, &plane, "simpleenroll", "big").expect(200);
}

#[test]
fn a_key_made_by_the_plane_comes_with_its_certificate_and_is_kept_nowhere() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene("server_keygen = true");
    plane.expect([&home.device("cam")]);
    let answer = post(&home, &plane, "serverkeygen", "cam").expect(200);
    let other = post(&home, &plane, "serverkeygen", "cam").expect(200);
    assert_ne!(answer.body, other.body, "a key was given twice");
    let boundary = answer.head.lines().find_map(|line| {
        let (_, boundary) = line.split_once("multipart/mixed; boundary=")?;
        Some(boundary.trim().to_owned())
    });
    let text = String::from_utf8(answer.body).unwrap();
    let delimiter = format!("--{}", boundary.unwrap());
    let parts: Vec<&str> = text.split(&delimiter).collect();
    assert_eq!(
        (parts.len(), parts[0], parts[3]),
        (4, "", "--\r\n"),
        "{text}"
    );
    let part = |number: usize, media_type: &str| {
        let (head, body) = parts[number].split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Type: {media_type}")),
            "{head}"
        );
        openssl_well(&home, &["base64", "-d", "-A"], body.trim().as_bytes())
    };
    let key = part(1, "application/pkcs8\r\n");
    home.write("made.p8", &key);
    let certificate = part(2, "application/pkcs7-mime; smime-type=certs-only\r\n");
    let pem = openssl_well(
        &home,
        &["pkcs7", "-inform", "DER", "-print_certs"],
        &certificate,
    );
    home.write("made.pem", &pem);
    // The two belong together, and let the device in.
    let to_pem = [
        "pkcs8", "-inform", "DER", "-nocrypt", "-in", "made.p8", "-out", "made.key",
    ];
    openssl_well(&home, &to_pem, b"");
    let of_key = openssl_well(&home, &["pkey", "-in", "made.key", "-pubout"], b"");
    let of_certificate = openssl_well(
        &home,
        &["x509", "-in", "made.pem", "-noout", "-pubkey"],
        b"",
    );
    assert_eq!(of_key, of_certificate);
    let shown = ["--cert", "made.pem", "--key", "made.key"];
    curl(&home, &plane, &format!("{EST}/csrattrs"), &shown).expect(204);

    // No file of the plane holds it, in whatever form it was on the wire.
    let scalar = &key[key.len() - 138..key.len() - 106];
    let base64 = parts[1].split_once("\r\n\r\n").unwrap().1.trim().as_bytes();
    for folder in [home.data_dir(), home.log_dir()] {
        for file in files_below(&folder) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
            assert!(
                !holds(&key) && !holds(base64) && !holds(scalar),
                "{}",
                file.display()
            );
        }
    }
    let said = plane.lines.from(0).join("\n");
    assert!(!said.contains(std::str::from_utf8(base64).unwrap()));
    let entries = plane.entries();
    let by_plane = |entry: &&Value| entry["details"]["key"] == "made-by-plane";
    assert_eq!(entries.iter().filter(by_plane).count(), 2, "{entries:?}");

    // Whoever wants the key encrypted is told that it will not be, before one is made.
    home.write(
        "ask.cnf",
        b"[req]\ndistinguished_name=dn\nattributes=a\nprompt=no\n[dn]\nCN=x\n[a]\n\
          1.2.840.113549.1.9.16.2.37=key-1\n",
    );
    let ask = [
        "req", "-new", "-key", "cam.key", "-config", "ask.cnf", "-out", "enc.csr",
    ];
    openssl_well(&home, &ask, b"");
    let refused = post(&home, &plane, "serverkeygen", "enc").expect(403);
    assert!(refused.refusal().contains("server-keygen-encrypted"));
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// Two mosquitto clients stand for a small device: one subscription, one publish.
#[test]
fn a_small_device_renews_over_mqtt_with_one_topic_to_ask_and_one_to_hear() {
    if !have(&["curl", "openssl", "mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let (home, plane) = scene("");
    plane.expect([&home.device("cam")]);
    let issued = post(&home, &plane, "simpleenroll", "cam").expect(200);
    home.write("cam.pem", &issued.body);
    let san = "subjectAltName=URI:spiffe://fleetward.internal/acme/device/cam";
    let ask = |key: &str, csr: &str, san: &str| {
        if !home.path(key).exists() {
            let make = [
                "ecparam",
                "-name",
                "prime256v1",
                "-genkey",
                "-noout",
                "-out",
                key,
            ];
            openssl_well(&home, &make, b"");
        }
        let subject = "/O=acme/CN=cam";
        let ask = [
            "req", "-new", "-key", key, "-subj", subject, "-addext", san, "-out", csr,
        ];
        openssl_well(&home, &ask, b"");
    };
    ask("next.key", "next.csr", san);
    let der = [
        "req", "-in", "next.csr", "-outform", "DER", "-out", "next.der",
    ];
    openssl_well(&home, &der, b"");
    let (to, from) = (
        "$fleetward/devices/cam/enroll",
        "$fleetward/devices/cam/certificate",
    );
    let exchange = |file: &str| {
        let port = plane.mqtt.port().to_string();
        let hear = std::process::Command::new("mosquitto_sub")
            .args([
                "-h",
                "localhost",
                "-p",
                &port,
                "--cafile",
                "root.pem",
                "-V",
                "5",
            ])
            .args([
                "--cert",
                "cam.pem",
                "--key",
                "cam.key",
                "-i",
                "cam:hears",
                "-q",
                "1",
            ])
            .args(["-t", from, "-C", "1", "-W", "30"])
            .current_dir(home.path(""))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        crate::plane::wait_until("the subscription stands", || {
            let sessions = plane.get("/api/v1/gateway/sessions").expect(200).json();
            let stands = |one: &Value| one["client_id"] == "cam:hears" && one["subscriptions"] == 1;
            sessions.as_array().unwrap().iter().any(stands)
        });
        let more = ["-V", "5", "-i", "cam:asks", "-q", "1", "-t", to, "-f", file];
        let asked = crate::tools::mosquitto(&home, &plane, "mosquitto_pub", "cam", &more);
        assert!(asked.good, "{asked:?}");
        String::from_utf8(hear.wait_with_output().unwrap().stdout).unwrap()
    };
    let certificate = exchange("next.csr");
    home.write("next.pem", certificate.as_bytes());
    let shown = ["--cert", "next.pem", "--key", "next.key"];
    curl(&home, &plane, &format!("{EST}/csrattrs"), &shown).expect(204);
    // In DER, and asked again as the answer was lost: the same. `-C 1` adds a line end.
    assert_eq!(exchange("next.der").trim_end(), certificate.trim_end());
    let told = plane.get("/api/v1/identity/devices/cam").expect(200).json();
    assert_eq!(told["certificates"].as_array().unwrap().len(), 2, "{told}");
    let enrolled: Vec<Value> = plane.entries();
    let last = enrolled.last().unwrap();
    assert_eq!(
        (&last["action"], &last["details"]["kind"]),
        (&json!("identity.device-enrolled"), &json!("rekey"))
    );

    // What is refused comes back with its code, for whoever asks for another name or sends rubbish.
    ask(
        "cam.key",
        "other.csr",
        &san.replace("device/cam", "device/lock"),
    );
    let refused: Value = serde_json::from_str(&exchange("other.csr")).unwrap();
    assert_eq!(refused["refused"], "reenroll-name-changed");
    home.write("rubbish", b"0\x82rubbish");
    let mark = plane.lines.mark();
    let refused: Value = serde_json::from_str(&exchange("rubbish")).unwrap();
    assert_eq!(refused["refused"], "request-malformed");
    let sent = openssl_well(&home, &["dgst", "-sha256", "-r", "rubbish"], b"");
    let sent = String::from_utf8(sent).unwrap();
    assert!(
        sent.starts_with(refused["request_sha256"].as_str().unwrap()),
        "{sent}"
    );
    let line = plane.lines.wait_for(mark, "refused request-malformed");
    assert!(
        line.contains("device/cam") && line.ends_with("[device must act]"),
        "{line}"
    );
    // Four a minute, no more.
    let more = [
        "-V", "5", "-i", "cam:asks", "-q", "1", "-t", to, "-f", "next.csr", "-d",
    ];
    let fifth = crate::tools::mosquitto(&home, &plane, "mosquitto_pub", "cam", &more);
    let text = fifth.text() + &fifth.err;
    assert!(text.contains("uota") || text.contains("RC:151"), "{text}");
}
