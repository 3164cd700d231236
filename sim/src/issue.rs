//! `sim issue`: certificates asked for over an HTTP API, so many at a time, of ours or of another CA:
//! how many came, and how long each took.

use crate::credential::{Key, certificate_request, pem};
use crate::http::{Response, parse};
use crate::load::{Histogram, Mark};
use crate::refusal::{Refusal, SetupError};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Who issues.
#[derive(Debug, Clone)]
pub enum Issuer {
    /// A plane by its local socket, for a service of its fleet.
    Plane { socket: PathBuf, service: String },
    /// `cfssl serve`: its signing endpoint.
    Cfssl { address: SocketAddr },
}

/// A run.
#[derive(Debug, Clone)]
pub struct Issuing {
    pub issuer: Issuer,
    /// Requests under way at a time, each on a connection of its own.
    pub in_flight: usize,
    pub warmup: Duration,
    /// What is measured, after the warm-up.
    pub measured: Duration,
}

/// How it went, while measuring.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub issued: u64,
    pub latency_p50_us: Option<f64>,
    pub latency_p99_us: Option<f64>,
    /// The first refusal, if there was any: then nobody asks any more.
    pub refusal: Option<String>,
}

/// The longest wait for one certificate.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks, and reports. `observe` is called when measuring begins and ends.
///
/// # Errors
/// If no key can be made here. What the server refuses is in the report.
pub fn issue(wanted: &Issuing, observe: &mut dyn FnMut(Mark)) -> Result<Report, SetupError> {
    // One key serves all requests: that the CA checks it each time is what costs, and whose it is
    // makes no difference to either.
    let key = Key::generate()?;
    let request = certificate_request(&key, &crate::authority::name("bench", None), None)?;
    let request = wanted.issuer.request(&pem("CERTIFICATE REQUEST", &request));
    let begins = Instant::now() + wanted.warmup;
    let ends = begins + wanted.measured;
    let issued = AtomicU64::new(0);
    let (latencies, refusal) = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..wanted.in_flight)
            .map(|_| scope.spawn(|| ask(&wanted.issuer, &request, begins, ends, &issued)))
            .collect();
        for (at, mark) in [(begins, Mark::MeasuringBegins), (ends, Mark::MeasuringEnds)] {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            observe(mark);
        }
        let mut latencies = Histogram::default();
        let mut refusal = None;
        for asker in askers {
            match asker.join() {
                Ok((own, outcome)) => {
                    latencies.add(&own);
                    refusal = refusal.or_else(|| outcome.err().map(|error| error.to_string()));
                }
                Err(_) => refusal = Some("an asker ended by a fault of ours".to_owned()),
            }
        }
        (latencies, refusal)
    });
    Ok(Report {
        issued: issued.into_inner(),
        latency_p50_us: latencies.quantile_micros(0.5),
        latency_p99_us: latencies.quantile_micros(0.99),
        refusal,
    })
}

/// One after the other until `ends`; counted are those that came while measuring.
fn ask(
    issuer: &Issuer,
    request: &[u8],
    begins: Instant,
    ends: Instant,
    issued: &AtomicU64,
) -> (Histogram, Result<(), Refusal>) {
    let mut latencies = Histogram::default();
    let mut connection = None;
    while Instant::now() < ends {
        let asked_at = Instant::now();
        let answered = (|| {
            let mut open = match connection.take() {
                Some(open) => open,
                None => issuer.connect()?,
            };
            let response = exchange(&mut *open, request)?;
            issuer.check(&response)?;
            let is_kept = response
                .header("connection")
                .is_none_or(|value| !value.eq_ignore_ascii_case("close"));
            connection = is_kept.then_some(open);
            Ok(())
        })();
        if let Err(refusal) = answered {
            return (latencies, Err(refusal));
        }
        let now = Instant::now();
        if (begins..ends).contains(&now) {
            issued.fetch_add(1, Ordering::Relaxed);
            latencies.record(now - asked_at);
        }
    }
    (latencies, Ok(()))
}

trait Stream: Read + Write + Send {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

impl Issuer {
    fn connect(&self) -> Result<Box<dyn Stream>, Refusal> {
        let unreachable = |error: std::io::Error| Refusal::Unreachable(error.kind());
        match self {
            Self::Plane { socket, .. } => {
                let stream = UnixStream::connect(socket).map_err(unreachable)?;
                stream
                    .set_read_timeout(Some(PATIENCE))
                    .map_err(unreachable)?;
                Ok(Box::new(stream))
            }
            Self::Cfssl { address } => {
                let stream = TcpStream::connect(address).map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                stream
                    .set_read_timeout(Some(PATIENCE))
                    .map_err(unreachable)?;
                Ok(Box::new(stream))
            }
        }
    }

    fn request(&self, csr_pem: &str) -> Vec<u8> {
        let (path, body) = match self {
            Self::Plane { service, .. } => (
                format!("/api/v1/identity/services/{service}/certificates"),
                serde_json::json!({ "csr_pem": csr_pem }),
            ),
            Self::Cfssl { .. } => (
                "/api/v1/cfssl/sign".to_owned(),
                serde_json::json!({ "certificate_request": csr_pem, "hosts": [] }),
            ),
        };
        let body = body.to_string();
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// That a certificate came.
    fn check(&self, response: &Response) -> Result<(), Refusal> {
        let holds = String::from_utf8_lossy(&response.body).contains("BEGIN CERTIFICATE");
        if (200..300).contains(&response.status) && holds {
            Ok(())
        } else {
            Err(response.refusal())
        }
    }
}

fn exchange(stream: &mut dyn Stream, request: &[u8]) -> Result<Response, Refusal> {
    stream.write_all(request).map_err(|_| Refusal::Cut)?;
    let mut received = Vec::new();
    let mut buffer = [0; 8 * 1024];
    loop {
        let count = stream.read(&mut buffer).map_err(|_| Refusal::Timeout)?;
        received.extend_from_slice(buffer.get(..count).unwrap_or_default());
        match parse(&received, count == 0)? {
            Some(response) => return Ok(response),
            None if count == 0 => return Err(Refusal::Closed),
            None => {}
        }
    }
}
