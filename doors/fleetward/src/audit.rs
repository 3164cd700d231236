//! `fleetward audit …`: asking the plane for its log, and proving it without asking anybody.

use crate::client::{Ask, JSON_BYTES_MAX};
use crate::files;
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use crate::watch::{self, Watch};
use anyhow::{Context, bail};
use audit::{BUNDLE_BYTES_MAX, Checkpoint, Failure, PublishedTree, Vkey};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Print the key that verifies the log. Keep it where the plane's operator cannot change it.
    #[command(after_help = "Examples:\n  fleetward audit key > fleet.vkey")]
    Key {
        #[command(flatten)]
        place: Place,
    },
    /// List entries of the log, oldest first.
    #[command(after_help = "Examples:\n  fleetward audit entries\n  \
        fleetward audit entries --from 1000 --limit 1000 --output json")]
    Entries {
        /// Index of the first.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Write an evidence bundle: entries, their proofs, and the signed checkpoint.
    #[command(
        after_help = "Examples:\n  fleetward audit bundle --out evidence.json\n  \
        fleetward audit bundle --out may.json --from 1200 --to 1900 --since 1000"
    )]
    Bundle {
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Index of the first entry.
        #[arg(long)]
        from: Option<u64>,
        /// Index after the last entry.
        #[arg(long)]
        to: Option<u64>,
        /// Size of a checkpoint that the reader kept: prove that the log only grew from it.
        #[arg(long, value_name = "SIZE")]
        since: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// Verify a bundle offline. Needs no plane and trusts none.
    ///
    /// Exit status 0 and a last line OK: all that is printed above it holds. Exit status 1 and a
    /// line FAILED: it does not, and the line says where.
    #[command(after_help = "Examples:\n  \
        fleetward audit verify evidence.json --key fleet.vkey\n  \
        fleetward audit verify may.json --key fleet.vkey --key witness.vkey --seen april.checkpoint")]
    Verify {
        bundle: PathBuf,
        #[command(flatten)]
        trust: TrustedKeys,
        /// A signed checkpoint that you kept: the log must only have grown since.
        #[arg(long, value_name = "CHECKPOINT")]
        seen: Option<PathBuf>,
    },
    /// Check a whole published log, every entry and every tile, offline.
    #[command(after_help = "Examples:\n  \
        fleetward audit check /var/lib/fleetward-log --key fleet.vkey\n  \
        fleetward audit check ./copy --key fleet.vkey --seen april.checkpoint")]
    Check {
        /// The folder with `checkpoint` and `tile`.
        log_dir: PathBuf,
        #[command(flatten)]
        trust: TrustedKeys,
        /// A signed checkpoint that you kept: the log must only have grown since.
        #[arg(long, value_name = "CHECKPOINT")]
        seen: Option<PathBuf>,
    },
    /// Keep the last checkpoint where the operator cannot reach it, and refuse a rewritten log.
    ///
    /// Exit status 1 and a line ALARM: the log was rewritten, rolled back or damaged. The kept
    /// checkpoint stays; what was served instead is put beside it: together they are the proof.
    #[command(after_help = "Examples:\n  \
        fleetward audit watch --log-dir /mnt/log --key fleet.vkey --state seen.checkpoint --once\n  \
        fleetward audit watch --url https://plane.example.com:8444 --ca root.pem \\\n      \
        --cert auditor.pem --key-file auditor.key --key fleet.vkey --state seen.checkpoint\n  \
        fleetward audit watch --data /var/lib/fleetward --key fleet.vkey --state seen.checkpoint")]
    Watch(Watch),
    /// Say whether granting has stopped, and why.
    #[command(after_help = "Examples:\n  fleetward audit seal")]
    Seal {
        #[command(flatten)]
        place: Place,
    },
    /// Let granting go on, after you have found out why it stopped.
    #[command(after_help = "Examples:\n  \
        fleetward audit unseal --reason 'restored the backup of 3 May on purpose, ticket 4711'")]
    Unseal {
        /// What was found, and why granting may go on: it stands in the log for ever.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct TrustedKeys {
    /// The log's verifier key, or a file that holds it; again for each witness you trust.
    #[arg(long, required = true, value_name = "VKEY|FILE")]
    key: Vec<String>,
}

const ENTRIES: [Column; 7] = [
    ("index", "/index"),
    ("proven", "/proven"),
    ("time", "/time"),
    ("actor", "/actor"),
    ("action", "/action"),
    ("object", "/object"),
    ("details", "/details"),
];

impl AuditVerb {
    /// # Errors
    /// The plane, a file, or what was asked. Damage found offline is a status, not an error.
    pub fn run(&self, output: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Key { place } => {
                let key = place.client()?.json(Ask::get("/api/v1/audit/key"))?;
                if output == Output::Json {
                    show::value(&key)?;
                } else {
                    let vkey = key
                        .pointer("/vkey")
                        .and_then(Value::as_str)
                        .unwrap_or_default();
                    show::line(&escaped(vkey))?;
                }
            }
            Self::Entries { from, limit, place } => {
                let path = format!("/api/v1/audit/entries?from={from}&limit={limit}");
                show::rows(output, &place.client()?.json(Ask::get(&path))?, &ENTRIES)?;
            }
            Self::Bundle {
                out,
                from,
                to,
                since,
                place,
            } => {
                let asked = [("from", from), ("to", to), ("since", since)];
                let query: Vec<_> = asked
                    .iter()
                    .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
                    .collect();
                let path = format!("/api/v1/audit/bundle?{}", query.join("&"));
                let bundle = place.client()?.bytes(Ask::get(&path), JSON_BYTES_MAX)?;
                files::replace(out, &bundle, 0o644)?;
                let said = json!({ "file": out.display().to_string(), "bytes": bundle.len() });
                show::fields(output, &said, &[("file", "/file"), ("bytes", "/bytes")])?;
            }
            Self::Verify {
                bundle,
                trust,
                seen,
            } => {
                return verify(bundle, &trust.read()?, seen.as_deref(), output);
            }
            Self::Check {
                log_dir,
                trust,
                seen,
            } => {
                return check(log_dir, &trust.read()?, seen.as_deref(), output);
            }
            Self::Watch(watch) => return watch.run(output),
            Self::Seal { place } => {
                let seal = place.client()?.json(Ask::get("/api/v1/audit/seal"))?;
                show::fields(output, &seal, &[("sealed", "/sealed")])?;
            }
            Self::Unseal { reason, place } => {
                let ask = Ask::delete("/api/v1/audit/seal").json(&json!({ "reason": reason }));
                let recorded = place.client()?.json(ask)?;
                show::fields(
                    output,
                    &recorded,
                    &[("entry", "/entry"), ("sequence", "/sequence")],
                )?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl TrustedKeys {
    /// # Errors
    /// Neither a key nor a file that begins with one.
    pub fn read(&self) -> anyhow::Result<Vec<Vkey>> {
        self.key.iter().map(|text| key(text)).collect()
    }
}

fn key(text: &str) -> anyhow::Result<Vkey> {
    let wrong = match text.parse::<Vkey>() {
        Ok(key) => return Ok(key),
        Err(wrong) => wrong,
    };
    let shown = escaped(text);
    if !Path::new(text).exists() {
        bail!("--key {shown} is neither a file nor a verifier key: {wrong}");
    }
    let held = files::read_text(Path::new(text), 4096)?;
    let line = held
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    line.parse()
        .with_context(|| format!("{shown} does not begin with a verifier key"))
}

/// A checkpoint that somebody kept, by its signature one of this log.
///
/// # Errors
/// It cannot be read, or is not what the keys signed.
pub fn kept_checkpoint(path: &Path, keys: &[Vkey]) -> anyhow::Result<Checkpoint> {
    let note = files::read_text(path, audit::NOTE_BYTES_MAX)?;
    let opened = Checkpoint::open(&note, keys)
        .with_context(|| format!("{} is no checkpoint of this log", files::shown(path)))?;
    Ok(opened.checkpoint)
}

fn verify(
    bundle: &Path,
    keys: &[Vkey],
    seen: Option<&Path>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let seen = seen.map(|path| kept_checkpoint(path, keys)).transpose()?;
    // One byte more than it may have, so that a larger one is refused by the one who judges.
    let file = files::read(bundle, BUNDLE_BYTES_MAX.saturating_add(1));
    let verified = match audit::verify(&file?, keys, seen.as_ref()) {
        Ok(verified) => verified,
        Err(failure) => return failed(&failure, output),
    };
    let entries: Vec<_> = verified
        .entries
        .iter()
        .map(|one| {
            json!({
                "index": one.index,
                "time": one.entry.time.to_string(),
                "actor": one.entry.actor,
                "action": one.entry.action,
                "object": one.entry.object,
                "details": one.entry.details,
            })
        })
        .collect();
    let warnings: Vec<_> = verified.warnings.iter().map(ToString::to_string).collect();
    let witnesses: Vec<_> = verified
        .witnesses
        .iter()
        .map(|one| one.witness.clone())
        .collect();
    if output == Output::Json {
        show::value(&json!({
            "verified": true,
            "origin": verified.checkpoint.origin,
            "size": verified.checkpoint.size,
            "complete_range": verified.range.map(|r| json!({ "first": r.start, "end": r.end })),
            "entries": entries,
            "witnesses": witnesses,
            "warnings": warnings,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns: Vec<_> = ENTRIES
        .into_iter()
        .filter(|(name, _)| *name != "proven")
        .collect();
    let count = entries.len();
    show::rows(output, &entries.into(), &columns)?;
    let origin = escaped(&verified.checkpoint.origin);
    let size = verified.checkpoint.size;
    show::line(&format!(
        "\n{count} entries are in the log {origin} of {size} entries, unchanged."
    ))?;
    if let Some(range) = verified.range {
        let last = range.end.saturating_sub(1);
        show::line(&format!(
            "They are all that it holds from {} to {last}.",
            range.start
        ))?;
    }
    finish(&witnesses, &warnings)
}

fn check(
    log_dir: &Path,
    keys: &[Vkey],
    seen: Option<&Path>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let seen = seen.map(|path| kept_checkpoint(path, keys)).transpose()?;
    let mut folder = watch::Source::folder(log_dir)?;
    let Some(note) = folder.checkpoint()? else {
        bail!(
            "{} holds no checkpoint; is it the published log?",
            files::shown(log_dir)
        );
    };
    let opened = match Checkpoint::open(&note, keys) {
        Ok(opened) => opened,
        Err(failure) => return failed(&failure, output),
    };
    let checkpoint = opened.checkpoint;
    let style = "{bar:40} {pos} of {len} entries";
    let bar = ProgressBar::new(checkpoint.size).with_style(ProgressStyle::with_template(style)?);
    let mut trouble = None;
    let mut load = |path: &str| folder.load(path, &mut trouble);
    let walked = audit::check_tree(&checkpoint, &mut load, &mut |index, _| {
        bar.set_position(index)
    });
    bar.finish_and_clear();
    let judged = walked.and_then(|walked| {
        let Some(seen) = &seen else { return Ok(walked) };
        let mut tree = PublishedTree::new(checkpoint.size, &mut load);
        match watch::judged(Some(seen), &note, keys, &mut tree)?.alarm() {
            Some(failure) => Err(failure.clone()),
            None => Ok(walked),
        }
    });
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let walked = match judged {
        Ok(walked) => walked,
        Err(failure) => return failed(&failure, output),
    };
    let witnesses: Vec<_> = opened
        .witnesses
        .into_iter()
        .map(|one| one.witness)
        .collect();
    let warnings = if witnesses.is_empty() {
        vec![audit::Warning::NoWitness.to_string()]
    } else {
        Vec::new()
    };
    if output == Output::Json {
        show::value(&json!({
            "verified": true,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "tiles": walked.tiles,
            "witnesses": witnesses,
            "warnings": warnings,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    show::line(&format!(
        "All {} entries of the log {} fit its signed checkpoint.",
        walked.entries,
        escaped(&checkpoint.origin)
    ))?;
    finish(&witnesses, &warnings)
}

fn finish(witnesses: &[String], warnings: &[String]) -> anyhow::Result<ExitCode> {
    if !witnesses.is_empty() {
        let names: Vec<_> = witnesses.iter().map(|name| escaped(name)).collect();
        show::line(&format!("Cosigned by {}.", names.join(", ")))?;
    }
    for warning in warnings {
        show::line(&format!("Warning: {warning}."))?;
    }
    show::line("OK")?;
    Ok(ExitCode::SUCCESS)
}

fn failed(failure: &Failure, output: Output) -> anyhow::Result<ExitCode> {
    if output == Output::Json {
        show::value(&failure_json(failure))?;
    }
    eprintln!("FAILED at {}", escaped(&failure.to_string()));
    Ok(ExitCode::FAILURE)
}

/// The same words for programs.
#[must_use]
pub fn failure_json(failure: &Failure) -> Value {
    json!({
        "verified": false,
        "place": failure.place.to_string(),
        "what": failure.what,
        "who_must_act": failure.actor.to_string(),
        "how": failure.remedy,
    })
}
