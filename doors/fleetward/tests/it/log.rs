//! The published log, checked by the two verifiers that share no code.

use crate::plane::Home;
use audit::{Checked, Checkpoint, Failure, PublishedTree, Vkey};
use std::path::{Path, PathBuf};
use std::process::Command;

/// `path -> bytes` over a folder.
pub fn loader(folder: &Path) -> impl FnMut(&str) -> Option<Vec<u8>> + use<> {
    let folder = folder.to_owned();
    move |path| std::fs::read(folder.join(path)).ok()
}

/// The text of the checkpoint in a folder.
pub fn note(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("checkpoint")).unwrap()
}

/// The checkpoint in a folder, its signature checked.
pub fn checkpoint(folder: &Path, vkey: &str) -> Result<Checkpoint, Failure> {
    let keys = [vkey.parse::<Vkey>().unwrap()];
    Checkpoint::open(&note(folder), &keys).map(|opened| opened.checkpoint)
}

/// Recomputes a whole published log from its entries.
pub fn check(folder: &Path, vkey: &str) -> Result<Checked, Failure> {
    let checkpoint = checkpoint(folder, vkey)?;
    audit::check_tree(&checkpoint, &mut loader(folder), &mut |_, _| {})
}

/// The proof that the tree in a folder has only grown from one of `size` leaves.
pub fn consistency(folder: &Path, vkey: &str, size: u64) -> Vec<audit::Digest> {
    let checkpoint = checkpoint(folder, vkey).unwrap();
    let mut load = loader(folder);
    PublishedTree::new(checkpoint.size, &mut load)
        .consistency_proof(size)
        .unwrap()
}

/// What the plain Python verifier says of a log's folder or a bundle. `None`, with a message,
/// where there is no Python.
pub fn verify_py(kind: &str, path: &Path, vkey: &str) -> Option<(bool, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify/verify.py");
    let run = Command::new("python3")
        .arg(script)
        .arg(kind)
        .arg(path)
        .args(["--key", vkey])
        .output();
    let Ok(output) = run else {
        println!("skipped: python3 is not installed");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text))
}

/// Both verifiers must be content with the log of a plane that has ended; how many entries.
#[track_caller]
pub fn assert_sound(home: &Home, vkey: &str) -> u64 {
    let folder = home.log_dir();
    let checked = check(&folder, vkey).unwrap_or_else(|failure| panic!("{failure}"));
    if let Some((good, text)) = verify_py("log", &folder, vkey) {
        assert!(good, "{text}");
    }
    checked.entries
}

/// Copies a folder with all that is in it, sockets excepted.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mode = std::fs::metadata(from).unwrap().permissions();
    std::fs::set_permissions(to, mode).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Changes one bit in the middle of a file.
pub fn flip_middle(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
