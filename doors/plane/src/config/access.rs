//! `[access]`: which acts need a second person.

use ::access::{ActClass, SecondPerson};
use serde::Deserialize;

/// `[access]`: each `when-there-is-one`, `always` or `never`. `when-there-is-one` asks for a second
/// person as soon as another one has joined who may approve: with one alone it would only teach them
/// to make themselves a second name.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// To apply a fleet.
    pub second_person_policy: String,
    /// To roll a CA over, to retire a root.
    pub second_person_ca: String,
    /// To revoke a whole product, or all that a CA issued.
    pub second_person_revoke_many: String,
    /// To give roles that change anything to a person or a token.
    pub second_person_rights: String,
}

pub const KEYS: [&str; 4] = [
    "second_person_policy",
    "second_person_ca",
    "second_person_revoke_many",
    "second_person_rights",
];

impl Default for AccessConfig {
    fn default() -> Self {
        let rule = || SecondPerson::default().name().to_owned();
        Self {
            second_person_policy: rule(),
            second_person_ca: rule(),
            second_person_revoke_many: rule(),
            second_person_rights: rule(),
        }
    }
}

impl AccessConfig {
    #[must_use]
    pub fn second_person(&self, class: ActClass) -> SecondPerson {
        let name = match class {
            ActClass::Policy => &self.second_person_policy,
            ActClass::Ca => &self.second_person_ca,
            ActClass::RevokeMany => &self.second_person_revoke_many,
            ActClass::Rights => &self.second_person_rights,
            // How many are many is the fleet's to say.
            ActClass::CommandMany | ActClass::BreakGlass => return SecondPerson::Always,
        };
        // Checked before a port opened.
        SecondPerson::from_name(name).unwrap_or(SecondPerson::Always)
    }

    pub(super) fn live(&self, key: &str) -> String {
        self.rules()
            .into_iter()
            .find(|(its, _)| its.ends_with(key))
            .map_or_else(String::new, |(_, rule)| format!("{rule:?}"))
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, rule) in self.rules() {
            if SecondPerson::from_name(rule).is_none() {
                let names = SecondPerson::ALL.map(SecondPerson::name).join(", ");
                return Err((key, format!("write one of {names}")));
            }
        }
        Ok(())
    }

    fn rules(&self) -> [(&'static str, &str); 4] {
        [
            ("access.second_person_policy", &self.second_person_policy),
            ("access.second_person_ca", &self.second_person_ca),
            (
                "access.second_person_revoke_many",
                &self.second_person_revoke_many,
            ),
            ("access.second_person_rights", &self.second_person_rights),
        ]
    }
}
