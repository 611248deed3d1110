//! How data is printed on standard output.

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::CommandFailure;

/// Columns without lines, as kubectl prints them; numbers stand to the right.
pub fn print_table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(ToString::to_string));
    let mut numbers = vec![true; header.len()];
    for row in rows {
        for (all, cell) in numbers.iter_mut().zip(&row) {
            *all &= is_number(cell);
        }
        table.add_row(row);
    }
    for (column, all_numbers) in table.column_iter_mut().zip(numbers) {
        column.set_padding((0, 3));
        if all_numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    print_text(&format!("{}\n", table.trim_fmt()));
}

fn is_number(cell: &str) -> bool {
    cell == "NULL" || cell.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '.' | '-' | '+' | 'e'))
}

/// One JSON document, indented.
pub fn print_json<T: Serialize>(document: &T) -> Result<(), CommandFailure> {
    let text = serde_json::to_string_pretty(document).map_err(CommandFailure::failed)?;
    print_text(&format!("{text}\n"));
    Ok(())
}

/// A reader that went away (`| head`) wants no more; that is no failure.
pub fn print_text(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// A size in the largest binary unit.
pub fn size_text(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes, 0);
    let mut tenths = 0;
    while size >= 1024 && unit < UNITS.len() - 1 {
        tenths = size % 1024 * 10 / 1024;
        size /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 || size >= 100 { format!("{size} {name}") } else { format!("{size}.{tenths} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_their_largest_unit() {
        assert_eq!(
            [0, 812, 2048, 1_600_000, 605_000_000].map(size_text),
            ["0 B", "812 B", "2.0 KiB", "1.5 MiB", "576 MiB"]
        );
    }
}
