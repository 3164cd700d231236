//! As much HTTP/1.1 (RFC 9112) as an EST client on a small device has: one request, one answer,
//! one connection.

use crate::refusal::Refusal;
use crate::tls::Client;
use std::time::{Duration, Instant};

/// Caps on what a server may send.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const HEADERS_MAX: usize = 64;
const INTERIM_MAX: u8 = 8;

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in small letters.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The first header of this name, which is given in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// The answer as a refusal, its body fit for a terminal.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::Http {
            status: self.status,
            body: String::from_utf8_lossy(&self.body)
                .chars()
                .take(1024)
                .flat_map(|c| {
                    let escaped = c.is_control().then(|| c.escape_default());
                    let plain = (!c.is_control()).then_some(c);
                    escaped.into_iter().flatten().chain(plain)
                })
                .collect(),
            retry_after: self.header("retry-after").map(str::to_owned),
        }
    }
}

/// Opens a connection, asks, reads the whole answer, closes. `body`: media type and content.
pub(crate) fn exchange(
    client: &Client,
    method: &str,
    path: &str,
    body: Option<(&str, &[u8])>,
    patience: Duration,
) -> Result<Response, Refusal> {
    let deadline = Instant::now() + patience;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        client.endpoint().authority()
    );
    if let Some((media_type, content)) = body {
        request.push_str(&format!(
            "Content-Type: {media_type}\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Length: {}\r\n",
            content.len()
        ));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body.map_or(&[], |(_, content)| content));

    let mut transport = client.connect(patience)?;
    transport.write(&request, deadline)?;
    let mut received = Vec::new();
    loop {
        let ended = match transport.read(&mut received, deadline) {
            Ok(()) => false,
            // A server that closes without TLS' goodbye cannot be told from one that was cut
            // off, so the answer must be complete by its own account.
            Err(Refusal::Closed) => true,
            Err(refusal) => return Err(refusal),
        };
        if let Some(response) = parse(&received, ended)? {
            transport.close();
            return Ok(response);
        }
        if ended {
            return Err(Refusal::Closed);
        }
    }
}

/// Reads the final answer out of `received`. `Ok(None)`: more is needed. `ended`: nothing more
/// will come, which ends a body without a length.
pub(crate) fn parse(received: &[u8], ended: bool) -> Result<Option<Response>, Refusal> {
    parse_after(0, received, ended)
}

/// `interim`: how many answers of the 100 class came before.
fn parse_after(interim: u8, received: &[u8], ended: bool) -> Result<Option<Response>, Refusal> {
    if interim > INTERIM_MAX {
        return Err(protocol("more than 8 interim answers"));
    }
    let Some(head_bytes) = find(received, b"\r\n\r\n") else {
        return if received.len() > HEAD_BYTES_MAX {
            Err(protocol("a head of more than 16 KiB"))
        } else {
            Ok(None)
        };
    };
    if head_bytes > HEAD_BYTES_MAX {
        return Err(protocol("a head of more than 16 KiB"));
    }
    let (head, rest) = received.split_at_checked(head_bytes).unwrap_or_default();
    let after = rest.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| protocol("a head that is not text"))?;
    let mut lines = head.split("\r\n");
    let status = parse_status(lines.next().unwrap_or_default())?;
    let mut headers = Vec::new();
    for line in lines {
        if headers.len() == HEADERS_MAX {
            return Err(protocol("more than 64 headers"));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| protocol("a header without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if (100..200).contains(&status) {
        return parse_after(interim + 1, after, ended);
    }
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let body = if status == 204 || status == 304 {
        Some(Vec::new())
    } else if let Some(coding) = response.header("transfer-encoding") {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(protocol("an unknown transfer coding"));
        }
        if response.header("content-length").is_some() {
            return Err(protocol("two accounts of the body's length"));
        }
        parse_chunks(after)?
    } else if let Some(length) = response.header("content-length") {
        let length: usize = length
            .parse()
            .map_err(|_| protocol("a length that is not a number"))?;
        if length > BODY_BYTES_MAX {
            return Err(protocol("a body of more than 1 MiB"));
        }
        after.get(..length).map(<[u8]>::to_vec)
    } else if after.len() > BODY_BYTES_MAX {
        return Err(protocol("a body of more than 1 MiB"));
    } else {
        ended.then(|| after.to_vec())
    };
    Ok(body.map(|body| {
        response.body = body;
        response
    }))
}

/// `HTTP/1.1 200 OK`
fn parse_status(line: &str) -> Result<u16, Refusal> {
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    if !version.starts_with("HTTP/1.") {
        return Err(protocol("an answer that is not HTTP/1"));
    }
    words
        .next()
        .filter(|status| status.len() == 3)
        .and_then(|status| status.parse().ok())
        .filter(|status| (100..600).contains(status))
        .ok_or_else(|| protocol("no status"))
}

/// A chunked body (RFC 9112 section 7.1); trailers are skipped. `None`: more is needed.
fn parse_chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    const LINE_BYTES_MAX: usize = 1024;
    let mut body = Vec::new();
    loop {
        let Some(line_bytes) = find(rest, b"\r\n") else {
            return if rest.len() > LINE_BYTES_MAX {
                Err(protocol("an endless chunk head"))
            } else {
                Ok(None)
            };
        };
        let (line, after) = rest.split_at_checked(line_bytes).unwrap_or_default();
        let after = after.get(2..).unwrap_or_default();
        let size = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.split(';').next())
            .map(str::trim)
            .filter(|size| size.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|size| usize::from_str_radix(size, 16).ok())
            .ok_or_else(|| protocol("a chunk without a size"))?;
        if size == 0 {
            return trailers_end(after).map(|ended| ended.then_some(body));
        }
        if size.saturating_add(body.len()) > BODY_BYTES_MAX {
            return Err(protocol("a body of more than 1 MiB"));
        }
        let Some((chunk, after)) = after.split_at_checked(size) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = match after.split_at_checked(2) {
            None => return Ok(None),
            Some((b"\r\n", rest)) => rest,
            Some(_) => return Err(protocol("a chunk longer than it says")),
        };
    }
}

/// Whether the empty line after the last chunk's trailers has come.
fn trailers_end(rest: &[u8]) -> Result<bool, Refusal> {
    if rest.len() > HEAD_BYTES_MAX {
        return Err(protocol("trailers of more than 16 KiB"));
    }
    Ok(rest.starts_with(b"\r\n") || find(rest, b"\r\n\r\n").is_some())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn protocol(what: &str) -> Refusal {
    Refusal::Protocol(format!("HTTP: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &[u8]) -> Response {
        parse(text, false).unwrap().unwrap()
    }

    #[test]
    fn an_answer_with_a_length() {
        let response = whole(
            b"HTTP/1.1 403 Forbidden\r\nRetry-After: 7\r\nContent-LENGTH: 5\r\n\r\nno\x1b[m!",
        );
        assert_eq!(response.status, 403);
        assert_eq!(
            response.refusal(),
            Refusal::Http {
                status: 403,
                body: "no\\u{1b}[m".to_owned(),
                retry_after: Some("7".to_owned()),
            }
        );
    }

    #[test]
    fn an_interim_answer_is_skipped() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(whole(text).status, 204);
        assert_eq!(parse(b"HTTP/1.1 100 Continue\r\n\r\n", false), Ok(None));
    }

    #[test]
    fn a_chunked_answer_with_extension_and_trailer() {
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
                     3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        assert_eq!(whole(text).body, b"abc0123456789");
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end], false), Ok(None), "cut at {end}");
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let text = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(parse(text, false), Ok(None));
        assert_eq!(parse(text, true).unwrap().unwrap().body, b"abc");
    }

    #[test]
    fn a_hostile_answer_is_refused_before_it_is_kept() {
        let refused: [&[u8]; 11] = [
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 99 x\r\n\r\n",
            b"HTTP/1.1 20 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n",
        ];
        for text in refused {
            assert!(parse(text, false).is_err(), "{}", text.escape_ascii());
        }
        assert!(parse(&[b'x'; HEAD_BYTES_MAX + 1], false).is_err());
        assert!(parse(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(9), false).is_err());
    }

    proptest! {
        #[test]
        fn mutated_answers_neither_panic_nor_exceed_the_caps(
            flips in prop::collection::vec((0usize..120, any::<u8>()), 0..6), ended: bool,
        ) {
            let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n\
                             5\r\nabcde\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n".to_vec();
            for (at, value) in flips {
                if let Some(byte) = text.get_mut(at) { *byte = value; }
            }
            if let Ok(Some(response)) = parse(&text, ended) {
                prop_assert!(response.body.len() <= text.len());
            }
        }
    }
}
