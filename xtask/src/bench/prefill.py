"""Fills the database of a plane that does not run with devices that have enrolled, by SQL and not by
enrolling: a million in seconds instead of hours. Rows are what enrolling leaves in the tables, but
for the bytes of the certificates (noise, as long as real ones) and the log, which gets no entries.

    prefill.py NUMBER CONTROL.DB
"""

import sqlite3
import sys

number, path = int(sys.argv[1]), sys.argv[2]
control = sqlite3.connect(path)
control.execute("PRAGMA synchronous = OFF")
control.execute("PRAGMA temp_store = MEMORY")
(tenant,) = control.execute("SELECT tenant FROM state").fetchone()
(maker,) = control.execute("SELECT manufacturer FROM manufacturer").fetchone()
(issuer,) = control.execute(
    "SELECT issuer FROM certificate WHERE kind = 'service' LIMIT 1"
).fetchone()
names = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
with control:
    control.execute(
        f"""{names} INSERT INTO expected_device (tenant, manufacturer, serial, product, device, groups)
            SELECT ?, ?, printf('STORED%08d', i), 'device', printf('stored-%08d', i), '' FROM n""",
        (number, tenant, maker),
    )
    control.execute(
        f"""{names} INSERT INTO device
            (tenant, device, product, groups, manufacturer, serial, enrolled_at, version)
            SELECT ?, printf('stored-%08d', i), 'device', '', ?, printf('STORED%08d', i),
                unixepoch() * 1000, 1 FROM n""",
        (number, tenant, maker),
    )
    # Serial numbers of ours are random: in the order of the key, so that it takes seconds.
    control.execute(
        f"""{names} INSERT INTO certificate
            (tenant, issuer, serial, kind, principal, not_before, not_after, der)
            SELECT ?, ?, CAST(printf('%016d', i * 9000) AS BLOB), 'ldevid',
                printf('device/stored-%08d', i), unixepoch() * 1000,
                (unixepoch() + 2592000) * 1000, randomblob(620) FROM n""",
        (number, tenant, issuer),
    )
control.execute("PRAGMA wal_checkpoint(TRUNCATE)")
control.close()
