//! One self-contained HTML page: text, charts by Vega-Lite, tables. It needs no network and runs no script but its own.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintail_protocol::{Identity, ReportWork, ResultColumn};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::failure::TaskFailure;
use crate::session::Session;

mod chart;
mod table;

/// Vega, Vega-Lite and the interpreter; `scripts/setup-vega` makes it.
const VEGA: &str = include_str!("../../lib/vega.min.js");
const DRAW: &str = include_str!("report/draw.js");
const STYLE: &str = include_str!("report/page.css");

/// The page of a report. The same order over the same data gives the same page.
///
/// # Errors
/// `UnknownColumn` or `WrongColumnType` of a chart, or DuckDB's error by its class.
pub(crate) fn page(session: &Session, work: &ReportWork, identity: &Identity) -> Result<String, TaskFailure> {
    let mut charts = Vec::new();
    for (index, chart) in work.charts.iter().enumerate() {
        charts.push(chart::drawing(session, chart).map_err(|failure| failure.on(&format!("chart {}", index + 1)))?);
    }
    let mut tables = String::new();
    for (index, table) in work.tables.iter().enumerate() {
        tables += &table::card(session, table).map_err(|failure| failure.on(&format!("table {}", index + 1)))?;
    }
    Ok(assemble(work, &charts, &tables, identity))
}

fn assemble(work: &ReportWork, charts: &[chart::Drawing], tables: &str, identity: &Identity) -> String {
    let title = escaped(&work.title);
    let scripts: &[&str] = if charts.is_empty() { &[] } else { &[VEGA, DRAW] };
    let allowed: String = scripts.iter().map(|script| format!(" {}", source(script))).collect();
    let script_source = if allowed.is_empty() { " 'none'" } else { &allowed };
    // Nothing is fetched and nothing runs but what stands in the page, told by its digest.
    let policy = format!(
        "default-src 'none'; script-src{script_source}; style-src {}; base-uri 'none'; form-action 'none'",
        source(STYLE)
    );
    // Without charts there is nothing to wait for.
    let state = if charts.is_empty() { "drawn" } else { "drawing" };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\" data-charts=\"{state}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n"
    );
    for paragraph in paragraphs(&work.text) {
        html += &format!("<p>{}</p>\n", escaped(&paragraph));
    }
    html += "</header>\n<main>\n";
    if !charts.is_empty() {
        html += "<div class=\"charts\">\n";
        for (index, chart) in charts.iter().enumerate() {
            html += &figure(index + 1, chart);
        }
        html += "</div>\n";
    }
    html += tables;
    html += "</main>\n";
    html += &footer(identity);
    if !charts.is_empty() {
        let data = Value::Array(charts.iter().map(|chart| chart.specification.clone()).collect());
        // With `<` escaped no text can end the block.
        let data = data.to_string().replace('<', "\\u003c");
        html += &format!("<script type=\"application/json\" id=\"charts\">{data}</script>\n");
    }
    for script in scripts {
        html += &format!("<script>{script}</script>\n");
    }
    html + "</body>\n</html>\n"
}

fn figure(number: usize, chart: &chart::Drawing) -> String {
    let note = match &chart.note {
        Some(note) if chart.title == chart.description => note.clone(),
        Some(note) => format!("{}. {note}", chart.description),
        None if chart.title == chart.description => String::new(),
        None => chart.description.clone(),
    };
    let note = if note.is_empty() { note } else { format!("<p class=\"note\">{}</p>\n", escaped(&note)) };
    format!(
        "<figure class=\"card\">\n<figcaption><h2>{}</h2>\n{note}</figcaption>\n\
         <div class=\"chart\" id=\"chart-{number}\" role=\"img\" aria-label=\"{}\">\
         <noscript>This chart needs JavaScript.</noscript></div>\n</figure>\n",
        escaped(&chart.title),
        escaped(&chart.description),
    )
}

fn footer(identity: &Identity) -> String {
    let started = identity.execution_start.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let facts = [
        ("Workflow", identity.workflow.as_str()),
        ("Execution", &identity.execution),
        ("Started", &started),
        ("Pintail", env!("CARGO_PKG_VERSION")),
    ];
    let facts: String =
        facts.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(value))).collect();
    format!("<footer><dl>\n{facts}</dl></footer>\n")
}

/// What stands between empty lines.
fn paragraphs(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let blocks = lines.split(|line| line.is_empty());
    blocks.filter(|block| !block.is_empty()).map(|block| block.join("\n")).collect()
}

/// An inline script or style by its digest, as a security policy takes it.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// Text as HTML, within elements and quoted attributes.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// The first letters of a long text.
fn shortened(text: &str, letters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(letters) {
        Some((at, _)) => Cow::Owned(format!("{}…", text.get(..at).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

fn is_number(data_type: &str) -> bool {
    const NUMBERS: [&str; 12] = [
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
    ];
    NUMBERS.contains(&data_type) || (data_type.starts_with("DECIMAL(") && data_type.ends_with(')'))
}

/// A column as SQL finds it: letters' case does not count.
fn find_column<'a>(columns: &'a [ResultColumn], relation: &str, name: &str) -> Result<&'a ResultColumn, TaskFailure> {
    let same = |column: &&ResultColumn| column.name.to_lowercase() == name.to_lowercase();
    columns.iter().find(same).ok_or_else(|| {
        let names = columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(", ");
        TaskFailure::permanent("UnknownColumn", format!("table `{relation}` has no column `{name}`; it has {names}"))
    })
}

/// `table` is an identifier, quoted.
fn count_rows(session: &Session, table: &str) -> Result<u64, TaskFailure> {
    let counted = session.text_rows(&format!("SELECT count(*) FROM {table}"), &[], 1)?;
    let count = counted.rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    count.ok_or_else(|| TaskFailure::infrastructure("EngineError", format!("the rows of {table} were not counted")))
}

#[cfg(test)]
mod tests;
