//! `fleetward identity tpm …`: which TPMs are expected, and whose vendors are believed.

use crate::client::Ask;
use crate::files;
use crate::identity::query;
use crate::place::Place;
use crate::show::{self, Column, Output};
use clap::Subcommand;
use model::{ManufacturerId, SerialNumber};
use serde_json::json;
use std::path::PathBuf;

const PEM_BYTES_MAX: usize = 64 * 1024;
/// What the plane takes in one list.
const LIST_BYTES_MAX: usize = 32 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub enum TpmVerb {
    /// Let the TPMs of a list enroll their devices: CSV with serial, endorsement_key_sha256.
    #[command(after_help = "Examples:\n  \
        fleetward identity tpm expect --manufacturer acme tpms-17.csv\n\n\
        A list:\n  serial,endorsement_key_sha256\n  SN-0001,5d41402a…\n\n\
        The digest is of the public key in DER; on the device:\n  \
        tpm2_createek -c ek.ctx -G rsa -f der -u ek.der && sha256sum ek.der")]
    Expect {
        /// Who made the devices; they must be expected already.
        #[arg(long, value_name = "NAME")]
        manufacturer: ManufacturerId,
        /// The list.
        list: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Take the TPMs of a device off the list: they enroll nobody any more.
    #[command(after_help = "Examples:\n  \
        fleetward identity tpm unlist --manufacturer acme --serial SN-0001\n\n\
        What they were shown to hold counts no more either. The device's certificate stays: \
        revoke it with `identity revoke` if the chip was taken.")]
    Unlist {
        /// Who made the device.
        #[arg(long, value_name = "NAME")]
        manufacturer: ManufacturerId,
        #[arg(long)]
        serial: SerialNumber,
        #[command(flatten)]
        place: Place,
    },
    /// List the TPMs that are expected, and what each has shown.
    #[command(after_help = "Examples:\n  fleetward identity tpm list\n  \
        fleetward identity tpm list --after 5d41… --limit 1000 --output json")]
    List {
        /// Begin after this endorsement key.
        #[arg(long, value_name = "SHA256", value_parser = digest)]
        after: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Vendors whose TPMs are believed.
    #[command(subcommand)]
    Vendor(VendorVerb),
}

#[derive(Debug, Subcommand)]
pub enum VendorVerb {
    /// Register a CA of a TPM vendor: TPMs in this manufacturer's devices must lead to one.
    #[command(after_help = "Examples:\n  \
        fleetward identity tpm vendor add --manufacturer acme --ca infineon-opaque-ca.pem\n\n\
        From then on a listed TPM of that manufacturer must show the certificate of its \
        endorsement key as well.")]
    Add {
        /// Whose devices the TPMs are in.
        #[arg(long, value_name = "NAME")]
        manufacturer: ManufacturerId,
        /// The certificate of the vendor's CA, PEM.
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// List them.
    #[command(after_help = "Examples:\n  fleetward identity tpm vendor list")]
    List {
        #[command(flatten)]
        place: Place,
    },
}

const VENDORS: [Column; 3] = [
    ("manufacturer", "/manufacturer"),
    ("ca sha-256", "/ca_sha256"),
    ("added", "/added_at"),
];

const CHIPS: [Column; 6] = [
    ("device", "/device"),
    ("serial", "/serial"),
    ("endorsement key", "/endorsement_key_sha256"),
    ("holds its key since", "/held_since"),
    ("assurance", "/assurance"),
    ("evidence", "/attestation/why"),
];

/// It becomes part of a path.
fn digest(text: &str) -> Result<String, String> {
    model::Digest::from_hex(text)
        .map(|digest| digest.to_string())
        .ok_or_else(|| "64 hex digits, as the list shows them".to_owned())
}

impl TpmVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Expect {
                manufacturer,
                list,
                place,
            } => {
                let text = files::read_text(list, LIST_BYTES_MAX)?;
                let path =
                    format!("/api/v1/identity/tpm/endorsement-keys?manufacturer={manufacturer}");
                let ask = Ask::post(&path).text("text/csv", text);
                let taken = place.client()?.json(ask)?;
                let columns = [("TPMs", "/endorsement_keys"), ("entry", "/entry")];
                show::fields(output, &taken, &columns)
            }
            Self::Unlist {
                manufacturer,
                serial,
                place,
            } => {
                let path = format!(
                    "/api/v1/identity/tpm/endorsement-keys?manufacturer={manufacturer}&serial={}",
                    query(serial.as_str())
                );
                let done = place.client()?.json(Ask::delete(&path))?;
                let columns = [("TPMs", "/endorsement_keys"), ("entry", "/entry")];
                show::fields(output, &done, &columns)
            }
            Self::Vendor(VendorVerb::Add {
                manufacturer,
                ca,
                place,
            }) => {
                let ca_pem = files::read_text(ca, PEM_BYTES_MAX)?;
                let body = json!({ "manufacturer": manufacturer.as_str(), "ca_pem": ca_pem });
                let ask = Ask::post("/api/v1/identity/tpm/vendors").json(&body);
                let columns = [("entry", "/entry"), ("sequence", "/sequence")];
                show::fields(output, &place.client()?.json(ask)?, &columns)
            }
            Self::List {
                after,
                limit,
                place,
            } => {
                let mut path = format!("/api/v1/identity/tpm/endorsement-keys?limit={limit}");
                if let Some(after) = after {
                    path.push_str(&format!("&after={after}"));
                }
                let list = place.client()?.json(Ask::get(&path))?;
                if output == Output::Table && list.as_array().is_some_and(Vec::is_empty) {
                    return show::line("no TPM is expected; list some with `identity tpm expect`");
                }
                show::rows(output, &list, &CHIPS)
            }
            Self::Vendor(VendorVerb::List { place }) => {
                let list = place
                    .client()?
                    .json(Ask::get("/api/v1/identity/tpm/vendors"))?;
                show::rows(output, &list, &VENDORS)
            }
        }
    }
}
