//! `fleetward identity root …`: a root that is kept offline, and how it gets there.
//!
//! `create`, `sign`, `link`, `show` and `crl sign` need no plane and no network: they are for the machine on
//! which the ceremony is held.

use crate::ask;
use crate::client::Ask;
use crate::files;
use crate::identity::{PEM_BYTES_MAX, RECORDED};
use crate::place::Place;
use crate::request::{from_pem, pem};
use crate::root_list::RootListVerb;
use crate::show::{self, Column, Output};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use identity::Realm;
use identity::profile::{self, AuthorityRequest, Issuer, NameLimits, Terms};
use model::{TenantId, Timestamp};
use serde_json::{Value, json};
use signer::{BUNDLE_BYTES_MAX, OpenRoot, PASSPHRASE_BYTES_MIN, Purpose, RootBundle};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const PASSPHRASE_BYTES_MAX: usize = 1024;

#[derive(Debug, Subcommand)]
pub enum RootVerb {
    /// Make a root in an encrypted bundle. Needs no plane.
    #[command(
        after_help = "Examples:\n  fleetward identity root create --trust-domain \
        fleet.example --tenant acme --bundle root-2.bundle --out root-2.pem"
    )]
    Create(Create),
    /// Certify an issuing CA by its request, after showing what it asks for. Needs no plane.
    #[command(
        after_help = "Examples:\n  fleetward identity root sign --bundle root.bundle \
        --request cameras.csr --out cameras.pem --record ceremony.jsonl\n\n\
        On a terminal it shows the request and asks; elsewhere --yes says that somebody has looked."
    )]
    Sign(Sign),
    /// Certify a new root by the old one and the old one by the new. Needs no plane.
    #[command(
        after_help = "Examples:\n  fleetward identity root link --before root.bundle \
        --bundle root-2.bundle --out next-root.pem"
    )]
    Link(Link),
    /// Show what stands in a bundle. Needs no passphrase.
    #[command(after_help = "Examples:\n  fleetward identity root show root.bundle")]
    Show { bundle: PathBuf },
    /// Move the root's key of a plane into a bundle, and remove it from the plane's machine.
    #[command(
        after_help = "Examples:\n  fleetward identity root export --bundle root.bundle\n\n\
        The bundle is written and opened again before the key is removed. Keep it and the \
        passphrase apart, each twice."
    )]
    Export(Export),
    /// Make the next root known to devices: what `root link` wrote. It serves nobody yet.
    #[command(after_help = "Examples:\n  fleetward identity root install next-root.pem")]
    Install {
        certificates: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Serve below the next root from now on; refused while devices have not learned it.
    #[command(
        after_help = "Examples:\n  fleetward identity root rollover --serve --dry-run\n  \
        fleetward identity root rollover --serve"
    )]
    Rollover {
        /// The plane's own certificate moves to the new tree; devices that do not know the new
        /// root find it by the link that is shown with it.
        #[arg(long, required = true)]
        serve: bool,
        #[command(flatten)]
        step: Step,
    },
    /// Believe the root before the one that serves no more; devices forget it. Refused while devices
    /// have not learned the one that serves: they could not find the plane any more.
    #[command(
        after_help = "Examples:\n  fleetward identity root retire --dry-run\n  \
        fleetward identity root retire"
    )]
    Retire {
        #[command(flatten)]
        step: Step,
    },
    /// The root's own revocation list: which of its issuing CAs nobody should believe any more.
    #[command(subcommand)]
    Crl(RootListVerb),
}

#[derive(Debug, Args)]
pub struct Step {
    /// Say how many devices have not learned the root, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Though devices have not said that they believe the root.
    #[arg(long)]
    even_if_unlearned: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct Passphrase {
    /// A file of mode 0600 with the passphrase in one line; without it the terminal is asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Create {
    /// The authority in the URIs of its tree, as in the plane's configuration.
    #[arg(long)]
    trust_domain: String,
    /// Whose fleet it is, as in the plane's configuration.
    #[arg(long)]
    tenant: TenantId,
    /// Where the bundle goes (mode 0600; must not exist).
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Where the root certificate (PEM) goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long it lives.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=30))]
    years: u32,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, Args)]
pub struct Sign {
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// What `fleetward identity ca request` wrote.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Where the certificate (PEM) goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A line about the ceremony is appended here.
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
    /// How long it lives; never longer than the root.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=20))]
    years: u32,
    /// Show what would be signed, and sign nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, Args)]
pub struct Link {
    /// The bundle of the root that serves.
    #[arg(long, value_name = "FILE")]
    before: PathBuf,
    /// The bundle of the new root.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Where the new root and both links (PEM) go.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// As --passphrase-file, of the root that serves.
    #[arg(long, value_name = "FILE")]
    before_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Where the bundle goes (mode 0600; must not exist).
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Leave the key on the plane's machine as well.
    #[arg(long)]
    keep_online: bool,
    /// Do not ask before the key is removed.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(flatten)]
    place: Place,
}

const ROOT: [Column; 5] = [
    ("trust domain", "/trust_domain"),
    ("tenant", "/tenant"),
    ("from", "/not_before"),
    ("until", "/not_after"),
    ("sha-256", "/sha256"),
];

const SPREAD: [Column; 5] = [
    ("root sha-256", "/root_sha256"),
    ("devices enrolled", "/devices"),
    ("have not learned it", "/unlearned"),
    ("for example", "/examples"),
    ("expected, not enrolled", "/not_enrolled"),
];

const CEREMONY: [Column; 6] = [
    ("issuing CA", "/authority"),
    ("tenant", "/tenant"),
    ("names permitted", "/permitted"),
    ("key sha-256", "/key_sha256"),
    ("until", "/not_after"),
    ("certificate sha-256", "/certificate_sha256"),
];

impl RootVerb {
    /// # Errors
    /// A file, a passphrase, the plane, or what was asked.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run(output),
            Self::Sign(sign) => sign.run(output),
            Self::Link(link) => link.run(output),
            Self::Show { bundle } => show::fields(output, &about(&read_bundle(bundle)?)?, &ROOT),
            Self::Export(export) => export.run(output),
            Self::Install {
                certificates,
                place,
            } => {
                let text = files::read_text(certificates, PEM_BYTES_MAX)?;
                let body = json!({ "certificates_pem": text });
                let ask = Ask::post("/api/v1/identity/roots").json(&body);
                show::fields(output, &place.client()?.json(ask)?, &RECORDED)
            }
            Self::Rollover { serve: _, step } => step.take("rollover", output),
            Self::Retire { step } => step.take("retire", output),
            Self::Crl(verb) => verb.run(output),
        }
    }
}

impl Step {
    fn take(&self, verb: &str, output: Output) -> anyhow::Result<()> {
        let path = format!("/api/v1/identity/roots/{verb}");
        let body = json!({
            "dry_run": self.dry_run,
            "even_if_unlearned": self.even_if_unlearned,
        });
        let answer = self.place.client()?.json(Ask::post(&path).json(&body))?;
        let columns: &[Column] = if self.dry_run { &SPREAD } else { &RECORDED };
        show::fields(output, &answer, columns)
    }
}

impl Create {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let passphrase = self.passphrase.chosen()?;
        let realm = Realm::new(&self.trust_domain, self.tenant.clone())?;
        let root = OpenRoot::generate(&self.trust_domain, self.tenant.clone())?;
        let unsigned = profile::root(&realm, &terms(root.public_key(), self.years)?)?;
        let signature = root.sign(Purpose::RootCertificate, unsigned.to_be_signed())?;
        let certificate = unsigned.assemble(&signature)?;
        let bundle = root.seal(&certificate, &passphrase)?;
        files::create_secret(&self.bundle, bundle.to_text().as_bytes())?;
        files::replace(
            &self.out,
            pem("CERTIFICATE", &certificate).as_bytes(),
            0o644,
        )?;
        show::fields(output, &about(&bundle)?, &ROOT)
    }
}

impl Sign {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let bundle = read_bundle(&self.bundle)?;
        let text = files::read_text(&self.request, PEM_BYTES_MAX)?;
        let der = from_pem(&text, "CERTIFICATE REQUEST")?;
        let request = AuthorityRequest::read(&der)?;
        if request.tenant != bundle.tenant.as_str() {
            bail!(
                "the request is of tenant {}, the root of {}; nothing was signed",
                show::escaped(&request.tenant),
                bundle.tenant
            );
        }
        let mut shown = json!({
            "authority": request.authority.as_str(),
            "tenant": request.tenant,
            "permitted": permitted(&request.limits),
            "key_sha256": sha256(&request.public_key),
            "request_sha256": sha256(&der),
        });
        if self.dry_run {
            return show::fields(output, &shown, &CEREMONY);
        }
        if !self.yes {
            if !std::io::stdin().is_terminal() {
                bail!("nobody has looked at what is signed: --dry-run shows it, --yes signs it");
            }
            show::fields(Output::Table, &shown, &CEREMONY)?;
            if !ask::yes("Certify this CA?")? {
                bail!("nothing was signed");
            }
        }
        let root = bundle.open(&self.passphrase.known()?)?;
        let realm = Realm::new(&bundle.trust_domain, bundle.tenant.clone())?;
        let issuer = Issuer::from_certificate(&bundle.certificate)?;
        let terms = terms(&request.public_key, self.years)?;
        let unsigned =
            profile::issuing_of(&realm, &request.authority, &request.limits, &issuer, &terms)?;
        let not_after = unsigned.not_after();
        let signature = root.sign(Purpose::IssuingCertificate, unsigned.to_be_signed())?;
        let certificate = unsigned.assemble(&signature)?;
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("at".into(), now().to_string().into());
            fields.insert("not_after".into(), not_after.to_string().into());
            fields.insert("certificate_sha256".into(), sha256(&certificate).into());
            let root = sha256(&bundle.certificate);
            fields.insert("root_sha256".into(), root.into());
        }
        // The record first: a certificate that is on none has not been made.
        append(&self.record, &shown)?;
        files::replace(
            &self.out,
            pem("CERTIFICATE", &certificate).as_bytes(),
            0o644,
        )?;
        show::fields(output, &shown, &CEREMONY)
    }
}

impl Link {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let (before, next) = (read_bundle(&self.before)?, read_bundle(&self.bundle)?);
        if (&before.trust_domain, &before.tenant) != (&next.trust_domain, &next.tenant) {
            bail!("the two roots are of different fleets; nothing was signed");
        }
        let passphrase_before = Passphrase {
            passphrase_file: self.before_passphrase_file.clone(),
        };
        let old = before.open(&passphrase_before.asked("of the root that serves")?)?;
        let new = next.open(&self.passphrase.asked("of the new root")?)?;
        let link = |of: &RootBundle, by: &RootBundle, root: &OpenRoot| -> anyhow::Result<Vec<u8>> {
            let issuer = Issuer::from_certificate(&by.certificate)?;
            let unsigned = profile::link(&of.certificate, &issuer, &terms(&[], 1)?)?;
            let signature = root.sign(Purpose::LinkCertificate, unsigned.to_be_signed())?;
            Ok(unsigned.assemble(&signature)?)
        };
        let text = [
            next.certificate.clone(),
            link(&next, &before, &old)?,
            link(&before, &next, &new)?,
        ]
        .map(|der| pem("CERTIFICATE", &der))
        .concat();
        files::replace(&self.out, text.as_bytes(), 0o644)?;
        show::fields(output, &about(&next)?, &ROOT)
    }
}

impl Export {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let passphrase = self.passphrase.chosen()?;
        let text = std::str::from_utf8(&passphrase).context("the passphrase is not text")?;
        if self.bundle.exists() {
            bail!(
                "{} exists and is never overwritten",
                files::shown(&self.bundle)
            );
        }
        let mut client = self.place.client()?;
        let body = json!({ "passphrase": text });
        let exported = client.json(Ask::post("/api/v1/identity/roots/export").json(&body))?;
        let bundle = exported.pointer("/bundle").and_then(Value::as_str);
        let bundle = bundle.context("the plane's answer holds no bundle; update this program")?;
        files::create_secret(&self.bundle, bundle.as_bytes())?;
        // What cannot be opened is no copy: only then may the other go.
        let kept = read_bundle(&self.bundle)?;
        let root = kept.open(&passphrase)?;
        if !Issuer::from_certificate(&kept.certificate)?.has_key(root.public_key()) {
            bail!("the bundle holds another key than its certificate says; nothing was removed");
        }
        let mut told = about(&kept)?;
        let removed = !self.keep_online && self.is_agreed()?;
        if removed {
            client.json(Ask::delete("/api/v1/identity/roots/key"))?;
        }
        if let Some(fields) = told.as_object_mut() {
            fields.insert("key_removed".into(), removed.into());
        }
        let columns: Vec<Column> = (ROOT.into_iter())
            .chain([("key removed from the plane", "/key_removed")])
            .collect();
        show::fields(output, &told, &columns)
    }

    fn is_agreed(&self) -> anyhow::Result<bool> {
        if self.yes || !std::io::stdin().is_terminal() {
            return Ok(true);
        }
        ask::yes("The bundle opens. Remove the root's key from the plane's machine?")
    }
}

impl Passphrase {
    /// One that opens a bundle.
    pub(crate) fn known(&self) -> anyhow::Result<Vec<u8>> {
        self.asked("of the root")
    }

    fn asked(&self, whose: &str) -> anyhow::Result<Vec<u8>> {
        let Some(file) = &self.passphrase_file else {
            return prompt(&format!("Passphrase {whose}: "));
        };
        let mut bytes = files::read_secret(file, PASSPHRASE_BYTES_MAX)?;
        while bytes
            .last()
            .is_some_and(|last| matches!(last, b'\n' | b'\r'))
        {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// One for a bundle that is to be made: twice from a terminal.
    fn chosen(&self) -> anyhow::Result<Vec<u8>> {
        let passphrase = self.asked("for the root")?;
        if passphrase.len() < PASSPHRASE_BYTES_MIN {
            bail!(
                "the passphrase has fewer than {PASSPHRASE_BYTES_MIN} characters; take several words"
            );
        }
        if self.passphrase_file.is_none() && prompt("Once more: ")? != passphrase {
            bail!("the two differ; nothing was made");
        }
        Ok(passphrase)
    }
}

/// From the terminal, unseen.
fn prompt(text: &str) -> anyhow::Result<Vec<u8>> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the passphrase; name a file with --passphrase-file");
    }
    let mut terminal = console::Term::stderr();
    write!(terminal, "{text}")?;
    Ok(terminal.read_secure_line()?.into_bytes())
}

pub(crate) fn read_bundle(path: &Path) -> anyhow::Result<RootBundle> {
    let text = String::from_utf8(files::read_secret(path, BUNDLE_BYTES_MAX)?)
        .map_err(|_| signer::SignerError::NoBundle)?;
    Ok(RootBundle::read(&text)?)
}

fn about(bundle: &RootBundle) -> anyhow::Result<Value> {
    let root = Issuer::from_certificate(&bundle.certificate)?;
    Ok(json!({
        "trust_domain": bundle.trust_domain,
        "tenant": bundle.tenant.as_str(),
        "not_before": root.not_before().to_string(),
        "not_after": root.not_after().to_string(),
        "sha256": sha256(&bundle.certificate),
    }))
}

fn permitted(limits: &NameLimits) -> Vec<String> {
    match limits {
        NameLimits::Unlimited => vec!["every name".to_owned()],
        NameLimits::TrustDomain(domain) => vec![format!("spiffe://{domain}/")],
        NameLimits::Servers(names) => names.clone(),
    }
}

fn terms(public_key: &[u8], years: u32) -> anyhow::Result<Terms<'_>> {
    let mut serial_random = [0; 16];
    aws_lc_rs::rand::fill(&mut serial_random)
        .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(Terms {
        public_key,
        serial_random,
        now: now(),
        lifetime: YEAR * years,
    })
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    Timestamp::from_seconds(since.as_secs())
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One line more, durable when this returns.
pub(crate) fn append(path: &Path, line: &Value) -> anyhow::Result<()> {
    let unwritable = || format!("{} cannot be written", files::shown(path));
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(unwritable)?;
    writeln!(file, "{line}").with_context(unwritable)?;
    file.sync_all().with_context(unwritable)
}
