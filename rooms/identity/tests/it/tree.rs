//! CAs of some uses, requests to a root elsewhere, roots that take each other's place.

use crate::openssl::{is_here, read, run};
use crate::support::*;
use identity::profile::{
    self, AuthorityRefusal, AuthorityRequest, Issuer, NameLimits, ProfileError,
};
use identity::{Anchors, CertificateRequest, Door, IssuingCa, OwnCas, Refusal, est};
use model::{AuthorityId, CertificateUse, CertificateUses, Timestamp};
use std::path::Path;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn put(dir: &Path, name: &str, der: &[&[u8]]) {
    std::fs::write(dir.join(name), est::pem(der)).unwrap();
}

fn at(years: u32) -> String {
    format!("-attime {}", NOW.plus(YEAR * years).plus(DAY).as_seconds())
}

fn name(text: &str) -> AuthorityId {
    text.parse().unwrap()
}

/// A CA of some uses below the world's root.
fn below(world: &World, authority: &str, limits: &NameLimits) -> Ca {
    let key = Key::new();
    let terms = key.terms(NOW, YEAR * 5);
    let unsigned = profile::issuing_of(
        &realm(),
        &name(authority),
        limits,
        &world.root.issuer(),
        &terms,
    );
    let der = world.root.finish(unsigned.unwrap());
    Ca { der, key }
}

fn trust_domain() -> NameLimits {
    NameLimits::TrustDomain(realm().trust_domain().to_owned())
}

#[test]
fn a_certificate_of_a_use_that_its_ca_is_not_for_names_nobody() {
    let world = World::new();
    let cameras = below(&world, "cameras", &trust_domain());
    let own = |uses| OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![IssuingCa {
            certificate: cameras.der.clone(),
            uses,
            imported: false,
        }],
    };
    let key = Key::new();
    let leaf = cameras.ldevid("d1", &key, NOW, 30 * DAY);
    let enter = |uses| {
        let anchors = Anchors::new(realm(), &own(uses), Vec::new()).unwrap();
        let path = anchors.verify_path(Door::Gateway, &leaf, &[], NOW)?;
        anchors.presented(&path, &leaf)
    };
    assert!(enter(CertificateUses::only(CertificateUse::Device)).is_ok());
    let other = enter(CertificateUses::only(CertificateUse::Service));
    assert!(matches!(other, Err(Refusal::NamesNobody)), "{other:?}");
}

#[test]
fn openssl_holds_each_ca_to_its_names() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let world = World::new();
    put(dir, "root.pem", &[&world.root.der]);
    let names = ["localhost", "10.1.2.3", "2001:db8::7"].map(str::to_owned);
    let doors = below(&world, "doors", &NameLimits::Servers(names.to_vec()));
    let cameras = below(&world, "cameras", &trust_domain());
    let key = Key::new();
    let terms = key.terms(NOW, 30 * DAY);
    let operator = "ann".parse().unwrap();
    let server = |names: &[&str], issuer: &Issuer| profile::server(&realm(), names, issuer, &terms);
    let verify = |ca: &Ca, leaf: &[u8], purpose: &str| {
        put(dir, "ca.pem", &[&ca.der]);
        put(dir, "leaf.pem", &[leaf]);
        let arguments = format!(
            "verify -x509_strict -purpose {purpose} {} -CAfile root.pem -untrusted ca.pem leaf.pem",
            at(0)
        );
        let ran = run(dir, &arguments);
        let told = [ran.stdout, ran.stderr].concat();
        (
            ran.status.success(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    };
    let below_doors = server(&["a.localhost", "10.1.2.3", "2001:db8::7"], &doors.issuer());
    let (good, told) = verify(&doors, &doors.finish(below_doors.unwrap()), "sslserver");
    assert!(good, "{told}");
    let device = cameras.ldevid("d1", &key, NOW, 30 * DAY);
    let (good, told) = verify(&cameras, &device, "sslclient");
    assert!(good, "{told}");
    let person = profile::operator(&realm(), &operator, None, &cameras.issuer(), &terms).unwrap();
    let person = cameras.finish(person);
    let (good, told) = verify(&cameras, &person, "sslclient");
    assert!(good, "{told}");
    let text = read(
        dir,
        "x509 -in leaf.pem -noout -ext subjectAltName,extendedKeyUsage",
    );
    assert!(
        text.contains("/operator/ann") && text.contains("Client Auth"),
        "{text}"
    );

    // Our own lint does not let pass what the CA may not say. An issuer of the same name and key
    // that had no limits would: openssl sees what stands in the certificate.
    let narrow = NameLimits::TrustDomain("other.example".to_owned());
    let narrow = below(&world, "cameras", &narrow);
    let wide = profile::issuing_of(
        &realm(),
        &name("cameras"),
        &NameLimits::Unlimited,
        &world.root.issuer(),
        &narrow.key.terms(NOW, YEAR),
    );
    let wide = Issuer::from_certificate(&world.root.finish(wide.unwrap())).unwrap();
    let outside = profile::ldevid(&realm(), &device_id("d1"), None, &wide, &terms).unwrap();
    let (good, told) = verify(&narrow, &narrow.finish(outside), "sslclient");
    assert!(
        !good && told.contains("permitted subtree violation"),
        "{told}"
    );
    for outside in [
        server(&["evil.example"], &doors.issuer()),
        server(&["10.1.2.4"], &doors.issuer()),
        server(&["xlocalhost"], &doors.issuer()),
        server(&["localhost"], &cameras.issuer()),
        profile::ldevid(&realm(), &device_id("d1"), None, &doors.issuer(), &terms),
    ] {
        assert!(
            matches!(outside, Err(ProfileError::Lint { .. })),
            "{outside:?}"
        );
    }
}

#[test]
fn times_from_2050_on_are_generalized_and_none_before() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let key = Key::new();
    let root = profile::root(&realm(), &key.terms(NOW, YEAR * 25)).unwrap();
    let signature = key.sign(root.to_be_signed());
    put(dir, "root.pem", &[&root.assemble(&signature).unwrap()]);
    let times = |file: &str| -> Vec<String> {
        let text = read(dir, &format!("asn1parse -in {file}"));
        let is_time = |line: &&str| line.contains("UTCTIME") || line.contains("GENERALIZEDTIME");
        text.lines().filter(is_time).map(str::to_owned).collect()
    };
    let found = times("root.pem");
    assert!(
        found[0].contains("UTCTIME           :261031235000Z"),
        "{found:?}"
    );
    assert!(found[1].contains("GENERALIZEDTIME   :2051"), "{found:?}");
    let factory = Ca::factory("maker");
    put(
        dir,
        "idevid.pem",
        &[&factory.idevid("maker", "SN1", &Key::new())],
    );
    let found = times("idevid.pem");
    assert!(
        found[1].contains("GENERALIZEDTIME   :99991231235959Z"),
        "{found:?}"
    );
}

#[test]
fn a_request_is_carried_to_a_root_and_its_answer_is_looked_at() {
    let world = World::new();
    let key = Key::new();
    let public = key.terms(NOW, DAY).public_key;
    let limits = trust_domain();
    let unsigned = AuthorityRequest::build(&realm(), &name("cameras"), &limits, public).unwrap();
    let signature = key.sign(unsigned.to_be_signed());
    let request = unsigned.assemble(&signature).unwrap();
    let read = AuthorityRequest::read(&request).unwrap();
    assert_eq!(
        (&read.authority, &read.limits, read.public_key.as_slice()),
        (&name("cameras"), &limits, public)
    );
    // It is a PKCS #10 request like any other.
    CertificateRequest::parse(&request).unwrap();
    for at in 0..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 1;
        assert!(AuthorityRequest::read(&changed).is_err(), "byte {at}");
    }

    let check = |der: &[u8], root: &[u8], limits: &NameLimits, now: Timestamp| {
        profile::check_issuing(&realm(), der, root, &name("cameras"), limits, public, now)
    };
    let terms = key.terms(NOW, YEAR * 5);
    let answer = |limits| {
        let made = profile::issuing_of(
            &realm(),
            &name("cameras"),
            limits,
            &world.root.issuer(),
            &terms,
        );
        world.root.finish(made.unwrap())
    };
    let good = answer(&limits);
    assert_eq!(check(&good, &world.root.der, &limits, NOW), Ok(()));
    let foreign = World::new();
    assert_eq!(
        check(&good, &foreign.root.der, &limits, NOW),
        Err(AuthorityRefusal::ForeignRoot)
    );
    let wider = answer(&NameLimits::Unlimited);
    assert!(check(&wider, &world.root.der, &limits, NOW).is_err());
    let other = answer(&NameLimits::TrustDomain("evil.example".into()));
    assert_eq!(
        check(&other, &world.root.der, &limits, NOW),
        Err(AuthorityRefusal::OtherLimits)
    );
    let late = NOW.plus(YEAR * 6);
    let ended = check(&good, &world.root.der, &limits, late);
    assert!(matches!(ended, Err(AuthorityRefusal::Ended { .. })));
    let another = below(&world, "cameras", &limits);
    assert_eq!(
        check(&another.der, &world.root.der, &limits, NOW),
        Err(AuthorityRefusal::OtherKey)
    );
    // The issuing CA of every use, which World has, is another CA.
    assert!(check(&world.issuing.der, &world.root.der, &limits, NOW).is_err());
}

#[test]
fn whoever_trusts_one_root_validates_the_other_s_tree_by_the_link() {
    let (old, new) = (World::new(), World::new());
    let link = |of: &Ca, by: &Ca| {
        let unsigned = profile::link(&of.der, &by.issuer(), &of.key.terms(NOW, DAY)).unwrap();
        by.finish(unsigned)
    };
    let new_with_old = link(&new.root, &old.root);
    let old_with_new = link(&old.root, &new.root);
    let check = profile::check_link;
    assert_eq!(
        check(&new_with_old, &new.root.der, &old.root.der, NOW),
        Ok(())
    );
    assert_eq!(
        check(&old_with_new, &old.root.der, &new.root.der, NOW),
        Ok(())
    );
    // A root that nobody linked, a link the wrong way round, an issuing CA in a root's place.
    let stranger = World::new();
    assert_eq!(
        check(&new_with_old, &new.root.der, &stranger.root.der, NOW),
        Err(AuthorityRefusal::ForeignRoot)
    );
    assert!(check(&new_with_old, &stranger.root.der, &old.root.der, NOW).is_err());
    assert!(check(&old.issuing.der, &new.root.der, &old.root.der, NOW).is_err());
    assert!(check(&new.root.der, &new.root.der, &old.root.der, NOW).is_err());
    assert!(profile::check_root(&new_with_old, NOW).is_err());
    assert_eq!(profile::check_root(&new.root.der, NOW), Ok(()));
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    put(dir, "old.pem", &[&old.root.der]);
    put(dir, "new.pem", &[&new.root.der]);
    let key = Key::new();
    for (pinned, tree, link) in [
        ("old.pem", &new, &new_with_old),
        ("new.pem", &old, &old_with_new),
    ] {
        put(
            dir,
            "leaf.pem",
            &[&tree.issuing.ldevid("d1", &key, NOW, 30 * DAY)],
        );
        put(dir, "with-link.pem", &[&tree.issuing.der, link]);
        put(dir, "without.pem", &[&tree.issuing.der]);
        let verify = |untrusted: &str| {
            let arguments = format!(
                "verify -x509_strict {} -CAfile {pinned} -untrusted {untrusted} leaf.pem",
                at(0)
            );
            run(dir, &arguments).status.success()
        };
        assert!(verify("with-link.pem"), "{pinned}");
        assert!(!verify("without.pem"), "{pinned}");
    }
}

#[test]
fn a_ca_that_came_with_its_key_speaks_for_our_names_and_its_fleet_for_what_it_made_before() {
    let world = World::new();
    let elsewhere = Ca::factory("works");
    let own = |imported| OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![IssuingCa {
            certificate: elsewhere.der.clone(),
            uses: CertificateUses::only(CertificateUse::Device),
            imported,
        }],
    };
    let fleet = || identity::ImportedFleet {
        fleet: manufacturer("legacy"),
        cas: vec![elsewhere.der.clone()],
        naming: "serial-number".parse().unwrap(),
        expired_until: None,
    };
    let key = Key::new();
    let before = elsewhere.idevid("whoever", "SN9", &key);
    let ours = elsewhere.ldevid("d1", &key, NOW, 30 * DAY);
    let anchors = Anchors::new(realm(), &own(true), Vec::new()).unwrap();
    let present = |anchors: &Anchors, leaf: &[u8]| {
        let path = anchors.verify_path(Door::Gateway, leaf, &[], NOW)?;
        anchors.presented(&path, leaf)
    };
    // Nobody answers for what it made before, until its fleet is imported.
    let stranger = present(&anchors, &before).unwrap_err();
    assert_eq!(stranger.code(), "unknown-issuer");
    let anchors = anchors.with_imported(vec![fleet()]).unwrap();
    let named = present(&anchors, &before).unwrap();
    assert_eq!(named.to_string(), "imported legacy SN9");
    // Whoever has another copy of its key can write our names, and is on no record.
    let named = present(&anchors, &ours).unwrap();
    assert_eq!(named.to_string(), "device/d1");
    let refused = world.registry.authenticate(Door::Gateway, named, NOW);
    assert_eq!(refused.unwrap_err().code(), "certificate-unrecorded");
    // A CA that was born here is nobody else's, and neither is a fleet's a manufacturer's.
    let born_here = Anchors::new(realm(), &own(false), Vec::new()).unwrap();
    assert!(born_here.with_imported(vec![fleet()]).is_err());
    let maker = vec![(manufacturer("maker"), elsewhere.der.clone())];
    assert!(Anchors::new(realm(), &own(true), maker).is_err());
}
