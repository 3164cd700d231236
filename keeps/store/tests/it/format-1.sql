-- control.db as format 1 made it. Kept as it was released; never edited.
PRAGMA application_id = 1179407447;
PRAGMA user_version = 1;

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
