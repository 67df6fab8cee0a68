//! A timestamp that `openssl ts` made (its authority is one of the tests' own, with keys that are gone): it holds, and with
//! no bit changed does it say another time.

use chancery_ledger::verify_stamp;
use chancery_model::Timestamp;

const NOTE: &str = include_str!("stamp/note");
const REQUEST: &[u8] = include_bytes!("stamp/request.tsq");
const ANSWER: &[u8] = include_bytes!("stamp/answer.tsr");
const ROOT: &[u8] = include_bytes!("stamp/root.der");
/// 2026-11-29T04:17:51Z, as `openssl ts -reply -text` shows it.
const TIME: Timestamp = Timestamp(1_795_925_871_000_000);

#[test]
fn it_holds_for_its_note_its_request_and_its_root_alone() {
    let root = [ROOT.to_vec()];
    assert_eq!(verify_stamp(NOTE, REQUEST, ANSWER, &root), Ok(TIME));
    assert!(verify_stamp(NOTE, REQUEST, ANSWER, &[]).is_err());
    assert!(verify_stamp(&NOTE[1..], REQUEST, ANSWER, &root).is_err());
    // The hash, and the nonce.
    for at in (24..56).chain(58..66) {
        let mut changed = REQUEST.to_vec();
        changed[at] ^= 1;
        assert!(verify_stamp(NOTE, &changed, ANSWER, &root).is_err(), "byte {at}");
    }
}

#[test]
fn no_changed_bit_gives_another_time_and_few_are_outside_what_is_signed() {
    let (root, mut taken) = ([ROOT.to_vec()], Vec::new());
    for at in 0..ANSWER.len() {
        for bit in 0..8 {
            let mut changed = ANSWER.to_vec();
            changed[at] ^= 1 << bit;
            if let Ok(time) = verify_stamp(NOTE, REQUEST, &changed, &root) {
                assert_eq!(time, TIME, "byte {at}");
                taken.push(at);
            }
        }
    }
    taken.dedup();
    // The status, two numbers of versions and two absent parameters.
    assert!(taken.len() <= 5, "{taken:?}");
    for cut in 0..ANSWER.len() {
        assert!(verify_stamp(NOTE, REQUEST, &ANSWER[..cut], &root).is_err(), "cut at {cut}");
    }
}
