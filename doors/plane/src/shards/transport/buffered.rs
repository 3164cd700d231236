//! TLS that was begun by an HTTP door, which keeps buffers of its own.

use super::{Arrival, Failure};
use rustls::ServerConnection;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Reads once from the socket and hands what it brought to `plaintext`; alerts go to `unsent`.
pub fn read(
    tls: &mut ServerConnection,
    mut socket: &TcpStream,
    scratch: &mut [u8],
    plaintext: &mut dyn FnMut(&[u8]),
    unsent: &mut Vec<u8>,
) -> Result<Arrival, Failure> {
    let count = match tls.read_tls(&mut socket) {
        Ok(count) => count,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            return Ok(Arrival::Nothing);
        }
        Err(e) => return Err(Failure::Socket(e)),
    };
    let processed = tls.process_new_packets();
    let has_ended = drain(tls, scratch, plaintext);
    flush(tls, unsent);
    match processed {
        Err(error) => Err(Failure::Tls(error)),
        Ok(_) if count == 0 || has_ended => Ok(Arrival::End),
        // Its own buffers say how much one read takes.
        Ok(_) => Ok(Arrival::Full),
    }
}

/// Hands over what is decrypted; whether the peer has said goodbye.
pub fn drain(
    tls: &mut ServerConnection,
    scratch: &mut [u8],
    plaintext: &mut dyn FnMut(&[u8]),
) -> bool {
    loop {
        match tls.reader().read(scratch) {
            Ok(0) => return true,
            Ok(count) => plaintext(scratch.get(..count).unwrap_or_default()),
            // Nothing more for now, or the peer left without a goodbye, which the socket tells too.
            Err(_) => return false,
        }
    }
}

/// Encrypts `plaintext` behind what is unsent.
pub fn encrypt(
    tls: &mut ServerConnection,
    plaintext: &[u8],
    unsent: &mut Vec<u8>,
) -> io::Result<()> {
    // Our own bounds hold: nothing is kept in its buffers.
    tls.set_buffer_limit(None);
    tls.writer().write_all(plaintext)?;
    flush(tls, unsent);
    Ok(())
}

pub fn flush(tls: &mut ServerConnection, unsent: &mut Vec<u8>) {
    // Into memory, which takes all of it.
    while tls.wants_write() && tls.write_tls(unsent).is_ok_and(|count| count > 0) {}
}
