/// Whether every value of type `from` is exactly one of type `to`. Names are as DuckDB writes them.
#[must_use]
pub fn widens(from: &str, to: &str) -> bool {
    if let (Some(from), Some(to)) = (integer(from), integer(to)) {
        return match (from.signed, to.signed) {
            (true, false) => false,
            (false, true) => to.bits > from.bits,
            _ => to.bits >= from.bits,
        };
    }
    if let (Some((width, 0)), Some(to)) = (decimal(from), integer(to)) {
        return to.signed && width < to.digits;
    }
    if let Some(integer) = integer(from) {
        return match decimal(to) {
            Some((width, scale)) => integer.digits <= width - scale,
            None => (to == "DOUBLE" && integer.bits <= 32) || (to == "FLOAT" && integer.bits <= 16),
        };
    }
    if let (Some((from_width, from_scale)), Some((width, scale))) = (decimal(from), decimal(to)) {
        return scale >= from_scale && width - scale >= from_width - from_scale;
    }
    matches!(
        (from, to),
        ("FLOAT", "DOUBLE")
            | ("DATE", "TIMESTAMP")
            | ("TIMESTAMP_S" | "TIMESTAMP_MS", "TIMESTAMP")
            | ("JSON", "VARCHAR")
    ) || (from.starts_with("ENUM(") && to == "VARCHAR")
}

struct Integer {
    signed: bool,
    bits: u32,
    digits: i32,
}

fn integer(name: &str) -> Option<Integer> {
    let (signed, bits, digits) = match name {
        "TINYINT" => (true, 8, 3),
        "SMALLINT" => (true, 16, 5),
        "INTEGER" => (true, 32, 10),
        "BIGINT" => (true, 64, 19),
        "HUGEINT" => (true, 128, 39),
        "UTINYINT" => (false, 8, 3),
        "USMALLINT" => (false, 16, 5),
        "UINTEGER" => (false, 32, 10),
        "UBIGINT" => (false, 64, 20),
        "UHUGEINT" => (false, 128, 39),
        _ => return None,
    };
    Some(Integer { signed, bits, digits })
}

fn decimal(name: &str) -> Option<(i32, i32)> {
    let (width, scale) = name.strip_prefix("DECIMAL(")?.strip_suffix(')')?.split_once(',')?;
    Some((width.trim().parse().ok()?, scale.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_widening_without_loss_is_cast() {
        for (from, to) in [
            ("INTEGER", "BIGINT"),
            ("UINTEGER", "BIGINT"),
            ("INTEGER", "DOUBLE"),
            ("INTEGER", "DECIMAL(12,2)"),
            ("DECIMAL(10,2)", "DECIMAL(12,3)"),
            ("FLOAT", "DOUBLE"),
            ("DATE", "TIMESTAMP"),
        ] {
            assert!(widens(from, to), "{from} to {to}");
        }
        for (from, to) in [
            ("BIGINT", "INTEGER"),
            ("BIGINT", "DOUBLE"),
            ("BIGINT", "DECIMAL(12,2)"),
            ("UBIGINT", "BIGINT"),
            ("INTEGER", "UBIGINT"),
            ("DECIMAL(12,2)", "DECIMAL(12,3)"),
            ("DOUBLE", "FLOAT"),
            ("TIMESTAMP", "DATE"),
            ("VARCHAR", "BIGINT"),
            ("BIGINT", "VARCHAR"),
        ] {
            assert!(!widens(from, to), "{from} to {to}");
        }
    }
}
