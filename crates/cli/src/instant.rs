//! Points in time as people write them: a day, or RFC 3339 in UTC.

use chancery_model::Timestamp;

/// Reads `2026-11-29` (its beginning) or `2026-11-29T12:00:00Z`, with up to six digits behind the seconds.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    read(text).ok_or_else(|| format!("`{text}` is not a time such as 2026-11-29 or 2026-11-29T12:00:00Z"))
}

fn read(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T').map_or((text, "00:00:00Z"), |(date, time)| (date, time));
    let time = time.strip_suffix('Z')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if !(1..=6).contains(&fraction.len()) {
        return None;
    }
    chancery_evidence::instant(&format!("{date}T{clock}.{fraction:0<6}Z")).map(Timestamp)
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
