use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, SelectExpr, operators};
use cel::{Env, IdedExpr};

use super::scan::{self, limit, syntax};
use super::{Expression, ParseError, Reference, ScopeName};
use crate::Rule;
use crate::problem::nearest;

/// Four times what the parser was measured to need at the most brackets that are let through, in a debug build.
const STACK_BYTES: usize = 16 << 20;
/// The evaluator recurses on the tree; a sum of 60 parts is more than anybody writes.
const TREE_DEPTH_MAX: usize = 64;

/// Functions, without operators. What can make a large text out of a small one (`replace`, `join`, `format`) is left
/// out, since nothing bounds it. Macros stand here for suggestions.
const FUNCTIONS: [&str; 17] = [
    "bool",
    "charAt",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "indexOf",
    "int",
    "lastIndexOf",
    "lowerAscii",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
    "upperAscii",
];
const MORE_FUNCTIONS: [&str; 2] = ["type", "uint"];
const MACROS: [&str; 7] = ["all", "exists", "existsOne", "exists_one", "filter", "has", "map"];
/// Names of types, which are values in CEL.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    // Fails only for a function that is there twice.
    let _ = environment.add_extension(cel::extensions::strings);
    Arc::new(environment)
});

/// Runs `work` where CEL's parser has the stack that it needs.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|threads| {
        let worker = std::thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(threads, work)
            .map_err(|error| format!("no thread could be started to check it: {error}"))?;
        worker.join().map_err(|_| "the check failed; please report this as a bug of Pintail".to_owned())
    })
}

/// Most expressions are a path, `tasks.trends.rows`: these need no parser.
fn plain_path(source: &str) -> Option<Expression> {
    let trimmed = source.trim();
    let mut names = trimmed.split('.');
    let scope = ScopeName::of(names.next()?)?;
    let path: Vec<String> = names.map(str::to_owned).collect();
    let plain = |name: &String| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !matches!(name.as_str(), "in" | "true" | "false" | "null")
    };
    if path.is_empty() || path.len() >= TREE_DEPTH_MAX || !path.iter().all(plain) {
        return None;
    }
    if source.len() > scan::SOURCE_BYTES_MAX {
        return None;
    }
    let root = IdedExpr { id: 1, expr: Expr::Ident(scope.as_str().to_owned()) };
    let tree = (2..).zip(&path).fold(root, |operand, (id, field)| IdedExpr {
        id,
        expr: Expr::Select(SelectExpr { operand: Box::new(operand), field: field.clone(), test: false }),
    });
    let references = [Reference { scope, path }].into();
    Some(Expression { source: source.to_owned(), tree: Arc::new(tree), references })
}

/// The next most are a path compared with a number, `tasks.trends.rows > 0`.
fn plain_comparison(source: &str) -> Option<Expression> {
    const OPERATORS: [(&str, &str); 6] = [
        (" > ", operators::GREATER),
        (" >= ", operators::GREATER_EQUALS),
        (" == ", operators::EQUALS),
        (" != ", operators::NOT_EQUALS),
        (" < ", operators::LESS),
        (" <= ", operators::LESS_EQUALS),
    ];
    let (left, operator, right) = OPERATORS.iter().find_map(|(symbol, operator)| {
        source.split_once(symbol).map(|(left, right)| (left, *operator, right.trim()))
    })?;
    let is_number = right.bytes().all(|byte| byte.is_ascii_digit()) && (right == "0" || !right.starts_with('0'));
    let number: i64 = right.parse().ok().filter(|_| is_number)?;
    let left = plain_path(left)?;
    let number = IdedExpr { id: 2 * TREE_DEPTH_MAX as u64, expr: Expr::Literal(LiteralValue::Int(number.into())) };
    let args = vec![IdedExpr::clone(&left.tree), number];
    let call = CallExpr { func_name: operator.to_owned(), target: None, args };
    let tree = IdedExpr { id: 2 * TREE_DEPTH_MAX as u64 + 1, expr: Expr::Call(call) };
    Some(Expression { source: source.to_owned(), tree: Arc::new(tree), references: left.references })
}

/// What needs no parser.
pub(super) fn plain(source: &str) -> Option<Expression> {
    plain_path(source).or_else(|| plain_comparison(source))
}

pub(super) fn constant(text: &str) -> Expression {
    let tree = IdedExpr { id: 1, expr: Expr::Literal(LiteralValue::String(text.to_owned().into())) };
    Expression { source: format!("{text:?}"), tree: Arc::new(tree), references: [].into() }
}

pub(super) fn parse(source: &str) -> Result<Expression, ParseError> {
    scan::check(source)?;
    // The parser is a large piece of generated code; a panic in it is one bad expression, not the end of the process.
    let parsed = catch_unwind(AssertUnwindSafe(|| ENVIRONMENT.parser().parse(source)));
    let tree = match parsed {
        Ok(Ok(tree)) => tree,
        Ok(Err(errors)) => return Err(parse_error(source, &errors)),
        Err(_) => return Err(syntax("CEL cannot read the expression", 0)),
    };
    let mut walk = Walk { source, references: BTreeSet::new(), variables: Vec::new(), comprehensions: 0 };
    walk.expression(&tree, 0)?;
    let references = walk.references.into_iter().collect();
    Ok(Expression { source: source.to_owned(), tree: Arc::new(tree), references })
}

/// The first error, on one line. The parser's own text is not displayed whole: it panics on long lines.
fn parse_error(source: &str, errors: &cel::ParseErrors) -> ParseError {
    let Some(first) = errors.errors.first() else { return syntax("CEL cannot read the expression", 0) };
    let line = usize::try_from(first.pos.0).unwrap_or(1).max(1);
    let column = usize::try_from(first.pos.1).unwrap_or(0);
    let line_start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = source.get(line_start..).unwrap_or_default();
    let offset = line_start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
    let found = source.get(offset..).unwrap_or_default();
    let message = if found.is_empty() {
        "the expression ends too early".to_owned()
    } else {
        format!("CEL cannot read the expression at `{}`", crate::problem::excerpt(found))
    };
    let mut error = syntax(message, offset.min(source.len()));
    if source.contains(" and ") || source.contains(" or ") {
        error.suggestion = Some("`&&` or `||`, which are `and` and `or` in CEL".to_owned());
    } else if source.contains(" = ") {
        error.suggestion = Some("`==`, which compares in CEL".to_owned());
    }
    error
}

/// The names of `inputs.a.b`, with `["b"]` read as `.b`; none for anything but a path from a name, `has(…)` neither.
pub(super) fn path_of(tree: &IdedExpr) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut at = tree;
    loop {
        match &at.expr {
            Expr::Ident(name) => {
                names.push(name.as_str());
                names.reverse();
                return Some(names);
            }
            Expr::Select(select) if !select.test => {
                names.push(select.field.as_str());
                at = &select.operand;
            }
            Expr::Call(CallExpr { func_name, args, .. }) if func_name == operators::INDEX => match args.as_slice() {
                [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }] => {
                    names.push(key.inner());
                    at = operand;
                }
                _ => return None,
            },
            _ => return None,
        }
    }
}

struct Walk<'a> {
    source: &'a str,
    references: BTreeSet<Reference>,
    /// Variables of the comprehensions around.
    variables: Vec<&'a str>,
    comprehensions: usize,
}

impl<'a> Walk<'a> {
    fn expression<'t: 'a>(&mut self, tree: &'t IdedExpr, depth: usize) -> Result<(), ParseError> {
        if depth > TREE_DEPTH_MAX {
            return Err(limit(format!("the expression is nested more than {TREE_DEPTH_MAX} deep"), 0));
        }
        let names = match &tree.expr {
            Expr::Select(select) if select.test => path_of(&select.operand).map(|mut names| {
                names.push(&select.field);
                names
            }),
            _ => path_of(tree),
        };
        if let Some(names) = names
            && let Some((root, path)) = names.split_first()
            && !self.variables.contains(root)
        {
            if names.len() > TREE_DEPTH_MAX {
                return Err(limit(format!("a path has more than {TREE_DEPTH_MAX} names"), 0));
            }
            return self.path(root, path);
        }
        match &tree.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => Ok(()),
            Expr::Select(select) => self.expression(&select.operand, depth + 1),
            Expr::List(ListExpr { elements, .. }) => self.all(elements, depth),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr, depth)),
            Expr::Struct(_) => Err(syntax("CEL's messages cannot be made here; `{\"key\": value}` makes a map", 0)),
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
        }
    }

    fn all<'t: 'a>(&mut self, trees: &'t [IdedExpr], depth: usize) -> Result<(), ParseError> {
        trees.iter().try_for_each(|tree| self.expression(tree, depth + 1))
    }

    fn entry<'t: 'a>(&mut self, entry: &'t EntryExpr, depth: usize) -> Result<(), ParseError> {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key, depth + 1)?;
                self.expression(&entry.value, depth + 1)
            }
            EntryExpr::StructField(field) => self.expression(&field.value, depth + 1),
        }
    }

    fn call<'t: 'a>(&mut self, call: &'t CallExpr, depth: usize) -> Result<(), ParseError> {
        let name = call.func_name.as_str();
        let is_operator = !name.starts_with(|char: char| char.is_ascii_alphabetic());
        if !is_operator && !FUNCTIONS.contains(&name) && !MORE_FUNCTIONS.contains(&name) {
            let known = || FUNCTIONS.iter().chain(&MORE_FUNCTIONS).chain(&MACROS).copied();
            let mut error = syntax(format!("there is no function `{name}` here"), self.find(name));
            if MACROS.contains(&name) {
                error.message = format!("`{name}` is written otherwise, for example {}", macro_example(name));
            }
            error.suggestion = nearest(name, known().filter(|known| *known != name)).map(|near| format!("`{near}`"));
            return Err(error);
        }
        if let Some(target) = &call.target {
            self.expression(target, depth + 1)?;
        }
        self.all(&call.args, depth)
    }

    fn comprehension<'t: 'a>(&mut self, tree: &'t ComprehensionExpr, depth: usize) -> Result<(), ParseError> {
        self.comprehensions += 1;
        if self.comprehensions > 1 {
            let message = "the expression has more than one of map, filter, all, exists and exists_one";
            return Err(limit(message, 0));
        }
        self.expression(&tree.iter_range, depth + 1)?;
        let variable = tree.iter_var.as_str();
        if ScopeName::of(variable).is_some() {
            let message = format!("`{variable}` cannot be the name of a variable here");
            return Err(syntax(message, self.find(variable)));
        }
        self.variables.push(variable);
        self.variables.extend(tree.iter_var2.as_deref());
        self.variables.push(&tree.accu_var);
        for part in [&tree.accu_init, &tree.loop_cond, &tree.loop_step, &tree.result] {
            self.expression(part, depth + 1)?;
        }
        self.variables.clear();
        Ok(())
    }

    /// A path that begins with no variable.
    fn path(&mut self, root: &str, path: &[&str]) -> Result<(), ParseError> {
        let unknown = |message: String, offset, suggestion| {
            Err(ParseError { rule: Rule::UnknownReference, message, offset, suggestion })
        };
        match ScopeName::of(root) {
            Some(scope) if path.is_empty() => {
                let message = format!("`{root}` is read by name: `{root}.<name>`");
                let offset = self.find(scope.as_str());
                unknown(message, offset, None)
            }
            Some(scope) => {
                let path = path.iter().map(|name| (*name).to_owned()).collect();
                self.references.insert(Reference { scope, path });
                Ok(())
            }
            None if path.is_empty() && TYPES.contains(&root) => Ok(()),
            None => {
                let message = format!("there is no `{root}`: expressions read inputs, tasks and execution");
                let scopes = ScopeName::ALL.map(ScopeName::as_str);
                let suggestion = match nearest(root, scopes) {
                    Some(near) => format!("`{near}`"),
                    None => format!("`inputs.{root}`, `tasks.{root}`, or `\"{root}\"` for text"),
                };
                unknown(message, self.find(root), Some(suggestion))
            }
        }
    }

    fn find(&self, word: &str) -> usize {
        find_word(self.source, word)
    }
}

/// Offset of a reference in the text that holds it, or 0.
pub(crate) fn find(text: &str, reference: &Reference) -> usize {
    find_word(text, &reference.to_string())
}

/// Offset of the first place where `word` stands whole, or 0.
fn find_word(source: &str, word: &str) -> usize {
    let part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    source
        .match_indices(word)
        .find(|(at, _)| {
            !source[..*at].ends_with(part) && !source.get(at + word.len()..).is_some_and(|rest| rest.starts_with(part))
        })
        .map_or(0, |(at, _)| at)
}

fn macro_example(name: &str) -> String {
    match name {
        "has" => "`has(inputs.day)`".to_owned(),
        _ => format!("`inputs.days.{name}(day, day > 1)`"),
    }
}
