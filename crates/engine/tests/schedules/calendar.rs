//! When schedules should tick, found without the code that is tested: every minute is looked at in every zone, and every
//! day, hour and minute of wall time is held against the pattern.

use croner::{Cron, Weekday};
use jiff::civil::{DateTime, date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A year with changes of the clock by 30 minutes and by an hour, at midnight and at night.
const YEAR: i16 = 2018;
/// Wall time is listed from two days before to two after, as zones are ahead and behind.
const MARGIN_DAYS: i64 = 2;
const MINUTES_PER_DAY: usize = 24 * 60;

pub const ZONES: &[&str] = &[
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Scoresbysund",
    "America/Santiago",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
];

/// Every zone, for some days of the year.
pub struct Calendar {
    pub start_ms: i64,
    pub end_ms: i64,
    zones: Vec<Zone>,
}

impl Calendar {
    /// From that day of the year on, counted from 0.
    pub fn new(first_day: i64, days: i64) -> Self {
        let year = TimeZone::UTC.to_timestamp(date(YEAR, 1, 1).at(0, 0, 0, 0)).unwrap();
        let start = year + SignedDuration::from_hours(24 * first_day);
        let zones = ZONES.iter().map(|name| Zone::new(name, start, days)).collect();
        let end = start + SignedDuration::from_hours(24 * days);
        Self { start_ms: start.as_millisecond(), end_ms: end.as_millisecond(), zones }
    }

    /// The ticks of a pattern in the zone of that position, after the start and up to the end.
    pub fn ticks_ms(&self, cron: &str, zone: usize) -> Vec<i64> {
        let mut ticks = self.zones[zone].ticks_ms(cron);
        ticks.retain(|tick| (self.start_ms + 1..=self.end_ms).contains(tick));
        ticks
    }
}

/// When each minute of wall time first is, or, where it is skipped, when it is over.
struct Zone {
    first: DateTime,
    instants_ms: Vec<i64>,
}

impl Zone {
    fn new(name: &str, start: Timestamp, days: i64) -> Self {
        let zone = TimeZoneDatabase::bundled().get(name).unwrap();
        let first = TimeZone::UTC.to_datetime(start) - MARGIN_DAYS.days();
        let minutes = usize::try_from(days + 2 * MARGIN_DAYS).unwrap() * MINUTES_PER_DAY;
        let mut instants_ms = Vec::with_capacity(minutes);
        let mut minute = start - SignedDuration::from_hours(24 * (MARGIN_DAYS + 1));
        while instants_ms.len() < minutes {
            let shown = zone.to_datetime(minute).duration_since(first).as_mins();
            // All that the clock has not shown before is over now; one that was put back shows nothing new for a while.
            while i64::try_from(instants_ms.len()).unwrap() <= shown {
                instants_ms.push(minute.as_millisecond());
            }
            minute += SignedDuration::from_mins(1);
        }
        Self { first, instants_ms }
    }

    fn ticks_ms(&self, cron: &str) -> Vec<i64> {
        let pattern = cron.parse::<Cron>().unwrap().pattern;
        let matching = |range: std::ops::Range<u32>, matches: &dyn Fn(u32) -> bool| -> Vec<usize> {
            range.filter(|value| matches(*value)).map(|value| value as usize).collect()
        };
        let hours = matching(0..24, &|hour| pattern.hour_match(hour).unwrap());
        let minutes = matching(0..60, &|minute| pattern.minute_match(minute).unwrap());
        let mut ticks = Vec::new();
        for (number, day) in self.instants_ms.chunks(MINUTES_PER_DAY).enumerate() {
            let date = self.first.date() + i64::try_from(number).unwrap().days();
            let (month, of_month) = (date.month().unsigned_abs().into(), date.day().unsigned_abs().into());
            let weekday = Weekday::from_days_from_sunday(date.weekday().to_sunday_zero_offset().unsigned_abs().into());
            if pattern.month_match(month).unwrap()
                && pattern.day_match(date.year().into(), month, of_month, weekday).unwrap()
            {
                ticks.extend(hours.iter().flat_map(|hour| minutes.iter().map(move |minute| day[hour * 60 + minute])));
            }
        }
        ticks.dedup();
        ticks
    }
}
