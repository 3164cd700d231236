//! Memory that threads share, and the one way to leave the async threads: nothing else in the
//! shell may lock, swap or block, so a race can only be where one of these stands.

use crate::trouble::Trouble;
use arc_swap::ArcSwap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll};
use tokio::runtime::Handle;

/// The newest of something immutable: readers take it whole and never wait.
pub struct Latest<T>(ArcSwap<T>);

impl<T> Latest<T> {
    pub fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    /// Of what is shared already.
    pub fn of(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub fn replace(&self, next: Arc<T>) {
        self.0.store(next);
    }
}

/// Held for one look or one change, never across a wait. A thread that failed while it held it
/// left whole values behind: every change under these locks is one assignment or one call that
/// refuses before it changes anything.
#[derive(Debug, Default)]
pub struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As [`Locked`], for what is read by many and changed seldom.
pub struct ReadMostly<T>(RwLock<T>);

impl<T> ReadMostly<T> {
    pub fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For acts of which only one may be under way, across waits.
#[derive(Default)]
pub struct OneAtATime(tokio::sync::Mutex<()>);

impl OneAtATime {
    /// Returns when no other act is under way; it is until the answer is dropped.
    pub async fn begin(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.lock().await
    }
}

/// Does what blocks (disk, long computation) on a thread that may wait.
///
/// # Errors
/// The work ended by a fault of ours.
pub async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Trouble::fault)
}

/// Runs an act to its end, also when whoever asked for it hangs up: a request's future is dropped
/// then, and half an act would be in force and not on record, or on record and not in force.
///
/// # Errors
/// As the act.
pub async fn to_its_end<T: Send + 'static>(
    act: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<T, Trouble> {
    ToItsEnd(Some(Box::pin(act))).await
}

/// Polled where it was asked for, which spares a task and its two wake-ups; one of its own it
/// becomes where nobody waits any more.
struct ToItsEnd<T: Send + 'static, F: Future<Output = Result<T, Trouble>> + Send + 'static>(
    Option<Pin<Box<F>>>,
);

impl<T: Send + 'static, F: Future<Output = Result<T, Trouble>> + Send + 'static> Future
    for ToItsEnd<T, F>
{
    type Output = Result<T, Trouble>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(act) = &mut self.0 else {
            return Poll::Ready(Err(Trouble::fault("an act was asked after its end")));
        };
        // A defect in one act is that act's answer, not the end of its caller's connection.
        let done = catch_unwind(AssertUnwindSafe(|| act.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(Trouble::fault("an act ended by a panic"))));
        if done.is_ready() {
            self.0 = None;
        }
        done
    }
}

impl<T: Send + 'static, F: Future<Output = Result<T, Trouble>> + Send + 'static> Drop
    for ToItsEnd<T, F>
{
    fn drop(&mut self) {
        if let (Some(act), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(act);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn an_act_whose_asker_hangs_up_comes_to_its_end() {
        let (go, may_go) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let act = to_its_end(async move {
            may_go.await.map_err(Trouble::fault)?;
            let _ = tell.send(());
            Ok(())
        });
        let mut act = Box::pin(act);
        poll_fn(|context| {
            assert!(act.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(act);
        go.send(()).unwrap();
        told.await.unwrap();
    }

    #[tokio::test]
    async fn an_act_that_nobody_asked_for_yet_is_not_begun_by_hanging_up() {
        let (tell, told) = oneshot::channel::<()>();
        drop(to_its_end(async move {
            let _ = tell.send(());
            pending::<Result<(), Trouble>>().await
        }));
        assert!(told.await.is_err(), "dropped unsent");
    }

    #[tokio::test]
    async fn a_defect_in_an_act_is_its_answer() {
        let act = to_its_end::<()>(async { panic!("a defect") });
        assert!(matches!(act.await, Err(Trouble::Fault(_))));
    }
}
