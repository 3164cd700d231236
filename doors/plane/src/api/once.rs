//! `Idempotency-Key`: an act that is asked for again, because its answer was lost, is done once.
//!
//! That a key was used is durable before the act is done, so that a crash in between never makes it
//! two. What was answered may hold a secret that is shown once: it is kept for an hour, in memory
//! alone. Whoever asks after that hears that it was asked for, and looks.

use super::actions::Kind;
use super::{LIST_BYTES_MAX, Problem, Shared};
use crate::clock;
use crate::plane::digest_of;
use crate::shared::{Locked, to_its_end};
use crate::trouble::Trouble;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{Digest, Timestamp};
use std::collections::HashMap;
use std::time::Duration;
use store::{Change, CommitError, Direction, IdempotencyKey};

pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEY_BYTES_MAX: usize = 128;
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// Of one caller, who loses the oldest of their own beyond it; and of all.
const KEPT_A_CALLER: usize = 64;
const KEPT_MAX: usize = 4096;
/// An answer that is longer is not kept.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of all answers: more than three callers can fill.
const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What became of acts with a key.
#[derive(Default)]
pub struct Once(Locked<Kept>);

#[derive(Default)]
struct Kept {
    outcomes: HashMap<Digest, Asked>,
    answers_bytes: usize,
}

struct Asked {
    by: String,
    request: Digest,
    at: Timestamp,
    outcome: Outcome,
}

enum Outcome {
    UnderWay,
    /// It was answered that this is not the moment: it may be asked again.
    NotNow,
    Answered(Answer),
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// An act with its key, and by whom, as the log or the judge names them.
pub struct Keyed {
    by: String,
    key: String,
    kind: Kind,
    body_bytes_max: usize,
}

impl Keyed {
    /// `None`: without a key, everything is done as often as it is asked for.
    ///
    /// # Errors
    /// It is not a key.
    pub fn of(
        headers: &HeaderMap,
        by: String,
        kind: Kind,
        body_bytes_max: usize,
    ) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(KEY) else {
            return Ok(None);
        };
        let key = value.to_str().unwrap_or_default().trim_matches('"');
        let is_printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) || !is_printable {
            let text = format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} ASCII characters");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "key-refused", text));
        }
        Ok(Some(Self {
            by,
            key: key.to_owned(),
            kind,
            body_bytes_max,
        }))
    }

    /// Nobody meets another's key.
    fn name(&self) -> Digest {
        digest_of(&[self.by.as_bytes(), self.key.as_bytes()])
    }
}

/// Does it, unless it was done: then what was answered is answered again.
///
/// # Errors
/// The key was used for something else, it is under way, or nobody knows what became of it.
pub async fn once<F>(
    plane: &Shared,
    keyed: Keyed,
    request: Request,
    act: impl FnOnce(Request) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    F: Future<Output = Response> + Send + 'static,
{
    let (head, body) = request.into_parts();
    let body = to_bytes(body, keyed.body_bytes_max).await;
    let body = body.map_err(|_| too_large(keyed.body_bytes_max))?;
    let header = |name| {
        head.headers
            .get(name)
            .map_or(&b""[..], HeaderValue::as_bytes)
    };
    let asked = digest_of(&[
        head.method.as_str().as_bytes(),
        head.uri.to_string().as_bytes(),
        header(header::CONTENT_TYPE),
        header(header::IF_MATCH),
        &body,
    ]);
    let name = keyed.name();
    let request = Request::from_parts(head, Body::from(body));
    let is_known = match plane
        .askers
        .once
        .begin(name, asked, &keyed.by, clock::now())
    {
        Begun::Again(answer) => return Ok(answer.into_response()),
        Begun::Refused(problem) => return Err(problem),
        Begun::First => false,
        Begun::NotDoneYet => true,
    };
    // From here on it is under way, until it is told otherwise; also if whoever asked hangs up.
    let under_way = UnderWay {
        plane: Shared::clone(plane),
        name,
    };
    let mark = Change::new(Direction::Neutral).idempotent(IdempotencyKey {
        key: format!("request/{name}"),
        request: asked,
    });
    match plane.commit(mark).await {
        Ok(receipt) if receipt.replayed && !is_known => return Err(done_before()),
        Ok(_) => {}
        Err(Trouble::Commit(CommitError::KeyReused)) => return Err(reused()),
        // What withdraws bites, whatever the disk says.
        Err(_) if keyed.kind == Kind::Withdraws => {}
        Err(trouble) => return Err(trouble.into()),
    }
    let done = to_its_end(async move {
        let (head, body) = act(request).await.into_parts();
        let body = to_bytes(body, LIST_BYTES_MAX)
            .await
            .map_err(Trouble::fault)?;
        under_way.end(Answer {
            status: head.status,
            headers: head.headers.clone(),
            body: body.clone(),
        });
        Ok(Response::from_parts(head, Body::from(body)))
    });
    Ok(done.await?)
}

/// Goes with an act; if it is dropped before the end, nobody knows what became of it.
struct UnderWay {
    plane: Shared,
    name: Digest,
}

impl UnderWay {
    fn end(&self, answer: Answer) {
        self.plane.askers.once.end(&self.name, answer);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.plane.askers.once.forget_under_way(&self.name);
    }
}

enum Begun {
    First,
    /// It was asked for, and was not done: it may be now.
    NotDoneYet,
    Again(Answer),
    Refused(Problem),
}

impl Once {
    fn begin(&self, name: Digest, request: Digest, by: &str, now: Timestamp) -> Begun {
        let mut kept = self.0.lock();
        kept.forget_old(by, now);
        let begun = match kept.outcomes.get(&name) {
            Some(known) if known.request != request => return Begun::Refused(reused()),
            Some(known) => match &known.outcome {
                Outcome::UnderWay => return Begun::Refused(under_way()),
                Outcome::Answered(answer) => return Begun::Again(answer.clone()),
                Outcome::NotNow => Begun::NotDoneYet,
            },
            None => Begun::First,
        };
        let asked = Asked {
            by: by.to_owned(),
            request,
            at: now,
            outcome: Outcome::UnderWay,
        };
        kept.outcomes.insert(name, asked);
        begun
    }

    fn end(&self, name: &Digest, answer: Answer) {
        let mut kept = self.0.lock();
        let bytes = answer.body.len();
        let outcome = match answer.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::NotNow,
            _ if bytes <= ANSWER_BYTES_MAX => Outcome::Answered(answer),
            _ => return,
        };
        while kept.answers_bytes + bytes > ANSWERS_BYTES_MAX {
            kept.forget_oldest(|_| true);
        }
        if let Some(asked) = kept.outcomes.get_mut(name) {
            asked.outcome = outcome;
            let bytes = asked.bytes();
            kept.answers_bytes += bytes;
        }
    }

    fn forget_under_way(&self, name: &Digest) {
        let mut kept = self.0.lock();
        if kept.outcomes.get(name).is_some_and(Asked::is_under_way) {
            kept.outcomes.remove(name);
        }
    }
}

impl Kept {
    /// Makes room for one more of this caller.
    fn forget_old(&mut self, by: &str, now: Timestamp) {
        self.retain(|asked| asked.at.plus(KEPT_FOR) > now);
        let own = self.outcomes.values().filter(|asked| asked.by == by);
        if own.count() >= KEPT_A_CALLER {
            self.forget_oldest(|asked| asked.by == by);
        } else if self.outcomes.len() >= KEPT_MAX {
            self.forget_oldest(|_| true);
        }
    }

    fn forget_oldest(&mut self, of: impl Fn(&Asked) -> bool) {
        let over = self
            .outcomes
            .iter()
            .filter(|(_, asked)| !asked.is_under_way());
        let oldest = over
            .filter(|(_, asked)| of(asked))
            .min_by_key(|(_, asked)| asked.at);
        let oldest = oldest.map(|(name, _)| *name);
        if let Some(asked) = oldest.and_then(|name| self.outcomes.remove(&name)) {
            self.answers_bytes -= asked.bytes();
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Asked) -> bool) {
        let mut gone = 0;
        self.outcomes.retain(|_, asked| {
            let stays = keeps(asked) || asked.is_under_way();
            gone += if stays { 0 } else { asked.bytes() };
            stays
        });
        self.answers_bytes -= gone;
    }
}

impl Asked {
    fn is_under_way(&self) -> bool {
        matches!(self.outcome, Outcome::UnderWay)
    }

    fn bytes(&self) -> usize {
        match &self.outcome {
            Outcome::Answered(answer) => answer.body.len(),
            _ => 0,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let headers = response.headers_mut();
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

pub fn too_large(bytes_max: usize) -> Problem {
    let text = format!("the body has more than {bytes_max} bytes, or broke off");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-refused", text)
}

fn reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "key-reused",
        "this Idempotency-Key was used for another request; use a new one",
    )
}

fn under_way() -> Problem {
    let text = "this was asked for and is under way; ask again in a moment";
    Problem::new(StatusCode::CONFLICT, "under-way", text).retry_after(1)
}

fn done_before() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "asked-before",
        "this Idempotency-Key was used, and what was answered is not kept any more; look whether it \
         was done before you ask for it under a new key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn answer(status: StatusCode, bytes: usize) -> Answer {
        Answer {
            status,
            headers: HeaderMap::new(),
            body: vec![b'a'; bytes].into(),
        }
    }

    fn name(n: usize) -> Digest {
        digest_of(&[&n.to_be_bytes()])
    }

    #[test]
    fn what_was_answered_is_answered_again_and_another_request_is_not() {
        let once = Once::default();
        let (first, other) = (name(1), name(2));
        let begin = |request, now| once.begin(name(0), request, "person/p-1", now);
        assert!(matches!(begin(first, NOW), Begun::First));
        assert!(matches!(begin(first, NOW), Begun::Refused(why) if why.body.code == "under-way"));
        assert!(matches!(begin(other, NOW), Begun::Refused(why) if why.body.code == "key-reused"));
        once.end(&name(0), answer(StatusCode::SERVICE_UNAVAILABLE, 3));
        assert!(matches!(begin(first, NOW), Begun::NotDoneYet));
        once.end(&name(0), answer(StatusCode::CREATED, 3));
        let again = begin(first, NOW);
        assert!(matches!(again, Begun::Again(answer) if answer.status == StatusCode::CREATED));
        assert!(matches!(begin(other, NOW), Begun::Refused(why) if why.body.code == "key-reused"));
        // An act that broke off leaves nothing behind here: that it was begun is on record.
        once.forget_under_way(&name(0));
        assert!(matches!(begin(first, NOW), Begun::Again(_)));
        let later = NOW.plus(KEPT_FOR);
        assert!(matches!(begin(first, later), Begun::First));
        once.forget_under_way(&name(0));
        assert!(matches!(begin(first, later), Begun::First));
    }

    #[test]
    fn attack_keys_without_end_push_out_ones_own_only_and_hold_no_memory() {
        let once = Once::default();
        let keep = |n: usize, by: &str, bytes| {
            once.begin(name(n), name(n), by, NOW);
            once.end(&name(n), answer(StatusCode::OK, bytes));
        };
        keep(0, "person/p-1", 10);
        for n in 1..1000 {
            keep(n, "token/t-1", ANSWER_BYTES_MAX);
        }
        assert!(matches!(
            once.begin(name(0), name(0), "person/p-1", NOW),
            Begun::Again(_)
        ));
        let kept = once.0.lock();
        assert_eq!(kept.outcomes.len(), 1 + KEPT_A_CALLER);
        let bytes: usize = kept.outcomes.values().map(Asked::bytes).sum();
        assert_eq!(bytes, kept.answers_bytes);
        assert!(bytes <= ANSWERS_BYTES_MAX);
        drop(kept);
        for n in 10_000..15_000 {
            keep(n, &format!("token/t-{n}"), 1);
        }
        assert!(once.0.lock().outcomes.len() <= KEPT_MAX + 1);
    }
}
