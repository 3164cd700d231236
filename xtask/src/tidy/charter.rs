//! Every crate opens with its question, what goes in and out, and what it refuses to know.

use super::Finding;
use super::tree::Tree;

const HEADINGS: [&str; 4] = ["**Question", "**In:", "**Out:", "**Refuses"];

pub fn guard(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|(file, _)| file.path.ends_with("/src/lib.rs") && !file.path.starts_with("xtask/"))
        .flat_map(|(file, _)| {
            let opening: String = file
                .text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .collect();
            HEADINGS
                .iter()
                .filter(move |heading| !opening.contains(**heading))
                .map(|heading| Finding {
                    rule: "a crate opens with its question",
                    path: file.path.clone(),
                    line: 1,
                    what: heading.trim_matches(['*', ':']).to_owned(),
                    reason: "who knows the question knows what belongs here and what does not",
                    fix: format!("open with //! {heading}.. as words/model/src/lib.rs does"),
                })
                .collect::<Vec<_>>()
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
        assert_eq!(missing, ["Question", "Refuses"]);
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
