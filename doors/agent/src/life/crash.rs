//! Rotations lived through with the power cut, once in each, at a random step of the device or of
//! the plane, while the plane's root moves: no device is locked out, none keeps two valid
//! certificates beyond the overlap, and each believes in the end the roots that the plane has.
//!
//! The device is this agent's own code on a real folder, the plane's side its own registry and store
//! (`plane`). Only wires are missing: that a handshake bears a wrong clock is tested with TLS. A seed
//! is a whole life: its clock, its times off, its cuts. A failure prints it.

mod board;
mod plane;
mod tree;

use board::{Board, Rtc};
use model::{CertificateId, Digest, Timestamp};
use plane::{Cut, Plane};
use std::collections::{BTreeMap, BTreeSet};
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
    let mut rolled = 0;
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
        world.settle_roots();
        rolled += world.plane.tree.rolled;
        assert_eq!(world.cuts.len(), ROTATIONS as usize, "each had its cut");
        for cut in world.cuts {
            *cuts.entry(cut).or_default() += 1;
        }
    }
    println!(
        "{} rotations, {rolled} roots replaced; the power was cut at: {cuts:#?}",
        seeds * u64::from(ROTATIONS)
    );
    if seeds >= 100 {
        for step in STEPS {
            assert!(cuts.contains_key(step), "never cut at {step:?}");
        }
    }
}

/// All that can be interrupted: files of the device, then the plane.
const STEPS: [&str; 22] = [
    "write asked.pem",
    "rename asked.pem",
    "write ldevid-.pem",
    "rename ldevid-.pem",
    "remove asked.pem",
    "write proven",
    "rename proven",
    "remove ldevid-.pem",
    "write roots.pem",
    "rename roots.pem",
    "roots not listed",
    "roots not heard",
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
    /// Nobody touches the plane's roots any more.
    roots_stay: bool,
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
        let root = plane.tree.current().der.clone();
        let board = Board::new(&scratch.path().join("device"), device, idevid, root, rtc);
        Self {
            random,
            now: START,
            plane,
            board,
            board_away: START,
            plane_away: START,
            roots_stay: false,
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
            let of_roots = self.random.below(4) == 0;
            let steps = self.random.below(if of_roots { 4 } else { 11 });
            self.plane.power.cut_after(steps as u32, of_roots);
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

    /// Undisturbed, the device ends up with the roots that the plane has, and no other.
    fn settle_roots(&mut self) {
        self.roots_stay = true;
        for _ in 0..HOURS_TO_COME_BACK {
            self.hour();
        }
        self.come_in();
        let own: BTreeSet<Digest> = (self.plane.tree.believed().into_iter())
            .map(crate::roots::sha256)
            .collect();
        assert_eq!(self.board.roots().unwrap().digests(), own);
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
        if is_up && !self.roots_stay && self.random.below(16) == 0 {
            let told = &self.plane.told;
            let learned = |root: &[u8]| told.contains(&crate::roots::sha256(root));
            self.plane.tree.go_on(learned, self.now);
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
    /// Its looks at roots are many: only they count, or all but they.
    of_roots: bool,
    went: Option<&'static str>,
}

impl Power {
    fn cut_after(&mut self, steps: u32, of_roots: bool) {
        (self.left, self.of_roots) = (Some(steps), of_roots);
    }

    fn restore(&mut self) {
        *self = Self::default();
    }

    fn went_at(&self) -> Option<String> {
        self.went.map(str::to_owned)
    }

    fn step(&mut self, name: &'static str) -> Result<(), Cut> {
        let counts = self.went.is_some() || name.starts_with("roots") == self.of_roots;
        match &mut self.left {
            None => Ok(()),
            Some(_) if !counts => Ok(()),
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
