//! What stands beside a put: another queue that moves the same record, with a consumer on the core's CPU.
//!
//! The consumer takes whatever is there and frees it. Awake, it looks again at once, as a core that spins; armed, it
//! sleeps 20 ms between two looks, as a core on its tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lanes::Lane;
use crate::machine::{Machine, Side};

/// Records that a queue holds: more than are put in a tick at a million a second.
pub const CAPACITY: usize = 1 << 16;

/// How a core, or what stands for it, sleeps while traffic flows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// Not at all.
    Awake,
    /// On a tick.
    Armed,
}

/// A record as a queue of pointers moves it: one allocation, key and data in it, made by the producer and freed by the
/// consumer.
#[inline]
pub fn boxed(key: &str, data: &[u8]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(key.len() + data.len());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(data);
    bytes.into_boxed_slice()
}

/// A thread that takes records out until it is dropped.
pub struct Consumer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Starts it; `drain` takes out what is there.
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench has threads of its own, and one that rests on a tick sleeps"
    )]
    pub fn start(machine: &Machine, rhythm: Rhythm, mut drain: impl FnMut() + Send + 'static) -> Consumer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        machine.pin(Side::Core);
        let thread = std::thread::spawn(move || {
            // Relaxed: nothing is published with it; partner of the store in `drop`.
            while !stopped.load(Ordering::Relaxed) {
                drain();
                match rhythm {
                    Rhythm::Awake => std::hint::spin_loop(),
                    Rhythm::Armed => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        machine.pin(Side::Caller);
        Consumer { stop, thread: Some(thread) }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Relaxed: partner of the load in the thread.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a consumer does not panic");
        }
    }
}

/// `rtrb`, moving boxed records.
pub struct RtrbBoxed {
    producer: rtrb::Producer<Box<[u8]>>,
    _consumer: Consumer,
}

impl RtrbBoxed {
    /// The queue and its consumer.
    pub fn start(machine: &Machine, rhythm: Rhythm) -> RtrbBoxed {
        let (producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
        let drain = move || while consumer.pop().is_ok() {};
        RtrbBoxed { producer, _consumer: Consumer::start(machine, rhythm, drain) }
    }
}

impl Lane for RtrbBoxed {
    type Kept = ();

    #[inline]
    fn put(&mut self, key: &str, data: &[u8]) -> Option<()> {
        self.producer.push(boxed(key, data)).ok()
    }
}
