//! HTTP/1.1 with the plane over its Unix socket, blocking, one request a connection.

use anyhow::{Context, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A bundle is the largest answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(120);

/// The plane on this machine.
pub struct Local {
    socket: PathBuf,
}

impl Local {
    pub fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.get_text(path)?)?)
    }

    pub fn get_text(&self, path: &str) -> anyhow::Result<String> {
        self.exchange("GET", path, None)
    }

    pub fn send(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send_text(method, path, "application/json", &body.to_string())
    }

    pub fn send_text(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &str,
    ) -> anyhow::Result<Value> {
        let answer = self.exchange(method, path, Some((kind, body)))?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&answer)?)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &str)>,
    ) -> anyhow::Result<String> {
        let mut stream = UnixStream::connect(&self.socket).with_context(|| {
            format!(
                "no plane answers at {}; start it with fleetward serve",
                self.socket.display()
            )
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n");
        let text = body.map_or("", |(kind, text)| {
            head.push_str(&format!(
                "Content-Type: {kind}\r\nContent-Length: {}\r\n",
                text.len()
            ));
            text
        });
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(text.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        let answer = String::from_utf8(answer).context("the answer is not text")?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer broke off")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("{method} {path}: {status} {body}");
        }
        Ok(body.to_owned())
    }
}
