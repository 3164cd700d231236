//! The chapter `docs/mqtt.md` lists what the code refuses, all of it and nothing else.

#[test]
fn the_chapter_lists_every_refusal() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mqtt.md");
    let chapter = std::fs::read_to_string(path).expect("docs/mqtt.md");
    let rows: Vec<String> = mqtt::RULES
        .iter()
        .map(|(_, rule)| format!("| 0x{:02x} | {} |", rule.reason.0, rule.rule))
        .collect();
    for row in &rows {
        assert!(
            chapter.contains(row.as_str()),
            "docs/mqtt.md lacks the row\n{row}"
        );
    }
    let listed = chapter
        .lines()
        .filter(|line| line.starts_with("| 0x"))
        .count();
    assert_eq!(
        listed,
        rows.len(),
        "docs/mqtt.md lists refusals that do not exist"
    );
}
