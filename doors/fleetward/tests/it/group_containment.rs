//! A whole group or product cut off in one act, and given back in one: whom it takes, whom it leaves,
//! who must agree, and what stays of it over a crash and a restored backup.

use crate::log;
use crate::people::{Asker, approve, waiting};
use crate::plane::{Home, Plane, Settings};
use crate::response::{live, topic};
use serde_json::{Value, json};
use sim::Device;
use sim::device::Manner;

const ACTS: &str = "/api/v1/response/group-containments";

fn quarantine(extra: &Value) -> Value {
    let mut body = json!({
        "product": "sensor", "containment": "quarantined", "reason": "a worm in 1.2",
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn act(plane: &Plane, extra: &Value) -> Value {
    plane.post(ACTS, &quarantine(extra)).expect(201).json()
}

fn undo(plane: &Plane, act: &Value, dry_run: bool) -> Value {
    let id = act["group_containment"].as_str().unwrap();
    let path = format!("{ACTS}/{id}?dry_run={dry_run}");
    let answer = plane.send("DELETE", &path, &json!({ "reason": "patched" }));
    answer.expect(200).json()
}

fn contain_alone(plane: &Plane, device: &str, containment: &str) {
    let body = json!({ "device": device, "containment": containment, "reason": "by itself" });
    plane
        .post("/api/v1/response/containments", &body)
        .expect(201);
}

/// `device:containment` of all that are cut off.
fn contained(plane: &Plane) -> Vec<String> {
    let all = plane.get("/api/v1/response/containments");
    let all = all.expect(200).json();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    (all["containments"].as_array().unwrap().iter())
        .map(|one| format!("{}:{}", text(one, "device"), text(one, "containment")))
        .collect()
}

fn is_heard(device: &mut Device) -> bool {
    let telemetry = topic(device);
    device.session().unwrap().publish(&telemetry, b"x").is_ok()
}

#[test]
fn a_product_is_cut_off_in_one_act_and_undoing_it_gives_back_what_it_took_and_nothing_else() {
    let home = Home::new(&Settings {
        shards: 2,
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let mut cams = ["cam-1", "cam-2", "cam-3", "cam-4"].map(|name| live(&home, &plane, name));
    contain_alone(&plane, "cam-3", "quarantined");
    contain_alone(&plane, "cam-4", "isolated");

    let dry = plane.post(&format!("{ACTS}?dry_run=true"), &quarantine(&json!({})));
    let dry = dry.expect(200).json();
    assert_eq!(dry["names"], json!(["cam-1", "cam-2"]), "{dry}");
    assert_eq!((&dry["devices"], &dry["already"]), (&json!(2), &json!(2)));
    assert_eq!(dry["sessions_touched"], 2, "{dry}");
    assert!(
        dry["takes_away"]["channels"]
            .to_string()
            .contains("telemetry")
    );
    assert!(is_heard(&mut cams[0]) && is_heard(&mut cams[1]));
    assert_eq!(
        plane.get(ACTS).expect(200).json()["group_containments"],
        json!([])
    );

    let entries_before = plane.entries().len();
    let done = act(&plane, &json!({ "shown": dry["shown"] }));
    assert_eq!(done["sessions_touched"], 2, "{done}");
    assert!(!is_heard(&mut cams[0]) && !is_heard(&mut cams[1]));
    // One entry sums up, one names both.
    let entries = plane.entries();
    let entry = &entries[done["entry"].as_u64().unwrap() as usize];
    assert_eq!(entry["action"], "response.group-contained", "{entry}");
    assert_eq!(entry["object"], "product/sensor");
    let behind: Vec<&Value> = entries[entries_before..].iter().collect();
    assert_eq!(behind.len(), 2, "{behind:?}");
    assert_eq!(behind[1]["details"]["devices"], "cam-1 cam-2");
    // The same again finds nobody left, and is no act.
    let again = act(&plane, &json!({}));
    assert_eq!(
        (&again["devices"], &again["entry"]),
        (&json!(0), &Value::Null)
    );

    let expected = [
        "cam-1:quarantined",
        "cam-2:quarantined",
        "cam-3:quarantined",
        "cam-4:isolated",
    ];
    assert_eq!(contained(&plane), expected);
    let dry = undo(&plane, &done, true);
    assert_eq!(dry["names"], json!(["cam-1", "cam-2"]), "{dry}");
    assert!(
        dry["gives_back"]["channels"]
            .to_string()
            .contains("telemetry")
    );
    assert_eq!(contained(&plane), expected);
    let undone = undo(&plane, &done, false);
    assert_eq!(undone["devices"], 2, "{undone}");
    assert!(is_heard(&mut cams[0]) && is_heard(&mut cams[1]));
    assert_eq!(contained(&plane), ["cam-3:quarantined", "cam-4:isolated"]);
    let id = done["group_containment"].as_str().unwrap();
    plane
        .send("DELETE", &format!("{ACTS}/{id}"), &json!({}))
        .expect(409);
    let listed = plane.get(ACTS).expect(200).json();
    assert!(
        listed["group_containments"][0]["restored_at"].is_string(),
        "{listed}"
    );
    let standing = plane
        .get(&format!("{ACTS}?standing=true"))
        .expect(200)
        .json();
    assert_eq!(standing["group_containments"], json!([]));
    plane.stop_well();
}

/// Cut off harder by an act of many, worked on by itself, or meant by another act as well: none of
/// them is given back with the others.
#[test]
fn attack_undoing_an_act_of_many_frees_nobody_whom_another_word_holds() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut cams = ["cam-1", "cam-2", "cam-3"].map(|name| live(&home, &plane, name));
    contain_alone(&plane, "cam-1", "quarantined");
    let first = act(&plane, &json!({}));
    // Hardened by the act: it stays so until it is restored by itself.
    let harder = act(&plane, &json!({ "containment": "isolated" }));
    assert_eq!(harder["devices"], 3, "{harder}");
    let kept = undo(&plane, &harder, true);
    assert_eq!(kept["names"], json!([]), "{kept}");
    let because = |device: &str| {
        let all = kept["kept"].as_array().unwrap().iter();
        let found = all.into_iter().find(|one| one["device"] == device);
        found.map(|one| one["because"].clone())
    };
    // The first act means these two as well; the other one was never this act's.
    assert_eq!(because("cam-2"), Some(first["group_containment"].clone()));
    assert_eq!(because("cam-1"), None);
    undo(&plane, &harder, false);
    let isolated = ["cam-1:isolated", "cam-2:isolated", "cam-3:isolated"];
    assert_eq!(contained(&plane), isolated);
    undo(&plane, &first, false);
    assert_eq!(contained(&plane), isolated);
    for device in ["cam-1", "cam-2", "cam-3"] {
        let path = format!("/api/v1/response/containments/{device}");
        plane.send("DELETE", &path, &json!({})).expect(200);
    }
    // One that is worked on by itself meanwhile.
    for cam in &mut cams {
        cam.connect(&plane.doors(), &Manner::default()).unwrap();
    }
    for incident in plane.get("/api/v1/response/incidents").expect(200).json()["incidents"]
        .as_array()
        .unwrap()
    {
        let path = format!(
            "/api/v1/response/incidents/{}/close",
            incident["id"].as_str().unwrap()
        );
        plane.post(&path, &json!({ "reason": "known" })).expect(204);
    }
    let last = act(&plane, &json!({}));
    contain_alone(&plane, "cam-2", "quarantined");
    let undone = undo(&plane, &last, false);
    assert_eq!(undone["names"], json!(["cam-1", "cam-3"]), "{undone}");
    assert!(
        undone["kept"][0]["because"]
            .as_str()
            .unwrap()
            .starts_with("INC-")
    );
    assert_eq!(contained(&plane), ["cam-2:quarantined"]);
    assert!(is_heard(&mut cams[0]) && !is_heard(&mut cams[1]) && is_heard(&mut cams[2]));
}

#[test]
fn attack_what_was_shown_is_what_is_cut_off() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let _cam = live(&home, &plane, "cam-1");
    let dry = plane.post(&format!("{ACTS}?dry_run=true"), &quarantine(&json!({})));
    let shown = dry.expect(200).json()["shown"].clone();
    let _other = live(&home, &plane, "cam-2");
    let refused = plane.post(ACTS, &quarantine(&json!({ "shown": shown })));
    assert_eq!(refused.expect(409).json()["code"], "group-moved");
    assert_eq!(contained(&plane), [""; 0]);
    for (wrong, status) in [
        (json!({ "product": null }), 400),
        (json!({ "group": "east" }), 400),
        (json!({ "product": "boat" }), 404),
        (json!({ "containment": "banned" }), 400),
        (json!({ "reason": " " }), 400),
        (json!({ "shown": "12" }), 400),
    ] {
        plane.post(ACTS, &quarantine(&wrong)).expect(status);
    }
    plane
        .send("DELETE", &format!("{ACTS}/g-0"), &json!({}))
        .expect(404);
}

/// Above what playbooks may cut off in an hour.
#[test]
fn more_than_playbooks_may_waits_for_a_second_person_and_few_do_not() {
    let home = Home::new(&Settings {
        more: "[response]\ncontain_max = 2\n".to_owned(),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let (_, operator) = first.invite(&["operator"]);
    let cams = ["cam-1", "cam-2"].map(|name| home.device(name));
    plane.expect(&cams);
    let few = operator.post(ACTS, &quarantine(&json!({})));
    let few = few.expect(201).json();
    assert_eq!(few["is_many"], false, "{few}");
    undo(&plane, &few, false);
    plane.expect([&home.device("cam-3")]);
    let refused = operator.post(ACTS, &quarantine(&json!({})));
    assert_eq!(refused.expect(428).json()["code"], "shown-needed");
    let dry = operator.post(&format!("{ACTS}?dry_run=true"), &quarantine(&json!({})));
    let dry = dry.expect(200).json();
    assert_eq!(dry["is_many"], true, "{dry}");
    let all = quarantine(&json!({ "shown": dry["shown"] }));
    let waits = operator.post(ACTS, &all).expect(202).json();
    assert_eq!(waits["class"], "contain-many", "{waits}");
    assert_eq!(contained(&plane), [""; 0]);
    let act = waiting(&first);
    approve(&operator, &act).expect(409);
    let done = approve(&first, &act).expect(200).json();
    assert_eq!(done["answer"]["devices"], 3, "{done}");
    assert_eq!(contained(&plane).len(), 3);
    // In the name of who asked for it.
    let by = done["answer"]["group_containment"]
        .as_str()
        .unwrap()
        .to_owned();
    let listed = plane.get(ACTS).expect(200).json();
    let listed = listed["group_containments"].as_array().unwrap();
    let listed = listed.iter().find(|one| one["id"] == by.as_str()).unwrap();
    assert_eq!(listed["by"], operator.who()["actor"]);
    // A viewer may not, not even a few.
    let (_, viewer) = first.token(&["viewer"], &[]);
    viewer.post(ACTS, &all).expect(403);
}

#[test]
fn crash_an_act_of_many_stays_in_force_and_can_be_undone_after_kill_9() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut cam = live(&home, &plane, "cam-1");
    let _other = live(&home, &plane, "cam-2");
    let done = act(&plane, &json!({}));
    plane.kill();
    let plane = home.start();
    assert_eq!(
        contained(&plane),
        ["cam-1:quarantined", "cam-2:quarantined"]
    );
    cam.connect(&plane.doors(), &Manner::default()).unwrap();
    assert!(!is_heard(&mut cam));
    undo(&plane, &done, false);
    assert!(is_heard(&mut cam));
    assert_eq!(contained(&plane), [""; 0]);
}

/// The copy knows nothing of the act: the log gives it back, with what it takes to undo it.
#[test]
fn a_restored_backup_learns_of_an_act_of_many_from_the_log() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let _cams = ["cam-1", "cam-2"].map(|name| live(&home, &plane, name));
    plane.stop_well();
    log::copy(&home.data_dir(), &home.path("copy"));
    let plane = home.start();
    let done = act(&plane, &json!({}));
    plane.stop_well();
    std::fs::remove_dir_all(home.data_dir()).unwrap();
    log::copy(&home.path("copy"), &home.data_dir());
    let plane = home.start();
    assert_eq!(
        contained(&plane),
        ["cam-1:quarantined", "cam-2:quarantined"]
    );
    let said = json!({ "reason": "restored the copy" });
    plane
        .send("DELETE", "/api/v1/audit/seal", &said)
        .expect(200);
    assert_eq!(undo(&plane, &done, false)["devices"], 2);
    assert_eq!(contained(&plane), [""; 0]);
}
