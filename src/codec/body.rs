//! The body of a request, as a chain: what is written for the request, and between it what is shared with aggregates.
//!
//! ```text
//!   seams    ▐BF "StreamName" … 9F BF "Data" 5A len magic▌      ▐digest "PartitionKey" … BF … magic▌       ▐digest … FF FF▌
//!   shared                                              ▐ keys ▌▐ records ▌                        ▐records▌
//! ```
//!
//! An aggregate is in wire form from its first member on, so a request needs no copy of it: the body refers to its buffers.
//! All that is small, [`SHARED_BYTES_MIN`] or less, is copied into one buffer with the seams, since a chunk costs a part of a
//! system call. Read in order, the chunks are the document.
//!
//! It promises that its length is known and that its bytes never change: a buffer that is referred to is owned by all who
//! refer to it, and its aggregate takes it back when it is alone with it ([`Aggregate::clear`](super::Aggregate::clear)). It
//! refuses to be edited; whoever wants another body clears this one.
//!
//! A shared part costs an atomic addition and 32 bytes of list.

use std::fmt;
use std::sync::Arc;

/// Least bytes of a part that is shared and not copied. Copying so many costs about what a further chunk costs, which is
/// an entry in each vector, of up to 64, that goes to the socket or to TLS.
pub const SHARED_BYTES_MIN: usize = 4 * 1024;

/// The buffers of an aggregate that is sealed: keys, explicit hash keys, records.
#[derive(Default)]
pub struct Buffers(pub(super) [Vec<u8>; 3]);

/// A part of a Kinesis record's data.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub(super) bytes: &'a [u8],
    /// Whose bytes they are, if they can be shared: from which of the buffers, from where to its end.
    pub(super) owner: Option<(&'a Arc<Buffers>, usize, usize)>,
}

impl<'a> Part<'a> {
    /// Bytes that can only be copied.
    pub fn copied(bytes: &'a [u8]) -> Part<'a> {
        Part { bytes, owner: None }
    }

    /// The end of one of the buffers of `owner`.
    pub(super) fn of(owner: &'a Arc<Buffers>, buffer: usize, from: usize) -> Part<'a> {
        Part { bytes: &owner.0[buffer][from..], owner: Some((owner, buffer, from)) }
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A shared part, and where among the seams it stands.
struct Piece {
    /// Before this place in the seams.
    seam_end: usize,
    owner: Arc<Buffers>,
    buffer: usize,
    from: usize,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        &self.owner.0[self.buffer][self.from..]
    }
}

/// A body. Written by a `RequestEncoder`, read by whoever sends it.
#[derive(Default)]
pub struct Body {
    pub(super) seams: Vec<u8>,
    pieces: Vec<Piece>,
    shared_bytes: usize,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes, {} of them shared)", self.len(), self.shared_bytes)
    }
}

impl Body {
    /// Its bytes.
    pub fn len(&self) -> usize {
        self.seams.len() + self.shared_bytes
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it refers to and does not hold.
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// Bytes that its own buffer has room for.
    pub fn capacity(&self) -> usize {
        self.seams.capacity()
    }

    /// Makes room for `bytes` that are not shared, if it is empty.
    pub fn reserve(&mut self, bytes: usize) {
        self.seams.reserve_exact(bytes);
    }

    /// Lets go of all that is shared, and keeps the room.
    pub fn clear(&mut self) {
        self.seams.clear();
        self.pieces.clear();
        self.shared_bytes = 0;
    }

    /// Appends a part: what is large and has an owner is shared.
    pub(super) fn push(&mut self, part: &Part<'_>) {
        match part.owner {
            Some((owner, buffer, from)) if part.bytes.len() >= SHARED_BYTES_MIN => {
                self.shared_bytes += part.bytes.len();
                let seam_end = self.seams.len();
                self.pieces.push(Piece { seam_end, owner: Arc::clone(owner), buffer, from });
            }
            _ => self.seams.extend_from_slice(part.bytes),
        }
    }

    /// A chunk by its number, for those who stop between: a seam if it is even, which may be empty, else a shared part.
    /// Nothing behind the last.
    pub fn chunk(&self, number: usize) -> Option<&[u8]> {
        let piece = number / 2;
        if number % 2 == 1 {
            return self.pieces.get(piece).map(Piece::bytes);
        }
        let begin = match piece.checked_sub(1) {
            Some(before) => self.pieces.get(before)?.seam_end,
            None => 0,
        };
        let end = self.pieces.get(piece).map_or(self.seams.len(), |piece| piece.seam_end);
        Some(&self.seams[begin..end])
    }

    /// The chunks in their order, none empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        (0..).map_while(|number| self.chunk(number)).filter(|chunk| !chunk.is_empty())
    }

    /// A copy of it in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.chunks().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(lens: [usize; 3]) -> Arc<Buffers> {
        let mut next = 0_u8;
        Arc::new(Buffers(lens.map(|len| {
            let bytes = std::iter::repeat_with(|| {
                next = next.wrapping_add(1);
                next
            });
            bytes.take(len).collect()
        })))
    }

    #[test]
    fn chunks_in_order_are_what_was_pushed_and_only_large_parts_are_shared() {
        let large = SHARED_BYTES_MIN;
        let lens = [0, 1, large - 1, large, large + 1, 3 * large];
        for first in lens {
            for second in lens {
                let buffers = owner([first, second, large]);
                let parts = [
                    Part::copied(b"head"),
                    Part::of(&buffers, 0, 0),
                    Part::of(&buffers, 1, 0),
                    Part::of(&buffers, 1, second / 2),
                    Part::copied(&[7; SHARED_BYTES_MIN]),
                    Part::of(&buffers, 2, 0),
                ];
                let (mut body, mut expected, mut shared) = (Body::default(), Vec::new(), 0);
                for part in &parts {
                    body.push(part);
                    expected.extend_from_slice(part.bytes());
                    let is_shared = part.owner.is_some() && part.bytes.len() >= large;
                    shared += if is_shared { part.bytes.len() } else { 0 };
                    assert_eq!(
                        (body.to_vec(), body.len(), body.shared_bytes()),
                        (expected.clone(), expected.len(), shared)
                    );
                }
                assert!(body.chunks().all(|chunk| !chunk.is_empty()));
                let held = Arc::strong_count(&buffers) - 1;
                assert_eq!(held, body.pieces.len());
                body.clear();
                assert_eq!((Arc::strong_count(&buffers), body.is_empty(), body.chunks().count()), (1, true, 0));
            }
        }
    }

    #[test]
    fn behind_the_last_chunk_there_is_none() {
        let mut body = Body::default();
        assert_eq!((body.chunk(0), body.chunk(1), body.chunk(2)), (Some(&[][..]), None, None));
        let buffers = owner([SHARED_BYTES_MIN, 0, 0]);
        body.push(&Part::of(&buffers, 0, 0));
        assert_eq!((body.chunk(0), body.chunk(2)), (Some(&[][..]), Some(&[][..])));
        assert_eq!((body.chunk(1), body.chunk(3), body.chunk(4)), (Some(&buffers.0[0][..]), None, None));
    }
}
