//! Reads cron patterns. The parser is croner's; what it lets pass though it cannot be meant is refused here, and its
//! errors are told by the name of the field.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, date};

use super::ScheduleError;

struct Field {
    name: &'static str,
    least: u16,
    greatest: u16,
    /// Letters that may stand in it, alone or after a number.
    letters: &'static [&'static str],
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const NICKNAMES: &[&str] = &["@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, greatest: 59, letters: &[], names: &[] },
    Field { name: "hour", least: 0, greatest: 23, letters: &[], names: &[] },
    Field { name: "day of month", least: 1, greatest: 31, letters: &["L", "W", "LW"], names: &[] },
    Field { name: "month", least: 1, greatest: 12, letters: &[], names: MONTHS },
    Field { name: "day of week", least: 0, greatest: 7, letters: &["L"], names: WEEKDAYS },
];

/// The years from 2000 to 2027 are of every kind that a year can be: leap or not, and from each day of the week on. A
/// date that they do not have never comes.
const FIRST_DAY: Date = date(2000, 1, 1);
const END: Date = date(2028, 1, 1);

pub fn parse(pattern: &str) -> Result<Cron, ScheduleError> {
    let pattern = pattern.trim();
    let cron = if pattern.starts_with('@') { parse_nickname(pattern)? } else { parse_fields(pattern)? };
    if comes(&cron) {
        return Ok(cron);
    }
    let message = format!("cron `{pattern}` never comes: no year has such a day; check the day of month and the month");
    Err(ScheduleError::Never { message })
}

fn parse_nickname(pattern: &str) -> Result<Cron, ScheduleError> {
    if NICKNAMES.iter().any(|name| name.eq_ignore_ascii_case(pattern)) {
        return parser().parse(pattern).map_err(|error| unreadable(format!("cron `{pattern}`: {error}")));
    }
    Err(unreadable(format!("cron `{pattern}` is not one of {}", NICKNAMES.join(", "))))
}

fn parse_fields(pattern: &str) -> Result<Cron, ScheduleError> {
    let values: Vec<&str> = pattern.split_whitespace().collect();
    if values.len() != FIELDS.len() {
        let hint = if values.len() > FIELDS.len() { "; seconds and years have none" } else { "" };
        return Err(unreadable(format!(
            "cron `{pattern}` has {} fields and needs five: minute, hour, day of month, month, day of week{hint}",
            values.len()
        )));
    }
    for (position, (field, value)) in FIELDS.iter().zip(&values).enumerate() {
        // Alone among stars, a field that croner cannot read is known by its position.
        let mut alone = ["*"; FIELDS.len()];
        alone[position] = value;
        if let Some(problem) = field.problem(value).or_else(|| problem_of(&alone.join(" "), field)) {
            return Err(unreadable(format!("cron `{pattern}`: {} `{value}`: {problem}", field.name)));
        }
    }
    parser().parse(pattern).map_err(|error| unreadable(format!("cron `{pattern}`: {error}")))
}

fn problem_of(pattern: &str, field: &Field) -> Option<String> {
    match parser().parse(pattern) {
        Ok(_) => None,
        Err(_) => Some(field.usage()),
    }
}

impl Field {
    /// What croner would let pass or take for something else.
    fn problem(&self, value: &str) -> Option<String> {
        let upper = value.to_ascii_uppercase();
        let value = if self.names == WEEKDAYS { upper.strip_prefix('+').unwrap_or(&upper) } else { &upper };
        for part in value.split(',') {
            if part.is_empty() {
                return Some("an element of the list is missing".to_owned());
            }
            if self.names == WEEKDAYS && part == "L" {
                return Some("`L` follows a day: `5L` is the last Friday".to_owned());
            }
            let words = part.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty());
            if words.into_iter().any(|word| !self.knows(word)) {
                return Some(self.usage());
            }
            let values = self.greatest - self.least;
            let step = part.split_once('/').and_then(|(_, step)| step.parse::<u64>().ok());
            if step.is_some_and(|step| step > u64::from(values)) {
                return Some(format!(
                    "a step is at most {values}: counting begins anew with the next hour, day, month or year"
                ));
            }
        }
        None
    }

    fn knows(&self, word: &str) -> bool {
        let name = if self.letters.contains(&"L") { word.strip_suffix('L').unwrap_or(word) } else { word };
        self.letters.contains(&word) || self.names.contains(&name)
    }

    fn usage(&self) -> String {
        let names = match self.names {
            [first, .., last] => format!(" or {first} to {last}"),
            _ => String::new(),
        };
        let special = match self.name {
            "day of month" => ", `L` for the last day, `15W` for the weekday nearest to the 15th",
            "day of week" => ", `5L` for the last Friday, `1#2` for the second Monday; 0 and 7 are Sunday",
            _ => "",
        };
        format!(
            "may be `*`, numbers from {} to {}{names}, ranges that go up (`2-5`), steps (`*/2`, `2-9/3`), lists (`1,4`){special}",
            self.least, self.greatest
        )
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

fn unreadable(message: String) -> ScheduleError {
    ScheduleError::Cron { message }
}

fn comes(cron: &Cron) -> bool {
    FIRST_DAY.series(jiff::Span::new().days(1)).take_while(|day| *day < END).any(|day| {
        let (year, month) = (i32::from(day.year()), day.month().unsigned_abs().into());
        let weekday =
            croner::Weekday::from_days_from_sunday(day.weekday().to_sunday_zero_offset().unsigned_abs().into());
        cron.pattern.month_match(month).unwrap_or(false)
            && cron.pattern.day_match(year, month, day.day().unsigned_abs().into(), weekday).unwrap_or(false)
    })
}
