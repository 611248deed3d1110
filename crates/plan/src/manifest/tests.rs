use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::*;
use crate::{Surroundings, compile};

/// What `pintail lint FILE` finds: every problem of the file and of its workflows.
pub(crate) fn lint(file: &str, text: &str) -> Vec<Located> {
    lint_files(&[(file, text)], |_| None)
}

fn lint_files(files: &[(&str, &str)], read: impl Fn(&str) -> Option<String>) -> Vec<Located> {
    let mut surroundings = Surroundings::default();
    let mut problems = Vec::new();
    let mut documents = Vec::new();
    for (file, text) in files {
        let parsed = parse_manifests(file, text);
        problems.extend(parsed.problems);
        documents.extend(parsed.documents);
    }
    problems.extend(repeated_objects(&documents));
    for document in &documents {
        match &document.object {
            Object::Connection(connection) => {
                let name = connection.metadata.name.clone().unwrap_or_default().replace('-', "_");
                surroundings.connections.insert(name, Arc::new((**connection).clone()));
            }
            Object::ConfigMap(map) => {
                surroundings.config_maps.insert(map.name.clone(), map.data.clone());
            }
            Object::Kustomization(kustomization) => {
                for map in &kustomization.config_maps {
                    let files = map.files.iter().filter_map(|(key, path)| Some((key.clone(), read(path)?)));
                    surroundings.config_maps.insert(map.name.clone(), files.collect());
                }
            }
            _ => {}
        }
    }
    for document in &documents {
        if let Object::Workflow(workflow) = &document.object
            && let Err(found) = compile(workflow, &surroundings)
        {
            problems.extend(document.locate_all(found));
        }
    }
    problems.sort_by_key(|located| (located.line, located.column));
    problems
}

pub(crate) fn wrong_manifests() -> BTreeMap<String, String> {
    manifests(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wrong"))
}

pub(crate) fn right_manifests() -> Vec<String> {
    manifests(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/right")).into_values().collect()
}

fn manifests(folder: &str) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder).expect("the folder of manifests");
    files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("text"))
        })
        .collect()
}

#[test]
fn right_manifests_have_no_problems() {
    for text in right_manifests() {
        let problems: Vec<String> = lint("right.yaml", &text).iter().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}

/// Every example, against its local connections, which `pintail lint` reads the same way.
#[test]
fn the_examples_have_no_problems() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"));
    for example in std::fs::read_dir(folder).expect("the examples") {
        let example = example.expect("a folder").path();
        let mut files = Vec::new();
        for folder in [example.clone(), example.join("local")] {
            for file in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = file.expect("a file").path();
                if path.extension().is_some_and(|ending| ending == "yaml") {
                    files.push((path.display().to_string(), std::fs::read_to_string(&path).expect("text")));
                }
            }
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let read = |name: &str| std::fs::read_to_string(example.join(name)).ok();
        let problems: Vec<String> = lint_files(&files, read).iter().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}

#[test]
fn every_wrong_manifest_has_its_problems_named() {
    let mut all = String::new();
    for (name, text) in wrong_manifests() {
        let problems = lint(&name, &text);
        assert!(!problems.is_empty(), "{name} has problems");
        for problem in problems {
            writeln!(all, "{problem}").expect("text");
        }
        all.push('\n');
    }
    insta::assert_snapshot!("wrong_manifests", all);
}

/// The rules that DuckDB checks; e2e/corpus/wrong breaks each of them.
const OF_SQL: [crate::Rule; 17] = {
    use crate::Rule::*;
    [
        SqlSyntax,
        OneStatement,
        StatementNotAllowed,
        UnknownTable,
        UnknownColumn,
        UnknownFunction,
        ArgumentTypes,
        ComparedTypes,
        Grouping,
        AmbiguousColumn,
        UnknownParameter,
        UnusedParameter,
        BrokenContract,
        WrongColumnType,
        SensitiveColumn,
        InvalidSql,
        NotChecked,
    ]
};

/// Each rule breaks in the corpus, or is of binding and limits, which have tests of their own.
#[test]
fn the_wrong_manifests_break_every_rule_of_files() {
    use crate::Rule;
    let elsewhere = [
        Rule::FileLimit,
        Rule::MissingInput,
        Rule::UnknownInput,
        Rule::PlanLimit,
        Rule::ClusterPath,
        Rule::InvalidSchedule,
        Rule::TriggerCycle,
        Rule::InvalidTest,
    ];
    let found: std::collections::BTreeSet<Rule> = wrong_manifests()
        .iter()
        .flat_map(|(name, text)| lint(name, text))
        .map(|located| located.problem.rule)
        .chain(elsewhere)
        .chain(OF_SQL)
        .collect();
    let missing: Vec<&str> = Rule::ALL.iter().filter(|rule| !found.contains(rule)).map(|rule| rule.id()).collect();
    assert!(missing.is_empty(), "no manifest breaks {missing:?}");
}

#[test]
fn rules_are_documented_and_their_ids_are_stable_words() {
    let mut ids = std::collections::BTreeSet::new();
    for rule in crate::Rule::ALL {
        assert!(ids.insert(rule.id()), "{} stands twice", rule.id());
        assert!(rule.id().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.id());
        assert!(rule.title().ends_with('.') && rule.explanation().len() > 80, "{}", rule.id());
        assert!(rule.explanation().contains('`') && rule.explanation().ends_with('.'), "{} has an example", rule.id());
    }
}

#[test]
fn a_problem_within_a_text_is_shown_where_it_stands() {
    let text = "apiVersion: pintail.dev/v1alpha1\nkind: Workflow\nmetadata: { name: a }\nspec:\n  tasks:\n    - name: t\n      when: \"$(1 == 1 && inputs.x)\"\n      duckdb:\n        query: |\n          SELECT 1\n            WHERE é > $(inputs.x)\n";
    let places: Vec<(usize, usize)> = lint("a.yaml", text).iter().map(|found| (found.line, found.column)).collect();
    assert_eq!(places, [(7, 26), (11, 23)]);
    let windows = text.replace('\n', "\r\n");
    let places: Vec<(usize, usize)> = lint("a.yaml", &windows).iter().map(|found| (found.line, found.column)).collect();
    assert_eq!(places, [(7, 26), (11, 23)]);
}

#[test]
fn every_kind_is_read() {
    let text = r#"
apiVersion: pintail.dev/v1alpha1
kind: Execution
metadata: { name: run-1, labels: { team: data } }
spec: { workflowRef: { name: retail }, inputs: { least: 5, t: { rows: [] } }, cancel: true }
---
apiVersion: pintail.dev/v1alpha1
kind: Artifact
metadata: { name: sales-1 }
spec: { artifact: sales, createdAt: "2024-01-01T00:00:00Z", uri: /x, rows: 1, bytes: 2, columns: [], digest: "sha256:00" }
---
apiVersion: v1
kind: Secret
metadata: { name: keys }
data: { a: YWJj }
stringData: { b: plain }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: sql }
data:
  a.sql: |
    SELECT 1
---
kind: Deployment
apiVersion: apps/v1
---
"#;
    let parsed = parse_manifests("all.yaml", text);
    assert_eq!(parsed.problems, []);
    let names: Vec<(&str, Option<&str>)> =
        parsed.documents.iter().map(|document| (document.object.kind(), document.object.name())).collect();
    assert_eq!(
        names,
        [
            ("Execution", Some("run-1")),
            ("Artifact", Some("sales-1")),
            ("Secret", Some("keys")),
            ("ConfigMap", Some("sql")),
            ("Deployment", None),
        ]
    );
    let Object::Secret(secret) = &parsed.documents[2].object else { panic!("a secret") };
    assert_eq!(secret.data["a"], b"abc");
    assert!(!format!("{secret:?}").contains("plain"));
    let kustomization = "configMapGenerator:\n  - name: sql\n    files: [a.sql, b=sql/c.sql]\n    literals: [k=v=w]\n";
    let parsed = parse_manifests("x/kustomization.yaml", kustomization);
    let Object::Kustomization(found) = &parsed.documents[0].object else { panic!("a kustomization") };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(found.config_maps[0].files, [pair("a.sql", "a.sql"), pair("b", "sql/c.sql")]);
    assert_eq!(found.config_maps[0].literals, [pair("k", "v=w")]);
}

fn rules(text: &str) -> Vec<&'static str> {
    lint("a.yaml", text).iter().map(|found| found.problem.rule.id()).collect()
}

#[test]
fn input_made_to_do_harm_is_refused_soon() {
    assert_eq!(rules(&"[".repeat(1 << 20)), ["file-limit"]);
    assert_eq!(rules(&"{a: ".repeat(1 << 18)), ["file-limit"]);
    assert_eq!(rules(&"- ".repeat(1 << 19)), ["file-limit"]);
    assert_eq!(rules(&"? ".repeat(1 << 19)), ["file-limit"]);
    assert_eq!(rules(&"a: 1\n---\n".repeat(2000)), ["file-limit"]);
    assert_eq!(rules(&"- 1\n".repeat(300_000)), ["file-limit"]);
    assert_eq!(rules(&"#".repeat(5 << 20)), ["file-limit"]);
    let header = "apiVersion: pintail.dev/v1alpha1\nkind: Workflow\nmetadata: { name: a }\n";
    let mut bomb = format!("{header}a0: &a0 [x, x]\n");
    for level in 1..30 {
        bomb += &format!("a{level}: &a{level} [*a{}, *a{}]\n", level - 1, level - 1);
    }
    assert!(rules(&bomb).contains(&"anchor-or-tag"));
    for text in [
        format!("{header}spec: {{ tasks: [ {{ name: a, when: \"$({})\" }} ] }}", "(".repeat(10_000)),
        format!("{header}spec: {{ tasks: [ {{ name: a, when: \"{}\" }} ] }}", "$(".repeat(10_000)),
        format!("{header}spec: {{ tasks: [ {{ name: {} }} ] }}", "a".repeat(1 << 20)),
        format!("{header}spec: {{ tasks: [{}] }}", "{ name: a },".repeat(20_000)),
        format!("{header}spec: {{ tasks: [{}] }}", "{ b: c, d: [e] },".repeat(9_000)),
        "\"".repeat(1 << 20),
        "'a: ".repeat(1 << 18),
        "a:\n".repeat(100_000),
        "!a &b ".repeat(10_000),
        "\u{2028}".repeat(1000),
        "\0".to_owned(),
        "a: |\n".to_owned() + &"  x\n".repeat(200_000),
    ] {
        let problems = lint("a.yaml", &text);
        assert!(problems.len() <= 1100, "{} problems", problems.len());
    }
}
