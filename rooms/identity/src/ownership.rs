//! Whose a device is: of one owner at a time, or of nobody.
//!
//! ```text
//!            claim, with a code of the device        offer              accept, by whom it is for
//!   nobody ────────────────────────────────▶ owned ────────▶ offered ────────────────────────▶ owned
//!      ▲                                       │  ◀──────────  │
//!      └───────────── release ─────────────────┴── withdraw ───┘
//! ```
//!
//! An owner is an opaque name that a service gives. That somebody may speak for it is that service's
//! to know; that nobody takes a device from another is held here.

use crate::Actor;
use crate::certificate::sha256;
use model::{DeviceId, Digest, OwnerId, Timestamp};

/// Random bytes beside an owner's name in the log.
pub const SALT_BYTES: usize = 16;

/// How it stands with a device, at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub owner: OwnerId,
    pub offered_to: Option<OwnerId>,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To own it, by a code that only who has the device can know.
    Claim { owner: OwnerId },
    /// To hand it to another, who must accept.
    Offer { owner: OwnerId, to: OwnerId },
    /// To take back an offer.
    Withdraw { owner: OwnerId },
    /// To take what was offered.
    Accept { owner: OwnerId },
    /// To own it no longer.
    Release { owner: OwnerId },
    /// That it be nobody's, by the word of whoever runs the plane.
    Override,
}

impl Wish {
    /// The word in the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "claimed",
            Self::Offer { .. } => "offered",
            Self::Withdraw { .. } => "offer-withdrawn",
            Self::Accept { .. } => "accepted",
            Self::Release { .. } => "released",
            Self::Override => "released-by-operator",
        }
    }
}

/// How it stands afterwards.
///
/// # Errors
/// [`OwnershipRefusal`].
pub fn decide(
    device: &DeviceId,
    stands: Option<&Standing>,
    wish: &Wish,
) -> Result<Option<Standing>, OwnershipRefusal> {
    let device = || device.clone();
    let owned_by = |owner: OwnerId| {
        Ok(Some(Standing {
            owner,
            offered_to: None,
        }))
    };
    let stands = match (stands, wish) {
        (None, Wish::Claim { owner }) => return owned_by(owner.clone()),
        (None, _) => return Err(OwnershipRefusal::Nobodys { device: device() }),
        (Some(_), Wish::Claim { .. }) => {
            return Err(OwnershipRefusal::Taken { device: device() });
        }
        (Some(stands), _) => stands,
    };
    match wish {
        Wish::Offer { owner, .. } | Wish::Withdraw { owner } | Wish::Release { owner }
            if *owner != stands.owner =>
        {
            Err(OwnershipRefusal::NotTheOwner { device: device() })
        }
        Wish::Offer { owner, to } if to == owner => {
            Err(OwnershipRefusal::ToItself { device: device() })
        }
        Wish::Offer { to, .. } => Ok(Some(Standing {
            owner: stands.owner.clone(),
            offered_to: Some(to.clone()),
        })),
        Wish::Withdraw { owner } => owned_by(owner.clone()),
        Wish::Accept { owner } if stands.offered_to.as_ref() == Some(owner) => {
            owned_by(owner.clone())
        }
        Wish::Accept { .. } => Err(OwnershipRefusal::NotOffered { device: device() }),
        Wish::Claim { .. } | Wish::Release { .. } | Wish::Override => Ok(None),
    }
}

/// What the log says of an owner. Nobody reads the name out of it, as the salt beside it is as long
/// as a key; who is told name and salt can verify that it was this one. Forgetting the salt forgets
/// the owner.
#[must_use]
pub fn commitment(salt: &[u8; SALT_BYTES], owner: &OwnerId) -> Digest {
    let mut bytes = b"fleetward owner".to_vec();
    bytes.extend_from_slice(salt);
    bytes.extend_from_slice(owner.as_str().as_bytes());
    sha256(&bytes)
}

/// A code is good: kept as a hash, for one device, until then.
///
/// # Errors
/// [`OwnershipRefusal::CodeUnknown`], whatever is wrong with it.
pub fn check_code(
    device: &DeviceId,
    kept: Option<(Digest, Timestamp)>,
    given: &str,
    now: Timestamp,
) -> Result<Digest, OwnershipRefusal> {
    let given = crate::claim_token::hash(given);
    let is_same = |kept: &Digest| {
        aws_lc_rs::constant_time::verify_slices_are_equal(&kept.0, &given.0).is_ok()
    };
    match kept {
        Some((kept, expires_at)) if is_same(&kept) && now <= expires_at => Ok(kept),
        _ => Err(OwnershipRefusal::CodeUnknown {
            device: device.clone(),
        }),
    }
}

/// Why a device stays whose it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnershipRefusal {
    #[error(
        "device/{device} has an owner, and a device has one; operator: its owner releases it or \
         offers it to the next"
    )]
    Taken { device: DeviceId },
    #[error("device/{device} is nobody's; operator: claim it with a code of the device")]
    Nobodys { device: DeviceId },
    #[error("device/{device} is another's; operator: ask its owner")]
    NotTheOwner { device: DeviceId },
    #[error("device/{device} was not offered to this owner; operator: ask its owner to offer it")]
    NotOffered { device: DeviceId },
    #[error("device/{device} is the offered owner's already; operator: name another one")]
    ToItself { device: DeviceId },
    #[error(
        "no code of device/{device} is as given: it is another's, was used or ended; operator: make \
         a new one, or have the device show one"
    )]
    CodeUnknown { device: DeviceId },
}

impl OwnershipRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "ownership-taken",
            Self::Nobodys { .. } => "ownership-nobodys",
            Self::NotTheOwner { .. } => "ownership-not-the-owner",
            Self::NotOffered { .. } => "ownership-not-offered",
            Self::ToItself { .. } => "ownership-to-itself",
            Self::CodeUnknown { .. } => "ownership-code-unknown",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> Actor {
        Actor::Operator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> OwnerId {
        OwnerId::new(name).unwrap()
    }

    fn device() -> DeviceId {
        DeviceId::new("d1").unwrap()
    }

    fn stands(name: &str, offered_to: Option<&str>) -> Option<Standing> {
        Some(Standing {
            owner: owner(name),
            offered_to: offered_to.map(owner),
        })
    }

    fn all_wishes(name: &str) -> [Wish; 6] {
        let owner = owner(name);
        [
            Wish::Claim {
                owner: owner.clone(),
            },
            Wish::Offer {
                owner: owner.clone(),
                to: OwnerId::new("mallory").unwrap(),
            },
            Wish::Withdraw {
                owner: owner.clone(),
            },
            Wish::Accept {
                owner: owner.clone(),
            },
            Wish::Release { owner },
            Wish::Override,
        ]
    }

    #[test]
    fn a_device_goes_from_hand_to_hand_as_both_want_it() {
        let wishes = [
            (Wish::Claim { owner: owner("a") }, stands("a", None)),
            (
                Wish::Offer {
                    owner: owner("a"),
                    to: owner("b"),
                },
                stands("a", Some("b")),
            ),
            (Wish::Withdraw { owner: owner("a") }, stands("a", None)),
            (
                Wish::Offer {
                    owner: owner("a"),
                    to: owner("b"),
                },
                stands("a", Some("b")),
            ),
            (Wish::Accept { owner: owner("b") }, stands("b", None)),
            (Wish::Release { owner: owner("b") }, None),
            (Wish::Claim { owner: owner("c") }, stands("c", None)),
            (Wish::Override, None),
        ];
        let mut standing = None;
        for (wish, after) in wishes {
            standing = decide(&device(), standing.as_ref(), &wish).unwrap();
            assert_eq!(standing, after, "{wish:?}");
        }
    }

    /// Whatever somebody wants who is neither the owner nor offered the device: nothing moves.
    #[test]
    fn nobody_takes_a_device_that_is_anothers() {
        for standing in [stands("a", None), stands("a", Some("b"))] {
            for wish in all_wishes("mallory") {
                if wish == Wish::Override {
                    continue;
                }
                let told = decide(&device(), standing.as_ref(), &wish);
                assert!(told.is_err(), "{wish:?}");
            }
        }
        for wish in all_wishes("mallory").into_iter().skip(1) {
            assert!(decide(&device(), None, &wish).is_err(), "{wish:?}");
        }
    }

    #[test]
    fn a_code_is_good_for_its_device_until_its_end() {
        let now = Timestamp::from_seconds(1_000);
        let kept = crate::claim_token::hash("ABCD-EFGH");
        let check = |kept, given, at| check_code(&device(), kept, given, at).is_ok();
        assert!(check(Some((kept, now)), "abcdefgh", now));
        assert!(!check(Some((kept, now)), "abcdefgi", now));
        assert!(!check(Some((kept, now)), "", now));
        let late = Timestamp::from_millis(1_000_001);
        assert!(!check(Some((kept, now)), "abcdefgh", late));
        assert!(!check(None, "abcdefgh", now));
    }

    #[test]
    fn a_commitment_hides_and_binds() {
        let (one, other) = (
            commitment(&[1; 16], &owner("a")),
            commitment(&[2; 16], &owner("a")),
        );
        assert_ne!(one, other);
        assert_ne!(one, commitment(&[1; 16], &owner("b")));
        assert_eq!(one, commitment(&[1; 16], &owner("a")));
    }
}
