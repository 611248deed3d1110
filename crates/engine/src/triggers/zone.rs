//! Finds time zones by name, in the database that is built in: what the machine has is not the same everywhere.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::ScheduleError;

/// Slips that are forgiven in a suggestion.
const SLIPS_MAX: usize = 3;

pub fn parse(name: &str) -> Result<TimeZone, ScheduleError> {
    let zones = TimeZoneDatabase::bundled();
    match zones.get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => {
            let hint = match nearest(&zones, name) {
                Some(nearest) => format!("; did you mean `{nearest}`?"),
                None => "; names are those of the IANA database, such as `Europe/Paris`".to_owned(),
            };
            Err(ScheduleError::TimeZone { message: format!("there is no time zone `{name}`{hint}") })
        }
    }
}

/// The name with that city, or else the one with the fewest slips.
fn nearest(zones: &TimeZoneDatabase, name: &str) -> Option<String> {
    let wanted = name.trim().replace(' ', "_").to_lowercase();
    // No zone is named so long, and what a slip costs grows by the length.
    if wanted.is_empty() || wanted.len() > 64 {
        return None;
    }
    let names: Vec<String> = zones.available().map(|zone| zone.as_str().to_owned()).collect();
    let city = names.iter().find(|zone| zone.to_lowercase().rsplit('/').next() == Some(&wanted));
    let close = || {
        let distances = names.iter().map(|zone| (distance(&zone.to_lowercase(), &wanted), zone));
        distances.filter(|(slips, _)| *slips <= SLIPS_MAX).min().map(|(_, zone)| zone)
    };
    city.or_else(close).cloned()
}

/// The edits that make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut corner = above;
        let mut left = above + 1;
        row[0] = left;
        for (cell, theirs) in row[1..].iter_mut().zip(&other) {
            left = (corner + usize::from(letter != *theirs)).min(left + 1).min(*cell + 1);
            corner = std::mem::replace(cell, left);
        }
    }
    row[other.len()]
}
