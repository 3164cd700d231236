//! Somebody wants us to hurt the fleet. Each test is named after what they try.

use crate::world::{CONTAIN, World, id, outside, reported, unproven};
use model::{Attribution, DeviationKind, Severity, Source};
use response::{About, AlertSeen, Held, Mode, Settings};

/// Contains whatever shows any deviation at all.
const PLANTED: &str = r#"
[planted]
mode = "enforce"
kinds = ["silence"]
kinds_min = 1
severity_min = "low"
contain_max = 10000
steps = [{ action = "isolate" }, { action = "revoke" }]
"#;

/// As if the cap on incidents were not there: what stands behind it must hold alone.
fn many_incidents() -> Settings {
    Settings {
        proven_opened_max: Some(100_000),
        ..Settings::default()
    }
}

#[test]
fn a_stolen_observer_does_not_open_an_incident_for_each_device() {
    let kind = DeviationKind::UnexpectedDestination;
    let mut world = World::new(
        Settings {
            tell: Some(("security".into(), Severity::High)),
            ..Settings::default()
        },
        CONTAIN,
    );
    for device in 0..1000 {
        world.alert(outside(&format!("cam-{device}"), kind));
    }
    let about = About::TooMany {
        source: Source::Network,
    };
    let whose = |world: &World, about: &About| {
        let open = world.responder.incidents();
        open.filter(|one| one.about == *about).count()
    };
    assert_eq!(world.responder.incidents().count(), 21);
    assert_eq!(whose(&world, &about), 1);
    assert_eq!(world.notified.len(), 21, "the last one is told too");
    let last = world.responder.incidents().next_back().unwrap();
    let told = world.told(last.id);
    assert!(told[0].contains("a person decides"), "{told:?}");
    assert!(told.len() < 10, "{told:?}");

    // It crowds out nobody else, and a restart forgets nothing of it.
    world.restart();
    world.alert(outside("cam-998", kind));
    assert_eq!(world.responder.incidents().count(), 21);
    world.alert(AlertSeen {
        source: Source::Gateway,
        ..outside("cam-999", DeviationKind::DeniedAttempts)
    });
    let found = world.open_incident("cam-999").unwrap();
    // What waited comes along, if no restart came between; here the gateway's word stands alone.
    assert!(found.kinds().contains(&DeviationKind::DeniedAttempts));

    // The next hour has room again.
    world.pass(3601);
    world.alert(outside("cam-998", kind));
    assert!(world.open_incident("cam-998").is_some());
}

#[test]
fn what_waits_at_the_cap_counts_when_another_source_opens_the_incident() {
    let kind = DeviationKind::UnexpectedDestination;
    let mut world = World::with(CONTAIN);
    for device in 0..30 {
        world.alert(outside(&format!("cam-{device}"), kind));
    }
    assert!(world.open_incident("cam-29").is_none());
    world.alert(AlertSeen {
        source: Source::Gateway,
        ..outside("cam-29", DeviationKind::DeniedAttempts)
    });
    assert_eq!(world.open_incident("cam-29").unwrap().kinds().len(), 2);
    assert!(world.contained.contains_key(&id("cam-29")));
}

#[test]
fn a_planted_playbook_stops_at_its_cap() {
    let playbooks = CONTAIN.replace("kinds_min = 2", "kinds_min = 1");
    let mut world = World::new(many_incidents(), &playbooks);
    for device in 0..1000 {
        let device = format!("cam-{device}");
        world.alert(outside(&device, DeviationKind::UnexpectedDestination));
    }
    // 5 of a group of 100, in one hour.
    assert_eq!(world.contained.len(), 5);
    assert_eq!(world.by_playbooks().len(), 5);
    let capped = (world.held.iter())
        .filter(|(_, _, why)| *why == Held::Cap { devices_max: 5 })
        .count();
    assert_eq!(capped, 995);
    let used: Vec<usize> = (world.responder.playbook_uses(world.now))
        .map(|one| one.used_last_hour)
        .collect();
    assert_eq!(used, [5]);
}

#[test]
fn a_planted_playbook_that_names_its_own_cap_stops_at_the_cap_of_all() {
    let mut world = World::new(many_incidents(), PLANTED);
    for device in 0..1000 {
        world.alert(outside(&format!("cam-{device}"), DeviationKind::Silence));
    }
    assert_eq!(world.contained.len(), 10);
    assert_eq!(world.revoked.len(), 10);
    world.pass(3601);
    // What was held stays held: a person decides. Others come under the next hour's cap.
    assert_eq!(world.contained.len(), 10);
    for device in 0..1000 {
        world.alert(outside(&format!("lock-{device}"), DeviationKind::Silence));
    }
    assert_eq!(world.contained.len(), 20);
}

#[test]
fn many_planted_playbooks_stop_at_the_cap_of_all() {
    let many: String = (0..64)
        .map(|index| PLANTED.replace("[planted]", &format!("[planted-{index}]")))
        .collect();
    let mut world = World::new(many_incidents(), &many);
    for device in 0..300 {
        world.alert(outside(&format!("cam-{device}"), DeviationKind::Silence));
    }
    assert_eq!(world.contained.len(), 10);
}

#[test]
fn a_restart_does_not_empty_the_cap() {
    let mut world = World::new(many_incidents(), PLANTED);
    for device in 0..40 {
        world.alert(outside(&format!("cam-{device}"), DeviationKind::Silence));
        world.restart();
    }
    assert_eq!(world.contained.len(), 10);
}

#[test]
fn a_borrowed_certificate_never_contains() {
    let mut world = World::with(CONTAIN);
    for kind in DeviationKind::ALL {
        world.alert(unproven("victim", kind, Attribution::Claimed));
    }
    assert!(world.taken.is_empty());
    assert!(world.held.iter().any(|(.., why)| *why == Held::NotProven));
}

#[test]
fn a_shared_address_never_contains() {
    let mut world = World::with(CONTAIN);
    for kind in DeviationKind::ALL {
        world.alert(unproven("victim", kind, Attribution::Address));
    }
    assert!(world.taken.is_empty());
}

#[test]
fn replayed_reports_never_contain_alone() {
    let mut world = World::with(CONTAIN);
    for kind in DeviationKind::ALL {
        world.alert(reported("victim", kind));
    }
    assert!(world.taken.is_empty());
    // It is seen all the same: an incident stands open.
    assert!(world.open_incident("victim").is_some());
}

#[test]
fn claims_do_not_fill_up_what_one_proven_trifle_lacks() {
    let mut world = World::with(CONTAIN);
    world.alert(outside("victim", DeviationKind::DeniedAttempts));
    for kind in DeviationKind::ALL {
        world.alert(unproven("victim", kind, Attribution::Claimed));
        world.alert(unproven("victim", kind, Attribution::Address));
    }
    assert!(world.taken.is_empty());
}

#[test]
fn a_claim_does_not_make_a_proven_trifle_grave() {
    let mut world = World::with(CONTAIN);
    let low = |kind| AlertSeen {
        severity: Severity::Low,
        ..outside("victim", kind)
    };
    for kind in [DeviationKind::DnsSpike, DeviationKind::OutboundVolume] {
        world.alert(low(kind));
        world.alert(AlertSeen {
            severity: Severity::Critical,
            ..unproven("victim", kind, Attribution::Claimed)
        });
        world.alert(low(kind));
    }
    assert!(world.open_incident("victim").is_some());
    assert!(world.taken.is_empty());
}

#[test]
fn what_nobody_accepted_never_contains() {
    let mut world = World::with(CONTAIN);
    for kind in DeviationKind::ALL {
        world.alert(AlertSeen {
            accepted_baseline: false,
            ..outside("victim", kind)
        });
    }
    assert!(world.taken.is_empty());
}

#[test]
fn a_port_scan_of_claims_does_not_hide_the_proven_one() {
    let mut world = World::with(CONTAIN);
    world.alert(outside("cam-1", DeviationKind::DnsSpike));
    for port in 0..500 {
        world.alert(AlertSeen {
            entity: format!("tcp/{port}"),
            ..unproven(
                "cam-1",
                DeviationKind::NewListeningPort,
                Attribution::Address,
            )
        });
    }
    world.alert(AlertSeen {
        entity: "tcp/4444".into(),
        ..outside("cam-1", DeviationKind::NewListeningPort)
    });
    assert_eq!(world.by_playbooks().len(), 1);
    let incident = world.open_incident("cam-1").unwrap();
    assert!(incident.evidence.len() <= 12 * response::Incident::EVIDENCE_PER_KIND_MAX);
    assert!(world.steps[&incident.id].len() < 300);
}

#[test]
fn strangers_cannot_drown_people_in_incidents() {
    let mut world = World::with(CONTAIN);
    for device in 0..5000 {
        let alert = unproven(
            &format!("cam-{device}"),
            DeviationKind::CertificateFailures,
            Attribution::Claimed,
        );
        world.alert(alert);
    }
    assert_eq!(world.responder.incidents().count(), 5);
}

#[test]
fn a_playbook_built_without_its_reader_still_needs_outside_evidence() {
    let mut world = World::with(CONTAIN);
    let mut playbook = world.playbooks[0].clone();
    playbook.outside_min = 0;
    playbook.kinds_min = 1;
    assert_eq!(playbook.mode, Mode::Enforce);
    world.responder.playbooks(vec![playbook]);
    for kind in DeviationKind::ALL {
        world.alert(reported("victim", kind));
    }
    assert!(world.taken.is_empty());
}

#[test]
fn hostile_text_is_inert_wherever_it_goes() {
    let settings = Settings {
        tell: Some(("operators".into(), Severity::Low)),
        ..Settings::default()
    };
    let hostile = "\u{1b}]0;x\u{7}\r\nBcc: a@b.example\u{202e}<script>=cmd()".repeat(40);
    let mut world = World::new(settings, CONTAIN);
    for kind in DeviationKind::ALL {
        world.alert(AlertSeen {
            entity: hostile.clone(),
            expected: hostile.clone(),
            seen: hostile.clone(),
            observed_by: hostile.clone(),
            ..outside("cam-1", kind)
        });
    }
    let acts = |text: &str| text.contains(|c: char| c.is_control() || c == '\u{202e}');
    for step in world.steps.values().flatten() {
        let texts = [Some(&step.what), step.expected.as_ref(), step.seen.as_ref()];
        for text in texts.into_iter().flatten() {
            assert!(!acts(text) && text.len() <= 256, "{text:?}");
        }
    }
    for (_, _, subject, text) in &world.notified {
        assert!(!acts(subject), "{subject:?}");
        assert!(text.lines().all(|line| !acts(line)), "{text:?}");
    }
    assert!(!world.notified.is_empty());
    assert_eq!(
        world.open_incident("cam-1").unwrap().about.device(),
        Some(&id("cam-1"))
    );
}
