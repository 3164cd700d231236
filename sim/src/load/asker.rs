//! Requests on a thread of their own, so that waiting for one delays no message.

use crate::refusal::Refusal;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Instant;

pub(super) struct Asker<Request, Answered> {
    requests: Sender<Request>,
    answers: Receiver<Answer<Answered>>,
}

pub(super) struct Answer<Answered> {
    pub sent_at: Instant,
    pub received_at: Instant,
    pub outcome: Result<Answered, Refusal>,
}

impl<Request: Send + 'static, Answered: Send + 'static> Asker<Request, Answered> {
    /// Its thread ends when the requests do; answers are read before that.
    pub fn start(ask: impl Fn(&Request) -> Result<Answered, Refusal> + Send + 'static) -> Self {
        let (requests, to_do) = channel::<Request>();
        let (done, answers) = channel();
        std::thread::spawn(move || {
            for request in to_do {
                let sent_at = Instant::now();
                let outcome = ask(&request);
                let answer = Answer {
                    sent_at,
                    received_at: Instant::now(),
                    outcome,
                };
                if done.send(answer).is_err() {
                    return;
                }
            }
        });
        Self { requests, answers }
    }

    pub fn ask(&self, request: Request) {
        // It cannot fail: the thread lives as long as there are requests.
        let _ = self.requests.send(request);
    }

    /// The next answer, if it is here.
    ///
    /// # Errors
    /// It is not; or the thread is gone by a fault of ours, and nothing more can be asked.
    pub fn answer(&self) -> Result<Answer<Answered>, TryRecvError> {
        self.answers.try_recv()
    }
}
