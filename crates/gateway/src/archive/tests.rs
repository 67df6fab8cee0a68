//! Rounds against stores in memory and in a directory: what a cut-off round leaves, who was there first, what comes back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_ledger::{Entry, Frame, FrameKind, LogSigner, Roots};
use chancery_model::{SessionId, Timestamp};
use chancery_store::{
    Directory, LedgerReader, Level, Options, Recorder, RecorderOptions, RecordingReader, Restore, Sequencer,
    system_clock,
};
use futures_util::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::bucket::Bucket;
use super::uploads::Copies;
use super::{Archive, ArchiveFault, ArchivePlace, ArchiveStatus, ArchiveUrl};

const ORIGIN: &str = "gw.test/a";

/// A ledger with recordings in a directory of its own, removed when dropped.
struct Live {
    base: PathBuf,
    roots: String,
}

impl Live {
    fn new() -> Self {
        let mut id = [0; 8];
        chancery_store::random(&mut id).expect("the kernel gives random bytes");
        let base = std::env::temp_dir().join(format!("chancery-archive-{:016x}", u64::from_be_bytes(id)));
        for name in ["ledger", "keys", "recordings", "store"] {
            std::fs::create_dir_all(base.join(name)).expect("a fresh name");
        }
        Self { base, roots: String::new() }
    }
    /// One process: so many entries, a recorded frame, an orderly end.
    async fn life(&mut self, entries: u64) {
        let open = |name: &str| Arc::new(Directory::shared(&self.base.join(name)).expect("it is there"));
        let mut boot = [0; 16];
        chancery_store::random(&mut boot).expect("the kernel gives random bytes");
        let options = Options { reserve_bytes: 1, ahead_bytes: 64 << 10, ..Options::new(system_clock(), boot) };
        let signer = LogSigner::from_seed(ORIGIN, &[9; 32]).expect("a seed");
        let ledger = Arc::new(Directory::exclusive(&self.base.join("ledger")).expect("nobody has it"));
        let (sequencer, _) = Sequencer::open(ledger, open("keys"), signer, ORIGIN, options).expect("a ledger");
        self.roots = sequencer.roots();
        let told = sequencer.clone();
        let closed = Box::new(move |file| told.append_entry(&Entry::RecordingSegment(file), Level::Written).is_ok());
        let recordings = Arc::new(Directory::exclusive(&self.base.join("recordings")).expect("nobody has it"));
        let recorder = Recorder::open(recordings, RecorderOptions::default(), closed).expect("recordings");
        for _ in 0..entries {
            sequencer.append_entry(&Entry::Heartbeat, Level::Written).expect("running");
        }
        let spool = recorder.spool(SessionId(boot));
        let frame = Frame { at: Timestamp(7), kind: FrameKind::Output, command: 1, bytes: vec![1; 100].into() };
        assert!(spool.note(&frame).expect("room"));
        spool.sync().await.expect("the disk works");
        recorder.close();
        sequencer.close();
    }
    /// A process that archives it, as it begins.
    fn copies(&self, bucket: Bucket) -> Copies {
        let open = |name: &str| Arc::new(Directory::shared(&self.base.join(name)).expect("it is there"));
        let (ledger, recordings) = (LedgerReader::new(open("ledger")), RecordingReader::new(open("recordings")));
        Copies::new(bucket, self.roots.clone(), ledger, recordings).expect("own roots")
    }
    async fn round(&self, store: &Arc<InMemory>) -> Result<Option<u64>, ArchiveFault> {
        let round = self.copies(bucket(store)).round().await;
        round.map(|signed| signed.map(|signed| signed.checkpoint.size))
    }
    /// Restores all that is archived and compares it.
    async fn restored(&self, archive: &Archive) -> u64 {
        let roots = Roots::parse(&self.roots).expect("own roots");
        assert_eq!(archive.roots().await.expect("it is there"), self.roots);
        let last = archive.last(roots.log()).await.expect("it answers").expect("there is one");
        let (size, to) = (last.signed.checkpoint.size, self.base.join(format!("restored-{}", last.at.0)));
        let restore = Restore::create(&to, &self.roots, last.signed.clone(), &[]).expect("a new directory");
        let report = archive.restore(restore, size, None).await.expect("it is whole");
        assert_eq!((report.faults, report.lost), (vec![], vec![]));
        for name in std::fs::read_dir(self.base.join("recordings/files")).expect("it is there") {
            let name = name.expect("readable").file_name();
            let read = |base: &PathBuf| std::fs::read(base.join("recordings/files").join(&name)).expect("it is there");
            assert_eq!(read(&self.base), read(&to), "{name:?}");
        }
        size
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.base));
    }
}

fn bucket(store: &Arc<InMemory>) -> Bucket {
    Bucket::of(store.clone(), "gw/a")
}

async fn objects(store: &Arc<InMemory>) -> BTreeMap<String, Bytes> {
    let mut objects = BTreeMap::new();
    let mut list = store.list(None);
    while let Some(object) = list.next().await {
        let path = object.expect("memory").location;
        let bytes = store.get(&path).await.expect("it is there").bytes().await.expect("memory");
        objects.insert(path.to_string(), bytes);
    }
    objects
}

fn under<'o>(objects: &'o BTreeMap<String, Bytes>, part: &str) -> Vec<&'o String> {
    objects.keys().filter(|key| key.contains(part)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_round_left_the_next_goes_on() {
    let (mut live, store) = (Live::new(), Arc::new(InMemory::new()));
    live.life(300).await;
    let mut copies = live.copies(bucket(&store));
    let first = copies.round().await.expect("memory").expect("there was something").checkpoint.size;
    assert!(copies.round().await.expect("memory").is_none(), "nothing is new");
    let before = objects(&store).await;
    assert_eq!(under(&before, "checkpoints/").len(), 1);
    live.life(600).await;
    let second = live.round(&store).await.expect("memory").expect("there was something");
    assert!(second > first + 600);
    let all = objects(&store).await;
    assert!(before.iter().all(|(key, bytes)| all.get(key) == Some(bytes)), "nothing was changed");
    // Every number of objects that a cut-off round may have left behind, last first; whatever else is there.
    let new: Vec<&String> = all.keys().filter(|key| !before.contains_key(*key)).collect();
    assert!(new.len() > 8);
    for left in 0..new.len() {
        let cut = Arc::new(InMemory::new());
        let last = under(&all, "checkpoints/").pop().expect("two");
        for (key, bytes) in
            all.iter().filter(|(key, _)| before.contains_key(*key) || (new[..left].contains(key) && *key != last))
        {
            cut.put(&Path::from(key.as_str()), bytes.clone().into()).await.expect("memory");
        }
        assert_eq!(live.round(&cut).await.expect("memory"), Some(second), "{left}");
        assert_eq!(objects(&cut).await, all, "{left}");
    }
    assert_eq!(live.restored(&Archive::of(bucket(&store))).await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_piece_is_gone_on_behind() {
    let (mut live, store) = (Live::new(), Arc::new(InMemory::new()));
    live.life(5).await;
    live.round(&store).await.expect("memory");
    let all = objects(&store).await;
    let (key, whole) = all.iter().find(|(key, _)| key.contains("recordings/")).expect("there is one");
    // Of two blocks, a round that was cut off saw one: here, the half of a block does.
    let cut = Arc::new(InMemory::new());
    let half = whole.slice(..whole.len() / 2);
    cut.put(&Path::from(key.as_str()), half.clone().into()).await.expect("memory");
    assert_eq!(bucket(&cut).piece(&piece(whole)).await.expect("a beginning"), half.len() as u64);
    assert_eq!(bucket(&store).piece(&piece(&half)).await.expect("the same and more"), whole.len() as u64);
    for other in [b"".as_slice(), b"CRB1"] {
        cut.put(&Path::from(key.as_str()), Bytes::copy_from_slice(other).into()).await.expect("memory");
        assert!(matches!(bucket(&cut).piece(&piece(whole)).await, Err(ArchiveFault::Conflict(_))));
    }
}

fn piece(bytes: &Bytes) -> chancery_store::RecordingPiece {
    chancery_store::RecordingPiece { mark: chancery_store::RecordingMark::default(), bytes: bytes.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_with_other_content_ends_it() {
    let mut live = Live::new();
    live.life(300).await;
    let good = Arc::new(InMemory::new());
    let size = live.round(&good).await.expect("memory").expect("there was something");
    let all = objects(&good).await;
    for key in all.keys() {
        let store = Arc::new(InMemory::new());
        let planted = Bytes::from_static(b"planted");
        store.put(&Path::from(key.as_str()), planted.clone().into()).await.expect("memory");
        let fault = live.round(&store).await.expect_err("a conflict");
        assert!(
            matches!(fault, ArchiveFault::Conflict(_) | ArchiveFault::Ahead { .. }) && !fault.passes(),
            "{key}: {fault}"
        );
        let left = objects(&store).await;
        assert_eq!(left.get(key), Some(&planted), "{key}");
        let last = format!("gw/a/checkpoints/{size:020}");
        assert!(*key == last || !left.contains_key(&last), "{key}");
    }
    // A ledger of the same key that is another, and one that was put back.
    let mut other = Live::new();
    other.life(2).await;
    let fault = other.round(&good).await.expect_err("another ladder");
    assert!(matches!(fault, ArchiveFault::Conflict(key) if key == "ledger.vkey"));
    let (mut back, store) = (Live::new(), Arc::new(InMemory::new()));
    back.life(10).await;
    let ledger = back.base.join("ledger");
    let kept: Vec<_> = ["entries/00000000000000000000.seg", "checkpoint"]
        .map(|name| (ledger.join(name), std::fs::read(ledger.join(name)).expect("it is there")))
        .into();
    back.life(10).await;
    let more = back.round(&store).await.expect("memory").expect("there was something");
    kept.into_iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("own directory"));
    let fault = back.round(&store).await.expect_err("it was put back");
    assert!(matches!(fault, ArchiveFault::Ahead { archived } if archived == more), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_an_archive_too() {
    let mut live = Live::new();
    let place = |path| ArchivePlace { url: ArchiveUrl::Directory(path), endpoint: None, region: None, ca_pem: None };
    let here = place(live.base.join("store"));
    for entries in [10, 300] {
        live.life(entries).await;
        let round = live.copies(Bucket::open(&here).expect("it is there")).round().await;
        let size = round.expect("a directory").expect("there was something").checkpoint.size;
        assert_eq!(live.restored(&Archive::open(&here).expect("it is there")).await, size);
    }
    assert!(matches!(Bucket::open(&place(live.base.join("absent"))), Err(ArchiveFault::Settings(_))));
}

#[tokio::test]
async fn the_largest_number_is_found_in_any_list() {
    let store = Arc::new(InMemory::new());
    let bucket = bucket(&store);
    assert_eq!(bucket.largest("checkpoints", u64::MAX).await.expect("memory"), None);
    let mut due = Vec::new();
    for number in [7, 0, 256, 1, u64::MAX - 1, 1 << 40, 255] {
        assert!(bucket.create(&format!("checkpoints/{number:020}"), Bytes::new()).await.expect("memory"));
        due.push(number);
    }
    for stray in [
        "checkpoints/7",
        "checkpoints/0000000000000000000x",
        "checkpoints/99999999999999999999",
        "other/00000000000000000300",
    ] {
        bucket.create(stray, Bytes::new()).await.expect("memory");
    }
    due.sort_unstable();
    let mut bound = u64::MAX;
    while let Some(expected) = due.pop() {
        assert_eq!(bucket.largest("checkpoints", bound).await.expect("memory"), Some(expected));
        bound = expected;
    }
    assert_eq!(bucket.largest("checkpoints", bound).await.expect("memory"), None);
}

#[test]
fn what_is_behind_for_long_is_spoken_of() {
    let (began, every) = (Instant::now(), Duration::from_secs(60));
    let mut status = ArchiveStatus::default();
    let at = |seconds| began + Duration::from_secs(seconds);
    assert_eq!(status.behind(began, at(240), every), None);
    assert!(status.behind(began, at(241), every).is_some_and(|what| what.contains("in the last 241 s: ")));
    status.is_all(at(200));
    assert_eq!(status.behind(began, at(440), every), None);
    assert!(status.behind(began, at(441), every).is_some());
    status.ended = true;
    assert!(status.behind(began, at(201), every).is_some_and(|what| what.starts_with("nothing more is archived")));
}
