//! `[forward]` of the configuration.

use crate::broker::mosquitto::split;
use mqtt::Filter;
use serde::Deserialize;
use std::path::PathBuf;

/// Each is asked for anew four times a minute, and our own door lets 120 a minute be asked for.
const UP_FILTERS_MAX: usize = 24;

/// `[forward]`: another broker to which messages are carried on, and from which they come back.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardConfig {
    /// `host:port` of the other broker's TLS listener. Empty: nothing is forwarded.
    pub upstream: String,
    /// Root certificates (PEM) that it is checked by. Empty: this system's.
    pub roots_file: PathBuf,
    /// What is shown to it (PEM).
    pub certificate_file: PathBuf,
    /// Its key (PEM); a file of mode 0600.
    pub key_file: PathBuf,
    /// How we call ourselves there. Its session lasts, so nobody else may call himself so.
    pub client_id: String,
    /// Put before each topic there, `site-a/` for one.
    pub prefix: String,
    /// As which service of the fleet it stands at our own door: what it may receive and publish is what
    /// the fleet grants that service.
    pub service: String,
    /// The service's certificate (PEM), as `fleetward identity certify` makes it.
    pub service_certificate_file: PathBuf,
    /// Its key (PEM); a file of mode 0600.
    pub service_key_file: PathBuf,
    /// Filters of what is carried there.
    pub up: Vec<String>,
    /// Filters of what comes from there, without the prefix.
    pub down: Vec<String>,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            upstream: String::new(),
            roots_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            client_id: "fleetward".to_owned(),
            prefix: String::new(),
            service: String::new(),
            service_certificate_file: PathBuf::new(),
            service_key_file: PathBuf::new(),
            up: Vec::new(),
            down: Vec::new(),
        }
    }
}

/// Keys of this section that the environment may set: all but the lists.
pub const KEYS: [&str; 9] = [
    "upstream",
    "roots_file",
    "certificate_file",
    "key_file",
    "client_id",
    "prefix",
    "service",
    "service_certificate_file",
    "service_key_file",
];

impl ForwardConfig {
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.upstream.is_empty()
    }

    pub(crate) fn live(&self, key: &str) -> String {
        match key {
            "upstream" => format!("{:?}", self.upstream),
            "roots_file" => format!("{:?}", self.roots_file),
            "certificate_file" => format!("{:?}", self.certificate_file),
            "key_file" => format!("{:?}", self.key_file),
            "client_id" => format!("{:?}", self.client_id),
            "prefix" => format!("{:?}", self.prefix),
            "service" => format!("{:?}", self.service),
            "service_certificate_file" => format!("{:?}", self.service_certificate_file),
            "service_key_file" => format!("{:?}", self.service_key_file),
            _ => String::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if !self.is_on() {
            return Ok(());
        }
        split(&self.upstream).map_err(|rule| ("forward.upstream", rule.to_string()))?;
        let files = [
            ("forward.certificate_file", &self.certificate_file),
            ("forward.key_file", &self.key_file),
            (
                "forward.service_certificate_file",
                &self.service_certificate_file,
            ),
            ("forward.service_key_file", &self.service_key_file),
        ];
        if let Some((key, _)) = files.iter().find(|(_, file)| file.as_os_str().is_empty()) {
            return Err((key, "name the file; both ends want mutual TLS".into()));
        }
        model::ServiceId::new(&self.service)
            .map_err(|error| ("forward.service", error.to_string()))?;
        if self.client_id.is_empty() {
            return Err(("forward.client_id", "its session needs a name".into()));
        }
        if !self.prefix.is_empty() && !mqtt::is_topic(&self.prefix) {
            let rule = "a prefix is part of a topic: no + and no #";
            return Err(("forward.prefix", rule.into()));
        }
        let read = |key: &'static str, filters: &[String]| {
            let filters = filters
                .iter()
                .map(|text| Filter::new(text).map_err(|error| (key, format!("{text:?}: {error}"))));
            filters.collect::<Result<Vec<Filter>, _>>()
        };
        let (up, down) = (
            read("forward.up", &self.up)?,
            read("forward.down", &self.down)?,
        );
        if up.is_empty() && down.is_empty() {
            return Err(("forward.up", "say what is to be forwarded".into()));
        }
        if up.len() > UP_FILTERS_MAX {
            let rule = format!(
                "{} filters; our own door is asked for {UP_FILTERS_MAX} at most, four times a minute: \
                 name wider ones, the grants of the service hold anyway",
                up.len()
            );
            return Err(("forward.up", rule));
        }
        // A message that goes up would come down again.
        for (one, text) in up.iter().zip(&self.up) {
            if let Some((_, other)) =
                (down.iter().zip(&self.down)).find(|(it, _)| it.intersects(one))
            {
                let rule =
                    format!("{other:?} meets {text:?} of forward.up: messages would go in circles");
                return Err(("forward.down", rule));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_in_circles_or_nowhere_is_refused() {
        let good = ForwardConfig {
            upstream: "broker.example:8883".into(),
            certificate_file: "c".into(),
            key_file: "k".into(),
            service: "bridge".into(),
            service_certificate_file: "sc".into(),
            service_key_file: "sk".into(),
            up: vec!["v1/+/telemetry/#".into()],
            down: vec!["v1/+/command/+".into()],
            ..ForwardConfig::default()
        };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(ForwardConfig::default().check(), Ok(()));
        let key = |change: fn(&mut ForwardConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().unwrap_err().0
        };
        assert_eq!(key(|it| it.down.push("v1/cam/#".into())), "forward.down");
        assert_eq!(key(|it| it.up.push("a/#/b".into())), "forward.up");
        let many = |it: &mut ForwardConfig| it.up.extend((0..24).map(|n| format!("v2/{n}")));
        assert_eq!(key(many), "forward.up");
        assert_eq!(key(|it| it.upstream = "broker".into()), "forward.upstream");
        assert_eq!(key(|it| it.prefix = "a/+/".into()), "forward.prefix");
        assert_eq!(key(|it| it.service = "a/b".into()), "forward.service");
        assert_eq!(key(|it| it.key_file = PathBuf::new()), "forward.key_file");
    }
}
