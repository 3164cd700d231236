//! `/`: the console's files, embedded when the plane was built. Open to everybody: they hold no
//! secret, and whoever has not signed in gets no data.

use super::{Shared, bytes};
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

struct File {
    path: &'static str,
    media_type: &'static str,
    /// Of its content.
    tag: &'static str,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/console.rs"));

const INDEX: &str = "/index.html";

/// Nothing inline, nothing from elsewhere, nobody frames it: a text that slipped through as markup
/// still could not act.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Fleetward</title></head>
<body>
<main>
<h1>The console is not in this build</h1>
<p>The plane is running. To have its console, run <code>cargo xtask console</code>, which needs
Node.js, then build the plane again. The command line does the same things:
<code>fleetward --help</code>.</p>
</main>
</body>
</html>
";

/// One route a file; everything else stays what it is without a console.
pub fn router() -> Router<Shared> {
    FILES
        .iter()
        .map(|file| file.path)
        .filter(|path| *path != INDEX)
        .fold(Router::new().route("/", get(index)), |router, path| {
            router.route(path, get(asset))
        })
}

async fn index(headers: HeaderMap) -> Response {
    match find(INDEX) {
        Some(file) => answer(file, &headers),
        None => with(
            bytes("text/html; charset=utf-8", NOT_BUILT.into()),
            "no-cache",
            None,
        ),
    }
}

async fn asset(uri: Uri, headers: HeaderMap) -> Response {
    find(uri.path()).map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |file| answer(file, &headers),
    )
}

fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

fn answer(file: &File, headers: &HeaderMap) -> Response {
    // The bundler puts a hash of the content into the names of what it makes.
    let caching = if file.path.starts_with("/assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == file.tag);
    let response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        bytes(file.media_type, file.bytes.to_vec())
    };
    with(response, caching, Some(file.tag))
}

fn with(mut response: Response, caching: &'static str, tag: Option<&'static str>) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    if let Some(tag) = tag {
        headers.insert(header::ETAG, HeaderValue::from_static(tag));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(response: &Response, name: header::HeaderName) -> &str {
        response
            .headers()
            .get(name)
            .map_or("", |v| v.to_str().unwrap())
    }

    const FILE: File = File {
        path: "/assets/index-1a2b.js",
        media_type: "text/javascript; charset=utf-8",
        tag: "\"0011\"",
        bytes: b"1",
    };

    #[test]
    fn no_answer_lets_a_page_run_what_is_inline_or_from_elsewhere() {
        let page = answer(&FILE, &HeaderMap::new());
        let policy = header_of(&page, header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        for loose in ["unsafe", "http:", "https:", "*", "script-src 'self' data:"] {
            assert!(!policy.contains(loose), "{loose}");
        }
        assert!(!NOT_BUILT.contains("style=") && !NOT_BUILT.contains("<script"));
    }

    #[test]
    fn a_file_with_a_hash_in_its_name_is_kept_and_the_page_is_asked_for_again() {
        let page = answer(&FILE, &HeaderMap::new());
        assert!(header_of(&page, header::CACHE_CONTROL).ends_with("immutable"));
        let index = File {
            path: INDEX,
            ..FILE
        };
        let page = answer(&index, &HeaderMap::new());
        assert_eq!(header_of(&page, header::CACHE_CONTROL), "no-cache");
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, "W/\"77\", \"0011\"".parse().unwrap());
        let page = answer(&FILE, &headers);
        assert_eq!(page.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header_of(&page, header::ETAG), FILE.tag);
        headers.insert(header::IF_NONE_MATCH, "\"0012\"".parse().unwrap());
        assert_eq!(answer(&FILE, &headers).status(), StatusCode::OK);
    }

    #[test]
    fn every_embedded_file_is_one_that_the_page_may_load() {
        for file in FILES {
            assert!(file.path.starts_with('/') && !file.path.contains(['{', '}', '*', ' ']));
            assert!(!file.path.ends_with(".map"), "{}", file.path);
        }
    }
}
