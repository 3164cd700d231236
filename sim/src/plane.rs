//! The plane's API, `/api/v1`, by its local socket: what an operator does before and during a
//! simulation. One request, one connection.

use crate::credential::{Credential, Key, certificate_request, pem};
use crate::http::{Response, parse};
use crate::refusal::Refusal;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a plane listens for whoever runs it: `fleetward.sock` in its data folder.
#[derive(Debug, Clone)]
pub struct Plane {
    socket: PathBuf,
    /// The longest wait for any one read.
    patience: Duration,
}

/// A file of a fleet: its path relative to the folder, with `/`, and its text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FleetFile {
    pub path: String,
    pub text: String,
}

/// What a plane says of a revocation it has carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub struct Revoked {
    pub sessions_closed: u32,
    /// From the request's arrival until nothing of it was accepted at any door.
    pub in_force_after_micros: u64,
    /// That moment by the plane's clock: microseconds since 1970.
    pub in_force_at_unix_micros: u64,
    /// From the request's arrival until the last of its connections was closed.
    pub closed_after_micros: u64,
    /// From the request's arrival until its entry was durable.
    pub recorded_after_micros: u64,
}

impl Plane {
    #[must_use]
    pub fn new(socket: &Path, patience: Duration) -> Self {
        Self {
            socket: socket.to_owned(),
            patience,
        }
    }

    /// Registers a manufacturer by its CA certificate.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn add_manufacturer(&self, name: &str, ca_pem: &str) -> Result<(), Refusal> {
        let body = json!({ "manufacturer": name, "ca_pem": ca_pem });
        self.post("/api/v1/identity/manufacturers", &body).map(drop)
    }

    /// Imports a list of devices that may enroll, CSV with a header.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn expect_devices(&self, manufacturer: &str, csv: &str) -> Result<(), Refusal> {
        let path = format!("/api/v1/identity/expected-devices?manufacturer={manufacturer}");
        self.ask("POST", &path, Some(("text/csv", csv.as_bytes())))
            .map(drop)
    }

    /// Puts a fleet in force.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn apply(&self, files: &[FleetFile]) -> Result<(), Refusal> {
        let body = json!({ "files": files }).to_string();
        let body = Some(("application/json", body.as_bytes()));
        self.ask("PUT", "/api/v1/access/fleet", body).map(drop)
    }

    /// The plane's root certificate, PEM.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn root_pem(&self) -> Result<String, Refusal> {
        let response = self.ask("GET", "/api/v1/identity/ca", None)?;
        String::from_utf8(response.body)
            .map_err(|_| Refusal::Protocol("a CA that is not PEM".into()))
    }

    /// Makes a key and gets a certificate for a service of the fleet.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn certify_service(&self, service: &str) -> Result<Credential, Refusal> {
        #[derive(Deserialize)]
        struct Certified {
            certificate_pem: String,
        }
        let key = Key::generate()?;
        let request = certificate_request(&key, &crate::authority::name(service, None), None)?;
        let path = format!("/api/v1/identity/services/{service}/certificates");
        let body = json!({ "csr_pem": pem("CERTIFICATE REQUEST", &request) });
        let certified: Certified = read(&self.post(&path, &body)?)?;
        let der = CertificateDer::from_pem_slice(certified.certificate_pem.as_bytes())
            .map_err(|_| Refusal::Protocol("a certificate that is not PEM".into()))?;
        Ok(Credential::new(vec![der.to_vec()], key)?)
    }

    /// Revokes a `device`, a `ca` or what else can be; returns when that is on record.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn revoke(&self, kind: &str, name: &str) -> Result<Revoked, Refusal> {
        let body = json!({ kind: name, "reason": "key-compromise" });
        read(&self.post("/api/v1/identity/revocations", &body)?)
    }

    /// Cuts a device off, `quarantined` or `isolated`; returns when that is on record.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn contain(&self, device: &str, containment: &str) -> Result<(), Refusal> {
        let body = json!({ "device": device, "containment": containment, "reason": "a trial" });
        self.post("/api/v1/response/containments", &body).map(drop)
    }

    /// Cuts all devices of a product off in one act; returns when that is on record.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn contain_product(&self, product: &str, containment: &str) -> Result<(), Refusal> {
        let body = json!({ "product": product, "containment": containment, "reason": "a trial" });
        self.post("/api/v1/response/group-containments", &body)
            .map(drop)
    }

    /// Names of the devices that the plane has connected, the first 10,000 sessions.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn connected_devices(&self) -> Result<BTreeSet<String>, Refusal> {
        #[derive(Deserialize)]
        struct Listed {
            principal: String,
            connected: bool,
        }
        let listed: Vec<Listed> = read(&self.ask("GET", "/api/v1/gateway/sessions", None)?)?;
        let connected = listed.into_iter().filter(|session| session.connected);
        let devices = connected
            .filter_map(|session| Some(session.principal.strip_prefix("device/")?.to_owned()));
        Ok(devices.collect())
    }

    fn post(&self, path: &str, body: &serde_json::Value) -> Result<Response, Refusal> {
        let body = body.to_string();
        self.ask("POST", path, Some(("application/json", body.as_bytes())))
    }

    /// Any status of success, else its refusal.
    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Response, Refusal> {
        let cut = |_| Refusal::Cut;
        let mut stream = UnixStream::connect(&self.socket)
            .map_err(|error| Refusal::Unreachable(error.kind()))?;
        stream.set_read_timeout(Some(self.patience)).map_err(cut)?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if let Some((media_type, content)) = body {
            let length = content.len();
            request.push_str(&format!(
                "Content-Type: {media_type}\r\nContent-Length: {length}\r\n"
            ));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body.map_or(&[], |(_, content)| content));
        stream.write_all(&request).map_err(cut)?;
        let mut received = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = stream.read(&mut buffer).map_err(|_| Refusal::Timeout)?;
            received.extend_from_slice(buffer.get(..count).unwrap_or_default());
            match parse(&received, count == 0)? {
                Some(response) if (200..300).contains(&response.status) => return Ok(response),
                Some(response) => return Err(response.refusal()),
                None if count == 0 => return Err(Refusal::Closed),
                None => {}
            }
        }
    }
}

fn read<T: DeserializeOwned>(response: &Response) -> Result<T, Refusal> {
    serde_json::from_slice(&response.body)
        .map_err(|error| Refusal::Protocol(format!("an answer of another shape: {error}")))
}
