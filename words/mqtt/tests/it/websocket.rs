//! MQTT over WebSocket: frames however they come, and what a client may not send.

use mqtt::websocket::{Ended, WebSocket, write_binary, write_goodbye};
use proptest::prelude::*;

const FINAL: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame, by RFC 6455 section 5.2 read once more.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | u8::try_from(short).unwrap()),
        middle @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4]),
    );
    out
}

/// What one client's bytes, cut there, bring.
fn hear(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<u8>, Result<(), Ended>) {
    let (mut socket, mut payload, mut answers) = (WebSocket::new(), Vec::new(), Vec::new());
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        if let Err(ended) = socket.receive(&bytes[from..end], &mut payload, &mut answers) {
            return (payload, answers, Err(ended));
        }
        from = end;
    }
    (payload, answers, Ok(()))
}

fn refused(bytes: &[u8]) -> String {
    for cuts in [&[][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]] {
        let (_, answers, ended) = hear(bytes, cuts);
        let Err(Ended::Breach(malformed)) = ended else {
            panic!("{bytes:02x?}: {ended:?}");
        };
        assert!(
            matches!(answers[..], [0x88, 2, 3, 0xea | 0xeb]),
            "{answers:02x?}"
        );
        if cuts.is_empty() {
            continue;
        }
        return malformed.rule.to_owned();
    }
    unreachable!()
}

#[test]
fn the_example_of_the_standard_is_read() {
    // RFC 6455 section 5.7, but as binary: "Hello" masked, and a fragmented one.
    let hello = [
        0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(hear(&hello, &[]), (b"Hello".to_vec(), Vec::new(), Ok(())));
    let parts = [frame(2, b"Hel", MASK), frame(FINAL, b"lo", MASK)].concat();
    assert_eq!(hear(&parts, &[]).0, b"Hello");
    // A ping may stand between the two, and is answered with what it holds.
    let ping = frame(FINAL | 9, b"Hello", MASK);
    let parts = [frame(2, b"Hel", MASK), ping, frame(FINAL, b"lo", MASK)].concat();
    let (payload, answers, _) = hear(&parts, &[]);
    assert_eq!(
        (payload, answers),
        (b"Hello".to_vec(), b"\x8a\x05Hello".to_vec())
    );
}

#[test]
fn what_a_client_may_not_send_is_refused_by_its_rule() {
    let mut unmasked = frame(FINAL | 2, b"x", MASK);
    unmasked[1] &= 0x7f;
    let long_for_short = [0x82, 0x80 | 126, 0, 125, 0, 0, 0, 0];
    let longer_for_short = [0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    let negative = [0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (bytes, rule) in [
        (unmasked, "masks"),
        (frame(FINAL | 0x40 | 2, b"x", MASK), "reserved bits"),
        (frame(FINAL | 1, b"text", MASK), "binary"),
        (frame(FINAL | 3, b"x", MASK), "type is one that exists"),
        (frame(FINAL | 11, b"x", MASK), "type is one that exists"),
        (frame(FINAL, b"x", MASK), "first frame has a type"),
        (
            [frame(2, b"x", MASK), frame(FINAL | 2, b"y", MASK)].concat(),
            "first frame has a type",
        ),
        (frame(9, b"x", MASK), "control frame"),
        (frame(FINAL | 9, &[0; 126], MASK), "control frame"),
        (frame(FINAL | 8, &[3], MASK), "close frame"),
        (
            frame(FINAL | 8, &1005u16.to_be_bytes(), MASK),
            "close frame",
        ),
        (frame(FINAL | 8, &[3, 0xe8, 0xff], MASK), "close frame"),
        (long_for_short.to_vec(), "as few bytes"),
        (longer_for_short.to_vec(), "as few bytes"),
        (negative.to_vec(), "as few bytes"),
    ] {
        assert!(refused(&bytes).contains(rule), "{rule}: {bytes:02x?}");
    }
}

#[test]
fn a_close_is_answered_and_nothing_behind_it_is_heard() {
    let close = [
        frame(FINAL | 8, b"\x03\xe8bye", MASK),
        frame(FINAL | 2, b"x", MASK),
    ]
    .concat();
    let (payload, answers, ended) = hear(&close, &[]);
    assert_eq!((payload, answers), (Vec::new(), vec![0x88, 2, 3, 0xe8]));
    assert_eq!(ended, Err(Ended::ByClient));
    let mut socket = WebSocket::new();
    let (mut payload, mut answers) = (Vec::new(), Vec::new());
    assert!(socket.receive(&close, &mut payload, &mut answers).is_err());
    answers.clear();
    let more = frame(FINAL | 2, b"x", MASK);
    assert!(socket.receive(&more, &mut payload, &mut answers).is_err());
    assert!(payload.is_empty() && answers.is_empty());
}

#[test]
fn attack_a_flood_of_pings_is_answered_once_a_read() {
    let pings: Vec<u8> = (0..10_000)
        .flat_map(|_| frame(FINAL | 9, &[7; 125], MASK))
        .collect();
    let (_, answers, ended) = hear(&pings, &[]);
    assert_eq!((answers.len(), ended), (127, Ok(())));
}

#[test]
fn attack_a_length_that_is_only_announced_costs_nothing() {
    let mut announced = vec![0x82, 0x80 | 127];
    announced.extend(i64::MAX.to_be_bytes());
    announced.extend([0; 4]);
    announced.extend([1; 10]);
    let (payload, answers, ended) = hear(&announced, &[]);
    assert!(payload.capacity() < 1024 && answers.is_empty());
    assert_eq!((payload.len(), ended), (10, Ok(())));
}

#[test]
fn our_frames_are_whole_and_unmasked() {
    for (length, head) in [
        (1usize, vec![0x82, 1]),
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 0xff, 0xff]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = Vec::new();
        write_binary(&mut out, &vec![7; length]);
        assert_eq!(out, [head, vec![7; length]].concat());
    }
    let mut out = Vec::new();
    write_binary(&mut out, b"");
    assert!(out.is_empty());
    write_goodbye(&mut out, true);
    assert_eq!(out, [0x88, 2, 3, 0xe9]);
}

proptest! {
    /// However a client cuts its bytes into frames, and the network its frames into reads.
    #[test]
    fn what_was_said_is_heard_however_it_is_cut(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>(), any::<bool>()), 1..8),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let (mut bytes, mut said, mut begun) = (Vec::new(), Vec::new(), false);
        for (payload, mask, last) in &parts {
            let kind = if begun { 0 } else { 2 };
            bytes.extend(frame(kind | if *last { FINAL } else { 0 }, payload, *mask));
            said.extend_from_slice(payload);
            begun = !last;
        }
        let (heard, answers, ended) = hear(&bytes, &cuts);
        prop_assert_eq!((heard, answers, ended), (said, Vec::new(), Ok(())));
    }

    /// Whatever comes is heard the same in one piece and in many, and never more than was sent.
    #[test]
    fn nonsense_is_heard_the_same_in_one_piece_and_in_many(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let (whole, in_parts) = (hear(&bytes, &[]), hear(&bytes, &cuts));
        prop_assert!(whole.0.len() <= bytes.len());
        prop_assert_eq!((&whole.0, whole.2), (&in_parts.0, in_parts.2));
    }
}
