//! What outsiders are told of our certificates: revocation lists and OCSP answers, made when they
//! are asked for and kept until something was revoked.
//!
//! Our own doors ask the registry and never read any of it.

use crate::certify::root_list;
use crate::certify::tree::Tree;
use crate::clock;
use crate::entries;
use crate::judge::signals::PerSecond;
use crate::plane::{Plane, random};
use crate::served::own::is_young;
use crate::shared::{Locked, OneAtATime, off_thread};
use crate::trouble::Trouble;
use identity::crl::{self, Shard};
use identity::ocsp::{self, Authority, NoAnswer, Request, Status};
use identity::{StatusPoint, profile};
use model::{Digest, Timestamp};
use signer::Purpose;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Store, Write};

/// A list is good for a day, and made anew each hour and at once after a revocation.
const CRL_LIFETIME: Duration = Duration::from_secs(86_400);
const CRL_RENEWED: Duration = Duration::from_secs(3600);
/// An answer is good for an hour; one that was made in advance is given out for half of it.
const ANSWER_LIFETIME: Duration = Duration::from_secs(3600);
const ANSWER_RENEWED: Duration = Duration::from_secs(1800);
/// Kept at most, some 1.3 kB each.
const ANSWERS_MAX: usize = 16_384;
/// Signed a second for whoever asks; the rest are told to come later, so that strangers cannot
/// take the time of those who enroll.
const SIGNATURES_A_SECOND: u32 = 500;
const RESPONDER_LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// Points that are remembered: an address or a number of lists is changed now and then, not often.
const POINTS_MAX: usize = 32;
const POINTS: &str = "identity.status-points";

/// Lists, answers and what they are made with.
pub struct StatusDesk {
    /// What new certificates say; `None`: nothing.
    point: Option<StatusPoint>,
    /// All that certificates ever said, this one included.
    points: Vec<StatusPoint>,
    lists: Locked<HashMap<(Digest, Shard), Arc<List>>>,
    making: OneAtATime,
    answers: Locked<HashMap<(Digest, Digest), Answer>>,
    authorities: Locked<Option<Believed>>,
    responders: Locked<HashMap<Digest, Arc<Vec<u8>>>>,
    signatures: Locked<PerSecond<()>>,
    /// Grows with every revocation and release.
    changes: Locked<u64>,
}

/// The CAs as answers need them, of one state of the tree.
type Believed = (Arc<Tree>, Arc<[Authority]>);

struct List {
    made_at: Timestamp,
    /// Its thisUpdate: whoever holds two believes the newer one, by the second.
    begins: Timestamp,
    /// Of the revocations that it was held against last.
    change: u64,
    entries: Vec<crl::Entry>,
    der: Arc<Vec<u8>>,
}

struct Answer {
    made_at: Timestamp,
    statuses: Vec<Status>,
    der: Arc<Vec<u8>>,
}

/// An answer as it goes out.
pub struct Answered {
    pub der: Arc<Vec<u8>>,
    /// How long others may keep it; `None`: it was made for one who asked with a nonce, or is none.
    pub keep_for: Option<Duration>,
}

impl StatusDesk {
    /// # Errors
    /// The disk; a configuration that was refused before.
    pub fn open(store: &Store, point: Option<StatusPoint>) -> anyhow::Result<Self> {
        let stored = store.meta(POINTS)?.unwrap_or_default();
        let lines = String::from_utf8(stored).unwrap_or_default();
        let mut points: Vec<StatusPoint> = lines.lines().filter_map(read_point).collect();
        if let Some(new) = &point
            && !points.contains(new)
        {
            points.push(new.clone());
            let kept = points.len().saturating_sub(POINTS_MAX);
            points.drain(..kept);
            let lines: String = points.iter().map(written_point).collect();
            let write = Write::PutMeta {
                key: POINTS.into(),
                value: lines.into_bytes(),
            };
            store.commit(Change::new(Direction::Neutral).write(write))?;
        }
        Ok(Self {
            point,
            points,
            lists: Locked::default(),
            making: OneAtATime::default(),
            answers: Locked::default(),
            authorities: Locked::default(),
            responders: Locked::default(),
            signatures: Locked::new(PerSecond::new(SIGNATURES_A_SECOND)),
            changes: Locked::default(),
        })
    }

    /// What new certificates say.
    #[must_use]
    pub fn point(&self) -> Option<&StatusPoint> {
        self.point.as_ref()
    }

    /// Something was revoked or released: what is told from here on says so.
    pub fn changed(&self) {
        *self.changes.lock() += 1;
    }

    fn serves(&self, shard: Shard) -> bool {
        shard == Shard::WHOLE
            || self
                .points
                .iter()
                .any(|one| one.crl_shards() == shard.count())
    }

    fn urls(&self, issuer: Digest, shard: Shard) -> Vec<String> {
        if shard == Shard::WHOLE {
            return Vec::new();
        }
        let urls: BTreeSet<String> = (self.points.iter())
            .filter(|one| one.crl_shards() == shard.count())
            .map(|one| one.crl_url(issuer, shard))
            .collect();
        urls.into_iter().collect()
    }
}

fn written_point(point: &StatusPoint) -> String {
    format!("{} {}\n", point.crl_shards(), point.base())
}

fn read_point(line: &str) -> Option<StatusPoint> {
    let (shards, base) = line.split_once(' ')?;
    StatusPoint::new(base, shards.parse().ok()?).ok()
}

/// A list of a CA of ours in DER, a root's among them: made again only if one of its certificates was revoked or
/// released since, or it is an hour old. `None`: there is no such CA or no such list.
///
/// # Errors
/// The signer refused, which is a fault of ours.
pub async fn list(
    plane: &Arc<Plane>,
    issuer: Digest,
    shard: Shard,
) -> Result<Option<Arc<Vec<u8>>>, Trouble> {
    let tree = plane.tree();
    let is_ours = tree.believed().any(|one| one.issuer.id() == issuer);
    if !is_ours && shard == Shard::WHOLE {
        return root_list::list(plane, issuer).await;
    }
    if !is_ours || !plane.status.serves(shard) {
        return Ok(None);
    }
    if let Some(der) = kept_list(plane, issuer, shard) {
        return Ok(Some(der));
    }
    // One at a time, and whoever waited finds it made.
    let _one_at_a_time = plane.status.making.begin().await;
    if let Some(der) = kept_list(plane, issuer, shard) {
        return Ok(Some(der));
    }
    let making = Arc::clone(plane);
    off_thread(move || make_list(&making, &tree, issuer, shard)).await?
}

fn kept_list(plane: &Plane, issuer: Digest, shard: Shard) -> Option<Arc<Vec<u8>>> {
    let change = *plane.status.changes.lock();
    let lists = plane.status.lists.lock();
    let list = lists.get(&(issuer, shard))?;
    let is_new = clock::now().since(list.made_at) < CRL_RENEWED;
    (is_new && list.change == change).then(|| Arc::clone(&list.der))
}

fn make_list(
    plane: &Plane,
    tree: &Tree,
    issuer: Digest,
    shard: Shard,
) -> Result<Option<Arc<Vec<u8>>>, Trouble> {
    let desk = &plane.status;
    let now = clock::now();
    // Read before the registry: a revocation that comes in between makes it again.
    let change = *desk.changes.lock();
    let entries = plane.trust().registry().crl_entries(issuer, shard, now);
    let before = desk.lists.lock().get(&(issuer, shard)).cloned();
    let is_same =
        |list: &Arc<List>| list.entries == entries && now.since(list.made_at) < CRL_RENEWED;
    let (made_at, begins, der) = match before.as_ref().filter(|list| is_same(list)) {
        Some(list) => (list.made_at, list.begins, Arc::clone(&list.der)),
        None => {
            let begins = begins(before.map(|list| list.begins), now);
            let Some(ca) = tree.believed().find(|one| one.issuer.id() == issuer) else {
                return Ok(None);
            };
            // Milliseconds as the number: it grows with each list, also over a restart.
            let unsigned = crl::crl(
                &ca.issuer,
                now.as_millis(),
                &desk.urls(issuer, shard),
                &entries,
                begins,
                now.plus(CRL_LIFETIME),
            )?;
            let signature = plane.sign(Purpose::Crl, unsigned.to_be_signed())?;
            (now, begins, Arc::new(unsigned.assemble(&signature)?))
        }
    };
    let list = List {
        made_at,
        begins,
        change,
        entries,
        der: Arc::clone(&der),
    };
    desk.lists.lock().insert((issuer, shard), Arc::new(list));
    Ok(Some(der))
}

/// When a list begins: some minutes ago, for clocks that run late, and a second after the one before
/// it, or of two revocations within a second the list of the second would be no newer. The first of a
/// run leaves a minute for those of the run before.
fn begins(before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let usual = now.minus(profile::BACKDATED);
    let next = match before {
        Some(before) => before.plus(Duration::from_secs(1)),
        None => usual.plus(Duration::from_secs(60)),
    };
    usual.max(next).min(now)
}

/// The answer to an OCSP request, whatever it is.
pub async fn answer(plane: &Arc<Plane>, request: &[u8]) -> Answered {
    let refused = |why| Answered {
        der: Arc::new(ocsp::refuse(why)),
        keep_for: None,
    };
    match try_answer(plane, request).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(why)) => refused(why),
        Err(trouble) => {
            tracing::error!("an OCSP answer could not be made ({trouble})");
            refused(NoAnswer::Internal)
        }
    }
}

async fn try_answer(
    plane: &Arc<Plane>,
    request: &[u8],
) -> Result<Result<Answered, NoAnswer>, Trouble> {
    let desk = &plane.status;
    let request = match Request::parse(request) {
        Ok(request) => request,
        Err(why) => return Ok(Err(why)),
    };
    let authorities = authorities(plane)?;
    // Asked each time, as a hash and a look-up cost nothing beside a signature: what was signed in
    // advance is given out only while it is true.
    let decided = ocsp::decide(&plane.trust().registry(), &authorities, &request);
    let decision = match decided {
        Ok(decision) => decision,
        Err(why) => return Ok(Err(why)),
    };
    let now = clock::now();
    let name = (decision.issuer, request.name());
    if request.nonce().is_none()
        && let Some(kept) = desk.answers.lock().get(&name)
        && kept.statuses == decision.statuses
        && now.since(kept.made_at) < ANSWER_RENEWED
    {
        let age = now.since(kept.made_at);
        return Ok(Ok(Answered {
            der: Arc::clone(&kept.der),
            keep_for: Some(ANSWER_RENEWED.saturating_sub(age)),
        }));
    }
    if !desk.signatures.lock().take((), now) {
        return Ok(Err(NoAnswer::TryLater));
    }
    let responder = responder(plane, decision.issuer, now).await?;
    let unsigned = ocsp::respond(
        &request,
        &decision.statuses,
        plane.signer.ocsp_public_key(),
        now,
        ANSWER_LIFETIME,
    )?;
    let signature = plane.sign(Purpose::OcspResponse, unsigned.to_be_signed())?;
    let der = Arc::new(unsigned.assemble(&signature, &responder)?);
    if request.nonce().is_some() {
        return Ok(Ok(Answered {
            der,
            keep_for: None,
        }));
    }
    let mut answers = desk.answers.lock();
    if answers.len() >= ANSWERS_MAX {
        answers.clear();
    }
    let answer = Answer {
        made_at: now,
        statuses: decision.statuses,
        der: Arc::clone(&der),
    };
    answers.insert(name, answer);
    Ok(Ok(Answered {
        der,
        keep_for: Some(ANSWER_RENEWED),
    }))
}

/// The CAs that we answer for, as requests name them.
fn authorities(plane: &Plane) -> Result<Arc<[Authority]>, Trouble> {
    let tree = plane.tree();
    let mut kept = plane.status.authorities.lock();
    if let Some((of, known)) = kept.as_ref()
        && Arc::ptr_eq(of, &tree)
    {
        return Ok(Arc::clone(known));
    }
    let all = tree
        .believed()
        .map(|one| Authority::from_certificate(&one.certificate))
        .collect::<Result<Vec<_>, _>>()?;
    let all: Arc<[Authority]> = all.into();
    *kept = Some((tree, Arc::clone(&all)));
    Ok(all)
}

/// The certificate by which a CA lets our responder answer for it: made when it is first needed
/// and at two thirds of its life, with an entry each.
async fn responder(
    plane: &Arc<Plane>,
    issuer: Digest,
    now: Timestamp,
) -> Result<Arc<Vec<u8>>, Trouble> {
    let known = plane.status.responders.lock().get(&issuer).cloned();
    if let Some(der) = known.filter(|der| is_young(der, now)) {
        return Ok(der);
    }
    let _one_at_a_time = plane.status.making.begin().await;
    let known = plane.status.responders.lock().get(&issuer).cloned();
    if let Some(der) = known.filter(|der| is_young(der, now)) {
        return Ok(der);
    }
    let tree = plane.tree();
    let ca = (tree.believed().find(|one| one.issuer.id() == issuer))
        .ok_or_else(|| Trouble::fault("a responder of a CA that is none of ours"))?;
    let terms = profile::Terms {
        public_key: plane.signer.ocsp_public_key(),
        serial_random: random()?,
        now,
        lifetime: RESPONDER_LIFETIME,
    };
    let unsigned = profile::ocsp_responder(plane.realm(), &ca.issuer, &terms)?;
    let certificate = unsigned.certificate();
    let signature = plane.sign(Purpose::OcspCertificate, unsigned.to_be_signed())?;
    let der = Arc::new(unsigned.assemble(&signature)?);
    let act = entries::responder_certified(now, certificate, &ca.name);
    let change = Change::new(Direction::Neutral).entry(plane.leaf(&act)?);
    plane.commit(change).await?;
    plane
        .status
        .responders
        .lock()
        .insert(issuer, Arc::clone(&der));
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lists_the_later_is_newer_also_within_a_second_and_over_a_restart() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let mut before = None;
        for number in 0..40 {
            let at = now.plus(Duration::from_millis(number * 10));
            let begins = begins(before, at);
            assert!(
                before.is_none_or(|before: Timestamp| begins.as_seconds() > before.as_seconds())
            );
            assert!(begins <= at);
            before = Some(begins);
        }
        let restarted = begins(None, now.plus(Duration::from_secs(1)));
        assert!(Some(restarted) > before.map(|before| before.minus(Duration::from_secs(39))));
        // In the long run it is what it always was.
        let later = now.plus(Duration::from_secs(3600));
        assert_eq!(begins(before, later), later.minus(profile::BACKDATED));
    }
}
