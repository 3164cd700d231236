//! `sim enroll`: a fresh plane becomes one with a fleet in force, devices enrolled and a consumer
//! certified, by its API and its EST door; what they got is left as files for the load generator.

use crate::credential::write_file;
use crate::device::{Device, Doors, Manner};
use crate::factory::{Factory, Flaw};
use crate::load::CertificatePaths;
use crate::plane::{FleetFile, Plane};
use crate::refusal::{Refusal, SetupError};
use crate::tls::Endpoint;
use model::{DeviceId, SerialNumber, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What to make of which plane.
#[derive(Debug)]
pub struct Enrollment<'a> {
    pub plane: &'a Plane,
    /// The EST door.
    pub est: SocketAddr,
    /// A name that the plane's certificate bears.
    pub server_name: &'a str,
    /// The fleet to apply: a folder. It must know every product and the service `consumer`.
    pub fleet: &'a Path,
    pub kinds: &'a [Kind],
    /// Enrolling at a time.
    pub threads: usize,
    /// Filled as [`CertificatePaths::of`] says; made if it is missing.
    pub out: &'a Path,
}

/// Devices of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    pub product: String,
    pub devices: usize,
    /// They are `<prefix>-00000`, `<prefix>-00001`, ..
    pub prefix: String,
}

const MANUFACTURER: &str = "simulated";
const CONSUMER: &str = "consumer";

/// Registers a manufacturer, applies the fleet, enrolls every device through EST with a factory
/// identity of its own, certifies the consumer, and writes `ca.pem`, `consumer.*` and `devices/`.
///
/// # Errors
/// The first refusal, or a file that cannot be read or written.
pub fn enroll(wanted: &Enrollment<'_>, now: Timestamp) -> Result<(), Refusal> {
    let paths = CertificatePaths::of(wanted.out);
    fs::create_dir_all(&paths.devices).map_err(file("make the folder", &paths.devices))?;
    let factory = Factory::new("Simulated Factory", now)?;
    let mut devices = Vec::new();
    let mut csv = "serial,product,device,groups\n".to_owned();
    for kind in wanted.kinds {
        for index in 0..kind.devices {
            let invalid = |error: model::InvalidName| SetupError::Argument(error.to_string());
            let id = DeviceId::new(&format!("{}-{index:05}", kind.prefix)).map_err(invalid)?;
            let serial = SerialNumber::new(&format!("SN{:08}", devices.len())).map_err(invalid)?;
            csv.push_str(&format!("{serial},{},{id},\n", kind.product));
            let idevid = factory.idevid(&serial, Flaw::None, now)?;
            devices.push(Device::new(id, serial, idevid));
        }
    }
    let plane = wanted.plane;
    plane.add_manufacturer(MANUFACTURER, &factory.certificate_pem())?;
    plane.expect_devices(MANUFACTURER, &csv)?;
    plane.apply(&read_fleet(wanted.fleet)?)?;
    let root = plane.root_pem()?;
    write_file(&paths.ca, root.as_bytes(), 0o644)?;
    plane
        .certify_service(CONSUMER)?
        .write(wanted.out, CONSUMER)?;

    let root = CertificateDer::from_pem_slice(root.as_bytes())
        .map_err(|_| Refusal::Protocol("a CA that is not PEM".into()))?;
    let est = Endpoint::new(wanted.est, wanted.server_name, &[root.to_vec()])?;
    let doors = Doors {
        mqtt: est.clone(),
        est,
    };
    enroll_all(&mut devices, &doors, wanted.threads, &paths.devices)
}

fn enroll_all(
    devices: &mut [Device],
    doors: &Doors,
    threads: usize,
    folder: &Path,
) -> Result<(), Refusal> {
    let manner = Manner::default();
    let failed: Mutex<Option<Refusal>> = Mutex::new(None);
    let share = devices.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for part in devices.chunks_mut(share) {
            scope.spawn(|| {
                for device in part {
                    let outcome = device.enroll(doors, &manner).and_then(|()| {
                        let got = device
                            .ldevid()
                            .map(|got| got.write(folder, device.id().as_str()));
                        Ok(got.transpose().map(drop)?)
                    });
                    match outcome {
                        Ok(()) => {}
                        Err(refusal) => {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.get_or_insert(refusal);
                            return;
                        }
                    };
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

/// Every file below a folder, in the order of their paths.
pub(crate) fn read_fleet(folder: &Path) -> Result<Vec<FleetFile>, SetupError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(&next).map_err(file("read the folder", &next))?;
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).map_err(file("read", &path))?;
            let relative = path.strip_prefix(folder).unwrap_or(&path);
            files.push(FleetFile {
                path: relative.display().to_string(),
                text,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SetupError {
    let path = path.display().to_string();
    move |source| SetupError::File { what, path, source }
}
