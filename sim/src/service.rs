//! A simulated back-end service: a certificate given as files, and a session that outlives its
//! connections.

use crate::credential::Presented;
use crate::device::Manner;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::tls::{Client, Endpoint};
use model::ServiceId;
use mqtt::{Connect, Qos, Version};
use std::time::Duration;

/// A service with a persistent session: clean start false, and in MQTT 5.0 an expiry.
#[derive(Debug)]
pub struct Service {
    id: ServiceId,
    endpoint: Endpoint,
    presented: Presented,
    filters: Vec<(String, Qos)>,
    session_expiry_seconds: u32,
    /// Messages the server may have in flight to us.
    receive_maximum: u16,
    manner: Manner,
    session: Option<Session>,
}

impl Service {
    /// Nothing is opened yet. The client id is the service's name; the session lives for an hour
    /// without a connection.
    #[must_use]
    pub fn new(
        id: ServiceId,
        endpoint: Endpoint,
        presented: Presented,
        filters: Vec<(String, Qos)>,
        manner: Manner,
    ) -> Self {
        Self {
            id,
            endpoint,
            presented,
            filters,
            session_expiry_seconds: 3600,
            receive_maximum: 1000,
            manner,
            session: None,
        }
    }

    #[must_use]
    pub fn id(&self) -> &ServiceId {
        &self.id
    }

    /// How often the server must hear from us; a day if no limit was asked for.
    pub(crate) fn keep_alive(&self) -> Duration {
        match self.manner.keep_alive_seconds {
            0 => Duration::from_secs(86_400),
            seconds => Duration::from_secs(u64::from(seconds)),
        }
    }

    /// Goes to another address from the next connection on: the plane may have moved.
    pub fn set_endpoint(&mut self, endpoint: Endpoint) {
        self.endpoint = endpoint;
    }

    /// Connects, and subscribes unless the server kept the session. Gives whether it did.
    ///
    /// # Errors
    /// Any [`Refusal`], a refused filter included.
    pub fn connect(&mut self) -> Result<bool, Refusal> {
        let mut session = self.open(false)?;
        if !session.session_present() {
            for (filter, qos) in &self.filters {
                session.subscribe_one(filter, *qos)?;
            }
        }
        let present = session.session_present();
        self.session = Some(session);
        Ok(present)
    }

    /// Makes the server forget the session, by a clean start that ends at once.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn forget(&mut self) -> Result<(), Refusal> {
        self.session = None;
        self.open(true).map(Session::disconnect)
    }

    /// The open session, if there is one.
    pub fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// Drops the connection without DISCONNECT; the server keeps the session.
    pub fn drop_connection(&mut self) {
        self.session = None;
    }

    /// Says DISCONNECT; the server keeps the session.
    pub fn disconnect(&mut self) {
        if let Some(session) = self.session.take() {
            session.disconnect();
        }
    }

    fn open(&self, forget: bool) -> Result<Session, Refusal> {
        let client = Client::new(&self.endpoint, Some(&self.presented), &self.manner.tls)?;
        let v5 = self.manner.version == Version::V5;
        let connect = Connect {
            clean_start: forget,
            keep_alive_seconds: self.manner.keep_alive_seconds,
            session_expiry_seconds: (v5 && !forget).then_some(self.session_expiry_seconds),
            receive_maximum: v5.then_some(self.receive_maximum),
            ..Connect::new(self.manner.version, self.id.as_str())
        };
        Session::open(&client, &connect, self.manner.patience)
    }
}
