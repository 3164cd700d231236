//! A client's side of a WebSocket: the same however it is cut, no more than was sent, answered shortly.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt::websocket::WebSocket;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    let hear = |cuts: &[u8]| {
        let (mut socket, mut payload, mut answers) = (WebSocket::new(), Vec::new(), Vec::new());
        let (mut rest, mut reads) = (bytes, 0);
        let mut cuts = cuts.iter();
        loop {
            let end = cuts.next().map_or(rest.len(), |cut| rest.len().min(usize::from(*cut)));
            let (now, later) = rest.split_at(end);
            reads += 1;
            let ended = socket.receive(now, &mut payload, &mut answers).err();
            rest = later;
            assert!(payload.len() <= bytes.len());
            // A pong and a close at most for each read.
            assert!(answers.len() <= reads * 127 + 4);
            if ended.is_some() || rest.is_empty() {
                return (payload, ended);
            }
        }
    };
    assert_eq!(hear(&[]), hear(&cuts));
});
