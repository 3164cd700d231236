//! Against rustls on the other side, and against a client that has the right keys and breaks rules.

use super::*;
use crate::shards::transport::{machine, side_by_side};
use proptest::prelude::*;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

/// What was opened, and what the client is then told.
type Outcome = (Result<Opened, Error>, Vec<u8>, Vec<u8>);

struct Ends {
    server: ServerConfig,
    client: ClientConfig,
}

fn ends(suite: CipherSuite) -> Ends {
    static AUTHORITY: LazyLock<(rcgen::Certificate, rcgen::KeyPair)> = LazyLock::new(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap(), key)
    });
    let (certificate, key) = &*AUTHORITY;
    let mut crypto = provider::default_provider();
    crypto.cipher_suites.retain(|known| known.suite() == suite);
    assert_eq!(crypto.cipher_suites.len(), 1, "{suite:?} is spoken");
    let crypto = Arc::new(crypto);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    server.enable_secret_extraction = true;
    let mut client = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    Ends { server, client }
}

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Both ends after a handshake; the client has read all that the server said in it.
fn shaken(suite: CipherSuite, content_bytes_max: u16) -> (Records, ClientConnection) {
    let Ends { server, client } = ends(suite);
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = UnbufferedServerConnection::new(Arc::new(server)).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    while client.is_handshaking() || server.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        let nothing = &mut |_: &[u8]| panic!("nothing is said in a handshake");
        let read = machine::read(&mut server, &mut to_server, nothing, &mut to_client).unwrap();
        to_server.drain(..read.consumed);
        hear(&mut client, &to_client).unwrap();
        to_client.clear();
    }
    (Records::after(server, content_bytes_max).unwrap(), client)
}

/// What the client makes of bytes; all it says besides stays in it.
fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut heard = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
        let mut part = [0; 64 * 1024];
        while let Ok(count @ 1..) = client.reader().read(&mut part) {
            heard.extend_from_slice(&part[..count]);
        }
    }
    Ok(heard)
}

/// What the client sends to say something.
fn say(client: &mut ClientConnection, said: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut said = said;
    while !said.is_empty() || client.wants_write() {
        let taken = client.writer().write(said).unwrap();
        said = &said[taken..];
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
    }
    bytes
}

/// Opens bytes that come in parts of the given length; what is no whole record yet comes again.
fn open_in_parts(records: &mut Records, bytes: &[u8], part: usize) -> Outcome {
    let (mut heard, mut unsent, mut held) = (Vec::new(), Vec::new(), Vec::new());
    let mut all = Opened {
        consumed: 0,
        has_ended: false,
    };
    for part in bytes.chunks(part) {
        held.extend_from_slice(part);
        let plaintext = &mut |content: &[u8]| heard.extend_from_slice(content);
        match records.open(&mut held, plaintext, &mut unsent) {
            Ok(opened) => {
                held.drain(..opened.consumed);
                all.consumed += opened.consumed;
                all.has_ended |= opened.has_ended;
            }
            Err(error) => return (Err(error), heard, unsent),
        }
        if all.has_ended {
            break;
        }
    }
    (Ok(all), heard, unsent)
}

/// A client that has the right keys and says what it likes.
struct Intruder {
    says: Keys,
    hears: Keys,
}

impl Intruder {
    #[allow(deprecated, reason = "it needs no tickets and no updates")]
    fn new(suite: CipherSuite) -> (Records, Self) {
        let (records, client) = shaken(suite, CONTENT_BYTES_MAX);
        let secrets = client.dangerous_extract_secrets().unwrap();
        let says = Keys::new(secrets.tx).unwrap();
        let hears = Keys::new(secrets.rx).unwrap();
        (records, Self { says, hears })
    }

    fn say(&mut self, inner: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (content_type, content) in inner {
            self.says.seal(*content_type, content, &mut bytes).unwrap();
        }
        bytes
    }

    /// The one alert that it is sent.
    fn told(&mut self, bytes: &[u8]) -> Option<AlertDescription> {
        let (header, encrypted) = bytes.split_first_chunk()?;
        let mut encrypted = encrypted.to_vec();
        match self.hears.open(*header, &mut encrypted) {
            Ok([2, alert, ALERT]) => Some((*alert).into()),
            _ => None,
        }
    }
}

fn open(records: &mut Records, bytes: &[u8]) -> Outcome {
    open_in_parts(records, bytes, bytes.len().max(1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_said_is_heard_both_ways_and_keys_change_meanwhile(
        suite in prop::sample::select(&SUITES[..]),
        content_bytes_max in prop::sample::select(&[1_u16, 100, 4096, CONTENT_BYTES_MAX, u16::MAX][..]),
        said in prop::collection::vec((0_usize..40_000, any::<bool>(), 1_usize..20_000), 1..8),
    ) {
        let (mut records, mut client) = shaken(suite, content_bytes_max);
        for (bytes, update, part) in said {
            let message: Vec<u8> = (0..bytes).map(|at| (at * 7) as u8).collect();
            if update {
                client.refresh_traffic_keys().unwrap();
            }
            let ciphertext = say(&mut client, &message);
            let (opened, heard, unsent) = open_in_parts(&mut records, &ciphertext, part);
            prop_assert_eq!(opened.unwrap().consumed, ciphertext.len());
            prop_assert!(heard == message && unsent.is_empty());
            // One byte in each record is slow to read.
            let answer = &message[..message.len().min(2000)];
            let mut ciphertext = Vec::new();
            records.seal(answer, &mut ciphertext).unwrap();
            prop_assert_eq!(hear(&mut client, &ciphertext).unwrap(), answer);
            prop_assert!(!records.owes_update || answer.is_empty());
        }
    }

    #[test]
    fn the_records_of_rustls_hear_and_answer_the_same(
        choices in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        side_by_side::check(&choices);
    }

    #[test]
    fn a_client_with_the_right_keys_that_breaks_rules_is_told_so_once(
        inner in prop::collection::vec(
            (prop::sample::select(&[0_u8, 20, ALERT, HANDSHAKE, APPLICATION_DATA, 24, 255][..]),
             prop::collection::vec(any::<u8>(), 0..12)),
            1..40,
        ),
        part in 1_usize..200,
    ) {
        let (mut records, mut intruder) = Intruder::new(SUITES[0]);
        let said: Vec<_> = inner.iter().map(|(kind, content)| (*kind, &content[..])).collect();
        let bytes = intruder.say(&said);
        let (outcome, heard, unsent) = open_in_parts(&mut records, &bytes, part);
        // All is heard that came before the first record of another kind, and nothing behind it.
        let mut expected = Vec::new();
        let mut broke = None;
        for (kind, content) in &said {
            match (*kind, *content) {
                (APPLICATION_DATA, content) => expected.extend_from_slice(content),
                (ALERT, [_, 90]) => {}
                (kind, content) => {
                    broke = Some((kind, content));
                    break;
                }
            }
        }
        prop_assert_eq!(heard, expected);
        match (broke, outcome) {
            (Some((ALERT, [_, 0])), Ok(opened)) => prop_assert!(opened.has_ended),
            (None, Ok(opened)) => prop_assert_eq!(opened.consumed, bytes.len()),
            (Some((ALERT, [_, _])), Err(_)) => prop_assert!(unsent.is_empty()),
            (Some(_), Err(_)) => prop_assert!(intruder.told(&unsent).is_some()),
            (broke, outcome) => prop_assert!(false, "{:?} {:?}", broke, outcome),
        }
    }

    #[test]
    fn nothing_is_heard_of_a_record_that_was_changed(
        suite in prop::sample::select(&SUITES[..]),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let (mut records, mut client) = shaken(suite, CONTENT_BYTES_MAX);
        let mut bytes = say(&mut client, b"it is 21.5 degrees");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (outcome, heard, _) = open(&mut records, &bytes);
        prop_assert!(heard.is_empty());
        // It is refused, or it waits for more than came.
        prop_assert!(outcome.is_err() || outcome.is_ok_and(|opened| opened.consumed == 0));
    }
}

#[test]
fn a_record_that_comes_twice_or_in_another_order_is_refused() {
    for suite in SUITES {
        let (mut records, mut client) = shaken(suite, CONTENT_BYTES_MAX);
        let first = say(&mut client, b"first");
        let second = say(&mut client, b"second");
        assert!(open(&mut records, &first).0.is_ok());
        let (outcome, heard, unsent) = open(&mut records, &first);
        assert!(matches!(outcome, Err(Error::DecryptError)) && heard.is_empty());
        let told = hear(&mut client, &unsent);
        let expected = Error::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(told, Err(expected));
        let (mut records, _) = shaken(suite, CONTENT_BYTES_MAX);
        assert!(open(&mut records, &second).0.is_err(), "of another session");
    }
}

#[test]
fn a_goodbye_ends_it_and_what_stands_behind_it_is_not_heard() {
    let (mut records, mut intruder) = Intruder::new(SUITES[0]);
    let goodbye: (u8, &[u8]) = (ALERT, &[1, 0]);
    let bytes = intruder.say(&[
        (APPLICATION_DATA, b"before"),
        goodbye,
        (APPLICATION_DATA, b"after"),
    ]);
    let (outcome, heard, unsent) = open(&mut records, &bytes);
    assert!(outcome.unwrap().has_ended);
    assert_eq!((heard.as_slice(), unsent.len()), (&b"before"[..], 0));
    let (mut records, mut client) = shaken(SUITES[1], CONTENT_BYTES_MAX);
    client.send_close_notify();
    let bytes = say(&mut client, b"");
    assert!(open(&mut records, &bytes).0.unwrap().has_ended);
    let mut ciphertext = Vec::new();
    records.goodbye(&mut ciphertext).unwrap();
    let mut rest = ciphertext.as_slice();
    client.read_tls(&mut rest).unwrap();
    assert!(client.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn every_record_that_may_not_come_has_its_alert() {
    use AlertDescription::{DecodeError, IllegalParameter, RecordOverflow, UnexpectedMessage};
    const UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
    let long = vec![1_u8; usize::from(CONTENT_BYTES_MAX) + 1];
    let long_by_zeros = [&long[..16_000], &[APPLICATION_DATA], &[0; 500]].concat();
    let cases: [(u8, &[u8], AlertDescription); 11] = [
        (20, &[1], UnexpectedMessage),
        (0, &[], UnexpectedMessage),
        (HANDSHAKE, &[1, 0, 0, 0], UnexpectedMessage),
        (HANDSHAKE, &[], UnexpectedMessage),
        (HANDSHAKE, &UPDATE[..2], UnexpectedMessage),
        (HANDSHAKE, &[UPDATE, UPDATE].concat(), UnexpectedMessage),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2], IllegalParameter),
        (ALERT, &[2], DecodeError),
        (ALERT, &[1, 0, 0], DecodeError),
        (APPLICATION_DATA, &long, RecordOverflow),
        (0, &long_by_zeros, RecordOverflow),
    ];
    for (content_type, content, alert) in cases {
        let (mut records, mut intruder) = Intruder::new(SUITES[0]);
        let bytes = intruder.say(&[(content_type, content)]);
        let (outcome, heard, unsent) = open(&mut records, &bytes);
        let what = format!("{content_type} {:?}", content.get(..8).unwrap_or(content));
        assert!(outcome.is_err() && heard.is_empty(), "{what}");
        assert_eq!(intruder.told(&unsent), Some(alert), "{what}");
    }
}

#[test]
fn attack_a_flood_of_records_that_carry_nothing_ends_the_connection() {
    let nothing: [(u8, &[u8]); 2] = [(APPLICATION_DATA, b""), (ALERT, &[1, 90])];
    for one in nothing {
        let (mut records, mut intruder) = Intruder::new(SUITES[0]);
        let allowed = vec![one; usize::from(EMPTY_IN_SUCCESSION_MAX)];
        let bytes = intruder.say(&allowed);
        assert!(open(&mut records, &bytes).0.is_ok());
        let bytes = intruder.say(&[(APPLICATION_DATA, b"x")]);
        assert_eq!(open(&mut records, &bytes).1, b"x");
        let bytes = intruder.say(&[allowed.as_slice(), &[one]].concat());
        assert!(open(&mut records, &bytes).0.is_err());
    }
    let (mut records, mut client) = shaken(SUITES[0], CONTENT_BYTES_MAX);
    let mut updates = (0..=EMPTY_IN_SUCCESSION_MAX).map(|_| {
        client.refresh_traffic_keys().unwrap();
        let bytes = say(&mut client, b"");
        open(&mut records, &bytes).0.is_ok()
    });
    let allowed = usize::from(EMPTY_IN_SUCCESSION_MAX);
    assert!(updates.by_ref().take(allowed).all(|taken| taken));
    assert_eq!(updates.next(), Some(false));
}

#[test]
fn keys_are_changed_before_they_are_worn_out() {
    let (mut records, mut client) = shaken(SUITES[1], CONTENT_BYTES_MAX);
    let mut ciphertext = Vec::new();
    records.seal(b"old", &mut ciphertext).unwrap();
    records.owes_update = true;
    records.seal(b"new", &mut ciphertext).unwrap();
    records.seal(b"newer", &mut ciphertext).unwrap();
    assert!(!records.owes_update && records.sealing.sequence == 2);
    assert_eq!(hear(&mut client, &ciphertext).unwrap(), b"oldnewnewer");
    records.sealing.sequence = SEALED_MAX;
    records.seal(b"x", &mut ciphertext).unwrap();
    assert_eq!(records.sealing.sequence, 1, "with other keys");
}

#[test]
fn a_number_of_a_record_is_never_given_twice() {
    let (mut records, _) = shaken(SUITES[1], CONTENT_BYTES_MAX);
    records.sealing.sequence = u64::MAX;
    assert!(records.sealing.next_nonce().is_none());
    assert!(records.sealing.next_nonce().is_none());
    let mut ciphertext = Vec::new();
    assert!(records.goodbye(&mut ciphertext).is_err() && ciphertext.is_empty());
}

#[test]
fn what_is_no_encrypted_record_is_refused_before_more_of_it_is_read() {
    let plain_alert = [ALERT, 3, 3, 0, 2, 2, 40];
    let too_long = [APPLICATION_DATA, 3, 3, 0x41, 0x01];
    let shorter_than_a_tag = [APPLICATION_DATA, 3, 3, 0, 3, 1, 2, 3];
    for bytes in [&plain_alert[..], &too_long, &shorter_than_a_tag] {
        let (mut records, mut intruder) = Intruder::new(SUITES[0]);
        let (outcome, heard, unsent) = open(&mut records, bytes);
        assert!(outcome.is_err() && heard.is_empty());
        assert!(intruder.told(&unsent).is_some());
    }
}
