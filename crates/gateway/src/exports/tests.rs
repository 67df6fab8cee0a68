//! What is read for events of a ledger of which entries were pruned.

use chancery_ledger::{Entry, LogSigner};
use chancery_store::{Level, MemoryVolume, Options, Sequencer, system_clock};

use super::*;

const SEGMENT: &str = "entries/00000000000000000000.seg";

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

/// A ledger of a `key.epoch` and seven heartbeats; its hashes.
fn ledger() -> (MemoryVolume, Vec<Digest>) {
    let volume = MemoryVolume::new();
    let signer = LogSigner::from_seed("gw.test/a", &[9; 32]).expect("a seed");
    let options = Options { reserve_bytes: 1, ..Options::new(system_clock(), [1; 16]) };
    let (shared, keys) = (Arc::new(volume.clone()), Arc::new(MemoryVolume::new()));
    let (sequencer, _) = Sequencer::open(shared, keys, signer, "gw.test/a", options).expect("a new ledger");
    for _ in 0..7 {
        sequencer.append_entry(&Entry::Heartbeat, Level::Written).expect("running");
    }
    sequencer.close();
    let (read, pruned) = entries(&LedgerReader::new(Arc::new(volume.clone())), 0, 8).expect("readable");
    assert_eq!((read.len(), pruned), (8, 0));
    (volume, read.into_iter().map(|(_, hash)| hash).collect())
}

/// Puts hashes in the place of these entries, as `docs/spec/ledger.md` has it.
fn prune(volume: &MemoryVolume, hashes: &[Digest], gone: &[usize]) -> LedgerReader {
    let changed = volume.tamper(SEGMENT, |bytes| {
        let (mut out, mut at) = (bytes[..16].to_vec(), 16);
        for (index, hash) in hashes.iter().enumerate() {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")) as usize;
            let frame = &bytes[at..at + 8 + length];
            if gone.contains(&index) {
                out.extend_from_slice(&(1_u32 << 31 | 32).to_le_bytes());
                out.extend_from_slice(&crc32c(&hash.0).to_le_bytes());
                out.extend_from_slice(&hash.0);
            } else {
                out.extend_from_slice(frame);
            }
            at += 8 + length;
        }
        *bytes = out;
    });
    assert!(changed);
    LedgerReader::new(Arc::new(volume.clone()))
}

fn indices(read: &Read) -> Vec<u64> {
    read.iter().map(|(leaf, _)| leaf.index).collect()
}

#[test]
fn entries_that_were_pruned_before_their_events_were_sent_are_passed_over_and_counted() {
    let (volume, hashes) = ledger();
    let reader = prune(&volume, &hashes, &[1, 2, 4, 7]);
    let (read, pruned) = entries(&reader, 0, 8).expect("readable");
    assert_eq!((indices(&read), pruned), (vec![0, 3, 5, 6], 3), "nothing is read behind the last hash yet");
    let (read, pruned) = entries(&reader, 1, 6).expect("readable");
    assert_eq!((indices(&read), pruned), (vec![3, 5], 3));
    assert_eq!(read[0].1, hashes[3]);
    assert!(entries(&reader, 7, 8).is_err(), "there is nothing to be read");
}

#[test]
fn an_export_goes_on_behind_an_entry_that_was_pruned_since() {
    let (volume, hashes) = ledger();
    let reader = prune(&volume, &hashes, &[2, 4]);
    for next in 1..=8 {
        let (_, last) = remembered(&reader, next - 1, next).expect("readable");
        assert_eq!(last, Some(hashes[next as usize - 1]), "{next}");
    }
    let (_, last) = remembered(&reader, 0, 9).expect("readable");
    assert_eq!(last, None, "the ledger has less than was sent");
}
