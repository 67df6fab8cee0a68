//! The two lines that every statement has, key by key: what stands between two values is one piece. Not here: the other
//! kinds.

use chancery_model::{Durability as Profile, Effect};

use super::{Common, hex, integer, string, unsigned};
use crate::{ActDone, ActStart};

/// Room for a line without its texts, at its longest.
const ROOM: usize = 1024;

/// `act.start`.
pub(super) fn start(out: &mut Vec<u8>, e: &ActStart<'_>, common: &Common<'_>) {
    out.reserve(ROOM);
    out.extend_from_slice(b"{\"a\":\"");
    hex(out, &e.chain);
    out.extend_from_slice(b"\",\"b\":\"");
    out.extend_from_slice(common.boot);
    out.extend_from_slice(b"\",\"c\":\"");
    // The form of a resource's name has nothing to escape.
    out.extend_from_slice(e.resource.as_str().as_bytes());
    out.extend_from_slice(b"\",\"ch\":\"");
    hex(out, &e.digest.0);
    out.extend_from_slice(b"\",\"d\":[");
    string(out, e.decision);
    for rule in e.rule_ids {
        out.push(b',');
        string(out, &rule.0);
    }
    out.extend_from_slice(b"],\"fp\":\"");
    hex(out, &e.fingerprint.0);
    out.extend_from_slice(b"\",\"k\":\"act.start\",\"m\":");
    integer(out, common.mono);
    out.extend_from_slice(b",\"n\":");
    unsigned(out, common.index);
    out.extend_from_slice(b",\"o\":\"");
    out.extend_from_slice(common.origin.as_bytes());
    out.extend_from_slice(b"\",\"p\":\"");
    hex(out, &e.rules.0);
    match e.profile {
        Profile::Balanced => out.extend_from_slice(b"\",\"prof\":\"balanced\",\"q\":"),
        Profile::Strict => out.extend_from_slice(b"\",\"prof\":\"strict\",\"q\":"),
    }
    unsigned(out, e.command);
    if let Some(review) = &e.review {
        out.extend_from_slice(b",\"rev\":\"");
        hex(out, &review.0);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"s\":\"");
    hex(out, &e.session.0);
    out.extend_from_slice(b"\",\"t\":");
    integer(out, common.wall);
    match e.effect {
        Effect::Read => out.extend_from_slice(b",\"v\":1,\"x\":\"read\"}"),
        Effect::Write => out.extend_from_slice(b",\"v\":1,\"x\":\"write\"}"),
    }
}

/// `act.done`.
pub(super) fn done(out: &mut Vec<u8>, e: &ActDone<'_>, common: &Common<'_>) {
    out.reserve(ROOM);
    out.extend_from_slice(b"{\"b\":\"");
    out.extend_from_slice(common.boot);
    out.extend_from_slice(b"\",\"bytes\":");
    unsigned(out, e.bytes);
    if let Some(recording) = &e.recording {
        out.extend_from_slice(b",\"cm\":\"");
        hex(out, &recording.0);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"k\":\"act.done\",\"m\":");
    integer(out, common.mono);
    out.extend_from_slice(b",\"masked\":");
    unsigned(out, e.masked);
    out.extend_from_slice(b",\"n\":");
    unsigned(out, common.index);
    out.extend_from_slice(b",\"o\":\"");
    out.extend_from_slice(common.origin.as_bytes());
    out.extend_from_slice(b"\",\"out\":\"");
    out.extend_from_slice(e.outcome.as_str().as_bytes());
    out.extend_from_slice(b"\",\"q\":");
    unsigned(out, e.command);
    out.extend_from_slice(b",\"rows\":");
    unsigned(out, e.rows);
    out.extend_from_slice(b",\"s\":\"");
    hex(out, &e.session.0);
    out.push(b'"');
    if let Some(code) = e.sqlstate.and_then(documented) {
        out.extend_from_slice(b",\"sqlstate\":\"");
        out.extend_from_slice(code);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"t\":");
    integer(out, common.wall);
    out.extend_from_slice(b",\"us\":");
    unsigned(out, e.duration_us);
    out.extend_from_slice(b",\"v\":1}");
}

/// The code comes from the resource: only its documented form may stand in a leaf.
fn documented(code: &str) -> Option<&[u8; 5]> {
    let code: &[u8; 5] = code.as_bytes().try_into().ok()?;
    code.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()).then_some(code)
}
