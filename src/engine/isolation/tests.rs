//! Isolation against requests of which it is known what is at fault.

use std::collections::VecDeque;

use super::*;

fn refusal(message: &str) -> Refusal {
    (ErrorCode::Service("ValidationException".into()), Arc::from(message))
}

/// What came of sending `count` batches of which `poison` are at fault: those that were found, those that failed with
/// others, and the requests after the first.
fn search(count: usize, poison: &[usize], names: bool) -> (Vec<usize>, Vec<usize>, usize) {
    let mut isolation = Isolation::default();
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    let mut requests: VecDeque<(Option<Suspicion>, Vec<usize>)> = [(None, (0..count).collect())].into();
    let mut sent = 0;
    while let Some((of, places)) = requests.pop_front() {
        if of.is_some_and(|of| isolation.is_condemned(of)) {
            failed.extend(places);
            continue;
        }
        sent += 1;
        let at_fault = places.iter().position(|place| poison.contains(place));
        let Some(at_fault) = at_fault else {
            of.into_iter().for_each(|of| isolation.passed(of));
            continue;
        };
        // As a service that names what it dislikes: its words differ from request to request.
        let message = if names { format!("Value at 'records.{}.member.data'", at_fault + 1) } else { "no".to_owned() };
        match isolation.refused(of, places.len(), &refusal(&message)) {
            Finding::Poison => found.extend(places),
            Finding::Hopeless => failed.extend(places),
            Finding::Split(suspicions) => {
                let mut groups: Vec<(Option<Suspicion>, Vec<usize>)> = Vec::new();
                for (place, of) in places.into_iter().zip(suspicions) {
                    match groups.iter_mut().find(|group| group.0 == Some(of)) {
                        Some(group) => group.1.push(place),
                        None => groups.push((Some(of), vec![place])),
                    }
                }
                requests.extend(groups);
            }
        }
    }
    (found, failed, sent - 1)
}

#[test]
fn a_poison_record_among_500_is_found_wherever_it_is_within_20_requests() {
    for count in [2, 3, 7, 64, 499, 500] {
        for place in 0..count {
            let (found, failed, requests) = search(count, &[place], false);
            assert_eq!((found, failed), (vec![place], vec![]), "of {count}");
            assert!(requests <= 20, "{requests} requests for place {place} of {count}");
        }
    }
}

#[test]
fn poison_that_the_message_names_is_tried_alone_and_nothing_else_fails() {
    for poison in [&[0][..], &[499], &[3, 77, 499], &[10, 11, 12, 13, 14]] {
        let (mut found, failed, requests) = search(500, poison, true);
        found.sort_unstable();
        assert_eq!((&found[..], failed), (poison, vec![]));
        assert_eq!(requests, 2 * poison.len(), "it and the others, each time");
    }
}

#[test]
fn more_named_poison_than_may_be_tried_fails_with_what_is_left() {
    let poison: Vec<usize> = (0..40).collect();
    let (found, failed, requests) = search(500, &poison, true);
    assert_eq!((found.len(), failed.len(), requests), (10, 490, 20));
}

#[test]
fn a_request_that_is_at_fault_itself_fails_whole_after_its_halves() {
    let everything: Vec<usize> = (0..500).collect();
    let (found, failed, requests) = search(500, &everything, false);
    assert_eq!((found.len(), failed.len(), requests), (0, 500, 2));
}

#[test]
fn a_lone_batch_that_is_refused_is_poison_without_further_requests() {
    assert_eq!(search(1, &[0], false), (vec![0], vec![], 0));
}

#[test]
fn several_poison_records_in_one_half_are_found_and_the_others_are_spared() {
    for poison in [&[0, 2][..], &[0, 1], &[1, 2, 3]] {
        let (mut found, failed, _) = search(8, poison, false);
        found.sort_unstable();
        assert_eq!((&found[..], failed), (poison, vec![]));
    }
}

#[test]
fn what_was_forgotten_or_retried_otherwise_begins_anew() {
    let mut isolation = Isolation::default();
    let Finding::Split(first) = isolation.refused(None, 4, &refusal("no")) else { panic!("four can be split") };
    for _ in 0..INQUIRIES_MAX {
        isolation.refused(None, 4, &refusal("no"));
    }
    assert!(!isolation.is_condemned(first[0]));
    isolation.passed(first[3]);
    assert!(matches!(isolation.refused(Some(first[0]), 2, &refusal("no")), Finding::Split(_)));
}

#[test]
fn places_are_read_from_a_message_and_bounded() {
    assert_eq!(named_places("Value at 'records.2.member.data', 'records.7.member', records.2", 7), [1, 6]);
    for without in ["", "records", "records.", "records.x", "records.0", "records.8", "records.99999999999999999999999"]
    {
        assert!(named_places(without, 7).is_empty(), "{without}");
    }
    assert_eq!(parts_of(5, &[1, 4]), [2, 0, 2, 2, 1]);
    assert_eq!(parts_of(3, &[]), [0, 1, 1]);
    assert_eq!(parts_of(2, &[0, 1]), [0, 1], "all of them named say nothing");
}

#[test]
fn an_inquiry_is_forgotten_when_nothing_is_under_suspicion_any_more() {
    let mut isolation = Isolation::default();
    let Finding::Split(halves) = isolation.refused(None, 2, &refusal("no")) else { panic!("two can be split") };
    isolation.passed(halves[0]);
    assert_eq!(isolation.inquiries.len(), 1, "the other half is still to be judged");
    isolation.passed(halves[1]);
    assert!(isolation.inquiries.is_empty());
}
