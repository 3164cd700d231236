//! What a change does to the rows, inside its savepoint.

use super::{Failure, Writer, command, enroll, people, respond, twin};
use crate::access::Fleet;
use crate::audit::{CheckpointError, ImportError};
use crate::change::{
    CHANGE_ROWS_MAX, Change, CommitError, Direction, Guard, LEAF_BYTES_MAX, Receipt, Write,
};
use crate::identity::{Certificate, Device, ExpectedDevice, Holder, Manufacturer, Superseded};
use crate::row::join_groups;
use model::{Digest, Principal, Timestamp};
use rusqlite::{ErrorCode, OptionalExtension, Params, params};

/// Largest packed sources of a fleet.
const FLEET_BYTES_MAX: usize = 16 << 20;
/// Largest certificate.
const DER_BYTES_MAX: usize = 64 << 10;
/// Largest value of the plane's own.
const META_BYTES_MAX: usize = 64 << 10;
/// Longest key: of a value, of a request.
const KEY_BYTES_MAX: usize = 128;
/// That one device believes.
const ROOTS_MAX: usize = 16;
/// Longest reason of a seal.
const REASON_BYTES_MAX: usize = 1024;

impl Change {
    /// What no change may be, found before it takes a place in the queue.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rows() > CHANGE_ROWS_MAX {
            return Err(format!("more than {CHANGE_ROWS_MAX} rows and entries"));
        }
        if self.guards.len() > CHANGE_ROWS_MAX {
            return Err(format!("more than {CHANGE_ROWS_MAX} guards"));
        }
        check_leaves(&self.entries)?;
        if self.direction != Direction::Grant && self.writes.iter().any(Write::grants) {
            return Err("it says that it grants nothing, but holds a write that does".to_owned());
        }
        if let Some(key) = &self.idempotency_key {
            within("an idempotency key", key.key.len(), 1, KEY_BYTES_MAX)?;
        }
        let unseals = self.writes.iter().any(|w| matches!(w, Write::Unseal));
        if unseals && (self.direction == Direction::Grant || self.entries.is_empty()) {
            return Err("to unseal is neutral and needs an entry that says who decided".to_owned());
        }
        let entries = self.entries.len();
        let beyond = |write: &Write| matches!(write, Write::AppendStep { entry_of_change: Some(n), .. } if *n >= entries);
        if self.writes.iter().any(beyond) {
            return Err("a step names an entry that the change does not hold".to_owned());
        }
        self.writes.iter().try_for_each(check_write)
    }
}

fn check_write(write: &Write) -> Result<(), String> {
    match write {
        Write::PutManufacturer(row) => within("a CA certificate", row.ca.len(), 1, DER_BYTES_MAX),
        Write::PutImportedFleet(row) => {
            within("a rule", row.naming.len(), 1, 256)?;
            (row.cas.iter())
                .try_for_each(|ca| within("a CA certificate", ca.len(), 1, DER_BYTES_MAX))
        }
        Write::PutAuthority(row) => {
            within("a CA certificate", row.certificate.len(), 1, DER_BYTES_MAX)
        }
        Write::PutLearnedRoots { roots, .. } => {
            within("a list of roots", roots.len(), 0, ROOTS_MAX)
        }
        Write::NoteUnrecorded { kind, .. } => within("a kind", kind.len(), 1, KEY_BYTES_MAX),
        Write::PutCertificate(row) => {
            let kind = row.key_kind.as_deref().unwrap_or_default();
            within("a kind of key", kind.len(), 0, 32)?;
            within("a certificate", row.der.len(), 1, DER_BYTES_MAX)
        }
        Write::PutFleet(row) => within("the fleet", row.files.len(), 0, FLEET_BYTES_MAX),
        Write::PutMeta { key, value } => {
            within("a key", key.len(), 1, KEY_BYTES_MAX)?;
            within("a value", value.len(), 0, META_BYTES_MAX)
        }
        Write::Seal { reason } => within("a reason", reason.len(), 1, REASON_BYTES_MAX),
        Write::PutTpmVendor(row) => within("a CA certificate", row.ca.len(), 1, DER_BYTES_MAX),
        Write::PutHeldKey(row) => within("an attestation key", row.attestation_key.len(), 1, 1024),
        Write::PutAttestationResult(row) => within("a reason", row.why.len(), 0, REASON_BYTES_MAX),
        Write::PutClaimCertificate(row) => {
            within("a certificate", row.certificate.len(), 1, DER_BYTES_MAX)?;
            within("a template's name", row.template.len(), 1, KEY_BYTES_MAX)
        }
        Write::Command(write) => command::check(write),
        Write::Twin(write) => twin::check(write),
        other => respond::check(other)
            .and_then(|()| enroll::check(other))
            .and_then(|()| people::check(other)),
    }
}

fn check_leaves(leaves: &[Vec<u8>]) -> Result<(), String> {
    leaves
        .iter()
        .try_for_each(|leaf| within("an entry", leaf.len(), 1, LEAF_BYTES_MAX))
}

pub(super) fn within(what: &str, bytes: usize, min: usize, max: usize) -> Result<(), String> {
    if (min..=max).contains(&bytes) {
        return Ok(());
    }
    Err(format!("{what} has {min} to {max} bytes, this one {bytes}"))
}

pub(super) type Outcome<T> = Result<T, Failure<CommitError>>;

impl Writer {
    /// Guards, writes, entries, in this order, and the receipt.
    pub(super) fn change(&mut self, change: &Change) -> Outcome<Receipt> {
        if let (Some(reason), Direction::Grant) = (&self.head.sealed, change.direction) {
            return Err(Failure::Refused(CommitError::Sealed {
                reason: reason.clone(),
            }));
        }
        if let Some(key) = &change.idempotency_key
            && let Some(receipt) = self.earlier(&key.key, &key.request)?
        {
            return Ok(receipt);
        }
        for guard in &change.guards {
            if !self.holds(guard)? {
                return Err(Failure::Refused(CommitError::Guard(guard.clone())));
            }
        }
        self.dirty = true;
        let first = self.head.leaf_count;
        // What tells of a row that keeps its entry.
        let entry = (!change.entries.is_empty()).then_some(first);
        for write in &change.writes {
            self.write(write, change.direction, entry)?;
        }
        self.append(&change.entries)?;
        self.head.sequence = self.head.sequence.saturating_add(1);
        let leaf_count = self.head.leaf_count.saturating_sub(first);
        if let Some(key) = &change.idempotency_key {
            self.perform(
                "INSERT INTO receipt (tenant, key, request, sequence, first_leaf_index, leaf_count)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    self.tenant,
                    key.key,
                    key.request.0,
                    self.head.sequence,
                    first,
                    leaf_count
                ],
            )?;
        }
        Ok(receipt(self.head.sequence, first, leaf_count, false))
    }

    /// Compare and set.
    pub(super) fn put_checkpoint(
        &mut self,
        previous_size: u64,
        size: u64,
        note: &[u8],
    ) -> Result<(), Failure<CheckpointError>> {
        let stored: Option<i64> = self
            .connection
            .prepare_cached("SELECT size FROM checkpoint WHERE tenant = ?1")?
            .query_row(params![self.tenant], |row| row.get(0))
            .optional()?;
        let stored = unsigned(stored.unwrap_or(0));
        if stored != previous_size {
            return Err(Failure::Refused(CheckpointError::Moved {
                stored,
                expected: previous_size,
            }));
        }
        let leaf_count = unsigned(self.head.leaf_count);
        if size < stored || size > leaf_count {
            return Err(Failure::Refused(CheckpointError::Size {
                size,
                stored,
                leaf_count,
            }));
        }
        within("a checkpoint", note.len(), 1, LEAF_BYTES_MAX).map_err(|what| {
            Failure::Refused(CheckpointError::Commit(CommitError::Invalid { what }))
        })?;
        self.dirty = true;
        self.execute_cached(
            "INSERT INTO checkpoint (tenant, size, note) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET size = excluded.size, note = excluded.note",
            params![self.tenant, signed(size), note],
        )?;
        Ok(())
    }

    pub(super) fn import_leaves(
        &mut self,
        from_index: u64,
        leaves: &[Vec<u8>],
        reason: &str,
    ) -> Result<u64, Failure<ImportError>> {
        let invalid = |what| Failure::Refused(ImportError::Commit(CommitError::Invalid { what }));
        if leaves.len() > CHANGE_ROWS_MAX {
            return Err(invalid(format!("more than {CHANGE_ROWS_MAX} leaves")));
        }
        check_leaves(leaves).map_err(invalid)?;
        within("a reason", reason.len(), 1, REASON_BYTES_MAX).map_err(invalid)?;
        let leaf_count = unsigned(self.head.leaf_count);
        if from_index > leaf_count {
            return Err(Failure::Refused(ImportError::Gap {
                from: from_index,
                leaf_count,
            }));
        }
        let mut new = leaves;
        for index in from_index..leaf_count {
            let Some((leaf, rest)) = new.split_first() else {
                break;
            };
            let stored: Option<Vec<u8>> = self
                .connection
                .prepare_cached("SELECT leaf FROM entry WHERE tenant = ?1 AND leaf_index = ?2")?
                .query_row(params![self.tenant, signed(index)], |row| row.get(0))
                .optional()?;
            if stored.as_ref() != Some(leaf) {
                return Err(Failure::Refused(ImportError::Diverged { index }));
            }
            new = rest;
        }
        self.dirty = true;
        self.head.sealed.get_or_insert_with(|| reason.to_owned());
        if !new.is_empty() {
            let first = self.head.leaf_count;
            let lowest = self
                .head
                .imported_from
                .map_or(first, |from| from.min(first));
            self.head.imported_from = Some(lowest);
        }
        self.append(new).map_err(|failure| match failure {
            Failure::Refused(error) => Failure::Refused(ImportError::Commit(error)),
            Failure::Sql(error) => Failure::Sql(error),
        })?;
        Ok(unsigned(self.head.leaf_count))
    }

    /// The receipt that a key has got before.
    fn earlier(&self, key: &str, request: &Digest) -> Outcome<Option<Receipt>> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT request, sequence, first_leaf_index, leaf_count FROM receipt
                 WHERE tenant = ?1 AND key = ?2",
            )?
            .query_row(params![self.tenant, key], |row| {
                let same = row.get_ref(0)?.as_blob().ok() == Some(request.0.as_slice());
                Ok((same, receipt(row.get(1)?, row.get(2)?, row.get(3)?, true)))
            })
            .optional()?;
        match found {
            None => Ok(None),
            Some((true, receipt)) => Ok(Some(receipt)),
            Some((false, _)) => Err(Failure::Refused(CommitError::KeyReused)),
        }
    }

    fn holds(&self, guard: &Guard) -> Outcome<bool> {
        match guard {
            Guard::DeviceNotRevoked(device) => self
                .is_revoked(&Principal::Device(device.clone()))
                .map(|revoked| !revoked),
            Guard::ServiceNotRevoked(service) => self
                .is_revoked(&Principal::Service(service.clone()))
                .map(|revoked| !revoked),
            Guard::DeviceVersion { device, version } => {
                let stored: Option<i64> = self
                    .connection
                    .prepare_cached("SELECT version FROM device WHERE tenant = ?1 AND device = ?2")?
                    .query_row(params![self.tenant, device.as_str()], |row| row.get(0))
                    .optional()?;
                Ok(unsigned(stored.unwrap_or(0)) == *version)
            }
            Guard::CertificateUnknown(id) => {
                let known = self.exists(
                    "SELECT 1 FROM certificate WHERE tenant = ?1 AND issuer = ?2 AND serial = ?3",
                    params![self.tenant, id.issuer().0, id.serial()],
                )?;
                Ok(!known && !self.is_certificate_revoked(id)?)
            }
            Guard::CertificateNotRevoked(id) => {
                self.is_certificate_revoked(id).map(|revoked| !revoked)
            }
            Guard::FleetVersion(version) => Ok(unsigned(self.fleet_version()?) == *version),
            Guard::TokenUnused(hash) => self.exists(
                "SELECT 1 FROM token WHERE tenant = ?1 AND hash = ?2 AND used_at IS NULL",
                params![self.tenant, hash.0],
            ),
            Guard::ContainmentIs {
                device,
                containment,
            } => Ok(self.containment_of(device)? == *containment),
            Guard::PendingEnrollmentIs {
                manufacturer,
                serial,
                id,
                approved,
            } => self.pending_is(manufacturer, serial, id, *approved),
            Guard::EnrollmentAnswerIs {
                enrollment,
                certificate,
            } => self.answer_is(enrollment, certificate.as_ref()),
        }
    }

    fn write(&mut self, write: &Write, direction: Direction, entry: Option<i64>) -> Outcome<()> {
        match write {
            Write::PutAuthority(row) => self.put_authority(row, entry),
            Write::PutLearnedRoots { device, roots, at } => {
                self.put_learned_roots(device, roots, *at)
            }
            Write::NoteUnrecorded {
                issuer,
                kind,
                count,
            } => self.note_unrecorded(*issuer, kind, *count),
            Write::PutManufacturer(row) => self.put_manufacturer(row),
            Write::PutExpectedDevices(rows) => {
                rows.iter().try_for_each(|row| self.put_expected(row))
            }
            Write::PutImportedFleet(row) => self.put_imported_fleet(row),
            Write::RetireImportedFleet { fleet, at } => self.retire_imported_fleet(fleet, *at),
            Write::PinLeaves(rows) => rows.iter().try_for_each(|row| self.pin_leaf(row)),
            Write::DescribeDevices(rows) => rows.iter().try_for_each(|row| self.describe(row)),
            Write::PutClaimTokens(rows) => {
                rows.iter().try_for_each(|row| self.put_claim_token(row))
            }
            Write::UseClaimToken {
                manufacturer,
                serial,
                hash,
                used,
            } => self.use_claim_token(manufacturer, serial, hash, used),
            Write::DropClaimTokens {
                manufacturer,
                serial,
            } => self.drop_claim_tokens(manufacturer, serial.as_ref()),
            Write::PutClaimCertificate(row) => self.put_claim_certificate(row),
            Write::RetireClaimCertificate { claim, at } => {
                self.retire_claim_certificate(claim, *at)
            }
            Write::PutReservation(row) => self.put_reservation(row),
            Write::UseReservation { token, at } => self.use_reservation(token, *at),
            Write::ForgetReservations { ended_before } => self.forget_reservations(*ended_before),
            Write::PutOwnershipCodes(rows) => {
                rows.iter().try_for_each(|row| self.put_ownership_code(row))
            }
            Write::UseOwnershipCode { device, hash, at } => {
                self.use_ownership_code(device, hash, *at)
            }
            Write::PutOwnership(row) => self.put_ownership(row),
            Write::PutDevice(row) => self.put_device(row),
            Write::PutCertificate(row) => self.put_certificate(row, entry),
            Write::Revoke { what, at, reason } => self.revoke(what, *at, *reason),
            Write::Release { what } => self.release(what),
            Write::PutSuperseded(rows) => rows.iter().try_for_each(|row| self.put_superseded(row)),
            Write::PutEndorsementKeys(rows) => rows
                .iter()
                .try_for_each(|row| self.put_endorsement_key(row)),
            Write::DropEndorsementKeys(keys) => keys
                .iter()
                .try_for_each(|key| self.drop_endorsement_key(key)),
            Write::PutTpmVendor(row) => self.put_tpm_vendor(row),
            Write::PutHeldKey(row) => self.put_held_key(row),
            Write::DropHeldKey { device } => self.drop_held_key(device),
            Write::PutAttestationResult(row) => self.put_attestation_result(row),
            Write::PutFleet(row) => self.put_fleet(row),
            Write::PutToken { .. }
            | Write::PutPerson(_)
            | Write::NarrowPerson { .. }
            | Write::PutPasskey(_)
            | Write::UsePasskey { .. }
            | Write::DropPasskey(_)
            | Write::PutApiToken(_)
            | Write::RevokeApiToken { .. }
            | Write::PutProposal(_)
            | Write::DecideProposal { .. }
            | Write::ForgetProposals { .. }
            | Write::ForgetTokens { .. }
            | Write::NoteApiTokenUse { .. } => self.write_of_people(write),
            Write::UseToken { hash, at } => self.use_token(hash, *at),
            Write::PutContainment(row) => self.put_containment(row, direction),
            Write::PutGroupContainment(row) => self.put_group_containment(row),
            Write::DropContainment { device } => self.drop_containment(device),
            Write::PutIncident(row) => self.put_incident(row),
            Write::AppendStep {
                incident,
                step,
                entry_of_change,
            } => self.append_step(*incident, step, *entry_of_change),
            Write::Command(write) => self.write_command(write),
            Write::Twin(write) => self.write_twin(write),
            Write::PutShownKey { device, key } => self.put_shown_key(device, key),
            Write::PutRecords(rows) => rows.iter().try_for_each(|row| self.put_record(row)),
            Write::PutOutbox(row) => self.put_outbox(row),
            Write::DropOutbox { id } => self.drop_outbox(id),
            Write::PutPendingEnrollment(row) => self.put_pending(row),
            Write::DropPendingEnrollment {
                manufacturer,
                serial,
            } => self.drop_pending(manufacturer, serial),
            Write::PutEnrollmentAnswer(row) => self.put_answer(row),
            Write::ForgetEnrollments { expired_before } => self.forget_enrollments(*expired_before),
            Write::ForgetCertificates { ended_before } => self.forget_certificates(*ended_before),
            Write::PutMeta { key, value } => self
                .perform(
                    "INSERT INTO meta (tenant, key, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET value = excluded.value",
                    params![self.tenant, key, value],
                )
                .map(drop),
            Write::Seal { reason } => {
                self.head.sealed.get_or_insert_with(|| reason.clone());
                Ok(())
            }
            Write::Unseal => {
                self.head.sealed = None;
                self.head.imported_from = None;
                Ok(())
            }
        }
    }

    fn put_manufacturer(&self, row: &Manufacturer) -> Outcome<()> {
        let stored: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT ca FROM manufacturer WHERE tenant = ?1 AND manufacturer = ?2")?
            .query_row(params![self.tenant, row.id.as_str()], |found| found.get(0))
            .optional()?;
        match stored {
            Some(ca) if ca == row.ca => Ok(()),
            Some(_) => Err(conflict(format!(
                "manufacturer {} is registered with another CA; register the new CA under another id",
                row.id
            ))),
            None => self
                .perform(
                    "INSERT INTO manufacturer (tenant, manufacturer, ca, added_at)
                     VALUES (?1, ?2, ?3, ?4)",
                    params![self.tenant, row.id.as_str(), row.ca, millis(row.added_at)],
                )
                .map(drop),
        }
    }

    fn put_expected(&self, row: &ExpectedDevice) -> Outcome<()> {
        self.refuse_to_leave_a_barred_product(row)?;
        let put = self
            .connection
            .prepare_cached(
                "INSERT INTO expected_device
                 (tenant, manufacturer, serial, product, device, groups)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (tenant, manufacturer, serial) DO UPDATE SET
                 product = excluded.product, groups = excluded.groups
                 WHERE device = excluded.device",
            )?
            .execute(params![
                self.tenant,
                row.manufacturer.as_str(),
                row.serial.as_str(),
                row.product.as_str(),
                row.device.as_str(),
                join_groups(&row.groups)
            ]);
        if matches!(put, Ok(0)) {
            // Certificates and revocations are told by name: a listed serial keeps the one it has.
            return Err(conflict(format!(
                "serial {:?} of manufacturer {} is listed under another device name than {}; \
                 correct the list",
                row.serial.as_str(),
                row.manufacturer,
                row.device
            )));
        }
        self.refusing(put, |unknown_manufacturer| {
            if unknown_manufacturer {
                format!("manufacturer {} is not registered", row.manufacturer)
            } else {
                format!(
                    "device name {} (serial {:?}) is listed for another serial already",
                    row.device,
                    row.serial.as_str()
                )
            }
        })
    }

    fn put_device(&self, row: &Device) -> Outcome<()> {
        if self.is_revoked(&Principal::Device(row.id.clone()))? {
            return Err(Failure::Refused(CommitError::Guard(
                Guard::DeviceNotRevoked(row.id.clone()),
            )));
        }
        let other = self.exists(
            "SELECT 1 FROM device WHERE tenant = ?1 AND device = ?2
             AND (manufacturer <> ?3 OR serial <> ?4)",
            params![
                self.tenant,
                row.id.as_str(),
                row.manufacturer.as_str(),
                row.serial.as_str()
            ],
        )?;
        if other {
            return Err(conflict(format!(
                "device {} enrolled with another serial; give the new unit a name of its own",
                row.id
            )));
        }
        let put = self
            .connection
            .prepare_cached(
                "INSERT INTO device (tenant, device, product, groups, manufacturer, serial,
                 enrolled_at, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)
                 ON CONFLICT (tenant, device) DO UPDATE SET product = excluded.product,
                 groups = excluded.groups, enrolled_at = excluded.enrolled_at,
                 version = version + 1",
            )?
            .execute(params![
                self.tenant,
                row.id.as_str(),
                row.product.as_str(),
                join_groups(&row.groups),
                row.manufacturer.as_str(),
                row.serial.as_str(),
                millis(row.enrolled_at)
            ]);
        self.refusing(put, |unknown_manufacturer| {
            if unknown_manufacturer {
                format!("manufacturer {} is not registered", row.manufacturer)
            } else {
                format!(
                    "serial {:?} of manufacturer {} belongs to another device than {}",
                    row.serial.as_str(),
                    row.manufacturer,
                    row.id
                )
            }
        })
    }

    fn put_certificate(&self, row: &Certificate, entry: Option<i64>) -> Outcome<()> {
        let principal = row.holder.principal();
        if let Some(principal) = &principal
            && self.is_revoked(principal)?
        {
            return Err(Failure::Refused(CommitError::Guard(match &row.holder {
                Holder::Service(id) => Guard::ServiceNotRevoked(id.clone()),
                Holder::Device(id) => Guard::DeviceNotRevoked(id.clone()),
                Holder::Server => Guard::CertificateNotRevoked(row.id),
            })));
        }
        if let Holder::Device(device) = &row.holder
            && !self.exists(
                "SELECT 1 FROM device WHERE tenant = ?1 AND device = ?2",
                params![self.tenant, device.as_str()],
            )?
        {
            return Err(conflict(format!(
                "certificate {} names device {device}, which is not enrolled",
                row.id
            )));
        }
        if self.is_certificate_revoked(&row.id)? {
            return Err(Failure::Refused(CommitError::Guard(
                Guard::CertificateUnknown(row.id),
            )));
        }
        self.insert(
            "INSERT INTO certificate
             (tenant, issuer, serial, kind, principal, not_before, not_after, der, key, key_kind,
              entry)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                self.tenant,
                row.id.issuer().0,
                row.id.serial(),
                row.holder.kind(),
                principal.map(|principal| principal.to_string()),
                millis(row.not_before),
                millis(row.not_after),
                row.der,
                row.key.map(|digest| digest.0),
                row.key_kind,
                entry
            ],
            || format!("certificate {} exists already", row.id),
        )?;
        self.count_issuance(row.id.issuer(), row.holder.kind())
    }

    fn put_superseded(&self, row: &Superseded) -> Outcome<()> {
        if self.is_certificate_revoked(&row.certificate)? {
            return Ok(());
        }
        self.perform(
            "INSERT INTO superseded_certificate
             (tenant, issuer, serial, by_issuer, by_serial, superseded_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            params![
                self.tenant,
                row.certificate.issuer().0,
                row.certificate.serial(),
                row.by.issuer().0,
                row.by.serial(),
                millis(row.at)
            ],
        )
        .map(drop)
    }

    fn put_fleet(&self, row: &Fleet) -> Outcome<()> {
        let last = unsigned(self.fleet_version()?);
        if Some(row.version) != last.checked_add(1) {
            return Err(conflict(format!(
                "the fleet in force has version {last}, so {} cannot follow; plan again",
                row.version
            )));
        }
        self.perform(
            "INSERT INTO fleet (tenant, version, digest, files, applied_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                self.tenant,
                signed(row.version),
                row.digest.0,
                row.files,
                millis(row.applied_at)
            ],
        )
        .map(drop)
    }

    fn use_token(&self, hash: &Digest, at: Timestamp) -> Outcome<()> {
        let used = self.perform(
            "UPDATE token SET used_at = ?3
             WHERE tenant = ?1 AND hash = ?2 AND used_at IS NULL AND expires_at > ?3",
            params![self.tenant, hash.0, millis(at)],
        )?;
        if used == 1 {
            return Ok(());
        }
        // One answer for unknown, used and expired: whoever guesses learns nothing.
        Err(conflict(
            "the sign-in token is unknown, used or expired; ask for a new one".to_owned(),
        ))
    }

    /// Gives leaves their indices.
    fn append(&mut self, leaves: &[Vec<u8>]) -> Outcome<()> {
        if leaves.is_empty() {
            return Ok(());
        }
        let mut statement = self
            .connection
            .prepare_cached("INSERT INTO entry (tenant, leaf_index, leaf) VALUES (?1, ?2, ?3)")?;
        for leaf in leaves {
            statement.execute(params![self.tenant, self.head.leaf_count, leaf])?;
            self.head.leaf_count = self.head.leaf_count.saturating_add(1);
        }
        Ok(())
    }

    fn fleet_version(&self) -> Outcome<i64> {
        let version: Option<i64> = self
            .connection
            .prepare_cached("SELECT max(version) FROM fleet WHERE tenant = ?1")?
            .query_row(params![self.tenant], |row| row.get(0))?;
        Ok(version.unwrap_or(0))
    }

    pub(super) fn exists(&self, sql: &str, params: impl Params) -> Outcome<bool> {
        Ok(self.connection.prepare_cached(sql)?.exists(params)?)
    }

    pub(super) fn perform(&self, sql: &str, params: impl Params) -> Outcome<usize> {
        Ok(self.execute_cached(sql, params)?)
    }

    pub(super) fn execute_cached(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }

    pub(super) fn insert(
        &self,
        sql: &str,
        params: impl Params,
        what: impl FnOnce() -> String,
    ) -> Outcome<()> {
        let put = self.execute_cached(sql, params);
        self.refusing(put, |_| what())
    }

    /// Turns a violated constraint into a conflict; `true` says that a reference was the one.
    pub(super) fn refusing(
        &self,
        put: rusqlite::Result<usize>,
        what: impl FnOnce(bool) -> String,
    ) -> Outcome<()> {
        match put {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let reference = error.sqlite_error().is_some_and(|e| {
                    e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY
                });
                Err(conflict(what(reference)))
            }
            Err(error) => Err(Failure::Sql(error)),
        }
    }
}

pub(super) fn conflict(what: String) -> Failure<CommitError> {
    Failure::Refused(CommitError::Conflict { what })
}

fn receipt(sequence: i64, first_leaf_index: i64, leaf_count: i64, replayed: bool) -> Receipt {
    Receipt {
        sequence: unsigned(sequence),
        first_leaf_index: unsigned(first_leaf_index),
        leaf_count: unsigned(leaf_count),
        replayed,
    }
}

/// SQLite's integers have a sign; a time beyond its range is as good as never.
pub(crate) fn millis(at: Timestamp) -> i64 {
    signed(at.as_millis())
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
