//! Acts on the root: it moves offline, another takes its place, and who has heard of it.

use super::authorities::{believe, is_online};
use super::tree::{Root, Tree, row};
use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, digest};
use crate::served;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use identity::profile::{self, AuthorityRefusal, check_link, check_root};
use identity::{Door, Presented, Refusal};
use model::{DeviceId, Digest, Principal};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use store::{Authority, AuthorityRole, AuthorityState, Change, Direction, Receipt, Write};
use zeroize::Zeroizing;

/// The root's key as a bundle under a passphrase. Told in the log before it leaves.
///
/// # Errors
/// The root is not here, or in a token; the passphrase is too short.
pub async fn export(
    plane: &Arc<Plane>,
    passphrase: Zeroizing<String>,
    actor: &Actor,
) -> Result<(String, Receipt), Trouble> {
    plane.granting_allowed()?;
    let tree = plane.tree();
    let certificate = online(plane, &tree)?.certificate.clone();
    let exporting = Arc::clone(plane);
    let bundle = off_thread(move || {
        exporting
            .signer
            .export_root(&certificate, passphrase.as_bytes())
    })
    .await?
    .map_err(signer_refusal)?;
    let text = bundle.to_text();
    let act = entries::root_exported(clock::now(), actor, digest(text.as_bytes()));
    let change = Change::new(Direction::Grant).entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    Ok((text, receipt))
}

/// Removes the root's key from this machine. What it could do is over when this returns; the entry
/// follows, as with everything that withdraws.
///
/// # Errors
/// The root is not here, or in a token.
pub async fn destroy(plane: &Arc<Plane>, actor: &Actor) -> Result<Receipt, Trouble> {
    let _one_at_a_time = plane.listing.begin().await;
    let root = digest(&online(plane, &plane.tree())?.certificate);
    let destroying = Arc::clone(plane);
    off_thread(move || destroying.signer.destroy_root())
        .await?
        .map_err(signer_refusal)?;
    let act = entries::root_key_destroyed(clock::now(), actor, root);
    let change = Change::new(Direction::Withdraw).entry(plane.leaf(&act)?);
    plane.commit_withdrawal(change).await
}

fn online<'a>(plane: &Plane, tree: &'a Tree) -> Result<&'a Root, Trouble> {
    (tree.roots().iter())
        .find(|root| is_online(plane, root))
        .ok_or_else(|| Trouble::refused("root-offline", "the root's key is not on this machine"))
}

fn signer_refusal(error: signer::SignerError) -> Trouble {
    match error {
        signer::SignerError::Passphrase { .. }
        | signer::SignerError::NoRoot
        | signer::SignerError::RootInToken => Trouble::refused("root-refused", error.to_string()),
        other => Trouble::fault(other),
    }
}

/// Makes the next root known. It serves nobody yet: devices learn of it first, by its link.
///
/// `certificates` are the new root, and then, in any order, the link to it and the link back.
///
/// # Errors
/// It is no root, or the links are not between it and the one that serves.
pub async fn announce(
    plane: &Arc<Plane>,
    certificates: Vec<Vec<u8>>,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let now = clock::now();
    let tree = plane.tree();
    let Ok([next, one, other]) = <[Vec<u8>; 3]>::try_from(certificates) else {
        return Err(Trouble::refused(
            "root-refused",
            "send three certificates: the new root, its link by the old one and the old one's by it",
        ));
    };
    check_root(&next, now).map_err(refused)?;
    let is_link = |der: &[u8]| check_link(der, &next, tree.root(), now);
    let (link, link_back) = if is_link(&one).is_ok() {
        (one, other)
    } else {
        (other, one)
    };
    is_link(&link).map_err(refused)?;
    check_link(&link_back, tree.root(), &next, now).map_err(refused)?;
    let mut next_row = row(AuthorityRole::Root, next)?;
    if tree
        .roots()
        .iter()
        .any(|root| root.issuer.id() == next_row.subject)
    {
        return Err(Trouble::refused(
            "root-exists",
            "this root is known already",
        ));
    }
    next_row.state = AuthorityState::Next;
    next_row.created_at = now;
    let act = entries::root_announced(now, actor, digest(&next_row.certificate));
    let [key, key_back] = Tree::link_keys(&next_row.subject);
    let change = Change::new(Direction::Grant)
        .write(Write::PutMeta { key, value: link })
        .write(Write::PutMeta {
            key: key_back,
            value: link_back,
        })
        .write(Write::PutAuthority(next_row))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    believe(plane)?;
    Ok(receipt)
}

fn refused(refusal: AuthorityRefusal) -> Trouble {
    Trouble::refused("root-refused", refusal.to_string())
}

/// How far a root has got around.
#[derive(Debug, Clone)]
pub struct Spread {
    /// SHA-256 of its certificate.
    pub root: Digest,
    /// Devices that have enrolled and are not barred.
    pub devices: usize,
    /// Of them: those that have not said that they believe it.
    pub unlearned: usize,
    /// The first of those, by name.
    pub examples: Vec<DeviceId>,
    /// Expected, never enrolled: they know what the factory gave them.
    pub not_enrolled: usize,
}

const EXAMPLES_MAX: usize = 20;

/// What somebody wants to do with a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next root serves.
    RollOver,
    /// The root before it is believed no more.
    Retire,
}

/// What a step would meet: how many devices would no more find the plane by a root of their own.
///
/// # Errors
/// There is no such step to be made.
pub async fn spread(plane: &Arc<Plane>, step: Step) -> Result<Spread, Trouble> {
    let tree = plane.tree();
    let (_, needed) = step.roots(&tree)?;
    let root = digest(&needed.certificate);
    let asking = Arc::clone(plane);
    off_thread(move || {
        let mut learned = HashSet::new();
        asking.store.for_each_learned(&root, |device| {
            learned.insert(device);
        })?;
        let mut unlearned = BTreeSet::new();
        let (mut devices, mut not_enrolled) = (0, 0);
        for device in asking.trust().registry().devices() {
            if device.revoked.is_some() {
                continue;
            }
            if !device.enrolled {
                not_enrolled += 1;
                continue;
            }
            devices += 1;
            if !learned.contains(&device.device) {
                unlearned.insert(device.device);
            }
        }
        Ok(Spread {
            root,
            devices,
            unlearned: unlearned.len(),
            examples: unlearned.into_iter().take(EXAMPLES_MAX).collect(),
            not_enrolled,
        })
    })
    .await?
}

impl Step {
    /// The root that steps down, and the one that all must know then.
    fn roots(self, tree: &Tree) -> Result<(&Root, &Root), Trouble> {
        let of = |state| tree.roots().iter().find(|root| root.state == state);
        let (from, to, missing) = match self {
            Self::RollOver => (
                AuthorityState::Current,
                AuthorityState::Next,
                "there is no next root: `fleetward identity root install` makes it known",
            ),
            Self::Retire => (
                AuthorityState::Retiring,
                AuthorityState::Current,
                "no root retires: `fleetward identity root rollover` puts the next one in its place",
            ),
        };
        of(from)
            .zip(of(to))
            .ok_or_else(|| Trouble::refused("root-unknown", missing))
    }

    /// Unless the operator says so, no device is left behind.
    fn check(self, spread: &Spread, even_if_unlearned: bool) -> Result<(), Trouble> {
        if spread.unlearned == 0 || even_if_unlearned {
            return Ok(());
        }
        let names: Vec<&str> = (spread.examples.iter().take(3))
            .map(DeviceId::as_str)
            .collect();
        let then = match self {
            Self::RollOver => "they would find the plane by the link alone",
            Self::Retire => "they could not find the plane any more",
        };
        Err(Trouble::refused(
            "root-unlearned",
            format!(
                "{} of {} device(s) have not said that they believe the root {}, {} among them: \
                 {then}; operator: wait until they have, or say --even-if-unlearned",
                spread.unlearned,
                spread.devices,
                spread.root,
                names.join(", "),
            ),
        ))
    }
}

/// A device's own word on which roots it believes; what is none of ours is left out. Nothing is
/// granted by it.
///
/// # Errors
/// It is no device by a certificate of ours; the store's.
pub async fn hear_learned(
    plane: &Arc<Plane>,
    presented: &Presented,
    roots: &[Digest],
) -> Result<(), Trouble> {
    let who = plane.trust().authenticate(Door::Devices, presented)?;
    let Principal::Device(device) = who.principal() else {
        return Err(Refusal::NotADevice.into());
    };
    let tree = plane.tree();
    let mut roots: Vec<Digest> = (tree.roots().iter())
        .map(|root| digest(&root.certificate))
        .filter(|root| roots.contains(root))
        .collect();
    roots.sort();
    if plane.store.learned_roots(device)? == roots {
        return Ok(());
    }
    let write = Write::PutLearnedRoots {
        device: device.clone(),
        roots,
        at: clock::now(),
    };
    plane
        .commit(Change::new(Direction::Neutral).write(write))
        .await
        .map(drop)
}

fn moved(root: &Root, state: AuthorityState) -> Authority {
    Authority {
        subject: root.issuer.id(),
        role: AuthorityRole::Root,
        state,
        certificate: root.certificate.clone(),
        created_at: root.created_at,
    }
}

/// The next root takes the place of the one that serves: this plane's own certificate moves below
/// it, with the link in its chain for whoever knows the old one only.
///
/// # Errors
/// There is no next root, or no CA below it that certifies servers; devices have not learned it.
pub async fn roll_over(
    plane: &Arc<Plane>,
    even_if_unlearned: bool,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let now = clock::now();
    let tree = plane.tree();
    let (before, next) = Step::RollOver.roots(&tree)?;
    if tree
        .roots()
        .iter()
        .any(|root| root.state == AuthorityState::Retiring)
    {
        return Err(Trouble::refused(
            "root-retiring",
            "an earlier root retires still: `fleetward identity root retire` ends it",
        ));
    }
    let names: Vec<&str> = (plane.config.server_names.iter())
        .map(String::as_str)
        .collect();
    tree.for_server_below(&next.issuer.id(), &names)?;
    let spread = spread(plane, Step::RollOver).await?;
    Step::RollOver.check(&spread, even_if_unlearned)?;
    let act = entries::root_rolled_over(
        now,
        actor,
        digest(&before.certificate),
        digest(&next.certificate),
        spread.unlearned,
    );
    let change = Change::new(Direction::Grant)
        .write(Write::PutAuthority(moved(before, AuthorityState::Retiring)))
        .write(Write::PutAuthority(moved(next, AuthorityState::Current)))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    believe(plane)?;
    served::renew_own(plane).await.map_err(Trouble::fault)?;
    Ok(receipt)
}

/// The root before the one that serves is believed no more: nobody is shown the link to it, and
/// devices that look at the list forget it.
///
/// # Errors
/// No root retires; a CA below it certifies still; devices have not learned the one that serves.
pub async fn retire(
    plane: &Arc<Plane>,
    even_if_unlearned: bool,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let tree = plane.tree();
    let (old, _) = Step::Retire.roots(&tree)?;
    let in_use = (tree.issuing().iter())
        .find(|one| one.state == AuthorityState::Current && one.root == old.issuer.id());
    if let Some(one) = in_use {
        return Err(Trouble::refused(
            "root-in-use",
            format!(
                "the CA {} below it certifies still; operator: `fleetward identity ca request {}`, \
                 and have it signed by the root that serves",
                one.name, one.name
            ),
        ));
    }
    let spread = spread(plane, Step::Retire).await?;
    Step::Retire.check(&spread, even_if_unlearned)?;
    let receipt = end(plane, old, spread.unlearned, actor).await?;
    believe(plane)?;
    served::renew_own(plane).await.map_err(Trouble::fault)?;
    Ok(receipt)
}

/// Ends a root that retires, on record. Only while `listing` is held.
pub(super) async fn end(
    plane: &Plane,
    root: &Root,
    unlearned: usize,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    let act = entries::root_retired(clock::now(), actor, digest(&root.certificate), unlearned);
    let change = Change::new(Direction::Grant)
        .write(Write::PutAuthority(moved(root, AuthorityState::Ended)))
        .entry(plane.leaf(&act)?);
    plane.commit(change).await
}

/// The certificate that a ceremony made for a CA, in service from here on.
///
/// # Errors
/// It is not what was asked for, or not by a root of ours.
pub fn check_installed(
    plane: &Plane,
    tree: &Tree,
    certificate: &[u8],
    key: &signer::IssuingKey,
    limits: &profile::NameLimits,
) -> Result<(), Trouble> {
    let mut refusal = AuthorityRefusal::ForeignRoot;
    for root in tree.roots() {
        let checked = profile::check_issuing(
            plane.realm(),
            certificate,
            &root.certificate,
            &key.authority,
            limits,
            &key.public,
            clock::now(),
        );
        match checked {
            Ok(()) => return Ok(()),
            Err(AuthorityRefusal::ForeignRoot) => {}
            Err(other) => refusal = other,
        }
    }
    Err(Trouble::refused("authority-refused", refusal.to_string()))
}
