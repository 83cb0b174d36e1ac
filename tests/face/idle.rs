//! Idling: whatever a core does that has nothing to do, it misses nothing; and only one that was told to spins.

use kpl::{IdleStrategy, RateLimit, Record};

use super::reader::read;
use super::world::{builder, close, delivered, emulator, flushed, ms};

const STRATEGIES: [IdleStrategy; 3] = [IdleStrategy::Park, IdleStrategy::SpinThenPark(ms(2)), IdleStrategy::Spin];

#[test]
fn records_are_delivered_and_the_producer_closes_however_its_cores_idle() {
    let endpoint = emulator(&[("s", 4)]);
    for (idle, cores) in STRATEGIES.into_iter().flat_map(|idle| [(idle, 1), (idle, 2)]) {
        let build = builder(&endpoint.url()).rate_limit(RateLimit::Off).cores(cores).idle(idle);
        let producer = build.build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let mut keys = (0..).map(|number: u32| format!("{number}"));
        // One by one, each put to a core that idles, its answer awaited by a core that idles; then many at once.
        for key in keys.by_ref().take(8) {
            delivered(submitter.put(&stream, Record::new(&key, "d")).expect("a put"));
            delivered(producer.put(&stream, Record::new(&key, "d")).expect("a put"));
        }
        for key in keys.take(500) {
            drop(submitter.put(&stream, Record::new(&key, "d")).expect("a put"));
        }
        flushed(producer.flush());
        let counts = close(&producer);
        assert_eq!((counts.accepted, counts.delivered), (516, 516), "{idle:?}");
        assert_eq!(producer.health().cores_alive, 0, "{idle:?}");
    }
    assert_eq!(read(&endpoint, "s").len(), 6 * 516);
}

#[cfg(target_os = "linux")]
mod cpu {
    use std::fs;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::{Arc, Mutex, mpsc};
    use std::task::{Context, Wake, Waker};

    use kpl::{Producer, Record};

    use super::super::world::{LIMIT, builder, close, delivered, emulator, ms};
    use super::STRATEGIES;

    /// A waker that tells on which thread it was called: that of the record's core.
    struct Teller(Mutex<mpsc::Sender<String>>);

    impl Wake for Teller {
        fn wake(self: Arc<Self>) {
            let thread = fs::read_link("/proc/thread-self").expect("a thread finds itself");
            // Nobody hears it if the test has failed meanwhile.
            let _ = self.0.lock().expect("no panic").send(format!("/proc/{}/stat", thread.display()));
        }
    }

    /// Where the kernel tells of the thread of the producer's core, which has had a record by then.
    fn core_of(producer: &Producer) -> String {
        let stream = producer.stream("s").expect("a stream");
        let (tell, told) = mpsc::channel();
        let teller = Waker::from(Arc::new(Teller(Mutex::new(tell))));
        loop {
            let mut outcome = producer.put(&stream, Record::new("k", "d")).expect("a put");
            if pin!(&mut outcome).poll(&mut Context::from_waker(&teller)).is_pending() {
                let core = told.recv_timeout(LIMIT).expect("it is settled");
                delivered(outcome);
                return core;
            }
        }
    }

    /// CPU time that a thread has used so far, in ticks of the kernel, of which a second has a hundred.
    fn ticks(thread: &str) -> u64 {
        let stat = fs::read_to_string(thread).expect("the thread is there");
        let (_, fields) = stat.rsplit_once(')').expect("its name is in parentheses");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // User and system time are the fields 14 and 15, counted from 1; these begin with the third.
        fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    #[test]
    fn a_core_that_spins_uses_a_cpu_and_one_that_rests_hardly_any() {
        let endpoint = emulator(&[("s", 1)]);
        let producers = STRATEGIES.map(|idle| builder(&endpoint.url()).idle(idle).build().expect("a producer"));
        let cores = producers.each_ref().map(core_of);
        let before = cores.each_ref().map(|core| ticks(core));
        let used = || [0, 1, 2].map(|index| ticks(&cores[index]) - before[index]);
        // The spinning one has its second of CPU when the machine has one for it.
        let (_never, waits) = mpsc::channel::<()>();
        let patience = (0..20 * LIMIT.as_secs()).take_while(|_| waits.recv_timeout(ms(50)).is_err() && used()[2] < 100);
        patience.for_each(drop);
        let [parked, spun, spins] = used();
        println!("ticks of CPU: {parked} parked, {spun} after it had spun for its time, {spins} spinning");
        assert!(spins >= 100, "it spins");
        assert!(parked * 4 < spins && spun * 4 < spins, "they rest");
        for producer in &producers {
            close(producer);
        }
    }
}
