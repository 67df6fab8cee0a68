//! Words that no file of the repository may hold: unfinished work without an issue, and places that only exist on the
//! machine of whoever wrote the file.

use super::{Finding, Tree};

/// One forbidden word. Words are put together from halves here, so that this file does not hold them either.
struct Word {
    rule: &'static str,
    text: &'static str,
    why: &'static str,
}

const WORDS: &[Word] = &[
    Word { rule: "unfinished", text: concat!("TO", "DO"), why: "do it, or write the issue and name it" },
    Word { rule: "unfinished", text: concat!("FIX", "ME"), why: "repair it, or write the issue and name it" },
    Word { rule: "unfinished", text: concat!("XX", "X"), why: "say what is wrong, or repair it" },
    Word { rule: "place", text: concat!("/wo", "rk/"), why: "a path of one machine" },
    Word { rule: "place", text: concat!("share", "d/"), why: "a folder that the repository does not have" },
    Word { rule: "place", text: concat!("/ro", "ot/"), why: "a path of one machine" },
    Word { rule: "place", text: concat!("/ho", "me/"), why: "a path of one machine" },
    Word { rule: "registry", text: concat!("index.crate", "s.io"), why: "registries are named by their clients" },
    Word { rule: "registry", text: concat!("static.crate", "s.io"), why: "registries are named by their clients" },
    Word { rule: "registry", text: concat!("pypi", ".org"), why: "registries are named by their clients" },
    Word { rule: "registry", text: concat!("pythonhosted", ".org"), why: "registries are named by their clients" },
    Word { rule: "registry", text: concat!("registry.npmj", "s"), why: "registries are named by their clients" },
    Word { rule: "registry", text: concat!("proxy.gola", "ng"), why: "registries are named by their clients" },
    Word { rule: "registry", text: concat!("deb.debi", "an"), why: "registries are named by their clients" },
    Word { rule: "registry", text: concat!("repo1.mav", "en"), why: "registries are named by their clients" },
];

/// Findings about the words of every file. A word counts only where no letter, digit or path goes on before or after.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree {
        for (at, line) in text.lines().enumerate() {
            for word in WORDS.iter().filter(|word| stands_alone(line, word.text)) {
                findings.push(Finding {
                    path: path.clone(),
                    line: at + 1,
                    rule: word.rule,
                    item: word.text.to_owned(),
                    text: format!("{}: {}", word.text, word.why),
                });
            }
        }
    }
    findings
}

/// Whether the word occurs with an end before it, and after it too unless it ends in a slash.
fn stands_alone(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let starts = !before.is_some_and(|c| part_of_name(c) || (word.ends_with('/') && c == '.'));
        let ends = word.ends_with('/') || !after.is_some_and(|c| c.is_alphanumeric() || c == '_');
        starts && ends
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{brief, tree};
    use super::*;

    #[test]
    fn each_word_is_found_where_it_stands_alone() {
        for word in WORDS {
            let text = format!("first\n# {} x\n", word.text);
            assert_eq!(brief(&check(&tree(&[("a.md", &text)]))), [format!("a.md:2: {}", word.rule)]);
        }
    }

    #[test]
    fn a_word_inside_another_is_not_found() {
        let text = concat!("MASTO", "DON net", "work/x un", "share", "d/x");
        assert_eq!(check(&tree(&[("a.md", text)])), Vec::<Finding>::new());
    }
}
