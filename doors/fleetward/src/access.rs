//! `fleetward plan`, `fleetward apply`, `fleetward access …`: who may reach what.

mod folder;
mod import;
mod network;
mod reach;
mod traffic;

use crate::ask;
use crate::client::{Ask, Client, Refused};
use crate::files::{self, shown};
use crate::people::{self, ApiTokenVerb, PasskeyVerb, PeopleVerb, ProposalVerb};
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use access::SourceFile;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use folder::{fleet_files, read_fleet};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub struct Plan {
    /// The folder that declares the fleet.
    #[arg(value_name = "FLEET_DIR", default_value = "fleet")]
    fleet: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    plan: Plan,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum AccessVerb {
    /// Say whether a device or service may publish or receive, and which policy decides.
    ///
    /// Exit status 0: permitted; 1: denied, or the question was refused.
    #[command(after_help = "Examples:\n  \
        fleetward access explain --device cam-1 --publish v1/camera/cam-1/telemetry/light\n  \
        fleetward access explain --service ingest --receive 'v1/camera/+/telemetry/#'")]
    Explain {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        place: Place,
    },
    /// Show the fleet in force: its version and what it declares.
    #[command(after_help = "Examples:\n  fleetward access fleet\n  \
        fleetward access fleet --output json")]
    Fleet {
        #[command(flatten)]
        place: Place,
    },
    /// Make a new sign-in link: works once, for 15 minutes.
    ///
    /// It stands in a file that only the plane's user reads, and is shown on a terminal only.
    #[command(after_help = "Examples:\n  fleetward access admin-link")]
    AdminLink {
        #[command(flatten)]
        place: Place,
    },
    /// Say who this program is to the plane, and what it may ask.
    #[command(after_help = "Examples:\n  fleetward access whoami")]
    Whoami {
        #[command(flatten)]
        place: Place,
    },
    /// Who may sign in, with which roles.
    #[command(subcommand)]
    People(PeopleVerb),
    /// Passkeys by which people sign in.
    #[command(subcommand)]
    Passkey(PasskeyVerb),
    /// Tokens by which programs speak to the API.
    #[command(subcommand)]
    Token(ApiTokenVerb),
    /// Acts that wait for a second person.
    #[command(subcommand)]
    Proposal(ProposalVerb),
    /// Print the policies of people and tokens, or what they speak of. Needs no plane.
    #[command(
        after_help = "Examples:\n  fleetward access rights\n  fleetward access rights --schema"
    )]
    Rights {
        /// The schema instead of the policies.
        #[arg(long)]
        schema: bool,
    },
    /// List what was applied, the newest first.
    #[command(after_help = "Examples:\n  fleetward access history\n  \
        fleetward access history --limit 5 --output json")]
    History {
        /// 1 to 1000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        place: Place,
    },
    /// Write the files of the fleet in force, or of an earlier version, byte for byte as applied.
    #[command(after_help = "Examples:\n  fleetward access export live\n  \
        fleetward access export old --version 3")]
    Export {
        /// A folder that is empty or not there yet.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// An earlier version.
        #[arg(long)]
        version: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// Apply an earlier version again, as a new one. Shows the plan and asks.
    #[command(after_help = "Examples:\n  fleetward access revert 3\n  \
        fleetward access revert 3 --yes --output json")]
    Revert {
        /// The version to go back to.
        version: u64,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Say whether the invariants of a fleet hold, for every device it could ever have. Needs no plane.
    ///
    /// Exit status 0: all hold; 1: one is broken, or cannot be decided. `plan` and `apply` refuse such
    /// a fleet.
    #[command(after_help = "Examples:\n  fleetward access prove fleet\n  \
        fleetward access prove fleet --output json")]
    Prove {
        /// The folder that declares the fleet.
        #[arg(value_name = "FLEET_DIR", default_value = "fleet")]
        fleet: PathBuf,
    },
    /// Say what a device could do if it were hijacked: in which channels, heard by whom, and where in the
    /// network; if it is free, and as it is now.
    #[command(
        after_help = "Examples:\n  fleetward access blast-radius --device cam-1\n  \
        fleetward access blast-radius --device cam-1 --output json"
    )]
    BlastRadius(reach::BlastRadius),
    /// List where devices of a product were seen to go, what of it the fleet would refuse, and what may
    /// be declared.
    #[command(
        after_help = "Examples:\n  fleetward access observed --product camera\n  \
        fleetward access observed --product camera --support 10 --propose > \
        fleet/destinations/camera.toml"
    )]
    Observed(reach::Observed),
    /// Say what the MUD files of a fleet become: rules, and entries that none can hold. Needs no plane.
    #[command(after_help = "Examples:\n  fleetward access mud fleet\n  \
        fleetward access mud fleet --product camera --output json\n  \
        fleetward access mud fleet --product camera --write https://acme.example/camera.json")]
    Mud(network::Mud),
    /// Write the nftables of a site's gateway: what each device may reach, and nothing else. Needs no
    /// plane.
    ///
    /// One transaction replaces the table `inet fleetward`; nothing else at the gateway is touched.
    #[command(after_help = "Examples:\n  \
        fleetward access nftables fleet --site home.toml --devices devices.csv > home.nft\n  \
        nft -c -f home.nft && nft -f home.nft\n  \
        fleetward access nftables fleet --site home.toml --devices devices.csv --contain \
        cam-1=quarantined | nft -f -")]
    Nftables(network::Nftables),
    /// Print the Cedar schema: what a policy may speak of; or write the JSON Schemas by which editors
    /// complete the files of a fleet. Needs no plane.
    #[command(after_help = "Examples:\n  fleetward access schema\n  \
        fleetward access schema --into fleet")]
    Schema {
        /// The folder of a fleet: the schemas go into its hidden folder `.schemas`.
        #[arg(long, value_name = "FLEET_DIR")]
        into: Option<PathBuf>,
    },
    /// Turn the acl_file of a Mosquitto broker into a fleet that decides alike. Needs no plane.
    ///
    /// Exit status 0: written, or shown; 1: something of it cannot be said by channels and policies, and
    /// nothing was written.
    #[command(after_help = "Examples:\n  \
        fleetward access import-mosquitto /etc/mosquitto/acl --dry-run\n  \
        fleetward access import-mosquitto /etc/mosquitto/acl --out fleet --product sensor")]
    ImportMosquitto {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        to: import::Out,
    },
    /// Turn policies of AWS IoT Core into a fleet that decides alike, one document a product or a
    /// service. Needs no plane.
    ///
    /// Exit status as of import-mosquitto.
    #[command(after_help = "Examples:\n  \
        aws iot get-policy --policy-name camera > camera.json\n  \
        fleetward access import-aws camera.json ingest.json --dry-run\n  \
        fleetward access import-aws camera.json ingest.json --out fleet")]
    ImportAws {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: import::Out,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Who {
    /// A device by its name.
    #[arg(long)]
    device: Option<String>,
    /// A service by its name.
    #[arg(long)]
    service: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// A topic to send to.
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,
    /// A topic filter to subscribe to.
    #[arg(long, value_name = "FILTER")]
    receive: Option<String>,
}

const FLEET: [Column; 8] = [
    ("version", "/version"),
    ("name", "/name"),
    ("sources sha-256", "/sources_sha256"),
    ("products", "/products"),
    ("groups", "/groups"),
    ("services", "/services"),
    ("channels", "/channels"),
    ("policies", "/policies"),
];

const HISTORY: [Column; 4] = [
    ("version", "/version"),
    ("applied", "/applied_at"),
    ("in force", "/in_force"),
    ("sources sha-256", "/sources_sha256"),
];

impl Plan {
    /// # Errors
    /// The folder, the plane, or what is wrong in the fleet.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let files = read_fleet(&self.fleet)?;
        let planned = self.ask(&mut self.place.client()?, &files)?;
        match output {
            Output::Json => show::value(&planned),
            Output::Table => show::line(&plan_text(&planned)),
        }
    }

    fn ask(&self, client: &mut Client, files: &Value) -> anyhow::Result<Value> {
        let planned = client.json(Ask::post("/api/v1/access/plan").json(files));
        planned.map_err(|error| self.in_this_folder(error))
    }

    /// The plane calls the folder `fleet`; whoever corrects a file knows it by its path here.
    fn in_this_folder(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Refused>() {
            Ok(mut refused) => {
                for line in &mut refused.errors {
                    if let Some(rest) = line.strip_prefix("fleet/") {
                        *line = self.fleet.join(rest).display().to_string();
                    }
                }
                refused.into()
            }
            Err(other) => other,
        }
    }
}

impl Apply {
    /// # Errors
    /// As [`Plan::run`], or nobody said yes.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        // The bytes that were shown are the bytes that are applied.
        let files = read_fleet(&self.plan.fleet)?;
        let mut client = self.plan.place.client()?;
        let planned = self.plan.ask(&mut client, &files)?;
        put_in_force(&mut client, files, &planned, self.yes, output)
            .map_err(|error| self.plan.in_this_folder(error))
    }
}

/// Shows the plan, asks, and applies exactly it.
fn put_in_force(
    client: &mut Client,
    mut files: Value,
    planned: &Value,
    yes: bool,
    output: Output,
) -> anyhow::Result<()> {
    if output == Output::Table {
        show::line(&plan_text(planned))?;
    }
    if planned.pointer("/unchanged") == Some(&Value::Bool(true)) {
        return match output {
            Output::Table => Ok(()),
            Output::Json => show::value(planned),
        };
    }
    if !yes {
        if !std::io::stdin().is_terminal() {
            bail!("nothing was applied: there is no terminal to ask on; say --yes");
        }
        if !ask::yes("Apply this?")? {
            bail!("nothing was applied");
        }
    }
    if let (Some(files), Some(plan)) = (files.as_object_mut(), planned.pointer("/plan")) {
        files.insert("plan".to_owned(), plan.clone());
    }
    let applied = client.json(Ask::put("/api/v1/access/fleet").json(&files))?;
    match output {
        Output::Json => show::value(&applied),
        Output::Table => show::line(&format!(
            "Version {} is in force on every shard; entry {} of the log says so.",
            number(&applied, "/version"),
            number(&applied, "/recorded/entry")
        )),
    }
}

impl AccessVerb {
    /// # Errors
    /// The plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Explain { who, what, place } => return explain(who, what, place, output),
            Self::Fleet { place } => {
                let fleet = place.client()?.json(Ask::get("/api/v1/access/fleet"))?;
                show::fields(output, &fleet, &FLEET)?;
            }
            Self::AdminLink { place } => {
                place
                    .client()?
                    .json(Ask::post("/api/v1/access/admin-links"))?;
                let file = place.config()?.admin_link_file();
                if output == Output::Json {
                    show::value(&json!({ "file": file.display().to_string() }))?;
                } else if std::io::stdout().is_terminal() {
                    show::line(
                        escaped(&files::read_text(&file, 4096)?).trim_end_matches("\\u{a}"),
                    )?;
                } else {
                    show::line(&format!("The link is in {}", shown(&file)))?;
                }
            }
            Self::Whoami { place } => people::whoami(place, output)?,
            Self::People(verb) => verb.run(output)?,
            Self::Passkey(verb) => verb.run(output)?,
            Self::Token(verb) => verb.run(output)?,
            Self::Proposal(verb) => verb.run(output)?,
            Self::Rights { schema: false } => show::line(access::people_policies().trim_end())?,
            Self::Rights { schema: true } => show::line(access::people_schema().trim_end())?,
            Self::History { limit, place } => {
                let path = format!("/api/v1/access/history?limit={limit}");
                let versions = place.client()?.json(Ask::get(&path))?;
                if versions.as_array().is_some_and(Vec::is_empty) && output == Output::Table {
                    show::line("nothing was applied yet: `fleetward apply` does")?;
                } else {
                    show::rows(output, &versions, &HISTORY)?;
                }
            }
            Self::Export {
                folder,
                version,
                place,
            } => export(&mut place.client()?, folder, *version, output)?,
            Self::Revert {
                version,
                yes,
                place,
            } => {
                let mut client = place.client()?;
                let sources = sources(&mut client, *version)?;
                let files = json!({ "files": sources.pointer("/files") });
                let planned = client.json(Ask::post("/api/v1/access/plan").json(&files))?;
                put_in_force(&mut client, files, &planned, *yes, output)?;
            }
            Self::Prove { fleet } => return prove(fleet, output),
            Self::BlastRadius(radius) => radius.run(output)?,
            Self::Observed(observed) => observed.run(output)?,
            Self::Mud(mud) => mud.run(output)?,
            Self::Nftables(nftables) => nftables.run(output)?,
            Self::Schema { into } => import::schema(into.as_deref(), output)?,
            Self::ImportMosquitto { file, to } => return import::mosquitto(file, to, output),
            Self::ImportAws { files, to } => return import::aws(files, to, output),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn explain(who: &Who, what: &What, place: &Place, output: Output) -> anyhow::Result<ExitCode> {
    let question: BTreeMap<&str, &String> = [
        ("device", &who.device),
        ("service", &who.service),
        ("publish", &what.publish),
        ("receive", &what.receive),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.as_ref()?)))
    .collect();
    let answer = place
        .client()?
        .json(Ask::post("/api/v1/access/explain").json(&json!(question)))?;
    let permitted = answer.pointer("/permitted") == Some(&Value::Bool(true));
    if output == Output::Json {
        show::value(&answer)?;
    } else {
        let columns: [Column; 4] = [
            ("policy", "/policy"),
            ("reason", "/reason"),
            ("channel", "/channel"),
            ("owner", "/owner"),
        ];
        let known: Vec<_> = columns
            .into_iter()
            .filter(|(_, at)| answer.pointer(at).is_some_and(|value| !value.is_null()))
            .collect();
        show::line(if permitted { "PERMITTED" } else { "DENIED" })?;
        show::fields(output, &answer, &known)?;
        let text = answer
            .pointer("/text")
            .and_then(Value::as_str)
            .unwrap_or_default();
        show::line(&format!("\n{}", escaped(text)))?;
    }
    Ok(if permitted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn sources(client: &mut Client, version: u64) -> anyhow::Result<Value> {
    client.json(Ask::get(&format!("/api/v1/access/history/{version}")))
}

fn export(
    client: &mut Client,
    folder: &Path,
    version: Option<u64>,
    output: Output,
) -> anyhow::Result<()> {
    let version = match version {
        Some(version) => version,
        None => {
            let fleet = client.json(Ask::get("/api/v1/access/fleet"))?;
            match fleet.pointer("/version").and_then(Value::as_u64) {
                Some(0) | None => bail!("nothing was applied yet, so there is nothing to export"),
                Some(version) => version,
            }
        }
    };
    let exists = folder.try_exists().unwrap_or(true);
    if exists && std::fs::read_dir(folder).map_or(true, |mut items| items.next().is_some()) {
        bail!(
            "{} is there and not empty; name a new folder, so that nothing of yours is mixed in",
            shown(folder)
        );
    }
    let sources = sources(client, version)?;
    let files = sources.pointer("/files").and_then(Value::as_array);
    let mut count = 0usize;
    for file in files.into_iter().flatten() {
        let text = |at| file.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let path = text("/path");
        // As the plane takes them: what does not look like a file of a fleet is not written.
        let is_plain = path
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'));
        if !is_plain {
            bail!(
                "the plane named a file {}; nothing more was written",
                escaped(path)
            );
        }
        let target = folder.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("{} cannot be made", shown(parent)))?;
        }
        std::fs::write(&target, text("/text"))
            .with_context(|| format!("{} cannot be written", shown(&target)))?;
        count += 1;
    }
    match output {
        Output::Json => show::value(&json!({ "version": version, "files": count })),
        Output::Table => show::line(&format!(
            "Version {version}: {count} files are in {}.",
            shown(folder)
        )),
    }
}

/// A folder as a fleet, without a plane.
fn local_fleet(folder: &Path) -> anyhow::Result<access::Fleet> {
    let files: Vec<SourceFile> = fleet_files(folder)?
        .into_iter()
        .map(|(path, text)| SourceFile { path, text })
        .collect();
    access::Fleet::read(&files).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(|one| in_folder(one, folder)).collect();
        anyhow::anyhow!("this fleet cannot be read\n{}", lines.join("\n"))
    })
}

fn prove(folder: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let fleet = local_fleet(folder)?;
    let proofs = access::prove(&fleet);
    let broken = proofs.iter().filter(|proof| proof.refusal().is_some());
    let broken = broken.count();
    if output == Output::Json {
        let proofs: Vec<Value> = proofs.iter().map(proof_value).collect();
        show::value(&json!({ "invariants": proofs, "broken": broken }))?;
    } else if proofs.is_empty() {
        show::line(&format!(
            "This fleet declares no invariants. Write {} to say what must never be; \
             docs/access.md shows how.",
            shown(&folder.join("invariants.toml"))
        ))?;
    } else {
        for proof in &proofs {
            show::line(&match proof.refusal() {
                None => format!("holds    {}", proof.invariant),
                Some(refusal) => format!("BROKEN   {}", in_folder(refusal, folder)),
            })?;
        }
        show::line(
            "\nLooked at: every device that this fleet could have, and each service. Not looked at: \
             a service that hands on\nwhat it heard, and the network beside the plane.",
        )?;
    }
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn proof_value(proof: &access::Proof) -> Value {
    let (outcome, text) = match &proof.outcome {
        access::Outcome::Holds => ("holds", None),
        access::Outcome::Broken(case) => ("broken", Some(case)),
        access::Outcome::Undecided(why) => ("undecided", Some(why)),
    };
    json!({ "invariant": proof.invariant, "outcome": outcome, "text": text })
}

/// Whoever corrects a file knows it by its path here.
fn in_folder(diagnostic: &access::Diagnostic, folder: &Path) -> String {
    let text = diagnostic.to_string();
    match text.strip_prefix("fleet/") {
        Some(rest) => escaped(&folder.join(rest).display().to_string()),
        None => escaped(&text),
    }
}

fn plan_text(planned: &Value) -> String {
    let version = number(planned, "/version");
    if planned.pointer("/unchanged") == Some(&Value::Bool(true)) {
        return "Nothing to change: this fleet is in force.".into();
    }
    let changes = planned.pointer("/changes").and_then(Value::as_array);
    let mut lines: Vec<_> = changes
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .map(|change| format!("  {}", escaped(change)))
        .collect();
    if lines.is_empty() {
        lines.push("  no name comes or goes; what they mean changes".into());
    }
    for (word, at) in [("gains", "/gains"), ("loses", "/losses")] {
        let shifts = planned.pointer(at).and_then(Value::as_array);
        for shift in shifts.into_iter().flatten() {
            lines.push(format!("  {}", shift_text(word, shift)));
        }
    }
    let unclassified = planned.pointer("/unclassified").and_then(Value::as_array);
    for one in unclassified.into_iter().flatten() {
        let reason = one.pointer("/reason").and_then(Value::as_str);
        lines.push(format!(
            "  denied everything: {}: {}",
            principals_text(one),
            escaped(reason.unwrap_or_default())
        ));
    }
    let warnings = planned.pointer("/warnings").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!("  warning: {}", escaped(warning)));
    }
    let bare = planned
        .pointer("/without_contract")
        .and_then(Value::as_array);
    let bare: Vec<&str> = bare
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !bare.is_empty() {
        let channels = escaped(&bare.join(", "));
        lines.push(format!(
            "  any bytes pass, as no schema or encoding is named: {channels}"
        ));
    }
    lines.extend(traffic::lines(planned));
    format!(
        "Version {version}, {} grant classes:\n{}",
        number(planned, "/grant_classes"),
        lines.join("\n")
    )
}

/// `gains publish of its own camera-state (policy x): 12 devices, as device/cam-1, device/cam-2`.
fn shift_text(word: &str, shift: &Value) -> String {
    let text = |at| {
        shift
            .pointer(at)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let own = shift.pointer("/own") == Some(&Value::Bool(true));
    let policy = match text("/policy") {
        "" => String::new(),
        policy => format!(" ({policy})"),
    };
    let whose = if own { "its own " } else { "" };
    escaped(&format!(
        "{word} {} {whose}{}{policy}: {}",
        text("/action"),
        text("/channel"),
        principals_text(shift)
    ))
    .to_string()
}

fn principals_text(of: &Value) -> String {
    let count = |at, one: &str, many: &str| match of.pointer(at).and_then(Value::as_u64) {
        None | Some(0) => None,
        Some(1) => Some(format!("1 {one}")),
        Some(count) => Some(format!("{count} {many}")),
    };
    let counts: Vec<String> = [
        count("/devices", "device", "devices"),
        count("/services", "service", "services"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let examples = of.pointer("/examples").and_then(Value::as_array);
    let examples: Vec<&str> = (examples.into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    format!(
        "{}, as {}",
        counts.join(" and "),
        escaped(&examples.join(", "))
    )
}

fn number(value: &Value, at: &str) -> String {
    value
        .pointer(at)
        .and_then(Value::as_u64)
        .map_or_else(|| "?".into(), |n| n.to_string())
}
