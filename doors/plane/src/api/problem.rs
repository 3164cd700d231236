//! The edge: every trouble becomes one status and one problem+json (RFC 9457).

use crate::trouble::Trouble;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use identity::Refusal;
use serde::Serialize;
use store::CommitError;
use utoipa::ToSchema;

/// What a refused request is answered with.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub body: ProblemBody,
    retry_after_seconds: Option<u32>,
}

/// problem+json.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    pub status: u16,
    /// Stays the same over versions: match on it.
    pub code: &'static str,
    /// What happened, who must act and how.
    pub detail: String,
    /// `device`, `operator`, `manufacturer` or `fleetward`, where one is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who_must_act: Option<&'static str>,
    /// One line each: where in a fleet or list it is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            body: ProblemBody {
                status: status.as_u16(),
                code,
                detail: detail.into(),
                who_must_act: None,
                errors: Vec::new(),
            },
            retry_after_seconds: None,
        }
    }

    pub(super) fn set_status(&mut self, status: StatusCode) {
        self.status = status;
        self.body.status = status.as_u16();
    }

    pub fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.body.errors = errors;
        self
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}

/// Whoever asks comes too often.
pub(super) fn too_often(text: impl Into<String>, seconds: u32) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-exceeded", text).retry_after(seconds)
}

/// Why a request was refused, beside the answer: for whoever watches.
#[derive(Debug, Clone, Copy)]
pub struct Code(pub &'static str);

/// A status that the framework answered by itself.
pub(super) fn of_status(status: StatusCode) -> Problem {
    let (code, text) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ("body-refused", "the body is too large"),
        StatusCode::SERVICE_UNAVAILABLE => (
            "too-slow",
            "it took too long and was given up; look what was done before you repeat it",
        ),
        status if status.is_server_error() => ("fault", "a fault of ours; the plane's log has it"),
        _ => ("request-refused", "this request cannot be answered"),
    };
    let problem = Problem::new(status, code, text);
    match status {
        StatusCode::SERVICE_UNAVAILABLE => problem.retry_after(10),
        _ => problem,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(target: "api", "{}", self.body.detail);
        }
        let code = Code(self.body.code);
        let json = serde_json::to_vec(&self.body).unwrap_or_default();
        let mut response = super::bytes("application/problem+json", json);
        *response.status_mut() = self.status;
        response.extensions_mut().insert(code);
        if let Some(seconds) = self.retry_after_seconds {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::TokenUnknown => StatusCode::UNAUTHORIZED,
            Refusal::TokenThrottled => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::FORBIDDEN,
        };
        let mut problem = Self::new(status, refusal.code(), refusal.to_string());
        if status == StatusCode::TOO_MANY_REQUESTS {
            problem = problem.retry_after(60);
        }
        problem.body.who_must_act = Some(refusal.who_must_act().name());
        problem
    }
}

impl From<store::ReadError> for Problem {
    fn from(error: store::ReadError) -> Self {
        Trouble::from(error).into()
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        let detail = trouble.to_string();
        match trouble {
            Trouble::Identity(refusal) => refusal.into(),
            Trouble::Ownership(refusal) => {
                let mut problem = Self::new(StatusCode::CONFLICT, refusal.code(), detail);
                problem.body.who_must_act = Some(refusal.who_must_act().name());
                problem
            }
            Trouble::Request(refusal) => Self::new(StatusCode::BAD_REQUEST, refusal.code(), detail),
            Trouble::Est(refusal) => {
                let status =
                    StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
                Self::new(status, refusal.code(), detail)
            }
            Trouble::Refused { code, .. } => Self::new(StatusCode::CONFLICT, code, detail),
            Trouble::Stale { code, .. } => Self::new(StatusCode::PRECONDITION_FAILED, code, detail),
            Trouble::Forbidden { code, .. } => Self::new(StatusCode::FORBIDDEN, code, detail),
            Trouble::Later {
                code,
                seconds,
                too_often,
                ..
            } => {
                let status = if too_often {
                    StatusCode::TOO_MANY_REQUESTS
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                Self::new(status, code, detail).retry_after(seconds)
            }
            Trouble::Moved { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "moved", detail),
            Trouble::Unknown { code, .. } => Self::new(StatusCode::NOT_FOUND, code, detail),
            Trouble::Fleet(diagnostics) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "fleet-refused", detail)
                    .with_errors(diagnostics.iter().map(ToString::to_string).collect())
            }
            Trouble::GrantingStopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "granting-stopped", detail)
                    .retry_after(5)
            }
            Trouble::InForceUnrecorded(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "in-force-unrecorded",
                detail,
            ),
            Trouble::Commit(error) => commit(&error, detail),
            Trouble::Fault(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", detail),
        }
    }
}

fn commit(error: &CommitError, detail: String) -> Problem {
    match error {
        CommitError::Guard(_) | CommitError::Conflict { .. } | CommitError::KeyReused => {
            Problem::new(StatusCode::CONFLICT, "conflict", detail)
        }
        CommitError::Sealed { .. } => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "sealed", detail).retry_after(60)
        }
        CommitError::Busy => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(1)
        }
        CommitError::Closed => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closing", detail).retry_after(5)
        }
        CommitError::DiskFull { .. } | CommitError::Io { .. } | CommitError::Damaged { .. } => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "storage", detail).retry_after(10)
        }
        CommitError::Invalid { .. } => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", detail)
        }
    }
}
