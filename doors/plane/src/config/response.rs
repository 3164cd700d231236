//! `[response]`: what playbooks may do at most, and who is told.

use crate::outward;
use crate::respond::notify;
use serde::Deserialize;
use std::path::PathBuf;

/// `[response]`: what playbooks may do at most, and who is told.
///
/// A receiver sees what an incident's timeline says. Addresses may be secrets themselves: they
/// are never logged, and `config explain` shows their host only.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseConfig {
    /// Devices an hour that all playbooks together may cut off, 1 to 100,000. 0 means 10, or
    /// 0.1 % of the fleet where that is more. Above it a person decides.
    pub contain_max: u64,
    /// Incidents at least so bad are told to every receiver when they open: `low`, `medium`,
    /// `high`, `critical`; empty means that only playbooks notify.
    pub tell_severity_min: String,
    /// `https://host/path`, or `http://127.0.0.1:port/path` for this machine. Empty: none.
    pub webhook_url: String,
    /// At least 32 characters that sign each message; a file of mode 0600.
    pub webhook_secret_file: PathBuf,
    /// `smtps://host:465`, or `smtp://host:587` with STARTTLS. Empty: none.
    pub mail_smtp: String,
    /// Empty: no sign-in at the mail server.
    pub mail_user: String,
    /// The password of `mail_user`; a file of mode 0600.
    pub mail_password_file: PathBuf,
    pub mail_from: String,
    /// 1 to 32 receivers.
    pub mail_to: Vec<String>,
    /// Root certificates (PEM) that both receivers are checked by. Empty: this system's.
    pub roots_file: PathBuf,
}

impl Default for ResponseConfig {
    fn default() -> Self {
        Self {
            contain_max: 0,
            tell_severity_min: "high".into(),
            webhook_url: String::new(),
            webhook_secret_file: PathBuf::new(),
            mail_smtp: String::new(),
            mail_user: String::new(),
            mail_password_file: PathBuf::new(),
            mail_from: String::new(),
            mail_to: Vec::new(),
            roots_file: PathBuf::new(),
        }
    }
}

impl ResponseConfig {
    /// What the room is told. Only where somebody can be told is telling asked for.
    #[must_use]
    pub fn settings(&self) -> response::Settings {
        let reachable = !self.webhook_url.is_empty() || !self.mail_smtp.is_empty();
        let severity = model::Severity::from_name(&self.tell_severity_min);
        response::Settings {
            contain_max: (self.contain_max > 0).then_some(self.contain_max),
            tell: severity
                .filter(|_| reachable)
                .map(|severity| ("operators".to_owned(), severity)),
            ..response::Settings::default()
        }
    }

    pub(super) fn live(&self, key: &str) -> String {
        match key {
            "contain_max" => self.contain_max.to_string(),
            "tell_severity_min" => format!("{:?}", self.tell_severity_min),
            "webhook_url" => format!("{:?}", without_path(&self.webhook_url)),
            "webhook_secret_file" => format!("{:?}", self.webhook_secret_file),
            "mail_smtp" => format!("{:?}", self.mail_smtp),
            "mail_user" => format!("{:?}", self.mail_user),
            "mail_password_file" => format!("{:?}", self.mail_password_file),
            "mail_from" => format!("{:?}", self.mail_from),
            "roots_file" => format!("{:?}", self.roots_file),
            _ => String::new(),
        }
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.contain_max > 100_000 {
            let rule = format!("{} is not in 0 to 100000", self.contain_max);
            return Err(("response.contain_max", rule));
        }
        let severity = &self.tell_severity_min;
        if !severity.is_empty() && model::Severity::from_name(severity).is_none() {
            let rule = "write low, medium, high, critical, or nothing";
            return Err(("response.tell_severity_min", rule.into()));
        }
        if !self.webhook_url.is_empty() {
            outward::check_url(&self.webhook_url).map_err(|rule| ("response.webhook_url", rule))?;
            if self.webhook_secret_file.as_os_str().is_empty() {
                let rule = "name a file that holds the secret; `openssl rand -hex 32` makes one";
                return Err(("response.webhook_secret_file", rule.into()));
            }
        }
        if !self.mail_smtp.is_empty() {
            notify::mail::check(self)?;
            if !self.mail_user.is_empty() && self.mail_password_file.as_os_str().is_empty() {
                let rule = "name a file that holds the password of response.mail_user";
                return Err(("response.mail_password_file", rule.into()));
            }
        }
        Ok(())
    }
}

pub const KEYS: [&str; 9] = [
    "contain_max",
    "tell_severity_min",
    "webhook_url",
    "webhook_secret_file",
    "mail_smtp",
    "mail_user",
    "mail_password_file",
    "mail_from",
    "roots_file",
];

/// Scheme and host: what comes behind may be a secret.
fn without_path(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            format!("{scheme}://{host}/…")
        }
        None => String::new(),
    }
}
