//! The inventory as a list for a spreadsheet.

use crate::date;
use crate::device::DeviceView;
use crate::table::write_line;
use model::GroupId;

/// The columns, in order. [`crate::List::read`] takes those that a person may write and
/// leaves the others alone, so that an edited export can be taken back.
pub(crate) const COLUMNS: [&str; 16] = [
    "device",
    "product",
    "groups",
    "manufacturer",
    "serial",
    "country",
    "support_until",
    "lifecycle",
    "note",
    "posture",
    "posture_cause",
    "containment",
    "connected",
    "last_seen",
    "firmware",
    "addresses",
];

/// The first line of an export.
#[must_use]
pub fn export_header() -> String {
    let mut out = String::new();
    write_line(&mut out, COLUMNS);
    out
}

/// Adds a line for each device: CSV (RFC 4180, CR LF, UTF-8). No cell begins a formula and none
/// holds a character that acts.
pub fn export(out: &mut String, devices: &[DeviceView]) {
    for view in devices {
        let addresses: Vec<String> = view
            .addresses
            .iter()
            .map(|one| one.address.to_string())
            .collect();
        write_line(
            out,
            [
                view.device.as_str(),
                view.product.as_ref().map_or("", |id| id.as_str()),
                &join(&view.groups),
                view.manufacturer.as_ref().map_or("", |id| id.as_str()),
                view.serial.as_ref().map_or("", |id| id.as_str()),
                view.country.as_deref().unwrap_or(""),
                &view.support_until.map_or_else(String::new, date::day_text),
                view.lifecycle.name(),
                view.note.as_deref().unwrap_or(""),
                view.posture.name(),
                &view.posture_cause,
                view.containment.map_or("", model::Containment::name),
                if view.connected { "yes" } else { "no" },
                &view.last_seen.map_or_else(String::new, |at| at.to_string()),
                view.firmware.as_ref().map_or("", |one| &one.version),
                &addresses.join(";"),
            ],
        );
    }
}

pub(crate) fn join(groups: &[GroupId]) -> String {
    let names: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    names.join(";")
}
