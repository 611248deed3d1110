//! What type an expression gives, as far as its text tells.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};

use super::parse::path_of;
use super::{Expression, ScopeName};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Int,
    Double,
    Text,
    List,
    Map,
    /// Not known before the run.
    Any,
}

impl Kind {
    /// With its article, for a message.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Double => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Any => "a value",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }
}

/// Gives the type of what stands behind a path, such as `["tasks", "trends", "rows"]`.
pub(super) type Types<'a> = dyn Fn(ScopeName, &[&str]) -> Kind + 'a;

/// The type of the expression.
///
/// # Errors
/// Where an operator can give no value: `1 + "a"`.
pub(crate) fn infer(expression: &Expression, types: &Types) -> Result<Kind, String> {
    kind(&expression.tree, types)
}

fn kind(tree: &IdedExpr, types: &Types) -> Result<Kind, String> {
    match &tree.expr {
        Expr::Select(select) if select.test => return Ok(Kind::Bool),
        _ => {}
    }
    if let Some((root, path)) = path_of(tree).as_deref().and_then(<[&str]>::split_first) {
        return Ok(ScopeName::of(root).map_or(Kind::Any, |scope| types(scope, path)));
    }
    Ok(match &tree.expr {
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => Kind::Bool,
            LiteralValue::Double(_) => Kind::Double,
            LiteralValue::Int(_) | LiteralValue::UInt(_) => Kind::Int,
            LiteralValue::Null => Kind::Null,
            LiteralValue::String(_) => Kind::Text,
            LiteralValue::Bytes(_) => Kind::Any,
        },
        Expr::List(_) => Kind::List,
        Expr::Map(_) => Kind::Map,
        Expr::Call(call) => self::call(call, types)?,
        _ => Kind::Any,
    })
}

fn call(call: &CallExpr, types: &Types) -> Result<Kind, String> {
    let of = |index: usize| call.args.get(index).map_or(Ok(Kind::Any), |tree| kind(tree, types));
    let name = call.func_name.as_str();
    Ok(match name {
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
            for index in 0..call.args.len() {
                let given = of(index)?;
                if !matches!(given, Kind::Bool | Kind::Any) {
                    return Err(format!("`{}` needs true or false, not {}", symbol(name), given.describe()));
                }
            }
            Kind::Bool
        }
        operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
            let (left, right) = (of(0)?, of(1)?);
            let fits =
                left == Kind::Any || right == Kind::Any || left == right || left.is_number() && right.is_number();
            if !fits || [left, right].contains(&Kind::Null) {
                return Err(does_not_take(name, left, right));
            }
            Kind::Bool
        }
        operators::EQUALS | operators::NOT_EQUALS | operators::IN => Kind::Bool,
        operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => {
            arithmetic(name, of(0)?, of(1)?)?
        }
        operators::NEGATE => of(0)?,
        operators::CONDITIONAL => {
            let (condition, yes, no) = (of(0)?, of(1)?, of(2)?);
            if !matches!(condition, Kind::Bool | Kind::Any) {
                return Err(format!("`? :` needs true or false before it, not {}", condition.describe()));
            }
            if yes == no { yes } else { Kind::Any }
        }
        "size" | "int" | "uint" | "indexOf" | "lastIndexOf" => Kind::Int,
        "double" => Kind::Double,
        "string" | "substring" | "trim" | "lowerAscii" | "upperAscii" | "charAt" => Kind::Text,
        "bool" | "contains" | "startsWith" | "endsWith" => Kind::Bool,
        "split" => Kind::List,
        _ => Kind::Any,
    })
}

/// Numbers mix with their own kind only in CEL: `1 + 1.0` fails.
fn arithmetic(name: &str, left: Kind, right: Kind) -> Result<Kind, String> {
    let same_kinds: &[Kind] = match name {
        operators::ADD => &[Kind::Int, Kind::Double, Kind::Text, Kind::List],
        operators::MODULO => &[Kind::Int],
        _ => &[Kind::Int, Kind::Double],
    };
    match (left, right) {
        (Kind::Any, other) | (other, Kind::Any) if other == Kind::Any || same_kinds.contains(&other) => Ok(other),
        (left, right) if left == right && same_kinds.contains(&left) => Ok(left),
        _ => Err(does_not_take(name, left, right)),
    }
}

fn does_not_take(name: &str, left: Kind, right: Kind) -> String {
    let advice = match (left, right) {
        (Kind::Text, other) | (other, Kind::Text) if other.is_number() => "; string(…) makes text of a number",
        (Kind::Int, Kind::Double) | (Kind::Double, Kind::Int) => "; double(…) makes the one kind of the other",
        _ => "",
    };
    format!("`{}` does not take {} and {}{advice}", symbol(name), left.describe(), right.describe())
}

fn symbol(operator: &str) -> &str {
    operator.trim_matches('_')
}
