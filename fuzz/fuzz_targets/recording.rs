//! Recording files as an attacker would leave them: block headers, chains, the frames inside a block, mask maps.

#![no_main]

use chancery_ledger::{Block, BlockHeader, FrameIter, RecordingChain, mask_map, parse_mask_map};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((door, data)) = data.split_first() else { return };
    if *door == 0 {
        let total: usize = FrameIter::new(data).flatten().map(|frame| frame.bytes.len()).sum();
        assert!(total <= data.len(), "frames lie inside their block");
        return;
    }
    if *door == 1 {
        if let Ok(map) = parse_mask_map(data) {
            assert_eq!(mask_map(&map), data, "a map has one form");
        }
        return;
    }
    let (mut rest, mut chain) = (data, RecordingChain::default());
    while let Ok(Some((block, after))) = Block::split(rest) {
        let written = block.header.encode();
        let read = BlockHeader::parse(&written).expect("a header that was read can be written and read");
        assert_eq!(read.encode(), written);
        assert!(after.len() < rest.len(), "every block takes bytes");
        chain.push(&block, None);
        for frame in FrameIter::new(block.stored) {
            let _ = frame;
        }
        rest = after;
    }
});
