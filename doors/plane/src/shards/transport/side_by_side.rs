//! The same, said by a client that has the keys and does with them what it likes, to our records and
//! to rustls' own: both hear the same, go on or end alike, and answer the same. The fuzz target
//! `tls_records` includes this file as it is.

use super::machine::{self, Outgoing};
use super::records::{CONTENT_BYTES_MAX, Opened, Records};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{rand::SystemRandom, signature};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs as provider;
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::UnbufferedServerConnection;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    CipherSuite, ClientConfig, ConnectionTrafficSecrets, DigitallySignedStruct, Error,
    ServerConfig, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];
const HEADER_BYTES: usize = 5;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
/// Records that carry nothing, in succession; each of the two has its own idea of how many are too many.
const EMPTY_MAX: u32 = 30;
/// As rustls counts them, over the whole session.
const CANCELED_MAX: u32 = 4;

/// Choices, one byte each: a seed's or a fuzzer's. Where it ends, all are 0.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_be_bytes([self.next(), self.next()])) % bound.max(1)
    }
}

/// What the client says next.
enum Said {
    /// Content of a type, and how many zeros stand behind it.
    Record(u8, Vec<u8>, usize),
    /// The bytes of the last record once more.
    Again,
    /// A record of one byte with one bit of it changed: which.
    Changed(usize),
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(content_type, content, zeros) => {
                let front = &content[..content.len().min(12)];
                let bytes = content.len();
                write!(
                    f,
                    "type {content_type}, {bytes} bytes {front:?}, {zeros} zeros"
                )
            }
            Self::Again => f.write_str("again"),
            Self::Changed(bit) => write!(f, "bit {bit} changed"),
        }
    }
}

/// How far the two must agree once it was said.
#[derive(PartialEq, Eq, Debug)]
enum Agree {
    /// They hear the same, go on or end alike, and answer the same.
    InAll,
    /// As that, but each may name another rule that was broken.
    ThatItEnds,
    /// Ours ends, or waits for more of a record; rustls may take it.
    ThatNothingIsHeard,
}

/// # Panics
/// The two differ.
pub fn check(choices: &[u8]) {
    let mut choices = Choices(choices);
    let suite = SUITES[usize::from(choices.next()) % SUITES.len()];
    let (mut ours, mut theirs) = (Session::new(suite, true), Session::new(suite, false));
    let (mut empty, mut canceled) = (0, 0);
    while !choices.0.is_empty() {
        if choices.next() % 4 == 0 {
            let answer: Vec<u8> = (0..=choices.below(40_000)).map(|at| at as u8).collect();
            ours.answer(&answer);
            theirs.answer(&answer);
            assert!(
                ours.told() == theirs.told(),
                "an answer of {} bytes",
                answer.len()
            );
            continue;
        }
        let said = next_said(&mut choices, &mut empty, &mut canceled);
        let agree = agreement(&said);
        let bytes = [ours.say(&said), theirs.say(&said)];
        assert_eq!(bytes[0].len(), bytes[1].len());
        // In two parts, or whole.
        let cut = choices.below(bytes[0].len() + 1);
        let heard_before = ours.heard.len();
        for range in [0..cut, cut..bytes[0].len()] {
            let [at_ours, at_theirs] = [&bytes[0][range.clone()], &bytes[1][range]];
            ours.take(at_ours);
            theirs.take(at_theirs);
            if agree != Agree::ThatNothingIsHeard {
                assert!(ours.heard == theirs.heard, "{said:?}: heard");
            }
        }
        match agree {
            Agree::InAll => {
                assert_eq!(ours.ended, theirs.ended, "{said:?}");
                assert!(ours.told() == theirs.told(), "{said:?}: told");
            }
            Agree::ThatItEnds => {
                let both = [&ours.ended, &theirs.ended];
                assert!(
                    both.iter().all(|it| matches!(it, Some(Err(_)))),
                    "{said:?} {both:?}"
                );
            }
            Agree::ThatNothingIsHeard => {
                let is_over = matches!(ours.ended, Some(Err(_)));
                assert!(is_over || !ours.held.is_empty(), "{said:?}");
                assert_eq!(ours.heard.len(), heard_before, "{said:?}");
            }
        }
        if ours.ended.is_some() || agree != Agree::InAll {
            return;
        }
    }
}

/// Chooses what is said next, and of what each of the two counts in its own way never so much that
/// one has enough of it.
fn next_said(choices: &mut Choices<'_>, empty: &mut u32, canceled: &mut u32) -> Said {
    let mut said = any_said(choices);
    if let Said::Record(ALERT, content, _) = &mut said
        && let [level, what] = content.as_mut_slice()
    {
        // The level may be ignored (RFC 8446 section 6), and is by ours alone.
        *level = 1 + *level % 2;
        if *what == USER_CANCELED {
            *level = 1;
            *canceled += 1;
        }
        if *canceled > CANCELED_MAX {
            *what = CLOSE_NOTIFY;
        }
    }
    let carries =
        matches!(&said, Said::Record(APPLICATION_DATA, content, _) if !content.is_empty());
    *empty = if carries { 0 } else { *empty + 1 };
    if *empty > EMPTY_MAX {
        *empty = 0;
        return Said::Record(APPLICATION_DATA, vec![0], 0);
    }
    said
}

fn any_said(choices: &mut Choices<'_>) -> Said {
    let content = |bytes: usize| (0..bytes).map(|at| at as u8).collect::<Vec<_>>();
    let padding = |choices: &mut Choices<'_>| match choices.next() % 4 {
        0 => choices.below(600),
        _ => 0,
    };
    match choices.next() % 16 {
        0 => Said::Record(APPLICATION_DATA, Vec::new(), padding(choices)),
        1 | 2 => {
            let request = match choices.next() % 3 {
                2 => choices.next(),
                request => request,
            };
            Said::Record(HANDSHAKE, [&KEY_UPDATE[..], &[request]].concat(), 0)
        }
        3 => Said::Record(ALERT, vec![1, USER_CANCELED], padding(choices)),
        4 => Said::Record(ALERT, vec![choices.next(), choices.next()], 0),
        5 => Said::Again,
        6 => Said::Changed(choices.below((HEADER_BYTES + 1 + 1 + 16) * 8)),
        7 => {
            let mut content_type = choices.next();
            let bytes = choices.below(12);
            let mut content: Vec<u8> = (0..bytes).map(|_| choices.next()).collect();
            // A type of 0 would be padding, and the type what stands before it.
            let mut zeros = 0;
            while content_type == 0
                && let Some(last) = content.pop()
            {
                content_type = last;
                zeros += 1;
            }
            Said::Record(content_type, content, zeros)
        }
        8 => {
            let bytes = usize::from(CONTENT_BYTES_MAX) - 300 + choices.below(600);
            Said::Record(APPLICATION_DATA, content(bytes), padding(choices))
        }
        _ => {
            let bytes = 1 + choices.below(200);
            Said::Record(APPLICATION_DATA, content(bytes), padding(choices))
        }
    }
}

fn agreement(said: &Said) -> Agree {
    match said {
        Said::Record(APPLICATION_DATA, ..) | Said::Again => Agree::InAll,
        Said::Record(HANDSHAKE, content, _) => match content.as_slice() {
            [update @ .., _] if update == KEY_UPDATE => Agree::InAll,
            // Ours takes an update whole, in a record of its own.
            _ => Agree::ThatNothingIsHeard,
        },
        Said::Record(ALERT, content, _) => match content.as_slice() {
            [_, CLOSE_NOTIFY | USER_CANCELED] => Agree::InAll,
            _ => Agree::ThatItEnds,
        },
        Said::Record(..) => Agree::ThatItEnds,
        // rustls looks at a header before its record is whole, and not at the type and version in it.
        Said::Changed(_) => Agree::ThatNothingIsHeard,
    }
}

enum Server {
    Ours(Records),
    Theirs(Box<UnbufferedServerConnection>),
}

/// A server of one of the two kinds, and its client.
struct Session {
    server: Server,
    secrets: KernelConnection<ClientConnectionData>,
    says: Keys,
    hears: Keys,
    last: Vec<u8>,
    held: Vec<u8>,
    heard: Vec<u8>,
    unsent: Vec<u8>,
    ended: Option<Result<(), Error>>,
}

impl Session {
    fn new(suite: CipherSuite, is_ours: bool) -> Self {
        let (server, client) = shaken(suite);
        let (keys, secrets) = client.dangerous_into_kernel_connection().unwrap();
        let server = if is_ours {
            Server::Ours(Records::after(server, CONTENT_BYTES_MAX).unwrap())
        } else {
            Server::Theirs(Box::new(server))
        };
        Self {
            server,
            secrets,
            says: Keys::new(keys.tx),
            hears: Keys::new(keys.rx),
            last: Vec::new(),
            held: Vec::new(),
            heard: Vec::new(),
            unsent: Vec::new(),
            ended: None,
        }
    }

    /// The bytes of what the client says.
    fn say(&mut self, said: &Said) -> Vec<u8> {
        match said {
            Said::Again if self.last.is_empty() => self.last = vec![APPLICATION_DATA, 3, 3, 0, 0],
            Said::Again => {}
            Said::Changed(bit) => {
                self.last = self.says.seal(APPLICATION_DATA, b"x", 0);
                self.last[bit / 8] ^= 1 << (bit % 8);
            }
            Said::Record(content_type, content, zeros) => {
                self.last = self.says.seal(*content_type, content, *zeros);
                if let (HANDSHAKE, [update @ .., 0 | 1]) = (*content_type, content.as_slice())
                    && update == KEY_UPDATE
                {
                    self.says = Keys::new(self.secrets.update_tx_secret().unwrap());
                }
            }
        }
        self.last.clone()
    }

    /// The server reads bytes.
    fn take(&mut self, bytes: &[u8]) {
        if self.ended.is_some() {
            return;
        }
        self.held.extend_from_slice(bytes);
        let (held, unsent) = (&mut self.held, &mut self.unsent);
        let plaintext = &mut |content: &[u8]| self.heard.extend_from_slice(content);
        let outcome = match &mut self.server {
            Server::Ours(records) => records.open(held, plaintext, unsent),
            Server::Theirs(tls) => machine::read(tls, held, plaintext, unsent),
        };
        match outcome {
            Ok(Opened {
                consumed,
                has_ended,
            }) => {
                self.held.drain(..consumed);
                self.ended = has_ended.then_some(Ok(()));
            }
            Err(error) => self.ended = Some(Err(error)),
        }
    }

    /// The server says something.
    fn answer(&mut self, plaintext: &[u8]) {
        let unsent = &mut self.unsent;
        match &mut self.server {
            Server::Ours(records) => records.seal(plaintext, unsent),
            Server::Theirs(tls) => {
                machine::write(tls, &mut self.held, Outgoing::Plaintext(plaintext), unsent)
            }
        }
        .unwrap();
    }

    /// What the client was told since: types and contents, application data as one.
    fn told(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut told: Vec<(u8, Vec<u8>)> = Vec::new();
        let unsent = std::mem::take(&mut self.unsent);
        let mut rest = unsent.as_slice();
        while let Some((header, behind)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let (encrypted, behind) = behind.split_at(length);
            rest = behind;
            let (content_type, content) = self.hears.open(*header, encrypted);
            if content_type == HANDSHAKE {
                assert_eq!(content, [24, 0, 0, 1, 0], "an update that asks for none");
                self.hears = Keys::new(self.secrets.update_rx_secret().unwrap());
            }
            match told.last_mut() {
                Some((APPLICATION_DATA, all)) if content_type == APPLICATION_DATA => {
                    all.extend(content);
                }
                _ => {
                    // Owed before application data alone (RFC 8446 section 4.6.3); rustls says it
                    // before an alert too.
                    if content_type == ALERT {
                        told.pop_if(|(before, _)| *before == HANDSHAKE);
                    }
                    told.push((content_type, content));
                }
            }
        }
        assert!(rest.is_empty(), "whole records");
        told
    }
}

/// Keys of one direction, from RFC 8446 section 5 once more.
struct Keys {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        let (algorithm, key, iv) = match secrets {
            Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => panic!("no cipher of TLS 1.3"),
        };
        Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
            sequence,
        }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, content_type: u8, content: &[u8], zeros: usize) -> Vec<u8> {
        let mut inner = [content, &[content_type], &vec![0; zeros]].concat();
        let [high, low] = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let nonce = self.nonce();
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut inner)
            .unwrap();
        [&header[..], &inner].concat()
    }

    fn open(&mut self, header: [u8; HEADER_BYTES], encrypted: &[u8]) -> (u8, Vec<u8>) {
        let mut inner = encrypted.to_vec();
        let nonce = self.nonce();
        let opened = self.key.open_in_place(nonce, Aad::from(header), &mut inner);
        let mut content = opened.unwrap().to_vec();
        while content.last() == Some(&0) {
            content.pop();
        }
        let content_type = content.pop().unwrap();
        (content_type, content)
    }
}

/// Both ends after a handshake of TLS 1.3.
fn shaken(suite: CipherSuite) -> (UnbufferedServerConnection, UnbufferedClientConnection) {
    let (server, client) = configurations(suite);
    let mut server = UnbufferedServerConnection::new(server).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = UnbufferedClientConnection::new(client, name).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let nothing = &mut |_: &[u8]| panic!("nothing is said in a handshake");
    while client.is_handshaking() || server.is_handshaking() {
        shake_client(&mut client, &mut to_client, &mut to_server);
        let read = machine::read(&mut server, &mut to_server, nothing, &mut to_client).unwrap();
        to_server.drain(..read.consumed);
    }
    assert!(to_server.is_empty() && to_client.is_empty());
    (server, client)
}

/// The client does what it can with what came.
fn shake_client(
    client: &mut UnbufferedClientConnection,
    incoming: &mut Vec<u8>,
    unsent: &mut Vec<u8>,
) {
    loop {
        let UnbufferedStatus { discard, state } = client.process_tls_records(incoming);
        let goes_on = match state.unwrap() {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = [0; 4096];
                let written = data.encode(&mut room).unwrap();
                unsent.extend_from_slice(&room[..written]);
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                true
            }
            _ => false,
        };
        incoming.drain(..discard);
        if !goes_on {
            return;
        }
    }
}

fn configurations(suite: CipherSuite) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let mut crypto = provider::default_provider();
    crypto.cipher_suites.retain(|known| known.suite() == suite);
    // What they agree on is not looked at: the cheapest there is.
    crypto.kx_groups = vec![provider::kx_group::X25519];
    let crypto = Arc::new(crypto);
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.as_ref()).into();
    let key = provider::sign::any_ecdsa_type(&key).unwrap();
    let chain = vec![CertificateDer::from(b"nobody looks".as_slice())];
    let certified = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certified);
    server.send_tls13_tickets = 0;
    server.enable_secret_extraction = true;
    let mut client = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believing))
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
}

/// Who the server is does not matter here.
#[derive(Debug)]
struct Believing;

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
