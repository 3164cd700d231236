//! Acts on our CA tree: an issuing CA is made, replaced, and ends.

use super::tree::{ISSUING_LIFETIME, Issuing, Root, Tree, row, terms};
use super::{imports, root_list, roots};
use crate::clock;
use crate::entries::{self, Act, Actor};
use crate::plane::{Plane, digest};
use crate::served;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use access::Fleet;
use identity::profile::{self, AuthorityRequest};
use identity::{Anchors, IssuingCa, OwnCas};
use model::{AuthorityId, CertificateUse, CertificateUses, Digest, ManufacturerId, Timestamp};
use profile::NameLimits;
use signer::{IssuingKey, Purpose, Signer};
use std::sync::Arc;
use std::time::Duration;
use store::{Authority, AuthorityRole, AuthorityState, Change, Direction, Receipt, Write};
use zeroize::Zeroizing;

/// A CA that ends within two years is told of: its certificates may not outlive it.
const ENDS_SOON: Duration = Duration::from_secs(2 * 365 * 86_400);

/// Makes an issuing CA under the root of this machine, or the next one of a name.
///
/// # Errors
/// The name exists (does not, for a rollover); the root is kept elsewhere.
pub async fn create(
    plane: &Arc<Plane>,
    name: AuthorityId,
    uses: Option<CertificateUses>,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let uses = uses_of(&plane.tree(), &name, uses)?;
    let making = Arc::clone(plane);
    let certificate = off_thread(move || {
        let key = making.signer.create_issuing(&name, uses);
        certify(&making, &key.map_err(Trouble::fault)?, clock::now()).map(|der| (name, der))
    });
    let (name, certificate) = certificate.await??;
    put_in_service(plane, name, uses, certificate, actor).await
}

/// Whether a root's key is on this machine, where whoever takes the machine takes the fleet.
#[must_use]
pub fn is_online(plane: &Plane, root: &Root) -> bool {
    plane
        .signer
        .root_public_key()
        .is_some_and(|key| root.issuer.has_key(&key))
}

/// When it is time to replace it.
#[must_use]
pub fn replace_from(one: &Issuing) -> Timestamp {
    one.issuer.not_after().minus(ENDS_SOON)
}

/// The products whose devices it certifies now.
#[must_use]
pub fn products_of(plane: &Plane, one: &Issuing) -> Vec<String> {
    if one.state != AuthorityState::Current || !one.uses.contains(CertificateUse::Device) {
        return Vec::new();
    }
    let standard = AuthorityId::standard();
    let in_force = plane.admission.fleet.get();
    (in_force.fleet.iter().flat_map(Fleet::products))
        .filter(|product| *product.authority.as_ref().unwrap_or(&standard) == one.name)
        .map(|product| product.id.to_string())
        .collect()
}

/// What somebody should change about our CAs.
#[must_use]
pub fn findings(plane: &Plane) -> Vec<String> {
    let tree = plane.tree();
    let mut findings = Vec::new();
    if tree.roots().iter().any(|root| is_online(plane, root)) {
        findings.push(
            "the root's key is on this machine: whoever takes it can be any device for 20 years. \
             Move it to a bundle that is kept offline: fleetward identity root export"
                .to_owned(),
        );
    }
    let now = clock::now();
    for one in tree.issuing() {
        if one.state == AuthorityState::Current && replace_from(one) < now {
            findings.push(format!(
                "the issuing CA {} ends at {}: fleetward identity ca rollover {}",
                one.name,
                one.issuer.not_after(),
                one.name
            ));
        }
        let name = one.name.to_string();
        findings.extend(plane.pace.finding(&name, &one.issuer.id(), clock::now()));
    }
    let trouble = plane.bad_keys_trouble.lock().clone();
    findings.extend(trouble.map(|why| format!("the lists of bad keys stay as they were: {why}")));
    let certifies = |one: &&Issuing| one.state == AuthorityState::Current;
    for one in tree.issuing().iter().filter(certifies) {
        if tree.is_imported(one) {
            findings.push(format!(
                "the issuing CA {} was made elsewhere, and whoever has another copy of its key can \
                 make certificates below it; give it a key of this plane's: fleetward identity ca \
                 rollover {}",
                one.name, one.name
            ));
        }
    }
    if plane.config.gateway.tls_1_2 {
        findings.extend(unreadable_to_small_devices(plane, &tree));
    }
    findings.extend(root_list::findings(plane, &tree));
    findings
}

/// Products whose devices may be too small to read the certificate of their own CA.
fn unreadable_to_small_devices(plane: &Plane, tree: &Tree) -> Vec<String> {
    let in_force = plane.admission.fleet.get();
    let products = in_force.fleet.iter().flat_map(access::Fleet::products);
    products
        .filter_map(|product| {
            let name = product.authority.as_ref()?;
            let limits = tree.current(name)?.issuer.limits();
            matches!(limits, NameLimits::TrustDomain(_)).then(|| {
                format!(
                    "TLS 1.2 is on for small devices, and the product {} has the CA {name}, whose \
                     name constraints are critical (RFC 5280 section 4.2.1.10): mbedTLS 2.28 and \
                     its like refuse to read such a CA certificate. Its devices must not load it, \
                     or the product takes the CA default",
                    product.id
                )
            })
        })
        .collect()
}

/// What to carry to the root: the request of a CA, made with its next key, which is born here.
/// Asking again gives the same request as long as it was not answered.
///
/// # Errors
/// The name exists and `uses` is given, or the other way round.
pub async fn request(
    plane: &Arc<Plane>,
    name: AuthorityId,
    uses: Option<CertificateUses>,
    actor: &Actor,
) -> Result<(Vec<u8>, Receipt), Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let uses = uses_of(&plane.tree(), &name, uses)?;
    let asking = Arc::clone(plane);
    let (key, request) = off_thread(move || {
        let waiting = waiting_key(&asking, &name).filter(|key| key.uses == uses);
        let key = match waiting {
            Some(key) => key,
            None => (asking.signer.create_issuing(&name, uses)).map_err(Trouble::fault)?,
        };
        let limits = limits_of(&asking, key.uses);
        let unsigned =
            AuthorityRequest::build(asking.realm(), &key.authority, &limits, &key.public)?;
        let signature = asking.sign(Purpose::AuthorityRequest, unsigned.to_be_signed())?;
        Ok::<_, Trouble>((key, unsigned.assemble(&signature)?))
    })
    .await??;
    let at = clock::now();
    let act = entries::authority_requested(at, actor, &key.authority, key.uses, digest(&request));
    let change = Change::new(Direction::Neutral).entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    Ok((request, receipt))
}

/// Puts a CA into service with the certificate that the root made for its request.
///
/// # Errors
/// There was no request, or the certificate is not its answer.
pub async fn install(
    plane: &Arc<Plane>,
    name: AuthorityId,
    certificate: Vec<u8>,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let key = waiting_key(plane, &name).ok_or_else(|| {
        Trouble::refused(
            "authority-not-requested",
            format!("no request of a CA {name} waits for its certificate"),
        )
    })?;
    let limits = limits_of(plane, key.uses);
    roots::check_installed(plane, &plane.tree(), &certificate, &key, &limits)?;
    put_in_service(plane, name, key.uses, certificate, actor).await
}

/// What the import of a CA with its key would do.
#[derive(Debug, Clone)]
pub struct ImportPreview {
    pub not_after: Timestamp,
    /// SHA-256 of its name: the issuer in the names of its certificates.
    pub issuer: Digest,
    pub limits: NameLimits,
    /// An imported fleet has this CA: its certificates go on as they are.
    pub fleet: Option<ManufacturerId>,
}

/// A CA that was made elsewhere, with its key.
pub struct Importing {
    pub name: AuthorityId,
    pub uses: CertificateUses,
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS #8 or SEC 1, DER.
    pub private_key: Zeroizing<Vec<u8>>,
}

/// Whether such a CA can certify here, and what that means. Nothing is taken in.
///
/// # Errors
/// The name exists; the key is no CA's that signs here, or not this certificate's; another voucher has
/// this CA.
pub fn would_import(plane: &Plane, importing: &Importing) -> Result<ImportPreview, Trouble> {
    let tree = plane.tree();
    uses_of(&tree, &importing.name, Some(importing.uses))?;
    let refused = |why: String| Trouble::refused("authority-refused", why);
    let public = Signer::foreign_public_key(&importing.private_key)
        .map_err(|error| refused(error.to_string()))?;
    let certificate = &importing.certificate;
    let (realm, now) = (plane.realm(), clock::now());
    profile::check_imported(realm, certificate, &public, importing.uses, now)
        .map_err(|refusal| refused(refusal.to_string()))?;
    let issuer = profile::Issuer::from_certificate(certificate)?;
    if tree
        .issuing()
        .iter()
        .any(|one| one.issuer.id() == issuer.id())
    {
        return Err(refused("a CA of ours has this name already".to_owned()));
    }
    let fleet = (plane.store.imported_fleets()?.into_iter())
        .find(|fleet| fleet.cas.contains(certificate))
        .map(|fleet| fleet.fleet);
    // With it all vouchers must still be told apart.
    let mut own = tree.own_cas();
    own.issuing.push(IssuingCa {
        certificate: certificate.clone(),
        uses: importing.uses,
        imported: true,
    });
    anchors(plane, &own).map_err(|trouble| refused(trouble.to_string()))?;
    Ok(ImportPreview {
        not_after: issuer.not_after(),
        issuer: issuer.id(),
        limits: issuer.limits().clone(),
        fleet,
    })
}

/// Takes a CA with its key in: from here on it certifies for the products that name it, under the
/// same rules as a CA of ours.
///
/// # Errors
/// As [`would_import`]; the signer's.
pub async fn import(
    plane: &Arc<Plane>,
    importing: Importing,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    would_import(plane, &importing)?;
    let Importing {
        name,
        uses,
        certificate,
        private_key,
    } = importing;
    let (taking, of) = (Arc::clone(plane), name.clone());
    off_thread(move || taking.signer.import_issuing(&of, uses, &private_key))
        .await?
        .map_err(|error| Trouble::refused("authority-refused", error.to_string()))?;
    let at = clock::now();
    let act = entries::authority_imported(at, actor, &name, uses, digest(&certificate));
    serve(plane, name, uses, certificate, &act).await
}

/// The newest key of a CA that has no certificate.
fn waiting_key(plane: &Plane, name: &AuthorityId) -> Option<IssuingKey> {
    let tree = plane.tree();
    let has_certificate =
        |key: &IssuingKey| (tree.issuing().iter()).any(|one| one.issuer.has_key(&key.public));
    (plane.signer.issuing_keys().into_iter())
        .rfind(|key| key.authority == *name && !has_certificate(key))
}

/// The uses of a new CA, or of the next one of a name: they never change.
fn uses_of(
    tree: &Tree,
    name: &AuthorityId,
    asked: Option<CertificateUses>,
) -> Result<CertificateUses, Trouble> {
    match (tree.current(name), asked) {
        (None, Some(uses)) => Ok(uses),
        (Some(current), None) => Ok(current.uses),
        (Some(_), Some(_)) => Err(Trouble::refused(
            "authority-exists",
            format!("a CA {name} exists; roll it over, or choose another name"),
        )),
        (None, None) => Err(Trouble::refused(
            "authority-unknown",
            format!("there is no CA {name} to be rolled over; create it first"),
        )),
    }
}

/// The certificate of an issuing CA, by the root of this machine.
fn certify(plane: &Plane, key: &IssuingKey, now: Timestamp) -> Result<Vec<u8>, Trouble> {
    if plane.signer.root_public_key().is_none() {
        return Err(Trouble::refused(
            "root-offline",
            "the root's key is kept elsewhere: `fleetward identity ca request` writes a request \
             for it",
        ));
    }
    let tree = plane.tree();
    let root = (tree.roots().iter())
        .find(|root| is_online(plane, root))
        .ok_or_else(|| Trouble::fault("the root's key is not that of a root"))?
        .issuer
        .clone();
    let limits = limits_of(plane, key.uses);
    let terms = terms(&key.public, now, ISSUING_LIFETIME)?;
    let unsigned = profile::issuing_of(plane.realm(), &key.authority, &limits, &root, &terms)?;
    let signature = plane.sign(Purpose::IssuingCertificate, unsigned.to_be_signed())?;
    Ok(unsigned.assemble(&signature)?)
}

fn limits_of(plane: &Plane, uses: CertificateUses) -> NameLimits {
    let names: Vec<&str> = (plane.config.server_names.iter())
        .map(String::as_str)
        .collect();
    NameLimits::of(uses, plane.realm(), &names)
}

/// From here on the CA certifies, and the one before it of that name retires: its certificates are
/// believed to their end. On record first; believed before it certifies.
async fn put_in_service(
    plane: &Arc<Plane>,
    name: AuthorityId,
    uses: CertificateUses,
    certificate: Vec<u8>,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    let at = clock::now();
    let act = entries::authority_certified(at, actor, &name, uses, digest(&certificate));
    serve(plane, name, uses, certificate, &act).await
}

async fn serve(
    plane: &Arc<Plane>,
    name: AuthorityId,
    uses: CertificateUses,
    certificate: Vec<u8>,
    act: &Act,
) -> Result<Receipt, Trouble> {
    let retiring = plane.tree().current(&name).map(|before| Authority {
        state: AuthorityState::Retiring,
        ..stored(before)
    });
    let mut next = row(AuthorityRole::Issuing { name, uses }, certificate)?;
    next.created_at = act.time;
    let mut change = Change::new(Direction::Grant)
        .write(Write::PutAuthority(next))
        .entry(plane.leaf(act)?);
    if let Some(before) = retiring {
        change = change.write(Write::PutAuthority(before));
    }
    let receipt = plane.commit(change).await?;
    believe(plane)?;
    if uses.contains(model::CertificateUse::Server) {
        served::renew_own(plane).await.map_err(Trouble::fault)?;
    }
    Ok(receipt)
}

/// Ends CAs that retired and of whose certificates none is valid any more, and roots that have ended
/// by themselves; returns how many. Needs no order: what it ends vouches for nobody.
///
/// # Errors
/// The store's.
pub async fn end_retired(plane: &Arc<Plane>, now: Timestamp) -> Result<usize, Trouble> {
    let _one_at_a_time = plane.listing.begin().await;
    let mut ended = 0;
    for retired in plane.tree().issuing() {
        if retired.state != AuthorityState::Retiring {
            continue;
        }
        let last = plane.store.last_certificate_end(&retired.issuer.id())?;
        if last.is_some_and(|end| end >= now) {
            continue;
        }
        let act = entries::authority_ended(now, &retired.name, digest(&retired.certificate));
        let row = Authority {
            state: AuthorityState::Ended,
            ..stored(retired)
        };
        let change = Change::new(Direction::Grant)
            .write(Write::PutAuthority(row))
            .entry(plane.leaf(&act)?);
        plane.commit(change).await?;
        ended += 1;
    }
    for root in plane.tree().roots() {
        if root.state == AuthorityState::Retiring && root.issuer.not_after() < now {
            roots::end(plane, root, 0, &Actor::Plane).await?;
            ended += 1;
        }
    }
    if ended > 0 {
        believe(plane)?;
    }
    Ok(ended)
}

/// Takes the tree into memory as it is on record: who is believed first, then who certifies. Only
/// while `listing` is held.
pub(super) fn believe(plane: &Plane) -> Result<(), Trouble> {
    let tree = Tree::load(&plane.store)?;
    let anchors = anchors(plane, &tree.own_cas())?;
    plane.trust().anchors.replace(Arc::new(anchors));
    plane.tree.replace(Arc::new(tree));
    Ok(())
}

/// These CAs of ours with all others that are on record.
fn anchors(plane: &Plane, own: &OwnCas) -> Result<Anchors, Trouble> {
    let mut manufacturers = Vec::new();
    plane
        .store
        .for_each_manufacturer(|row| manufacturers.push((row.id, row.ca)))?;
    let imported = imports::anchors_of(&plane.store.imported_fleets()?)?;
    Anchors::new(plane.realm.clone(), own, manufacturers)
        .and_then(|anchors| anchors.with_imported(imported))
        .map_err(Trouble::fault)
}

/// The row of a CA that is in memory.
fn stored(one: &Issuing) -> Authority {
    Authority {
        subject: one.issuer.id(),
        role: AuthorityRole::Issuing {
            name: one.name.clone(),
            uses: one.uses,
        },
        state: one.state,
        certificate: one.certificate.clone(),
        created_at: one.created_at,
    }
}
