//! Small makers that the tests share.

use model::{CertificateId, DeviceId, Digest, GroupId, ManufacturerId, ProductId, TenantId};
use model::{Principal, Revocable, RevocationReason, SerialNumber, ServiceId, Timestamp};
use std::path::{Path, PathBuf};
use store::{
    Certificate, Change, Device, Direction, ExpectedDevice, Holder, Manufacturer, Options, Store,
    Write,
};
use tempfile::TempDir;

pub fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

pub fn open(dir: &Path) -> Store {
    Store::open(dir, Options::new(tenant())).unwrap()
}

/// A scratch folder and the data folder in it.
pub fn scratch() -> (TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    (scratch, data)
}

pub fn device_id(id: &str) -> DeviceId {
    DeviceId::new(id).unwrap()
}

pub fn service_id(id: &str) -> ServiceId {
    ServiceId::new(id).unwrap()
}

pub fn certificate_id(serial: u8) -> CertificateId {
    CertificateId::new(Digest([9; 32]), &[serial]).unwrap()
}

pub fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

pub fn manufacturer() -> Manufacturer {
    Manufacturer {
        id: ManufacturerId::new("maker").unwrap(),
        ca: vec![1, 2, 3],
        added_at: seconds(1),
    }
}

pub fn expected(serial: &str, device: &str) -> ExpectedDevice {
    ExpectedDevice {
        manufacturer: manufacturer().id,
        serial: SerialNumber::new(serial).unwrap(),
        product: ProductId::new("camera").unwrap(),
        device: device_id(device),
        groups: vec![
            GroupId::new("north").unwrap(),
            GroupId::new("roof").unwrap(),
        ],
    }
}

pub fn device(serial: &str, id: &str) -> Device {
    let expected = expected(serial, id);
    Device {
        id: expected.device,
        product: expected.product,
        groups: expected.groups,
        manufacturer: expected.manufacturer,
        serial: expected.serial,
        enrolled_at: seconds(2),
    }
}

pub fn certificate(serial: u8, holder: Holder) -> Certificate {
    Certificate {
        id: certificate_id(serial),
        holder,
        not_before: seconds(10),
        not_after: seconds(20),
        key: Some(Digest([serial; 32])),
        key_kind: Some("P-256".into()),
        der: vec![0x30, serial],
    }
}

pub fn grant(write: Write) -> Change {
    Change::new(Direction::Grant).write(write)
}

pub fn revoke_device(id: &str) -> Change {
    Change::new(Direction::Withdraw).write(Write::Revoke {
        what: Revocable::Principal(Principal::Device(device_id(id))),
        at: seconds(30),
        reason: RevocationReason::KeyCompromise,
    })
}

/// Registers the manufacturer and enrolls one device.
pub fn enroll(store: &Store, serial: &str, id: &str) {
    store
        .commit(
            grant(Write::PutManufacturer(manufacturer()))
                .write(Write::PutDevice(device(serial, id)))
                .entry(format!("enrolled {id}").into_bytes()),
        )
        .unwrap();
}

pub fn put_meta(key: &str, value: &[u8]) -> Change {
    Change::new(Direction::Neutral).write(Write::PutMeta {
        key: key.to_owned(),
        value: value.to_vec(),
    })
}

/// SplitMix64: a seed is a whole run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Seeds of the randomised runs: 3, or as many as `FLEETWARD_SOAK_SEEDS` says.
pub fn seeds() -> std::ops::Range<u64> {
    let number = std::env::var("FLEETWARD_SOAK_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    0..number
}
