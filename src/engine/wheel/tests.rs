//! The wheel beside a list in which everything is searched for: random insertions, cancellations and leaps of the
//! clock.

use super::*;
use crate::engine::testing::Random;

const SEEDS: u64 = 300;
const OPS: usize = 600;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// For so many nanoseconds from now; less than nothing is the past.
    Insert(i64),
    /// The insertion with this number, which may have ended long ago.
    Cancel(usize),
    /// By so many nanoseconds; less than nothing is a clock that goes backwards.
    Advance(i64),
}

/// A time span of any magnitude up to ten days, small ones as often as large ones.
fn span(random: &mut Random) -> i64 {
    let bits = random.below(50);
    random.below(1 << bits) as i64
}

fn draw(random: &mut Random, inserted: usize, cancels: bool) -> Op {
    let backwards = |random: &mut Random| if random.below(8) == 0 { -span(random) } else { span(random) };
    match random.below(10) {
        0..5 => Op::Insert(backwards(random)),
        5..7 if cancels && inserted > 0 => Op::Cancel(random.below(inserted as u64) as usize),
        _ => Op::Advance(backwards(random)),
    }
}

/// An entry as the oracle sees it.
#[derive(Clone, Copy, Debug)]
struct Expected {
    at: Time,
    /// Its time, or that of its insertion if its time had passed.
    due: Time,
    /// Its time had passed when it was inserted, so it need not wait for the tick to end.
    overdue: bool,
    entry: usize,
}

struct Pair {
    wheel: Wheel<usize>,
    ids: Vec<TimerId>,
    expected: Vec<Expected>,
    /// The latest moment that the wheel was told.
    now: Time,
}

impl Pair {
    fn new(start_ns: u64) -> Pair {
        let now = Time::from_nanos(start_ns);
        Pair { wheel: Wheel::new(now), ids: Vec::new(), expected: Vec::new(), now }
    }

    fn after(&self, ns: i64) -> Time {
        Time::from_nanos(self.now.as_nanos().saturating_add_signed(ns))
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Insert(ns) => {
                let (at, entry) = (self.after(ns), self.ids.len());
                self.ids.push(self.wheel.insert(at, entry));
                let (due, overdue) = (at.max(self.now), at <= self.now);
                self.expected.push(Expected { at, due, overdue, entry });
            }
            Op::Cancel(entry) => {
                let place = self.expected.iter().position(|expected| expected.entry == entry);
                assert_eq!(self.wheel.cancel(self.ids[entry]), place.is_some());
                place.map(|place| self.expected.remove(place));
            }
            Op::Advance(ns) => {
                let told = self.after(ns);
                let mut fired = Vec::new();
                self.wheel.advance(told, &mut fired);
                self.now = self.now.max(told);
                self.check_fired(&fired);
            }
        }
        assert_eq!(self.wheel.len(), self.expected.len());
    }

    fn check_fired(&mut self, fired: &[usize]) {
        let mut latest = Expected { at: Time::ZERO, due: Time::ZERO, overdue: false, entry: 0 };
        for &entry in fired {
            let place = self.expected.iter().position(|expected| expected.entry == entry);
            let expected = self.expected.remove(place.expect("fired what was not there"));
            assert!(expected.at <= self.now, "{expected:?} fired early, at {:?}", self.now);
            assert!(latest.due < expected.due + RESOLUTION, "{expected:?} fired after {latest:?}");
            if latest.due == expected.due && latest.overdue == expected.overdue {
                assert!(latest.entry <= expected.entry, "{expected:?} overtook {latest:?}");
            }
            if expected.due >= latest.due {
                latest = expected;
            }
        }
        for expected in &self.expected {
            assert!(expected.due + RESOLUTION > self.now, "{expected:?} is late at {:?}", self.now);
        }
    }

    fn check_next(&self, exact: bool) {
        let Some(earliest) = self.expected.iter().map(|expected| expected.due).min() else {
            assert_eq!(self.wheel.next(), None);
            return;
        };
        let next = self.wheel.next().expect("there are entries");
        assert!(next < earliest + RESOLUTION, "{next:?} is too late for {earliest:?}");
        // What was due when it was inserted fires at once, so then any moment that has passed will do.
        let in_vain = self.now < next && next < earliest;
        assert!(!exact || !in_vain, "{next:?} is too early for {earliest:?}");
    }
}

#[test]
fn agrees_with_a_sorted_list_under_random_operations() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut pair = Pair::new(span(&mut random) as u64);
        let cancels = seed % 3 != 0;
        for _ in 0..OPS {
            pair.apply(draw(&mut random, pair.ids.len(), cancels));
            pair.check_next(!cancels);
        }
        // Whatever is left fires, and leaves a wheel without a trace of it.
        pair.apply(Op::Advance(1 << 52));
        assert!(pair.wheel.is_empty() && pair.wheel.levels == 0 && pair.wheel.occupied == [0; LEVELS], "seed {seed}");
        assert!(pair.wheel.slots.iter().all(|slot| slot.head == NIL && slot.tail == NIL));
    }
}

#[test]
fn sleeping_until_next_fires_something_every_time() {
    let mut random = Random(7);
    let mut wheel = Wheel::new(Time::ZERO);
    for entry in 0..1000_u32 {
        wheel.insert(Time::from_nanos(span(&mut random) as u64), entry);
    }
    let mut fired = Vec::new();
    while let Some(next) = wheel.next() {
        let before = fired.len();
        wheel.advance(next, &mut fired);
        assert!(fired.len() > before, "woken in vain at {next:?}");
    }
    assert_eq!(fired.len(), 1000);
}

#[test]
fn cancelling_the_earliest_costs_a_wake_for_each_level_at_most() {
    let mut wheel = Wheel::new(Time::ZERO);
    let second = Time::from_nanos(1_000_000_000);
    let first = wheel.insert(second, 'a');
    wheel.insert(second + 100 * RESOLUTION, 'b');
    assert!(wheel.cancel(first));
    let mut fired = Vec::new();
    let mut wakes = 0;
    while let Some(next) = wheel.next() {
        wheel.advance(next, &mut fired);
        wakes += 1;
    }
    assert_eq!(fired, ['b']);
    assert!(wakes <= LEVELS, "{wakes} wakes");
}

#[test]
fn entries_of_one_time_fire_in_the_order_of_insertion_through_cascades() {
    let mut wheel = Wheel::new(Time::ZERO);
    let at = Time::from_nanos(3_600_000_000_000);
    let mut expected = Vec::new();
    // Each time nearer, and so on a lower level.
    for (entry, ahead) in [3600_u64, 100, 3, 1].into_iter().enumerate() {
        wheel.advance(at - Duration::from_secs(ahead), &mut expected);
        wheel.insert(at, entry);
    }
    assert!(expected.is_empty());
    wheel.advance(at + RESOLUTION, &mut expected);
    assert_eq!(expected, [0, 1, 2, 3]);
}

#[test]
fn what_is_due_already_fires_at_the_next_advance_even_at_the_same_moment() {
    let now = Time::from_nanos(1_000_001);
    let mut wheel = Wheel::new(now);
    wheel.insert(now, 'a');
    wheel.insert(Time::ZERO, 'b');
    wheel.insert(now + Duration::from_nanos(1), 'c');
    assert!(wheel.next() <= Some(now));
    let mut fired = Vec::new();
    wheel.advance(Time::ZERO, &mut fired);
    assert_eq!(fired, ['a', 'b']);
}

#[test]
fn never_does_not_come() {
    let mut wheel = Wheel::new(Time::from_nanos(5));
    wheel.insert(Time::NEVER, ());
    assert_eq!(wheel.next(), Some(Time::NEVER));
    assert_eq!(wheel.pop_due(Time::NEVER), None);
    assert_eq!(wheel.len(), 1);
}

#[test]
fn an_id_of_a_former_entry_does_nothing_to_the_one_in_its_place() {
    let mut wheel = Wheel::new(Time::ZERO);
    let later = Time::from_nanos(1_000_000);
    let former = wheel.insert(later, 'a');
    assert!(wheel.cancel(former));
    let present = wheel.insert(later, 'b');
    assert_eq!(present.index, former.index, "the node is used again");
    assert!(!wheel.cancel(former));
    assert_eq!(wheel.pop_due(later + RESOLUTION), Some('b'));
    assert!(!wheel.cancel(present));
}

#[test]
fn the_slab_grows_to_the_most_entries_at_once_and_no_further() {
    let mut wheel = Wheel::new(Time::ZERO);
    let mut now = Time::ZERO;
    let mut fired = Vec::with_capacity(100);
    for round in 0..1000_u64 {
        for entry in 0..100 {
            wheel.insert(now + Duration::from_micros(1 + entry * round), entry);
        }
        now = now + Duration::from_secs(1);
        wheel.advance(now, &mut fired);
        assert_eq!(fired.len(), 100);
        fired.clear();
    }
    assert_eq!(wheel.nodes.len(), 100);
}
