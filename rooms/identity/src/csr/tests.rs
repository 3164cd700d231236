//! Project Wycheproof's vectors against the check that a request is signed by its own key. They
//! lie beside this workspace; a checkout of the product alone has none.

use super::*;
use der::asn1::Null;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn vectors(name: &str) -> Option<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/wycheproof")
        .join(format!("{name}.json.zst"));
    if !file.exists() {
        println!("skipped: no Wycheproof vectors beside this workspace");
        return None;
    }
    let Ok(output) = Command::new("zstd").arg("-dc").arg(&file).output() else {
        println!("skipped: zstd is not installed");
        return None;
    };
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap().as_bytes();
    hex.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// `r || s` of IEEE P1363 as a request has it: a SEQUENCE of two INTEGERs.
fn ecdsa_sig_value(p1363: &[u8]) -> Option<Vec<u8>> {
    if p1363.len() != 64 {
        return None;
    }
    let integer = |half: &[u8]| {
        let start = half.iter().position(|byte| *byte != 0).unwrap_or(31);
        let mut value = half[start..].to_vec();
        if value[0] & 0x80 != 0 {
            value.insert(0, 0);
        }
        [&[2, u8::try_from(value.len()).unwrap()], value.as_slice()].concat()
    };
    let both = [integer(&p1363[..32]), integer(&p1363[32..])].concat();
    Some([&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat())
}

/// Holds each vector; what a request cannot express (a signature of another length) or may not hold
/// (a small exponent) is left out.
fn hold(name: &str, oid: ObjectIdentifier, has_null: bool, sig: fn(&[u8]) -> Option<Vec<u8>>) {
    let Some(all) = vectors(name) else {
        return;
    };
    let (mut held, mut left_out) = (0, 0);
    for group in all["testGroups"].as_array().unwrap() {
        let key = bytes(&group["publicKeyDer"]);
        for test in group["tests"].as_array().unwrap() {
            let (id, message) = (&test["tcId"], bytes(&test["msg"]));
            let Some(signature) = sig(&bytes(&test["sig"])) else {
                assert_eq!(test["result"], "invalid", "{name} {id}");
                left_out += 1;
                continue;
            };
            let outer = Outer {
                info: &message,
                algorithm: AlgorithmIdentifierRef {
                    oid,
                    parameters: has_null.then(|| Null.into()),
                },
                signature: &signature,
            };
            let kind = match KeyKind::of(&key) {
                Ok(kind) => kind,
                // A key that we certify for nobody.
                Err(refusal) => {
                    assert_eq!(refusal, CsrRefusal::RsaExponent, "{name} {id}");
                    left_out += 1;
                    continue;
                }
            };
            let outcome = verify(kind, &outer, &key);
            let expected = test["result"].as_str().unwrap();
            assert!(
                expected == "acceptable" || outcome.is_ok() == (expected == "valid"),
                "{name} {id} ({}): {expected} and {outcome:?}",
                test["comment"]
            );
            held += 1;
        }
    }
    println!("{name}: {held} vectors held, {left_out} left out");
    assert!(held > 100);
}

#[test]
fn wycheproof_ecdsa() {
    let name = "ecdsa_secp256r1_sha256_p1363";
    hold(name, rfc5912::ECDSA_WITH_SHA_256, false, ecdsa_sig_value);
}

#[test]
fn wycheproof_ed25519() {
    let as_it_is = |sig: &[u8]| Some(sig.to_vec());
    hold("ed25519", rfc8410::ID_ED_25519, false, as_it_is);
}

#[test]
fn wycheproof_rsa() {
    let as_it_is = |sig: &[u8]| Some(sig.to_vec());
    let oid = rfc5912::SHA_256_WITH_RSA_ENCRYPTION;
    hold("rsa_signature_2048_sha256", oid, true, as_it_is);
}
