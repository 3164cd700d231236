//! Imported policies decide as they did where they came from: Mosquitto's beside a real broker, AWS IoT's
//! beside an evaluator of a few lines, written after the documentation of AWS.

mod aws;
mod mosquitto;

use access::{Facts, Fleet, Grants, ImportNames, Imported};

fn names() -> ImportNames {
    ImportNames {
        fleet: "imported".into(),
        product: "device".into(),
    }
}

/// The grants of what was imported, with these devices.
fn grants(imported: &Imported, devices: &[Facts]) -> Grants {
    let fleet = Fleet::read(&imported.files).unwrap();
    let compiled = Grants::compile(&fleet, devices.iter().cloned());
    compiled.unwrap_or_else(|wrong| panic!("{}", crate::lines(&wrong)))
}

/// Whether one may publish to a topic, and whether one may hear it.
fn decisions(grants: &Grants, facts: &Facts, topic: &str) -> (bool, bool) {
    let subject = grants.subject(facts);
    let hears = (grants.resolve(topic)).is_some_and(|message| grants.receive(&subject, &message));
    (grants.publish(&subject, topic).is_ok(), hears)
}
