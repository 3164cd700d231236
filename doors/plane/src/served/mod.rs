//! What our doors show: which certificate, at which door, to whom asks for which name.
//!
//! Our own stands at every door for `server_names`. Beside it stand chains of other CAs. Each is
//! replaced whole while connections live on: they keep what they were shown. What was found wrong
//! with a successor is kept beside the one in force, which is never taken away for it.

pub mod acme;
mod imported;
pub(crate) mod own;
pub mod record;
pub mod settings;

pub use own::Maker;
pub use settings::DoorName;

use crate::clock;
use crate::config::Config;
use crate::entries::Actor;
use crate::plane::Plane;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use identity::{BadKeys, ServerChain, covers};
use model::Timestamp;
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use signer::SealKey;
use std::path::PathBuf;
use std::sync::Arc;
use store::{Store, Write};

/// All that is shown. Immutable.
#[derive(Debug, Clone)]
pub struct Served {
    /// In the order of the configuration, our own last.
    entries: Vec<Entry>,
}

/// One certificate with the place it has.
#[derive(Debug, Clone)]
pub struct Entry {
    pub source: Source,
    pub doors: Vec<DoorName>,
    /// Shown to clients that ask for no name.
    pub is_default: bool,
    /// Nothing yet, if it has still to be had from a CA, or its file held one that had ended.
    pub shown: Option<Arc<Shown>>,
    /// When its successor is asked for; what is imported is its operator's to renew.
    pub renews_at: Option<Timestamp>,
    /// Why its successor is not in force.
    pub trouble: Option<String>,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Own,
    Imported {
        chain_file: PathBuf,
    },
    Acme {
        directory: String,
        names: Vec<String>,
    },
}

/// A chain and the key that speaks for it.
#[derive(Debug)]
pub struct Shown {
    /// In lower case.
    pub names: Vec<String>,
    pub chain: ServerChain,
    pub key: Arc<CertifiedKey>,
}

/// What a reload did.
pub struct Reloaded {
    pub receipt: Option<store::Receipt>,
    /// One line for each that stays as it was.
    pub errors: Vec<String>,
}

impl Source {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Imported { .. } => "imported",
            Self::Acme { .. } => "acme",
        }
    }

    #[must_use]
    pub const fn is_acme(&self) -> bool {
        matches!(self, Self::Acme { .. })
    }

    /// The file it was read from, or the directory of its CA.
    #[must_use]
    pub fn from(&self) -> Option<String> {
        match self {
            Self::Own => None,
            Self::Imported { chain_file } => Some(chain_file.display().to_string()),
            Self::Acme { directory, .. } => Some(directory.clone()),
        }
    }
}

impl Entry {
    /// Names it is shown for, or will be.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match (&self.shown, &self.source) {
            (Some(shown), _) => &shown.names,
            (None, Source::Acme { names, .. }) => names,
            (None, _) => &[],
        }
    }
}

impl Shown {
    /// When two thirds of its life are over.
    #[must_use]
    pub fn two_thirds(&self) -> Timestamp {
        let (from, until) = (self.chain.not_before(), self.chain.not_after());
        from.plus(until.since(from) * 2 / 3)
    }
}

impl Served {
    /// Everything as the configuration wants it, read and checked; what differs from the last run
    /// is on record when this returns.
    ///
    /// # Errors
    /// The first file that cannot be shown, in one line.
    pub fn open(
        config: &Config,
        store: &Store,
        seal: &SealKey,
        bad_keys: &BadKeys,
        own: Maker<'_>,
    ) -> anyhow::Result<Self> {
        let now = clock::now();
        let mut entries = Vec::new();
        for settings in &config.listen.certificates {
            entries.push(imported::entry_at_start(settings, bad_keys, now)?);
        }
        if config.listen.acme.is_set() {
            entries.push(acme::entry(config, store, seal, now)?);
        }
        let tenant = own.realm.tenant().clone();
        entries.push(own.entry(now)?);
        let served = Self { entries };
        served.check_apart().map_err(|line| anyhow::anyhow!(line))?;
        record::at_start(store, &tenant, &served, now)?;
        Ok(served)
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a client is shown at a door: what it can verify before what it cannot, what lives
    /// before what has ended, an import before our own, the whole name before a wildcard, ECDSA
    /// before RSA. `None`: nothing here is for that name.
    #[must_use]
    pub fn choose(
        &self,
        door: DoorName,
        name: Option<&str>,
        schemes: &[SignatureScheme],
        now: Timestamp,
    ) -> Option<Arc<CertifiedKey>> {
        let fitting = self.entries.iter().filter_map(|entry| {
            let shown = entry.shown.as_deref()?;
            let exact = match name {
                Some(name) => shown.exactly(name)?,
                None => entry.is_default || entry.source == Source::Own,
            };
            (entry.doors.contains(&door) && (exact || name.is_some()))
                .then_some((entry, shown, exact))
        });
        let best = fitting.min_by_key(|(entry, shown, exact)| {
            (
                shown.key.key.choose_scheme(schemes).is_none(),
                shown.chain.not_after() < now,
                entry.source == Source::Own,
                !exact,
                shown.key.key.algorithm() == SignatureAlgorithm::RSA,
            )
        });
        best.map(|(_, shown, _)| Arc::clone(&shown.key))
    }

    /// What is shown although it has ended, a line each.
    pub fn ended(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let ended = self.entries.iter().filter_map(move |entry| {
            let until = entry.shown.as_ref()?.chain.not_after();
            (until < now).then(|| {
                format!(
                    "{} ended at {until}, and clients refuse it; see `fleetward identity served`",
                    entry.source
                )
            })
        });
        ended.collect::<Vec<_>>().into_iter()
    }

    /// Of two for the same name, door and algorithm the second would never be seen.
    fn check_apart(&self) -> Result<(), String> {
        let imported = self.entries.iter().filter(|one| one.source != Source::Own);
        for (place, first) in imported.clone().enumerate() {
            for second in imported.clone().skip(place + 1) {
                check_pair(first, second)?;
            }
        }
        Ok(())
    }
}

fn check_pair(first: &Entry, second: &Entry) -> Result<(), String> {
    let (Some(one), Some(other)) = (&first.shown, &second.shown) else {
        return Ok(());
    };
    let same_door = first.doors.iter().any(|door| second.doors.contains(door));
    if !same_door || one.key.key.algorithm() != other.key.key.algorithm() {
        return Ok(());
    }
    let files = format!("{} and {}", first.source, second.source);
    if first.is_default && second.is_default {
        return Err(format!(
            "{files} are both default at one door with keys of one algorithm; operator: leave \
             default to one of them"
        ));
    }
    match one.names.iter().find(|name| other.names.contains(name)) {
        Some(name) => Err(format!(
            "{files} are both shown for {name} at one door with keys of one algorithm; operator: \
             take the name or the door from one of them"
        )),
        None => Ok(()),
    }
}

impl Shown {
    /// Whether it is for this name: `Some(true)` by the name itself, `Some(false)` by a wildcard.
    fn exactly(&self, name: &str) -> Option<bool> {
        let covering = self.names.iter().filter(|own| covers(own, name));
        covering.map(|own| !own.starts_with("*.")).max()
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("our own certificate"),
            Self::Imported { chain_file } => write!(f, "{}", chain_file.display()),
            Self::Acme { directory, .. } => f.write_str(directory),
        }
    }
}

/// Reads every file again. What is good is in force when this returns; what is not leaves the one
/// before in force and says why.
///
/// # Errors
/// The change could not be recorded: everything stays as it was.
pub async fn reload(plane: &Plane, actor: &Actor) -> Result<Reloaded, Trouble> {
    let _one_at_a_time = plane.serving.begin().await;
    let before = plane.trust().served.get();
    let settings = plane.config.listen.certificates.clone();
    let bad_keys = plane.trust().bad_keys.get();
    let read = off_thread(move || {
        let now = clock::now();
        let all = (settings.iter()).map(|one| imported::entry(one, &bad_keys, now));
        all.collect::<Vec<_>>()
    })
    .await?;
    let mut next = Served::clone(&before);
    let mut errors = Vec::new();
    for (place, result) in read.into_iter().enumerate() {
        let trouble = match result {
            Ok(entry) => next.try_put(place, entry).err(),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(line) = &trouble {
            tracing::error!("a certificate is not replaced: {line}");
            errors.push(line.clone());
        }
        if let Some(entry) = next.entries.get_mut(place) {
            entry.trouble = trouble;
        }
    }
    let receipt = put_in_force(plane, &before, next, Vec::new(), actor).await?;
    // Whoever reads files again has mended something, perhaps what a CA complained of.
    plane.obtaining.notify_one();
    Ok(Reloaded { receipt, errors })
}

/// Makes and shows the next certificate of our own if two thirds of the present one's life are
/// over, or another CA of ours certifies servers now.
///
/// # Errors
/// The store or the signer; the present certificate is shown on.
pub async fn renew_own(plane: &Arc<Plane>) -> anyhow::Result<()> {
    let _one_at_a_time = plane.serving.begin().await;
    let making = Arc::clone(plane);
    let entry = off_thread(move || {
        let maker = Maker {
            config: &making.config,
            store: &making.store,
            signer: &making.signer,
            realm: &making.realm,
            tree: &making.tree(),
        };
        maker.entry(clock::now())
    })
    .await??;
    if let Some(shown) = &entry.shown
        && let Some(leaf) = shown.key.cert.first()
    {
        plane
            .learn(&identity::Fact::ServerCertified {
                certificate: identity::certificate_id(leaf)?,
                key: identity::public_key_digest(leaf)?,
                not_after: identity::validity(leaf)?.1,
            })
            .map_err(|trouble| anyhow::anyhow!("{trouble}"))?;
    }
    let mut next = Served::clone(&plane.trust().served.get());
    next.entries.retain(|one| one.source != Source::Own);
    next.entries.push(entry);
    plane.trust().served.replace(Arc::new(next));
    Ok(())
}

impl Served {
    /// Another for the one at this place, if it stands apart from the rest.
    fn try_put(&mut self, place: usize, entry: Entry) -> Result<(), String> {
        let mut changed = self.clone();
        if let Some(there) = changed.entries.get_mut(place) {
            *there = entry;
        }
        changed.check_apart()?;
        *self = changed;
        Ok(())
    }
}

/// Durable first, with what else must be kept of it, then shown.
async fn put_in_force(
    plane: &Plane,
    before: &Served,
    next: Served,
    kept: Vec<Write>,
    actor: &Actor,
) -> Result<Option<store::Receipt>, Trouble> {
    let receipt = match record::change(plane, before, &next, actor)? {
        Some(change) => {
            let change = kept.into_iter().fold(change, store::Change::write);
            Some(plane.commit(change).await?)
        }
        None => None,
    };
    plane.trust().served.replace(Arc::new(next));
    Ok(receipt)
}
