//! What goes into a batch comes out of it.

use super::super::pool::Pool;
use super::super::testing::{Put, Random, Source, attempt, bounds};
use super::*;

/// Arrivals are kept to so many nanoseconds.
const ARRIVAL_UNIT_NS: u64 = 1 << 16;

fn random_put(random: &mut Random) -> Put {
    let key = ["a", "key", "ключ"][random.below(3) as usize];
    let data = vec![random.below(256) as u8; random.below(30) as usize];
    Put {
        arrival: Time::from_nanos(random.below(1 << 30)),
        generation: Generation::of_round(random.below(2)),
        prior: random.once_in(3).then(|| (0..1 + random.below(3)).map(attempt).collect()),
        ..Put::new(key, &data)
    }
}

#[test]
fn a_batch_comes_apart_into_its_members_in_order_with_all_that_was_tried() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (mut source, mut pool) = (Source::new(), Pool::default());
        let mut puts: Vec<Put> = (0..1 + random.below(9)).map(|_| random_put(&mut random)).collect();
        if random.once_in(2) {
            puts[0].explicit = Some(HashKey(u128::from(random.next())));
        }
        let explicit = puts[0].explicit.is_some();
        let (mut batch, mut outcomes) = source.batch(&puts, &mut pool);
        let own: Vec<Attempt> = (20..20 + random.below(3)).map(attempt).collect();
        own.iter().cloned().for_each(|attempt| batch.note_attempt(attempt));
        if random.once_in(2) {
            pool.seal(&mut batch);
        }
        let mut place = 0;
        batch.dissolve(|ticket, record| {
            let put = &puts[place];
            assert_eq!((record.key, record.data, record.hash), (put.key.as_bytes(), &*put.data, put.hash()));
            assert_eq!((record.explicit, record.fresh), (explicit, false));
            let tried = put.prior.iter().flat_map(|prior| prior.iter()).chain(&own);
            assert!(record.prior.iter().flat_map(|prior| prior.iter()).eq(tried), "seed {seed}");
            let Routed { arrival, size, generation, .. } = *record;
            assert_eq!((size as usize, generation), (put.size(), put.generation));
            assert!(arrival <= put.arrival && arrival + Duration::from_nanos(ARRIVAL_UNIT_NS) > put.arrival);
            assert!(!ticket.settle(Settlement::unattempted(crate::outcome::ErrorCode::Closed, ""), 77).wakes());
            assert!(outcomes[place].try_take().is_some(), "tickets keep their places");
            place += 1;
        });
        assert_eq!(place, puts.len());
        pool.give(batch);
    }
}

#[test]
fn a_batch_has_expired_whole_when_its_last_member_has() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let second = Duration::from_secs(1);
    let later = Time::ZERO + second;
    let puts = [Put::new("key", b"1"), Put { arrival: later, ..Put::new("key", b"2") }];
    let (batch, _outcomes) = source.batch(&puts, &mut pool);
    assert_eq!(batch.expiration, Time::ZERO + bounds().ttl);
    let kept = Time::from_nanos(later.as_nanos() / ARRIVAL_UNIT_NS * ARRIVAL_UNIT_NS);
    let last = kept + bounds().ttl;
    assert!(batch.has_expired_whole(last, bounds().ttl));
    assert!(!batch.has_expired_whole(last - Duration::from_nanos(1), bounds().ttl));
}

/// Whether the batch takes the record.
fn append(batch: &mut Batch, (ticket, record): (Ticket, Routed<'_>), bounds: &Bounds) -> bool {
    batch.try_append(ticket, &record, bounds).is_ok()
}

#[test]
fn a_later_member_may_not_make_a_plain_batch_explicit_and_any_first_member_fits() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let tight = Bounds { max_size: 64, ..bounds() };
    let explicit = Put { explicit: Some(HashKey(5)), ..Put::new("key", b"data") };
    let (plain, large) = (Put::new("key", b"data"), Put::new("key", &[0; 100]));
    for first in [&plain, &large] {
        let mut batch = pool.take();
        assert!(append(&mut batch, source.lone(first), &tight));
        assert!(!append(&mut batch, source.lone(&explicit), &tight), "it was taken");
    }
    let mut batch = pool.take();
    assert!(append(&mut batch, source.lone(&explicit), &tight));
    assert!(!append(&mut batch, source.lone(&large), &tight), "it would be too large");
    assert!(append(&mut batch, source.lone(&plain), &bounds()));
    assert!(batch.hashes().eq([HashKey(5), plain.hash()]));
}

#[test]
fn a_list_with_more_than_a_sixteenth_to_spare_is_cut() {
    for (len, capacity, cut) in [(0, 8, false), (0, 9, true), (160, 178, false), (160, 179, true), (16, 25, false)] {
        let mut list: Vec<u8> = Vec::with_capacity(capacity);
        list.resize(len, 0);
        let before = list.capacity();
        trim(&mut list);
        assert_eq!(list.capacity() < before, cut, "{len} of {capacity}");
    }
}

#[test]
fn histories_are_joined_in_the_order_in_which_they_were_made() {
    let list = |range: std::ops::Range<u64>| -> Option<Arc<[Attempt]>> { Some(range.map(attempt).collect()) };
    assert_eq!(joined(None, None), None);
    assert_eq!(joined(list(0..2), None), list(0..2));
    assert_eq!(joined(None, list(2..3).as_ref()), list(2..3));
    assert_eq!(joined(list(0..2), list(2..3).as_ref()), list(0..3));
}
