//! Carries revocations to brokers that a fleet still uses, to each by itself and in their order.
//!
//! To Mosquitto its lists go first, then the sessions are ended; and once more when the lists are in
//! force there, since who was ended may have been back before that.

use crate::broker::aws_iot::{AwsIot, CertificateStatus};
use crate::broker::emqx::Emqx;
use crate::broker::mosquitto::{Command, Mosquitto};
use crate::broker::{AGAIN, Broker, CertificateErrand, Errand, row};
use crate::certify::status;
use crate::clock;
use crate::plane::Plane;
use crate::respond::notify::NotSent;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use identity::crl::Shard;
use model::Principal;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Outgoing};
use tokio::sync::watch;
use tokio::time::Instant;

const ATTEMPT_SECONDS_MAX: Duration = Duration::from_secs(30);
/// A list is made anew each hour; whoever holds an old one for a day believes nobody any more.
const EVERY: Duration = Duration::from_secs(60);
const AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// Between two looks at whether a list is in force, and how long that may take.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(10);
/// A list that is not in force after this is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Where nobody can look, a list is taken to be in force after this.
const IN_FORCE_AFTER: Duration = Duration::from_secs(2);

pub async fn run(plane: Arc<Plane>, broker: Broker, mut stopping: watch::Receiver<bool>) {
    if !plane.brokers.configured().any(|one| one == broker) {
        return;
    }
    let mut lists = Lists::default();
    loop {
        let carrying = async {
            match broker {
                Broker::Mosquitto => carry_to_mosquitto(&plane, &mut lists).await,
                Broker::Emqx | Broker::AwsIot => carry(&plane, broker).await,
            }
        };
        let done = tokio::select! {
            done = carrying => done,
            // Rows stay, and are carried after the next start.
            _ = stopping.changed() => return,
        };
        let pause = done.unwrap_or_else(|trouble| {
            tracing::error!("nothing reaches {} ({trouble}); tried again", broker.name());
            AFTER_TROUBLE
        });
        tokio::select! {
            () = tokio::time::sleep(pause.min(EVERY)) => {}
            () = plane.brokers.nudged(broker) => {}
            _ = stopping.changed() => return,
        }
    }
}

/// The lists as Mosquitto has them.
#[derive(Default)]
struct Lists {
    put: String,
    /// Whether it was seen that it goes by them.
    in_force: bool,
}

/// All that waits; how long to rest then.
async fn carry_to_mosquitto(plane: &Arc<Plane>, lists: &mut Lists) -> Result<Duration, Trouble> {
    let Some(mosquitto) = &plane.brokers.mosquitto else {
        return Ok(EVERY);
    };
    loop {
        put_lists(plane, mosquitto, lists).await?;
        let pause = match first(plane, Broker::Mosquitto.name()).await? {
            Turn::Now(row) => {
                let errand = Errand::read(&row.body);
                let attempt = attempt(tell_mosquitto(mosquitto, errand.as_ref())).await;
                if attempt.is_ok() && mosquitto.takes_lists() {
                    once_more(plane, errand).await?;
                }
                plane.attempted(&row, attempt).await?;
                continue;
            }
            Turn::In(wait) => wait,
        };
        // The lists that were put above hold whatever this row is about: it is in force before there
        // is a row.
        match first(plane, AGAIN).await? {
            Turn::Now(row) => {
                // What came meanwhile goes first.
                put_lists(plane, mosquitto, lists).await?;
                let attempt = attempt(tell_again(plane, mosquitto, lists, &row)).await;
                plane.attempted(&row, attempt).await?;
            }
            Turn::In(wait) => return Ok(pause.min(wait)),
        }
    }
}

/// If they are others than were put last.
async fn put_lists(
    plane: &Arc<Plane>,
    mosquitto: &Mosquitto,
    lists: &mut Lists,
) -> Result<(), Trouble> {
    if !mosquitto.takes_lists() {
        return Ok(());
    }
    let issuers: Vec<_> = (plane.tree().believed())
        .map(|one| one.issuer.id())
        .collect();
    let mut text = String::new();
    for issuer in issuers {
        // Whoever checks a certificate wants its issuer's list, so none may be missing.
        if let Some(list) = status::list(plane, issuer, Shard::WHOLE).await? {
            text.push_str(&crate::pem::encode("X509 CRL", &list));
        }
    }
    if text == lists.put {
        return Ok(());
    }
    let (telling, put) = (Arc::clone(plane), text.clone());
    off_thread(move || match &telling.brokers.mosquitto {
        Some(mosquitto) => mosquitto.put_list(&put),
        None => Ok(()),
    })
    .await?
    .map_err(|error| {
        Trouble::fault(format_args!(
            "a revocation list did not reach Mosquitto: {error:#}"
        ))
    })?;
    *lists = Lists {
        put: text,
        in_force: false,
    };
    Ok(())
}

async fn tell_mosquitto(mosquitto: &Mosquitto, errand: Option<&Errand>) -> Result<(), NotSent> {
    match errand {
        Some(Errand::Out(one)) => mosquitto.tell(Command::Out, one.name()).await,
        Some(Errand::Kick(one)) => mosquitto.tell(Command::Kick, one.name()).await,
        Some(Errand::In(one)) => mosquitto.tell(Command::In, one.name()).await,
        _ => Err(unreadable()),
    }
}

/// Who was ended is ended again when the lists are in force.
async fn once_more(plane: &Plane, errand: Option<Errand>) -> Result<(), Trouble> {
    let Some(errand @ (Errand::Out(_) | Errand::Kick(_))) = errand else {
        return Ok(());
    };
    let write = row(AGAIN, &errand, clock::now());
    plane
        .commit(Change::new(Direction::Neutral).write(write))
        .await
        .map(drop)
}

/// Waits until the lists are in force, and ends the sessions that came back before that.
async fn tell_again(
    plane: &Arc<Plane>,
    mosquitto: &Mosquitto,
    lists: &mut Lists,
    row: &Outgoing,
) -> Result<(), NotSent> {
    let errand = Errand::read(&row.body);
    let Some(Errand::Out(principal) | Errand::Kick(principal)) = &errand else {
        return Err(unreadable());
    };
    if !lists.in_force {
        wait_in_force(plane, mosquitto, principal, row).await?;
        lists.in_force = true;
    }
    let is_out = matches!(errand, Some(Errand::Out(_)));
    if !is_out {
        return mosquitto.tell(Command::Kick, principal.name()).await;
    }
    if !plane.is_barred(principal) {
        // Released meanwhile.
        return Ok(());
    }
    mosquitto.tell(Command::Out, principal.name()).await?;
    if plane.is_barred(principal) {
        return Ok(());
    }
    mosquitto.tell(Command::In, principal.name()).await
}

async fn wait_in_force(
    plane: &Arc<Plane>,
    mosquitto: &Mosquitto,
    principal: &Principal,
    row: &Outgoing,
) -> Result<(), NotSent> {
    let barred = barred_certificate(plane, principal).map_err(NotSent::for_now)?;
    let (Some(look), Some(certificate)) = (mosquitto.look(), barred) else {
        // Counted from when it was put, which was before this row was made.
        let age = clock::now().since(row.created_at);
        tokio::time::sleep((IN_FORCE_AFTER / 2).saturating_sub(age)).await;
        read_list(plane).await?;
        tokio::time::sleep(IN_FORCE_AFTER / 2).await;
        return Ok(());
    };
    let mut seen = None;
    let looking = async {
        let mut asked = Instant::now();
        loop {
            match look.is_refused(certificate.clone()).await {
                Ok(true) => return Ok(()),
                Ok(false) => seen = None,
                // A connection that was cut may have taken the alert with it.
                Err(error) => seen = Some(error),
            }
            tokio::time::sleep(LOOK_EVERY).await;
            if asked.elapsed() >= ASK_AGAIN {
                read_list(plane).await?;
                asked = Instant::now();
            }
        }
    };
    match tokio::time::timeout(LOOK_MAX, looking).await {
        Ok(looked) => looked,
        Err(_) if seen.is_some() => Err(NotSent::for_now(format_args!(
            "whether its list is in force cannot be seen ({:#})",
            seen.unwrap_or_else(|| anyhow::anyhow!("no answer"))
        ))),
        Err(_) => Err(NotSent::for_now(format_args!(
            "Mosquitto still takes a certificate of {principal} that its list bars; operator: see \
             that crlfile of the fleet's listener is brokers.mosquitto_crl_file"
        ))),
    }
}

async fn read_list(plane: &Arc<Plane>) -> Result<(), NotSent> {
    let telling = Arc::clone(plane);
    let told = off_thread(move || match &telling.brokers.mosquitto {
        Some(mosquitto) => mosquitto.read_list(),
        None => Ok(()),
    });
    let told = told.await.map_err(NotSent::for_now)?;
    told.map_err(|error| NotSent::for_now(format_args!("{error:#}")))
}

/// A certificate of somebody that its list bars now, DER.
fn barred_certificate(plane: &Plane, principal: &Principal) -> Result<Option<Vec<u8>>, Trouble> {
    let now = clock::now();
    let barred = {
        let registry = plane.trust().registry();
        let all = registry.certificates_of(principal).into_iter();
        all.filter(|(id, end)| *end >= now && registry.certificate_revocation(id).is_some())
            .map(|(id, _)| id)
            .next()
    };
    let Some(id) = barred else {
        return Ok(None);
    };
    let row = plane.store.certificate(&id)?;
    Ok(row.map(|row| row.certificate.der))
}

/// All that waits for a broker without lists; how long to rest then.
async fn carry(plane: &Arc<Plane>, broker: Broker) -> Result<Duration, Trouble> {
    loop {
        let row = match first(plane, broker.name()).await? {
            Turn::Now(row) => row,
            Turn::In(wait) => return Ok(wait),
        };
        let errand = Errand::read(&row.body);
        let brokers = &plane.brokers;
        let attempt = match (broker, &brokers.emqx, &brokers.aws_iot, errand) {
            // A release is on record a moment before it is in force. What is on hold for another
            // reason as well stays so, until that one is released too.
            (_, _, _, Some(errand)) if is_held(plane, &errand)? => {
                if clock::now().since(row.created_at) < IN_FORCE_AFTER {
                    return Ok(LOOK_EVERY);
                }
                Ok(())
            }
            (Broker::Emqx, Some(emqx), _, Some(errand)) => attempt(tell_emqx(emqx, &errand)).await,
            (Broker::AwsIot, _, Some(aws), Some(errand)) => {
                attempt(tell_aws(plane, aws, &errand)).await
            }
            _ => Err(unreadable()),
        };
        plane.attempted(&row, attempt).await?;
    }
}

/// Whether whoever is to be taken in again may still not come in.
fn is_held(plane: &Plane, errand: &Errand) -> Result<bool, Trouble> {
    Ok(match errand {
        Errand::In(principal) => plane.is_barred(principal),
        Errand::Certificate(certificate, CertificateErrand::Release) => {
            (plane.named_for_aws(certificate)?).is_some_and(|(_, bar)| bar.is_some())
        }
        _ => false,
    })
}

async fn tell_emqx(emqx: &Emqx, errand: &Errand) -> Result<(), NotSent> {
    match errand {
        Errand::Out(one) => emqx.keep_out(one.name()).await,
        Errand::Kick(one) => emqx.end_session(one.name()).await,
        Errand::In(one) => emqx.let_in(one.name()).await,
        Errand::Certificate(..) => Err(unreadable()),
    }
}

async fn tell_aws(plane: &Plane, aws: &AwsIot, errand: &Errand) -> Result<(), NotSent> {
    let (certificate, errand) = match errand {
        Errand::Certificate(certificate, errand) => (certificate, errand),
        Errand::Out(one) | Errand::Kick(one) => {
            return aws.end_session(one.name(), clock::now()).await;
        }
        Errand::In(_) => return Err(unreadable()),
    };
    let named = plane.named_for_aws(certificate);
    let Some((id, bar)) = named.map_err(NotSent::for_now)? else {
        return Err(NotSent::for_ever(
            "the certificate is on no record any more",
        ));
    };
    let status = match errand {
        CertificateErrand::Revoke => CertificateStatus::Revoked,
        // What was revoked before is not merely on hold.
        CertificateErrand::Hold if bar.is_some_and(|reason| !reason.is_hold()) => {
            CertificateStatus::Revoked
        }
        CertificateErrand::Hold => CertificateStatus::Inactive,
        CertificateErrand::Release => CertificateStatus::Active,
    };
    aws.put_status(&id, status, clock::now()).await
}

fn unreadable() -> NotSent {
    NotSent::for_ever("the queued message cannot be read")
}

async fn attempt(telling: impl Future<Output = Result<(), NotSent>>) -> Result<(), NotSent> {
    match tokio::time::timeout(ATTEMPT_SECONDS_MAX, telling).await {
        Ok(attempt) => attempt,
        Err(_) => Err(NotSent::for_now("no answer within 30 s")),
    }
}

/// Whose turn it is.
enum Turn {
    Now(Outgoing),
    /// Nobody's before that.
    In(Duration),
}

async fn first(plane: &Arc<Plane>, channel: &'static str) -> Result<Turn, Trouble> {
    let reading = Arc::clone(plane);
    let (first, _) = off_thread(move || reading.store.outbox_of(channel)).await??;
    let now = clock::now();
    Ok(match first {
        Some(row) if now < row.next_at => Turn::In(row.next_at.since(now)),
        Some(row) => Turn::Now(row),
        None => Turn::In(EVERY),
    })
}
