//! The tables of `control.db` and `facts.db`. The tenant is the first column of every key (rule 10).

/// What makes a file one of ours, and how it came to its present form.
pub(crate) struct Layout {
    /// `PRAGMA application_id`. A database of another program is refused.
    pub(crate) application_id: i64,
    /// `PRAGMA user_version` and what leads to it from the format before: applied in order, in one
    /// transaction. The last one is the present format; a newer one is refused. A step that was
    /// released is never edited.
    pub(crate) steps: &'static [(i64, &'static str)],
    /// Says whose data it is, and writes that down.
    pub(crate) tenant: &'static str,
    pub(crate) put_tenant: &'static str,
}

impl Layout {
    pub(crate) fn format(&self) -> i64 {
        self.steps.last().map_or(0, |(format, _)| *format)
    }
}

/// `control.db`: "FLTW".
pub(crate) const CONTROL: Layout = Layout {
    application_id: 0x464C_5457,
    steps: &[(1, TABLES_1), (2, TABLES_2), (3, TABLES_3)],
    tenant: "SELECT tenant FROM state",
    put_tenant: "INSERT INTO state (tenant, sequence) VALUES (?1, 0)",
};

/// `facts.db`: "FLTF".
pub(crate) const FACTS: Layout = Layout {
    application_id: 0x464C_5446,
    steps: &[(1, FACTS_1), (2, FACTS_2)],
    tenant: "SELECT tenant FROM owner",
    put_tenant: "INSERT INTO owner (tenant) VALUES (?1)",
};

/// Times are milliseconds since 1970. Groups are joined by `;`, which no name may hold. A principal
/// is its text, `device/<id>` or `service/<id>`.
///
/// Revocations have tables of their own, without a reference to what they revoke: after a backup
/// was restored, a device that this database never saw must still stay out.
const TABLES_1: &str = "
CREATE TABLE state (
    tenant TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    sealed TEXT,
    imported_from INTEGER,
    PRIMARY KEY (tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipt (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    request BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    first_leaf_index INTEGER NOT NULL,
    leaf_count INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipt_by_age ON receipt (tenant, sequence);

CREATE TABLE meta (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE manufacturer (
    tenant TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    ca BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, manufacturer)
) STRICT, WITHOUT ROWID;

CREATE TABLE expected_device (
    tenant TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    serial TEXT NOT NULL,
    product TEXT NOT NULL,
    device TEXT NOT NULL,
    groups TEXT NOT NULL,
    PRIMARY KEY (tenant, manufacturer, serial),
    FOREIGN KEY (tenant, manufacturer) REFERENCES manufacturer (tenant, manufacturer)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX expected_device_by_name ON expected_device (tenant, device);

CREATE TABLE device (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    product TEXT NOT NULL,
    groups TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    serial TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (tenant, device),
    FOREIGN KEY (tenant, manufacturer) REFERENCES manufacturer (tenant, manufacturer)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX device_by_serial ON device (tenant, manufacturer, serial);

CREATE TABLE certificate (
    tenant TEXT NOT NULL,
    issuer BLOB NOT NULL,
    serial BLOB NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('ldevid', 'service', 'server')),
    principal TEXT,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    der BLOB NOT NULL,
    PRIMARY KEY (tenant, issuer, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_by_principal ON certificate (tenant, principal);

CREATE TABLE principal_revocation (
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal)
) STRICT, WITHOUT ROWID;

CREATE TABLE certificate_revocation (
    tenant TEXT NOT NULL,
    issuer BLOB NOT NULL,
    serial BLOB NOT NULL,
    revoked_at INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    PRIMARY KEY (tenant, issuer, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    tenant TEXT NOT NULL,
    hash BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    PRIMARY KEY (tenant, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE fleet (
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL,
    files BLOB NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, version)
) STRICT;

CREATE TABLE entry (
    tenant TEXT NOT NULL,
    leaf_index INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    PRIMARY KEY (tenant, leaf_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint (
    tenant TEXT NOT NULL,
    size INTEGER NOT NULL,
    note BLOB NOT NULL,
    PRIMARY KEY (tenant)
) STRICT, WITHOUT ROWID;
";

/// Format 2: containment, incidents, records of devices, messages that must leave the house.
const TABLES_2: &str = "
CREATE TABLE containment (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    containment TEXT NOT NULL CHECK (containment IN ('quarantined', 'isolated')),
    since INTEGER NOT NULL,
    incident INTEGER,
    by_whom TEXT NOT NULL,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE incident (
    tenant TEXT NOT NULL,
    incident INTEGER NOT NULL,
    subject TEXT,
    title TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'contained', 'closed')),
    severity TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, incident)
) STRICT, WITHOUT ROWID;

CREATE TABLE incident_step (
    tenant TEXT NOT NULL,
    incident INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    what TEXT NOT NULL,
    expected TEXT,
    seen TEXT,
    source TEXT,
    attribution TEXT,
    observed_by TEXT,
    entry INTEGER,
    PRIMARY KEY (tenant, incident, number),
    FOREIGN KEY (tenant, incident) REFERENCES incident (tenant, incident)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_record (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    product TEXT,
    groups TEXT NOT NULL,
    manufacturer TEXT,
    serial TEXT,
    country TEXT,
    support_until INTEGER,
    retired INTEGER NOT NULL,
    note TEXT,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    channel TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    last_error TEXT,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX certificate_by_end ON certificate (tenant, not_after);
";

/// Format 3: our CAs and what they issued, enrollments that wait for a person, answers that may be
/// asked for again; existing fleets, attributes, claim tokens; TPMs that are expected and what they
/// have shown; revocations that bar many at once, by `product/<id>` or `ca/<issuer digest>`; the
/// digest and kind of each certificate's key and the entry of its issue, absent in rows of an
/// earlier format; certificates on their way out; the roots that devices said they believe; people,
/// their passkeys, tokens of the API, acts that wait for a second person. A sign-in link without a person
/// is the first one's.
///
/// A root has no name and no uses. `issuance` counts what is recorded for good; the certificates
/// themselves are forgotten some time after they ended. An imported fleet vouches for devices as a
/// manufacturer does, and has a row there as well, with an empty CA: the lists of devices refer to
/// it.
const TABLES_3: &str = "
CREATE TABLE superseded_certificate (
    tenant TEXT NOT NULL,
    issuer BLOB NOT NULL,
    serial BLOB NOT NULL,
    by_issuer BLOB NOT NULL,
    by_serial BLOB NOT NULL,
    superseded_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, issuer, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE certificate_authority (
    tenant TEXT NOT NULL,
    subject BLOB NOT NULL,
    name TEXT,
    uses TEXT,
    state TEXT NOT NULL CHECK (state IN ('next', 'current', 'retiring', 'ended')),
    certificate BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    entry INTEGER,
    PRIMARY KEY (tenant, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE learned_root (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    root BLOB NOT NULL,
    told_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, device, root)
) STRICT, WITHOUT ROWID;

CREATE TABLE issuance (
    tenant TEXT NOT NULL,
    issuer BLOB NOT NULL,
    kind TEXT NOT NULL,
    recorded INTEGER NOT NULL,
    unrecorded INTEGER NOT NULL,
    PRIMARY KEY (tenant, issuer, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO issuance SELECT tenant, issuer, kind, count(*), 0 FROM certificate
    GROUP BY tenant, issuer, kind;

CREATE TABLE pending_enrollment (
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    manufacturer TEXT NOT NULL,
    serial TEXT NOT NULL,
    issuer BLOB,
    certificate BLOB,
    endorsement BLOB,
    product TEXT,
    key_kind TEXT NOT NULL,
    key BLOB NOT NULL,
    asked_from TEXT,
    asked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    approved INTEGER,
    decided_at INTEGER,
    by_whom TEXT,
    PRIMARY KEY (tenant, manufacturer, serial),
    FOREIGN KEY (tenant, manufacturer) REFERENCES manufacturer (tenant, manufacturer)
) STRICT, WITHOUT ROWID;

CREATE TABLE enrollment_answer (
    tenant TEXT NOT NULL,
    enrollment BLOB NOT NULL,
    issuer BLOB NOT NULL,
    certificate BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, enrollment)
) STRICT, WITHOUT ROWID;
CREATE INDEX enrollment_answer_by_end ON enrollment_answer (tenant, expires_at);

CREATE TABLE imported_fleet (
    tenant TEXT NOT NULL,
    fleet TEXT NOT NULL,
    naming TEXT NOT NULL,
    until INTEGER NOT NULL,
    accept_expired INTEGER NOT NULL,
    imported_at INTEGER NOT NULL,
    retired_at INTEGER,
    PRIMARY KEY (tenant, fleet),
    FOREIGN KEY (tenant, fleet) REFERENCES manufacturer (tenant, manufacturer)
) STRICT, WITHOUT ROWID;

CREATE TABLE imported_ca (
    tenant TEXT NOT NULL,
    fleet TEXT NOT NULL,
    ca BLOB NOT NULL,
    PRIMARY KEY (tenant, fleet, ca),
    FOREIGN KEY (tenant, fleet) REFERENCES imported_fleet (tenant, fleet)
) STRICT, WITHOUT ROWID;

CREATE TABLE pinned_leaf (
    tenant TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    device TEXT NOT NULL,
    shared INTEGER NOT NULL,
    PRIMARY KEY (tenant, fingerprint, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_attribute (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    attribute TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (tenant, device, attribute)
) STRICT, WITHOUT ROWID;

CREATE TABLE claim_token (
    tenant TEXT NOT NULL,
    serial TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    hash BLOB NOT NULL,
    made_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    used_key BLOB,
    used_issuer BLOB,
    used_serial BLOB,
    PRIMARY KEY (tenant, serial, manufacturer),
    FOREIGN KEY (tenant, manufacturer, serial)
        REFERENCES expected_device (tenant, manufacturer, serial)
) STRICT, WITHOUT ROWID;
CREATE TABLE scope_revocation (
    tenant TEXT NOT NULL,
    scope TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope)
) STRICT, WITHOUT ROWID;

-- Certificates and entries lie in the order of arrival, each index naming its row by number: rows
-- of half a kilobyte in the tree of their own key are moved at every split, and each further index
-- repeats that key. A commit of four certificates writes a sixth less.
ALTER TABLE certificate RENAME TO certificate_2;
CREATE TABLE certificate (
    tenant TEXT NOT NULL,
    issuer BLOB NOT NULL,
    serial BLOB NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('ldevid', 'service', 'server')),
    principal TEXT,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    der BLOB NOT NULL,
    key BLOB,
    key_kind TEXT,
    entry INTEGER,
    UNIQUE (tenant, issuer, serial)
) STRICT;
INSERT INTO certificate
    SELECT tenant, issuer, serial, kind, principal, not_before, not_after, der, NULL, NULL, NULL
    FROM certificate_2 ORDER BY not_before;
DROP TABLE certificate_2;
CREATE INDEX certificate_by_principal ON certificate (tenant, principal);
CREATE INDEX certificate_by_end ON certificate (tenant, not_after);

ALTER TABLE entry RENAME TO entry_2;
CREATE TABLE entry (
    tenant TEXT NOT NULL,
    leaf_index INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    UNIQUE (tenant, leaf_index)
) STRICT;
INSERT INTO entry SELECT tenant, leaf_index, leaf FROM entry_2 ORDER BY tenant, leaf_index;
DROP TABLE entry_2;

CREATE TABLE endorsement_key (
    tenant TEXT NOT NULL,
    endorsement BLOB NOT NULL,
    manufacturer TEXT NOT NULL,
    serial TEXT NOT NULL,
    PRIMARY KEY (tenant, endorsement),
    FOREIGN KEY (tenant, manufacturer, serial)
        REFERENCES expected_device (tenant, manufacturer, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE tpm_vendor (
    tenant TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    ca BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, manufacturer, ca)
) STRICT, WITHOUT ROWID;

CREATE TABLE held_key (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    key BLOB NOT NULL,
    endorsement BLOB NOT NULL,
    attestation_key BLOB NOT NULL,
    held_since INTEGER NOT NULL,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE shown_key (
    tenant TEXT NOT NULL,
    key BLOB NOT NULL,
    device TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE attestation_result (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('affirming', 'contraindicated')),
    why TEXT NOT NULL,
    appraised_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    by_key BLOB,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE claim_certificate (
    tenant TEXT NOT NULL,
    claim TEXT NOT NULL,
    certificate BLOB NOT NULL,
    manufacturer TEXT NOT NULL,
    product TEXT NOT NULL,
    template TEXT NOT NULL,
    addresses TEXT NOT NULL,
    devices_max INTEGER NOT NULL,
    made INTEGER NOT NULL,
    used INTEGER NOT NULL,
    added_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    retired_at INTEGER,
    PRIMARY KEY (tenant, claim),
    FOREIGN KEY (tenant, manufacturer) REFERENCES manufacturer (tenant, manufacturer)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX claim_certificate_once ON claim_certificate (tenant, certificate);

CREATE TABLE reservation (
    tenant TEXT NOT NULL,
    token BLOB NOT NULL,
    claim TEXT NOT NULL,
    device TEXT NOT NULL,
    issuer BLOB NOT NULL,
    certificate BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    PRIMARY KEY (tenant, token),
    FOREIGN KEY (tenant, claim) REFERENCES claim_certificate (tenant, claim)
) STRICT, WITHOUT ROWID;
CREATE INDEX reservation_by_end ON reservation (tenant, expires_at);

CREATE TABLE ownership (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    number INTEGER NOT NULL,
    owner TEXT NOT NULL,
    salt BLOB NOT NULL,
    offered_to TEXT,
    since INTEGER NOT NULL,
    until INTEGER,
    PRIMARY KEY (tenant, device, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX ownership_present ON ownership (tenant, device) WHERE until IS NULL;

CREATE TABLE ownership_code (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    hash BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

ALTER TABLE token ADD COLUMN person TEXT;

CREATE TABLE person (
    tenant TEXT NOT NULL,
    person TEXT NOT NULL,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    joined_at INTEGER,
    disabled_at INTEGER,
    version INTEGER NOT NULL,
    subject BLOB,
    PRIMARY KEY (tenant, person)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX person_by_subject ON person (tenant, subject) WHERE subject IS NOT NULL;

CREATE TABLE passkey (
    tenant TEXT NOT NULL,
    passkey TEXT NOT NULL,
    person TEXT NOT NULL,
    credential BLOB NOT NULL,
    key BLOB NOT NULL,
    count INTEGER NOT NULL,
    synced INTEGER NOT NULL,
    note TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    used_at INTEGER,
    PRIMARY KEY (tenant, passkey),
    FOREIGN KEY (tenant, person) REFERENCES person (tenant, person)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX passkey_by_credential ON passkey (tenant, credential);

CREATE TABLE api_token (
    tenant TEXT NOT NULL,
    token TEXT NOT NULL,
    hash BLOB NOT NULL,
    roles TEXT NOT NULL,
    networks TEXT NOT NULL,
    note TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    used_at INTEGER,
    PRIMARY KEY (tenant, token)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_token_by_hash ON api_token (tenant, hash);

CREATE TABLE proposal (
    tenant TEXT NOT NULL,
    proposal TEXT NOT NULL,
    class TEXT NOT NULL,
    action TEXT NOT NULL,
    method TEXT NOT NULL,
    target TEXT NOT NULL,
    seen_version TEXT,
    media_type TEXT NOT NULL,
    body BLOB NOT NULL,
    digest BLOB NOT NULL,
    world BLOB NOT NULL,
    proposed_by TEXT NOT NULL,
    proposed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    approved INTEGER,
    decided_by TEXT,
    decided_at INTEGER,
    PRIMARY KEY (tenant, proposal)
) STRICT, WITHOUT ROWID;
CREATE TABLE command (
    tenant TEXT NOT NULL,
    command INTEGER NOT NULL,
    by_whom TEXT NOT NULL,
    key TEXT,
    request BLOB NOT NULL,
    channel TEXT NOT NULL,
    target TEXT NOT NULL,
    payload BLOB NOT NULL,
    asked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('held', 'open', 'cancelled', 'lapsed')),
    decided_by TEXT,
    PRIMARY KEY (tenant, command)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX command_once ON command (tenant, by_whom, key) WHERE key IS NOT NULL;
CREATE INDEX command_by_end ON command (tenant, expires_at);

CREATE TABLE command_delivery (
    tenant TEXT NOT NULL,
    command INTEGER NOT NULL,
    device TEXT NOT NULL,
    topic TEXT NOT NULL,
    response_topic TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, command, device),
    FOREIGN KEY (tenant, command) REFERENCES command (tenant, command)
) STRICT, WITHOUT ROWID;
CREATE TABLE twin (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    desired BLOB NOT NULL,
    version INTEGER NOT NULL,
    desired_at INTEGER,
    desired_by TEXT,
    reported BLOB,
    reported_at INTEGER,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;
ALTER TABLE containment ADD COLUMN group_containment TEXT;

CREATE TABLE group_containment (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    target TEXT NOT NULL,
    containment TEXT NOT NULL CHECK (containment IN ('quarantined', 'isolated')),
    reason TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    at INTEGER NOT NULL,
    devices INTEGER NOT NULL,
    restored_at INTEGER,
    restored_by TEXT,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_containment_by_time ON group_containment (tenant, at);

CREATE INDEX command_delivery_open ON command_delivery (tenant, command)
    WHERE state IN ('waiting', 'sent');
";

const FACTS_1: &str = "
CREATE TABLE owner (tenant TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE device (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    firmware_version TEXT,
    firmware_digest BLOB,
    firmware_source TEXT,
    firmware_at INTEGER,
    unseen TEXT NOT NULL,
    PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE address (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (tenant, device, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE peer (
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    host TEXT,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (tenant, device, address, port, protocol)
) STRICT, WITHOUT ROWID;

CREATE TABLE alert (
    tenant TEXT NOT NULL,
    alert INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    entity TEXT NOT NULL,
    severity TEXT NOT NULL,
    open INTEGER NOT NULL,
    number INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    expected TEXT NOT NULL,
    seen TEXT NOT NULL,
    source TEXT NOT NULL,
    attribution TEXT NOT NULL,
    observed_by TEXT NOT NULL,
    incident INTEGER,
    evidence BLOB NOT NULL,
    PRIMARY KEY (tenant, alert)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL,
    class TEXT NOT NULL,
    channel TEXT NOT NULL,
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    denied INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, class, channel)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT;
";

/// Format 2: traffic by kind of principal. `counter` never had a row. Of devices `service` is empty, of
/// services `product`.
const FACTS_2: &str = "
DROP TABLE counter;

CREATE TABLE traffic (
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL,
    service TEXT NOT NULL,
    product TEXT NOT NULL,
    groups TEXT NOT NULL,
    assurance TEXT NOT NULL,
    topics TEXT NOT NULL,
    received INTEGER NOT NULL,
    own INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    bytes_max INTEGER NOT NULL,
    devices BLOB NOT NULL,
    PRIMARY KEY (tenant, day, service, product, groups, assurance, topics, received, own)
) STRICT, WITHOUT ROWID;
";

/// What every connection is set to, the writer's and the readers'.
pub(crate) const EVERY_CONNECTION: &str = "
PRAGMA busy_timeout = 5000;
PRAGMA foreign_keys = ON;
PRAGMA synchronous = FULL;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
";
