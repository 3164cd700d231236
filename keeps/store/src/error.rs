//! Errors of opening and reading. Those of commits stand beside the change, those of the journal
//! and of the published log beside theirs.

use std::path::{Path, PathBuf};

/// Why the data folder was not opened. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} is in use by another process: stop the other plane, or give this one its own data folder"
    )]
    InUse { path: PathBuf },
    #[error(
        "{path} has mode {mode:04o}, so others on this machine may read or change it: run chmod {wanted:o} '{path}'"
    )]
    Mode {
        path: PathBuf,
        mode: u32,
        wanted: u32,
    },
    #[error("{path} is not a {wanted}: give the plane another data folder")]
    Kind { path: PathBuf, wanted: &'static str },
    #[error(
        "{path} belongs to tenant {stored}, not to {given}: correct the tenant or the data folder"
    )]
    Tenant {
        path: PathBuf,
        stored: String,
        given: String,
    },
    #[error("{path} is a database of another program: give the plane another data folder")]
    Foreign { path: PathBuf },
    #[error(
        "{path} was written by a newer version (format {found}, this one knows {known}): run that version"
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("{path} is damaged ({detail}): restore a backup")]
    Damaged { path: PathBuf, detail: String },
    #[error("{path} is damaged ({detail}): {go}", go = FACTS_MAY_GO)]
    DamagedFacts { path: PathBuf, detail: String },
    #[error("cannot open {path} ({detail}): check the path, its owner and the disk")]
    Io { path: PathBuf, detail: String },
}

impl OpenError {
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            detail: error.to_string(),
        }
    }

    /// The same of `facts.db`, which holds nothing that cannot be lost.
    pub(crate) fn of_facts(self) -> Self {
        match self {
            Self::Damaged { path, detail } => Self::DamagedFacts { path, detail },
            other => other,
        }
    }

    pub(crate) fn sql(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged {
                    path: path.to_owned(),
                    detail: error.to_string(),
                }
            }
            _ => Self::Io {
                path: path.to_owned(),
                detail: error.to_string(),
            },
        }
    }
}

/// What a damaged `facts.db` asks for.
const FACTS_MAY_GO: &str = "stop the plane and remove facts.db with its -wal and -shm; only \
    observations are lost (last seen, addresses, peers, firmware, alerts, baselines), while \
    identities, revocations, containments, incidents and the log are elsewhere";

/// Why a read gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the database ({0}): check the disk; if it stays, restore a backup")]
    Sql(#[from] rusqlite::Error),
    #[error("a stored {table} row is not valid ({detail}): restore a backup")]
    Row { table: &'static str, detail: String },
    #[error("cannot write {path} ({detail}): check the path and the disk")]
    Backup { path: PathBuf, detail: String },
    #[error("cannot read facts.db ({0}): check the disk; if it stays, {go}", go = FACTS_MAY_GO)]
    Facts(String),
}

impl ReadError {
    /// The same of `facts.db`, which holds nothing that cannot be lost.
    pub(crate) fn of_facts(self) -> Self {
        match self {
            Self::Sql(error) => Self::Facts(error.to_string()),
            Self::Row { table, detail } => Self::Facts(format!("{table} row: {detail}")),
            other => other,
        }
    }

    pub(crate) fn row(table: &'static str, detail: impl ToString) -> Self {
        Self::Row {
            table,
            detail: detail.to_string(),
        }
    }
}
