//! Points in time as people write them: a day, or RFC 3339 in UTC.

use chancery_model::Timestamp;

/// Reads `2026-11-29` (its beginning) or `2026-11-29T12:00:00Z`, with up to six digits behind the seconds.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    read(text).ok_or_else(|| format!("`{text}` is not a time such as 2026-11-29 or 2026-11-29T12:00:00Z"))
}

fn read(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=length(year, month)).contains(&day) {
        return None;
    }
    let (seconds, micros) = time.map_or(Some((0, 0)), of_day)?;
    Some(Timestamp((days(year, month, day) * 86_400 + seconds) * 1_000_000 + micros))
}

/// Seconds and microseconds since midnight.
fn of_day(time: &str) -> Option<(i64, i64)> {
    let time = time.strip_suffix('Z')?;
    let (clock, fraction) = time.split_once('.').map_or((time, None), |(clock, fraction)| (clock, Some(fraction)));
    let [hours, minutes, seconds] = numbers(clock, ':', [2, 2, 2])?;
    let micros = match fraction {
        None => 0,
        Some(digits) if (1..=6).contains(&digits.len()) => {
            number(digits)? * 10_i64.pow(6 - u32::try_from(digits.len()).ok()?)
        }
        Some(_) => return None,
    };
    (hours < 24 && minutes < 60 && seconds < 60).then_some((hours * 3_600 + minutes * 60 + seconds, micros))
}

fn numbers(text: &str, between: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(between).collect();
    let parts: [&str; 3] = parts.try_into().ok()?;
    if parts.iter().zip(widths).any(|(part, width)| part.len() != width) {
        return None;
    }
    Some([number(parts[0])?, number(parts[1])?, number(parts[2])?])
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn length(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a civil date (proleptic Gregorian): years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for day in [-719_528, -1, 0, 58, 59, 60, 789, 11_016, 11_017, 20_786, 47_482, 2_932_896] {
            for micros in [0, 1, 43_200_000_000, 86_399_999_999] {
                let at = Timestamp(day * 86_400_000_000 + micros);
                assert_eq!(instant(&at.to_string()), Ok(at), "{at}");
            }
        }
        assert_eq!(instant("1970-01-02"), Ok(Timestamp(86_400_000_000)));
        assert_eq!(instant("1970-01-01T00:00:01.5Z"), Ok(Timestamp(1_500_000)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-01",
            "2026-02-29",
            "2024-02-30",
            "2026-1-1",
            "26-01-01",
            "2026-01-01T",
            "2026-01-01T00:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567Z",
            "2026-01-01T00:00Z",
            "+026-01-01",
            "2026-01-01Z",
            "2026-01-01T00:00:00+00:00",
            "2026-01-0\u{661}",
            "2026-01-01-01",
        ] {
            assert!(instant(text).is_err(), "{text}");
        }
    }
}
