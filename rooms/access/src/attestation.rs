//! What a product's devices must attest: reference values per version of firmware, and for how long
//! a result counts.

use crate::behaviour::digest;
use crate::declared::in_range;
use crate::diagnostic::{Diagnostic, Place, SourceFile};
use model::Digest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;

const REFERENCE_VALUES_MAX: usize = 64;
const VERSION_BYTES_MAX: usize = 64;
const REGISTERS: u8 = 24;
const RESULT_LIFETIME_HOURS: u32 = 24;
const RESULT_LIFETIME_HOURS_MAX: u32 = 24 * 90;

/// The appraisal policy of a product (RFC 9334 section 8.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// An attestation result counts no longer.
    pub result_lifetime: Duration,
    /// Any of them will do: during a rollout two versions are right.
    pub reference_values: Vec<ReferenceValue>,
}

/// What the registers of a device hold that started as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceValue {
    /// The version of the firmware that it is of.
    pub firmware: String,
    /// Platform configuration registers of the SHA-256 bank, by number.
    pub registers: BTreeMap<u8, Digest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttestationTable {
    result_lifetime_hours: Option<Spanned<u32>>,
    reference_values: Spanned<Vec<ReferenceTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceTable {
    firmware: Spanned<String>,
    pcrs: BTreeMap<Spanned<String>, Spanned<String>>,
}

impl AttestationTable {
    pub(crate) fn read(&self, file: &SourceFile, wrong: &mut Vec<Diagnostic>) -> Attestation {
        let hours = match &self.result_lifetime_hours {
            Some(hours) => in_range(hours, RESULT_LIFETIME_HOURS_MAX, file, wrong),
            None => RESULT_LIFETIME_HOURS,
        };
        let mut refuse = |span, message: String, help: &str| {
            let place = Place::in_file(file, span);
            wrong.push(Diagnostic::new(place, message, help.to_owned()));
        };
        let count = self.reference_values.get_ref().len();
        if !(1..=REFERENCE_VALUES_MAX).contains(&count) {
            refuse(
                self.reference_values.span(),
                format!("a product has 1 to {REFERENCE_VALUES_MAX} reference values, not {count}"),
                "keep those of the versions that devices may run now",
            );
        }
        let mut reference_values = Vec::new();
        for table in self
            .reference_values
            .get_ref()
            .iter()
            .take(REFERENCE_VALUES_MAX)
        {
            let firmware = table.firmware.get_ref();
            let is_printable = firmware.bytes().all(|byte| (0x21..0x7f).contains(&byte));
            if firmware.is_empty() || firmware.len() > VERSION_BYTES_MAX || !is_printable {
                refuse(
                    table.firmware.span(),
                    format!("{firmware:?} is no version"),
                    "use 1 to 64 printable ASCII characters, no space",
                );
            }
            if table.pcrs.is_empty() {
                refuse(
                    table.firmware.span(),
                    "a reference value without registers is met by everything".to_owned(),
                    "write pcrs = { \"0\" = \"...\" } with what tpm2_pcrread shows of a good device",
                );
            }
            let mut registers = BTreeMap::new();
            for (number, value) in &table.pcrs {
                let register = (number.get_ref().parse::<u8>().ok())
                    .filter(|it| *it < REGISTERS && it.to_string() == *number.get_ref());
                match (register, digest(value.get_ref())) {
                    (Some(register), Some(digest)) => {
                        registers.insert(register, digest);
                    }
                    (None, _) => refuse(
                        number.span(),
                        format!("{:?} is no register", number.get_ref()),
                        "use 0 to 23",
                    ),
                    (_, None) => refuse(
                        value.span(),
                        "this is no SHA-256".to_owned(),
                        "write the 64 hexadecimal digits that tpm2_pcrread sha256 shows, without 0x",
                    ),
                }
            }
            reference_values.push(ReferenceValue {
                firmware: firmware.clone(),
                registers,
            });
        }
        Attestation {
            result_lifetime: Duration::from_secs(u64::from(hours) * 3600),
            reference_values,
        }
    }
}
