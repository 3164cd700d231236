//! An EST server made of rustls, a few lines of HTTP, and openssl as its CA.

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sim::credential::read_certificates;
use sim::device::{Doors, Manner, Shown};
use sim::load::{CertificatePaths, CertificateSet, make_certificates};
use sim::tls::{Client, Endpoint, Options};
use sim::{Device, Factory, Flaw, Refusal, est};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

const NAMES: &str = "subjectAltName=URI:urn:example:cam-1\n";

/// How the server frames an answer that it gives.
#[derive(Clone, Copy)]
enum Framing {
    Length,
    Chunked,
}

struct Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    paths: CertificatePaths,
}

impl Server {
    /// `None`, with a message, where openssl is not installed. The thread ends with the test.
    fn start(factory: &Factory, framing: Framing) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("skipped: openssl is not installed");
            return None;
        }
        let folder = crate::folder();
        let set = CertificateSet {
            folder: folder.path(),
            devices: 0,
            prefix: "x",
            days: 2,
        };
        let paths = make_certificates(&set, sim::now()).unwrap();
        let config = server_config(&paths, factory);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = folder.path().to_owned();
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let tls = ServerConnection::new(config.clone()).unwrap();
                // A client that goes away is part of the test.
                let _ = answer(&mut StreamOwned::new(tls, tcp), &path, framing);
            }
        });
        Some(Self {
            folder,
            address,
            paths,
        })
    }

    fn doors(&self) -> Doors {
        let roots = read_certificates(&self.paths.ca).unwrap();
        let endpoint = Endpoint::new(self.address, "localhost", &roots).unwrap();
        Doors {
            est: endpoint.clone(),
            mqtt: endpoint,
        }
    }
}

fn server_config(paths: &CertificatePaths, factory: &Factory) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut clients = RootCertStore::empty();
    let mut trust = read_certificates(&paths.ca).unwrap();
    trust.push(factory.certificate().to_vec());
    for ca in trust {
        clients.add(CertificateDer::from(ca)).unwrap();
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(clients.into(), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let chain = read_certificates(&paths.server.0).unwrap();
    let key = PrivateKeyDer::from_pem_file(&paths.server.1).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key)
        .unwrap();
    Arc::new(config)
}

fn answer(
    stream: &mut StreamOwned<ServerConnection, std::net::TcpStream>,
    folder: &Path,
    framing: Framing,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let (head, body_at, length) = loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.trim().parse().unwrap());
            break (text[..end].to_owned(), end + 4, length);
        }
        if read == 0 {
            return Ok(());
        }
    };
    while request.len() < body_at + length {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
    }
    let known = stream.conn.peer_certificates().is_some();
    let path = head.split(' ').nth(1).unwrap();
    let response = match path {
        "/.well-known/est/cacerts" => Ok(certs_only(&folder.join("ca.pem"))),
        "/.well-known/est/simpleenroll" | "/.well-known/est/simplereenroll" if known => {
            let body = &request[body_at..body_at + length];
            // The room's ear for what our devices say.
            let der = identity::est::decode_body(Some("application/pkcs10"), body)
                .unwrap()
                .der;
            identity::CertificateRequest::parse(&der).unwrap();
            let certificate = issue(folder, body, path.ends_with("simplereenroll"));
            Ok(match framing {
                Framing::Chunked => certs_only(&certificate),
                // And our devices' ear for what the room says.
                Framing::Length => {
                    let chain = read_certificates(&certificate).unwrap();
                    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
                    identity::est::encode_body(&identity::est::certs_only(&chain).unwrap())
                }
            })
        }
        _ if known => Err("404 Not Found"),
        _ => Err("403 Forbidden"),
    };
    let (status, media_type, body) = match response {
        Ok(body) => (
            "200 OK",
            "application/pkcs7-mime; smime-type=certs-only",
            body,
        ),
        Err(status) => (status, "text/plain", "ask the operator\x07".to_owned()),
    };
    let framed = match framing {
        Framing::Length => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        Framing::Chunked => {
            let (a, b) = body.split_at(body.len() / 2);
            format!(
                "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:X};x=1\r\n{b}\r\n0\r\n\r\n",
                a.len(),
                b.len()
            )
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nRetry-After: 9\r\n{framed}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// openssl signs the subject asked for; gives the certificate's file. A first one gets its name in
/// a URI; a renewal keeps the names it asks for.
fn issue(folder: &Path, base64_request: &[u8], renewal: bool) -> PathBuf {
    let extensions = folder.join("extensions");
    let names = if renewal { "" } else { NAMES };
    std::fs::write(&extensions, format!("extendedKeyUsage=clientAuth\n{names}")).unwrap();
    let request = folder.join("request.der");
    let certificate = folder.join("issued.pem");
    openssl(
        &["base64", "-d", "-A", "-out", request.to_str().unwrap()],
        base64_request,
    );
    let (ca, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    openssl(
        &[
            "x509",
            "-req",
            "-inform",
            "DER",
            "-days",
            "2",
            "-copy_extensions",
            "copy",
            "-in",
            request.to_str().unwrap(),
            "-CA",
            ca.to_str().unwrap(),
            "-CAkey",
            key.to_str().unwrap(),
            "-extfile",
            extensions.to_str().unwrap(),
            "-out",
            certificate.to_str().unwrap(),
        ],
        b"",
    );
    certificate
}

fn certs_only(certificates: &Path) -> String {
    let cms = openssl(
        &[
            "crl2pkcs7",
            "-nocrl",
            "-outform",
            "DER",
            "-certfile",
            certificates.to_str().unwrap(),
        ],
        b"",
    );
    // In lines of 64, as many servers send it.
    String::from_utf8(openssl(&["base64"], &cms)).unwrap()
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn device(factory: &Factory) -> Device {
    let serial = model::SerialNumber::new("SN-1").unwrap();
    let idevid = factory.idevid(&serial, Flaw::None, sim::now()).unwrap();
    Device::new(model::DeviceId::new("cam-1").unwrap(), serial, idevid)
}

#[test]
fn a_device_enrolls_and_renews_at_an_openssl_ca() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    for framing in [Framing::Length, Framing::Chunked] {
        let Some(server) = Server::start(&factory, framing) else {
            return;
        };
        let (doors, manner) = (server.doors(), Manner::default());
        let mut device = device(&factory);
        device.enroll(&doors, &manner).unwrap();
        let first = device.ldevid().unwrap().clone();
        device.reenroll(&doors, &manner, false).unwrap();
        let renewed = device.ldevid().unwrap().clone();
        assert_eq!(first.key().public_point(), renewed.key().public_point());
        assert_ne!(first.certificate(), renewed.certificate());
        device.reenroll(&doors, &manner, true).unwrap();
        let rekeyed = device.ldevid().unwrap();
        assert_ne!(first.key().public_point(), rekeyed.key().public_point());

        // The names that the CA chose came back in both renewals.
        for credential in [&first, &renewed, rekeyed] {
            let text = credential.certificate().escape_ascii().to_string();
            assert!(text.contains("urn:example:cam-1"), "{text}");
        }

        // What was got survives a trip through files.
        rekeyed.write(server.folder.path(), "cam-1").unwrap();
        let back = sim::Credential::read(server.folder.path(), "cam-1").unwrap();
        assert_eq!(back.chain(), rekeyed.chain());
        assert_eq!(back.key().pkcs8(), rekeyed.key().pkcs8());
    }
}

#[test]
fn anybody_may_ask_for_the_ca_certificates_and_nothing_else() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(server) = Server::start(&factory, Framing::Chunked) else {
        return;
    };
    let doors = server.doors();
    let client = Client::new(&doors.est, None, &Options::default()).unwrap();
    let expected = read_certificates(&server.paths.ca).unwrap();
    assert_eq!(est::cacerts(&client, PATIENCE), Ok(expected));
    let refused = device(&factory).ask_enroll(&doors, &Manner::default(), Shown::Nothing);
    assert_eq!(
        refused.unwrap_err(),
        Refusal::Http {
            status: 403,
            body: "ask the operator\\u{7}".to_owned(),
            retry_after: Some("9".to_owned()),
        }
    );
}

#[test]
fn a_stranger_learns_the_alert_on_the_first_read() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(server) = Server::start(&factory, Framing::Length) else {
        return;
    };
    let serial = model::SerialNumber::new("SN-1").unwrap();
    let idevid = factory.idevid(&serial, Flaw::Expired, sim::now()).unwrap();
    let mut late = Device::new(model::DeviceId::new("cam-1").unwrap(), serial, idevid);
    let refusal = late
        .enroll(&server.doors(), &Manner::default())
        .unwrap_err();
    assert_eq!(refusal, Refusal::Alert("certificate_expired"));
    assert!(late.ldevid().is_none());
}
