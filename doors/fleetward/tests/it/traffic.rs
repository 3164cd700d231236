//! What devices really sent, held against a fleet before it is applied; and the map of who may and did.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings, wait_until};
use serde_json::{Value, json};
use sim::device::{Device, Manner};

fn files(change: impl Fn(&str, &str) -> String) -> Value {
    let files: Vec<Value> = (fleet().iter())
        .map(|(path, text)| json!({ "path": path, "text": change(path, text) }))
        .collect();
    json!({ "files": files })
}

fn planned(plane: &Plane, files: &Value) -> Value {
    plane.post("/api/v1/access/plan", files).expect(200).json()
}

fn say(plane: &Plane, device: &mut Device, count: usize) {
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let topic = format!("v1/sensor/{}/telemetry/x", device.id());
    for _ in 0..count {
        device.session().unwrap().publish(&topic, b"12345").unwrap();
    }
}

/// Shards hand on what they counted once a second.
fn wait_counted(plane: &Plane, files: &Value, sent: u64) -> Value {
    let mut last = Value::Null;
    wait_until("the counts of the shards", || {
        last = planned(plane, files)["traffic"].clone();
        last["sent"]["messages"] == sent
    });
    last
}

#[test]
fn a_plan_says_which_recorded_messages_it_would_refuse_also_after_a_restart() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let quiet = files(|path, text| match path {
        "fleet.toml" => format!("{text}[groups.quiet]\n"),
        "policies/p.cedar" => format!(
            "{text}@id(\"nobody-sends\")\nforbid (principal is Device, action == \
             Action::\"publish\", resource == Channel::\"telemetry\") unless {{ principal in \
             Group::\"quiet\" }};\n"
        ),
        _ => text.to_owned(),
    });
    assert_eq!(planned(&plane, &quiet)["traffic"]["days"], 0);

    let mut devices = [home.device("cam-1"), home.device("cam-2")];
    plane.expect(&devices);
    for device in &mut devices {
        device.enroll(&plane.doors(), &Manner::default()).unwrap();
    }
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();
    say(&plane, &mut devices[0], 3);
    say(&plane, &mut devices[1], 2);

    let same = files(|_, text| text.to_owned());
    let traffic = wait_counted(&plane, &same, 5);
    assert_eq!(
        (&traffic["sent"]["refused"], &traffic["days"]),
        (&json!(0), &json!(1))
    );
    let traffic = wait_counted(&plane, &quiet, 5);
    assert_eq!(traffic["sent"]["refused"], 5);
    assert_eq!(traffic["sent"]["devices"], 2);
    let line = &traffic["lines"][0];
    assert_eq!(
        (
            &line["kind"],
            &line["action"],
            &line["reason"],
            &line["policy"]
        ),
        (
            &json!("product sensor"),
            &json!("publish"),
            &json!("forbidden"),
            &json!("nobody-sends")
        )
    );
    assert_eq!(line["topics"], "v1/sensor/{device}/telemetry/{rest...}");
    assert_eq!(line["examples"], json!(["cam-1", "cam-2"]));
    // What is heard passes: ingest is asked nothing new.
    assert_eq!(traffic["heard"]["refused"], 0);

    // The plan that was shown is applied although messages go on meanwhile.
    let mut apply = quiet.clone();
    let shown = planned(&plane, &quiet)["plan"].clone();
    say(&plane, &mut devices[0], 2);
    wait_counted(&plane, &quiet, 7);
    apply["plan"] = shown.clone();
    plane
        .send("PUT", "/api/v1/access/fleet", &apply)
        .expect(200);
    // And not once more: the world moved by it.
    let mut again = same.clone();
    again["plan"] = shown;
    let refused = plane
        .send("PUT", "/api/v1/access/fleet", &again)
        .expect(409);
    assert!(refused.text().contains("plan-moved"));

    let map = plane.get("/api/v1/access/segments").expect(200).json();
    let row = |name: &str| {
        let rows = map["segments"].as_array().unwrap().iter();
        let mut found = rows.filter(|row| row["kinds"][0] == name);
        found
            .next()
            .unwrap_or_else(|| panic!("{name} is not in {map}"))
    };
    assert_eq!(map["channels"][1]["id"], "telemetry");
    let ingest_row = row("service ingest");
    assert_eq!(ingest_row["channels"][0]["channel"], 1);
    assert_eq!(ingest_row["channels"][0]["receive"]["others"], true);
    assert!(ingest_row["channels"][0]["receive"]["messages"].as_u64() >= Some(5));
    let devices_row = row("product sensor");
    assert_eq!(devices_row["members"], 2);
    let telemetry = devices_row["channels"].as_array().unwrap().iter();
    assert_eq!(
        telemetry.filter(|cell| cell["channel"] == 1).count(),
        0,
        "it is forbidden now"
    );

    // Counts outlive the plane.
    plane.stop_well();
    let plane = home.start();
    let traffic = planned(&plane, &quiet)["traffic"].clone();
    assert_eq!(traffic["sent"]["messages"], 7);
}
