//! A schema and a payload as somebody may send them: read or refused, held or broken, always in
//! bounded time and never beyond the budget that was known when the schema was read.

#![no_main]

use access::{Fleet, PayloadScratch, SourceFile};
use libfuzzer_sys::fuzz_target;

const CHANNELS: &str = r#"
[json]
topic = "json"
direction = "from-device"
payload_bytes_max = 65536
schema = "schemas/s.json"
[cbor]
topic = "cbor"
direction = "from-device"
payload_bytes_max = 65536
schema = "schemas/s.json"
encoding = "cbor"
"#;

fuzz_target!(|input: (String, Vec<Vec<u8>>)| {
    let (schema, payloads) = input;
    let file = |path: &str, text: &str| SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let files = [
        file("fleet.toml", "name = \"fuzz\""),
        file("channels/c.toml", CHANNELS),
        file("schemas/s.json", &schema),
    ];
    let fleet = match Fleet::read(&files) {
        Ok(fleet) => fleet,
        Err(wrong) => {
            assert!(!wrong.is_empty());
            return;
        }
    };
    let mut scratch = PayloadScratch::default();
    for channel in fleet.channels() {
        let Some(contract) = &channel.contract else {
            continue;
        };
        for payload in &payloads {
            if let Err(violation) = contract.check(payload, &mut scratch) {
                assert_ne!(violation.rule, "budget", "{violation}");
                assert!(violation.field.chars().count() <= 1001);
            }
        }
    }
});
