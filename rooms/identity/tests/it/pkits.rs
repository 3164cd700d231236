//! NIST PKITS against our path verifier: three hundred odd chains of one CA, of which some hundred
//! are here. What a case expects stands in its file's name.

use crate::support::*;
use crate::vectors;
use der::Decode;
use identity::{Anchors, Door, IssuingCa, OwnCas};
use model::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use x509_cert::Certificate;

/// 2024-01-01T00:00:00Z: all chains of the suite are within their time, but for those about time.
const NOW: Timestamp = Timestamp::from_seconds(1_704_067_200);

const DIRECTORY_NAMES: &str =
    "name constraints on directory names are not read: what they bind is refused";
const MAIL_NAMES: &str =
    "name constraints on mail addresses are not read: what they bind is refused";
const POLICIES: &str =
    "a critical extension about policies is not read: refused, as policies grant nothing here";
const A_CA: &str = "its last certificate is a CA's, and no device is one";
const EXACT_NAMES: &str = "names are compared byte by byte";
const SELF_ISSUED: &str = "a CA's certificate for itself counts towards pathLenConstraint";

/// Valid, and refused.
const REFUSED: &[(&str, &str)] = &[
    ("DifferentPoliciesTest7EE", A_CA),
    ("DifferentPoliciesTest8EE", A_CA),
    ("OverlappingPoliciesTest6EE", A_CA),
    ("ValidDNnameConstraintsTest18EE", DIRECTORY_NAMES),
    ("ValidDNnameConstraintsTest19EE", DIRECTORY_NAMES),
    ("ValidDNnameConstraintsTest1EE", DIRECTORY_NAMES),
    ("ValidDNnameConstraintsTest4EE", DIRECTORY_NAMES),
    ("ValidDNnameConstraintsTest5EE", DIRECTORY_NAMES),
    ("ValidDNnameConstraintsTest6EE", DIRECTORY_NAMES),
    ("ValidDSAParameterInheritanceTest5EE", "DSA is not taken"),
    ("ValidNameChainingCapitalizationTest5EE", EXACT_NAMES),
    ("ValidNameChainingWhitespaceTest3EE", EXACT_NAMES),
    (
        "ValidNameUIDsTest6EE",
        "unique identifiers (version 2) are not taken",
    ),
    ("ValidPolicyMappingTest12EE", POLICIES),
    ("ValidPolicyMappingTest14EE", POLICIES),
    ("ValidPolicyMappingTest1EE", POLICIES),
    ("ValidPolicyMappingTest3EE", POLICIES),
    ("ValidPolicyMappingTest5EE", POLICIES),
    ("ValidRFC822nameConstraintsTest23EE", MAIL_NAMES),
    ("ValidRFC822nameConstraintsTest25EE", MAIL_NAMES),
    (
        "ValidRolloverfromPrintableStringtoUTF8StringTest10EE",
        EXACT_NAMES,
    ),
    ("ValidSelfIssuedinhibitAnyPolicyTest9EE", POLICIES),
    ("ValidSelfIssuedpathLenConstraintTest15EE", SELF_ISSUED),
    ("ValidSelfIssuedpathLenConstraintTest17EE", SELF_ISSUED),
    ("ValidSelfIssuedrequireExplicitPolicyTest6EE", POLICIES),
    ("ValidinhibitPolicyMappingTest2EE", POLICIES),
    ("ValidonlyContainsCACertsTest13EE", A_CA),
    (
        "Validpre2000UTCnotBeforeDateTest3EE",
        "it begins before 1970",
    ),
    ("ValidrequireExplicitPolicyTest1EE", POLICIES),
    ("ValidrequireExplicitPolicyTest2EE", POLICIES),
    ("ValidrequireExplicitPolicyTest4EE", POLICIES),
    ("inhibitAnyPolicyTest3EE", POLICIES),
];

/// Invalid only by what a revocation list of the suite says, or fails to say. No list of a factory
/// is asked: what is revoked here stands in the registry, and a factory identity opens nothing but
/// enrollment, for serial numbers that are expected.
const BY_REVOCATION_LISTS: &[&str] = &[
    "InvalidBasicSelfIssuedCRLSigningKeyTest7EE",
    "InvalidBasicSelfIssuedNewWithOldTest5EE",
    "InvalidBasicSelfIssuedOldWithNewTest2EE",
    "InvalidIDPwithindirectCRLTest26EE",
    "InvalidMissingCRLTest1EE",
    "InvalidNegativeSerialNumberTest15EE",
    "InvalidRevokedCATest2EE",
    "InvalidRevokedEETest3EE",
    "InvalidSeparateCertificateandCRLKeysTest20EE",
    "InvalidUnknownCRLExtensionTest10EE",
    "InvalidcRLIssuerTest34EE",
    "InvalidcRLIssuerTest35EE",
    "InvaliddeltaCRLTest4EE",
    "InvaliddistributionPointTest3EE",
    "InvaliddistributionPointTest6EE",
    "InvaliddistributionPointTest8EE",
    "InvaliddistributionPointTest9EE",
    "InvalidkeyUsageCriticalcRLSignFalseTest4EE",
    "InvalidonlyContainsAttributeCertsTest14EE",
    "InvalidonlyContainsCACertsTest12EE",
    "InvalidonlySomeReasonsTest17EE",
    "InvalidonlySomeReasonsTest21EE",
    "Invalidpre2000CRLnextUpdateTest12EE",
];

struct Foreign {
    der: Vec<u8>,
    subject: String,
    issuer: String,
}

fn read(path: &Path) -> Foreign {
    let der = std::fs::read(path).unwrap();
    let Ok(certificate) = Certificate::from_der(&der) else {
        // One of the suite that is not read here; its issuer is the CA of most.
        return Foreign {
            der,
            subject: String::new(),
            issuer: "cn=good ca,o=test certificates 2011,c=us".to_owned(),
        };
    };
    let name = |name: &x509_cert::name::Name| {
        let text = name.to_string().to_lowercase();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    Foreign {
        subject: name(certificate.tbs_certificate().subject()),
        issuer: name(certificate.tbs_certificate().issuer()),
        der,
    }
}

/// All CA certificates between an end-entity certificate and the anchor, by name; names are held
/// against each other as RFC 5280 section 7.1 says, so that only our verifier is strict.
fn chain<'a>(leaf: &Foreign, pool: &'a BTreeMap<String, Foreign>) -> Vec<&'a [u8]> {
    let mut found: Vec<&Foreign> = Vec::new();
    let mut wanted = vec![leaf.issuer.as_str()];
    while let Some(name) = wanted.pop() {
        for ca in pool.values().filter(|ca| ca.subject == name) {
            if !found.iter().any(|known| known.der == ca.der) {
                found.push(ca);
                wanted.push(&ca.issuer);
            }
        }
    }
    found.iter().map(|ca| ca.der.as_slice()).collect()
}

#[test]
fn pkits_chains_are_judged_as_they_should_be() {
    let Some(folder) = vectors::folder() else {
        return;
    };
    let (mut leaves, mut pool, mut anchor) = (BTreeMap::new(), BTreeMap::new(), None);
    for entry in std::fs::read_dir(folder.join("x509/pkits/certs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let foreign = read(&path);
        if name == "TrustAnchorRootCertificate" {
            anchor = Some(foreign);
        } else if name.contains("Test") && name.ends_with("EE") {
            leaves.insert(name, foreign);
        } else {
            pool.insert(name, foreign);
        }
    }
    let world = World::new();
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![IssuingCa::of_every_use(world.issuing.der.clone())],
    };
    let anchor = anchor.unwrap();
    let anchors = Anchors::new(realm(), &own, vec![(manufacturer("nist"), anchor.der)]).unwrap();
    let (mut right, mut refused, mut accepted) = (0, Vec::new(), Vec::new());
    for (name, leaf) in &leaves {
        let chain = chain(leaf, &pool);
        let outcome = anchors.verify_path(Door::Devices, &leaf.der, &chain, NOW);
        match (outcome.is_ok(), !name.starts_with("Invalid")) {
            (true, false) => accepted.push(name.clone()),
            (false, true) => refused.push(name.clone()),
            _ => right += 1,
        }
    }
    println!("PKITS: {right} right of {}", leaves.len());
    vectors::are_listed("valid and refused", &refused, REFUSED);
    let by_lists: Vec<_> = BY_REVOCATION_LISTS.iter().map(|name| (*name, "")).collect();
    vectors::are_listed("invalid and accepted", &accepted, &by_lists);
}
