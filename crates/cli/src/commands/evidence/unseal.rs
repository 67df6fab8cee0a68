//! `chancery evidence unseal`: hands a session's sealed originals out, as age files that only those can open to whom they
//! were sealed. The gateway cannot.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chancery_ledger::{EntryKind, Leaf};
use chancery_model::{Digest, SessionId, Timestamp};
use chancery_secrets::{Kek, Purpose, SealKey, Sealed};
use chancery_store::{Directory, LedgerItem, LedgerReader, SealedReader};
use serde_json::json;
use zeroize::Zeroizing;

use super::shred::session as session_of;
use crate::args;
use crate::client;
use crate::commands::check;
use crate::config::{Configuration, load_rules};
use crate::local::{Deed, Local, NewUnseal};
use crate::output::{Done, Exit, Failure, Out};

/// The version of the one key that a session has.
const VERSION: u32 = 1;

pub(super) async fn run(args: args::Unseal, out: Out) -> Done {
    if let Some(args::UnsealCommand::Request(args)) = args.request {
        return client::unseal::request(&args, out).await;
    }
    let (Some(session), Some(review), Some(directory)) = (args.session, args.review, args.out) else {
        return Err(Failure::usage("SESSION, --review and --out are needed"));
    };
    let session = session_of(&session)?;
    let (configuration, local) = check::open(&args.config).await?;
    let handed = hand_out(&configuration, &local, session, &review, &directory, out).await;
    local.close().await;
    handed
}

/// A segment by its entry.
struct Segment {
    entry: u64,
    index: u64,
    bytes: u64,
    body: Digest,
    header: Digest,
    commitment: Digest,
}

/// What the ledger says of a session's originals.
#[derive(Default)]
struct Known {
    segments: Vec<Segment>,
    shredded: Option<Timestamp>,
}

async fn hand_out(
    configuration: &Configuration,
    local: &Local,
    session: SessionId,
    review: &str,
    directory: &Path,
    out: Out,
) -> Done {
    if directory.exists() {
        return Err(
            Failure::usage(format!("{} exists", directory.display())).hint("--out names a directory to be made")
        );
    }
    let known = tokio::task::block_in_place(|| known(&configuration.state, session))?;
    if let Some(at) = known.shredded {
        return Err(Failure::no(format!("the originals of session {session} were destroyed at {at}")));
    }
    let key = key(local, session).await?;
    if known.segments.is_empty() {
        return Err(Failure::no(format!("there are no originals of session {session} on record"))
            .hint("a segment is on record when it is full, after a minute, or when the session ends"));
    }
    let rules = load_rules(configuration).map_err(|problems| check::failure(&problems))?;
    let unseal = NewUnseal { session: session.to_string(), review: review.to_owned() };
    local.do_it(&Deed::Unseal(unseal, Some(rules))).await?;
    // On record, and the approval is used up, before anything leaves.
    tokio::task::block_in_place(|| write(&configuration.state, session, &known.segments, &key, directory, out))
}

/// The key that wraps the headers.
async fn key(local: &Local, session: SessionId) -> Result<SealKey, Failure> {
    let refuse = |error: &dyn std::fmt::Display| Failure::no(error.to_string());
    let record = local.catalog.seal_key(session).await.map_err(|error| refuse(&error))?;
    let record = record.ok_or_else(|| {
        Failure::no(format!("there is no key for originals of session {session}"))
            .hint("they were not kept, or they were destroyed: `chancery session show` tells")
    })?;
    let kek = Kek::new(local.wrap_key()?).map_err(|error| refuse(&error))?;
    let name: String = session.0.iter().map(|byte| format!("{byte:02x}")).collect();
    Sealed::decode(&record.envelope)
        .and_then(|sealed| sealed.open(&kek, &name, VERSION, Purpose::SealKey))
        .and_then(|key| SealKey::new(key.expose()))
        .map_err(|error| refuse(&error))
}

fn write(state: &Path, session: SessionId, segments: &[Segment], key: &SealKey, directory: &Path, out: Out) -> Done {
    let failed = |error: io::Error| Failure::unsure(format!("{} cannot be written: {error}", directory.display()));
    let volume = Directory::shared(&state.join("sealed")).map_err(failed)?;
    let reader = SealedReader::new(Arc::new(volume));
    DirBuilder::new().mode(0o700).create(directory).map_err(failed)?;
    let (mut lines, mut damaged) = (Vec::new(), 0);
    for segment in segments {
        let name = format!("{:08}.age", segment.index);
        let opened = match open(&reader, session, segment, key) {
            Ok(opened) => opened,
            Err(why) => {
                damaged += 1;
                out.line(format!("segment {}: {why}", segment.index));
                lines.push(json!({ "segment": segment.index, "entry": segment.entry, "fault": why }));
                continue;
            }
        };
        write_new(&directory.join(&name), &opened.file).map_err(failed)?;
        out.line(format!("{name}  {} bytes of originals", segment.bytes));
        lines.push(json!({
            "segment": segment.index, "entry": segment.entry, "file": name, "bytes": segment.bytes,
            "com": segment.commitment.to_string(), "r": Digest(*opened.opening).to_string(),
        }));
    }
    let listing = json!({ "session": session.to_string(), "segments": lines });
    let text = serde_json::to_vec_pretty(&listing).map_err(|error| Failure::unsure(error.to_string()))?;
    write_new(&directory.join("segments.json"), &text).map_err(failed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    out.document(&listing);
    if damaged > 0 {
        return Err(Failure::no(format!("{damaged} of {} segments are not what was recorded", segments.len())));
    }
    out.line(format!(
        "open them with a key that they were sealed to: age -d -i KEY {}/00000000.age",
        directory.display()
    ));
    Ok(Exit::Yes)
}

struct Opened {
    file: Vec<u8>,
    opening: Zeroizing<[u8; 32]>,
}

/// The age file of a segment: header and body as they were recorded.
fn open(reader: &SealedReader, session: SessionId, segment: &Segment, key: &SealKey) -> Result<Opened, String> {
    let stored = reader.segment(session, segment.index).map_err(|error| format!("cannot be read: {error}"))?;
    if sha256(&stored.body) != segment.body || sha256(&stored.header) != segment.header {
        return Err("is not the one that was recorded".to_owned());
    }
    let fault = |error: chancery_secrets::SecretsError| error.to_string();
    let mut file = key.open_header(&session.0, segment.index, &stored.header).map_err(fault)?;
    file.extend_from_slice(&stored.body);
    Ok(Opened { file, opening: Zeroizing::new(key.opening(segment.index).map_err(fault)?) })
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut sum = Digest::default();
    sum.0.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads the whole ledger for the session's segments.
fn known(state: &Path, session: SessionId) -> Result<Known, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::unsure(format!("the ledger cannot be read: {error}"));
    let volume = Directory::shared(&state.join("ledger")).map_err(|error| unreadable(&error))?;
    let mut known = Known::default();
    let visited = LedgerReader::new(Arc::new(volume)).visit(0, |index, item| {
        let LedgerItem::Entry(bytes) = item else { return ControlFlow::Continue(()) };
        let Ok(leaf) = Leaf::parse(bytes, index) else { return ControlFlow::Continue(()) };
        if leaf.session == Some(session) {
            match leaf.kind {
                Some(EntryKind::RawSegment) => known.segments.extend(segment(&leaf)),
                Some(EntryKind::Shred) => known.shredded = Some(Timestamp(leaf.wall)),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    });
    visited.map_err(|error| unreadable(&error))?;
    Ok(known)
}

fn segment(leaf: &Leaf) -> Option<Segment> {
    Some(Segment {
        entry: leaf.index,
        index: leaf.number("seg")?,
        bytes: leaf.number("bytes")?,
        body: leaf.digest("cr")?,
        header: leaf.digest("hd")?,
        commitment: leaf.digest("com")?,
    })
}
