//! The last lines of a plan: what of the recorded traffic it would refuse.

use crate::show::escaped;
use serde_json::Value;

/// Told apart on a terminal; `--output json` has all of them.
const LINES_MAX: usize = 20;

pub fn lines(planned: &Value) -> Vec<String> {
    let Some(traffic) = planned.pointer("/traffic") else {
        return Vec::new();
    };
    let number = |at: &str| traffic.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    let days = number("/days");
    if days == 0 {
        return vec![
            "No message is recorded yet: what this would refuse of the traffic cannot be told."
                .to_owned(),
        ];
    }
    let days = format!("{days} day{}", if days == 1 { "" } else { "s" });
    let sent = number("/sent/messages");
    let refused = number("/sent/refused");
    let mut all = vec![match refused {
        0 => format!("Of {sent} recorded messages in {days}, none would be refused."),
        _ => format!(
            "Of {sent} recorded messages in {days}, {refused} would be refused, from about {} \
             device(s):",
            number("/sent/devices")
        ),
    }];
    let lines = traffic.pointer("/lines").and_then(Value::as_array);
    let lines: Vec<&Value> = lines.into_iter().flatten().collect();
    let (told, more) = lines.split_at(lines.len().min(LINES_MAX));
    all.extend(told.iter().map(|line| format!("  {}", line_text(line))));
    let more = more.len() as u64 + number("/left_out");
    if more > 0 {
        all.push(format!(
            "  and {more} more kinds; `--output json` lists 100"
        ));
    }
    let withheld = number("/heard/refused");
    if withheld > 0 {
        all.push(format!(
            "Of {} deliveries, {withheld} would be withheld.",
            number("/heard/messages")
        ));
    }
    let undecided = number("/sent/undecided") + number("/heard/undecided");
    if undecided > 0 {
        all.push(format!(
            "Of {undecided} more some would be, and counts cannot say how many."
        ));
    }
    let untold = number("/untold");
    if untold > 0 {
        all.push(format!(
            "{untold} messages were of more kinds than a day tells apart, and are not among these."
        ));
    }
    all
}

/// `120 publish to v1/camera/{device}/thumbnail, its own, by product camera: forbidden (policy x), about
/// 3 devices, as cam-1`.
fn line_text(line: &Value) -> String {
    let text = |at| line.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let number = |at| line.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    let way = match text("/action") {
        "publish" => "sent to",
        _ => "heard of",
    };
    let whose = if line.pointer("/own") == Some(&Value::Bool(true)) {
        "its own "
    } else {
        ""
    };
    let why = match text("/reason") {
        "topics-change" => "its topics change, some may pass".to_owned(),
        "some-too-large" => "the largest would be too large".to_owned(),
        reason => match text("/policy") {
            "" => reason.to_owned(),
            policy => format!("{reason} (policy {policy})"),
        },
    };
    let examples = line.pointer("/examples").and_then(Value::as_array);
    let examples: Vec<&str> = (examples.into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let devices = match (number("/devices"), examples.as_slice()) {
        (0, _) => String::new(),
        (count, []) => format!(", about {count} device(s)"),
        (count, some) => format!(", about {count} device(s), as {}", some.join(", ")),
    };
    escaped(&format!(
        "{} {way} {whose}{} by {}: {why}{devices}",
        number("/messages"),
        text("/topics"),
        text("/kind"),
    ))
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_lines_say_how_many_of_whom_and_why() {
        let planned = json!({ "traffic": {
            "days": 30, "untold": 0, "left_out": 2,
            "sent": { "messages": 12_345, "refused": 120, "undecided": 7, "devices": 3 },
            "heard": { "messages": 900, "refused": 0, "undecided": 0, "devices": 0 },
            "lines": [{
                "kind": "product camera", "topics": "v1/{device}/thumb\u{1b}[2J", "action": "publish",
                "own": true, "messages": 120, "devices": 3, "examples": ["cam-1", "cam-2"],
                "reason": "forbidden", "policy": "thumbnails-are-beta",
            }],
        }});
        let said = lines(&planned).join("\n");
        assert_eq!(
            said,
            "Of 12345 recorded messages in 30 days, 120 would be refused, from about 3 device(s):\n  \
             120 sent to its own v1/{device}/thumb\\u{1b}[2J by product camera: forbidden (policy \
             thumbnails-are-beta), about 3 device(s), as cam-1, cam-2\n  and 2 more kinds; `--output \
             json` lists 100\nOf 7 more some would be, and counts cannot say how many."
        );
        let nothing = lines(&json!({ "traffic": { "days": 0 } })).join("");
        assert!(
            nothing.starts_with("No message is recorded yet"),
            "{nothing}"
        );
    }
}
