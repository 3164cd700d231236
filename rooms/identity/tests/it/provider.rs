//! What a provider says of itself.

use identity::person::provider::{METADATA_BYTES_MAX, Metadata, MetadataRefusal};
use serde_json::{Value, json};

const ISSUER: &str = "https://login.example.com";

/// With these members in place of the good ones; `null` takes one away.
fn read(other: Value) -> Result<Metadata, MetadataRefusal> {
    let mut said = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://login.example.com/auth",
        "token_endpoint": "https://login.example.com/token",
        "jwks_uri": "https://login.example.com/keys",
        "authorization_response_iss_parameter_supported": true,
        "end_session_endpoint": "https://login.example.com/out",
        "response_types_supported": ["code"],
    });
    for (name, value) in other.as_object().unwrap() {
        match value {
            Value::Null => drop(said.as_object_mut().unwrap().remove(name)),
            value => said[name] = value.clone(),
        }
    }
    Metadata::read(said.to_string().as_bytes(), ISSUER)
}

#[test]
fn what_is_needed_is_read_and_the_rest_is_passed_over() {
    let whole = read(json!({})).unwrap();
    assert_eq!(whole.token_endpoint, "https://login.example.com/token");
    assert!(whole.names_itself);
    let there = whole.end_session_endpoint.as_deref();
    assert_eq!(there, Some("https://login.example.com/out"));
    let less = json!({
        "authorization_response_iss_parameter_supported": null, "end_session_endpoint": null,
    });
    let less = read(less).unwrap();
    assert!(!less.names_itself && less.end_session_endpoint.is_none());
}

#[test]
fn a_provider_that_calls_itself_otherwise_is_another() {
    for issuer in [
        "https://login.example.com/",
        "https://Login.example.com",
        "http://login.example.com",
        "",
    ] {
        let refused = read(json!({ "issuer": issuer }));
        assert_eq!(refused, Err(MetadataRefusal::OtherIssuer), "{issuer}");
    }
}

#[test]
fn what_is_no_provider_is_refused_without_a_fall() {
    let malformed = Err(MetadataRefusal::Malformed);
    for missing in [
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
    ] {
        assert_eq!(read(json!({ missing: null })), malformed, "{missing}");
        assert_eq!(read(json!({ missing: 7 })), malformed, "{missing}");
    }
    let end = read(json!({ "end_session_endpoint": ["https://login.example.com/out"] }));
    assert_eq!(end, malformed);
    let long = "x".repeat(METADATA_BYTES_MAX);
    assert_eq!(read(json!({ "more": long })), malformed);
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "<html>",
        r#"{"issuer":"a","issuer":"a"}"#,
    ] {
        assert_eq!(Metadata::read(text.as_bytes(), ISSUER), malformed, "{text}");
    }
}
