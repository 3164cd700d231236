//! Packets from a seed: mostly right, often subtly wrong. The fuzz target `mqtt_packet` includes
//! this file as it is.

use mqtt::Version;

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const TOPICS: &[&[u8]] = &[
    b"a",
    b"a/b",
    b"/",
    b"$SYS/x",
    b"t/dev-1/up",
    "ä/ö".as_bytes(),
];
const BAD_TOPICS: &[&[u8]] = &[
    b"",
    b"a/+",
    b"#",
    b"a\0b",
    b"a/\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
];
const FILTERS: &[&[u8]] = &[b"a", b"a/b/#", b"#", b"+/x", b"+", b"$share/g/a/+", b"/"];
const BAD_FILTERS: &[&[u8]] = &[
    b"",
    b"a#",
    b"a/#/b",
    b"+a",
    b"$share//f",
    b"$share/g",
    b"$share/g/",
    b"$share/+/a",
    b"x\0",
    b"\xff",
];

/// Every identifier of table 2-4, two that do not exist, and one of two bytes.
const IDENTIFIERS: &[u8] = &[
    0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1c,
    0x1f, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x00, 0x7f, 0x80,
];

/// A whole frame of some packet of `version`.
pub fn frame(random: &mut Random, version: Version) -> Vec<u8> {
    let packet_type = random.below(16) as u8;
    let mut flags = match packet_type {
        3 => random.byte() & 15,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if random.one_in(40) {
        flags = random.byte() & 15;
    }
    let mut body = Vec::new();
    write_body(random, version, packet_type, flags, &mut body);
    if random.one_in(40) {
        body.push(random.byte());
    }
    if random.one_in(40) {
        body.truncate(random.below(body.len() + 1));
    }
    framed(random, packet_type << 4 | flags, &body)
}

/// Changes a few bytes; half of the time the length in front is then made right again.
pub fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(frame.len() + 1);
        match random.below(4) {
            0 if at < frame.len() => frame[at] = random.byte(),
            1 if at < frame.len() => frame[at] ^= 1 << random.below(8),
            2 if at < frame.len() => {
                frame.remove(at);
            }
            _ => frame.insert(at, random.byte()),
        }
    }
    if let Some((first, after)) = frame.split_first()
        && random.one_in(2)
    {
        let skip = after.iter().take(3).take_while(|b| **b & 128 != 0).count() + 1;
        let (first, body) = (*first, after.get(skip..).unwrap_or_default().to_vec());
        *frame = framed(random, first, &body);
    }
}

fn framed(random: &mut Random, first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let off_by = if random.one_in(60) { 1 } else { 0 };
    varint(random, body.len() + off_by, &mut frame);
    frame.extend_from_slice(body);
    frame
}

fn varint(random: &mut Random, value: usize, out: &mut Vec<u8>) {
    let mut rest = value;
    loop {
        let byte = (rest & 127) as u8;
        rest >>= 7;
        if rest == 0 {
            if random.one_in(80) {
                out.extend_from_slice(&[byte | 128, 0]);
            } else {
                out.push(byte);
            }
            return;
        }
        out.push(byte | 128);
    }
}

fn write_body(
    random: &mut Random,
    version: Version,
    packet_type: u8,
    flags: u8,
    out: &mut Vec<u8>,
) {
    let v5 = version == Version::V5;
    match packet_type {
        1 => connect(random, version, out),
        2 => {
            out.push(if random.one_in(10) {
                random.byte()
            } else {
                random.byte() & 1
            });
            out.push(code(
                random,
                &[0, 0, 0, 1, 2, 5, 0x80, 0x87, 0x8c, 0x95, 0x9f],
            ));
            if v5 {
                properties(
                    random,
                    &[
                        0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25,
                        0x26, 0x27, 0x28, 0x29, 0x2a,
                    ],
                    out,
                );
            }
        }
        3 => {
            topic(random, out);
            if flags & 6 != 0 {
                identifier(random, out);
            }
            if v5 {
                properties(random, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26], out);
            }
            let payload = random.below(12);
            out.extend((0..payload).map(|_| {
                if random.one_in(8) {
                    random.byte()
                } else {
                    b'x'
                }
            }));
        }
        4..=7 => {
            identifier(random, out);
            if v5 && !random.one_in(3) {
                out.push(code(random, &[0, 0, 0x10, 0x80, 0x87, 0x92, 0x97, 0x99]));
                if !random.one_in(3) {
                    properties(random, &[0x1f, 0x26], out);
                }
            }
        }
        8 => {
            identifier(random, out);
            if v5 {
                properties(random, &[0x0b, 0x26], out);
            }
            for _ in 0..few(random) {
                filter(random, out);
                out.push(if random.one_in(8) {
                    random.byte()
                } else {
                    random.below(3) as u8
                });
            }
        }
        9 | 11 => {
            identifier(random, out);
            if v5 {
                properties(random, &[0x1f, 0x26], out);
            }
            if v5 || packet_type == 9 {
                for _ in 0..few(random) {
                    out.push(code(
                        random,
                        &[0, 0, 1, 2, 0x11, 0x80, 0x87, 0x8f, 0x9e, 0xa2],
                    ));
                }
            }
        }
        10 => {
            identifier(random, out);
            if v5 {
                properties(random, &[0x26], out);
            }
            for _ in 0..few(random) {
                filter(random, out);
            }
        }
        14 if v5 && !random.one_in(4) => {
            out.push(code(
                random,
                &[0, 4, 0x81, 0x87, 0x8e, 0x93, 0x98, 0x9c, 0xa0],
            ));
            if !random.one_in(3) {
                properties(random, &[0x11, 0x1c, 0x1f, 0x26], out);
            }
        }
        15 if !random.one_in(8) => {
            out.push(code(random, &[0, 0x18, 0x19]));
            properties(random, &[0x15, 0x16, 0x1f, 0x26], out);
        }
        _ => {}
    }
}

fn connect(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    let v5 = version == Version::V5;
    let name: &[u8] = if random.one_in(40) {
        b"MQIsdp"
    } else {
        b"MQTT"
    };
    string(name, out);
    out.push(match version {
        _ if random.one_in(40) => random.byte(),
        Version::V311 => 4,
        Version::V5 => 5,
    });
    let mut flags = random.byte() & !1;
    if flags & 4 == 0 && !random.one_in(8) {
        flags &= !0x38;
    }
    if flags & 0x18 == 0x18 && !random.one_in(8) {
        flags &= !0x08;
    }
    if flags & 0x80 == 0 && !random.one_in(8) {
        flags &= !0x40;
    }
    if random.one_in(40) {
        flags |= 1;
    }
    out.push(flags);
    out.extend_from_slice(&[0, random.byte()]);
    if v5 {
        properties(
            random,
            &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
            out,
        );
    }
    let client_ids: &[&[u8]] = &[b"dev-1", b"dev-1", b"", b"\0", b"\xff"];
    string(random.pick(client_ids), out);
    if flags & 4 != 0 {
        if v5 {
            properties(random, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26], out);
        }
        topic(random, out);
        let payloads: &[&[u8]] = &[b"gone", b"", b"\xff"];
        string(random.pick(payloads), out);
    }
    if flags & 0x80 != 0 {
        text(random, out);
    }
    if flags & 0x40 != 0 {
        let passwords: &[&[u8]] = &[b"secret", b"", b"\xff\0"];
        string(random.pick(passwords), out);
    }
}

fn properties(random: &mut Random, belonging: &[u8], out: &mut Vec<u8>) {
    let mut block = Vec::new();
    let count = if random.one_in(2) {
        0
    } else {
        random.below(4) + 1
    };
    for _ in 0..count {
        let id = if random.one_in(12) {
            IDENTIFIERS[random.below(IDENTIFIERS.len())]
        } else {
            belonging[random.below(belonging.len())]
        };
        block.push(id);
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
                block.push(if random.one_in(10) {
                    random.byte()
                } else {
                    random.byte() & 1
                });
            }
            0x13 | 0x21 | 0x22 | 0x23 => {
                block.extend_from_slice(&[0, if random.one_in(4) { 0 } else { random.byte() }]);
            }
            0x02 | 0x11 | 0x18 | 0x27 => {
                let last = if random.one_in(4) { 0 } else { random.byte() };
                block.extend_from_slice(&[0, 0, 0, last]);
            }
            0x0b => {
                let value = random.below(300);
                varint(random, value, &mut block);
            }
            0x08 => topic(random, &mut block),
            0x09 | 0x16 => string(b"\0\xff", &mut block),
            0x26 => {
                text(random, &mut block);
                text(random, &mut block);
            }
            0x80 => block.push(0),
            _ => text(random, &mut block),
        }
    }
    varint(random, block.len(), out);
    out.extend_from_slice(&block);
}

fn topic(random: &mut Random, out: &mut Vec<u8>) {
    let from = if random.one_in(6) { BAD_TOPICS } else { TOPICS };
    string(random.pick(from), out);
}

fn filter(random: &mut Random, out: &mut Vec<u8>) {
    let from = if random.one_in(6) {
        BAD_FILTERS
    } else {
        FILTERS
    };
    string(random.pick(from), out);
}

fn text(random: &mut Random, out: &mut Vec<u8>) {
    let texts: &[&[u8]] = &[b"x", b"", "\u{feff}\u{10ffff}".as_bytes()];
    let bad: &[&[u8]] = &[b"\0", b"\xff", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80"];
    let from = if random.one_in(12) { bad } else { texts };
    string(random.pick(from), out);
}

fn identifier(random: &mut Random, out: &mut Vec<u8>) {
    let id = if random.one_in(12) { 0 } else { random.byte() };
    out.extend_from_slice(&[0, id]);
}

fn code(random: &mut Random, usual: &[u8]) -> u8 {
    if random.one_in(12) {
        random.byte()
    } else {
        usual[random.below(usual.len())]
    }
}

fn few(random: &mut Random) -> usize {
    if random.one_in(12) {
        0
    } else {
        random.below(3) + 1
    }
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
