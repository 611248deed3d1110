use std::collections::BTreeSet;
use std::fmt::Write as _;

use pintail_protocol::{Chart, Mark, ResultColumn};
use serde_json::{Value, json};

use super::{count_rows, find_column, is_number, shortened};
use crate::failure::TaskFailure;
use crate::session::Session;
use crate::sql::identifier;

/// Rows of one chart: more marks than pixels across a screen show nothing more, and each adds some 50 bytes to the page.
const ROWS: usize = 5_000;

/// Width in pixels that the labels of a chart share, in half of a page.
const LABELS_WIDTH: usize = 420;
const LETTER_WIDTH: usize = 7;
/// Of turned labels that stand side by side.
const LINE_WIDTH: usize = 19;

/// Of a label or a colour's name, of which 140 pixels are shown.
const LABEL_LETTERS: usize = 100;

/// One chart, ready to be drawn.
pub(super) struct Drawing {
    pub title: String,
    /// What is drawn, for those who cannot see it.
    pub description: String,
    /// What is to be known of the data, such as that it was cut.
    pub note: Option<String>,
    /// Vega-Lite, with its data.
    pub specification: Value,
}

/// How values of the horizontal axis are placed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Number,
    /// Milliseconds since 1970, in UTC.
    Time,
    /// One place for each value, in the order of the rows.
    Label,
}

/// # Errors
/// `UnknownColumn`, `WrongColumnType`, or DuckDB's error by its class.
pub(super) fn drawing(session: &Session, chart: &Chart) -> Result<Drawing, TaskFailure> {
    let table = identifier(&chart.relation);
    let columns = session.describe(&format!("FROM {table}"), &[])?;
    let x = find_column(&columns, &chart.relation, &chart.x_column)?;
    let ys = chart
        .y_columns
        .iter()
        .map(|name| numeric(find_column(&columns, &chart.relation, name)?, &chart.relation))
        .collect::<Result<Vec<_>, _>>()?;
    let color = chart.color_column.as_ref().map(|name| find_column(&columns, &chart.relation, name)).transpose()?;
    let scale = scale(chart.mark, &x.data_type);

    let rows = read(session, &table, x, &ys, color, scale)?;
    let total = count_rows(session, &table)?;
    let note = (total > ROWS as u64).then(|| format!("First {ROWS} of {total} rows."));
    let description = describe(chart.mark, &ys, x, color);
    let labels = Labels::of(&rows);
    let specification = json!({
        "description": description,
        "data": { "values": values(rows, x, &ys, color.is_some(), scale) },
        "mark": mark(chart.mark, ys.len() > 1),
        "encoding": encoding(chart.mark, x, &ys, color, scale, &labels),
        "width": "container",
        "height": 320,
        "autosize": { "type": "fit-x", "contains": "padding" },
    });
    let title = chart.title.clone().filter(|title| !title.is_empty()).unwrap_or_else(|| description.clone());
    Ok(Drawing { title, description, note, specification })
}

fn numeric<'a>(column: &'a ResultColumn, relation: &str) -> Result<&'a ResultColumn, TaskFailure> {
    if is_number(&column.data_type) {
        return Ok(column);
    }
    let message = format!(
        "column `{}` of table `{relation}` is {}, but a vertical column must be a number: cast it in the query, or name another",
        column.name, column.data_type
    );
    Err(TaskFailure::permanent("WrongColumnType", message))
}

fn scale(mark: Mark, data_type: &str) -> Scale {
    match mark {
        // Bars need a width, which a place on a continuous scale does not have.
        Mark::Bar => Scale::Label,
        _ if is_number(data_type) => Scale::Number,
        _ if is_time(data_type) => Scale::Time,
        _ => Scale::Label,
    }
}

fn is_time(data_type: &str) -> bool {
    data_type == "DATE" || data_type.starts_with("TIMESTAMP")
}

type Rows = Vec<Vec<Option<String>>>;

/// The first rows: horizontal value, vertical values, colour.
fn read(
    session: &Session,
    table: &str,
    x: &ResultColumn,
    ys: &[&ResultColumn],
    color: Option<&ResultColumn>,
    scale: Scale,
) -> Result<Rows, TaskFailure> {
    let name = identifier(&x.name);
    let x = match scale {
        Scale::Number => format!("{name}::DOUBLE"),
        Scale::Time => format!("epoch_ms({name}::TIMESTAMP)"),
        Scale::Label => name,
    };
    let ys = ys.iter().map(|column| format!("{}::DOUBLE", identifier(&column.name)));
    let color = color.map(|column| identifier(&column.name));
    // Aliases of their own: one column may stand in two places.
    let mut list = String::new();
    for (index, expression) in std::iter::once(x).chain(ys).chain(color).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(list, "{comma}{expression} AS c{index}");
    }
    Ok(session.text_rows(&format!("SELECT {list} FROM {table}"), &[], ROWS)?.rows)
}

/// One value a mark: `x`, `y` and, where colours tell them apart, `s`. Without a number there is no mark.
fn values(rows: Rows, x: &ResultColumn, ys: &[&ResultColumn], colored: bool, scale: Scale) -> Value {
    let shorten = if is_time(&x.data_type) { shortening(&rows) } else { 0 };
    let mut values = Vec::new();
    for row in rows {
        let mut cells = row.into_iter();
        let x = match (cells.next().flatten(), scale) {
            (None, _) => Value::Null,
            (Some(text), Scale::Label) => {
                json!(shortened(text.get(..text.len() - shorten).unwrap_or(&text), LABEL_LETTERS))
            }
            (Some(text), Scale::Number | Scale::Time) => number(Some(&text)),
        };
        let cells: Vec<_> = cells.collect();
        for (index, column) in ys.iter().enumerate() {
            let y = number(cells.get(index).and_then(Option::as_deref));
            if y.is_null() || (x.is_null() && scale != Scale::Label) {
                continue;
            }
            let mut value = json!({ "x": x, "y": y });
            if colored {
                value["s"] =
                    json!(cells.get(ys.len()).and_then(Option::as_deref).map(|text| shortened(text, LABEL_LETTERS)));
            } else if ys.len() > 1 {
                value["s"] = json!(column.name);
            }
            values.push(value);
        }
    }
    Value::Array(values)
}

/// Null for what is not a finite number.
fn number(text: Option<&str>) -> Value {
    text.and_then(|text| text.parse::<f64>().ok()).map_or(Value::Null, |number| json!(number))
}

/// How the labels of a horizontal axis find room.
struct Labels {
    turned: bool,
    /// Only some are shown.
    thinned: bool,
}

impl Labels {
    fn of(rows: &Rows) -> Self {
        let labels: BTreeSet<&str> = rows.iter().filter_map(|row| row.first()?.as_deref()).collect();
        let letters: usize = labels.iter().map(|label| label.chars().count() + 2).sum();
        Self { turned: letters * LETTER_WIDTH > LABELS_WIDTH, thinned: labels.len() * LINE_WIDTH > LABELS_WIDTH }
    }
}

/// How many letters at the end of all dates and times say nothing: midnight, and the first of a month.
fn shortening(rows: &Rows) -> usize {
    const MIDNIGHT: &str = " 00:00:00";
    const FIRST: &str = "-01";
    let labels = || rows.iter().filter_map(|row| row.first()?.as_deref());
    let midnight =
        if labels().all(|label| label.len() == 19 && label.ends_with(MIDNIGHT)) { MIDNIGHT.len() } else { 0 };
    let first = |label: &str| {
        let label = label.get(..label.len() - midnight).unwrap_or(label);
        label.len() == 10 && label.ends_with(FIRST)
    };
    // A single day is a day, not a month.
    if labels().nth(1).is_some() && labels().all(first) { midnight + FIRST.len() } else { midnight }
}

fn mark(mark: Mark, several: bool) -> Value {
    match mark {
        Mark::Bar => json!({ "type": "bar", "cornerRadiusEnd": 2 }),
        Mark::Line => json!({ "type": "line", "strokeWidth": 2.25, "interpolate": "linear" }),
        Mark::Area => {
            let opacity = if several { 0.2 } else { 0.3 };
            json!({ "type": "area", "line": { "strokeWidth": 2.25 }, "fillOpacity": opacity })
        }
        Mark::Point => json!({ "type": "point", "filled": true, "size": 40, "opacity": 0.85 }),
    }
}

fn encoding(
    mark: Mark,
    x: &ResultColumn,
    ys: &[&ResultColumn],
    color: Option<&ResultColumn>,
    scale: Scale,
    labels: &Labels,
) -> Value {
    let y_title = if let [only] = ys { json!(only.name) } else { Value::Null };
    let horizontal = match scale {
        Scale::Number => {
            json!({ "field": "x", "type": "quantitative", "title": x.name, "scale": { "zero": false, "nice": true } })
        }
        Scale::Time => json!({ "field": "x", "type": "temporal", "title": x.name, "scale": { "type": "utc" } }),
        Scale::Label => json!({
            "field": "x", "type": "nominal", "title": x.name, "sort": null,
            "axis": {
                "labelAngle": if labels.turned { -40 } else { 0 },
                "labelOverlap": if labels.thinned { json!("greedy") } else { json!(false) },
                "labelLimit": 140, "ticks": false,
            },
        }),
    };
    let mut vertical = json!({ "field": "y", "type": "quantitative", "title": y_title });
    if mark == Mark::Point {
        vertical["scale"] = json!({ "zero": false, "nice": true });
    }
    // Parts of a whole are stacked as bars; areas lie over each other, as their columns need not add up.
    if mark == Mark::Area || ys.len() > 1 {
        vertical["stack"] = Value::Null;
    }
    let tooltip_x = if scale == Scale::Time {
        json!({ "field": "x", "type": "temporal", "title": x.name, "format": "%Y-%m-%d %H:%M", "formatType": "utc" })
    } else {
        json!({ "field": "x", "title": x.name })
    };
    let mut tooltip = vec![
        tooltip_x,
        json!({ "field": "y", "title": ys.first().filter(|_| ys.len() == 1).map_or("value", |y| &y.name) }),
    ];
    let mut encoding = json!({ "x": horizontal, "y": vertical });
    let series = color.map(|color| color.name.as_str()).or_else(|| (ys.len() > 1).then_some(""));
    if let Some(title) = series {
        let title = if title.is_empty() { Value::Null } else { json!(title) };
        encoding["color"] = json!({ "field": "s", "type": "nominal", "title": title, "sort": null });
        if color.is_some_and(|color| color.name == x.name) {
            // The axis names them already.
            encoding["color"]["legend"] = Value::Null;
        }
        tooltip.push(json!({ "field": "s", "type": "nominal", "title": color.map_or("column", |color| &color.name) }));
        if mark == Mark::Bar && ys.len() > 1 {
            encoding["xOffset"] = json!({ "field": "s", "type": "nominal", "sort": null });
        }
    }
    encoding["tooltip"] = Value::Array(tooltip);
    encoding
}

/// `Bar chart of change by StockCode`.
fn describe(mark: Mark, ys: &[&ResultColumn], x: &ResultColumn, color: Option<&ResultColumn>) -> String {
    let mark = match mark {
        Mark::Bar => "Bar chart",
        Mark::Line => "Line chart",
        Mark::Area => "Area chart",
        Mark::Point => "Point chart",
    };
    let ys = ys.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let color = color
        .filter(|color| color.name != x.name)
        .map_or(String::new(), |color| format!(", coloured by {}", color.name));
    format!("{mark} of {ys} by {}{color}", x.name)
}
