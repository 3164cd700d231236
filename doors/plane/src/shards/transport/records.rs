//! The records of TLS 1.3 after its handshake (RFC 8446 section 5). rustls shakes hands, keeps the
//! traffic secrets and makes the next ones; what is done for each message is done here, with little
//! memory and no copy: a shard has many thousands of these, and touches a cold one for each message.
//!
//! Stricter than it must be in one thing: a KeyUpdate comes in a record of its own, whole.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, Error, InvalidMessage, NamedGroup, PeerMisbehaved,
    ProtocolVersion,
};

const HEADER_BYTES: usize = 5;
/// Content of one record, at most (section 5.1).
pub const CONTENT_BYTES_MAX: u16 = 16 * 1024;
/// An encrypted record is no longer (section 5.2).
const ENCRYPTED_BYTES_MAX: usize = CONTENT_BYTES_MAX as usize + 256;
const TAG_BYTES: usize = 16;
/// What aws-lc keeps of an AES-GCM key, at most: its schedule and the tables of GHASH (`EVP_AEAD_CTX`).
pub const KEY_BYTES: usize = 584;
/// Sealed with one key, at most: half of what section 5.5 allows AES-GCM.
const SEALED_MAX: u64 = 1 << 23;
/// Records that carry nothing for us, one after the other: a peer that sends more wants our time.
const EMPTY_IN_SUCCESSION_MAX: u8 = 32;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const KEY_UPDATE: u8 = 24;

/// What was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of whole records, from the front; the rest is the beginning of one.
    pub consumed: usize,
    /// The peer has said goodbye; what came behind that is not looked at.
    pub has_ended: bool,
}

/// A connection's records, in both directions.
pub struct Records {
    opening: Keys,
    sealing: Keys,
    content_bytes_max: u16,
    empty_in_succession: u8,
    /// The peer wants our keys changed before we say more.
    owes_update: bool,
    group: Option<NamedGroup>,
    /// Boxed: it is large, and asked for new keys alone.
    secrets: Box<KernelConnection<ServerConnectionData>>,
}

impl Records {
    /// Goes on after a handshake. Nothing that `tls` has to send may be left in it.
    ///
    /// # Errors
    /// It is not TLS 1.3, its configuration keeps the secrets, or something is left to send.
    pub fn after(tls: UnbufferedServerConnection, content_bytes_max: u16) -> Result<Self, Error> {
        let group = tls.negotiated_key_exchange_group();
        let group = group.map(rustls::crypto::SupportedKxGroup::name);
        let (secrets, connection) = tls.dangerous_into_kernel_connection()?;
        if connection.protocol_version() != ProtocolVersion::TLSv1_3 {
            return Err(Error::General("records are of TLS 1.3".into()));
        }
        Ok(Self {
            opening: Keys::new(secrets.rx)?,
            sealing: Keys::new(secrets.tx)?,
            content_bytes_max: content_bytes_max.clamp(1, CONTENT_BYTES_MAX),
            empty_in_succession: 0,
            owes_update: false,
            group,
            secrets: Box::new(connection),
        })
    }

    /// Those by which the next record is opened and sealed.
    pub fn keys(&self) -> [&LessSafeKey; 2] {
        [&self.opening.key, &self.sealing.key]
    }

    /// By which keys were exchanged.
    pub fn group(&self) -> Option<NamedGroup> {
        self.group
    }

    /// Decrypts the whole records at the front of `incoming`, in place, and hands over what they
    /// carry, in order.
    ///
    /// # Errors
    /// The peer broke a rule, or somebody changed its words: the connection is over, and what is to be
    /// said of it is behind `unsent`.
    pub fn open(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
        unsent: &mut Vec<u8>,
    ) -> Result<Opened, Error> {
        let mut opened = Opened {
            consumed: 0,
            has_ended: false,
        };
        while !opened.has_ended {
            let rest = incoming.get_mut(opened.consumed..).unwrap_or_default();
            let taken = match self.open_one(rest, plaintext) {
                Ok(Some(taken)) => taken,
                Ok(None) => break,
                Err(Fault { alert, error }) => {
                    // If that cannot be said the connection ends without it.
                    let _ = alert.map(|alert| self.seal_alert(alert, unsent));
                    return Err(error);
                }
            };
            opened.consumed += taken.consumed;
            opened.has_ended = taken.has_ended;
        }
        Ok(opened)
    }

    /// `None`: the record is not whole yet.
    fn open_one(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<Opened>, Fault> {
        let Some((header, rest)) = incoming.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [content_type, _, _, high, low] = *header;
        if content_type != APPLICATION_DATA {
            // Nothing else is said in clear any more, an alert neither (section 5).
            return Err(Fault::unexpected());
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > ENCRYPTED_BYTES_MAX {
            return Err(Fault::oversized());
        }
        let Some(encrypted) = rest.get_mut(..length) else {
            return Ok(None);
        };
        let inner = self.opening.open(*header, encrypted)?;
        // Zeros behind the type hide how long the content is, and count to it (section 5.4).
        if inner.len() > usize::from(CONTENT_BYTES_MAX) + 1 {
            return Err(Fault::oversized());
        }
        let Some(end) = inner.iter().rposition(|byte| *byte != 0) else {
            return Err(Fault::unexpected());
        };
        let (content, content_type) = inner.split_at(end);
        let has_ended = match content_type.first() {
            Some(&APPLICATION_DATA) if !content.is_empty() => {
                self.empty_in_succession = 0;
                plaintext(content);
                false
            }
            Some(&APPLICATION_DATA) => self.bring_nothing()?,
            Some(&ALERT) => self.take_alert(content)?,
            Some(&HANDSHAKE) => self.update_opening(content)?,
            _ => return Err(Fault::unexpected()),
        };
        Ok(Some(Opened {
            consumed: HEADER_BYTES + length,
            has_ended,
        }))
    }

    fn bring_nothing(&mut self) -> Result<bool, Fault> {
        self.empty_in_succession += 1;
        if self.empty_in_succession > EMPTY_IN_SUCCESSION_MAX {
            return Err(Fault::new(
                AlertDescription::UnexpectedMessage,
                PeerMisbehaved::TooManyEmptyFragments.into(),
            ));
        }
        Ok(false)
    }

    /// Whether it is a goodbye. Of its two bytes the second counts (section 6).
    fn take_alert(&mut self, content: &[u8]) -> Result<bool, Fault> {
        let [_, said] = *content else {
            let error = InvalidMessage::MessageTooShort.into();
            return Err(Fault::new(AlertDescription::DecodeError, error));
        };
        match AlertDescription::from(said) {
            AlertDescription::CloseNotify => Ok(true),
            // A goodbye follows, which is what counts (section 6.1).
            AlertDescription::UserCanceled => self.bring_nothing(),
            said => Err(Fault {
                alert: None,
                error: Error::AlertReceived(said),
            }),
        }
    }

    /// The only handshake message that a client has left to say (section 4.6.3).
    fn update_opening(&mut self, content: &[u8]) -> Result<bool, Fault> {
        let [KEY_UPDATE, 0, 0, 1, request] = *content else {
            return Err(Fault::unexpected());
        };
        if request > 1 {
            let error = InvalidMessage::InvalidKeyUpdate.into();
            return Err(Fault::new(AlertDescription::IllegalParameter, error));
        }
        self.bring_nothing()?;
        let next = self.secrets.update_rx_secret().and_then(Keys::new);
        self.opening = next.map_err(|e| Fault::new(AlertDescription::InternalError, e))?;
        self.owes_update |= request == 1;
        Ok(false)
    }

    /// Encrypts `plaintext` behind `unsent`, in as few records as it may.
    ///
    /// # Errors
    /// No more can be sealed: the connection is over.
    pub fn seal(&mut self, plaintext: &[u8], unsent: &mut Vec<u8>) -> Result<(), Error> {
        for content in plaintext.chunks(usize::from(self.content_bytes_max)) {
            if self.owes_update || self.sealing.sequence >= SEALED_MAX {
                self.update_sealing(unsent)?;
            }
            self.sealing.seal(APPLICATION_DATA, content, unsent)?;
        }
        Ok(())
    }

    /// Says close_notify behind `unsent`; nothing may be sealed after it.
    ///
    /// # Errors
    /// As [`Records::seal`].
    pub fn goodbye(&mut self, unsent: &mut Vec<u8>) -> Result<(), Error> {
        self.seal_alert(AlertDescription::CloseNotify, unsent)
    }

    fn seal_alert(&mut self, alert: AlertDescription, unsent: &mut Vec<u8>) -> Result<(), Error> {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        let level = match alert {
            AlertDescription::CloseNotify => WARNING,
            _ => FATAL,
        };
        self.sealing.seal(ALERT, &[level, alert.into()], unsent)
    }

    fn update_sealing(&mut self, unsent: &mut Vec<u8>) -> Result<(), Error> {
        const NOT_REQUESTED: u8 = 0;
        let update = [KEY_UPDATE, 0, 0, 1, NOT_REQUESTED];
        self.sealing.seal(HANDSHAKE, &update, unsent)?;
        self.sealing = self.secrets.update_tx_secret().and_then(Keys::new)?;
        self.owes_update = false;
        Ok(())
    }
}

/// Why a connection is over, and what the peer is told of it.
struct Fault {
    alert: Option<AlertDescription>,
    error: Error,
}

impl Fault {
    fn new(alert: AlertDescription, error: Error) -> Self {
        let alert = Some(alert);
        Self { alert, error }
    }

    fn oversized() -> Self {
        let error = Error::PeerSentOversizedRecord;
        Self::new(AlertDescription::RecordOverflow, error)
    }

    fn unexpected() -> Self {
        let error = InvalidMessage::UnexpectedMessage("a record that may not come here").into();
        Self::new(AlertDescription::UnexpectedMessage, error)
    }
}

/// The keys of one direction.
struct Keys {
    key: LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    /// Of the next record.
    sequence: u64,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => return Err(Error::General("a cipher that is not known here".into())),
        };
        let unusable = |_| Error::General("a key that does not fit its cipher".into());
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(unusable)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| Error::EncryptError)?,
            sequence,
        })
    }

    /// Used once: the number of the record in it is not given again (section 5.3).
    fn next_nonce(&mut self) -> Option<Nonce> {
        let mut nonce = self.iv;
        let (_, low) = nonce.split_last_chunk_mut::<8>()?;
        *low = (u64::from_be_bytes(*low) ^ self.sequence).to_be_bytes();
        self.sequence = self.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    fn open<'a>(
        &mut self,
        header: [u8; HEADER_BYTES],
        encrypted: &'a mut [u8],
    ) -> Result<&'a [u8], Fault> {
        let altered = || Fault::new(AlertDescription::BadRecordMac, Error::DecryptError);
        let nonce = self.next_nonce().ok_or_else(altered)?;
        let opened = self.key.open_in_place(nonce, Aad::from(header), encrypted);
        opened.map(|inner| &*inner).map_err(|_| altered())
    }

    fn seal(&mut self, content_type: u8, content: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let encrypted_bytes = content.len() + 1 + TAG_BYTES;
        let length = u16::try_from(encrypted_bytes).map_err(|_| Error::EncryptError)?;
        let [high, low] = length.to_be_bytes();
        // The version is that of TLS 1.2, for who looks on (section 5.2).
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let nonce = self.next_nonce().ok_or(Error::EncryptError)?;
        out.reserve(HEADER_BYTES + encrypted_bytes);
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(content);
        out.push(content_type);
        let inner = out.get_mut(start..).unwrap_or_default();
        let sealed = (self.key).seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        match sealed {
            Ok(tag) => {
                out.extend_from_slice(tag.as_ref());
                Ok(())
            }
            Err(_) => {
                // What was not encrypted must not leave.
                out.truncate(start - HEADER_BYTES);
                Err(Error::EncryptError)
            }
        }
    }
}

#[cfg(test)]
mod tests;
