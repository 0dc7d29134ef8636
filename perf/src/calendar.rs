//! Days and times of day in UTC, for names of files and folders.

const DAY_S: u64 = 86_400;

/// The day, `2026-11-23`: days counted from 1 March of year 0, so that a leap day ends a year.
pub fn day(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Day and time of day as ISO 8601's basic format has them, `20261123T190500Z`.
pub fn instant(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s);
    let second = unix_s % DAY_S;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

fn civil(unix_s: u64) -> (u64, u64, u64) {
    let days = unix_s / DAY_S + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        let cases = [
            (0, "1970-01-01", "19700101T000000Z"),
            (951_782_400, "2000-02-29", "20000229T000000Z"),
            (1_795_392_000 + 68_700, "2026-11-23", "20261123T190500Z"),
            (4_107_542_400 - 1, "2100-02-28", "21000228T235959Z"),
            (4_107_542_400, "2100-03-01", "21000301T000000Z"),
        ];
        for (unix_s, expected_day, expected_instant) in cases {
            assert_eq!(day(unix_s), expected_day);
            assert_eq!(instant(unix_s), expected_instant);
        }
    }
}
