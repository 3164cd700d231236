//! Every crate opens with its question, what goes in and out, and what it refuses to know.

use super::Finding;
use super::tree::Tree;

const HEADINGS: [&str; 4] = ["**Question", "**In:", "**Out:", "**Refuses"];

pub fn guard(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|(file, _)| file.path.ends_with("/src/lib.rs") && !file.path.starts_with("xtask/"))
        .filter_map(|(file, _)| {
            let opening: String = file
                .text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .collect();
            let missing: Vec<&str> = HEADINGS
                .iter()
                .filter(|heading| !opening.contains(**heading))
                .map(|heading| heading.trim_matches(['*', ':']))
                .collect();
            (!missing.is_empty()).then(|| Finding {
                rule: "a crate opens with its question",
                path: file.path.clone(),
                line: 1,
                what: missing.join(", "),
                reason: "who knows the question knows what belongs here and what does not",
                fix: "open with //! **Question:** **In:** **Out:** **Refuses to know:** as \
                      words/model/src/lib.rs does"
                    .to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_its_question_is_found() {
        let missing: Vec<String> = guard(&Tree::of(&[(
            "rooms/x/src/lib.rs",
            "//! X.\n//! **In:** a. **Out:** b.\nfn f() {} // **Question:**",
        )]))
        .into_iter()
        .map(|finding| finding.what)
        .collect();
        assert_eq!(missing, ["Question, Refuses"]);
    }

    #[test]
    fn the_style_of_model_is_spared() {
        let text = "//! X.\n//!\n//! **Question:** which?\n//! **In:** a. **Out:** b.\n\
                    //! **Refuses to know:** c.\n";
        assert!(
            guard(&Tree::of(&[
                ("rooms/x/src/lib.rs", text),
                ("rooms/x/src/a.rs", "")
            ]))
            .is_empty()
        );
    }
}
