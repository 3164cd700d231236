//! A fleet folder as somebody may send it: compiled or refused with a place and a help.

#![no_main]

use access::{Fleet, Grants, SourceFile};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 5] = [
    "fleet.toml",
    "products/p.toml",
    "channels/c.toml",
    "services/s.toml",
    "policies/p.cedar",
];

fuzz_target!(|texts: [String; 5]| {
    let files: Vec<SourceFile> = PATHS
        .iter()
        .zip(texts)
        .map(|(path, text)| SourceFile { path: (*path).to_owned(), text })
        .collect();
    match Fleet::read(&files) {
        Ok(fleet) => {
            let _ = Grants::compile(&fleet, std::iter::empty());
        }
        Err(diagnostics) => assert!(!diagnostics.is_empty()),
    }
});
