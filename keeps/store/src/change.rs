//! A change as data: what must hold, what is written, what the log will say.

use crate::access::Fleet;
use crate::authority::Authority;
use crate::claim::{ClaimCertificate, Reservation};
use crate::command::CommandWrite;
use crate::enrollment::{EnrollmentAnswer, PendingEnrollment};
use crate::first_identity::{ClaimToken, ClaimTokenUse, Described, ImportedFleet, PinnedLeaf};
use crate::identity::{Certificate, Device, ExpectedDevice, Holder, Manufacturer, Superseded};
use crate::inventory::DeviceRecord;
use crate::ownership::{OwnershipCode, OwnershipStep};
use crate::people::{ApiToken, Passkey, Person, Proposal};
use crate::response::{Contained, GroupContainment, Incident, Outgoing, Step};
use crate::tpm::{AttestationResult, AttestationStatus, EndorsementKey, HeldKey, TpmVendor};
use crate::twin::TwinWrite;
use model::{
    ApiTokenId, CertificateId, ClaimCertificateId, Containment, DeviceId, Digest, IncidentId,
    ManufacturerId, PasskeyId, PersonId, ProposalId, Revocable, RevocationReason, SerialNumber,
    ServiceId, Timestamp,
};
use std::fmt;

/// Rows and entries in one [`Change`] at most. A longer list is cut into changes by the caller, so
/// that a revocation never waits behind a million rows.
pub const CHANGE_ROWS_MAX: usize = 10_000;

/// Certificates that a claim certificate may make for each of its devices: answers get lost, and each
/// that nobody owned is on a revocation list until it ends.
pub const RESERVATIONS_A_DEVICE: u32 = 4;

/// Bytes of one log entry at most: the length prefix of an entry bundle has 16 bits (C2SP
/// tlog-tiles, section "Log entries").
pub const LEAF_BYTES_MAX: usize = 65_535;

/// The receipt of a change with an [`IdempotencyKey`] is kept for this many further changes.
pub const RECEIPTS_KEPT_CHANGES: u64 = 262_144;

/// One act, all or nothing: either every guard held, every write is made and every entry has its
/// leaf index, or nothing of it happened.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which way the act goes. While the store is sealed only withdrawals and neutral changes pass.
    pub direction: Direction,
    /// Checked in order inside the transaction, before any write.
    pub guards: Vec<Guard>,
    /// Made in order.
    pub writes: Vec<Write>,
    /// Leaves of the log, in order; they get contiguous indices. 1 to [`LEAF_BYTES_MAX`] bytes each.
    pub entries: Vec<Vec<u8>>,
    /// Makes a repeated request harmless: the second one gets the first one's receipt.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl Change {
    /// An empty change, to be filled.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            guards: Vec::new(),
            writes: Vec::new(),
            entries: Vec::new(),
            idempotency_key: None,
        }
    }

    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    #[must_use]
    pub fn write(mut self, write: impl Into<Write>) -> Self {
        self.writes.push(write.into());
        self
    }

    /// Adds a leaf to the log.
    #[must_use]
    pub fn entry(mut self, leaf: Vec<u8>) -> Self {
        self.entries.push(leaf);
        self
    }

    #[must_use]
    pub fn idempotent(mut self, key: IdempotencyKey) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    /// Rows and entries: what the writer has to do, in units of [`CHANGE_ROWS_MAX`].
    pub(crate) fn rows(&self) -> usize {
        self.writes
            .iter()
            .map(Write::rows)
            .fold(self.entries.len(), usize::saturating_add)
    }
}

/// What a change does to anybody's rights (rule 7 of the house: audit before effect).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Somebody can do more afterwards: enroll, issue, apply, restore, sign in. Refused while sealed.
    Grant,
    /// Somebody can do less afterwards: revoke, contain. Passes while sealed.
    Withdraw,
    /// Neither: bookkeeping, or an entry that only reports. Passes while sealed.
    Neutral,
}

/// What must hold when the change is made. A guard that does not hold refuses the whole change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Neither the device nor its product is revoked or on hold. It need not be known.
    DeviceNotRevoked(DeviceId),
    /// The service is not revoked or on hold.
    ServiceNotRevoked(ServiceId),
    /// The device's row has this version; 0 says that there is no row yet.
    DeviceVersion { device: DeviceId, version: u64 },
    /// No certificate with this issuer and serial number is stored, nor was one revoked, nor its
    /// issuer.
    CertificateUnknown(CertificateId),
    /// Neither the certificate nor its issuer is revoked or on hold. It need not be known.
    CertificateNotRevoked(CertificateId),
    /// The fleet in force has this version; 0 says that none was applied yet.
    FleetVersion(u64),
    /// A sign-in token with this hash exists and was not used.
    TokenUnused(Digest),
    /// The device is cut off this far; `None`: not at all.
    ContainmentIs {
        device: DeviceId,
        containment: Option<Containment>,
    },
    /// The enrollment of this device that waits is this one, and this was decided of it (`None`:
    /// nothing yet).
    PendingEnrollmentIs {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
        id: Digest,
        approved: Option<bool>,
    },
    /// The enrollment was answered with this certificate; `None`: with none that is remembered.
    EnrollmentAnswerIs {
        enrollment: Digest,
        certificate: Option<CertificateId>,
    },
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceNotRevoked(device) => write!(f, "device {device} is not revoked"),
            Self::ServiceNotRevoked(service) => write!(f, "service {service} is not revoked"),
            Self::DeviceVersion { device, version } => {
                write!(f, "device {device} has version {version}")
            }
            Self::CertificateUnknown(id) => write!(f, "certificate {id} is new"),
            Self::CertificateNotRevoked(id) => write!(f, "certificate {id} is not revoked"),
            Self::FleetVersion(version) => write!(f, "the fleet in force has version {version}"),
            // The hash of a token is not a secret, but it helps nobody either.
            Self::TokenUnused(_) => f.write_str("the sign-in token exists and is unused"),
            Self::ContainmentIs {
                device,
                containment,
            } => {
                let how = containment.map_or("not contained", Containment::name);
                write!(f, "device {device} is {how}")
            }
            Self::PendingEnrollmentIs { id, .. } => {
                write!(f, "enrollment {id} waits as it was shown")
            }
            Self::EnrollmentAnswerIs { enrollment, .. } => {
                write!(f, "enrollment {enrollment} was not answered meanwhile")
            }
        }
    }
}

/// One write. Each says below what it refuses by itself, whatever the guards are.
#[derive(Debug, Clone)]
pub enum Write {
    /// A CA of ours: creates its row or moves it to another state. Conflict: its Name has another
    /// certificate already.
    PutAuthority(Authority),
    /// Which roots of ours a device believes by its own word, at most 16: replaces what it said
    /// before. Grants nothing.
    PutLearnedRoots {
        device: DeviceId,
        /// SHA-256 of the certificates.
        roots: Vec<Digest>,
        at: Timestamp,
    },
    /// Signatures of an issuer of which nothing is on record, found by the signer's own count.
    NoteUnrecorded {
        issuer: Digest,
        kind: String,
        count: u64,
    },
    /// A trust anchor is never silently replaced: the same id with another CA is a conflict, the
    /// same again changes nothing.
    PutManufacturer(Manufacturer),
    /// Rows of an import. Sort a long list by serial before cutting it into changes: a random order
    /// costs many times as much. A row whose manufacturer and serial are listed already replaces that one.
    /// Conflict: an unregistered manufacturer; a device name listed for another serial; another
    /// product for a device whose product is revoked or on hold.
    PutExpectedDevices(Vec<ExpectedDevice>),
    /// Terms of an existing fleet; said again they move its end and add CAs. Conflict: its name is a
    /// manufacturer's; it was imported by another rule; it is retired.
    PutImportedFleet(ImportedFleet),
    /// Its certificates open nothing any more. A fleet that is not known changes nothing.
    RetireImportedFleet {
        fleet: ManufacturerId,
        at: Timestamp,
    },
    /// Conflict: a fingerprint that is another device's, unless both share it.
    PinLeaves(Vec<PinnedLeaf>),
    /// Replaces what was said of these devices before.
    DescribeDevices(Vec<Described>),
    /// One a serial number: a new one replaces the one before. Conflict: the serial number is on no
    /// list.
    PutClaimTokens(Vec<ClaimToken>),
    /// Conflict: unknown, used, or ended.
    UseClaimToken {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
        hash: Digest,
        used: ClaimTokenUse,
    },
    /// Removes unused tokens: of one serial number, or all of a manufacturer.
    DropClaimTokens {
        manufacturer: ManufacturerId,
        serial: Option<SerialNumber>,
    },
    /// Creates the row; what was counted of it before stays. Conflict: an unregistered manufacturer;
    /// the name or the certificate is another one's already; it is retired.
    PutClaimCertificate(ClaimCertificate),
    /// It opens nothing any more. One that is not known changes nothing.
    RetireClaimCertificate {
        claim: ClaimCertificateId,
        at: Timestamp,
    },
    /// A certificate that waits for its owner, counted as made. Conflict: its claim certificate is
    /// retired or unknown, or has made [`RESERVATIONS_A_DEVICE`] for each of its devices.
    PutReservation(Reservation),
    /// Its owner has said so, counted as used. Conflict: unknown, used, or ended at `at`; its claim
    /// certificate is retired, or used for as many devices as it is for.
    UseReservation { token: Digest, at: Timestamp },
    /// Removes those that ended before this moment, used or not, up to 10,000 of them.
    ForgetReservations { ended_before: Timestamp },
    /// One a device: a new one replaces the one before.
    PutOwnershipCodes(Vec<OwnershipCode>),
    /// Conflict: it is not the code of this device, or ended at `at`.
    UseOwnershipCode {
        device: DeviceId,
        hash: Digest,
        at: Timestamp,
    },
    /// How it stands from here on: a period of ownership begins, is changed, or ends. Conflict: it
    /// does not stand as `before` says.
    PutOwnership(OwnershipStep),
    /// Creates the row (version 1) or replaces it (version + 1). Conflict: the device is revoked;
    /// the serial belongs to another device; the device has another serial; an unregistered
    /// manufacturer.
    PutDevice(Device),
    /// Conflict: issuer and serial number were used before; the holder or the issuer is revoked; the
    /// holder is a device without a row.
    PutCertificate(Certificate),
    /// The first revocation stays as it is; a second one changes nothing. A hold keeps its time and
    /// takes the reason of the revocation that follows it. What is revoked need not be known (a
    /// restored backup may not know it), and is barred all the same.
    Revoke {
        what: Revocable,
        at: Timestamp,
        reason: RevocationReason,
    },
    /// Certificates that a newer one of their device has superseded: a note, nothing opens or closes
    /// by it. The first one of a certificate stays; one of a revoked certificate is not kept.
    PutSuperseded(Vec<Superseded>),
    /// Lifts a hold. Conflict: it is not on hold, or revoked for good.
    Release { what: Revocable },
    /// Rows of an import. Listed again for the same serial changes nothing. Conflict: listed for
    /// another serial; a serial that is not expected.
    PutEndorsementKeys(Vec<EndorsementKey>),
    /// They are on the list no longer. One that is on none changes nothing.
    DropEndorsementKeys(Vec<Digest>),
    /// The same CA again changes nothing. Conflict: an unregistered manufacturer.
    PutTpmVendor(TpmVendor),
    /// What a chip was shown to hold; replaces what was shown before. Conflict: the device has no
    /// row.
    PutHeldKey(HeldKey),
    /// Its key lies in no chip that we know of any more. A result that affirmed goes with it, one
    /// that did not stays: nobody gets rid of it by changing keys.
    DropHeldKey { device: DeviceId },
    /// Replaces the result before. Grants if it affirms. Conflict: it affirms, is of no token, and no
    /// key is held.
    PutAttestationResult(AttestationResult),
    /// Conflict: the version is not the one after the last.
    PutFleet(Fleet),
    /// A single-use sign-in token, by its hash. Without a person it is for the first one, whoever
    /// that is when it is used.
    PutToken {
        hash: Digest,
        person: Option<PersonId>,
        expires_at: Timestamp,
    },
    /// Creates a person (version 1) or changes one (version + 1). Conflict: another version.
    PutPerson(Person),
    /// From here on a person has these roles and no others; links that wait for them open nothing. One
    /// who signs in no more has no passkey any more. One that is not known changes nothing.
    NarrowPerson {
        person: PersonId,
        roles: String,
        /// They sign in no more.
        disabled_at: Option<Timestamp>,
    },
    /// Conflict: its name or its credential exists, or there is no such person.
    PutPasskey(Passkey),
    /// It signed somebody in. Conflict: it is gone, or its count is not above the one on record.
    UsePasskey {
        passkey: PasskeyId,
        count: u32,
        at: Timestamp,
    },
    /// It signs nobody in any more. One that is not known changes nothing.
    DropPasskey(PasskeyId),
    /// Conflict: its name or its hash exists.
    PutApiToken(ApiToken),
    /// It opens nothing any more. One that is not known changes nothing.
    RevokeApiToken { token: ApiTokenId, at: Timestamp },
    /// An act that waits for a second person; itself it grants nothing. Conflict: its name exists.
    PutProposal(Proposal),
    /// Conflict: unknown, decided already, or expired at `at`. Approved it gives rights, and belongs
    /// in a grant.
    DecideProposal {
        proposal: ProposalId,
        approved: bool,
        by: String,
        at: Timestamp,
    },
    /// Removes proposals that expired before this moment, decided or not.
    ForgetProposals { expired_before: Timestamp },
    /// About when it was used last.
    NoteApiTokenUse { token: ApiTokenId, at: Timestamp },
    /// Conflict: unknown, used, or expired at `at`.
    UseToken { hash: Digest, at: Timestamp },
    /// Removes the tokens that expired before this moment, used or not.
    ForgetTokens { expired_before: Timestamp },
    /// Creates or replaces the one enrollment of a device that waits. Approved it gives rights, and
    /// belongs in a grant. Conflict: an unregistered manufacturer.
    PutPendingEnrollment(PendingEnrollment),
    /// The device waits no more. One that does not wait changes nothing.
    DropPendingEnrollment {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
    },
    /// Creates or replaces what a request is answered with when it is asked again.
    PutEnrollmentAnswer(EnrollmentAnswer),
    /// Removes enrollments that wait and answers that expired before this moment, up to 10,000 of
    /// each.
    ForgetEnrollments { expired_before: Timestamp },
    /// Cuts a device off. It need not be known. The same again keeps the first one's time, incident
    /// and author; a harder one replaces a softer one. Conflict: a softer one than is in force, unless
    /// the change is a [`Direction::Grant`]: to soften gives back.
    PutContainment(Contained),
    /// Creates or replaces the row of an act that cut many off. It cuts nobody off by itself.
    PutGroupContainment(GroupContainment),
    /// Gives a device back what it was cut off from. One that is not cut off changes nothing.
    DropContainment { device: DeviceId },
    /// Creates or replaces the row of an incident.
    PutIncident(Incident),
    /// Adds a line to a timeline. `entry_of_change` says which entry of this same change proves it
    /// (0 is the first); the leaf index is then filled in. Conflict: no such incident.
    AppendStep {
        incident: IncidentId,
        step: Step,
        entry_of_change: Option<usize>,
    },
    /// Of commands to devices.
    Command(CommandWrite),
    /// Of what devices should be and say that they are.
    Twin(TwinWrite),
    /// A device came by the word of a certificate with this key (SHA-256 of its
    /// SubjectPublicKeyInfo). The first that did stays.
    PutShownKey { device: DeviceId, key: Digest },
    /// Creates or replaces what is known of devices besides their identity. Grants nothing.
    PutRecords(Vec<DeviceRecord>),
    /// A message that must leave the house; the same id replaces it (a further attempt).
    PutOutbox(Outgoing),
    /// It left, or was given up.
    DropOutbox { id: String },
    /// Removes certificates that ended before this moment, up to 10,000 of them; what was revoked
    /// stays revoked.
    ForgetCertificates { ended_before: Timestamp },
    /// A value of the plane's own (1 to 128 bytes of key, up to 64 KiB of value).
    PutMeta { key: String, value: Vec<u8> },
    /// Stops granting. A store that is sealed already keeps its first reason.
    Seal { reason: String },
    /// Lets granting go on. Needs at least one entry in the same change, as it gives rights back.
    Unseal,
}

impl From<CommandWrite> for Write {
    fn from(write: CommandWrite) -> Self {
        Self::Command(write)
    }
}

impl From<TwinWrite> for Write {
    fn from(write: TwinWrite) -> Self {
        Self::Twin(write)
    }
}

impl Write {
    /// True for a write that gives somebody rights, and so belongs in a [`Direction::Grant`] only.
    pub(crate) fn grants(&self) -> bool {
        match self {
            Self::PutManufacturer(_)
            | Self::PutAuthority(_)
            | Self::PutExpectedDevices(_)
            | Self::PutImportedFleet(_)
            | Self::PinLeaves(_)
            | Self::DescribeDevices(_)
            | Self::PutClaimTokens(_)
            | Self::UseClaimToken { .. }
            | Self::PutClaimCertificate(_)
            | Self::PutOwnershipCodes(_)
            | Self::UseOwnershipCode { .. }
            | Self::PutReservation(_)
            | Self::UseReservation { .. }
            | Self::PutDevice(_)
            | Self::PutEndorsementKeys(_)
            | Self::PutTpmVendor(_)
            | Self::PutHeldKey(_)
            | Self::PutFleet(_)
            | Self::PutToken { .. }
            | Self::PutPerson(_)
            | Self::PutPasskey(_)
            | Self::UsePasskey { .. }
            | Self::PutApiToken(_)
            | Self::UseToken { .. }
            | Self::Release { .. }
            | Self::DropContainment { .. } => true,
            Self::PutAttestationResult(row) => row.status == AttestationStatus::Affirming,
            // That of our own doors gives nobody anything.
            Self::PutCertificate(row) => row.holder != Holder::Server,
            Self::PutPendingEnrollment(row) => row
                .decision
                .as_ref()
                .is_some_and(|decision| decision.approved),
            Self::PutOwnership(row) => row.gives(),
            Self::DecideProposal { approved, .. } => *approved,
            Self::Command(write) => write.grants(),
            Self::Twin(write) => write.grants(),
            // Unseal is refused by its own rule; as a grant it could never pass while sealed.
            Self::RetireImportedFleet { .. }
            | Self::RetireClaimCertificate { .. }
            | Self::DropEndorsementKeys(_)
            | Self::ForgetReservations { .. }
            | Self::DropClaimTokens { .. }
            | Self::NoteUnrecorded { .. }
            | Self::PutLearnedRoots { .. }
            | Self::Revoke { .. }
            | Self::PutSuperseded(_)
            | Self::DropHeldKey { .. }
            | Self::PutContainment(_)
            | Self::PutGroupContainment(_)
            | Self::PutIncident(_)
            | Self::AppendStep { .. }
            | Self::PutShownKey { .. }
            | Self::PutRecords(_)
            | Self::PutOutbox(_)
            | Self::DropOutbox { .. }
            | Self::ForgetCertificates { .. }
            | Self::ForgetTokens { .. }
            | Self::NarrowPerson { .. }
            | Self::DropPasskey(_)
            | Self::RevokeApiToken { .. }
            | Self::NoteApiTokenUse { .. }
            | Self::PutProposal(_)
            | Self::ForgetProposals { .. }
            | Self::DropPendingEnrollment { .. }
            | Self::PutEnrollmentAnswer(_)
            | Self::ForgetEnrollments { .. }
            | Self::PutMeta { .. }
            | Self::Seal { .. }
            | Self::Unseal => false,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::PutExpectedDevices(rows) => rows.len(),
            Self::PutRecords(rows) => rows.len(),
            Self::Command(write) => write.rows(),
            Self::Twin(write) => write.rows(),
            Self::PutSuperseded(rows) => rows.len(),
            Self::PutImportedFleet(row) => row.cas.len().saturating_add(2),
            Self::PinLeaves(rows) => rows.len(),
            Self::DescribeDevices(rows) => (rows.iter())
                .map(|row| row.attributes.len())
                .fold(rows.len(), usize::saturating_add),
            Self::PutClaimTokens(rows) => rows.len(),
            Self::PutOwnershipCodes(rows) => rows.len(),
            Self::PutLearnedRoots { roots, .. } => roots.len().saturating_add(1),
            Self::PutEndorsementKeys(rows) => rows.len(),
            Self::DropEndorsementKeys(keys) => keys.len(),
            _ => 1,
        }
    }
}

/// Names a request, so that its repetition is known as one.
///
/// `request` is a digest over what was asked (not over the entries, whose time differs): the same
/// key with another request is refused, it is never answered with a foreign receipt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// 1 to 128 bytes. Say in it who asks, so that nobody meets another's key.
    pub key: String,
    pub request: Digest,
}

/// The change is durable. `proven` comes later, with the next checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Place of the change in the order of commits, from 1.
    pub sequence: u64,
    /// Leaf index of the first entry; what the next change's first entry gets if this one has none.
    pub first_leaf_index: u64,
    pub leaf_count: u64,
    /// This is the receipt of an earlier change with the same key; nothing was written now.
    pub replayed: bool,
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The caller reads again and decides anew.
    #[error("refused: it does not hold that {0}")]
    Guard(Guard),
    /// The caller's picture of the rows is not what is stored.
    #[error("refused: {what}")]
    Conflict { what: String },
    /// An operator must look at the reason and unseal.
    #[error(
        "the store is sealed ({reason}): revocations pass, nothing is granted until an operator unseals it"
    )]
    Sealed { reason: String },
    /// Ask again later. Withdrawals have room of their own and meet this last.
    #[error("the store is busy: its queue is full; ask again in a moment")]
    Busy,
    #[error("the idempotency key was used for another request; use a new key")]
    KeyReused,
    /// A defect of the program: it asked for what no change may be.
    #[error("not a valid change, which is a defect of ours: {what}")]
    Invalid { what: String },
    /// Nothing of the change is there. The operator must free space; later changes try again.
    #[error("the disk that holds {path} is full: free some space; nothing was written")]
    DiskFull { path: String },
    /// The disk did not take it. After a restart the change may turn out to be there or not.
    #[error(
        "cannot write {path} ({detail}): check the disk and its mount; the change was not confirmed"
    )]
    Io { path: String, detail: String },
    /// The database is not what was written.
    #[error("{path} is damaged ({detail}): stop the plane and restore a backup")]
    Damaged { path: String, detail: String },
    #[error("the store is closing")]
    Closed,
}

impl CommitError {
    /// True if the disk, and not the request, is the cause: `/readyz` must fail.
    #[must_use]
    pub fn is_storage(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. } | Self::Io { .. } | Self::Damaged { .. }
        )
    }
}
