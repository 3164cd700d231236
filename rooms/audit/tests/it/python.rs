//! `docs/verify/verify.py` against our own verifier: both accept what is good, both refuse each
//! tampering, and both name the same place.

use audit::{Failure, check_tree, merkle::leaf_hash, verify};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::{Files, Key, ORIGIN, advance, entry, grown, leaves};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify/verify.py")
}

/// Runs the script's `main` with the arguments of each line, in one process to save start-ups.
const DRIVER: &str = r#"
import contextlib, importlib.util, io, json, sys, traceback
spec = importlib.util.spec_from_file_location("verify", sys.argv[1])
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)
for line in sys.stdin:
    sys.argv, text = ["verify.py"] + json.loads(line), io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            code = verify.main()
        except BaseException:
            code = 99
            traceback.print_exc(file=text)
    print(json.dumps([code, text.getvalue()]), flush=True)
"#;

struct Python {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    fn new() -> Self {
        let mut child = Command::new("python3")
            .args(["-I", "-B", "-c", DRIVER])
            .arg(script())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// The independent verifier's exit code and what it printed.
    fn verify(&mut self, what: &str, path: &Path, seen: Option<&Path>) -> (i64, String) {
        let mut arguments = vec![what.to_owned(), path.to_str().unwrap().to_owned()];
        for key in [Key::log(), Key::witness()] {
            arguments.extend(["--key".to_owned(), key.vkey.to_string()]);
        }
        if let Some(seen) = seen {
            arguments.extend(["--seen".to_owned(), seen.to_str().unwrap().to_owned()]);
        }
        writeln!(self.stdin, "{}", json!(arguments)).unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
fn both_name(case: &str, ours: Failure, theirs: (i64, String), place: &str) {
    assert_eq!(ours.place.to_string(), place, "{case}: {ours}");
    assert_eq!(theirs.0, 1, "{case}: {}", theirs.1);
    let last = theirs.1.lines().last().unwrap();
    let wanted = format!("FAILED at {place}: ");
    assert!(last.starts_with(&wanted), "{case}: {last}, not {wanted}");
}

#[test]
fn the_script_says_by_its_exit_status_whether_all_holds() {
    if python_is_absent() {
        return;
    }
    let scratch = Scratch::new();
    let good = grown(&[5]).bundle(0..5, None);
    let bad = good.replacen("cam-3", "cam-4", 1);
    let key = Key::log().vkey.to_string();
    for (bundle, code, last) in [(good, 0, "OK"), (bad, 1, "FAILED at entry 3: ")] {
        let output = Command::new("python3")
            .arg("-I")
            .arg(script())
            .arg("bundle")
            .arg(scratch.file("b.json", bundle))
            .args(["--key", &key])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().last().unwrap().starts_with(last), "{text}");
    }
}

#[test]
fn a_good_bundle_and_a_good_log_pass() {
    if python_is_absent() {
        return;
    }
    let (scratch, mut python) = (Scratch::new(), Python::new());
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
        let (code, text) = python.verify("log", &scratch.log(&size.to_string(), &files), None);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("does not exclude a second history"), "{text}");
        assert_eq!(ours(&files), Ok(()));
        let chosen = [0, 1, 254, 255, 256, 700, 65_536];
        let bundle = files.bundle(chosen.into_iter().filter(|i| *i < size), None);
        let (code, text) = python.verify("bundle", &scratch.file("b.json", bundle), None);
        assert_eq!(code, 0, "{size}: {text}");
    }
}

#[test]
fn a_witness_and_growth_are_accepted() {
    if python_is_absent() {
        return;
    }
    let (scratch, mut python) = (Scratch::new(), Python::new());
    for (first, more) in [(1, 1), (7, 6), (8, 8), (255, 2), (256, 300), (300, 400)] {
        let seen = scratch.file("seen", grown(&[first]).note());
        let mut files = grown(&[first, more]);
        let cosigned = Key::witness().cosign(&files.note(), 1_793_577_600);
        files
            .0
            .insert("checkpoint".to_owned(), cosigned.into_bytes());
        let name = format!("log{first}");
        for (code, text) in [
            python.verify("log", &scratch.log(&name, &files), Some(&seen)),
            python.verify(
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
    let (scratch, mut python) = (Scratch::new(), Python::new());
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
        let theirs = python.verify("bundle", &scratch.file("b.json", &tampered), None);
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
    let (scratch, mut python) = (Scratch::new(), Python::new());
    for (number, (case, files, place)) in cases.into_iter().enumerate() {
        let refused = ours(&files).expect_err(case);
        let theirs = python.verify("log", &scratch.log(&number.to_string(), &files), None);
        both_name(case, refused, theirs, place);
    }
}

#[test]
fn a_fork_that_is_whole_in_itself_is_seen_by_whoever_kept_a_checkpoint() {
    if python_is_absent() {
        return;
    }
    let (scratch, mut python) = (Scratch::new(), Python::new());
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
        assert_eq!(python.verify("log", &folder, None).0, 0);
        let (code, text) = python.verify("log", &folder, Some(&seen));
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("FAILED at checkpoint: "), "{text}");
        let bundle = fork.bundle([10], (size == 700).then_some(300));
        let refused = verify(
            bundle.as_bytes(),
            &[Key::log().vkey],
            Some(&honest.checkpoint()),
        );
        let theirs = python.verify("bundle", &scratch.file("b.json", &bundle), Some(&seen));
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
    let (scratch, mut python) = (Scratch::new(), Python::new());
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
        let theirs = python.verify("bundle", &scratch.file("b.json", &bundle), None);
        both_name(to, refused, theirs, "entry 0");
        let folder = scratch.log(&number.to_string(), &files);
        let (code, text) = python.verify("log", &folder, None);
        assert!(code == 1 && text.contains("FAILED at entry 0: "), "{text}");
    }
}

/// Neither verifier may accept what the other refuses, nor read anything else out of it.
#[test]
fn both_agree_on_mutated_bundles() {
    if python_is_absent() {
        return;
    }
    let (scratch, mut python) = (Scratch::new(), Python::new());
    let keys = [Key::log().vkey, Key::witness().vkey];
    let mut files = grown(&[9]);
    let cosigned = Key::witness().cosign(&files.note(), 1_793_577_600);
    files
        .0
        .insert("checkpoint".to_owned(), cosigned.into_bytes());
    let good = files.bundle([2, 3, 8], Some(5)).into_bytes();
    let wanted = verify(&good, &keys, None).unwrap();
    // Pieces that mean something to a JSON reader, or to one of the formats inside.
    let pieces: [&[u8]; 24] = [
        b"",
        b"0",
        b"1",
        b"-",
        b".0",
        b"e0",
        b" ",
        b"\n",
        b"\t",
        b"\\n",
        b"\\u00",
        b"\\ud800",
        b"\"",
        b"\\",
        b",",
        b"}",
        b"]",
        b"null",
        b"true",
        b"=",
        b"\xff",
        b"\xc2\xa0",
        b"\0",
        b"\xef\xbb\xbf",
    ];
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % below
    };
    let mut accepted = 0;
    for round in 0..1500 {
        let mut bundle = good.clone();
        for _ in 0..=random(2) {
            let at = random(bundle.len());
            let cut = at + random(3).min(bundle.len() - at);
            let piece = pieces[random(pieces.len())].to_vec();
            bundle.splice(at..cut, piece);
        }
        let ours = verify(&bundle, &keys, None);
        let (code, text) = python.verify("bundle", &scratch.file("b.json", &bundle), None);
        assert!(code == 0 || code == 1, "round {round}: {text}");
        assert_eq!(
            ours.is_ok(),
            code == 0,
            "round {round}: {ours:?}\n{text}\n{}",
            String::from_utf8_lossy(&bundle)
        );
        if let Ok(verified) = ours {
            assert_eq!(verified.entries, wanted.entries, "round {round}");
            assert_eq!(verified.checkpoint, wanted.checkpoint, "round {round}");
            accepted += 1;
        }
    }
    // White space between fields may change; else the test would show nothing.
    assert!((10..1000).contains(&accepted), "{accepted} accepted");
}

/// A single changed byte anywhere in a published log is refused by both, at the same place.
#[test]
fn both_agree_on_mutated_logs() {
    if python_is_absent() {
        return;
    }
    let (scratch, mut python) = (Scratch::new(), Python::new());
    let good = grown(&[258]);
    let folder = scratch.log("log", &good);
    assert_eq!(python.verify("log", &folder, None).0, 0);
    let paths: Vec<_> = good.0.keys().cloned().collect();
    let mut state: u64 = 7;
    for round in 0..150 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let path = &paths[round % paths.len()];
        let mut files = good.clone();
        let bytes = files.0.get_mut(path).unwrap();
        let at = usize::try_from(state >> 33).unwrap() % bytes.len();
        // Stays ASCII where it was, so that the checkpoint stays text.
        bytes[at] ^= 1 << ((state >> 20) % 7);
        let changed = bytes.clone();
        scratch.file(&format!("log/{path}"), &changed);
        let (code, text) = python.verify("log", &folder, None);
        scratch.file(&format!("log/{path}"), &good.0[path]);
        assert_eq!(code, 1, "{path} byte {at}: {text}");
        let failure = if path == "checkpoint" {
            let note = String::from_utf8(changed).unwrap();
            audit::Checkpoint::open(&note, &[Key::log().vkey, Key::witness().vkey]).unwrap_err()
        } else {
            ours(&files).unwrap_err()
        };
        let last = text.lines().last().unwrap();
        let wanted = format!("FAILED at {}: ", failure.place);
        assert!(
            last.starts_with(&wanted),
            "{path} byte {at}: {last}, not {wanted}"
        );
    }
}
