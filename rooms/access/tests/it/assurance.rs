//! `principal.assurance`: what a policy can make of how far a device is shown to be what it says.

use crate::{compile, device, filter, lines, sources};
use access::{Facts, Fleet, Grants, SourceFile};
use model::Assurance;

fn files(policies: &str) -> Vec<SourceFile> {
    let channels = "[up]\ntopic = \"up/{device}\"\ndirection = \"from-device\"\n\
        payload_bytes_max = 10\n[down]\ntopic = \"down/{device}\"\ndirection = \"to-device\"\n\
        payload_bytes_max = 10\n";
    sources([
        ("fleet.toml", "name = \"x\""),
        ("products/p.toml", "[camera]\n[lock]"),
        ("channels/c.toml", channels),
        ("policies/p.cedar", policies),
    ])
}

const POLICIES: &str = "\
    @id(\"own\") permit (principal is Device, action, resource)\n\
      when { resource.owner == principal };\n\
    @id(\"attested-only\") forbid (principal is Device in Product::\"lock\", \
      action == Action::\"receive\", resource == Channel::\"down\")\n\
      unless { principal.assurance == \"attested\" };\n\
    @id(\"caught\") forbid (principal is Device, action, resource)\n\
      when { \"contraindicated\" == principal.assurance };\n";

fn at(product: &str, assurance: Assurance) -> Facts {
    Facts {
        assurance,
        ..device("d", product, &[])
    }
}

#[test]
fn a_policy_tells_devices_apart_by_their_assurance() {
    let grants = compile(
        &files(POLICIES),
        &[device("d", "camera", &[]), device("d", "lock", &[])],
    );
    let may = |product: &str, assurance| {
        let subject = grants.subject(&at(product, assurance));
        let hears = grants.subscribe(&subject, &filter("down/d")).is_ok();
        (grants.publish(&subject, "up/d").is_ok(), hears)
    };
    for assurance in [Assurance::Identified, Assurance::HardwareHeld] {
        assert_eq!(may("camera", assurance), (true, true), "{assurance:?}");
        assert_eq!(may("lock", assurance), (true, false), "{assurance:?}");
    }
    assert_eq!(may("lock", Assurance::Attested), (true, true));
    for product in ["camera", "lock"] {
        assert_eq!(may(product, Assurance::Contraindicated), (false, false));
    }
    // Every level is compiled beforehand: one that falls is never in no class, nor needs a compile.
    assert_eq!(grants.class_count(), 8);
}

#[test]
fn who_does_not_ask_pays_nothing() {
    let own = "@id(\"own\") permit (principal is Device, action, resource)\n\
               when { resource.owner == principal };";
    let grants = compile(
        &files(own),
        &[device("d", "camera", &[]), device("d", "lock", &[])],
    );
    assert_eq!(grants.class_count(), 1);
    for assurance in Assurance::ALL {
        let subject = grants.subject(&at("camera", assurance));
        assert!(grants.publish(&subject, "up/d").is_ok());
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let wrong = |condition: &str, scope: &str| {
        let policy =
            format!("@id(\"x\") permit ({scope}, action, resource) when {{ {condition} }};");
        let wrong = Fleet::read(&files(&policy)).err().unwrap_or_default();
        lines(&wrong)
    };
    let device = "principal is Device";
    let told = wrong("principal.assurance == \"trusted\"", device);
    assert!(told.contains("there is no assurance \"trusted\""), "{told}");
    assert!(told.contains("\"hardware-held\""), "{told}");
    // A service has none.
    assert_ne!(
        wrong("principal.assurance == \"attested\"", "principal"),
        ""
    );
    assert_ne!(
        wrong("principal.assurance == principal.assurance", device),
        ""
    );
    assert_ne!(wrong("principal has assurance", device), "");
    assert_ne!(wrong("principal.assurance like \"att*\"", device), "");
    assert_eq!(wrong("!(principal.assurance != \"attested\")", device), "");
}

#[test]
fn reference_values_are_read_or_refused_with_their_place() {
    let digest = "ab".repeat(32);
    let read = |attestation: &str| {
        let mut files = files("");
        files[1].text = format!("[camera]\n[camera.attestation]\n{attestation}\n");
        Fleet::read(&files)
    };
    let good = format!(
        "result_lifetime_hours = 2\n\
         reference_values = [{{ firmware = \"3.1.0\", pcrs = {{ \"7\" = \"{digest}\", \"0\" = \"{digest}\" }} }}]"
    );
    let fleet = read(&good).unwrap_or_else(|wrong| panic!("{}", lines(&wrong)));
    let camera = fleet.product(&"camera".parse().unwrap()).unwrap();
    let attestation = camera.attestation.as_ref().unwrap();
    assert_eq!(attestation.result_lifetime.as_secs(), 7200);
    let [reference] = attestation.reference_values.as_slice() else {
        panic!("{attestation:?}")
    };
    let registers: Vec<u8> = reference.registers.keys().copied().collect();
    assert_eq!(
        (reference.firmware.as_str(), registers),
        ("3.1.0", vec![0, 7])
    );
    for (from, to) in [
        ("\"7\"", "\"24\""),
        ("\"7\"", "\"07\""),
        ("abab", "abax"),
        ("3.1.0", "3 1"),
        ("= 2", "= 0"),
        ("[{", "[ #"),
    ] {
        assert!(read(&good.replace(from, to)).is_err(), "{to}");
    }
    assert!(read("reference_values = []").is_err());
    assert!(read("reference_values = [{ firmware = \"1\", pcrs = {} }]").is_err());
    assert!(Grants::compile(&fleet, []).is_ok());
}
