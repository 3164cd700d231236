//! Every way to write a fleet wrong, with what is said about it: `tests/fleets/<name>/` holds the
//! files that differ from `_base`, and `expected.txt`. `BLESS=1` writes the latter anew.

use crate::{base_with, compile, device, fleets, lines, read_folder};
use access::{Diagnostic, Fleet, Grants, SourceFile};
use std::fs;

fn refusals(files: &[SourceFile]) -> Vec<Diagnostic> {
    let fleet = match Fleet::read(files) {
        Ok(fleet) => fleet,
        Err(wrong) => return wrong,
    };
    let population = [device("d", "camera", &[]), device("e", "lock", &["floor"])];
    Grants::compile(&fleet, population)
        .err()
        .unwrap_or_default()
}

#[test]
fn each_wrong_fleet_is_refused_with_its_place_and_what_to_write() {
    let mut failures = String::new();
    let mut count = 0;
    for entry in fs::read_dir(fleets()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "_base" {
            continue;
        }
        count += 1;
        let files = read_folder(&folder);
        let changes: Vec<(&str, &str)> = (files.iter())
            .filter(|file| file.path != "expected.txt")
            .map(|file| (file.path.as_str(), file.text.as_str()))
            .collect();
        let wrong = refusals(&base_with(&changes));
        let said = lines(&wrong);
        let place = folder.join("expected.txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&place, &said).unwrap();
        }
        let expected = fs::read_to_string(&place).unwrap_or_default();
        let is_helpful = wrong.iter().all(|wrong| wrong.help.is_some());
        if said.is_empty() || said != expected || !is_helpful {
            failures += &format!("--- {name} says\n{said}--- expected\n{expected}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(count >= 35, "only {count} fleets were found");
}

#[test]
fn the_base_fleet_is_right() {
    compile(&base_with(&[]), &[device("d", "camera", &["floor"])]);
}

#[test]
fn the_digest_is_of_the_texts_and_not_of_their_order() {
    let mut files = base_with(&[]);
    let digest = |files: &[SourceFile]| Fleet::read(files).unwrap().digest();
    let first = digest(&files);
    files.reverse();
    assert_eq!(digest(&files), first);
    files[0].text.push('\n');
    assert_ne!(digest(&files), first);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_parsed() {
    let refused = |files: &[SourceFile], words: &str| {
        let wrong = lines(&Fleet::read(files).unwrap_err());
        assert!(wrong.contains(words), "{wrong}");
    };
    let comment = "#".repeat(257 * 1024);
    refused(
        &base_with(&[("products/x.toml", &comment)]),
        "a file has at most",
    );
    let many: Vec<(String, String)> = (0..1001)
        .map(|n| (format!("products/x{n}.toml"), String::new()))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    refused(&base_with(&many), "at most 1000 files");
    let large = "#".repeat(255 * 1024);
    let large: Vec<(&str, &str)> = many
        .iter()
        .take(20)
        .map(|(p, _)| (*p, large.as_str()))
        .collect();
    refused(&base_with(&large), "at most 1000 files and 4194304 bytes");
    let channels: String = (0..1001)
        .map(|n| format!("[c{n}]\ntopic='x/c{n}'\ndirection='to-device'\npayload_bytes_max=1\n"))
        .collect();
    refused(
        &base_with(&[("channels/x.toml", &channels)]),
        "at most 1000 are read",
    );
    let policies: String = (0..1001)
        .map(|n| format!("@id(\"p{n}\") permit (principal, action, resource);\n"))
        .collect();
    refused(
        &base_with(&[("policies/x.cedar", &policies)]),
        "at most 1000 policies",
    );
    let mut twice = base_with(&[]);
    twice.push(twice[0].clone());
    refused(&twice, "the same path was given twice");
    refused(&[], "fleet/ has no fleet.toml");
}

/// Cedar parses, validates and evaluates by recursion: depth that needs no bracket is depth too.
#[test]
fn a_deep_policy_is_refused_and_does_not_exhaust_the_stack() {
    let deep = [
        format!("when {{ {}false }}", "if true then true else ".repeat(600)),
        "when { true } ".repeat(1000),
        format!("when {{ {}true }}", "true && ".repeat(1500)),
        format!("when {{ {}true{} }}", "(".repeat(5000), ")".repeat(5000)),
        format!("when {{ {}true }}", "!".repeat(5000)),
        format!("when {{ principal{} }}", ".x".repeat(5000)),
        format!("when {{ {}1{} == 1 }}", "[".repeat(5000), "]".repeat(5000)),
    ];
    for condition in deep {
        let policy =
            format!("@id(\"x\") permit (principal is Device, action, resource) {condition};");
        let wrong = Fleet::read(&base_with(&[("policies/x.cedar", &policy)])).unwrap_err();
        assert!(
            lines(&wrong).contains("a policy has at most"),
            "{}",
            lines(&wrong)
        );
    }
    // As deep as it may be.
    let chain = format!("{}false", "principal in Group::\"floor\" || ".repeat(31));
    let nest = format!("{}false{}", "!(".repeat(30), ")".repeat(30));
    let both = format!(
        "{}{}false{}",
        "true || ".repeat(16),
        "!(".repeat(30),
        ")".repeat(30)
    );
    for condition in [chain, nest, both] {
        let policy = format!(
            "@id(\"x\") permit (principal is Device, action, resource) when {{ !({condition}) }};"
        );
        let files = base_with(&[("policies/x.cedar", &policy)]);
        match Fleet::read(&files) {
            Ok(_) => drop(compile(&files, &[device("d", "camera", &[])])),
            // A condition that is always false is refused for that.
            Err(wrong) => assert!(lines(&wrong).contains("impossible"), "{}", lines(&wrong)),
        }
    }
}

#[test]
fn hostile_text_is_refused_and_never_a_panic() {
    // Mutations of a right fleet, by a fixed generator: any answer will do, a panic will not.
    let files = base_with(&[]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let splice = [
        "\"",
        "{",
        "}",
        "(",
        "[",
        ";",
        "\\",
        "//",
        "\0",
        "\u{202e}",
        "é",
        "&&",
        "=",
        "\n",
        "@id",
        "?principal",
    ];
    for _ in 0..400 {
        let mut files = files.clone();
        let index = random(files.len());
        let file = &mut files[index];
        let mut characters: Vec<String> = file.text.chars().map(String::from).collect();
        for _ in 0..=random(3) {
            let at = random(characters.len() + 1).min(characters.len() - 1);
            match random(3) {
                0 => drop(characters.remove(at)),
                1 => characters.insert(at, splice[random(splice.len())].into()),
                _ => characters[at] = splice[random(splice.len())].into(),
            }
        }
        file.text = characters.concat();
        let _ = Fleet::read(&files);
    }
}

#[test]
fn too_many_classes_are_refused_naming_what_splits_them() {
    // 14 groups that a policy names, in every combination: 16,384 classes.
    let groups: Vec<String> = (0..14).map(|n| format!("g{n}")).collect();
    let fleet = groups
        .iter()
        .map(|g| format!("[groups.{g}]\n"))
        .collect::<String>();
    let fleet = format!("name = \"test\"\n[groups.back-end]\n{fleet}");
    let policies: String = (groups.iter())
        .map(|g| format!("@id(\"{g}\")\npermit (principal in Group::\"{g}\", action, resource);\n"))
        .collect();
    let files = base_with(&[("fleet.toml", &fleet), ("policies/p.cedar", &policies)]);
    let fleet = Fleet::read(&files).unwrap();
    let population = (0..1 << 14).map(|bits: usize| {
        let groups: Vec<&str> = (0..14)
            .filter(|n| bits >> n & 1 == 1)
            .map(|n| groups[n].as_str())
            .collect();
        device("d", "camera", &groups)
    });
    let wrong = Grants::compile(&fleet, population).unwrap_err();
    let said = lines(&wrong);
    assert_eq!(wrong.len(), 1);
    assert!(said.starts_with("fleet/policies/p.cedar:"), "{said}");
    assert!(
        said.contains("more than 10000 grant classes; what splits them most: g"),
        "{said}"
    );
    // The same population is one class if no policy names the groups.
    let plain = compile(&base_with(&[]), &[]);
    assert_eq!(plain.class_count(), 1, "the service");
}
