//! A report of a Device Defender agent, in JSON and in CBOR: refused in words that can be printed, or
//! whole and within its bounds.

#![no_main]

use detection::device_defender::{Form, LIST_MAX, accepted, rejected};
use detection::DefenderReport;
use libfuzzer_sys::fuzz_target;
use model::{DeviceId, Timestamp};

fuzz_target!(|input: (bool, &[u8])| {
    let form = if input.0 { Form::Cbor } else { Form::Json };
    let at = Timestamp::from_seconds(1_800_000_000);
    match DefenderReport::read(form, input.1) {
        Ok(report) => {
            let device = DeviceId::new("d").unwrap();
            let minute = std::time::Duration::from_secs(60);
            let observations = report.observations(&device, Some(minute), at);
            assert!(observations.len() <= 3 * LIST_MAX + 1);
            assert!(!accepted(form, "d", report.report_id, at).is_empty());
        }
        Err(refusal) => {
            let text = refusal.to_string();
            assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
            assert!(!rejected(form, "d", &refusal, at).is_empty());
        }
    }
});
