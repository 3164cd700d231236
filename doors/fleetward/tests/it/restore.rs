//! A restored backup: an older copy of the data folder beside the log as it is. What was revoked
//! since stays revoked, nothing is granted until a person has looked, and the log never forks.

use crate::log::{self, assert_sound, checkpoint, consistency, note};
use crate::plane::{Home, Plane, Settings};
use audit::{Judgement, Vkey, judge};
use model::DeviceId;
use serde_json::json;
use sim::Device;
use sim::device::{Manner, Shown};

/// A plane with `lost` (revoked after the copy), `late` (enrolled after the copy) and `old`
/// (enrolled before it), stopped, with the copy in `copy` and `copy-log`.
struct Story {
    home: Home,
    vkey: String,
    lost: Device,
    late: Device,
    old: Device,
    /// The log as it stood before anything was put back.
    kept: audit::Checkpoint,
}

fn story() -> Story {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let manner = Manner::default();
    let [mut lost, mut late, mut old] = ["lost", "late", "old"].map(|name| home.device(name));
    plane.expect([&lost, &late, &old]);
    lost.enroll(&plane.doors(), &manner).unwrap();
    old.enroll(&plane.doors(), &manner).unwrap();
    let vkey = plane.vkey();
    plane.stop_well();
    log::copy(&home.data_dir(), &home.path("copy"));
    log::copy(&home.log_dir(), &home.path("copy-log"));

    let plane = home.start();
    plane.revoke(lost.id());
    late.enroll(&plane.doors(), &manner).unwrap();
    plane.stop_well();
    let kept = checkpoint(&home.log_dir(), &vkey).unwrap();
    Story {
        home,
        vkey,
        lost,
        late,
        old,
        kept,
    }
}

impl Story {
    fn put_back_data(&self) {
        std::fs::remove_dir_all(self.home.data_dir()).unwrap();
        log::copy(&self.home.path("copy"), &self.home.data_dir());
    }

    /// What must hold from the first moment of the start, sealed or not.
    fn assert_lost_is_out(&self, plane: &Plane) {
        let manner = Manner::default();
        let back = self.lost.try_return(&plane.doors(), &manner).clone();
        assert!(
            back.reconnect_refused() && back.reenroll_refused(),
            "{back:#?}"
        );
        assert_eq!(plane.connected(), [""; 0]);
    }
}

fn unready(plane: &Plane) -> String {
    plane.get("/readyz").expect(503).json()["errors"][0]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn an_older_data_folder_starts_sealed_and_what_was_revoked_stays_out() {
    let story = story();
    story.put_back_data();
    let manner = Manner::default();

    // Sealed, and again sealed after a crash in the midst of it.
    story.home.start().kill();
    let plane = story.home.start();
    let reason = unready(&plane);
    assert!(
        reason.starts_with("sealed: the database is an older copy"),
        "{reason}"
    );
    assert!(reason.contains("fleetward audit unseal"), "{reason}");
    story.assert_lost_is_out(&plane);

    // Granting has stopped for everybody, and says so.
    for device in [&story.late, &story.old] {
        let refused = device
            .ask_enroll(&plane.doors(), &manner, Shown::Idevid)
            .unwrap_err();
        assert_eq!(refused.kind(), "http:503", "{refused}");
        assert!(refused.to_string().contains("sealed"), "{refused}");
    }
    // What was granted and is known goes on; what this database never knew does not.
    story
        .old
        .try_connect(&plane.doors(), &manner, Shown::Ldevid)
        .unwrap();
    let refused = story
        .late
        .try_connect(&plane.doors(), &manner, Shown::Ldevid)
        .unwrap_err();
    assert!(refused.is_spoken(), "{refused}");
    plane.lines.wait_for(0, "refused certificate-unrecorded");

    // Withdrawing works.
    let recorded = plane.revoke(&DeviceId::new("old").unwrap());
    let refused = story
        .old
        .try_connect(&plane.doors(), &manner, Shown::Ldevid)
        .unwrap_err();
    assert!(refused.is_spoken(), "{refused}");
    assert_eq!(
        plane.entries()[recorded.entry as usize]["object"],
        "device/old"
    );

    // A person has looked: it goes on, and what was revoked is still out.
    let said = json!({ "reason": "restored the copy of last night after a disk failure" });
    plane
        .send("DELETE", "/api/v1/audit/seal", &said)
        .expect(200);
    plane.get("/readyz").expect(204);
    story.assert_lost_is_out(&plane);
    let mut late = story.home.device("late");
    assert!(late.enroll(&plane.doors(), &manner).is_ok());
    late.connect(&plane.doors(), &manner).unwrap();
    let entries = plane.entries();
    let actions = |action: &str| entries.iter().filter(|e| e["action"] == action).count();
    assert_eq!(actions("audit.unsealed"), 1, "{entries:#?}");
    plane.stop_well();

    // One history: the log only grew from what was seen before the restore.
    assert_sound(&story.home, &story.vkey);
    let keys = [story.vkey.parse::<Vkey>().unwrap()];
    let folder = story.home.log_dir();
    let proof = consistency(&folder, &story.vkey, story.kept.size);
    let judged = judge(Some(&story.kept), &note(&folder), &keys, Some(&proof));
    assert!(matches!(judged, Judgement::Grown { .. }), "{judged:?}");

    // The seal does not come back, nor does the device.
    let plane = story.home.start();
    plane.get("/readyz").expect(204);
    story.assert_lost_is_out(&plane);
}

/// The plane cannot tell by itself that both of its folders are old: nothing on this machine
/// remembers. Whoever kept a checkpoint elsewhere can.
#[test]
fn an_older_copy_of_both_folders_is_told_by_a_kept_checkpoint() {
    let story = story();
    story.put_back_data();
    std::fs::remove_dir_all(story.home.log_dir()).unwrap();
    log::copy(&story.home.path("copy-log"), &story.home.log_dir());
    let plane = story.home.start();
    plane.get("/readyz").expect(204);
    // The revocation is forgotten: this is what the kept checkpoint is for.
    story
        .lost
        .try_connect(&plane.doors(), &Manner::default(), Shown::Ldevid)
        .unwrap();
    plane.stop_well();

    let keys = [story.vkey.parse::<Vkey>().unwrap()];
    let judged = judge(Some(&story.kept), &note(&story.home.log_dir()), &keys, None);
    let Judgement::RolledBack { from, to, failure } = judged else {
        panic!("{judged:?}");
    };
    assert!(from == story.kept.size && to < from, "{from} {to}");
    assert!(failure.to_string().contains("rolled back"), "{failure}");
}

/// Grown past the kept size on the rolled-back copy, it is another history: a fork is seen too.
#[test]
fn a_rolled_back_log_that_has_grown_again_is_told_as_rewritten() {
    let story = story();
    story.put_back_data();
    std::fs::remove_dir_all(story.home.log_dir()).unwrap();
    log::copy(&story.home.path("copy-log"), &story.home.log_dir());
    let plane = story.home.start();
    for number in 0..8 {
        plane.revoke(&DeviceId::new(&format!("other-{number}")).unwrap());
    }
    plane.stop_well();
    let folder = story.home.log_dir();
    let now = checkpoint(&folder, &story.vkey).unwrap();
    assert!(now.size > story.kept.size);
    let keys = [story.vkey.parse::<Vkey>().unwrap()];
    let proof = consistency(&folder, &story.vkey, story.kept.size);
    let judged = judge(Some(&story.kept), &note(&folder), &keys, Some(&proof));
    assert!(matches!(judged, Judgement::Rewritten { .. }), "{judged:?}");
}
