use serde_json::{Value, json};

use super::scan::NESTING_MAX;
use super::*;

fn scope() -> Scope {
    Scope {
        inputs: json!({
            "pages": 3, "rate": 1.5, "day": "2024-01-31", "none": null, "tags": ["a", "b"], "big": u64::MAX,
            "many": (0..2000).collect::<Vec<u32>>(), "text": "a".repeat(100_000),
        }),
        tasks: json!({
            "trends": { "rows": 2, "bytes": 812, "uri": "/x/y", "result": { "rows": 2 } },
            "stats": { "mean": 2.0, "name": "x" },
            "trips": { "load": { "rows": 0, "watermark": "2024-01-01T00:00:00Z" } },
        }),
        execution: json!({ "name": "retail-1", "startTime": "2024-01-31T10:00:00Z" }),
        ..Scope::default()
    }
}

fn value(source: &str) -> Result<Value, String> {
    let parsed = Expression::parse(source).map_err(|error| error.to_string())?;
    parsed.evaluate(&scope()).map_err(|error| error.message)
}

#[test]
fn expressions_give_json() {
    for (source, expected) in [
        ("inputs.pages * 2", json!(6)),
        ("inputs.rate", json!(1.5)),
        ("inputs.rate + 0.5", json!(2.0)),
        ("inputs.big", json!(u64::MAX)),
        ("inputs.none", json!(null)),
        ("inputs.none == null ? 'none' : inputs.none", json!("none")),
        ("inputs[\"day\"]", json!("2024-01-31")),
        ("inputs.day.substring(0, 4) + '/' + string(inputs.pages)", json!("2024/3")),
        ("inputs.tags", json!(["a", "b"])),
        ("inputs.tags[1]", json!("b")),
        ("inputs.tags.map(tag, tag + '!')", json!(["a!", "b!"])),
        ("inputs.tags.exists(tag, tag == 'b') && size(inputs.tags) == 2", json!(true)),
        ("'b' in inputs.tags", json!(true)),
        ("has(inputs.nothing)", json!(false)),
        ("has(inputs.day)", json!(true)),
        ("tasks.trends.rows > 1 && tasks.trips.load.rows == 0", json!(true)),
        ("tasks.trends.result.rows", json!(2)),
        ("tasks.stats.mean", json!(2.0)),
        ("int(tasks.stats.mean)", json!(2)),
        ("double(inputs.pages)", json!(3.0)),
        ("{'b': 1, 'a': [true]}", json!({ "a": [true], "b": 1 })),
        (
            "execution.name.startsWith('retail') && execution.name.contains('-') && execution.name.endsWith('1')",
            json!(true),
        ),
        ("' A b '.trim().lowerAscii().split(' ')", json!(["a", "b"])),
        ("'abc'.upperAscii().indexOf('B') + 'abab'.lastIndexOf('b')", json!(4)),
        ("'abc'.charAt(1)", json!("b")),
        ("bool('true') && type(1) == int && uint(1) == 1u && dyn(1) == 1", json!(true)),
        ("b'\\x01\\xff'", json!("01ff")),
        ("execution.startTime > '2024-01-01T00:00:00Z'", json!(true)),
    ] {
        assert_eq!(value(source), Ok(expected), "{source}");
    }
}

#[test]
fn what_fails_says_why_and_shows_no_value() {
    for (source, message) in [
        ("tasks.trends.nothing", "there is no `nothing`"),
        ("inputs.nothing", "there is no `nothing`"),
        ("inputs.day + 1", "`+` does not take string and int"),
        ("inputs.pages / 0", "division by zero"),
        ("inputs.pages * 9223372036854775807", "`*` overflows"),
        ("inputs.tags[5]", "an index is out of bounds"),
        ("int('secret')", "int() does not take this value"),
        ("inputs.day < 1", "`<` does not take string and int"),
    ] {
        let found = value(source).expect_err(source);
        assert_eq!(found, message, "{source}");
        assert!(!found.contains("2024") && !found.contains("secret"), "{found}");
    }
}

#[test]
fn expressions_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(NESTING_MAX)).is_ok());
    // What is let through is evaluated on the small stack of a test's thread.
    let sum = vec!["inputs.pages"; 60].join("+");
    assert_eq!(value(&sum), Ok(json!(180)));
    assert_eq!(value(&nested(NESTING_MAX)), Ok(json!(1)));
    let long_sum = vec!["1"; 400].join("+");
    let conditions = "true?1:".repeat(100) + "1";
    for source in [
        nested(NESTING_MAX + 1),
        "[".repeat(500) + &"]".repeat(500),
        "1 +".repeat(400),
        long_sum,
        conditions,
        "[1].map(x, [2].map(y, x + y))".to_owned(),
        "[1].map(x, x).exists(x, x == 1)".to_owned(),
        format!("'{}'", "a".repeat(2000)),
        format!("inputs{}", ".a".repeat(100)),
    ] {
        let error = Expression::parse(&source).expect_err(&source);
        assert_eq!(error.rule, Rule::ExpressionLimit, "{source}: {error}");
    }
    // Recursion that only the parser sees.
    for source in
        ["!".repeat(1000) + "true", "-".repeat(1000) + "1", "[".repeat(20), "a.".repeat(300), "\"".repeat(999)]
    {
        let _ = Expression::parse(&source);
    }
}

#[test]
fn evaluation_ends_soon_whatever_is_asked() {
    for source in [
        "inputs.many.map(x, inputs.many + inputs.many)",
        "inputs.many.map(x, inputs.text + inputs.text)",
        "inputs.many.all(x, inputs.many.size() > 0 && x in inputs.many && inputs.many == inputs.many)",
    ] {
        assert!(value(source).is_err(), "{source}");
    }
}

#[test]
fn text_is_no_expression_where_something_else_is_meant() {
    for (source, rule, hint) in [
        ("", Rule::ExpressionSyntax, None),
        ("inputs.a >", Rule::ExpressionSyntax, None),
        ("inputs.a and true", Rule::ExpressionSyntax, Some("`&&` or `||`, which are `and` and `or` in CEL")),
        ("inputs.a = 1", Rule::ExpressionSyntax, Some("`==`, which compares in CEL")),
        ("1 // one", Rule::ExpressionSyntax, None),
        ("sizee(inputs.a)", Rule::ExpressionSyntax, Some("`size`")),
        ("task.a.rows", Rule::UnknownReference, Some("`tasks`")),
        ("inputs", Rule::UnknownReference, None),
        ("size(tasks) > 1", Rule::UnknownReference, None),
        ("day == 1", Rule::UnknownReference, Some("`inputs.day`, `tasks.day`, or `\"day\"` for text")),
        ("[1].map(inputs, inputs + 1)", Rule::ExpressionSyntax, None),
        ("Message{a: 1}", Rule::ExpressionSyntax, None),
        ("'a'.replace('a', 'b')", Rule::ExpressionSyntax, None),
        ("(1]", Rule::ExpressionSyntax, None),
        ("'open", Rule::ExpressionSyntax, None),
    ] {
        let error = Expression::parse(source).expect_err(source);
        assert_eq!((error.rule, error.suggestion.as_deref()), (rule, hint), "{source}: {error}");
        assert!(error.offset <= source.len(), "{source}");
    }
}

#[test]
fn an_expression_names_what_it_reads() {
    let parsed =
        Expression::parse("inputs.a + tasks['t'].load.rows + [1].map(x, x + inputs.b)[0] + size(execution.name)")
            .expect("right");
    let references: Vec<String> = parsed.references().iter().map(ToString::to_string).collect();
    assert_eq!(references, ["inputs.a", "inputs.b", "tasks.t.load.rows", "execution.name"]);
    assert!(parsed.as_reference().is_none());
    let path = Expression::parse(" tasks.t ").expect("right");
    assert_eq!(path.as_reference().map(ToString::to_string).as_deref(), Some("tasks.t"));
    assert!(Expression::parse("has(tasks.t)").is_ok_and(|parsed| parsed.references().len() == 1));
}

#[test]
fn text_is_rendered_with_its_expressions() {
    for (text, expected) in [
        ("plain", Ok("plain")),
        ("", Ok("")),
        ("$(inputs.pages) of $(tasks.stats.mean): $(inputs.tags) $(true)", Ok("3 of 2.0: [\"a\",\"b\"] true")),
        ("a $$(b) $(\")\" + '$(') $", Ok("a $(b) )$( $")),
        (
            "$(inputs.none)",
            Err(
                "it is null, which cannot stand in text; say what stands there instead: $(inputs.none == null ? \"none\" : inputs.none)",
            ),
        ),
    ] {
        let template = Template::parse(text).expect(text);
        let rendered = template.render(&scope()).map_err(|error| error.message);
        assert_eq!(rendered.as_deref(), expected.map_err(str::to_owned).as_deref(), "{text}");
    }
    assert_eq!(Template::parse("$(inputs.pages)").expect("right").evaluate(&scope()), Ok(json!(3)));
    assert_eq!(Template::parse("$(inputs.none)").expect("right").evaluate(&scope()), Ok(json!(null)));
    assert_eq!(Template::parse("$$(x)").expect("right").literal(), Some("$(x)"));
}

#[test]
fn a_text_reports_each_of_its_wrong_expressions_with_its_offset() {
    let errors = Template::parse("a $(1 +) b $(inputs.x == 'é') c $(nothing) $(open").expect_err("wrong");
    let offsets: Vec<usize> = errors.iter().map(|error| error.offset).collect();
    assert_eq!(offsets, [7, 35, 44]);
}

#[test]
fn what_is_read_without_the_parser_means_the_same_with_it() {
    for source in [
        "inputs.pages",
        "inputs.pages > 0",
        "inputs.pages >= 3",
        "inputs.pages == 3",
        "inputs.pages != 3",
        "inputs.pages < 3",
        "inputs.pages <= 3",
        " tasks.trends.rows >  0 ",
        "inputs.pages > 01",
        "inputs.pages > 0 > 1",
        "inputs.pages > 99999999999999999999",
        "inputs.none > 0",
        "inputs.nothing > 0",
        "inputs.rate > 0",
        "inputs.day == 1",
    ] {
        let with_parser = |source: &str| value(&format!("({source})"));
        assert_eq!(value(source).is_ok(), with_parser(source).is_ok(), "{source}");
        assert_eq!(value(source).ok(), with_parser(source).ok(), "{source}");
    }
}
