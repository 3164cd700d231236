use super::*;
use crate::issuing::Authority;

/// The plane's certificates here are of the year 2027.
const YEAR: (&str, &str) = ("270101000000Z", "271231235959Z");
const WITHIN: u64 = 1_812_000_000;
const CLOCKS: [(&str, u64); 3] = [("1970", 0), ("right", WITHIN), ("2060", 2_840_140_800)];
/// None; long before; within the year; the last second.
const FLOORS: [u64; 4] = [0, 1_577_836_800, 1_804_000_000, 1_830_297_599];
const TOO_LATE: u64 = 1_830_297_600;

struct Case {
    what: &'static str,
    good: bool,
    chain: Vec<CertificateDer<'static>>,
    name: &'static str,
}

fn cases(root: &Authority) -> Vec<Case> {
    let other = Authority::root("Root");
    let (good, _) = root.server("localhost", YEAR);
    let (foreign, _) = other.server("localhost", YEAR);
    let mut forged = good.as_ref().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut longer = good.as_ref().to_vec();
    // The end of the validity, a byte of the signed part.
    let at = longer
        .windows(13)
        .position(|part| part == YEAR.1.as_bytes());
    longer[at.unwrap() + 1] = b'8';
    let shorter = root.below("Issuer", ("270301000000Z", "270901000000Z"));
    let (short, _) = shorter.server("localhost", YEAR);
    let past = root.below("Past", ("250101000000Z", "260101000000Z"));
    let (never, _) = past.server("localhost", YEAR);
    let case = |what, good, chain, name| Case {
        what,
        good,
        chain,
        name,
    };
    vec![
        case("right", true, vec![good.clone()], "localhost"),
        case("wrong name", false, vec![good], "other.example"),
        case("wrong root", false, vec![foreign], "localhost"),
        case("wrong signature", false, vec![forged.into()], "localhost"),
        case("validity changed", false, vec![longer.into()], "localhost"),
        case(
            "by an issuer",
            true,
            vec![short, shorter.certificate],
            "localhost",
        ),
        case(
            "by an issuer that was no more",
            false,
            vec![never, past.certificate],
            "localhost",
        ),
    ]
}

fn inner(root: &Authority) -> Arc<WebPkiServerVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiServerVerifier::builder_with_provider(root.store(), provider)
        .build()
        .unwrap()
}

fn verdict(
    verifier: &dyn ServerCertVerifier,
    case: &Case,
    at: u64,
) -> Result<ServerCertVerified, Error> {
    verifier.verify_server_cert(
        &case.chain[0],
        &case.chain[1..],
        &ServerName::try_from(case.name).unwrap(),
        &[],
        UnixTime::since_unix_epoch(Duration::from_secs(at)),
    )
}

/// What webpki says at the right time is what we say at any time of our own clock, as long as the
/// floor leaves room for it.
#[test]
fn a_wrong_clock_neither_locks_out_nor_lets_anything_else_in() {
    let root = Authority::root("Root");
    let inner = inner(&root);
    for case in cases(&root) {
        let right = verdict(&*inner, &case, WITHIN).is_ok();
        assert_eq!(right, case.good, "{}", case.what);
        for (clock, now) in CLOCKS {
            for floor in FLOORS {
                let ours = PlaneVerifier {
                    inner: inner.clone(),
                    now: Timestamp::from_seconds(now),
                    floor: Timestamp::from_seconds(floor),
                };
                // An issuer whose time has gone by the floor is gone for webpki too.
                let room = verdict(&*inner, &case, floor.max(WITHIN)).is_ok();
                assert_eq!(
                    // The time that rustls hands over is the device's; it is not asked.
                    verdict(&ours, &case, now).is_ok(),
                    room,
                    "{}, clock {clock}, floor {floor}",
                    case.what
                );
            }
        }
    }
}

/// A certificate of the plane that was stolen and has ended: what the plane has proven since then
/// keeps it out, whatever the device's clock says.
#[test]
fn an_old_certificate_does_not_come_back_below_the_floor() {
    let root = Authority::root("Root");
    for (clock, now) in CLOCKS {
        for case in cases(&root) {
            let ours = PlaneVerifier {
                inner: inner(&root),
                now: Timestamp::from_seconds(now),
                floor: Timestamp::from_seconds(TOO_LATE),
            };
            let refused = verdict(&ours, &case, now);
            assert!(refused.is_err(), "{}, clock {clock}", case.what);
        }
    }
}
