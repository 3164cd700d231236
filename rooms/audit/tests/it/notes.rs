//! Keys, notes, checkpoints, watching; and those who forge them.

use audit::{
    Checkpoint, Judgement, KeyKind, NOTE_BYTES_MAX, NoteRefused, Place, PublishedTree, Vkey,
    assemble, judge, open,
};
use model::Timestamp;
use proptest::prelude::*;

use crate::support::{Files, Key, ORIGIN, grown};

/// The example key of the C2SP specification.
const EXAMPLE_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

/// The example note of the reference implementation, Go's `sumdb/note`.
const NEUMANN_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_TEXT: &str = concat!(
    "If you think cryptography is the answer to your problem,\n",
    "then you don't know what your problem is.\n",
);
const NEUMANN_SIGNATURE: &str = concat!(
    "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg",
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n",
);

#[test]
fn the_specifications_key_reads_and_prints() {
    let vkey: Vkey = EXAMPLE_VKEY.parse().unwrap();
    assert_eq!(vkey.to_string(), EXAMPLE_VKEY);
    assert_eq!(
        (vkey.name(), vkey.id()),
        ("example.com/foo", [0x53, 0x0d, 0x90, 0x3a])
    );
}

#[test]
fn damaged_keys_are_refused() {
    for text in [
        "",
        "+",
        "++",
        "example.com/foo",
        "example.com/foo+530d903a",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        " example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        &"x".repeat(100_000),
    ] {
        assert!(text.parse::<Vkey>().is_err(), "{text:.80}");
    }
    for name in [
        "",
        "a b",
        "a+b",
        "a\nb",
        "a\u{2003}b",
        "a\u{85}b",
        &"x".repeat(256),
    ] {
        assert!(
            Vkey::new(name, KeyKind::Ed25519, [0; 32]).is_err(),
            "{name:.20}"
        );
    }
}

#[test]
fn unknown_signatures_are_ignored_and_bad_known_ones_refuse() {
    let (key, other) = (Key::log(), Key::new("other.example", KeyKind::Ed25519, 3));
    let text = "line\n\nanother\n";
    let note = assemble(text, &key.vkey, &key.sign(text.as_bytes())).unwrap();
    let theirs = assemble(text, &other.vkey, &other.sign(text.as_bytes())).unwrap();
    let line = theirs.lines().last().unwrap();
    let both = format!("{note}{line}\n");
    let one = std::slice::from_ref(&key.vkey);
    assert_eq!(open(&both, one).unwrap().text, text);
    let keys = [key.vkey.clone(), other.vkey.clone()];
    assert_eq!(open(&both, &keys).unwrap().signatures.len(), 2);
    assert_eq!(open(&theirs, one), Err(NoteRefused::NoKnownKey));
    assert_eq!(open(&note, &[]), Err(NoteRefused::NoKnownKey));
    // The same key twice counts once.
    let own = note.lines().last().unwrap();
    assert_eq!(
        open(&format!("{note}{own}\n"), one)
            .unwrap()
            .signatures
            .len(),
        1
    );
    // A forged line of ours spoils the note, wherever it stands.
    let forged = format!("\u{2014} {} {}", key.vkey.name(), {
        let mut changed: Vec<char> = own.rsplit(' ').next().unwrap().chars().collect();
        changed[20] = if changed[20] == 'A' { 'B' } else { 'A' };
        changed.into_iter().collect::<String>()
    });
    for spoilt in [format!("{note}{forged}\n"), format!("{theirs}{forged}\n")] {
        assert_eq!(
            open(&spoilt, &keys),
            Err(NoteRefused::BadSignature(ORIGIN.to_owned()))
        );
    }
}

#[test]
fn hostile_notes_are_refused() {
    let key = Key::log();
    let note = assemble("text\n", &key.vkey, &key.sign(b"text\n")).unwrap();
    let keys = [key.vkey];
    assert!(open(&note, &keys).is_ok());
    let line = note.lines().last().unwrap().to_owned();
    for hostile in [
        String::new(),
        "\n\n".to_owned(),
        "text\n\n".to_owned(),
        note.trim_end().to_owned(),
        note.replace("\n\n", "\n"),
        note.replace('\u{2014}', "-"),
        note.replace("\u{2014} ", "\u{2014}"),
        note.replace('\n', "\r\n"),
        note.replace("text", "te\0xt"),
        format!("{note}\n"),
        format!("{note}x\n"),
        note.replace("=\n", "\n"),
        format!("text\n\n{}", format!("{line}\n").repeat(65)),
        format!("{}{note}", "x".repeat(NOTE_BYTES_MAX)),
    ] {
        assert!(
            matches!(open(&hostile, &keys), Err(NoteRefused::Malformed(_))),
            "{hostile:.60?}"
        );
    }
    // Text that could not be opened again is not signed.
    for text in ["no newline", "control\u{1}\n", ""] {
        let key = Key::log();
        assert!(assemble(text, &key.vkey, &key.sign(text.as_bytes())).is_err());
    }
}

#[test]
fn a_checkpoint_has_one_spelling() {
    let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let good = format!("{ORIGIN}\n12\n{root}\n");
    assert_eq!(Checkpoint::parse(&good).unwrap().to_text(), good);
    for size in [
        "",
        "012",
        "+12",
        "-1",
        "1_2",
        " 12",
        "12 ",
        "0x12",
        "1e3",
        "١٢",
        "9007199254740993",
        "18446744073709551616",
    ] {
        assert!(
            Checkpoint::parse(&format!("{ORIGIN}\n{size}\n{root}\n")).is_err(),
            "{size}"
        );
    }
    for text in [
        String::new(),
        format!("{ORIGIN}\n12\n{root}"),
        format!("{ORIGIN}\n12\n{root}\nextension\n"),
        format!("{ORIGIN}\n12\n{root}\n\n"),
        format!("\n12\n{root}\n"),
        format!("{ORIGIN}\n12\n{}\n", root.trim_end_matches('=')),
        format!("{ORIGIN}\n12\n{}\n", root.replace("uFU=", "uFV=")),
        format!("{ORIGIN}\n12\n{}\n", root.replace('+', "-")),
    ] {
        assert!(Checkpoint::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn a_witness_is_not_the_log_and_another_log_is_not_this_one() {
    let note = grown(&[3]).note();
    let (log, witness) = (Key::log(), Key::witness());
    let cosigned = witness.cosign(&note, 1_793_577_600);
    let opened = Checkpoint::open(&cosigned, &[log.vkey.clone(), witness.vkey.clone()]).unwrap();
    assert_eq!(opened.witnesses.len(), 1);
    assert_eq!(
        opened.witnesses[0].time,
        Timestamp::from_seconds(1_793_577_600)
    );
    // The witness alone does not make it the log's word.
    let refused = Checkpoint::open(&cosigned, std::slice::from_ref(&witness.vkey)).unwrap_err();
    assert!(matches!(refused.place, Place::Signature(_)), "{refused}");
    // Nor does another log that signs under its own name.
    let stranger = Key::new("evil.example", KeyKind::Ed25519, 5);
    let text = &note[..=note.rfind("\n\n").unwrap()];
    let forged = assemble(text, &stranger.vkey, &stranger.sign(text.as_bytes())).unwrap();
    assert!(Checkpoint::open(&forged, &[stranger.vkey, log.vkey.clone()]).is_err());
    // A known witness whose signature does not fit is named.
    let elsewhere = witness.cosign(&grown(&[4]).note(), 1);
    let line = elsewhere.lines().last().unwrap();
    let refused = Checkpoint::open(&format!("{note}{line}\n"), &[log.vkey, witness.vkey]);
    assert_eq!(
        refused.unwrap_err().place,
        Place::Signature("witness.example.net".to_owned())
    );
}

fn proof(files: &Files, from: u64) -> Vec<audit::Digest> {
    let mut load = files.load();
    PublishedTree::new(files.checkpoint().size, &mut load)
        .consistency_proof(from)
        .unwrap()
}

#[test]
fn a_watcher_sees_growth_rest_rollback_and_rewriting() {
    let keys = [Key::log().vkey];
    let (old, new) = (grown(&[300]), grown(&[300, 400]));
    let before = old.checkpoint();
    assert!(matches!(
        judge(None, &old.note(), &keys, None),
        Judgement::First(_)
    ));
    assert!(matches!(
        judge(Some(&before), &old.note(), &keys, None),
        Judgement::Unchanged(_)
    ));
    assert_eq!(
        judge(Some(&before), &new.note(), &keys, None),
        Judgement::NeedProof { from: 300, to: 700 }
    );
    let grown_to = judge(Some(&before), &new.note(), &keys, Some(&proof(&new, 300)));
    assert_eq!(grown_to.accepted(), Some(&new.checkpoint()));
    assert_eq!(grown_to.alarm(), None);
    let back = judge(Some(&new.checkpoint()), &old.note(), &keys, None);
    assert!(matches!(
        back,
        Judgement::RolledBack {
            from: 700,
            to: 300,
            ..
        }
    ));
    assert!(back.alarm().is_some() && back.accepted().is_none());
    assert!(matches!(
        judge(
            Some(&before),
            &new.note().replace("700", "701"),
            &keys,
            None
        ),
        Judgement::BadSignature { .. }
    ));
    let empty = grown(&[0]).checkpoint();
    assert!(matches!(
        judge(Some(&empty), &new.note(), &keys, None),
        Judgement::Grown { .. }
    ));
}

#[test]
fn a_history_forked_with_the_same_key_is_seen() {
    let keys = [Key::log().vkey];
    let honest = grown(&[300]);
    let mut rewritten = crate::support::leaves(700);
    rewritten[10] = crate::support::entry(9999).to_leaf().unwrap();
    for size in [300, 700] {
        let mut fork = Files::default();
        let mut sequencer = audit::Sequencer::new(ORIGIN);
        crate::support::advance(&mut sequencer, &mut fork, &rewritten[..size]);
        let before = honest.checkpoint();
        for shown in [proof(&fork, 300), proof(&grown(&[700]), 300), vec![]] {
            let judged = judge(Some(&before), &fork.note(), &keys, Some(&shown));
            assert!(
                matches!(judged, Judgement::Rewritten { .. }),
                "{size}: {judged:?}"
            );
        }
    }
}

#[test]
fn another_logs_checkpoint_does_not_replace_this_ones() {
    let keys = [Key::log().vkey];
    let files = grown(&[3]);
    let mut previous = files.checkpoint();
    previous.origin = "audit.example.com/other".to_owned();
    let judged = judge(Some(&previous), &files.note(), &keys, None);
    assert!(matches!(judged, Judgement::BadSignature { .. }));
}

#[test]
fn a_tlog_proof_stands_alone() {
    let files = grown(&[600]);
    let mut load = files.load();
    let mut tree = PublishedTree::new(600, &mut load);
    let (leaf, hashes) = (tree.leaf(300).unwrap(), tree.inclusion_proof(300).unwrap());
    let text = audit::write_tlog_proof(300, &hashes, &files.note());
    let keys = [Key::log().vkey];
    let (index, opened) = audit::verify_tlog_proof(&text, &leaf, &keys).unwrap();
    assert_eq!((index, opened.checkpoint), (300, files.checkpoint()));
    let other = tree.leaf(301).unwrap();
    let refused = audit::verify_tlog_proof(&text, &other, &keys).unwrap_err();
    assert_eq!(refused.place, Place::Proof(300));
    for altered in [
        text.replace("@v1", "@v2"),
        text.replace("index 300", "index 301"),
        text.replace("index 300", "index 0300"),
        text.replace("index 300", "extra YQ==\nindex 300"),
        text.replacen('\n', "\n\n", 1),
        text.replace("\n600\n", "\n601\n"),
        text.replace("\n\naudit", &format!("{}\n\naudit", "\n".repeat(70))),
    ] {
        assert!(
            audit::verify_tlog_proof(&altered, &leaf, &keys).is_err(),
            "{altered:.80}"
        );
    }
}

proptest! {
    #[test]
    fn no_flipped_bit_of_a_signed_checkpoint_survives(at in 0usize..10_000, bit in 0u8..8) {
        let note = grown(&[5]).note();
        let mut bytes = note.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(altered) = String::from_utf8(bytes) {
            prop_assert!(Checkpoint::open(&altered, &[Key::log().vkey]).is_err());
        }
    }

    #[test]
    fn any_text_is_judged_without_panic(text in any::<String>()) {
        let _ = open(&text, &[Key::log().vkey]);
        let _ = Checkpoint::parse(&text);
        let _ = text.parse::<Vkey>();
        let _ = audit::verify(text.as_bytes(), &[], None);
        let _ = audit::verify_tlog_proof(&text, b"", &[]);
    }
}

#[test]
fn the_reference_implementations_note_opens() {
    let key: Vkey = NEUMANN_VKEY.parse().unwrap();
    assert_eq!(key.to_string(), NEUMANN_VKEY);
    let note = format!("{NEUMANN_TEXT}\n{NEUMANN_SIGNATURE}");
    let opened = open(&note, std::slice::from_ref(&key)).unwrap();
    assert_eq!(opened.text, NEUMANN_TEXT);
    let altered = note.replace("answer", "Answer");
    assert_eq!(
        open(&altered, &[key]),
        Err(NoteRefused::BadSignature("PeterNeumann".to_owned()))
    );
}
