//! What the tests hand in: a fleet, a certificate request.

use sim::credential::Key;
use std::collections::BTreeMap;

/// The fleet of these tests: sensors that send telemetry and hear commands, a service for each
/// side, rates that no test reaches.
pub fn fleet() -> Vec<(&'static str, String)> {
    let channels = "\
        [telemetry]\ntopic = \"v1/sensor/{device}/telemetry/{rest...}\"\n\
        direction = \"from-device\"\npayload_bytes_max = 131072\nrate_per_minute = 1000000\n\
        [command]\ntopic = \"v1/sensor/{device}/command/{any}\"\n\
        direction = \"to-device\"\npayload_bytes_max = 131072\nrate_per_minute = 1000000\n";
    let policies = "\
        @id(\"device-sends-own\")\n\
        permit (principal is Device, action == Action::\"publish\", resource)\n\
        when { resource.owner == principal && resource.direction == \"from-device\" };\n\
        @id(\"device-hears-own\")\n\
        permit (principal is Device, action == Action::\"receive\", resource)\n\
        when { resource.owner == principal && resource.direction == \"to-device\" };\n\
        @id(\"ingest-receives-all\")\n\
        permit (principal == Service::\"ingest\", action == Action::\"receive\", resource)\n\
        when { resource.direction == \"from-device\" };\n\
        @id(\"commander-sends\")\n\
        permit (principal == Service::\"commander\", action == Action::\"publish\", resource)\n\
        when { resource.direction == \"to-device\" };\n";
    let services = "[ingest]\ndescription = \"takes\"\n[commander]\ndescription = \"tells\"\n";
    BTreeMap::from([
        ("fleet.toml", "name = \"test\"\n"),
        ("products/p.toml", "[sensor]\ndescription = \"measures\"\n"),
        ("services/s.toml", services),
        ("channels/c.toml", channels),
        ("policies/p.cedar", policies),
    ])
    .into_iter()
    .map(|(path, text)| (path, text.to_owned()))
    .collect()
}

/// The first certificate of a PEM text.
pub fn der_of(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let text: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

/// A PKCS #10 request without a name: the plane takes only its key.
pub fn request(key: &Key) -> Vec<u8> {
    const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let sequence = |parts: &[&[u8]]| {
        let content = parts.concat();
        // All of it is far below 65,536 bytes.
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head: &[u8] = match content.len() {
            0..=0x7f => &[0x30, length[1]],
            0x80..=0xff => &[0x30, 0x81, length[1]],
            _ => &[0x30, 0x82, length[0], length[1]],
        };
        [head, content.as_slice()].concat()
    };
    let version = [2, 1, 0];
    let (no_name, no_attributes) = ([0x30, 0], [0xa0, 0]);
    let public_key = key.public_key_info().unwrap();
    let body = sequence(&[&version, &no_name, &public_key, &no_attributes]);
    let signature = key.sign(&body).unwrap();
    let bits = [
        &[3, u8::try_from(signature.len() + 1).unwrap(), 0],
        signature.as_slice(),
    ]
    .concat();
    sequence(&[&body, &ECDSA_WITH_SHA256, &bits])
}
