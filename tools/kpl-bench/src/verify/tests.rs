//! What the ledger finds of losses, copies, corruption and disorder that are planted in a stream.

use std::sync::Arc;

use super::*;
use crate::workload::{Generator, Keys, Next, Source};

type Record = (String, Vec<u8>);

fn generated(lanes: u64, records: u64) -> (Plan, Vec<Record>) {
    let plan = Plan { keys: Arc::new(Keys::new(20, 4)), seed: 4, record_size: 60, lanes, put_times: false };
    let mut all = Vec::new();
    for lane in 0..lanes {
        let mut generator = Generator::new(plan.clone(), lane, Some(records));
        while let Ok(Next::Item(item)) = generator.next() {
            all.push((item.key.to_owned(), item.data.to_vec()));
        }
    }
    (plan, all)
}

fn read_all(mut reading: Reading, stream: &[Record]) -> Findings {
    stream.iter().for_each(|(key, data)| reading.read(key, data));
    if reading.needs_second_reading() {
        stream.iter().for_each(|(key, data)| reading.reread(key, data));
    }
    reading.findings(&|_| true)
}

fn lines_put(lines: &[Record]) -> Ledger {
    let ledger = Ledger::lines(false);
    lines.iter().for_each(|(key, data)| ledger.accepted(lines::tag(key, data)));
    ledger
}

fn some_lines() -> Vec<Record> {
    (0..5000).map(|number| (format!("k{}", number % 7), format!("line {}", number % 4000).into_bytes())).collect()
}

#[test]
fn a_whole_stream_has_no_findings_in_any_order() {
    let (plan, mut all) = generated(3, 1000);
    all.reverse();
    let reading = Ledger::generated(plan, false).into_reading(vec![334, 333, 333]).unwrap();
    assert_eq!(read_all(reading, &all), Findings::default());
    let mut lines = some_lines();
    let ledger = lines_put(&lines);
    lines.reverse();
    assert_eq!(read_all(ledger.into_reading(vec![]).unwrap(), &lines), Findings::default());
    assert!(Ledger::off().into_reading(vec![]).is_none());
}

#[test]
fn planted_loss_duplication_and_corruption_of_generated_records_are_counted_exactly() {
    let (plan, mut all) = generated(2, 1000);
    all.swap_remove(17);
    all.swap_remove(400);
    all.push(all[3].clone());
    all.push(all[3].clone());
    all.push(all[500].clone());
    all[40].1[55] ^= 4;
    all[41].0 = "another".to_owned();
    let findings = read_all(Ledger::generated(plan, false).into_reading(vec![500, 500]).unwrap(), &all);
    let expected = Findings { lost: 4, duplicated: 3, corrupted: 2, ..Findings::default() };
    assert_eq!(findings, expected);
}

#[test]
fn failed_and_refused_records_are_not_owed_and_one_that_is_there_all_the_same_is_told() {
    let (plan, mut all) = generated(1, 100);
    let ledger = Ledger::generated(plan, false);
    ledger.failed(98);
    ledger.failed(97);
    ledger.refused(99);
    all.truncate(98);
    let findings = read_all(ledger.into_reading(vec![100]).unwrap(), &all);
    assert_eq!(findings, Findings { stored_though_failed: 1, ..Findings::default() });
}

#[test]
fn a_record_that_was_never_put_is_corrupted() {
    let (plan, all) = generated(1, 100);
    let findings = read_all(Ledger::generated(plan, false).into_reading(vec![90]).unwrap(), &all);
    assert_eq!(findings, Findings { corrupted: 10, ..Findings::default() });
}

#[test]
fn planted_loss_duplication_and_corruption_of_lines_are_counted() {
    let mut lines = some_lines();
    let ledger = lines_put(&lines);
    lines.swap_remove(17);
    lines.swap_remove(4321);
    lines.push(lines[3].clone());
    lines.push(lines[500].clone());
    lines.push(lines[600].clone());
    lines[40].1.push(b'!');
    lines[41].0 = "another".to_owned();
    let findings = read_all(ledger.into_reading(vec![]).unwrap(), &lines);
    assert_eq!(findings, Findings { lost: 4, duplicated: 3, corrupted: 2, ..Findings::default() });
}

#[test]
fn copies_are_explained_by_ambiguous_attempts_and_no_further() {
    let (plan, mut all) = generated(1, 100);
    let ledger = Ledger::generated(plan, true);
    let lines = Ledger::lines(true);
    all.iter().for_each(|(key, data)| lines.accepted(lines::tag(key, data)));
    // 3 is there twice for a reason, 4 three times for one reason, 5 twice for none; 6 failed and is there, for a
    // reason, 7 for one that was not injected.
    for (record, copies, codes) in [
        (3, 1, &["Reset"][..]),
        (4, 2, &["Reset", "Odd"]),
        (5, 1, &[]),
        (6, 0, &["Reset"]),
        (7, 0, &["Odd"]),
        (8, 0, &["Reset"]),
    ] {
        let (key, data) = all[record].clone();
        for (ledger, tag) in [(&ledger, record as u64), (&lines, lines::tag(&key, &data))] {
            codes.iter().for_each(|code| ledger.doubted(tag, code));
            if record == 6 || record == 7 {
                ledger.failed(tag);
            }
        }
        (0..copies).for_each(|_| all.push((key.clone(), data.clone())));
    }
    let expected = Findings {
        duplicated: 4,
        stored_though_failed: 2,
        unexplained_copies: 3,
        unexplained_stored: 1,
        ..Findings::default()
    };
    for ledger in [ledger, lines] {
        let mut reading = ledger.into_reading(vec![100]).unwrap();
        assert!(!reading.needs_second_reading());
        all.iter().for_each(|(key, data)| reading.read(key, data));
        // Consumers drop a copy of 3, whose attempt has explained another, and one of 8, which has its own reason.
        [3, 8].into_iter().for_each(|record| reading.read_dropped(&all[record].0, &all[record].1));
        assert_eq!(reading.findings(&|code| code == "Reset"), expected);
    }
}

#[test]
fn a_first_copy_behind_a_younger_record_of_its_lane_and_key_is_out_of_order() {
    let plan = Plan { keys: Arc::new(Keys::new(1, 4)), seed: 4, record_size: 60, lanes: 2, put_times: false };
    let mut all = Vec::new();
    for lane in 0..2 {
        let mut generator = Generator::new(plan.clone(), lane, Some(20));
        while let Ok(Next::Item(item)) = generator.next() {
            all.push((item.key.to_owned(), item.data.to_vec()));
        }
    }
    let judge = |order: &[usize]| {
        let mut reading = Ledger::generated(plan.clone(), false).into_reading(vec![10, 10]).unwrap();
        reading.look_at_order();
        order.iter().for_each(|place| reading.read(&all[*place].0, &all[*place].1));
        reading.findings(&|_| true).out_of_order
    };
    assert_eq!(judge(&[0, 10, 1, 11, 12, 2, 1, 0, 3]), 0, "lanes mix, and second copies may come late");
    assert_eq!(judge(&[0, 2, 1, 10, 13, 12, 11]), 3);
}

#[test]
fn tallied_lines_are_lost_or_corrupted_as_others_are() {
    let lines = some_lines();
    let ledger = Ledger::lines(true);
    lines.iter().for_each(|(key, data)| ledger.accepted(lines::tag(key, data)));
    let mut reading = ledger.into_reading(vec![]).unwrap();
    reading.read("nobody", b"put this");
    lines[2..].iter().for_each(|(key, data)| reading.read(key, data));
    assert_eq!(reading.findings(&|_| false), Findings { lost: 2, corrupted: 1, ..Findings::default() });
}

#[test]
fn a_failed_line_is_not_owed() {
    let mut lines = some_lines();
    let ledger = lines_put(&lines);
    let (key, data) = lines.pop().unwrap();
    ledger.failed(lines::tag(&key, &data));
    assert_eq!(read_all(ledger.into_reading(vec![]).unwrap(), &lines), Findings::default());
}
