//! The room as its callers see it: texts in, decisions and diagnostics out.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "all of this is tests, their helpers too: what is wrong should fail loudly"
)]

mod assurance;
mod attacks;
mod commands;
mod contracts;
mod difference;
mod differential;
mod example;
mod fleets;
mod imports;
mod invariants;
mod network;
mod people;
mod replay;
mod schemas;
mod segments;
mod soundness;
mod timing;

use access::{Facts, Fleet, Grants, SourceFile};
use model::{DeviceId, GroupId, Principal, ProductId, ServiceId};
use std::fs;
use std::path::{Path, PathBuf};

/// Every file below `folder`, by path.
pub fn read_folder(folder: &Path) -> Vec<SourceFile> {
    fn walk(folder: &Path, root: &Path, files: &mut Vec<SourceFile>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.push(source(name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    walk(folder, folder, &mut files);
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

pub fn source(path: &str, text: impl Into<String>) -> SourceFile {
    SourceFile {
        path: path.to_owned(),
        text: text.into(),
    }
}

pub fn sources<T: Into<String>>(
    files: impl IntoIterator<Item = (&'static str, T)>,
) -> Vec<SourceFile> {
    (files.into_iter())
        .map(|(path, text)| source(path, text))
        .collect()
}

pub fn fleets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fleets")
}

/// The base fleet with some files replaced or added.
pub fn base_with(changes: &[(&str, &str)]) -> Vec<SourceFile> {
    let mut files = read_folder(&fleets().join("_base"));
    for (path, text) in changes {
        files.retain(|file| file.path != *path);
        files.push(source(path, *text));
    }
    files
}

pub fn example_files() -> Vec<SourceFile> {
    read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fleet"))
}

pub fn example_fleet() -> Fleet {
    fleet(&example_files())
}

/// Files that are right.
pub fn fleet(files: &[SourceFile]) -> Fleet {
    Fleet::read(files).unwrap_or_else(|wrong| panic!("{}", lines(&wrong)))
}

pub fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| item.to_string() + "\n").collect()
}

pub fn device(name: &str, product: &str, groups: &[&str]) -> Facts {
    Facts {
        principal: Principal::Device(DeviceId::new(name).unwrap()),
        product: Some(ProductId::new(product).unwrap()),
        groups: groups
            .iter()
            .map(|group| GroupId::new(group).unwrap())
            .collect(),
        attributes: Default::default(),
        containment: None,
        assurance: model::Assurance::default(),
    }
}

pub fn service(name: &str) -> Facts {
    Facts {
        principal: Principal::Service(ServiceId::new(name).unwrap()),
        product: None,
        groups: Vec::new(),
        attributes: Default::default(),
        containment: None,
        assurance: model::Assurance::default(),
    }
}

pub fn compile(files: &[SourceFile], population: &[Facts]) -> Grants {
    Grants::compile(&fleet(files), population.iter().cloned())
        .unwrap_or_else(|wrong| panic!("{}", lines(&wrong)))
}

pub fn filter(text: &str) -> mqtt::Filter {
    mqtt::Filter::new(text).unwrap()
}
