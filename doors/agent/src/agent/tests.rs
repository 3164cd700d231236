use super::link::containment_of;
use model::Containment;

#[test]
fn what_the_plane_says_about_containment() {
    let said = |text: &str| containment_of(text.as_bytes());
    assert_eq!(said(r#"{"containment":null}"#), Some(None));
    assert_eq!(
        said(r#"{"containment":"quarantined","incident":"INC-1"}"#),
        Some(Some(Containment::Quarantined))
    );
    for text in [
        "",
        "null",
        "{}",
        "[]",
        r#"{"containment":1}"#,
        r#"{"containment":"x"}"#,
    ] {
        assert_eq!(said(text), None, "{text}");
    }
}
