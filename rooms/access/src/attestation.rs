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

pub(crate) const REFERENCE_VALUES_MAX: usize = 64;
const VERSION_BYTES_MAX: usize = 64;
const REGISTERS: u8 = 24;
pub(crate) const RESULT_LIFETIME_HOURS: u32 = 24;
pub(crate) const RESULT_LIFETIME_HOURS_MAX: u32 = 24 * 90;

/// The appraisal policy of a product (RFC 9334 section 8.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// An attestation result counts no longer.
    pub result_lifetime: Duration,
    /// Any of them will do: during a rollout two versions are right.
    pub reference_values: Vec<ReferenceValue>,
    /// The same for devices that attest by a token.
    pub token_reference_values: Vec<TokenReferenceValue>,
}

/// What the token (RFC 9711) of a device says that is as it should be; what is left out is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenReferenceValue {
    /// The version of the firmware that it is of.
    pub firmware: String,
    pub oemid: Option<Vec<u8>>,
    pub hwmodel: Option<Vec<u8>>,
    pub swname: Option<String>,
    pub swversion: Option<String>,
    pub oemboot: Option<bool>,
    /// At least this, by the standard's name; one of [`DEBUG_STATUS`].
    pub dbgstat_min: Option<String>,
    /// Parts of the device, with the version of their software.
    pub submods: BTreeMap<String, String>,
}

/// How far debugging is shut, as RFC 9711 names it.
pub const DEBUG_STATUS: [&str; 5] = [
    "enabled",
    "disabled",
    "disabled-since-boot",
    "disabled-permanently",
    "disabled-fully-and-permanently",
];

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
    reference_values: Option<Spanned<Vec<ReferenceTable>>>,
    token_reference_values: Option<Spanned<Vec<TokenReferenceTable>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenReferenceTable {
    firmware: Spanned<String>,
    /// Hex.
    oemid: Option<Spanned<String>>,
    /// Hex.
    hwmodel: Option<Spanned<String>>,
    swname: Option<Spanned<String>>,
    swversion: Option<Spanned<String>>,
    oemboot: Option<bool>,
    dbgstat_min: Option<Spanned<String>>,
    #[serde(default)]
    submods: BTreeMap<Spanned<String>, Spanned<String>>,
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
        let counts = [
            (self.reference_values.as_ref()).map(|values| (values.get_ref().len(), values.span())),
            (self.token_reference_values.as_ref())
                .map(|values| (values.get_ref().len(), values.span())),
        ];
        for (count, span) in counts.iter().flatten().cloned() {
            if !(1..=REFERENCE_VALUES_MAX).contains(&count) {
                refuse(
                    span,
                    format!(
                        "a product has 1 to {REFERENCE_VALUES_MAX} reference values, not {count}"
                    ),
                    "keep those of the versions that devices may run now",
                );
            }
        }
        if counts.iter().all(Option::is_none) {
            refuse(
                0..0,
                "a product's attestation has no reference values".to_owned(),
                "write reference_values for TPMs, or token_reference_values for tokens",
            );
        }
        let mut reference_values = Vec::new();
        let tables = self.reference_values.iter().flat_map(Spanned::get_ref);
        for table in tables.take(REFERENCE_VALUES_MAX) {
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
        let tables = self
            .token_reference_values
            .iter()
            .flat_map(Spanned::get_ref);
        let token_reference_values = (tables.take(REFERENCE_VALUES_MAX))
            .map(|table| table.read(&mut refuse))
            .collect();
        Attestation {
            result_lifetime: Duration::from_secs(u64::from(hours) * 3600),
            reference_values,
            token_reference_values,
        }
    }
}

impl TokenReferenceTable {
    fn read(
        &self,
        refuse: &mut dyn FnMut(std::ops::Range<usize>, String, &str),
    ) -> TokenReferenceValue {
        let text = |value: &Spanned<String>, refuse: &mut dyn FnMut(_, String, &str)| {
            let said = value.get_ref();
            let is_printable = said.bytes().all(|byte| (0x20..0x7f).contains(&byte));
            if said.is_empty() || said.len() > VERSION_BYTES_MAX || !is_printable {
                let help = "use 1 to 64 printable ASCII characters";
                refuse(
                    value.span(),
                    format!("{said:?} is no name or version"),
                    help,
                );
            }
            said.clone()
        };
        let bytes = |value: &Spanned<String>, refuse: &mut dyn FnMut(_, String, &str)| {
            let read = hex(value.get_ref());
            if read.is_none() {
                let help = "write 1 to 64 bytes as hexadecimal digits";
                refuse(
                    value.span(),
                    format!("{:?} is no hex", value.get_ref()),
                    help,
                );
            }
            read.unwrap_or_default()
        };
        let asks = self.oemid.is_some()
            || self.hwmodel.is_some()
            || self.swname.is_some()
            || self.swversion.is_some()
            || self.oemboot.is_some()
            || self.dbgstat_min.is_some()
            || !self.submods.is_empty();
        if !asks {
            refuse(
                self.firmware.span(),
                "a reference value without claims is met by everything".to_owned(),
                "write hwmodel, swversion, oemboot, dbgstat_min or the like",
            );
        }
        if self.submods.len() > 8 {
            let help = "a token tells of 8 parts at most";
            refuse(self.firmware.span(), "too many parts".to_owned(), help);
        }
        if let Some(status) = &self.dbgstat_min
            && !DEBUG_STATUS.contains(&status.get_ref().as_str())
        {
            let what = format!("{:?} is no debug status", status.get_ref());
            refuse(
                status.span(),
                what,
                &format!("use one of {}", DEBUG_STATUS.join(", ")),
            );
        }
        TokenReferenceValue {
            firmware: text(&self.firmware, refuse),
            oemid: self.oemid.as_ref().map(|value| bytes(value, refuse)),
            hwmodel: self.hwmodel.as_ref().map(|value| bytes(value, refuse)),
            swname: self.swname.as_ref().map(|value| text(value, refuse)),
            swversion: self.swversion.as_ref().map(|value| text(value, refuse)),
            oemboot: self.oemboot,
            dbgstat_min: self
                .dbgstat_min
                .as_ref()
                .map(|status| status.get_ref().clone()),
            submods: (self.submods.iter())
                .map(|(name, version)| (text(name, refuse), text(version, refuse)))
                .collect(),
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || text.is_empty() || text.len() > 128 || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
