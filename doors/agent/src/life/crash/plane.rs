//! The plane as a device's certificate meets it: the real registry, profiles, path checks and store,
//! in the order in which the plane's flow calls them, with the power cut between any two.

use super::Power;
use super::tree::Tree;
use crate::certifying::{Certifier, pem, random_bytes};
use crate::credential::Credential;
use crate::failure::Failure;
use crate::life::By;
use identity::profile::{self, Terms};
use identity::{
    Anchors, Authenticated, CertificateRequest, Door, Fact, IssuingCa, Operation, OwnCas, Realm,
    Refusal, Registry,
};
use model::{
    CertificateId, DeviceId, Digest, ManufacturerId, Principal, ProductId, Revocable,
    RevocationReason, SerialNumber, TenantId, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{Change, Direction, Guard, Holder, Options, Store, Superseded, Write};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Its power is gone: nothing more happens, and nobody gets an answer.
#[derive(Debug)]
pub struct Cut;

pub struct Plane {
    data: PathBuf,
    /// `None` while it is down.
    running: Option<Running>,
    pub power: Power,
    /// Certifies devices, below the first root for good.
    issuing: Certifier,
    own: OwnCas,
    pub tree: Tree,
    /// What the device has told that it believes.
    pub told: BTreeSet<Digest>,
    anchors: Anchors,
    realm: Realm,
    pub lifetime: Duration,
    pub overlap: Duration,
    /// How long after its end a certificate lets its device ask for the next one.
    grace: Duration,
    pub expected: Expected,
    /// For whoever watches: which certificate was first seen when, as far as it is on record.
    pub proven: BTreeMap<CertificateId, Timestamp>,
}

struct Running {
    store: Store,
    registry: Registry,
    /// Seen at a door, not on record yet.
    proofs: BTreeMap<CertificateId, Timestamp>,
}

pub struct Expected {
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub product: ProductId,
    pub device: DeviceId,
}

impl Plane {
    /// A plane that expects one device, and that device's factory identity.
    pub fn new(
        data: &Path,
        lifetime: Duration,
        overlap: Duration,
        now: Timestamp,
    ) -> (Self, Credential) {
        let realm = Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap();
        let expected = Expected {
            manufacturer: ManufacturerId::new("maker").unwrap(),
            serial: SerialNumber::new("SN1").unwrap(),
            product: ProductId::new("camera").unwrap(),
            device: DeviceId::new("cam-1").unwrap(),
        };
        let tree = Tree::new(realm.clone(), now);
        let root = tree.current();
        let issuing = root.below(
            |issuer, terms| profile::issuing(&realm, issuer, terms).unwrap(),
            now,
            10 * YEAR,
        );
        let maker =
            |terms: &Terms<'_>| profile::manufacturer_ca(&expected.manufacturer, terms).unwrap();
        let factory = Certifier::new(maker, now, Duration::ZERO);
        let idevid = factory.below(
            |issuer, terms| {
                profile::idevid(&expected.manufacturer, &expected.serial, issuer, terms).unwrap()
            },
            now,
            Duration::ZERO,
        );
        let text = pem(&idevid.key_pkcs8(), &idevid.der);
        let idevid = Credential::read(text.as_bytes(), text.as_bytes()).unwrap();
        let own = OwnCas {
            roots: vec![root.der.clone()],
            issuing: vec![IssuingCa::of_every_use(issuing.der.clone())],
        };
        let factories = vec![(expected.manufacturer.clone(), factory.der.clone())];
        let anchors = Anchors::new(realm.clone(), &own, factories).unwrap();
        let mut plane = Self {
            data: data.to_owned(),
            running: None,
            power: Power::default(),
            issuing,
            own,
            tree,
            told: BTreeSet::new(),
            anchors,
            realm,
            lifetime,
            overlap,
            grace: Duration::ZERO,
            expected,
            proven: BTreeMap::new(),
        };
        let store = plane.open();
        let change = Change::new(Direction::Grant)
            .write(Write::PutManufacturer(store::Manufacturer {
                id: plane.expected.manufacturer.clone(),
                ca: factory.der,
                added_at: now,
            }))
            .write(Write::PutExpectedDevices(vec![store::ExpectedDevice {
                manufacturer: plane.expected.manufacturer.clone(),
                serial: plane.expected.serial.clone(),
                product: plane.expected.product.clone(),
                device: plane.expected.device.clone(),
                groups: Vec::new(),
            }]));
        store.commit(change).unwrap();
        drop(store);
        plane.start();
        (plane, idevid)
    }

    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// The factory is believed no more: a device must come back by what it has of ours.
    pub fn forget_factory(&mut self) {
        self.grace = 10 * YEAR;
        self.anchors = Anchors::new(self.realm.clone(), &self.own, Vec::new()).unwrap();
    }

    /// What memory held is gone, the disk is as it is.
    pub fn fall(&mut self) {
        self.running = None;
    }

    /// Rebuilds memory from the rows, as a start does.
    pub fn start(&mut self) {
        let store = self.open();
        let mut registry = Registry::new();
        let mut learn = |fact: Fact| registry.apply(&fact).unwrap();
        let learned = [
            store.for_each_expected_device(|row| {
                learn(Fact::DeviceExpected {
                    manufacturer: row.manufacturer,
                    serial: row.serial,
                    device: row.device,
                    product: row.product,
                    groups: row.groups,
                });
            }),
            store.for_each_issued(|row| {
                learn(Fact::CertificateIssued {
                    key: row.key.unwrap(),
                    principal: row.principal.unwrap(),
                    certificate: row.certificate,
                    not_after: row.not_after,
                });
            }),
            store.for_each_revocation(|what, revocation| {
                learn(Fact::Revoked {
                    what,
                    reason: revocation.reason,
                    at: revocation.at,
                });
            }),
            store.for_each_superseded(|row| learn(fact_of(&row))),
        ];
        assert!(learned.iter().all(Result::is_ok));
        self.running = Some(Running {
            store,
            registry,
            proofs: BTreeMap::new(),
        });
    }

    /// EST: the request of a device that showed this certificate.
    pub fn enroll(
        &mut self,
        shown: &[u8],
        request: &[u8],
        by: By,
        now: Timestamp,
    ) -> Result<Vec<u8>, Failure> {
        let unreachable = |_| Failure::Unreachable(std::io::ErrorKind::ConnectionReset.into());
        self.answer_request(shown, request, by, now)
            .map_err(unreachable)?
            .map_err(|refusal| Failure::Http(403, refusal.to_string()))
    }

    /// EST: which CAs there are.
    pub fn cacerts(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        let unreachable = |_| Failure::Unreachable(std::io::ErrorKind::ConnectionReset.into());
        self.running.as_ref().ok_or(Cut).map_err(unreachable)?;
        self.power.step("roots not listed").map_err(unreachable)?;
        Ok(self.tree.listed())
    }

    /// The device's word on roots, kept as if it were on record.
    pub fn hear_roots(&mut self, roots: BTreeSet<Digest>) -> Result<(), Cut> {
        self.running.as_ref().ok_or(Cut)?;
        self.power.step("roots not heard")?;
        self.told = roots;
        Ok(())
    }

    /// The gateway: a session is opened with this certificate.
    pub fn connect(&mut self, shown: &[u8], now: Timestamp) -> Result<(), Failure> {
        let unreachable = |_| Failure::Unreachable(std::io::ErrorKind::ConnectionReset.into());
        self.admit(Door::Gateway, shown, now)
            .map_err(unreachable)?
            .map_err(|_| Failure::Alert("certificate refused"))?;
        self.power.step("session not answered").map_err(unreachable)
    }

    /// Its timers: what was seen goes on record, what is superseded long enough is revoked.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), Cut> {
        let overlap = self.overlap;
        let running = self.running.as_mut().ok_or(Cut)?;
        while let Some((by, at)) = running.proofs.pop_first() {
            self.power.step("proof not on record")?;
            let rows: Vec<Superseded> = running
                .registry
                .supersedes(&by, at)
                .into_iter()
                .map(|certificate| Superseded {
                    certificate,
                    by,
                    at,
                })
                .collect();
            let write = Write::PutSuperseded(rows.clone());
            commit(&running.store, Change::new(Direction::Neutral).write(write));
            self.proven.entry(by).or_insert(at);
            self.power.step("proof on record, not in memory")?;
            for row in &rows {
                running.registry.apply(&fact_of(row)).unwrap();
            }
        }
        for certificate in running.registry.retired(now, |_| Some(overlap)) {
            let reason = RevocationReason::Superseded;
            let what = Revocable::Certificate(certificate);
            let fact = Fact::Revoked {
                what: what.clone(),
                reason,
                at: now,
            };
            self.power.step("retirement not begun")?;
            running.registry.apply(&fact).unwrap();
            self.power.step("retirement in force, not on record")?;
            let change = Change::new(Direction::Withdraw)
                .write(Write::Revoke {
                    what,
                    at: now,
                    reason,
                })
                .entry(b"revoked".to_vec());
            commit(&running.store, change);
            self.power.step("retirement on record")?;
        }
        Ok(())
    }

    /// Certificates of the device that would open a session now, the latest issued first.
    pub fn valid(&self, now: Timestamp) -> Vec<CertificateId> {
        let registry = &self.running.as_ref().unwrap().registry;
        registry
            .certificates_of(&self.principal())
            .into_iter()
            .filter(|(id, not_after)| {
                *not_after >= now && registry.certificate_revocation(id).is_none()
            })
            .map(|(id, _)| id)
            .collect()
    }

    fn answer_request(
        &mut self,
        shown: &[u8],
        request: &[u8],
        by: By,
        now: Timestamp,
    ) -> Result<Result<Vec<u8>, Refusal>, Cut> {
        let request = CertificateRequest::parse(request).unwrap();
        let decision = if by == By::Ended {
            self.power.step("knock not heard")?;
            let running = self.running.as_ref().ok_or(Cut)?;
            let path = self.anchors.verify_ended_path(shown, &[], now, self.grace);
            path.map_err(Refusal::from)
                .and_then(|path| self.anchors.presented(&path, shown))
                .and_then(|presented| {
                    let registry = &running.registry;
                    registry.enroll_returning(&presented, &request, now, self.grace)
                })
        } else {
            let operation = match by {
                By::Idevid => Operation::SimpleEnroll,
                By::Present | By::Ended => Operation::SimpleReenroll,
            };
            let who = self.admit(Door::Devices, shown, now)?;
            let running = self.running.as_ref().ok_or(Cut)?;
            who.and_then(|who| running.registry.enroll(operation, &who, &request, now))
        };
        let decision = match decision {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let running = self.running.as_mut().ok_or(Cut)?;
        let terms = Terms {
            public_key: request.public_key(),
            serial_random: random_bytes(),
            now,
            lifetime: self.lifetime,
        };
        let unsigned = profile::ldevid(
            &self.realm,
            &decision.device,
            None,
            &self.issuing.issuer(),
            &terms,
        )
        .unwrap();
        let (certificate, not_before) = (unsigned.certificate(), unsigned.not_before());
        let not_after = unsigned.not_after();
        let der = self.issuing.sign(unsigned);
        self.power.step("issued, not on record")?;
        let change = Change::new(Direction::Grant)
            .guard(Guard::CertificateUnknown(certificate))
            .write(Write::PutDevice(store::Device {
                id: decision.device.clone(),
                product: decision.product,
                groups: decision.groups,
                manufacturer: decision.manufacturer,
                serial: decision.serial,
                enrolled_at: now,
            }))
            .write(Write::PutCertificate(store::Certificate {
                id: certificate,
                holder: Holder::Device(decision.device.clone()),
                not_before,
                not_after,
                key: Some(request.key_digest()),
                key_kind: Some(request.key_kind().to_string()),
                der: der.clone(),
            }))
            .entry(b"enrolled".to_vec());
        commit(&running.store, change);
        self.power.step("on record, not in memory")?;
        let fact = Fact::CertificateIssued {
            principal: Principal::Device(decision.device),
            certificate,
            key: request.key_digest(),
            not_after,
        };
        running.registry.apply(&fact).unwrap();
        self.power.step("answer not sent")?;
        Ok(Ok(der))
    }

    fn admit(
        &mut self,
        door: Door,
        shown: &[u8],
        now: Timestamp,
    ) -> Result<Result<Authenticated, Refusal>, Cut> {
        let running = self.running.as_mut().ok_or(Cut)?;
        self.power.step("knock not heard")?;
        let who = match authenticate(&self.anchors, &running.registry, door, shown, now) {
            Ok(who) => who,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let certificate = who.certificate();
        if !running.registry.supersedes(&certificate, now).is_empty() {
            running.proofs.entry(certificate).or_insert(now);
        }
        Ok(Ok(who))
    }

    fn principal(&self) -> Principal {
        Principal::Device(self.expected.device.clone())
    }

    fn open(&self) -> Store {
        Store::open(&self.data, Options::new(self.realm.tenant().clone())).unwrap()
    }
}

fn authenticate(
    anchors: &Anchors,
    registry: &Registry,
    door: Door,
    shown: &[u8],
    now: Timestamp,
) -> Result<Authenticated, Refusal> {
    let path = anchors.verify_path(door, shown, &[], now)?;
    registry.authenticate(door, anchors.presented(&path, shown)?, now)
}

fn commit(store: &Store, change: Change) {
    store.commit(change).unwrap();
}

fn fact_of(row: &Superseded) -> Fact {
    Fact::CertificateSuperseded {
        certificate: row.certificate,
        by: row.by,
        at: row.at,
    }
}
