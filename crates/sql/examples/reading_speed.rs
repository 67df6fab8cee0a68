//! Prints how fast `shape` is, in MB/s, and how long `read` takes for typical statements, in microseconds.
//!
//! The one place of this crate that reads a clock; it is no part of the library.
#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::Instant;

use chancery_model::Settings;

const STATEMENTS: [(&str, &str); 5] = [
    ("point select", "SELECT id, name, email FROM customers WHERE id = 4711"),
    ("update", "UPDATE accounts SET balance = balance - 12.50, updated_at = now() WHERE id = 815 AND owner = 'alice'"),
    (
        "upsert",
        "INSERT INTO counters (key, value) VALUES ('hits', 1) ON CONFLICT (key) DO UPDATE SET value = counters.value + 1",
    ),
    (
        "join",
        "SELECT c.id, c.name, count(o.id) AS orders, sum(o.total) AS total FROM customers c JOIN orders o ON o.customer_id = c.id \
         LEFT JOIN addresses a ON a.customer_id = c.id WHERE o.created_at > '2024-01-01' AND a.country = 'DE' \
         GROUP BY c.id, c.name HAVING sum(o.total) > 1000 ORDER BY total DESC LIMIT 50",
    ),
    ("insert of 1000 rows", ""),
];

fn main() {
    let rows: Vec<String> = (0..1000).map(|n| format!("({n}, 'some text of row {n}', {n}.5)")).collect();
    let bulk = format!("INSERT INTO t (a, b, c) VALUES {}", rows.join(", "));
    let settings = Settings::default();
    for (name, text) in STATEMENTS {
        let text = if text.is_empty() { bulk.as_str() } else { text };
        let rounds = (20_000_000 / text.len()).clamp(10, 200_000);
        let mut key = Vec::new();
        let start = Instant::now();
        for _ in 0..rounds {
            key.clear();
            black_box(chancery_sql::shape(black_box(text), &mut key));
        }
        let shape = start.elapsed().as_secs_f64();
        let reads = (rounds / 20).clamp(3, 5_000);
        let start = Instant::now();
        for _ in 0..reads {
            black_box(chancery_sql::read(black_box(text), &settings));
        }
        let read = start.elapsed().as_secs_f64();
        let speed = (text.len() * rounds) as f64 / shape / 1e6;
        println!("{name:20} {:6} bytes  shape {speed:6.0} MB/s  read {:8.1} us", text.len(), read * 1e6 / reads as f64);
    }
}
