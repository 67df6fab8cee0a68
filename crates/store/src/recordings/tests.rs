use std::ops::ControlFlow;

use chancery_ledger::{FrameKind, stage_frame};
use chancery_model::Timestamp;

use super::*;
use crate::sequencer::MemoryVolume;

struct Shown(Frame<'static>);

impl ToFrame for Shown {
    fn frame(&self) -> Frame<'_> {
        self.0.clone()
    }
}

fn shown(command: u64, bytes: impl Into<Vec<u8>>) -> StagedFrame<Shown> {
    stage_frame(Shown(Frame { at: Timestamp(7), kind: FrameKind::Output, command, bytes: bytes.into().into() }))
}

fn id(n: u8) -> SessionId {
    SessionId([n; 16])
}

fn recorder(volume: &MemoryVolume, options: RecorderOptions) -> (Recorder, Arc<Mutex<Vec<RecordingSegment>>>) {
    let closed: Arc<Mutex<Vec<RecordingSegment>>> = Arc::default();
    let sink = closed.clone();
    let on_closed: OnClosed = Box::new(move |segment| {
        sink.lock().expect("no panic holds it").push(segment);
        true
    });
    (Recorder::open(Arc::new(volume.clone()), options, on_closed).expect("memory"), closed)
}

/// The frames of a session put together again: (command, bytes).
fn replay(volume: &MemoryVolume, session: SessionId) -> Vec<(u64, Vec<u8>)> {
    let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
    let read = RecordingReader::new(Arc::new(volume.clone())).frames(session, |frame| {
        match frames.last_mut() {
            Some((_, bytes)) if frame.continued => bytes.extend_from_slice(frame.bytes),
            _ => frames.push((frame.command, frame.bytes.to_vec())),
        }
        ControlFlow::Continue(())
    });
    read.expect("readable");
    frames
}

#[tokio::test]
async fn frames_come_back_as_they_were_each_session_its_own() {
    let volume = MemoryVolume::new();
    let (recorder, closed) = recorder(&volume, RecorderOptions::default());
    let (one, two) = (recorder.spool(id(1)), recorder.spool(id(2)));
    let noise: Vec<u8> = (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let first = one.append(shown(1, vec![b'x'; 700_000])).expect("room");
    assert_eq!(first.into_inner().0.bytes.len(), 700_000);
    let _ = one.append(shown(2, noise.clone())).expect("room");
    let _ = two.append(shown(3, "")).expect("room");
    let head = one.sync().await.expect("the disk works");
    assert!(head.is_some() && two.sync().await.expect("the disk works").is_some());
    let _ = one.append(shown(4, "end")).expect("room");
    assert_ne!(one.sync().await.expect("the disk works"), head);
    assert_eq!(one.state.lock().blocks.capacity(), 0, "an idle spool owns no buffer");
    recorder.close();
    assert!(one.append(shown(5, "late")).is_err());
    assert_eq!(replay(&volume, id(1)), [(1, vec![b'x'; 700_000]), (2, noise), (4, b"end".to_vec())]);
    assert_eq!(replay(&volume, id(2)), [(3, Vec::new())]);
    let sessions = RecordingReader::new(Arc::new(volume)).sessions().expect("readable");
    assert_eq!(sessions.iter().map(|s| s.session).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!(closed.lock().expect("no panic holds it").len(), 1);
}

#[tokio::test]
async fn a_session_that_is_too_fast_waits() {
    let volume = MemoryVolume::new();
    let (recorder, _) = recorder(&volume, RecorderOptions { session_bytes_max: 100, ..RecorderOptions::default() });
    let spool = recorder.spool(id(1));
    volume.fill(true);
    let _ = spool.append(shown(1, vec![1; 200])).expect("nothing else waits");
    let Err(Unspooled::Full(staged)) = spool.append(shown(2, "x")) else { panic!("there is no room") };
    assert!(!spool.has_space());
    volume.fill(false);
    spool.space().await.expect("the disk has room again");
    let _ = spool.append(staged).expect("room");
    spool.sync().await.expect("the disk works");
    assert_eq!(replay(&volume, id(1)).len(), 2);
}

#[tokio::test]
async fn a_failed_sync_ends_every_spool() {
    let volume = MemoryVolume::new();
    let (recorder, _) = recorder(&volume, RecorderOptions::default());
    let spool = recorder.spool(id(1));
    volume.fail_syncs(true);
    let _ = spool.append(shown(1, "x")).expect("room");
    assert!(matches!(spool.sync().await, Err(RecordFault::Failed(_))));
    assert!(matches!(spool.append(shown(2, "x")), Err(Unspooled::Fault(_))));
    assert!(recorder.stalled().is_some());
    // A spool that had nothing waiting learns it, too.
    assert!(matches!(recorder.spool(id(2)).append(shown(1, "x")), Err(Unspooled::Fault(_))));
}

#[tokio::test]
async fn files_rotate_and_those_left_over_are_told_of_at_the_next_start() {
    let volume = MemoryVolume::new();
    let (recorder_one, closed) = recorder(&volume, RecorderOptions { file_bytes: 1000, ..RecorderOptions::default() });
    let spool = recorder_one.spool(id(1));
    for command in 0..5_u64 {
        let noise: Vec<u8> = (0..600_u64).map(|i| ((i + command).wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let _ = spool.append(shown(command, noise)).expect("room");
        spool.sync().await.expect("the disk works");
    }
    let told = closed.lock().expect("no panic holds it").len();
    assert_eq!(told, 2);
    let after = volume.after_power_loss();
    let torn = after.tamper("files/000000000002.rec", |bytes| bytes.extend_from_slice(b"CRB2 and then nothing"));
    assert!(torn);
    let (_recorder, closed) = recorder(&after, RecorderOptions::default());
    let left: Vec<u64> = closed.lock().expect("no panic holds it").iter().map(|segment| segment.file).collect();
    assert_eq!(left, [2]);
    assert_eq!(replay(&after, id(1)).len(), 5);
}

#[tokio::test]
async fn no_changed_byte_of_a_file_is_overlooked() {
    let volume = MemoryVolume::new();
    let (recorder, closed) = recorder(&volume, RecorderOptions::default());
    let spool = recorder.spool(id(1));
    for command in 0..3 {
        let _ = spool.append(shown(command, "some text of a row, some text of a row")).expect("room");
        spool.sync().await.expect("the disk works");
    }
    recorder.close();
    let told = closed.lock().expect("no panic holds it")[0];
    let name = reader::file_name(0);
    for at in 0..told.bytes as usize {
        let changed = volume.after_kill();
        changed.tamper(&name, |bytes| bytes[at] ^= 1);
        let blob = changed.open(&name).expect("there");
        let scan = reader::FileScan::of(blob.as_ref(), |_| {}).expect("memory");
        assert!(scan.damage.is_some(), "byte {at}");
    }
}

#[tokio::test]
async fn a_file_is_closed_for_its_age_only_if_something_is_in_it() {
    let volume = MemoryVolume::new();
    let (recorder, closed) = recorder(&volume, RecorderOptions::default());
    let spool = recorder.spool(id(1));
    let turn_over = |age: Duration| {
        recorder.turn_over(age);
        while recorder.shared.lock().older.is_some() {
            std::thread::yield_now();
        }
    };
    let record = async |command: u64| {
        let _ = spool.append(shown(command, "x")).expect("room");
        spool.sync().await.expect("the disk works");
    };
    turn_over(Duration::ZERO);
    record(1).await;
    turn_over(Duration::from_secs(3_600));
    record(2).await;
    assert_eq!(volume.list("files").expect("memory").len(), 1, "nothing was in it, then it was too young");
    turn_over(Duration::ZERO);
    record(3).await;
    recorder.close();
    let told: Vec<_> = closed.lock().expect("no panic holds it").iter().map(|one| (one.file, one.blocks)).collect();
    assert_eq!(told, [(0, 2), (1, 1)]);
    assert_eq!(replay(&volume, id(1)).len(), 3);
}
