//! A request's body as hyper takes it: one frame, which is the chain of the body's chunks.
//!
//! ```text
//!   Body:  seam │ records │ seam │ records │ seam        hyper asks for as many slices as go into one vectored write,
//!               ▲ chunk, offset                          and says by how many bytes to advance
//! ```
//!
//! Nothing is copied: hyper queues the frame as it is, and writes slices of it to the socket or to TLS. The last of those who
//! hold the body lets go of what it shares.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Buf;

use crate::codec::Body;

/// What is left to send of a body.
pub(crate) struct Frame {
    body: Arc<Body>,
    /// The number of the chunk in which the next byte lies, if any is left.
    chunk: usize,
    /// Where in it.
    offset: usize,
    remaining: usize,
}

impl Frame {
    /// All of `body`.
    pub(crate) fn new(body: Arc<Body>) -> Frame {
        let remaining = body.len();
        let mut frame = Frame { body, chunk: 0, offset: 0, remaining };
        frame.skip_empty();
        frame
    }

    /// Goes on to the chunk that has the next byte.
    fn skip_empty(&mut self) {
        while self.remaining > 0 && self.here().is_empty() {
            self.chunk += 1;
            self.offset = 0;
        }
    }

    fn here(&self) -> &[u8] {
        &self.body.chunk(self.chunk).unwrap_or_default()[self.offset..]
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        if self.remaining == 0 { &[] } else { self.here() }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        if self.remaining == 0 {
            return 0;
        }
        let later = (self.chunk + 1..).map_while(|number| self.body.chunk(number)).filter(|chunk| !chunk.is_empty());
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(std::iter::once(self.here()).chain(later)) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "nobody sends more than there is");
        let mut left = count;
        while left > 0 {
            let step = left.min(self.here().len());
            self.offset += step;
            self.remaining -= step;
            left -= step;
            self.skip_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Aggregate, Member, RequestEncoder, SHARED_BYTES_MIN, StreamRef, Wire};
    use crate::record::HashKey;

    /// A body of seams and shared parts, some of which follow each other.
    fn body(aggregates: usize) -> Arc<Body> {
        let mut encoder = RequestEncoder::reuse(Wire::Cbor, StreamRef::Name("s"), Body::default());
        for number in 0..aggregates {
            let mut aggregate = Aggregate::new();
            // So many keys that their table is shared too, or few.
            for member in 0..400 * (number % 2) + 1 {
                let partition_key = &format!("customer-{number}-{member}");
                let data = &vec![member as u8; SHARED_BYTES_MIN >> (5 * (number % 2))];
                aggregate.append(Member {
                    partition_key: partition_key.as_bytes(),
                    key_tag: member as u64,
                    explicit_hash_key: None,
                    data,
                });
            }
            aggregate.share();
            encoder.entry("a", Some(HashKey(7)), &aggregate.body_parts());
        }
        Arc::new(encoder.finish())
    }

    #[test]
    fn a_frame_gives_every_byte_once_however_it_is_taken() {
        for aggregates in 0..6 {
            let body = body(aggregates);
            let whole = body.to_vec();
            for (slots, step) in [(1, 1000), (2, 4095), (3, 4096), (64, 4097), (64, 100_000), (64, usize::MAX)] {
                let (mut frame, mut taken) = (Frame::new(Arc::clone(&body)), Vec::new());
                while frame.has_remaining() {
                    let mut slices = vec![IoSlice::new(&[]); slots];
                    let filled = frame.chunks_vectored(&mut slices);
                    assert!(filled > 0 && slices[..filled].iter().all(|slice| !slice.is_empty()));
                    assert_eq!(frame.chunk(), &*slices[0]);
                    let before = taken.len();
                    for slice in &slices[..filled] {
                        let left = step - (taken.len() - before);
                        taken.extend_from_slice(&slice[..slice.len().min(left)]);
                    }
                    frame.advance(taken.len() - before);
                    assert_eq!(frame.remaining(), whole.len() - taken.len());
                }
                assert_eq!(taken, whole);
                assert_eq!((frame.chunk(), frame.chunks_vectored(&mut [IoSlice::new(&[])])), (&[][..], 0));
            }
        }
    }

    #[test]
    fn a_frame_that_is_dropped_lets_go_of_its_body() {
        let mut body = body(1);
        let frame = Frame::new(Arc::clone(&body));
        assert!(Arc::get_mut(&mut body).is_none());
        drop(frame);
        assert!(Arc::get_mut(&mut body).is_some());
    }
}
