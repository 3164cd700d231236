//! The JSON Schema of `fleet/playbooks/*.toml`, for editors that complete and check while one types.

use crate::playbook::{
    CONTAIN_MAX_MAX, Mode, PLAYBOOKS_MAX, SECONDS_MAX, STEPS_MAX, WITHIN_SECONDS_MAX,
};
use model::{DeviationKind, Severity};
use serde_json::{Value, json};

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

/// What of a playbook can be said of each of its values alone.
#[must_use]
pub fn json_schema() -> Value {
    let kinds = DeviationKind::ALL.map(DeviationKind::name);
    let seconds = json!({ "type": "integer", "minimum": 0, "maximum": SECONDS_MAX });
    let of_kinds = json!({ "type": "integer", "minimum": 1, "maximum": kinds.len() });
    let step = json!({
        "type": "object",
        "required": ["action"],
        "properties": {
            "action": { "enum": ["quarantine", "isolate", "revoke", "notify"] },
            "to": { "type": "string", "pattern": NAME, "description": "Of notify: the receiver" },
            "after_seconds": seconds,
            "when_kinds_min": of_kinds,
        },
        "additionalProperties": false,
        "if": { "properties": { "action": { "const": "notify" } } },
        "then": { "required": ["to"] },
        "else": { "not": { "required": ["to"] } },
    });
    let playbook = json!({
        "type": "object",
        "required": ["kinds", "steps"],
        "properties": {
            "description": { "type": "string", "maxLength": 200 },
            "mode": {
                "enum": Mode::ALL.map(Mode::name),
                "description": "observe: say what would have been done; enforce: do it",
            },
            "kinds": {
                "type": "array",
                "items": { "enum": kinds },
                "minItems": 1,
                "uniqueItems": true,
                "description": "Which deviations count",
            },
            "kinds_min": of_kinds,
            "outside_min": {
                "type": "integer", "minimum": 0, "maximum": kinds.len(),
                "description": "How many of them somebody other than the device saw",
            },
            "severity_min": { "enum": Severity::ALL.map(Severity::name) },
            "within_seconds": { "type": "integer", "minimum": 1, "maximum": WITHIN_SECONDS_MAX },
            "contain_max": {
                "type": "integer", "minimum": 1, "maximum": CONTAIN_MAX_MAX,
                "description": "Devices an hour; above it a person decides",
            },
            "steps": { "type": "array", "items": step, "minItems": 1, "maxItems": STEPS_MAX },
        },
        "additionalProperties": false,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Fleetward: playbooks/*.toml",
        "type": "object",
        "maxProperties": PLAYBOOKS_MAX,
        "propertyNames": { "pattern": NAME },
        "additionalProperties": playbook,
    })
}
