//! What a device costs in memory: bounded at its worst, about a kilobyte as it usually is.

use crate::{day, inventory, sighting};
use inventory::Seen;
use model::Protocol;
use std::net::{IpAddr, Ipv4Addr};

fn bytes_of(devices: usize, addresses: u32, peers: u32, host: &str) -> u64 {
    let names: Vec<String> = (0..devices)
        .map(|number| format!("camera-{number:06}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut built = None;
    let measured = allocation_counter::measure(|| {
        let mut inventory = inventory(&names);
        for name in &names {
            for number in 0..addresses {
                let address = IpAddr::V4(Ipv4Addr::from_bits(number));
                inventory.learn(&sighting(name, day(0), Seen::Address(address)));
            }
            for number in 0..peers {
                let seen = Seen::Peer {
                    address: IpAddr::V4(Ipv4Addr::from_bits(number)),
                    port: 443,
                    protocol: Protocol::Tcp,
                    host: Some(host.to_owned()),
                    bytes_out: 1,
                };
                inventory.learn(&sighting(name, day(0), seen));
            }
            inventory.take_changes(10_000);
        }
        built = Some(inventory);
    });
    u64::try_from(measured.bytes_current).unwrap() / devices as u64
}

#[test]
fn a_device_costs_what_the_chapter_says() {
    let listed = bytes_of(2000, 0, 0, "");
    let usual = bytes_of(2000, 2, 4, "telemetry.eu.example.net");
    // A host of 253 controls grows to six characters each when it is made visible.
    let worst = bytes_of(20, 400, 2000, &"\u{1}".repeat(253));
    println!("listed {listed} bytes, usual {usual}, worst {worst}");
    assert!(listed < 1024, "{listed}");
    assert!(usual < 2560, "{usual}");
    assert!(worst < 512 * 1024, "{worst}");
}
