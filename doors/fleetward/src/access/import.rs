//! `fleetward access import-mosquitto`, `import-aws`: another broker's policies as a fleet; and
//! `access schema`: what editors complete by. None of them needs a plane.

use crate::files::{self, shown};
use crate::show::{self, Output, escaped};
use access::{ImportNames, ImportRemark, Imported, SourceFile};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Of one file; what is larger is refused by the room in its own words.
const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The folder for schemas within a fleet: hidden, so no part of it.
const SCHEMAS: &str = ".schemas";

#[derive(Debug, Args)]
pub struct Out {
    /// Where the fleet is written: a folder that is empty or not there yet.
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// What the fleet is called.
    #[arg(long, value_name = "NAME", default_value = "imported")]
    name: String,
    /// What the devices' product is called, where the file has no name for it.
    #[arg(long, value_name = "NAME", default_value = "device")]
    product: String,
}

pub fn mosquitto(file: &Path, to: &Out, output: Output) -> anyhow::Result<ExitCode> {
    let text = files::read_text(file, FILE_BYTES_MAX)?;
    let place = file
        .file_name()
        .map_or_else(|| shown(file), |name| escaped(&name.to_string_lossy()));
    let names = to.names();
    to.write(access::import_mosquitto(&place, &text, &names), output)
}

pub fn aws(documents: &[PathBuf], to: &Out, output: Output) -> anyhow::Result<ExitCode> {
    let mut texts = Vec::new();
    for file in documents {
        texts.push(SourceFile {
            path: file.display().to_string(),
            text: files::read_text(file, FILE_BYTES_MAX)?,
        });
    }
    to.write(access::import_aws(&texts, &to.names()), output)
}

impl Out {
    fn names(&self) -> ImportNames {
        ImportNames {
            fleet: self.name.clone(),
            product: self.product.clone(),
        }
    }

    fn write(
        &self,
        imported: Result<Imported, Vec<ImportRemark>>,
        output: Output,
    ) -> anyhow::Result<ExitCode> {
        let imported = match imported {
            Ok(imported) => imported,
            Err(refused) => {
                refuse(&refused, output)?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let out = match (&self.out, self.dry_run) {
            (Some(folder), false) => {
                write_new(folder, &imported.files)?;
                Some(folder)
            }
            _ => None,
        };
        if output == Output::Json {
            let files: Vec<Value> = (imported.files.iter())
                .map(|file| json!({ "path": file.path, "text": file.text }))
                .collect();
            show::value(&json!({
                "written_to": out.map(|folder| folder.display().to_string()),
                "files": files,
                "left_out": remarks(&imported.left_out),
                "devices": imported.devices,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        for file in &imported.files {
            match out {
                Some(folder) => show::line(&shown(&folder.join(&file.path)))?,
                None => show::line(&format!("# {}\n{}", file.path, file.text))?,
            }
        }
        for (product, devices) in &imported.devices {
            show::line(&format!(
                "{} devices are of product {product}: list them with `fleetward identity \
                 devices add`",
                devices.len()
            ))?;
        }
        for remark in &imported.left_out {
            show::line(&format!("left out: {remark}"))?;
        }
        show::line(match out {
            Some(_) => "Read it, then see what it would do: `fleetward plan DIR`.",
            None => "Nothing was written: say --out DIR.",
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn refuse(refused: &[ImportRemark], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return show::value(&json!({ "refused": remarks(refused) }));
    }
    for remark in refused {
        show::line(&format!("refused: {remark}"))?;
    }
    show::line("Nothing was written: what is refused cannot be said by channels and policies.")
}

fn remarks(all: &[ImportRemark]) -> Vec<Value> {
    let remark =
        |one: &ImportRemark| json!({ "place": one.place, "text": one.text, "help": one.help });
    all.iter().map(remark).collect()
}

fn write_new(folder: &Path, files: &[SourceFile]) -> anyhow::Result<()> {
    let exists = folder.try_exists().unwrap_or(true);
    if exists && std::fs::read_dir(folder).map_or(true, |mut items| items.next().is_some()) {
        bail!(
            "{} is there and not empty; name a new folder, so that nothing of yours is mixed in",
            shown(folder)
        );
    }
    for file in files {
        write(&folder.join(&file.path), &file.text)?;
    }
    Ok(())
}

fn write(target: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("{} cannot be made", shown(parent)))?;
    }
    std::fs::write(target, text).with_context(|| format!("{} cannot be written", shown(target)))
}

/// The Cedar schema; with a fleet's folder, the JSON Schemas into it.
pub fn schema(fleet: Option<&Path>, output: Output) -> anyhow::Result<()> {
    let Some(fleet) = fleet else {
        return show::line(access::schema().trim_end());
    };
    if !fleet.is_dir() {
        bail!("{} is no folder; name that of the fleet", shown(fleet));
    }
    let folder = fleet.join(SCHEMAS);
    let mut lines = Vec::new();
    let playbooks = [("playbooks", response::json_schema())];
    for (of, schema) in access::json_schemas().into_iter().chain(playbooks) {
        let file = format!("{}.json", of.trim_end_matches(".toml"));
        write(
            &folder.join(&file),
            &format!("{}\n", serde_json::to_string_pretty(&schema)?),
        )?;
        let (files, up) = match of.ends_with(".toml") {
            true => (of.to_owned(), "."),
            false => (format!("{of}/*.toml"), ".."),
        };
        lines.push((files, format!("#:schema {up}/{SCHEMAS}/{file}")));
    }
    // A site's file lies where its gateway is cared for.
    let site = folder.join("site.json");
    let schema = access::site_json_schema();
    write(
        &site,
        &format!("{}\n", serde_json::to_string_pretty(&schema)?),
    )?;
    lines.push((
        "a site's file".to_owned(),
        format!("#:schema {}", shown(&site)),
    ));
    write(&folder.join("fleet.cedarschema"), access::schema())?;
    if output == Output::Json {
        let lines: Vec<Value> = (lines.iter())
            .map(|(files, line)| json!({ "files": files, "first_line": line }))
            .collect();
        return show::value(&json!({ "folder": folder.display().to_string(), "of": lines }));
    }
    show::line(&format!(
        "{} JSON Schemas and the Cedar schema are in {}. Editors find the first by a line at the top \
         of a file:",
        lines.len(),
        shown(&folder)
    ))?;
    for (files, line) in lines {
        show::line(&format!("  {files:<20} {line}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use access::{Contract, Fleet, PayloadScratch};

    const FULL: &str = r#"
[full]
description = "Everything"
mode = "enforce"
kinds = ["dns-spike", "denied-attempts"]
kinds_min = 2
outside_min = 1
severity_min = "high"
within_seconds = 600
contain_max = 3
steps = [
  { action = "notify", to = "security" },
  { action = "quarantine", after_seconds = 5, when_kinds_min = 2 },
  { action = "isolate" },
  { action = "revoke", after_seconds = 86400 },
]
"#;

    /// The schema as the contract of a channel: our own reader of JSON Schema.
    fn contract() -> Contract {
        let file = |path: &str, text: String| SourceFile {
            path: path.to_owned(),
            text,
        };
        let fleet = Fleet::read(&[
            file("fleet.toml", "name = \"test\"\n".to_owned()),
            file(
                "channels/c.toml",
                "[up]\ntopic = \"up\"\ndirection = \"from-device\"\npayload_bytes_max = \
                 100000\nschema = \"schemas/s.json\"\n"
                    .to_owned(),
            ),
            file("schemas/s.json", response::json_schema().to_string()),
        ]);
        let fleet = fleet.unwrap();
        fleet.channels().next().unwrap().contract.clone().unwrap()
    }

    #[test]
    fn the_schema_of_playbooks_and_their_reader_agree() {
        let contract = contract();
        let agree = |text: &str| {
            let table: toml::Table = toml::from_str(text).unwrap();
            let json = serde_json::to_string(&table).unwrap();
            let held = contract.check(json.as_bytes(), &mut PayloadScratch::default());
            let read = response::playbook::read("playbooks/p.toml", text);
            assert_eq!(held.is_ok(), read.is_ok(), "{held:?} {read:?}\n{text}");
            read.is_ok()
        };
        let example = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/fleet/playbooks/contain.toml"
        );
        assert!(agree(&std::fs::read_to_string(example).unwrap()));
        assert!(agree(FULL));
        for (part, wrong) in [
            ("[full]", "[\"a b\"]"),
            ("mode = \"enforce\"", "mode = \"do\""),
            ("mode = \"enforce\"", "moda = \"enforce\""),
            ("\"dns-spike\", ", "\"dns-spikes\", "),
            ("\"dns-spike\", ", "\"denied-attempts\", "),
            ("[\"dns-spike\", \"denied-attempts\"]", "[]"),
            ("kinds = [\"dns-spike\", \"denied-attempts\"]\n", ""),
            ("severity_min = \"high\"", "severity_min = \"huge\""),
            ("within_seconds = 600", "within_seconds = 0"),
            ("contain_max = 3", "contain_max = 10001"),
            ("to = \"security\"", "to = \"a b\""),
            (", to = \"security\"", ""),
            ("action = \"isolate\"", "action = \"isolate\", to = \"x\""),
            ("action = \"isolate\"", "action = \"destroy\""),
            ("after_seconds = 86400", "after_seconds = 86401"),
            ("kinds_min = 2\noutside", "kinds_min = 0\noutside"),
        ] {
            assert!(FULL.contains(part), "{part}");
            assert!(!agree(&FULL.replacen(part, wrong, 1)), "{wrong}");
        }
    }
}
