//! Session tickets that are sound: each listener has its own keys, which end with the process; a
//! ticket is good for an hour from the handshake in which the key was proven, however often it is
//! renewed; and who comes by one is asked for again as if it had shown its certificate
//! ([`super::tls::Trust::resumed`]).

use crate::clock;
use crate::shared::Locked;
use model::Timestamp;
use rustls::server::ProducesTickets;
use std::sync::Arc;
use zeroize::Zeroizing;

/// From the handshake in which possession of the key was proven.
const LIFETIME_SECONDS: u32 = 3600;

/// Of one listener. Nobody else can read its tickets, and nothing can once the process has ended.
#[derive(Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self, rustls::Error> {
        rustls::crypto::aws_lc_rs::Ticketer::new().map(Self)
    }

    /// For one connection.
    #[must_use]
    pub fn of_connection(&self) -> Arc<dyn ProducesTickets> {
        Arc::new(OfConnection {
            of_listener: Arc::clone(&self.0),
            proven_at: Locked::default(),
        })
    }
}

/// Knows when its connection's key was proven: now, or when the ticket says by which it came.
#[derive(Debug)]
struct OfConnection {
    of_listener: Arc<dyn ProducesTickets>,
    proven_at: Locked<Option<Timestamp>>,
}

impl OfConnection {
    fn seal(&self, content: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        let proven_at = self.proven_at.lock().unwrap_or(now);
        let mut plain = Zeroizing::new(Vec::with_capacity(8 + content.len()));
        plain.extend_from_slice(&proven_at.as_seconds().to_be_bytes());
        plain.extend_from_slice(content);
        self.of_listener.encrypt(&plain)
    }

    fn open(&self, sealed: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        let plain = Zeroizing::new(self.of_listener.decrypt(sealed)?);
        let (proven_at, content) = plain.split_first_chunk::<8>()?;
        let proven_at = u64::from_be_bytes(*proven_at);
        let age = now.as_seconds().checked_sub(proven_at)?;
        if age > u64::from(LIFETIME_SECONDS) {
            return None;
        }
        *self.proven_at.lock() = Some(Timestamp::from_seconds(proven_at));
        Some(content.to_vec())
    }
}

impl ProducesTickets for OfConnection {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, clock::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, clock::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(tickets: &Tickets) -> OfConnection {
        OfConnection {
            of_listener: Arc::clone(&tickets.0),
            proven_at: Locked::default(),
        }
    }

    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn after(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(START.as_seconds() + seconds)
    }

    #[test]
    fn attack_a_ticket_that_is_renewed_each_time_ends_all_the_same() {
        let tickets = Tickets::new().unwrap();
        let mut ticket = connection(&tickets).seal(b"session", START).unwrap();
        for minutes in [20, 40, 60] {
            let next = connection(&tickets);
            let opened = next.open(&ticket, after(minutes * 60));
            assert_eq!(opened.as_deref(), Some(&b"session"[..]));
            ticket = next.seal(b"session", after(minutes * 60)).unwrap();
        }
        assert_eq!(connection(&tickets).open(&ticket, after(3601)), None);
        // A clock that was set back makes none older than itself.
        let before = Timestamp::from_seconds(START.as_seconds() - 1);
        assert_eq!(connection(&tickets).open(&ticket, before), None);
    }

    #[test]
    fn attack_a_ticket_of_another_listener_or_another_run_opens_nothing() {
        let tickets = Tickets::new().unwrap();
        let ticket = connection(&tickets).seal(b"session", START).unwrap();
        let other = Tickets::new().unwrap();
        assert_eq!(connection(&other).open(&ticket, START), None);
        let mut damaged = ticket.clone();
        if let Some(last) = damaged.last_mut() {
            *last ^= 1;
        }
        assert_eq!(connection(&tickets).open(&damaged, START), None);
        assert_eq!(connection(&tickets).open(b"", START), None);
    }
}
