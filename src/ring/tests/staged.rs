//! Tests of pushes in three steps: room, stage, publish.

use super::*;

#[test]
fn a_reservation_is_cut_short_in_the_ring_and_by_pointer() {
    for (reserved, used) in [(40, 40), (40, 9), (40, 0), (200, 200), (200, 30), (200, 0)] {
        let (_, mut slots) = slots::<u64>();
        let (mut sender, mut receiver) = ring(256);
        let room = sender.room(reserved).expect("the ring is empty");
        assert_eq!(room.len(), reserved);
        room.fill(5);
        sender.stage(slots.take_lone(), reserved, used);
        assert!(sender.try_push(slots.take_lone(), 1, |bytes| bytes.fill(6)).is_ok());
        let bytes: Vec<_> = receiver.drain(u64::MAX).map(|frame| frame.bytes.to_vec()).collect();
        assert_eq!(bytes, [vec![5; used], vec![6]], "{used} of {reserved}");
        let in_ring = if reserved == 40 { 16 + used.next_multiple_of(8) } else { 32 };
        assert_eq!(receiver.position(), (in_ring + 24) as u64, "only what is used takes room");
    }
}

#[test]
fn room_that_is_not_staged_is_nothing() {
    let (_, mut slots) = slots::<u64>();
    let (mut sender, mut receiver) = ring(256);
    for len in [200, 40, 200] {
        sender.room(len).expect("the ring is empty").fill(7);
    }
    assert_eq!(sender.room(200).map(|room| room[199]), Some(7), "the same buffer");
    sender.publish();
    assert_eq!(receiver.snapshot(), 0);
    sender.room(100).expect("the ring is empty").fill(8);
    sender.stage(slots.take_lone(), 100, 100);
    sender.publish();
    assert!(receiver.pop(u64::MAX).is_some_and(|frame| frame.bytes == [8; 100]));
}

#[test]
fn staged_frames_are_published_together() {
    let (_, mut slots) = slots::<u64>();
    let (mut sender, mut receiver) = ring(256);
    for byte in 0..3 {
        sender.room(20).expect("the ring is empty").fill(byte);
        sender.stage(slots.take_lone(), 20, 20);
        assert_eq!(receiver.snapshot(), 0);
        assert!(receiver.pop(u64::MAX).is_none());
    }
    sender.publish();
    assert_eq!(receiver.drain(u64::MAX).map(|frame| frame.bytes[0]).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_sender_that_goes_publishes_what_it_staged() {
    let (ledger, mut slots) = slots::<u64>();
    let (mut sender, mut receiver) = ring(256);
    let (ticket, mut handle) = slots.take();
    sender.room(20).expect("the ring is empty").fill(1);
    sender.stage(ticket, 20, 20);
    drop(sender);
    assert!(!receiver.is_disconnected());
    let frame = receiver.pop(u64::MAX).expect("it was published");
    assert!(!frame.ticket.settle(4, 0).wakes());
    assert!(receiver.is_disconnected());
    assert_eq!((handle.try_take(), ledger.abandoned()), (Some(Ok((4, 0))), 0));
}

#[test]
fn staging_without_room_is_refused_and_the_ring_goes_on() {
    let (ledger, mut slots) = slots::<u64>();
    let (mut sender, mut receiver) = ring(128);
    (0..4).for_each(|_| assert!(sender.try_push(slots.take_lone(), 16, |bytes| bytes.fill(1)).is_ok()));
    assert!(sender.room(16).is_none());
    for (reserved, used) in [(16, 16), (8, 9)] {
        let ticket = slots.take_lone();
        assert!(catch_unwind(AssertUnwindSafe(|| sender.stage(ticket, reserved, used))).is_err());
    }
    assert_eq!(ledger.abandoned_lone(), 2);
    assert_eq!(receiver.drain(u64::MAX).count(), 4);
    assert!(receiver.release().is_none());
    assert!(sender.try_push(slots.take_lone(), 16, |bytes| bytes.fill(2)).is_ok());
    assert!(receiver.pop(u64::MAX).is_some_and(|frame| frame.bytes == [2; 16]));
}

#[test]
fn a_sender_reclaims_what_it_staged_too() {
    let (ledger, mut slots) = slots::<u64>();
    let (mut sender, receiver) = ring(256);
    assert!(sender.try_push(slots.take_lone(), 8, |_| ()).is_ok());
    sender.reclaim(|_| panic!("the receiver is there"));
    drop(receiver);
    assert_eq!(ledger.abandoned(), 1, "the receiver's");
    for len in [8, 200] {
        assert!(sender.room(len).is_some());
        sender.stage(slots.take_lone(), len, len);
    }
    let mut reclaimed = 0;
    sender.reclaim(|ticket| reclaimed += usize::from(matches!(ticket.settle(1, 0), Told::Nobody)));
    sender.reclaim(|_| panic!("once"));
    drop(sender);
    assert_eq!((reclaimed, ledger.abandoned()), (2, 1));
}
