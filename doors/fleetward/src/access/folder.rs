//! The folder `fleet/` as the plane takes it.

use crate::files::{self, shown};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The plane takes 4 MiB of JSON; the rest is room for its escapes.
const FLEET_BYTES_MAX: usize = 3 * 1024 * 1024;
const FLEET_FILES_MAX: usize = 2000;
const FLEET_DEPTH_MAX: usize = 8;

/// A folder as the API takes it.
pub fn read_fleet(folder: &Path) -> anyhow::Result<Value> {
    let files: Vec<_> = fleet_files(folder)?
        .into_iter()
        .map(|(path, text)| json!({ "path": path, "text": text }))
        .collect();
    Ok(json!({ "files": files }))
}

/// A signature as text: DER, as manufacturers publish it, becomes PEM.
fn in_pem(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    use x509_cert::der::pem::{LineEnding, encode_string};
    if bytes.starts_with(b"-----BEGIN") {
        return Ok(bytes);
    }
    encode_string("CMS", LineEnding::LF, &bytes)
        .map(String::into_bytes)
        .map_err(|error| anyhow::anyhow!("a signature in mud/ is too large ({error})"))
}

/// All `*.toml` and `*.cedar` below a folder, what belongs to MUD in its `mud/` and `*.json` in its
/// `schemas/`, by path. Hidden names are passed over; a link is read
/// only if it leads to a file of the same folder.
pub fn fleet_files(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let root = folder.canonicalize().with_context(|| {
        format!(
            "{} is not there; name the folder that declares the fleet",
            shown(folder)
        )
    })?;
    let mut found = BTreeMap::new();
    gather(&root, &root, 0, &mut found)?;
    if found.is_empty() {
        bail!("{} holds no *.toml or *.cedar file", shown(folder));
    }
    Ok(found)
}

fn gather(
    root: &Path,
    folder: &Path,
    depth: usize,
    found: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    if depth > FLEET_DEPTH_MAX {
        bail!(
            "{} lies deeper than {FLEET_DEPTH_MAX} folders",
            shown(folder)
        );
    }
    let listing =
        std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", shown(folder)))?;
    for item in listing {
        let item = item?;
        let path = item.path();
        let name = item.file_name();
        let Some(name) = name.to_str() else {
            bail!("the name of {} is not UTF-8", shown(&path));
        };
        if name.starts_with('.') {
            continue;
        }
        if item.file_type()?.is_dir() {
            gather(root, &path, depth + 1, found)?;
            continue;
        }
        let extension = path.extension().and_then(|e| e.to_str());
        let is_in = |name: &str| folder.parent() == Some(root) && folder.ends_with(name);
        match extension {
            Some("toml" | "cedar") => {}
            Some("json" | "p7s" | "pem") if is_in("mud") => {}
            Some("json") if is_in("schemas") => {}
            _ => continue,
        }
        let real = path
            .canonicalize()
            .with_context(|| format!("{} leads nowhere", shown(&path)))?;
        if !real.starts_with(root) {
            bail!(
                "{} leads out of the folder; put the file itself there",
                shown(&path)
            );
        }
        let Some(bytes) = files::read_regular(&real, FLEET_BYTES_MAX)? else {
            continue;
        };
        let bytes = match extension {
            Some("p7s") => in_pem(bytes)?,
            _ => bytes,
        };
        let text = files::text(&path, bytes)?;
        let relative = path.strip_prefix(root).unwrap_or(&path);
        found.insert(relative.to_string_lossy().into_owned(), text);
        let bytes: usize = found.values().map(String::len).sum();
        if bytes > FLEET_BYTES_MAX || found.len() > FLEET_FILES_MAX {
            bail!(
                "{} holds more than {FLEET_FILES_MAX} files or {FLEET_BYTES_MAX} bytes; is it the \
                 folder that declares the fleet?",
                shown(root)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn paths(folder: &Path) -> anyhow::Result<Vec<String>> {
        let files = read_fleet(folder)?;
        let files = files
            .pointer("/files")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        Ok(files
            .iter()
            .map(|f| f["path"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    #[test]
    fn a_fleet_is_read_in_the_order_of_paths_and_only_what_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let fleet = scratch.path();
        for folder in ["policies/deep", ".git"] {
            fs::create_dir_all(fleet.join(folder)).unwrap();
        }
        for file in [
            "z.toml",
            "a.toml",
            "policies/deep/p.cedar",
            ".git/x.toml",
            "README.md",
        ] {
            fs::write(fleet.join(file), "x").unwrap();
        }
        symlink(fleet.join("z.toml"), fleet.join("m.toml")).unwrap();
        assert_eq!(
            paths(fleet).unwrap(),
            ["a.toml", "m.toml", "policies/deep/p.cedar", "z.toml"]
        );
    }

    #[test]
    fn a_link_out_of_the_fleet_does_not_leak_a_file() {
        let scratch = tempfile::tempdir().unwrap();
        let fleet = scratch.path().join("fleet");
        fs::create_dir(&fleet).unwrap();
        fs::write(scratch.path().join("secret.toml"), "key").unwrap();
        symlink(scratch.path().join("secret.toml"), fleet.join("a.toml")).unwrap();
        assert!(paths(&fleet).unwrap_err().to_string().contains("leads out"));
    }

    #[test]
    fn what_is_no_fleet_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(paths(scratch.path()).is_err());
        assert!(paths(&scratch.path().join("none")).is_err());
        fs::write(scratch.path().join("a.toml"), [0xff]).unwrap();
        assert!(paths(scratch.path()).is_err());
        fs::write(
            scratch.path().join("a.toml"),
            vec![b' '; FLEET_BYTES_MAX + 1],
        )
        .unwrap();
        assert!(paths(scratch.path()).is_err());
        fs::remove_file(scratch.path().join("a.toml")).unwrap();
        fs::create_dir_all(scratch.path().join("1/2/3/4/5/6/7/8/9")).unwrap();
        assert!(
            paths(scratch.path())
                .unwrap_err()
                .to_string()
                .contains("deeper")
        );
    }
}
