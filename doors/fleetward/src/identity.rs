//! `fleetward identity …`: whose devices, which devices, whose certificates.

mod certificates;
mod claim_certificate;
mod import;
mod ownership;
mod token;

use crate::authorities::{self, CaVerb};
use crate::client::Ask;
use crate::files;
use crate::pending::PendingVerb;
use crate::place::Place;
use crate::request;
use crate::revocation::{Release, Revoke};
use crate::root::RootVerb;
use crate::served::Served;
use crate::show::{self, Column, Output};
use crate::tpm::TpmVerb;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use model::{DeviceId, ManufacturerId, ServiceId};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) const PEM_BYTES_MAX: usize = 64 * 1024;
/// What the plane takes in one list.
pub const LIST_BYTES_MAX: usize = 32 * 1024 * 1024;
const CRL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Below it the plane answers sooner than a bar is read.
const PROGRESS_BYTES_MIN: usize = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub enum IdentityVerb {
    /// Those who make devices and vouch for them.
    #[command(subcommand)]
    Manufacturer(ManufacturerVerb),
    /// Let the devices of a list enroll: CSV or JSON with serial, product, device, groups.
    #[command(after_help = "Examples:\n  \
        fleetward identity expect --manufacturer acme batch-17.csv\n  \
        fleetward identity expect --manufacturer acme batch-18.json\n\n\
        A list in CSV:\n  serial,product,device,groups\n  SN-0001,camera,cam-1,beta;lobby\n  \
        SN-0002,camera,,")]
    Expect {
        /// Who made them.
        #[arg(long, value_name = "NAME")]
        manufacturer: ManufacturerId,
        /// The list; JSON if its name ends in .json, else CSV.
        list: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Fleets that exist already, with certificates of their own.
    #[command(subcommand)]
    Import(import::ImportVerb),
    /// One-time tokens for devices that have no certificate.
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Certificates that batches of devices share to ask for their first one.
    #[command(subcommand)]
    ClaimCertificate(claim_certificate::ClaimCertificateVerb),
    /// Whose a device is: claim it, hand it on, release it.
    #[command(subcommand)]
    Ownership(ownership::OwnershipVerb),
    /// TPMs in devices: which are expected, and whose vendors are believed.
    #[command(subcommand)]
    Tpm(TpmVerb),
    /// List enrolled devices, in the order of their names.
    #[command(after_help = "Examples:\n  fleetward identity list\n  \
        fleetward identity list --after cam-0999 --limit 1000 --output json")]
    List {
        /// Begin after this device.
        #[arg(long, value_name = "DEVICE")]
        after: Option<DeviceId>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Show one device and its certificates.
    #[command(after_help = "Examples:\n  fleetward identity show cam-1")]
    Show {
        device: DeviceId,
        #[command(flatten)]
        place: Place,
    },
    /// List the certificates that were issued, those that end first.
    #[command(
        after_help = "Examples:\n  fleetward identity certificates --within 14\n  \
        fleetward identity certificates --state superseded --product camera\n  \
        fleetward identity certificates --holder device/cam-1 --output json"
    )]
    Certificates(certificates::Certificates),
    /// List what is revoked or on hold.
    #[command(after_help = "Examples:\n  fleetward identity revocations\n  \
        fleetward identity revocations --on-hold")]
    Revocations(certificates::Revocations),
    /// Devices with a genuine factory identity that wait for a person.
    #[command(subcommand)]
    Pending(PendingVerb),
    /// Give a service of the fleet a certificate.
    #[command(after_help = "Examples:\n  \
        fleetward identity certify ingest --new-key ingest.key --out ingest.pem\n  \
        fleetward identity certify ingest --csr ingest.csr --out ingest.pem")]
    Certify(Certify),
    /// Withdraw an identity at every door at once; nothing of it is accepted when this returns.
    #[command(after_help = "Examples:\n  \
        fleetward identity revoke --device cam-1 --reason key-compromise\n  \
        fleetward identity revoke --service ingest --reason superseded --yes\n  \
        fleetward identity revoke --certificate 9f…:7a… --reason superseded\n  \
        fleetward identity revoke --product camera --reason certificate-hold --dry-run\n  \
        fleetward identity revoke --list stolen.txt --reason key-compromise\n\n\
        A revoked device is barred at every door, with its factory certificate too. The reason \
        certificate-hold bars just as well and can be taken back with `identity release`; every \
        other reason is for good.\n\n\
        A list has one name a line: device/cam-1, service/ingest, certificate/9f…:7a…, \
        product/camera or ca/9f…. On a terminal it asks first; elsewhere it does not.")]
    Revoke(Revoke),
    /// Give back what was put on hold. What was revoked for good is never given back.
    #[command(after_help = "Examples:\n  \
        fleetward identity release --device cam-1 --reason 'found in the store room'\n  \
        fleetward identity release --product camera --reason 'fixed by release 2.1'")]
    Release(Release),
    /// List the certificates that the doors show; `served reload` reads their files again.
    #[command(after_help = "Examples:\n  fleetward identity served\n  \
        fleetward identity served --output json\n  fleetward identity served reload")]
    Served(Served),
    /// Print the root certificate (PEM), which devices and clients trust; or act on the CAs.
    #[command(args_conflicts_with_subcommands = true)]
    #[command(after_help = "Examples:\n  fleetward identity ca > root.pem\n  \
        fleetward identity ca list")]
    Ca {
        #[command(subcommand)]
        verb: Option<CaVerb>,
        #[command(flatten)]
        place: Place,
    },
    /// The root: kept offline, moved there, replaced.
    #[command(subcommand)]
    Root(RootVerb),
    /// Write the certificate revocation list (DER).
    #[command(after_help = "Examples:\n  fleetward identity crl --out fleet.crl\n  \
        openssl crl -inform DER -in fleet.crl -noout -text")]
    Crl {
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum ManufacturerVerb {
    /// Register a manufacturer's CA: its devices can then prove their factory identity.
    #[command(after_help = "Examples:\n  \
        fleetward identity manufacturer add --name acme --ca acme-factory-ca.pem")]
    Add {
        /// Its name here.
        #[arg(long)]
        name: ManufacturerId,
        /// The certificate of its CA, PEM.
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// List them.
    #[command(after_help = "Examples:\n  fleetward identity manufacturer list")]
    List {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Certify {
    /// Its name in the fleet.
    service: ServiceId,
    #[command(flatten)]
    key: KeySource,
    /// Where the certificate (PEM) goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct KeySource {
    /// A request (PKCS #10, PEM) of a key that the service has.
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// Make a P-256 key there (mode 0600; must not exist).
    #[arg(long, value_name = "KEYFILE")]
    new_key: Option<PathBuf>,
}

const MANUFACTURERS: [Column; 3] = [
    ("manufacturer", "/manufacturer"),
    ("ca sha-256", "/ca_sha256"),
    ("added", "/added_at"),
];

const DEVICES: [Column; 7] = [
    ("device", "/device"),
    ("product", "/product"),
    ("groups", "/groups"),
    ("manufacturer", "/manufacturer"),
    ("serial", "/serial"),
    ("enrolled", "/enrolled_at"),
    ("revoked", "/revoked/reason"),
];

const CERTIFICATES: [Column; 4] = [
    ("certificate", "/certificate"),
    ("from", "/not_before"),
    ("until", "/not_after"),
    ("revoked", "/revoked/reason"),
];

pub(crate) const RECORDED: [Column; 2] = [("entry", "/entry"), ("sequence", "/sequence")];

impl IdentityVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Manufacturer(ManufacturerVerb::Add { name, ca, place }) => {
                let ca_pem = files::read_text(ca, PEM_BYTES_MAX)?;
                let body = json!({ "manufacturer": name.as_str(), "ca_pem": ca_pem });
                let ask = Ask::post("/api/v1/identity/manufacturers").json(&body);
                show::fields(output, &place.client()?.json(ask)?, &RECORDED)
            }
            Self::Manufacturer(ManufacturerVerb::List { place }) => {
                let list = place
                    .client()?
                    .json(Ask::get("/api/v1/identity/manufacturers"))?;
                show::rows(output, &list, &MANUFACTURERS)
            }
            Self::Import(verb) => verb.run(output),
            Self::Token(verb) => verb.run(output),
            Self::Ownership(verb) => verb.run(output),
            Self::ClaimCertificate(verb) => verb.run(output),
            Self::Certificates(list) => list.run(output),
            Self::Revocations(list) => list.run(output),
            Self::Tpm(verb) => verb.run(output),
            Self::Expect {
                manufacturer,
                list,
                place,
            } => expect(manufacturer, list, place, output),
            Self::List {
                after,
                limit,
                place,
            } => {
                let mut path = format!("/api/v1/identity/devices?limit={limit}");
                if let Some(after) = after {
                    path.push_str(&format!("&after={after}"));
                }
                show::rows(output, &place.client()?.json(Ask::get(&path))?, &DEVICES)
            }
            Self::Show { device, place } => {
                let path = format!("/api/v1/identity/devices/{device}");
                let found = place.client()?.json(Ask::get(&path))?;
                let more = [
                    ("assurance", "/assurance"),
                    ("evidence", "/attestation/why"),
                ];
                show::fields(output, &found, &[&DEVICES[..], &more].concat())?;
                match found.pointer("/certificates") {
                    Some(certificates) if output == Output::Table => {
                        show::line("")?;
                        show::rows(output, certificates, &CERTIFICATES)
                    }
                    _ => Ok(()),
                }
            }
            Self::Pending(verb) => verb.run(output),
            Self::Certify(certify) => certify.run(output),
            Self::Revoke(revoke) => revoke.run(output),
            Self::Release(release) => release.run(output),
            Self::Served(served) => served.run(output),
            Self::Ca {
                verb: Some(verb), ..
            } => verb.run(output),
            Self::Ca { verb: None, place } => authorities::print_root(place, output),
            Self::Root(verb) => verb.run(output),
            Self::Crl { out, place } => {
                let crl = place
                    .client()?
                    .bytes(Ask::get("/api/v1/identity/crl"), CRL_BYTES_MAX)?;
                files::replace(out, &crl, 0o644)?;
                let said = json!({ "file": out.display().to_string(), "bytes": crl.len() });
                show::fields(output, &said, &[("file", "/file"), ("bytes", "/bytes")])
            }
        }
    }
}

fn expect(
    manufacturer: &ManufacturerId,
    list: &Path,
    place: &Place,
    output: Output,
) -> anyhow::Result<()> {
    let text = files::read_text(list, LIST_BYTES_MAX)?;
    let media_type = match list.extension().and_then(|extension| extension.to_str()) {
        Some(extension) if extension.eq_ignore_ascii_case("json") => "application/json",
        _ => "text/csv",
    };
    let progress = upload_bar(text.len())?;
    let path = format!("/api/v1/identity/expected-devices?manufacturer={manufacturer}");
    let ask = Ask::post(&path)
        .text(media_type, text)
        .shown_by(progress.clone());
    let taken = place.client()?.json(ask);
    progress.finish_and_clear();
    show::fields(
        output,
        &taken?,
        &[("devices", "/devices"), ("entry", "/entry")],
    )
}

/// Shown while a list is on its way; hidden where the plane answers sooner than a bar is read.
pub fn upload_bar(bytes: usize) -> anyhow::Result<ProgressBar> {
    if bytes < PROGRESS_BYTES_MIN {
        return Ok(ProgressBar::hidden());
    }
    let style = "{bar:40} {bytes} of {total_bytes} sent, then the plane takes them up {spinner}";
    let bar = ProgressBar::new(bytes as u64).with_style(ProgressStyle::with_template(style)?);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    Ok(bar)
}

/// A value as it may stand in a query string (RFC 3986 section 2).
pub(crate) fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Certify {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let csr_pem = match (&self.key.csr, &self.key.new_key) {
            (Some(csr), _) => files::read_text(csr, PEM_BYTES_MAX)?,
            (None, Some(file)) => {
                let made = request::new_key(&self.service)?;
                files::create_secret(file, made.key_pem.as_bytes())?;
                made.csr_pem
            }
            (None, None) => bail!("name one of --csr, --new-key"),
        };
        let issued = self.ask(&csr_pem);
        if let (Err(_), Some(file)) = (&issued, &self.key.new_key) {
            // The key was made for this certificate and nobody else knows it.
            let _ = std::fs::remove_file(file);
        }
        let issued = issued?;
        let columns = [
            ("certificate", "/certificate"),
            ("until", "/not_after"),
            ("file", "/file"),
            ("entry", "/recorded/entry"),
        ];
        show::fields(output, &issued, &columns)
    }

    fn ask(&self, csr_pem: &str) -> anyhow::Result<Value> {
        let path = format!("/api/v1/identity/services/{}/certificates", self.service);
        let ask = Ask::post(&path).json(&json!({ "csr_pem": csr_pem }));
        let mut issued = self.place.client()?.json(ask)?;
        let pem = issued.pointer("/certificate_pem").and_then(Value::as_str);
        let pem = pem.context("the plane's answer holds no certificate; update this program")?;
        files::replace(&self.out, pem.as_bytes(), 0o644)?;
        if let Some(fields) = issued.as_object_mut() {
            fields.insert("file".into(), self.out.display().to_string().into());
        }
        Ok(issued)
    }
}
