//! What leaves the house: messages about incidents, by signed webhook and by e-mail.
//!
//! A message is a row before it is on its way, and stays one until the receiver took it or a day
//! has passed. Each way sends one message at a time, in their order. The timer is
//! `tasks/notify.rs`; here is what is sent and how.

pub mod mail;
pub mod webhook;

use crate::clock;
use crate::config::Config;
use crate::plane::{Plane, random};
use crate::shared::{Locked, off_thread};
use crate::trouble::Trouble;
use anyhow::Context;
use mail::Mail;
use model::{IncidentId, Timestamp};
use response::Token;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Outgoing, Write};
use webhook::Webhook;

/// Messages that may wait for one receiver.
const WAITING_MAX: u64 = 1000;
/// After this long a message is given up, and the plane's own log says so.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(86_400);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The receivers, and what wakes the tasks that serve them.
pub struct Notifier {
    webhook: Option<Webhook>,
    mail: Option<Mail>,
    /// Told when a message was queued for the way at the same place in [`Way::ALL`].
    queued: [tokio::sync::Notify; 2],
    last_queued_at: Locked<Timestamp>,
}

/// How a message leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Webhook,
    Mail,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Mail];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
        }
    }
}

/// What the outbox keeps of a message, and the webhook's body as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    /// The same each time this message is sent: `fleet.example.com/acme/INC-7.3`.
    id: String,
    incident: String,
    /// The name that the playbook or the configuration gave the receiver.
    to: String,
    subject: String,
    text: String,
    /// RFC 3339, when it was queued.
    at: String,
}

/// Why a message did not leave. The text holds no secret.
#[derive(Debug)]
pub struct NotSent {
    pub why: String,
    /// The receiver will never take it: it is dropped, so that the others get their turn.
    pub is_final: bool,
}

impl NotSent {
    pub(crate) fn for_ever(why: impl std::fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            is_final: true,
        }
    }

    pub(crate) fn for_now(why: impl std::fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            is_final: false,
        }
    }
}

impl Notifier {
    /// # Errors
    /// A file that is named and cannot be used, before any port opens.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let settings = &config.response;
        let webhook = (!settings.webhook_url.is_empty()).then(|| Webhook::new(settings));
        let mail =
            (!settings.mail_smtp.is_empty()).then(|| Mail::new(settings, &config.trust_domain));
        Ok(Self {
            webhook: webhook.transpose().context("response.webhook_url")?,
            mail: mail.transpose().context("response.mail_smtp")?,
            queued: Default::default(),
            last_queued_at: Locked::default(),
        })
    }

    #[must_use]
    pub fn has(&self, way: Way) -> bool {
        match way {
            Way::Webhook => self.webhook.is_some(),
            Way::Mail => self.mail.is_some(),
        }
    }

    /// Resolves when a message was queued since the last time.
    pub async fn queued(&self, way: Way) {
        let [webhook, mail] = &self.queued;
        match way {
            Way::Webhook => webhook.notified().await,
            Way::Mail => mail.notified().await,
        }
    }

    /// One attempt. The caller bounds its time.
    ///
    /// # Errors
    /// The receiver did not say that it took it; sending it again does no harm, as it has an id.
    pub async fn send(&self, way: Way, row: &Outgoing) -> Result<(), NotSent> {
        match (way, &self.webhook, &self.mail) {
            (Way::Webhook, Some(webhook), _) => webhook.send(&row.body, clock::now()).await,
            (Way::Mail, _, Some(mail)) => mail.send(&row.body).await,
            _ => Err(NotSent::for_now("no such receiver is configured any more")),
        }
    }

    /// Strictly later each time, so that the order of queueing is kept within a millisecond.
    fn queued_at(&self) -> Timestamp {
        let mut last = self.last_queued_at.lock();
        *last = clock::now().max(last.plus(Duration::from_millis(1)));
        *last
    }

    fn nudge(&self, way: Way) {
        let [webhook, mail] = &self.queued;
        match way {
            Way::Webhook => webhook.notify_one(),
            Way::Mail => mail.notify_one(),
        }
    }
}

impl Plane {
    /// Queues a message for every configured receiver; returns when it is durable. The same token
    /// again replaces what waits, and the receiver knows a repetition by its id.
    ///
    /// # Errors
    /// No receiver is configured, too many messages wait, or the store.
    pub async fn notify(
        self: &Arc<Self>,
        token: Token,
        incident: IncidentId,
        to: &str,
        subject: &str,
        text: &str,
    ) -> Result<(), Trouble> {
        let ways: Vec<Way> = (Way::ALL.into_iter())
            .filter(|way| self.notifier.has(*way))
            .collect();
        if ways.is_empty() {
            return Err(Trouble::refused(
                "no-receiver",
                "nobody can be told: set response.webhook_url or response.mail_smtp",
            ));
        }
        let at = self.notifier.queued_at();
        let message = Message {
            id: format!(
                "{}/{}/{token}",
                self.config.trust_domain, self.config.tenant
            ),
            incident: incident.to_string(),
            to: to.to_owned(),
            subject: subject.to_owned(),
            text: text.to_owned(),
            at: at.to_string(),
        };
        let body = serde_json::to_vec(&message).map_err(Trouble::fault)?;
        let mut change = Change::new(Direction::Neutral);
        for way in &ways {
            let (reading, name) = (Arc::clone(self), way.name());
            let (_, waiting) = off_thread(move || reading.store.outbox_of(name)).await??;
            if waiting >= WAITING_MAX {
                return Err(Trouble::refused(
                    "outbox-full",
                    format!("{waiting} messages wait for the {} already", way.name()),
                ));
            }
            change = change.write(Write::PutOutbox(Outgoing {
                id: format!("{token}/{}", way.name()),
                channel: way.name().to_owned(),
                body: body.clone(),
                created_at: at,
                attempts: 0,
                next_at: at,
                last_error: None,
            }));
        }
        self.commit(change).await?;
        for way in ways {
            self.notifier.nudge(way);
        }
        Ok(())
    }

    /// Writes down how an attempt ended: the row is gone, or waits for the next.
    ///
    /// # Errors
    /// The store; the message will be sent once more, under the same id.
    pub async fn attempted(
        &self,
        row: &Outgoing,
        attempt: Result<(), NotSent>,
    ) -> Result<(), Trouble> {
        let now = clock::now();
        let dropped = Write::DropOutbox { id: row.id.clone() };
        let delivered = attempt.is_ok();
        let write = match attempt {
            Ok(()) => dropped,
            Err(NotSent { why, is_final }) => {
                if is_final || now.since(row.created_at) >= GIVEN_UP_AFTER {
                    tracing::error!(
                        "{} was not delivered and is given up ({why}); operator: see that the \
                         receiver takes it",
                        row.id
                    );
                    dropped
                } else {
                    if row.attempts == 0 {
                        tracing::warn!("{} is not delivered yet ({why}); tried again", row.id);
                    }
                    Write::PutOutbox(Outgoing {
                        attempts: row.attempts.saturating_add(1),
                        next_at: now.plus(pause(row.attempts, random()?)),
                        last_error: Some(why),
                        ..row.clone()
                    })
                }
            }
        };
        self.commit(Change::new(Direction::Neutral).write(write))
            .await?;
        if delivered {
            tracing::info!("{} was delivered", row.id);
        }
        Ok(())
    }
}

/// Doubles from a second to five minutes, each up to a quarter shorter by chance, so that many
/// planes do not come back to a receiver at once.
fn pause(attempts: u32, [chance]: [u8; 1]) -> Duration {
    let full = PAUSE_MIN
        .saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX))
        .min(PAUSE_MAX);
    full.saturating_sub(full / 4 * u32::from(chance) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_minutes_and_differ_by_chance() {
        assert_eq!(pause(0, [0]), Duration::from_secs(1));
        assert_eq!(pause(3, [0]), Duration::from_secs(8));
        for attempts in [9, 31, 32, u32::MAX] {
            assert_eq!(pause(attempts, [0]), PAUSE_MAX);
            assert_eq!(pause(attempts, [255]), PAUSE_MAX * 3 / 4);
        }
    }
}
