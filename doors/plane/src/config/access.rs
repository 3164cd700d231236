//! `[access]`: where the console is, who says who people are, and which acts need a second person.

use super::{Config, is_dns_name};
use crate::outward;
use crate::trouble::Trouble;
use ::access::{ActClass, Role, Roles, SecondPerson};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// `[access]`. Each rule about a second person is `when-there-is-one`, `always` or `never`.
/// `when-there-is-one` asks for a second person as soon as another one has joined who may approve:
/// with one alone it would only teach them to make themselves a second name.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// Where people reach the console, `https://host` or `https://host:port`. Passkeys are made for
    /// this host: whoever changes it later, changes all passkeys. Empty: the first of `server_names`,
    /// at the port of `listen.people`.
    pub console_url: String,
    pub provider: ProviderConfig,
    /// To apply a fleet.
    pub second_person_policy: String,
    /// To roll a CA over, to retire a root.
    pub second_person_ca: String,
    /// To revoke a whole product, or all that a CA issued.
    pub second_person_revoke_many: String,
    /// To cut off more devices at once than playbooks may in an hour (`response.contain_max`).
    pub second_person_contain_many: String,
    /// To give roles that change anything to a person or a token.
    pub second_person_rights: String,
}

/// `[access.provider]`: an OpenID provider that says who people are.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// `https://host/path`, exactly as the provider writes it in its tokens. Empty: none.
    pub issuer: String,
    /// What the button is called: `Sign in with …`.
    pub name: String,
    /// Who this plane is there; its redirect address is `access.console_url` with a slash.
    pub client_id: String,
    /// The client's secret, a file of mode 0600. Empty: a public client.
    pub client_secret_file: PathBuf,
    /// What is asked for, `openid` among it.
    pub scope: String,
    /// The claim in the ID token that lists somebody's groups.
    pub groups_claim: String,
    /// Roles by group. Who is in none of these groups does not get in.
    pub roles: BTreeMap<String, Vec<String>>,
    /// Root certificates (PEM) that the provider is checked by. Empty: this system's.
    pub roots_file: PathBuf,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            name: "single sign-on".into(),
            client_id: String::new(),
            client_secret_file: PathBuf::new(),
            scope: "openid profile".into(),
            groups_claim: "groups".into(),
            roles: BTreeMap::new(),
            roots_file: PathBuf::new(),
        }
    }
}

impl ProviderConfig {
    /// What somebody in these groups may be; of a group that is not named here, nothing.
    #[must_use]
    pub fn roles_of(&self, groups: &[String]) -> Roles {
        let named = groups.iter().filter_map(|group| self.roles.get(group));
        let roles = named.flatten().filter_map(|name| Role::from_name(name));
        Roles::of(roles.filter(|role| *role != Role::BreakGlass))
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.issuer.is_empty() {
            return Ok(());
        }
        outward::check_url(&self.issuer).map_err(|rule| ("access.provider.issuer", rule))?;
        if self.issuer.contains(['?', '#']) {
            let rule = "write it without a query";
            return Err(("access.provider.issuer", rule.into()));
        }
        if self.client_id.is_empty() {
            let rule = "write by which name this plane is registered at the provider";
            return Err(("access.provider.client_id", rule.into()));
        }
        if !self.scope.split(' ').any(|word| word == "openid") {
            let rule = "openid must be among the words";
            return Err(("access.provider.scope", rule.into()));
        }
        if self.roles.is_empty() {
            let rule = "name at least one group with its roles: nobody would get in";
            return Err(("access.provider.roles", rule.into()));
        }
        for name in self.roles.values().flatten() {
            if Role::from_name(name).is_none_or(|role| role == Role::BreakGlass) {
                let rule = format!("{name:?} is no role that somebody can have");
                return Err(("access.provider.roles", rule));
            }
        }
        Ok(())
    }
}

/// Where people reach the console, as browsers write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// Scheme, host and port, without a slash.
    pub origin: String,
    host: String,
}

impl Console {
    /// The name for which passkeys are made (Web Authentication, section 5.1.2): no address.
    ///
    /// # Errors
    /// The console is reached by an address.
    pub fn relying_party(&self) -> Result<&str, Trouble> {
        if is_dns_name(&self.host) && self.host.parse::<IpAddr>().is_err() {
            return Ok(&self.host);
        }
        Err(Trouble::refused(
            "passkeys-need-a-name",
            "a passkey is for a name, not for an address; operator: set access.console_url to the name              of the console",
        ))
    }
}

impl Config {
    #[must_use]
    pub fn console(&self) -> Console {
        if let Some((origin, host)) = split_url(&self.access.console_url) {
            return Console {
                origin: origin.to_owned(),
                host: host.to_owned(),
            };
        }
        let host = self
            .server_names
            .first()
            .map_or("localhost", String::as_str);
        let written = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let origin = match self.listen.people.port() {
            443 => format!("https://{written}"),
            port => format!("https://{written}:{port}"),
        };
        Console {
            origin,
            host: host.to_owned(),
        }
    }
}

/// The origin, and its host.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let origin = url.strip_suffix('/').unwrap_or(url);
    let rest = origin.strip_prefix("https://")?;
    let (host, port) = rest.split_once(':').unwrap_or((rest, "8443"));
    let is_port = port
        .parse::<u16>()
        .is_ok_and(|number| number.to_string() == port);
    // Browsers leave 443 out.
    (is_dns_name(host) && is_port && !rest.ends_with(":443")).then_some((origin, host))
}

pub const PROVIDER_KEYS: [&str; 7] = [
    "issuer",
    "name",
    "client_id",
    "client_secret_file",
    "scope",
    "groups_claim",
    "roots_file",
];

pub const KEYS: [&str; 6] = [
    "console_url",
    "second_person_policy",
    "second_person_ca",
    "second_person_revoke_many",
    "second_person_contain_many",
    "second_person_rights",
];

impl Default for AccessConfig {
    fn default() -> Self {
        let rule = || SecondPerson::default().name().to_owned();
        Self {
            console_url: String::new(),
            provider: ProviderConfig::default(),
            second_person_policy: rule(),
            second_person_ca: rule(),
            second_person_revoke_many: rule(),
            second_person_contain_many: rule(),
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
            ActClass::ContainMany => &self.second_person_contain_many,
            ActClass::Rights => &self.second_person_rights,
            // How many are many is the fleet's to say.
            ActClass::CommandMany | ActClass::BreakGlass => return SecondPerson::Always,
        };
        // Checked before a port opened.
        SecondPerson::from_name(name).unwrap_or(SecondPerson::Always)
    }

    pub(super) fn live(&self, key: &str) -> String {
        if key == "console_url" {
            return format!("{:?}", self.console_url);
        }
        self.rules()
            .into_iter()
            .find(|(its, _)| its.ends_with(key))
            .map_or_else(String::new, |(_, rule)| format!("{rule:?}"))
    }

    pub(super) fn live_provider(&self, key: &str) -> String {
        let provider = &self.provider;
        match key {
            "issuer" => format!("{:?}", provider.issuer),
            "name" => format!("{:?}", provider.name),
            "client_id" => format!("{:?}", provider.client_id),
            "client_secret_file" => format!("{:?}", provider.client_secret_file),
            "scope" => format!("{:?}", provider.scope),
            "groups_claim" => format!("{:?}", provider.groups_claim),
            "roots_file" => format!("{:?}", provider.roots_file),
            _ => String::new(),
        }
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if !self.console_url.is_empty() && split_url(&self.console_url).is_none() {
            let rule = "write https://host or https://host:port, in small letters, without :443";
            return Err(("access.console_url", rule.into()));
        }
        self.provider.check()?;
        for (key, rule) in self.rules() {
            if SecondPerson::from_name(rule).is_none() {
                let names = SecondPerson::ALL.map(SecondPerson::name).join(", ");
                return Err((key, format!("write one of {names}")));
            }
        }
        Ok(())
    }

    fn rules(&self) -> [(&'static str, &str); 5] {
        [
            ("access.second_person_policy", &self.second_person_policy),
            ("access.second_person_ca", &self.second_person_ca),
            (
                "access.second_person_revoke_many",
                &self.second_person_revoke_many,
            ),
            (
                "access.second_person_contain_many",
                &self.second_person_contain_many,
            ),
            ("access.second_person_rights", &self.second_person_rights),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Console {
        Config::from_text(text, &|_| None).unwrap().console()
    }

    #[test]
    fn the_console_is_where_the_configuration_says_as_browsers_write_it() {
        for (text, origin, passkeys) in [
            ("", "https://localhost:8443", true),
            (
                "server_names = [\"fleet.example.com\"]",
                "https://fleet.example.com:8443",
                true,
            ),
            (
                "[listen]\npeople = \"0.0.0.0:443\"",
                "https://localhost",
                true,
            ),
            (
                "server_names = [\"10.0.0.1\"]",
                "https://10.0.0.1:8443",
                false,
            ),
            ("server_names = [\"::1\"]", "https://[::1]:8443", false),
            (
                "[access]\nconsole_url = \"https://c.example/\"",
                "https://c.example",
                true,
            ),
            (
                "[access]\nconsole_url = \"https://c.example:8\"",
                "https://c.example:8",
                true,
            ),
        ] {
            let console = console(text);
            assert_eq!(console.origin, origin);
            assert_eq!(console.relying_party().is_ok(), passkeys, "{text}");
        }
    }

    #[test]
    fn a_group_that_is_not_named_gives_no_role() {
        let provider = ProviderConfig {
            roles: BTreeMap::from([
                ("ops".into(), vec!["operator".into(), "viewer".into()]),
                ("glass".into(), vec!["break-glass".into()]),
            ]),
            ..ProviderConfig::default()
        };
        let of = |groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|one| (*one).to_owned()).collect();
            provider.roles_of(&groups).to_string()
        };
        assert_eq!(of(&["ops", "operator", "tenant-admin"]), "viewer operator");
        for none in [&["Ops"][..], &["viewer"], &["glass"], &[""], &[]] {
            assert_eq!(of(none), "", "{none:?}");
        }
    }
}
