//! Commands of the plane on their way to devices: kept until the device listens, sent with QoS 1, and
//! how far each came.
//!
//! A device's session ends with its connection, so nothing waits in one: what a device was not sent,
//! or did not acknowledge, waits here, in the shard that is its home, and goes out when it subscribes
//! to the topic. After a lost connection it may come twice, never not at all while its time lasts.
//! A command goes to its device and to nobody else who may receive the topic.

use crate::deadline::Owner;
use crate::deliver::{Match, seconds_until};
use crate::gateway::Gateway;
use crate::queue::Outbound;
use crate::turn::Turn;
use model::{
    CommandId, Delivery, DeliveryRefusal, DeliveryWait, DeviceId, Principal, Revocable, Timestamp,
};
use mqtt::{ForwardProperties, Publish, Qos};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What devices are told, shared by all that are told it.
#[derive(Debug)]
pub struct Command {
    pub id: CommandId,
    pub payload: Box<[u8]>,
    pub expires_at: Timestamp,
}

/// A command for one device, and how far it came.
#[derive(Debug, Clone)]
pub struct CommandTo {
    pub command: Arc<Command>,
    pub device: DeviceId,
    /// A topic of the device's own, in which it may receive.
    pub topic: Arc<str>,
    /// Where it answers. A client of MQTT 5 is told so, and answers with the command's id as
    /// correlation data; one of 3.1.1 cannot be told.
    pub response_topic: Option<Arc<str>>,
    pub delivery: Delivery,
}

/// How far a command came with a device, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub command: CommandId,
    pub device: DeviceId,
    pub delivery: Delivery,
}

/// Commands of this shard's devices that are not over.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// In the order in which they came.
    by_device: BTreeMap<DeviceId, Vec<CommandTo>>,
    open: BTreeMap<CommandId, Open>,
    /// (session, sequence) of what waits for PUBACK.
    in_flight: BTreeMap<(u32, u64), (DeviceId, CommandId)>,
    pub scheduled: Option<Timestamp>,
}

#[derive(Debug)]
struct Open {
    expires_at: Timestamp,
    devices: BTreeSet<DeviceId>,
}

impl Commands {
    fn find(&mut self, device: &DeviceId, id: CommandId) -> Option<&mut CommandTo> {
        let own = self.by_device.get_mut(device)?;
        own.iter_mut().find(|one| one.command.id == id)
    }

    fn waiting_for(&self, device: &DeviceId) -> Vec<CommandId> {
        let own = self.by_device.get(device).map(Vec::as_slice);
        (own.unwrap_or_default().iter())
            .filter(|one| one.delivery.is_waiting())
            .map(|one| one.command.id)
            .collect()
    }

    fn remove(&mut self, device: &DeviceId, id: CommandId) {
        if let Some(own) = self.by_device.get_mut(device) {
            own.retain(|one| one.command.id != id);
            if own.is_empty() {
                self.by_device.remove(device);
            }
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.devices.remove(device);
            if open.devices.is_empty() {
                self.open.remove(&id);
            }
        }
    }
}

impl Gateway {
    /// Takes a command for a device whose home this is, and sends it if the device listens. One that
    /// is here already is not taken again.
    pub fn command(&mut self, to: CommandTo, now: Timestamp, turn: &mut Turn) {
        let (device, id, expires_at) = (to.device.clone(), to.command.id, to.command.expires_at);
        if self.commands.find(&device, id).is_some() {
            return;
        }
        let own = self.commands.by_device.entry(device.clone()).or_default();
        if own.len() >= self.limits.commands_per_device_max {
            turn.progress.push(Progress {
                command: id,
                device,
                delivery: Delivery::Refused(DeliveryRefusal::TooMany),
            });
            return;
        }
        let waits = to.delivery.is_waiting();
        own.push(to);
        let open = self.commands.open.entry(id).or_insert_with(|| Open {
            expires_at,
            devices: BTreeSet::new(),
        });
        open.devices.insert(device.clone());
        self.schedule_commands(expires_at);
        if waits && expires_at > now {
            self.send_command(&device, id, now, turn);
        }
        self.settle(now, turn);
    }

    /// Takes a command back from every device that was not sent it, out of the queue of its connection
    /// as well. Returns from how many. What was sent is not sent again.
    pub fn cancel_command(&mut self, id: CommandId, turn: &mut Turn) -> u32 {
        let devices = (self.commands.open.get(&id)).map(|open| open.devices.clone());
        let mut count = 0;
        for device in devices.unwrap_or_default() {
            count += u32::from(self.take_back(&device, id, Delivery::Cancelled, turn));
        }
        count
    }

    /// A device has subscribed to something: what waits for it may go.
    pub(crate) fn send_commands(&mut self, session: u32, now: Timestamp, turn: &mut Turn) {
        if self.commands.by_device.is_empty() {
            return;
        }
        let Some(device) = self.device_of(session) else {
            return;
        };
        for id in self.commands.waiting_for(&device) {
            self.send_command(&device, id, now, turn);
        }
    }

    /// A publish of a device may be the answer to a command.
    pub(crate) fn note_answer(&mut self, session: u32, packet: &Publish<'_>, turn: &mut Turn) {
        if self.commands.by_device.is_empty() || packet.forward.is_empty() {
            return;
        }
        let named = (packet.forward.correlation_data())
            .and_then(|bytes| CommandId::from_text(std::str::from_utf8(bytes).ok()?));
        let (Some(id), Some(device)) = (named, self.device_of(session)) else {
            return;
        };
        let is_answer = self.commands.find(&device, id).is_some_and(|one| {
            one.response_topic.as_deref() == Some(packet.topic)
                && matches!(one.delivery, Delivery::Sent | Delivery::Delivered)
        });
        if is_answer {
            self.note_delivery(&device, id, Delivery::Answered, turn);
        }
    }

    /// A message of QoS 1 is done with: acknowledged, or dropped before it was sent.
    pub(crate) fn command_ended(
        &mut self,
        session: u32,
        sequence: u64,
        delivery: Delivery,
        turn: &mut Turn,
    ) {
        if self.commands.in_flight.is_empty() {
            return;
        }
        let Some((device, id)) = self.commands.in_flight.remove(&(session, sequence)) else {
            return;
        };
        if self.commands.find(&device, id).is_some() {
            self.note_delivery(&device, id, delivery, turn);
        } else if delivery == Delivery::Delivered {
            // Its time was over before the acknowledgement came.
            turn.progress.push(Progress {
                command: id,
                device,
                delivery,
            });
        }
    }

    /// What a session did not acknowledge waits for the next one.
    pub(crate) fn commands_of_ended_session(&mut self, session: u32, turn: &mut Turn) {
        while let Some((key, (device, id))) = self
            .commands
            .in_flight
            .range((session, 0)..=(session, u64::MAX))
            .next()
            .map(|(key, value)| (*key, value.clone()))
        {
            self.commands.in_flight.remove(&key);
            let mut elsewhere = self.commands.in_flight.values();
            let is_elsewhere = elsewhere.any(|(other, of)| *of == id && *other == device);
            let found = self.commands.find(&device, id);
            if !is_elsewhere && found.is_some_and(|one| one.delivery == Delivery::Sent) {
                let away = Delivery::Waiting(DeliveryWait::Away);
                self.note_delivery(&device, id, away, turn);
            }
        }
    }

    /// Whoever is cut off is told nothing any more.
    pub(crate) fn refuse_commands(
        &mut self,
        principal: &Principal,
        why: DeliveryRefusal,
        turn: &mut Turn,
    ) {
        let Principal::Device(device) = principal else {
            return;
        };
        let own = self.commands.by_device.get(device).map(Vec::as_slice);
        let ids: Vec<CommandId> = (own.unwrap_or_default().iter())
            .map(|one| one.command.id)
            .collect();
        for id in ids {
            self.take_back(device, id, Delivery::Refused(why), turn);
        }
    }

    /// True if it was not sent yet.
    fn take_back(
        &mut self,
        device: &DeviceId,
        id: CommandId,
        over: Delivery,
        turn: &mut Turn,
    ) -> bool {
        match self.commands.find(device, id).map(|one| one.delivery) {
            Some(Delivery::Waiting(_)) => {
                self.note_delivery(device, id, over, turn);
                true
            }
            Some(Delivery::Sent) if self.take_unsent(device, id) => {
                self.note_delivery(device, id, over, turn);
                true
            }
            // Nobody knows whether it arrived; it must not go out again.
            Some(Delivery::Sent) => {
                self.commands.remove(device, id);
                false
            }
            _ => false,
        }
    }

    /// Takes a command out of the queues of its device's sessions, if it is on the wire of none.
    fn take_unsent(&mut self, device: &DeviceId, id: CommandId) -> bool {
        let principal = Principal::Device(device.clone());
        let known =
            (self.by_principal.get(&principal)).and_then(|index| self.principals.get(*index));
        let sessions = known
            .map(|known| known.sessions.clone())
            .unwrap_or_default();
        let queued: Vec<(u32, u64)> = (sessions.into_iter())
            .flat_map(|session| (self.commands.in_flight).range((session, 0)..=(session, u64::MAX)))
            .filter(|(_, (_, of))| *of == id)
            .map(|(key, _)| *key)
            .collect();
        let is_unsent = |(session, sequence): &(u32, u64)| {
            (self.sessions.get(*session)).is_some_and(|it| it.queue.is_unsent(*sequence))
        };
        if queued.is_empty() || !queued.iter().all(is_unsent) {
            return false;
        }
        for (session, sequence) in queued {
            self.commands.in_flight.remove(&(session, sequence));
            if let Some(session) = self.sessions.get_mut(session) {
                session.queue.acknowledge_sequence(sequence);
            }
        }
        true
    }

    pub(crate) fn refuse_commands_of(&mut self, what: &[Revocable], turn: &mut Turn) {
        for one in what {
            if let Revocable::Principal(principal) = one {
                self.refuse_commands(principal, DeliveryRefusal::Revoked, turn);
            }
        }
    }

    pub(crate) fn commands_due(&mut self, now: Timestamp, turn: &mut Turn) {
        let over: Vec<(CommandId, BTreeSet<DeviceId>)> = (self.commands.open.iter())
            .filter(|(_, open)| open.expires_at <= now)
            .map(|(id, open)| (*id, open.devices.clone()))
            .collect();
        for (id, devices) in over {
            for device in devices {
                let delivery = self.commands.find(&device, id).map(|one| one.delivery);
                match delivery {
                    Some(Delivery::Waiting(DeliveryWait::NotSubscribed)) => {
                        let why = Delivery::Refused(DeliveryRefusal::NotSubscribed);
                        self.note_delivery(&device, id, why, turn);
                    }
                    Some(Delivery::Waiting(_)) => {
                        self.note_delivery(&device, id, Delivery::Expired, turn);
                    }
                    // What was sent and never acknowledged stays so: nobody knows more.
                    _ => self.commands.remove(&device, id),
                }
            }
        }
        if let Some(next) = self
            .commands
            .open
            .values()
            .map(|open| open.expires_at)
            .min()
        {
            self.schedule_commands(next);
        }
    }

    fn schedule_commands(&mut self, at: Timestamp) {
        let Self {
            deadlines,
            commands,
            ..
        } = self;
        deadlines.schedule(Owner::Commands, &mut commands.scheduled, at);
    }

    pub(crate) fn device_of(&self, session: u32) -> Option<DeviceId> {
        let principal = self.sessions.get(session)?.principal;
        match &self.principals.get(principal)?.facts.principal {
            Principal::Device(device) => Some(device.clone()),
            Principal::Service(_) => None,
        }
    }

    fn note_delivery(
        &mut self,
        device: &DeviceId,
        id: CommandId,
        delivery: Delivery,
        turn: &mut Turn,
    ) {
        let Some(found) = self.commands.find(device, id) else {
            return;
        };
        if found.delivery != delivery {
            found.delivery = delivery;
            turn.progress.push(Progress {
                command: id,
                device: device.clone(),
                delivery,
            });
        }
        let goes_on = match delivery {
            Delivery::Waiting(_) | Delivery::Sent => true,
            Delivery::Delivered => found.response_topic.is_some(),
            _ => false,
        };
        if !goes_on {
            self.commands.remove(device, id);
        }
    }

    fn send_command(&mut self, device: &DeviceId, id: CommandId, now: Timestamp, turn: &mut Turn) {
        let Some(to) = self.commands.find(device, id).cloned() else {
            return;
        };
        let delivery = self.try_command(&to, now, turn);
        self.note_delivery(device, id, delivery, turn);
    }

    /// Hands it to every session of the device that subscribed to its topic.
    fn try_command(&mut self, to: &CommandTo, now: Timestamp, turn: &mut Turn) -> Delivery {
        let principal = Principal::Device(to.device.clone());
        let index = self.by_principal.get(&principal).copied();
        let Some(known) = index.and_then(|index| self.principals.get(index)) else {
            return Delivery::Waiting(DeliveryWait::Away);
        };
        let connected: Vec<u32> = (known.sessions.iter().copied())
            .filter(|session| {
                let session = self.sessions.get(*session);
                session.is_some_and(|session| session.connection.is_some())
            })
            .collect();
        if connected.is_empty() {
            return Delivery::Waiting(DeliveryWait::Away);
        }
        if known.subject.containment().is_some() {
            return Delivery::Refused(DeliveryRefusal::Contained);
        }
        // Policies may have changed since it was asked for.
        let grants = Arc::clone(&self.grants);
        let Some(place) =
            (grants.resolve(&to.topic)).filter(|place| grants.receive(&known.subject, place))
        else {
            return Delivery::Refused(DeliveryRefusal::NoGrant);
        };
        if to.command.payload.len() > place.payload_bytes_max as usize {
            return Delivery::Refused(DeliveryRefusal::TooLarge);
        }
        let mut properties = Vec::new();
        let correlation = to.command.id.to_string();
        let response = to.response_topic.as_deref();
        mqtt::encode::request_properties(
            &mut properties,
            seconds_until(to.command.expires_at, now),
            response.map(|topic| (topic, correlation.as_bytes())),
        );
        let message = Outbound {
            topic: &to.topic,
            forward: ForwardProperties::from_validated(&properties),
            payload: &to.command.payload,
            expires_at: Some(to.command.expires_at),
            qos: Qos::AtLeastOnce,
            retain: false,
            share: None,
        };
        let mut furthest = Delivery::Waiting(DeliveryWait::NotSubscribed);
        for session in connected {
            match self.command_to_session(session, to, &message, now, turn) {
                None => {}
                Some(true) => furthest = Delivery::Sent,
                Some(false) if furthest != Delivery::Sent => {
                    furthest = Delivery::Waiting(DeliveryWait::NotTaken);
                }
                Some(false) => {}
            }
        }
        furthest
    }

    /// `None`: it did not subscribe to the topic. False: it did, and takes no more.
    fn command_to_session(
        &mut self,
        session: u32,
        to: &CommandTo,
        message: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Option<bool> {
        let found = self.sessions.get(session)?;
        let matches: Vec<Match> = (found.subscriptions.iter())
            .filter(|subscribed| subscribed.filter.matches(&to.topic))
            .map(|subscribed| Match {
                session,
                share: None,
                options: subscribed.options,
            })
            .collect();
        if matches.is_empty() {
            return None;
        }
        let (sequence, sent_before) = (found.queue.next_sequence(), self.counters.deliveries);
        self.deliver(session, None, &matches, message, now, turn);
        self.note_pressure(session, now, turn);
        let after = self
            .sessions
            .get(session)
            .map(|it| it.queue.next_sequence());
        if after.is_some_and(|after| after > sequence) {
            let whose = (to.device.clone(), to.command.id);
            self.commands.in_flight.insert((session, sequence), whose);
            return Some(true);
        }
        // Of QoS 0 nothing is kept.
        Some(self.counters.deliveries > sent_before)
    }
}
