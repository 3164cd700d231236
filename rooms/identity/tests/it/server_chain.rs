//! What a door may show: only what a client could use.

use crate::support::*;
use identity::{Actor, ServerChain, ServerChainRefusal as Refused, covers, profile};
use model::Timestamp;

/// A leaf for `localhost` and `127.0.0.1`, its key, the CA that signed it and that one's root.
struct Scene {
    key: Key,
    leaf: Vec<u8>,
    world: World,
}

impl Scene {
    fn new() -> Self {
        let (world, key) = (World::new(), Key::new());
        let issuer = world.issuing.issuer();
        let terms = key.terms(NOW, 90 * DAY);
        let names = ["localhost", "127.0.0.1"];
        let unsigned = profile::server(&realm(), &names, &issuer, &terms).unwrap();
        let leaf = world.issuing.finish(unsigned);
        Self { key, leaf, world }
    }

    fn read(&self, chain: &[&[u8]], max: usize, now: Timestamp) -> Result<ServerChain, Refused> {
        ServerChain::read(chain, &self.key.spki, max, now)
    }
}

#[test]
fn a_leaf_and_its_issuer_are_shown_until_the_first_of_them_ends() {
    let scene = Scene::new();
    let chain = scene
        .read(&[&scene.leaf, &scene.world.issuing.der], 1, NOW)
        .unwrap();
    assert_eq!(chain.names(), ["localhost", "127.0.0.1"]);
    assert_eq!(chain.certificates().len(), 2);
    let leaf_end = identity::validity(&scene.leaf).unwrap().1;
    assert_eq!(chain.not_after(), leaf_end);
    assert_eq!(
        scene.read(&[&scene.leaf], 0, NOW).unwrap().leaf(),
        chain.leaf()
    );
}

#[test]
fn a_chain_that_no_client_could_use_is_refused() {
    let scene = Scene::new();
    let (leaf, issuing) = (&scene.leaf, &scene.world.issuing.der);
    let (root, factory) = (&scene.world.root.der, &scene.world.factory.der);
    let ends = identity::validity(leaf).unwrap().1;
    let second_later = Timestamp::from_seconds(ends.as_seconds() + 1);
    assert!(scene.read(&[leaf, issuing], 1, ends).is_ok());
    let damaged = {
        let mut der = leaf.clone();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    let cases: [(&[&[u8]], usize, Timestamp, Refused); 9] = [
        (&[], 1, NOW, Refused::Empty),
        (
            &[b"no certificate"],
            1,
            NOW,
            Refused::Malformed { place: 1 },
        ),
        (
            &[leaf, issuing, root],
            1,
            NOW,
            Refused::TooLong {
                found: 2,
                permitted: 1,
            },
        ),
        (&[issuing, leaf], 1, NOW, Refused::OutOfOrder { place: 1 }),
        (&[leaf, factory], 1, NOW, Refused::OutOfOrder { place: 1 }),
        (
            &[leaf, issuing, factory],
            2,
            NOW,
            Refused::OutOfOrder { place: 2 },
        ),
        // The names fit, the signature does not.
        (
            &[&damaged, issuing],
            1,
            NOW,
            Refused::OutOfOrder { place: 1 },
        ),
        (
            &[leaf, issuing],
            1,
            second_later,
            Refused::Expired {
                place: 1,
                not_after: ends,
            },
        ),
        (
            &[leaf, issuing],
            1,
            Timestamp::from_seconds(0),
            Refused::NotYetValid {
                place: 1,
                not_before: identity::validity(leaf).unwrap().0,
            },
        ),
    ];
    for (chain, max, now, refused) in cases {
        assert_eq!(scene.read(chain, max, now), Err(refused));
    }
    let other = Key::new();
    let chain = [leaf.as_slice(), issuing];
    let read = |key: &Key, leaf: &[u8]| ServerChain::read(&[leaf], &key.spki, 1, NOW);
    assert_eq!(
        ServerChain::read(&chain, &other.spki, 1, NOW),
        Err(Refused::KeyMismatch)
    );
    // A device's certificate is no server's.
    let device = scene.world.issuing.ldevid("d1", &other, NOW, 30 * DAY);
    assert_eq!(read(&other, &device), Err(Refused::NotAServer));
    assert_eq!(Refused::NotAServer.who_must_act(), Actor::Operator);
}

#[test]
fn only_names_that_the_leaf_holds_are_claimed() {
    let scene = Scene::new();
    let chain = scene.read(&[&scene.leaf], 1, NOW).unwrap();
    let asked = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        chain.names_for(&names)
    };
    assert_eq!(asked(&[]).unwrap(), ["localhost", "127.0.0.1"]);
    assert_eq!(asked(&["LocalHost"]).unwrap(), ["localhost"]);
    let name = "elsewhere.example".to_owned();
    assert_eq!(
        asked(&["localhost", "elsewhere.example"]),
        Err(Refused::NameNotHeld { name })
    );
}

#[test]
fn a_wildcard_stands_for_one_label() {
    assert!(covers("*.example.com", "a.example.com"));
    assert!(covers("*.example.com", "A.Example.COM"));
    for name in [
        "example.com",
        "a.b.example.com",
        ".example.com",
        "aexample.com",
    ] {
        assert!(!covers("*.example.com", name), "{name}");
    }
    assert!(covers("a.example.com", "A.example.com"));
    assert!(!covers("a.example.com", "b.example.com"));
}

#[test]
fn every_refusal_is_on_its_page() {
    let page = include_str!("../../../../docs/identity/server-certificates.md");
    let (place, at, name) = (1, NOW, String::new());
    let all = [
        Refused::Empty,
        Refused::Malformed { place },
        Refused::TooLong {
            found: 2,
            permitted: 1,
        },
        Refused::OutOfOrder { place },
        Refused::KeyMismatch,
        Refused::Expired {
            place,
            not_after: at,
        },
        Refused::NotYetValid {
            place,
            not_before: at,
        },
        Refused::NotAServer,
        Refused::NamesNothing,
        Refused::NameNotHeld { name },
    ];
    for one in all {
        let code = one.code();
        assert!(page.contains(&format!("| `{code}` |")), "{code}");
        assert!(one.to_string().contains("operator: "), "{one}");
    }
}
