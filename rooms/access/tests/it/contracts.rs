//! Payload contracts: what they mean, held against Python's `jsonschema` and the suite of the
//! standard, and what somebody would try who means harm.

use crate::source;
use access::{Contract, Diagnostic, Fleet, PayloadScratch, Violation};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

fn fleet(schema: &str, said: &str) -> Result<Fleet, Vec<Diagnostic>> {
    let channel = format!(
        "[up]\ntopic = \"up/{{device}}\"\ndirection = \"from-device\"\npayload_bytes_max = 1000000\n{said}\n"
    );
    Fleet::read(&[
        source("fleet.toml", "name = \"test\"\n"),
        source("channels/c.toml", channel),
        source("schemas/s.json", schema),
    ])
}

fn contract_with(schema: &str, said: &str) -> Contract {
    let fleet = fleet(schema, said).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    fleet.channels().next().unwrap().contract.clone().unwrap()
}

fn contract(schema: &Value) -> Contract {
    contract_with(&schema.to_string(), "schema = \"schemas/s.json\"")
}

fn check(contract: &Contract, payload: &[u8]) -> Result<(), Violation> {
    contract.check(payload, &mut PayloadScratch::default())
}

fn telemetry() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["at", "readings"],
        "additionalProperties": false,
        "properties": {
            "at": { "type": "integer", "minimum": 0 },
            "serial": { "type": "string", "pattern": "^SN[0-9]{1,12}$" },
            "readings": {
                "type": "array",
                "maxItems": 100,
                "items": {
                    "type": "object",
                    "required": ["name", "value"],
                    "properties": {
                        "name": { "enum": ["temperature", "humidity"] },
                        "value": { "type": "number", "minimum": -40, "maximum": 60 }
                    },
                    "additionalProperties": false
                }
            }
        }
    })
}

#[test]
fn a_violation_names_the_field_and_what_it_must_be() {
    let contract = contract(&telemetry());
    for (payload, expected) in [
        (r#"{"at":1,"readings":[]}"#, None),
        (
            r#"{"at":1.0,"readings":[{"name":"humidity","value":1e1}]}"#,
            None,
        ),
        (
            r#"{"at":1,"readings":[{"name":"humidity","value":61}]}"#,
            Some("/readings/0/value must be at most 60"),
        ),
        (
            r#"{"at":1,"readings":[{"name":"humidity","value":"9"}]}"#,
            Some("/readings/0/value must be number"),
        ),
        (
            r#"{"at":1,"readings":[{"name":"a","value":1}]}"#,
            Some("/readings/0/name must be \"humidity\" or \"temperature\""),
        ),
        (r#"{"at":1}"#, Some("/readings must be there")),
        (
            r#"{"at":1,"readings":[],"a/b~c":1}"#,
            Some("/a~1b~0c is not a property that is listed"),
        ),
        (r#"{"at":-1,"readings":[]}"#, Some("/at must be at least 0")),
        (r#"{"at":1.5,"readings":[]}"#, Some("/at must be integer")),
        (
            r#"{"at":1,"readings":[],"serial":"SNx"}"#,
            Some("/serial must match ^SN[0-9]{1,12}$"),
        ),
        ("[]", Some("the payload must be object")),
        (
            "",
            Some("the payload is no JSON: it ends where a value is due, at byte 0"),
        ),
        (
            r#"{"at":1,"at":2}"#,
            Some("the payload is no JSON: a key is there twice, at byte 8"),
        ),
    ] {
        let found = check(&contract, payload.as_bytes())
            .err()
            .map(|it| it.to_string());
        assert_eq!(found.as_deref(), expected, "{payload}");
    }
}

#[test]
fn hostile_names_do_not_act_in_a_reason() {
    let contract = contract(&json!({ "additionalProperties": { "type": "null" } }));
    let payload = format!("{{\"\\u001b[2J\u{202e}{}\":1}}", "x".repeat(9000));
    let violation = check(&contract, payload.as_bytes()).unwrap_err();
    let text = violation.to_string();
    assert!(text.len() < 400, "{}", text.len());
    assert!(
        !text.contains(|c: char| c.is_control() || c == '\u{202e}'),
        "{text:?}"
    );
}

#[test]
fn json_that_two_readers_read_differently_is_refused() {
    let contract = contract_with("true", "encoding = \"json\"");
    for payload in [
        // a key twice, also when it is written in another way
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":1}"#,
        // half of a surrogate pair
        r#""\ud800""#,
        r#""\ud800\u0041""#,
        r#""\udc00""#,
        // numbers that change on the way
        "1e999",
        "-1e999",
        "18446744073709551616",
        "-9223372036854775809",
        &format!("1{}", "0".repeat(100_000)),
        &format!("0.{}", "1".repeat(100_000)),
        // what is no JSON
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "- 1",
        "NaN",
        "Infinity",
        "'a'",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "[1 2]",
        "tru",
        "truee",
        "nul",
        "\"\t\"",
        "\"\\x41\"",
        "\"a",
        "[",
        "{",
        "{\"a\"",
        "{\"a\":",
        "1 2",
        "\u{feff}1",
        "//\n1",
    ] {
        assert!(
            check(&contract, payload.as_bytes()).is_err(),
            "{}",
            &payload[..payload.len().min(60)]
        );
    }
    for payload in [
        r#"{"a":1,"A":1}"#,
        r#""\ud83d\ude00\u0000""#,
        "18446744073709551615",
        "-9223372036854775808",
        "-0",
        "0.0e0",
        " [ 1 , { } , [ ] , \"\" ] \r\n\t",
        "1e-999",
    ] {
        assert_eq!(check(&contract, payload.as_bytes()), Ok(()), "{payload}");
    }
}

/// Any byte at any place of texts as short and long as eight bytes at once can meet them, against
/// another reader of JSON.
#[test]
fn a_text_is_read_as_another_reader_reads_it() {
    let contract = contract_with("true", "encoding = \"json\"");
    for length in 0..=20 {
        for at in 0..length {
            for byte in 0..=u8::MAX {
                let mut text = vec![b'a'; length];
                text[at] = byte;
                let payload = [b"\"", text.as_slice(), b"\""].concat();
                let other = serde_json::from_slice::<Value>(&payload);
                let ours = check(&contract, &payload);
                assert_eq!(
                    ours.is_ok(),
                    other.is_ok(),
                    "{payload:?}: {ours:?}, {other:?}"
                );
            }
        }
    }
}

#[test]
fn text_beyond_ascii_is_read_whole_or_refused_wherever_it_stands() {
    let contract = contract_with("true", "encoding = \"json\"");
    for before in 0..12 {
        let before = "a".repeat(before);
        for (middle, is_text) in [
            ("é".as_bytes(), true),
            ("\u{1f600}".as_bytes(), true),
            (b"\\n\xc3\xa9", true),
            (b"\xc3\xa9\\n", true),
            (b"\xc3\\n\xa9", false),
            (b"\xc3\\n", false),
            (b"\\n\xa9", false),
            (b"\xed\xa0\x80", false),
            (b"\xc0\xaf", false),
        ] {
            for after in ["", "a", "aaaaaaaaaa"] {
                let text = [before.as_bytes(), middle, after.as_bytes()].concat();
                let value = [b"\"", text.as_slice(), b"\""].concat();
                let key = [b"{\"", text.as_slice(), b"\":0}"].concat();
                for payload in [value, key] {
                    let read = check(&contract, &payload);
                    assert_eq!(read.is_ok(), is_text, "{payload:?}: {read:?}");
                }
            }
        }
    }
}

/// Names that begin alike, end in zeros or are longer than what is compared at once.
#[test]
fn a_property_is_told_from_all_that_are_like_it() {
    let names = [
        "",
        "a",
        "a\0",
        "a\0\0",
        "\0",
        "ab",
        "abc",
        "abcd",
        "abcd\0",
        "abcde",
        "abcdefg",
        "abcdefg\0",
        "abcdefgh",
        "abcdefgh\0",
        "abcdefghi",
        "abcdefghj",
        "abcdefghij",
        "b",
        "é",
        "ééééé",
        "ééééf",
    ];
    for listed in names {
        for others in [&names[..0], &names[..], &names[7..14]] {
            let mut properties: Map<String, Value> = others
                .iter()
                .map(|name| ((*name).to_owned(), json!(true)))
                .collect();
            properties.insert(listed.to_owned(), json!({ "type": "integer" }));
            let contract = contract(&json!({
                "additionalProperties": false, "required": [listed], "properties": properties,
            }));
            for sent in names {
                let held = check(&contract, json!({ sent: 1 }).to_string().as_bytes());
                assert_eq!(held.is_ok(), sent == listed, "{sent:?} for {listed:?}");
            }
            let broken = check(&contract, json!({ listed: "1" }).to_string().as_bytes());
            assert_eq!(broken.unwrap_err().rule, "type");
        }
    }
}

#[test]
fn a_key_that_is_there_twice_is_seen_wherever_it_stands() {
    let contract = contract_with("true", "encoding = \"json\"");
    for count in 1..40 {
        let names: Vec<String> = (0..count).map(|it| format!("key-{it}")).collect();
        let payload = |names: &[String]| {
            let members: Vec<String> = names.iter().map(|name| format!("{name:?}:0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(check(&contract, payload(&names).as_bytes()), Ok(()));
        for again in 0..count {
            let mut names = names.clone();
            names.push(names[again].clone());
            let refused = check(&contract, payload(&names).as_bytes()).unwrap_err();
            assert!(refused.text.contains("a key is there twice"), "{refused}");
        }
    }
}

#[test]
fn numbers_at_the_edge_of_64_bits() {
    let contract = contract(&json!({ "type": "integer", "minimum": u64::MAX - 9 }));
    for (number, is_held) in [
        ("18446744073709551615", Ok(())),
        ("18446744073709551606", Ok(())),
        ("18446744073709551605", Err("minimum")),
        ("9999999999999999999", Err("minimum")),
        ("18446744073709551616", Err("encoding")),
        ("28446744073709551606", Err("encoding")),
        ("100000000000000000000", Err("encoding")),
        ("-9223372036854775808", Err("minimum")),
        ("-9223372036854775809", Err("encoding")),
        ("-18446744073709551615", Err("encoding")),
        ("-0", Err("minimum")),
    ] {
        let held = check(&contract, number.as_bytes()).map_err(|violation| violation.rule);
        assert_eq!(held, is_held, "{number}");
    }
}

#[test]
fn lengths_are_of_characters_however_many_bytes_they_have() {
    let contract = contract(&json!({ "minLength": 3, "maxLength": 4 }));
    for letter in ["a", "é", "€", "\u{1f600}"] {
        for (count, rule) in [
            (2, Some("minLength")),
            (3, None),
            (4, None),
            (5, Some("maxLength")),
        ] {
            let text = json!(letter.repeat(count)).to_string();
            let held = check(&contract, text.as_bytes());
            assert_eq!(held.err().map(|it| it.rule), rule, "{text}");
        }
    }
}

#[test]
fn invalid_utf_8() {
    for said in ["encoding = \"json\"", "encoding = \"utf-8\""] {
        let contract = contract_with("true", said);
        for payload in [
            &b"\"\xff\""[..],
            b"\"\xc0\x80\"",
            b"\"\xed\xa0\x80\"",
            b"\"\xf5\x80\x80\x80\"",
        ] {
            assert_eq!(check(&contract, payload).unwrap_err().rule, "encoding");
        }
        assert_eq!(check(&contract, "\"é\"".as_bytes()), Ok(()));
    }
    // Text is text: it need not be JSON.
    assert_eq!(
        check(&contract_with("true", "encoding = \"utf-8\""), b"}{"),
        Ok(())
    );
}

#[test]
fn deep_nesting() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let standard = contract_with("true", "encoding = \"json\"");
    assert_eq!(check(&standard, nested(16).as_bytes()), Ok(()));
    assert!(check(&standard, nested(17).as_bytes()).is_err());
    let shallow = contract_with("true", "encoding = \"json\"\ndepth_max = 1");
    assert!(check(&shallow, nested(2).as_bytes()).is_err());
    for payload in [nested(300_000), "[{\"a\":".repeat(100_000)] {
        let violation = check(&standard, payload.as_bytes()).unwrap_err();
        assert!(violation.text.contains("nested too deeply"), "{violation}");
    }
    // CBOR: arrays and maps in each other, of definite length and not.
    let cbor = contract_with("true", "encoding = \"cbor\"");
    for part in [&[0x81][..], &[0x9f], &[0xa1, 0x60], &[0xbf, 0x60]] {
        let violation = check(&cbor, &part.repeat(100_000)).unwrap_err();
        assert!(violation.text.contains("nested too deeply"), "{violation}");
    }
}

#[test]
fn a_million_values() {
    let contract = contract_with("true", "encoding = \"json\"");
    let payload = format!("[{}1]", "1,".repeat(400_000));
    let violation = check(&contract, payload.as_bytes()).unwrap_err();
    assert!(violation.text.contains("65536 values"), "{violation}");
    let mut scratch = PayloadScratch::default();
    assert!(contract.check(payload.as_bytes(), &mut scratch).is_err());
    // Announced in CBOR, it allocates nothing.
    let cbor = contract_with("true", "encoding = \"cbor\"");
    for bomb in [
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x9a, 0x7f, 0xff, 0xff, 0xff, 0xf6],
    ] {
        assert!(
            check(&cbor, bomb).unwrap_err().text.contains("it ends"),
            "{bomb:x?}"
        );
    }
}

#[test]
fn unique_items_of_many_that_are_almost_equal() {
    let schema = json!({ "type": "array", "uniqueItems": true, "items": { "type": "string" } });
    let contract = contract(&schema);
    let many = |last: &str| {
        let all = (0..4000).map(|n| format!("\"{}{n}\"", "x".repeat(100)));
        format!("[{},{last}]", all.collect::<Vec<_>>().join(","))
    };
    assert_eq!(check(&contract, many("\"y\"").as_bytes()), Ok(()));
    let twice = format!("\"{}3999\"", "x".repeat(100));
    let violation = check(&contract, many(&twice).as_bytes()).unwrap_err();
    assert_eq!(
        (violation.rule, violation.field.as_str()),
        ("uniqueItems", "/4000")
    );
}

#[test]
fn many_keys_are_compared_without_comparing_all_with_all() {
    let contract = contract_with("true", "encoding = \"json\"");
    let object = |last: &str| {
        let all = (0..30_000).map(|n| format!("\"k{n}\":0"));
        format!("{{{},{last}}}", all.collect::<Vec<_>>().join(","))
    };
    assert_eq!(check(&contract, object("\"z\":0").as_bytes()), Ok(()));
    assert!(check(&contract, object("\"k7\":0").as_bytes()).is_err());
}

#[test]
fn a_giant_enum() {
    let words: Vec<String> = (0..1000).map(|n| format!("word-{n}")).collect();
    let contract = contract(&json!({ "items": { "enum": words } }));
    let payload = format!("[{}\"word-999\"]", "\"word-0\",".repeat(10_000));
    assert_eq!(check(&contract, payload.as_bytes()), Ok(()));
    let words: Vec<u32> = (0..1001).collect();
    let wrong = fleet(&json!({ "enum": words }).to_string(), "").unwrap_err();
    assert!(wrong[0].message.contains("1 to 1000"), "{wrong:?}");
}

#[test]
fn a_regex_bomb_is_linear_in_a_payload_and_refused_in_a_schema() {
    let slow_elsewhere = contract(&json!({ "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$" }));
    let payload = format!("\"{}\"", "a".repeat(500_000));
    assert!(check(&slow_elsewhere, payload.as_bytes()).is_err());
    for bomb in ["(a|b)*a(a|b){40}", "((.{1,200}){1,200}){1,200}"] {
        let wrong = fleet(&json!({ "pattern": bomb }).to_string(), "").unwrap_err();
        assert!(wrong[0].message.contains("512 KiB"), "{wrong:?}");
    }
}

#[test]
fn a_schema_that_cannot_be_budgeted_is_refused_at_its_line() {
    let branches: Vec<Value> = (0..70)
        .map(|n| json!({ "properties": { "a": { "const": n } } }))
        .collect();
    let doubling = |levels: usize| {
        let mut defs = Map::new();
        for level in 0..levels {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            defs.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
        }
        defs.insert(format!("d{levels}"), json!({}));
        json!({ "$defs": defs, "$ref": "#/$defs/d0" })
    };
    for (schema, at, expected) in [
        ("{\n  \"type\": \"objekt\"\n}", "2:11", "no such type"),
        (
            "{ \"type\": \"object\",\n \"propertys\": {} }",
            "2:2",
            "no keyword",
        ),
        ("{ \"format\": \"date-time\" }", "1:3", "no keyword"),
        (
            "{ \"$ref\": \"https://example.net/s.json\" }",
            "1:11",
            "nothing in this file",
        ),
        (
            "{ \"$ref\": \"#/$defs/x\" }",
            "1:11",
            "nothing in this file",
        ),
        ("{ \"$ref\": \"#\" }", "1:11", "refers to itself"),
        (
            "{ \"$defs\": { \"a\": { \"items\": { \"$ref\": \"#/$defs/a\" } } }, \"$ref\": \"#/$defs/a\" }",
            "1:40",
            "refers to itself",
        ),
        (
            "{ \"$schema\": \"http://json-schema.org/draft-04/schema#\" }",
            "1:14",
            "a draft",
        ),
        ("{ \"uniqueItems\": true }", "1:1", "uniqueItems compares"),
        ("{ \"items\": [{}] }", "1:12", "items is one schema"),
        ("{ \"minimum\": \"3\" }", "1:14", "a number is due"),
        ("{ \"maxLength\": -1 }", "1:16", "a whole number"),
        ("{ \"multipleOf\": 0 }", "1:17", "greater than 0"),
        ("{ \"pattern\": \"(?=a)\" }", "1:14", "looking ahead"),
        ("{ \"const\": {} }", "1:12", "enum and const list"),
        ("{ \"a\": 1, \"a\": 2 }", "1:11", "a key is there twice"),
        ("{ \"type\": \"string\"", "1:19", "not JSON"),
        ("7", "1:1", "a schema is an object"),
        (&json!({ "anyOf": branches }).to_string(), "1:1", "71 rules"),
        (&doubling(20).to_string(), "1:1", "rules of this schema"),
    ] {
        let wrong = fleet(schema, "schema = \"schemas/s.json\"").unwrap_err();
        let first = wrong[0].to_string();
        assert!(first.contains(expected), "{schema}: {first}");
        assert!(
            first.starts_with(&format!("fleet/schemas/s.json:{at}")),
            "{schema}: {first}"
        );
        assert!(first.contains("(help: "), "{first}");
    }
}

#[test]
fn a_channel_says_how_it_is_encoded_or_is_refused() {
    for (said, expected) in [
        ("schema = \"schemas/none.json\"", "is no file of this fleet"),
        (
            "schema = \"schemas/s.json\"\nencoding = \"utf-8\"",
            "a schema describes JSON or CBOR",
        ),
        (
            "schema = \"schemas/s.json\"\nencoding = \"none\"",
            "a schema describes JSON or CBOR",
        ),
        ("depth_max = 3", "nothing here has a depth"),
        ("encoding = \"json\"\ndepth_max = 65", "out of range"),
        ("encoding = \"xml\"", "unknown variant"),
    ] {
        let wrong = fleet("true", said).unwrap_err();
        assert!(wrong[0].to_string().contains(expected), "{said}: {wrong:?}");
    }
    for said in ["", "encoding = \"none\""] {
        let fleet = fleet("true", said).unwrap();
        assert_eq!(fleet.channels().next().unwrap().contract, None);
    }
}

#[test]
fn cbor_that_two_readers_read_differently_is_refused() {
    let contract = contract_with("true", "encoding = \"cbor\"");
    for (payload, why) in [
        (&[0xa2, 0x61, 0x61, 1, 0x61, 0x61, 2][..], "a key twice"),
        (&[0xbf, 0x61, 0x61, 1, 0x61, 0x61, 2, 0xff], "a key twice"),
        (&[0xa1, 1, 1], "a key that is no text"),
        (&[0xc0, 0x60], "a tag"),
        (&[0xd9, 0xd9, 0xf7, 1], "self-described, a tag"),
        (&[0x41, 1], "a byte string"),
        (&[0x7f, 0x61, 0x61, 0xff], "a string of indefinite length"),
        (&[0x61, 0xff], "not UTF-8"),
        (&[0xf7], "undefined"),
        (&[0xf8, 0xff], "a simple value"),
        (&[0xff], "a break"),
        (&[0x82, 1, 0xff], "a break in an array of definite length"),
        (&[0xbf, 0x61, 0x61, 0xff], "a key without a value"),
        (&[0xf9, 0x7e, 0x00], "not a number"),
        (&[0xf9, 0x7c, 0x00], "infinite"),
        (&[0xfa, 0xff, 0x80, 0, 0], "infinite"),
        (&[0x1c], "a reserved length"),
        (&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0], "below 64 bits"),
        (&[1, 1], "two items"),
        (&[], "nothing"),
        (&[0x18], "half an item"),
    ] {
        let violation = check(&contract, payload).unwrap_err();
        assert_eq!(violation.rule, "encoding", "{why}");
    }
    let limits = contract_with(
        &json!({ "items": { "minimum": -1.5, "maximum": 65504 } }).to_string(),
        "schema = \"schemas/s.json\"\nencoding = \"cbor\"",
    );
    for (payload, holds) in [
        (&[0x81, 0xf9, 0x7b, 0xff][..], true), // 65504, the largest of 16 bits
        (&[0x81, 0xf9, 0xbe, 0x00], true),     // -1.5
        (&[0x81, 0xf9, 0xbe, 0x01], false),    // a little less
        (&[0x81, 0xf9, 0x00, 0x01], true),     // subnormal
        (&[0x9f, 0xfa, 0x47, 0x7f, 0xe0, 0x00, 0xff], true), // 65504 in 32 bits
        (&[0x81, 0x19, 0xff, 0xe1], false),    // 65505
        (&[0x81, 0x20], true),                 // -1
        (
            &[0x81, 0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            false,
        ), // the least of 64 bits
    ] {
        assert_eq!(check(&limits, payload).is_ok(), holds, "{payload:x?}");
    }
}

// ---- held against others ----

/// Values near those that schemas below speak of, so that rules are met and broken alike.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..12).prop_map(Value::from),
        (-6_i32..24).prop_map(|half| json!(f64::from(half) / 2.0)),
        Just(json!(u64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(1e300)),
        "[ab\\\\é\"]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[abc]{1,2}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn schemas() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        (0_i64..4).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(1.5)),
    ];
    let number = prop_oneof![
        (-3_i64..10).prop_map(Value::from),
        Just(json!(1.5)),
        Just(json!(1e17))
    ];
    let types = prop::sample::subsequence(
        vec![
            "null", "boolean", "integer", "number", "string", "array", "object",
        ],
        1..4,
    );
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({})),
        types.prop_map(|types| json!({ "type": types })),
        prop::collection::vec(scalar.clone(), 1..4).prop_map(|all| json!({ "enum": all })),
        scalar.prop_map(|one| json!({ "const": one })),
        (number.clone(), number.clone())
            .prop_map(|(min, max)| json!({ "minimum": min, "exclusiveMaximum": max })),
        (number.clone(), number)
            .prop_map(|(min, max)| json!({ "exclusiveMinimum": min, "maximum": max })),
        (1_u32..4).prop_map(|of| json!({ "multipleOf": of })),
        (0_u32..3, 0_u32..5).prop_map(|(min, max)| json!({ "minLength": min, "maxLength": max })),
        prop::sample::select(vec![
            "^a", "b$", "^[ab]*$", "a.b|é", "[^a]", "(a|b){2}", "\\\\"
        ])
        .prop_map(|pattern| json!({ "pattern": pattern })),
        Just(json!({ "uniqueItems": true, "items": { "type": ["integer", "string", "boolean"] } })),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let name = "[abc]{1,2}";
        let members = prop::collection::btree_map(name, inner.clone(), 1..3);
        let members = members.prop_map(|map| Value::Object(map.into_iter().collect()));
        prop_oneof![
            members.clone().prop_map(|members| json!({ "properties": members })),
            (members, inner.clone(), prop::collection::btree_set(name, 0..2)).prop_map(
                |(members, additional, required)| json!({
                    "properties": members, "additionalProperties": additional, "required": required,
                })
            ),
            inner.clone().prop_map(|inner| json!({ "patternProperties": { "^a": inner }, "additionalProperties": false })),
            (0_u32..2, 1_u32..4).prop_map(|(min, max)| json!({ "minProperties": min, "maxProperties": max })),
            Just(json!({ "propertyNames": { "maxLength": 1 } })),
            Just(json!({ "dependentRequired": { "a": ["b", "c"] } })),
            (inner.clone(), 0_u32..2, 1_u32..4)
                .prop_map(|(items, min, max)| json!({ "items": items, "minItems": min, "maxItems": max })),
            (inner.clone(), inner.clone())
                .prop_map(|(first, rest)| json!({ "prefixItems": [first], "items": rest })),
            (inner.clone(), 0_u32..3, 1_u32..4).prop_map(
                |(inner, min, max)| json!({ "contains": inner, "minContains": min, "maxContains": max })
            ),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({ "allOf": all })),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({ "anyOf": all })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| json!({ "oneOf": all })),
            inner.clone().prop_map(|inner| json!({ "not": inner })),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(when, then, other)| json!({ "if": when, "then": then, "else": other })),
        ]
    })
}

/// With the outermost schema behind a reference, now and then.
fn files() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => schemas(),
        1 => schemas().prop_map(
            |inner| json!({ "$defs": { "x": inner }, "items": { "$ref": "#/$defs/x" }, "title": "t" })
        ),
    ]
}

fn runner() -> TestRunner {
    let config = Config::default();
    TestRunner::new_with_rng(
        config,
        TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    )
}

/// As small encoders write it: short, or of indefinite length.
fn cbor(value: &Value, is_indefinite: bool, out: &mut Vec<u8>) {
    fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
        match argument {
            0..=23 => out.push(major << 5 | argument as u8),
            24..=0xff => out.extend([major << 5 | 24, argument as u8]),
            _ => {
                out.push(major << 5 | 27);
                out.extend(argument.to_be_bytes());
            }
        }
    }
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(is) => out.push(if *is { 0xf5 } else { 0xf4 }),
        Value::Number(number) => {
            if let Some(natural) = number.as_u64() {
                head(0, natural, out);
            } else if let Some(negative) = number.as_i64() {
                head(1, !negative as u64, out);
            } else {
                out.push(0xfb);
                out.extend(number.as_f64().unwrap().to_be_bytes());
            }
        }
        Value::String(text) => {
            head(3, text.len() as u64, out);
            out.extend(text.as_bytes());
        }
        Value::Array(all) => {
            match is_indefinite {
                true => out.push(0x9f),
                false => head(4, all.len() as u64, out),
            }
            all.iter().for_each(|one| cbor(one, is_indefinite, out));
            out.extend(is_indefinite.then_some(0xff));
        }
        Value::Object(all) => {
            match is_indefinite {
                true => out.push(0xbf),
                false => head(5, all.len() as u64, out),
            }
            for (key, one) in all {
                head(3, key.len() as u64, out);
                out.extend(key.as_bytes());
                cbor(one, is_indefinite, out);
            }
            out.extend(is_indefinite.then_some(0xff));
        }
    }
}

const DRIVER: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
for line in sys.stdin:
    schema, payloads = json.loads(line)
    validator = Draft202012Validator(schema)
    print(json.dumps([validator.is_valid(payload) for payload in payloads]), flush=True)
"#;

#[test]
fn python_and_we_agree_on_random_schemas_and_payloads_in_json_and_cbor() {
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
    if !probe.is_ok_and(|probe| probe.status.success()) {
        println!("skipped: no Python with jsonschema");
        return;
    }
    let mut child = Command::new(&python)
        .args(["-B", "-c", DRIVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ask = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut runner = runner();
    let (mut held, mut broken, mut refused) = (0, 0, 0);
    for _ in 0..500 {
        let schema = files().new_tree(&mut runner).unwrap().current();
        let payloads = prop::collection::vec(values(), 12)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        writeln!(ask, "{}", json!([schema, payloads])).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let expected: Vec<bool> = serde_json::from_str(&line).unwrap();
        let text = schema.to_string();
        let Ok(read) = fleet(&text, "schema = \"schemas/s.json\"") else {
            refused += 1;
            continue;
        };
        let json = read.channels().next().unwrap().contract.clone().unwrap();
        let as_cbor = contract_with(&text, "schema = \"schemas/s.json\"\nencoding = \"cbor\"");
        for (payload, expected) in payloads.iter().zip(expected) {
            let ours = check(&json, payload.to_string().as_bytes());
            assert_eq!(ours.is_ok(), expected, "{schema}\n{payload}\n{ours:?}");
            for is_indefinite in [false, true] {
                let mut bytes = Vec::new();
                cbor(payload, is_indefinite, &mut bytes);
                assert_eq!(
                    check(&as_cbor, &bytes),
                    ours,
                    "{schema}\n{payload}\n{bytes:x?}"
                );
            }
            // The budget that is known in advance suffices, always.
            assert_ne!(ours.as_ref().err().map(|it| it.rule), Some("budget"));
            if expected { held += 1 } else { broken += 1 }
        }
    }
    drop(ask);
    child.wait().unwrap();
    println!("{held} held, {broken} broken, {refused} schemas refused");
    assert!(
        held > 1000 && broken > 1000 && refused < 50,
        "{held} {broken} {refused}"
    );
}

/// The suite of json-schema.org: `FLEETWARD_JSON_SCHEMA_SUITE=<suite>/tests/draft2020-12`.
#[test]
fn the_suite_of_the_standard_agrees_where_a_schema_is_read() {
    let Some(folder) = std::env::var_os("FLEETWARD_JSON_SCHEMA_SUITE") else {
        println!("skipped: FLEETWARD_JSON_SCHEMA_SUITE names no folder");
        return;
    };
    let (mut agreed, mut refused, mut differ) = (0, 0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for group in groups {
            let read = fleet(
                &group["schema"].to_string(),
                "schema = \"schemas/s.json\"\ndepth_max = 64",
            );
            let Ok(read) = read else {
                refused += group["tests"].as_array().unwrap().len();
                continue;
            };
            let contract = read.channels().next().unwrap().contract.clone().unwrap();
            for test in group["tests"].as_array().unwrap() {
                let ours = check(&contract, test["data"].to_string().as_bytes());
                if ours.is_ok() == test["valid"].as_bool().unwrap() {
                    agreed += 1;
                } else {
                    differ.push(format!(
                        "{name}: {}: {}: {ours:?}",
                        group["description"], test["description"]
                    ));
                }
            }
        }
    }
    println!("{agreed} agreed, {refused} of schemas that are refused");
    assert!(
        differ.is_empty() && agreed > 400,
        "{agreed}\n{}",
        differ.join("\n")
    );
}
