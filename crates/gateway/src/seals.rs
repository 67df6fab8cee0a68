//! Sealed originals from the gateway's side: a key for each session that keeps them, and the sealer that the store is given.

use std::sync::Arc;

use chancery_ledger::Entry;
use chancery_model::{Digest, SessionId};
use chancery_secrets::{HEADER_RANDOM_BYTES, Purpose, SEAL_RANDOM_BYTES, SealKey, Sealer, Secret, seal};
use chancery_session::Context;
use chancery_store::{
    Directory, Level, SealOptions, SealSpool, Sealed, Seals, SegmentSealer, Sequencer, StateDir, random,
};
use zeroize::Zeroizing;

use crate::gateway::{Shared, now};
use crate::settings::{SealSettings, Settings};

/// The version of the one key that a session has.
const VERSION: u32 = 1;

/// Begins to write sealed originals, if a resource keeps them.
pub(crate) fn open(state: &StateDir, settings: &Settings, sequencer: &Sequencer) -> std::io::Result<Option<Seals>> {
    if settings.resources.iter().all(|resource| resource.seal.is_none()) {
        return Ok(None);
    }
    let volume = Arc::new(Directory::exclusive(&state.sealed())?);
    let told = sequencer.clone();
    let on_sealed = Box::new(move |segment: chancery_ledger::RawSegment<'_>| {
        told.append_entry(&Entry::RawSegment(segment), Level::Written).is_ok()
    });
    Seals::open(volume, SealOptions::default(), on_sealed).map(Some)
}

struct Segments(Sealer);

impl SegmentSealer for Segments {
    fn seal(&self, index: u64, pieces: &[&[u8]]) -> Option<Sealed> {
        let mut nonce = [0; HEADER_RANDOM_BYTES];
        random(&mut nonce).ok()?;
        match self.0.seal(index, pieces.iter().copied(), nonce) {
            Ok(sealed) => {
                let commitment = Digest(sealed.commitment);
                Some(Sealed { body: sealed.body, header: sealed.header, commitment })
            }
            Err(error) => {
                tracing::error!(%error, "a segment cannot be sealed");
                None
            }
        }
    }
    fn to(&self) -> &[[u8; 8]] {
        self.0.to()
    }
}

/// A new session's key is kept, sealed, before anything is sealed under it. Errors: a sentence for the operator's log.
pub(crate) async fn begin(shared: &Shared, context: &Context, settings: &SealSettings) -> Result<SealSpool, String> {
    let seals = shared.seals.as_ref().ok_or("sealing is not running")?;
    let mut key = Zeroizing::new([0; 32]);
    let mut entropy = Zeroizing::new([0; SEAL_RANDOM_BYTES]);
    random(&mut *key).and_then(|()| random(&mut *entropy)).map_err(|error| format!("no randomness: {error}"))?;
    let failed = |error: chancery_secrets::SecretsError| error.to_string();
    let (name, plain) = (name(context.id), Secret::new(key.to_vec()));
    let envelope = seal(&shared.kek, &name, VERSION, Purpose::SealKey, &plain, entropy).map_err(failed)?;
    let resource = &context.resource.name;
    let kept = shared.catalog.put_seal_key(context.id, resource, &envelope.encode(), now()).await;
    kept.map_err(|error| error.to_string())?;
    let sealer = Sealer::new(context.id.0, SealKey::new(&*key).map_err(failed)?, settings.to.clone());
    Ok(seals.spool(context.id, Arc::new(Segments(sealer))))
}

/// The last segment is closed and on record before the session's end is. `lost`: an original did not reach the sealer.
pub(crate) async fn end(shared: &Shared, session: SessionId, seal: &SealSpool, lost: bool) {
    let sealed = seal.finish().await;
    if let Err(fault) = &sealed {
        tracing::error!(%session, %fault, "the last originals of a session are lost");
    }
    if lost || sealed.is_err() {
        shared.alert_of("originals-lost", session);
    }
}

/// What a session's key is called where it is sealed.
fn name(session: SessionId) -> String {
    session.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
