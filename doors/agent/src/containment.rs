//! How far the plane has cut this device off: its word read, and kept in the state folder, so that a
//! restart with nobody to ask forgets nothing.

use crate::folder::Folder;
use model::Containment;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;

const FILE: &str = "containment.json";
const DOORS_MAX: usize = 16;

/// What the state folder says. No file: free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    pub containment: Option<Containment>,
    /// Where the plane was last reached: behind a fence nobody could be asked.
    pub doors: Vec<SocketAddr>,
}

impl Kept {
    /// A file that cannot be read means isolated: it is there because the device was cut off.
    pub fn read(folder: &Folder) -> Self {
        let isolated = Self {
            containment: Some(Containment::Isolated),
            doors: Vec::new(),
        };
        let Ok(kept) = folder.read(FILE) else {
            return isolated;
        };
        let Some(bytes) = kept else {
            return Self::default();
        };
        let Some(containment) = said(&bytes) else {
            return isolated;
        };
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let doors = value.get("doors").and_then(Value::as_array);
        let doors = (doors.into_iter().flatten())
            .filter_map(|door| door.as_str()?.parse().ok())
            .take(DOORS_MAX)
            .collect();
        Self { containment, doors }
    }

    /// # Errors
    /// If it cannot be written; what stood before then stands.
    pub fn write(&self, folder: &Folder) -> io::Result<()> {
        let Some(containment) = self.containment else {
            return folder.remove(FILE);
        };
        let kept = json!({ "containment": containment.name(), "doors": self.doors });
        folder.write(FILE, kept.to_string().as_bytes())
    }
}

/// `{"containment": "quarantined" | "isolated" | null, ..}`: what else is said is for later
/// versions. `None`: it cannot be read.
pub fn said(payload: &[u8]) -> Option<Option<Containment>> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    match value.as_object()?.get("containment")? {
        Value::Null => Some(None),
        Value::String(name) if name == "free" || name == "none" => Some(None),
        Value::String(name) => Containment::from_name(name).map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plane_says_about_containment() {
        let said = |text: &str| said(text.as_bytes());
        assert_eq!(said(r#"{"containment":null}"#), Some(None));
        assert_eq!(
            said(r#"{"containment":"quarantined","incident":"INC-1"}"#),
            Some(Some(Containment::Quarantined))
        );
        for text in [
            "",
            "null",
            "{}",
            "[]",
            r#"{"containment":1}"#,
            r#"{"containment":"x"}"#,
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    #[test]
    fn a_power_cut_leaves_it_as_it_was_or_as_it_was_meant() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        let cut_off = |containment| Kept {
            containment: Some(containment),
            doors: vec!["[2001:db8::1]:8883".parse().unwrap()],
        };
        let [quarantined, isolated] = Containment::ALL.map(cut_off);
        let free = Kept::default();
        for (before, after) in [
            (&free, &isolated),
            (&quarantined, &isolated),
            (&isolated, &quarantined),
            (&isolated, &free),
        ] {
            for steps in 0..3 {
                let folder = Folder::open(&path).unwrap();
                before.write(&folder).unwrap();
                folder.power.set(Some(steps));
                let expected = match after.write(&folder) {
                    Ok(()) => after,
                    Err(_) => before,
                };
                drop(folder);
                assert_eq!(&Kept::read(&Folder::open(&path).unwrap()), expected);
            }
        }
    }

    #[test]
    fn a_file_that_says_nothing_does_not_set_the_device_free() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        for text in ["", "{", r#"{"containment":"loose"}"#] {
            folder.write(FILE, text.as_bytes()).unwrap();
            let kept = Kept::read(&folder).containment;
            assert_eq!(kept, Some(Containment::Isolated), "{text:?}");
        }
    }
}
