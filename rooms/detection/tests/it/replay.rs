//! The same observations give the same deviations, before and after a snapshot; a damaged
//! snapshot is refused; a device takes about a kilobyte.

use crate::world::*;
use detection::{Detector, Deviation, Feature, Observation, Settings, SnapshotError};
use model::{Attribution, Protocol, Source, Subject};
use proptest::prelude::*;
use std::time::Duration;

fn any_feature() -> impl Strategy<Value = Feature> {
    let host = prop_oneof![
        Just(None),
        "[a-c]\\.example".prop_map(Some),
        ".{0,200}".prop_map(Some)
    ];
    prop_oneof![
        (0u8..4, 0u16..3, host, any::<u64>()).prop_map(|(net, port, host, bytes_out)| {
            Feature::Destination {
                address: [203, 0, 113, net].into(),
                port: port * 221,
                protocol: Protocol::Tcp,
                host,
                bytes_out,
            }
        }),
        (0u16..40).prop_map(|port| Feature::ListeningPort {
            port,
            protocol: Protocol::Udp,
        }),
        (any::<u64>(), 0u64..100_000_000).prop_map(|(queries, ms)| Feature::DnsQueries {
            queries,
            names: Vec::new(),
            interval: Duration::from_millis(ms),
        }),
        (0u64..1_000_000, 1u64..4_000_000).prop_map(|(bytes, ms)| Feature::BytesOut {
            bytes,
            packets: 1,
            interval: Duration::from_millis(ms),
        }),
        (0u64..1000, any::<u64>()).prop_map(|(count, seconds)| Feature::Messages {
            count,
            bytes: 1,
            denied: 0,
            interval: Duration::from_secs(seconds),
        }),
        prop_oneof![Just("TLSv1_2"), Just("TLSv1_3"), Just("?")].prop_map(session),
        prop_oneof![Just("unknown-issuer"), Just("certificate-expired")].prop_map(refused),
        ".{0,300}".prop_map(|target| denied(&target)),
        (0u8..3, 0u64..40).prop_map(|(boot, sequence)| report(&format!("b{boot}"), sequence)),
        ("[0-9.]{0,8}", any::<Option<[u8; 32]>>()).prop_map(|(version, digest)| {
            Feature::Firmware {
                version,
                digest: digest.map(model::Digest),
            }
        }),
        any::<u64>().prop_map(|count| Feature::TlsFailures {
            count,
            interval: Duration::from_secs(1),
        }),
        any::<bool>().prop_map(|accepted| Feature::SignIn { accepted }),
        (any::<u64>(), any::<u64>()).prop_map(|(devices, ms)| Feature::CommandFanOut {
            devices,
            interval: Duration::from_millis(ms),
        }),
    ]
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let subject = prop_oneof![
        (0u8..6).prop_map(|n| Subject::Device(device(&format!("cam-{n}")))),
        any::<[u8; 4]>().prop_map(|address| Subject::Address(address.into())),
    ];
    (
        0u64..3_000_000,
        subject,
        0usize..3,
        0usize..3,
        any_feature(),
    )
        .prop_map(
            |(seconds, subject, source, attribution, feature)| Observation {
                at: at(seconds),
                subject,
                source: Source::ALL[source],
                attribution: Attribution::ALL[attribution],
                feature,
            },
        )
}

fn run(detector: &mut Detector, observations: &[Observation]) -> Vec<Deviation> {
    let mut out = Vec::new();
    for observation in observations {
        detector.observe(observation, &mut out);
        if detector
            .next_deadline()
            .is_some_and(|due| due <= observation.at)
        {
            detector.wake(observation.at, &mut out);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_run_replays_exactly_and_goes_on_from_a_snapshot(
        mut observations in proptest::collection::vec(any_observation(), 1..200),
        split in any::<prop::sample::Index>(),
        seeded in any::<bool>(),
    ) {
        observations.sort_by_key(|o| o.at);
        // Addresses and people are not kept in a snapshot, by design.
        observations.retain(|o| o.subject.device().is_some());
        let declared = [declared()];
        let fresh = || {
            World::new(Settings::default(), if seeded { &declared } else { &[] }, 5).detector
        };
        let mut first = fresh();
        let whole = run(&mut first, &observations);
        prop_assert_eq!(&run(&mut fresh(), &observations), &whole);

        let (before, after) = observations.split_at(split.index(observations.len() + 1).min(observations.len()));
        let mut half = fresh();
        let mut parts = run(&mut half, before);
        let mut resumed = fresh();
        for part in kept(&half) {
            resumed.restore(&part).unwrap();
        }
        parts.extend(run(&mut resumed, after));
        prop_assert_eq!(parts, whole);
        prop_assert_eq!(kept(&resumed), kept(&first));
    }

    #[test]
    fn hostile_observations_never_stop_the_detector(observations in proptest::collection::vec(any_observation(), 1..100)) {
        // In any order of time, for known and unknown devices.
        let mut detector = World::seeded().detector;
        for said in run(&mut detector, &observations) {
            prop_assert!(said.seen.len() <= 512 && said.expected.len() <= 1024);
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in 0usize..64, of_groups in any::<bool>()) {
        let bytes = largest(&lived(), of_groups);
        let mut damaged = bytes.clone();
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        let mut detector = World::seeded().detector;
        let before = kept(&detector);
        prop_assert!(detector.restore(&damaged).is_err());
        let cut = bytes.len() - 1 - cut * 7 % bytes.len();
        prop_assert!(detector.restore(&bytes[..cut]).is_err());
        prop_assert_eq!(kept(&detector), before);
    }

    /// The checksum finds damage, not malice: what carries a right one is still read with care.
    #[test]
    fn a_forged_snapshot_is_refused_or_whole(at in 29usize..2000, byte in any::<u8>(), of_groups in any::<bool>()) {
        let mut bytes = largest(&lived(), of_groups);
        let end = bytes.len() - 8;
        let place = at % end;
        bytes[place] = byte;
        let sum = fnv(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
        let mut detector = World::seeded().detector;
        if detector.restore(&bytes).is_ok() {
            for part in kept(&detector) {
                prop_assert!(detector.restore(&part).is_ok());
            }
            let mut out = Vec::new();
            detector.observe(&Observation {
                at: crate::world::at(9_000_000),
                subject: Subject::Device(device("cam-1")),
                source: Source::Network,
                attribution: Attribution::Proven,
                feature: queries(1, 60),
            }, &mut out);
        }
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// All that is kept.
fn kept(detector: &Detector) -> Vec<Vec<u8>> {
    let devices = (0..=u8::MAX).map(|part| detector.snapshot_of_devices(part));
    std::iter::once(detector.snapshot_of_groups())
        .chain(devices)
        .collect()
}

fn largest(detector: &Detector, of_groups: bool) -> Vec<u8> {
    let mut kept = kept(detector);
    let groups = kept.remove(0);
    let of_devices = kept.into_iter().max_by_key(Vec::len).unwrap();
    if of_groups { groups } else { of_devices }
}

fn lived() -> Detector {
    let mut world = World::seeded();
    for second in 0..50 {
        world.see(
            "cam-1",
            second,
            OUTSIDE,
            destination("203.0.113.1", 4444, None),
        );
        world.see("cam-2", second, REPORT, report("boot", second + 1));
        world.see("cam-2", second, GATEWAY, denied("x"));
    }
    world.detector
}

#[test]
fn another_format_is_named() {
    let mut bytes = lived().snapshot_of_groups();
    bytes[20] = 2;
    let mut detector = World::seeded().detector;
    assert_eq!(detector.restore(&bytes), Err(SnapshotError::Format(2)));
    assert!(matches!(
        detector.restore(b""),
        Err(SnapshotError::Damaged(_))
    ));
    let claims_much = [
        &b"fleetward detection\n"[..],
        &1_u64.to_le_bytes(),
        &[0xff; 64],
    ]
    .concat();
    assert!(detector.restore(&claims_much).is_err());
}

#[test]
fn a_device_takes_about_a_kilobyte_whatever_it_does() {
    let world = |devices| World::new(Settings::default(), &[], devices);
    let empty = allocated(|| world(0));
    let each = |devices: usize, live: &dyn Fn(&mut World, &str)| {
        let bytes = allocated(|| {
            let mut world = world(devices);
            for index in 0..devices {
                live(&mut world, &format!("cam-{index}"));
                world.said = Vec::new();
            }
            world
        });
        (bytes - empty) / devices as u64
    };
    let usual = each(10_000, &|world, name| {
        for port in [443, 123, 8883] {
            world.see(name, 0, OUTSIDE, destination("203.0.113.1", port, None));
        }
        world.see(name, 0, OUTSIDE, queries(5, 60));
        world.see(name, 0, GATEWAY, session("TLSv1_3"));
        world.see(name, 0, REPORT, report("boot", 1));
        world.see(name, 0, GATEWAY, denied("t"));
    });
    let worst = each(1_000, &|world, name| {
        for step in 0..40_u16 {
            let target = destination("203.0.113.1", 1000 + step, None);
            world.see(name, 0, OUTSIDE, target);
            world.see(name, 0, OUTSIDE, refused(&format!("reason-{step}")));
            world.see(name, 0, REPORT, report(&format!("b{step}"), 1));
            world.see(name, 0, GATEWAY, denied(&format!("t/{step}")));
        }
    });
    println!("{usual} bytes a device in ordinary life, {worst} at worst");
    assert!(usual <= 1_024 && worst <= 1_536, "{usual}, {worst}");
}

/// Bytes still held by what `make` returns.
fn allocated<T>(make: impl FnOnce() -> T) -> u64 {
    let mut kept = None;
    let info = allocation_counter::measure(|| kept = Some(make()));
    drop(kept);
    u64::try_from(info.bytes_current).unwrap()
}
