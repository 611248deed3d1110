//! Where a character of a scalar's text stands in the file.
//!
//! Folding, indentation and line breaks change only the white space of a text, so the place of a character is that of the
//! scalar's nth character that is not white space. In double quotes an escape such as `\"` is one character.

use super::tree::{Position, Style};

/// The place of `text[offset]`, a byte offset, of a scalar that begins at `at` of `source`. `None` where the source
/// does not read as the text does.
pub(super) fn in_source(source: &str, at: Position, text: &str, style: Style, offset: usize) -> Option<Position> {
    let before = text.get(..offset)?;
    let visible_before = before.chars().filter(|char| !is_space(*char)).count();
    let on_space = text[offset..].chars().next().is_none_or(is_space);
    let mut characters = Source::new(source, at, style)?;
    let mut wanted = text.chars().filter(|char| !is_space(*char));
    let mut last = None;
    for _ in 0..visible_before {
        let (char, place, width) = characters.next()?;
        if Some(char) != wanted.next() {
            return None;
        }
        last = Some(Position { line: place.line, column: place.column + width });
    }
    if on_space && let Some(last) = last {
        return Some(last);
    }
    match characters.next() {
        Some((char, place, _)) if Some(char) == wanted.next() => Some(place),
        _ => None,
    }
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}

/// The characters of a scalar in the file that are not white space: each with its place, and its width there.
struct Source<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    at: Position,
    style: Style,
    is_double: bool,
}

impl<'a> Source<'a> {
    fn new(source: &'a str, at: Position, style: Style) -> Option<Self> {
        let start = line_start(source, at.line)?;
        let line = &source[start..];
        let column = line.char_indices().nth(at.column - 1).map_or(line.len(), |(index, _)| index);
        let is_header =
            matches!(style, Style::Literal | Style::Folded) && !line[..column].bytes().all(|byte| byte == b' ');
        let (rest, at) = if is_header {
            // The parser gives the place of the text, or that of the `|` above it.
            (&source[line_start(source, at.line + 1)?..], Position { line: at.line + 1, column: 1 })
        } else {
            (&line[column..], at)
        };
        let is_quoted = style == Style::Quoted;
        let mut characters = Self { rest: rest.chars().peekable(), at, style, is_double: rest.starts_with('"') };
        if is_quoted {
            characters.step();
        }
        Some(characters)
    }

    fn step(&mut self) -> Option<char> {
        let char = self.rest.next()?;
        if char == '\n' || (char == '\r' && self.rest.peek() != Some(&'\n')) {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(char)
    }

    /// What a `\` and the letters after it stand for; `None` for white space.
    fn escape(&mut self) -> Option<char> {
        let digits = match self.step()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            'n' | 't' | 'r' | ' ' | '\t' | '\n' | '\r' => return None,
            '0' => return Some('\0'),
            'a' => return Some('\u{7}'),
            'b' => return Some('\u{8}'),
            'v' => return Some('\u{b}'),
            'f' => return Some('\u{c}'),
            'e' => return Some('\u{1b}'),
            'N' => return Some('\u{85}'),
            '_' => return Some('\u{a0}'),
            'L' => return Some('\u{2028}'),
            'P' => return Some('\u{2029}'),
            other => return Some(other),
        };
        let code: String = (0..digits).filter_map(|_| self.step()).collect();
        u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).filter(|char| !is_space(*char))
    }
}

impl Iterator for Source<'_> {
    type Item = (char, Position, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let place = self.at;
            let char = match self.step()? {
                space if is_space(space) => continue,
                '\\' if self.is_double && self.style == Style::Quoted => match self.escape() {
                    Some(char) => char,
                    None => continue,
                },
                '\'' if self.style == Style::Quoted && !self.is_double => {
                    // Doubled it stands for itself, alone it ends the text.
                    self.rest.peek().filter(|next| **next == '\'')?;
                    self.step()?
                }
                char => char,
            };
            return Some((char, place, self.at.column.saturating_sub(place.column).max(1)));
        }
    }
}

/// Byte offset of a line, counted from 1. A line ends by `\n`, `\r\n` or `\r`.
fn line_start(source: &str, line: usize) -> Option<usize> {
    if line == 1 {
        return Some(0);
    }
    let bytes = source.as_bytes();
    let is_end =
        |index: &usize| bytes[*index] == b'\n' || (bytes[*index] == b'\r' && bytes.get(index + 1) != Some(&b'\n'));
    (0..bytes.len()).filter(is_end).nth(line - 2).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use crate::manifest::{Position, parse_manifests};
    use crate::problem::{FieldPath, Problem};
    use crate::{Located, Rule};

    /// Where `?` of the description stands, as the document tells it.
    fn place(scalar: &str) -> (usize, usize) {
        let text = format!(
            "apiVersion: pintail.dev/v1alpha1\nkind: Workflow\nmetadata: {{ name: a }}\nspec:\n  tasks: [ {{ name: a, duckdb: {{ query: SELECT 1 }} }} ]\n  description: {scalar}"
        );
        let parsed = parse_manifests("a.yaml", &text);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let document = &parsed.documents[0];
        let crate::manifest::Object::Workflow(workflow) = &document.object else { panic!("no workflow") };
        let description = workflow.spec.description.as_deref().unwrap();
        let offset = description.find('?').unwrap();
        let path = FieldPath::root().field("spec").field("description");
        let problem = Problem::new(Rule::SqlSyntax, path.clone(), "x").at(offset);
        let Located { line, column, .. } = document.locate(problem);
        let spot = document.spot(Position { line, column });
        assert_eq!((spot.path, spot.is_key, spot.offset, spot.is_behind), (path, false, offset, false), "{scalar}");
        (line - 6, column)
    }

    #[test]
    fn a_character_is_found_in_every_kind_of_scalar() {
        for (scalar, expected) in [
            ("ab ?", (0, 19)),
            ("'it''s é ?'", (0, 25)),
            ("\"a \\\"b\\\" \\u00e9 ?\"", (0, 32)),
            ("\"a\\n\\tb ?\"", (0, 24)),
            ("|\n    a\n      b ?\n", (2, 9)),
            ("|2-\n    a\n\n    é ?", (3, 7)),
            (">\n    a\n    b\n\n    c  ?", (4, 8)),
            (">-\n    a ?\n    b", (1, 7)),
            ("a\n    b\n    c ?", (2, 7)),
            ("\"a\n    b \\\n    c ?\"", (2, 7)),
        ] {
            assert_eq!(place(scalar), expected, "{scalar}");
        }
    }
}
