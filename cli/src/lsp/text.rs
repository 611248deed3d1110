//! Places in a text: an editor counts lines and UTF-16 units from 0, we count lines and characters from 1.

use lsp_types::{Position, Range};
use pintail_plan::manifest::Position as Place;

/// Of an editor's position; behind the end of a line it is the line's end.
pub fn place(text: &str, position: Position) -> Place {
    let mut units = 0;
    let before = line(text, position.line as usize).chars().take_while(|char| {
        units += char.len_utf16();
        units <= position.character as usize
    });
    Place { column: before.count() + 1, line: position.line as usize + 1 }
}

/// The opposite of [`place`].
pub fn position(text: &str, place: Place) -> Position {
    let line_number = place.line.saturating_sub(1);
    let before = line(text, line_number).chars().take(place.column.saturating_sub(1));
    let units: usize = before.map(char::len_utf16).sum();
    Position { line: number(line_number), character: number(units) }
}

/// The name that begins at a place, or the one character.
pub fn range(text: &str, at: Place) -> Range {
    let rest = line(text, at.line.saturating_sub(1)).chars().skip(at.column.saturating_sub(1));
    let length = rest.take_while(|char| is_name(*char)).count().max(1);
    Range { start: position(text, at), end: position(text, Place { column: at.column + length, ..at }) }
}

/// The text of the line before a place.
pub fn before(text: &str, at: Place) -> String {
    line(text, at.line.saturating_sub(1)).chars().take(at.column.saturating_sub(1)).collect()
}

/// Byte of a text at a place.
pub fn offset_of(text: &str, at: Place) -> usize {
    let line = line(text, at.line.saturating_sub(1));
    let in_line = line.char_indices().nth(at.column.saturating_sub(1)).map_or(line.len(), |(offset, _)| offset);
    // Lines are parts of the text.
    line.as_ptr() as usize - text.as_ptr() as usize + in_line
}

pub fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn line(text: &str, number: usize) -> &str {
    lines(text).nth(number).unwrap_or(&text[text.len()..])
}

/// A line ends by `\n`, `\r\n` or `\r`.
fn lines(text: &str) -> impl Iterator<Item = &str> + Clone {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else { return rest.take() };
        let length = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + length..]);
        Some(&text[..end])
    })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\r\né🦆bc d\r\n\rx";

    #[test]
    fn an_editor_counts_a_duck_twice() {
        for (line, column, character) in [(2, 1, 0), (2, 2, 1), (2, 3, 3), (2, 4, 4), (4, 1, 0)] {
            let at = Place { line, column };
            let found = position(TEXT, at);
            assert_eq!((found.line as usize, found.character), (line - 1, character));
            assert_eq!(place(TEXT, found), at);
        }
        // In the middle of the duck, behind the line, behind the text.
        assert_eq!(place(TEXT, Position { line: 1, character: 2 }).column, 2);
        assert_eq!(place(TEXT, Position { line: 1, character: 99 }).column, 7);
        assert_eq!(place(TEXT, Position { line: 9, character: 9 }).column, 1);
        assert_eq!(offset_of(TEXT, Place { line: 2, column: 3 }), 9);
        assert_eq!(offset_of(TEXT, Place { line: 10, column: 1 }), TEXT.len());
    }

    #[test]
    fn a_range_is_that_of_a_name_or_of_a_character() {
        let width = |line, column| {
            let range = range(TEXT, Place { line, column });
            range.end.character - range.start.character
        };
        assert_eq!((width(2, 3), width(2, 2), width(2, 5), width(4, 9)), (2, 2, 1, 0));
    }
}
