//! Somebody at the doors who means harm.

use crate::plane::{Home, PATIENCE, RaiseOnDrop, Settings, wait_until};
use mqtt::{Connect, Qos, Version};
use sim::credential::Key;
use sim::device::{Doors, Manner};
use sim::session::Event;
use sim::tls::{Client, Endpoint, Options};
use sim::{Credential, Refusal, Session};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Hundreds of connections that say nothing, something, or one byte after the other: they take
/// the places that are theirs to take, then their time is over. Whoever is inside goes on.
#[test]
fn a_stranger_allocates_nothing() {
    const STRANGERS: usize = 300;
    const PLACES: u64 = 64;
    let home = Home::new(&Settings {
        gateway: format!("handshakes_max = {PLACES}\nhandshake_seconds_max = 1"),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let (mut live, mut later) = (home.device("live"), home.device("later"));
    plane.expect([&live, &later]);
    let (doors, manner) = (plane.doors(), Manner::default());
    live.enroll(&doors, &manner).unwrap();
    later.enroll(&doors, &manner).unwrap();
    live.connect(&doors, &manner).unwrap();
    let session = live.session().unwrap();
    session
        .publish("v1/sensor/live/telemetry/x", b"before")
        .unwrap();
    let resident = plane.resident_bytes();

    let mark = plane.lines.mark();
    let mut strangers: Vec<Stranger> = (0..STRANGERS)
        .map(|n| Stranger::come(plane.mqtt, n))
        .collect();
    let (mut most, mut published) = (0, 0);
    wait_until("every stranger has been shown out", || {
        session
            .publish("v1/sensor/live/telemetry/x", b"meanwhile")
            .unwrap();
        published += 1;
        most = most.max(plane.metric("fleetward_gateway_handshakes_in_flight"));
        strangers.retain_mut(Stranger::drips_on);
        strangers.is_empty()
    });
    assert!((1..=PLACES).contains(&most), "{most} handshakes in flight");
    assert!(published > 10, "{published}");
    assert_eq!(plane.connected(), ["device/live"]);
    let grown = plane.resident_bytes().saturating_sub(resident);
    assert!(grown < 24 << 20, "{grown} bytes more in use");
    // It is told, and the telling is bounded too.
    let lines = plane.lines.from(mark);
    let told = lines
        .iter()
        .filter(|line| line.contains("handshake-timeout"))
        .count();
    assert!((1..=STRANGERS).contains(&told), "{told} lines");
    assert!(lines.iter().all(|line| line.len() < 1000));
    // The door is open again.
    later.connect(&doors, &manner).unwrap();
}

/// A connection that never becomes a TLS session.
struct Stranger {
    socket: TcpStream,
    drip: Vec<u8>,
}

impl Stranger {
    fn come(to: SocketAddr, number: usize) -> Self {
        let socket = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        socket.set_nonblocking(true).unwrap();
        // The head of a record of 16 KiB, that is then never whole.
        let mut drip = vec![0x16, 3, 1, 0x40, 0];
        drip.extend([1, 0, 0x3f, 0xfc, 3, 3]);
        drip.extend([0; 4096]);
        drip.reverse();
        let mut stranger = Self { socket, drip };
        match number % 3 {
            0 => stranger.drip.clear(),
            1 => {
                let most = stranger.drip.split_off(100);
                let most: Vec<u8> = most.into_iter().rev().collect();
                let _ = stranger.socket.write(&most);
            }
            _ => {}
        }
        stranger
    }

    /// One byte more. False once the plane has closed.
    fn drips_on(&mut self) -> bool {
        if let Some(byte) = self.drip.pop()
            && let Err(error) = self.socket.write(&[byte])
            && error.kind() != ErrorKind::WouldBlock
        {
            return false;
        }
        match self.socket.read(&mut [0; 64]) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Past the handshake too: a certificate buys no time for a CONNECT that never comes whole, and whoever
/// is inside goes on.
#[test]
fn slow_loris_past_the_handshake() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (mut live, mut slow) = (home.device("live"), home.device("slow"));
    plane.expect([&live, &slow]);
    let (doors, manner) = (plane.doors(), Manner::default());
    live.enroll(&doors, &manner).unwrap();
    slow.enroll(&doors, &manner).unwrap();
    live.connect(&doors, &manner).unwrap();
    let shown = slow.ldevid().unwrap().presented();
    let client = Client::new(&doors.mqtt, Some(&shown), &Options::default()).unwrap();
    let mut connect = Vec::new();
    mqtt::encode::connect(&mut connect, &Connect::new(Version::V5, "slow"));
    // Each says a part of it, and then nothing.
    let mut loris: Vec<_> = (1..=6)
        .map(|length| {
            let mut transport = client.connect(PATIENCE).unwrap();
            let part = &connect[..length];
            transport.write(part, Instant::now() + PATIENCE).unwrap();
            transport
        })
        .collect();
    let session = live.session().unwrap();
    let mut published = 0;
    wait_until("each of them has been shown out", || {
        session
            .publish("v1/sensor/live/telemetry/x", b"meanwhile")
            .unwrap();
        published += 1;
        loris.retain_mut(|transport| {
            let soon = Instant::now() + Duration::from_millis(1);
            let mut received = Vec::new();
            matches!(
                transport.read(&mut received, soon),
                Ok(()) | Err(Refusal::Timeout)
            )
        });
        loris.is_empty()
    });
    assert!(published > 10, "{published}");
    assert_eq!(plane.connected(), ["device/live"]);
    // Nothing is held against it.
    slow.connect(&doors, &manner).unwrap();
}

/// The handshake may end on one shard and the session open on another: a revocation in between
/// must not be outrun.
#[test]
fn a_revoked_device_cannot_outrun_its_handover() {
    let home = Home::new(&Settings {
        shards: 2,
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let (doors, manner) = (plane.doors(), Manner::default());
    let mut devices: Vec<_> = (0..8)
        .map(|n| home.device(&format!("runner-{n}")))
        .collect();
    plane.expect(&devices);
    for device in &mut devices {
        device.enroll(&doors, &manner).unwrap();
    }
    for device in &devices {
        let shown = device.ldevid().unwrap();
        let (revoked, accepted) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let runners: Vec<_> = (0..3)
                .map(|runner| {
                    let client_id = format!("{}:{runner}", device.id());
                    let (doors, revoked, accepted) = (&doors, &revoked, &accepted);
                    scope.spawn(move || {
                        outrun(
                            doors,
                            shown,
                            &client_id,
                            device.id().as_str(),
                            revoked,
                            accepted,
                        )
                    })
                })
                .collect();
            let receipt = RaiseOnDrop(&revoked);
            wait_until("some have been let in", || {
                accepted.load(Ordering::Relaxed) >= 6
            });
            plane.revoke(device.id());
            // From here on: the receipt is in hand.
            drop(receipt);
            for runner in runners {
                assert_eq!(
                    runner.join().unwrap(),
                    0,
                    "publishes accepted after the receipt"
                );
            }
        });
    }
    assert_eq!(plane.connected(), [""; 0]);
}

/// Connects and publishes until 10 attempts that began after the receipt were refused. How many
/// publishes that began after it were accepted.
fn outrun(
    doors: &Doors,
    shown: &Credential,
    client_id: &str,
    device: &str,
    revoked: &AtomicBool,
    accepted: &AtomicU64,
) -> u64 {
    let client = Client::new(&doors.mqtt, Some(&shown.presented()), &Options::default()).unwrap();
    let topic = format!("v1/sensor/{device}/telemetry/x");
    let (mut late, mut refused) = (0, 0);
    let deadline = Instant::now() + PATIENCE * 2;
    while refused < 10 {
        assert!(Instant::now() < deadline, "it is let in on and on");
        let after = revoked.load(Ordering::SeqCst);
        let opened = Session::open(&client, &Connect::new(Version::V5, client_id), PATIENCE);
        let Ok(mut session) = opened else {
            refused += u32::from(after);
            continue;
        };
        for _ in 0..3 {
            let after = revoked.load(Ordering::SeqCst);
            if session.publish(&topic, b"still here").is_err() {
                break;
            }
            accepted.fetch_add(1, Ordering::Relaxed);
            late += u64::from(after);
        }
    }
    late
}

/// A device that takes its commands no more holds up those who send to it, until it is cut;
/// everybody else is served all the while, and the plane's memory stays bounded.
#[test]
fn a_slow_reader_is_cut_and_others_are_unharmed() {
    let home = Home::new(&Settings {
        durability: "process",
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let (doors, manner) = (plane.doors(), Manner::default());
    let (mut slow, mut other) = (home.device("slow"), home.device("other"));
    plane.expect([&slow, &other]);
    for device in [&mut slow, &mut other] {
        device.enroll(&doors, &manner).unwrap();
        device.connect(&doors, &manner).unwrap();
        let filter = format!("v1/sensor/{}/command/+", device.id());
        device
            .session()
            .unwrap()
            .subscribe_one(&filter, Qos::AtMostOnce)
            .unwrap();
    }
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();
    let commander = plane.certify("commander");
    let client = Client::new(
        &doors.mqtt,
        Some(&commander.presented()),
        &Options::default(),
    );
    let client = client.unwrap();
    let open = |id: &str| Session::open(&client, &Connect::new(Version::V5, id), PATIENCE).unwrap();
    let resident = plane.resident_bytes();
    let mark = plane.lines.mark();

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Far more than the sockets of both ends hold. Nobody reads it.
        let flood = scope.spawn(|| {
            let mut sender = open("commander:flood");
            let mut sent = 0u64;
            while !over.load(Ordering::Relaxed) {
                sender
                    .publish("v1/sensor/slow/command/x", &[b'x'; 100_000])
                    .unwrap();
                sent += 1;
            }
            sent
        });
        let ending = RaiseOnDrop(&over);
        let session = other.session().unwrap();
        let mut calm = open("commander:calm");
        let (mut rounds, mut worst) = (0u64, Duration::ZERO);
        let mut cut = false;
        let deadline = Instant::now() + PATIENCE;
        while !cut {
            let started = Instant::now();
            session
                .publish("v1/sensor/other/telemetry/x", b"21.5")
                .unwrap();
            let got = ingest
                .session()
                .unwrap()
                .next_delivery(deadline)
                .unwrap()
                .unwrap();
            assert_eq!(got.topic, "v1/sensor/other/telemetry/x");
            ingest.session().unwrap().acknowledge(&[got]).unwrap();
            calm.publish("v1/sensor/other/command/x", b"on").unwrap();
            let heard = session.next_delivery(deadline).unwrap().unwrap();
            assert_eq!(heard.topic, "v1/sensor/other/command/x");
            worst = worst.max(started.elapsed());
            rounds += 1;
            cut = plane.lines.from(mark).iter().any(|line| {
                line.contains("device/slow does not read") && line.contains("connection cut")
            });
            assert!(
                Instant::now() < deadline,
                "it is not cut: {:#?}",
                plane.lines.from(mark)
            );
        }
        println!("{rounds} rounds while it was slow, the worst took {worst:?}");
        assert!(rounds > 100, "{rounds}");
        let grown = plane.resident_bytes().saturating_sub(resident);
        assert!(grown < 64 << 20, "{grown} bytes more in use");
        drop(ending);
        // Whom it held up goes on.
        assert!(flood.join().unwrap() > 0);
    });
    // It was cut, with the reason as its last word behind all that it had not read.
    let session = slow.session().unwrap();
    let ended = loop {
        match session.next(Instant::now() + PATIENCE) {
            Ok(Some(Event::Delivery(_))) => {}
            Ok(event) => panic!("{event:?}"),
            Err(refusal) => break refusal,
        }
    };
    assert!(ended.is_by_server(), "{ended}");
    assert!(!plane.connected().contains(&"device/slow".to_owned()));
}

/// Whoever reads nothing until it is cut off, and then everything, gets no more than the network had
/// taken before.
#[test]
fn attack_a_device_reads_after_it_was_cut_off_what_waited_for_it() {
    let home = Home::new(&Settings {
        durability: "process",
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let (doors, manner) = (plane.doors(), Manner::default());
    let mut slow = home.device("slow");
    plane.expect([&slow]);
    slow.enroll(&doors, &manner).unwrap();
    slow.connect(&doors, &manner).unwrap();
    let session = slow.session().unwrap();
    session
        .subscribe_one("v1/sensor/slow/command/+", Qos::AtMostOnce)
        .unwrap();
    let commander = plane.certify("commander");
    let shown = commander.presented();
    let client = Client::new(&doors.mqtt, Some(&shown), &Options::default()).unwrap();
    let connect = Connect::new(Version::V5, "commander");
    let mut sender = Session::open(&client, &connect, PATIENCE).unwrap();
    // Until a mebibyte waits at the plane beside what the sockets of both ends hold.
    let dropped = || plane.metric("fleetward_gateway_dropped_slow_consumer_total");
    while dropped() == 0 {
        for _ in 0..20 {
            sender
                .publish("v1/sensor/slow/command/x", &[b'x'; 100_000])
                .unwrap();
        }
    }
    let sent = plane.metric("fleetward_gateway_deliveries_total");
    let cut = serde_json::json!({
        "device": "slow", "containment": "quarantined", "reason": "test"
    });
    plane
        .post("/api/v1/response/containments", &cut)
        .expect(201);
    let mut came = 0;
    let session = slow.session().unwrap();
    let ended = loop {
        match session.next(Instant::now() + PATIENCE) {
            Ok(Some(Event::Delivery(_))) => came += 1,
            Ok(event) => panic!("{event:?}"),
            Err(refusal) => break refusal,
        }
    };
    println!("{came} of {sent} came, then: {ended}");
    assert!(came + 10 <= sent, "{came} of {sent}");
    assert!(!matches!(ended, Refusal::Timeout), "{ended}");
}

/// Certificates travel in the clear in TLS 1.2 and are no secret in 1.3: showing one proves
/// nothing, and must harm nobody.
#[test]
fn a_certificate_shown_without_its_key_revokes_nobody_and_is_logged_as_no_possession() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (doors, manner) = (plane.doors(), Manner::default());
    let mut victim = home.device("victim");
    plane.expect([&victim]);
    victim.enroll(&doors, &manner).unwrap();
    victim.connect(&doors, &manner).unwrap();
    let entries = plane.acts();

    let mark = plane.lines.mark();
    for shown in [victim.ldevid().unwrap(), victim.idevid()] {
        let stolen = Credential::new(shown.chain().to_vec(), Key::generate().unwrap()).unwrap();
        let at_mqtt = Client::new(&doors.mqtt, Some(&stolen.presented()), &manner.tls).unwrap();
        let connect = Connect::new(Version::V5, "victim");
        let refused = Session::open(&at_mqtt, &connect, PATIENCE).unwrap_err();
        assert!(refused.is_by_server(), "{refused}");
        let at_est = Client::new(&doors.est, Some(&stolen.presented()), &manner.tls).unwrap();
        let refused = sim::est::simpleenroll(&at_est, "victim", "SN-victim", PATIENCE).unwrap_err();
        assert!(
            matches!(refused, Refusal::Alert(_) | Refusal::Cut),
            "{refused}"
        );
    }
    wait_until("all are told", || {
        refusals(&plane.lines.from(mark)).len() >= 4
    });
    let told = refusals(&plane.lines.from(mark));
    // The IDevID at the MQTT door is refused by its chain, before any signature is asked for.
    let unproven = told
        .iter()
        .filter(|line| line.contains("refused no-possession: "));
    assert_eq!((told.len(), unproven.count()), (4, 3), "{told:#?}");
    // Nothing is said of the victim, and nothing has happened to it.
    assert!(
        told.iter().all(|line| !line.contains("device/victim")),
        "{told:#?}"
    );
    assert_eq!(plane.acts(), entries);
    victim
        .session()
        .unwrap()
        .publish("v1/sensor/victim/telemetry/x", b"here")
        .unwrap();
    assert_eq!(plane.connected(), ["device/victim"]);
    plane.stop_well();
}

/// What a peer chose to call itself cannot act in the log.
#[test]
fn hostile_text_in_a_client_id_or_a_topic_stays_text() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (doors, manner) = (plane.doors(), Manner::default());
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&doors, &manner).unwrap();
    let shown = device.ldevid().unwrap().presented();
    let client = Client::new(&doors.mqtt, Some(&shown), &manner.tls).unwrap();
    let mark = plane.lines.mark();
    let forged = "\u{1b}[2J 2026 WARN gateway: all is well\u{202e}\u{2028}";
    let connect = Connect::new(Version::V5, forged);
    if let Ok(mut session) = Session::open(&client, &connect, PATIENCE) {
        let _ = session.publish(&format!("v1/{forged}"), b"x");
    }
    let mut session = Session::open(&client, &Connect::new(Version::V5, "cam"), PATIENCE).unwrap();
    let _ = session.publish(&format!("v1/{forged}"), b"x");
    drop(session);
    plane
        .lines
        .wait_for(mark, "publish of device/cam to \"v1/\\u{1b}[2J");
    plane.revoke(device.id());
    for line in plane.stop_well() {
        let acts = |c: char| c.is_control() || ['\u{202e}', '\u{2028}'].contains(&c);
        assert!(!line.chars().any(acts), "{line:?}");
    }
}

fn refusals(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter(|line| line.contains("refused "))
        .cloned()
        .collect()
}

/// One bit is turned on its way to the plane, at any point of a handshake and behind it: that
/// connection ends, and nothing else does.
#[test]
fn a_bit_turned_anywhere_ends_that_connection_and_no_thread() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (doors, manner) = (plane.doors(), Manner::default());
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&doors, &manner).unwrap();
    device.connect(&doors, &manner).unwrap();
    let shown = device.ldevid().unwrap().presented();
    // Some turn a length, so that the plane rightly waits for more: our patience ends those.
    let patience = Duration::from_secs(2);
    let root = plane.root();
    // The hello is about 1,500 bytes, the client's answer 900, then come the packets.
    let places: Vec<usize> = (0..24).chain((24..3200).step_by(40)).collect();
    let ended = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for places in places.chunks(places.len().div_ceil(8)) {
            let (plane, shown, root, ended) = (&plane, &shown, &root, &ended);
            scope.spawn(move || {
                for (number, at) in places.iter().enumerate() {
                    for door in [plane.mqtt, plane.devices] {
                        let bit = 1 << (number % 8);
                        let good = through_a_turned_bit(door, *at, bit, shown, root, patience);
                        ended.fetch_add(u64::from(!good), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let ended = ended.into_inner();
    assert!(ended > 50, "{ended}");
    device
        .session()
        .unwrap()
        .publish("v1/sensor/cam/telemetry/x", b"here")
        .unwrap();
    plane.get("/readyz").expect(204);
    for line in plane.stop_well() {
        assert!(!line.contains("panicked"), "{line}");
    }
}

/// One exchange at a door with one bit turned on the way; whether it went well.
fn through_a_turned_bit(
    door: SocketAddr,
    at: usize,
    bit: u8,
    shown: &sim::credential::Presented,
    root: &[u8],
    patience: Duration,
) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = listener.local_addr().unwrap();
    let relaying = std::thread::spawn(move || relay(&listener, door, at, bit));
    let endpoint = Endpoint::new(through, "localhost", &[root.to_vec()]).unwrap();
    let client = Client::new(&endpoint, Some(shown), &Options::default()).unwrap();
    // A packet to the one door, no HTTP to the other: the bit may lie behind the handshake too.
    let connect = Connect::new(Version::V5, format!("cam:{at}").leak());
    let outcome = Session::open(&client, &connect, patience)
        .and_then(|mut session| session.publish("v1/sensor/cam/telemetry/x", &[7; 900]));
    relaying.join().unwrap();
    outcome.is_ok()
}

/// Carries one connection, with one bit of what goes to the plane turned.
fn relay(listener: &TcpListener, door: SocketAddr, at: usize, bit: u8) {
    let (mut client, _) = listener.accept().unwrap();
    let mut server = TcpStream::connect(door).unwrap();
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let answering = std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let (mut passed, mut chunk) = (0, [0; 4096]);
    while let Ok(count @ 1..) = client.read(&mut chunk) {
        if let Some(byte) = at
            .checked_sub(passed)
            .and_then(|at| chunk[..count].get_mut(at))
        {
            *byte ^= bit;
        }
        passed += count;
        if server.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    answering.join().unwrap();
}
