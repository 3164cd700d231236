//! A house around the machine: shards, clients, a journal, and turns executed in their order.

use access::{ClientIds, Facts, Fleet, Grants, SourceFile};
use gateway::{
    Admitted, CloseReason, Closed, ConnectionId, FromDevice, Gateway, Limits, Progress, Signal,
    ToShard, Turn,
};
use model::{CertificateId, DeviceId, Digest, GroupId, Principal, ProductId, ServiceId, Timestamp};
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Packet, Qos, SubscribeEntry, Version};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub const POLICIES: &str = r#"
@id("devices-report")
permit (principal is Device, action == Action::"publish", resource == Channel::"up")
when { resource.owner == principal };
@id("devices-alarm")
permit (principal is Device, action == Action::"publish", resource == Channel::"alarm")
when { resource.owner == principal };
@id("devices-listen")
permit (principal is Device, action == Action::"receive", resource == Channel::"down")
when { resource.owner == principal };
@id("ingest-listens")
permit (principal == Service::"ingest", action == Action::"receive", resource == Channel::"up");
@id("ingest-alarms")
permit (principal == Service::"ingest", action == Action::"receive", resource == Channel::"alarm");
@id("archive-listens")
permit (principal == Service::"archive", action == Action::"receive", resource == Channel::"up");
@id("devices-state")
permit (principal is Device, action == Action::"publish", resource == Channel::"state")
when { resource.owner == principal };
@id("devices-read")
permit (principal is Device, action == Action::"publish", resource)
when { resource.owner == principal && resource in [Channel::"reading", Channel::"small", Channel::"described", Channel::"described-cbor"] };
@id("ingest-reads")
permit (principal == Service::"ingest", action == Action::"receive", resource)
when { resource in [Channel::"reading", Channel::"small", Channel::"described", Channel::"described-cbor"] };
@id("services-see-state")
permit (principal is Service, action == Action::"receive", resource == Channel::"state");
@id("control-commands")
permit (principal == Service::"control", action == Action::"publish", resource == Channel::"down");
"#;

pub fn files(policies: &str) -> Vec<SourceFile> {
    let file = |path: &str, text: &str| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    vec![
        file("fleet.toml", "name = \"test\"\n[groups.site]\n"),
        file("products/p.toml", "[camera]\n"),
        file(
            "services/s.toml",
            "[ingest]\nshares = [\"workers\"]\n[archive]\nshares = [\"workers\"]\n[control]\n[idle]\n",
        ),
        file(
            "channels/c.toml",
            r#"
[up]
topic = "v1/{device}/up/{rest...}"
direction = "from-device"
payload_bytes_max = 16384
[alarm]
topic = "v1/{device}/alarm"
direction = "from-device"
payload_bytes_max = 100
rate_per_minute = 6
[reading]
topic = "v1/{device}/reading"
direction = "from-device"
payload_bytes_max = 1000
rate_per_minute = 20
retained_max = 40
schema = "schemas/reading.json"
[small]
topic = "v1/{device}/small"
direction = "from-device"
payload_bytes_max = 1000
schema = "schemas/reading.json"
encoding = "cbor"
[described]
topic = "v1/{device}/described"
direction = "from-device"
payload_bytes_max = 1000
schema = "schemas/telemetry.json"
[described-cbor]
topic = "v1/{device}/described-cbor"
direction = "from-device"
payload_bytes_max = 1000
schema = "schemas/telemetry.json"
encoding = "cbor"
[down]
topic = "v1/{device}/down/{any}"
direction = "to-device"
payload_bytes_max = 16384
[state]
topic = "v1/{device}/state/{any}"
direction = "from-device"
payload_bytes_max = 1000
retained_max = 40
retained_days = 2
"#,
        ),
        file(
            "schemas/reading.json",
            r#"{"type": "object", "required": ["t"], "additionalProperties": false,
                "properties": {"t": {"type": "number", "maximum": 60}, "unit": {"enum": ["C", "F"]}}}"#,
        ),
        file(
            "schemas/telemetry.json",
            r#"{"type": "object", "required": ["at", "readings"], "additionalProperties": false,
                "properties": {
                    "at": {"type": "integer", "minimum": 0},
                    "serial": {"type": "string", "pattern": "^SN[0-9]{1,12}$"},
                    "battery": {"type": "integer", "minimum": 0, "maximum": 100},
                    "readings": {"type": "array", "maxItems": 100, "items": {
                        "type": "object", "required": ["name", "value"], "additionalProperties": false,
                        "properties": {
                            "name": {"enum": ["temperature", "humidity", "pressure"]},
                            "value": {"type": "number", "minimum": -40, "maximum": 2000}}}}}}"#,
        ),
        file("policies/p.cedar", policies),
    ]
}

pub fn grants_of(policies: &str) -> Arc<Grants> {
    grants_of_files(&files(policies))
}

pub fn grants_of_files(files: &[SourceFile]) -> Arc<Grants> {
    let fleet = Fleet::read(files).unwrap_or_else(|wrong| {
        panic!(
            "{}",
            wrong
                .iter()
                .map(|d| d.to_string() + "\n")
                .collect::<String>()
        )
    });
    Arc::new(Grants::compile(&fleet, [device("cam-1")]).unwrap())
}

pub fn device(name: &str) -> Facts {
    Facts {
        principal: Principal::Device(DeviceId::new(name).unwrap()),
        product: Some(ProductId::new("camera").unwrap()),
        groups: vec![GroupId::new("site").unwrap()],
        attributes: Default::default(),
        containment: None,
        assurance: model::Assurance::default(),
    }
}

pub fn service(name: &str) -> Facts {
    Facts {
        principal: Principal::Service(ServiceId::new(name).unwrap()),
        product: None,
        groups: Vec::new(),
        attributes: Default::default(),
        containment: None,
        assurance: model::Assurance::default(),
    }
}

pub fn certificate(number: u8) -> CertificateId {
    CertificateId::new(Digest([1; 32]), &[1, number]).unwrap()
}

/// Each client comes from an address of its own.
pub fn address_of(client: usize) -> IpAddr {
    IpAddr::from([10, 0, (client >> 8) as u8, client as u8])
}

/// What a client heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Connack {
        present: bool,
        code: u8,
        assigned: Option<String>,
        expiry: Option<u32>,
        keep_alive: Option<u16>,
    },
    Publish {
        topic: String,
        payload: Vec<u8>,
        qos: Qos,
        dup: bool,
        id: Option<u16>,
        expiry: Option<u32>,
        retain: bool,
        alias: Option<u16>,
        /// Identifiers of subscriptions.
        named: Vec<u32>,
    },
    Pubrec {
        id: u16,
        code: u8,
    },
    Pubrel {
        id: u16,
        code: u8,
    },
    Pubcomp {
        id: u16,
        code: u8,
    },
    Puback {
        id: u16,
        code: u8,
        text: Option<String>,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
        text: Option<String>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
    },
    Disconnect {
        code: u8,
        text: Option<String>,
    },
    Pingresp,
}

pub struct Client {
    pub shard: usize,
    pub version: Version,
    /// Bytes that the gateway did not consume yet.
    kept: Vec<u8>,
    pub paused: bool,
    /// Plaintext that left the gateway and that the client did not read yet.
    pub socket: Vec<u8>,
    pub reads: bool,
    pub closed: Option<CloseReason>,
    pub gone: bool,
}

pub struct House {
    pub limits: Limits,
    pub grants: Arc<Grants>,
    /// Of whoever comes next.
    pub client_ids: ClientIds,
    pub gateways: Vec<Gateway>,
    turns: Vec<Turn>,
    pub clients: Vec<Client>,
    pub now: Timestamp,
    pub journal: Vec<Vec<u8>>,
    /// (from, to) → messages under way
    pub transit: BTreeMap<(usize, u16), VecDeque<ToShard>>,
    pub transit_is_slow: bool,
    pub signals: Vec<Signal>,
    pub reports: Vec<FromDevice>,
    pub progress: Vec<Progress>,
}

impl House {
    pub fn new() -> Self {
        Self::with(Limits::default(), 1)
    }

    pub fn with(limits: Limits, shards: u16) -> Self {
        static GRANTS: LazyLock<Arc<Grants>> = LazyLock::new(|| grants_of(POLICIES));
        let grants = Arc::clone(&GRANTS);
        Self {
            gateways: (0..shards)
                .map(|shard| Gateway::new(limits.clone(), shard, shards, Arc::clone(&grants)))
                .collect(),
            turns: (0..shards).map(|_| Turn::new()).collect(),
            limits,
            grants,
            client_ids: ClientIds::Own,
            clients: Vec::new(),
            now: Timestamp::from_seconds(1_700_000_000),
            journal: Vec::new(),
            transit: BTreeMap::new(),
            transit_is_slow: false,
            signals: Vec::new(),
            reports: Vec::new(),
            progress: Vec::new(),
        }
    }

    /// A connection that has proven who it is.
    pub fn open(&mut self, facts: &Facts) -> usize {
        self.open_with(
            facts,
            certificate(1),
            self.now.plus(Duration::from_secs(86_400)),
        )
    }

    pub fn open_with(
        &mut self,
        facts: &Facts,
        certificate: CertificateId,
        expires_at: Timestamp,
    ) -> usize {
        self.admit(facts, certificate, expires_at, false)
    }

    /// A connection that has proven a certificate which others hold too.
    pub fn open_shared(&mut self, facts: &Facts) -> usize {
        let expires_at = self.now.plus(Duration::from_secs(86_400));
        self.admit(facts, certificate(9), expires_at, true)
    }

    fn admit(
        &mut self,
        facts: &Facts,
        certificate: CertificateId,
        expires_at: Timestamp,
        shared: bool,
    ) -> usize {
        let client = self.clients.len();
        let shards = u16::try_from(self.gateways.len()).unwrap();
        let shard = usize::from(gateway::home_shard(&facts.principal, shards));
        self.clients.push(Client {
            shard,
            version: Version::V5,
            kept: Vec::new(),
            paused: false,
            socket: Vec::new(),
            reads: true,
            closed: None,
            gone: false,
        });
        let admitted = Admitted {
            connection: ConnectionId(client as u32),
            facts: facts.clone(),
            client_ids: self.client_ids,
            address: address_of(client),
            certificate,
            expires_at,
            shared,
        };
        self.gateways[shard].open(admitted, self.now, &mut self.turns[shard]);
        self.execute(shard);
        client
    }

    pub fn connect(&mut self, facts: &Facts, connect: &Connect<'_>) -> usize {
        let client = self.open(facts);
        self.say_connect(client, connect);
        client
    }

    pub fn say_connect(&mut self, client: usize, connect: &Connect<'_>) {
        self.clients[client].version = connect.version;
        self.send(client, |out, _| mqtt::encode::connect(out, connect));
    }

    /// Connects by the principal's name and expects to be let in.
    pub fn join(&mut self, facts: &Facts, version: Version) -> usize {
        let client = self.connect(facts, &Connect::new(version, facts.principal.name()));
        let heard = self.heard(client);
        assert!(
            matches!(heard[..], [Heard::Connack { code: 0, .. }]),
            "{heard:?}"
        );
        client
    }

    /// A service with a session that survives.
    pub fn join_persistent(&mut self, facts: &Facts) -> (usize, Vec<Heard>) {
        let client = self.connect(
            facts,
            &Connect {
                clean_start: false,
                session_expiry_seconds: Some(3600),
                ..Connect::new(Version::V5, facts.principal.name())
            },
        );
        let heard = self.heard(client);
        assert!(
            matches!(heard[0], Heard::Connack { code: 0, .. }),
            "{heard:?}"
        );
        (client, heard)
    }

    pub fn subscribe(&mut self, client: usize, filters: &[&str]) -> Vec<u8> {
        let entries: Vec<_> = filters
            .iter()
            .map(|filter| (*filter, Qos::AtLeastOnce))
            .collect();
        self.send(client, |out, version| {
            mqtt::encode::subscribe(out, version, 77, &entries)
        });
        let heard = self.heard(client);
        heard
            .into_iter()
            .find_map(|heard| match heard {
                Heard::Suback { id: 77, codes, .. } => Some(codes),
                _ => None,
            })
            .unwrap_or_default()
    }

    pub fn publish(&mut self, client: usize, topic: &str, payload: &[u8], id: Option<u16>) {
        self.send(client, |out, version| {
            mqtt::encode::publish(out, version, &message(topic, payload, id));
        });
    }

    /// As `publish`, with all that a PUBLISH can say.
    pub fn publish_as(&mut self, client: usize, fields: &PublishFields<'_>) {
        self.send(client, |out, version| {
            mqtt::encode::publish(out, version, fields)
        });
    }

    /// Subscribes with options, and an identifier if it is not 0. Returns the SUBACK's code and what
    /// came with it.
    pub fn subscribe_with(
        &mut self,
        client: usize,
        identifier: u32,
        entry: SubscribeEntry<'_>,
    ) -> (u8, Vec<Heard>) {
        let identifier = (identifier > 0).then_some(identifier);
        self.send(client, |out, version| {
            mqtt::encode::subscribe_with(out, version, 78, identifier, [entry]);
        });
        let mut heard = self.heard(client);
        let at = (heard.iter()).position(|one| matches!(one, Heard::Suback { id: 78, .. }));
        match heard.remove(at.unwrap()) {
            Heard::Suback { codes, .. } => (codes[0], heard),
            _ => unreachable!(),
        }
    }

    pub fn pubrec(&mut self, client: usize, id: u16) {
        self.send(client, |out, version| {
            mqtt::encode::pubrec(out, version, id, mqtt::Reason::SUCCESS, None);
        });
    }

    pub fn pubrel(&mut self, client: usize, id: u16) {
        self.send(client, |out, version| {
            mqtt::encode::pubrel(out, version, id, mqtt::Reason::SUCCESS, None);
        });
    }

    pub fn pubcomp(&mut self, client: usize, id: u16) {
        self.send(client, |out, version| {
            mqtt::encode::pubcomp(out, version, id, mqtt::Reason::SUCCESS, None);
        });
    }

    pub fn puback(&mut self, client: usize, id: u16) {
        self.send(client, |out, version| {
            mqtt::encode::puback(out, version, id, mqtt::Reason::SUCCESS, None);
        });
    }

    pub fn send(&mut self, client: usize, write: impl FnOnce(&mut Vec<u8>, Version)) {
        let mut bytes = Vec::new();
        write(&mut bytes, self.clients[client].version);
        self.send_bytes(client, &bytes);
    }

    pub fn send_bytes(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].kept.extend_from_slice(bytes);
        self.feed(client);
    }

    fn feed(&mut self, client: usize) {
        let Client {
            shard,
            paused,
            gone,
            ..
        } = self.clients[client];
        if paused || gone {
            return;
        }
        let bytes = std::mem::take(&mut self.clients[client].kept);
        let id = ConnectionId(client as u32);
        let turn = &mut self.turns[shard];
        let consumed = self.gateways[shard].receive(id, &bytes, self.now, turn);
        self.clients[client].kept = bytes[consumed..].to_vec();
        self.execute(shard);
    }

    pub fn lose(&mut self, client: usize) {
        if self.clients[client].gone {
            return;
        }
        let shard = self.clients[client].shard;
        self.clients[client].gone = true;
        let id = ConnectionId(client as u32);
        self.gateways[shard].closed(id, Closed::ByPeer, self.now, &mut self.turns[shard]);
        self.execute(shard);
    }

    pub fn with_gateway<T>(
        &mut self,
        shard: usize,
        act: impl FnOnce(&mut Gateway, Timestamp, &mut Turn) -> T,
    ) -> T {
        let result = act(&mut self.gateways[shard], self.now, &mut self.turns[shard]);
        self.execute(shard);
        result
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        for shard in 0..self.gateways.len() {
            self.with_gateway(shard, |gateway, now, turn| {
                gateway.tick(now, turn);
                gateway.take_traffic(|_, _, _| {});
                gateway.take_metered(now, |_, _| {});
            });
        }
    }

    /// The client reads what is in its socket.
    pub fn drain(&mut self, client: usize) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.clients[client].socket);
        if !self.clients[client].gone {
            self.flush(client);
            let shard = self.clients[client].shard;
            self.execute(shard);
        }
        bytes
    }

    pub fn heard(&mut self, client: usize) -> Vec<Heard> {
        let mut bytes = Vec::new();
        loop {
            let more = self.drain(client);
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        decode(self.clients[client].version, &bytes)
    }

    pub fn payloads(&mut self, client: usize) -> Vec<Vec<u8>> {
        (self.heard(client).into_iter())
            .filter_map(|heard| match heard {
                Heard::Publish { payload, .. } => Some(payload),
                _ => None,
            })
            .collect()
    }

    /// Moves `output` to the socket if the client reads or the socket still takes some.
    fn flush(&mut self, client: usize) {
        let found = &mut self.clients[client];
        let id = ConnectionId(client as u32);
        let gateway = &mut self.gateways[found.shard];
        let Some(out) = gateway.output(id) else {
            return;
        };
        if found.reads || found.socket.len() < 4096 {
            found.socket.append(out);
        }
        let unsent = if found.reads { 0 } else { found.socket.len() };
        gateway.written(id, unsent, self.now, &mut self.turns[found.shard]);
    }

    /// Executes turns in their order until nothing is asked any more.
    fn execute(&mut self, shard: usize) {
        let mut turn = std::mem::take(&mut self.turns[shard]);
        while !is_empty(&turn) {
            self.journal
                .extend(turn.journal.records().map(|(_, record)| record.to_vec()));
            for (to, message) in turn.to_shards.drain(..) {
                self.transit
                    .entry((shard, to))
                    .or_default()
                    .push_back(message);
            }
            self.signals.append(&mut turn.signals);
            self.reports.append(&mut turn.reports);
            self.progress.append(&mut turn.progress);
            for id in &turn.pause {
                self.clients[id.0 as usize].paused = true;
            }
            let resumed = std::mem::take(&mut turn.resume);
            for id in &resumed {
                self.clients[id.0 as usize].paused = false;
            }
            let touched = std::mem::take(&mut turn.touched);
            let mut once = touched.clone();
            once.sort();
            once.dedup();
            assert_eq!(
                once.len(),
                touched.len(),
                "a connection is listed once a turn"
            );
            for id in &touched {
                self.flush(id.0 as usize);
            }
            for (id, reason) in std::mem::take(&mut turn.close) {
                let client = id.0 as usize;
                self.flush(client);
                self.clients[client].closed = Some(reason);
                self.clients[client].gone = true;
                let turn = &mut self.turns[shard];
                self.gateways[shard].closed(id, Closed::AsAsked, self.now, turn);
            }
            for id in resumed {
                let client = id.0 as usize;
                let Client { paused, gone, .. } = self.clients[client];
                if !paused && !gone {
                    let bytes = std::mem::take(&mut self.clients[client].kept);
                    let turn = &mut self.turns[shard];
                    let consumed = self.gateways[shard].receive(id, &bytes, self.now, turn);
                    self.clients[client].kept = bytes[consumed..].to_vec();
                }
            }
            turn.clear();
            std::mem::swap(&mut turn, &mut self.turns[shard]);
        }
        self.turns[shard] = turn;
        if !self.transit_is_slow {
            self.carry_all();
        }
    }

    pub fn carry_all(&mut self) {
        while let Some(way) = self
            .transit
            .iter()
            .find(|(_, queue)| !queue.is_empty())
            .map(|(way, _)| *way)
        {
            self.carry(way);
        }
    }

    /// Delivers the oldest message of one way between shards.
    pub fn carry(&mut self, way: (usize, u16)) {
        let message = self.transit.get_mut(&way).and_then(VecDeque::pop_front);
        if let Some(message) = message {
            let to = usize::from(way.1);
            self.with_gateway(to, |gateway, now, turn| {
                gateway.from_shard(message, now, turn)
            });
        }
    }

    /// All is lost but the journal, of which everything asked for was committed.
    pub fn crash(&mut self) {
        let shards = u16::try_from(self.gateways.len()).unwrap();
        self.transit.clear();
        for client in &mut self.clients {
            client.gone = true;
            client.paused = false;
        }
        for shard in 0..shards {
            let mut gateway =
                Gateway::new(self.limits.clone(), shard, shards, Arc::clone(&self.grants));
            let place = usize::from(shard);
            self.turns[place] = Turn::new();
            let records = self.journal.iter().map(Vec::as_slice);
            let found = gateway.recover(records, self.now, &mut self.turns[place]);
            assert_eq!(found.damaged, 0, "{:?}", self.turns[place].signals);
            self.gateways[place] = gateway;
        }
        for shard in 0..usize::from(shards) {
            self.execute(shard);
        }
        self.carry_all();
        // What the registry knows of them.
        for gateway in &mut self.gateways {
            for principal in gateway.retained_publishers() {
                let facts = match &principal {
                    Principal::Device(id) => device(id.as_str()),
                    Principal::Service(id) => service(id.as_str()),
                };
                gateway.know_publisher(&facts);
            }
        }
    }

    pub fn signalled(&self, name: &str) -> usize {
        self.signals
            .iter()
            .filter(|signal| signal.name() == name)
            .count()
    }
}

/// A subscription with the options of 3.1.1.
pub fn asking(filter: &str, qos: Qos) -> SubscribeEntry<'_> {
    SubscribeEntry {
        filter,
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    }
}

/// A message of QoS 2.
pub fn twice<'m>(topic: &'m str, payload: &'m [u8], id: u16) -> PublishFields<'m> {
    PublishFields {
        qos: Qos::ExactlyOnce,
        ..message(topic, payload, Some(id))
    }
}

/// A retained message of QoS 1.
pub fn retained<'m>(topic: &'m str, payload: &'m [u8], id: u16) -> PublishFields<'m> {
    PublishFields {
        retain: true,
        ..message(topic, payload, Some(id))
    }
}

pub fn message<'m>(topic: &'m str, payload: &'m [u8], id: Option<u16>) -> PublishFields<'m> {
    PublishFields {
        dup: false,
        qos: if id.is_some() {
            Qos::AtLeastOnce
        } else {
            Qos::AtMostOnce
        },
        retain: false,
        topic,
        packet_id: id,
        topic_alias: None,
        forward: ForwardProperties::NONE,
        payload,
    }
}

fn is_empty(turn: &Turn) -> bool {
    turn.touched.is_empty()
        && turn.close.is_empty()
        && turn.pause.is_empty()
        && turn.resume.is_empty()
        && turn.journal.is_empty()
        && turn.to_shards.is_empty()
        && turn.signals.is_empty()
        && turn.reports.is_empty()
        && turn.progress.is_empty()
}

pub fn decode(version: Version, mut bytes: &[u8]) -> Vec<Heard> {
    let mut all = Vec::new();
    while let Some(length) = mqtt::frame_length(bytes, usize::MAX).unwrap() {
        let (frame, rest) = bytes.split_at(length);
        bytes = rest;
        all.push(match mqtt::decode_from_server(version, frame).unwrap() {
            Packet::Connack(c) => Heard::Connack {
                present: c.session_present,
                code: c.reason.0,
                assigned: c.assigned_client_id.map(Into::into),
                expiry: c.session_expiry_seconds,
                keep_alive: c.server_keep_alive_seconds,
            },
            Packet::Publish(p) => Heard::Publish {
                topic: p.topic.into(),
                payload: p.payload.into(),
                qos: p.qos,
                dup: p.dup,
                id: p.packet_id,
                expiry: p.forward.message_expiry_seconds(),
                retain: p.retain,
                alias: p.topic_alias,
                named: p.forward.subscription_ids().collect(),
            },
            Packet::Pubrec(a) => Heard::Pubrec {
                id: a.packet_id,
                code: a.reason.0,
            },
            Packet::Pubrel(a) => Heard::Pubrel {
                id: a.packet_id,
                code: a.reason.0,
            },
            Packet::Pubcomp(a) => Heard::Pubcomp {
                id: a.packet_id,
                code: a.reason.0,
            },
            Packet::Puback(a) => Heard::Puback {
                id: a.packet_id,
                code: a.reason.0,
                text: a.reason_string.map(Into::into),
            },
            Packet::Suback(s) => Heard::Suback {
                id: s.packet_id,
                codes: s.reasons().map(|r| r.0).collect(),
                text: s.reason_string.map(Into::into),
            },
            Packet::Unsuback(s) => Heard::Unsuback {
                id: s.packet_id,
                codes: s.reasons().map(|r| r.0).collect(),
            },
            Packet::Disconnect(d) => Heard::Disconnect {
                code: d.reason.0,
                text: d.reason_string.map(Into::into),
            },
            Packet::Pingresp => Heard::Pingresp,
            other => panic!("a server sent {other:?}"),
        });
    }
    assert!(bytes.is_empty(), "half a packet: {bytes:?}");
    all
}
