//! Pieces of HTML. Not here: what the report says.

use std::fmt::Write;

/// Text as HTML. Characters that a reader would not see, or that would show others in another order, are shown by number:
/// names come from other people's systems.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if unseen(c) => {
                let _ = write!(out, "<span class=\"unseen\">U+{:04X}</span>", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Controls, formats that change direction or join nothing, ends of lines that are none, and private or tag characters.
fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// 1234567 as 1,234,567.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number and what it counts, in singular or plural.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// 64 hex digits in groups of eight, so that two people can compare them.
pub(super) fn grouped(hash: &str) -> String {
    let groups: Vec<String> =
        hash.as_bytes().chunks(8).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    format!("<code class=\"hash\">{}</code>", groups.join("<wbr> "))
}

/// `2026-03-01T12:30:00.000000Z` as `2026-03-01 12:30:00`.
pub(super) fn second(time: &str) -> String {
    let date = time.get(..10).unwrap_or(time);
    format!("{date} {}", time.get(11..19).unwrap_or_default())
}

/// `2026-03-01T…` as `1 March 2026`.
pub(super) fn day(time: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let part = |range: std::ops::Range<usize>| time.get(range).and_then(|digits| digits.parse::<usize>().ok());
    match (part(0..4), part(5..7).and_then(|month| MONTHS.get(month.wrapping_sub(1))), part(8..10)) {
        (Some(year), Some(month), Some(day)) => format!("{day} {month} {year}"),
        _ => time.to_owned(),
    }
}

/// A table: its caption, whether each column holds numbers, its header, its rows (HTML already). The first column heads a
/// row.
pub(super) fn table(class: &str, caption: &str, header: &[(&str, bool)], rows: &[Vec<String>], out: &mut String) {
    let numeric = |at: usize| if header.get(at).is_some_and(|(_, number)| *number) { " class=\"n\"" } else { "" };
    let _ = write!(out, "<table class=\"{class}\"><caption>{}</caption>\n<thead><tr>", escape(caption));
    for (at, (name, _)) in header.iter().enumerate() {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", numeric(at), escape(name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let (open, close) = if at == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
            let _ = write!(out, "<{open}{}>{cell}</{close}>", numeric(at));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_text_that_can_be_seen() {
        let shown = escape("<script>'\"&\u{1b}[2J\u{202e}gnp.exe\u{200b}\u{2066}é漢");
        assert_eq!(
            shown,
            "&lt;script&gt;&#39;&quot;&amp;<span class=\"unseen\">U+001B</span>[2J\
             <span class=\"unseen\">U+202E</span>gnp.exe<span class=\"unseen\">U+200B</span>\
             <span class=\"unseen\">U+2066</span>é漢"
        );
    }

    #[test]
    fn numbers_and_days_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(day("2026-03-01T00:00:00.000000Z"), "1 March 2026");
        assert_eq!(second("2026-03-01T12:30:00.000000Z"), "2026-03-01 12:30:00");
    }
}
