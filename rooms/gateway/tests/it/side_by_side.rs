//! One client speaks to our session machine and to [`SecondMachine`] at once; whatever the two
//! answer differently must be in [`DIFFERENCES`]. Each message of ours goes through the other as if
//! it had sent it, so that it says whether identifier, window, alias and size are allowed. The fuzz
//! target `mqtt_session` includes this file as it is.

use crate::generate;
use crate::house::{House, certificate, grants_of, service};
use crate::oracle;
use crate::second_machine::{Outcome, Said, SecondMachine, Taken, said};
use access::Grants;
use gateway::Limits;
use mqtt::encode::{self, PublishFields};
use mqtt::{Connect, ForwardProperties, Malformed, Packet, Qos, Reason, SubscribeEntry, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Where the two may answer differently, and why ours is as it is.
pub const DIFFERENCES: &[(&str, &str)] = &[
    (
        POLICY,
        "theirs knows no policy and accepts; ours refuses with a reason code (MQTT 5: 3.4.2.1)",
    ),
    (
        ACK_OF_NOTHING,
        "PUBACK, PUBCOMP or a failing PUBREC of nothing in flight: theirs ends the connection; no \
         rule asks that, and it may be of a session that is gone, so ours lets it pass",
    ),
    (
        PUBREC_OF_NOTHING,
        "theirs ends the connection; ours says PUBREL 0x92, Packet Identifier not found, which is there for it (MQTT 5: 3.6.2.1)",
    ),
    (
        PUBREC_AGAIN,
        "a second PUBREC before PUBCOMP: theirs ends the connection; ours says PUBREL again, as \
         whoever waits for it needs (MQTT 4.3.3)",
    ),
    (
        QUOTA_CARRIED_OVER,
        "theirs forgets at a reconnect what was not released; ours counts it on against Receive \
         Maximum, or a session could be made to remember 65,535 identifiers. Whoever sends its \
         PUBRELs again first, as it must (MQTT-4.4.0-1), never meets it",
    ),
    (
        NOT_FROM_A_CLIENT,
        "a packet that only a server sends: theirs tells its application; ours ends the connection, with 0x82 in MQTT 5 (MQTT 5: 4.13)",
    ),
    (
        AUTH,
        "AUTH without a method in CONNECT is a Protocol Error (MQTT 5: 4.12-7); theirs leaves it to its application",
    ),
    (
        LATE_EXPIRY,
        "a session opened without expiry gets none at DISCONNECT (MQTT 5: 3.14.2.2.2); theirs leaves it to its application",
    ),
    (
        CODEC,
        "the packet is malformed for one of the two: the list is that of the codec",
    ),
    (
        WHICH_ERROR,
        "both end the connection, and say 0x81, 0x82 or nothing as their decoder found it; of a message \
         beyond Receive Maximum with an alias above the maximum ours says 0x94, theirs 0x93",
    ),
];

const POLICY: &str = "policy";
const ACK_OF_NOTHING: &str = "acknowledgement of nothing";
const PUBREC_OF_NOTHING: &str = "PUBREC of nothing";
const PUBREC_AGAIN: &str = "PUBREC again";
const QUOTA_CARRIED_OVER: &str = "quota over reconnects";
const NOT_FROM_A_CLIENT: &str = "not from a client";
const AUTH: &str = "AUTH";
const LATE_EXPIRY: &str = "late expiry";
const CODEC: &str = "codec";
const WHICH_ERROR: &str = "which error";

/// How often each difference was met, and each kind of step taken.
pub type Met = BTreeMap<&'static str, u32>;

const POLICIES: &str = r#"
@id("speak") permit (principal is Service, action == Action::"publish", resource) when { resource in [Channel::"up", Channel::"state"] };
@id("hear") permit (principal is Service, action == Action::"receive", resource) when { resource in [Channel::"up", Channel::"state"] };
"#;

/// Both ways, so that windows are soon full.
const IN_FLIGHT: u16 = 5;
const PACKET_BYTES: usize = 400;
const STEPS: usize = 120;

fn limits() -> Limits {
    Limits {
        inflight_max: IN_FLIGHT,
        packet_bytes_max: PACKET_BYTES,
        topic_alias_max: 3,
        subscribes_per_minute: 1_000_000,
        ..Limits::default()
    }
}

/// Choices, one byte each: a seed's or a fuzzer's. Where it ends, all are 0.
pub struct Tape<'t>(pub &'t [u8]);

impl Tape<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*byte) * end / 256
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn seed(&mut self) -> u64 {
        (0..4).fold(0, |seed, _| seed << 8 | self.below(256) as u64)
    }
}

/// What the client owes for something that it heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Puback(u16),
    Pubrec(u16),
    Pubcomp(u16),
}

struct Pair {
    version: Version,
    house: House,
    /// Another client of ours: hears and is heard.
    peer: usize,
    client: Option<usize>,
    second: SecondMachine,
    /// A session is kept when the connection ends; one is kept now.
    lasts: bool,
    stored: bool,
    /// Identifiers that were held when the client connected.
    carried_over: usize,
    owed: Vec<Owed>,
    /// Identifiers of QoS 2 messages that the client sent and did not release.
    unreleased: BTreeSet<u16>,
    /// What the client was told of our aliases.
    aliases: BTreeMap<u16, String>,
    alias_max: u16,
    /// Both know of one: it was asked for, or ours told the client.
    has_keep_alive: bool,
    restarted: bool,
    messages: u32,
    met: Met,
    log: Vec<String>,
}

/// # Errors
/// A difference that is not in the list, in words, with the steps that led to it.
pub fn run(tape: &mut Tape<'_>) -> Result<Met, String> {
    let version = tape.pick(&[Version::V5, Version::V311]);
    let mut pair = Pair::new(version);
    for _ in 0..STEPS {
        if tape.0.is_empty() {
            break;
        }
        if let Err(difference) = pair.step(tape) {
            let steps = pair.log.iter().rev().take(40).rev();
            let steps: String = steps.map(|step| format!("\n  {step}")).collect();
            return Err(format!("{version:?}: {difference}{steps}"));
        }
    }
    Ok(pair.met)
}

impl Pair {
    fn new(version: Version) -> Self {
        static GRANTS: LazyLock<Arc<Grants>> = LazyLock::new(|| grants_of(POLICIES));
        let mut house = House::with(limits(), 1);
        house.grants = Arc::clone(&GRANTS);
        house.with_gateway(0, |gateway, now, turn| {
            gateway.regrant(Arc::clone(&GRANTS), now, turn);
        });
        let mut pair = Self {
            version,
            house,
            peer: 0,
            client: None,
            second: second(version),
            lasts: false,
            stored: false,
            carried_over: 0,
            owed: Vec::new(),
            unreleased: BTreeSet::new(),
            aliases: BTreeMap::new(),
            alias_max: 0,
            has_keep_alive: false,
            restarted: false,
            messages: 0,
            met: Met::new(),
            log: Vec::new(),
        };
        pair.join_peer();
        pair
    }

    fn join_peer(&mut self) {
        self.peer = self.open("archive");
        let connect = Connect {
            keep_alive_seconds: 0,
            ..Connect::new(Version::V5, "archive")
        };
        self.house.say_connect(self.peer, &connect);
        let entries = ["v1/+/up/#", "v1/+/state/+"].map(|filter| entry(filter, Qos::AtMostOnce));
        self.house.send(self.peer, |out, version| {
            encode::subscribe_with(out, version, 1, None, entries);
        });
        self.house.drain(self.peer);
    }

    fn open(&mut self, name: &str) -> usize {
        let for_ever = self.house.now.plus(Duration::from_secs(3_000_000_000));
        let facts = service(name);
        self.house.open_with(&facts, certificate(1), for_ever)
    }

    fn step(&mut self, tape: &mut Tape<'_>) -> Result<(), String> {
        let Some(client) = self.client else {
            return self.connect(tape);
        };
        match tape.below(100) {
            0..32 => self.publish(tape),
            32..40 => {
                let id = self.an_identifier(tape);
                self.unreleased.remove(&id);
                self.say(&write(|out| {
                    encode::pubrel(out, self.version, id, Reason::SUCCESS, None);
                }))
            }
            40..58 => self.acknowledge(tape),
            58..61 => {
                let (id, reason) = (1 + tape.below(6) as u16, self.a_reason(tape));
                let owed = tape.pick(&[Owed::Puback(id), Owed::Pubrec(id), Owed::Pubcomp(id)]);
                self.say_owed(owed, reason)
            }
            61..68 => {
                let options = tape.below(32);
                let one = entry(tape.pick(FILTERS), tape.pick(QOS));
                let one = SubscribeEntry {
                    no_local: options & 1 != 0 && !one.is_shared(),
                    retain_as_published: options & 2 != 0,
                    retain_handling: tape.pick(&[0, 1, 2]),
                    ..one
                };
                let two = entry(tape.pick(FILTERS), tape.pick(QOS));
                let (id, named) = (1 + tape.below(9) as u16, options & 4 != 0);
                let named = (named && self.version == Version::V5).then_some(7);
                let entries = [one, two].into_iter().take(1 + (options >> 4));
                self.say(&write(|out| {
                    encode::subscribe_with(out, self.version, id, named, entries);
                }))
            }
            68..70 => {
                let filters = [tape.pick(FILTERS), tape.pick(FILTERS)];
                self.say(&write(|out| {
                    encode::unsubscribe(out, self.version, 9, &filters);
                }))
            }
            70..82 => self.hear_from_peer(tape),
            82..84 => self.say(&write(encode::pingreq)),
            84..90 => {
                let mut random = generate::Random::new(tape.seed());
                let mut frame = generate::frame(&mut random, self.version);
                for _ in 0..tape.below(3) {
                    generate::mutate(&mut random, &mut frame);
                }
                self.say_any(&frame)
            }
            90..92 => {
                self.log.push("the connection is lost".to_owned());
                self.house.lose(client);
                self.end(self.lasts);
                Ok(())
            }
            92..95 => self.disconnect(tape),
            95..97 => self.connect(tape),
            97 => self.be_silent(client),
            98 => {
                let again = Connect::new(self.version, "ingest");
                self.say(&write(|out| encode::connect(out, &again)))
            }
            _ => {
                self.log.push("crash".to_owned());
                self.house.crash();
                self.restarted = true;
                self.end(self.lasts);
                self.join_peer();
                Ok(())
            }
        }
    }

    /// A new connection, which takes over if there is one.
    fn connect(&mut self, tape: &mut Tape<'_>) -> Result<(), String> {
        let old = self.client;
        if old.is_some() {
            self.end(self.lasts);
        }
        let is_v5 = self.version == Version::V5;
        let clean_start = tape.one_in(4);
        let present = self.stored && !clean_start;
        if !present {
            self.second = second(self.version);
            self.unreleased.clear();
        }
        // Theirs does not count in a window what it sends again, and then counts below nothing.
        let is_bounded = is_v5 && self.second.stored() == 0;
        let connect = Connect {
            clean_start,
            keep_alive_seconds: tape.pick(&[0, 10, 60]),
            session_expiry_seconds: is_v5.then(|| tape.pick(&[0, 3600, 3600])),
            receive_maximum: tape
                .pick(&[None, Some(1), Some(2), Some(4)])
                .filter(|_| is_bounded),
            packet_bytes_max: tape
                .pick(&[None, None, None, Some(1000), Some(100), Some(60)])
                .filter(|_| is_bounded),
            topic_alias_maximum: tape.pick(&[None, Some(1), Some(3)]).filter(|_| is_v5),
            ..Connect::new(self.version, "ingest")
        };
        self.log.push(format!("{connect:?}, takes over: {old:?}"));
        let client = self.open("ingest");
        self.house.say_connect(client, &connect);
        let frames = self.frames(client)?;
        let connack = frames.first().ok_or("no CONNACK")?;
        match mqtt::decode_from_server(self.version, connack) {
            Ok(Packet::Connack(found)) if found.reason == Reason::SUCCESS => {
                if found.session_present != present {
                    return Err(format!("session present is {}", found.session_present));
                }
            }
            other => return Err(format!("CONNECT is answered {other:?}")),
        }
        if let Some(old) = old
            && !self.house.clients[old].gone
        {
            return Err("the old connection stays".to_owned());
        }
        self.client = Some(client);
        self.lasts = match self.version {
            Version::V311 => !clean_start,
            Version::V5 => connect.session_expiry_seconds.is_some_and(|it| it > 0),
        };
        self.stored = false;
        self.has_keep_alive = is_v5 || connect.keep_alive_seconds > 0;
        self.alias_max = connect.topic_alias_maximum.unwrap_or(0);
        self.carried_over = self.second.held().len();
        let heard = self
            .second
            .receive(&write(|out| encode::connect(out, &connect)));
        if !heard.said.is_empty() {
            return Err(format!("theirs answers CONNECT {:?}", heard.said));
        }
        let again = self.second.say(connack)?;
        self.sent_again(frames.get(1..).unwrap_or_default(), &again)
    }

    /// What goes out again when a session goes on: the same of both, and PUBLISHes in one order.
    /// Theirs has PUBRELs behind them, in the order of PUBRECs.
    fn sent_again(&mut self, ours: &[Vec<u8>], theirs: &Outcome) -> Result<(), String> {
        let of_theirs = (theirs.sent.iter())
            .map(|frame| self.message(frame))
            .collect::<Result<Vec<_>, _>>()?;
        let (mut again, mut releases, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for frame in ours {
            let Some(answer) = said(self.version, frame) else {
                let message = self.message(frame)?;
                let is_again = (of_theirs.iter()).any(|one| one.packet_id == message.packet_id);
                if message.packet_id.is_some() && is_again {
                    if let (Some(alias), Some(topic)) = (message.alias, &message.named) {
                        self.second.learn_alias(topic, alias);
                    }
                    self.owe(&message);
                    again.push(Message {
                        alias: None,
                        named: None,
                        ..message
                    });
                } else {
                    new.push(frame);
                }
                continue;
            };
            match answer {
                Said::Ack("PUBREL", id, 0) => self.owed.push(Owed::Pubcomp(id)),
                other => return Err(format!("after CONNACK comes {other:?}")),
            }
            releases.push(answer);
        }
        let of_theirs: Vec<Message> = (of_theirs.into_iter())
            .map(|message| Message {
                named: None,
                ..message
            })
            .collect();
        if again != of_theirs {
            return Err(format!(
                "ours sends again {again:?}, theirs would {of_theirs:?}"
            ));
        }
        let mut of_theirs = theirs.said.clone();
        for list in [&mut of_theirs, &mut releases] {
            list.sort_by_key(|one| format!("{one:?}"));
        }
        if releases != of_theirs {
            return Err(format!(
                "ours releases again {releases:?}, theirs would {of_theirs:?}"
            ));
        }
        *self.met.entry("sent again").or_default() +=
            u32::from(!again.is_empty() || !releases.is_empty());
        new.into_iter().try_for_each(|frame| self.sent(frame))
    }

    /// A message of ours goes through the other.
    fn sent(&mut self, frame: &[u8]) -> Result<(), String> {
        let message = self.message(frame)?;
        if message.is_again && !self.restarted {
            return Err(format!("DUP on a message that was never sent: {message:?}"));
        }
        let by_theirs = self.second.say(frame)?;
        if !by_theirs.said.is_empty() || !by_theirs.sent.is_empty() {
            return Err(format!("theirs adds {by_theirs:?}"));
        }
        self.owe(&message);
        *self.met.entry("sent").or_default() += 1;
        Ok(())
    }

    fn owe(&mut self, message: &Message) {
        let Some(id) = message.packet_id else {
            return;
        };
        let owed = match message.qos {
            Qos::ExactlyOnce => Owed::Pubrec(id),
            _ => Owed::Puback(id),
        };
        self.owed.push(owed);
    }

    /// A PUBLISH of a server, with the topic that its alias stands for.
    fn message(&mut self, frame: &[u8]) -> Result<Message, String> {
        let Ok(Packet::Publish(p)) = mqtt::decode_from_server(self.version, frame) else {
            return Err(format!("not a PUBLISH: {frame:02x?}"));
        };
        if let Some(alias) = p.topic_alias {
            if alias > self.alias_max {
                return Err(format!("alias {alias} above {}", self.alias_max));
            }
            if !p.topic.is_empty() {
                self.aliases.insert(alias, p.topic.to_owned());
            }
        }
        let known = p.topic_alias.and_then(|alias| self.aliases.get(&alias));
        Ok(Message {
            topic: match p.topic.is_empty() {
                false => p.topic.to_owned(),
                true => known.ok_or("an alias without a topic")?.clone(),
            },
            payload: p.payload.to_vec(),
            qos: p.qos,
            retain: p.retain,
            packet_id: p.packet_id,
            is_again: p.dup,
            alias: p.topic_alias,
            named: (!p.topic.is_empty()).then(|| p.topic.to_owned()),
        })
    }

    fn publish(&mut self, tape: &mut Tape<'_>) -> Result<(), String> {
        let mut qos = tape.pick(QOS);
        let id = 1 + tape.below(7) as u16;
        if qos == Qos::AtLeastOnce && self.unreleased.contains(&id) {
            // A client may not use an identifier twice (MQTT-2.2.1-3); theirs then loses count.
            qos = Qos::ExactlyOnce;
        }
        let topic = tape.pick(TOPICS);
        let shape = tape.below(64);
        let alias = (self.version == Version::V5 && shape & 1 != 0)
            .then(|| tape.pick(&[1, 1, 2, 2, 3, 3, 4, 65_535]));
        let is_named = alias.is_none() || shape & 2 != 0;
        self.messages += 1;
        let mut payload = self.messages.to_be_bytes().to_vec();
        payload.resize(if tape.one_in(30) { PACKET_BYTES } else { 4 }, 0);
        let fields = PublishFields {
            dup: shape & 12 == 12 && qos != Qos::AtMostOnce,
            qos,
            retain: shape & 48 == 48 && topic.contains("/state/"),
            topic: if is_named { topic } else { "" },
            packet_id: (qos != Qos::AtMostOnce).then_some(id),
            topic_alias: alias,
            forward: ForwardProperties::NONE,
            payload: &payload,
        };
        if qos == Qos::ExactlyOnce {
            self.unreleased.insert(id);
        }
        self.say(&write(|out| encode::publish(out, self.version, &fields)))
    }

    fn an_identifier(&self, tape: &mut Tape<'_>) -> u16 {
        let place = tape.below(8);
        (self.unreleased.iter().nth(place).copied()).unwrap_or(1 + tape.below(7) as u16)
    }

    fn a_reason(&self, tape: &mut Tape<'_>) -> Reason {
        match self.version {
            Version::V5 if tape.one_in(8) => Reason::QUOTA_EXCEEDED,
            _ => Reason::SUCCESS,
        }
    }

    fn acknowledge(&mut self, tape: &mut Tape<'_>) -> Result<(), String> {
        if self.owed.is_empty() {
            return Ok(());
        }
        // Mostly in order, as clients do.
        let place = match tape.one_in(5) {
            true => tape.below(self.owed.len()),
            false => 0,
        };
        let owed = self.owed.remove(place);
        let reason = match owed {
            Owed::Pubcomp(_) => Reason::SUCCESS,
            _ => self.a_reason(tape),
        };
        self.say_owed(owed, reason)
    }

    fn say_owed(&mut self, owed: Owed, reason: Reason) -> Result<(), String> {
        let version = self.version;
        self.say(&write(|out| match owed {
            Owed::Puback(id) => encode::puback(out, version, id, reason, None),
            Owed::Pubrec(id) => encode::pubrec(out, version, id, reason, None),
            Owed::Pubcomp(id) => encode::pubcomp(out, version, id, Reason::SUCCESS, None),
        }))
    }

    fn hear_from_peer(&mut self, tape: &mut Tape<'_>) -> Result<(), String> {
        let (qos, topic) = (tape.pick(QOS), tape.pick(PERMITTED));
        self.messages += 1;
        let payload = self.messages.to_be_bytes();
        let fields = PublishFields {
            dup: false,
            qos,
            retain: topic.contains("/state/") && tape.one_in(2),
            topic,
            packet_id: (qos != Qos::AtMostOnce).then_some(1),
            topic_alias: None,
            forward: ForwardProperties::NONE,
            payload: &payload,
        };
        self.log.push(format!("from the peer: {fields:?}"));
        self.house.publish_as(self.peer, &fields);
        if qos == Qos::ExactlyOnce {
            self.house.pubrel(self.peer, 1);
        }
        self.house.drain(self.peer);
        let Some(client) = self.client else {
            return Ok(());
        };
        let frames = self.frames(client)?;
        frames.iter().try_for_each(|frame| self.sent(frame))
    }

    fn disconnect(&mut self, tape: &mut Tape<'_>) -> Result<(), String> {
        let expiry: Option<u8> = tape.pick(&[None, None, Some(0), Some(9)]);
        let frame = match (self.version, expiry) {
            (Version::V5, Some(seconds)) => vec![0xe0, 7, 0, 5, 0x11, 0, 0, 0, seconds],
            (version, _) => write(|out| {
                encode::disconnect_by_client(out, version, Reason::SUCCESS);
            }),
        };
        self.say(&frame)
    }

    fn be_silent(&mut self, client: usize) -> Result<(), String> {
        let millis = self.second.silence_millis;
        let Some(millis) = millis.filter(|_| self.has_keep_alive) else {
            // 3.1.1 without keep-alive: ours has a longest one all the same; theirs has none, or that
            // of the connection before.
            return Ok(());
        };
        self.log.push(format!("silent for {millis} ms"));
        // Counted from the last packet; none of these steps takes time.
        for pass in [0, millis - 1] {
            self.house.pass(Duration::from_millis(pass));
            self.house.send(self.peer, |out, _| encode::pingreq(out));
            self.house.drain(self.peer);
        }
        if self.house.clients[client].gone {
            return Err("ours ends the connection too soon".to_owned());
        }
        self.house.pass(Duration::from_millis(1));
        let mut ours: Vec<Said> = (self.frames(client)?.iter())
            .filter_map(|frame| said(self.version, frame))
            .collect();
        if self.house.clients[client].gone {
            ours.push(Said::End);
        }
        let theirs = self.second.be_silent().said;
        if ours != theirs {
            return Err(format!("ours answers silence {ours:?}, theirs {theirs:?}"));
        }
        *self.met.entry("silence").or_default() += 1;
        self.end(self.lasts);
        Ok(())
    }

    /// Whatever bytes: those that either decoder refuses, too.
    fn say_any(&mut self, frame: &[u8]) -> Result<(), String> {
        match mqtt::frame_length(frame, PACKET_BYTES) {
            Ok(Some(length)) if length == frame.len() => {}
            // More would have to come first.
            Ok(_) => return Ok(()),
            Err(wrong) if wrong.reason == Reason::PACKET_TOO_LARGE => return self.say(frame),
            // By its first bytes alone.
            Err(_) => return self.say_to_ours(frame),
        }
        let packet = mqtt::decode(self.version, frame);
        // What the codec's comparison checks in its place their machine does not, and may panic on
        // what comes behind it.
        if let Err(wrong) = &packet
            && matches!(
                oracle::rule_name(wrong),
                "LENGTH_NOT_MINIMAL" | "FIXED_HEADER_FLAGS"
            )
        {
            return self.say_to_ours(frame);
        }
        if let Ok(Packet::Publish(p)) = packet
            && let Some(id) = p.packet_id
            && (p.qos == Qos::AtLeastOnce || !p.topic.starts_with("v1/"))
            && self.second.held().contains(&id)
        {
            return Ok(());
        }
        let only_server = matches!(frame.first().map(|byte| byte >> 4), Some(2 | 9 | 11 | 13));
        match oracle::compare(self.version, frame)?.first() {
            Some(oracle::Outcome::OursStricter(..) | oracle::Outcome::TheirsWrong(..))
                if !only_server =>
            {
                self.say_to_ours(frame)
            }
            _ => self.say(frame),
        }
    }

    /// A packet that one of the two decoders should have refused.
    fn say_to_ours(&mut self, frame: &[u8]) -> Result<(), String> {
        let Some(client) = self.client else {
            return Ok(());
        };
        self.log.push(format!("to ours alone: {frame:02x?}"));
        self.house.send_bytes(client, frame);
        let is_open = !self.house.clients[client].gone;
        if is_open && mqtt::decode(self.version, frame).is_err() {
            return Err("a malformed packet is let pass".to_owned());
        }
        *self.met.entry(CODEC).or_default() += 1;
        self.house.lose(client);
        self.end(self.lasts);
        Ok(())
    }

    /// One packet of the client, through both.
    fn say(&mut self, frame: &[u8]) -> Result<(), String> {
        let Some(client) = self.client else {
            return Ok(());
        };
        let version = self.version;
        let packet = mqtt::decode(version, frame);
        self.log.push(match &packet {
            Ok(packet) => format!("{packet:?}"),
            Err(wrong) => format!("{frame:02x?}: {wrong:?}"),
        });
        let held = self.second.held();
        self.house.payloads(self.peer);
        self.house.send_bytes(client, frame);
        let (mut ours, mut messages) = (Vec::new(), Vec::new());
        for heard in self.frames(client)? {
            match said(version, &heard) {
                Some(answer) => ours.push(answer),
                None => messages.push(heard),
            }
        }
        if self.house.clients[client].gone {
            ours.push(Said::End);
        }
        let heard_by_peer = self.house.payloads(self.peer).len();
        let theirs = self.second.receive(frame);
        let mut difference = None;
        if ours != theirs.said {
            let name = self
                .explain(&packet, &ours, &theirs)
                .ok_or_else(|| format!("ours answers {ours:?}, theirs {theirs:?}"))?;
            *self.met.entry(name).or_default() += 1;
            difference = Some(name);
        }
        let ends = ours.contains(&Said::End) || theirs.said.contains(&Said::End);
        let permitted = theirs.taken.iter().filter(|one| is_permitted(one));
        if !ends && permitted.count() != heard_by_peer {
            return Err(format!(
                "theirs hands on {:?}, {heard_by_peer} were heard",
                theirs.taken
            ));
        }
        for message in theirs.taken.iter().filter(|one| !is_permitted(one)) {
            let was_refused = version == Version::V311 || difference == Some(POLICY);
            if !was_refused && message.qos > 0 && !ends {
                return Err(format!("taken against policy: {message:?}"));
            }
            self.second.refuse(message);
        }
        for answer in &ours {
            if let Said::Ack("PUBREL", id, 0) = answer {
                self.owed.push(Owed::Pubcomp(*id));
            }
        }
        if ends {
            if difference.is_some() || ours.iter().any(|one| matches!(one, Said::Disconnect(_))) {
                // Theirs notes some messages before it finds what is wrong with them.
                self.second.hold(held);
            }
            self.house.lose(client);
            // A goodbye may say that the session ends with it (MQTT 5: 3.14.2.2.2).
            let says_the_end = ours == [Said::End]
                && matches!(&packet, Ok(Packet::Disconnect(said)) if said.session_expiry_seconds == Some(0));
            self.end(self.lasts && !says_the_end);
            return Ok(());
        }
        messages.iter().try_for_each(|message| self.sent(message))
    }

    /// The entry of [`DIFFERENCES`] that allows these answers.
    fn explain(
        &self,
        packet: &Result<Packet<'_>, Malformed>,
        ours: &[Said],
        theirs: &Outcome,
    ) -> Option<&'static str> {
        let both_end = ours.contains(&Said::End) && theirs.said.contains(&Said::End);
        let theirs_alone_ends = !ours.contains(&Said::End) && theirs.said.contains(&Said::End);
        let protocol_error = match self.version {
            Version::V5 => ours == [Said::Disconnect(0x82), Said::End],
            Version::V311 => ours == [Said::End],
        };
        let packet = match packet {
            Ok(packet) => packet,
            Err(wrong) if oracle::rule_name(wrong) == "WRONG_SENDER" => {
                return protocol_error.then_some(NOT_FROM_A_CLIENT);
            }
            Err(_) if both_end => return Some(WHICH_ERROR),
            Err(_) => return None,
        };
        match packet {
            Packet::Publish(_) => {
                let quota = match self.version {
                    Version::V5 => ours == [Said::Disconnect(0x93), Said::End],
                    Version::V311 => ours == [Said::End],
                };
                if quota && self.carried_over > 0 && !both_end {
                    return Some(QUOTA_CARRIED_OVER);
                }
                let two_errors = ours == [Said::Disconnect(0x94), Said::End]
                    && theirs.said == [Said::Disconnect(0x93), Said::End];
                if two_errors {
                    return Some(WHICH_ERROR);
                }
                let [Said::Ack(name, id, code)] = ours else {
                    return None;
                };
                let is_policy = matches!(*code, 0x87 | 0x97)
                    && theirs.said == [Said::Ack(name, *id, 0)]
                    && theirs.taken.iter().any(|one| !is_permitted(one));
                is_policy.then_some(POLICY)
            }
            Packet::Puback(_) | Packet::Pubcomp(_) if theirs_alone_ends && ours.is_empty() => {
                Some(ACK_OF_NOTHING)
            }
            Packet::Pubrec(ack) if theirs_alone_ends && ack.reason.is_failure() => {
                ours.is_empty().then_some(ACK_OF_NOTHING)
            }
            Packet::Pubrec(ack) if theirs_alone_ends => match ours {
                [Said::Ack("PUBREL", id, 0x92)] if *id == ack.packet_id => Some(PUBREC_OF_NOTHING),
                [Said::Ack("PUBREL", id, 0)] if *id == ack.packet_id => Some(PUBREC_AGAIN),
                _ => None,
            },
            Packet::Auth(_) => (protocol_error && theirs.said.is_empty()).then_some(AUTH),
            Packet::Disconnect(_) => protocol_error.then_some(LATE_EXPIRY),
            _ => None,
        }
    }

    /// What our machine wrote to a client, in whole frames that the other's decoder reads alike.
    fn frames(&mut self, client: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut bytes = Vec::new();
        loop {
            let more = self.house.drain(client);
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        let (mut frames, mut rest) = (Vec::new(), bytes.as_slice());
        while let Ok(Some(length)) = mqtt::frame_length(rest, usize::MAX) {
            let (frame, after) = rest.split_at(length);
            oracle::compare(self.version, frame)?;
            frames.push(frame.to_vec());
            rest = after;
        }
        match rest {
            [] => Ok(frames),
            half => Err(format!("half a packet: {half:02x?}")),
        }
    }

    /// No connection from here on.
    fn end(&mut self, stored: bool) {
        self.client = None;
        self.second.lose();
        self.stored = stored;
        self.owed.clear();
        self.aliases.clear();
        self.alias_max = 0;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: Qos,
    retain: bool,
    packet_id: Option<u16>,
    is_again: bool,
    alias: Option<u16>,
    /// The topic as it stands in the packet, if it does.
    named: Option<String>,
}

const QOS: &[Qos] = &[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
const PERMITTED: &[&str] = &["v1/cam-1/up/a", "v1/cam-1/up/b/c", "v1/cam-1/state/x"];
const TOPICS: &[&str] = &[
    "v1/cam-1/up/a",
    "v1/cam-1/up/a",
    "v1/cam-1/up/b/c",
    "v1/cam-1/state/x",
    "v1/cam-1/state/y",
    "v1/cam-1/alarm",
];
const FILTERS: &[&str] = &[
    "v1/+/up/#",
    "v1/cam-1/up/a",
    "v1/+/state/+",
    "v1/cam-1/state/x",
    "$share/workers/v1/+/up/#",
    "v1/cam-1/alarm",
    "#",
];

fn is_permitted(message: &Taken) -> bool {
    let topic = message.topic.as_str();
    let is_granted = topic.starts_with("v1/cam-1/up/") && !message.retain
        || topic.starts_with("v1/cam-1/state/");
    is_granted && !message.wants_response
}

fn second(version: Version) -> SecondMachine {
    SecondMachine::new(version, PACKET_BYTES as u32, IN_FLIGHT)
}

fn entry(filter: &str, qos: Qos) -> SubscribeEntry<'_> {
    SubscribeEntry {
        filter,
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    }
}

fn write(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame);
    frame
}
