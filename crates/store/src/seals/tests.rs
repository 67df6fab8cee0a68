//! Segments over a directory in memory, with a sealer that only turns bits.

use std::sync::Mutex;

use chancery_ledger::{FrameIter, FrameKind};
use chancery_model::Timestamp;

use super::*;
use crate::sequencer::MemoryVolume;

const SESSION: SessionId = SessionId([3; 16]);

struct Turned {
    fails_at: u64,
}

impl SegmentSealer for Turned {
    fn seal(&self, index: u64, pieces: &[&[u8]]) -> Option<Sealed> {
        let body = pieces.concat().iter().map(|byte| !byte).collect();
        let header = index.to_be_bytes().to_vec();
        (index < self.fails_at).then_some(Sealed { body, header, commitment: Digest([9; 32]) })
    }
    fn to(&self) -> &[[u8; 8]] {
        &[[1; 8], [2; 8]]
    }
}

struct Original(Vec<u8>);

impl ToSeal for Original {
    fn frame(&self, _: &Sealing) -> Frame<'_> {
        Frame { at: Timestamp(5), kind: FrameKind::Output, command: 1, bytes: self.0.as_slice().into() }
    }
}

type Told = Arc<Mutex<Vec<(u64, u64, Digest, Digest)>>>;

fn seals(volume: &MemoryVolume, options: SealOptions, taken: bool) -> (Seals, Told) {
    let told = Told::default();
    let tells = told.clone();
    let on_sealed = Box::new(move |segment: RawSegment<'_>| {
        assert_eq!((segment.session, segment.to.len()), (SESSION, 2));
        tells.lock().unwrap_or_else(PoisonError::into_inner).push((
            segment.index,
            segment.bytes,
            segment.body,
            segment.header,
        ));
        taken
    });
    (Seals::open(Arc::new(volume.clone()), options, on_sealed).expect("a thread"), told)
}

fn told(told: &Told) -> Vec<(u64, u64, Digest, Digest)> {
    told.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn small() -> SealOptions {
    SealOptions { segment_bytes_max: 1000, session_bytes_max: 1 << 20, ..SealOptions::default() }
}

/// The plaintext of every segment on disk.
fn plain(volume: &MemoryVolume, segments: usize) -> Vec<Vec<u8>> {
    let reader = SealedReader::new(Arc::new(volume.clone()));
    let one = |index| reader.segment(SESSION, index as u64).expect("on disk").body.iter().map(|byte| !byte).collect();
    (0..segments).map(one).collect()
}

fn outputs(segments: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in segments {
        for frame in FrameIter::new(segment) {
            all.extend_from_slice(frame.expect("whole frames in every segment").bytes);
        }
    }
    all
}

#[tokio::test]
async fn what_goes_in_is_sealed_in_order_in_segments_of_whole_frames() {
    let volume = MemoryVolume::new();
    let (seals, told_) = seals(&volume, small(), true);
    let spool = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
    let mut expected = Vec::new();
    for (at, length) in [10, 400, 0, 900, 30, 30, 30].into_iter().enumerate() {
        let bytes = vec![at as u8; length];
        expected.extend_from_slice(&bytes);
        assert!(spool.take(Original(bytes)).is_ok());
    }
    spool.finish().await.expect("sealed");
    let told = told(&told_);
    // Of several entries each is the next, and the files are those that they name.
    assert_eq!(told.iter().map(|one| one.0).collect::<Vec<_>>(), (0..told.len() as u64).collect::<Vec<_>>());
    assert!(told.len() > 1);
    let disk = volume.after_power_loss();
    let segments = plain(&disk, told.len());
    assert_eq!(outputs(&segments), expected);
    for ((_, bytes, ..), segment) in told.iter().zip(&segments) {
        assert_eq!((*bytes, segment.len() <= 1000), (segment.len() as u64, true));
    }
    assert!(matches!(spool.take(Original(vec![1])), Err(Untaken::Fault(SealFault::Closed))));
    let reader = SealedReader::new(Arc::new(disk));
    assert_eq!(reader.remove(SESSION).expect("removed"), 2 * told.len());
    assert!(reader.segment(SESSION, 0).is_err());
}

#[tokio::test]
async fn a_frame_that_is_longer_than_a_piece_continues() {
    let volume = MemoryVolume::new();
    let (seals, told_) = seals(&volume, SealOptions { segment_bytes_max: 300_000, ..small() }, true);
    let spool = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
    let bytes: Vec<u8> = (0..1_500_000).map(|n| n as u8).collect();
    assert!(spool.take(Original(bytes.clone())).is_ok(), "larger than all room, and nothing else waits");
    spool.finish().await.expect("sealed");
    let segments = plain(&volume, told(&told_).len());
    assert_eq!(outputs(&segments), bytes);
    let continued: Vec<bool> = segments
        .iter()
        .flat_map(|segment| FrameIter::new(segment).map(|frame| frame.expect("whole").continued).collect::<Vec<_>>())
        .collect();
    assert_eq!(continued.iter().filter(|continued| !**continued).count(), 1);
    assert!(!continued[0] && continued.len() > 2);
}

#[tokio::test]
async fn a_segment_is_closed_when_its_time_is_over_or_memory_is_short() {
    for options in
        [SealOptions { segment_time: Duration::ZERO, ..small() }, SealOptions { all_bytes_max: 50, ..small() }]
    {
        let volume = MemoryVolume::new();
        let (seals, told_) = seals(&volume, options, true);
        let spool = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
        assert!(spool.take(Original(vec![7; 60])).is_ok());
        // Room is there again when the thread closed and sealed it, unasked.
        spool.until(|inner| inner.waiting == 0).await.expect("sealed");
        assert_eq!(told(&told_).len(), 1);
        spool.finish().await.expect("nothing was left");
        assert_eq!(told(&told_).len(), 1);
    }
}

#[tokio::test]
async fn a_full_spool_takes_nothing_until_there_is_room() {
    let volume = MemoryVolume::new();
    let options = SealOptions { segment_bytes_max: 1 << 20, session_bytes_max: 100, ..small() };
    let (seals, _) = seals(&volume, options, true);
    let spool = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
    assert!(spool.take(Original(vec![7; 100])).is_ok());
    let Err(Untaken::Full(again)) = spool.take(Original(vec![8; 5])) else { panic!("there is no room") };
    assert_eq!(again.0, [8; 5], "it comes back whole");
    seals.shared.lock().hurry = true;
    seals.shared.wake.notify_all();
    spool.space().await.expect("room");
    assert!(spool.take(again).is_ok());
}

#[tokio::test]
async fn what_fails_ends_the_spool_and_leaves_no_entry() {
    for (fault, fails_at, taken) in [
        (SealFault::Failed(io::ErrorKind::StorageFull), u64::MAX, true),
        (SealFault::Unsealed, 0, true),
        (SealFault::Unrecorded, u64::MAX, false),
    ] {
        let volume = MemoryVolume::new();
        let (seals, told_) = seals(&volume, small(), taken);
        volume.fill(matches!(fault, SealFault::Failed(_)));
        let spool = seals.spool(SESSION, Arc::new(Turned { fails_at }));
        assert!(spool.take(Original(vec![7; 60])).is_ok());
        assert_eq!(spool.finish().await, Err(fault));
        assert_eq!(spool.space().await, Err(fault));
        let Err(Untaken::Fault(said)) = spool.take(Original(vec![7])) else { panic!("nothing is taken") };
        assert_eq!((said, seals.shared.bytes.load(Ordering::Relaxed)), (fault, 0));
        assert_eq!(told(&told_).len(), usize::from(!taken));
        volume.fill(false);
        // The others go on.
        if taken {
            let other = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
            assert!(other.take(Original(vec![7; 60])).is_ok());
            other.finish().await.expect("sealed");
        }
    }
}

#[tokio::test]
async fn an_open_segment_does_not_survive_the_process_and_a_closed_one_does() {
    let volume = MemoryVolume::new();
    let (seals, told_) = seals(&volume, small(), true);
    let spool = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
    assert!(spool.take(Original(vec![1; 900])).is_ok());
    assert!(spool.take(Original(vec![2; 900])).is_ok());
    spool.until(|inner| inner.waiting < 1000).await.expect("the first is sealed");
    let after = volume.after_kill();
    assert_eq!(outputs(&plain(&after, told(&told_).len())), vec![1; 900]);
    assert!(SealedReader::new(Arc::new(after)).segment(SESSION, 1).is_err());
}

#[tokio::test]
async fn closing_seals_what_there_is() {
    let volume = MemoryVolume::new();
    let (seals, told_) = seals(&volume, small(), true);
    let spool = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
    assert!(spool.take(Original(vec![1; 90])).is_ok());
    seals.close();
    assert_eq!(outputs(&plain(&volume, told(&told_).len())), vec![1; 90]);
    let fresh = seals.spool(SESSION, Arc::new(Turned { fails_at: u64::MAX }));
    assert!(matches!(fresh.take(Original(vec![1])), Err(Untaken::Fault(SealFault::Closed))));
}
