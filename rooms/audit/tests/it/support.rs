//! A log in memory, with its keys, and entries to fill it.

use audit::{Checkpoint, Entry, KeyKind, PublishedTree, Sequencer, TileWrite, Vkey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{TenantId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

pub const ORIGIN: &str = "audit.example.com/acme";

pub struct Key {
    pub vkey: Vkey,
    pair: Ed25519KeyPair,
}

impl Key {
    pub fn new(name: &str, kind: KeyKind, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public_key = pair.public_key().as_ref().try_into().unwrap();
        Self {
            vkey: Vkey::new(name, kind, public_key).unwrap(),
            pair,
        }
    }

    pub fn log() -> Self {
        Self::new(ORIGIN, KeyKind::Ed25519, 7)
    }

    pub fn witness() -> Self {
        Self::new("witness.example.net", KeyKind::Cosignature, 8)
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// Appends a cosignature to a signed checkpoint.
    pub fn cosign(&self, note: &str, seconds: u64) -> String {
        let text = &note[..=note.rfind("\n\n").unwrap()];
        let message = format!("cosignature/v1\ntime {seconds}\n{text}");
        let mut blob = self.vkey.id().to_vec();
        blob.extend(seconds.to_be_bytes());
        blob.extend(self.sign(message.as_bytes()));
        format!(
            "{note}\u{2014} {} {}\n",
            self.vkey.name(),
            STANDARD.encode(blob)
        )
    }
}

pub fn entry(index: u64) -> Entry {
    Entry {
        time: Timestamp::from_millis(1_793_577_599_123 + index * 1001),
        tenant: TenantId::new("acme").unwrap(),
        actor: format!("operator/{}", index % 3),
        action: "identity.device-enrolled".to_owned(),
        object: format!("device/cam-{index}"),
        details: BTreeMap::from([("serial".to_owned(), format!("SN \"{index}\" \u{1}ä\u{7f}"))]),
        request: index.is_multiple_of(2).then(|| format!("req-{index}")),
    }
}

pub fn leaves(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|i| entry(i).to_leaf().unwrap()).collect()
}

/// A published log as a folder would hold it.
#[derive(Clone, Default)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl Files {
    /// As the store must do it: a file that exists must be byte-equal.
    pub fn write(&mut self, write: &TileWrite) {
        if let Some(existing) = self.0.insert(write.path.clone(), write.bytes.clone()) {
            assert!(
                write.path == "checkpoint" || existing == write.bytes,
                "{} was written twice with other bytes",
                write.path
            );
        }
    }

    pub fn load(&self) -> impl FnMut(&str) -> Option<Vec<u8>> + use<'_> {
        |path| self.0.get(path).cloned()
    }

    pub fn note(&self) -> String {
        String::from_utf8(self.0["checkpoint"].clone()).unwrap()
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::open(&self.note(), &[Key::log().vkey])
            .unwrap()
            .checkpoint
    }

    pub fn flip(&mut self, path: &str, at: usize) {
        self.0.get_mut(path).unwrap_or_else(|| panic!("no {path}"))[at] ^= 1;
    }

    pub fn bundle(&self, indices: impl IntoIterator<Item = u64>, since: Option<u64>) -> String {
        let mut load = self.load();
        let mut tree = PublishedTree::new(self.checkpoint().size, &mut load);
        let indices: BTreeSet<u64> = indices.into_iter().collect();
        audit::build(&self.note(), &[Key::log().vkey], &mut tree, &indices, since).unwrap()
    }
}

/// One whole turn of the sequencer.
pub fn advance(sequencer: &mut Sequencer, files: &mut Files, leaves: &[Vec<u8>]) {
    let key = Key::log();
    let integration = sequencer.integrate(leaves).unwrap();
    for write in integration.writes() {
        files.write(write);
    }
    let signature = key.sign(integration.checkpoint_text().as_bytes());
    let signed = integration.signed(&key.vkey, &signature).unwrap();
    files.write(&sequencer.publish(signed).unwrap());
}

/// A log grown in batches of the given sizes.
pub fn grown(batches: &[u64]) -> Files {
    let all = leaves(batches.iter().sum());
    let mut files = Files::default();
    let mut sequencer = Sequencer::new(ORIGIN);
    let mut rest = all.as_slice();
    for batch in batches {
        let (now, later) = rest.split_at(usize::try_from(*batch).unwrap());
        advance(&mut sequencer, &mut files, now);
        rest = later;
    }
    files
}
