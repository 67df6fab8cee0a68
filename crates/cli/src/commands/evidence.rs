//! `chancery evidence`: packs for auditors, and the sealed originals of sessions.

mod export;
mod postgres;
mod read;
mod registry_copy;
mod remask;
mod sample;
mod several;
mod shred;
mod staging;
mod survey;
mod unseal;
mod verify;

use crate::args;
use crate::output::{Done, Out};

pub(crate) async fn run(args: args::Evidence, out: Out) -> Done {
    match args {
        args::Evidence::Export(args) => export::run(args, out).await,
        // Reading files blocks, and nothing else runs in this process.
        args::Evidence::Verify(args) => tokio::task::block_in_place(|| verify::run(&args, out)),
        args::Evidence::Unseal(args) => unseal::run(args, out).await,
        args::Evidence::Remask(args) => tokio::task::block_in_place(|| remask::run(&args, out)),
        args::Evidence::Shred(args) => shred::run(args, out).await,
        args::Evidence::Sample(args) => tokio::task::block_in_place(|| sample::run(&args, out)),
    }
}

/// Bytes, with `KB`, `MB` or `GB` behind them if need be.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => 0,
    };
    let bytes =
        digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|bytes| *bytes >= 1_000_000);
    bytes.ok_or_else(|| "at least 1MB, such as 95MB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!((size("95MB"), size("1gb"), size("2000000")), (Ok(95_000_000), Ok(1_000_000_000), Ok(2_000_000)));
        for text in ["", "MB", "5", "1TB", "-1MB", "99999999999GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
