//! Who vouches for a certificate, and whom it names.

use crate::certificate;
use crate::claim_certificate::ClaimRefusal;
use crate::first_identity::idevid;
use crate::first_identity::imported::{self, Naming};
use crate::names::Realm;
use crate::refusal::{PathRefusal, Refusal};
use crate::weak_key::{ModulusMark, modulus_mark};
use const_oid::db::rfc5280::ID_KP_CLIENT_AUTH;
use model::{
    CertificateId, CertificateUse, CertificateUses, Digest, ManufacturerId, Principal,
    SerialNumber, Timestamp,
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{
    EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert, aws_lc_rs as algorithm,
};
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;

/// The largest certificate looked at, in bytes of DER.
pub const CERTIFICATE_BYTES_MAX: usize = 8192;
/// The most intermediate certificates looked at.
pub const INTERMEDIATES_MAX: usize = 4;

/// Where somebody comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// EST, updates and the API by mTLS (8444): certificates of ours and factory certificates.
    Devices,
    /// MQTT (8883): certificates of ours, and of imported fleets until their end.
    Gateway,
}

/// Our CA certificates in DER.
#[derive(Debug, Clone)]
pub struct OwnCas {
    /// Those believed; the one that serves comes first.
    pub roots: Vec<Vec<u8>>,
    /// Those whose certificates open doors: current ones, and earlier ones until they end.
    pub issuing: Vec<IssuingCa>,
}

/// An issuing CA of ours.
#[derive(Debug, Clone)]
pub struct IssuingCa {
    /// DER.
    pub certificate: Vec<u8>,
    pub uses: CertificateUses,
    /// It was made elsewhere and came with its key: what it certified before is not ours.
    pub imported: bool,
}

impl IssuingCa {
    /// One that serves everybody.
    #[must_use]
    pub fn of_every_use(certificate: Vec<u8>) -> Self {
        Self {
            certificate,
            uses: CertificateUses::EVERY,
            imported: false,
        }
    }
}

/// An existing fleet whose certificates are believed: by the CAs that issued them, or each by its
/// fingerprint, which the registry knows.
#[derive(Debug, Clone)]
pub struct ImportedFleet {
    /// Its name as a voucher: it shares one namespace with manufacturers.
    pub fleet: ManufacturerId,
    /// Its CA certificates in DER. None if its leaves are pinned one by one.
    pub cas: Vec<Vec<u8>>,
    pub naming: Naming,
    /// `Some`: leaves that ended are taken until then.
    pub expired_until: Option<Timestamp>,
}

/// Whose signatures are believed, per door. Immutable.
///
/// Ours, each manufacturer's and each imported fleet's are separate sets, tried one after the other,
/// ours first: which set held is the answer to "who vouches", and no name in a certificate takes part
/// in it.
pub struct Anchors {
    realm: Realm,
    own: Vec<TrustAnchor<'static>>,
    /// The names of all our CAs.
    own_issuers: Vec<Digest>,
    /// What each issuing CA may say of whom, by its name.
    own_uses: Vec<(Digest, CertificateUses)>,
    manufacturers: Vec<(ManufacturerId, TrustAnchor<'static>)>,
    imported: Vec<Imported>,
    /// Name and key of each foreign CA, to find one that is registered twice.
    foreign: Vec<(ManufacturerId, Digest, Digest)>,
    own_keys: Vec<Digest>,
    /// Name and key of those of ours that were made elsewhere.
    own_imported: Vec<(Digest, Digest)>,
}

struct Imported {
    fleet: ManufacturerId,
    anchors: Vec<TrustAnchor<'static>>,
    naming: Naming,
    expired_until: Option<Timestamp>,
}

/// Why a set of CA certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorRefusal {
    #[error(
        "the {whose} CA certificate cannot be used: {what}; operator: give a CA certificate in DER"
    )]
    NotACa { whose: String, what: &'static str },
    #[error(
        "the CA certificate of {manufacturer} has the name or the key of a CA of ours; \
         operator: refuse it and ask the manufacturer for its own"
    )]
    ManufacturerClaimsOurs { manufacturer: ManufacturerId },
    #[error(
        "the CA certificates of {first} and {second} share a name or a key, so a device of one \
         could pass for the other's; operator: register that CA once"
    )]
    ManufacturersOverlap {
        first: ManufacturerId,
        second: ManufacturerId,
    },
}

/// Who vouches for an end-entity certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Voucher {
    Ours,
    Manufacturer(ManufacturerId),
    /// An existing fleet that was imported.
    Imported(ManufacturerId),
    /// An operator who said that devices share this very certificate to ask for their first.
    Claim,
}

/// The ticket that a chain of signatures leads to an anchor. It says nothing about possession of
/// the key, and nothing about revocation. May be cached under a digest of the whole chain *and*
/// the door *and* the `Anchors` it came from; time must be checked at each use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    voucher: Voucher,
    end_entity: Digest,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// What kind of identity was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdentityKind {
    /// The factory identity.
    Idevid,
    /// A certificate of ours, a device's or a service's.
    Ldevid,
    /// A certificate that the device had before it came to us.
    Imported,
    /// A claim certificate, which names no device.
    Claim,
}

/// The ticket of whom a certificate names. Revocation and lists have not been asked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    pub(crate) claim: Claim,
    pub(crate) certificate: CertificateId,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Subject Name in DER.
    pub(crate) subject: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub(crate) key: Digest,
    /// Of an RSA key.
    pub(crate) modulus: Option<ModulusMark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The URI as it stands in the certificate names the principal.
    Ldevid { principal: Principal, uri: String },
    Idevid {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
    },
    Imported {
        fleet: ManufacturerId,
        /// Its name by the fleet's rule, if the rule finds one. A pin needs none.
        serial: Option<SerialNumber>,
        fingerprint: Digest,
        /// What a device called itself that showed a certificate many devices share.
        client_id: Option<String>,
    },
    /// A claim certificate, by its fingerprint.
    Shared { fingerprint: Digest },
}

impl Anchors {
    /// # Errors
    /// If a certificate is not a CA's, or a manufacturer's has the name or key of ours or of
    /// another manufacturer's.
    pub fn new(
        realm: Realm,
        own: &OwnCas,
        manufacturers: Vec<(ManufacturerId, Vec<u8>)>,
    ) -> Result<Self, AnchorRefusal> {
        let (mut own_names, mut own_keys) = (Vec::new(), Vec::new());
        for der in &own.roots {
            let root = read_ca(der, "own root")?;
            own_names.push(root.name);
            own_keys.push(root.key);
        }
        let mut own_anchors = Vec::with_capacity(own.issuing.len());
        let mut own_uses = Vec::with_capacity(own.issuing.len());
        let mut own_imported = Vec::new();
        for issuing in &own.issuing {
            let mut ca = read_ca(&issuing.certificate, "own issuing")?;
            own_names.push(ca.name);
            own_keys.push(ca.key);
            own_uses.push((ca.name, issuing.uses));
            if issuing.imported {
                own_imported.push((ca.name, ca.key));
            }
            // webpki refuses every URI below a CA that is bound to URIs. What our CAs are bound to
            // is held, and more narrowly, where the name is read.
            ca.anchor.name_constraints = None;
            own_anchors.push(ca.anchor);
        }
        let mut anchors = Self {
            realm,
            own: own_anchors,
            own_issuers: own_names,
            own_keys,
            own_uses,
            own_imported,
            manufacturers: Vec::with_capacity(manufacturers.len()),
            imported: Vec::new(),
            foreign: Vec::new(),
        };
        for (manufacturer, der) in manufacturers {
            let anchor = anchors.foreign(&manufacturer, &der, false)?;
            anchors.manufacturers.push((manufacturer, anchor));
        }
        Ok(anchors)
    }

    /// The same with existing fleets, which are believed at the MQTT door as well.
    ///
    /// # Errors
    /// As for a manufacturer.
    pub fn with_imported(mut self, fleets: Vec<ImportedFleet>) -> Result<Self, AnchorRefusal> {
        for fleet in fleets {
            let anchors = (fleet.cas.iter())
                .map(|der| self.foreign(&fleet.fleet, der, true))
                .collect::<Result<_, _>>()?;
            self.imported.push(Imported {
                fleet: fleet.fleet,
                anchors,
                naming: fleet.naming,
                expired_until: fleet.expired_until,
            });
        }
        Ok(self)
    }

    /// A CA that is not ours and nobody else's among those before it. That of an existing fleet may
    /// have come with its key, and certify here since.
    fn foreign(
        &mut self,
        whose: &ManufacturerId,
        der: &[u8],
        is_fleet: bool,
    ) -> Result<TrustAnchor<'static>, AnchorRefusal> {
        let ca = read_ca(der, whose.as_str())?;
        let is_shared = is_fleet && self.own_imported.contains(&(ca.name, ca.key));
        if is_shared {
            return Ok(ca.anchor);
        }
        if self.own_issuers.contains(&ca.name) || self.own_keys.contains(&ca.key) {
            return Err(AnchorRefusal::ManufacturerClaimsOurs {
                manufacturer: whose.clone(),
            });
        }
        let other = (self.foreign.iter())
            .find(|(other, name, key)| other != whose && (*name == ca.name || *key == ca.key));
        if let Some((first, ..)) = other {
            return Err(AnchorRefusal::ManufacturersOverlap {
                first: first.clone(),
                second: whose.clone(),
            });
        }
        self.foreign.push((whose.clone(), ca.name, ca.key));
        Ok(ca.anchor)
    }

    /// Whether a certificate may serve as a claim certificate, and until when: it is fit to
    /// authenticate, and nothing else is believed of it. One that a CA of these issued would name a
    /// device.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check_claim(
        &self,
        certificate_der: &[u8],
        manufacturer: &ManufacturerId,
        now: Timestamp,
    ) -> Result<Timestamp, Refusal> {
        check_sizes(certificate_der, &[])?;
        let read = certificate::read(certificate_der)?;
        imported::check(&read, manufacturer, &self.own_issuers)?;
        certificate::id_of(&read)?;
        // As TLS will read it.
        EndEntityCert::try_from(&CertificateDer::from(certificate_der))
            .map_err(|error| refusal(error, now))?;
        let (not_before, not_after) = certificate::validity(certificate_der)?;
        check_time(not_before, not_after, now)?;
        match self.verify_path(Door::Devices, certificate_der, &[], now) {
            Err(PathRefusal::UnknownIssuer) => Ok(not_after),
            _ => Err(ClaimRefusal::NamesADevice.into()),
        }
    }

    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Does a chain lead from `end_entity` to an anchor of this door? To be called while the
    /// handshake runs, before possession of the key is proven.
    ///
    /// RFC 5280 section 6 by rustls-webpki, for client authentication. Certificates of ours must
    /// say so in their extended key usage; a factory certificate need not (802.1AR has none).
    /// At [`Door::Gateway`] a manufacturer's path is refused as [`PathRefusal::FactoryIdentity`].
    /// The end of a manufacturer's CA certificate itself is not looked at: its registration is
    /// the trust, and a device may wait in its box for longer than that CA lives.
    ///
    /// # Errors
    /// [`PathRefusal`], the most telling one of the sets that were tried.
    pub fn verify_path(
        &self,
        door: Door,
        end_entity: &[u8],
        intermediates: &[&[u8]],
        now: Timestamp,
    ) -> Result<Path, PathRefusal> {
        check_sizes(end_entity, intermediates)?;
        let leaf_der = CertificateDer::from(end_entity);
        let leaf = EndEntityCert::try_from(&leaf_der).map_err(|error| refusal(error, now))?;
        let chain: Vec<CertificateDer<'_>> = intermediates
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let find = |anchors: &[TrustAnchor<'static>], algorithms, at| {
            build_path(&leaf, end_entity, &chain, anchors, algorithms, at)
        };
        let path = |voucher, (not_before, not_after)| Path {
            voucher,
            end_entity: certificate::sha256(end_entity),
            not_before,
            not_after,
        };

        let mut refusal = match find(&self.own, OUR_ALGORITHMS, now) {
            Ok(_) if self.is_of_before(end_entity)? => PathRefusal::UnknownIssuer,
            Ok(window) => {
                check_says_client(end_entity)?;
                return Ok(path(Voucher::Ours, window));
            }
            Err(refusal) => refusal,
        };
        for (manufacturer, anchor) in &self.manufacturers {
            match find(std::slice::from_ref(anchor), FOREIGN_ALGORITHMS, now) {
                // Looked for only to be told apart from a stranger; only a chain that names a
                // registered CA costs a signature here.
                Ok(_) if door == Door::Gateway => return Err(PathRefusal::FactoryIdentity),
                Ok(window) => {
                    return Ok(path(Voucher::Manufacturer(manufacturer.clone()), window));
                }
                // An anchor that has nothing to do with this chain says nothing about it.
                Err(PathRefusal::UnknownIssuer) => {}
                Err(other) if refusal == PathRefusal::UnknownIssuer => refusal = other,
                Err(_) => {}
            }
        }
        for fleet in &self.imported {
            let found = find(&fleet.anchors, FOREIGN_ALGORITHMS, now).or_else(|refusal| {
                match (&refusal, fleet.expired_until) {
                    (PathRefusal::Expired { .. }, Some(until)) if now <= until => {
                        // As it was at the leaf's end: what the import forgives is that alone.
                        let (_, ended) = certificate::validity(end_entity)?;
                        find(&fleet.anchors, FOREIGN_ALGORITHMS, ended)
                    }
                    _ => Err(refusal),
                }
            });
            match found {
                Ok((not_before, not_after)) => {
                    let not_after = fleet
                        .expired_until
                        .map_or(not_after, |end| end.max(not_after));
                    let voucher = Voucher::Imported(fleet.fleet.clone());
                    return Ok(path(voucher, (not_before, not_after)));
                }
                Err(PathRefusal::UnknownIssuer) => {}
                Err(other) if refusal == PathRefusal::UnknownIssuer => refusal = other,
                Err(_) => {}
            }
        }
        Err(refusal)
    }

    /// Does a chain lead from a certificate of ours that ended, `grace` ago at the most, to our CAs,
    /// as it did at its end? Such a path is refused wherever its time is asked for; it is good for
    /// [`crate::Registry::enroll_returning`] alone.
    ///
    /// # Errors
    /// [`PathRefusal`]; one that has not ended is [`Anchors::verify_path`]'s affair.
    pub fn verify_ended_path(
        &self,
        end_entity: &[u8],
        intermediates: &[&[u8]],
        now: Timestamp,
        grace: Duration,
    ) -> Result<Path, PathRefusal> {
        check_sizes(end_entity, intermediates)?;
        let (_, last_day) = certificate::read(end_entity)
            .map(|leaf| certificate::window(leaf.tbs_certificate().validity()))?;
        if now <= last_day {
            return Err(PathRefusal::UnknownIssuer);
        }
        if last_day.plus(grace) < now {
            return Err(PathRefusal::Expired {
                not_after: last_day,
                now,
            });
        }
        let leaf_der = CertificateDer::from(end_entity);
        let leaf = EndEntityCert::try_from(&leaf_der).map_err(|error| refusal(error, last_day))?;
        let chain: Vec<CertificateDer<'_>> = intermediates
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let (own, algorithms) = (&self.own, OUR_ALGORITHMS);
        let (not_before, not_after) =
            build_path(&leaf, end_entity, &chain, own, algorithms, last_day)?;
        check_says_client(end_entity)?;
        Ok(Path {
            voucher: Voucher::Ours,
            end_entity: certificate::sha256(end_entity),
            not_before,
            not_after,
        })
    }

    /// Whom does the certificate name? To be called once the handshake's signature has held.
    ///
    /// # Errors
    /// If `end_entity` is not the certificate of `path`, or names nobody.
    pub fn presented(&self, path: &Path, end_entity: &[u8]) -> Result<Presented, Refusal> {
        if certificate::sha256(end_entity) != path.end_entity {
            return Err(PathRefusal::UnknownIssuer.into());
        }
        let certificate = certificate::read(end_entity)?;
        let claim = match &path.voucher {
            Voucher::Ours => self.named_by_us(&certificate)?,
            Voucher::Manufacturer(manufacturer) => Claim::Idevid {
                manufacturer: manufacturer.clone(),
                serial: idevid::serial_number(&certificate, manufacturer, &self.own_issuers)?,
            },
            Voucher::Imported(fleet) => {
                let shared = |name: &&Digest| self.own_imported.iter().any(|(own, _)| own == *name);
                let own: Vec<Digest> = (self
                    .own_issuers
                    .iter()
                    .filter(|name| !shared(name))
                    .copied())
                .collect();
                imported::check(&certificate, fleet, &own)?;
                let known = self.imported.iter().find(|known| known.fleet == *fleet);
                Claim::Imported {
                    fleet: fleet.clone(),
                    serial: known
                        .and_then(|known| known.naming.name(&certificate, path.end_entity).ok()),
                    fingerprint: path.end_entity,
                    client_id: None,
                }
            }
            Voucher::Claim => Claim::Shared {
                fingerprint: path.end_entity,
            },
        };
        let public_key = certificate::public_key_of(&certificate)?;
        Ok(Presented {
            claim,
            certificate: certificate::id_of(&certificate)?,
            not_before: path.not_before,
            not_after: path.not_after,
            subject: certificate::name_der(certificate.tbs_certificate().subject())?,
            key: certificate::sha256(&public_key),
            modulus: modulus_mark(&public_key),
        })
    }

    /// Whether a leaf is by a CA that came with its key, and has no name of ours: the fleet of that CA
    /// answers for it, if it was imported.
    fn is_of_before(&self, end_entity: &[u8]) -> Result<bool, PathRefusal> {
        if self.own_imported.is_empty() {
            return Ok(false);
        }
        let leaf = certificate::read(end_entity)?;
        let issuer = certificate::name_digest(leaf.tbs_certificate().issuer())?;
        let is_imported = self.own_imported.iter().any(|(name, _)| *name == issuer);
        let names = certificate::subject_alt_name(&leaf)?;
        let is_named = names.is_some_and(|names| {
            matches!(
                names.0.as_slice(),
                [GeneralName::UniformResourceIdentifier(uri)]
                    if self.realm.principal_of(uri.as_str()).is_some()
            )
        });
        Ok(is_imported && !is_named)
    }

    /// Exactly one name, and it a URI of this realm: two names would let two readers see two
    /// devices.
    fn named_by_us(&self, certificate: &Certificate) -> Result<Claim, Refusal> {
        let names = certificate::subject_alt_name(certificate)?.ok_or(Refusal::NamesNobody)?;
        let [GeneralName::UniformResourceIdentifier(uri)] = names.0.as_slice() else {
            return Err(Refusal::NamesNobody);
        };
        let principal = self
            .realm
            .principal_of(uri.as_str())
            .ok_or(Refusal::NamesNobody)?;
        let wanted = match principal {
            Principal::Device(_) => CertificateUse::Device,
            Principal::Service(_) => CertificateUse::Service,
        };
        let issuer = certificate::name_digest(certificate.tbs_certificate().issuer())?;
        let may_name =
            (self.own_uses.iter()).any(|(own, uses)| *own == issuer && uses.contains(wanted));
        if !may_name {
            return Err(Refusal::NamesNobody);
        }
        Ok(Claim::Ldevid {
            principal,
            uri: uri.as_str().to_owned(),
        })
    }
}

impl Path {
    /// Of a leaf that is believed for itself and not for who issued it.
    ///
    /// # Errors
    /// It cannot be read, or is out of its time, which `expired_until` stretches.
    pub(crate) fn pinned(
        fleet: &ManufacturerId,
        end_entity: &[u8],
        fingerprint: Digest,
        expired_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, PathRefusal> {
        let (not_before, not_after) = certificate::validity(end_entity)?;
        let path = Self {
            voucher: Voucher::Imported(fleet.clone()),
            end_entity: fingerprint,
            not_before,
            not_after: expired_until.map_or(not_after, |end| end.max(not_after)),
        };
        path.check_time(now).map(|()| path)
    }

    /// Of a claim certificate, which is believed for itself.
    ///
    /// # Errors
    /// It cannot be read, or is out of its time.
    pub(crate) fn of_claim(
        end_entity: &[u8],
        fingerprint: Digest,
        now: Timestamp,
    ) -> Result<Self, PathRefusal> {
        let (not_before, not_after) = certificate::validity(end_entity)?;
        let path = Self {
            voucher: Voucher::Claim,
            end_entity: fingerprint,
            not_before,
            not_after,
        };
        path.check_time(now).map(|()| path)
    }

    #[must_use]
    pub fn voucher(&self) -> &Voucher {
        &self.voucher
    }

    /// For the use of a cached path: is the whole chain still within its time?
    ///
    /// # Errors
    /// [`PathRefusal::Expired`] or [`PathRefusal::NotYetValid`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), PathRefusal> {
        check_time(self.not_before, self.not_after, now)
    }
}

impl Presented {
    #[must_use]
    pub fn kind(&self) -> IdentityKind {
        match self.claim {
            Claim::Ldevid { .. } => IdentityKind::Ldevid,
            Claim::Idevid { .. } => IdentityKind::Idevid,
            Claim::Imported { .. } => IdentityKind::Imported,
            Claim::Shared { .. } => IdentityKind::Claim,
        }
    }

    /// The same holder with the name it gave itself: asked where a certificate is shared by many
    /// devices ([`crate::Registry::shares`]), and of no effect elsewhere.
    #[must_use]
    pub fn calling_itself(mut self, name: &str) -> Self {
        if let Claim::Imported { client_id, .. } = &mut self.claim {
            *client_id = Some(name.to_owned());
        }
        self
    }

    #[must_use]
    pub fn certificate(&self) -> CertificateId {
        self.certificate
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn key(&self) -> Digest {
        self.key
    }

    /// The earliest end in the chain.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// Whom it names, for log lines: `device/d1`, `idevid <manufacturer> <serial>`,
/// `imported <fleet> <serial or fingerprint>`, or `claim-certificate <fingerprint>`.
impl std::fmt::Display for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.claim {
            Claim::Ldevid { principal, .. } => write!(f, "{principal}"),
            Claim::Idevid {
                manufacturer,
                serial,
            } => write!(f, "idevid {manufacturer} {serial}"),
            Claim::Imported {
                fleet,
                serial: Some(serial),
                ..
            } => write!(f, "imported {fleet} {serial}"),
            Claim::Imported {
                fleet, fingerprint, ..
            } => write!(f, "imported {fleet} {fingerprint}"),
            Claim::Shared { fingerprint } => write!(f, "claim-certificate {fingerprint}"),
        }
    }
}

pub(crate) fn check_time(
    not_before: Timestamp,
    not_after: Timestamp,
    now: Timestamp,
) -> Result<(), PathRefusal> {
    // Certificates count whole seconds and both ends belong to the life.
    if now.as_seconds() > not_after.as_seconds() {
        Err(PathRefusal::Expired { not_after, now })
    } else if now.as_seconds() < not_before.as_seconds() {
        Err(PathRefusal::NotYetValid { not_before, now })
    } else {
        Ok(())
    }
}

/// What our CAs sign with: nothing else can be ours.
static OUR_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[algorithm::ECDSA_P256_SHA256];

/// What factories and other CAs sign with. No SHA-1, no RSA under 2048 bits.
pub(crate) static FOREIGN_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithm::ECDSA_P256_SHA256,
    algorithm::ECDSA_P256_SHA384,
    algorithm::ECDSA_P384_SHA256,
    algorithm::ECDSA_P384_SHA384,
    algorithm::ED25519,
    algorithm::RSA_PKCS1_2048_8192_SHA256,
    algorithm::RSA_PKCS1_2048_8192_SHA384,
    algorithm::RSA_PKCS1_2048_8192_SHA512,
    algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// The anchor that a CA certificate makes.
pub(crate) fn read_anchor(der: &[u8], whose: &str) -> Result<TrustAnchor<'static>, AnchorRefusal> {
    read_ca(der, whose).map(|ca| ca.anchor)
}

/// Whether one of `anchors` itself issued a foreign leaf, at that time.
pub(crate) fn chain(
    anchors: &[TrustAnchor<'static>],
    leaf_der: &[u8],
    at: Timestamp,
) -> Result<(), PathRefusal> {
    check_sizes(leaf_der, &[])?;
    let der = CertificateDer::from(leaf_der);
    let leaf = EndEntityCert::try_from(&der).map_err(|error| refusal(error, at))?;
    build_path(&leaf, leaf_der, &[], anchors, FOREIGN_ALGORITHMS, at).map(drop)
}

struct Ca {
    anchor: TrustAnchor<'static>,
    name: Digest,
    key: Digest,
}

fn read_ca(der: &[u8], whose: &str) -> Result<Ca, AnchorRefusal> {
    let refuse = |what| AnchorRefusal::NotACa {
        whose: whose.to_owned(),
        what,
    };
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(refuse("it is larger than 8192 bytes"));
    }
    let certificate =
        certificate::read(der).map_err(|_| refuse("it is not an X.509 certificate in DER"))?;
    let is_ca = certificate::basic_constraints(&certificate)
        .ok()
        .flatten()
        .is_some_and(|constraints| constraints.ca);
    if !is_ca {
        return Err(refuse(
            "it is not a CA's (basicConstraints CA:TRUE is missing)",
        ));
    }
    let may_sign = certificate::key_usage(&certificate)
        .map_err(|_| refuse("its keyUsage cannot be read"))?
        .is_none_or(|usage| usage.key_cert_sign());
    if !may_sign {
        return Err(refuse("its keyUsage does not allow signing certificates"));
    }
    let anchor = anchor_from_trusted_cert(&CertificateDer::from(der))
        .map_err(|_| refuse("it cannot serve as a trust anchor"))?
        .to_owned();
    let unreadable = |_| refuse("its name or key cannot be read");
    Ok(Ca {
        anchor,
        name: certificate::name_digest(certificate.tbs_certificate().subject())
            .map_err(unreadable)?,
        key: certificate::key_digest(&certificate).map_err(unreadable)?,
    })
}

fn check_sizes(end_entity: &[u8], intermediates: &[&[u8]]) -> Result<(), PathRefusal> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(PathRefusal::TooLarge {
            what: "too many intermediate certificates",
        });
    }
    let mut all = std::iter::once(end_entity).chain(intermediates.iter().copied());
    if all.any(|der| der.len() > CERTIFICATE_BYTES_MAX) {
        return Err(PathRefusal::TooLarge {
            what: "a certificate is too long",
        });
    }
    Ok(())
}

/// A certificate of ours says that it is a client's; silence, which RFC 5280 lets pass, is not ours.
fn check_says_client(leaf_der: &[u8]) -> Result<(), PathRefusal> {
    let says_client = certificate::extended_key_usage(&certificate::read(leaf_der)?)?
        .is_some_and(|usage| usage.0.contains(&ID_KP_CLIENT_AUTH));
    if says_client {
        Ok(())
    } else {
        Err(PathRefusal::WrongPurpose)
    }
}

/// From when until when the whole chain holds.
fn build_path(
    leaf: &EndEntityCert<'_>,
    leaf_der: &[u8],
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'static>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), PathRefusal> {
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_seconds()));
    let usage = KeyUsage::client_auth();
    let path = leaf
        .verify_for_usage(
            algorithms,
            anchors,
            chain,
            time,
            usage,
            None,
            Some(&issuers_may_sign),
        )
        .map_err(|error| refusal(error, now))?;
    let certificate = certificate::read(leaf_der)?;
    // TLS proves possession by a signature (RFC 5246 section 7.4.6, RFC 8446 section 4.4.2.2).
    let signs = certificate::key_usage(&certificate)?.is_none_or(|usage| usage.digital_signature());
    if !signs {
        return Err(PathRefusal::WrongPurpose);
    }
    let window =
        |certificate: &Certificate| certificate::window(certificate.tbs_certificate().validity());
    let (mut not_before, mut not_after) = window(&certificate);
    for intermediate in path.intermediate_certificates() {
        let (from, until) = window(&certificate::read(intermediate.der().as_ref())?);
        not_before = not_before.max(from);
        not_after = not_after.min(until);
    }
    Ok((not_before, not_after))
}

/// webpki passes over keyUsage. A CA that says what its key is for, and does not say certificates,
/// has issued none (RFC 5280 section 6.1.4 (n)).
fn issuers_may_sign(path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
    for intermediate in path.intermediate_certificates() {
        let may_sign = certificate::read(intermediate.der().as_ref())
            .and_then(|certificate| certificate::key_usage(&certificate))
            .map_err(|_| webpki::Error::BadDer)?
            .is_none_or(|usage| usage.key_cert_sign());
        if !may_sign {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    Ok(())
}

fn refusal(error: webpki::Error, now: Timestamp) -> PathRefusal {
    use webpki::Error;
    let moment = |time: UnixTime| Timestamp::from_seconds(time.as_secs());
    match error {
        Error::UnknownIssuer => PathRefusal::UnknownIssuer,
        Error::CertExpired { not_after, .. } => PathRefusal::Expired {
            not_after: moment(not_after),
            now,
        },
        Error::CertNotValidYet { not_before, .. } => PathRefusal::NotYetValid {
            not_before: moment(not_before),
            now,
        },
        Error::RequiredEkuNotFoundContext(_)
        | Error::EmptyEkuExtension
        | Error::CaUsedAsEndEntity
        | Error::EndEntityUsedAsCa => PathRefusal::WrongPurpose,
        Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => {
            PathRefusal::BadSignature
        }
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => PathRefusal::Algorithm,
        Error::NameConstraintViolation | Error::PathLenConstraintViolated => {
            PathRefusal::Constraint
        }
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => PathRefusal::TooLarge {
            what: "its paths are too many to try",
        },
        Error::UnsupportedCertVersion => certificate::malformed("not version 3"),
        Error::UnsupportedCriticalExtension => {
            certificate::malformed("a critical extension is not known here")
        }
        Error::InvalidSerialNumber => certificate::malformed("serial number"),
        Error::InvalidCertValidity | Error::BadDerTime => certificate::malformed("validity"),
        _ => certificate::malformed("not X.509 as RFC 5280 has it"),
    }
}
