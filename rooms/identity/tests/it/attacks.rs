//! Each test is named after the attack it keeps out.

use crate::support::*;
use identity::{
    AnchorRefusal, Anchors, CertificateRequest, Door, Fact, Operation, OwnCas, certificate_id,
    profile,
};
use model::{Containment, Revocable, RevocationReason};

/// The order of P-256's group.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The two INTEGERs of an ECDSA signature, each left-padded to 32 bytes.
fn read_signature(der: &[u8]) -> ([u8; 32], [u8; 32]) {
    let integer = |at: usize| -> ([u8; 32], usize) {
        assert_eq!(der[at], 2);
        let end = at + 2 + usize::from(der[at + 1]);
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().rev().zip(der[at + 2..end].iter().rev()) {
            *to = *from;
        }
        (out, end)
    };
    let (r, end) = integer(2);
    (r, integer(end).0)
}

fn integer(value: &[u8; 32]) -> Vec<u8> {
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    let mut content = value[zeros..].to_vec();
    if content.first().is_some_and(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    tlv(2, &content)
}

/// (r, n − s): the other valid form of the same signature.
fn malleated(signature: &[u8]) -> Vec<u8> {
    let (r, s) = read_signature(signature);
    let mut other = [0; 32];
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        other[at] = difference.rem_euclid(256) as u8;
    }
    tlv(0x30, &[integer(&r), integer(&other)].concat())
}

#[test]
fn malleated_certificate_signature_does_not_escape_revocation() {
    let mut world = World::new();
    let key = Key::new();
    let unsigned = profile::ldevid(
        &realm(),
        &device_id("d1"),
        None,
        &world.issuing.issuer(),
        &key.terms(NOW, DAY),
    )
    .unwrap();
    let signature = world.issuing.key.sign(unsigned.to_be_signed());
    let other_signature = malleated(&signature);
    let leaf = unsigned.clone().assemble(&signature).unwrap();
    let variant = unsigned.assemble(&other_signature).unwrap();
    assert_ne!(leaf, variant);
    world.record("d1", &leaf);
    // The variant is as good as the original: that is the attack.
    assert!(world.enter(Door::Gateway, &leaf, NOW).is_ok());
    assert!(world.enter(Door::Gateway, &variant, NOW).is_ok());
    world
        .registry
        .apply(&Fact::Revoked {
            what: Revocable::Certificate(certificate_id(&leaf).unwrap()),
            reason: RevocationReason::KeyCompromise,
            at: NOW,
        })
        .unwrap();
    for der in [&leaf, &variant] {
        let refusal = world.enter(Door::Gateway, der, NOW).unwrap_err();
        assert_eq!(refusal.code(), "certificate-revoked");
    }
}

#[test]
fn revoked_device_cannot_come_back_by_its_idevid() {
    let mut world = World::new();
    let key = Key::new();
    let idevid = world.factory.idevid("maker", "SN1", &key);
    let earlier = world.enter(Door::Devices, &idevid, NOW).unwrap();
    world
        .registry
        .apply(&Fact::Revoked {
            what: Revocable::Principal(device("d1")),
            reason: RevocationReason::KeyCompromise,
            at: NOW,
        })
        .unwrap();
    let refusal = world.enter(Door::Devices, &idevid, NOW).unwrap_err();
    assert_eq!(refusal.code(), "device-revoked");
    // Nor on a connection that was opened before.
    let refusal = world
        .registry
        .enroll(Operation::SimpleEnroll, &earlier, &plain_request(&key), NOW)
        .unwrap_err();
    assert_eq!(refusal.code(), "device-revoked");
    // Nor by being listed once more, under its own name or another.
    world
        .registry
        .apply(&expected("maker", "SN1", "d1"))
        .unwrap();
    assert!(
        world
            .registry
            .apply(&expected("maker", "SN1", "d2"))
            .is_err()
    );
    let refusal = world.enter(Door::Devices, &idevid, NOW).unwrap_err();
    assert_eq!(refusal.code(), "device-revoked");
}

#[test]
fn an_isolated_device_comes_in_by_no_door_and_no_certificate() {
    let mut world = World::new();
    let (key, factory_key) = (Key::new(), Key::new());
    let idevid = world.factory.idevid("maker", "SN1", &factory_key);
    let ldevid = world.issue("d1", &key);
    let neighbour = Key::new();
    world
        .registry
        .apply(&expected("maker", "SN2", "d2"))
        .unwrap();
    let free = world.issue("d2", &neighbour);
    let before = world.enter(Door::Devices, &ldevid, NOW).unwrap();
    let contain = |containment| Fact::DeviceContained {
        device: device_id("d1"),
        containment,
        at: NOW,
    };
    world
        .registry
        .apply(&contain(Containment::Isolated))
        .unwrap();
    for (door, der) in [
        (Door::Gateway, &ldevid),
        (Door::Devices, &ldevid),
        (Door::Devices, &idevid),
    ] {
        let refusal = world.enter(door, der, NOW).unwrap_err();
        assert_eq!(refusal.code(), "device-isolated");
    }
    // Nor does it renew on a connection that was opened before.
    let renew = |world: &World, who| {
        let request = renewal_request(&key, "d1");
        world
            .registry
            .enroll(Operation::SimpleReenroll, who, &request, NOW)
    };
    assert_eq!(
        renew(&world, &before).unwrap_err().code(),
        "device-isolated"
    );
    assert!(world.enter(Door::Gateway, &free, NOW).is_ok());
    // In quarantine it comes in and may renew; what it may do inside is not this room's affair.
    world
        .registry
        .apply(&contain(Containment::Quarantined))
        .unwrap();
    assert!(world.enter(Door::Gateway, &ldevid, NOW).is_ok());
    assert!(renew(&world, &before).is_ok());
    // Restoring takes back no revocation.
    world
        .registry
        .apply(&Fact::Revoked {
            what: Revocable::Principal(device("d1")),
            reason: RevocationReason::KeyCompromise,
            at: NOW,
        })
        .unwrap();
    let restored = Fact::DeviceRestored {
        device: device_id("d1"),
    };
    world.registry.apply(&restored).unwrap();
    assert_eq!(world.registry.containment(&device_id("d1")), None);
    let refusal = world.enter(Door::Gateway, &ldevid, NOW).unwrap_err();
    assert_eq!(refusal.code(), "device-revoked");
}

#[test]
fn a_device_that_is_not_known_yet_can_be_contained_in_advance() {
    let mut world = World::new();
    world
        .registry
        .apply(&Fact::DeviceContained {
            device: device_id("d9"),
            containment: Containment::Isolated,
            at: NOW,
        })
        .unwrap();
    world
        .registry
        .apply(&expected("maker", "SN9", "d9"))
        .unwrap();
    let idevid = world.factory.idevid("maker", "SN9", &Key::new());
    let refusal = world.enter(Door::Devices, &idevid, NOW).unwrap_err();
    assert_eq!(refusal.code(), "device-isolated");
}

#[test]
fn a_manufacturer_cannot_name_itself_our_ca() {
    let world = World::new();
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![identity::IssuingCa::of_every_use(world.issuing.der.clone())],
    };
    // A self-made CA certificate with the very name of our issuing CA: not registered.
    let impostor = Key::new();
    let forged = forged_ca(&world, &impostor, &impostor, None);
    let theirs = vec![(manufacturer("mallory"), forged)];
    let refusal = Anchors::new(realm(), &own, theirs).err();
    assert!(matches!(
        refusal,
        Some(AnchorRefusal::ManufacturerClaimsOurs { .. })
    ));

    // The same below a CA that was registered in good faith.
    let mallory = Ca::factory_with_path_length();
    let below = forged_ca(&world, &impostor, &mallory.key, Some(&mallory));
    let theirs = vec![(manufacturer("mallory"), mallory.der.clone())];
    let anchors = Anchors::new(realm(), &own, theirs).unwrap();
    let fake = Ca {
        key: impostor,
        der: below.clone(),
    };
    let leaf = fake.ldevid("d1", &Key::new(), NOW, DAY);
    // The gateway sees through the name: the signature is not ours.
    let refusal = anchors.verify_path(Door::Gateway, &leaf, &[&below], NOW);
    assert!(refusal.is_err());
    // The device door finds the manufacturer's path, and that its certificate bears our CA's
    // name, which could stand for one of ours in the deny set.
    let path = anchors
        .verify_path(Door::Devices, &leaf, &[&below], NOW)
        .unwrap();
    assert_eq!(
        *path.voucher(),
        identity::Voucher::Manufacturer(manufacturer("mallory"))
    );
    let refusal = anchors.presented(&path, &leaf).unwrap_err();
    assert_eq!(refusal.code(), "idevid-forged-issuer");
}

/// A CA certificate for `key` that bears the subject of our issuing CA, made by rewriting ours.
fn forged_ca(world: &World, key: &Key, signer: &Key, issuer: Option<&Ca>) -> Vec<u8> {
    use x509_cert::der::{Decode, Encode};
    let ours = x509_cert::Certificate::from_der(&world.issuing.der).unwrap();
    let subject = ours.tbs_certificate().subject().to_der().unwrap();
    let issuer_name = issuer.map_or(subject.clone(), |ca| {
        let ca = x509_cert::Certificate::from_der(&ca.der).unwrap();
        ca.tbs_certificate().subject().to_der().unwrap()
    });
    let constraints = tlv(0x30, &[1, 1, 0xff]);
    let basic = [
        tlv(6, &[0x55, 0x1d, 0x13]),
        tlv(1, &[0xff]),
        tlv(4, &constraints),
    ]
    .concat();
    let ski = [tlv(6, &[0x55, 0x1d, 0x0e]), tlv(4, &tlv(4, &[9; 20]))].concat();
    let extensions = tlv(0x30, &[tlv(0x30, &basic), tlv(0x30, &ski)].concat());
    let algorithm = [
        0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
    ];
    let validity = tlv(
        0x30,
        &[tlv(0x17, b"200101000000Z"), tlv(0x17, b"490101000000Z")].concat(),
    );
    let tbs = tlv(
        0x30,
        &[
            tlv(0xa0, &[2, 1, 2]),
            tlv(2, &[0x11; 16]),
            algorithm.to_vec(),
            issuer_name,
            validity,
            subject,
            key.spki.clone(),
            tlv(0xa3, &extensions),
        ]
        .concat(),
    );
    signed(&tbs, &signer.sign(&tbs))
}

impl Ca {
    /// A factory whose CA may have CAs below it.
    fn factory_with_path_length() -> Self {
        let key = Key::new();
        // Our own root profile allows one CA below: good enough for a manufacturer.
        let other = identity::Realm::new("mallory.example", "mallory".parse().unwrap()).unwrap();
        let unsigned = profile::root(&other, &key.terms(NOW, 365 * DAY)).unwrap();
        let signature = key.sign(unsigned.to_be_signed());
        Self {
            der: unsigned.assemble(&signature).unwrap(),
            key,
        }
    }
}

#[test]
fn csr_cannot_choose_its_name_or_extensions() {
    let mut world = World::new();
    let key = Key::new();
    let idevid = world.factory.idevid("maker", "SN1", &Key::new());
    let who = world.enter(Door::Devices, &idevid, NOW).unwrap();
    // Asks to be another device, a DNS name, and (by subject) the CA.
    let names = [
        uri_name("spiffe://fleet.example/acme/device/victim"),
        tlv(0x82, b"localhost"),
    ]
    .concat();
    let request = request_der(&key, &subject("Issuing CA"), &asking_for_names(&names));
    let request = CertificateRequest::parse(&request).unwrap();
    let decision = world
        .registry
        .enroll(Operation::SimpleEnroll, &who, &request, NOW)
        .unwrap();
    assert_eq!(decision.device, device_id("d1"));
    let mut terms = key.terms(NOW, DAY);
    terms.public_key = request.public_key();
    let unsigned = profile::ldevid(
        &realm(),
        &decision.device,
        None,
        &world.issuing.issuer(),
        &terms,
    )
    .unwrap();
    let leaf = world.issuing.finish(unsigned);
    let contains = |text: &[u8]| leaf.windows(text.len()).any(|window| window == text);
    assert!(contains(b"spiffe://fleet.example/acme/device/d1"));
    assert!(!contains(b"victim") && !contains(b"localhost"));
    world.record("d1", &leaf);
    let who = world.enter(Door::Gateway, &leaf, NOW).unwrap();
    assert_eq!(who.principal(), &device("d1"));
}

/// A certificate under our issuing CA with any subjectAltName: only a stolen CA key could.
fn under_our_ca(world: &World, key: &Key, names: &[u8]) -> Vec<u8> {
    let real = world.issuing.ldevid("d1", key, NOW, DAY);
    let uri = uri_name("spiffe://fleet.example/acme/device/d1");
    let from = tlv(4, &tlv(0x30, &uri));
    let to = tlv(4, &tlv(0x30, names));
    rebuilt(&real, &from, &to, &world.issuing.key)
}

/// Replaces one piece of an extension and signs again.
fn rebuilt(certificate: &[u8], from: &[u8], to: &[u8], signer: &Key) -> Vec<u8> {
    use x509_cert::der::{Decode, Encode};
    let tbs = x509_cert::Certificate::from_der(certificate)
        .unwrap()
        .tbs_certificate()
        .to_der()
        .unwrap();
    let mut fields = Vec::new();
    let mut reader = x509_cert::der::SliceReader::new(&tbs).unwrap();
    let parsed: x509_cert::der::Result<()> =
        x509_cert::der::Reader::sequence(&mut reader, |reader| {
            while !x509_cert::der::Reader::is_finished(reader) {
                fields.push(x509_cert::der::Reader::tlv_bytes(reader)?.to_vec());
            }
            Ok(())
        });
    parsed.unwrap();
    // The last field is extensions [3]; rewrap each extension around its changed value.
    let wrapped = fields.pop().unwrap();
    let list = x509_cert::der::asn1::AnyRef::from_der(&wrapped).unwrap();
    let extensions = Vec::<x509_cert::ext::Extension>::from_der(list.value()).unwrap();
    let mut body = Vec::new();
    for extension in extensions {
        let der = extension.to_der().unwrap();
        match der.windows(from.len()).position(|window| window == from) {
            Some(at) => {
                // Two bytes of tag and length, as these are short.
                let head = &der[2..at];
                assert_eq!(at + from.len(), der.len());
                body.extend(tlv(0x30, &[head, to].concat()));
            }
            None => body.extend(der),
        }
    }
    fields.push(tlv(0xa3, &tlv(0x30, &body)));
    let tbs = tlv(0x30, &fields.concat());
    signed(&tbs, &signer.sign(&tbs))
}

#[test]
fn two_uri_sans_name_nobody() {
    let world = World::new();
    let key = Key::new();
    let ours = uri_name("spiffe://fleet.example/acme/device/d1");
    let one = under_our_ca(&world, &key, &ours);
    assert!(world.present(Door::Gateway, &one, NOW).is_ok());
    for names in [
        [
            ours.clone(),
            uri_name("spiffe://fleet.example/acme/device/d2"),
        ]
        .concat(),
        [ours.clone(), ours.clone()].concat(),
        [ours.clone(), tlv(0x82, b"localhost")].concat(),
        uri_name("spiffe://other.example/acme/device/d1"),
        tlv(0x82, b"localhost"),
    ] {
        let leaf = under_our_ca(&world, &key, &names);
        let refusal = world.present(Door::Gateway, &leaf, NOW).unwrap_err();
        assert_eq!(refusal.code(), "certificate-names-nobody");
    }
}

#[test]
fn a_manufacturers_uri_names_nobody() {
    // A factory certificate with the URI of a device of ours is still only a serial number.
    let world = World::new();
    let mallory = Ca::factory("mallory");
    let anchors = Anchors::new(
        realm(),
        &OwnCas {
            roots: vec![world.root.der.clone()],
            issuing: vec![identity::IssuingCa::of_every_use(world.issuing.der.clone())],
        },
        vec![(manufacturer("mallory"), mallory.der.clone())],
    )
    .unwrap();
    let leaf = mallory.ldevid("d1", &Key::new(), NOW, DAY);
    assert!(anchors.verify_path(Door::Gateway, &leaf, &[], NOW).is_err());
    let path = anchors.verify_path(Door::Devices, &leaf, &[], NOW).unwrap();
    let refusal = anchors.presented(&path, &leaf).unwrap_err();
    assert_eq!(refusal.code(), "idevid-without-serial-number");
}

/// webpki passes over keyUsage: a factory's CA that was made to sign revocation lists alone could
/// have made devices.
#[test]
fn an_intermediate_whose_key_usage_forbids_it_has_issued_nobody() {
    let world = World::new();
    let factory = Ca::factory_with_path_length();
    let key = Key::new();
    let realm_of_factory = identity::Realm::new("mallory.example", "mallory".parse().unwrap());
    let terms = key.terms(NOW, 30 * DAY);
    let unsigned = profile::issuing(&realm_of_factory.unwrap(), &factory.issuer(), &terms).unwrap();
    let line = Ca {
        der: factory.finish(unsigned),
        key,
    };
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![identity::IssuingCa::of_every_use(world.issuing.der.clone())],
    };
    let theirs = vec![(manufacturer("maker"), factory.der.clone())];
    let anchors = Anchors::new(realm(), &own, theirs).unwrap();
    let leaf = line.ldevid("d1", &Key::new(), NOW, DAY);
    let judge = |leaf: &[u8], line: &[u8]| {
        let path = anchors.verify_path(Door::Devices, leaf, &[line], NOW);
        path.map(|_| ()).map_err(|refusal| refusal.code())
    };
    assert_eq!(judge(&leaf, &line.der), Ok(()));
    // keyCertSign and cRLSign become cRLSign.
    let certificates_too = tlv(4, &[3, 2, 1, 0b0000_0110]);
    let lists_alone = tlv(4, &[3, 2, 1, 0b0000_0010]);
    let crl_signer = rebuilt(&line.der, &certificates_too, &lists_alone, &factory.key);
    assert_eq!(judge(&leaf, &crl_signer), Err("certificate-wrong-purpose"));
    // A better certificate of the same CA beside it is found.
    let path = anchors.verify_path(Door::Devices, &leaf, &[&crl_signer, &line.der], NOW);
    assert!(path.is_ok());
    // An end-entity key that may encrypt and not sign proves nothing in TLS.
    let (signs, encrypts) = (tlv(4, &[3, 2, 7, 0x80]), tlv(4, &[3, 2, 5, 0x20]));
    let leaf = rebuilt(&leaf, &signs, &encrypts, &line.key);
    assert_eq!(judge(&leaf, &line.der), Err("certificate-wrong-purpose"));
}
