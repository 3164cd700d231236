//! Prints how long things take; asserts nothing about it. Run with
//! `cargo test -p access --config 'profile.dev.package.access.opt-level=3' -- --ignored --nocapture timing`

use crate::{device, example_fleet, fleet, service, sources};
use access::{Fleet, Grants, Outcome, prove};
use std::hint::black_box;
use std::time::Instant;

#[test]
#[ignore = "prints timings; asserts nothing"]
fn timing() {
    let start = Instant::now();
    let fleet = example_fleet();
    println!("read the example fleet      {:?}", start.elapsed());

    let facts = device("cam-000042", "camera", &["beta"]);
    let start = Instant::now();
    let grants = Grants::compile(&fleet, [facts.clone()]).unwrap();
    println!(
        "compile {} classes           {:?}",
        grants.class_count(),
        start.elapsed()
    );

    const ROUNDS: u32 = 1_000_000;
    let subject = grants.subject(&facts);
    let topic = "v1/camera/cam-000042/telemetry/light/lux";
    let start = Instant::now();
    for _ in 0..ROUNDS {
        let _ = black_box(grants.publish(black_box(&subject), black_box(topic)));
    }
    println!("publish                     {:?}", start.elapsed() / ROUNDS);

    let ingest = grants.subject(&service("ingest"));
    let message = grants.resolve(topic).unwrap();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(grants.receive(black_box(&ingest), black_box(&message)));
    }
    println!("receive                     {:?}", start.elapsed() / ROUNDS);

    let filter = crate::filter("v1/camera/cam-000042/command/+");
    let start = Instant::now();
    for _ in 0..ROUNDS / 100 {
        let _ = black_box(grants.subscribe(black_box(&subject), black_box(&filter)));
    }
    println!(
        "subscribe                   {:?}",
        start.elapsed() / (ROUNDS / 100)
    );

    let fleet = large_fleet();
    let start = Instant::now();
    let proofs = prove(&fleet);
    println!("prove among 500 policies    {:?}", start.elapsed());
    assert_eq!(proofs[0].outcome, Outcome::Holds);
}

/// 500 channels, each with a policy of its own for a group of its own, and 200 services.
fn large_fleet() -> Fleet {
    let mut texts = [
        ("fleet.toml", "name = \"large\"\n".to_owned()),
        ("products/p.toml", "[camera]\n[lock]\n".to_owned()),
        ("services/s.toml", String::new()),
        ("channels/c.toml", String::new()),
        ("policies/p.cedar", String::new()),
        (
            "invariants.toml",
            "[no-path]\nfrom = [\"devices\"]\nto = [\"devices\"]\n".to_owned(),
        ),
    ];
    for number in 0..500 {
        if number < 400 {
            texts[0].1 += &format!("[groups.g{number}]\n");
        }
        if number < 200 {
            texts[2].1 += &format!("[s{number}]\n");
        }
        texts[3].1 += &format!(
            "[c{number}]\ntopic = \"c{number}/{{device}}\"\ndirection = \"from-device\"\npayload_bytes_max = 1\n"
        );
        texts[4].1 += &format!(
            "@id(\"p{number}\") permit (principal is Device, action, resource == Channel::\"c{number}\") \
             when {{ principal in Group::\"g{}\" && resource.owner == principal }};\n",
            number % 400
        );
    }
    fleet(&sources(texts))
}
