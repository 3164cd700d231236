//! TLS by rustls' unbuffered interface: handshakes, and the records of TLS 1.2. The only file that
//! knows that interface.

use super::records::Opened;
use rustls::Error;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};

#[derive(Clone, Copy)]
pub enum Outgoing<'a> {
    Plaintext(&'a [u8]),
    Goodbye,
}

/// Runs the machine over `incoming`. After an error the alert it asks for is among the unsent bytes.
pub fn read(
    tls: &mut UnbufferedServerConnection,
    incoming: &mut [u8],
    plaintext: &mut dyn FnMut(&[u8]),
    unsent: &mut Vec<u8>,
) -> Result<Opened, Error> {
    let mut consumed = 0;
    let mut failed: Option<Error> = None;
    loop {
        // After an error only what is ready to be sent is fetched, the alert above all. Shown
        // the same bytes once more than that, rustls would read them again and fail again, and
        // its check against a second alert would end this thread.
        if let Some(error) = failed.take_if(|_| !tls.wants_write()) {
            return Err(error);
        }
        let window = incoming.get_mut(consumed..).unwrap_or_default();
        let UnbufferedStatus { discard, state } = tls.process_tls_records(window);
        let mut used = discard;
        let mut done = None;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            used += record.discard;
                            if failed.is_none() {
                                plaintext(record.payload);
                            }
                        }
                        Err(e) => {
                            failed.get_or_insert(e);
                            break;
                        }
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, unsent),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => done = Some(true),
            // Early data is never offered (max_early_data_size is 0): treat it as the end.
            Ok(ConnectionState::ReadEarlyData(_)) => done = Some(true),
            Ok(_) => done = Some(false),
            Err(e) => {
                // Not again after an error, by the rule above; should it be, it is the end.
                done = failed.is_some().then_some(true);
                failed.get_or_insert(e);
            }
        }
        consumed += used;
        if let Some(has_ended) = done {
            return match failed {
                Some(error) => Err(error),
                None => Ok(Opened {
                    consumed,
                    has_ended,
                }),
            };
        }
    }
}

/// Encrypts behind `unsent`. `held` is what was read of a record that is not whole.
pub fn write(
    tls: &mut UnbufferedServerConnection,
    held: &mut Vec<u8>,
    outgoing: Outgoing<'_>,
    unsent: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(held);
        let outcome = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                Some(write_traffic(&mut traffic, outgoing, unsent))
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, unsent);
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(_) => Some(Err(Error::HandshakeNotComplete)),
            Err(e) => Some(Err(e)),
        };
        held.drain(..discard.min(held.len()));
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
}

/// Puts a handshake record or an alert behind what is unsent.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, unsent: &mut Vec<u8>) {
    append(unsent, 1024, |room| {
        data.encode(room).map_err(|e| match e {
            EncodeError::InsufficientSize(size) => Some(size),
            EncodeError::AlreadyEncoded => None,
        })
    });
}

fn write_traffic(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    outgoing: Outgoing<'_>,
    unsent: &mut Vec<u8>,
) -> Result<(), Error> {
    let expected = match outgoing {
        // A record has 4 KiB or more of content, and adds 29 bytes at most: header, nonce and tag
        // (RFC 5246 section 6.2.3.3).
        Outgoing::Plaintext(plaintext) => plaintext.len() + (plaintext.len() / 4096 + 1) * 32,
        Outgoing::Goodbye => 64,
    };
    let written = append(unsent, expected, |room| {
        let written = match outgoing {
            Outgoing::Plaintext(plaintext) => traffic.encrypt(plaintext, room),
            Outgoing::Goodbye => traffic.queue_close_notify(room),
        };
        written.map_err(|e| match e {
            EncryptError::InsufficientSize(size) => Some(size),
            EncryptError::EncryptExhausted => None,
        })
    });
    if written > 0 {
        Ok(())
    } else {
        Err(Error::EncryptError)
    }
}

/// Lets `fill` write behind the present end of `buffer`, with as much room as it asks for; the
/// bytes it wrote.
fn append(
    buffer: &mut Vec<u8>,
    expected: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> usize {
    let start = buffer.len();
    let mut room = expected;
    let written = loop {
        buffer.resize(start + room, 0);
        match fill(buffer.get_mut(start..).unwrap_or_default()) {
            Ok(count) => break count,
            Err(Some(size)) if size.required_size > room => room = size.required_size,
            Err(_) => break 0,
        }
    };
    buffer.truncate(start + written);
    written
}
