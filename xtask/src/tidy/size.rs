//! How long a file and a function may be.

use super::Finding;
use super::source::functions;
use super::tree::Tree;

const FILE_LINES_MAX: usize = 900;
const FUNCTION_LINES_MAX: usize = 120;
/// A test may tell one long story, or hold its table.
const TEST_LINES_MAX: usize = 200;

pub fn guard(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .flat_map(|(file, views)| {
            let lines = file.text.lines().count();
            let long_file = (lines > FILE_LINES_MAX).then(|| Finding {
                rule: "size of files",
                path: file.path.clone(),
                line: FILE_LINES_MAX,
                what: format!("{lines} lines"),
                reason: "what does not fit one reading is not reviewed",
                fix: format!("split it by question, under {FILE_LINES_MAX} lines each"),
            });
            let in_product: Vec<_> = if file.is_test {
                Vec::new()
            } else {
                functions(&views.product)
            };
            let long_functions = functions(&views.code).into_iter().filter_map(|function| {
                let max = if in_product.contains(&function) {
                    FUNCTION_LINES_MAX
                } else {
                    TEST_LINES_MAX
                };
                let (line, name, lines) = function;
                (lines > max).then(|| Finding {
                    rule: "size of functions",
                    path: file.path.clone(),
                    line,
                    what: name,
                    reason: "a function is one thought",
                    fix: format!("{lines} lines: split it, or turn it into a table, under {max}"),
                })
            });
            long_file
                .into_iter()
                .chain(long_functions)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<&'static str> {
        guard(&Tree::of(&[("rooms/x/src/lib.rs", text)]))
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn a_long_file_and_a_long_function_are_found() {
        assert_eq!(rules(&"\n".repeat(FILE_LINES_MAX + 1)), ["size of files"]);
        let body = "let x = '{';\n".repeat(FUNCTION_LINES_MAX);
        assert_eq!(
            rules(&format!("fn f() {{\n{body}}}")),
            ["size of functions"]
        );
    }

    #[test]
    fn what_just_fits_is_spared() {
        assert_eq!(rules(&"\n".repeat(FILE_LINES_MAX)), Vec::<&str>::new());
        let body = "x();\n".repeat(FUNCTION_LINES_MAX - 2);
        assert_eq!(rules(&format!("fn f() {{\n{body}}}")), Vec::<&str>::new());
    }

    #[test]
    fn a_test_may_be_longer_but_not_endless() {
        let test = |lines| {
            let body = "x();\n".repeat(lines);
            rules(&format!(
                "#[cfg(test)]\nmod tests {{\nfn f() {{\n{body}}}\n}}"
            ))
        };
        assert_eq!(test(FUNCTION_LINES_MAX + 1), Vec::<&str>::new());
        assert_eq!(test(TEST_LINES_MAX + 1), ["size of functions"]);
    }
}
