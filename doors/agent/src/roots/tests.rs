use super::*;
use crate::certifying::{Certifier, random_bytes};
use crate::clock::Clock;
use identity::Realm;
use identity::profile::{self, Terms};
use model::TenantId;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn root(years: u32) -> Certifier {
    let realm = Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap();
    Certifier::new(
        |terms| profile::root(&realm, terms).unwrap(),
        NOW,
        YEAR * years,
    )
}

fn link(of: &Certifier, by: &Certifier) -> Vec<u8> {
    let terms = Terms {
        public_key: &[],
        serial_random: random_bytes(),
        now: NOW,
        lifetime: YEAR,
    };
    by.sign(profile::link(&of.der, &by.issuer(), &terms).unwrap())
}

struct Device {
    scratch: tempfile::TempDir,
    folder: Option<Folder>,
    given: Vec<Vec<u8>>,
    roots: Option<Roots>,
}

impl Device {
    fn with(given: &[&Certifier]) -> Self {
        let mut device = Self {
            scratch: tempfile::tempdir().unwrap(),
            folder: None,
            given: given.iter().map(|root| root.der.clone()).collect(),
            roots: None,
        };
        device.start();
        device
    }

    fn start(&mut self) {
        (self.folder, self.roots) = (None, None);
        let folder = Folder::open(&self.scratch.path().join("state")).unwrap();
        self.roots = Some(Roots::open(&folder, self.given.clone()).unwrap());
        self.folder = Some(folder);
    }

    fn see(&mut self, list: &[&[u8]], at: Timestamp) -> Result<Seen, Failure> {
        self.see_by(list, at, |_| true)
    }

    /// `reached` says whether who knows so many roots reaches the plane.
    fn see_by(
        &mut self,
        list: &[&[u8]],
        at: Timestamp,
        reached: impl Fn(usize) -> bool,
    ) -> Result<Seen, Failure> {
        let list: Vec<Vec<u8>> = list.iter().map(|der| der.to_vec()).collect();
        let folder = self.folder.as_ref().unwrap();
        let mut clock = Clock::open(folder).unwrap();
        let roots = self.roots.as_mut().unwrap();
        roots.see(folder, &mut clock, |by, clock| {
            if !reached(by.len()) {
                return Err(Failure::Tls("unknown issuer".to_owned()));
            }
            clock.hear(at);
            Ok(list.clone())
        })
    }

    #[track_caller]
    fn believes(&self, wanted: &[&Certifier]) {
        let wanted: BTreeSet<Digest> = wanted.iter().map(|root| sha256(&root.der)).collect();
        assert_eq!(self.roots.as_ref().unwrap().digests(), wanted);
    }
}

#[test]
fn a_root_is_learned_by_its_link_and_the_old_one_forgotten_when_it_is_listed_no_more() {
    let (old, new) = (root(20), root(20));
    let mut device = Device::with(&[&old]);
    let (forth, back) = (link(&new, &old), link(&old, &new));
    device.see(&[&old.der], NOW).unwrap();
    device.believes(&[&old]);
    let list = [&old.der[..], &new.der, &forth, &back];
    let seen = device.see(&list, NOW).unwrap();
    assert_eq!((seen.learned, seen.forgotten), (1, 0));
    device.start();
    device.believes(&[&old, &new]);
    // Not before the plane was found by the new one alone.
    let refused = device.see_by(&[&new.der], NOW, |count| count == 2);
    assert!(matches!(refused, Err(Failure::Tls(_))));
    device.believes(&[&old, &new]);
    assert_eq!(device.see(&[&new.der], NOW).unwrap().forgotten, 1);
    device.start();
    device.believes(&[&new]);
    // What was forgotten does not come back by its link.
    device.see(&list, NOW).unwrap();
    device.believes(&[&new]);
}

#[test]
fn two_rollovers_missed_are_caught_up_in_one_look() {
    let (one, two, three) = (root(20), root(20), root(20));
    let mut device = Device::with(&[&one]);
    let (second, third) = (link(&two, &one), link(&three, &two));
    let list = [&three.der[..], &third, &two.der, &second, &one.der];
    assert_eq!(device.see(&list, NOW).unwrap().learned, 2);
    device.believes(&[&one, &two, &three]);
}

#[test]
fn attack_a_root_that_nobody_believed_vouches_for_is_not_learned() {
    let (old, new, stranger) = (root(20), root(20), root(20));
    let mut device = Device::with(&[&old]);
    let by_stranger = link(&new, &stranger);
    let of_another = link(&stranger, &old);
    let mut forged = link(&new, &old);
    *forged.last_mut().unwrap() ^= 1;
    let issuing = old.below(
        |issuer, terms| {
            let realm = Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap();
            profile::issuing(&realm, issuer, terms).unwrap()
        },
        NOW,
        YEAR,
    );
    for list in [
        &[&old.der[..], &new.der][..],
        &[&old.der, &new.der, &by_stranger],
        // Signed by an old root, but for another key.
        &[&old.der, &new.der, &of_another],
        &[&old.der, &new.der, &forged],
        // A link is no root, and neither is an issuing CA.
        &[&old.der, &of_another, &issuing.der],
    ] {
        assert_eq!(device.see(list, NOW).unwrap().learned, 0);
    }
    device.believes(&[&old]);
}

#[test]
fn a_root_that_ended_vouches_for_nobody_and_is_forgotten() {
    let (old, new, late) = (root(1), root(20), root(20));
    let mut device = Device::with(&[&old]);
    let (forth, too_late) = (link(&new, &old), link(&late, &old));
    device.see(&[&old.der, &new.der, &forth], NOW).unwrap();
    let later = NOW.plus(YEAR * 2);
    let seen = device.see(&[&old.der, &new.der, &forth, &late.der, &too_late], later);
    assert_eq!(
        seen.unwrap(),
        Seen {
            learned: 0,
            forgotten: 1
        }
    );
    device.believes(&[&new]);
}

#[test]
fn the_last_root_of_the_plane_and_what_is_none_of_it_stay() {
    let (own, other) = (root(1), root(20));
    let mut device = Device::with(&[&own, &other]);
    device.see(&[&own.der], NOW).unwrap();
    // Neither an empty list nor the end of its only root leaves a device without one.
    device.see(&[], NOW).unwrap();
    device.see(&[&own.der], NOW.plus(YEAR * 2)).unwrap();
    device.believes(&[&own, &other]);
}

#[test]
fn a_power_cut_leaves_what_was_believed_or_what_was_about_to_be() {
    let (old, new) = (root(20), root(20));
    let (forth, back) = (link(&new, &old), link(&old, &new));
    for step in 0..6 {
        let mut device = Device::with(&[&old]);
        let list = [&old.der[..], &new.der, &forth, &back];
        let folder = device.folder.as_ref().unwrap();
        folder.power.set(Some(step));
        let learned = device.see(&list, NOW);
        let forgot = learned.is_ok().then(|| device.see(&[&new.der], NOW));
        assert!(step >= 4 || learned.is_err() || forgot.is_some_and(|done| done.is_err()));
        device.start();
        match step {
            0 | 1 => device.believes(&[&old]),
            2 | 3 => device.believes(&[&old, &new]),
            _ => device.believes(&[&new]),
        }
        // And it goes on from there.
        device.see(&list, NOW).unwrap();
        device.see(&[&new.der], NOW).unwrap();
        device.believes(&[&new]);
    }
}

#[test]
fn a_damaged_file_is_as_good_as_none() {
    let (old, new) = (root(20), root(20));
    let forth = link(&new, &old);
    for damage in [
        "listed zz\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
        "\u{0}",
    ] {
        let mut device = Device::with(&[&old]);
        device.see(&[&old.der, &new.der, &forth], NOW).unwrap();
        device.folder = None;
        let path = device.scratch.path().join("state").join(FILE);
        std::fs::write(path, damage).unwrap();
        device.start();
        device.believes(&[&old]);
        device.see(&[&old.der, &new.der, &forth], NOW).unwrap();
        device.believes(&[&old, &new]);
    }
}
