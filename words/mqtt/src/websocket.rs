//! MQTT over WebSocket: a client's frames become its bytes, our bytes become frames (MQTT 5 section
//! 6, RFC 6455). MQTT packets may begin and end anywhere in frames.
//!
//! Nothing is allocated for a length that is only announced: what comes is unmasked and appended. No
//! extension is spoken, so no compression.

use crate::{Malformed, Reason};

/// The subprotocol that a client asks for, and is granted.
pub const SUBPROTOCOL: &str = "mqtt";

/// One client's side of a connection, from the end of the upgrade on.
#[derive(Debug, Default)]
pub struct WebSocket {
    /// Of a frame whose header is not whole yet.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    frame: Option<Frame>,
    /// Of a control frame that is not whole yet.
    control: Vec<u8>,
    /// A message has begun and its last frame has not come.
    is_in_message: bool,
    has_closed: bool,
}

/// A frame whose payload is coming.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    left_bytes: u64,
    mask: [u8; 4],
    /// Which byte of the mask comes next.
    phase: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
    Close,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client said that it closes; the answer stands among those to be sent.
    ByClient,
    /// It broke a rule; the close frame that says so stands there too.
    Breach(Malformed),
}

/// 2 bytes, 8 of length, 4 of mask.
const HEADER_BYTES_MAX: usize = 14;
/// Of a control frame (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Codes of a close frame (RFC 6455 section 7.4.1).
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;

impl WebSocket {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the payload of data frames to `payload`, and frames that must be sent in answer to
    /// `answers`: of many pings in `bytes` the last is answered (RFC 6455 section 5.5.3).
    ///
    /// # Errors
    /// The connection ends; nothing that comes later is looked at.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        payload: &mut Vec<u8>,
        answers: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        if self.has_closed {
            return Err(Ended::ByClient);
        }
        let mut pong = None;
        let heard = self.hear(bytes, payload, &mut pong);
        if let Some(pong) = pong {
            write_frame(answers, PONG, &pong);
        }
        let ended = match heard {
            Ok(()) => return Ok(()),
            Err(Stop::Closed(code)) => {
                write_close(answers, code);
                Ended::ByClient
            }
            Err(Stop::Breach(code, rule)) => {
                write_close(answers, code);
                let reason = Reason::PROTOCOL_ERROR;
                Ended::Breach(Malformed { reason, rule })
            }
        };
        self.has_closed = true;
        Err(ended)
    }

    fn hear(
        &mut self,
        mut bytes: &[u8],
        payload: &mut Vec<u8>,
        pong: &mut Option<Vec<u8>>,
    ) -> Result<(), Stop> {
        loop {
            if self.frame.is_none() {
                bytes = self.take_header(bytes)?;
            }
            let Some(frame) = &mut self.frame else {
                return Ok(());
            };
            let here = usize::try_from(frame.left_bytes).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(here.min(bytes.len()));
            let into = match frame.kind {
                Kind::Data => &mut *payload,
                Kind::Ping | Kind::Pong | Kind::Close => &mut self.control,
            };
            frame.unmask(now, into);
            bytes = later;
            if frame.left_bytes > 0 {
                return Ok(());
            }
            let kind = frame.kind;
            self.frame = None;
            match kind {
                Kind::Data => {}
                Kind::Ping => *pong = Some(std::mem::take(&mut self.control)),
                // Nobody asked for it, and it may come all the same.
                Kind::Pong => self.control.clear(),
                Kind::Close => return Err(close_of(&self.control)),
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes what belongs to a header; the frame stands when it is whole. The bytes behind it.
    fn take_header<'b>(&mut self, mut bytes: &'b [u8]) -> Result<&'b [u8], Stop> {
        while let Some((first, rest)) = bytes.split_first() {
            let Some(place) = self.header.get_mut(self.header_bytes) else {
                break;
            };
            *place = *first;
            self.header_bytes += 1;
            bytes = rest;
            let header = self.header.get(..self.header_bytes).unwrap_or_default();
            if let Some((frame, in_message)) = read_header(header, self.is_in_message)? {
                self.frame = Some(frame);
                self.is_in_message = in_message;
                self.header_bytes = 0;
                break;
            }
        }
        Ok(bytes)
    }
}

/// Why nothing more is read.
enum Stop {
    /// The client said so; the code to answer with.
    Closed(u16),
    Breach(u16, &'static str),
}

impl Frame {
    fn unmask(&mut self, masked: &[u8], into: &mut Vec<u8>) {
        let mask = self.mask.iter().cycle().skip(self.phase);
        into.extend(masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        self.phase = (self.phase + masked.len()) % 4;
        self.left_bytes = self.left_bytes.saturating_sub(masked.len() as u64);
    }
}

/// The frame that a header announces and whether its message goes on behind it; `None` while bytes
/// are missing. What can be refused is refused by the first two.
fn read_header(header: &[u8], in_message: bool) -> Result<Option<(Frame, bool)>, Stop> {
    let [first, second, rest @ ..] = header else {
        return Ok(None);
    };
    let breach = |rule| Err(Stop::Breach(PROTOCOL_ERROR, rule));
    let is_final = first & FINAL != 0;
    if first & RESERVED != 0 {
        return breach(
            "no extension was agreed, so the reserved bits of a frame are 0 (RFC 6455: 5.2)",
        );
    }
    if second & MASKED == 0 {
        return breach("a client masks its frames (RFC 6455: 5.1)");
    }
    let short = second & !MASKED;
    let (kind, goes_on) = match first & 0x0f {
        CONTINUATION if in_message => (Kind::Data, !is_final),
        BINARY if !in_message => (Kind::Data, !is_final),
        CONTINUATION | BINARY => {
            return breach(
                "a message's first frame has a type, and the others have none (RFC 6455: 5.4)",
            );
        }
        TEXT => {
            let rule = "MQTT travels in binary frames (MQTT 5: 6.0)";
            return Err(Stop::Breach(UNSUPPORTED, rule));
        }
        control @ (CLOSE | PING | PONG) => {
            if !is_final || u64::from(short) > CONTROL_BYTES_MAX {
                return breach(
                    "a control frame is whole and has at most 125 bytes (RFC 6455: 5.5)",
                );
            }
            let kind = match control {
                CLOSE => Kind::Close,
                PING => Kind::Ping,
                _ => Kind::Pong,
            };
            (kind, in_message)
        }
        _ => return breach("a frame's type is one that exists (RFC 6455: 5.2)"),
    };
    let (length, mask) = match (short, rest) {
        (126, [a, b, mask @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), mask),
        (127, [a, b, c, d, e, f, g, h, mask @ ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), mask)
        }
        (126 | 127, _) => return Ok(None),
        (short, mask) => (u64::from(short), mask),
    };
    let is_minimal = match short {
        126 => length > CONTROL_BYTES_MAX,
        127 => length > u64::from(u16::MAX),
        _ => true,
    };
    if !is_minimal || length > i64::MAX.unsigned_abs() {
        return breach(
            "a length has as few bytes as it can, and its first bit is 0 (RFC 6455: 5.2)",
        );
    }
    let [a, b, c, d] = mask else {
        return Ok(None);
    };
    let frame = Frame {
        kind,
        left_bytes: length,
        mask: [*a, *b, *c, *d],
        phase: 0,
    };
    Ok(Some((frame, goes_on)))
}

/// What a client's close frame is answered with.
fn close_of(payload: &[u8]) -> Stop {
    let rule = "a close frame is empty, or has a code that may be sent and text (RFC 6455: 5.5.1)";
    let (code, text) = match payload {
        [] => return Stop::Closed(NORMAL),
        [high, low, text @ ..] => (u16::from_be_bytes([*high, *low]), text),
        [_] => return Stop::Breach(PROTOCOL_ERROR, rule),
    };
    // 1004 to 1006 and 1015 are never sent (RFC 6455 section 7.4).
    let is_sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if is_sendable && std::str::from_utf8(text).is_ok() {
        Stop::Closed(code)
    } else {
        Stop::Breach(PROTOCOL_ERROR, rule)
    }
}

/// Appends `payload` as one frame; nothing if there is none.
pub fn write_binary(out: &mut Vec<u8>, payload: &[u8]) {
    if !payload.is_empty() {
        write_frame(out, BINARY, payload);
    }
}

/// Appends the frame by which we close: all was said, or the server ends.
pub fn write_goodbye(out: &mut Vec<u8>, server_ends: bool) {
    write_close(out, if server_ends { GOING_AWAY } else { NORMAL });
}

fn write_close(out: &mut Vec<u8>, code: u16) {
    write_frame(out, CLOSE, &code.to_be_bytes());
}

/// A server does not mask (RFC 6455 section 5.1).
fn write_frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(FINAL | kind);
    let length = payload.len() as u64;
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if length <= CONTROL_BYTES_MAX => out.push(short),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
