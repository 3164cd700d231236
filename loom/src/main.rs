//! The orders in which two senders and the owner of a mailbox can step, by a checker that knows the
//! memory model too.
//!
//! The checker fails if a thread waits for ever: if a letter is posted and its owner sleeps.

mod sync;

#[allow(dead_code, reason = "the plane uses all of it")]
#[path = "../../doors/plane/src/shards/mailbox.rs"]
mod mailbox;

use loom::sync::Arc;
use loom::thread;
use mailbox::Mailbox;
use std::collections::VecDeque;

fn main() {
    check("no wake is missed and no letter lost", || meet(2, false));
    check("nor by an owner that looks before it is woken", || {
        meet(2, true)
    });
    check("an owner that ends drops what comes later", end);
    println!("no order was found in which they do not");
}

fn check(what: &str, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Threads are made to give way at three places at most: with more, the orders are too many.
    builder.preemption_bound = Some(3);
    builder.check(model);
    println!("holds    {what}");
}

/// Each sender posts two letters; the owner sleeps until it is woken.
fn meet(senders: usize, looks_early: bool) {
    let mailbox = Arc::new(Mailbox::new(|_| 3).expect("no file is behind it here"));
    let threads: Vec<_> = (0..senders)
        .map(|sender| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                mailbox.post((sender, 0));
                mailbox.post((sender, 1));
            })
        })
        .collect();
    let mut letters = VecDeque::new();
    if looks_early && mailbox.waiting() > 0 {
        mailbox.collect(&mut letters);
    }
    while letters.len() < 2 * senders {
        mailbox.wake().wait();
        mailbox.collect(&mut letters);
    }
    for sender in 0..senders {
        let mine: Vec<usize> = (letters.iter())
            .filter(|(from, _)| *from == sender)
            .map(|(_, number)| *number)
            .collect();
        assert_eq!(mine, [0, 1], "in its sender's order");
    }
    for thread in threads {
        thread.join().expect("a sender failed");
    }
    assert_eq!(mailbox.waiting(), 0, "what was counted is off again");
}

fn end() {
    let mailbox = Arc::new(Mailbox::new(|_| 1).expect("no file is behind it here"));
    let late = {
        let mailbox = Arc::clone(&mailbox);
        thread::spawn(move || mailbox.post(1))
    };
    mailbox.close();
    late.join().expect("a sender failed");
    let mut letters = VecDeque::new();
    mailbox.collect(&mut letters);
    assert!(letters.is_empty(), "nobody would answer it");
}
