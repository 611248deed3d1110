use pintail_protocol::ReportTable;

use super::{count_rows, escaped, is_number, shortened};
use crate::failure::TaskFailure;
use crate::session::Session;
use crate::sql::identifier;

/// Digits behind the point of a floating-point column: enough for a person, and all rows have the same number of them.
const DECIMALS: usize = 4;

/// Of one cell: a page is for looking, and one long text in a thousand rows would fill it.
const CELL_LETTERS: usize = 500;

/// The card of one table, as HTML.
///
/// # Errors
/// DuckDB's error by its class.
pub(super) fn card(session: &Session, table: &ReportTable) -> Result<String, TaskFailure> {
    let relation = identifier(&table.relation);
    let shown = session.text_rows(&format!("FROM {relation}"), &[], table.limit as usize)?;
    let total = count_rows(session, &relation)?;
    let title = escaped(table.title.as_deref().filter(|title| !title.is_empty()).unwrap_or(&table.relation));
    let classes: Vec<&str> = shown
        .columns
        .iter()
        .map(|column| if is_number(&column.data_type) { " class=\"number\"" } else { "" })
        .collect();
    let decimals: Vec<Option<usize>> = shown
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = shown.rows.iter().filter_map(|row| row.get(index)?.as_deref());
            matches!(column.data_type.as_str(), "DOUBLE" | "FLOAT").then(|| needed_decimals(cells))
        })
        .collect();

    let mut html = format!("<section class=\"card\">\n<h2>{title}</h2>\n");
    let rows = if total == 1 { "row" } else { "rows" };
    html += &format!("<p class=\"note\">{} of {total} {rows}</p>\n", shown.rows.len());
    // What scrolls can be reached by keyboard.
    html +=
        &format!("<div class=\"scroll\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\"><table>\n<thead><tr>");
    for (column, class) in shown.columns.iter().zip(&classes) {
        html += &format!("<th scope=\"col\"{class}>{}</th>", escaped(&column.name));
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in &shown.rows {
        html += "<tr>";
        for ((cell, class), decimals) in row.iter().zip(&classes).zip(&decimals) {
            html += &match (cell, decimals) {
                (None, _) => format!("<td{class}><span class=\"null\">null</span></td>"),
                (Some(text), Some(decimals)) => format!("<td{class}>{}</td>", escaped(&rounded(text, *decimals))),
                (Some(text), None) => format!("<td{class}>{}</td>", escaped(&shortened(text, CELL_LETTERS))),
            };
        }
        html += "</tr>\n";
    }
    html += "</tbody></table></div>\n</section>\n";
    Ok(html)
}

/// The most digits behind the point that a value has, up to [`DECIMALS`].
fn needed_decimals<'a>(cells: impl Iterator<Item = &'a str>) -> usize {
    let needed = cells.map(|cell| {
        let rounded = cell.parse::<f64>().map_or(String::new(), |number| format!("{number:.DECIMALS$}"));
        rounded.split_once('.').map_or(0, |(_, decimals)| decimals.trim_end_matches('0').len())
    });
    needed.max().unwrap_or(0)
}

/// The value with so many digits; one too small for them, or no number at all, as DuckDB writes it.
fn rounded(text: &str, decimals: usize) -> String {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && (number == 0.0 || number.abs() >= 0.0001) && number.abs() < 1e15 => {
            format!("{number:.decimals$}")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_fractions_has_as_many_digits_as_it_needs_up_to_four() {
        for (cells, expected) in [
            (vec!["1.0", "2.0"], vec!["1", "2"]),
            (vec!["1.5", "2.25"], vec!["1.50", "2.25"]),
            (vec!["0.30000000000000004", "-20.0"], vec!["0.3", "-20.0"]),
            (vec!["0.123456", "1e-9", "inf"], vec!["0.1235", "1e-9", "inf"]),
        ] {
            let decimals = needed_decimals(cells.iter().copied());
            assert_eq!(cells.iter().map(|cell| rounded(cell, decimals)).collect::<Vec<_>>(), expected);
        }
    }
}
