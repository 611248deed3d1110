//! The rules that manifests are checked by. Their ids are stable: people and programs name them.

macro_rules! rules {
    ($($variant:ident, $id:literal, $title:literal, $explanation:literal;)*) => {
        /// A rule that a manifest can break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $(#[doc = $title] $variant,)* }

        impl Rule {
            /// Every rule, in the order of the reference.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant),*];

            /// Stable, in kebab case.
            pub fn id(self) -> &'static str {
                match self { $(Rule::$variant => $id),* }
            }

            /// Whether it tells of something that is not wrong.
            pub fn is_note(self) -> bool {
                self == Rule::NotChecked
            }

            /// What is demanded, in one sentence.
            pub fn title(self) -> &'static str {
                match self { $(Rule::$variant => $title),* }
            }

            /// Why, and what to write, in one paragraph of Markdown with an example.
            pub fn explanation(self) -> &'static str {
                match self { $(Rule::$variant => $explanation),* }
            }
        }
    };
}

rules! {
    // The file.
    YamlSyntax, "yaml-syntax", "A manifest is YAML.",
        "The file cannot be read as YAML from this place on; what stands before it in other documents of the file was checked. Frequent causes are a tab in the indentation, a `: ` within unquoted text, and a quote that is not closed. Write `title: \"Totals: 2024\"` and not `title: Totals: 2024`.";
    FileLimit, "file-limit", "A manifest is within the limits of size.",
        "A file holds at most 4 MiB, 1,000 documents and 200,000 values, nested at most 40 deep. The limits keep a mistake, or a file made to do harm, from using up memory. Split the file: `pintail lint DIR` reads every manifest of a folder.";
    AmbiguousYaml, "ambiguous-yaml", "YAML is written so that every parser reads the same.",
        "Parsers of YAML 1.1 and 1.2 read some unquoted words differently: `on`, `off`, `yes`, `no`, `y` and `n` are booleans to one and text to the other, `0777` is octal to one and decimal to the other, `1:30` is the number 90 to one and text to the other, `1_000` and `1e3` are numbers to one and text to the other. kubectl and Pintail must read the same thing, so these are refused: write `\"on\"` or `true`, `\"0777\"` or `511`.";
    DuplicateKey, "duplicate-key", "A key stands once in a mapping.",
        "Parsers disagree on which of two equal keys wins, so the second is refused. `{ name: a, name: b }` has two names: keep one.";
    AnchorOrTag, "anchor-or-tag", "A manifest has no anchors, aliases, merge keys or tags.",
        "`&name`, `*name`, `<<:` and `!tag` are read differently by different tools, are lost when an object is stored in a cluster, and can expand a small file to a huge one. Write the value out, for example `timeout: 10m` twice instead of `&timeout 10m` and `*timeout`; what all tasks share goes to `spec.defaults`.";
    CutExpression, "cut-expression", "An expression that YAML would cut is quoted.",
        "In unquoted text YAML ends a value at ` #`, and within `{ }` and `[ ]` also at `, `, `]` and `}`. An expression that holds one of these loses its end: `{ when: $(tasks.a.rows in [1, 2]) }` has the value `$(tasks.a.rows in`. Quote it: `{ when: \"$(tasks.a.rows in [1, 2])\" }`.";
    UnknownKind, "unknown-kind", "A document of Pintail has a known apiVersion and kind.",
        "Pintail's kinds are `Workflow`, `LaunchPlan`, `Connection`, `Execution`, `Artifact` and `WorkflowTest` of `pintail.dev/v1alpha1`; beside them `Secret` and `ConfigMap` of `v1` and `kustomization.yaml` are read. Every other document is left alone. `kind: WorkFlow` with `apiVersion: pintail.dev/v1alpha1` is refused, since it can only be a slip.";
    UnknownField, "unknown-field", "Every field is known.",
        "A field that the kind does not have would be ignored, and with it what it was meant to do. `dependOn: [a]` is refused with the hint that `dependsOn` exists.";
    MissingField, "missing-field", "Required fields are there and have a value.",
        "A required field is missing, or a field has a name but no value: `query:` with nothing behind it. Give it a value, or remove it if it is optional.";
    WrongType, "wrong-type", "Every value has the type of its field.",
        "Fields are text, whole numbers, true or false, lists or mappings. `uses: recent` is text where a list is meant: write `uses: [recent]`.";
    UnquotedText, "unquoted-text", "Text that looks like a number or a boolean is quoted.",
        "Without quotes `1.0` is a number and `true` a boolean, also where text is meant; as a number `1.0` would even be shortened to `1`. Write `cpu: \"1\"` and not `cpu: 1`.";
    UnknownValue, "unknown-value", "A value is one of those that its field allows.",
        "Some fields allow a few words only, written exactly so. `mode: upsert` is refused with the hint `Upsert`.";
    OutOfRange, "out-of-range", "Numbers, texts and lists are within the limits of their field.",
        "Each field says how small or large its number, and how short or long its text or list may be; the reference of manifests lists them. `retries: { limit: 100 }` is more than the 20 that are allowed.";
    SchemaRule, "schema-rule", "The rules between the fields of one object hold.",
        "These are the rules that a cluster checks when the object is applied, such as that a task has exactly one of `duckdb`, `export`, `copy`, `notify` and `report`. A task with both `duckdb` and `export` becomes two tasks, of which the second uses the first.";
    InvalidData, "invalid-data", "The data of a Secret is base64, that of a ConfigMap is text.",
        "`data` of a Secret holds base64; write plain text under `stringData` instead: `stringData: { token: abc }`.";
    // Names.
    ObjectName, "object-name", "An object's name is one that Kubernetes takes.",
        "`metadata.name` is of lower-case letters, digits and `-`, begins and ends with a letter or digit, and has at most 52 characters (Execution and Artifact 63). A Connection's name is its name in SQL with `-` for `_`: `e-commerce` is `e_commerce` in SQL, so it begins with a letter.";
    DuplicateObject, "duplicate-object", "An object is defined once.",
        "Two manifests that were given define the same object, such as two Connections `raw`, and only one can be meant. Give the folder of one environment only: `pintail lint retail.yaml connections/dev/`.";
    InvalidName, "invalid-name", "Names are SQL names of lower-case letters, digits and `_`.",
        "Inputs, tasks, outputs and datasets are named by 1 to 40 lower-case letters, digits and `_`, beginning with a letter and not ending with `_`: such a name needs no quotes in SQL. `Sales-2024` could be `sales_2024`.";
    ReservedName, "reserved-name", "Names are no words of SQL, CEL or YAML.",
        "DuckDB's reserved words and database names (`order`, `main`), CEL's (`in`, `import`) and YAML's booleans (`on`, `no`) cannot be used as names without quotes. `order` could be `orders`.";
    DuplicateName, "duplicate-name", "A name means one thing.",
        "Inputs, tasks and the connections that tasks read or write share one name space, since SQL sees all of them: an input and a task cannot both be `orders`. Nor can `uses` and `with` of one task give one name twice.";
    UnknownName, "unknown-name", "Every name that is used exists.",
        "`uses`, `dependsOn`, charts, exports and attachments name inputs, tasks and each other; a name that nothing has is most often a slip. `uses: [recnt]` is refused with the hint `recent`. A table that a chart, an export or an attachment names must be in the task's own `uses` or `with`.";
    SelfReference, "self-reference", "A task does not use itself.",
        "A task cannot need its own result, as in `{ name: a, uses: [a] }`. To carry something from one run to the next, load it into a database and read that.";
    DependencyCycle, "dependency-cycle", "Tasks do not wait for each other in a circle.",
        "If `a` uses `b` and `b` uses `a`, neither can start. The message names the whole circle; break it at one place, or join two tasks into one.";
    UnorderedLoad, "unordered-load", "A task that reads a database runs before or after the tasks that load into it.",
        "If one task loads into `lake` and another reads it, each run would read something else unless one comes first. `uses: [taxi_trips]` reads the table that the load task `taxi_trips` wrote, `dependsOn: [taxi_trips]` only waits for it.";
    // Connections.
    UnknownConnection, "unknown-connection", "Every connection that is used is defined.",
        "`reads`, `writes`, `connection` and `into` name Connections by their SQL names, with `_` for `-`. Give the manifest of the Connection to the command as well: `pintail lint retail.yaml connections/dev/`.";
    UnfitConnection, "unfit-connection", "A connection is of a kind that fits its use.",
        "`reads` takes databases (`duckdb`, `postgres`) and `secrets`, `writes` takes databases, `notify` takes `smtp` and `webhook`, files come from `folder`, `s3` and `http` and go to `folder` and `s3`. To read files in SQL, bind them as a table: `inputs: [ { name: raw, type: table, default: { connection: files, path: \"*.csv\" } } ]`, then `uses: [raw]`.";
    UndeclaredConnection, "undeclared-connection", "A task declares the databases that it uses.",
        "A task whose SQL names `lake.trips` must have `reads: [lake]`, and one that loads into it or changes it must have `writes: [lake]`: `writes` decides which databases are attached read-write, and which tasks may not run at the same time.";
    InvalidUrl, "invalid-url", "An address is a URL of http or https without credentials.",
        "`url` of `http` and `webhook` and `endpoint` of `s3` begin with `https://` or `http://`, as in `https://data.example.com/files`. A user, password or token in it would be seen by everyone who may read the Connection: use `bearerTokenFrom`, or `urlFrom` for a webhook whose address is the secret.";
    // Types and values.
    InvalidType, "invalid-type", "Types are DuckDB's.",
        "A type is one of DuckDB's, such as `VARCHAR`, `BIGINT`, `DECIMAL(12,2)`, `TIMESTAMP`, `VARCHAR[]`, `STRUCT(a INTEGER, b VARCHAR)`, `MAP(VARCHAR, BIGINT)`, or `table` for an input that is a table. `int64` is refused with the hint `BIGINT`.";
    InvalidContract, "invalid-contract", "A contract names each column once, and stands where a table is.",
        "`columns` lists the columns of a table by name and type; names are compared without regard to case, so `Id` and `id` are one column. `columns`, `otherColumns` and `source` belong to tables: an input of type `BIGINT` has none.";
    InvalidValue, "invalid-value", "A value fits the type of its input.",
        "A `BIGINT` takes a whole number, a `DATE` takes `\"2024-01-31\"`, a `DECIMAL(5,2)` at most three digits before the point and two behind, a list a list. `default: abc` of a `BIGINT` would fail in every run.";
    TableSource, "table-source", "A table is bound to one source.",
        "A table comes from exactly one of `{ connection: raw, path: \"*.csv\" }`, `{ artifact: name }`, `{ uri: data/file.parquet }` and `{ rows: [ … ] }`. `partition` goes with `artifact`; `format` and `options` go with files.";
    // Expressions.
    ExpressionSyntax, "expression-syntax", "`$(…)` holds a CEL expression.",
        "Between `$(` and the `)` that closes it stands one expression in CEL, such as `$(tasks.detect.rows > 0)` or `$(inputs.day == null ? \"all\" : inputs.day)`. A text that holds a literal `$(` writes it `$$(`.";
    ExpressionLimit, "expression-limit", "An expression is small.",
        "An expression has at most 1,024 bytes, brackets and conditions at most 32 deep, and at most one of `map`, `filter`, `all`, `exists` and `exists_one`: expressions are for small decisions, data is for SQL. Compute the value in a task of `kind: Values` and use `$(tasks.<task>.<column>)`.";
    UnknownReference, "unknown-reference", "An expression reads what exists.",
        "Expressions read `inputs.<input>`, `tasks.<task>…` and `execution.{name, uid, startTime, scheduledTime}`. A table has `.rows`, `.bytes` and `.uri`, a load `.load.rows`, `.load.watermark`, `.load.inserted` and `.load.updated`, a task of `kind: Values` its columns. `$(tasks.trends.row)` is refused with the hint `rows`.";
    ScopeNotAllowed, "scope-not-allowed", "An expression reads only what is known at its place.",
        "The partition of a published dataset and the path of a table input must be known before the first task starts, so they read `inputs` and `execution` only: `partition: { day: $(inputs.day) }`.";
    ExpressionType, "expression-type", "An expression gives the type that its field needs.",
        "`when` needs true or false: `$(tasks.detect.rows > 0)`, not `$(tasks.detect.rows)`. A table or a file is no value for a calculation: use its `.rows`, `.bytes` or `.uri`. Operators need fitting types: `1 + \"a\"` has no value.";
    // SQL.
    ExpressionInSql, "expression-in-sql", "SQL holds no `$(…)`.",
        "Values reach SQL as parameters, never by pasting text, which would let data change the statement. For an input `min_quantity` list it in `uses` and write `$min_quantity`; for anything else name it: `with: { top: $(inputs.pages * 2) }` and `$top`.";
    MissingQuery, "missing-query", "A DuckDB task has a query that is not empty.",
        "A task of kind `duckdb` needs a `query`, a `queryFrom` or `outputs` with a query each; SQL of white space and comments only gives no result. `setup` prepares the session and is no query.";
    SqlSyntax, "sql-syntax", "SQL can be parsed.",
        "DuckDB cannot read the statement from this place on; often the slip is the word before it. `SELEC id FROM orders` is refused with the hint `SELECT`. SQL of a task is DuckDB's: what another database writes differently, `SELECT TOP 5 …`, is `SELECT … LIMIT 5` here.";
    OneStatement, "one-statement", "A query is one statement, and so is each entry of `setup`.",
        "A `query` gives one result, so it holds one statement; a `;` or comments after it do no harm. Statements that have to run before it go to `setup`, one an entry: `setup: [ CREATE TEMP TABLE t AS SELECT 1 AS a ]`.";
    StatementNotAllowed, "statement-not-allowed", "SQL reads what the task was given and gives rows.",
        "A `query` returns rows: SELECT, FROM, WITH, VALUES, PIVOT and the like. `setup` makes tables, views, macros and types, changes rows and sets variables; to attach, install, copy, configure or to read files is not for SQL. Bind files to an input as a table, name databases in `reads` or `writes`, and write files with an `export` task.";
    UnknownTable, "unknown-table", "A table that SQL names exists.",
        "A query sees the tables of its task's `uses` and `with`, those of the databases in `reads` and `writes`, and what `setup` makes. `FROM recnt` is refused with the hint `recent`. A table of a database is one that its Connection lists under `tables`, or that a load task makes.";
    UnknownColumn, "unknown-column", "A column that is named exists.",
        "SQL, charts, and the `key`, `prefer` and `watermark` of a load name columns; these are known from the contracts of inputs, the `tables` of connections and the queries before. `SELECT quantty FROM recent` is refused with the columns that there are and the hint `quantity`.";
    UnknownFunction, "unknown-function", "A function that SQL calls exists.",
        "Functions are DuckDB's own and the macros that `setup` makes. `nvl(a, 0)` is refused with the hint `coalesce`. Functions of extensions that Pintail does not load are not there.";
    ArgumentTypes, "argument-types", "A function or operator takes the types that it is given.",
        "`sum(code)` of a text and `day + 'x'` of a date give nothing. Cast what is text: `sum(TRY_CAST(code AS DOUBLE))`; TRY_CAST gives NULL for text that is no number, CAST fails.";
    ComparedTypes, "compared-types", "Text is not compared with numbers.",
        "DuckDB would cast the text of every row to a number, and fail at the first that is none. `WHERE code = 5`, `code IN (1, 2)` and a join of a text with a number are refused: write `code = '5'`, or `TRY_CAST(code AS BIGINT) = 5`. So is a text in quotes that is no value of the type it is compared with, as in `quantity = 'many'`.";
    Grouping, "grouping", "A query with aggregates groups by its other columns.",
        "Beside `sum(…)` or `count(*)` a column has one value only if the query groups by it: `SELECT city, count(*) FROM rides GROUP BY ALL`. `WHERE` comes before aggregates, `HAVING` after them; `QUALIFY` filters by window functions.";
    AmbiguousColumn, "ambiguous-column", "A column's name means one column.",
        "Two tables of a join have a column of that name, or a result has it twice. Say of which table: `orders.id`; or give it a name of its own: `orders.id AS order_id`.";
    UnknownParameter, "unknown-parameter", "A parameter that SQL names is given.",
        "`$min_quantity` is a scalar input or a value that the task names in `uses` or `with`, a value of a connection of kind `secrets`, or the `bind` of a watermark. Parameters have names: `?` and `$1` are none.";
    UnusedParameter, "unused-parameter", "A scalar that a task is given is used.",
        "A scalar in `uses` or `with` that no statement names has no effect; most often the filter was forgotten: `WHERE quantity > $min_quantity`. Remove it, or use it.";
    BrokenContract, "broken-contract", "A result has the columns that are declared.",
        "`columns` of an output promise names and types; the query has to give each, in that type or one that it holds without loss. So have a dataset that another workflow reads, and a query that loads into a table that is there. Types that Parquet lacks are kept as others: HUGEINT, which `sum` of whole numbers gives, as DECIMAL(38,0), ENUM as VARCHAR. `CAST(sum(quantity) AS BIGINT) AS quantity` fits `{ name: quantity, type: BIGINT }`.";
    WrongColumnType, "wrong-column-type", "A column has a type that fits its use.",
        "The vertical columns of a chart are numbers; a watermark is a date, a timestamp or a number. Cast the column in the query, `CAST(total AS DOUBLE) AS total`, or name another.";
    InvalidSql, "invalid-sql", "DuckDB takes the SQL.",
        "DuckDB refuses the statement for a reason of its own, which the message gives: `SELECT 1 UNION SELECT 1, 2`, for example, whose sides have different numbers of columns.";
    NotChecked, "not-checked", "SQL is checked as far as its tables are known.",
        "This is a note and no mistake: nothing is known of a table, so the queries that read it, and what comes of them, are only parsed. Give an input `columns`, a Connection `tables`, a PIVOT the list of its values (`PIVOT t ON city IN ('Oslo', 'Rome') USING sum(n)`), or an output its `columns`, from where on everything is checked again.";
    SensitiveColumn, "sensitive-column", "A sensitive column leaves masked, or where it is released.",
        "A column that an input's `columns` or a Connection's `tables` call `sensitive: true` leaves by a published dataset, an export, a load, a report, a message or a scalar output only through a masking function (`md5` and `sha256`, unless the installation says others), or where `releases: [email]` names the column that leaves. What counts is where values flow: a column that only filters, joins, sorts or is counted does not leave. Where it cannot be known what a column comes from, it counts as coming from every column that its task reads. Write `sha256($keys_pepper || email) AS customer` in the query, leave the column out, or release it.";
    // Tasks.
    WrongResultKind, "wrong-result-kind", "A result is used as what it is.",
        "A table is used as a table by `uses`. A result of `kind: Values` is one row for expressions: `with: { mean: $(tasks.stats.mean) }`. A report is a file and can be attached to a message. `export`, `copy` and `notify` have no result: order after them by `dependsOn`.";
    InvalidLoad, "invalid-load", "The parts of a load fit together.",
        "`into` is `<connection>.<table>` or `<connection>.<schema>.<table>`; `key` is needed by `mode: Upsert` and goes with it only, as do `prefer` and `overlap`. Without a key a row that comes twice cannot be told from another, so `Append` with an overlap would load it twice.";
    InvalidDuration, "invalid-duration", "Durations are whole numbers of ms, s, m, h and d.",
        "Write `90s`, `10m`, `1h30m` or `7d`, the larger unit first and each once; a day is 24 hours.";
    InvalidQuantity, "invalid-quantity", "Resources are quantities as Kubernetes writes them.",
        "`cpu` is `\"2\"`, `\"0.5\"` or `500m`; `memory` and `ephemeralStorage` are bytes with a unit, `512Mi` or `20Gi`. `1GB` is refused with the hint `1G`.";
    PodOptions, "pod-options", "Pods are placed and marked as Kubernetes takes it.",
        "`pod` holds labels, annotations, a node selector and tolerations in the form of Kubernetes, and none whose key belongs to Kubernetes, Pintail or a tool that tracks what it deployed: `app.kubernetes.io/instance` on a pod would make such a tool delete it. `labels: { example.com/team: sales }` is fine. On a cluster `serviceAccountName` is one of those that the installation allows.";
    ClusterPath, "cluster-path", "On a cluster no data lies on a person's machine.",
        "A connection of kind `folder`, a `duckdb` file without `volumeClaim` and a `uri` that is a path are for runs on one machine: pods do not share its disk. The same name may stand for another place on a cluster, such as `s3: { bucket: raw }` or `duckdb: { volumeClaim: lake, path: lake.duckdb }`; keep one folder of connections for each. Reported by the operator, not by `pintail lint`.";
    UnknownFormat, "unknown-format", "A file's format is told by `format` or by its name.",
        "Exports and attachments end in `.parquet`, `.csv` or `.json`, or say `format`: `{ table: anomalies, as: bad.csv }`. A report is attached as `.html`.";
    InvalidSchedule, "invalid-schedule", "A schedule has times that come.",
        "`cron` has five fields: minute, hour, day of the month, month, day of the week, as in `0 2 * * *`; `timeZone` is a name of the IANA database such as `Europe/Paris`. A schedule that never comes, such as `0 0 30 2 *`, is refused.";
    TriggerCycle, "trigger-cycle", "LaunchPlans do not start each other in a circle.",
        "A plan that starts when `a` is published, and whose workflow publishes `b`, may not start another that publishes `a` when it sees `b`: they would run for ever. The message names the circle. Break it at one place, or say by `where` which versions start a run; circles that only show while they run are stopped after 20 runs that started each other.";
    NothingUsesIt, "nothing-uses-it", "A field stands where it has an effect.",
        "`reads` and `writes` attach databases for SQL, so they belong to tasks of kind `duckdb`; `copy` moves files and uses no table; `to` and attachments are for mail. Remove the field.";
    InvalidPath, "invalid-path", "A path stays below its connection.",
        "A path counts from the root of its connection: it begins with no `/`, is no URL and has no `..`. Where a pattern such as `*.csv` is copied, the target is a folder and ends in `/`: `to: { connection: raw, path: input/ }`. An attachment has a name only, no folder.";
    // Outputs.
    InvalidOutput, "invalid-output", "An output is a result or one expression.",
        "`value` is `$(tasks.<task>)`, `$(tasks.<task>.<output>)` or one expression that gives a scalar: `$(tasks.stats.mean)`. Text around it is not kept; write `$(\"mean: \" + string(tasks.stats.mean))`.";
    InvalidPublish, "invalid-publish", "A published output is a table, and each is published once.",
        "Only a table that a task keeps can become a version of a dataset, as in `{ name: trends, value: $(tasks.trends), publish: { artifact: sales_trends } }`; the rows of a load are in their database already. A table is written to the place of its dataset from the start, so it cannot be published twice, and one run publishes one version of a dataset's partition.";
    // Binding.
    MissingInput, "missing-input", "Every input without a default is given.",
        "A run binds each input that has no `default` and is not `optional: true`: `pintail run retail.yaml --input min_quantity=5`.";
    UnknownInput, "unknown-input", "Only inputs of the workflow are given.",
        "A name that the workflow has no input of is most often a slip: `--input min_quantty=5` is refused with the hint `min_quantity`.";
    // Tests.
    InvalidTest, "invalid-test", "A test expects what a task can give.",
        "A WorkflowTest expects `rows` of a query, a load or an export, `loaded` of a load, `sent` of a `notify` task, `written` of an export and `copied` of a copy, and nothing of a task that it does not run or that it expects to be skipped or to fail. `{ task: mail, rows: [ … ] }` is refused where `mail` sends a message: write `{ task: mail, sent: { subject: … } }`.";
    PlanLimit, "plan-limit", "A workflow is within the limits of a run.",
        "A workflow has at most 1,000 tasks, and its definition with all its SQL at most 512 KiB, so that it can be kept whole with every run. Split a larger one into workflows that hand over by datasets: `publish: { artifact: orders }` in the one, `default: { artifact: orders }` in the other.";
}
