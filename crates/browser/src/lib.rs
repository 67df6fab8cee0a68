//! The verifier of evidence packs for a browser: the crates of the command line, compiled for WebAssembly, and one page
//! around them (`verify.html`; `cargo xtask browser` puts both together). It keeps one rule: the verifier without a file
//! system (ADR 0014).
//!
//! Everything that crosses the border is a number. The page writes bytes where [`room`] says, calls, and reads what
//! [`answer`] and [`answer_length`] point at. So the glue that `wasm-bindgen` can make is not needed; its macro is, because
//! it is what can export a function where this workspace forbids unsafe code.
//!
//! This crate knows nothing of files, pages, networks, clocks, or where the roots come from.

mod door;

use std::cell::RefCell;

use door::Door;
use wasm_bindgen::prelude::wasm_bindgen;

thread_local! {
    /// A module has one thread, and a page one verifier in it.
    static DOOR: RefCell<Door> = RefCell::default();
}

fn with<T>(work: impl FnOnce(&mut Door) -> T) -> T {
    DOOR.with_borrow_mut(work)
}

/// Makes room for that many bytes of input. Returns where; 0 if it is more than is ever taken at once.
#[wasm_bindgen]
pub fn room(length: u32) -> u32 {
    with(|door| door.room(length as usize).map_or(0, |room| room.as_ptr().addr() as u32))
}

/// Begins. The input is three texts, one after the other, of these lengths in bytes: roots, the witnesses' policy, and the
/// note of a checkpoint from elsewhere; the latter two may be empty. Returns an exit code: 0, or 64.
#[wasm_bindgen]
pub fn create(roots: u32, policy: u32, checkpoint: u32) -> u32 {
    with(|door| door.create([roots, policy, checkpoint].map(|length| length as usize)))
}

/// Takes the input as the next bytes of the pack. Returns an exit code: 0, or 3 if this is no pack.
#[wasm_bindgen]
pub fn feed() -> u32 {
    with(Door::feed)
}

/// Ends. Returns the exit code of `chancery evidence verify`; the answer is its document, or says what is wrong.
#[wasm_bindgen]
pub fn finish() -> u32 {
    with(Door::finish)
}

/// Where the answer is: a JSON text.
#[wasm_bindgen]
pub fn answer() -> u32 {
    with(|door| door.answer().as_ptr().addr() as u32)
}

/// How many bytes the answer has.
#[wasm_bindgen]
pub fn answer_length() -> u32 {
    with(|door| door.answer().len() as u32)
}
