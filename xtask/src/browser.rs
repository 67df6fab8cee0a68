//! `cargo xtask browser`: the verifier for browsers as one page, `target/browser/verify.html`. The same sources and
//! compiler give the same bytes, wherever they are built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "browser";
const PAGE: &str = "crates/browser/page";

/// Whether this Rust has the target. It comes with rustup, and not with every distribution.
pub(crate) fn can_build() -> bool {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    sysroot.is_ok_and(|said| {
        let sysroot = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Path::new(&sysroot).join("lib/rustlib").join(TARGET).is_dir()
    })
}

/// Builds the page and says how large it is.
pub(crate) fn run(root: &Path) -> Result<()> {
    let built = build(root)?;
    let wasm = without_custom(&built).context("the compiler's WebAssembly cannot be taken apart")?;
    let text = |name: &str| {
        let path = root.join(PAGE).join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let page = page(&text("verify.html")?, &text("verify.css")?, &text("verify.js")?, &wasm)?;
    let place = root.join("target/browser");
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join("verify.html"), &page)?;
    let hash: String = Sha256::digest(page.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    println!("target/browser/verify.html: {} bytes, of which the verifier is {}", page.len(), wasm.len());
    println!("sha256 {hash}");
    Ok(())
}

fn build(root: &Path) -> Result<Vec<u8>> {
    let sysroot = Command::new("rustc").current_dir(root).args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(sysroot.context("cannot run rustc")?.stdout)?;
    let sysroot = PathBuf::from(sysroot.trim());
    if !sysroot.join("lib/rustlib").join(TARGET).exists() {
        bail!("this Rust has no {TARGET}; hint: rustup target add {TARGET}");
    }
    // Paths of this machine stand in panics otherwise.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).context("no HOME")?;
    let places = [(home.as_path(), "cargo"), (sysroot.as_path(), "rust"), (root, "chancery")];
    let flags: Vec<String> =
        places.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--locked", "--quiet", "--package", "chancery-browser", "--profile", PROFILE])
        .args(["--target", TARGET])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the verifier for browsers does not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let path = target.join(TARGET).join(PROFILE).join("chancery_browser.wasm");
    std::fs::read(&path).with_context(|| path.display().to_string())
}

/// The module without sections that nothing executes: names, producers, and what `wasm-bindgen`'s own tool would read.
fn without_custom(wasm: &[u8]) -> Option<Vec<u8>> {
    let (magic, mut rest) = wasm.split_at_checked(8)?;
    if magic != b"\0asm\x01\0\0\0" {
        return None;
    }
    let mut out = magic.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (length, digits) = unsigned(after)?;
        let end = 1 + digits + length;
        let section = rest.get(..end)?;
        if *id != 0 {
            out.extend_from_slice(section);
        }
        rest = rest.get(end..)?;
    }
    Some(out)
}

/// A number in LEB128, at most 32 bits, and how many bytes it takes.
fn unsigned(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn page(template: &str, style: &str, script: &str, wasm: &[u8]) -> Result<String> {
    let script = fill(script, "{{wasm}}", &STANDARD.encode(wasm))?;
    if style.contains("</") || script.contains("</") || script.contains("<!--") {
        bail!("style or script would end its element");
    }
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    let policy = format!(
        "default-src 'none'; script-src 'wasm-unsafe-eval' {}; style-src {}; base-uri 'none'; form-action 'none'",
        hash(&script),
        hash(style)
    );
    let page = fill(template, "{{policy}}", &policy)?;
    let page = fill(&page, "{{style}}", style)?;
    fill(&page, "{{script}}", &script)
}

/// Puts a text where the mark stands, which is once.
fn fill(text: &str, mark: &str, with: &str) -> Result<String> {
    match text.split_once(mark) {
        Some((before, after)) if !after.contains(mark) => Ok([before, with, after].concat()),
        _ => bail!("{mark} does not stand once where it should"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x00\x03\x01ab\x05\x03\x01\x00\x01\x00\x01\x00";

    #[test]
    fn custom_sections_are_left_out_and_no_other() {
        assert_eq!(without_custom(MODULE).as_deref(), Some(b"\0asm\x01\0\0\0\x05\x03\x01\x00\x01".as_slice()));
        for end in [0, 7, 9, 10, 12, 14, 17] {
            assert_eq!(without_custom(&MODULE[..end]), None, "{end}");
        }
        assert_eq!(unsigned(&[0xe5, 0x8e, 0x26]), Some((624_485, 3)));
        assert_eq!(unsigned(&[0x80; 6]), None);
    }

    #[test]
    fn the_policy_names_the_very_script_and_style() {
        let made = page("{{policy}}|{{style}}|{{script}}", "a{}", "go('{{wasm}}')", b"wasm").expect("filled");
        let script = STANDARD.encode(Sha256::digest(b"go('d2FzbQ==')"));
        assert!(made.contains(&format!("'sha256-{script}'")) && made.ends_with("|a{}|go('d2FzbQ==')"), "{made}");
        assert!(page("{{policy}}{{style}}", "", "{{wasm}}", b"").is_err());
        assert!(page("{{policy}}{{style}}{{script}}", "", "</script>{{wasm}}", b"").is_err());
    }
}
