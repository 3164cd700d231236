//! Our CA tree as it stands in memory: which CAs there are, and which one certifies whom.

use crate::entries;
use crate::plane::{digest, leaf, random};
use crate::trouble::Trouble;
use audit::Vkey;
use identity::{IssuingCa, OwnCas, Realm, profile};
use model::{AuthorityId, CertificateUse, CertificateUses, Digest, Timestamp};
use signer::{Purpose, Signer};
use std::time::Duration;
use store::{Authority, AuthorityRole, AuthorityState, Change, Direction, Store, Write};

pub const ROOT_LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);
pub const ISSUING_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Where the first versions kept what has rows now.
const ROOT_BEFORE: &str = "identity.root-certificate";
const ISSUING_BEFORE: &str = "identity.issuing-certificate";

/// Every CA of ours that has a certificate. Immutable: a new tree takes its place.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Never empty; the one that serves comes first.
    roots: Vec<Root>,
    /// By name; of one name the newest first.
    issuing: Vec<Issuing>,
}

#[derive(Debug, Clone)]
pub struct Root {
    pub state: AuthorityState,
    /// DER.
    pub certificate: Vec<u8>,
    pub issuer: profile::Issuer,
    pub created_at: Timestamp,
    /// It by the root before it (NewWithOld), and that one by it (OldWithNew).
    pub links: Option<[Vec<u8>; 2]>,
}

#[derive(Debug, Clone)]
pub struct Issuing {
    pub name: AuthorityId,
    pub uses: CertificateUses,
    pub state: AuthorityState,
    /// The name of the root that made it.
    pub root: Digest,
    /// DER.
    pub certificate: Vec<u8>,
    pub issuer: profile::Issuer,
    pub created_at: Timestamp,
}

impl Tree {
    /// As the rows have it; made at the first start, with the entry that says so.
    ///
    /// # Errors
    /// The disk, the signer, or rows that hold no CA.
    pub fn open(
        store: &Store,
        signer: &Signer,
        realm: &Realm,
        log_key: &Vkey,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let mut rows = store.authorities()?;
        if rows.is_empty() {
            rows = match (store.meta(ROOT_BEFORE)?, store.meta(ISSUING_BEFORE)?) {
                (Some(root), Some(issuing)) => {
                    let rows = first_rows(root, issuing)?;
                    // While sealed nothing of the kind is written; the next start finds the same.
                    if store.sealed().is_none() {
                        store.commit(with_rows(Change::new(Direction::Grant), &rows))?;
                    }
                    rows
                }
                _ => found(store, signer, realm, log_key, now)?,
            };
        }
        let tree = Self::of(store, rows)?;
        let keys = signer.issuing_keys();
        let without = (tree.issuing.iter())
            .filter(|one| one.state == AuthorityState::Current)
            .find(|one| !keys.iter().any(|key| one.issuer.has_key(&key.public)));
        if let Some(one) = without {
            anyhow::bail!(
                "the key of the issuing CA {} is not there; operator: restore the keys of the same \
                 backup",
                one.name
            );
        }
        Ok(tree)
    }

    /// The tree as it is on record.
    ///
    /// # Errors
    /// The disk, or rows that hold no CA.
    pub fn load(store: &Store) -> Result<Self, Trouble> {
        Self::of(store, store.authorities()?)
    }

    /// Where the links of a root are kept: the link to it, the link back.
    #[must_use]
    pub fn link_keys(root: &Digest) -> [String; 2] {
        ["root-link", "root-link-back"].map(|what| format!("identity.{what}.{root}"))
    }

    fn of(store: &Store, rows: Vec<Authority>) -> Result<Self, Trouble> {
        let (mut roots, mut issuing) = (Vec::new(), Vec::new());
        for row in rows {
            let issuer = profile::Issuer::from_certificate(&row.certificate)?;
            match row.role {
                AuthorityRole::Root => roots.push(Root {
                    links: links(store, &issuer.id())?,
                    state: row.state,
                    certificate: row.certificate,
                    issuer,
                    created_at: row.created_at,
                }),
                AuthorityRole::Issuing { name, uses } => issuing.push(Issuing {
                    name,
                    uses,
                    state: row.state,
                    root: identity::certificate_id(&row.certificate)
                        .map_err(Trouble::fault)?
                        .issuer(),
                    certificate: row.certificate,
                    issuer,
                    created_at: row.created_at,
                }),
            }
        }
        roots.sort_by_key(|one| one.state != AuthorityState::Current);
        issuing.sort_by(|one, other| {
            (&one.name, other.created_at).cmp(&(&other.name, one.created_at))
        });
        match roots.first() {
            Some(root) if root.state == AuthorityState::Current => Ok(Self { roots, issuing }),
            _ => Err(Trouble::fault("the database holds no root CA that serves")),
        }
    }

    /// The root that serves: what a new device is given to trust.
    #[must_use]
    pub fn root(&self) -> &[u8] {
        self.roots.first().map_or(&[], |root| &root.certificate)
    }

    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    #[must_use]
    pub fn issuing(&self) -> &[Issuing] {
        &self.issuing
    }

    /// Those whose certificates open doors, and whose names no manufacturer may bear.
    #[must_use]
    pub fn own_cas(&self) -> OwnCas {
        OwnCas {
            roots: (self.roots.iter())
                .filter(|root| root.state != AuthorityState::Ended)
                .map(|root| root.certificate.clone())
                .collect(),
            issuing: self
                .believed()
                .map(|one| IssuingCa {
                    certificate: one.certificate.clone(),
                    uses: one.uses,
                    imported: self.is_imported(one),
                })
                .collect(),
        }
    }

    /// Whether a CA was made elsewhere and came with its key: no root of ours made it.
    #[must_use]
    pub fn is_imported(&self, one: &Issuing) -> bool {
        !self.roots.iter().any(|root| root.issuer.id() == one.root)
    }

    /// Issuing CAs that have not ended.
    pub fn believed(&self) -> impl Iterator<Item = &Issuing> {
        (self.issuing.iter()).filter(|one| one.state != AuthorityState::Ended)
    }

    /// Certificates that a client needs beside its own to build any path of ours: issuing CAs,
    /// then roots.
    pub fn published(&self) -> impl Iterator<Item = &[u8]> {
        let roots = (self.roots.iter()).filter(|root| root.state != AuthorityState::Ended);
        let with_links = roots.flat_map(|root| {
            let links = root.links.iter().flatten();
            std::iter::once(&root.certificate).chain(links)
        });
        (self.believed().map(|one| &one.certificate))
            .chain(with_links)
            .map(Vec::as_slice)
    }

    /// What our server shows behind its own certificate and its CA's, so that whoever knows only
    /// the root before this one finds a way: the link to this one, until that one has ended.
    #[must_use]
    pub fn link_shown(&self) -> Option<&[u8]> {
        let is_retiring = |root: &Root| root.state == AuthorityState::Retiring;
        let root = self.roots.first()?;
        let [link, _] = root.links.as_ref()?;
        self.roots.iter().any(is_retiring).then_some(link)
    }

    /// The CA that certifies now under a name.
    #[must_use]
    pub fn current(&self, name: &AuthorityId) -> Option<&Issuing> {
        (self.issuing.iter()).find(|one| one.name == *name && one.state == AuthorityState::Current)
    }

    /// The CA of devices: the one their product names, else the standard one.
    ///
    /// # Errors
    /// There is none of that name, or it is not for devices.
    pub fn for_device(&self, product_s: Option<&AuthorityId>) -> Result<&Issuing, Trouble> {
        let standard = AuthorityId::standard();
        let name = product_s.unwrap_or(&standard);
        self.current(name)
            .filter(|one| one.uses.contains(CertificateUse::Device))
            .ok_or_else(|| no_authority(name, CertificateUse::Device))
    }

    /// The CA of any other use: the newest that serves this use and not every one, else the
    /// standard one.
    ///
    /// # Errors
    /// There is neither.
    pub fn for_use(&self, wanted: CertificateUse) -> Result<&Issuing, Trouble> {
        let standard = AuthorityId::standard();
        (self.issuing.iter())
            .filter(|one| one.state == AuthorityState::Current)
            .filter(|one| one.uses != CertificateUses::EVERY && one.uses.contains(wanted))
            // A CA of devices is its product's; that it may sign for others makes it nobody's choice.
            .filter(|one| !one.uses.contains(CertificateUse::Device))
            .max_by_key(|one| one.created_at)
            .or_else(|| {
                self.current(&standard)
                    .filter(|one| one.uses.contains(wanted))
            })
            .ok_or_else(|| no_authority(&standard, wanted))
    }

    /// The CA of this plane's server, below the root that serves: one for servers if it is bound
    /// to all these names, else the one of every use. One that retires does it while there is no
    /// other below that root.
    ///
    /// # Errors
    /// There is none.
    pub fn for_server(&self, names: &[&str]) -> Result<&Issuing, Trouble> {
        let root = self.roots.first().map(|root| root.issuer.id());
        self.for_server_below(&root.unwrap_or(Digest([0; 32])), names)
    }

    /// As [`Self::for_server`], below a certain root.
    ///
    /// # Errors
    /// There is none.
    pub fn for_server_below(&self, root: &Digest, names: &[&str]) -> Result<&Issuing, Trouble> {
        self.believed()
            .filter(|one| one.root == *root && one.uses.contains(CertificateUse::Server))
            .filter(|one| one.issuer.permits_servers(names))
            .max_by_key(|one| {
                let is_current = one.state == AuthorityState::Current;
                (
                    is_current,
                    one.uses != CertificateUses::EVERY,
                    one.created_at,
                )
            })
            .ok_or_else(|| no_authority(&AuthorityId::standard(), CertificateUse::Server))
    }
}

fn links(store: &Store, root: &Digest) -> Result<Option<[Vec<u8>; 2]>, Trouble> {
    let [key, key_back] = Tree::link_keys(root);
    Ok(match (store.meta(&key)?, store.meta(&key_back)?) {
        (Some(link), Some(link_back)) => Some([link, link_back]),
        _ => None,
    })
}

/// Whether the database knows a CA.
///
/// # Errors
/// The disk.
pub fn is_founded(store: &Store) -> anyhow::Result<bool> {
    Ok(store.meta(ROOT_BEFORE)?.is_some() || !store.authorities()?.is_empty())
}

fn no_authority(name: &AuthorityId, wanted: CertificateUse) -> Trouble {
    Trouble::refused(
        "authority-unknown",
        format!(
            "there is no CA {name} that certifies a {}; operator: `fleetward identity ca list` \
             shows which there are, `fleetward identity ca create` makes one",
            wanted.name()
        ),
    )
}

/// The first start: a root, and one CA below it for every use.
fn found(
    store: &Store,
    signer: &Signer,
    realm: &Realm,
    log_key: &Vkey,
    now: Timestamp,
) -> anyhow::Result<Vec<Authority>> {
    let root_key = signer.root_public_key().ok_or_else(|| {
        anyhow::anyhow!(
            "the keys hold no root and the database no CA; operator: restore both of one backup"
        )
    })?;
    let root = {
        let unsigned = profile::root(realm, &terms(&root_key, now, ROOT_LIFETIME)?)?;
        let signature = signer.sign(Purpose::RootCertificate, unsigned.to_be_signed())?;
        unsigned.assemble(&signature)?
    };
    let standard = AuthorityId::standard();
    let key = (signer.issuing_keys().into_iter())
        .find(|key| key.authority == standard)
        .ok_or_else(|| anyhow::anyhow!("the keys hold none of the first issuing CA"))?;
    let issuing = {
        let issuer = profile::Issuer::from_certificate(&root)?;
        let unsigned =
            profile::issuing(realm, &issuer, &terms(&key.public, now, ISSUING_LIFETIME)?)?;
        let signature = signer.sign(Purpose::IssuingCertificate, unsigned.to_be_signed())?;
        unsigned.assemble(&signature)?
    };
    let act = entries::initialised(now, digest(&root), &log_key.to_string());
    let rows = first_rows(root, issuing)?;
    let change =
        with_rows(Change::new(Direction::Grant), &rows).entry(leaf(realm.tenant().clone(), &act)?);
    store.commit(change)?;
    Ok(rows)
}

fn with_rows(change: Change, rows: &[Authority]) -> Change {
    (rows.iter()).fold(change, |change, row| {
        change.write(Write::PutAuthority(row.clone()))
    })
}

/// The rows of a root and the CA of every use.
fn first_rows(root: Vec<u8>, issuing: Vec<u8>) -> Result<Vec<Authority>, Trouble> {
    let every = AuthorityRole::Issuing {
        name: AuthorityId::standard(),
        uses: CertificateUses::EVERY,
    };
    [(AuthorityRole::Root, root), (every, issuing)]
        .into_iter()
        .map(|(role, certificate)| row(role, certificate))
        .collect()
}

/// The row of a CA that serves, made when its certificate begins.
pub fn row(role: AuthorityRole, certificate: Vec<u8>) -> Result<Authority, Trouble> {
    let issuer = profile::Issuer::from_certificate(&certificate)?;
    Ok(Authority {
        subject: issuer.id(),
        role,
        state: AuthorityState::Current,
        created_at: issuer.not_before().plus(profile::BACKDATED),
        certificate,
    })
}

/// Terms for a key of ours.
///
/// # Errors
/// The system gives no random bytes.
pub fn terms(
    public_key: &[u8],
    now: Timestamp,
    lifetime: Duration,
) -> Result<profile::Terms<'_>, Trouble> {
    Ok(profile::Terms {
        public_key,
        serial_random: random()?,
        now,
        lifetime,
    })
}
