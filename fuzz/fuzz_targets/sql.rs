//! Any text: nothing panics, nothing of a literal is left in a record, and a shape stands for one set of facts.
#![no_main]

use chancery_model::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let facts = chancery_sql::read(&text, &Settings::default());
    let off = Settings { standard_conforming_strings: false, ..Settings::default() };
    chancery_sql::read(&text, &off);
    for statement in &facts.statements {
        assert!(statement.unreadable.is_some() || !statement.needs.is_empty());
        assert!(!statement.opaque || facts.is_opaque());
    }

    let redacted = chancery_sql::redact(&text);
    let literals = chancery_sql::literals(&text);
    if let Some(literals) = &literals {
        let mut end = 0;
        for literal in literals {
            assert!(end <= literal.token.start && literal.token.end <= text.len());
            assert!(literal.token.start <= literal.content.start && literal.content.end <= literal.token.end);
            end = literal.token.end;
        }
        // What is left between the literals is no longer than the text without them.
        let gone: usize = literals.iter().map(|literal| literal.content.len()).sum();
        let marks = redacted.matches("‹…›").count();
        assert!(marks >= literals.len());
        assert!(redacted.len() <= text.len() - gone + marks * "‹…›".len());
        // What still reads as a literal of text is the mark alone.
        for literal in chancery_sql::literals(&redacted).unwrap_or_default() {
            assert_eq!(&redacted[literal.content], "‹…›");
        }
    } else {
        assert_eq!(redacted, format!("‹text that cannot be read, {} bytes›", text.len()));
    }

    let mut key = Vec::new();
    if chancery_sql::shape(&text, &mut key) {
        let key = std::str::from_utf8(&key).expect("the key of a text is a text");
        let mut again = Vec::new();
        assert!(chancery_sql::shape(key, &mut again) && again == key.as_bytes());
        if facts.literal_free && text.len() < chancery_sql::TEXT_BYTES_MAX {
            assert_eq!(chancery_sql::read(key, &Settings::default()), facts);
        }
    } else {
        assert!(key.is_empty());
    }
});
