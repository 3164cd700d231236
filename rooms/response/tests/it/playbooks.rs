//! Playbook files, and what playbooks do.

use crate::world::{CONTAIN, World, done_well, id, outside, reported};
use model::{Containment, DeviationKind, IncidentId, Severity};
use proptest::prelude::*;
use response::{
    Action, AlertSeen, Held, IncidentState, Mode, Outcome, Playbook, PlaybookStep, playbook,
};
use std::time::Duration;

const FOUR: [DeviationKind; 4] = [
    DeviationKind::UnexpectedDestination,
    DeviationKind::NewListeningPort,
    DeviationKind::DnsSpike,
    DeviationKind::OutboundVolume,
];

#[test]
fn a_file_says_what_it_means_with_its_defaults() {
    let text = "[a]\nkinds = [\"dns-spike\", \"silence\"]\nsteps = [{ action = \"quarantine\" }]\n";
    let read = playbook::read("playbooks/a.toml", text).unwrap();
    let [one] = read.as_slice() else {
        panic!("{read:?}")
    };
    assert_eq!(one.mode, Mode::Observe);
    assert_eq!((one.kinds_min, one.outside_min), (2, 1));
    assert_eq!(one.severity_min, Severity::Medium);
    assert_eq!(one.within, Duration::from_secs(3600));
    assert_eq!(one.contain_max, None);
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_what_to_write() {
    let head = "[a]\nkinds = [\"dns-spike\", \"silence\"]\n";
    let steps = "steps = [{ action = \"quarantine\" }]\n";
    for (text, line, said) in [
        ("a = 1\n".to_owned(), 1, "invalid type"),
        (
            format!("{head}{steps}colour = 1\n"),
            4,
            "unknown field `colour`",
        ),
        (
            format!("{head}steps = [\n{{ action = \"reboot\" }}]\n"),
            4,
            "\"reboot\" is no action (help: write one of quarantine",
        ),
        (
            format!("{head}steps = [{{ action = \"notify\" }}]\n"),
            3,
            "whom does it notify?",
        ),
        (
            format!("{head}steps = [{{ action = \"revoke\", to = \"x\" }}]\n"),
            3,
            "revoke has no receiver",
        ),
        (
            format!("{head}steps = [{{ action = \"revoke\" }}, {{ action = \"revoke\" }}]\n"),
            3,
            "stands here twice",
        ),
        (
            format!("{head}steps = []\n"),
            3,
            "0 steps (help: write 1 to 8 steps)",
        ),
        (
            format!("{head}{steps}mode = \"maybe\"\n"),
            4,
            "\"maybe\" is no mode (help: write observe",
        ),
        (
            format!("{head}{steps}outside_min = 0\n"),
            4,
            "outside_min = 0 is out of range (help: write a number from 1 to 2)",
        ),
        (
            format!("{head}{steps}kinds_min = 3\n"),
            4,
            "kinds_min = 3 is out of range",
        ),
        (
            format!("{head}{steps}contain_max = 0\n"),
            4,
            "contain_max = 0 is out of range",
        ),
        (
            format!("{head}{steps}contain_max = 10001\n"),
            4,
            "contain_max = 10001 is out of range",
        ),
        (
            format!("{head}{steps}within_seconds = 0\n"),
            4,
            "within_seconds = 0 is out of range",
        ),
        (
            format!("{head}{steps}severity_min = \"loud\"\n"),
            4,
            "\"loud\" is no severity",
        ),
        (
            format!("{head}steps = [{{ action = \"revoke\", after_seconds = 86401 }}]\n"),
            3,
            "after_seconds = 86401",
        ),
        (
            format!("{head}steps = [{{ action = \"revoke\", when_kinds_min = 3 }}]\n"),
            3,
            "when_kinds_min = 3",
        ),
        (
            format!("[a]\nkinds = [\"dns\"]\n{steps}"),
            2,
            "\"dns\" is no kind of deviation (help: write one of unexpected-destination",
        ),
        (format!("[a]\nkinds = []\n{steps}"), 2, "no kinds"),
        (
            format!("[\"a b\"]\nkinds = [\"silence\"]\n{steps}"),
            1,
            "is no name for a playbook",
        ),
        ("[a\n".to_owned(), 1, "("),
    ] {
        let wrong = match playbook::read("playbooks/a.toml", &text) {
            Ok(read) => panic!("{text} was read as {read:?}"),
            Err(wrong) => wrong,
        };
        let shown = wrong[0].to_string();
        let at = format!("fleet/playbooks/a.toml:{line}:");
        if said != "(" {
            assert!(
                shown.starts_with(&at) && shown.contains(said),
                "{text}: {shown}"
            );
        }
    }
    let text = format!("# ä\n{head}steps = [{{ action = \"reboot\" }}]\n");
    let wrong = playbook::read("playbooks/a.toml", &text).unwrap_err();
    assert_eq!((wrong[0].line, wrong[0].column), (4, 21), "{}", wrong[0]);
    let twice =
        playbook::declared_twice("playbooks/b.toml", "\n[z]\n[a]\n", "a", "playbooks/a.toml");
    assert_eq!(
        twice.to_string(),
        "fleet/playbooks/b.toml:3:2: playbook a is declared in playbooks/a.toml too (help: give each \
         its own name)"
    );
    // All that is wrong is said at once.
    let both = "[a]\nmode = \"x\"\nkinds = [\"y\"]\nsteps = []\n";
    assert_eq!(playbook::read("p", both).unwrap_err().len(), 3);
}

#[test]
fn a_playbook_that_only_notifies_needs_no_outside_evidence() {
    let text = "[a]\nmode = \"enforce\"\nkinds = [\"silence\"]\noutside_min = 0\n\
                steps = [{ action = \"notify\", to = \"desk\" }]\n";
    let mut world = World::with(text);
    world.alert(reported("cam-1", DeviationKind::Silence));
    assert_eq!(world.notified.len(), 1);
}

#[test]
fn steps_come_in_order_after_their_time_and_with_enough_evidence() {
    let mut world = World::with(CONTAIN);
    world.alert(reported("cam-1", FOUR[0]));
    assert!(world.taken.is_empty());
    world.alert(outside("cam-1", FOUR[1]));
    assert_eq!(world.contained[&id("cam-1")], Containment::Quarantined);
    assert_eq!(world.notified[0].1, "security");
    assert_eq!(
        world.open_incident("cam-1").unwrap().state,
        IncidentState::Contained
    );

    world.pass(60);
    assert!(world.revoked.is_empty(), "two kinds are not four");
    world.alert(outside("cam-1", FOUR[2]));
    world.alert(outside("cam-1", FOUR[3]));
    assert!(world.revoked.contains(&id("cam-1")));
    assert_eq!(world.responder.next_deadline(), None);

    let told = world.told(IncidentId(1));
    let place = |what: &str| told.iter().position(|told| told.starts_with(what)).unwrap();
    assert!(place("began") < place("asks to quarantine"));
    assert!(place("quarantined") < place("asks to revoke"));
    assert!(place("asks to revoke") < place("revoked"));
    let quarantined = &world.steps[&IncidentId(1)][place("quarantined")];
    assert_eq!(quarantined.entry, Some(7));
    assert_eq!(quarantined.actor, "playbook/contain-hijacked");
}

#[test]
fn a_step_with_seconds_waits_for_them_though_the_evidence_is_there() {
    let mut world = World::with(CONTAIN);
    for kind in FOUR {
        world.alert(outside("cam-1", kind));
    }
    assert_eq!(world.contained.len(), 1);
    assert!(world.revoked.is_empty());
    let due = world.now.plus(Duration::from_secs(5));
    assert_eq!(world.responder.next_deadline(), Some(due));
    world.pass(4);
    assert!(world.revoked.is_empty());
    world.pass(1);
    assert!(world.revoked.contains(&id("cam-1")));
}

#[test]
fn observing_says_what_it_would_have_done_and_does_nothing() {
    let mut world = World::with(&CONTAIN.replace("enforce", "observe"));
    for kind in FOUR {
        world.alert(outside("cam-1", kind));
    }
    world.pass(10);
    assert!(world.taken.is_empty() && world.notified.is_empty());
    assert_eq!(world.held.len(), 3);
    assert!(world.held.iter().all(|(.., why)| *why == Held::Observes));
    assert!(
        world
            .told(IncidentId(1))
            .contains(&"held: would revoke, but it only observes")
    );
    // Told to act, it begins with the next alert.
    let mut enforcing = world.playbooks.clone();
    enforcing[0].mode = Mode::Enforce;
    world.responder.playbooks(enforcing);
    world.alert(outside("cam-1", FOUR[0]));
    assert_eq!(world.contained.len(), 1);
}

#[test]
fn kinds_that_are_too_far_apart_do_not_add_up() {
    let mut world = World::with(CONTAIN);
    world.alert(outside("cam-1", FOUR[0]));
    world.pass(3601);
    world.alert(outside("cam-1", FOUR[1]));
    assert!(world.taken.is_empty());
    world.alert(outside("cam-1", FOUR[0]));
    assert_eq!(world.by_playbooks().len(), 1);
}

#[test]
fn milder_alerts_do_not_count() {
    let mut world = World::with(&CONTAIN.replace(
        "kinds_min = 2",
        "kinds_min = 2\nseverity_min = \"critical\"",
    ));
    for kind in FOUR {
        world.alert(outside("cam-1", kind));
    }
    assert!(world.taken.is_empty());
    for kind in [FOUR[0], FOUR[1]] {
        world.alert(AlertSeen {
            severity: Severity::Critical,
            ..outside("cam-1", kind)
        });
    }
    assert_eq!(world.by_playbooks().len(), 1);
}

#[test]
fn nothing_is_done_twice_and_what_is_so_already_is_spared() {
    let second = CONTAIN.replace("contain-hijacked", "also");
    let mut world = World::with(&format!("{CONTAIN}{second}"));
    for _ in 0..3 {
        for kind in FOUR {
            world.alert(outside("cam-1", kind));
        }
        world.pass(10);
    }
    let acts: Vec<&str> = world.taken.iter().map(|one| one.what).collect();
    assert_eq!(acts, ["contain", "revoke"]);
    assert!(
        world
            .told(IncidentId(1))
            .contains(&"spared: quarantined already")
    );
}

#[test]
fn an_alert_of_a_revoked_device_is_history() {
    let mut world = World::with(CONTAIN);
    world.alert(outside("cam-1", FOUR[0]));
    world.person(response::Decision::Revoke {
        device: id("cam-1"),
    });
    let taken = world.taken.len();
    for kind in FOUR {
        world.alert(outside("cam-1", kind));
    }
    world.pass(100);
    assert_eq!(world.taken.len(), taken);
    assert!(world.told(IncidentId(1)).contains(&"dns-spike"));
    world.person(response::Decision::Close {
        incident: IncidentId(1),
    });
    world.alert(outside("cam-1", FOUR[0]));
    assert_eq!(world.responder.incidents().count(), 1, "it opens none");
}

#[test]
fn a_failed_act_awaits_a_person_and_is_not_tried_again() {
    let mut world = World::with(CONTAIN);
    world.is_mute = true;
    world.alert(outside("cam-1", FOUR[0]));
    world.alert(outside("cam-1", FOUR[1]));
    world.is_mute = false;
    let token = world.unanswered[0];
    let why = "the shard is gone".to_owned();
    world.done(token, Outcome::Failed { why: why.clone() });
    assert!(
        world
            .held
            .iter()
            .any(|(.., held)| *held == Held::Failed { why: why.clone() })
    );
    assert_eq!(world.open_incident("cam-1").unwrap().containment, None);
    // Answered already: this changes nothing.
    world.done(token, done_well());
    assert_eq!(world.open_incident("cam-1").unwrap().containment, None);
    world.alert(outside("cam-1", FOUR[0]));
    assert_eq!(world.by_playbooks().len(), 1);
}

#[test]
fn a_playbook_taken_away_does_nothing_more() {
    let mut world = World::with(CONTAIN);
    for kind in FOUR {
        world.alert(outside("cam-1", kind));
    }
    world.responder.playbooks(Vec::new());
    assert_eq!(world.responder.next_deadline(), None);
    world.pass(60);
    assert!(world.revoked.is_empty());
    // Put back unchanged, it begins anew and does not repeat what it did.
    let back = world.playbooks.clone();
    world.responder.playbooks(back);
    world.alert(outside("cam-1", FOUR[0]));
    world.pass(60);
    assert_eq!(
        world
            .taken
            .iter()
            .filter(|one| one.what == "contain")
            .count(),
        1
    );
}

fn playbooks() -> impl Strategy<Value = Playbook> {
    let actions = proptest::sample::subsequence(
        vec![
            Action::Quarantine,
            Action::Isolate,
            Action::Revoke,
            Action::Notify { to: "desk".into() },
        ],
        1..=4,
    );
    let kinds = proptest::sample::subsequence(DeviationKind::ALL.to_vec(), 1..=12);
    let seconds = proptest::collection::vec((0_u64..=86_400, any::<bool>()), 4);
    (
        "[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}",
        "[ -~äß€]{0,100}",
        proptest::sample::select(Mode::ALL.to_vec()),
        kinds,
        (1_u32..=12, 1_u32..=12),
        proptest::sample::select(Severity::ALL.to_vec()),
        (1_u64..=604_800, proptest::option::of(1_u64..=10_000)),
        (actions, seconds),
    )
        .prop_map(
            |(
                name,
                description,
                mode,
                kinds,
                (min, outside),
                severity_min,
                (within, contain_max),
                (actions, seconds),
            )| {
                let kinds_len = u32::try_from(kinds.len()).unwrap();
                let kinds_min = min.min(kinds_len);
                Playbook {
                    name,
                    description,
                    mode,
                    kinds,
                    kinds_min,
                    outside_min: outside.min(kinds_min),
                    severity_min,
                    within: Duration::from_secs(within),
                    contain_max,
                    steps: actions
                        .into_iter()
                        .zip(seconds)
                        .map(|(action, (after, waits))| PlaybookStep {
                            action,
                            after: Duration::from_secs(after),
                            kinds_min: waits.then_some(kinds_len),
                        })
                        .collect(),
                }
            },
        )
}

proptest! {
    #[test]
    fn a_playbook_reads_back_as_it_is_written(playbook in playbooks()) {
        let text = playbook.to_toml();
        let read = playbook::read("playbooks/a.toml", &text);
        prop_assert_eq!(read.as_deref(), Ok(std::slice::from_ref(&playbook)), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,400}") {
        let _ = playbook::read("playbooks/a.toml", &text);
    }

    /// Near to what is accepted, so that it goes deep.
    #[test]
    fn no_damage_makes_the_reader_panic(playbook in playbooks(), at in 0_usize..2000, put in "\\PC{0,4}", cut in 0_usize..9) {
        let mut text: Vec<char> = playbook.to_toml().chars().collect();
        let at = at.min(text.len());
        let end = at.saturating_add(cut).min(text.len());
        text.splice(at..end, put.chars());
        let text: String = text.into_iter().collect();
        if let Ok(read) = playbook::read("playbooks/a.toml", &text) {
            for playbook in read {
                let withdraws = playbook.steps.iter().any(|step| step.action.withdraws());
                prop_assert!(!withdraws || playbook.outside_min > 0);
                prop_assert!(playbook.kinds_min >= playbook.outside_min);
            }
        }
    }
}
