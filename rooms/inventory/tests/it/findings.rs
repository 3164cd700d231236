//! What a list tells.

use crate::day;
use inventory::findings::{Context, Finding, Judged, Kind, judge};

fn found(judged: &Judged, kind: Kind) -> Option<&Finding> {
    judged.findings.iter().find(|one| one.kind == kind)
}

fn count(judged: &Judged, kind: Kind) -> u64 {
    found(judged, kind).map_or(0, |one| one.count)
}

#[test]
fn each_kind_is_found_by_what_the_list_says() {
    // day(0) is 2026-09-21.
    let mut context = Context::new(day(0));
    context.issuer_names.insert("acme factory ca".to_owned());
    let text = "device,serial,fingerprint,issuer,not_after,key_type,key_bits,signature_algorithm,username,password\n\
        a,1,AA:00112233445566778899aabbccddeeff,Acme Factory CA,2030-01-01,EC,256,ecdsa-with-SHA256,,\n\
        b,2,aa00112233445566778899aabbccddeeff,\"CN=Acme Factory CA,O=Acme\",2030-01-01,EC,256,sha256,,\n\
        c,3,bb00112233445566778899aabbccddeeff,CN=Evil,2026-09-20,RSA,1024,sha1WithRSAEncryption,admin,admin\n\
        d,3,cc00112233445566778899aabbccddeeff,Acme Factory CA,2026-10-01,secp192r1,,ECDSA-SHA256,u,S3cret-of-all\n\
        d2,4,,Acme Factory CA,,RSA-2048,,,u,S3cret-of-all\n\
        dup,5,dd00112233445566778899aabbccddeeff,,,,,,u,own\n";
    let judged = judge(text, &context).unwrap();
    assert_eq!((judged.rows, judged.certificates), (6, 5));
    for (kind, number) in [
        (Kind::SharedCertificate, 2),
        (Kind::DuplicateSerial, 2),
        (Kind::WeakKey, 2),
        (Kind::WeakSignature, 1),
        (Kind::Expired, 1),
        (Kind::Expiring, 1),
        (Kind::UnknownIssuer, 1),
        (Kind::DefaultCredentials, 1),
        (Kind::SharedCredentials, 2),
        (Kind::WithoutCertificate, 1),
        (Kind::DuplicateDevice, 0),
    ] {
        assert_eq!(
            count(&judged, kind),
            number,
            "{kind:?}: {:?}",
            judged.findings
        );
    }
    let severities: Vec<_> = judged
        .findings
        .iter()
        .map(|one| one.kind.severity())
        .collect();
    assert!(
        severities.windows(2).all(|two| two[0] >= two[1]),
        "the worst comes first"
    );
    assert!(
        !format!("{judged:?}").contains("S3cret"),
        "a password is never repeated"
    );
}

#[test]
fn names_that_stand_there_twice_are_found_in_a_list_of_devices() {
    let judged = judge("Name;SN\na;1\nb;2\na;3\na;4\n", &Context::new(day(0))).unwrap();
    assert_eq!(count(&judged, Kind::DuplicateDevice), 3);
    assert_eq!(count(&judged, Kind::DuplicateSerial), 0);
}

#[test]
fn hostile_cells_are_inert_in_examples() {
    let text = "device,issuer,key_type\n\
                \"\u{1b}[2J<img src=x>\u{202e}\",\"=cmd|' /C calc'!A0\u{7}\",\"rsa-512\u{0}\"\n";
    let judged = judge(text, &Context::new(day(0))).unwrap();
    assert_eq!(judged.findings.len(), 2);
    for example in judged.findings.iter().flat_map(|one| &one.examples) {
        assert!(
            !example.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{example:?}"
        );
    }
}

#[test]
fn a_list_without_a_known_column_is_refused() {
    let error = judge("colour,size\nred,1\n", &Context::new(day(0))).unwrap_err();
    assert!(error.text.contains("no column is known"), "{error}");
}

/// `cargo test --release -p inventory -- --ignored --nocapture` says how long it takes.
#[test]
#[ignore = "a figure, not a check"]
fn three_hundred_thousand_rows() {
    let mut text =
        String::from("device,serial,fingerprint,issuer,not_after,key_type,key_bits,password\n");
    for number in 0..300_000u32 {
        text.push_str(&format!(
            "cam-{number},SN{number},{:064x},CN=Acme,2027-01-01T00:00:00Z,RSA,{},p{}\n",
            number / 2,
            if number % 3 == 0 { 1024 } else { 2048 },
            number % 1000
        ));
    }
    let start = std::time::Instant::now();
    let judged = judge(&text, &Context::new(day(0))).unwrap();
    println!(
        "{} rows ({} MiB) in {:?}: {:?}",
        judged.rows,
        text.len() >> 20,
        start.elapsed(),
        judged
            .findings
            .iter()
            .map(|one| (one.kind.name(), one.count))
            .collect::<Vec<_>>()
    );
}
