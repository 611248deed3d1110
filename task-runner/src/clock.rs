//! A clock that stands still, for work that is only tried.

use jiff::Timestamp;

/// Statements after which SQL sees `now` as the time, in each way to ask for it. Macros of a session go before DuckDB's
/// own functions, also where the parser makes one of a word such as `current_date`. The session's time zone is UTC.
pub(crate) fn stopped_at(now: Timestamp) -> String {
    let (date, time) = (now.strftime("%Y-%m-%d"), now.strftime("%H:%M:%S.%6f"));
    let timestamp = format!("TIMESTAMP '{date} {time}'");
    let zoned = format!("TIMESTAMPTZ '{date} {time}+00'");
    let macros = [
        ("now", zoned.clone()),
        ("get_current_timestamp", zoned.clone()),
        ("transaction_timestamp", zoned),
        ("today", format!("DATE '{date}'")),
        ("current_date", format!("DATE '{date}'")),
        ("get_current_time", format!("TIMETZ '{time}+00'")),
        ("current_localtimestamp", timestamp.clone()),
        ("current_localtime", format!("TIME '{time}'")),
    ];
    let statements = macros.iter().map(|(name, value)| format!("CREATE TEMP MACRO {name}() AS {value};"));
    let age = format!(
        "CREATE TEMP MACRO age(t) AS system.main.age(DATE '{date}'::TIMESTAMP, t), (a, b) AS system.main.age(a, b);"
    );
    statements.chain([age]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Fixture;

    #[test]
    fn every_way_to_ask_for_the_time_gives_the_one_that_it_stands_at() {
        let fixture = Fixture::new();
        let session = fixture.open().unwrap();
        session.batch(&stopped_at("2024-03-05T06:07:08.9Z".parse().unwrap()), "stop the clock").unwrap();
        for (asked, expected) in [
            ("now()", "2024-03-05 06:07:08.9+00"),
            ("get_current_timestamp()", "2024-03-05 06:07:08.9+00"),
            ("transaction_timestamp()", "2024-03-05 06:07:08.9+00"),
            ("current_timestamp", "2024-03-05 06:07:08.9+00"),
            ("CURRENT_DATE", "2024-03-05"),
            ("current_date()", "2024-03-05"),
            ("today()", "2024-03-05"),
            ("get_current_time()", "06:07:08.9+00"),
            ("current_time", "06:07:08.9+00"),
            ("localtime", "06:07:08.9"),
            ("localtimestamp", "2024-03-05 06:07:08.9"),
            ("current_localtimestamp()", "2024-03-05 06:07:08.9"),
            ("age(TIMESTAMP '2024-03-04')", "1 day"),
            ("age(TIMESTAMP '2021-01-01', TIMESTAMP '2020-01-01')", "1 year"),
        ] {
            let table = session.text_rows(&format!("SELECT {asked}"), &[], 1).unwrap();
            assert_eq!(table.rows, [[Some(expected.to_owned())]], "{asked}");
        }
    }
}
