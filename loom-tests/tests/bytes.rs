//! The byte ring: wrapping, a full ring, frames by pointer, staged frames, waiting for room.
#![cfg(loom)]

use std::sync::Arc;

use kpl::ring::{Ledger, Receiver, Sender, Slots, ring};
use loom::thread;
use loom_tests::{block_on, claims, wake};

claims! {
    frames_come_out_whole_and_in_order_across_the_wrap catches RingTailRelaxed;
    a_full_ring_gives_the_ticket_back_and_overwrites_nothing catches RingHeadRelaxed;
    a_large_frame_goes_by_pointer_and_is_freed_after_it_was_read catches RingTailRelaxed;
    staged_frames_are_seen_together_or_not_at_all catches RingStagePublishes, RingTailRelaxed;
    a_sender_that_waits_for_room_is_woken catches RingRoomUnfenced;
    a_sender_that_waits_for_room_is_woken_when_the_receiver_goes catches RingRoomUnfenced;
}

/// A ring of 128 bytes: frames to 16 bytes lie in it, longer ones go by pointer.
fn fixture() -> (Slots<u64>, Sender<u64>, Receiver<u64>) {
    let (sender, receiver) = ring(128);
    (Slots::new(Arc::new(Ledger::new())), sender, receiver)
}

fn push(slots: &mut Slots<u64>, sender: &mut Sender<u64>, len: usize, byte: u8) -> bool {
    sender.try_push(slots.take_lone(), len, |bytes| bytes.fill(byte)).is_ok()
}

/// Takes out what is there, checks that it is `expected` and the following, and returns how many it were.
fn receive(receiver: &mut Receiver<u64>, expected: u8) -> u8 {
    let until = receiver.snapshot();
    let mut count = 0;
    for frame in receiver.drain(until) {
        assert!(frame.bytes.iter().all(|byte| *byte == expected + count), "{:?}", frame.bytes);
        wake(frame.ticket.settle(0, 0).into_waker());
        count += 1;
    }
    count
}

/// Moves both ends to 96 of 128 bytes, so that what follows wraps.
fn to_the_end(slots: &mut Slots<u64>, sender: &mut Sender<u64>, receiver: &mut Receiver<u64>) {
    (0..3).for_each(|byte| assert!(push(slots, sender, 16, byte)));
    assert_eq!(receive(receiver, 0), 3);
    wake(receiver.release());
}

fn frames_come_out_whole_and_in_order_across_the_wrap() {
    let (mut slots, mut sender, mut receiver) = fixture();
    to_the_end(&mut slots, &mut sender, &mut receiver);
    let submitter = thread::spawn(move || {
        // 24 bytes to the end less 8, a pad of 8, then from the beginning.
        assert!(push(&mut slots, &mut sender, 3, 0));
        assert!(push(&mut slots, &mut sender, 9, 1));
    });
    let mut count = receive(&mut receiver, 0);
    wake(receiver.release());
    submitter.join().unwrap();
    count += receive(&mut receiver, count);
    assert_eq!(count, 2);
    assert!(receiver.is_disconnected());
}

fn a_full_ring_gives_the_ticket_back_and_overwrites_nothing() {
    let (mut slots, mut sender, mut receiver) = fixture();
    (0..3).for_each(|byte| assert!(push(&mut slots, &mut sender, 16, byte)));
    let submitter = thread::spawn(move || {
        assert!(push(&mut slots, &mut sender, 16, 3));
        push(&mut slots, &mut sender, 16, 4)
    });
    let first = receive(&mut receiver, 0);
    wake(receiver.release());
    let pushed = submitter.join().unwrap();
    assert_eq!(first + receive(&mut receiver, first), if pushed { 5 } else { 4 });
}

fn a_large_frame_goes_by_pointer_and_is_freed_after_it_was_read() {
    let (mut slots, mut sender, mut receiver) = fixture();
    let submitter = thread::spawn(move || {
        assert!(push(&mut slots, &mut sender, 100, 0));
        assert!(push(&mut slots, &mut sender, 1, 1));
    });
    let count = receive(&mut receiver, 0);
    submitter.join().unwrap();
    assert_eq!(count + receive(&mut receiver, count), 2);
}

fn a_sender_that_waits_for_room_is_woken() {
    let (mut slots, mut sender, mut receiver) = fixture();
    (0..4).for_each(|byte| assert!(push(&mut slots, &mut sender, 16, byte)));
    let submitter = thread::spawn(move || {
        block_on(|cx| sender.poll_room(cx, 16));
        assert!(push(&mut slots, &mut sender, 16, 4));
    });
    assert_eq!(receive(&mut receiver, 0), 4);
    wake(receiver.release());
    submitter.join().unwrap();
    assert_eq!(receive(&mut receiver, 4), 1);
}

fn a_sender_that_waits_for_room_is_woken_when_the_receiver_goes() {
    let (mut slots, mut sender, receiver) = fixture();
    (0..4).for_each(|byte| assert!(push(&mut slots, &mut sender, 16, byte)));
    let submitter = thread::spawn(move || block_on(|cx| sender.poll_room(cx, 16)));
    drop(receiver);
    submitter.join().unwrap();
}

fn staged_frames_are_seen_together_or_not_at_all() {
    let (mut slots, mut sender, mut receiver) = fixture();
    to_the_end(&mut slots, &mut sender, &mut receiver);
    let submitter = thread::spawn(move || {
        // One that was asked for and is never staged, two that wrap and are cut short, and a large one cut short.
        sender.room(40).expect("the ring is empty").fill(9);
        for (byte, reserved) in [(0, 16), (1, 12), (2, 90)] {
            let room = sender.room(reserved).expect("the ring is empty");
            room[..5].fill(byte);
            sender.stage(slots.take_lone(), reserved, 5);
        }
        sender.publish();
        sender
    });
    let seen = receive(&mut receiver, 0);
    assert!(matches!(seen, 0 | 3), "{seen} of three");
    let sender = submitter.join().unwrap();
    assert_eq!(seen + receive(&mut receiver, seen), 3);
    drop(sender);
}
