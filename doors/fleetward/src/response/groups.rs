//! `fleetward response contain --group …` and its undoing.

use crate::ask;
use crate::client::{Ask, Client};
use crate::show::{self, Column, Output, escaped};
use anyhow::bail;
use model::{Containment, GroupContainmentId, GroupId, ProductId};
use serde_json::{Value, json};
use std::io::IsTerminal;

pub const LISTED: [Column; 9] = [
    ("act", "/id"),
    ("target", "/target"),
    ("containment", "/containment"),
    ("devices", "/devices"),
    ("at", "/at"),
    ("by", "/by"),
    ("reason", "/reason"),
    ("undone", "/restored_at"),
    ("undone by", "/restored_by"),
];

const MEANT: [Column; 8] = [
    ("target", "/target"),
    ("containment", "/containment"),
    ("devices", "/devices"),
    ("cut off already", "/already"),
    ("sessions", "/sessions_touched"),
    ("more than playbooks may", "/is_many"),
    ("takes away", "/takes_away/channels"),
    ("and outside", "/takes_away/destinations"),
];

const DONE: [Column; 9] = [
    ("act", "/group_containment"),
    ("target", "/target"),
    ("containment", "/containment"),
    ("devices", "/devices"),
    ("cut off already", "/already"),
    ("sessions touched", "/sessions_touched"),
    ("in force after µs", "/in_force_after_micros"),
    ("recorded after µs", "/recorded_after_micros"),
    ("entry", "/entry"),
];

const WAITING: [Column; 3] = [
    ("waits for another person", "/proposal"),
    ("act", "/act_sha256"),
    ("until", "/expires_at"),
];

const BACK: [Column; 6] = [
    ("target", "/target"),
    ("was", "/was"),
    ("devices", "/devices"),
    ("gives back", "/gives_back/channels"),
    ("and outside", "/gives_back/destinations"),
    ("stay cut off", "/kept_count"),
];

const RESTORED: [Column; 7] = [
    ("target", "/target"),
    ("was", "/was"),
    ("devices", "/devices"),
    ("gave back", "/gives_back/channels"),
    ("and outside", "/gives_back/destinations"),
    ("stay cut off", "/kept_count"),
    ("entry", "/entry"),
];

/// Names on a terminal; all that are told are in `--output json`.
const NAMED_MAX: usize = 20;

/// Who is meant, how far they are cut off, and why.
pub struct Containing<'a> {
    pub group: Option<&'a GroupId>,
    pub product: Option<&'a ProductId>,
    pub containment: Containment,
    pub reason: Option<&'a str>,
}

impl Containing<'_> {
    /// Shows whom it means; then does it to those and to no others.
    pub fn run(
        &self,
        output: Output,
        client: &mut Client,
        dry_run: bool,
        yes: bool,
    ) -> anyhow::Result<()> {
        let meant = self.ask(client, None)?;
        if dry_run {
            show::fields(output, &meant, &MEANT)?;
            return say_names(output, &meant, "/names", "/devices");
        }
        let how = self.containment.name();
        if !yes {
            if !std::io::stdin().is_terminal() {
                bail!("nobody was cut off: there is no terminal to ask on; say --yes");
            }
            show::fields(Output::Table, &meant, &MEANT)?;
            say_names(Output::Table, &meant, "/names", "/devices")?;
            let target = meant.pointer("/target").and_then(Value::as_str);
            let target = escaped(target.unwrap_or_default());
            if !ask::yes(&format!("Have all of {target} {how}?"))? {
                bail!("nobody was cut off");
            }
        }
        let shown = meant.pointer("/shown").and_then(Value::as_str);
        let done = self.ask(client, Some(shown.unwrap_or_default()))?;
        match done.pointer("/proposal") {
            Some(_) => show::fields(output, &done, &WAITING),
            None => show::fields(output, &done, &DONE),
        }
    }

    /// `shown`: whom to do it to; without it, only who that would be.
    fn ask(&self, client: &mut Client, shown: Option<&str>) -> anyhow::Result<Value> {
        let dry_run = shown.is_none();
        let path = format!("/api/v1/response/group-containments?dry_run={dry_run}");
        let mut body = json!({
            "containment": self.containment.name(),
            "reason": self.reason.unwrap_or("dry run"),
        });
        let asked = [
            ("group", self.group.map(GroupId::as_str)),
            ("product", self.product.map(ProductId::as_str)),
            ("shown", shown),
        ];
        for (key, value) in asked {
            if let (Some(fields), Some(value)) = (body.as_object_mut(), value) {
                fields.insert(key.to_owned(), value.into());
            }
        }
        client.json(Ask::post(&path).json(&body))
    }
}

/// Undoes an act; shows before what that gives back.
pub fn restore(
    output: Output,
    client: &mut Client,
    act: &GroupContainmentId,
    reason: Option<&str>,
    dry_run: bool,
    yes: bool,
) -> anyhow::Result<()> {
    let mut ask = |dry_run: bool| {
        let path = format!("/api/v1/response/group-containments/{act}?dry_run={dry_run}");
        let body = json!({ "reason": reason.unwrap_or("dry run") });
        client.json(Ask::delete(&path).json(&body))
    };
    let gives = ask(true)?;
    if dry_run {
        show::fields(output, &gives, &BACK)?;
        return say_names(output, &gives, "/names", "/devices");
    }
    if !yes {
        if !std::io::stdin().is_terminal() {
            bail!("nothing was given back: there is no terminal to ask on; say --yes");
        }
        show::fields(Output::Table, &gives, &BACK)?;
        say_names(Output::Table, &gives, "/names", "/devices")?;
        if !ask::yes(&format!("Undo {act}?"))? {
            bail!("nothing was given back");
        }
    }
    show::fields(output, &ask(false)?, &RESTORED)
}

fn say_names(output: Output, of: &Value, names: &str, count: &str) -> anyhow::Result<()> {
    if output == Output::Json {
        return Ok(());
    }
    let names = of.pointer(names).and_then(Value::as_array);
    let names: Vec<String> = (names.into_iter().flatten())
        .filter_map(Value::as_str)
        .take(NAMED_MAX)
        .map(escaped)
        .collect();
    if names.is_empty() {
        return show::line("\nno device");
    }
    let count = of.pointer(count).and_then(Value::as_u64).unwrap_or(0);
    let more = count.saturating_sub(names.len() as u64);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    show::line(&format!("\n{}{more}", names.join(", ")))
}
