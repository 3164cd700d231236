//! The fleet of the demo: `examples/fleet` as it is, but for two things that the demo says aloud.
//! Its playbooks give way to one that acts, and the firmware that products may run is the demo's.

use super::cast::FIRMWARE;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

macro_rules! example {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../examples/fleet/", $path)))),*]
    };
}

const EXAMPLE: &[(&str, &str)] = example![
    "channels/camera.toml",
    "channels/common.toml",
    "channels/lock.toml",
    "channels/thermostat.toml",
    "fleet.toml",
    "policies/devices.cedar",
    "policies/services.cedar",
    "products/home.toml",
    "services/back-end.toml",
];

const PLAYBOOK: (&str, &str) = ("playbooks/demo.toml", include_str!("playbook.toml"));

/// Where the names of the example's destinations lead in the demo: a network for documentation.
const FIRST_ADDRESS: [u8; 4] = [203, 0, 113, 10];

/// Paths and texts, ready to be applied.
pub fn files() -> Vec<(String, String)> {
    let digest = hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, FIRMWARE).as_ref());
    EXAMPLE
        .iter()
        .filter(|(path, _)| !path.starts_with("playbooks/"))
        .chain([&PLAYBOOK])
        .map(|(path, text)| ((*path).to_owned(), with_digest(text, &digest)))
        .collect()
}

/// What the demo's resolver knows: every host that the fleet declares.
pub fn names() -> BTreeMap<String, Ipv4Addr> {
    let [a, b, c, first] = FIRST_ADDRESS;
    EXAMPLE
        .iter()
        .filter(|(path, _)| path.starts_with("destinations/"))
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| {
            let value = line.trim().strip_prefix("host")?.trim_start();
            let value = value.strip_prefix('=')?.trim_start().strip_prefix('"')?;
            value.split_once('"').map(|(host, _)| host.to_owned())
        })
        .zip(first..)
        .map(|(host, last)| (host, Ipv4Addr::new(a, b, c, last)))
        .collect()
}

/// The text with every SHA-256 in it replaced.
fn with_digest(text: &str, digest: &str) -> String {
    let is_digest = |part: &str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = text
        .split('"')
        .map(|part| if is_digest(part) { digest } else { part })
        .collect();
    parts.join("\"")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn the_whole_example_is_in_the_demo() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/fleet"));
        let mut there = BTreeSet::new();
        for entry in std::fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                let inner = std::fs::read_dir(&path).unwrap();
                there.extend(inner.map(|entry| name(&entry.unwrap().path())));
            } else {
                there.insert(name(&path));
            }
        }
        let here = EXAMPLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(there, here);
    }

    #[test]
    fn the_fleet_of_the_demo_is_well_formed() {
        let playbook = response::playbook::read(PLAYBOOK.0, PLAYBOOK.1).unwrap();
        assert_eq!(playbook[0].mode, response::playbook::Mode::Enforce);
        let files: Vec<access::SourceFile> = files()
            .into_iter()
            .map(|(path, text)| access::SourceFile { path, text })
            .collect();
        access::Fleet::read(&files).unwrap();
    }

    #[test]
    fn digests_are_replaced_and_nothing_else() {
        let old = "a".repeat(64);
        let text = format!("firmware = [{{ version = \"1\", sha256 = \"{old}\" }}]");
        assert_eq!(
            with_digest(&text, "new"),
            "firmware = [{ version = \"1\", sha256 = \"new\" }]"
        );
    }
}
