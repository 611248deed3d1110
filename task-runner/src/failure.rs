//! Why an attempt failed, and whether trying again can mend it.

use std::time::{Duration, Instant};

use pintail_protocol::{Failure, FailureClass};

/// Between tries to reach a server: about as long as a cluster takes to restart one, or to make its name and address known.
const PAUSES: [Duration; 3] = [pause(1), pause(3), pause(10)];

/// No try begins later: a server that leaves requests unanswered has cost enough by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// A failure on its way to the report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct TaskFailure {
    pub class: FailureClass,
    /// One word, stable for programs.
    pub reason: &'static str,
    /// What was attempted, on which object, what to do. Never a secret, never a value of the data.
    pub message: String,
}

impl TaskFailure {
    #[must_use]
    pub fn permanent(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: FailureClass::Permanent, reason, message: message.into() }
    }

    #[must_use]
    pub fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: FailureClass::Transient, reason, message: message.into() }
    }

    #[must_use]
    pub fn infrastructure(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: FailureClass::Infrastructure, reason, message: message.into() }
    }

    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        Self { class: FailureClass::Busy, reason: "Busy", message: message.into() }
    }

    #[must_use]
    pub fn interrupted() -> Self {
        Self {
            class: FailureClass::Interrupted,
            reason: "Interrupted",
            message: "the work was told to stop".to_owned(),
        }
    }

    /// A full disk, a missing right or another failure of the machine's files. `attempt` says what was tried, such as
    /// `write the report`.
    #[must_use]
    pub fn from_io(error: &std::io::Error, attempt: &str) -> Self {
        let message = format!("could not {attempt}: {error}");
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::transient("DiskFull", message),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::permanent("AccessDenied", message)
            }
            _ => Self::infrastructure("InputOutput", message),
        }
    }

    /// DuckDB's error by its class, without values of the data. `attempt` says what was tried, such as
    /// `run query result`.
    #[must_use]
    pub fn from_duckdb(error: &duckdb::Error, attempt: &str) -> Self {
        match error {
            duckdb::Error::DuckDBFailure(_, Some(message)) => from_text(message, attempt),
            duckdb::Error::NulError(_) => {
                Self::permanent("InvalidText", format!("could not {attempt}: the text holds a NUL character"))
            }
            other => Self::infrastructure("EngineError", format!("could not {attempt}: {other}")),
        }
    }

    /// Without the piece of SQL that DuckDB shows as the place of an error.
    #[must_use]
    pub fn without_position(mut self) -> Self {
        if let Some(at) = self.message.find("\n\nLINE ") {
            self.message.truncate(at);
        }
        self
    }

    /// Counts the lines of a person's query, where DuckDB counted those of our statement, `lines` before it. Where the
    /// query stands in yet another one (`hidden`), the place is left out.
    #[must_use]
    pub(crate) fn in_wrapped_query(self, lines: usize, hidden: bool) -> Self {
        let Some((before, after)) = self.message.split_once("\n\nLINE ") else { return self };
        let line = after.split_once(':').and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest)));
        match line {
            Some((number, rest)) if number > lines && !hidden => {
                let shorter = number.to_string().len() - (number - lines).to_string().len();
                // The caret stands below the text, which starts after the number.
                let rest = rest.replacen(&format!("\n{}", " ".repeat(shorter)), "\n", 1);
                Self { message: format!("{before}\n\nLINE {}:{rest}", number - lines), ..self }
            }
            _ => self.without_position(),
        }
    }

    /// The same failure with the object it happened on before its message.
    #[must_use]
    pub fn on(mut self, object: &str) -> Self {
        self.message = format!("{object}: {}", self.message);
        self
    }
}

impl From<pintail_storage::StoreError> for TaskFailure {
    fn from(error: pintail_storage::StoreError) -> Self {
        let class = error.class();
        Self { class: class.failure_class(), reason: class.reason(), message: error.to_string() }
    }
}

impl From<TaskFailure> for Failure {
    fn from(failure: TaskFailure) -> Self {
        Self { class: failure.class, reason: failure.reason.to_owned(), message: failure.message }
    }
}

/// Acts again after each pause, as long as what went wrong passes by itself; acting twice is as good as once.
///
/// # Errors
/// What went wrong last.
pub(crate) fn with_pauses<T>(
    passes: impl Fn(&TaskFailure) -> bool,
    act: impl Fn() -> Result<T, TaskFailure>,
) -> Result<T, TaskFailure> {
    let begun = Instant::now();
    for pause in PAUSES {
        match act() {
            Err(failure) if passes(&failure) && begun.elapsed() + pause < PATIENCE => std::thread::sleep(pause),
            done => return done,
        }
    }
    act()
}

const fn pause(seconds: u64) -> Duration {
    // What is tested is how often, not how long.
    if cfg!(test) { Duration::from_millis(seconds) } else { Duration::from_secs(seconds) }
}

/// DuckDB's kinds of error, by the words before the colon.
fn from_text(text: &str, attempt: &str) -> TaskFailure {
    let (kind, detail) = text.split_once(" Error: ").unwrap_or(("Unknown", text));
    let permanent = |reason| TaskFailure::permanent(reason, format!("could not {attempt}: {}", detail.trim_end()));
    // A value may stand in the text of these, so only what is known not to hold one is repeated.
    let without_values =
        |reason| TaskFailure::permanent(reason, format!("could not {attempt}: {}", without_values(detail)));
    match kind {
        "Parser" | "Syntax" => permanent("ParserError"),
        "Binder" | "Parameter Not Resolved" | "Parameter Not Allowed" => permanent("BinderError"),
        "Catalog" | "Dependency" => permanent("CatalogError"),
        "Not implemented" => permanent("NotImplemented"),
        "Permission" | "Invalid Configuration" => permanent("NotAllowed"),
        "Invalid Input" if detail.starts_with("Cannot change configuration option") => permanent("NotAllowed"),
        "Invalid Input" if detail.starts_with("No magic bytes found at end of file") => TaskFailure::permanent(
            "NotParquet",
            format!("could not {attempt}: it is not a Parquet file, or only the beginning of one"),
        ),
        "Missing Extension" => permanent("ExtensionMissing"),
        "Conversion" | "Mismatch Type" | "Invalid type" => without_values("ConversionError"),
        "Invalid Input" => without_values("InvalidInput"),
        "Out of Range" | "Decimal" | "Divide by Zero" => without_values("OutOfRange"),
        "Constraint" => without_values("ConstraintError"),
        "Out of Memory" => memory(detail, attempt),
        "IO" | "HTTP" | "Connection" | "Network" => input_output(detail, attempt),
        "TransactionContext" | "Transaction" => TaskFailure::transient(
            "TransactionConflict",
            format!("could not {attempt}: {}", without_values_line(detail)),
        ),
        "INTERRUPT" | "Interrupt" => TaskFailure::interrupted(),
        _ => TaskFailure::infrastructure(
            "EngineError",
            format!("could not {attempt}: DuckDB failed with {kind}; this is a fault of the engine, not of the query"),
        ),
    }
}

fn memory(detail: &str, attempt: &str) -> TaskFailure {
    if detail.contains("max_temp_directory_size") {
        return TaskFailure::transient(
            "DiskFull",
            format!(
                "could not {attempt}: the data that was moved from memory to disk outgrew the scratch space: raise `resources.ephemeralStorage` or `resources.memory`"
            ),
        );
    }
    let used = detail.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(used, _)| used);
    let used = if used.ends_with("used") { format!(" ({used})") } else { String::new() };
    TaskFailure::transient(
        "OutOfMemory",
        format!("could not {attempt}: DuckDB's memory limit was reached{used}: raise `resources.memory`"),
    )
}

fn input_output(detail: &str, attempt: &str) -> TaskFailure {
    let first_line = detail.lines().next().unwrap_or_default();
    let first_line = first_line.split_once(" See also ").map_or(first_line, |(before, _)| before);
    let message = format!("could not {attempt}: {first_line}");
    let has = |part: &str| detail.contains(part);
    if has("Could not set lock on file") || has("Conflicting lock") {
        TaskFailure::busy(message)
    } else if has("No space left on device") || has("Disk quota exceeded") {
        TaskFailure::transient("DiskFull", message)
    } else if has("HTTP 403") || has("HTTP code 403") || has("(Forbidden)") || has("HTTP 401") || has("Unauthorized") {
        TaskFailure::transient(
            "AccessDenied",
            format!("{message}: check the connection's credentials and their rights"),
        )
    } else if has("HTTP 404") || has("(Not Found)") {
        TaskFailure::permanent("NotFound", message)
    } else if has("not a valid DuckDB database") {
        TaskFailure::permanent(
            "NotADatabase",
            format!("{message} Check the connection's path; the file was left as it is"),
        )
    } else if has("version number") {
        TaskFailure::permanent("NewerDatabase", format!("{message}: the file was written by another version of DuckDB"))
    } else if has("Permission denied") || has("Read-only file system") {
        TaskFailure::permanent("AccessDenied", message)
    } else if has("No such file") || has("does not exist") || has("No files found") {
        TaskFailure::permanent("NotFound", message)
    } else if has("Corrupt database file") {
        TaskFailure::permanent("NotADatabase", message)
    } else if ["connect", "HTTP", "http", "timed out", "Timeout", "resolve"].iter().any(|part| has(part)) {
        TaskFailure::transient("ConnectionFailed", message)
    } else {
        TaskFailure::transient("InputOutput", message)
    }
}

/// Starts of DuckDB's messages that are safe to repeat once quoted text and numbers are taken out. Any other text may
/// be a person's own, such as of `error(…)`.
const KNOWN_STARTS: [&str; 26] = [
    "Could not convert",
    "Could not cast",
    "Could not parse",
    "Casting value",
    "Failed to cast",
    "Failed to parse",
    "Type ",
    "Overflow in",
    "Cannot cast",
    "Cannot compare",
    "Unimplemented type for cast",
    "invalid ",
    "timestamp field value out of range",
    "date field value out of range",
    "time field value out of range",
    "Value ",
    "More than one row returned by a subquery",
    "Malformed JSON",
    "JSON transform error",
    "Duplicate key",
    "NOT NULL constraint failed",
    "CHECK constraint failed",
    "Violates foreign key",
    "PRIMARY KEY or UNIQUE constraint violated",
    "Values were not provided",
    "Division by zero",
];

/// DuckDB's message with every value that may be of the data taken out.
fn without_values(detail: &str) -> String {
    if detail.starts_with("CSV Error on Line") {
        return csv_error(detail);
    }
    let position = detail.find("\n\nLINE ").map_or("", |at| &detail[at..]).trim_end();
    let first_line = without_values_line(detail);
    if KNOWN_STARTS.iter().any(|start| first_line.starts_with(start)) {
        format!("{first_line}{position}")
    } else {
        format!("a value was refused; DuckDB's text is left out because it may hold data{position}")
    }
}

/// The first line with quoted text and free numbers as `…`.
fn without_values_line(detail: &str) -> String {
    let line = detail.lines().next().unwrap_or_default();
    let mut kept = String::with_capacity(line.len());
    let mut characters = line.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, character)) = characters.next() {
        if matches!(character, '"' | '\'') && !before.is_alphanumeric() {
            let rest = &line[at + 1..];
            // A value may hold the quote itself: the last one that ends a word counts.
            let end = rest.rfind(character).map_or(line.len(), |end| at + 1 + end);
            while characters.next_if(|(next, _)| *next <= end).is_some() {}
            kept.push('…');
        } else if character.is_ascii_digit() && !before.is_alphanumeric() {
            while characters
                .next_if(|(_, next)| next.is_alphanumeric() || matches!(next, '.' | '+' | '-' | ':'))
                .is_some()
            {}
            kept.push('…');
        } else {
            kept.push(character);
        }
        before = character;
    }
    kept
}

/// Line, column and file of a broken CSV line, without its content.
fn csv_error(detail: &str) -> String {
    let after = |start: &str| detail.lines().find_map(|line| line.trim().strip_prefix(start));
    let line = after("CSV Error on Line: ").unwrap_or("?");
    let file = after("file = ").unwrap_or("?");
    let what = if let Some(rest) = after("Error when converting column ") {
        let column = rest.split('"').nth(1).unwrap_or("?");
        let data_type = after(&format!("Column {column} is being converted as type ")).unwrap_or("its type");
        format!("the text of column `{column}` is not a {data_type}")
    } else if let Some(counts) = after("Expected Number of Columns: ") {
        let (expected, found) = counts.split_once(" Found: ").unwrap_or((counts, "another number"));
        format!("{expected} columns are expected, {found} found")
    } else if detail.contains("unterminated quote") {
        "a quote is opened and never closed".to_owned()
    } else if detail.contains("Maximum line size") {
        "the line is longer than DuckDB reads".to_owned()
    } else if detail.contains("not utf-8") || detail.contains("unicode") {
        "the text is not UTF-8".to_owned()
    } else {
        "the line is not valid CSV".to_owned()
    };
    format!("line {line} of {file}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        from_text(text, "run query `result`").message
    }

    #[test]
    fn a_value_of_the_data_never_stands_in_a_message() {
        for text in [
            "Conversion Error: Could not convert string 'Jane O'Neil' to INT64",
            "Conversion Error: Type INT64 with value 300777 can't be cast because the value is out of range for the destination type INT8",
            "Conversion Error: invalid date field format: \"Jane\", expected format is (YYYY-MM-DD)",
            "Conversion Error: Could not cast value 300777 to DECIMAL(3,1)",
            "Out of Range Error: Overflow in multiplication of INT64 (300777 * 3)!",
            "Constraint Error: Duplicate key \"x: 300777\" violates primary key constraint.",
            "Invalid Input Error: Jane lives at 300777",
            "Conversion Error: CSV Error on Line: 3\nOriginal Line: 2,Jane,300777\nError when converting column \"qty\". Could not convert string \"Jane\" to 'BIGINT'\n\nColumn qty is being converted as type BIGINT\n  file = in/b.csv",
            "Invalid Input Error: CSV Error on Line: 3\nOriginal Line: Jane,300777\nExpected Number of Columns: 3 Found: 2\n  file = in/b.csv",
            "INTERNAL Error: Jane 300777",
        ] {
            let message = message(text);
            assert!(!message.contains("Jane") && !message.contains("300777") && !message.contains("Neil"), "{message}");
        }
    }

    #[test]
    fn a_broken_csv_line_is_named_by_file_line_and_column() {
        let text = "Conversion Error: CSV Error on Line: 3\nOriginal Line: 2,x,foo\nError when converting column \"qty\". Could not convert string \"foo\" to 'BIGINT'\n\nColumn qty is being converted as type BIGINT\n  file = in/b.csv";
        let failure = from_text(text, "read `orders`");
        assert_eq!(failure.reason, "ConversionError");
        assert_eq!(
            failure.message,
            "could not read `orders`: line 3 of in/b.csv: the text of column `qty` is not a BIGINT"
        );
    }

    #[test]
    fn errors_of_the_query_keep_what_helps() {
        let text =
            "Conversion Error: Could not convert string 'abc' to INT64\n\nLINE 2: SELECT x::BIGINT\n               ^";
        assert_eq!(
            message(text),
            "could not run query `result`: Could not convert string … to INT64\n\nLINE 2: SELECT x::BIGINT\n               ^"
        );
        let binder = "Binder Error: Referenced column \"qty\" not found\nCandidate bindings: \"quantity\"";
        assert!(message(binder).contains("Candidate bindings: \"quantity\""));
    }

    #[test]
    fn the_class_tells_whether_trying_again_can_help() {
        for (text, reason, class) in [
            ("Parser Error: x", "ParserError", FailureClass::Permanent),
            (
                "Out of Memory Error: failed to allocate data of size 4.0 MiB (27.4 MiB/28.6 MiB used)",
                "OutOfMemory",
                FailureClass::Transient,
            ),
            (
                "Out of Memory Error: limit was set by the 'max_temp_directory_size' setting",
                "DiskFull",
                FailureClass::Transient,
            ),
            (
                "IO Error: Could not set lock on file \"x\": Conflicting lock is held in y (PID 1)",
                "Busy",
                FailureClass::Busy,
            ),
            (
                "IO Error: Could not write file \"/dev/full\": No space left on device",
                "DiskFull",
                FailureClass::Transient,
            ),
            (
                "IO Error: Could not connect to server error for HTTP HEAD to 'http://x'",
                "ConnectionFailed",
                FailureClass::Transient,
            ),
            ("HTTP Error: HTTP GET error on 'http://x' (HTTP 403)", "AccessDenied", FailureClass::Transient),
            (
                "IO Error: The file \"x\" exists, but it is not a valid DuckDB database file!",
                "NotADatabase",
                FailureClass::Permanent,
            ),
            ("INTERRUPT Error: Interrupted!", "Interrupted", FailureClass::Interrupted),
            ("INTERNAL Error: x", "EngineError", FailureClass::Infrastructure),
        ] {
            let failure = from_text(text, "run");
            assert_eq!((failure.reason, failure.class), (reason, class), "{text}");
        }
    }
}
