//! A log that only grows, and one that does not.

use crate::support::{Log, Ran, alter, run, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn watch(log: &Log, state: &Path) -> Ran {
    let (dir, key) = (log.dir(), log.key());
    let state = text(state);
    run(&[
        "audit",
        "watch",
        "--log-dir",
        text(&dir),
        "--key",
        &key,
        "--state",
        state,
        "--once",
    ])
}

#[test]
fn growth_moves_the_kept_checkpoint_forward() {
    let mut log = Log::new(1, "a", 10);
    let state = log.beside("state");
    assert!(watch(&log, &state).well().starts_with("first: "));
    assert_eq!(fs::read_to_string(&state).unwrap(), log.note());
    assert_eq!(
        fs::metadata(&state).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(watch(&log, &state).well().starts_with("unchanged: "));
    for step in [1, 300, 700] {
        log.grow(step);
        assert!(watch(&log, &state).well().starts_with("grown: "));
        assert_eq!(fs::read_to_string(&state).unwrap(), log.note());
    }
    let (dir, key) = (log.dir(), log.key());
    let json = run(&[
        "audit",
        "watch",
        "--log-dir",
        text(&dir),
        "--key",
        &key,
        "--state",
        text(&state),
        "--once",
        "--output",
        "json",
    ]);
    assert_eq!(json.json()["size"], 1011);
}

#[test]
fn a_history_that_was_rewritten_is_an_alarm_and_both_checkpoints_are_kept() {
    for (kept, served) in [(600, 600), (600, 900), (3, 4)] {
        let log = Log::new(1, "a", kept);
        let forked = Log::new(1, "b", served);
        let state = log.beside("state");
        watch(&log, &state).well();
        // Watching without --once ends by itself at an alarm.
        let (dir, key) = (forked.dir(), forked.key());
        let ran = run(&[
            "audit",
            "watch",
            "--log-dir",
            text(&dir),
            "--key",
            &key,
            "--state",
            text(&state),
        ]);
        let line = ran.refused();
        assert!(
            line.starts_with("ALARM: ") && line.contains("REWRITTEN"),
            "{ran:?}"
        );
        assert_eq!(fs::read_to_string(&state).unwrap(), log.note());
        let beside = fs::read_to_string(log.beside("state.refused")).unwrap();
        assert_eq!(beside, forked.note());
        assert!(
            watch(&log, &state).well().starts_with("unchanged: "),
            "the honest log is still good"
        );
    }
}

#[test]
fn a_log_that_was_rolled_back_is_an_alarm() {
    let log = Log::new(1, "a", 600);
    let older = Log::new(1, "a", 599);
    let state = log.beside("state");
    watch(&log, &state).well();
    let ran = watch(&older, &state);
    assert!(ran.refused().contains("rolled back"), "{ran:?}");
    assert_eq!(fs::read_to_string(&state).unwrap(), log.note());
}

#[test]
fn what_the_operator_does_not_sign_is_an_alarm() {
    let log = Log::new(1, "a", 10);
    let state = log.beside("state");
    watch(&log, &state).well();
    let stranger = Log::new(2, "a", 20);
    fs::write(log.dir().join("checkpoint"), stranger.note()).unwrap();
    let ran = watch(&log, &state);
    assert!(ran.refused().starts_with("ALARM: "), "{ran:?}");
    assert!(
        !log.beside("state.refused").exists(),
        "an unsigned text proves nothing"
    );
    fs::remove_file(log.dir().join("checkpoint")).unwrap();
    assert!(watch(&log, &state).refused().contains("no checkpoint"));
}

#[test]
fn growth_that_cannot_be_proven_is_not_believed() {
    let mut log = Log::new(1, "a", 300);
    let state = log.beside("state");
    watch(&log, &state).well();
    let kept = log.note().to_owned();
    log.grow(300);
    alter(&log.dir().join("tile/0/001"), 40);
    let ran = watch(&log, &state);
    assert!(ran.refused().starts_with("ALARM: "), "{ran:?}");
    fs::remove_file(log.dir().join("tile/0/001")).unwrap();
    let ran = watch(&log, &state);
    assert!(ran.refused().starts_with("ALARM: "), "{ran:?}");
    assert_eq!(fs::read_to_string(&state).unwrap(), kept);
}

#[test]
fn a_kept_checkpoint_that_was_tampered_with_is_never_taken_for_a_first_look() {
    let log = Log::new(1, "a", 10);
    let state = log.beside("state");
    for altered in ["", "rubbish", &log.note().replace("\n10\n", "\n9\n")] {
        fs::write(&state, altered).unwrap();
        let ran = watch(&log, &state);
        assert!(
            ran.refused().contains("is no checkpoint of this log"),
            "{ran:?}"
        );
        assert_eq!(fs::read_to_string(&state).unwrap(), altered);
    }
    fs::remove_file(&state).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &state).unwrap();
    assert_eq!(
        watch(&log, &state).code,
        1,
        "a dangling link was taken for no state"
    );
}

#[test]
fn a_state_that_cannot_be_kept_ends_the_watch() {
    let log = Log::new(1, "a", 10);
    let (dir, key) = (log.dir(), log.key());
    let state = log.beside("none/state");
    let ran = run(&[
        "audit",
        "watch",
        "--log-dir",
        text(&dir),
        "--key",
        &key,
        "--state",
        text(&state),
    ]);
    assert!(ran.refused().contains("could not be kept"), "{ran:?}");
}

#[test]
fn a_plane_that_is_silent_proves_nothing() {
    let log = Log::new(1, "a", 10);
    let state = log.beside("state");
    watch(&log, &state).well();
    let (nowhere, key) = (log.beside("no-plane"), log.key());
    let from = ["audit", "watch", "--data", text(&nowhere)];
    let ran = run(&[
        &from[..],
        &["--key", &key, "--state", text(&state), "--once"],
    ]
    .concat());
    assert!(ran.refused().contains("no plane is running"), "{ran:?}");
    assert_eq!(fs::read_to_string(&state).unwrap(), log.note());
}
