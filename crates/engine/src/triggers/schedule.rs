//! When a schedule ticks.
//!
//! A pattern names wall times. The calendar is walked in wall time, which has neither gaps nor repetitions, and each wall
//! time is then given its one instant: one that a change of the clock skips, the first instant after the gap; one that
//! comes twice, the first of both. So later wall times never have earlier instants, and a tick is an instant that at
//! least one wall time of the pattern has.

use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use thiserror::Error;

use super::{cron, zone};

/// A cron pattern in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// What is wrong with a schedule, for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// The pattern cannot be read.
    #[error("{message}")]
    Cron {
        /// What is wrong, and with which field.
        message: String,
    },
    /// There is no such time zone.
    #[error("{message}")]
    TimeZone {
        /// What is wrong, and the nearest name.
        message: String,
    },
    /// The pattern can be read, and names a date that no calendar has.
    #[error("{message}")]
    Never {
        /// What is wrong.
        message: String,
    },
}

impl Schedule {
    /// Reads five fields (minute, hour, day of month, month, day of week; names such as `JAN` and `MON`; `L`, `W`, `#`;
    /// `@daily` and the like) and the name of an IANA time zone.
    ///
    /// # Errors
    /// Where a field is not valid, the time zone unknown, or the date one that never comes, such as 30 February.
    pub fn parse(cron: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        Ok(Self { cron: cron::parse(cron)?, zone: zone::parse(time_zone)? })
    }

    /// Where the pattern's wall times are those of.
    #[must_use]
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first tick strictly after `after`; `None` past the year 5000. No pattern that can be parsed is further apart
    /// than 40 years.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut wall = self.zone.to_datetime(after);
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let tick = self.instant(wall)?;
            // Not so in the second pass of a repeated hour, whose wall times had their instants in the first.
            if tick > after {
                return Some(tick);
            }
        }
    }

    /// The last tick strictly before `before`; `None` before the year 1.
    #[must_use]
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        let mut wall = self.latest_wall(before)?;
        loop {
            wall = self.cron.find_previous_occurrence(&wall, false).ok()?;
            let tick = self.instant(wall)?;
            // Not so at the end of a gap, whose wall times all have that instant.
            if tick < before {
                return Some(tick);
            }
        }
    }

    /// A wall time in whole seconds after which nothing is before `before`.
    fn latest_wall(&self, before: Timestamp) -> Option<DateTime> {
        let mut wall = self.zone.to_datetime(before);
        if let AmbiguousOffset::Fold { before: first, .. } = self.zone.to_ambiguous_timestamp(wall).offset() {
            // In the second pass all of the repeated hour has been, in the first only what is before: both are said by
            // a clock that was not put back.
            wall = first.to_datetime(before);
        }
        // The pattern's ticks are on whole seconds, and the walk drops what is between.
        let whole = wall.with().subsec_nanosecond(0).build().ok()?;
        if whole == wall { Some(wall) } else { whole.checked_add(1.second()).ok() }
    }

    /// The one instant of a wall time; none beyond the years that can be told.
    fn instant(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // By the later offset a skipped wall time lies before the change, by less than the gap is long.
                let earlier = after.to_timestamp(wall).ok()?;
                self.zone.following(earlier).next().map(|change| change.timestamp())
            }
        }
    }
}
