//! A whole fleet, its consumer and its books, as steps that a scenario composes: enroll,
//! connect, publish, watch one being revoked, try to come back, count.

mod consumer;
mod observer;

pub use consumer::{Consumer, ConsumerReport};
pub use observer::{Observation, Observer};

use crate::device::{Device, Doors, Manner, Return};
use crate::factory::{Factory, Flaw};
use crate::ledger::{Ledger, Stamp, Totals};
use crate::random::Random;
use crate::refusal::{Refusal, SetupError};
use model::{DeviceId, SerialNumber, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What fleet to make.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    pub devices: usize,
    /// Decides serial numbers and who acts when.
    pub seed: u64,
    /// Devices are `<prefix>-0000`, `<prefix>-0001`, ..
    pub prefix: String,
    /// For the list of expected devices.
    pub product: String,
    /// For the list of expected devices.
    pub groups: Vec<String>,
    /// Where a device publishes; `{device}` is its name.
    pub topic_template: String,
    /// Whole payload; at least [`Stamp::BYTES_MAX`] if it shall be exact.
    pub payload_bytes: usize,
    /// Devices are spread over this many threads; each drives its devices in turn.
    pub threads: usize,
}

/// Devices of one manufacturer, on their way through one plane.
pub struct Fleet {
    devices: Vec<Device>,
    books: Arc<Books>,
    payload_bytes: usize,
    threads: usize,
    random: Random,
}

/// How one step went for the whole fleet.
#[derive(Debug, Clone, Default)]
pub struct StepReport {
    pub succeeded: usize,
    /// By [`Refusal::kind`].
    pub failures: BTreeMap<String, u64>,
    /// One failure in full, with its device.
    pub example: Option<String>,
    pub elapsed: Duration,
}

impl StepReport {
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    fn count(&mut self, device: &DeviceId, outcome: Result<(), Refusal>) {
        match outcome {
            Ok(()) => self.succeeded += 1,
            Err(refusal) => {
                *self.failures.entry(refusal.kind()).or_default() += 1;
                self.example
                    .get_or_insert_with(|| format!("{device}: {refusal}"));
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        self.example = self.example.take().or(other.example);
    }
}

impl Fleet {
    /// Makes the devices with their factory identities. Nothing is opened.
    ///
    /// # Errors
    /// If a name is not valid or the cryptographic library refuses.
    pub fn new(spec: &FleetSpec, factory: &Factory, now: Timestamp) -> Result<Self, SetupError> {
        let invalid = |error: model::InvalidName| SetupError::Argument(error.to_string());
        let random = Random::new(spec.seed);
        let mut serials = random.part(u64::MAX);
        let mut devices = Vec::with_capacity(spec.devices);
        let mut topics = Vec::with_capacity(spec.devices);
        for index in 0..spec.devices {
            let id = DeviceId::new(&format!("{}-{index:04}", spec.prefix)).map_err(invalid)?;
            // The index makes it unique, the rest unguessable from its neighbour.
            let serial = format!("SN{index:05}-{:08X}", serials.next() >> 32);
            let serial = SerialNumber::new(&serial).map_err(invalid)?;
            let idevid = factory.idevid(&serial, Flaw::None, now)?;
            topics.push(spec.topic_template.replace("{device}", id.as_str()));
            devices.push(Device::new(id, serial, idevid));
        }
        Ok(Self {
            books: Arc::new(Books::new(topics)),
            devices,
            payload_bytes: spec.payload_bytes,
            threads: spec.threads.max(1),
            random,
        })
    }

    /// The list of expected devices to import: CSV with the header `serial,product,device,groups`.
    #[must_use]
    pub fn expected_csv(&self, spec: &FleetSpec) -> String {
        let mut csv = "serial,product,device,groups\n".to_owned();
        for device in &self.devices {
            csv.push_str(&format!(
                "{},{},{},{}\n",
                device.serial(),
                spec.product,
                device.id(),
                spec.groups.join(";")
            ));
        }
        csv
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    #[must_use]
    pub fn device(&self, index: usize) -> Option<&Device> {
        self.devices.get(index)
    }

    pub fn device_mut(&mut self, index: usize) -> Option<&mut Device> {
        self.devices.get_mut(index)
    }

    /// A device picked by the seed; the same for the same `purpose`. `None` in an empty fleet.
    #[must_use]
    pub fn pick(&self, purpose: u64) -> Option<usize> {
        let index = self.random.part(purpose).below(self.devices.len());
        (index < self.devices.len()).then_some(index)
    }

    /// What was sent, acknowledged, delivered, lost so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.books.open().totals()
    }

    /// The books, for a [`Consumer`].
    #[must_use]
    pub fn books(&self) -> Arc<Books> {
        self.books.clone()
    }

    /// Every device without an LDevID gets one by its IDevID.
    pub fn enroll_all(&mut self, doors: &Doors, manner: &Manner) -> StepReport {
        self.each(|_, device| match device.ldevid() {
            Some(_) => Ok(()),
            None => device.enroll(doors, manner),
        })
    }

    /// Every device with an LDevID and no session connects. Devices that never enrolled count as
    /// failures.
    pub fn connect_all(&mut self, doors: &Doors, manner: &Manner) -> StepReport {
        self.each(|_, device| {
            if device.is_connected() {
                Ok(())
            } else {
                device.connect(doors, manner)
            }
        })
    }

    /// Every connected device publishes `messages` of QoS 1 and waits for each acknowledgement
    /// before its next; the devices of a thread overlap. A device whose session ends is then
    /// without one. Counts messages; devices without a session are passed over.
    pub fn publish_round(&mut self, messages: usize) -> StepReport {
        let books = self.books.clone();
        let payload_bytes = self.payload_bytes;
        self.in_threads(move |devices, report| {
            for _ in 0..messages {
                let mut waiting = Vec::with_capacity(devices.len());
                for (index, device) in devices.iter_mut() {
                    if let Some(session) = device.session() {
                        match books.send(session, *index, payload_bytes) {
                            Ok(sent) => waiting.push(Some(sent)),
                            Err(refusal) => {
                                drop(device.take_session());
                                report.count(device.id(), Err(refusal));
                                waiting.push(None);
                            }
                        }
                    } else {
                        waiting.push(None);
                    }
                }
                for ((index, device), sent) in devices.iter_mut().zip(waiting) {
                    if let (Some(session), Some(sent)) = (device.session(), sent) {
                        let outcome = books.wait_puback(session, *index, sent);
                        if outcome.as_ref().is_err_and(Refusal::ends_session) {
                            drop(device.take_session());
                        }
                        report.count(device.id(), outcome);
                    }
                }
            }
        })
    }

    /// Asks every device that believes itself connected for a sign of life from the server. A
    /// device whose session turns out ended is then without one, and counted as failed.
    pub fn ping_all(&mut self) -> StepReport {
        self.in_threads(|devices, report| {
            for (_, device) in devices.iter_mut() {
                if let Some(session) = device.session() {
                    let outcome = session.ping();
                    if outcome.is_err() {
                        drop(device.take_session());
                    }
                    report.count(device.id(), outcome);
                }
            }
        })
    }

    /// How many devices hold a session as far as they know; [`Self::ping_all`] makes it certain.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.devices.iter().filter(|d| d.is_connected()).count()
    }

    /// Lets one connected device publish on its own thread, every `interval`, until its session
    /// ends: to see how long a revocation takes. The device is without a session from here on.
    ///
    /// # Errors
    /// If there is no such device, or it has no session.
    pub fn observe(&mut self, index: usize, interval: Duration) -> Result<Observer, SetupError> {
        let session = self
            .devices
            .get_mut(index)
            .and_then(Device::take_session)
            .ok_or_else(|| SetupError::Argument(format!("device {index} has no session")))?;
        Ok(Observer::start(
            session,
            self.books.clone(),
            index,
            self.payload_bytes,
            interval,
        ))
    }

    /// One device tries every way back: see [`Device::try_return`]. `None` if there is no such
    /// device.
    #[must_use]
    pub fn try_return(&self, index: usize, doors: &Doors, manner: &Manner) -> Option<Return> {
        Some(self.devices.get(index)?.try_return(doors, manner))
    }

    /// Does something with every device, spread over the threads, in an order that the seed
    /// decides.
    pub fn each(
        &mut self,
        act: impl Fn(usize, &mut Device) -> Result<(), Refusal> + Sync,
    ) -> StepReport {
        self.in_threads(|devices, report| {
            for (index, device) in devices.iter_mut() {
                let outcome = act(*index, device);
                report.count(device.id(), outcome);
            }
        })
    }

    fn in_threads(
        &mut self,
        act: impl Fn(&mut [(usize, &mut Device)], &mut StepReport) + Sync,
    ) -> StepReport {
        let started = Instant::now();
        let mut order: Vec<(usize, &mut Device)> = self.devices.iter_mut().enumerate().collect();
        // Each step draws anew, so that no device is always first.
        Random::new(self.random.next()).shuffle(&mut order);
        let share = order.len().div_ceil(self.threads).max(1);
        let mut report = StepReport::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = order
                .chunks_mut(share)
                .map(|devices| {
                    let act = &act;
                    scope.spawn(move || {
                        let mut report = StepReport::default();
                        act(devices, &mut report);
                        report
                    })
                })
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(part) => report.add(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        report.elapsed = started.elapsed();
        report
    }
}

/// The ledger as shared by devices and consumer, with the fleet's clock and topics.
#[derive(Debug)]
pub struct Books {
    ledger: Mutex<Ledger>,
    changed: Condvar,
    started: Instant,
    /// Where each device publishes.
    topics: Vec<String>,
}

impl Books {
    fn new(topics: Vec<String>) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(topics.len())),
            changed: Condvar::new(),
            started: Instant::now(),
            topics,
        }
    }

    fn open(&self) -> MutexGuard<'_, Ledger> {
        // A count is a count even if another thread died.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the device's next message. Gives its packet id and its sequence.
    fn send(
        &self,
        session: &mut crate::Session,
        index: usize,
        payload_bytes: usize,
    ) -> Result<(u16, u32), Refusal> {
        let unknown = || Refusal::Setup(format!("device {index} is not in the books"));
        let device = u32::try_from(index).map_err(|_| unknown())?;
        let topic = self.topics.get(index).ok_or_else(unknown)?;
        // Booked before the bytes leave: the delivery may be faster than this thread.
        let sequence = self.open().send(device).ok_or_else(unknown)?;
        let stamp = Stamp {
            device,
            sequence,
            sent_nanos: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        };
        let mut payload = Vec::with_capacity(payload_bytes.max(Stamp::BYTES_MAX));
        stamp.write(&mut payload, payload_bytes);
        Ok((session.send(topic, &payload)?, sequence))
    }

    fn wait_puback(
        &self,
        session: &mut crate::Session,
        index: usize,
        (packet_id, sequence): (u16, u32),
    ) -> Result<(), Refusal> {
        session.wait_puback(packet_id)?;
        self.acknowledge(index, sequence);
        Ok(())
    }

    fn acknowledge(&self, index: usize, sequence: u32) {
        if let Ok(device) = u32::try_from(index) {
            self.open().acknowledge(device, sequence);
            self.changed.notify_all();
        }
    }

    fn deliver(&self, topic: &str, payload: &[u8]) {
        let mut ledger = self.open();
        match Stamp::read(payload) {
            Some(stamp)
                if self
                    .topics
                    .get(stamp.device as usize)
                    .is_some_and(|own| own == topic) =>
            {
                ledger.deliver(stamp.device, stamp.sequence);
            }
            _ => {
                ledger.deliver_foreign();
            }
        }
        drop(ledger);
        self.changed.notify_all();
    }

    /// Waits until all that was acknowledged is delivered, or `patience` is over. Gives the
    /// totals either way: `lost` says which.
    #[must_use]
    pub fn settle(&self, patience: Duration) -> Totals {
        self.settle_when(patience, |totals| totals.lost == 0)
    }

    /// Waits until `done`, or `patience` is over.
    #[must_use]
    pub fn settle_when(&self, patience: Duration, done: impl Fn(&Totals) -> bool) -> Totals {
        let (ledger, _) = self
            .changed
            .wait_timeout_while(self.open(), patience, |ledger| !done(&ledger.totals()))
            .unwrap_or_else(PoisonError::into_inner);
        ledger.totals()
    }

    /// The first `limit` messages that are acknowledged and not delivered, as (device, sequence).
    #[must_use]
    pub fn missing(&self, limit: usize) -> Vec<(u32, u32)> {
        self.open().missing(limit)
    }
}
