//! A core's thread dies: whatever it held ends as `CoreFailed`, nothing hangs, and the producer takes no more.
//!
//! And a core that spins is never rung. These are here and not in `tests/`, as only a test build can be told to kill a
//! core, and can see a bell.

use std::future::Future;
use std::time::Duration;

use endpoint::{Action, Endpoint, EndpointConfig};

use super::Producer;
use crate::config::{IdleStrategy, RateLimit, StaticCredentials};
use crate::error::{FlushError, PutErrorReason, SubmitterError};
use crate::metrics::Metric;
use crate::outcome::{Counts, ErrorCode};
use crate::record::{CoreId, Record};
use crate::ring::Published;
use crate::stream::Stream;
use crate::submitter::Submitter;
use crate::waiting::{Outcome, block_on_for};

/// Longer than anything takes that does not hang.
const LIMIT: Duration = Duration::from_secs(30);

/// A producer with a submitter at home on each of its cores.
struct World {
    producer: Producer,
    stream: Stream,
    submitters: Vec<Submitter>,
    endpoint: Endpoint,
}

impl World {
    /// The endpoint answers no PutRecords if it `hangs`. Records linger for ever, or hardly.
    fn new(cores: usize, hangs: bool, lingers: bool) -> World {
        let mut config = EndpointConfig::emulator();
        config.streams.push(("s".into(), 8));
        config.script = Some(Box::new(move |request| match request.operation {
            "PutRecords" if hangs => Action::Delay(LIMIT * 100),
            _ => Action::Pass,
        }));
        let endpoint = Endpoint::start(config).expect("an endpoint");
        let credentials =
            StaticCredentials { access_key_id: "test".into(), secret_access_key: "test".into(), session_token: None };
        let producer = Producer::builder()
            .region("us-east-1")
            .endpoint_url(endpoint.url())
            .credentials(credentials)
            .cores(cores)
            .rate_limit(RateLimit::Off)
            .max_outstanding_records(1000)
            .request_timeout(LIMIT * 10)
            .record_max_buffered_time(if lingers { LIMIT * 10 } else { Duration::from_millis(5) })
            .record_ttl(LIMIT * 20)
            .build()
            .expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let submitters = (0..cores).map(|_| producer.submitter().expect("a submitter")).collect();
        stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
        World { producer, stream, submitters, endpoint }
    }

    /// Puts records of many keys through every submitter.
    fn put(&mut self, each: usize) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for submitter in &mut self.submitters {
            for number in 0..each {
                let key = format!("{number}");
                outcomes.push(submitter.put(&self.stream, Record::new(&key, "d")).expect("a put"));
            }
        }
        outcomes
    }

    fn kill(&self, core: u16) {
        self.producer.kill_core(CoreId(core));
    }

    fn close(&self, timeout: Duration) -> Counts {
        let counts = within(self.producer.close(timeout));
        assert_eq!(counts.outstanding(), 0, "{counts:?}");
        counts
    }
}

fn within<F: Future>(future: F) -> F::Output {
    block_on_for(future, LIMIT).expect("nothing hangs")
}

/// Asserts that each record ended, by the death of a core if not delivered; answers how many were delivered.
fn ended(outcomes: Vec<Outcome>) -> u64 {
    let mut delivered = 0;
    for outcome in outcomes {
        match outcome.wait_timeout(LIMIT).expect("an outcome") {
            Ok(_) => delivered += 1,
            Err(failure) => {
                assert_eq!(*failure.code(), ErrorCode::CoreFailed, "{failure:?}");
                assert!(failure.may_be_stored(), "nobody can tell");
            }
        }
    }
    delivered
}

#[test]
fn metrics_that_a_core_has_told_outlive_it() {
    let mut world = World::new(2, false, false);
    let delivered = ended(world.put(50));
    let told = |world: &World| {
        let snapshot = world.producer.metrics();
        let sample = snapshot.global(Metric::UserRecordsPut).expect("records were settled");
        (sample.count(), sample.sum())
    };
    let before = told(&world);
    assert_eq!((delivered, before), (100, (100, 100.0)));
    world.kill(1);
    world.close(LIMIT);
    assert_eq!(told(&world), before);
}

#[test]
fn what_a_dead_core_held_ends_as_core_failed() {
    // In the ring, in an aggregate, and in a request.
    for (hangs, lingers) in [(true, false), (false, true), (true, true)] {
        let mut world = World::new(1, hangs, lingers);
        let outcomes = world.put(100);
        world.kill(0);
        assert_eq!(ended(outcomes), 0);
        let counts = world.close(LIMIT);
        assert_eq!((counts.accepted, counts.delivered, counts.failed), (100, 0, 100));
    }
}

#[test]
fn the_other_cores_go_on_with_what_is_theirs() {
    for victim in 0..3 {
        let mut world = World::new(3, false, true);
        let outcomes = world.put(200);
        world.kill(victim);
        let closing = world.producer.close(LIMIT);
        let delivered = ended_or_closed(outcomes);
        let counts = within(closing);
        assert_eq!((counts.accepted, counts.outstanding(), counts.delivered), (600, 0, delivered));
        assert!(counts.failed > 0, "something was on the dead core");
        assert!(world.endpoint.read_stream("s").is_ok());
    }
}

/// As [`ended`], where a close may have ended what the other cores held.
fn ended_or_closed(outcomes: Vec<Outcome>) -> u64 {
    let ends = outcomes.into_iter().map(|outcome| outcome.wait_timeout(LIMIT).expect("an outcome"));
    let delivered = |end: Result<_, crate::outcome::Failure>| match end {
        Ok(_) => 1,
        Err(failure) => {
            assert!(matches!(failure.code(), ErrorCode::CoreFailed | ErrorCode::Closed), "{failure:?}");
            0
        }
    };
    ends.map(delivered).sum()
}

#[test]
fn records_of_living_cores_are_delivered_though_one_is_dead() {
    for victim in 0..3 {
        let mut world = World::new(3, false, false);
        let before = world.put(50);
        within(world.producer.flush()).expect("the flush ends");
        assert_eq!(ended(before), 150);
        let outcomes = world.put(50);
        world.kill(victim);
        let delivered = ended(outcomes);
        let counts = world.close(LIMIT);
        assert_eq!((counts.accepted, counts.delivered), (300, 150 + delivered));
    }
}

#[test]
fn after_a_cores_death_puts_streams_and_submitters_are_refused() {
    for (cores, victim) in [(1, 0), (3, 0), (3, 2)] {
        let mut world = World::new(cores, false, false);
        let pooled = world.producer.put(&world.stream, Record::new("k", "d")).expect("a put");
        pooled.wait_timeout(LIMIT).expect("an outcome").expect("it is delivered");
        world.kill(victim);
        // A put may still be accepted before the core is dead; its outcome says when that was.
        loop {
            match world.submitters[usize::from(victim)].put(&world.stream, Record::new("k", "d")) {
                Ok(outcome) => drop(outcome.wait_timeout(LIMIT).expect("an outcome")),
                Err(error) => break assert_eq!(error.reason, PutErrorReason::CoreFailed),
            }
        }
        assert_eq!(world.producer.flush().wait_timeout(LIMIT), Err(FlushError::CoreFailed));
        for submitter in &mut world.submitters {
            let error = submitter.put(&world.stream, Record::new("k", "d")).expect_err("a core is dead");
            assert_eq!(error.reason, PutErrorReason::CoreFailed);
        }
        let error = world.producer.put(&world.stream, Record::new("k", "d")).expect_err("a core is dead");
        assert_eq!(error.reason, PutErrorReason::CoreFailed);
        let error = within(world.producer.put_async(&world.stream, Record::new("k", "d"))).expect_err("a core is dead");
        assert_eq!(error.reason, PutErrorReason::CoreFailed);
        assert!(world.producer.stream("another").is_err());
        assert_eq!(world.producer.submitter().err(), Some(SubmitterError::Closed));
        let health = world.producer.health();
        assert_eq!((health.cores, health.cores_alive), (cores, cores - 1));
        world.close(LIMIT);
    }
}

#[test]
fn a_flush_under_way_learns_of_a_cores_death() {
    for (cores, victim) in [(1, 0), (3, 0), (3, 1)] {
        let mut world = World::new(cores, true, true);
        let outcomes = world.put(50);
        let flushes = [world.producer.flush(), world.producer.flush_stream(&world.stream)];
        world.kill(victim);
        for flush in flushes {
            assert_eq!(flush.wait_timeout(LIMIT), Err(FlushError::CoreFailed));
        }
        let counts = world.close(Duration::ZERO);
        assert_eq!((counts.accepted, counts.delivered), (50 * cores as u64, 0));
        assert_eq!(ended_or_closed(outcomes), 0);
    }
}

#[test]
fn puts_that_wait_learn_of_a_cores_death() {
    for (cores, victim) in [(1, 0), (3, 1)] {
        let mut world = World::new(cores, true, false);
        let mut outcomes = Vec::new();
        while let Ok(outcome) = world.submitters[0].try_put(&world.stream, Record::new("k", "d")) {
            outcomes.push(outcome);
        }
        std::thread::scope(|scope| {
            let (producer, stream) = (&world.producer, &world.stream);
            let waiters: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| block_on_for(producer.put_async(stream, Record::new("k", "d")), LIMIT)))
                .collect();
            producer.kill_core(CoreId(victim));
            for waiter in waiters {
                let put = waiter.join().expect("no panic").expect("nothing hangs");
                // The dead core's credit may have come back first, but not to a living producer.
                assert_eq!(put.expect_err("a core is dead").reason, PutErrorReason::CoreFailed);
            }
        });
        world.close(Duration::ZERO);
        assert_eq!(ended_or_closed(outcomes), 0);
    }
}

#[test]
fn a_core_that_dies_during_the_close_does_not_hold_it_up() {
    for (cores, victim) in [(1, 0), (3, 0), (3, 2)] {
        let mut world = World::new(cores, true, false);
        let outcomes = world.put(50);
        let closing = world.producer.close(Duration::from_millis(300));
        world.kill(victim);
        let counts = within(closing);
        assert_eq!((counts.accepted, counts.failed), (50 * cores as u64, 50 * cores as u64));
        assert_eq!(ended_or_closed(outcomes), 0);
    }
}

#[test]
fn when_all_cores_die_everything_still_ends() {
    let mut world = World::new(3, true, false);
    let outcomes = world.put(100);
    (0..3).for_each(|core| world.kill(core));
    assert_eq!(ended(outcomes), 0);
    let counts = world.close(LIMIT);
    assert_eq!((counts.accepted, counts.failed), (300, 300));
    let health = world.producer.health();
    assert_eq!((health.cores_alive, health.oldest_outstanding), (0, None));
}

#[test]
fn no_put_rings_a_core_that_spins_and_its_clock_goes_on() {
    let builder = Producer::builder().region("us-east-1").endpoint_url("http://127.0.0.1:1").cores(2);
    let producer = builder.idle(IdleStrategy::Spin).build().expect("a producer");
    let shared = &producer.0.shared;
    let limit = shared.clock.now() + LIMIT;
    for bell in shared.doorbells.iter() {
        let (mut moves, mut before) = (0, 0);
        while moves < 100 {
            assert!(shared.clock.now() < limit, "the clock moved {moves} times");
            assert_eq!(bell.published(true), Published::Quiet);
            let now_ns = bell.observe().now_ns;
            moves += usize::from(now_ns > before);
            before = now_ns;
            std::thread::yield_now();
        }
    }
    within(producer.close(LIMIT));
}
