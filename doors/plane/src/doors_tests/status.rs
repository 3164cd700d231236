//! What outsiders are told of our certificates, by OpenSSL and curl at the real door.

use super::{House, blocking};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::{StatusPoint, certificate_id};
use model::RevocationReason;
use sim::Device;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files, and the door at which they ask.
struct Outsider {
    folder: tempfile::TempDir,
    door: String,
}

impl Outsider {
    /// `None` where a program is missing.
    fn of(house: &House, device: &Device) -> Option<Self> {
        for program in ["openssl", "curl"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("skipped: no {program} on this machine");
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let tree = house.plane.tree();
        let issuing = &tree.for_device(None).unwrap().certificate;
        let put = |name: &str, der: &[u8]| {
            let pem = crate::pem::encode("CERTIFICATE", der);
            std::fs::write(folder.path().join(name), pem).unwrap();
        };
        put("root.pem", tree.root());
        put("issuing.pem", issuing);
        put("c.pem", device.ldevid().unwrap().certificate());
        let door = format!("https://localhost:{}", house.devices_port);
        Some(Self { folder, door })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, program: &str, arguments: &str) -> String {
        run(self.folder.path(), program, arguments).await
    }

    /// Asks after `c.pem`, or after what the arguments say.
    async fn ocsp(&self, arguments: &str) -> String {
        let asked = format!(
            "ocsp -issuer issuing.pem {arguments} -url {}/status/ocsp -CAfile root.pem \
             -verify_other issuing.pem",
            self.door
        );
        let said = self.run("openssl", &asked).await;
        assert!(said.contains("Response verify OK"), "{said}");
        said
    }

    /// Fetches the list that the certificate names, and has OpenSSL judge by it.
    async fn judged_by_list(&self, url: &str) -> String {
        let path = url.strip_prefix("http://status.test").unwrap();
        let fetch = format!("-s -f --cacert root.pem -o list.crl {}{path}", self.door);
        self.run("curl", &fetch).await;
        let arguments = "crl -inform DER -in list.crl -out list.pem";
        self.run("openssl", arguments).await;
        let arguments = "verify -x509_strict -crl_check -CAfile root.pem -untrusted issuing.pem \
                         -CRLfile list.pem c.pem";
        self.run("openssl", arguments).await
    }
}

async fn run(folder: &Path, program: &str, arguments: &str) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments.split_whitespace())
        .current_dir(folder);
    let output = blocking(move || command.output().unwrap()).await;
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_is_told_whether_a_certificate_stands() {
    let house = House::with(&["cam-1", "cam-2"]).await;
    let camera = house.connected("cam-1").await;
    let Some(outsider) = Outsider::of(&house, &camera) else {
        return house.end().await;
    };
    let leaf = camera.ldevid().unwrap().certificate().to_vec();
    let id = certificate_id(&leaf).unwrap();
    let url = StatusPoint::new("http://status.test", 4)
        .unwrap()
        .crl_url_of(&id);
    let text = outsider.run("openssl", "x509 -in c.pem -noout -text").await;
    assert!(
        text.contains(&url) && text.contains("http://status.test/status/ocsp"),
        "{text}"
    );

    // Twice without a nonce: the second answer is the first one, signed in advance.
    for arguments in [
        "-cert c.pem",
        "-cert c.pem -no_nonce",
        "-cert c.pem -no_nonce",
    ] {
        let said = outsider.ocsp(arguments).await;
        assert!(said.contains("c.pem: good"), "{said}");
    }
    let said = outsider.judged_by_list(&url).await;
    assert!(said.contains("c.pem: OK"), "{said}");
    let said = outsider.ocsp("-serial 0x4badf00d -no_nonce").await;
    assert!(said.contains("unknown"), "{said}");

    // What our doors show is one of ours as well, and can be revoked.
    let served = house.plane.trust().served.get();
    let own = served.entries().last().unwrap().shown.clone().unwrap();
    let der = own.key.cert.first().unwrap();
    let pem = crate::pem::encode("CERTIFICATE", der);
    std::fs::write(outsider.path("server.pem"), pem).unwrap();
    let said = outsider.ocsp("-cert server.pem -no_nonce").await;
    assert!(said.contains("server.pem: good"), "{said}");
    let of_door = format!("certificate/{}", certificate_id(der).unwrap());
    house.revoke(&of_door, RevocationReason::Superseded).await;
    let said = outsider.ocsp("-cert server.pem -no_nonce").await;
    assert!(said.contains("server.pem: revoked"), "{said}");

    let certificate = format!("certificate/{id}");
    let hold = RevocationReason::CertificateHold;
    house.revoke(&certificate, hold).await;
    let said = outsider.ocsp("-cert c.pem -no_nonce").await;
    assert!(
        said.contains("c.pem: revoked") && said.contains("certificateHold"),
        "{said}"
    );
    let said = outsider.judged_by_list(&url).await;
    assert!(said.contains("certificate revoked"), "{said}");
    house.release(&certificate).await.unwrap();
    let said = outsider.ocsp("-cert c.pem -no_nonce").await;
    assert!(said.contains("c.pem: good"), "{said}");
    let said = outsider.judged_by_list(&url).await;
    assert!(said.contains("c.pem: OK"), "{said}");

    house
        .revoke("device/cam-1", RevocationReason::KeyCompromise)
        .await;
    for arguments in [
        "-cert c.pem",
        "-cert c.pem -no_nonce",
        "-sha256 -cert c.pem",
    ] {
        let said = outsider.ocsp(arguments).await;
        assert!(
            said.contains("c.pem: revoked") && said.contains("keyCompromise"),
            "{said}"
        );
    }
    let said = outsider.judged_by_list(&url).await;
    assert!(said.contains("certificate revoked"), "{said}");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_an_answer_that_caches_may_keep() {
    let house = House::with(&["cam-1"]).await;
    let camera = house.connected("cam-1").await;
    let Some(outsider) = Outsider::of(&house, &camera) else {
        return house.end().await;
    };
    let make = "ocsp -issuer issuing.pem -cert c.pem -no_nonce -reqout r.der";
    outsider.run("openssl", make).await;
    let request = STANDARD.encode(std::fs::read(outsider.path("r.der")).unwrap());
    let request = request
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    let door = &outsider.door;
    let get = format!("-s -D h --cacert root.pem -o a.der {door}/status/ocsp/{request}");
    outsider.run("curl", &get).await;
    let headers = std::fs::read_to_string(outsider.path("h"))
        .unwrap()
        .to_lowercase();
    assert!(headers.starts_with("http/1.1 200"), "{headers}");
    assert!(
        headers.contains("content-type: application/ocsp-response"),
        "{headers}"
    );
    assert!(
        headers.contains("cache-control: max-age=300, public"),
        "{headers}"
    );
    let read = "ocsp -issuer issuing.pem -cert c.pem -respin a.der -CAfile root.pem -verify_other \
                issuing.pem";
    let said = outsider.run("openssl", read).await;
    assert!(said.contains("c.pem: good"), "{said}");

    // What is no request, and a request after another CA's certificate, are told so in OCSP.
    for (name, body, code) in [("malformed", "AAAA", 1), ("empty", "", 1)] {
        std::fs::write(outsider.path("x"), body).unwrap();
        let post = format!("-s --cacert root.pem --data-binary @x -o a.der {door}/status/ocsp");
        outsider.run("curl", &post).await;
        let answer = std::fs::read(outsider.path("a.der")).unwrap();
        assert_eq!(answer, [0x30, 3, 0x0a, 1, code], "{name}");
    }
    let foreign = "ocsp -issuer root.pem -cert issuing.pem -no_nonce -reqout r.der";
    outsider.run("openssl", foreign).await;
    let post = format!("-s --cacert root.pem --data-binary @r.der -o a.der {door}/status/ocsp");
    outsider.run("curl", &post).await;
    let answer = std::fs::read(outsider.path("a.der")).unwrap();
    assert_eq!(
        answer,
        [0x30, 3, 0x0a, 1, 6],
        "the root's is not ours to answer for"
    );
    for path in ["crl/00/4/0.crl", "ocsp/%20"] {
        let get =
            format!("-s -o /dev/null -w %{{http_code}} --cacert root.pem {door}/status/{path}");
        let code = outsider.run("curl", &get).await;
        assert!(["404", "200"].contains(&code.as_str()), "{path}: {code}");
    }
    house.end().await;
}

/// Strangers who ask with nonces cost a signature each: above the cap they are told to come later,
/// and what was signed in advance is given out all the same.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_flood_of_nonces_takes_no_more_than_its_share() {
    let house = House::with(&["cam-1"]).await;
    let camera = house.connected("cam-1").await;
    let Some(outsider) = Outsider::of(&house, &camera) else {
        return house.end().await;
    };
    let make = "ocsp -issuer issuing.pem -cert c.pem -reqout r.der";
    outsider.run("openssl", make).await;
    let with_nonce = std::fs::read(outsider.path("r.der")).unwrap();
    outsider.run("openssl", &format!("{make} -no_nonce")).await;
    let without = std::fs::read(outsider.path("r.der")).unwrap();
    let first = crate::certify::status::answer(&house.plane, &without).await;
    let later = [0x30, 3, 0x0a, 1, 3];
    let mut refused = 0;
    for _ in 0..20_000 {
        let answer = crate::certify::status::answer(&house.plane, &with_nonce).await;
        if *answer.der == later {
            refused += 1;
            let kept = crate::certify::status::answer(&house.plane, &without).await;
            assert_eq!(kept.der, first.der);
            if refused > 10 {
                break;
            }
        }
    }
    assert!(refused > 10, "every one of 20,000 was signed");
    house.end().await;
}
