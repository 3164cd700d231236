//! Enrollment over Secure Transport, the client's side (RFC 7030 with the corrections of
//! RFC 8951).

use crate::authority::{name, subject_of};
use crate::credential::{Credential, Key, certificate_request};
use crate::der::{Reader, oid, tag};
use crate::http::{Response, exchange};
use crate::refusal::Refusal;
use crate::tls::Client;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

const BASE: &str = "/.well-known/est";

/// GET `cacerts`: the server's CA certificates, DER. Needs no client certificate.
///
/// # Errors
/// Any [`Refusal`].
pub fn cacerts(client: &Client, patience: Duration) -> Result<Vec<Vec<u8>>, Refusal> {
    let response = exchange(client, "GET", &format!("{BASE}/cacerts"), None, patience)?;
    certificates(&response)
}

/// POST `simpleenroll`: makes a key and asks for its first certificate. `client` shows the
/// IDevID; the subject asked for is `CN=<common_name>, serialNumber=<serial_number>`.
///
/// # Errors
/// Any [`Refusal`].
pub fn simpleenroll(
    client: &Client,
    common_name: &str,
    serial_number: &str,
    patience: Duration,
) -> Result<Credential, Refusal> {
    let key = Key::generate()?;
    let request = certificate_request(&key, &name(common_name, Some(serial_number)), None)?;
    submit(client, "simpleenroll", &request, key, patience)
}

/// POST `simplereenroll`: asks for a new certificate with the subject and alternative names of
/// `current` (RFC 7030 section 4.2.2), for a new key (`rekey`) or the same. `client` shows
/// `current`, or whatever the caller wants to see refused.
///
/// # Errors
/// Any [`Refusal`].
pub fn simplereenroll(
    client: &Client,
    current: &Credential,
    rekey: bool,
    patience: Duration,
) -> Result<Credential, Refusal> {
    reenroll_at(client, "simplereenroll", current, rekey, patience)
}

/// As [`simplereenroll`], at the place for certificates that have ended.
///
/// # Errors
/// Any [`Refusal`].
pub fn return_after_end(
    client: &Client,
    current: &Credential,
    patience: Duration,
) -> Result<Credential, Refusal> {
    reenroll_at(client, "returning/simplereenroll", current, true, patience)
}

fn reenroll_at(
    client: &Client,
    operation: &str,
    current: &Credential,
    rekey: bool,
    patience: Duration,
) -> Result<Credential, Refusal> {
    let (subject, alternative_names) = subject_of(current.certificate())
        .ok_or_else(|| Refusal::Setup("the current certificate cannot be read".to_owned()))?;
    let key = if rekey {
        Key::generate()?
    } else {
        current.key().clone()
    };
    let request = certificate_request(&key, subject, alternative_names)?;
    submit(client, operation, &request, key, patience)
}

/// POST of any bytes as if they were a request, to either operation: for hostile ones. Gives
/// the certificates of the answer.
///
/// # Errors
/// Any [`Refusal`].
pub fn post(
    client: &Client,
    operation: &str,
    media_type: &str,
    body: &[u8],
    patience: Duration,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let path = format!("{BASE}/{operation}");
    let response = exchange(client, "POST", &path, Some((media_type, body)), patience)?;
    certificates(&response)
}

fn submit(
    client: &Client,
    operation: &str,
    request: &[u8],
    key: Key,
    patience: Duration,
) -> Result<Credential, Refusal> {
    let body = STANDARD.encode(request);
    let mut chain = post(
        client,
        operation,
        "application/pkcs10",
        body.as_bytes(),
        patience,
    )?;
    // The one for our key comes first, whatever the server's order.
    let ours = chain
        .iter()
        .position(|der| {
            let point = key.public_point();
            der.windows(point.len()).any(|window| window == point)
        })
        .ok_or_else(|| Refusal::Protocol("EST: no certificate for our key".to_owned()))?;
    chain.swap(0, ours);
    Ok(Credential::new(chain, key)?)
}

/// The certificates of a certs-only answer (RFC 7030 section 4.1.3).
fn certificates(response: &Response) -> Result<Vec<Vec<u8>>, Refusal> {
    if response.status != 200 {
        return Err(response.refusal());
    }
    let media_type = response.header("content-type").unwrap_or_default();
    if !media_type
        .to_ascii_lowercase()
        .starts_with("application/pkcs7-mime")
    {
        return Err(Refusal::Protocol("EST: not application/pkcs7-mime".into()));
    }
    let text: Vec<u8> = response
        .body
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    STANDARD
        .decode(text)
        .ok()
        .and_then(|cms| certs_only(&cms))
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| Refusal::Protocol("EST: not a certs-only CMS message".to_owned()))
}

/// Reads a degenerate SignedData (RFC 5652 section 5.1): the certificates in their order.
fn certs_only(cms: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut outer = Reader::new(cms);
    let mut content_info = Reader::new(outer.expect(tag::SEQUENCE)?.content);
    if !outer.is_empty() || content_info.next()?.whole != oid::SIGNED_DATA {
        return None;
    }
    let explicit = content_info.expect(tag::explicit(0))?.content;
    let mut signed_data = Reader::new(Reader::new(explicit).expect(tag::SEQUENCE)?.content);
    signed_data.expect(tag::INTEGER)?;
    signed_data.expect(tag::SET)?;
    signed_data.expect(tag::SEQUENCE)?;
    let mut list = Reader::new(signed_data.expect(tag::explicit(0))?.content);
    let mut certificates = Vec::new();
    while !list.is_empty() {
        certificates.push(list.expect(tag::SEQUENCE)?.whole.to_vec());
    }
    Some(certificates)
}
