//! Measures the detectors on generated cells: `cargo run --release -p chancery-mask --example masking_speed`.
//!
//! Prints megabytes per second for mixed rows (some hold what we look for), for clean rows, and for hostile bytes.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use chancery_mask::{Context, Detector, Scanner};

fn cells(kinds: &[&str], bytes: usize) -> Vec<String> {
    let mut cells = Vec::new();
    let mut total = 0;
    for i in 0.. {
        if total >= bytes {
            break;
        }
        let cell = kinds[i % kinds.len()].replace('#', &format!("{:04}", i % 10_000));
        total += cell.len();
        cells.push(cell);
    }
    cells
}

fn measure(name: &str, cells: &[String]) {
    let mut scanner = Scanner::of(Detector::ALL);
    let mut hits = Vec::new();
    let bytes: usize = cells.iter().map(String::len).sum();
    let mut best = f64::MAX;
    let mut found = 0;
    for _ in 0..7 {
        let start = Instant::now();
        found = 0;
        for cell in cells {
            scanner.scan(black_box(cell.as_bytes()), Context::default(), &mut hits);
            found += hits.len();
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{name:<18} {:>8.0} MB/s  {found} hits in {} cells", bytes as f64 / best / 1e6, cells.len());
}

fn main() {
    const SIZE: usize = 32 << 20;
    let clean = [
        "#",
        "Jane Q. Sample #",
        "2026-11-22 07:01:31.59#",
        "c0ffee00-1234-4567-89ab-cdef0123#",
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit #",
        "#.50",
    ];
    let mixed = [
        "#",
        "Jane Q. Sample #",
        "user#@example.com",
        "411111111111#",
        "123-45-#",
        "DE8937040044053201#",
        "2026-11-22 07:01:31.59#",
        "c0ffee00-1234-4567-89ab-cdef0123#",
        "note #: call back about the order, ask for 4111 1111 1111 1111 again",
        "#.50",
    ];
    measure("mixed rows", &cells(&mixed, SIZE));
    measure("clean rows", &cells(&clean, SIZE));
    measure("long clean text", &cells(&[&"the quick brown fox jumps over the lazy dog ".repeat(100)], SIZE));
    measure("not ASCII", &cells(&["Zürich, Straße Nr. #, café"], SIZE));
    measure("all digits", &["4".repeat(SIZE)]);
    measure("all @", &["@".repeat(SIZE)]);
    measure("groups of four", &["4111 ".repeat(SIZE / 5)]);
}
