use super::*;
use model::RevocationReason;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const OVERLAP: std::time::Duration = std::time::Duration::from_secs(300);

fn certificate(number: u8) -> CertificateId {
    CertificateId::new(Digest([number % 2; 32]), &[0x40, number]).unwrap()
}

fn device_id(number: u8) -> DeviceId {
    DeviceId::new(&format!("d{number}")).unwrap()
}

fn presented(claim: Claim, certificate: CertificateId) -> Presented {
    Presented {
        claim,
        certificate,
        not_before: NOW,
        not_after: NOW,
        subject: Vec::new(),
        key: Digest([0; 32]),
        modulus: None,
    }
}

fn ldevid(principal: &Principal, certificate: CertificateId) -> Presented {
    let claim = Claim::Ldevid {
        principal: principal.clone(),
        uri: String::new(),
    };
    presented(claim, certificate)
}

fn principal() -> impl Strategy<Value = Principal> {
    (any::<bool>(), 0u8..6).prop_map(|(is_device, number)| {
        if is_device {
            Principal::Device(device_id(number))
        } else {
            Principal::Service(format!("s{number}").parse().unwrap())
        }
    })
}

fn revocable() -> impl Strategy<Value = Revocable> {
    prop_oneof![
        4 => (0u8..12).prop_map(|number| Revocable::Certificate(certificate(number))),
        4 => principal().prop_map(Revocable::Principal),
        1 => (0u8..2).prop_map(|number| Revocable::Product(format!("p{number}").parse().unwrap())),
        1 => (0u8..8).prop_map(|number| Revocable::Issuer(Digest([number; 32]))),
    ]
}

fn fact() -> impl Strategy<Value = Fact> {
    let reason = || {
        prop_oneof![
            Just(RevocationReason::CertificateHold),
            prop::sample::select(RevocationReason::ALL.to_vec())
        ]
    };
    let at = || (0u64..1000).prop_map(|seconds| NOW.minus(std::time::Duration::from_secs(seconds)));
    prop_oneof![
        4 => (0u8..2, 0u8..6, 0u8..6, 0u8..2, prop::collection::vec(0u8..3, 0..3)).prop_map(
            |(manufacturer, serial, device, product, groups)| Fact::DeviceExpected {
                manufacturer: format!("m{manufacturer}").parse().unwrap(),
                // Sometimes equal to the device's name, which then shares its text.
                serial: format!("d{serial}").parse().unwrap(),
                device: device_id(device),
                product: format!("p{product}").parse().unwrap(),
                groups: groups.iter().map(|group| format!("g{group}").parse().unwrap()).collect(),
            }
        ),
        3 => (principal(), 0u8..12, 0u64..3).prop_map(|(principal, number, days)| {
            Fact::CertificateIssued {
                principal,
                certificate: certificate(number),
                key: Digest([number % 4; 32]),
                not_after: NOW.plus(std::time::Duration::from_secs(days * 86_400)),
            }
        }),
        2 => (0u8..12, 0u8..12, at()).prop_map(|(old, new, at)| Fact::CertificateSuperseded {
            certificate: certificate(old),
            by: certificate(new),
            at,
        }),
        3 => (revocable(), reason(), at())
            .prop_map(|(what, reason, at)| Fact::Revoked { what, reason, at }),
        1 => revocable().prop_map(|what| Fact::Released { what }),
        1 => (0u8..6, prop::sample::select(Containment::ALL.to_vec()), at()).prop_map(
            |(number, containment, at)| Fact::DeviceContained {
                device: device_id(number),
                containment,
                at,
            }
        ),
        1 => (0u8..6).prop_map(|number| Fact::DeviceRestored { device: device_id(number) }),
    ]
}

type Expected = (ManufacturerId, SerialNumber, ProductId, Vec<GroupId>);

/// The same by maps, plainly.
#[derive(Default)]
struct Plain {
    devices: BTreeMap<DeviceId, Expected>,
    certificates: BTreeMap<CertificateId, (Principal, Timestamp)>,
    keys: BTreeMap<Digest, Vec<Principal>>,
    bars: BTreeMap<Revocable, Revocation>,
    contained: BTreeMap<DeviceId, Containment>,
    /// In the order of issue.
    issued: Vec<CertificateId>,
    superseded: BTreeMap<CertificateId, Supersession>,
}

impl Plain {
    /// Whether the fact was taken in.
    fn apply(&mut self, fact: &Fact) -> bool {
        match fact.clone() {
            // Not among the facts that are drawn; tested below and at the doors.
            Fact::ServerCertified { .. }
            | Fact::KeyShown { .. }
            | Fact::DeviceDescribed { .. }
            | Fact::FleetImported { .. }
            | Fact::FleetRetired { .. }
            | Fact::LeafPinned { .. } => true,
            Fact::DeviceExpected {
                manufacturer,
                serial,
                device,
                product,
                mut groups,
            } => {
                groups.sort();
                groups.dedup();
                let contradicts = |(name, known): (&DeviceId, &Expected)| {
                    let same_serial = known.0 == manufacturer && known.1 == serial;
                    (*name == device) != same_serial
                };
                if self.devices.iter().any(contradicts) {
                    return false;
                }
                if let Some((.., before, _)) = self.devices.get(&device)
                    && *before != product
                    && self.bars.contains_key(&Revocable::Product(before.clone()))
                {
                    return false;
                }
                self.devices
                    .insert(device, (manufacturer, serial, product, groups));
                true
            }
            Fact::CertificateIssued {
                principal,
                certificate,
                key,
                not_after,
            } => {
                if let Some((owner, _)) = self.certificates.get(&certificate) {
                    return *owner == principal;
                }
                if let Principal::Device(id) = &principal
                    && !self.devices.contains_key(id)
                {
                    return false;
                }
                self.issued.push(certificate);
                self.keys.entry(key).or_default().push(principal.clone());
                self.certificates
                    .insert(certificate, (principal, not_after));
                true
            }
            Fact::CertificateSuperseded {
                certificate,
                by,
                at,
            } => {
                if self.certificates.contains_key(&certificate)
                    && !self.bars.contains_key(&Revocable::Certificate(certificate))
                {
                    self.superseded
                        .entry(certificate)
                        .or_insert(Supersession { by, at });
                }
                true
            }
            Fact::Revoked { what, reason, at } => {
                if let Revocable::Certificate(certificate) = &what
                    && !reason.is_hold()
                {
                    self.superseded.remove(certificate);
                }
                let known = self.bars.entry(what).or_insert(Revocation { reason, at });
                if known.reason == RevocationReason::CertificateHold {
                    known.reason = reason;
                }
                true
            }
            Fact::Released { what } => {
                let is_hold = |bar: &Revocation| bar.reason == RevocationReason::CertificateHold;
                if self.bars.get(&what).is_some_and(is_hold) {
                    self.bars.remove(&what);
                }
                true
            }
            Fact::DeviceContained {
                device,
                containment,
                ..
            } => {
                self.contained.insert(device, containment);
                true
            }
            Fact::DeviceRestored { device } => {
                self.contained.remove(&device);
                true
            }
            // Of chips, tokens and claims, which change nothing that is asked here.
            Fact::EndorsementListed { .. }
            | Fact::EndorsementUnlisted { .. }
            | Fact::KeyHeld { .. }
            | Fact::Appraised { .. }
            | Fact::ClaimCertificateAdded { .. }
            | Fact::ClaimCertificateRetired { .. }
            | Fact::CertificateReserved { .. } => true,
        }
    }

    fn supersedes(&self, certificate: CertificateId) -> Vec<CertificateId> {
        let Some((owner @ Principal::Device(_), _)) = self.certificates.get(&certificate) else {
            return Vec::new();
        };
        self.issued
            .iter()
            .rev()
            .skip_while(|id| **id != certificate)
            .skip(1)
            .filter(|id| self.certificates[id].0 == *owner)
            .take_while(|id| !self.superseded.contains_key(id))
            .filter(|id| self.certificates[id].1 >= NOW)
            .filter(|id| !self.bars.contains_key(&Revocable::Certificate(**id)))
            .copied()
            .collect()
    }

    /// With an overlap of five minutes for one product, and no end for the other.
    fn retired(&self) -> Vec<CertificateId> {
        let mut due: Vec<_> = (self.superseded.iter())
            .filter(|(id, one)| {
                matches!(&self.certificates[id].0, Principal::Device(device)
                    if self.devices[device].2.as_str() == "p0")
                    && NOW.since(one.at) >= OVERLAP
            })
            .map(|(id, one)| (one.at, *id))
            .collect();
        due.sort();
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn code(&self, principal: &Principal, certificate: CertificateId) -> Option<String> {
        let product = match principal {
            Principal::Device(id) => self.devices.get(id).map(|known| known.2.clone()),
            Principal::Service(_) => None,
        };
        let all = [
            Some(Revocable::Issuer(certificate.issuer())),
            product.map(Revocable::Product),
            Some(Revocable::Principal(principal.clone())),
            Some(Revocable::Certificate(certificate)),
        ];
        let bars: Vec<(Revocable, RevocationReason)> = (all.into_iter().flatten())
            .filter_map(|what| Some((what.clone(), self.bars.get(&what)?.reason)))
            .collect();
        let worst = bars.iter().find(|(_, reason)| !reason.is_hold());
        if let Some((what, reason)) = worst.or(bars.first()) {
            let kind = what.to_string();
            let kind = match kind.split('/').next().unwrap() {
                "ca" => "issuer",
                kind => kind,
            };
            let code = if reason.is_hold() {
                format!("{kind}-on-hold")
            } else {
                format!("{kind}-revoked")
            };
            Some(code)
        } else if matches!(principal, Principal::Device(id)
            if self.contained.get(id) == Some(&Containment::Isolated))
        {
            Some("device-isolated".to_owned())
        } else if self.certificates.get(&certificate).map(|(owner, _)| owner) == Some(principal) {
            None
        } else {
            Some("certificate-unrecorded".to_owned())
        }
    }
}

/// All that can be asked of a registry, as text.
fn told(registry: &Registry) -> String {
    let mut out = String::new();
    for device in registry.devices() {
        out += &format!("{device:?}\n");
    }
    for number in 0..12 {
        let id = certificate(number);
        let revocation = registry.certificate_revocation(&id);
        out += &format!("{:?} {revocation:?}\n", registry.owner(&id));
        out += &format!("{:?}\n", registry.superseded_by(&id));
        out += &format!("{:?}\n", registry.supersedes(&id, NOW));
    }
    for number in 0..6 {
        out += &format!("{:?}\n", registry.containment(&device_id(number)));
    }
    for issuer in [Digest([0; 32]), Digest([1; 32])] {
        out += &format!(
            "{:?}\n",
            registry.crl_entries(issuer, crate::crl::Shard::WHOLE, NOW)
        );
    }
    out += &format!(
        "{} {} {}",
        registry.device_count(),
        registry.enrolled_count(),
        registry.certificate_count()
    );
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_registry_is_what_plain_maps_say(facts in prop::collection::vec(fact(), 0..120)) {
        let mut registry = Registry::new();
        let mut plain = Plain::default();
        for fact in &facts {
            let before = told(&registry);
            let taken = registry.apply(fact).is_ok();
            prop_assert_eq!(taken, plain.apply(fact), "{:?}", fact);
            if !taken {
                prop_assert_eq!(before, told(&registry), "a refused fact changed something");
            }
        }
        prop_assert_eq!(registry.device_count(), plain.devices.len());
        for (id, (manufacturer, serial, product, groups)) in &plain.devices {
            let device = registry.device(id).unwrap();
            prop_assert_eq!(Some(device.clone()), registry.device_by_serial(manufacturer, serial));
            prop_assert_eq!((device.product, device.groups), (product, groups.as_slice()));
            let principal = Principal::Device(id.clone());
            let own = plain.bars.get(&Revocable::Principal(principal.clone()));
            let of_product = plain.bars.get(&Revocable::Product(product.clone()));
            prop_assert_eq!(device.revoked, own.or(of_product).copied());
            let has_any = plain.certificates.values().any(|(owner, _)| *owner == principal);
            prop_assert_eq!(device.enrolled, has_any);
            let count = plain.certificates.values().filter(|(owner, _)| *owner == principal).count();
            prop_assert_eq!(registry.certificates_of(&principal).len(), count);
        }
        for certificate in (0..12).map(certificate) {
            prop_assert_eq!(
                registry.superseded_by(&certificate),
                plain.superseded.get(&certificate).copied()
            );
            prop_assert_eq!(registry.supersedes(&certificate, NOW), plain.supersedes(certificate));
        }
        let overlap = |product: &ProductId| (product.as_str() == "p0").then_some(OVERLAP);
        prop_assert_eq!(registry.retired(NOW, overlap), plain.retired());
        for number in 0..6 {
            for kind in ["device/d", "service/s"] {
                let principal: Principal = format!("{kind}{number}").parse().unwrap();
                for key in (0..4).map(|number| Digest([number; 32])) {
                    let others = plain.keys.get(&key).into_iter().flatten();
                    let is_shared = others.clone().any(|other| *other != principal);
                    let own = KeyHolder::Principal(principal.clone());
                    let said = registry.other_holder_of(&key, &own);
                    prop_assert_eq!(said.is_some(), is_shared);
                    if let Some(KeyHolder::Principal(said)) = said {
                        prop_assert!(said != principal && others.clone().any(|one| *one == said));
                    }
                }
                for certificate in (0..12).map(certificate) {
                    let said = registry
                        .authenticate(Door::Gateway, ldevid(&principal, certificate), NOW)
                        .err()
                        .map(|refusal| refusal.code().to_owned());
                    prop_assert_eq!(said, plain.code(&principal, certificate));
                }
            }
        }
    }

    #[test]
    fn facts_replayed_are_the_registry(facts in prop::collection::vec(fact(), 0..120), twice: bool) {
        let mut live = Registry::new();
        let kept: Vec<Fact> = facts
            .into_iter()
            .filter(|fact| live.apply(fact).is_ok())
            .collect();
        let mut replayed = Registry::new();
        for fact in &kept {
            prop_assert_eq!(replayed.apply(fact), Ok(()));
            if twice {
                prop_assert_eq!(replayed.apply(fact), Ok(()));
            }
        }
        prop_assert_eq!(told(&live), told(&replayed));
    }

    #[test]
    fn forgetting_the_ended_changes_nothing_for_the_rest(facts in prop::collection::vec(fact(), 0..120)) {
        let mut registry = Registry::new();
        for fact in &facts {
            let _conflict = registry.apply(fact);
        }
        let tomorrow = NOW.plus(std::time::Duration::from_secs(86_400));
        let live = |registry: &Registry| -> Vec<_> {
            registry
                .certificates
                .iter()
                .filter(|(_, record)| record.not_after() >= tomorrow)
                .map(|(id, record)| {
                    let supersedes = registry.supersedes(&id, tomorrow);
                    let revocation = registry.certificate_revocation(&id);
                    (id, record.owner, revocation, supersedes)
                })
                .collect()
        };
        let before = live(&registry);
        let count = registry.certificate_count() - registry.ended_count(tomorrow);
        registry.forget_ended(tomorrow);
        prop_assert_eq!(registry.certificate_count(), count);
        prop_assert_eq!(registry.certificate_count(), before.len());
        for (was, is) in before.iter().zip(live(&registry)) {
            prop_assert_eq!((was.0, was.1, was.2), (is.0, is.1, is.2));
            // One that stood between may be gone, so that more is seen behind it, never less.
            prop_assert!(was.3.iter().all(|id| is.3.contains(id)));
        }
        for (id, ..) in live(&registry) {
            prop_assert!(registry.owner(&id).is_some());
        }
    }
}

#[test]
fn a_revoked_factory_certificate_bars_that_certificate() {
    let mut registry = Registry::new();
    registry
        .apply(&Fact::DeviceExpected {
            manufacturer: "m".parse().unwrap(),
            serial: "SN1".parse().unwrap(),
            device: device_id(1),
            product: "p".parse().unwrap(),
            groups: Vec::new(),
        })
        .unwrap();
    registry
        .apply(&Fact::Revoked {
            what: Revocable::Certificate(certificate(1)),
            reason: RevocationReason::KeyCompromise,
            at: NOW,
        })
        .unwrap();
    let idevid = |number| {
        let claim = Claim::Idevid {
            manufacturer: "m".parse().unwrap(),
            serial: "SN1".parse().unwrap(),
        };
        presented(claim, certificate(number))
    };
    let code = |number| {
        registry
            .authenticate(Door::Devices, idevid(number), NOW)
            .map_err(|refusal| refusal.code())
            .map(|who| who.principal().to_string())
    };
    assert_eq!(code(1), Err("certificate-revoked"));
    assert_eq!(code(3), Ok("device/d1".to_owned()));
}

/// One device with three certificates, and a service with two.
fn of_three() -> Registry {
    let mut registry = Registry::new();
    let mut facts = vec![Fact::DeviceExpected {
        manufacturer: "m".parse().unwrap(),
        serial: "SN1".parse().unwrap(),
        device: device_id(1),
        product: "p0".parse().unwrap(),
        groups: Vec::new(),
    }];
    let service = Principal::Service("s1".parse().unwrap());
    for (number, principal) in [
        (1, Principal::Device(device_id(1))),
        (2, service.clone()),
        (3, Principal::Device(device_id(1))),
        (4, service),
        (5, Principal::Device(device_id(1))),
    ] {
        facts.push(Fact::CertificateIssued {
            principal,
            certificate: certificate(number),
            key: Digest([number; 32]),
            not_after: NOW.plus(std::time::Duration::from_secs(u64::from(number))),
        });
    }
    for fact in &facts {
        registry.apply(fact).unwrap();
    }
    registry
}

#[test]
fn what_was_only_issued_supersedes_nothing_and_what_was_seen_all_before_it() {
    let mut registry = of_three();
    assert_eq!(registry.retired(NOW, |_| Some(OVERLAP)), []);
    assert_eq!(registry.supersedes(&certificate(1), NOW), []);
    assert_eq!(registry.supersedes(&certificate(3), NOW), [certificate(1)]);
    let both = [certificate(3), certificate(1)];
    assert_eq!(registry.supersedes(&certificate(5), NOW), both);
    // What has ended needs no help.
    let later = NOW.plus(std::time::Duration::from_secs(2));
    assert_eq!(
        registry.supersedes(&certificate(5), later),
        [certificate(3)]
    );
    // Two programs may be one service.
    assert_eq!(registry.supersedes(&certificate(4), NOW), []);
    for old in both {
        registry
            .apply(&Fact::CertificateSuperseded {
                certificate: old,
                by: certificate(5),
                at: NOW,
            })
            .unwrap();
    }
    assert_eq!(registry.supersedes(&certificate(5), NOW), []);
}

#[test]
fn nothing_retires_before_its_overlap_is_over_and_no_later_proof_moves_it() {
    let mut registry = of_three();
    let fact = |by, at| Fact::CertificateSuperseded {
        certificate: certificate(1),
        by: certificate(by),
        at,
    };
    registry.apply(&fact(3, NOW)).unwrap();
    registry.apply(&fact(5, NOW.plus(OVERLAP))).unwrap();
    let at = |time| registry.retired(time, |_| Some(OVERLAP));
    assert_eq!(
        at(NOW.plus(OVERLAP).minus(std::time::Duration::from_millis(1))),
        []
    );
    assert_eq!(at(NOW.plus(OVERLAP)), [certificate(1)]);
    let left = registry.retired(NOW.plus(OVERLAP), |_| None);
    assert_eq!(
        left,
        [],
        "a product that lets old certificates end by themselves"
    );
    let presented = ldevid(&Principal::Device(device_id(1)), certificate(1));
    assert!(
        registry.authenticate(Door::Gateway, presented, NOW).is_ok(),
        "superseded is not revoked"
    );
}

#[test]
fn a_bar_waits_for_a_device_that_is_not_known_yet() {
    let mut registry = Registry::new();
    let principal = Principal::Device(device_id(1));
    let (reason, at) = (RevocationReason::Unspecified, NOW);
    registry
        .apply(&Fact::Revoked {
            what: Revocable::Principal(principal.clone()),
            reason,
            at,
        })
        .unwrap();
    assert_eq!(
        registry.principal_revocation(&principal),
        Some(Revocation { reason, at })
    );
}

/// A million devices with a certificate each; prints what they take.
#[test]
#[ignore = "a measurement: run alone, in release"]
fn a_million_devices() {
    let resident = || -> u64 {
        std::fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
            .unwrap_or_default()
            * 4096
    };
    let before = resident();
    let mut registry = Registry::new();
    let product: ProductId = "camera".parse().unwrap();
    let groups: Vec<GroupId> = vec!["east".parse().unwrap()];
    for number in 0u32..1_000_000 {
        let name = format!("CAM-{number:08}");
        let device = DeviceId::new(&name).unwrap();
        registry
            .apply(&Fact::DeviceExpected {
                manufacturer: "maker".parse().unwrap(),
                serial: name.parse().unwrap(),
                device: device.clone(),
                product: product.clone(),
                groups: groups.clone(),
            })
            .unwrap();
        let mut serial = [0x41; 16];
        serial[12..].copy_from_slice(&number.to_be_bytes());
        registry
            .apply(&Fact::CertificateIssued {
                principal: Principal::Device(device),
                certificate: CertificateId::new(Digest([1; 32]), &serial).unwrap(),
                key: crate::certificate::sha256(&serial),
                not_after: NOW,
            })
            .unwrap();
    }
    assert_eq!(registry.enrolled_count(), 1_000_000);
    let certified = resident();
    println!("bytes a device: {}", (certified - before) / 1_000_000);
    for number in 0u32..1_000_000 {
        let shown = Fact::KeyShown {
            device: DeviceId::new(&format!("CAM-{number:08}")).unwrap(),
            key: crate::certificate::sha256(&number.to_be_bytes()),
        };
        registry.apply(&shown).unwrap();
    }
    let more = (resident() - certified) / 1_000_000;
    println!("bytes a factory key that was shown: {more}");
}

fn issued(principal: &str, number: u8, not_after: Timestamp) -> Fact {
    Fact::CertificateIssued {
        principal: principal.parse().unwrap(),
        certificate: certificate(number),
        key: Digest([number; 32]),
        not_after,
    }
}

fn expected(number: u8) -> Fact {
    Fact::DeviceExpected {
        manufacturer: "m1".parse().unwrap(),
        serial: format!("d{number}").parse().unwrap(),
        device: device_id(number),
        product: "p1".parse().unwrap(),
        groups: Vec::new(),
    }
}

/// RFC 5280 section 3.3: an entry stays until a list of regular course has shown it after the end.
#[test]
fn what_was_merely_replaced_leaves_the_list_a_day_after_its_end() {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    let mut registry = Registry::new();
    let facts = [
        expected(1),
        issued("device/d1", 2, NOW),
        issued("device/d1", 4, NOW),
        issued("device/d1", 6, NOW),
    ];
    let revoked = [
        (2, RevocationReason::Superseded),
        (4, RevocationReason::KeyCompromise),
        (6, RevocationReason::CertificateHold),
    ];
    let revoked = revoked.map(|(number, reason)| Fact::Revoked {
        what: Revocable::Certificate(certificate(number)),
        reason,
        at: NOW.minus(DAY),
    });
    for fact in facts.iter().chain(&revoked) {
        registry.apply(fact).unwrap();
    }
    let listed = |after: std::time::Duration| {
        let entries =
            registry.crl_entries(Digest([0; 32]), crate::crl::Shard::WHOLE, NOW.plus(after));
        entries
            .iter()
            .map(|entry| entry.certificate.serial()[1])
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(DAY), [2, 4, 6]);
    let moment = std::time::Duration::from_millis(1);
    assert_eq!(listed(DAY + moment), [4, 6]);
    assert_eq!(listed(7 * DAY), [4, 6]);
    assert_eq!(listed(7 * DAY + moment), [] as [u8; 0]);
}

#[test]
fn a_certificate_of_a_door_is_on_record_and_opens_none() {
    let mut registry = Registry::new();
    let of_door = Fact::ServerCertified {
        certificate: certificate(2),
        key: Digest([2; 32]),
        not_after: NOW,
    };
    registry.apply(&of_door).unwrap();
    registry.apply(&of_door).unwrap();
    registry.apply(&expected(1)).unwrap();
    let device = Principal::Device(device_id(1));
    assert!(registry.is_issued(&certificate(2)) && registry.owner(&certificate(2)).is_none());
    let shown = ldevid(&device, certificate(2));
    let refused = registry
        .authenticate(Door::Gateway, shown, NOW)
        .unwrap_err();
    assert_eq!(refused.code(), "certificate-unrecorded");
    // Its key is nobody else's, and its serial number is taken.
    let copied = registry.check_key(&Digest([2; 32]), &device).unwrap_err();
    assert!(
        copied.to_string().contains("this plane's server"),
        "{copied}"
    );
    assert!(registry.apply(&issued("device/d1", 2, NOW)).is_err());
    registry.apply(&issued("device/d1", 4, NOW)).unwrap();
    let twice = Fact::ServerCertified {
        certificate: certificate(4),
        key: Digest([9; 32]),
        not_after: NOW,
    };
    assert!(registry.apply(&twice).is_err());
    let what = Revocable::Certificate(certificate(2));
    assert!(registry.knows(&what));
    let (reason, at) = (RevocationReason::KeyCompromise, NOW);
    registry.apply(&Fact::Revoked { what, reason, at }).unwrap();
    let listed = registry.crl_entries(Digest([0; 32]), crate::crl::Shard::WHOLE, NOW);
    assert_eq!(listed.len(), 1);
    registry.forget_ended(NOW.plus(std::time::Duration::from_secs(1)));
    assert!(!registry.is_issued(&certificate(2)));
}

/// Only a maker can give two devices one factory key: whoever comes second learns of it, and the
/// first, who may be the one whose key was copied, is left alone.
#[test]
fn attack_one_factory_key_in_two_devices() {
    let mut registry = Registry::new();
    for number in [1, 2] {
        registry.apply(&expected(number)).unwrap();
    }
    let key = Digest([7; 32]);
    let shown = Fact::KeyShown {
        device: device_id(1),
        key,
    };
    registry.apply(&shown).unwrap();
    registry.apply(&shown).unwrap();
    assert_eq!(registry.shown_by_another(&key, &device_id(1)), None);
    assert_eq!(
        registry.shown_by_another(&key, &device_id(2)),
        Some(device_id(1))
    );
    // The first one keeps it, whoever says so later.
    let later = Fact::KeyShown {
        device: device_id(2),
        key,
    };
    registry.apply(&later).unwrap();
    assert_eq!(registry.shown_by_another(&key, &device_id(1)), None);
    let nobody = Fact::KeyShown {
        device: device_id(3),
        key,
    };
    assert!(registry.apply(&nobody).is_err());
}
