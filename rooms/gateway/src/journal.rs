//! What a persistent session leaves on disk: records, and how they are read back.
//!
//! A record is `version (1) · kind · partition · number (u32) · body`, integers little endian. The
//! number names a session within its partition. Bodies:
//!
//! | kind | body |
//! |---|---|
//! | 1 session opened | principal kind (1 device, 2 service) · name · client id · product (may be empty) · u16 count · groups · expiry seconds (u32) · first sequence (u64) |
//! | 2 subscribed | filter · options (bit 0 QoS 1, bit 1 no local, bit 2 retain as published) |
//! | 3 unsubscribed | filter |
//! | 4 queued | sequence (u64) · expires at (u64, milliseconds since 1970; 0: never) · topic · u32 length · forwarded properties · payload to the end |
//! | 5 acknowledged | sequence (u64) |
//! | 6 session ended | nothing |
//!
//! A text is a u16 length and UTF-8. The journal that stores records guards them by checksums; this
//! decoder still takes any bytes: disks rot, and a record is never trusted further than it parses.

use crate::queue::Outbound;
use access::Facts;
use model::{DeviceId, GroupId, Principal, ProductId, ServiceId, Timestamp};
use mqtt::{Filter, ForwardProperties};

const VERSION: u8 = 1;
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
    SessionEnded,
}

/// What a subscriber asked for with a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Options {
    pub at_least_once: bool,
    pub no_local: bool,
    pub retain_as_published: bool,
}

impl Record<'_> {
    pub(crate) fn write(&self, key: Key, out: &mut Vec<u8>) {
        let kind = match self {
            Self::SessionOpened { .. } => 1,
            Self::Subscribed { .. } => 2,
            Self::Unsubscribed { .. } => 3,
            Self::Queued { .. } => 4,
            Self::Acknowledged { .. } => 5,
            Self::SessionEnded => 6,
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
                out.push(match facts.principal {
                    Principal::Device(_) => 1,
                    Principal::Service(_) => 2,
                });
                write_text(out, facts.principal.name());
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
                    u8::from(options.at_least_once)
                        | u8::from(options.no_local) << 1
                        | u8::from(options.retain_as_published) << 2,
                );
            }
            Self::Unsubscribed { filter } => write_text(out, filter.as_str()),
            Self::Queued { sequence, message } => {
                out.extend_from_slice(&sequence.to_le_bytes());
                let expires_at = message.expires_at.map_or(0, Timestamp::as_millis);
                out.extend_from_slice(&expires_at.to_le_bytes());
                write_text(out, message.topic);
                let forward = u32::try_from(message.forward.encoded_length()).unwrap_or(0);
                out.extend_from_slice(&forward.to_le_bytes());
                message.forward.append_to(out);
                out.extend_from_slice(message.payload);
            }
            Self::Acknowledged { sequence } => out.extend_from_slice(&sequence.to_le_bytes()),
            Self::SessionEnded => {}
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
            if bits > 7 {
                return Err("subscription options have three bits");
            }
            let options = Options {
                at_least_once: bits & 1 != 0,
                no_local: bits & 2 != 0,
                retain_as_published: bits & 4 != 0,
            };
            Record::Subscribed { filter, options }
        }
        3 => Record::Unsubscribed {
            filter: reader.filter()?,
        },
        4 => reader.queued()?,
        5 => Record::Acknowledged {
            sequence: u64::from_le_bytes(reader.array()?),
        },
        6 => Record::SessionEnded,
        _ => return Err("the kind of a record is 1 to 6"),
    };
    if reader.0.is_empty() {
        Ok((key, record))
    } else {
        Err("bytes follow the record's last field")
    }
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

    fn session_opened(&mut self) -> Result<Record<'r>, &'static str> {
        const NAME: &str = "a name is a valid name";
        let kind = self.byte()?;
        let name = self.text()?;
        let principal = match kind {
            1 => Principal::Device(DeviceId::new(name).map_err(|_| NAME)?),
            2 => Principal::Service(ServiceId::new(name).map_err(|_| NAME)?),
            _ => return Err("a principal is a device or a service"),
        };
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

    fn queued(&mut self) -> Result<Record<'r>, &'static str> {
        let sequence = u64::from_le_bytes(self.array()?);
        let expires_at = match u64::from_le_bytes(self.array()?) {
            0 => None,
            millis => Some(Timestamp::from_millis(millis)),
        };
        let topic = self.text()?;
        if !mqtt::is_topic(topic) {
            return Err("a topic is a valid MQTT topic");
        }
        let length = u32::from_le_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| "a field runs past the record")?;
        let forward = ForwardProperties::from_validated(self.take(length)?);
        let payload = std::mem::take(&mut self.0);
        Ok(Record::Queued {
            sequence,
            message: Outbound {
                topic,
                forward,
                payload,
                expires_at,
            },
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
            at_least_once: true,
            no_local: false,
            retain_as_published: true,
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
                    matches!(record, Record::Queued { .. }),
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
