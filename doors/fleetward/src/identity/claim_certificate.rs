//! `fleetward identity claim-certificate …`: certificates that batches of devices share to ask for
//! their first one.

use super::PEM_BYTES_MAX;
use crate::client::Ask;
use crate::files;
use crate::place::Place;
use crate::show::{self, Column, Output};
use clap::Subcommand;
use model::{ClaimCertificateId, ManufacturerId, ProductId};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum ClaimCertificateVerb {
    /// Believe one, for one product, so many devices, from these addresses, for some days.
    #[command(after_help = "Examples:\n  \
        fleetward identity claim-certificate add batch-17 --certificate claim.pem \\\n    \
        --manufacturer acme --product sensor --devices 500 --addresses 198.51.100.0/24 --days 30\n\n\
        The certificate is signed by itself; its key is in the devices and never comes here. \
        Devices ask as in AWS IoT's fleet provisioning by claim, over MQTT, and each of them must \
        be expected (`identity expect`).")]
    Add {
        /// Its name.
        name: ClaimCertificateId,
        /// The certificate, PEM.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Whose serial numbers the devices have.
        #[arg(long, value_name = "NAME")]
        manufacturer: ManufacturerId,
        #[arg(long, value_name = "NAME")]
        product: ProductId,
        /// Devices that it is for.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        devices: u32,
        /// Where it may be used from; several with a comma.
        #[arg(long, value_name = "RANGE", value_delimiter = ',', required = true)]
        addresses: Vec<String>,
        /// After so many days it ends.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// The provisioning template that firmware asks for, if it is not called as the product.
        #[arg(long, value_name = "NAME")]
        template: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// List them with what each was used for.
    #[command(after_help = "Examples:\n  fleetward identity claim-certificate list")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// It opens nothing any more. Devices that have a certificate by it keep theirs.
    #[command(after_help = "Examples:\n  fleetward identity claim-certificate retire batch-17")]
    Retire {
        name: ClaimCertificateId,
        #[command(flatten)]
        place: Place,
    },
}

const CLAIMS: [Column; 7] = [
    ("claim", "/claim"),
    ("product", "/product"),
    ("devices", "/devices"),
    ("of", "/devices_max"),
    ("addresses", "/addresses"),
    ("until", "/expires_at"),
    ("state", "/state"),
];

const PATH: &str = "/api/v1/identity/claim-certificates";

impl ClaimCertificateVerb {
    /// # Errors
    /// The plane, a file, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Add {
                name,
                certificate,
                manufacturer,
                product,
                devices,
                addresses,
                days,
                template,
                place,
            } => {
                let body = json!({
                    "claim": name.as_str(),
                    "certificate_pem": files::read_text(certificate, PEM_BYTES_MAX)?,
                    "manufacturer": manufacturer.as_str(),
                    "product": product.as_str(),
                    "template": template,
                    "addresses": addresses,
                    "devices_max": devices,
                    "days": days,
                });
                let added = place.client()?.json(Ask::post(PATH).json(&body))?;
                let columns = [
                    ("claim", "/claim"),
                    ("until", "/expires_at"),
                    ("entry", "/recorded/entry"),
                ];
                show::fields(output, &added, &columns)
            }
            Self::List { place } => {
                show::rows(output, &place.client()?.json(Ask::get(PATH))?, &CLAIMS)
            }
            Self::Retire { name, place } => {
                let path = format!("{PATH}/{name}/retirement");
                let done = place.client()?.json(Ask::post(&path))?;
                let columns = [
                    ("sessions closed", "/sessions_closed"),
                    ("entry", "/recorded/entry"),
                ];
                show::fields(output, &done, &columns)
            }
        }
    }
}
