//! A root's revocation list: which of its issuing CAs nobody should believe any more. Made here while
//! the root's key is here, and in a ceremony otherwise; the plane says when one is due.

use super::authorities::is_online;
use super::tree::{Root, Tree};
use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, digest};
use crate::shared::off_thread;
use crate::trouble::Trouble;
use identity::crl::{self, Contents, UnsignedCrl};
use identity::{certificate_id, profile};
use model::{Digest, Revocable, Timestamp};
use signer::Purpose;
use std::sync::Arc;
use std::time::Duration;
use store::{AuthorityState, Change, Direction, Receipt, Write};

/// A ceremony a year.
const LIFETIME: Duration = Duration::from_secs(366 * 86_400);
/// Told so long before the list ends.
const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);

/// A request for a list, to be carried to the root.
pub struct Request {
    /// TBSCertList in DER.
    pub to_be_signed: Vec<u8>,
    /// SHA-256 of the root's certificate.
    pub root: Digest,
}

/// The list of a root as it should be now, unsigned: of the named root (SHA-256 of its
/// certificate), else of the first whose list is due, else of the one that serves.
///
/// # Errors
/// There is no such root.
pub async fn request(plane: &Arc<Plane>, root: Option<Digest>) -> Result<Request, Trouble> {
    let asking = Arc::clone(plane);
    off_thread(move || {
        let tree = asking.tree();
        let chosen = match root {
            Some(named) => believed(&tree).find(|root| digest(&root.certificate) == named),
            None => believed(&tree)
                .find(|root| due(&asking, &tree, root).is_some())
                .or_else(|| believed(&tree).next()),
        };
        let root = chosen.ok_or_else(|| {
            Trouble::refused(
                "root-unknown",
                "there is no root of this digest; see `ca list`",
            )
        })?;
        Ok(Request {
            to_be_signed: unsigned(&asking, &tree, root, clock::now())?
                .to_be_signed()
                .to_vec(),
            root: digest(&root.certificate),
        })
    })
    .await?
}

/// Serves a list that a root signed in a ceremony, from here on.
///
/// # Errors
/// It is no root's of ours, older than the one before, or does not name all that is revoked.
pub async fn install(plane: &Arc<Plane>, der: Vec<u8>, actor: &Actor) -> Result<Receipt, Trouble> {
    let _one_at_a_time = plane.listing.begin().await;
    let refused = |why: String| Trouble::refused("root-list-refused", why);
    let tree = plane.tree();
    let mut found = Err(crl::CrlRefusal::ForeignIssuer);
    for root in believed(&tree) {
        match Contents::verified(&der, &root.certificate) {
            Ok(contents) => {
                found = Ok((root, contents));
                break;
            }
            Err(refusal @ crl::CrlRefusal::NotAList { .. }) => found = Err(refusal),
            Err(crl::CrlRefusal::ForeignIssuer) => {}
        }
    }
    let (root, contents) = found.map_err(|refusal| refused(refusal.to_string()))?;
    if contents.next_update < clock::now() {
        return Err(refused(
            "it has ended; operator: request and sign a new one".to_owned(),
        ));
    }
    if let Some(before) = installed(plane, root)?
        && before.1.number >= contents.number
    {
        return Err(refused(
            "it is not newer than the list that is served; operator: request and sign a new one"
                .to_owned(),
        ));
    }
    let missing = (revoked(plane, &tree, root)?.into_iter()).find(|wanted| {
        !contents
            .entries
            .iter()
            .any(|one| one.certificate == wanted.certificate)
    });
    if let Some(one) = missing {
        return Err(refused(format!(
            "it does not name {}, an issuing CA that was revoked; operator: request it anew",
            one.certificate
        )));
    }
    let act = entries::root_list_installed(
        clock::now(),
        actor,
        digest(&root.certificate),
        contents.entries.len(),
        digest(&der),
    );
    let change = Change::new(Direction::Neutral)
        .write(Write::PutMeta {
            key: key_of(root),
            value: der,
        })
        .entry(plane.leaf(&act)?);
    plane.commit(change).await
}

/// The list of the root with this name in DER, made now if its key is here. `None`: there is no such
/// root, or no list of it.
///
/// # Errors
/// The disk; the signer.
pub async fn list(plane: &Arc<Plane>, issuer: Digest) -> Result<Option<Arc<Vec<u8>>>, Trouble> {
    let making = Arc::clone(plane);
    off_thread(move || {
        let tree = making.tree();
        let Some(root) = believed(&tree).find(|root| root.issuer.id() == issuer) else {
            return Ok(None);
        };
        if !is_online(&making, root) {
            let der = installed(&making, root)?.map(|(der, _)| Arc::new(der));
            return Ok(der);
        }
        let unsigned = unsigned(&making, &tree, root, clock::now())?;
        let signature = making.sign(Purpose::Crl, unsigned.to_be_signed())?;
        Ok(Some(Arc::new(unsigned.assemble(&signature)?)))
    })
    .await?
}

/// Why a ceremony is due for a root that is kept elsewhere, in a sentence each.
#[must_use]
pub fn findings(plane: &Plane, tree: &Tree) -> Vec<String> {
    believed(tree)
        .filter(|root| !is_online(plane, root))
        .filter_map(|root| due(plane, tree, root))
        .collect()
}

fn due(plane: &Plane, tree: &Tree, root: &Root) -> Option<String> {
    const CEREMONY: &str = "hold a ceremony: fleetward identity root crl request";
    let revoked = revoked(plane, tree, root).ok()?;
    let installed = installed(plane, root).ok()?;
    let listed = |one: &crl::Entry| {
        (installed.as_ref()).is_some_and(|(_, contents)| {
            contents
                .entries
                .iter()
                .any(|entry| entry.certificate == one.certificate)
        })
    };
    if let Some(one) = revoked.iter().find(|one| !listed(one)) {
        return Some(format!(
            "the issuing CA with the certificate {} was revoked, and its root's list does not say \
             so to others; {CEREMONY}",
            one.certificate
        ));
    }
    let (_, contents) = installed?;
    (contents.next_update < clock::now().plus(ENDS_SOON)).then(|| {
        format!(
            "the revocation list of a root ends at {}; {CEREMONY}",
            contents.next_update
        )
    })
}

fn believed(tree: &Tree) -> impl Iterator<Item = &Root> {
    (tree.roots().iter()).filter(|root| root.state != AuthorityState::Ended)
}

fn unsigned(
    plane: &Plane,
    tree: &Tree,
    root: &Root,
    now: Timestamp,
) -> Result<UnsignedCrl, Trouble> {
    // Milliseconds as the number: it grows with each list.
    Ok(crl::crl(
        &root.issuer,
        now.as_millis(),
        &[],
        &revoked(plane, tree, root)?,
        now.minus(profile::BACKDATED),
        now.plus(LIFETIME),
    )?)
}

/// The issuing CAs of a root that are revoked or on hold.
fn revoked(plane: &Plane, tree: &Tree, root: &Root) -> Result<Vec<crl::Entry>, Trouble> {
    let mut entries = Vec::new();
    for one in tree
        .issuing()
        .iter()
        .filter(|one| one.root == root.issuer.id())
    {
        let what = Revocable::Issuer(one.issuer.id());
        if let Some(revocation) = plane.trust().registry().revocation(&what) {
            entries.push(crl::Entry {
                certificate: certificate_id(&one.certificate).map_err(Trouble::fault)?,
                reason: revocation.reason,
                at: revocation.at,
            });
        }
    }
    Ok(entries)
}

fn installed(plane: &Plane, root: &Root) -> Result<Option<(Vec<u8>, Contents)>, Trouble> {
    let Some(der) = plane.store.meta(&key_of(root))? else {
        return Ok(None);
    };
    let contents = Contents::verified(&der, &root.certificate).map_err(Trouble::fault)?;
    Ok(Some((der, contents)))
}

fn key_of(root: &Root) -> String {
    format!("identity.root-list.{}", root.issuer.id())
}
