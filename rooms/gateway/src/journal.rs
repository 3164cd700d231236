//! What persistent sessions and retained messages leave on disk: records, and how they are read
//! back.
//!
//! A record is `version (1) · kind · partition · number (u32) · body`, integers little endian. The
//! number names a session within its partition; of a retained message, whose partition is its
//! topic's, it is 0. Bodies:
//!
//! | kind | body |
//! |---|---|
//! | 1 session opened | principal kind (1 device, 2 service) · name · client id · product (may be empty) · u16 count · groups · expiry seconds (u32) · first sequence (u64) |
//! | 2 subscribed | filter · options (bit 0 QoS 1, bit 1 no local, bit 2 retain as published, bit 3 QoS 2, bit 4 an identifier (u32) follows) |
//! | 3 unsubscribed | filter |
//! | 4 queued, QoS 1 | sequence (u64) · expires at (u64, milliseconds since 1970; 0: never) · topic · u32 length · forwarded properties · payload to the end |
//! | 5 acknowledged | sequence (u64) |
//! | 6 session ended | nothing |
//! | 7 queued, other | flags (bits 0 and 1 QoS, bit 2 retain, bit 3 shared) · as 4 |
//! | 8 released: the client has it | sequence (u64) |
//! | 9 received: a QoS 2 message of the client was taken | packet identifier (u16) |
//! | 10 completed: it was released | packet identifier (u16) |
//! | 11 retained | principal kind · name · flags as 7 · kept at (u64) · as 4 without sequence |
//! | 12 no longer retained | topic |
//! | 13 will of a session that lasts | due at (u64, milliseconds; 0 while its client is here) · delay seconds (u32) · certificate (32 bytes of its issuer, u8 length, serial number) · flags as 7 · as 4 without sequence |
//! | 14 will gone: taken back or fired | nothing |
//! | 15 waits: its client is away, or back | ends at (u64, milliseconds; 0: its client is here) |
//!
//! A text is a u16 length and UTF-8. The journal that stores records guards them by checksums; this
//! decoder still takes any bytes: disks rot, and a record is never trusted further than it parses.

use crate::queue::Outbound;
use access::Facts;
use model::{CertificateId, DeviceId, Digest, GroupId, Principal, ProductId, ServiceId, Timestamp};
use mqtt::{Filter, ForwardProperties, Qos};

const VERSION: u8 = 1;
const NAME: &str = "a name is a valid name";
/// The share of a message out of the journal: which one is found by its topic.
pub(crate) const UNKNOWN_SHARE: u32 = u32::MAX;
/// Groups of one principal in a record.
const GROUPS_MAX: u16 = 4096;

/// Names a session in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub partition: u8,
    pub number: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Record<'r> {
    SessionOpened {
        facts: Facts,
        client_id: &'r str,
        expiry_seconds: u32,
        first_sequence: u64,
    },
    Subscribed {
        filter: Filter,
        options: Options,
    },
    Unsubscribed {
        filter: Filter,
    },
    Queued {
        sequence: u64,
        message: Outbound<'r>,
    },
    Acknowledged {
        sequence: u64,
    },
    Released {
        sequence: u64,
    },
    Received {
        packet_id: u16,
    },
    Completed {
        packet_id: u16,
    },
    SessionEnded,
    Retained {
        publisher: Principal,
        kept_at: Timestamp,
        message: Outbound<'r>,
    },
    Forgotten {
        topic: &'r str,
    },
    Will {
        /// `None` while its client is connected.
        due_at: Option<Timestamp>,
        delay_seconds: u32,
        certificate: CertificateId,
        message: Outbound<'r>,
    },
    WillGone,
    /// When the session ends if its client does not come; `None`: it has come.
    Waits {
        ends_at: Option<Timestamp>,
    },
}

/// What a subscriber asked for with a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Options {
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub subscription_id: Option<u32>,
}

impl Record<'_> {
    pub(crate) fn write(&self, key: Key, out: &mut Vec<u8>) {
        let kind = match self {
            Self::SessionOpened { .. } => 1,
            Self::Subscribed { .. } => 2,
            Self::Unsubscribed { .. } => 3,
            Self::Queued { message, .. } if is_plain(message) => 4,
            Self::Acknowledged { .. } => 5,
            Self::SessionEnded => 6,
            Self::Queued { .. } => 7,
            Self::Released { .. } => 8,
            Self::Received { .. } => 9,
            Self::Completed { .. } => 10,
            Self::Retained { .. } => 11,
            Self::Forgotten { .. } => 12,
            Self::Will { .. } => 13,
            Self::WillGone => 14,
            Self::Waits { .. } => 15,
        };
        out.extend_from_slice(&[VERSION, kind, key.partition]);
        out.extend_from_slice(&key.number.to_le_bytes());
        match self {
            Self::SessionOpened {
                facts,
                client_id,
                expiry_seconds,
                first_sequence,
            } => {
                write_principal(out, &facts.principal);
                write_text(out, client_id);
                write_text(
                    out,
                    facts
                        .product
                        .as_ref()
                        .map_or("", |product| product.as_str()),
                );
                let groups = u16::try_from(facts.groups.len())
                    .unwrap_or(u16::MAX)
                    .min(GROUPS_MAX);
                out.extend_from_slice(&groups.to_le_bytes());
                for group in facts.groups.iter().take(usize::from(groups)) {
                    write_text(out, group.as_str());
                }
                out.extend_from_slice(&expiry_seconds.to_le_bytes());
                out.extend_from_slice(&first_sequence.to_le_bytes());
            }
            Self::Subscribed { filter, options } => {
                write_text(out, filter.as_str());
                out.push(
                    u8::from(options.qos == Qos::AtLeastOnce)
                        | u8::from(options.no_local) << 1
                        | u8::from(options.retain_as_published) << 2
                        | u8::from(options.qos == Qos::ExactlyOnce) << 3
                        | u8::from(options.subscription_id.is_some()) << 4,
                );
                if let Some(identifier) = options.subscription_id {
                    out.extend_from_slice(&identifier.to_le_bytes());
                }
            }
            Self::Unsubscribed { filter } => write_text(out, filter.as_str()),
            Self::Queued { sequence, message } => {
                if !is_plain(message) {
                    out.push(flags_of(message));
                }
                out.extend_from_slice(&sequence.to_le_bytes());
                write_message(out, message);
            }
            Self::Acknowledged { sequence } | Self::Released { sequence } => {
                out.extend_from_slice(&sequence.to_le_bytes());
            }
            Self::Received { packet_id } | Self::Completed { packet_id } => {
                out.extend_from_slice(&packet_id.to_le_bytes());
            }
            Self::SessionEnded | Self::WillGone => {}
            Self::Will {
                due_at,
                delay_seconds,
                certificate,
                message,
            } => {
                write_moment(out, *due_at);
                out.extend_from_slice(&delay_seconds.to_le_bytes());
                write_certificate(out, certificate);
                out.push(flags_of(message));
                write_message(out, message);
            }
            Self::Waits { ends_at } => write_moment(out, *ends_at),
            Self::Retained {
                publisher,
                kept_at,
                message,
            } => {
                write_principal(out, publisher);
                out.push(flags_of(message));
                out.extend_from_slice(&kept_at.as_millis().to_le_bytes());
                write_message(out, message);
            }
            Self::Forgotten { topic } => write_text(out, topic),
        }
    }
}

/// Whose record it is, from its first bytes alone.
pub(crate) fn read_key(record: &[u8]) -> Result<Key, &'static str> {
    let mut reader = Reader(record);
    reader.version()?;
    reader.byte()?;
    reader.key()
}

/// # Errors
/// The rule that the bytes break.
pub(crate) fn read(record: &[u8]) -> Result<(Key, Record<'_>), &'static str> {
    let mut reader = Reader(record);
    reader.version()?;
    let kind = reader.byte()?;
    let key = reader.key()?;
    let record = match kind {
        1 => reader.session_opened()?,
        2 => {
            let filter = reader.filter()?;
            let bits = reader.byte()?;
            let qos = match bits & 0b1001 {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                0b1000 => Qos::ExactlyOnce,
                _ => return Err("a subscription has one QoS"),
            };
            if bits > 0b1_1111 {
                return Err("subscription options have five bits");
            }
            let subscription_id = match bits & 0b1_0000 {
                0 => None,
                _ => Some(u32::from_le_bytes(reader.array()?)),
            };
            let options = Options {
                qos,
                no_local: bits & 2 != 0,
                retain_as_published: bits & 4 != 0,
                subscription_id,
            };
            Record::Subscribed { filter, options }
        }
        3 => Record::Unsubscribed {
            filter: reader.filter()?,
        },
        4 => {
            let sequence = u64::from_le_bytes(reader.array()?);
            let message = reader.message(Qos::AtLeastOnce as u8)?;
            Record::Queued { sequence, message }
        }
        5 => Record::Acknowledged {
            sequence: u64::from_le_bytes(reader.array()?),
        },
        6 => Record::SessionEnded,
        7 => {
            let flags = reader.byte()?;
            let sequence = u64::from_le_bytes(reader.array()?);
            let message = reader.message(flags)?;
            if is_plain(&message) {
                return Err("a plain message of QoS 1 has a kind of its own");
            }
            Record::Queued { sequence, message }
        }
        8 => Record::Released {
            sequence: u64::from_le_bytes(reader.array()?),
        },
        9 => Record::Received {
            packet_id: u16::from_le_bytes(reader.array()?),
        },
        10 => Record::Completed {
            packet_id: u16::from_le_bytes(reader.array()?),
        },
        11 => {
            let publisher = reader.principal()?;
            let flags = reader.byte()?;
            Record::Retained {
                publisher,
                kept_at: Timestamp::from_millis(u64::from_le_bytes(reader.array()?)),
                message: reader.message(flags)?,
            }
        }
        12 => Record::Forgotten {
            topic: reader.text()?,
        },
        13 => {
            let due_at = reader.moment()?;
            let delay_seconds = u32::from_le_bytes(reader.array()?);
            let certificate = reader.certificate()?;
            let flags = reader.byte()?;
            Record::Will {
                due_at,
                delay_seconds,
                certificate,
                message: reader.message(flags)?,
            }
        }
        14 => Record::WillGone,
        15 => Record::Waits {
            ends_at: reader.moment()?,
        },
        _ => return Err("the kind of a record is 1 to 15"),
    };
    if reader.0.is_empty() {
        Ok((key, record))
    } else {
        Err("bytes follow the record's last field")
    }
}

/// QoS 1 and nothing else to say.
fn is_plain(message: &Outbound<'_>) -> bool {
    message.qos == Qos::AtLeastOnce && !message.retain && message.share.is_none()
}

fn flags_of(message: &Outbound<'_>) -> u8 {
    message.qos as u8 | u8::from(message.retain) << 2 | u8::from(message.share.is_some()) << 3
}

/// All of a message but what its flags say.
fn write_message(out: &mut Vec<u8>, message: &Outbound<'_>) {
    write_moment(out, message.expires_at);
    write_text(out, message.topic);
    let forward = u32::try_from(message.forward.encoded_length()).unwrap_or(0);
    out.extend_from_slice(&forward.to_le_bytes());
    message.forward.append_to(out);
    out.extend_from_slice(message.payload);
}

/// 0 is none.
fn write_moment(out: &mut Vec<u8>, at: Option<Timestamp>) {
    out.extend_from_slice(&at.map_or(0, Timestamp::as_millis).to_le_bytes());
}

fn write_certificate(out: &mut Vec<u8>, certificate: &CertificateId) {
    out.extend_from_slice(&certificate.issuer().0);
    // At most 20 bytes.
    out.push(u8::try_from(certificate.serial().len()).unwrap_or(0));
    out.extend_from_slice(certificate.serial());
}

fn write_principal(out: &mut Vec<u8>, principal: &Principal) {
    out.push(match principal {
        Principal::Device(_) => 1,
        Principal::Service(_) => 2,
    });
    write_text(out, principal.name());
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Names, client identifiers, filters and topics all came through a u16 length.
    let length = u16::try_from(text.len()).unwrap_or(0);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(
        text.as_bytes()
            .get(..usize::from(length))
            .unwrap_or_default(),
    );
}

struct Reader<'r>(&'r [u8]);

impl<'r> Reader<'r> {
    fn take(&mut self, length: usize) -> Result<&'r [u8], &'static str> {
        let (head, rest) =
            (self.0.split_at_checked(length)).ok_or("a field runs past the record")?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        (self.take(N)?.try_into()).map_err(|_| "a field runs past the record")
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn version(&mut self) -> Result<(), &'static str> {
        match self.byte()? {
            VERSION => Ok(()),
            _ => Err("the record is of another version"),
        }
    }

    fn key(&mut self) -> Result<Key, &'static str> {
        Ok(Key {
            partition: self.byte()?,
            number: u32::from_le_bytes(self.array()?),
        })
    }

    fn text(&mut self) -> Result<&'r str, &'static str> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(usize::from(length))?).map_err(|_| "a text is UTF-8")
    }

    fn filter(&mut self) -> Result<Filter, &'static str> {
        Filter::new(self.text()?).map_err(|_| "a filter is a valid MQTT filter")
    }

    fn moment(&mut self) -> Result<Option<Timestamp>, &'static str> {
        let millis = u64::from_le_bytes(self.array()?);
        Ok((millis > 0).then(|| Timestamp::from_millis(millis)))
    }

    fn certificate(&mut self) -> Result<CertificateId, &'static str> {
        const RULE: &str = "a serial number has 1 to 20 bytes and no zero in front";
        let issuer = Digest(self.array()?);
        let length = self.byte()?;
        let serial = self.take(usize::from(length))?;
        (CertificateId::new(issuer, serial))
            .filter(|certificate| certificate.serial() == serial)
            .ok_or(RULE)
    }

    fn principal(&mut self) -> Result<Principal, &'static str> {
        let kind = self.byte()?;
        let name = self.text()?;
        match kind {
            1 => Ok(Principal::Device(DeviceId::new(name).map_err(|_| NAME)?)),
            2 => Ok(Principal::Service(ServiceId::new(name).map_err(|_| NAME)?)),
            _ => Err("a principal is a device or a service"),
        }
    }

    fn session_opened(&mut self) -> Result<Record<'r>, &'static str> {
        let principal = self.principal()?;
        let client_id = self.text()?;
        let product = match self.text()? {
            "" => None,
            product => Some(ProductId::new(product).map_err(|_| NAME)?),
        };
        let count = u16::from_le_bytes(self.array()?);
        if count > GROUPS_MAX {
            return Err("a principal has at most 4096 groups");
        }
        let mut groups = Vec::new();
        for _ in 0..count {
            groups.push(GroupId::new(self.text()?).map_err(|_| NAME)?);
        }
        Ok(Record::SessionOpened {
            facts: Facts {
                principal,
                product,
                groups,
                // Only services leave records, and they are not contained but revoked.
                attributes: Default::default(),
                containment: None,
                assurance: model::Assurance::default(),
            },
            client_id,
            expiry_seconds: u32::from_le_bytes(self.array()?),
            first_sequence: u64::from_le_bytes(self.array()?),
        })
    }

    /// A message to the end of the record.
    fn message(&mut self, flags: u8) -> Result<Outbound<'r>, &'static str> {
        if flags > 0b1111 {
            return Err("a message has four flags");
        }
        let qos = Qos::from_bits(flags & 0b11).ok_or("a QoS is 0 to 2")?;
        let expires_at = self.moment()?;
        let topic = self.text()?;
        if !mqtt::is_topic(topic) {
            return Err("a topic is a valid MQTT topic");
        }
        let length = u32::from_le_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| "a field runs past the record")?;
        let forward = ForwardProperties::from_validated(self.take(length)?);
        Ok(Outbound {
            topic,
            forward,
            payload: std::mem::take(&mut self.0),
            expires_at,
            qos,
            retain: flags & 0b100 != 0,
            share: (flags & 0b1000 != 0).then_some(UNKNOWN_SHARE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Vec<u8>> {
        let key = Key {
            partition: 7,
            number: 9,
        };
        let filter = Filter::new("v1/+/up/#").unwrap();
        let options = Options {
            qos: Qos::AtLeastOnce,
            no_local: false,
            retain_as_published: true,
            subscription_id: None,
        };
        let facts = Facts {
            principal: Principal::Service(ServiceId::new("ingest").unwrap()),
            product: None,
            groups: vec![GroupId::new("eu").unwrap()],
            attributes: Default::default(),
            containment: None,
            assurance: model::Assurance::default(),
        };
        let message = Outbound {
            topic: "v1/cam-1/up/x",
            forward: ForwardProperties::from_validated(&[1, 1]),
            payload: b"payload",
            expires_at: Some(Timestamp::from_seconds(5)),
            qos: Qos::AtLeastOnce,
            retain: false,
            share: None,
        };
        [
            Record::SessionOpened {
                facts,
                client_id: "ingest:a",
                expiry_seconds: 60,
                first_sequence: 3,
            },
            Record::Subscribed {
                filter: filter.clone(),
                options,
            },
            Record::Unsubscribed { filter },
            Record::Queued {
                sequence: 3,
                message,
            },
            Record::Acknowledged { sequence: 3 },
            Record::SessionEnded,
            Record::Subscribed {
                filter: Filter::new("$share/g/v1/+/up/#").unwrap(),
                options: Options {
                    qos: Qos::ExactlyOnce,
                    subscription_id: Some(456_789),
                    ..options
                },
            },
            Record::Queued {
                sequence: 4,
                message: Outbound {
                    qos: Qos::ExactlyOnce,
                    retain: true,
                    share: Some(1),
                    ..message
                },
            },
            Record::Released { sequence: 4 },
            Record::Received { packet_id: 9 },
            Record::Completed { packet_id: 9 },
            Record::Retained {
                publisher: Principal::Device(DeviceId::new("cam-1").unwrap()),
                kept_at: Timestamp::from_seconds(7),
                message: Outbound {
                    retain: true,
                    ..message
                },
            },
            Record::Forgotten {
                topic: "v1/cam-1/up/x",
            },
            Record::Will {
                due_at: None,
                delay_seconds: 30,
                certificate: CertificateId::new(Digest([3; 32]), &[0x80, 0]).unwrap(),
                message: Outbound {
                    expires_at: None,
                    ..message
                },
            },
            Record::Will {
                due_at: Some(Timestamp::from_seconds(9)),
                delay_seconds: 30,
                certificate: CertificateId::new(Digest([4; 32]), &[0xff; 20]).unwrap(),
                message: Outbound {
                    qos: Qos::ExactlyOnce,
                    retain: true,
                    ..message
                },
            },
            Record::WillGone,
            Record::Waits {
                ends_at: Some(Timestamp::from_seconds(11)),
            },
            Record::Waits { ends_at: None },
        ]
        .iter()
        .map(|record| {
            let mut out = Vec::new();
            record.write(key, &mut out);
            out
        })
        .collect()
    }

    #[test]
    fn a_record_reads_back_and_writes_the_same() {
        for bytes in records() {
            let (key, record) = read(&bytes).unwrap();
            let mut again = Vec::new();
            record.write(key, &mut again);
            assert_eq!(again, bytes);
        }
    }

    #[test]
    fn every_cut_record_is_refused_or_shorter() {
        for bytes in records() {
            for end in 0..bytes.len() {
                let Ok((_, record)) = read(&bytes[..end]) else {
                    continue;
                };
                assert!(
                    matches!(
                        record,
                        Record::Queued { .. } | Record::Retained { .. } | Record::Will { .. }
                    ),
                    "{record:?} of {end} bytes"
                );
            }
        }
    }

    #[test]
    fn rotten_bytes_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for bytes in records() {
            for _ in 0..20_000 {
                let mut rotten = bytes.clone();
                for _ in 0..=random() % 3 {
                    let at = (random() % rotten.len() as u64) as usize;
                    rotten[at] = random() as u8;
                }
                if let Ok((key, record)) = read(&rotten) {
                    let mut again = Vec::new();
                    record.write(key, &mut again);
                    assert_eq!(again, rotten);
                }
            }
        }
    }
}
