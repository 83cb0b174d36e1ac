//! A close settles everything, wherever it is, and says what is known of it.

use std::time::Duration;

use kpl::outcome::{ErrorCode, Failure};

use super::driven::Driven;
use super::hand::*;

/// Closes, and answers how a record has ended by it.
fn closed(driven: &mut Driven, handle: &mut Waiting) -> Failure {
    driven.core.handle_close(driven.now);
    let failure = end(handle).expect_err("closed");
    assert_eq!(*failure.code(), ErrorCode::Closed);
    failure
}

#[test]
fn an_aggregate_that_waits_for_a_map_to_judge_it_is_settled_and_may_be_stored() {
    let mut driven = Driven::new(&config(), 1);
    let mut waiting = [put(&mut driven, 0), put(&mut driven, 0)];
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, "shardId-nobody-knows");
    let failure = closed(&mut driven, &mut waiting[0]);
    assert_eq!(failed(failure.attempts()), [("UnverifiedShard".to_owned(), true)]);
    assert!(failure.may_be_stored());
    assert!(end(&mut waiting[1]).is_err());
    assert_eq!(driven.core.released().failed, 2);
}

#[test]
fn what_is_under_way_is_settled_as_ambiguous_and_its_late_answer_changes_nothing() {
    let mut driven = Driven::new(&config(), 1);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    let failure = closed(&mut driven, &mut handle);
    assert_eq!(failed(failure.attempts()), [("Closed".to_owned(), true)]);
    store(&mut driven, &transmit);
    assert_eq!(driven.core.released().records, 1, "once");
}

#[test]
fn what_was_never_sent_is_settled_without_attempts() {
    // Open, queued behind a backoff, and waiting for a map.
    let mut driven = Driven::new(&config(), 1);
    let mut open = put(&mut driven, 0);
    let failure = closed(&mut driven, &mut open);
    assert!(failure.attempts().is_empty() && !failure.may_be_stored());
    let mut driven = Driven::new(&config(), 0);
    let mut waits = put_record(&mut driven, &kpl::Record::new("key", "data"));
    assert!(closed(&mut driven, &mut waits).attempts().is_empty());
    let mut driven = Driven::new(&config(), 1);
    let mut queued = put(&mut driven, 0);
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "ProvisionedThroughputExceededException");
    assert_eq!(closed(&mut driven, &mut queued).attempts().len(), 1);
}

#[test]
fn what_comes_after_a_close_is_settled_as_it_comes_and_nothing_is_sent() {
    let mut driven = Driven::new(&config(), 1);
    driven.core.handle_close(driven.now);
    let mut late = put(&mut driven, 0);
    assert_eq!(*end(&mut late).expect_err("closed").code(), ErrorCode::Closed);
    driven.pass(Duration::from_secs(1));
    assert!(driven.turn().is_none());
    assert!(driven.core.is_finished(), "there is no other core");
}
