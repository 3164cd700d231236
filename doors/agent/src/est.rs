//! Enrollment over Secure Transport, the device's side (RFC 7030 with the corrections of RFC
//! 8951), and the plane's word on roots: as much HTTP/1.1 as that needs, one request, one answer,
//! one connection.

use crate::clock::{Clock, http_date};
use crate::config::Address;
use crate::failure::Failure;
use crate::life::By;
use crate::tls::{Transport, Trust};
use crate::waiting::Waiting;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::ObjectIdentifier;
use der::{Decode, Reader, SliceReader, Tag, TagNumber};
use model::{Digest, Timestamp};
use rustls::sign::CertifiedKey;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Head and body of an answer together.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of an answer to a request, and of all the plane's CAs.
const CERTIFICATES_MAX: usize = 8;
const CACERTS_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest wait that a server may ask for, in seconds.
const RETRY_SECONDS_MAX: u64 = 86_400;
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// The EST door, and all that a conversation with it needs.
pub struct Est<'a> {
    pub door: &'a Address,
    pub trust: &'a Trust,
    pub waiting: &'a Waiting,
}

impl Est<'_> {
    /// GET `cacerts`: the plane's CAs in DER. What of them is believed is decided elsewhere. The
    /// answer tells the time as well.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn cacerts(&self, clock: &mut Clock) -> Result<Vec<Vec<u8>>, Failure> {
        let answer = self.exchange("GET", "/.well-known/est/cacerts", None, None, clock)?;
        certificates(&answer, CACERTS_MAX)
    }

    /// POST `simpleenroll` or `simplereenroll`, at a place of its own for a certificate that has
    /// ended: certificates in DER, ours among them.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::Pending`] if a person must decide first.
    pub fn enroll(
        &self,
        shown: &Arc<CertifiedKey>,
        request: &[u8],
        by: By,
        clock: &mut Clock,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let operation = match by {
            By::Idevid => "simpleenroll",
            By::Present => "simplereenroll",
            By::Ended => "returning/simplereenroll",
        };
        let head =
            "Content-Type: application/pkcs10\r\nContent-Transfer-Encoding: base64\r\n".to_owned();
        let body = (head, STANDARD.encode(request));
        let path = format!("/.well-known/est/{operation}");
        let answer = self.exchange("POST", &path, Some(shown), Some(body), clock)?;
        certificates(&answer, CERTIFICATES_MAX)
    }

    /// Tells the plane which roots this device believes.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn tell_roots(
        &self,
        shown: &Arc<CertifiedKey>,
        roots: &BTreeSet<Digest>,
        clock: &mut Clock,
    ) -> Result<(), Failure> {
        let roots: Vec<String> = roots.iter().map(Digest::to_string).collect();
        let head = "Content-Type: application/json\r\n".to_owned();
        let body = (head, serde_json::json!({ "sha256": roots }).to_string());
        let path = "/api/v1/identity/roots/learned";
        self.exchange("PUT", path, Some(shown), Some(body), clock)
            .map(drop)
    }

    /// What the plane lets this device send to whom, as JSON.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn own_rules(
        &self,
        shown: &Arc<CertifiedKey>,
        clock: &mut Clock,
    ) -> Result<Vec<u8>, Failure> {
        let path = "/api/v1/access/own-rules";
        self.exchange("GET", path, Some(shown), None, clock)
            .map(|answer| answer.body)
    }

    /// `body` is its headers but the length, and itself.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        shown: Option<&Arc<CertifiedKey>>,
        body: Option<(String, String)>,
        clock: &mut Clock,
    ) -> Result<Answer, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n",
            self.door.host, self.door.port
        );
        match body {
            Some((head, body)) => {
                let length = body.len();
                text.push_str(&format!("{head}Content-Length: {length}\r\n\r\n{body}"));
            }
            None => text.push_str("\r\n"),
        }
        let mut transport = Transport::open(
            self.door,
            shown,
            b"http/1.1",
            self.trust,
            clock,
            self.waiting,
            deadline,
        )?;
        transport.write(text.as_bytes())?;
        let mut received = Vec::new();
        let answer = loop {
            let turn = transport.turn(&mut received);
            if received.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Protocol("an answer of more than 64 KiB"));
            }
            if let Some(answer) = parse(&received)? {
                break answer;
            }
            turn?;
            self.waiting.for_one(
                std::os::fd::AsFd::as_fd(&transport),
                transport.interest(),
                deadline,
            )?;
        };
        if let (Some(date), Some((_, until))) = (answer.date, transport.plane_validity()) {
            // Never beyond its own certificate: one wrong date must not shut the plane out.
            clock.hear(date.min(until));
        }
        transport.close();
        if answer.status == 202 {
            return Err(Failure::Pending(answer.retry_seconds.unwrap_or(60)));
        }
        if !matches!(answer.status, 200 | 204) {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(Failure::Http(answer.status, text));
        }
        Ok(answer)
    }
}

/// An answer, whole.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    date: Option<Timestamp>,
    retry_seconds: Option<u64>,
    media_type: String,
    body: Vec<u8>,
}

/// Reads the final answer out of `received`; `None`: more is needed. A body without a length is
/// refused, as its end could not be told from a cut.
fn parse(mut received: &[u8]) -> Result<Option<Answer>, Failure> {
    /// Answers of the 100 class that may come before.
    const INTERIM_MAX: usize = 4;
    for _ in 0..=INTERIM_MAX {
        let Some(end) = find(received, b"\r\n\r\n") else {
            return Ok(None);
        };
        let (head, rest) = received.split_at_checked(end).unwrap_or_default();
        let after = rest.get(4..).unwrap_or_default();
        let head =
            std::str::from_utf8(head).map_err(|_| Failure::Protocol("a head that is not text"))?;
        let mut lines = head.split("\r\n");
        let status = status(lines.next().unwrap_or_default())?;
        if (100..200).contains(&status) {
            received = after;
            continue;
        }
        return finish(status, lines, after);
    }
    Err(Failure::Protocol("interim answers without end"))
}

fn finish<'a>(
    status: u16,
    lines: impl Iterator<Item = &'a str>,
    after: &[u8],
) -> Result<Option<Answer>, Failure> {
    const HEADERS_MAX: usize = 64;
    let mut answer = Answer {
        status,
        date: None,
        retry_seconds: None,
        media_type: String::new(),
        body: Vec::new(),
    };
    let (mut length, mut chunked) = (None, false);
    for (count, line) in lines.enumerate() {
        if count == HEADERS_MAX {
            return Err(Failure::Protocol("more than 64 headers"));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or(Failure::Protocol("a header without a colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let bytes = value.bytes().all(|byte| byte.is_ascii_digit());
                let bytes = bytes.then(|| value.parse::<usize>().ok()).flatten();
                let bytes = bytes.filter(|bytes| *bytes <= ANSWER_BYTES_MAX);
                let bytes = bytes.ok_or(Failure::Protocol("a length that is none or too large"))?;
                if length.replace(bytes).is_some_and(|before| before != bytes) {
                    return Err(Failure::Protocol("two lengths"));
                }
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => chunked = true,
            "transfer-encoding" => return Err(Failure::Protocol("an unknown transfer coding")),
            "content-type" => answer.media_type = value.to_ascii_lowercase(),
            "date" => answer.date = http_date(value),
            "retry-after" => {
                let seconds = value.parse().ok();
                answer.retry_seconds = seconds.map(|s: u64| s.min(RETRY_SECONDS_MAX));
            }
            _ => {}
        }
    }
    let body = match (length, chunked) {
        (Some(_), true) => return Err(Failure::Protocol("two accounts of the body's length")),
        _ if status == 204 => Some(Vec::new()),
        (Some(length), false) => after.get(..length).map(<[u8]>::to_vec),
        (None, true) => chunks(after)?,
        (None, false) => return Err(Failure::Protocol("a body without a length")),
    };
    Ok(body.map(|body| Answer { body, ..answer }))
}

/// `HTTP/1.1 200 OK`
fn status(line: &str) -> Result<u16, Failure> {
    line.strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .filter(|status| status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|status| status.parse().ok())
        .filter(|status| (100..600).contains(status))
        .ok_or(Failure::Protocol("an answer that is not HTTP/1"))
}

/// A chunked body (RFC 9112 section 7.1); trailers are not waited for.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let (line, after) = rest.split_at_checked(end).unwrap_or_default();
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .map(str::trim)
            .filter(|size| !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|size| usize::from_str_radix(size, 16).ok())
            .filter(|size| *size <= ANSWER_BYTES_MAX)
            .ok_or(Failure::Protocol("a chunk without a size"))?;
        if size == 0 {
            return Ok(Some(body));
        }
        let Some((chunk, after)) = after
            .get(2..)
            .and_then(|after| after.split_at_checked(size))
        else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = match after.split_at_checked(2) {
            None => return Ok(None),
            Some((b"\r\n", rest)) => rest,
            Some(_) => return Err(Failure::Protocol("a chunk longer than it says")),
        };
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// The certificates of a certs-only answer (RFC 7030 section 4.1.3).
fn certificates(answer: &Answer, most: usize) -> Result<Vec<Vec<u8>>, Failure> {
    const WRONG: Failure = Failure::Protocol("not a certs-only CMS message");
    if !answer.media_type.starts_with("application/pkcs7-mime") {
        return Err(Failure::Protocol("not application/pkcs7-mime"));
    }
    let text: Vec<u8> = answer
        .body
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let cms = STANDARD.decode(text).map_err(|_| WRONG)?;
    certs_only(&cms)
        .ok()
        .filter(|found| (1..=most).contains(&found.len()))
        .ok_or(WRONG)
}

/// A degenerate SignedData (RFC 5652 section 5.1): the certificates in their order.
fn certs_only(cms: &[u8]) -> der::Result<Vec<Vec<u8>>> {
    const EXPLICIT: Tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(0),
    };
    let inside = |bytes: &[u8], tag: Tag| -> der::Result<Vec<u8>> {
        let any = der::asn1::AnyRef::from_der(bytes)?;
        der::Tagged::tag(&any).assert_eq(tag)?;
        Ok(any.value().to_vec())
    };
    let content_info = inside(cms, Tag::Sequence)?;
    let mut reader = SliceReader::new(&content_info)?;
    if ObjectIdentifier::decode(&mut reader)? != SIGNED_DATA {
        return Err(Tag::ObjectIdentifier.value_error().into());
    }
    let signed_data = inside(&inside(reader.tlv_bytes()?, EXPLICIT)?, Tag::Sequence)?;
    let mut reader = SliceReader::new(&signed_data)?;
    // Version, digest algorithms, encapsulated content.
    for _ in 0..3 {
        reader.tlv_bytes()?;
    }
    let list = inside(reader.tlv_bytes()?, EXPLICIT)?;
    let mut reader = SliceReader::new(&list)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes()?.to_vec());
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
