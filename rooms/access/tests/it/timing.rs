//! Prints how long things take; asserts nothing about it. Run with
//! `cargo test -p access --config 'profile.dev.package.access.opt-level=3' -- --ignored --nocapture timing`

use crate::{device, example_fleet, service};
use access::Grants;
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
}
