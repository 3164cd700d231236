//! As much HTTP as the local socket needs: one request, one answer, one connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e} in the answer {} {}", self.status, self.text()))
    }

    /// The same answer if its status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Asks at a Unix socket.
///
/// # Errors
/// The plane is not there, or went away before its answer was whole.
pub fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<(&str, &[u8])>,
) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(super::plane::PATIENCE))?;
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: fleetward\r\nConnection: close\r\n");
    if let Some((media_type, content)) = body {
        request.push_str(&format!(
            "Content-Type: {media_type}\r\nContent-Length: {}\r\n",
            content.len()
        ));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    stream.write_all(body.map_or(&[], |(_, content)| content))?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    read(&received).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

pub fn read(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let body = received[end + 4..].to_vec();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    // An answer that was cut off is none.
    (length.is_none() || length == Some(body.len())).then_some(Answer { status, body })
}
