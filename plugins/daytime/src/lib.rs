//! Answers a line with the same line, the time of day (UTC) before it, on streams and datagrams.

use std::io::{BufRead, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Daytime;

impl StreamRequestHandler for Daytime {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut line = Vec::new();
        request.rfile.read_until(b'\n', &mut line)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut answer = format!("[{}] ", ctime(now.as_secs())).into_bytes();
        answer.extend(line);
        request.wfile.write_all(&answer)?;
        Ok(())
    }
}

export!(Daytime: StreamRequestHandler);

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time as C's `ctime` writes it: `Mon Nov 23 05:18:00 2026`.
fn ctime(seconds: u64) -> String {
    let days = seconds / 86_400;
    let (year, month, day) = date(days);
    let weekday = DAYS[(days + 4) as usize % 7];
    let month = MONTHS[month as usize - 1];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
}

/// The date so many days after 1970-01-01. Years begin in March here, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let era = days / 146_097; // 400 years
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * day_of_year + 2) / 153; // since March
    let day = day_of_year - (153 * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_ctime() {
        assert_eq!(ctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ctime(951_782_399), "Mon Feb 28 23:59:59 2000");
        assert_eq!(ctime(951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(ctime(1_795_411_080), "Mon Nov 23 05:18:00 2026");
        assert_eq!(ctime(4_107_542_400), "Mon Mar  1 00:00:00 2100");
    }
}
