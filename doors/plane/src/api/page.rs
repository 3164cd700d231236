//! Lists in pages: the body stays a list, and the `Link` header leads to the rows behind it
//! (RFC 8288).

use super::Problem;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

const ROWS_MAX: usize = 1000;

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// As the `Link` header of the page before says it; nothing else is one.
    after: Option<String>,
    /// 1 to 1000, 1000 if absent.
    limit: Option<usize>,
}

/// Rows, and where the next ones are.
pub struct Rows<T> {
    rows: Vec<T>,
    next: Option<String>,
}

impl Page {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX)
    }

    /// What the last row of the page before was.
    ///
    /// # Errors
    /// It is no cursor of ours.
    pub fn after(&self) -> Result<Option<String>, Problem> {
        let Some(text) = &self.after else {
            return Ok(None);
        };
        let key = URL_SAFE_NO_PAD.decode(text).ok();
        let key = key.and_then(|bytes| String::from_utf8(bytes).ok());
        key.map(Some).ok_or_else(stale)
    }

    /// A page of rows that are all in memory. `key` names a row and no other.
    ///
    /// # Errors
    /// The row after which it should begin is not there.
    pub fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String) -> Result<Rows<T>, Problem> {
        if let Some(after) = self.after()? {
            let last = rows.iter().position(|row| key(row) == after);
            rows.drain(..=last.ok_or_else(stale)?);
        }
        let limit = self.limit();
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| !is_last).map(key);
        Ok(Rows { rows, next })
    }
}

impl<T> Rows<T> {
    /// Those that were read, `limit` of them if there may be more.
    pub fn read(page: &Page, rows: Vec<T>, key: impl Fn(&T) -> String) -> Self {
        let is_full = rows.len() >= page.limit();
        let next = rows.last().filter(|_| is_full).map(key);
        Self { rows, next }
    }

    pub fn map<U>(self, shown: impl FnMut(T) -> U) -> Rows<U> {
        Rows {
            rows: self.rows.into_iter().map(shown).collect(),
            next: self.next,
        }
    }
}

impl<T: Serialize> IntoResponse for Rows<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.rows).into_response();
        let next = self.next.map(|key| {
            let after = URL_SAFE_NO_PAD.encode(key);
            format!("<?after={after}>; rel=\"next\"")
        });
        if let Some(link) = next.and_then(|link| HeaderValue::from_str(&link).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

fn stale() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "cursor-refused",
        "after is what the Link header of the page before says; begin anew without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: Option<&str>, limit: usize) -> Page {
        Page {
            after: after.map(str::to_owned),
            limit: Some(limit),
        }
    }

    #[test]
    fn pages_hold_each_row_once_and_end() {
        for limit in 1..=11 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let all = (0..10).collect();
                let asked = page(after.as_deref(), limit);
                let rows = asked.cut(all, |row: &u32| format!("p-{row}")).unwrap();
                assert!(rows.rows.len() <= limit);
                seen.extend(rows.rows);
                after = rows.next.map(|key| URL_SAFE_NO_PAD.encode(key));
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (0..10).collect::<Vec<u32>>(), "{limit}");
        }
        // A name that somebody made up, and one that is gone, are told from the end of a list.
        for after in ["p-3", "%", "cC0xMDA"] {
            let cut = page(Some(after), 1).cut(vec![1, 2], |row: &u32| format!("p-{row}"));
            assert!(cut.is_err(), "{after}");
        }
    }
}
