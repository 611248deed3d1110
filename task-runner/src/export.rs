//! Writes a table as one file to a place outside.

use std::path::Path;

use pintail_protocol::{ExportWork, FormatOptions, TableFormat, WorkOrder, WrittenFile};

use crate::failure::TaskFailure;
use crate::files::{Files, connection_of};
use crate::session::Session;
use crate::sql;
use crate::workspace::Environment;

/// Exports a table; where the work is only tried, to the scratch folder alone. Whoever reads its place sees the old file or the whole new one. A repeated attempt writes it again.
///
/// # Errors
/// DuckDB's error by its class, or that of the place.
pub(crate) fn export(
    session: &Session,
    work: &ExportWork,
    order: &WorkOrder,
    environment: &Environment,
) -> Result<WrittenFile, TaskFailure> {
    let local = session.scratch().join("export");
    if environment.rehearsal().is_some() {
        let rows = write_file(session, &work.relation, work.format, &work.options, &local)?;
        let bytes = local.metadata().map_err(|error| TaskFailure::from_io(&error, "write the file"))?.len();
        return Ok(WrittenFile { uri: format!("{}/{}", work.to.connection, work.to.path), bytes, rows: Some(rows) });
    }
    let files = Files::open(connection_of(order, &work.to.connection)?, environment)?;
    let rows = write_file(session, &work.relation, work.format, &work.options, &local)?;
    let identity = files.upload(&local, &work.to.path)?;
    Ok(WrittenFile { uri: files.uri(&work.to.path), bytes: identity.bytes, rows: Some(rows) })
}

/// Writes a table to a file below the scratch folder, in the table's order. Gives the number of rows.
///
/// CSV is as RFC 4180 has it, with a header, but lines end in a line feed alone. JSON has one object a line.
///
/// # Errors
/// DuckDB's error by its class.
pub(crate) fn write_file(
    session: &Session,
    relation: &str,
    format: TableFormat,
    options: &FormatOptions,
    path: &Path,
) -> Result<u64, TaskFailure> {
    let (table, file) = (sql::identifier(relation), sql::text(&path.to_string_lossy()));
    let copy = format!("COPY (FROM {table}) TO {file} ({})", copy_options(format, options));
    session.execute(&copy, &[]).map_err(|failure| failure.on(&format!("table `{relation}`")))
}

fn copy_options(format: TableFormat, options: &FormatOptions) -> String {
    let mut list = Vec::new();
    match format {
        TableFormat::Parquet => return "FORMAT parquet".to_owned(),
        TableFormat::Json => list.push("FORMAT json".to_owned()),
        TableFormat::Csv => {
            list.push("FORMAT csv".to_owned());
            list.push(format!("HEADER {}", options.header.unwrap_or(true)));
            list.extend(options.delimiter.as_ref().map(|text| format!("DELIMITER {}", sql::text(text))));
            list.extend(options.quote.as_ref().map(|text| format!("QUOTE {0}, ESCAPE {0}", sql::text(text))));
            list.extend(options.null_text.as_ref().map(|text| format!("NULLSTR {}", sql::text(text))));
        }
    }
    list.extend(options.date_format.as_ref().map(|text| format!("DATEFORMAT {}", sql::text(text))));
    list.extend(options.timestamp_format.as_ref().map(|text| format!("TIMESTAMPFORMAT {}", sql::text(text))));
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pintail_protocol::{AccessMode, Connection, ConnectionTarget, FileTarget};

    use super::*;
    use crate::tests::Fixture;

    const TABLE: &str = "CREATE TEMP TABLE t AS FROM (VALUES
        (2, 'a \"quoted\", b', 1.50::DECIMAL(9,2), DATE '2024-01-31', TIMESTAMP '2024-01-31 12:30:00'),
        (1, 'two' || chr(10) || 'lines', NULL, NULL, NULL), (3, '', 0, NULL, NULL)) v(n, text, price, day, moment)";

    fn written(format: TableFormat, options: &FormatOptions) -> Vec<u8> {
        let fixture = Fixture::new();
        let session = fixture.open().unwrap();
        session.batch(TABLE, "make the table").unwrap();
        let folder = tempfile::tempdir_in(session.scratch()).unwrap();
        let path = folder.path().join("it's a file");
        assert_eq!(write_file(&session, "t", format, options, &path).unwrap(), 3);
        fs::read(path).unwrap()
    }

    fn text(format: TableFormat, options: &FormatOptions) -> String {
        String::from_utf8(written(format, options)).unwrap()
    }

    #[test]
    fn csv_has_a_header_and_quotes_what_needs_it() {
        let expected = "n,text,price,day,moment\n2,\"a \"\"quoted\"\", b\",1.50,2024-01-31,2024-01-31 12:30:00\n\
                        1,\"two\nlines\",,,\n3,\"\",0.00,,\n";
        assert_eq!(text(TableFormat::Csv, &FormatOptions::default()), expected);
    }

    #[test]
    fn csv_is_written_down_as_the_options_say() {
        let options = FormatOptions {
            delimiter: Some(";".to_owned()),
            header: Some(false),
            quote: Some("'".to_owned()),
            null_text: Some("NA".to_owned()),
            date_format: Some("%d.%m.%Y".to_owned()),
            timestamp_format: Some("%H:%M".to_owned()),
        };
        let expected = "2;a \"quoted\", b;1.50;31.01.2024;12:30\n1;'two\nlines';NA;NA;NA\n3;;0.00;NA;NA\n";
        assert_eq!(text(TableFormat::Csv, &options), expected);
    }

    #[test]
    fn json_has_one_object_a_line() {
        let json = text(TableFormat::Json, &FormatOptions::default());
        let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (&lines[0]["n"], &lines[1]["text"], &lines[1]["day"]),
            (&2.into(), &"two\nlines".into(), &serde_json::Value::Null)
        );
    }

    #[test]
    fn parquet_is_a_parquet_file() {
        assert!(written(TableFormat::Parquet, &FormatOptions::default()).starts_with(b"PAR1"));
    }

    #[test]
    fn a_table_becomes_one_file_at_its_place_however_often_it_is_exported() {
        let mut fixture = Fixture::new();
        let target = fixture.folder.path().join("target");
        fixture.order.connections.push(Connection {
            name: "raw".to_owned(),
            mode: AccessMode::Write,
            target: ConnectionTarget::Folder { path: target.display().to_string() },
        });
        let session = fixture.open().unwrap();
        session.batch(TABLE, "make the table").unwrap();
        let work = ExportWork {
            relation: "t".to_owned(),
            to: FileTarget { connection: "raw".to_owned(), path: "out/t.csv".to_owned() },
            format: TableFormat::Csv,
            options: FormatOptions::default(),
        };
        for _ in 0..2 {
            let written = export(&session, &work, &fixture.order, &fixture.environment).unwrap();
            let file = target.join("out/t.csv");
            let bytes = fs::metadata(&file).unwrap().len();
            assert_eq!(written, WrittenFile { uri: file.display().to_string(), bytes, rows: Some(3) });
            assert_eq!(fs::read_dir(target.join("out")).unwrap().count(), 1);
        }
    }
}
