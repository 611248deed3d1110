//! What an unquoted scalar is, and whether every parser says the same.

use serde_json::Number;

use super::tree::{NodeValue, Style};

/// Booleans of YAML 1.1 that are text in YAML 1.2. `true` and `false` are the same in both.
fn is_old_boolean(text: &str) -> bool {
    const WORDS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// The value of a plain scalar.
///
/// # Errors
/// Why parsers disagree, and what to write instead.
pub(super) fn resolve(text: &str) -> Result<NodeValue, (String, String)> {
    let quoted = || format!("`\"{text}\"`");
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(NodeValue::Null),
        "true" | "True" | "TRUE" => return Ok(NodeValue::Bool(true, text.to_owned())),
        "false" | "False" | "FALSE" => return Ok(NodeValue::Bool(false, text.to_owned())),
        _ if is_old_boolean(text) => {
            let meant = !matches!(text.to_ascii_lowercase().as_str(), "n" | "no" | "off");
            let message = format!("`{text}` is {meant} to some parsers of YAML and text to others");
            return Err((message, format!("{} or `{meant}`", quoted())));
        }
        "=" => return Err(("`=` has a meaning of its own to some parsers of YAML".to_owned(), quoted())),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|char: char| char.is_ascii_digit() || char == '.') {
        return Ok(NodeValue::Text(text.to_owned(), Style::Plain));
    }
    let differs = |as_number: &str| {
        let message = format!("`{text}` is {as_number} to some parsers of YAML and something else to others");
        Err((message, format!("{} for text, or the number in plain decimal digits", quoted())))
    };
    if is_special_float(unsigned) {
        return Err((format!("`{text}` is a number that JSON does not have"), quoted()));
    }
    if unsigned.len() > 1
        && unsigned.starts_with('0')
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
    {
        return differs("an octal number");
    }
    if is_prefixed(unsigned, "0x", |byte| byte.is_ascii_hexdigit())
        || is_prefixed(unsigned, "0o", |byte| byte.is_ascii_digit())
        || is_prefixed(unsigned, "0b", |byte| matches!(byte, b'0' | b'1'))
    {
        return differs("a number");
    }
    if is_sexagesimal(unsigned) {
        return differs("a number of base 60");
    }
    if unsigned.contains('_') && is_decimal(&unsigned.replace('_', "")) {
        return differs("a number");
    }
    number(text, unsigned)
}

fn number(text: &str, unsigned: &str) -> Result<NodeValue, (String, String)> {
    if !is_decimal(unsigned) {
        return Ok(NodeValue::Text(text.to_owned(), Style::Plain));
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    let quoted = || format!("`\"{text}\"`");
    if !unsigned.contains(['.', 'e', 'E']) {
        let whole = plain.parse::<i64>().map(Number::from).or_else(|_| plain.parse::<u64>().map(Number::from));
        return match whole {
            Ok(number) => Ok(NodeValue::Number(number, text.to_owned())),
            Err(_) => Err((format!("`{text}` is too large for a number"), quoted())),
        };
    }
    let has_exponent = unsigned.contains(['e', 'E']);
    if has_exponent && (!unsigned.contains('.') || !unsigned.contains(['-', '+'])) {
        return Err((format!("`{text}` is a number to some parsers of YAML and text to others"), quoted()));
    }
    match plain.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(number) => Ok(NodeValue::Number(number, text.to_owned())),
        None => Err((format!("`{text}` is too large for a number"), quoted())),
    }
}

fn is_special_float(unsigned: &str) -> bool {
    [".inf", ".nan"].iter().any(|special| unsigned.eq_ignore_ascii_case(special))
}

fn is_prefixed(text: &str, prefix: &str, is_digit: fn(u8) -> bool) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default().as_bytes();
    !digits.is_empty() && digits.iter().all(|byte| is_digit(*byte) || *byte == b'_')
}

/// `1:30`, `190:20:30.15`
fn is_sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let last_whole = last.split('.').next().unwrap_or_default();
    let is_base_60 =
        |part: &str| is_digits(part) && part.len() <= 2 && part.parse::<u8>().is_ok_and(|value| value < 60);
    is_digits(first) && middle.iter().all(|part| is_base_60(part)) && is_base_60(last_whole)
}

/// `12`, `1.5`, `.5`, `1.`, `1.5e+3`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(left, right)| (left, Some(right)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    digits(whole) && digits(fraction) && (!whole.is_empty() || !fraction.is_empty()) && exponent_is_right
}
