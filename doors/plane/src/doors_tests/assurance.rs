//! What a device may do by its assurance it may do no longer when that falls, on the session that it
//! has.

use super::*;
use identity::AttestationStatus;
use model::{Digest, Timestamp};

#[tokio::test(flavor = "multi_thread")]
async fn a_live_session_loses_what_needs_assurance_when_its_assurance_falls() {
    let house = House::with(&["cam-1"]).await;
    let files = [
        ("fleet.toml", "name = \"test\"\n"),
        ("products/p.toml", "[camera]\n"),
        (
            "channels/c.toml",
            "[up]\ntopic = \"v1/{device}/up\"\ndirection = \"from-device\"\n\
             payload_bytes_max = 100\n",
        ),
        (
            "policies/p.cedar",
            "@id(\"attested\") permit (principal is Device, action, resource)\n\
             when { resource.owner == principal && principal.assurance == \"attested\" };\n",
        ),
    ]
    .map(|(path, text)| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    flow::apply(&house.plane, files.into(), None, &Actor::Plane)
        .await
        .unwrap();
    let mut camera = house.connected("cam-1").await;
    let device = id("cam-1");
    let held = |key| Fact::KeyHeld {
        device: id("cam-1"),
        key,
    };
    let appraised = |status, ends_at| Fact::Appraised {
        device: id("cam-1"),
        status,
        ends_at,
        by_key: None,
    };
    let later = sim::now().plus(PATIENCE * 60);
    let over = Timestamp::from_seconds(1);
    let key = Some(Digest([1; 32]));
    let good = AttestationStatus::Affirming;
    let steps = [
        (held(key), false),
        (appraised(good, later), true),
        (appraised(AttestationStatus::Contraindicated, later), false),
        (appraised(good, later), true),
        (appraised(good, over), false),
        (appraised(good, later), true),
        (held(None), false),
    ];
    for (fact, permitted) in steps {
        house.plane.lower(&device, &fact).await.unwrap();
        let published;
        (camera, published) = blocking(move || {
            let session = camera.session().unwrap();
            let published = session.publish("v1/cam-1/up", b"x").is_ok();
            (camera, published)
        })
        .await;
        assert_eq!(published, permitted, "{fact:?}");
    }
    drop(camera);
    house.end().await;
}
