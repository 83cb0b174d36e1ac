//! SHA-256 of the bodies of one core, two side by side where two wait.
//!
//! ```text
//!   request ─▶ [ first │ second │ third … ]       the task of the first hashes a slice of the first two, and yields
//!                 └── together ──┘                the others wait; when the first is done, the next takes over
//! ```
//!
//! One stream of SHA-256 is a chain of instructions that wait for each other; a second one runs in the gaps. A body that is
//! alone is hashed alone, a small one at once, a large one after a turn, as its companion left just after it: to wait for
//! longer would cost a request what company saves the core. Who comes meanwhile joins from the next slice on.
//!
//! It promises that a slice has at most [`SLICE`] bytes of each of two bodies, after which the core has a turn: a large body
//! costs no record of another shard its deadline. The slices of a body are hashed in their order, whoever hashes them.
//!
//! It allocates nothing but the list of bodies, which is as long as the core has connections.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::Runtime;
use crate::codec::Body;
use crate::codec::lanes::{Sha256, update_pair};

/// Bytes of a body that are hashed between two turns of the thread's other tasks: about 70 µs with SHA extensions.
const SLICE: usize = 128 * 1024;

/// Bytes that were hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashed {
    /// In all.
    pub(crate) bytes: u64,
    /// Of these, side by side with as many others.
    pub(crate) in_pairs: u64,
}

/// The bodies of one core that are being hashed, in the order in which they came.
#[derive(Default)]
pub(crate) struct Hasher {
    jobs: RefCell<Vec<Job>>,
    jobs_begun: Cell<u64>,
    hashed: Cell<Hashed>,
}

/// A body, hashed up to a place in one of its chunks.
struct Job {
    id: u64,
    body: Arc<Body>,
    hash: Sha256,
    chunk: usize,
    offset: usize,
    left: usize,
    /// Its request's, which waits while another hashes.
    waker: Option<Waker>,
}

impl Job {
    /// What comes next of the body, at most `len` bytes in one piece; nothing at its end only.
    fn next(&mut self, len: usize) -> &[u8] {
        while self.left > 0 && self.rest().is_empty() {
            self.chunk += 1;
            self.offset = 0;
        }
        let rest = self.body.chunk(self.chunk).unwrap_or_default();
        let rest = &rest[self.offset.min(rest.len())..];
        &rest[..rest.len().min(len)]
    }

    fn rest(&self) -> &[u8] {
        &self.body.chunk(self.chunk).unwrap_or_default()[self.offset..]
    }

    fn advance(&mut self, len: usize) {
        self.offset += len;
        self.left -= len;
    }

    /// Hashes at most `len` bytes.
    fn alone(&mut self, len: usize) -> usize {
        let mut done = 0;
        while done < len && self.left > 0 {
            let mut hash = std::mem::take(&mut self.hash);
            let bytes = self.next(len - done);
            hash.update(bytes);
            let hashed = bytes.len();
            self.hash = hash;
            self.advance(hashed);
            done += hashed;
        }
        done
    }
}

/// Hashes at most `len` bytes of each, until one of them is at its end.
fn together(a: &mut Job, b: &mut Job, len: usize) -> usize {
    let mut done = 0;
    while done < len && a.left > 0 && b.left > 0 {
        let (mut a_hash, mut b_hash) = (std::mem::take(&mut a.hash), std::mem::take(&mut b.hash));
        let (a_bytes, b_bytes) = (a.next(len - done), b.next(len - done));
        let hashed = a_bytes.len().min(b_bytes.len());
        update_pair(&mut a_hash, &a_bytes[..hashed], &mut b_hash, &b_bytes[..hashed]);
        (a.hash, b.hash) = (a_hash, b_hash);
        a.advance(hashed);
        b.advance(hashed);
        done += hashed;
    }
    done
}

impl Hasher {
    /// SHA-256 of `body`.
    pub(crate) async fn digest(&self, runtime: impl Runtime, body: &Arc<Body>) -> [u8; 32] {
        let place = self.enter(body);
        if body.len() > SLICE {
            // What leaves beside it has a task that was spawned just after this one.
            runtime.yield_now().await;
        }
        loop {
            place.turn().await;
            self.slice();
            if let Some(digest) = place.digest() {
                return digest;
            }
            runtime.yield_now().await;
        }
    }

    /// What was hashed since the last call.
    pub(crate) fn take_hashed(&self) -> Hashed {
        self.hashed.take()
    }

    fn enter(&self, body: &Arc<Body>) -> Place<'_> {
        let id = self.jobs_begun.get() + 1;
        self.jobs_begun.set(id);
        let (body, left) = (Arc::clone(body), body.len());
        self.jobs.borrow_mut().push(Job { id, body, hash: Sha256::new(), chunk: 0, offset: 0, left, waker: None });
        Place { hasher: self, id }
    }

    /// Hashes a slice of the first body that is not done, and of the next if there is one.
    fn slice(&self) {
        let mut jobs = self.jobs.borrow_mut();
        let mut undone = jobs.iter_mut().filter(|job| job.left > 0);
        let (mut bytes, mut in_pairs) = (0, 0);
        match (undone.next(), undone.next()) {
            (Some(first), Some(second)) => {
                in_pairs = 2 * together(first, second, SLICE);
                bytes = in_pairs;
                if second.left == 0
                    && let Some(waker) = second.waker.take()
                {
                    waker.wake();
                }
            }
            (Some(only), None) => bytes = only.alone(SLICE),
            (None, _) => {}
        }
        let Hashed { bytes: before, in_pairs: pairs_before } = self.hashed.get();
        self.hashed.set(Hashed { bytes: before + bytes as u64, in_pairs: pairs_before + in_pairs as u64 });
    }
}

/// A body's place among those of its core. Who drops it lets the next one hash.
struct Place<'h> {
    hasher: &'h Hasher,
    id: u64,
}

impl Place<'_> {
    /// Ends when the body is hashed, or is the first that is not.
    async fn turn(&self) {
        poll_fn(|context| {
            let mut jobs = self.hasher.jobs.borrow_mut();
            let first = jobs.iter().find(|job| job.left > 0).map(|job| job.id);
            let Some(own) = jobs.iter_mut().find(|job| job.id == self.id) else { return Poll::Ready(()) };
            if own.left == 0 || first == Some(self.id) {
                return Poll::Ready(());
            }
            own.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The digest, if the body is hashed.
    fn digest(&self) -> Option<[u8; 32]> {
        let jobs = self.hasher.jobs.borrow();
        let own = jobs.iter().find(|job| job.id == self.id && job.left == 0)?;
        Some(own.hash.clone().finalize())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut jobs = self.hasher.jobs.borrow_mut();
        jobs.retain(|job| job.id != self.id);
        let next = jobs.iter_mut().find(|job| job.left > 0).and_then(|job| job.waker.take());
        drop(jobs);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::rc::Rc;

    use super::*;
    use crate::codec::{Aggregate, Member, RequestEncoder, StreamRef, Wire};
    use crate::runtime::testing::{on_each_runtime, run};
    use crate::runtime::{Runtime, unless};

    /// A body of about so many bytes, in chunks.
    fn body(len: usize) -> Arc<Body> {
        let mut encoder = RequestEncoder::reuse(Wire::Cbor, StreamRef::Name("s"), Body::default());
        while encoder.body_len() < len {
            let mut aggregate = Aggregate::new();
            let data = &vec![encoder.body_len() as u8; (len - encoder.body_len()).min(50_001)];
            aggregate.append(Member { partition_key: b"k", key_tag: 1, explicit_hash_key: None, data });
            aggregate.share();
            encoder.entry("a", None, &aggregate.body_parts());
        }
        Arc::new(encoder.finish())
    }

    fn expected(body: &Body) -> [u8; 32] {
        <sha2::Sha256 as sha2::Digest>::digest(body.to_vec()).into()
    }

    /// Digests of bodies whose tasks begin one after the other, `apart` turns apart.
    async fn digests(runtime: impl Runtime, lens: &[usize], apart: usize) -> (Vec<[u8; 32]>, Vec<[u8; 32]>, Hashed) {
        let (hasher, digests) = (Rc::new(Hasher::default()), Rc::new(RefCell::new(Vec::new())));
        let bodies: Vec<_> = lens.iter().map(|len| body(*len)).collect();
        for (index, body) in bodies.iter().enumerate() {
            let (hasher, body, digests) = (Rc::clone(&hasher), Arc::clone(body), Rc::clone(&digests));
            runtime.spawn_local(async move {
                let digest = hasher.digest(runtime, &body).await;
                digests.borrow_mut().push((index, digest));
            });
            for _ in 0..apart {
                runtime.yield_now().await;
            }
        }
        while digests.borrow().len() < lens.len() {
            runtime.yield_now().await;
        }
        assert!(hasher.jobs.borrow().is_empty());
        digests.borrow_mut().sort_unstable();
        let digests = digests.borrow().iter().map(|(_, digest)| *digest).collect();
        (digests, bodies.iter().map(|body| expected(body)).collect(), hasher.take_hashed())
    }

    async fn bodies_of_any_length_are_hashed_whoever_hashes_with_them(runtime: impl Runtime) {
        let sizes = [0, 1, SLICE - 100, SLICE, 2 * SLICE + 7777];
        for first in sizes {
            for second in sizes {
                for apart in [0, 2] {
                    let (digests, expected, hashed) = digests(runtime, &[first, second, 70_000], apart).await;
                    assert_eq!(digests, expected, "{first}, {second}, {apart} turns apart");
                    assert!(hashed.in_pairs <= hashed.bytes);
                }
            }
        }
    }

    async fn two_that_come_together_are_hashed_together(runtime: impl Runtime) {
        let (digests, expected, hashed) = digests(runtime, &[3 * SLICE, 3 * SLICE], 0).await;
        assert_eq!(digests, expected);
        assert_eq!((hashed.bytes, hashed.in_pairs), (2 * body(3 * SLICE).len() as u64, hashed.bytes));
    }

    async fn one_that_is_alone_waits_for_nobody(runtime: impl Runtime) {
        let (digests, expected, hashed) = digests(runtime, &[3 * SLICE], 0).await;
        assert_eq!(digests, expected);
        assert_eq!((hashed.bytes, hashed.in_pairs), (body(3 * SLICE).len() as u64, 0));
    }

    on_each_runtime! {
        bodies_of_any_length_are_hashed_whoever_hashes_with_them
        two_that_come_together_are_hashed_together
        one_that_is_alone_waits_for_nobody
    }

    #[test]
    fn who_gives_up_leaves_the_others_their_turn() {
        run(crate::runtime::tokio::Tokio, |runtime| async move {
            let hasher = Hasher::default();
            let (large, other) = (body(3 * SLICE), body(4 * SLICE));
            {
                let mut second = pin!(hasher.digest(runtime, &other));
                {
                    let mut first = pin!(hasher.digest(runtime, &large));
                    let once = poll_fn(|context| {
                        assert!(first.as_mut().poll(context).is_pending());
                        assert!(second.as_mut().poll(context).is_pending());
                        Poll::Ready(())
                    });
                    assert_eq!(unless(once, std::future::pending::<()>()).await, None);
                }
                assert_eq!(second.await, expected(&other));
            }
            assert!(hasher.jobs.borrow().is_empty());
        });
    }
}
