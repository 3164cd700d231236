//! The fleet of the demo: `examples/fleet` as it is, but for one thing that the demo says aloud:
//! its playbook gives way to one that acts. And the firmware that its products run.

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
    "destinations/internet.toml",
    "fleet.toml",
    "invariants.toml",
    "policies/devices.cedar",
    "policies/services.cedar",
    "playbooks/contain.toml",
    "products/home.toml",
    "schemas/thermostat-state.json",
    "services/back-end.toml",
];

const PLAYBOOK: (&str, &str) = ("playbooks/demo.toml", include_str!("playbook.toml"));

/// Where the names of the example's destinations lead in the demo: a network for documentation.
const FIRST_ADDRESS: [u8; 4] = [203, 0, 113, 10];

/// Product, version, image: what `products/*.toml` says that they run.
const FIRMWARE: [(&str, &str, &[u8]); 3] = [
    (
        "camera",
        "3.1.0",
        include_bytes!("../../../../examples/firmware/camera-3.1.0.bin"),
    ),
    (
        "lock",
        "2.4.1",
        include_bytes!("../../../../examples/firmware/lock-2.4.1.bin"),
    ),
    (
        "thermostat",
        "1.9.0",
        include_bytes!("../../../../examples/firmware/thermostat-1.9.0.bin"),
    ),
];

/// Paths and texts, ready to be applied.
pub fn files() -> Vec<(&'static str, &'static str)> {
    let examples = EXAMPLE.iter().copied();
    examples
        .filter(|(path, _)| !path.starts_with("playbooks/"))
        .chain([PLAYBOOK])
        .collect()
}

/// Version and image of what a product runs.
pub fn firmware(product: &str) -> Option<(&'static str, &'static [u8])> {
    let found = FIRMWARE.iter().find(|(of, ..)| *of == product);
    found.map(|(_, version, image)| (*version, *image))
}

/// The digest that a report gives of an image, in hexadecimal.
pub fn sha256(image: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, image);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
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
            .map(|(path, text)| access::SourceFile {
                path: path.into(),
                text: text.into(),
            })
            .collect();
        access::Fleet::read(&files).unwrap();
    }

    #[test]
    fn products_run_what_their_file_says() {
        let products = EXAMPLE
            .iter()
            .find(|(path, _)| *path == "products/home.toml");
        let (_, text) = products.unwrap();
        for (product, version, image) in FIRMWARE {
            let line = format!("version = \"{version}\", sha256 = \"{}\"", sha256(image));
            assert!(text.contains(&line), "{product}: {line}");
        }
        assert_eq!(names().len(), 2);
    }
}
