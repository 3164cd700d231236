//! `docs/verify/verify.py` against our own verifier: both accept what is good, both refuse each
//! tampering, and both name the same place.

use audit::{Failure, check_tree, merkle::leaf_hash, verify};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Files, Key, ORIGIN, advance, entry, grown, leaves};

/// Runs the independent verifier: its exit code and what it printed.
fn python(what: &str, path: &Path, seen: Option<&Path>) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify/verify.py");
    let mut command = Command::new("python3");
    command.arg("-I").arg(script).arg(what).arg(path);
    command.args(["--key", &Key::log().vkey.to_string()]);
    command.args(["--key", &Key::witness().vkey.to_string()]);
    if let Some(seen) = seen {
        command.arg("--seen").arg(seen);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text.into_owned())
}

fn python_is_absent() -> bool {
    let check = "import sys, cryptography; sys.exit(sys.version_info < (3, 11))";
    let absent = !Command::new("python3")
        .args(["-I", "-c", check])
        .output()
        .is_ok_and(|output| output.status.success());
    if absent {
        println!("skipped: python3 (3.11 or later) with the package cryptography is not here");
    }
    absent
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn log(&self, name: &str, files: &Files) -> PathBuf {
        for (path, bytes) in &files.0 {
            self.file(&format!("{name}/{path}"), bytes);
        }
        self.0.path().join(name)
    }
}

fn ours(files: &Files) -> Result<(), Failure> {
    let opened = audit::Checkpoint::open(&files.note(), &[Key::log().vkey])?;
    check_tree(&opened.checkpoint, &mut files.load(), &mut |_, _| {})?;
    Ok(())
}

/// Both must fail; Python's last line must name the place that ours names.
fn both_name(case: &str, ours: Failure, theirs: (i32, String), place: &str) {
    assert_eq!(ours.place.to_string(), place, "{case}: {ours}");
    assert_eq!(theirs.0, 1, "{case}: {}", theirs.1);
    let last = theirs.1.lines().last().unwrap();
    let wanted = format!("FAILED at {place}: ");
    assert!(last.starts_with(&wanted), "{case}: {last}, not {wanted}");
}

#[test]
fn a_good_bundle_and_a_good_log_pass() {
    if python_is_absent() {
        return;
    }
    let scratch = Scratch::new();
    for size in [0, 1, 2, 255, 256, 257, 1000, 65_537] {
        let leaves: Vec<_> = if size <= 1000 {
            leaves(size)
        } else {
            let mut leaf = entry(0);
            (0..size)
                .map(|i| {
                    leaf.object = format!("device/{i}");
                    leaf.to_leaf().unwrap()
                })
                .collect()
        };
        let mut files = Files::default();
        let mut sequencer = audit::Sequencer::new(ORIGIN);
        advance(&mut sequencer, &mut files, &[]);
        for batch in leaves.chunks(65_500) {
            advance(&mut sequencer, &mut files, batch);
        }
        let (code, text) = python("log", &scratch.log(&size.to_string(), &files), None);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("does not exclude a second history"), "{text}");
        assert_eq!(ours(&files), Ok(()));
        let chosen = [0, 1, 254, 255, 256, 700, 65_536];
        let bundle = files.bundle(chosen.into_iter().filter(|i| *i < size), None);
        let (code, text) = python("bundle", &scratch.file("b.json", bundle), None);
        assert_eq!(code, 0, "{size}: {text}");
    }
}

#[test]
fn a_witness_and_growth_are_accepted() {
    if python_is_absent() {
        return;
    }
    let scratch = Scratch::new();
    for (first, more) in [(1, 1), (7, 6), (8, 8), (255, 2), (256, 300), (300, 400)] {
        let seen = scratch.file("seen", grown(&[first]).note());
        let mut files = grown(&[first, more]);
        let cosigned = Key::witness().cosign(&files.note(), 1_793_577_600);
        files
            .0
            .insert("checkpoint".to_owned(), cosigned.into_bytes());
        let name = format!("log{first}");
        for (code, text) in [
            python("log", &scratch.log(&name, &files), Some(&seen)),
            python(
                "bundle",
                &scratch.file("b.json", files.bundle([0], Some(first))),
                Some(&seen),
            ),
        ] {
            assert_eq!(code, 0, "{text}");
            assert!(text.contains("Cosigned by witness.example.net."), "{text}");
        }
    }
}

#[test]
fn a_tampered_bundle_fails_in_both_at_the_same_place() {
    if python_is_absent() {
        return;
    }
    let scratch = Scratch::new();
    let files = grown(&[700]);
    let bundle = files.bundle(300..310, Some(200));
    let edit = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&bundle).unwrap();
        change(&mut value);
        value.to_string()
    };
    let in_note = |from: &str, to: &str| {
        edit(&|b| {
            let note = b["checkpoint"].as_str().unwrap().to_owned();
            assert!(note.contains(from));
            b["checkpoint"] = json!(note.replacen(from, to, 1));
        })
    };
    // Flips one base64 digit in the middle, so that it stays base64.
    let flipped = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[10] = if bytes[10] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let note = files.note();
    let root = note.lines().nth(2).unwrap();
    let signature = note.lines().last().unwrap().rsplit(' ').next().unwrap();
    let mut rewritten = leaves(700);
    rewritten[10] = entry(9999).to_leaf().unwrap();
    let mut fork = Files::default();
    advance(&mut audit::Sequencer::new(ORIGIN), &mut fork, &rewritten);
    let signed = format!("signature of {ORIGIN} on the checkpoint");
    let unsigned = format!("signature of {ORIGIN}, witness.example.net on the checkpoint");
    let entries = |b: &mut Value, change: &dyn Fn(&mut Vec<Value>)| {
        change(b["entries"].as_array_mut().unwrap());
    };
    let cases: Vec<(&str, String, &str)> = vec![
        (
            "flipped byte in an entry",
            edit(&|b| {
                let leaf = b["entries"][4]["leaf"].as_str().unwrap().to_owned();
                b["entries"][4]["leaf"] = json!(leaf.replace("cam-304", "cam-305"));
            }),
            "entry 304",
        ),
        (
            "flipped byte in a proof",
            edit(&|b| {
                let hash = b["entries"][2]["proof"][3].as_str().unwrap().to_owned();
                b["entries"][2]["proof"][3] = json!(flipped(&hash));
            }),
            "entry 302",
        ),
        (
            "reordered proof",
            edit(&|b| b["entries"][1]["proof"].as_array_mut().unwrap().swap(0, 1)),
            "entry 301",
        ),
        (
            "shortened proof",
            edit(&|b| drop(b["entries"][1]["proof"].as_array_mut().unwrap().pop())),
            "entry 301",
        ),
        (
            "lengthened proof",
            edit(&|b| {
                let proof = b["entries"][1]["proof"].as_array_mut().unwrap();
                proof.push(proof[0].clone());
            }),
            "entry 301",
        ),
        ("checkpoint root", in_note(root, &flipped(root)), &signed),
        ("checkpoint size", in_note("\n700\n", "\n701\n"), &signed),
        (
            "checkpoint signature",
            in_note(signature, &flipped(signature)),
            &signed,
        ),
        (
            "checkpoint of another log",
            in_note("audit.example.com/acme\n", "audit.example.com/evil\n"),
            &signed,
        ),
        (
            "no signature by the log",
            in_note(&format!("\u{2014} {ORIGIN}"), "\u{2014} evil.example"),
            &unsigned,
        ),
        (
            "size with a leading zero",
            in_note("\n700\n", "\n0700\n"),
            &signed,
        ),
        (
            "dropped entry",
            edit(&|b| entries(b, &|e| drop(e.remove(5)))),
            "entry 305",
        ),
        (
            "dropped last entry",
            edit(&|b| entries(b, &|e| drop(e.pop()))),
            "entry 309",
        ),
        (
            "swapped entries",
            edit(&|b| entries(b, &|e| e.swap(3, 4))),
            "entry 303",
        ),
        (
            "doubled entry",
            edit(&|b| entries(b, &|e| e.insert(3, e[3].clone()))),
            "entry 303",
        ),
        (
            "moved entry",
            edit(&|b| {
                b.as_object_mut().unwrap().remove("range");
                b["entries"][9]["index"] = json!(310);
            }),
            "entry 310",
        ),
        (
            "entry beyond the tree",
            edit(&|b| {
                b.as_object_mut().unwrap().remove("range");
                b["entries"][9]["index"] = json!(700);
            }),
            "entry 700",
        ),
        (
            "fork with the same key",
            edit(&|b| b["checkpoint"] = json!(fork.note())),
            "entry 300",
        ),
        ("truncated", bundle[..bundle.len() / 2].to_owned(), "file"),
        ("empty", String::new(), "file"),
        ("deep", "[".repeat(100_000), "file"),
        ("too large", " ".repeat(audit::BUNDLE_BYTES_MAX + 1), "file"),
        (
            "NaN",
            bundle.replacen("\"index\": 300", "\"index\": NaN", 1),
            "file",
        ),
        (
            "float",
            bundle.replacen("\"index\": 300", "\"index\": 300.0", 1),
            "file",
        ),
        (
            "doubled key",
            bundle.replacen("\"index\": 300", "\"index\": 300, \"index\": 300", 1),
            "file",
        ),
        ("unknown field", edit(&|b| b["x"] = json!(1)), "file"),
        ("null range", edit(&|b| b["range"] = Value::Null), "file"),
        (
            "true for a number",
            edit(&|b| b["range"]["first"] = json!(true)),
            "file",
        ),
        (
            "url-safe base64",
            edit(&|b| b["entries"][0]["proof"][0] = json!(format!("{}-_=", "A".repeat(41)))),
            "file",
        ),
        (
            "loose base64",
            edit(&|b| b["entries"][0]["proof"][0] = json!(format!("{}B=", "A".repeat(42)))),
            "file",
        ),
        (
            "half a surrogate pair in the checkpoint",
            bundle.replacen("\"checkpoint\": \"", "\"checkpoint\": \"\\ud800", 1),
            "file",
        ),
    ];
    for (case, tampered, place) in cases {
        assert_ne!(tampered, bundle, "{case} changed nothing");
        let keys = [Key::log().vkey, Key::witness().vkey];
        let refused = verify(tampered.as_bytes(), &keys, None).expect_err(case);
        let theirs = python("bundle", &scratch.file("b.json", &tampered), None);
        both_name(case, refused, theirs, place);
    }
}

#[test]
fn a_tampered_log_fails_in_both_at_the_same_place() {
    if python_is_absent() {
        return;
    }
    let mut good = grown(&[700]);
    good.0
        .retain(|path, _| path == "checkpoint" || path.starts_with("tile/"));
    let note = good.note();
    let all = leaves(700);
    let starts = |upto: usize| {
        all[256..256 + upto]
            .iter()
            .map(|leaf| leaf.len() + 2)
            .sum::<usize>()
    };
    let signed = format!("signature of {ORIGIN} on the checkpoint");
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        files
    };
    let in_note = |from: &str, to: &str| {
        with(&|files| {
            let altered = note.replacen(from, to, 1);
            files
                .0
                .insert("checkpoint".to_owned(), altered.into_bytes());
        })
    };
    let mut rewritten = all.clone();
    rewritten[300] = entry(9999).to_leaf().unwrap();
    let mut fork = Files::default();
    advance(&mut audit::Sequencer::new(ORIGIN), &mut fork, &rewritten);
    let root = note.lines().nth(2).unwrap();
    let cases: Vec<(&str, Files, &str)> = vec![
        (
            "flipped byte in an entry",
            with(&|f| f.flip("tile/entries/001", starts(44) + 30)),
            "entry 300",
        ),
        (
            "flipped byte in a partial bundle",
            with(&|f| f.flip("tile/entries/002.p/188", 30)),
            "entry 512",
        ),
        (
            "dropped entry",
            with(&|f| {
                let (start, end) = (starts(44), starts(45));
                f.0.get_mut("tile/entries/001").unwrap().drain(start..end);
            }),
            "tile/entries/001",
        ),
        (
            "truncated bundle",
            with(&|f| f.0.get_mut("tile/entries/001").unwrap().truncate(1000)),
            "tile/entries/001",
        ),
        (
            "bytes after the last entry",
            with(&|f| f.0.get_mut("tile/entries/002.p/188").unwrap().push(0)),
            "tile/entries/002.p/188",
        ),
        (
            "flipped byte in a tile",
            with(&|f| f.flip("tile/0/001", 32 * 5 + 7)),
            "tile/0/001 (hash 5)",
        ),
        (
            "flipped byte in a partial tile",
            with(&|f| f.flip("tile/0/002.p/188", 32 * 187)),
            "tile/0/002.p/188 (hash 187)",
        ),
        (
            "flipped byte in an upper tile",
            with(&|f| f.flip("tile/1/000.p/2", 40)),
            "tile/1/000.p/2 (hash 1)",
        ),
        (
            "truncated tile",
            with(&|f| f.0.get_mut("tile/0/001").unwrap().truncate(8191)),
            "tile/0/001",
        ),
        (
            "missing tile",
            with(&|f| drop(f.0.remove("tile/0/001"))),
            "tile/0/001",
        ),
        (
            "missing bundle",
            with(&|f| drop(f.0.remove("tile/entries/000"))),
            "tile/entries/000",
        ),
        (
            "entry and tile rewritten together",
            with(&|f| {
                for path in ["tile/entries/001", "tile/0/001"] {
                    f.0.insert(path.to_owned(), fork.0[path].clone());
                }
            }),
            "entries 256 to 511",
        ),
        (
            "fork with the same key under the old tiles",
            with(&|f| drop(f.0.insert("checkpoint".to_owned(), fork.0["checkpoint"].clone()))),
            "checkpoint",
        ),
        (
            "checkpoint root",
            in_note(root, &format!("AAAAA{}", &root[5..])),
            &signed,
        ),
        ("checkpoint size", in_note("\n700\n", "\n701\n"), &signed),
        (
            "checkpoint with Windows line ends",
            in_note("\n700\n", "\r\n700\r\n"),
            "checkpoint",
        ),
        (
            "truncated checkpoint",
            in_note(&note[note.len() - 10..], ""),
            "checkpoint",
        ),
    ];
    let scratch = Scratch::new();
    for (number, (case, files, place)) in cases.into_iter().enumerate() {
        let refused = ours(&files).expect_err(case);
        let theirs = python("log", &scratch.log(&number.to_string(), &files), None);
        both_name(case, refused, theirs, place);
    }
}

#[test]
fn a_fork_that_is_whole_in_itself_is_seen_by_whoever_kept_a_checkpoint() {
    if python_is_absent() {
        return;
    }
    let scratch = Scratch::new();
    let honest = grown(&[300]);
    let seen = scratch.file("seen", honest.note());
    let mut rewritten = leaves(700);
    rewritten[10] = entry(9999).to_leaf().unwrap();
    assert_ne!(leaf_hash(&rewritten[10]), leaf_hash(&leaves(700)[10]));
    for size in [200, 300, 700] {
        let mut fork = Files::default();
        advance(
            &mut audit::Sequencer::new(ORIGIN),
            &mut fork,
            &rewritten[..size],
        );
        let folder = scratch.log(&format!("fork{size}"), &fork);
        assert_eq!(python("log", &folder, None).0, 0);
        let (code, text) = python("log", &folder, Some(&seen));
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("FAILED at checkpoint: "), "{text}");
        let bundle = fork.bundle([10], (size == 700).then_some(300));
        let refused = verify(
            bundle.as_bytes(),
            &[Key::log().vkey],
            Some(&honest.checkpoint()),
        );
        let theirs = python("bundle", &scratch.file("b.json", &bundle), Some(&seen));
        let place = if size == 700 {
            "consistency proof"
        } else {
            "checkpoint"
        };
        both_name("fork", refused.unwrap_err(), theirs, place);
    }
}

#[test]
fn leaves_that_are_no_canonical_entries_are_refused_by_both() {
    if python_is_absent() {
        return;
    }
    let scratch = Scratch::new();
    let good = String::from_utf8(entry(2).to_leaf().unwrap()).unwrap();
    for (number, (from, to)) in [
        ("\"v\":1", "\"v\":2"),
        ("\"v\":1", "\"v\":1.0"),
        ("\"v\":1", "\"v\":true"),
        ("\"v\":1", "\"v\":1,\"w\":1"),
        ("{\"action\"", "{ \"action\""),
        ("ä", "\\u00e4"),
        ("\\u0001", "\\u0041"),
        ("\"tenant\"", "\"tenant\":\"x\",\"tenant\""),
        ("T", " "),
        ("2026-11-02", "2026-13-02"),
        ("{\"serial\"", "{\"serial\":1,\"z\""),
    ]
    .into_iter()
    .enumerate()
    {
        let leaf = good.replacen(from, to, 1);
        assert_ne!(leaf, good, "{from}");
        let mut files = Files::default();
        advance(
            &mut audit::Sequencer::new(ORIGIN),
            &mut files,
            &[leaf.into_bytes()],
        );
        let bundle = files.bundle([0], None);
        let refused = verify(bundle.as_bytes(), &[Key::log().vkey], None).unwrap_err();
        let theirs = python("bundle", &scratch.file("b.json", &bundle), None);
        both_name(to, refused, theirs, "entry 0");
        let folder = scratch.log(&number.to_string(), &files);
        let (code, text) = python("log", &folder, None);
        assert!(code == 1 && text.contains("FAILED at entry 0: "), "{text}");
    }
}
