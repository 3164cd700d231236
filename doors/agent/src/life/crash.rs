//! Rotations lived through with the power cut, once in each, at a random step of the device or of
//! the plane: no device is locked out, and none keeps two valid certificates beyond the overlap.
//!
//! The device is this agent's own code on a real folder, the plane's side its own registry and store
//! (`plane`). Only wires are missing: that a handshake bears a wrong clock is tested with TLS. A seed
//! is a whole life: its clock, its times off, its cuts. A failure prints it.

mod board;
mod plane;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use board::{Board, Rtc};
use identity::profile::{Issuer, Terms, Unsigned};
use model::{CertificateId, Timestamp};
use plane::{Cut, Plane};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// In one life; a cut of the power in each.
const ROTATIONS: u32 = 5;
/// In a row without a session, with nothing in the way: the device is locked out.
const HOURS_TO_COME_BACK: u32 = 24;

/// 4 lives, or what `FLEETWARD_SOAK_SEEDS` says: five rotations each.
fn seeds() -> u64 {
    let asked = std::env::var("FLEETWARD_SOAK_SEEDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[test]
fn rotations_with_a_crash_at_any_step_lock_nobody_out_and_leave_no_second_identity() {
    let mut cuts: BTreeMap<String, u32> = BTreeMap::new();
    let seeds = seeds();
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.come_in();
        if world.random.below(3) == 0 {
            world.plane.forget_factory();
        }
        for _ in 0..ROTATIONS {
            world.rotate();
        }
        assert_eq!(world.cuts.len(), ROTATIONS as usize, "each had its cut");
        for cut in world.cuts {
            *cuts.entry(cut).or_default() += 1;
        }
    }
    println!(
        "{} rotations; the power was cut at: {cuts:#?}",
        seeds * u64::from(ROTATIONS)
    );
    if seeds >= 100 {
        for step in STEPS {
            assert!(cuts.contains_key(step), "never cut at {step:?}");
        }
    }
}

/// All that can be interrupted: files of the device, then the plane.
const STEPS: [&str; 18] = [
    "write asked.pem",
    "rename asked.pem",
    "write ldevid-.pem",
    "rename ldevid-.pem",
    "remove asked.pem",
    "write proven",
    "rename proven",
    "remove ldevid-.pem",
    "knock not heard",
    "issued, not on record",
    "on record, not in memory",
    "answer not sent",
    "session not answered",
    "proof not on record",
    "proof on record, not in memory",
    "retirement not begun",
    "retirement in force, not on record",
    "retirement on record",
];

/// One device, its plane, and the time.
struct World {
    random: Random,
    now: Timestamp,
    plane: Plane,
    board: Board,
    /// Off, or out of reach, until then.
    board_away: Timestamp,
    plane_away: Timestamp,
    cuts: Vec<String>,
    _scratch: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let scratch = tempfile::tempdir().unwrap();
        let days = 1 + random.below(8);
        let lifetime = 24 * HOUR * u32::try_from(days).unwrap();
        // From a sliver to more than the whole life of a short certificate.
        let overlap = HOUR * u32::try_from(1 + random.below(30)).unwrap();
        let (plane, idevid) = Plane::new(&scratch.path().join("plane"), lifetime, overlap, START);
        let rtc = match random.below(3) {
            0 => Rtc::Right,
            1 => Rtc::SinceStart,
            _ => Rtc::Ahead(Duration::from_secs(86_400 * 365 * (1 + random.below(20)))),
        };
        let device = plane.expected.device.clone();
        let board = Board::new(&scratch.path().join("device"), device, idevid, rtc);
        Self {
            random,
            now: START,
            plane,
            board,
            board_away: START,
            plane_away: START,
            cuts: Vec::new(),
            _scratch: scratch,
        }
    }

    /// Until the device has a session, with nothing in its way.
    fn come_in(&mut self) {
        (self.board_away, self.plane_away) = (self.now, self.now);
        for _ in 0..HOURS_TO_COME_BACK {
            self.hour();
            if self.board.is_connected() {
                return;
            }
        }
        panic!("locked out: {:?} at {}", self.board, self.now.as_seconds());
    }

    /// One rotation: what life brings, one cut of the power at a random step, and the way back.
    fn rotate(&mut self) {
        let before = self.board.newest();
        if self.random.below(2) == 0 {
            self.board.cut_after(self.random.below(9) as u32);
        } else {
            self.plane.power.cut_after(self.random.below(11) as u32);
        }
        let cuts = self.cuts.len();
        // Some lie in a box for a while, some beyond the end of their certificate.
        if self.random.below(4) == 0 {
            self.board.switch_off();
            let lives = 2 * self.plane.lifetime.as_secs() / 3600;
            self.board_away = self.in_hours(lives);
        }
        let enough = 6 * self.plane.lifetime.as_secs() / 3600;
        let mut hours = 0;
        while self.board.newest() == before || !self.board.is_connected() || self.cuts.len() == cuts
        {
            if self.random.below(200) == 0 {
                self.plane.fall();
                self.board.lose_session();
                self.plane_away = self.in_hours(36);
            }
            self.hour();
            hours += 1;
            assert!(
                hours <= enough,
                "no rotation in {hours} hours: {:?}",
                self.board
            );
        }
        // The old one retires, undisturbed, as its product says.
        self.plane_away = self.now;
        for _ in 0..=self.plane.overlap.as_secs() / 3600 + 1 {
            self.hour();
        }
        self.come_in();
        let valid = self.plane.valid(self.now);
        assert_eq!(
            valid.first().copied(),
            self.board.newest(),
            "{:?}",
            self.board
        );
    }

    /// A time up to so many hours from now.
    fn in_hours(&mut self, most: u64) -> Timestamp {
        let hours = u32::try_from(self.random.below(most)).unwrap();
        self.now.plus(HOUR * hours)
    }

    /// Device and plane do what is due; then an hour goes by.
    fn hour(&mut self) {
        let is_up = self.now >= self.plane_away;
        if is_up && !self.plane.is_up() {
            self.plane.start();
        }
        if self.now >= self.board_away {
            self.board.turn(&mut self.plane, self.now);
            assert!(self.board.keeps_what_is_proven(), "{:?}", self.board);
        }
        if is_up {
            self.note_cuts();
            if self.plane.is_up() && self.plane.tick(self.now).is_err() {
                self.note_cuts();
            }
            // Whatever fell is up again, and its timers have run before anybody judges.
            if !self.plane.is_up() {
                self.plane.start();
                self.plane.tick(self.now).unwrap();
            }
            self.board.session_holds(&self.plane, self.now);
            self.check_overlap();
        }
        self.now = self.now.plus(HOUR);
    }

    /// Of whose power went the memory is gone as well.
    fn note_cuts(&mut self) {
        if let Some(step) = self.board.fallen() {
            self.cuts.push(step);
        }
        if let Some(step) = self.plane.power.went_at() {
            self.cuts.push(step);
            self.plane.power.restore();
            self.plane.fall();
            self.board.lose_session();
        }
    }

    /// One was proven longer ago than the overlap: nothing that was issued before it is still good.
    fn check_overlap(&self) {
        let valid = self.plane.valid(self.now);
        for (place, id) in valid.iter().enumerate() {
            let Some(proven) = self.plane.proven.get(id) else {
                continue;
            };
            let older: Vec<&CertificateId> = valid.iter().skip(place + 1).collect();
            assert!(
                older.is_empty() || self.now.since(*proven) < self.plane.overlap,
                "{} older certificates are good {} h after {id} was proven",
                older.len(),
                self.now.since(*proven).as_secs() / 3600
            );
        }
    }
}

/// Steps until the power goes.
#[derive(Debug, Default)]
pub struct Power {
    left: Option<u32>,
    went: Option<&'static str>,
}

impl Power {
    fn cut_after(&mut self, steps: u32) {
        self.left = Some(steps);
    }

    fn restore(&mut self) {
        *self = Self::default();
    }

    fn went_at(&self) -> Option<String> {
        self.went.map(str::to_owned)
    }

    fn step(&mut self, name: &'static str) -> Result<(), Cut> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => {
                self.went.get_or_insert(name);
                Err(Cut)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// A key and its certificate, and the right to issue more.
struct Certifier {
    key: EcdsaKeyPair,
    der: Vec<u8>,
}

impl Certifier {
    /// Signed by itself.
    fn new(make: impl FnOnce(&Terms<'_>) -> Unsigned, now: Timestamp, lifetime: Duration) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let unsigned = make(&terms(&public(&key), now, lifetime));
        let mut own = Self {
            key,
            der: Vec::new(),
        };
        own.der = own.sign(unsigned);
        own
    }

    fn below(
        &self,
        make: impl FnOnce(&Issuer, &Terms<'_>) -> Unsigned,
        now: Timestamp,
        lifetime: Duration,
    ) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let der = self.sign(make(&self.issuer(), &terms(&public(&key), now, lifetime)));
        Self { key, der }
    }

    fn issuer(&self) -> Issuer {
        Issuer::from_certificate(&self.der).unwrap()
    }

    fn sign(&self, unsigned: Unsigned) -> Vec<u8> {
        let signature = self
            .key
            .sign(&SystemRandom::new(), unsigned.to_be_signed())
            .unwrap();
        unsigned.assemble(signature.as_ref()).unwrap()
    }

    fn key_pkcs8(&self) -> Vec<u8> {
        self.key.to_pkcs8v1().unwrap().as_ref().to_vec()
    }
}

fn public(key: &EcdsaKeyPair) -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    der.as_ref().to_vec()
}

fn terms(public_key: &[u8], now: Timestamp, lifetime: Duration) -> Terms<'_> {
    Terms {
        public_key,
        serial_random: random_bytes(),
        now,
        lifetime,
    }
}

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

fn pem(key: &[u8], certificate: &[u8]) -> String {
    [("PRIVATE KEY", key), ("CERTIFICATE", certificate)]
        .map(|(label, der)| {
            format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                STANDARD.encode(der)
            )
        })
        .concat()
}

/// SplitMix64: a seed is a whole life.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}
