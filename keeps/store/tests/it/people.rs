//! People, their links and tokens as rows.

use crate::fixture::{open, scratch, seconds};
use model::{Digest, PersonId};
use store::{ApiToken, Change, CommitError, Direction, Passkey, Person, Proposal, Write};

fn person(version: u64, roles: &str) -> Person {
    Person {
        id: PersonId::new("p-1").unwrap(),
        name: "Ada".into(),
        roles: roles.into(),
        created_at: seconds(1),
        joined_at: None,
        disabled_at: None,
        version,
        subject: None,
    }
}

fn passkey(id: &str, credential: u8) -> Passkey {
    Passkey {
        id: id.parse().unwrap(),
        person: PersonId::new("p-1").unwrap(),
        credential: vec![credential; 16],
        key: vec![1; 77],
        count: 4,
        synced: false,
        note: "laptop".into(),
        made_at: seconds(1),
        used_at: None,
    }
}

fn token() -> ApiToken {
    ApiToken {
        id: "t-1".parse().unwrap(),
        hash: Digest([7; 32]),
        roles: "viewer".into(),
        networks: "10.0.0.0/8".into(),
        note: "ci".into(),
        made_by: "person/p-1".into(),
        made_at: seconds(1),
        expires_at: seconds(9),
        revoked_at: None,
        used_at: None,
    }
}

fn grant(write: Write) -> Change {
    Change::new(Direction::Grant).write(write)
}

fn withdraw(write: Write) -> Change {
    Change::new(Direction::Withdraw).write(write)
}

#[test]
fn who_decides_about_a_person_has_seen_them_as_they_are() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(grant(Write::PutPerson(person(1, "viewer"))))
        .unwrap();
    for version in [0, 1, 3] {
        let stale = store.commit(grant(Write::PutPerson(person(version, "operator"))));
        assert!(
            matches!(stale, Err(CommitError::Conflict { .. })),
            "{version}"
        );
    }
    store
        .commit(grant(Write::PutPerson(person(2, "operator"))))
        .unwrap();
    assert_eq!(store.people().unwrap(), [person(2, "operator")]);
}

#[test]
fn whose_roles_are_taken_is_let_in_by_no_earlier_link() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let id = person(1, "").id;
    let links = [(Digest([1; 32]), Some(id.clone())), (Digest([2; 32]), None)];
    store
        .commit(grant(Write::PutPerson(person(1, "operator viewer"))))
        .unwrap();
    for (hash, person) in links.clone() {
        let expires_at = seconds(99);
        let link = Write::PutToken {
            hash,
            person,
            expires_at,
        };
        store.commit(grant(link)).unwrap();
    }
    let narrow = |disabled_at| Write::NarrowPerson {
        person: id.clone(),
        roles: "viewer".into(),
        disabled_at,
    };
    // To take roles is no grant, and passes a sealed store.
    store.commit(withdraw(narrow(Some(seconds(5))))).unwrap();
    assert_eq!(store.token(&links[0].0).unwrap(), None);
    assert!(store.token(&links[1].0).unwrap().is_some());
    store.commit(withdraw(narrow(Some(seconds(8))))).unwrap();
    let people = store.people().unwrap();
    assert_eq!(
        (people[0].disabled_at, people[0].version),
        (Some(seconds(5)), 3)
    );
    assert_eq!(people[0].roles, "viewer");
}

#[test]
fn a_passkey_is_one_persons_and_each_use_of_it_counts_further() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let put = |row: Passkey| store.commit(grant(Write::PutPasskey(row)));
    let conflict = |done| matches!(done, Err(CommitError::Conflict { .. }));
    assert!(conflict(put(passkey("k-1", 1))), "nobody's");
    store
        .commit(grant(Write::PutPerson(person(1, "viewer"))))
        .unwrap();
    put(passkey("k-1", 1)).unwrap();
    put(passkey("k-2", 2)).unwrap();
    assert!(conflict(put(passkey("k-3", 1))), "a known credential");
    let use_it = |count, at| {
        let passkey = passkey("k-1", 1).id;
        store.commit(grant(Write::UsePasskey { passkey, count, at }))
    };
    use_it(5, seconds(2)).unwrap();
    for count in [0, 4, 5] {
        assert!(conflict(use_it(count, seconds(3))), "{count}");
    }
    use_it(u32::MAX, seconds(3)).unwrap();
    let used = Passkey {
        count: u32::MAX,
        used_at: Some(seconds(3)),
        ..passkey("k-1", 1)
    };
    assert_eq!(store.passkeys().unwrap(), [used, passkey("k-2", 2)]);
    let gone = Write::DropPasskey(passkey("k-1", 1).id);
    // To take one away passes a sealed store; to add one does not.
    store.commit(withdraw(gone)).unwrap();
    let added = store.commit(withdraw(Write::PutPasskey(passkey("k-3", 3))));
    assert!(matches!(added, Err(CommitError::Invalid { .. })));
    let person = passkey("k-2", 2).person;
    let disabled = Write::NarrowPerson {
        person,
        roles: String::new(),
        disabled_at: Some(seconds(4)),
    };
    store.commit(withdraw(disabled)).unwrap();
    assert_eq!(store.passkeys().unwrap(), []);
}

#[test]
fn a_name_at_a_provider_is_one_persons() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let subject = Some(Digest([3; 32]));
    let ada = Person {
        subject,
        ..person(1, "viewer")
    };
    store.commit(grant(Write::PutPerson(ada.clone()))).unwrap();
    assert_eq!(store.people().unwrap(), [ada.clone()]);
    let other = Person {
        id: PersonId::new("p-2").unwrap(),
        ..ada
    };
    assert!(store.commit(grant(Write::PutPerson(other))).is_err());
}

#[test]
fn a_token_is_revoked_once_and_its_hash_is_nobody_elses() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store.commit(grant(Write::PutApiToken(token()))).unwrap();
    let same_secret = ApiToken {
        id: "t-2".parse().unwrap(),
        ..token()
    };
    let twice = store.commit(grant(Write::PutApiToken(same_secret)));
    assert!(matches!(twice, Err(CommitError::Conflict { .. })));
    for at in [seconds(3), seconds(4)] {
        let token = token().id;
        store
            .commit(withdraw(Write::RevokeApiToken { token, at }))
            .unwrap();
    }
    let used = Write::NoteApiTokenUse {
        token: token().id,
        at: seconds(2),
    };
    store
        .commit(Change::new(Direction::Neutral).write(used))
        .unwrap();
    let (revoked_at, used_at) = (Some(seconds(3)), Some(seconds(2)));
    let expected = ApiToken {
        revoked_at,
        used_at,
        ..token()
    };
    assert_eq!(store.api_tokens().unwrap(), [expected]);
    // Neither is a withdrawal.
    for write in [
        Write::PutApiToken(token()),
        Write::PutPerson(person(1, "viewer")),
    ] {
        let wrong = store.commit(withdraw(write));
        assert!(matches!(wrong, Err(CommitError::Invalid { .. })));
    }
}

#[test]
fn a_proposal_is_decided_once_in_time_and_keeps_its_digest_alone() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let row = |id: &str| Proposal {
        id: id.parse().unwrap(),
        class: "policy".into(),
        action: "access.apply".into(),
        method: "PUT".into(),
        target: "/api/v1/access/fleet".into(),
        seen_version: None,
        media_type: "application/json".into(),
        body: b"{}".to_vec(),
        digest: Digest([1; 32]),
        world: Digest([2; 32]),
        proposed_by: "person/p-1".into(),
        proposed_at: seconds(1),
        expires_at: seconds(9),
        approved: None,
        decided_by: None,
        decided_at: None,
    };
    for id in ["a-1", "a-2"] {
        store
            .commit(Change::new(Direction::Neutral).write(Write::PutProposal(row(id))))
            .unwrap();
    }
    let decide = |id: &str, approved, at| Write::DecideProposal {
        proposal: id.parse().unwrap(),
        approved,
        by: "person/p-2".into(),
        at,
    };
    // To approve is a grant; to refuse is none and passes a sealed store.
    let wrong = store.commit(withdraw(decide("a-1", true, seconds(2))));
    assert!(matches!(wrong, Err(CommitError::Invalid { .. })));
    let late = store.commit(grant(decide("a-1", true, seconds(9))));
    assert!(matches!(late, Err(CommitError::Conflict { .. })));
    store
        .commit(grant(decide("a-1", true, seconds(2))))
        .unwrap();
    for approved in [true, false] {
        let twice = store.commit(grant(decide("a-1", approved, seconds(3))));
        assert!(matches!(twice, Err(CommitError::Conflict { .. })));
    }
    store
        .commit(withdraw(decide("a-2", false, seconds(2))))
        .unwrap();
    let expected = Proposal {
        approved: Some(true),
        decided_by: Some("person/p-2".into()),
        decided_at: Some(seconds(2)),
        body: Vec::new(),
        ..row("a-1")
    };
    assert_eq!(store.proposal(&expected.id).unwrap(), Some(expected));
    let forget = Write::ForgetProposals {
        expired_before: seconds(10),
    };
    store
        .commit(Change::new(Direction::Neutral).write(forget))
        .unwrap();
    assert!(store.proposals(10).unwrap().is_empty());
}
