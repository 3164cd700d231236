use super::{decisions, grants, names};
use crate::{device, lines, service};
use access::{Facts, ImportRemark, Imported, import_mosquitto};
use model::Principal;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn import(acl: &str) -> Result<Imported, Vec<ImportRemark>> {
    import_mosquitto("acl", acl, &names())
}

const HOUSE: &str = "# A house as it is often seen.
topic read $SYS/#

user ingest
topic read devices/+/telemetry/#
topic read devices/+/state

user commander
topic write devices/+/command
topic read devices/+/state

pattern write devices/%u/telemetry/#
pattern readwrite devices/%u/state
pattern read devices/%u/command
";

#[test]
fn patterns_are_devices_and_users_are_services() {
    let imported = import(HOUSE).unwrap_or_else(|refused| panic!("{}", lines(&refused)));
    let topics: Vec<String> = (access::Fleet::read(&imported.files).unwrap().channels())
        .map(|channel| format!("{} {}", channel.template, channel.direction.name()))
        .collect();
    assert_eq!(
        topics,
        [
            "devices/{device}/command to-device",
            "devices/{device}/state from-device",
            "devices/{device}/telemetry/{rest...} from-device",
        ]
    );
    let cam = device("cam-1", "device", &[]);
    let grants = grants(&imported, std::slice::from_ref(&cam));
    assert_eq!(
        decisions(&grants, &cam, "devices/cam-1/state"),
        (true, true)
    );
    assert_eq!(
        decisions(&grants, &cam, "devices/cam-2/state"),
        (false, false)
    );
    assert_eq!(
        decisions(&grants, &cam, "devices/cam-1/command"),
        (false, true)
    );
    let commander = service("commander");
    assert_eq!(
        decisions(&grants, &commander, "devices/cam-2/command"),
        (true, false)
    );
    let said = lines(&imported.left_out);
    assert!(
        said.contains("acl:2: $SYS/# is for clients without a name"),
        "{said}"
    );
}

#[test]
fn users_that_differ_in_their_own_name_alone_are_one_product() {
    let imported = import(
        "user cam-1\ntopic readwrite d/cam-1/up\nuser cam-2\ntopic readwrite d/cam-2/up\n\
         user ingest\ntopic read d/+/up\n",
    )
    .unwrap();
    assert_eq!(imported.devices["device"], ["cam-1", "cam-2"]);
    let cam = device("cam-2", "device", &[]);
    let grants = grants(&imported, std::slice::from_ref(&cam));
    assert_eq!(decisions(&grants, &cam, "d/cam-2/up"), (true, true));
    assert_eq!(decisions(&grants, &cam, "d/cam-1/up"), (false, false));
    assert_eq!(
        decisions(&grants, &service("ingest"), "d/cam-1/up"),
        (false, true)
    );
}

#[test]
fn what_cannot_be_said_is_refused_at_its_line() {
    for (acl, said) in [
        (
            "user a\ntopic write #\n",
            "acl:2: {rest...} begins with a wildcard",
        ),
        (
            "pattern readwrite d/%u/#\nuser c\ntopic write d/+/command\n",
            "acl:1: d/{device}/{rest...} holds d/{any}/command (acl:3) and more",
        ),
        (
            "pattern write d/%u/up\nuser c\ntopic read d/cam-1/up\n",
            "acl:3: d/cam-1/up is a part of the channel d/{device}/up (acl:1)",
        ),
        (
            "pattern write d/x%u/up\n",
            "acl:1: \"x%u\" has a name and more",
        ),
        ("user a b\n", "acl:1: \"a b\" is no name here"),
        (
            "user a\ntopic often d/x\n",
            "acl:2: \"often\" is no kind of access",
        ),
        (
            "user a\ntopic read d/x#\n",
            "acl:2: \"d/x#\" is no topic filter",
        ),
        (
            "user a\ntopic read /d\n",
            "acl:2: \"/d\" has an empty level",
        ),
        ("user a\nacl read d\n", "acl:2: \"acl\" is no word"),
        (
            "pattern write %u/%u\n",
            "acl:1: {device}/{device} names the device at two levels",
        ),
        ("", "acl: it lets nobody do anything"),
    ] {
        let refused = lines(&import(acl).unwrap_err());
        assert!(refused.contains(said), "{acl}\n{refused}");
    }
}

#[test]
fn a_denied_topic_stays_denied() {
    let imported = import(
        "user a\ntopic readwrite x/#\ntopic deny x/#\nuser b\ntopic read x/#\nuser c\ntopic write x/#\n",
    )
    .unwrap();
    let grants = grants(&imported, &[]);
    assert_eq!(decisions(&grants, &service("a"), "x/y"), (false, false));
    assert_eq!(decisions(&grants, &service("b"), "x/y"), (false, true));
    assert_eq!(decisions(&grants, &service("c"), "x/y"), (true, false));
}

#[test]
fn hostile_text_is_refused_or_read_and_never_a_panic() {
    let mut runner = TestRunner::deterministic();
    let text = "[userpatoicdnyw %#+/{}$\\n\\t\u{202e}\"\\\\é-]{0,80}";
    for _ in 0..2000 {
        let text = text.new_tree(&mut runner).unwrap().current();
        if let Err(refused) = import(&text) {
            let said = lines(&refused);
            assert!(
                !said.chars().any(|c| c.is_control() && c != '\n'),
                "{said:?}"
            );
        }
    }
}

const LEVELS: [&str; 5] = ["a", "b", "dev-a", "dev-b", "x"];

fn random_file() -> impl Strategy<Value = String> {
    let level = || {
        prop_oneof![
            4 => prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned),
            2 => Just("+".to_owned()),
            1 => prop::sample::select(vec!["dev-a", "x"]).prop_map(str::to_owned),
        ]
    };
    let access = || {
        prop_oneof![
            4 => Just("read "), 4 => Just("write "), 2 => Just("readwrite "), 1 => Just(""),
            1 => Just("deny "),
        ]
    };
    let first = prop::sample::select(vec!["a", "b", "a", "b", "+"]);
    let rest = prop::collection::vec(level(), 0..3);
    let topic = (first, rest, prop::bool::weighted(0.2)).prop_map(|(first, rest, all)| {
        let mut levels = vec![first.to_owned()];
        levels.extend(rest);
        levels.extend(all.then(|| "#".to_owned()));
        levels.join("/")
    });
    let own = (
        prop::sample::select(vec!["a", "b"]),
        prop::sample::select(vec!["%u", "%c"]),
        prop::sample::select(vec!["", "/a", "/b", "/x", "/#"]),
    )
        .prop_map(|(first, own, rest)| format!("{first}/{own}{rest}"));
    let line = |topic: BoxedStrategy<String>, word: &'static str| {
        (access(), topic).prop_map(move |(access, topic)| format!("{word} {access}{topic}\n"))
    };
    let topic = topic.boxed();
    let lines_of = |most| prop::collection::vec(line(topic.clone(), "topic"), 0..most);
    let patterns = prop::collection::vec(
        prop_oneof![3 => line(own.boxed(), "pattern"), 1 => line(topic.clone(), "pattern")],
        0..4,
    );
    (lines_of(3), lines_of(3), patterns).prop_map(|(one, other, patterns)| {
        format!(
            "user s1\n{}user s2\n{}{}",
            one.concat(),
            other.concat(),
            patterns.concat()
        )
    })
}

fn all_topics() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for first in ["a", "b", "c"] {
        all.push(first.to_owned());
        for second in LEVELS {
            all.push(format!("{first}/{second}"));
            all.extend(LEVELS.map(|third| format!("{first}/{second}/{third}")));
        }
    }
    all
}

/// Debian has the broker where only root looks.
fn path_with_sbin() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Random files: each question is put to Mosquitto itself, with that file, and to what it was imported to.
/// A topic to which nobody may publish is asked of no receiver: nothing is ever heard there.
#[test]
fn a_real_mosquitto_decides_alike() {
    let is_there = |program: &str, argument: &str| {
        Command::new(program)
            .arg(argument)
            .env("PATH", path_with_sbin())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    if !is_there("mosquitto", "-h") || !is_there("mosquitto_passwd", "-h") {
        println!("skipped: no mosquitto and mosquitto_passwd");
        return;
    }
    if !is_there("python3", "-V") {
        println!("skipped: no python3");
        return;
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let topics = all_topics();
    let devices = [
        device("dev-a", "device", &[]),
        device("dev-b", "device", &[]),
    ];
    let everybody: Vec<Facts> = devices
        .iter()
        .cloned()
        .chain([service("s1"), service("s2")])
        .collect();
    let (mut cases, mut ours, mut refused) = (Vec::new(), Vec::new(), 0);
    while cases.len() < 60 {
        let acl = random_file().new_tree(&mut runner).unwrap().current();
        let Ok(imported) = import(&acl) else {
            refused += 1;
            continue;
        };
        let grants = grants(&imported, &devices);
        let fleet = grants.fleet();
        let has_device = fleet.products().next().is_some();
        let (mut questions, mut expected) = (Vec::new(), Vec::new());
        for facts in &everybody {
            let name = match &facts.principal {
                Principal::Device(id) if has_device => id.to_string(),
                Principal::Service(id) => id.to_string(),
                Principal::Device(_) => continue,
            };
            // Half of them about what is permitted, which is little of all that could be asked.
            let is_permitted = |topic: &&String| {
                let (publishes, hears) = decisions(&grants, facts, topic);
                publishes || hears
            };
            let permitted: Vec<&String> = topics.iter().filter(is_permitted).collect();
            let all: Vec<&String> = topics.iter().collect();
            for round in 0..12 {
                let from = match round % 2 == 0 && !permitted.is_empty() {
                    true => &permitted,
                    false => &all,
                };
                let topic = from[(0..from.len()).new_tree(&mut runner).unwrap().current()];
                let (publishes, hears) = decisions(&grants, facts, topic);
                questions.push(json!([name, "publish", topic]));
                expected.push(publishes);
                if everybody.iter().any(|one| decisions(&grants, one, topic).0) {
                    questions.push(json!([name, "receive", topic]));
                    expected.push(hears);
                }
            }
        }
        cases.push(json!({ "acl": acl, "questions": questions }));
        ours.push(expected);
    }
    let mut child = Command::new("python3")
        .args(["-B", "-c", include_str!("broker.py")])
        .env("PATH", path_with_sbin())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(&cases).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the broker's driver failed");
    let theirs: Vec<Vec<bool>> = serde_json::from_slice(&output.stdout).unwrap();
    let (mut permitted, mut denied) = (0, 0);
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(&theirs) {
        let questions = case["questions"].as_array().unwrap();
        assert_eq!((questions.len(), ours.len()), (theirs.len(), theirs.len()));
        for ((question, ours), theirs) in questions.iter().zip(ours).zip(theirs) {
            assert_eq!(
                ours,
                theirs,
                "{question} in\n{}",
                case["acl"].as_str().unwrap()
            );
            if *ours { permitted += 1 } else { denied += 1 }
        }
    }
    println!(
        "{permitted} permitted and {denied} denied alike in 60 files; {refused} files refused"
    );
    assert!(permitted > 300 && denied > 300, "{permitted} {denied}");
}
