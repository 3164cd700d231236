use super::*;
use crate::folder::Folder;
use crate::issuing::Authority;
use proptest::prelude::*;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Shows {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// An EST door on loopback that gives one answer a connection; ends with what it was asked.
fn door(
    shown: Arc<CertifiedKey>,
    answers: Vec<&'static str>,
) -> (Address, JoinHandle<Vec<String>>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(shown)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        server_name: "localhost".to_owned(),
    };
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (tcp, _) = listener.accept().unwrap();
            let tls = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(tls, tcp);
            let mut request = Vec::new();
            // A request ends with its head here, or with the body below.
            while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"\r\n\r\nAQID") {
                let mut chunk = [0; 1024];
                match stream.read(&mut chunk) {
                    Ok(length) if length > 0 => request.extend_from_slice(&chunk[..length]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.flush();
            asked.push(String::from_utf8(request).unwrap());
        }
        asked
    });
    (address, serving)
}

/// Not valid by any clock of a machine that runs this but in its year; so both ways are tried.
const YEAR: (&str, &str) = ("270101000000Z", "271231235959Z");

#[test]
fn a_plane_that_lets_a_person_decide_is_asked_again_when_it_says() {
    let root = Authority::root("Root");
    let (certificate, key) = root.server("localhost", YEAR);
    let answers = [
        ("7", Some(7)),
        ("99999999", Some(RETRY_SECONDS_MAX)),
        // Dates and nonsense are a minute.
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("-1", None),
    ];
    let texts: Vec<&'static str> = answers
        .iter()
        .map(|(after, _)| {
            let text = format!(
                "HTTP/1.1 202 Accepted\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n"
            );
            &*text.leak()
        })
        .chain(["HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"])
        .collect();
    let (address, serving) = door(key.shown(vec![certificate]), texts);
    let scratch = tempfile::tempdir().unwrap();
    let mut clock = Clock::open(&Folder::open(scratch.path()).unwrap()).unwrap();
    let trust = Trust {
        roots: root.store(),
        source_address: None,
        reached: Vec::new(),
    };
    let waiting = Waiting::new().unwrap();
    let est = Est {
        door: &address,
        trust: &trust,
        waiting: &waiting,
    };
    for seconds in answers.iter().map(|(_, seconds)| *seconds).chain([None]) {
        let answer = est.exchange("POST", PATH, None, Some(body()), &mut clock);
        assert!(
            matches!(answer, Err(Failure::Pending(s)) if s == seconds.unwrap_or(60)),
            "{seconds:?}: {answer:?}"
        );
    }
    for request in serving.join().unwrap() {
        assert!(
            request.starts_with("POST /.well-known/est/simpleenroll HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.ends_with("\r\n\r\nAQID"), "{request}");
    }
    assert!(
        clock.floor() >= Timestamp::from_seconds(1_798_761_600),
        "its certificate shows that it is 2027 at least"
    );
}

/// With the certificate, which is public, and a key of one's own.
#[test]
fn a_plane_without_its_key_is_not_told_anything() {
    let root = Authority::root("Root");
    let (certificate, _) = root.server("localhost", YEAR);
    let (_, other_key) = root.server("localhost", YEAR);
    let (address, serving) = door(
        other_key.shown(vec![certificate]),
        vec!["HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"],
    );
    let scratch = tempfile::tempdir().unwrap();
    let mut clock = Clock::open(&Folder::open(scratch.path()).unwrap()).unwrap();
    let trust = Trust {
        roots: root.store(),
        source_address: None,
        reached: Vec::new(),
    };
    let est = Est {
        door: &address,
        trust: &trust,
        waiting: &Waiting::new().unwrap(),
    };
    let answer = est.exchange("POST", PATH, None, Some(body()), &mut clock);
    assert!(matches!(answer, Err(Failure::Tls(_))), "{answer:?}");
    assert_eq!(serving.join().unwrap(), [""]);
    assert_eq!(clock.floor(), Timestamp::from_seconds(0));
}

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
            let _ = certificates(&answer, CERTIFICATES_MAX);
        }
    }

    #[test]
    fn no_cms_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = certs_only(&bytes);
    }
}

const PATH: &str = "/.well-known/est/simpleenroll";

fn body() -> (String, String) {
    let head = "Content-Type: application/pkcs10\r\n".to_owned();
    (head, STANDARD.encode([1, 2, 3]))
}
