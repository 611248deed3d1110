//! Mutated manifests: whatever stands in a file, the checks end and say where.

use proptest::prelude::*;

use crate::manifest::tests::{lint, right_manifests, wrong_manifests};

fn corpus() -> Vec<String> {
    right_manifests().into_iter().chain(wrong_manifests().into_values()).collect()
}

/// What manifests are made of.
const TOKENS: [&str; 40] = [
    "name",
    "uses",
    "$(",
    ")",
    "$$(",
    "inputs.n",
    "tasks.a.rows",
    "tasks",
    "[",
    "]",
    "{",
    "}",
    ":",
    ": ",
    ", ",
    "#",
    " #",
    "\n",
    "\n  ",
    "- ",
    "\"",
    "'",
    "|",
    ">",
    "&a",
    "*a",
    "!t",
    "<<",
    "---\n",
    "%",
    "null",
    "yes",
    "0777",
    "1e9999",
    "\t",
    "\u{2028}",
    "é",
    "\0",
    "?",
    "~",
];

#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, usize),
    Remove(prop::sample::Index, usize),
    SwapLines(prop::sample::Index, prop::sample::Index),
    RepeatLine(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Flip(at, byte)),
        at().prop_map(Change::Cut),
        (at(), 0..TOKENS.len()).prop_map(|(at, token)| Change::Insert(at, token)),
        (at(), 1..40_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (at(), at()).prop_map(|(left, right)| Change::SwapLines(left, right)),
        at().prop_map(Change::RepeatLine),
    ]
}

fn apply(text: String, change: &Change) -> String {
    let mut bytes = text.clone().into_bytes();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if bytes.is_empty() {
        return text;
    }
    match change {
        Change::Flip(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::Insert(at, token) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, TOKENS[*token].bytes());
        }
        Change::Remove(at, length) => {
            let at = at.index(bytes.len());
            bytes.drain(at..(at + length).min(text.len()));
        }
        Change::SwapLines(left, right) => {
            let (left, right) = (left.index(lines.len()), right.index(lines.len()));
            lines.swap(left, right);
            return lines.concat();
        }
        Change::RepeatLine(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at]);
            return lines.concat();
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_manifest_is_checked_to_the_end(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..8),
    ) {
        let corpus = corpus();
        let text = changes.iter().fold(corpus[which.index(corpus.len())].clone(), apply);
        // YAML 1.2, 5.4: a carriage return alone breaks a line too.
        let lines = text.replace("\r\n", "\n").split(['\r', '\n']).count();
        for located in lint("a.yaml", &text) {
            prop_assert!((1..=lines + 1).contains(&located.line), "{located}");
            prop_assert!(located.column >= 1, "{located}");
            prop_assert!(!located.problem.message.is_empty());
        }
    }

    #[test]
    fn any_text_is_an_expression_or_is_refused(text in "[ -~é]{0,60}") {
        if let Ok(parsed) = crate::expression::Template::parse(&text) {
            let _ = parsed.render(&crate::expression::Scope::default());
        }
    }

    #[test]
    fn any_words_of_cel_are_an_expression_or_are_refused(
        words in prop::collection::vec(prop::sample::select(vec![
            "inputs.a", "tasks.b.rows", "1", "2.5", "'x'", "\"", "(", ")", "[", "]", "{", "}", "+", "-", "!", "==", "&&", "||", "?", ":", ".", ",",
            "map(x, x)", "size", "has", "in", "null", "x", "all", "b'\\xff'", "0x", "1u", "\\", "r'",
        ]), 0..30),
    ) {
        if let Ok(parsed) = crate::expression::Expression::parse(&words.concat()) {
            let _ = parsed.evaluate(&crate::expression::Scope::default());
        }
    }
}
