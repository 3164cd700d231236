//! What is withdrawn here, carried to brokers that a fleet still uses.
//!
//! Our own doors never wait for it: what must be carried is a row before it is on its way, in the
//! change that records the revocation, and stays one until the broker took it or a day has passed.
//! The timer is `tasks/carry.rs`.

pub mod aws_iot;
pub mod emqx;
pub mod link;
pub mod mosquitto;
pub mod settings;

use crate::config::Config;
use crate::plane::Plane;
use crate::shared::Locked;
use crate::trouble::Trouble;
use aws_iot::AwsIot;
use emqx::Emqx;
use model::{CertificateId, DeviceId, Digest, Principal, Revocable, RevocationReason, Timestamp};
use mosquitto::Mosquitto;
use std::collections::BTreeSet;
use std::time::Duration;
use store::{CHANGE_ROWS_MAX, Change, Direction, Outgoing, Write};

/// The brokers of the configuration, and what wakes their tasks.
pub struct Brokers {
    pub mosquitto: Option<Mosquitto>,
    pub emqx: Option<Emqx>,
    pub aws_iot: Option<AwsIot>,
    /// Told for the broker at the same place in [`Broker::ALL`].
    queued: [tokio::sync::Notify; 3],
    last_queued_at: Locked<Timestamp>,
}

/// Kinds of brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    Mosquitto,
    Emqx,
    AwsIot,
}

impl Broker {
    pub const ALL: [Self; 3] = [Self::Mosquitto, Self::Emqx, Self::AwsIot];

    /// The outbox's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Emqx => "emqx",
            Self::AwsIot => "aws-iot",
        }
    }

    /// What is known of how well it works.
    #[must_use]
    pub const fn tried(self) -> &'static str {
        match self {
            Self::Mosquitto => "tried with Mosquitto 2.0.11",
            Self::Emqx | Self::AwsIot => {
                "tried against a stub made from the documentation, not against the service"
            }
        }
    }
}

/// The outbox's word for what is told to Mosquitto once more, when its list is in force.
pub const AGAIN: &str = "mosquitto-again";

impl Brokers {
    /// # Errors
    /// A file that is named and cannot be used, before any port opens.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let settings = &config.brokers;
        let brokers = Self {
            mosquitto: Mosquitto::new(settings)?,
            emqx: Emqx::new(settings)?,
            aws_iot: AwsIot::new(settings)?,
            queued: Default::default(),
            last_queued_at: Locked::default(),
        };
        for broker in brokers.configured() {
            tracing::info!(
                "revocations are carried to {} ({})",
                broker.name(),
                broker.tried()
            );
        }
        Ok(brokers)
    }

    /// Those that something is carried to.
    pub fn configured(&self) -> impl Iterator<Item = Broker> {
        let has = [
            self.mosquitto.is_some(),
            self.emqx.is_some(),
            self.aws_iot.is_some(),
        ];
        let all = Broker::ALL.into_iter().zip(has);
        all.filter_map(|(broker, is_there)| is_there.then_some(broker))
    }

    /// Something was revoked or released.
    pub fn nudge(&self) {
        for queued in &self.queued {
            queued.notify_one();
        }
    }

    /// Resolves when something was revoked or released since the last time.
    pub async fn nudged(&self, broker: Broker) {
        let [mosquitto, emqx, aws_iot] = &self.queued;
        match broker {
            Broker::Mosquitto => mosquitto.notified().await,
            Broker::Emqx => emqx.notified().await,
            Broker::AwsIot => aws_iot.notified().await,
        }
    }

    /// Strictly later each time: a release never overtakes the hold before it.
    fn queued_at(&self, at: Timestamp) -> Timestamp {
        let mut last = self.last_queued_at.lock();
        *last = at.max(last.plus(Duration::from_millis(1)));
        *last
    }
}

/// What is told of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    Out(RevocationReason),
    /// It was on hold and is released.
    In,
}

/// What waits to be told, as the outbox keeps it: a word and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Take it in no more.
    Out(Principal),
    /// End its session, as one of its certificates is barred: with another one it may come back.
    Kick(Principal),
    In(Principal),
    Certificate(Certificate, CertificateErrand),
}

/// A certificate that a broker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// One of ours.
    Ours(CertificateId),
    /// One that an existing fleet brought along, by SHA-256 of its DER.
    Pinned(Digest),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateErrand {
    Revoke,
    Hold,
    Release,
}

impl Errand {
    fn text(&self) -> String {
        match self {
            Self::Out(principal) => format!("out {principal}"),
            Self::Kick(principal) => format!("kick {principal}"),
            Self::In(principal) => format!("in {principal}"),
            Self::Certificate(certificate, errand) => {
                let word = match errand {
                    CertificateErrand::Revoke => "revoke",
                    CertificateErrand::Hold => "hold",
                    CertificateErrand::Release => "release",
                };
                match certificate {
                    Certificate::Ours(id) => format!("{word} {}", Revocable::Certificate(*id)),
                    Certificate::Pinned(fingerprint) => format!("{word} pinned/{fingerprint}"),
                }
            }
        }
    }

    /// `None`: another version wrote it.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let (word, whom) = text.split_once(' ')?;
        let errand = match word {
            "out" => return whom.parse().ok().map(Self::Out),
            "kick" => return whom.parse().ok().map(Self::Kick),
            "in" => return whom.parse().ok().map(Self::In),
            "revoke" => CertificateErrand::Revoke,
            "hold" => CertificateErrand::Hold,
            "release" => CertificateErrand::Release,
            _ => return None,
        };
        let certificate = match whom.strip_prefix("pinned/") {
            Some(fingerprint) => Certificate::Pinned(Digest::from_hex(fingerprint)?),
            None => match whom.parse().ok()? {
                Revocable::Certificate(id) => Certificate::Ours(id),
                _ => return None,
            },
        };
        Some(Self::Certificate(certificate, errand))
    }
}

/// A row that waits for a broker.
#[must_use]
pub fn row(channel: &str, errand: &Errand, at: Timestamp) -> Write {
    let text = errand.text();
    // An id has 128 bytes at most, and names may be long.
    let short: String = crate::plane::digest(text.as_bytes()).to_string();
    let short = short.get(..32).unwrap_or_default();
    Write::PutOutbox(Outgoing {
        id: format!("{channel}/{}/{short}", at.as_millis()),
        channel: channel.to_owned(),
        body: text.into_bytes(),
        created_at: at,
        attempts: 0,
        next_at: at,
        last_error: None,
    })
}

impl Plane {
    /// The rows that carry it; none where no broker is configured. What a CA issued is not told one
    /// by one: the broker must no longer believe it. Nor is it told who goes on with the next
    /// certificate: the list bars the one before.
    pub fn carried(&self, what: &[Revocable], telling: Telling, at: Timestamp) -> Vec<Write> {
        let by_name = [
            (self.brokers.mosquitto.as_ref()).is_some_and(Mosquitto::kicks),
            self.brokers.emqx.is_some(),
            (self.brokers.aws_iot.as_ref()).is_some_and(AwsIot::kicks),
        ];
        let by_certificate = self.brokers.aws_iot.is_some();
        if !by_certificate && !by_name.contains(&true) {
            return Vec::new();
        }
        let (mut whole, mut kicked) = (BTreeSet::new(), BTreeSet::new());
        let mut certificates = Vec::new();
        {
            let registry = self.trust().registry();
            for one in what {
                match one {
                    Revocable::Principal(principal) => {
                        whole.insert(principal.clone());
                    }
                    Revocable::Product(product) => whole.extend(
                        (registry.devices())
                            .filter(|device| device.product == product)
                            .map(|device| Principal::Device(device.device)),
                    ),
                    Revocable::Certificate(certificate) => {
                        certificates.push(Certificate::Ours(*certificate));
                        let replaced = telling == Telling::Out(RevocationReason::Superseded);
                        kicked.extend(registry.owner(certificate).filter(|_| !replaced));
                    }
                    Revocable::Issuer(_) => {}
                }
            }
            if by_certificate {
                let ours = whole.iter().flat_map(|one| registry.certificates_of(one));
                let good = ours.filter(|(_, end)| *end >= at);
                certificates.extend(good.map(|(id, _)| Certificate::Ours(id)));
                let devices: BTreeSet<&DeviceId> = (whole.iter())
                    .filter_map(|one| match one {
                        Principal::Device(device) => Some(device),
                        Principal::Service(_) => None,
                    })
                    .collect();
                let pinned = registry.pinned_of(|device| devices.contains(device));
                certificates.extend(pinned.into_iter().map(Certificate::Pinned));
            }
        }
        let at = self.brokers.queued_at(at);
        let mut rows = Vec::new();
        if by_certificate {
            let errand = match telling {
                Telling::Out(reason) if reason.is_hold() => CertificateErrand::Hold,
                Telling::Out(_) => CertificateErrand::Revoke,
                Telling::In => CertificateErrand::Release,
            };
            let errands = certificates.into_iter();
            rows.extend(errands.map(|certificate| {
                let errand = Errand::Certificate(certificate, errand);
                row(Broker::AwsIot.name(), &errand, at)
            }));
        }
        // What bars comes before what ends a session, which could come back else.
        let at = self.brokers.queued_at(at);
        let names = whole.iter().map(|one| (one, true));
        let names = names.chain(kicked.difference(&whole).map(|one| (one, false)));
        let channels = Broker::ALL.into_iter().zip(by_name);
        for (broker, _) in channels.filter(|(_, is_told)| *is_told) {
            rows.extend(names.clone().filter_map(|(principal, is_whole)| {
                let errand = match (telling, is_whole) {
                    (Telling::Out(_), true) => Errand::Out(principal.clone()),
                    (Telling::Out(_), false) => Errand::Kick(principal.clone()),
                    // Nothing but its certificates kept it out there.
                    (Telling::In, true) if broker == Broker::AwsIot => return None,
                    (Telling::In, true) => Errand::In(principal.clone()),
                    (Telling::In, false) => return None,
                };
                Some(row(broker.name(), &errand, at))
            }));
        }
        rows
    }

    /// Rows that did not fit into the change that they belong to.
    pub async fn queue(&self, rows: Vec<Write>) {
        for some in rows.chunks(CHANGE_ROWS_MAX) {
            let mut change = Change::new(Direction::Neutral);
            change.writes = some.to_vec();
            if let Err(trouble) = self.commit(change).await {
                tracing::error!("{} broker message(s) are lost ({trouble})", some.len());
            }
        }
    }

    /// Whether somebody may use no door, or one of its certificates none.
    #[must_use]
    pub fn is_barred(&self, principal: &Principal) -> bool {
        self.trust()
            .registry()
            .principal_revocation(principal)
            .is_some()
    }

    /// The name by which AWS knows a certificate, and whether it is barred, a hold or worse.
    ///
    /// # Errors
    /// The store's; [`None`] of a certificate that is on no record any more.
    pub fn named_for_aws(
        &self,
        certificate: &Certificate,
    ) -> Result<Option<(String, Option<RevocationReason>)>, Trouble> {
        Ok(match certificate {
            Certificate::Ours(id) => {
                let Some(row) = self.store.certificate(id)? else {
                    return Ok(None);
                };
                let registry = self.trust().registry();
                let bar = registry.certificate_revocation(id);
                let der = crate::plane::digest(&row.certificate.der);
                Some((der.to_string(), bar.map(|bar| bar.reason)))
            }
            Certificate::Pinned(fingerprint) => {
                let registry = self.trust().registry();
                let device = registry.pinned_to(fingerprint);
                let bar = device
                    .and_then(|device| registry.principal_revocation(&Principal::Device(device)));
                Some((fingerprint.to_string(), bar.map(|bar| bar.reason)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_is_read_back_from_its_row() {
        let principal = || "device/cam-1".parse().unwrap();
        let id = CertificateId::new(Digest([3; 32]), &[1, 2, 3]).unwrap();
        let all = [
            Errand::Out(principal()),
            Errand::Kick(principal()),
            Errand::In("service/ingest".parse().unwrap()),
            Errand::Certificate(Certificate::Ours(id), CertificateErrand::Revoke),
            Errand::Certificate(Certificate::Ours(id), CertificateErrand::Hold),
            Errand::Certificate(
                Certificate::Pinned(Digest([9; 32])),
                CertificateErrand::Release,
            ),
        ];
        for errand in all {
            assert_eq!(Errand::read(errand.text().as_bytes()), Some(errand));
        }
        for other in [
            "",
            "out",
            "out cam-1",
            "revoke device/cam-1",
            "ban device/x",
        ] {
            assert_eq!(Errand::read(other.as_bytes()), None, "{other}");
        }
    }
}
