//! The parts of a canonical request that have a form of their own: the path, the moment, digests in hex.
//!
//! A path is normalised (RFC 3986, 5.2.4: no `.`, no `..`, no empty segments) and then encoded once more, as every
//! service but S3 wants it: what is not a letter, a digit or one of `-_.~/` becomes `%XX`, and so does the `%` of what was
//! encoded already.

use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;

const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const DAY_SECONDS: i64 = 24 * 3600;

/// A second, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Days since 1970-01-01.
    pub(super) day: i64,
    date: (i64, u8, u8),
    /// Since midnight.
    seconds: u32,
}

impl Moment {
    /// The second in which `time` lies.
    pub(super) fn of(time: SystemTime) -> Moment {
        // A time of day that no number of seconds can hold does not exist.
        let whole = |distance: Duration| i64::try_from(distance.as_secs()).unwrap_or(i64::MAX / 2);
        let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => whole(since),
            Err(before) => -whole(before.duration()) - i64::from(before.duration().subsec_nanos() > 0),
        };
        let day = seconds.div_euclid(DAY_SECONDS);
        Moment { day, date: civil(day), seconds: seconds.rem_euclid(DAY_SECONDS) as u32 }
    }

    /// Appends `YYYYMMDD`.
    pub(super) fn push_date(self, out: &mut String) {
        let (year, month, day) = self.date;
        push_number(out, year.clamp(0, 9999) as u32, 4);
        push_number(out, month.into(), 2);
        push_number(out, day.into(), 2);
    }

    /// Appends `YYYYMMDDTHHMMSSZ`.
    pub(super) fn push_date_time(self, out: &mut String) {
        self.push_date(out);
        out.push('T');
        push_number(out, self.seconds / 3600, 2);
        push_number(out, self.seconds / 60 % 60, 2);
        push_number(out, self.seconds % 60, 2);
        out.push('Z');
    }
}

/// Year, month and day of the Gregorian calendar. Counted in years that begin in March, so that a leap day comes last, and
/// in periods of 400 years, which all have the same number of days.
fn civil(day: i64) -> (i64, u8, u8) {
    const PERIOD_DAYS: i64 = 146_097;
    let since_march_0000 = day + 719_468;
    let (period, of_period) = (since_march_0000.div_euclid(PERIOD_DAYS), since_march_0000.rem_euclid(PERIOD_DAYS));
    // Less the leap days that have been: one in 4 years, but for one in 100, but for one in 400.
    let year = (of_period - of_period / 1460 + of_period / 36_524 - of_period / 146_096) / 365;
    let of_year = of_period - (365 * year + year / 4 - year / 100);
    // From March on, every five months have 153 days.
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (period * 400 + year + next_year, month as u8, of_month as u8)
}

fn push_number(out: &mut String, number: u32, digits: u32) {
    for place in (0..digits).rev() {
        out.push(char::from(b'0' + (number / 10_u32.pow(place) % 10) as u8));
    }
}

/// Appends two lower-case digits for each byte.
pub(super) fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push(char::from(HEX_LOWER[usize::from(byte >> 4)]));
        out.push(char::from(HEX_LOWER[usize::from(byte & 15)]));
    }
}

/// The path as it is signed.
///
/// # Errors
/// It is not the path of a URL, without query or fragment.
pub(super) fn canonical_path(path: &str) -> Result<String, String> {
    let is_path = path.starts_with('/') && !path.contains(['?', '#']);
    if !is_path || path.parse::<PathAndQuery>().is_err() {
        return Err(format!("{path:?} is not a path"));
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut canonical = String::new();
    for segment in &segments {
        canonical.push('/');
        push_encoded(&mut canonical, segment);
    }
    let is_folder = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    if canonical.is_empty() || is_folder {
        canonical.push('/');
    }
    Ok(canonical)
}

fn push_encoded(out: &mut String, segment: &str) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX_UPPER[usize::from(byte >> 4)]));
            out.push(char::from(HEX_UPPER[usize::from(byte & 15)]));
        }
    }
}
