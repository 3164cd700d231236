//! The JSON Schemas for editors and the parser, held together: what the parser takes validates, and what
//! is broken on purpose is refused by both, here and by Python's `jsonschema` where it is there.

use crate::{base_with, example_files, fleet, fleets, read_folder, source};
use access::{Contract, Fleet, PayloadScratch, Site, SourceFile, json_schemas, site_json_schema};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A schema as the contract of a channel: our own reader of JSON Schema.
fn contract(schema: &Value) -> Contract {
    let channel = "[up]\ntopic = \"up/{device}\"\ndirection = \"from-device\"\n\
        payload_bytes_max = 1000000\nschema = \"schemas/s.json\"\n";
    let fleet = fleet(&[
        source("fleet.toml", "name = \"test\"\n"),
        source("channels/c.toml", channel),
        source("schemas/s.json", schema.to_string()),
    ]);
    fleet.channels().next().unwrap().contract.clone().unwrap()
}

fn contracts() -> BTreeMap<&'static str, (Value, Contract)> {
    (json_schemas().into_iter())
        .map(|(of, schema)| {
            let contract = contract(&schema);
            (of, (schema, contract))
        })
        .collect()
}

/// Which schema a file has.
fn kind_of(path: &str) -> Option<&str> {
    match path.split_once('/') {
        None => Some(path).filter(|path| path.ends_with(".toml")),
        Some(("playbooks", _)) => None,
        Some((folder, file)) => file.ends_with(".toml").then_some(folder),
    }
}

fn as_json(text: &str) -> Value {
    let table: toml::Table = toml::from_str(text).unwrap();
    serde_json::to_value(table).unwrap()
}

/// Whole fleets that the parser takes.
fn right_fleets() -> Vec<Vec<SourceFile>> {
    let full = base_with(&[
        (
            "fleet.toml",
            "name = \"full\"\ndescription = \"all keys\"\n[groups.floor]\ndescription = \"f\"\n[groups.hall]\nin = [\"floor\"]\n[groups.back-end]\n",
        ),
        (
            "destinations/d.toml",
            "[cloud]\nhost = \"video.example.net\"\nports = [443, 8443]\n[net]\naddress = \"2001:db8::/32\"\nports = [1]\nprotocol = \"udp\"\n[hub]\nlocal = \"hub\"\nports = [65535]\ndescription = \"h\"\n",
        ),
        (
            "products/q.toml",
            "[full]\ndescription = \"d\"\nldevid_lifetime_days = 14\nrotation_overlap_hours = 24\nrevoke_superseded = false\nca = \"locks\"\nenrollment = \"approval\"\nldevid_key = \"p256\"\nserver_keygen = true\nclient_ids = \"containing\"\nrenewal_grace_days = 30\nexpected_off_days = 60\n[full.behaviour]\ndestinations = [\"cloud\"]\nlistens = [\"tcp/554\", \"udp/1\"]\nserves = [\"hub\"]\ndns_per_minute_max = 10\nbytes_out_per_minute_max = 0\ntls_version_min = \"1.2\"\nfirmware = [{ version = \"2.4.1\", sha256 = \"654bc5d37e529a408e0a79da1904e16a4e73213f5b8ab44140f4c6b1a2ed8ba4\" }]\n[full.attestation]\nresult_lifetime_hours = 24\nreference_values = [{ firmware = \"2.4.1\", pcrs = { \"0\" = \"654bc5d37e529a408e0a79da1904e16a4e73213f5b8ab44140f4c6b1a2ed8ba4\", \"23\" = \"654bc5d37e529a408e0a79da1904e16a4e73213f5b8ab44140f4c6b1a2ed8ba4\" } }]\ntoken_reference_values = [{ firmware = \"2.4.1\", oemid = \"0a0b\", hwmodel = \"01\", swname = \"a b\", swversion = \"1\", oemboot = true, dbgstat_min = \"disabled\", submods = { modem = \"2\" } }]\n",
        ),
        (
            "services/t.toml",
            "[full-service]\ndescription = \"d\"\ngroups = [\"hall\"]\nobserves_network = true\nspeaks_for_owners = true\nsets_desired_state = true\nfan_out_per_minute = 100000\nshares = [\"workers\"]\n",
        ),
        (
            "channels/d.toml",
            "[full-up]\ndescription = \"d\"\ntopic = \"{device}/{attribute.site}/ü b/{any}/{rest...}\"\ndirection = \"from-device\"\npayload_bytes_max = 16777216\nrate_per_minute = 1000000\nretained_max = 1\nretained_days = 3650\nschema = \"schemas/s.json\"\nencoding = \"cbor\"\ndepth_max = 64\n[full-down]\ntopic = \"down/{device}\"\ndirection = \"to-device\"\npayload_bytes_max = 1\nfan_out_per_minute = 1\nresponse = \"full-up\"\nencoding = \"utf-8\"\n",
        ),
        ("schemas/s.json", "{}"),
        (
            "invariants.toml",
            "[none]\ndescription = \"d\"\nfrom = [\"devices\"]\nto = [\"group/floor\", \"product/full\"]\nexcept = [{ channels = [\"full-up\"], from = [\"services\"], to = [\"service/full-service\"] }]\n[only]\nchannels = [\"full-down\"]\npublish_only = [\"services\"]\nreceive_only = [\"devices\"]\n[lan]\ndescription = \"d\"\nlocal_only = []\n[net]\ndestinations = [\"net\", \"cloud\"]\nconnect_only = [\"product/full\"]\n",
        ),
    ]);
    let fleets = vec![example_files(), base_with(&[]), full];
    for files in &fleets {
        if let Err(wrong) = Fleet::read(files) {
            panic!("{}", crate::lines(&wrong));
        }
    }
    fleets
}

#[test]
fn what_the_parser_takes_validates() {
    let contracts = contracts();
    let mut seen = BTreeMap::new();
    for file in right_fleets().iter().flatten() {
        let Some(kind) = kind_of(&file.path) else {
            continue;
        };
        *seen.entry(kind.to_owned()).or_insert(0) += 1;
        let (_, contract) = &contracts[kind];
        let text = as_json(&file.text).to_string();
        let held = contract.check(text.as_bytes(), &mut PayloadScratch::default());
        assert_eq!(held, Ok(()), "{}\n{}", file.path, file.text);
    }
    assert_eq!(seen.len(), contracts.len(), "{seen:?}");
}

/// Every key that the parser knows is one that editors complete, and no other.
#[test]
fn the_schemas_name_every_key_of_the_parser() {
    for (kind, (schema, _)) in contracts() {
        let thing = match kind {
            "fleet.toml" => &schema,
            "invariants.toml" => continue,
            _ => &schema["additionalProperties"],
        };
        let mut known: Vec<&String> = thing["properties"].as_object().unwrap().keys().collect();
        known.sort();
        let path = match kind {
            "fleet.toml" => kind.to_owned(),
            _ => format!("{kind}/zz.toml"),
        };
        let text = match kind {
            "fleet.toml" => "nonsense = 1\n",
            _ => "[thing]\nnonsense = 1\n",
        };
        let wrong = Fleet::read(&base_with(&[(&path, text)])).unwrap_err();
        let message = &wrong[0].message;
        let mut told: Vec<String> = message
            .split('`')
            .skip(3)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        told.sort();
        assert_eq!(known, told.iter().collect::<Vec<_>>(), "{kind}: {message}");
    }
}

/// The places of a document, from the root.
fn places(value: &Value, at: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    all.push(at.clone());
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, one)| (key.clone(), one))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(place, one)| (place.to_string(), one))
            .collect(),
        _ => return,
    };
    for (key, one) in members {
        at.push(key);
        places(one, at, all);
        at.pop();
    }
}

fn place_mut<'v>(value: &'v mut Value, at: &[String]) -> &'v mut Value {
    at.iter().fold(value, |value, key| match value {
        Value::Object(members) => members.get_mut(key).unwrap(),
        Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
        _ => panic!("nothing is in a leaf"),
    })
}

/// One thing done to one place. What it does is not always wrong: both are asked.
#[derive(Debug, Clone)]
enum Mutation {
    AddKey,
    RemoveKey(prop::sample::Index),
    RenameKey(prop::sample::Index, &'static str),
    OtherType,
    Number(i64),
    Text(&'static str),
    EmptyList,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let numbers = vec![
        -1,
        0,
        1,
        64,
        65,
        256,
        65_535,
        65_536,
        3650,
        3651,
        1 << 24,
        (1 << 24) + 1,
    ];
    let texts = vec![
        "",
        "x",
        "-x",
        "a b",
        "json",
        "up",
        "tcp/0",
        "tcp/65536",
        "udp/7",
        "p256",
        "1.3",
        "1.4",
        "a//b",
        "+/a",
        "a/#",
        "{device}/{x}",
        "$a/b",
        "a/{device}/{rest...}",
        "devices",
        "group/",
        "schemas/s.json",
        "mud/",
        "from-device",
        "list",
        "0a0",
        "VIDEO.example.net",
        "1.2.3.4",
    ];
    prop_oneof![
        2 => Just(Mutation::AddKey),
        2 => any::<prop::sample::Index>().prop_map(Mutation::RemoveKey),
        2 => (any::<prop::sample::Index>(), prop::sample::select(vec!["x", "a b", "topicc", "-"]))
            .prop_map(|(at, name)| Mutation::RenameKey(at, name)),
        2 => Just(Mutation::OtherType),
        3 => prop::sample::select(numbers).prop_map(Mutation::Number),
        4 => prop::sample::select(texts).prop_map(Mutation::Text),
        1 => Just(Mutation::EmptyList),
    ]
}

/// `None`: it does not fit there, or would change nothing.
fn mutated(value: &Value, at: &[String], mutation: &Mutation) -> Option<Value> {
    let mut changed = value.clone();
    let place = place_mut(&mut changed, at);
    match (mutation, &mut *place) {
        (Mutation::AddKey, Value::Object(members)) => {
            members.insert("nonsense".into(), json!(1));
        }
        (Mutation::RemoveKey(which), Value::Object(members)) if !members.is_empty() => {
            let key = members.keys().nth(which.index(members.len()))?.clone();
            members.remove(&key);
        }
        (Mutation::RenameKey(which, name), Value::Object(members)) if !members.is_empty() => {
            let key = members.keys().nth(which.index(members.len()))?.clone();
            let value = members.remove(&key)?;
            members.insert((*name).to_owned(), value);
        }
        (Mutation::OtherType, place) if !at.is_empty() => {
            *place = match place {
                Value::Number(_) => json!("1"),
                Value::String(_) => json!(7),
                Value::Bool(_) => json!("yes"),
                Value::Array(_) | Value::Object(_) => json!(true),
                Value::Null => return None,
            };
        }
        (Mutation::Number(number), place @ Value::Number(_)) => *place = json!(number),
        (Mutation::Text(text), place @ Value::String(_)) => *place = json!(text),
        (Mutation::EmptyList, place @ Value::Array(_)) => *place = json!([]),
        _ => return None,
    }
    (changed != *value).then_some(changed)
}

/// Whether what is wrong is what a schema of one file can say: the parser says it while it looks at this
/// file alone, and of one value.
fn is_of_one_value(message: &str) -> bool {
    [
        "unknown field",
        "unknown variant",
        "missing field",
        "invalid type",
        "is out of range",
        "is no name for",
        "is no port",
        "ports are 1 to",
        "is no SHA-256",
        "is no version",
        "filter's wildcard",
        "unknown slot",
        "an empty level",
        "an exception names nothing",
        "an empty list",
        "is in two places or none",
        "is no register",
        "is no debug status",
        "not a name",
        "no reference values",
        "is no hex",
        "belong to the gateway",
    ]
    .iter()
    .any(|part| message.contains(part))
}

fn python() -> Option<String> {
    let beside = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/tools/python/bin/python"
    );
    let named = std::env::var("FLEETWARD_PYTHON").ok();
    let python = named.unwrap_or_else(|| match Path::new(beside).exists() {
        true => beside.to_owned(),
        false => "python3".to_owned(),
    });
    let probe = Command::new(&python)
        .args(["-c", "import jsonschema"])
        .output();
    probe
        .is_ok_and(|probe| probe.status.success())
        .then_some(python)
}

const DRIVER: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
asked = json.load(sys.stdin)
for schema in asked["schemas"].values():
    Draft202012Validator.check_schema(schema)
validators = {of: Draft202012Validator(schema) for of, schema in asked["schemas"].items()}
print(json.dumps([validators[of].is_valid(document) for of, document in asked["documents"]]))
"#;

/// Random mutations of files that are right: a schema is never stricter than the parser, and what is
/// wrong with one value it finds too.
#[test]
fn what_is_broken_on_purpose_is_refused_by_both() {
    let contracts = contracts();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let fleets = right_fleets();
    let (mut both, mut taken, mut only_parser) = (0, 0, 0);
    let mut documents: Vec<(String, Value, bool)> = Vec::new();
    while both + taken + only_parser < 3000 {
        let mut draw = |count: usize| (0..count).new_tree(&mut runner).unwrap().current();
        let files = &fleets[draw(fleets.len())];
        let file = &files[draw(files.len())];
        let Some(kind) = kind_of(&file.path) else {
            continue;
        };
        let document = as_json(&file.text);
        let mut all = Vec::new();
        places(&document, &mut Vec::new(), &mut all);
        let at = all[draw(all.len())].clone();
        let mutation = mutation().new_tree(&mut runner).unwrap().current();
        let Some(changed) = mutated(&document, &at, &mutation) else {
            continue;
        };
        let text = toml::to_string(&changed).unwrap();
        let mut files = files.clone();
        let mut other = files.iter_mut();
        other.find(|one| one.path == file.path).unwrap().text = text.clone();
        let wrong = Fleet::read(&files).err().unwrap_or_default();
        let (_, contract) = &contracts[kind];
        let held = contract.check(
            changed.to_string().as_bytes(),
            &mut PayloadScratch::default(),
        );
        let why = || {
            format!(
                "{mutation:?} at {at:?} of {}\n{text}{}",
                file.path,
                crate::lines(&wrong)
            )
        };
        let is_here = wrong
            .iter()
            .any(|one| one.path == file.path && is_of_one_value(&one.message));
        match (&held, wrong.is_empty()) {
            (Ok(()), true) => taken += 1,
            (Err(_), false) => both += 1,
            (Ok(()), false) => {
                assert!(!is_here, "only the parser finds {}", why());
                only_parser += 1;
            }
            (Err(violation), true) => panic!("only the schema finds {violation}: {}", why()),
        }
        documents.push((kind.to_owned(), changed, held.is_ok()));
    }
    println!("{both} refused by both, {taken} taken by both, {only_parser} need the whole fleet");
    assert!(both > 1000 && taken > 100, "{both} {taken} {only_parser}");

    let Some(python) = python() else {
        println!("skipped: no Python with jsonschema");
        return;
    };
    let schemas: BTreeMap<&str, Value> = json_schemas().into_iter().collect();
    let asked: Vec<Value> = (documents.iter())
        .map(|(of, document, _)| json!([of, document]))
        .collect();
    let mut child = Command::new(python)
        .args(["-B", "-c", DRIVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!({ "schemas": schemas, "documents": asked }).to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let valid: Vec<bool> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(valid.len(), documents.len());
    for ((of, document, ours), pythons) in documents.iter().zip(valid) {
        assert_eq!(*ours, pythons, "{of}: {document}");
    }
}

/// The site of the chapter, which has every key, and a thousand that are made of it.
#[test]
fn a_schema_of_a_site_finds_what_its_reader_refuses_and_nothing_that_it_takes() {
    let chapter = include_str!("../../../../docs/access.md");
    let (_, behind) = chapter.split_once("### A site").unwrap();
    let text = behind.split("```").nth(1).unwrap();
    let document = as_json(text.strip_prefix("toml").unwrap());
    let schema = site_json_schema();
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&document), keys(&schema["properties"]));
    let contract = contract(&schema);
    let holds = |document: &Value| {
        let text = document.to_string();
        (contract.check(text.as_bytes(), &mut PayloadScratch::default())).is_ok()
    };
    assert!(holds(&document) && Site::read(&toml::to_string(&document).unwrap()).is_ok());
    let mut all = Vec::new();
    places(&document, &mut Vec::new(), &mut all);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut both, mut neither) = (0, 0);
    for _ in 0..1000 {
        let at = &all[(0..all.len()).new_tree(&mut runner).unwrap().current()];
        let mutation = mutation().new_tree(&mut runner).unwrap().current();
        let Some(changed) = mutated(&document, at, &mutation) else {
            continue;
        };
        let text = toml::to_string(&changed).unwrap();
        match (holds(&changed), Site::read(&text)) {
            (true, Ok(_)) => neither += 1,
            (false, Err(_)) => both += 1,
            // An address is more than its characters.
            (true, Err(wrong)) => assert!(
                wrong.to_string().contains("is no address")
                    || wrong.to_string().contains("invalid"),
                "only the reader finds {mutation:?} at {at:?}: {wrong}"
            ),
            (false, Ok(_)) => panic!("only the schema finds {mutation:?} at {at:?}\n{text}"),
        }
    }
    assert!(both > 200 && neither > 50, "{both} {neither}");
}

/// The fleets that are wrong in one value, one by one, are found wrong while one types.
#[test]
fn the_wrong_fleets_of_the_tests_are_mostly_found_by_the_schemas_too() {
    let contracts = contracts();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(fleets()).unwrap() {
        let folder = entry.unwrap().path();
        for file in read_folder(&folder) {
            let Some(kind) = kind_of(&file.path) else {
                continue;
            };
            let Some((_, contract)) = contracts.get(kind) else {
                continue;
            };
            let Ok(table) = toml::from_str::<toml::Table>(&file.text) else {
                continue;
            };
            let text = serde_json::to_value(table).unwrap().to_string();
            if contract
                .check(text.as_bytes(), &mut PayloadScratch::default())
                .is_err()
            {
                found.push(folder.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    for name in [
        "unknown_key",
        "wrong_direction",
        "out_of_range",
        "missing_key",
        "bad_names",
    ] {
        assert!(found.iter().any(|one| one == name), "{name}: {found:?}");
    }
}
