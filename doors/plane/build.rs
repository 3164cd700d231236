//! Says when this program was built, because a clock that is earlier than that is wrong, and embeds
//! the console: the files that `cargo xtask console` built. Without them the plane builds all the
//! same, and serves a page that says how to get them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let seconds = env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
            .to_string()
    });
    println!("cargo::rustc-env=FLEETWARD_BUILT_AT={seconds}");
    embed_console()
}

fn embed_console() -> Result<(), Fault> {
    // This folder is in the repository, empty: cargo takes a path that does not exist for changed,
    // and would build the plane anew each time.
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../console/dist");
    println!("cargo::rerun-if-changed={}", folder.display());
    let built = folder.join("site");
    let mut files = BTreeSet::new();
    if built.join("index.html").exists() {
        walk(&built, &mut files)?;
    }
    let mut table = String::from("const FILES: &[File] = &[\n");
    for file in &files {
        let name = file.strip_prefix(&built)?.to_string_lossy();
        let mut hash = DefaultHasher::new();
        hash.write(&fs::read(file)?);
        writeln!(
            table,
            "File {{ path: {:?}, media_type: {:?}, tag: \"\\\"{:016x}\\\"\", bytes: include_bytes!({:?}) }},",
            format!("/{name}"),
            media_type(&name)?,
            hash.finish(),
            fs::canonicalize(file)?.to_string_lossy(),
        )?;
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("console.rs");
    fs::write(out, table)?;
    Ok(())
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

fn media_type(name: &str) -> Result<&'static str, String> {
    match name.rsplit('.').next() {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        _ => Err(format!(
            "console/dist/{name}: no media type is known for it; add one to doors/plane/build.rs"
        )),
    }
}
