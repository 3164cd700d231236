//! The repository as data: its files, and its crates as `cargo metadata` tells them.

use super::source::Views;
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

pub struct Tree {
    /// In the order of paths.
    pub files: Vec<File>,
    pub packages: Vec<Package>,
    /// Every file and folder there is, also those too large or binary to read.
    paths: BTreeSet<String>,
}

pub struct File {
    /// From the root, with `/`.
    pub path: String,
    pub text: String,
    /// `None` unless it is Rust.
    pub views: Option<Views>,
    /// Only compiled for tests: under `tests/`, `benches/`, or declared by `#[cfg(test)] mod`.
    pub is_test: bool,
}

/// A member of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: String,
    /// From the root, without `/` at the end.
    pub folder: String,
    /// Names of direct dependencies of every kind.
    pub dependencies: Vec<String>,
    /// Those among them that the product is built from.
    pub product_dependencies: Vec<String>,
}

const SKIPPED: [&str; 8] = [
    ".git",
    "target",
    "node_modules",
    "corpus",
    "artifacts",
    "dist",
    ".venv",
    "__pycache__",
];
const READ: [&str; 11] = [
    "rs", "md", "toml", "sh", "py", "cedar", "yml", "yaml", "ts", "svelte", "csv",
];
const READ_BYTES_MAX: u64 = 1 << 20;

impl Tree {
    /// # Errors
    /// If a folder cannot be read or `cargo metadata` does not answer.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self {
            files: Vec::new(),
            packages: metadata(root)?,
            paths: BTreeSet::new(),
        };
        tree.walk(root, "")?;
        tree.mark_tests();
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, folder: &str) -> anyhow::Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(root.join(folder))
            .with_context(|| format!("cannot list {folder:?}"))?
            .collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.paths.insert(path.clone());
                self.walk(root, &path)?;
            } else if kind.is_file() {
                self.paths.insert(path.clone());
                let extension = name.rsplit('.').next().unwrap_or_default();
                let wanted = READ.contains(&extension) || folder == ".ci";
                if wanted && entry.metadata()?.len() <= READ_BYTES_MAX {
                    let text = std::fs::read_to_string(entry.path())
                        .with_context(|| format!("{path} is not UTF-8 text"))?;
                    self.files.push(File::new(path, text));
                }
            }
        }
        Ok(())
    }

    fn mark_tests(&mut self) {
        let test_modules: BTreeSet<String> = self
            .files
            .iter()
            .filter_map(|file| Some((file, file.views.as_ref()?)))
            .flat_map(|(file, views)| test_module_paths(&file.path, views))
            .collect();
        for file in &mut self.files {
            file.is_test |= test_modules.contains(&file.path);
        }
    }

    /// Is there a file or folder of that path from the root?
    pub fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path.trim_end_matches('/'))
    }

    pub fn rust(&self) -> impl Iterator<Item = (&File, &Views)> {
        self.files
            .iter()
            .filter_map(|file| Some((file, file.views.as_ref()?)))
    }

    /// The Rust files that the product is built from.
    pub fn product(&self) -> impl Iterator<Item = (&File, &Views)> {
        self.rust().filter(|(file, _)| !file.is_test)
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self {
            files: Vec::new(),
            packages: Vec::new(),
            paths: BTreeSet::new(),
        };
        for (path, text) in files {
            let mut folder = *path;
            while let Some((parent, _)) = folder.rsplit_once('/') {
                tree.paths.insert(parent.to_owned());
                folder = parent;
            }
            tree.paths.insert((*path).to_owned());
            tree.files
                .push(File::new((*path).to_owned(), (*text).to_owned()));
        }
        tree.mark_tests();
        tree
    }

    #[cfg(test)]
    pub fn with_package(mut self, folder: &str, dependencies: &[&str]) -> Self {
        let dependencies: Vec<String> = dependencies.iter().map(ToString::to_string).collect();
        self.packages.push(Package {
            name: folder.rsplit('/').next().unwrap().to_owned(),
            folder: folder.to_owned(),
            product_dependencies: dependencies.clone(),
            dependencies,
        });
        self
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        Self {
            views: path.ends_with(".rs").then(|| Views::of(&text)),
            is_test: ["tests/", "benches/", "examples/"]
                .iter()
                .any(|folder| path.contains(&format!("/{folder}"))),
            path,
            text,
        }
    }
}

/// Where the modules live that stand behind `#[cfg(test)] mod name;`.
fn test_module_paths(path: &str, views: &Views) -> Vec<String> {
    let Some(stem) = path.strip_suffix(".rs") else {
        return Vec::new();
    };
    let folder = match stem.rsplit_once('/') {
        Some((folder, "mod" | "lib" | "main")) => folder,
        _ => stem,
    };
    let in_product = super::source::declared(&views.product, "mod");
    super::source::declared(&views.code, "mod")
        .into_iter()
        .filter(|declared| !in_product.contains(declared))
        .flat_map(|(_, _, name)| {
            [
                format!("{folder}/{name}.rs"),
                format!("{folder}/{name}/mod.rs"),
            ]
        })
        .collect()
}

fn metadata(root: &Path) -> anyhow::Result<Vec<Package>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    packages(&document).context("cargo metadata answered in an unknown shape")
}

fn packages(document: &serde_json::Value) -> Option<Vec<Package>> {
    let root = document.get("workspace_root")?.as_str()?;
    document
        .get("packages")?
        .as_array()?
        .iter()
        .map(|package| {
            let manifest = package.get("manifest_path")?.as_str()?;
            let dependencies = package.get("dependencies")?.as_array()?;
            let name =
                |dependency: &serde_json::Value| Some(dependency.get("name")?.as_str()?.to_owned());
            Some(Package {
                name: package.get("name")?.as_str()?.to_owned(),
                folder: manifest
                    .strip_prefix(root)?
                    .trim_start_matches('/')
                    .strip_suffix("/Cargo.toml")?
                    .to_owned(),
                dependencies: dependencies.iter().map(name).collect::<Option<_>>()?,
                product_dependencies: dependencies
                    .iter()
                    .filter(|dependency| {
                        dependency.get("kind").and_then(serde_json::Value::as_str) != Some("dev")
                    })
                    .map(name)
                    .collect::<Option<_>>()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_behind_a_test_module_is_a_test() {
        let tree = Tree::of(&[
            ("rooms/x/src/lib.rs", "#[cfg(test)]\nmod tests;\nmod real;"),
            ("rooms/x/src/tests.rs", "use std::fs;"),
            ("rooms/x/src/real.rs", ""),
            ("rooms/x/tests/it/main.rs", ""),
        ]);
        let product: Vec<&str> = tree.product().map(|(file, _)| file.path.as_str()).collect();
        assert_eq!(product, ["rooms/x/src/lib.rs", "rooms/x/src/real.rs"]);
    }

    #[test]
    fn metadata_tells_product_from_dev_dependencies() {
        let document = serde_json::json!({
            "workspace_root": "/r",
            "packages": [{
                "name": "x",
                "manifest_path": "/r/rooms/x/Cargo.toml",
                "dependencies": [
                    {"name": "model", "kind": null},
                    {"name": "proptest", "kind": "dev"},
                ],
            }],
        });
        let found = packages(&document).unwrap();
        let package = found.first().unwrap();
        assert_eq!(package.folder, "rooms/x");
        assert_eq!(package.dependencies, ["model", "proptest"]);
        assert_eq!(package.product_dependencies, ["model"]);
    }
}
