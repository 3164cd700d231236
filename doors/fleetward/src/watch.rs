//! `fleetward audit watch`: has the log only grown since we last looked?

use crate::audit::{TrustedKeys, failure_json, kept_checkpoint};
use crate::client::{Ask, Client, Refused};
use crate::files;
use crate::place::Place;
use crate::show::{self, Output, escaped};
use anyhow::{Context, bail};
use audit::{
    Checkpoint, Failure, Judgement, LEAF_BYTES_MAX, NOTE_BYTES_MAX, PublishedTree, Vkey, judge,
    tiles,
};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A full bundle of the largest entries.
const FILE_BYTES_MAX: usize = 256 * (LEAF_BYTES_MAX + 2);

#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    from: From,
    /// Trust this root certificate (PEM) and no other.
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// The certificate (PEM) of a service of the fleet.
    #[arg(long, value_name = "FILE", requires = "url")]
    cert: Option<PathBuf>,
    /// Its private key (PEM, mode 0600).
    #[arg(long, value_name = "FILE", requires = "url")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustedKeys,
    /// Where the last checkpoint is kept. If absent, the first one seen is believed.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Look once.
    #[arg(long, conflicts_with = "interval")]
    once: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct From {
    /// A folder: the published log itself, or a copy.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// The plane of this machine, by its data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A plane's door for devices and services; needs --ca, --cert and --key-file.
    #[arg(long, value_name = "https://HOST:8444", requires_all = ["ca", "cert", "key_file"])]
    url: Option<String>,
}

/// What one look found.
enum Seen {
    /// As it should be; the text is for a person.
    Well(&'static str, String),
    /// A person must act.
    Alarm(Failure),
}

impl Watch {
    /// Looks once, or until an alarm.
    ///
    /// # Errors
    /// The kept checkpoint cannot be read or written; with `--once` also that the log cannot be
    /// reached. An alarm is a status, not an error.
    pub fn run(&self, output: Output) -> anyhow::Result<ExitCode> {
        let keys = self.trust.read()?;
        let mut source = self.source()?;
        let mut kept = match self.state.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            _ => Some(kept_checkpoint(&self.state, &keys)?),
        };
        loop {
            match self.look(&mut source, &keys, &mut kept) {
                Ok(Seen::Well(answer, text)) => match (output, &kept) {
                    (Output::Json, Some(kept)) => show::value(&json!({
                        "answer": answer, "origin": kept.origin, "size": kept.size,
                    }))?,
                    _ => show::line(&text)?,
                },
                Ok(Seen::Alarm(failure)) => {
                    if output == Output::Json {
                        show::value(&failure_json(&failure))?;
                    }
                    let state = files::shown(&self.state);
                    eprintln!("ALARM: {}; {state} is kept", escaped(&failure.to_string()));
                    return Ok(ExitCode::FAILURE);
                }
                Err(error) if self.once || error.is::<NotKept>() => return Err(error),
                // A log that cannot be reached proves nothing, for or against: go on and say so.
                Err(error) => eprintln!("{}", crate::said(&error)),
            }
            if self.once {
                return Ok(ExitCode::SUCCESS);
            }
            std::thread::sleep(Duration::from_secs(self.interval));
        }
    }

    fn source(&self) -> anyhow::Result<Source> {
        match (&self.from.log_dir, &self.from.data, &self.from.url) {
            (Some(folder), ..) => Source::folder(folder),
            (_, Some(data), _) => {
                let place = Place {
                    config: None,
                    data: Some(data.clone()),
                };
                Ok(Source::Plane(place.client()?))
            }
            (.., Some(url)) => match (&self.ca, &self.cert, &self.key_file) {
                (Some(ca), Some(cert), Some(key)) => {
                    Ok(Source::Plane(Client::remote(url, ca, cert, key)?))
                }
                _ => bail!("--url needs --ca, --cert and --key-file"),
            },
            _ => bail!("name one of --log-dir, --data, --url"),
        }
    }

    fn look(
        &self,
        source: &mut Source,
        keys: &[Vkey],
        kept: &mut Option<Checkpoint>,
    ) -> anyhow::Result<Seen> {
        let Some(note) = source.checkpoint()? else {
            bail!("the log has no checkpoint; its operator must say where it went");
        };
        let mut trouble = None;
        let mut load = |path: &str| source.load(path, &mut trouble);
        let size = Checkpoint::open(&note, keys).map_or(0, |opened| opened.checkpoint.size);
        let judgement = judged(
            kept.as_ref(),
            &note,
            keys,
            &mut PublishedTree::new(size, &mut load),
        );
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let judgement = match judgement {
            Ok(judgement) => judgement,
            Err(failure) => return Ok(Seen::Alarm(failure)),
        };
        if let Some(failure) = judgement.alarm() {
            if matches!(
                judgement,
                Judgement::RolledBack { .. } | Judgement::Rewritten { .. }
            ) {
                self.keep_beside(&note)?;
            }
            return Ok(Seen::Alarm(failure.clone()));
        }
        let Some(accepted) = judgement.accepted().cloned() else {
            bail!("the checkpoint could not be judged");
        };
        let (origin, size) = (escaped(&accepted.origin), accepted.size);
        let seen = match &judgement {
            Judgement::Grown { from, .. } => Seen::Well(
                "grown",
                format!("grown: {origin} has {size} entries, {from} before"),
            ),
            Judgement::First(_) => Seen::Well(
                "first",
                format!("first: {origin} has {size} entries; it proves nothing about the past"),
            ),
            _ => Seen::Well(
                "unchanged",
                format!("unchanged: {origin} has {size} entries"),
            ),
        };
        if kept.as_ref() != Some(&accepted) {
            files::replace(&self.state, note.as_bytes(), 0o600).context(NotKept)?;
            *kept = Some(accepted);
        }
        Ok(seen)
    }

    /// The second signed history, beside the first: nobody can take back having signed both.
    fn keep_beside(&self, note: &str) -> anyhow::Result<()> {
        let mut beside = self.state.clone().into_os_string();
        beside.push(".refused");
        let beside = PathBuf::from(beside);
        if beside.exists() {
            return Ok(()); // the first proof is kept
        }
        files::replace(&beside, note.as_bytes(), 0o600).context(NotKept)
    }
}

/// The watcher's own disk fails: going on would only pretend to watch.
#[derive(Debug)]
struct NotKept;

impl std::fmt::Display for NotKept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the checkpoint could not be kept")
    }
}

/// Where a published log is read from.
pub enum Source {
    Folder(PathBuf),
    Plane(Client),
}

impl Source {
    /// # Errors
    /// There is no such folder.
    pub fn folder(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            bail!("{} is no folder", files::shown(path));
        }
        Ok(Self::Folder(path.to_owned()))
    }

    /// The newest signed checkpoint, unjudged; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn checkpoint(&mut self) -> anyhow::Result<Option<String>> {
        let Some(bytes) = self.fetch(tiles::CHECKPOINT_PATH, NOTE_BYTES_MAX)? else {
            return Ok(None);
        };
        // What is not text is not a note either, and is judged as such.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A loader for the audit room. What it cannot say there (a broken connection is not a
    /// missing file) it leaves in `trouble`.
    pub fn load(&mut self, path: &str, trouble: &mut Option<anyhow::Error>) -> Option<Vec<u8>> {
        if trouble.is_some() {
            return None;
        }
        match self.fetch(path, FILE_BYTES_MAX) {
            Ok(found) => found,
            Err(error) => {
                *trouble = Some(error);
                None
            }
        }
    }

    fn fetch(&mut self, path: &str, bytes_max: usize) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Self::Folder(folder) => files::read_regular(&folder.join(path), bytes_max),
            Self::Plane(client) => {
                match client.bytes(Ask::get(&format!("/log/{path}")), bytes_max) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) => match error.downcast_ref::<Refused>() {
                        Some(refused) if refused.status == 404 => Ok(None),
                        _ => Err(error),
                    },
                }
            }
        }
    }
}

/// Judges a note, with the proof from the log's tiles if one is needed.
///
/// # Errors
/// A tile that the proof needs is missing or damaged.
pub fn judged(
    kept: Option<&Checkpoint>,
    note: &str,
    keys: &[Vkey],
    tree: &mut PublishedTree<'_>,
) -> Result<Judgement, Failure> {
    match judge(kept, note, keys, None) {
        Judgement::NeedProof { from, .. } => {
            let proof = tree.consistency_proof(from)?;
            Ok(judge(kept, note, keys, Some(&proof)))
        }
        judgement => Ok(judgement),
    }
}
