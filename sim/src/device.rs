//! A simulated device: a factory identity, an operational identity, a session. And the ways in
//! which it may try to come back after it was shut out.

use crate::credential::Credential;
use crate::est;
use crate::refusal::{Refusal, SetupError};
use crate::session::Session;
use crate::tls::{Client, Endpoint, Options};
use model::{DeviceId, SerialNumber};
use mqtt::{Connect, Version};
use std::time::Duration;

/// The doors of a plane.
#[derive(Debug, Clone)]
pub struct Doors {
    /// EST over mutual TLS.
    pub est: Endpoint,
    /// MQTT over mutual TLS.
    pub mqtt: Endpoint,
}

/// How a client speaks. The default: both TLS versions, MQTT 5.0, keep-alive 300 s, every wait
/// ends after 10 s.
#[derive(Debug, Clone)]
pub struct Manner {
    pub tls: Options,
    pub version: Version,
    pub keep_alive_seconds: u16,
    /// The longest wait for any one answer.
    pub patience: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            tls: Options::default(),
            version: Version::V5,
            keep_alive_seconds: 300,
            patience: Duration::from_secs(10),
        }
    }
}

/// A device.
#[derive(Debug)]
pub struct Device {
    id: DeviceId,
    serial: SerialNumber,
    idevid: Credential,
    ldevid: Option<Credential>,
    /// The MQTT door as this device last entered it, with its tickets.
    entrance: Option<Client>,
    session: Option<Session>,
}

/// What a device shows at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Idevid,
    Ldevid,
    /// No certificate at all.
    Nothing,
}

/// An attempt to resume a TLS session by a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketOutcome {
    /// The server never gave a ticket, so that none could be tried.
    NeverGiven,
    /// The server took the ticket and let the client in: what must never be after a revocation.
    Resumed,
    /// A ticket was offered and the server insisted on a full handshake, in which the client was
    /// let in by its certificate.
    FullHandshake,
    /// A ticket was offered, and the client was refused.
    Refused(Refusal),
}

impl TicketOutcome {
    /// True if the ticket opened nothing: none existed, or the attempt was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match self {
            Self::NeverGiven => true,
            Self::Refused(refusal) => refusal.is_by_server(),
            Self::Resumed | Self::FullHandshake => false,
        }
    }
}

/// All the ways back, each tried once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// MQTT with the LDevID.
    pub connect_by_ldevid: Result<(), Refusal>,
    /// MQTT with the IDevID, which must open no MQTT door even before a revocation.
    pub connect_by_idevid: Result<(), Refusal>,
    /// MQTT by resumption.
    pub connect_by_ticket: TicketOutcome,
    /// EST `simplereenroll` with the LDevID.
    pub reenroll_by_ldevid: Result<(), Refusal>,
    /// EST `simpleenroll` with the IDevID.
    pub enroll_by_idevid: Result<(), Refusal>,
}

impl Return {
    /// True if the server refused every way to a session.
    #[must_use]
    pub fn reconnect_refused(&self) -> bool {
        is_refused(&self.connect_by_ldevid)
            && is_refused(&self.connect_by_idevid)
            && self.connect_by_ticket.is_refused()
    }

    /// True if the server refused every way to a new certificate.
    #[must_use]
    pub fn reenroll_refused(&self) -> bool {
        is_refused(&self.reenroll_by_ldevid) && is_refused(&self.enroll_by_idevid)
    }
}

impl Device {
    #[must_use]
    pub fn new(id: DeviceId, serial: SerialNumber, idevid: Credential) -> Self {
        Self {
            id,
            serial,
            idevid,
            ldevid: None,
            entrance: None,
            session: None,
        }
    }

    #[must_use]
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    #[must_use]
    pub fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    #[must_use]
    pub fn idevid(&self) -> &Credential {
        &self.idevid
    }

    #[must_use]
    pub fn ldevid(&self) -> Option<&Credential> {
        self.ldevid.as_ref()
    }

    /// The open session, if there is one.
    pub fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// Gives the session away; the device is then without one.
    pub fn take_session(&mut self) -> Option<Session> {
        self.session.take()
    }

    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// Makes a key and gets the first LDevID for it, by the IDevID (EST `simpleenroll`).
    ///
    /// # Errors
    /// Any [`Refusal`]; the device is then as before.
    pub fn enroll(&mut self, doors: &Doors, manner: &Manner) -> Result<(), Refusal> {
        let ldevid = self.ask_enroll(doors, manner, Shown::Idevid)?;
        self.ldevid = Some(ldevid);
        self.entrance = None;
        Ok(())
    }

    /// Takes an LDevID that was got in another way: from files, or from a CA that is not ours.
    pub fn adopt(&mut self, ldevid: Credential) {
        self.ldevid = Some(ldevid);
        self.entrance = None;
    }

    /// Gets a new LDevID by the present one (EST `simplereenroll`), for a new key if `rekey`.
    /// Without an LDevID yet this is [`Refusal::Setup`].
    ///
    /// # Errors
    /// Any [`Refusal`]; the present LDevID is then kept.
    pub fn reenroll(&mut self, doors: &Doors, manner: &Manner, rekey: bool) -> Result<(), Refusal> {
        let ldevid = self.ask_reenroll(doors, manner, rekey)?;
        self.ldevid = Some(ldevid);
        self.entrance = None;
        Ok(())
    }

    /// Connects by the LDevID with a clean start; the client id is the device's name. An older
    /// session of this device is dropped first, without DISCONNECT.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn connect(&mut self, doors: &Doors, manner: &Manner) -> Result<(), Refusal> {
        self.session = None;
        let client = match &self.entrance {
            Some(client)
                if manner.tls.resume && client.endpoint().address == doors.mqtt.address =>
            {
                client.clone()
            }
            // Tickets are always collected, for `try_ticket`; only a manner with `resume` offers
            // them at the next connection too.
            _ => {
                let options = Options {
                    resume: true,
                    ..manner.tls.clone()
                };
                self.client(&doors.mqtt, &options, Shown::Ldevid)?
            }
        };
        let session = open(&client, self.id.as_str(), manner)?;
        self.entrance = Some(client);
        self.session = Some(session);
        Ok(())
    }

    /// Tries once to open a session and closes it again. Changes nothing here.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn try_connect(&self, doors: &Doors, manner: &Manner, shown: Shown) -> Result<(), Refusal> {
        let client = self.client(&doors.mqtt, &manner.tls, shown)?;
        open(&client, self.id.as_str(), manner).map(Session::disconnect)
    }

    /// Tries to open a session by a ticket that an earlier one left behind.
    #[must_use]
    pub fn try_ticket(&self, manner: &Manner) -> TicketOutcome {
        let Some(client) = self
            .entrance
            .as_ref()
            .filter(|client| client.tickets_received() > 0)
        else {
            return TicketOutcome::NeverGiven;
        };
        let offered = client.tickets_offered();
        match open(client, self.id.as_str(), manner) {
            Ok(session) => {
                let resumed = session.transport().is_resumed();
                session.disconnect();
                if resumed {
                    TicketOutcome::Resumed
                } else if client.tickets_offered() == offered {
                    TicketOutcome::NeverGiven
                } else {
                    TicketOutcome::FullHandshake
                }
            }
            Err(refusal) => TicketOutcome::Refused(refusal),
        }
    }

    /// Tries every way back, as one who is shut out would. A way that opens is closed again and
    /// a certificate that is given is thrown away.
    #[must_use]
    pub fn try_return(&self, doors: &Doors, manner: &Manner) -> Return {
        Return {
            connect_by_ticket: self.try_ticket(manner),
            connect_by_ldevid: self.try_connect(doors, manner, Shown::Ldevid),
            connect_by_idevid: self.try_connect(doors, manner, Shown::Idevid),
            reenroll_by_ldevid: self.ask_reenroll(doors, manner, true).map(drop),
            enroll_by_idevid: self.ask_enroll(doors, manner, Shown::Idevid).map(drop),
        }
    }

    /// `simpleenroll` showing anything: for those who must be refused.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn ask_enroll(
        &self,
        doors: &Doors,
        manner: &Manner,
        shown: Shown,
    ) -> Result<Credential, Refusal> {
        let client = self.client(&doors.est, &manner.tls, shown)?;
        est::simpleenroll(
            &client,
            self.id.as_str(),
            self.serial.as_str(),
            manner.patience,
        )
    }

    fn ask_reenroll(
        &self,
        doors: &Doors,
        manner: &Manner,
        rekey: bool,
    ) -> Result<Credential, Refusal> {
        let client = self.client(&doors.est, &manner.tls, Shown::Ldevid)?;
        est::simplereenroll(&client, self.current()?, rekey, manner.patience)
    }

    fn client(
        &self,
        endpoint: &Endpoint,
        options: &Options,
        shown: Shown,
    ) -> Result<Client, Refusal> {
        let presented = match shown {
            Shown::Idevid => Some(self.idevid.presented()),
            Shown::Ldevid => Some(self.current()?.presented()),
            Shown::Nothing => None,
        };
        Ok(Client::new(endpoint, presented.as_ref(), options)?)
    }

    fn current(&self) -> Result<&Credential, SetupError> {
        self.ldevid
            .as_ref()
            .ok_or_else(|| SetupError::Argument(format!("{} has no LDevID; enroll it", self.id)))
    }
}

fn open(client: &Client, client_id: &str, manner: &Manner) -> Result<Session, Refusal> {
    let connect = Connect {
        keep_alive_seconds: manner.keep_alive_seconds,
        ..Connect::new(manner.version, client_id)
    };
    Session::open(client, &connect, manner.patience)
}

fn is_refused(outcome: &Result<(), Refusal>) -> bool {
    outcome.as_ref().is_err_and(Refusal::is_by_server)
}
