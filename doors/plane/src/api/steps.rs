//! The body of an answer that goes on: made piece by piece, each asked for only when the one before was
//! taken, so that nothing waits for a reader that does not read.

use axum::body::Body;
use hyper::body::{Bytes, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The next piece with what goes on behind it; `None`: it is over.
pub type Step<S> = Pin<Box<dyn Future<Output = Option<(Bytes, S)>> + Send>>;

struct Steps<S> {
    next: Option<Step<S>>,
    then: fn(S) -> Step<S>,
}

pub fn body<S: 'static>(first: S, then: fn(S) -> Step<S>) -> Body {
    Body::new(Steps {
        next: Some(then(first)),
        then,
    })
}

impl<S> hyper::body::Body for Steps<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = self.next.as_mut() else {
            return Poll::Ready(None);
        };
        match ready!(next.as_mut().poll(context)) {
            Some((bytes, rest)) => {
                self.next = Some((self.then)(rest));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            None => {
                self.next = None;
                Poll::Ready(None)
            }
        }
    }
}
