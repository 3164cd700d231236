//! TPM 2.0: swtpm and tpm2-tools as the second opinion, and what they gave once as fixtures.

use crate::chip::Chip;
use crate::support::*;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use identity::tpm::{
    AttestationKey, Attested, EndorsementKey, EndorsementRoots, OAEP_LABEL, Public, Quote,
    ReferenceValue, SeedExchange, Statement, TpmRefusal, credential, prove,
};
use identity::{AttestationStatus, CertificateRequest, Fact};
use model::{Assurance, Digest, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../tpm/", $name)).as_slice()
    };
}

/// What the fixtures' statements are over.
pub const SECRET: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    26, 27, 28, 29, 30, 31,
];
const RANDOM: [u8; 32] = [0x5a; 32];

/// As the plane makes it.
fn challenge(endorsement: &EndorsementKey, attestation_key: &AttestationKey) -> Vec<u8> {
    let name = attestation_key.public().name();
    let exchange = SeedExchange::new(endorsement, Zeroizing::new(RANDOM)).unwrap();
    let encrypted = match &exchange {
        SeedExchange::Ecdh { encrypted, .. } => encrypted.clone(),
        SeedExchange::Oaep { public_key, seed } => {
            let key = PublicEncryptingKey::from_der(public_key).unwrap();
            let key = OaepPublicEncryptingKey::new(key).unwrap();
            let mut out = vec![0; key.ciphertext_size()];
            key.encrypt(&OAEP_SHA256_MGF1SHA256, &**seed, &mut out, Some(OAEP_LABEL))
                .unwrap();
            out
        }
    };
    credential(exchange.seed(), &encrypted, &name, &SECRET).unwrap()
}

fn endorsement_rsa() -> EndorsementKey {
    EndorsementKey::read(fixture!("ek-rsa.pub")).unwrap()
}

fn attestation_rsa() -> AttestationKey {
    AttestationKey::read(fixture!("ak-rsa.pub")).unwrap()
}

fn attestation_ecc() -> AttestationKey {
    AttestationKey::read(fixture!("ak-ecc.pub")).unwrap()
}

fn request() -> CertificateRequest {
    CertificateRequest::parse(fixture!("csr.der")).unwrap()
}

fn tls_key() -> Public {
    Public::read(fixture!("tls.pub")).unwrap()
}

#[test]
fn a_real_tpm_gives_our_secret_back_as_it_does_that_of_tpm2_makecredential() {
    let Some(chip) = Chip::start() else { return };
    for kind in ["rsa", "ecc"] {
        chip.make_keys(kind);
        let endorsement = EndorsementKey::read(&chip.read("ek.pub")).unwrap();
        let attestation_key = AttestationKey::read(&chip.read("ak.pub")).unwrap();
        assert_eq!(
            attestation_key.public().name().as_bytes(),
            chip.read("ak.name")
        );
        let ours = challenge(&endorsement, &attestation_key);
        assert_eq!(chip.activate(&ours).unwrap(), SECRET, "{kind}");

        // The tool's own, for the same keys: of the same form, and the same secret comes out.
        chip.write("plain", &SECRET);
        chip.run(
            "tpm2_makecredential -Q -T none -u ek.pub -s plain \
             -n $(od -An -v -tx1 ak.name | tr -d ' \\n') -o theirs",
        );
        let theirs = chip.read("theirs");
        assert_eq!(theirs.len(), ours.len(), "{kind}");
        assert_eq!(theirs[..10], ours[..10], "{kind}");
        assert_eq!(chip.activate(&theirs).unwrap(), SECRET, "{kind}");
    }
}

#[test]
fn a_challenge_for_a_key_that_is_not_in_the_tpm_is_not_answered() {
    let Some(chip) = Chip::start() else { return };
    chip.make_keys("ecc");
    let endorsement = EndorsementKey::read(&chip.read("ek.pub")).unwrap();
    // The name is another chip's attestation key: this one gives nothing.
    assert_eq!(
        chip.activate(&challenge(&endorsement, &attestation_ecc())),
        None
    );
    let own = AttestationKey::read(&chip.read("ak.pub")).unwrap();
    let mut changed = challenge(&endorsement, &own);
    changed[30] ^= 1;
    assert_eq!(chip.activate(&changed), None);
    assert!(chip.activate(&challenge(&endorsement, &own)).is_some());
}

/// For machines without a TPM: this was activated by the chip that the fixtures came from.
#[test]
fn the_credential_for_known_randomness_is_the_one_that_a_tpm_opened() {
    let endorsement = EndorsementKey::read(fixture!("ek-ecc.pub")).unwrap();
    let made = challenge(&endorsement, &attestation_ecc());
    assert_eq!(made, fixture!("credential-ecc"));
    // By RSA all but the padded seed is determined.
    let made = challenge(&endorsement_rsa(), &attestation_rsa());
    let known = fixture!("credential-rsa");
    assert_eq!(made.len(), known.len());
    let object = made.len() - 256;
    assert_eq!(made[..object], known[..object]);
    assert_ne!(made[object..], known[object..]);
}

#[test]
fn a_key_that_the_tpm_made_and_holds_is_believed() {
    let statements = [
        (
            attestation_rsa(),
            fixture!("created-rsa.attest"),
            fixture!("created-rsa.sig"),
        ),
        (
            attestation_ecc(),
            fixture!("created-ecc.attest"),
            fixture!("created-ecc.sig"),
        ),
    ];
    for (attestation_key, statement, signature) in statements {
        let held = prove(
            &endorsement_rsa(),
            &attestation_key,
            &SECRET,
            statement,
            signature,
            &tls_key(),
            &request(),
        )
        .unwrap();
        assert_eq!(held.endorsement(), endorsement_rsa().digest());
        assert_eq!(held.key(), tls_key().key_digest());
        let again = AttestationKey::read(held.attestation_key()).unwrap();
        assert_eq!(again, attestation_key);
    }
}

#[test]
fn the_public_key_is_the_one_that_openssl_asks_a_certificate_for() {
    // The request was signed by the TPM through OpenSSL, which wrote its own SubjectPublicKeyInfo.
    assert_eq!(tls_key().spki(), request().public_key());
    // And the vendor's certificate holds the endorsement key as we encode it.
    let certificate = fixture!("ek-rsa-certificate.der");
    let spki = Public::read(fixture!("ek-rsa.pub"))
        .unwrap()
        .spki()
        .to_vec();
    assert!(certificate.windows(spki.len()).any(|window| window == spki));
}

#[test]
fn what_a_thief_might_send_instead_is_refused_by_name() {
    let statement = fixture!("created-rsa.attest");
    let signature = fixture!("created-rsa.sig");
    let ask = |attestation_key: &AttestationKey,
               secret: &[u8; 32],
               statement: &[u8],
               signature: &[u8],
               key: &Public| {
        prove(
            &endorsement_rsa(),
            attestation_key,
            secret,
            statement,
            signature,
            key,
            &request(),
        )
        .unwrap_err()
    };
    let (own, key) = (attestation_rsa(), tls_key());
    // An old statement, for another challenge.
    let other = [9; 32];
    assert_eq!(
        ask(&own, &other, statement, signature, &key),
        TpmRefusal::StaleChallenge
    );
    // Another chip's attestation key.
    assert_eq!(
        ask(&attestation_ecc(), &SECRET, statement, signature, &key),
        TpmRefusal::BadSignature
    );
    // A quote is signed by the same key over the same secret, and certifies nothing.
    assert_eq!(
        ask(
            &own,
            &SECRET,
            fixture!("quote-rsa.attest"),
            fixture!("quote-rsa.sig"),
            &key
        ),
        TpmRefusal::NotACertification
    );
    // A key that can be taken out, or the same key with attributes it does not have.
    let loose = Public::read(fixture!("loose.pub")).unwrap();
    assert_eq!(
        ask(&own, &SECRET, statement, signature, &loose),
        TpmRefusal::OtherKey
    );
    let mut area = fixture!("tls.pub").to_vec();
    area[9] ^= 0x40; // userWithAuth
    let dressed = Public::read(&area).unwrap();
    assert_eq!(dressed.spki(), key.spki());
    assert_eq!(
        ask(&own, &SECRET, statement, signature, &dressed),
        TpmRefusal::OtherKey
    );
    // A statement whose secret was changed to fit.
    let mut forged = statement.to_vec();
    let at = forged
        .windows(32)
        .position(|window| window == SECRET)
        .unwrap();
    forged[at..at + 32].copy_from_slice(&other);
    assert_eq!(
        ask(&own, &other, &forged, signature, &key),
        TpmRefusal::BadSignature
    );
}

#[test]
fn a_key_that_can_leave_its_tpm_is_refused_though_the_tpm_certifies_it() {
    let Some(chip) = Chip::start() else { return };
    chip.make_keys("rsa");
    let secret = SECRET
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    chip.run(&format!(
        "tpm2_createprimary -Q -C o -G ecc -c p.ctx; tpm2_flushcontext -t
         tpm2_create -Q -C p.ctx -G ecc256 -g sha256 -u k.pub -r k.priv \
           -a 'sensitivedataorigin|userwithauth|sign' -d c.digest -t c.ticket
         tpm2_flushcontext -t
         tpm2_load -Q -C p.ctx -u k.pub -r k.priv -c k.ctx; tpm2_flushcontext -t
         tpm2_readpublic -Q -c k.ctx -f der -o k.der; tpm2_flushcontext -t
         tpm2_certifycreation -Q -C ak.ctx -c k.ctx -d c.digest -t c.ticket -g sha256 \
           -q {secret} --attestation k.attest -o k.sig; tpm2_flushcontext -t"
    ));
    let key = Public::read(&chip.read("k.pub")).unwrap();
    assert_eq!(key.spki(), chip.read("k.der"));
    let statement = Statement::read(&chip.read("k.attest")).unwrap();
    assert_eq!(
        statement.attested(),
        &Attested::Created { name: key.name() }
    );
    let attestation_key = AttestationKey::read(&chip.read("ak.pub")).unwrap();
    attestation_key
        .verify(&chip.read("k.attest"), &chip.read("k.sig"))
        .unwrap();
    // `prove` asks a request of the same key; its owner signs one with a software copy.
    chip.run(
        "export TPM2OPENSSL_TCTI
         tpm2_evictcontrol -Q -C o -c k.ctx 0x81000010; tpm2_flushcontext -t",
    );
    let signed = chip.succeeds(
        "openssl req -provider tpm2 -provider default -propquery '?provider=tpm2' -new \
         -key handle:0x81000010 -subj /CN=x -outform DER -out k.csr",
    );
    if !signed {
        println!("skipped: no provider tpm2 for openssl on this machine (tpm2-openssl)");
        return;
    }
    let refusal = prove(
        &EndorsementKey::read(&chip.read("ek.pub")).unwrap(),
        &attestation_key,
        &SECRET,
        &chip.read("k.attest"),
        &chip.read("k.sig"),
        &key,
        &CertificateRequest::parse(&chip.read("k.csr")).unwrap(),
    );
    assert_eq!(refusal, Err(TpmRefusal::KeyCanLeave));
}

#[test]
fn keys_of_the_wrong_kind_are_told_apart() {
    assert_eq!(
        EndorsementKey::read(fixture!("ak-rsa.pub")),
        Err(TpmRefusal::EndorsementKind)
    );
    assert_eq!(
        EndorsementKey::read(fixture!("tls.pub")),
        Err(TpmRefusal::EndorsementKind)
    );
    for not_restricted_signing in [fixture!("ek-rsa.pub"), fixture!("tls.pub")] {
        assert_eq!(
            AttestationKey::read(not_restricted_signing),
            Err(TpmRefusal::AttestationKind)
        );
    }
}

#[test]
fn an_endorsement_certificate_leads_to_its_vendor_or_is_refused() {
    let (root, issuing) = (fixture!("vendor-root.der"), fixture!("vendor-issuing.der"));
    let certificate = fixture!("ek-rsa-certificate.der");
    let at = NOW.plus(60 * DAY);
    let endorsement = endorsement_rsa();
    let by_root = EndorsementRoots::new([root]).unwrap();
    let refused = |what| Err(TpmRefusal::EndorsementCertificate { what });
    assert_eq!(
        by_root.verify(&endorsement, certificate, &[issuing], at),
        Ok(())
    );
    let unknown = refused("no registered CA of a TPM vendor issued it");
    assert_eq!(by_root.verify(&endorsement, certificate, &[], at), unknown);
    let by_issuing = EndorsementRoots::new([issuing]).unwrap();
    assert_eq!(
        by_issuing.verify(&endorsement, certificate, &[], at),
        Ok(())
    );
    // A chip whose certificate is genuine, shown for another one's key.
    let other = EndorsementKey::read(fixture!("ek-ecc.pub")).unwrap();
    assert_eq!(
        by_issuing.verify(&other, certificate, &[], at),
        refused("it is another key's")
    );
    // An authority of ours is no TPM vendor.
    let world = World::new();
    let foreign = EndorsementRoots::new([world.root.der.as_slice()]).unwrap();
    assert_eq!(foreign.verify(&endorsement, certificate, &[], at), unknown);
    let mut damaged = certificate.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(
        by_issuing.verify(&endorsement, &damaged, &[], at),
        refused("a signature does not hold")
    );
    assert!(EndorsementRoots::new([certificate]).is_err());
    // Before its beginning nothing is believed.
    let early = Timestamp::from_seconds(1_000_000_000);
    assert!(
        by_issuing
            .verify(&endorsement, certificate, &[], early)
            .is_err()
    );
}

#[test]
fn mutated_structures_do_no_harm_and_change_every_verdict() {
    let structures = [
        fixture!("ek-rsa.pub"),
        fixture!("ek-ecc.pub"),
        fixture!("ak-rsa.pub"),
        fixture!("ak-ecc.pub"),
        fixture!("tls.pub"),
        fixture!("created-ecc.attest"),
        fixture!("certified-rsa.attest"),
        fixture!("quote-rsa.attest"),
        fixture!("created-ecc.sig"),
        fixture!("quote-rsa.sig"),
    ];
    let (own, key, request) = (attestation_ecc(), tls_key(), request());
    let statement = fixture!("created-ecc.attest");
    let signature = fixture!("created-ecc.sig");
    proptest!(ProptestConfig::with_cases(2000), |(edits in crate::hostile::edits())| {
        for structure in structures {
            let mut bytes = structure.to_vec();
            crate::hostile::mutate(&mut bytes, &edits);
            if let Ok(public) = Public::read(&bytes) {
                prop_assert_eq!(&public.to_tpm2b(), &bytes, "what is read is what came");
                prop_assert!(identity::KeyKind::of(public.spki()).is_ok());
            }
            let _ = EndorsementKey::read(&bytes).map(|key| SeedExchange::new(&key, Zeroizing::new(RANDOM)).map(drop));
            let _ = AttestationKey::read(&bytes).map(|key| key.verify(statement, signature));
            let _ = Statement::read(&bytes);
            let _ = own.verify(statement, &bytes);
        }
        let mut changed = statement.to_vec();
        crate::hostile::mutate(&mut changed, &edits);
        let proven = prove(&endorsement_rsa(), &own, &SECRET, &changed, signature, &key, &request);
        prop_assert!(changed == statement || proven.is_err(), "a changed statement was believed");
    });
}

/// The registers of a machine that never measured anything, as the fixtures' chip was.
fn untouched(registers: &[u8]) -> BTreeMap<u8, Digest> {
    let values = registers
        .iter()
        .map(|register| (*register, Digest([0; 32])));
    values.collect()
}

#[test]
fn a_quote_is_appraised_against_reference_values_of_the_same_registers() {
    let quotes = [
        (
            attestation_rsa(),
            fixture!("quote-rsa.attest"),
            fixture!("quote-rsa.sig"),
        ),
        (
            attestation_ecc(),
            fixture!("quote-ecc.attest"),
            fixture!("quote-ecc.sig"),
        ),
    ];
    let right = untouched(&[0, 1, 7, 16]);
    let mut wrong = right.clone();
    wrong.insert(7, Digest([1; 32]));
    let (more, none) = (untouched(&[0, 1, 2, 7, 16]), BTreeMap::new());
    let reference = |firmware, registers| ReferenceValue {
        firmware,
        registers,
    };
    for (attestation_key, statement, signature) in quotes {
        let quote = Quote::read(&attestation_key, &SECRET, statement, signature).unwrap();
        let affirmed = quote
            .appraise(&[
                reference("2", &wrong),
                reference("1", &right),
                reference("0", &more),
            ])
            .unwrap();
        assert_eq!(affirmed.status, AttestationStatus::Affirming);
        assert_eq!(affirmed.why, "its registers are those of firmware 1");
        let contradicted = quote.appraise(&[reference("2", &wrong)]).unwrap();
        assert_eq!(contradicted.status, AttestationStatus::Contraindicated);
        // Nobody is affirmed for what it was not asked.
        for other in [&more, &none] {
            let refused = quote.appraise(&[reference("x", other)]);
            assert_eq!(refused, Err(TpmRefusal::OtherRegisters));
        }
        assert_eq!(quote.appraise(&[]), Err(TpmRefusal::OtherRegisters));

        let read = |nonce: &[u8], signature: &[u8]| {
            Quote::read(&attestation_key, nonce, statement, signature).unwrap_err()
        };
        assert_eq!(read(&[7; 32], signature), TpmRefusal::StaleChallenge);
        let mut forged = signature.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(read(&SECRET, &forged), TpmRefusal::BadSignature);
    }
    let no_quote = Quote::read(
        &attestation_ecc(),
        &SECRET,
        fixture!("created-ecc.attest"),
        fixture!("created-ecc.sig"),
    );
    assert_eq!(no_quote, Err(TpmRefusal::NotAQuote));
}

#[test]
fn assurance_rises_by_what_is_shown_and_falls_with_time_keys_and_evidence() {
    let mut world = World::new();
    world
        .registry
        .apply(&expected("maker", "SN1", "d1"))
        .unwrap();
    let device = device_id("d1");
    let held = |key| Fact::KeyHeld {
        device: device_id("d1"),
        key,
    };
    let appraised = |status, ends_at| Fact::Appraised {
        device: device_id("d1"),
        status,
        ends_at,
        by_key: None,
    };
    let end = NOW.plus(DAY);
    let good = appraised(AttestationStatus::Affirming, end);
    let bad = appraised(AttestationStatus::Contraindicated, end);
    let key = Some(Digest([1; 32]));
    let mut steps = |fact: &Fact, now| {
        world.registry.apply(fact).unwrap();
        world.registry.assurance(&device, now)
    };
    // Evidence without a key that is held raises nothing.
    assert_eq!(steps(&good, NOW), Assurance::Identified);
    assert_eq!(steps(&held(key), NOW), Assurance::HardwareHeld);
    assert_eq!(steps(&good, NOW), Assurance::Attested);
    assert_eq!(steps(&good, end), Assurance::HardwareHeld);
    // Another key has attested nothing yet.
    assert_eq!(
        steps(&held(Some(Digest([2; 32]))), NOW),
        Assurance::HardwareHeld
    );
    // What contradicts stays, whatever the time and the key, until better evidence comes.
    assert_eq!(steps(&bad, end.plus(DAY)), Assurance::Contraindicated);
    assert_eq!(steps(&held(None), NOW), Assurance::Contraindicated);
    assert_eq!(steps(&held(key), NOW), Assurance::Contraindicated);
    assert_eq!(steps(&good, NOW), Assurance::Attested);
    assert_eq!(steps(&held(None), NOW), Assurance::Identified);
}

/// A token is the word of the certificate's key: it needs no chip, and another key takes nothing over.
#[test]
fn a_token_raises_assurance_for_its_key_and_its_time() {
    let mut world = World::new();
    world
        .registry
        .apply(&expected("maker", "SN1", "d1"))
        .unwrap();
    let device = device_id("d1");
    let (key, end) = (Digest([1; 32]), NOW.plus(DAY));
    let said = |status| Fact::Appraised {
        device: device_id("d1"),
        status,
        ends_at: end,
        by_key: Some(key),
    };
    let registry = &mut world.registry;
    registry.apply(&said(AttestationStatus::Affirming)).unwrap();
    assert_eq!(registry.assurance(&device, NOW), Assurance::Attested);
    assert_eq!(registry.assurance(&device, end), Assurance::Identified);
    assert!(!registry.gives_up_evidence(&device, &key));
    assert!(registry.gives_up_evidence(&device, &Digest([2; 32])));
    let given_up = Fact::KeyHeld {
        device: device_id("d1"),
        key: None,
    };
    registry.apply(&given_up).unwrap();
    assert_eq!(registry.assurance(&device, NOW), Assurance::Identified);
    assert!(!registry.gives_up_evidence(&device, &Digest([2; 32])));
    let bad = said(AttestationStatus::Contraindicated);
    registry.apply(&bad).unwrap();
    registry.apply(&given_up).unwrap();
    assert_eq!(registry.assurance(&device, NOW), Assurance::Contraindicated);
}

#[test]
fn what_lapses_is_told_once() {
    let mut world = World::new();
    world
        .registry
        .apply(&expected("maker", "SN1", "d1"))
        .unwrap();
    let end = NOW.plus(DAY);
    let fact = Fact::Appraised {
        device: device_id("d1"),
        status: AttestationStatus::Affirming,
        ends_at: end,
        by_key: None,
    };
    world.registry.apply(&fact).unwrap();
    let before = end.minus(std::time::Duration::from_secs(1));
    let after = end.plus(std::time::Duration::from_secs(1));
    let lapsed = |since, now| world.registry.lapsed(since, now).count();
    assert_eq!(
        [lapsed(NOW, before), lapsed(before, end), lapsed(end, after)],
        [0, 1, 0]
    );
}

#[test]
fn every_refusal_of_a_chip_is_on_its_page_with_who_must_act() {
    let pages = [
        include_str!("../../../../docs/identity/tpm.md"),
        include_str!("../../../../docs/identity/attestation.md"),
    ];
    let what = "";
    let endorsement = Digest([0; 32]);
    let all = [
        TpmRefusal::Malformed { what },
        TpmRefusal::EndorsementKind,
        TpmRefusal::AttestationKind,
        TpmRefusal::UnlistedEndorsement { endorsement },
        TpmRefusal::NoEndorsementCertificate,
        TpmRefusal::EndorsementCertificate { what },
        TpmRefusal::StaleChallenge,
        TpmRefusal::NotACertification,
        TpmRefusal::NotAQuote,
        TpmRefusal::OtherRegisters,
        TpmRefusal::NoHeldKey,
        TpmRefusal::OtherKey,
        TpmRefusal::KeyCanLeave,
        TpmRefusal::BadSignature,
    ];
    for refusal in all {
        let (code, actor) = (refusal.code(), refusal.who_must_act().name());
        let row = format!("| `{code}` | {actor} |");
        assert!(pages.iter().any(|page| page.contains(&row)), "{row}");
        assert!(
            refusal.to_string().contains(&format!("{actor}: ")),
            "{refusal}"
        );
    }
}
