//! Durations (`1h30m`) and Kubernetes quantities (`500m`, `1Gi`).

use std::time::Duration;

/// Longer than any attempt or wait is meant to take; keeps sums far from overflow.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 86_400);

const UNITS_MS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Whole numbers of `ms`, `s`, `m`, `h` and `d`, larger units first, each once; a day is 24 hours.
///
/// # Errors
/// Says what is wrong, for a person.
pub fn duration(text: &str) -> Result<Duration, String> {
    let example = "; write for example `90s`, `10m`, `1h30m` or `7d`";
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: Option<u64> = rest[..digits].parse().ok();
        let unit = &rest[digits..digits + letters];
        let Some(number) = number else { return Err(format!("`{text}` is no duration{example}")) };
        let Some((_, unit_ms)) = UNITS_MS.iter().find(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" if rest.len() == digits => format!("`{text}` has no unit{example}"),
                "" => format!("`{text}` is no duration{example}"),
                _ => format!("`{text}` has an unknown unit `{unit}`{example}"),
            });
        };
        if *unit_ms >= unit_before {
            return Err(format!("`{text}` has its units not from large to small{example}"));
        }
        unit_before = *unit_ms;
        let part = number.checked_mul(*unit_ms).and_then(|part| total_ms.checked_add(part));
        total_ms = part.filter(|ms| Duration::from_millis(*ms) <= DURATION_MAX).ok_or("longer than ten years")?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() { Err(format!("it is empty{example}")) } else { Ok(Duration::from_millis(total_ms)) }
}

/// Processors in thousandths: `"2"`, `"0.5"`, `500m`.
///
/// # Errors
/// Says what is wrong, for a person.
pub(crate) fn cpu_millis(text: &str) -> Result<u64, String> {
    // More processors than any machine has; a larger number is a slip.
    const CPU_MILLIS_MAX: u64 = 1_000_000;
    let wrong = || format!("`{text}` is no number of processors; write for example `\"2\"`, `\"0.5\"` or `500m`");
    let (number, unit_millis) = text.strip_suffix('m').map_or((text, 1000), |number| (number, 1));
    let millis = decimal(number, unit_millis).ok_or_else(wrong)?;
    match millis {
        1..=CPU_MILLIS_MAX => Ok(millis),
        _ => Err(format!("`{text}` is not between `1m` and `\"1000\"` processors")),
    }
}

/// Bytes: `512Mi`, `20Gi`, `1G`, `1000000`.
///
/// # Errors
/// Says what is wrong and what was meant, for a person.
pub(crate) fn bytes(text: &str, bytes_min: u64) -> Result<u64, (String, Option<String>)> {
    const UNITS: [(&str, u64); 9] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("", 1),
    ];
    const BYTES_MAX: u64 = 1 << 50;
    let at = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let Some((_, unit_bytes)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let meant = match unit.to_ascii_lowercase().as_str() {
            "b" => "",
            "k" | "kb" => "k",
            "m" | "mb" => "M",
            "g" | "gb" => "G",
            "t" | "tb" => "T",
            "ki" | "kib" => "Ki",
            "mi" | "mib" => "Mi",
            "gi" | "gib" => "Gi",
            "ti" | "tib" => "Ti",
            _ => return Err((format!("`{text}` is no number of bytes; write for example `512Mi` or `20Gi`"), None)),
        };
        return Err((format!("`{text}` has an unknown unit `{unit}`"), Some(format!("`{number}{meant}`"))));
    };
    let total = decimal(number, *unit_bytes)
        .ok_or_else(|| (format!("`{text}` is no number of bytes; write for example `512Mi` or `20Gi`"), None))?;
    if total < bytes_min || total > BYTES_MAX {
        return Err((format!("`{text}` is not between {} MiB and 1 PiB", bytes_min >> 20), None));
    }
    Ok(total)
}

/// `number` times `unit`, where both the number and the product are exact enough to be meant.
fn decimal(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let parts = u128::from(whole.parse::<u64>().ok()?) * u128::from(scale) + u128::from(fraction);
    u64::try_from(parts * u128::from(unit) / u128::from(scale)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_of_units_from_large_to_small() {
        for (text, ms) in [("1500ms", 1500), ("90s", 90_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "1.5h", "-1s", "1m1h", "1h1h", "1w", "h", "1 h", "99999999999999999999d", "4000d", "1é"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, millis) in [("2", 2000), ("0.5", 500), ("500m", 500), ("1.25", 1250)] {
            assert_eq!(cpu_millis(text), Ok(millis), "{text}");
        }
        for text in ["0", "", "m", "2 cores", "-1", "1e3", "2000000"] {
            assert!(cpu_millis(text).is_err(), "{text}");
        }
        for (text, expected) in
            [("512Mi", 512 << 20), ("1.5Gi", 3 << 29), ("1G", 1_000_000_000), ("33554432", 32 << 20)]
        {
            assert_eq!(bytes(text, 1 << 20), Ok(expected), "{text}");
        }
        assert_eq!(bytes("1GB", 1).map_err(|(_, meant)| meant), Err(Some("`1G`".to_owned())));
        for text in ["", "Gi", "1X", "1", "-1Gi", "1.Gi", "99999999Ti"] {
            assert!(bytes(text, 1 << 20).is_err(), "{text}");
        }
    }
}
