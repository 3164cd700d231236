use super::*;
use proptest::prelude::*;

fn whole(text: &[u8]) -> Answer {
    parse(text).unwrap().unwrap()
}

#[test]
fn an_answer_in_chunks_after_an_interim_one() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\
                 Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n";
    let answer = whole(text);
    assert_eq!(answer.body, b"abc0123456789");
    assert_eq!(answer.date, Some(Timestamp::from_seconds(784_111_777)));
    for end in 0..text.len() - 4 {
        assert_eq!(parse(&text[..end]).unwrap(), None, "cut at {end}");
    }
}

#[test]
fn a_hostile_answer_is_refused_before_it_is_kept() {
    let refused: [&[u8]; 10] = [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 99 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ];
    for text in refused {
        assert!(parse(text).is_err(), "{}", text.escape_ascii());
    }
    assert!(parse(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(9)).is_err());
}

#[test]
fn a_wait_that_a_server_asks_for_is_bounded() {
    let text = b"HTTP/1.1 202 Accepted\r\nRetry-After: 99999999\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(whole(text).retry_seconds, Some(RETRY_SECONDS_MAX));
}

#[test]
fn certificates_of_a_cms_message_in_their_order() {
    let element = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        [
            &[tag, u8::try_from(content.len()).unwrap()],
            content.as_slice(),
        ]
        .concat()
    };
    let oid = |arc: u8| element(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, arc]]);
    let (a, b) = (
        element(0x30, &[b"\x02\x01\x07"]),
        element(0x30, &[b"\x02\x01\x05"]),
    );
    let signed_data = element(
        0x30,
        &[
            &[2, 1, 1],
            &[0x31, 0],
            &element(0x30, &[&oid(1)]),
            &element(0xa0, &[&a, &b]),
            &[0x31, 0],
        ],
    );
    let cms = element(0x30, &[&oid(2), &element(0xa0, &[&signed_data])]);
    assert_eq!(certs_only(&cms).unwrap(), [a, b]);
    for end in 0..cms.len() {
        assert!(certs_only(&cms[..end]).is_err(), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        flips in prop::collection::vec((0usize..110, any::<u8>()), 0..6)
    ) {
        let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n\
                         5\r\nabcde\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n".to_vec();
        for (at, value) in flips {
            if let Some(byte) = text.get_mut(at) { *byte = value; }
        }
        if let Ok(Some(answer)) = parse(&text) {
            prop_assert!(answer.body.len() <= text.len());
            let _ = certificates(&answer);
        }
    }

    #[test]
    fn no_cms_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = certs_only(&bytes);
    }
}
