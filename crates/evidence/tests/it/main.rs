//! Packs from outside: what nobody touched passes, and what was changed is found, even by hands that mend every hash.

mod maker;
mod origins;

use chancery_evidence::{ControlId, Findings, NoPack, PackReport, PackVerifier, Provenance};
use chancery_ledger::Verdict;
use maker::{START, Story, packed, pruned_story, story};

fn verify(story: &Story, pack: &[u8]) -> Result<PackReport, NoPack> {
    let mut verifier = PackVerifier::new(story.trusted.clone());
    for piece in pack.chunks(700) {
        verifier.feed(piece)?;
    }
    verifier.finish()
}

fn of(report: &PackReport, check: &str) -> Verdict {
    report.checks.iter().find(|finding| finding.check == check).expect("a check").verdict
}

/// What comes out after a change to the files, with a manifest that fits them.
fn changed(
    story: &Story,
    change: impl FnOnce(&mut Vec<(String, Vec<u8>)>, &mut Provenance),
) -> Result<PackReport, NoPack> {
    let (mut files, mut from) = story.files();
    change(&mut files.0, &mut from);
    verify(story, &packed(&files.0, &from))
}

fn replace(files: &mut [(String, Vec<u8>)], path: &str, from: &str, to: &str) {
    let (_, bytes) = files.iter_mut().find(|(name, _)| name.starts_with(path)).expect("the file");
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("the text");
    bytes.splice(at..at + from.len(), to.bytes());
}

#[test]
fn what_nobody_touched_passes_in_pieces_of_any_size() {
    let story = story(2);
    let report = changed(&story, |_, _| ()).expect("a pack");
    assert_eq!(report.verdict(), Verdict::Pass, "{:#?}", report.checks);
    assert_eq!((report.size, report.first_bad_entry), (story.lines.len() as u64, None));
    assert!(exceptions(&report.controls).is_empty(), "{:?}", exceptions(&report.controls));
    let (files, from) = story.files();
    let pack = packed(&files.0, &from);
    let mut whole = PackVerifier::new(story.trusted.clone());
    whole.feed(&pack).expect("a pack");
    assert_eq!(whole.finish().expect("a pack").checks, report.checks);
}

fn exceptions(findings: &Findings) -> Vec<&'static str> {
    findings.all().filter(|(_, found)| found.result() == "exceptions").map(|(control, _)| control.id).collect()
}

#[test]
fn every_sampled_bit_is_found() {
    let story = story(2);
    let (files, from) = story.files();
    let pack = packed(&files.0, &from);
    for at in (0..pack.len()).step_by(509) {
        let mut other = pack.clone();
        other[at] ^= 1 << (at % 8);
        let verdict = verify(&story, &other).map_or(Verdict::Fail, |report| report.verdict());
        assert_eq!(verdict, Verdict::Fail, "byte {at} of {}", pack.len());
    }
    for length in (0..pack.len()).step_by(499) {
        assert!(verify(&story, &pack[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn a_population_without_a_row_is_not_what_follows() {
    let story = story(2);
    for (path, check) in [
        ("populations/P12.jsonl", "populations"),
        ("populations/P05.csv", "populations"),
        ("populations/P04.ipe.json", "populations"),
        ("controls/results.jsonl", "controls"),
    ] {
        let report = changed(&story, |files, _| {
            let (_, bytes) = files.iter_mut().find(|(name, _)| name == path).expect("the file");
            let cut = bytes.len() / 2;
            bytes.truncate(cut);
        });
        let report = report.expect("a pack");
        assert_eq!((of(&report, check), of(&report, "manifest")), (Verdict::Fail, Verdict::Pass), "{path}");
        let gone = changed(&story, |files, _| files.retain(|(name, _)| name != path)).expect("a pack");
        assert_eq!(gone.verdict(), Verdict::Fail, "{path} is missing");
    }
}

#[test]
fn what_would_be_held_in_memory_has_a_bound() {
    let story = story(2);
    let mut verifier = PackVerifier::new(story.trusted.clone());
    let (files, from) = story.files();
    // The headers alone: nothing is taken before the size is looked at.
    for (path, size) in [("directory/chains.jsonl", 513 << 20), ("ledger/tile/0/000.p/1", 8193)] {
        let listed = [(path.to_owned(), Vec::new())];
        let pack = packed(&listed, &from);
        let mut bounded = PackVerifier::new(story.trusted.clone());
        let head = pack.len() - 2 * 512 - 512;
        bounded.feed(&pack[..head]).expect("a manifest and its note");
        let header = chancery_evidence::header(path, size).expect("a path");
        assert!(bounded.feed(&header).is_err(), "{path}");
    }
    let pack = packed(&files.0, &from);
    assert!(verifier.feed(&pack).is_ok(), "what is within them is taken");
    let twice = changed(&story, |files, _| {
        let at = files.iter().position(|(name, _)| name.starts_with("ledger/tile/0")).expect("a tile");
        files.insert(at, ("ledger/tile/0/001.p/1".to_owned(), vec![0; 32]));
    });
    assert_eq!(of(&twice.expect("a pack"), "tiles"), Verdict::Fail);
}

#[test]
fn a_shorter_period_shows_in_the_manifest_alone() {
    let story = story(2);
    let report = changed(&story, |_, from| from.period.from += 5_000).expect("a pack");
    assert_eq!(of(&report, "populations"), Verdict::Fail);
}

#[test]
fn names_recordings_rules_and_signatures_are_those_of_the_time() {
    let story = story(2);
    let report = changed(&story, |files, _| replace(files, "directory", "\"alice\"", "\"carol\"")).expect("a pack");
    assert_eq!((of(&report, "directory"), report.first_bad_entry), (Verdict::Fail, Some(3)));
    let report = changed(&story, |files, _| replace(files, "rules", "rules", "RULES")).expect("a pack");
    assert_eq!(of(&report, "rules"), Verdict::Fail);
    let report = changed(&story, |files, _| files.retain(|(name, _)| !name.starts_with("rules"))).expect("a pack");
    assert_eq!(of(&report, "rules"), Verdict::Inconclusive);
    let report = changed(&story, |files, _| replace(files, "reviews", "a signature", "A signature")).expect("a pack");
    assert_eq!(of(&report, "approvals"), Verdict::Fail);
    let report = changed(&story, |files, _| replace(files, "recordings/10", "shown", "SHOWN")).expect("a pack");
    assert_eq!(of(&report, "recordings"), Verdict::Fail);
    let report = changed(&story, |files, _| files.retain(|(name, _)| !name.starts_with("recordings/10")));
    assert_eq!(of(&report.expect("a pack"), "recordings"), Verdict::Fail);
    // Two sessions' recordings of equal length, each under the other's name.
    let report = changed(&story, |files, _| {
        let at = |name: &str| files.iter().position(|(path, _)| path.starts_with(name)).expect("the file");
        let (one, other) = (at("recordings/10"), at("recordings/11"));
        let bytes = std::mem::take(&mut files[one].1);
        files[one].1 = std::mem::replace(&mut files[other].1, bytes);
    });
    assert_eq!(of(&report.expect("a pack"), "recordings"), Verdict::Fail);
}

#[test]
fn what_no_entry_speaks_of_is_no_part_of_a_pack() {
    let story = story(2);
    let lines = |files: &mut [(String, Vec<u8>)], change: fn(&mut Vec<String>)| {
        let text = String::from_utf8(files[0].1.clone()).expect("text");
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        change(&mut lines);
        files[0].1 = lines.concat().into_bytes();
    };
    for change in [
        (|lines| lines.push(lines[0].clone())) as fn(&mut Vec<String>),
        |lines| lines.swap(0, 1),
        |lines| lines.push(lines[0].replace("0101", "0909")),
    ] {
        let report = changed(&story, |files, _| lines(files, change)).expect("a pack");
        assert_eq!(of(&report, "directory"), Verdict::Fail);
    }
    let other = b"rules that were never in force".to_vec();
    let path = format!("rules/{}.rules", maker::digest(&other));
    let report = changed(&story, |files, _| files.insert(1, (path, other))).expect("a pack");
    assert_eq!(of(&report, "rules"), Verdict::Fail);
    let backwards = changed(&story, |_, from| std::mem::swap(&mut from.period.from, &mut from.period.to));
    assert!(backwards.is_err());
}

#[test]
fn whoever_approves_for_themselves_is_an_exception() {
    let report = changed(&story(3), |_, _| ()).expect("a pack");
    assert_eq!(report.verdict(), Verdict::Pass, "{:#?}", report.checks);
    assert_eq!(exceptions(&report.controls), ["segregation"]);
    assert_eq!(report.controls.of(ControlId::Segregation).count, 3);
}

#[test]
fn an_erased_person_leaves_a_pack_that_holds() {
    let mut story = story(2);
    story.chains.remove(1);
    let report = changed(&story, |_, _| ()).expect("a pack");
    assert_eq!(report.verdict(), Verdict::Pass, "{:#?}", report.checks);
    assert_eq!(exceptions(&report.controls), ["segregation"], "nobody can say who decided");
}

#[test]
fn files_out_of_order_twice_or_besides_the_manifest_are_no_pack() {
    let story = story(2);
    let (files, from) = story.files();
    let pack = packed(&files.0, &from);
    let mut swapped = files.0.clone();
    swapped.swap(0, 1);
    let other = packed(&swapped, &from);
    // The members of one with the manifest of the other.
    let manifest = |pack: &[u8]| {
        let length = usize::from_str_radix(std::str::from_utf8(&pack[124..135]).expect("digits"), 8).expect("octal");
        512 + length.next_multiple_of(512)
    };
    let mixed = [&pack[..manifest(&pack)], &other[manifest(&other)..]].concat();
    assert!(verify(&story, &mixed).is_err());
    let late = changed(&story, |files, _| {
        let entries = files.iter().position(|(name, _)| name.contains("entries")).expect("entries");
        let bundle = files.remove(entries);
        files.push(bundle);
    });
    assert_eq!(late.expect("a pack").verdict(), Verdict::Fail, "entries behind what follows from them");
}

/// A pack of the time from `from` on, after a change to the files.
fn since(story: &Story, from: i64, change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> Result<PackReport, NoPack> {
    let (mut files, from) = story.files_since(from);
    change(&mut files.0);
    verify(story, &packed(&files.0, &from))
}

/// What is not a pass.
fn wrong(report: &PackReport) -> Vec<(&'static str, Verdict, Option<u64>)> {
    let wrong = report.checks.iter().filter(|one| one.verdict != Verdict::Pass);
    wrong.map(|one| (one.check, one.verdict, one.entry)).collect()
}

#[test]
fn what_was_pruned_before_the_period_is_no_fault_and_what_reaches_into_it_is_told() {
    let story = pruned_story(|_| ());
    let wall = |index: u64| START + index as i64 * 1_000;
    let lasts: Vec<i64> = [0, 1]
        .map(|of| {
            let segments: std::collections::BTreeSet<u64> = story.gone.values().copied().collect();
            let segment = segments.iter().nth(of).expect("two");
            wall(*story.gone.iter().filter(|(_, one)| *one == segment).map(|(index, _)| index).max().expect("some"))
        })
        .into();
    let whole = story.gone.len() as u64;
    for (from, missing) in
        [(START, whole), (lasts[0], whole), (lasts[0] + 1, whole / 2), (lasts[1], whole / 2), (lasts[1] + 1, 0)]
    {
        let report = since(&story, from, |_| ()).expect("a pack");
        let expected = if missing > 0 { vec![("populations", Verdict::Inconclusive, None)] } else { vec![] };
        assert_eq!(wrong(&report), expected, "{:#?}", report.checks);
        assert_eq!((report.size, report.first_bad_entry), (story.lines.len() as u64, None));
        let said = &report.checks.iter().find(|one| one.check == "populations").expect("a check").what;
        assert!(
            missing == 0 || said.contains(&format!("{missing} entries, written up to 2025-11-24T16:00:00.0")),
            "{said}"
        );
        let (files, _) = story.files_since(from);
        for population in ["P01", "P05", "P20"] {
            let (_, ipe) =
                files.0.iter().find(|(path, _)| path.ends_with(&format!("{population}.ipe.json"))).expect("one");
            let ipe: serde_json::Value = serde_json::from_slice(ipe).expect("JSON");
            let excluded = ipe["excluded"].as_array().expect("an array");
            assert_eq!(excluded.len(), if missing > 0 { 2 } else { 1 });
            assert!(missing == 0 || excluded[1]["count"] == missing);
        }
    }
    assert_eq!(whole, 20);
}

#[test]
fn looks_and_receipts_have_their_rows() {
    let (files, _) = pruned_story(|_| ()).files();
    let rows = |population: &str| -> Vec<serde_json::Value> {
        let path = format!("populations/{population}.jsonl");
        let (_, text) = files.0.iter().find(|(name, _)| *name == path).expect("the list");
        String::from_utf8_lossy(text).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let (session, review) = ("10".repeat(16), "08".repeat(16));
    let [unseal] = rows("P14").try_into().expect("one look");
    assert_eq!(
        (&unseal["kind"], &unseal["session"], &unseal["review"]),
        (&"unseal".into(), &session.as_str().into(), &review.into())
    );
    let disposal = rows("P15");
    let kinds: Vec<&str> = disposal.iter().filter_map(|row| row["kind"].as_str()).collect();
    assert_eq!(kinds, ["prune.refuse", "shred", "retention.run", "prune.ledger", "prune.ledger"]);
    for (row, digest) in disposal.iter().zip([serde_json::Value::Null, "06".repeat(32).into()]) {
        assert_eq!((&row["class"], &row["session"]), (&"sealed".into(), &session.as_str().into()));
        assert_eq!((&row["digest"], &row["by"]), (&digest, &unseal["by"]));
    }
    assert_eq!(unseal["by"], "dana@https://idp.example");
}

#[test]
fn hashes_that_no_entry_accounts_for_are_found() {
    let first = |story: &Story| *story.gone.keys().next().expect("some are pruned");
    for (at, said) in [
        (|one| one.dropped -= 1) as fn(&mut chancery_ledger::PruneLedger),
        |one| one.digest.0[0] ^= 1,
        |one| one.first += 1,
        |one| one.last.0 = START,
    ]
    .into_iter()
    .enumerate()
    {
        let story = pruned_story(said);
        let report = since(&story, START + 40_000, |_| ()).expect("a pack");
        assert!(wrong(&report).contains(&("lines", Verdict::Fail, Some(first(&story)))), "{at}: {:#?}", report.checks);
    }
    let story = pruned_story(|_| ());
    let last = *story.gone.keys().last().expect("some are pruned");
    for (index, segment) in
        [(1, Some(0)), (last, None), (last, Some(0)), (last, Some(last + 1)), (last, Some(u64::MAX))]
    {
        let mut other = pruned_story(|_| ());
        other.gone.remove(&index);
        other.gone.extend(segment.map(|segment| (index, segment)));
        let report = since(&other, START + 40_000, |_| ()).expect("a pack");
        assert_eq!(of(&report, "lines"), Verdict::Fail, "{index} {segment:?}");
    }
}

#[test]
fn every_sampled_bit_and_cut_of_a_kept_bundle_is_found() {
    let story = pruned_story(|_| ());
    let is_kept = |path: &str| path.starts_with("ledger/kept/");
    let (files, _) = story.files();
    let length = files.0.iter().find(|(path, _)| is_kept(path)).expect("a kept bundle").1.len();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let kept = |files: &mut Vec<(String, Vec<u8>)>| {
            files.iter_mut().filter(|(path, _)| is_kept(path)).for_each(|(_, bytes)| change(bytes));
        };
        let report = since(&story, START + 40_000, kept).expect("a pack");
        of(&report, "lines").max(of(&report, "tiles")).max(of(&report, "checkpoints"))
    };
    for at in (0..length).step_by(37) {
        assert_eq!(changed(&|bytes| bytes[at] ^= 1 << (at % 8)), Verdict::Fail, "byte {at}");
        assert_eq!(changed(&|bytes| bytes.truncate(at)), Verdict::Fail, "cut at {at}");
    }
    // Elsewhere it is a bundle of entries, one of which has no length.
    let renamed = since(&story, START + 40_000, |files| {
        files
            .iter_mut()
            .filter(|(path, _)| is_kept(path))
            .for_each(|(path, _)| *path = path.replace("/kept/", "/tile/entries/"));
    });
    assert_eq!(of(&renamed.expect("a pack"), "lines"), Verdict::Fail);
}
