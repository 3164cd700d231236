//! A device's report of itself as a hijacked one may send it: refused, or whole and harmless.

#![no_main]

use detection::{Detector, Report, Settings};
use libfuzzer_sys::fuzz_target;
use model::{DeviceId, ProductId, Timestamp};

fuzz_target!(|data: &[u8]| {
    let Ok(report) = Report::read(data) else { return };
    // One at the limit may be longer when written out in full.
    if let Ok(written) = report.write() {
        assert_eq!(Report::read(&written).unwrap(), report);
    }

    let device = DeviceId::new("d").unwrap();
    let mut detector = Detector::new(Settings::default());
    detector.enroll(&device, &ProductId::new("p").unwrap());
    let mut said = Vec::new();
    for observation in report.observations(&device, Timestamp::from_seconds(1_800_000_000)) {
        detector.observe(&observation, &mut said);
    }
    for one in said {
        let text = [one.entity, one.expected, one.seen, one.observed_by].concat();
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    }
});
