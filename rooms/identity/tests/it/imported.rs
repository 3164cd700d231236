//! Existing fleets at the doors: what their certificates open, until when, and whom they name.

use crate::support::*;
use identity::import::{Found, Import, Terms};
use identity::{
    Anchors, Door, EnrollmentKind, Fact, FactConflict, FirstIdentity, ImportedFleet, Operation,
    OwnCas, PathRefusal, Presented, Refusal,
};
use model::{Digest, Principal, Revocable, RevocationReason, Timestamp};

const UNTIL: Timestamp = Timestamp::from_seconds(1_793_491_200 + 90 * 86_400);

/// A [`World`] and an existing fleet, `legacy`, that names its devices by serialNumber and expects
/// `OLD1` as `o1`.
struct Imported {
    world: World,
    legacy: Ca,
}

fn own(world: &World) -> OwnCas {
    OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![identity::IssuingCa::of_every_use(world.issuing.der.clone())],
    }
}

fn fleet(cas: Vec<Vec<u8>>, expired_until: Option<Timestamp>) -> ImportedFleet {
    ImportedFleet {
        fleet: manufacturer("legacy"),
        cas,
        naming: "serial-number".parse().unwrap(),
        expired_until,
    }
}

impl Imported {
    fn new(accept_expired: bool) -> Self {
        Self::with(accept_expired, |legacy| vec![legacy.der.clone()])
    }

    fn with(accept_expired: bool, cas: impl FnOnce(&Ca) -> Vec<Vec<u8>>) -> Self {
        let mut world = World::new();
        let legacy = Ca::factory("legacy");
        world.anchors = Anchors::new(
            realm(),
            &own(&world),
            vec![(manufacturer("maker"), world.factory.der.clone())],
        )
        .unwrap()
        .with_imported(vec![fleet(cas(&legacy), accept_expired.then_some(UNTIL))])
        .unwrap();
        let imported = Fact::FleetImported {
            fleet: manufacturer("legacy"),
            until: UNTIL,
            accept_expired,
        };
        world.registry.apply(&imported).unwrap();
        world
            .registry
            .apply(&expected("legacy", "OLD1", "o1"))
            .unwrap();
        Self { world, legacy }
    }

    fn leaf(&self, number: &str) -> Vec<u8> {
        self.legacy.idevid("legacy", number, &Key::new())
    }

    fn present(&self, door: Door, leaf: &[u8], now: Timestamp) -> Result<Presented, Refusal> {
        let found = self.world.anchors.verify_path(door, leaf, &[], now);
        let path = match found {
            Err(PathRefusal::UnknownIssuer) => (self.world.registry.pinned_path(leaf, now))
                .unwrap_or(Err(PathRefusal::UnknownIssuer)),
            found => found,
        }?;
        self.world.anchors.presented(&path, leaf)
    }

    fn enter(&self, door: Door, leaf: &[u8], now: Timestamp) -> Result<Principal, Refusal> {
        let presented = self.present(door, leaf, now)?;
        let who = self.world.registry.authenticate(door, presented, now)?;
        Ok(who.principal().clone())
    }

    fn pin(&mut self, leaf: &[u8], device: &str, shared: bool) -> Result<(), FactConflict> {
        self.world.registry.apply(&Fact::LeafPinned {
            fingerprint: digest(leaf),
            device: device_id(device),
            shared,
        })
    }
}

fn digest(bytes: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Digest(hash.as_ref().try_into().unwrap())
}

#[test]
fn an_imported_certificate_opens_both_doors_and_an_idevid_still_one() {
    let it = Imported::new(false);
    let leaf = it.leaf("OLD1");
    for door in [Door::Gateway, Door::Devices] {
        assert_eq!(it.enter(door, &leaf, NOW), Ok(device("o1")));
    }
    let factory = it.world.factory.idevid("maker", "SN1", &Key::new());
    let refused = it.enter(Door::Gateway, &factory, NOW);
    assert_eq!(refused, Err(PathRefusal::FactoryIdentity.into()));
}

#[test]
fn what_is_not_on_the_list_is_nobody() {
    let it = Imported::new(false);
    let refused = it.enter(Door::Gateway, &it.leaf("OLD2"), NOW).unwrap_err();
    assert_eq!(refused.code(), "imported-unlisted");
    // The same serial number at a manufacturer is another device.
    let refused = it.enter(Door::Gateway, &it.leaf("SN1"), NOW).unwrap_err();
    assert_eq!(refused.code(), "imported-unlisted");
}

#[test]
fn an_import_ends_at_the_mqtt_door_and_enrollment_stays_open_until_it_is_retired() {
    let mut it = Imported::new(false);
    let leaf = it.leaf("OLD1");
    let late = UNTIL.plus(DAY);
    let presented = it.present(Door::Gateway, &leaf, NOW).unwrap();
    let who = it
        .world
        .registry
        .authenticate(Door::Gateway, presented, NOW)
        .unwrap();
    assert_eq!(who.not_after(), UNTIL, "a session ends with the import");
    let refused = it.enter(Door::Gateway, &leaf, late).unwrap_err();
    assert_eq!(refused.code(), "import-ended");
    assert_eq!(it.enter(Door::Devices, &leaf, late), Ok(device("o1")));
    let retired = Fact::FleetRetired {
        fleet: manufacturer("legacy"),
        at: NOW,
    };
    it.world.registry.apply(&retired).unwrap();
    // Importing it again moves the end and gives nothing back.
    let again = Fact::FleetImported {
        fleet: manufacturer("legacy"),
        until: UNTIL.plus(30 * DAY),
        accept_expired: true,
    };
    it.world.registry.apply(&again).unwrap();
    for door in [Door::Gateway, Door::Devices] {
        assert_eq!(
            it.enter(door, &leaf, NOW).unwrap_err().code(),
            "import-retired"
        );
    }
}

#[test]
fn an_imported_certificate_is_the_first_identity_of_the_first_ldevid_and_of_no_renewal() {
    let mut it = Imported::new(false);
    let leaf = it.leaf("OLD1");
    let presented = it.present(Door::Devices, &leaf, NOW).unwrap();
    let who = it
        .world
        .registry
        .authenticate(Door::Devices, presented, NOW)
        .unwrap();
    let key = Key::new();
    let request = plain_request(&key);
    let registry = &it.world.registry;
    let decision = registry
        .enroll(Operation::SimpleEnroll, &who, &request, NOW)
        .unwrap();
    assert_eq!(decision.kind, EnrollmentKind::First);
    assert_eq!(decision.by, FirstIdentity::Imported);
    assert_eq!(decision.device, device_id("o1"));
    let refused = registry.enroll(Operation::SimpleReenroll, &who, &request, NOW);
    assert_eq!(refused, Err(Refusal::NotAnLdevid));
    let progress = registry.import_progress(&manufacturer("legacy"));
    assert_eq!((progress.devices, progress.moved), (1, 0));
    it.world.issue("o1", &key);
    let progress = it.world.registry.import_progress(&manufacturer("legacy"));
    assert_eq!((progress.devices, progress.moved), (1, 1));
    // Rolled back: the certificate of before still opens the door.
    assert_eq!(it.enter(Door::Gateway, &leaf, NOW), Ok(device("o1")));
}

#[test]
fn expired_leaves_are_taken_only_if_the_import_says_so_and_not_after_its_end() {
    let key = Key::new();
    for (accept, expected) in [(false, "certificate-expired"), (true, "")] {
        let mut it = Imported::new(accept);
        // Thirty days of life, seen ten days after its end.
        let old = it.legacy.ldevid("o9", &key, NOW, 30 * DAY);
        let now = NOW.plus(40 * DAY);
        it.pin(&old, "o1", false).unwrap();
        let code = |outcome: Result<Principal, Refusal>| {
            outcome.err().map_or("", |refusal| refusal.code())
        };
        assert_eq!(code(it.enter(Door::Gateway, &old, now)), expected);
        let late = UNTIL.plus(DAY);
        assert_eq!(
            code(it.enter(Door::Gateway, &old, late)),
            "certificate-expired"
        );
        assert_eq!(
            code(it.enter(Door::Devices, &old, late)),
            "certificate-expired"
        );
    }
}

#[test]
fn a_pinned_leaf_needs_no_issuer_and_names_its_device_alone() {
    let mut it = Imported::with(false, |_| Vec::new());
    let (leaf, other) = (it.leaf("whatever"), it.leaf("OLD1"));
    it.pin(&leaf, "o1", false).unwrap();
    assert_eq!(it.enter(Door::Gateway, &leaf, NOW), Ok(device("o1")));
    let refused = it.enter(Door::Gateway, &other, NOW);
    assert_eq!(refused, Err(PathRefusal::UnknownIssuer.into()));
    // One device, one certificate that is its own; a second device is refused it.
    it.world
        .registry
        .apply(&expected("legacy", "OLD2", "o2"))
        .unwrap();
    let taken = it.pin(&leaf, "o2", false).unwrap_err();
    assert!(
        matches!(taken, FactConflict::FingerprintTaken { owner, .. } if owner == device_id("o1"))
    );
    assert!(it.pin(&leaf, "o2", true).is_err());
    // A device of a manufacturer has an IDevID and no pin.
    assert!(matches!(
        it.pin(&other, "d1", false),
        Err(FactConflict::NotImported { .. })
    ));
}

#[test]
fn a_shared_certificate_speaks_only_for_those_on_its_list_who_have_none_of_their_own() {
    let mut it = Imported::with(false, |_| Vec::new());
    it.world
        .registry
        .apply(&expected("legacy", "OLD2", "o2"))
        .unwrap();
    let described = Fact::DeviceDescribed {
        device: device_id("o2"),
        attributes: vec![("client_id".parse().unwrap(), "urn:dev:2".parse().unwrap())],
    };
    it.world.registry.apply(&described).unwrap();
    let leaf = it.leaf("everybody");
    it.pin(&leaf, "o1", true).unwrap();
    it.pin(&leaf, "o2", true).unwrap();
    it.pin(&leaf, "o2", true).unwrap();
    let presented = it.present(Door::Gateway, &leaf, NOW).unwrap();
    assert!(it.world.registry.shares(&presented));
    let called = |it: &Imported, door, name: &str| {
        let presented = it.present(door, &leaf, NOW).unwrap().calling_itself(name);
        let who = it.world.registry.authenticate(door, presented, NOW);
        who.map(|who| who.principal().clone())
    };
    assert_eq!(called(&it, Door::Gateway, "o1"), Ok(device("o1")));
    assert_eq!(called(&it, Door::Gateway, "urn:dev:2"), Ok(device("o2")));
    for stranger in ["", "o2", "o3", "d1", "o1:x"] {
        let refused = called(&it, Door::Gateway, stranger).unwrap_err();
        assert_eq!(refused.code(), "shared-client-unlisted", "{stranger}");
    }
    // Nobody is named: no door opens, and enrollment never does.
    for door in [Door::Gateway, Door::Devices] {
        assert_eq!(it.enter(door, &leaf, NOW), Err(Refusal::SharedCertificate));
    }
    // A device with a certificate of its own is spoken for by that alone.
    it.world.issue("o1", &Key::new());
    let refused = called(&it, Door::Gateway, "o1").unwrap_err();
    assert_eq!(refused.code(), "shared-certificate-replaced");
    assert_eq!(called(&it, Door::Gateway, "urn:dev:2"), Ok(device("o2")));
    let progress = it.world.registry.import_progress(&manufacturer("legacy"));
    assert_eq!((progress.pinned, progress.sharing), (1, 1));
    // Revoked, it is gone for all of them.
    let revoked = Fact::Revoked {
        what: Revocable::Certificate(identity::certificate_id(&leaf).unwrap()),
        reason: RevocationReason::KeyCompromise,
        at: NOW,
    };
    it.world.registry.apply(&revoked).unwrap();
    let refused = called(&it, Door::Gateway, "urn:dev:2").unwrap_err();
    assert_eq!(refused.code(), "certificate-revoked");
}

#[test]
fn a_name_given_beside_a_certificate_of_ones_own_changes_nothing() {
    let mut it = Imported::new(false);
    it.world
        .registry
        .apply(&expected("legacy", "OLD2", "o2"))
        .unwrap();
    let leaf = it.leaf("OLD1");
    let presented = it
        .present(Door::Gateway, &leaf, NOW)
        .unwrap()
        .calling_itself("o2");
    let who = it
        .world
        .registry
        .authenticate(Door::Gateway, presented, NOW)
        .unwrap();
    assert_eq!(who.principal(), &device("o1"));
}

#[test]
fn a_fleets_ca_that_is_ours_or_a_manufacturers_is_refused() {
    let world = World::new();
    let anchors = || {
        let makers = vec![(manufacturer("maker"), world.factory.der.clone())];
        Anchors::new(realm(), &own(&world), makers).unwrap()
    };
    for der in [&world.root.der, &world.issuing.der, &world.factory.der] {
        let refused = anchors().with_imported(vec![fleet(vec![der.clone()], None)]);
        assert!(refused.is_err());
    }
}

#[test]
fn a_pinned_leaf_with_the_name_of_our_issuer_is_refused() {
    let mut it = Imported::with(false, |_| Vec::new());
    let ours = it.world.issuing.ldevid("d1", &Key::new(), NOW, 30 * DAY);
    // Signed by a key that is not ours, under our issuer's name.
    let forger = Ca {
        key: Key::new(),
        der: it.world.issuing.der.clone(),
    };
    let forged = forger.ldevid("d1", &Key::new(), NOW, 30 * DAY);
    it.pin(&forged, "o1", false).unwrap();
    assert!(it.enter(Door::Gateway, &forged, NOW).is_err());
    assert_eq!(
        it.enter(Door::Gateway, &ours, NOW).unwrap_err().code(),
        "certificate-unrecorded"
    );
}

/// A factory that copied its image with the key in it, and a key that has been published.
#[test]
fn attack_a_copied_key_in_an_imported_fleet() {
    let legacy = Ca::factory("legacy");
    let (copied, published) = (Key::new(), Key::new());
    let terms = Terms {
        bad_keys: {
            let any = legacy.idevid("legacy", "any", &published);
            let digest = identity::public_key_digest(&any).unwrap();
            identity::BadKeys::read(&digest.to_string(), "").unwrap()
        },
        naming: "serial-number".parse().unwrap(),
        cas: vec![legacy.der.clone()],
        accept_expired: false,
        pin: false,
        product: Some("p".parse().unwrap()),
    };
    let mut import = Import::new(terms, Vec::new(), NOW).unwrap();
    for (name, key) in [
        ("A", &copied),
        ("B", &copied),
        ("C", &published),
        ("D", &Key::new()),
    ] {
        import.leaf(&legacy.idevid("legacy", name, key));
    }
    let (taken, findings) = import.finish();
    let names: Vec<&str> = taken.iter().map(|one| one.serial.as_str()).collect();
    assert_eq!(names, ["A", "D"]);
    assert_eq!(findings[&Found::DuplicateKey].examples, ["B"]);
    assert_eq!(findings[&Found::KnownBadKey].examples, ["C"]);
}

#[test]
fn a_rehearsal_says_what_each_certificate_is_worth() {
    let (legacy, stranger) = (Ca::factory("legacy"), Ca::factory("stranger"));
    let list = identity::expected::parse_csv("serial,product\nA,p\nB,p\nC,p\nD,p\n").unwrap();
    let terms = |pin| Terms {
        bad_keys: identity::BadKeys::default(),
        naming: "serial-number".parse().unwrap(),
        cas: vec![legacy.der.clone()],
        accept_expired: false,
        pin,
        product: None,
    };
    let a = legacy.idevid("legacy", "A", &Key::new());
    let leaves = [
        a.clone(),
        a,
        legacy.idevid("legacy", "A", &Key::new()),
        stranger.idevid("stranger", "B", &Key::new()),
        legacy.idevid("legacy", "E", &Key::new()),
        legacy.ldevid("x", &Key::new(), NOW, 30 * DAY),
        b"no certificate".to_vec(),
    ];
    let run = |pin| {
        let mut import = Import::new(terms(pin), list.clone(), NOW.plus(40 * DAY)).unwrap();
        leaves.iter().for_each(|leaf| import.leaf(leaf));
        import.finish()
    };
    let (taken, findings) = run(false);
    let count = |found: Found| findings.get(&found).map_or(0, |one| one.count);
    assert_eq!(
        taken
            .iter()
            .map(|one| one.serial.as_str())
            .collect::<Vec<_>>(),
        ["A", "C", "D"]
    );
    assert!(taken.iter().all(|one| one.fingerprint.is_none()));
    for (found, expected) in [
        (Found::Chains, 1),
        (Found::Unseen, 2),
        (Found::Repeated, 1),
        (Found::DuplicateName, 1),
        (Found::NoChain, 1),
        (Found::Unlisted, 1),
        (Found::Expired, 1),
        (Found::Unnamed, 1),
        (Found::Unreadable, 1),
        (Found::WeakKey, 0),
    ] {
        assert_eq!(count(found), expected, "{}", found.name());
    }
    let (taken, findings) = run(true);
    assert_eq!(taken.len(), 4);
    assert_eq!(findings.get(&Found::Pinned).map(|one| one.count), Some(2));
    assert_eq!(findings.get(&Found::NoChain), None);
}
