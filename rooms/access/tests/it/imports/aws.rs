//! The evaluator here follows "AWS IoT Core policies" of the developer guide: an explicit deny outweighs
//! every allow, what no statement allows is denied, `*` is any text and `?` one character, in filters `+`
//! and `#` are characters like others, and variables are replaced before anything is compared. It is our
//! reading of that text; no broker of AWS is asked.

use super::{decisions, grants, names};
use crate::{device, lines, service, source};
use access::{Facts, ImportRemark, Imported, SourceFile, import_aws};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:iot:eu-west-1:123456789012";
const THING: &str = "${iot:Connection.Thing.ThingName}";

fn import(documents: &[(&str, Value)]) -> Result<Imported, Vec<ImportRemark>> {
    let documents: Vec<SourceFile> = (documents.iter())
        .map(|(path, document)| source(path, document.to_string()))
        .collect();
    import_aws(&documents, &names())
}

fn statement(effect: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Effect": effect, "Action": actions, "Resource": resources })
}

fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn camera() -> Value {
    document(vec![
        json!({
            "Effect": "Allow", "Action": "iot:Connect", "Resource": format!("{ARN}:client/{THING}"),
            "Condition": { "Bool": { "iot:Connection.Thing.IsAttached": ["true"] } }
        }),
        statement(
            "Allow",
            &["iot:Publish"],
            &[
                format!("{ARN}:topic/v1/{THING}/up/*"),
                format!("{ARN}:topic/$aws/things/{THING}/shadow/update"),
            ],
        ),
        statement(
            "Allow",
            &["iot:Receive"],
            &[format!("{ARN}:topic/v1/{THING}/down/*")],
        ),
        statement(
            "Allow",
            &["iot:Subscribe"],
            &[format!("{ARN}:topicfilter/v1/{THING}/down/*")],
        ),
    ])
}

#[test]
fn a_policy_of_things_is_a_product_and_another_a_service() {
    let ingest = document(vec![
        statement("Allow", &["iot:Receive"], &[format!("{ARN}:topic/*")]),
        statement(
            "Allow",
            &["iot:Subscribe"],
            &[format!("{ARN}:topicfilter/v1/+/up/#")],
        ),
        statement("Allow", &["iot:Publish"], &[format!("{ARN}:topic/news")]),
    ]);
    let printed = json!({
        "policyName": "ingest", "policyArn": "x", "defaultVersionId": "1",
        "policyDocument": ingest.to_string(),
    });
    let imported = import(&[("iot/camera.json", camera()), ("p.json", printed)])
        .unwrap_or_else(|refused| panic!("{}", lines(&refused)));
    let cam = device("cam-1", "camera", &[]);
    let grants = grants(&imported, std::slice::from_ref(&cam));
    assert_eq!(decisions(&grants, &cam, "v1/cam-1/up/t"), (true, false));
    assert_eq!(decisions(&grants, &cam, "v1/cam-2/up/t"), (false, false));
    assert_eq!(
        decisions(&grants, &cam, "v1/cam-1/up"),
        (false, false),
        "a * has a / before it"
    );
    assert_eq!(decisions(&grants, &cam, "v1/cam-1/down/x/y"), (false, true));
    let ingest = service("ingest");
    assert_eq!(
        decisions(&grants, &ingest, "v1/cam-1/up/t/x"),
        (false, true)
    );
    assert_eq!(
        decisions(&grants, &ingest, "v1/cam-1/down/t"),
        (false, false),
        "it may receive that, and subscribe to nothing that matches"
    );
    let said = lines(&imported.left_out);
    assert!(said.contains("is a service of AWS itself"), "{said}");
}

#[test]
fn what_cannot_be_said_is_refused_at_its_statement() {
    let publish =
        |resource: String| document(vec![statement("Allow", &["iot:Publish"], &[resource])]);
    let with = |key: &str, value: Value| {
        let mut one = statement("Allow", &["iot:Publish"], &[format!("{ARN}:topic/a")]);
        one[key] = value;
        document(vec![one])
    };
    for (document, said) in [
        (
            publish(format!("{ARN}:topic/a/*/b")),
            "p.json, statement 1: \"a/*/b\" has a wildcard",
        ),
        (
            publish(format!("{ARN}:topic/a*")),
            "has a wildcard that is not the end",
        ),
        (publish(format!("{ARN}:topic/a?")), "has a wildcard"),
        (publish("*".into()), "begins with a wildcard"),
        (
            publish(format!(
                "{ARN}:topic/a/${{iot:Connection.Thing.ThingTypeName}}"
            )),
            "is not understood",
        ),
        (
            publish("arn:aws:s3:::bucket".into()),
            "is no resource of AWS IoT",
        ),
        (
            with(
                "Condition",
                json!({ "IpAddress": { "aws:SourceIp": "192.0.2.0/24" } }),
            ),
            "Condition cannot be",
        ),
        (with("NotResource", json!("x")), "NotResource cannot be"),
        (with("Effect", json!("Perhaps")), "it has no Effect"),
        (
            document(vec![statement(
                "Deny",
                &["iot:Subscribe"],
                &[format!("{ARN}:topicfilter/a/#")],
            )]),
            "a denied iot:Subscribe forbids filters",
        ),
        (json!({ "Version": "2012-10-17" }), "it has no Statement"),
        (json!([1]), "it is no JSON object"),
    ] {
        let refused = lines(&import(&[("p.json", document)]).unwrap_err());
        assert!(refused.contains(said), "{said}\n{refused}");
    }
}

/// One who asks, as the evaluator knows it.
struct Asking<'a> {
    document: &'a Value,
    name: &'a str,
}

/// `*` is any text, `?` one character.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            wildcard(rest, text)
                || text
                    .split_first()
                    .is_some_and(|(_, text)| wildcard(pattern, text))
        }
        (Some((b'?', rest)), Some((_, text))) => wildcard(rest, text),
        (Some((one, rest)), Some((other, text))) => one == other && wildcard(rest, text),
        _ => false,
    }
}

impl Asking<'_> {
    fn allows(&self, action: &str, resource: &str) -> bool {
        let applies = |effect: &str| {
            let statements = self.document["Statement"].as_array().unwrap().iter();
            statements.filter(|one| one["Effect"] == effect).any(|one| {
                let texts = |key: &str| -> Vec<String> {
                    let list = one[key].as_array().unwrap().iter();
                    list.map(|text| text.as_str().unwrap().replace(THING, self.name))
                        .collect()
                };
                let is_meant = |list: Vec<String>, what: &str| {
                    list.iter()
                        .any(|one| wildcard(one.as_bytes(), what.as_bytes()))
                };
                is_meant(texts("Action"), action) && is_meant(texts("Resource"), resource)
            })
        };
        applies("Allow") && !applies("Deny")
    }

    fn publishes(&self, topic: &str) -> bool {
        self.allows("iot:Publish", &format!("{ARN}:topic/{topic}"))
    }

    /// It may receive it, and there is a filter that matches it to which it may subscribe.
    fn hears(&self, topic: &str) -> bool {
        self.allows("iot:Receive", &format!("{ARN}:topic/{topic}"))
            && filters_of(topic)
                .iter()
                .any(|filter| self.allows("iot:Subscribe", &format!("{ARN}:topicfilter/{filter}")))
    }
}

/// Every filter that matches a topic.
fn filters_of(topic: &str) -> Vec<String> {
    let levels: Vec<&str> = topic.split('/').collect();
    let mut filters = Vec::new();
    for keep in 0..=levels.len() {
        for free in 0..1_u32 << keep {
            let mut filter: Vec<&str> = (0..keep)
                .map(|at| {
                    if free & (1 << at) == 0 {
                        levels[at]
                    } else {
                        "+"
                    }
                })
                .collect();
            if keep == levels.len() {
                filters.push(filter.join("/"));
            }
            filter.push("#");
            filters.push(filter.join("/"));
        }
    }
    filters
}

fn resource(kind: &'static str, of_things: bool) -> impl Strategy<Value = String> {
    let second = match of_things {
        true => vec![THING, THING, THING, "b"],
        false => vec!["b", "x", "dev-a"],
    };
    let ends = match kind {
        "topic" => vec!["", "/a", "/b", "/*", "/a/*", "/b/x"],
        _ => vec!["", "/a", "/b", "/*", "/#", "/+", "/a/#", "/b/x", "/+/x"],
    };
    let wide = match (kind, of_things) {
        ("topicfilter", false) => vec!["a/+/a", "a/+/#", "a/#", "*", "b/+/+"],
        (_, false) => vec!["a/*", "*"],
        _ => vec!["news/*"],
    };
    prop_oneof![
        5 => (prop::sample::select(vec!["a", "b"]), prop::sample::select(second), prop::sample::select(ends))
            .prop_map(move |(first, second, end)| format!("{ARN}:{kind}/{first}/{second}{end}")),
        1 => prop::sample::select(wide).prop_map(move |wide| format!("{ARN}:{kind}/{wide}")),
    ]
}

fn a_document(of_things: bool) -> impl Strategy<Value = Value> {
    let some = |kind| prop::collection::vec(resource(kind, of_things), 1..3);
    let one = prop_oneof![
        4 => some("topic").prop_map(|all| statement("Allow", &["iot:Publish"], &all)),
        3 => some("topic").prop_map(|all| statement("Allow", &["iot:Receive"], &all)),
        3 => some("topicfilter").prop_map(|all| statement("Allow", &["iot:Subscribe"], &all)),
        1 => some("topic").prop_map(|all| statement("Deny", &["iot:Publish", "iot:Receive"], &all)),
        1 => (some("topic"), some("topicfilter")).prop_map(|(mut all, more)| {
            all.extend(more);
            statement("Allow", &["iot:*"], &all)
        }),
    ];
    prop::collection::vec(one, 1..5).prop_map(document)
}

#[test]
fn an_evaluator_of_aws_policies_decides_alike() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[4; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let levels = ["a", "b", "dev-a", "dev-b", "x", "news"];
    let mut topics: Vec<String> = Vec::new();
    for first in levels {
        topics.push(first.to_owned());
        for second in levels {
            topics.push(format!("{first}/{second}"));
            for third in levels {
                topics.push(format!("{first}/{second}/{third}"));
                topics.push(format!("{first}/{second}/{third}/x"));
            }
        }
    }
    let (mut fleets, mut refused, mut permitted, mut denied) = (0, 0, 0, 0);
    while fleets < 150 {
        let things = a_document(true).new_tree(&mut runner).unwrap().current();
        let backend = a_document(false).new_tree(&mut runner).unwrap().current();
        let documents = [("things.json", things), ("backend.json", backend)];
        let Ok(imported) = import(&documents) else {
            refused += 1;
            continue;
        };
        fleets += 1;
        // Without the thing's name in it, it is a service's.
        let is_product = documents[0].1.to_string().contains(THING);
        let mut everybody: Vec<(Facts, Asking<'_>)> = vec![(
            service("backend"),
            Asking {
                document: &documents[1].1,
                name: "backend",
            },
        )];
        for name in ["dev-a", "dev-b"].into_iter().filter(|_| is_product) {
            let document = &documents[0].1;
            everybody.push((device(name, "things", &[]), Asking { document, name }));
        }
        let devices: Vec<Facts> = (everybody.iter())
            .map(|(facts, _)| facts.clone())
            .filter(|facts| facts.product.is_some())
            .collect();
        let grants = grants(&imported, &devices);
        for topic in &topics {
            // Of a topic in no channel nothing is heard here: nobody known sends there.
            let is_sent = everybody.iter().any(|(_, one)| one.publishes(topic));
            for (facts, asking) in &everybody {
                let (publishes, hears) = decisions(&grants, facts, topic);
                let said = || format!("{topic} of {}\n{documents:#?}", facts.principal);
                assert_eq!(publishes, asking.publishes(topic), "publish {}", said());
                if is_sent || hears {
                    assert_eq!(hears, asking.hears(topic), "hear {}", said());
                }
                if publishes || hears {
                    permitted += 1
                } else {
                    denied += 1
                }
            }
        }
    }
    println!("{permitted} permitted and {denied} denied alike in 150 fleets; {refused} refused");
    assert!(permitted > 1000 && denied > 1000, "{permitted} {denied}");
}
