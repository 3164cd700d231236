//! What left the server, seen from outside: `tcpdump` on the loopback device, with the kernel's
//! clock. Nothing of the server's or the generator's own account is in it.

use anyhow::{Context, bail, ensure};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// Said to oneself when all was sent: what was captured before it is in the file when it is.
const MARK: &[u8] = b"the end of what is captured";
/// How long the mark may be on its way, on a full machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A capture that goes on; dropped, it ends and is lost.
pub struct Capture {
    child: Child,
    words: BufReader<ChildStderr>,
    file: PathBuf,
    mark: UdpSocket,
}

/// What was sent to each port of a client.
#[derive(Debug, Default)]
pub struct Sent(HashMap<u16, Vec<Segment>>);

/// Segments with content, and those that end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// Microseconds since 1970.
    at: u64,
    payload_bytes: usize,
    ends: bool,
}

/// The end of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// When the last PUBACK was sent, if any was; microseconds since 1970.
    pub last_accepted: Option<u64>,
    /// FIN or RST, the first of them.
    pub closed: u64,
}

impl Capture {
    /// Of what the server at `port` sends. Returns when it has begun.
    ///
    /// # Errors
    /// If it may not capture: that needs root.
    pub fn start(port: u16, folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("capture.pcap");
        let mark = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mark_port = mark.local_addr()?.port();
        let filter = format!(
            "(tcp and src port {port} and tcp[tcpflags] & (tcp-push|tcp-fin|tcp-rst) != 0) or \
             (udp and dst port {mark_port})"
        );
        let mut child = Command::new("env")
            .args(["PATH=/usr/bin:/usr/sbin", "tcpdump", "-Z", "root", "-n"])
            // Else what came in the last second is lost with the kernel's unfinished block.
            .arg("--immediate-mode")
            // Else nobody sees when the mark is in the file.
            .arg("--packet-buffered")
            .args(["-i", "lo", "-s", "96", "-B", "65536", "-w"])
            .arg(&file)
            .arg(&filter)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run tcpdump")?;
        let words = child.stderr.take().context("no pipe to tcpdump")?;
        let mut capture = Self {
            child,
            words: BufReader::new(words),
            file,
            mark,
        };
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            if capture.words.read_line(&mut line)? == 0 {
                bail!("tcpdump does not capture; it needs root");
            }
        }
        Ok(capture)
    }

    /// # Errors
    /// If the kernel could not keep all of it: then it proves nothing.
    pub fn end(mut self) -> anyhow::Result<Sent> {
        self.await_mark()?;
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status()?;
        ensure!(told.success(), "cannot end tcpdump");
        let mut words = String::new();
        self.words.read_to_string(&mut words)?;
        self.child.wait()?;
        ensure!(
            words
                .lines()
                .any(|line| line.starts_with("0 packets dropped by kernel")),
            "the capture is not whole: {}",
            words.replace('\n', "; ")
        );
        let sent = read(&std::fs::read(&self.file)?)?;
        std::fs::remove_file(&self.file)?;
        Ok(sent)
    }
}

impl Capture {
    /// Told to end, tcpdump looks at nothing that the kernel still has for it.
    fn await_mark(&self) -> anyhow::Result<()> {
        self.mark.send_to(MARK, self.mark.local_addr()?)?;
        let sent = Instant::now();
        while !std::fs::read(&self.file)?.ends_with(MARK) {
            ensure!(sent.elapsed() < PATIENCE, "tcpdump cannot follow");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Sent {
    /// `None`: the connection did not end.
    pub fn end_of(&self, port: u16) -> Option<End> {
        let segments = self.0.get(&port)?;
        let closed = segments.iter().find(|segment| segment.ends)?.at;
        let accepted = segments
            .iter()
            .filter(|one| is_acceptance(one.payload_bytes));
        Some(End {
            last_accepted: accepted.map(|one| one.at).max(),
            closed,
        })
    }
}

/// Whether it may be PUBACKs of success: four bytes each (MQTT 5 section 3.4), one record for all
/// of one write, with 22 bytes around them (RFC 8446 section 5.2: header 5, type 1, tag 16). A
/// DISCONNECT with its reason has another length, and so has an alert.
fn is_acceptance(payload_bytes: usize) -> bool {
    const PUBACK: usize = 4;
    const AROUND: usize = 22;
    const AT_ONCE: usize = 64;
    (1..=AT_ONCE).any(|count| payload_bytes == AROUND + count * PUBACK)
}

/// Reads a pcap file of Ethernet frames with IPv4, as the loopback device gives them.
fn read(file: &[u8]) -> anyhow::Result<Sent> {
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let short = |bytes: &[u8], at: usize| -> Option<usize> {
        Some(usize::from(u16::from_be_bytes(
            bytes.get(at..at + 2)?.try_into().ok()?,
        )))
    };
    ensure!(
        word(file, 0) == Some(0xa1b2_c3d4) && word(file, 20) == Some(1),
        "a capture of another form"
    );
    let mut sent = Sent::default();
    let mut rest = file.get(24..).unwrap_or_default();
    while !rest.is_empty() {
        let head = (|| Some((word(rest, 0)?, word(rest, 4)?, word(rest, 8)?)))();
        let (seconds, micros, length) = head.context("a capture that breaks off")?;
        let frame = (rest.get(16..16 + length as usize)).context("a capture that breaks off")?;
        rest = rest.get(16 + length as usize..).unwrap_or_default();
        if frame.ends_with(MARK) {
            continue;
        }
        let segment = (|| {
            let packet = frame.get(14..)?;
            let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
            let whole_bytes = short(packet, 2)?;
            let tcp = packet.get(header_bytes..)?;
            let tcp_header_bytes = usize::from(tcp.get(12)? >> 4) * 4;
            let flags = tcp.get(13)?;
            let segment = Segment {
                at: u64::from(seconds) * 1_000_000 + u64::from(micros),
                payload_bytes: whole_bytes.checked_sub(header_bytes + tcp_header_bytes)?,
                ends: flags & 0x05 != 0,
            };
            Some((u16::try_from(short(tcp, 2)?).ok()?, segment))
        })();
        let (port, segment) = segment.context("a captured packet that is not TCP over IPv4")?;
        sent.0.entry(port).or_default().push(segment);
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn only_pubacks_count_as_acceptance() {
        assert!([26, 30, 62].into_iter().all(is_acceptance));
        // close_notify; DISCONNECT with "access was revoked", alone and with close_notify behind.
        assert!(![0, 22, 24, 47, 71].into_iter().any(is_acceptance));
    }

    #[test]
    fn a_capture_tells_the_last_acceptance_and_the_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let Ok(capture) = Capture::start(address.port(), folder.path()) else {
            println!("skipped: tcpdump is not installed or may not capture");
            return;
        };
        let mut client = TcpStream::connect(address).unwrap();
        let port = client.local_addr().unwrap().port();
        let (mut server, _) = listener.accept().unwrap();
        server.set_nodelay(true).unwrap();
        let now = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::try_from(since.unwrap().as_micros()).unwrap()
        };
        let begun = now();
        for bytes in [26, 47, 24] {
            server.write_all(&vec![7; bytes]).unwrap();
            let mut received = vec![0; bytes];
            client.read_exact(&mut received).unwrap();
        }
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let over = now();
        let sent = capture.end().unwrap();
        let end = sent.end_of(port).unwrap();
        let last = end.last_accepted.unwrap();
        assert!(
            begun <= last && last <= end.closed && end.closed <= over,
            "{end:?}"
        );
        assert_eq!(sent.0[&port].len(), 4);
        assert_eq!(sent.end_of(port.wrapping_add(1)), None);
    }
}
