"""The database of `cfssl serve`: makes its two tables, as its first migration for SQLite does, or
counts its certificates.

    records.py make|count CERTIFICATES.DB
"""

import sqlite3
import sys

what, path = sys.argv[1], sys.argv[2]
database = sqlite3.connect(path)
if what == "make":
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(
        """
        CREATE TABLE certificates (
            serial_number blob NOT NULL,
            authority_key_identifier blob NOT NULL,
            ca_label blob,
            status blob NOT NULL,
            reason int,
            expiry timestamp,
            revoked_at timestamp,
            pem blob NOT NULL,
            PRIMARY KEY (serial_number, authority_key_identifier)
        );
        CREATE TABLE ocsp_responses (
            serial_number blob NOT NULL,
            authority_key_identifier blob NOT NULL,
            body blob NOT NULL,
            expiry timestamp,
            PRIMARY KEY (serial_number, authority_key_identifier)
        );
        """
    )
else:
    print(*database.execute("SELECT count(*) FROM certificates").fetchone())
database.close()
