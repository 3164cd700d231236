use super::*;
use crate::certifying::{Certifier, pem};
use crate::neighbour::{beside_a_neighbour, reaches};
use ::identity::profile;
use model::{ManufacturerId, Timestamp};

const NEIGHBOUR: [u8; 4] = [10, 9, 0, 2];
const ISOLATED: Option<Containment> = Some(Containment::Isolated);

/// The folder of a device whose plane is at `localhost`, but has not been heard of yet.
struct Device(tempfile::TempDir);

impl Device {
    fn new(extra: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let maker = ManufacturerId::new("maker").unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let made = Certifier::new(
            |terms| profile::manufacturer_ca(&maker, terms).unwrap(),
            now,
            Duration::ZERO,
        );
        std::fs::write(
            scratch.path().join("own.pem"),
            pem(&made.key_pkcs8(), &made.der),
        )
        .unwrap();
        let text = format!(
            "device = 'cam-1'\nproduct = 'camera'\nstate_dir = 'state'\nroots_file = 'own.pem'\n\
             idevid_certificate_file = 'own.pem'\nidevid_key_file = 'own.pem'\n{extra}\n\
             plane = {{ est = 'localhost:8444', mqtt = 'localhost:8883' }}\n\
             sources = {{ listening = 'off', destinations = 'off', traffic = 'off' }}\n\
             [[publish]]\ntopic = 'v1/camera/{{device}}/status'\nevery_seconds = 1\n"
        );
        std::fs::write(scratch.path().join("agent.toml"), text).unwrap();
        Self(scratch)
    }

    fn start(&self) -> Agent {
        Agent::open(Config::read(&self.0.path().join("agent.toml")).unwrap()).unwrap()
    }
}

/// Topics of what would be sent now, were nothing held back.
fn would_send(agent: &mut Agent) -> Vec<String> {
    let now = Instant::now();
    agent.do_duties(now);
    let mut topics = Vec::new();
    while let Some((_, topic, _)) = agent.outbox.next(now, 32, false) {
        topics.push(topic.to_owned());
    }
    topics
}

#[test]
fn isolation_survives_a_restart_with_nobody_to_ask() {
    let device = Device::new("");
    let mut agent = device.start();
    assert_eq!(would_send(&mut agent).len(), 2);
    assert!(agent.contain(ISOLATED));
    drop(agent);
    for _ in 0..2 {
        let mut agent = device.start();
        assert_eq!(agent.containment, ISOLATED);
        assert_eq!(would_send(&mut agent), ["$fleetward/devices/cam-1/report"]);
    }
    let mut agent = device.start();
    assert!(agent.contain(None));
    assert_eq!(would_send(&mut agent).len(), 2);
    drop(agent);
    assert_eq!(device.start().containment, None);
}

#[test]
fn what_cannot_be_kept_is_in_force_and_not_acknowledged_and_nothing_is_given_back() {
    let device = Device::new("");
    let mut agent = device.start();
    agent.folder.power.set(Some(0));
    assert!(!agent.contain(ISOLATED));
    assert_eq!(agent.containment, ISOLATED);
    assert_eq!(would_send(&mut agent).len(), 1);
    agent.folder.power.set(None);
    agent.see_to_containment();
    drop(agent);
    let mut agent = device.start();
    assert_eq!(agent.containment, ISOLATED);
    agent.folder.power.set(Some(0));
    assert!(!agent.contain(None));
    assert_eq!(agent.containment, ISOLATED);
    drop(agent);
    assert_eq!(device.start().containment, ISOLATED);
}

#[test]
fn the_fence_is_up_again_before_anything_of_the_next_run_speaks() {
    beside_a_neighbour(|| {
        let device = Device::new("enforce_locally = true");
        let mut agent = device.start();
        if agent.table.is_none() {
            println!("skipped: nftables is not permitted here");
            return;
        }
        agent.doors = vec![SocketAddr::from((NEIGHBOUR, 8883))];
        assert!(agent.contain(ISOLATED));
        assert!(reaches(8883) && !reaches(2222));
        // As by a kill: the kernel takes the table away with its owner.
        drop(agent);
        assert!(reaches(2222));
        // It may be late with that.
        let late = Table::make().unwrap();
        let mut agent = device.start();
        assert!(!agent.fenced && agent.containment == ISOLATED);
        drop(late);
        agent.see_to_containment();
        assert!(agent.fenced && !reaches(2222));
        drop(agent);
        let mut agent = device.start();
        assert!(agent.fenced && reaches(8883) && !reaches(2222));
        // No resolver can be asked for the plane's name.
        assert_eq!(agent.trust.reached, [std::net::IpAddr::from(NEIGHBOUR)]);

        // Nobody was there: the plane's name says where it is now, and the fence is shut around that.
        agent.is_lost = true;
        agent.look_for_doors();
        assert!(!agent.is_lost && agent.doors.iter().all(|door| door.ip().is_loopback()));
        assert!(agent.fenced && !reaches(8883) && !reaches(2222));

        assert!(agent.contain(None));
        assert!(!agent.fenced && reaches(2222) && agent.trust.reached.is_empty());
    });
}
