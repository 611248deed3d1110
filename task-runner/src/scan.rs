//! How files of each format are read: which columns a file has, and the call of DuckDB's reader.

use pintail_protocol::{Contract, ContractColumn, FormatOptions, ResultColumn, TableFormat};

use crate::contract::FILE_COLUMN;
use crate::failure::TaskFailure;
use crate::relation::glob_literal;
use crate::session::Session;
use crate::sql;
use crate::workspace::SourceFile;

/// The format that a file's name tells.
pub(crate) fn format_of(path: &str) -> Option<TableFormat> {
    let name = path.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "parquet" => Some(TableFormat::Parquet),
        "csv" | "tsv" => Some(TableFormat::Csv),
        "json" | "jsonl" | "ndjson" => Some(TableFormat::Json),
        _ => None,
    }
}

/// How a set of files is read.
pub(crate) struct Scan<'a> {
    pub format: TableFormat,
    pub options: &'a FormatOptions,
    /// Whether the files are the store's own.
    pub committed: bool,
}

impl Scan<'_> {
    /// The reader call that finds columns and types by itself, for tables without a contract.
    pub(crate) fn detecting(&self, files: &[SourceFile]) -> String {
        let files = locations(&files.iter().collect::<Vec<_>>());
        let mut options = vec![files, "union_by_name = true".to_owned()];
        match self.format {
            TableFormat::Parquet => {
                options.extend(self.without_folders());
                format!("read_parquet({})", options.join(", "))
            }
            TableFormat::Csv => {
                options.extend(self.options.header.map(|header| format!("header = {header}")));
                options.extend(self.options.delimiter.as_ref().map(|it| format!("delim = {}", sql::text(it))));
                options.extend(self.options.quote.as_ref().map(|it| format!("quote = {}", sql::text(it))));
                options.extend(self.options.null_text.as_ref().map(|it| format!("nullstr = {}", sql::text(it))));
                self.push_dates(&mut options);
                format!("read_csv({})", options.join(", "))
            }
            TableFormat::Json => {
                self.push_dates(&mut options);
                format!("read_json({})", options.join(", "))
            }
        }
    }

    /// The reader call for files that have these columns.
    pub(crate) fn reading(&self, files: &[&SourceFile], columns: &[ResultColumn], with_file: bool) -> String {
        let mut options = vec![locations(files)];
        let types: Vec<_> =
            columns.iter().map(|c| format!("{}: {}", sql::text(&c.name), sql::text(&c.data_type))).collect();
        let types = format!("columns = {{{}}}", types.join(", "));
        if with_file {
            options.push(format!("filename = {}", sql::text(FILE_COLUMN)));
        }
        let function = match self.format {
            TableFormat::Parquet => {
                options.extend(self.without_folders());
                "read_parquet"
            }
            TableFormat::Csv => {
                let null_text = self.options.null_text.as_deref().unwrap_or_default();
                options.extend([types, "auto_detect = false".to_owned(), format!("header = {}", self.header())]);
                options.push(format!("delim = {}", sql::text(self.delimiter())));
                options.push(format!("quote = {0}, escape = {0}", sql::text(self.quote())));
                options.push(format!("nullstr = {}", sql::text(null_text)));
                self.push_dates(&mut options);
                "read_csv"
            }
            TableFormat::Json => {
                options.push(types);
                self.push_dates(&mut options);
                "read_json"
            }
        };
        format!("{function}({})", options.join(", "))
    }

    /// The columns of one file. Text has the contract's types, for it is read by them.
    pub(crate) fn columns(
        &self,
        session: &Session,
        file: &SourceFile,
        contract: &Contract,
    ) -> Result<Vec<ResultColumn>, TaskFailure> {
        let object = format!("file {}", file.identity.path);
        let columns = match self.format {
            TableFormat::Parquet => return self.parquet_columns(session, file),
            TableFormat::Csv => self.csv_columns(session, file, contract)?,
            TableFormat::Json => json_columns(session, file, contract)?,
        };
        let typed = columns.into_iter().map(|column| {
            let wanted =
                contract.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name) && !c.from_file_name);
            let data_type = wanted.map_or(column.data_type, |wanted| wanted.data_type.clone());
            ResultColumn { name: column.name, data_type }
        });
        let typed: Vec<_> = typed.collect();
        for (index, column) in typed.iter().enumerate() {
            if typed[..index].iter().any(|before| before.name.eq_ignore_ascii_case(&column.name)) {
                let message = format!("{object} has the column `{}` twice", column.name);
                return Err(TaskFailure::permanent("ContractViolated", message));
            }
        }
        Ok(typed)
    }

    /// Whether the footers of Parquet files say that none of these columns holds a NULL.
    pub(crate) fn footers_show_no_null(
        &self,
        session: &Session,
        files: &[&SourceFile],
        columns: &[&ContractColumn],
    ) -> bool {
        if self.format != TableFormat::Parquet {
            return false;
        }
        let names: Vec<_> = columns.iter().map(|column| column.name.to_lowercase()).collect();
        // A column that the footers do not count (a nested one) leaves fewer names than were asked for.
        let query = format!(
            "SELECT coalesce(bool_and(stats_null_count = 0 AND stats_null_count IS NOT NULL), true)
                    AND (count(*) = 0 OR count(DISTINCT lower(path_in_schema)) = {})
             FROM parquet_metadata({}) WHERE list_contains({}, lower(path_in_schema))",
            names.len(),
            locations(files),
            sql::text_list(names.iter().map(String::as_str)),
        );
        session.connection().query_row(&query, [], |row| row.get(0)).unwrap_or(false)
    }

    fn parquet_columns(&self, session: &Session, file: &SourceFile) -> Result<Vec<ResultColumn>, TaskFailure> {
        let columns = session.describe(&format!("FROM {}", self.reading(&[file], &[], false)), &[]);
        columns.map_err(|failure| failure.without_position().on(&format!("file {}", file.identity.path)))
    }

    /// Folders named `a=b` are columns of files from outside; those of the store are just folders.
    fn without_folders(&self) -> Option<String> {
        self.committed.then(|| "hive_partitioning = false".to_owned())
    }

    fn csv_columns(
        &self,
        session: &Session,
        file: &SourceFile,
        contract: &Contract,
    ) -> Result<Vec<ResultColumn>, TaskFailure> {
        let text = |name: String| ResultColumn { name, data_type: "VARCHAR".to_owned() };
        if !self.header() {
            let named = contract.columns.iter().filter(|column| !column.from_file_name);
            return Ok(named.map(|column| text(column.name.clone())).collect());
        }
        let Some(line) = first_line(session, file)? else {
            let message = format!("file {} has no header line", file.identity.path);
            return Err(TaskFailure::permanent("EmptyFile", message));
        };
        Ok(split_header(&line, self.delimiter(), self.quote()).into_iter().map(text).collect())
    }

    fn push_dates(&self, options: &mut Vec<String>) {
        options.extend(self.options.date_format.as_ref().map(|it| format!("dateformat = {}", sql::text(it))));
        options.extend(self.options.timestamp_format.as_ref().map(|it| format!("timestampformat = {}", sql::text(it))));
    }

    fn header(&self) -> bool {
        self.options.header.unwrap_or(true)
    }

    fn delimiter(&self) -> &str {
        self.options.delimiter.as_deref().unwrap_or(",")
    }

    fn quote(&self) -> &str {
        self.options.quote.as_deref().unwrap_or("\"")
    }
}

fn locations(files: &[&SourceFile]) -> String {
    let escaped: Vec<_> = files.iter().map(|file| glob_literal(&file.location)).collect();
    sql::text_list(escaped.iter().map(AsRef::as_ref))
}

/// The first line of a text file, whatever its encoding of line ends or its compression: read as CSV of one column.
fn first_line(session: &Session, file: &SourceFile) -> Result<Option<String>, TaskFailure> {
    let query = format!(
        "SELECT line FROM read_csv({}, auto_detect = false, header = false, delim = chr(1), quote = '', escape = '',
                                   columns = {{'line': 'VARCHAR'}}) LIMIT 1",
        locations(&[file])
    );
    let fail = |error: duckdb::Error| {
        TaskFailure::from_duckdb(&error, &format!("read file {}", file.identity.path)).without_position()
    };
    let mut statement = session.connection().prepare(&query).map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    match rows.next().map_err(fail)? {
        Some(row) => Ok(row.get::<_, Option<String>>(0).map_err(fail)?),
        None => Ok(None),
    }
}

fn split_header(line: &str, delimiter: &str, quote: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let (name, after) = match text.strip_prefix(quote).filter(|_| !quote.is_empty()) {
            Some(quoted) => {
                let end = closing_quote(quoted, quote);
                let name = quoted[..end].replace(&quote.repeat(2), quote);
                (name, quoted[end..].split_once(delimiter).map(|(_, after)| after))
            }
            None => match text.split_once(delimiter) {
                Some((name, after)) => (name.to_owned(), Some(after)),
                None => (text.to_owned(), None),
            },
        };
        names.push(name.trim().to_owned());
        rest = after;
    }
    names
}

fn closing_quote(text: &str, quote: &str) -> usize {
    let mut at = 0;
    while let Some(found) = text[at..].find(quote) {
        let end = at + found;
        let after = end + quote.len();
        if !text[after..].starts_with(quote) {
            return end;
        }
        at = after + quote.len();
    }
    text.len()
}

/// All keys of a JSON file. A file without a record has every column, as a CSV file with only a header has.
fn json_columns(session: &Session, file: &SourceFile, contract: &Contract) -> Result<Vec<ResultColumn>, TaskFailure> {
    let source = format!("FROM read_json({}, sample_size = -1)", locations(&[file]));
    let columns = session.describe(&source, &[]).map_err(|failure| failure.without_position())?;
    let is_untyped = matches!(columns.as_slice(), [only] if only.name == "json" && only.data_type == "JSON");
    let is_empty = || session.connection().query_row(&format!("SELECT count(*) = 0 {source}"), [], |row| row.get(0));
    if is_untyped && is_empty().unwrap_or(false) {
        let named = contract.columns.iter().filter(|column| !column.from_file_name);
        return Ok(named.map(|c| ResultColumn { name: c.name.clone(), data_type: c.data_type.clone() }).collect());
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_line_is_split_as_csv() {
        assert_eq!(split_header("id,name,qty", ",", "\""), ["id", "name", "qty"]);
        assert_eq!(split_header("\"a,b\",\"say \"\"hi\"\"\", c", ",", "\""), ["a,b", "say \"hi\"", "c"]);
        assert_eq!(split_header("id;name", ",", "\""), ["id;name"]);
        assert_eq!(split_header("a,,", ",", "\""), ["a", "", ""]);
        assert_eq!(split_header("\"a", ",", "\""), ["a"]);
    }
}
