//! The memory of a byte ring, and how entries lie in it.
//!
//! ```text
//!   frame          length u32 │ kind u32 │ ticket │ bytes, padded to 8
//!   large frame    length u32 │ kind u32 │ ticket │ address │ length of the buffer, both a usize
//!   pad            length u32 │ kind u32 │ whatever an earlier entry left, to the end of the memory
//! ```
//!
//! It keeps no positions: whoever calls its functions says why the range is theirs (R2 of `bytes`). All of it is
//! initialised from the start, so that a frame may be filled through a slice of bytes.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::shim::{Watch, expect_write};
use super::ticket::Ticket;

/// Length, kind and ticket.
pub(super) const HEADER: usize = 16;
/// A frame whose bytes are elsewhere: their address and their number follow the header.
pub(super) const LARGE_FRAME: usize = HEADER + 2 * size_of::<usize>();

pub(super) const KIND_BYTES: u32 = 1;
pub(super) const KIND_LARGE: u32 = 2;
pub(super) const KIND_PAD: u32 = 3;

/// The bytes.
pub(super) struct Memory {
    base: NonNull<u8>,
    capacity: usize,
    watch: Watch,
}

/// What stands at a position.
pub(super) enum Entry<T: Send + 'static> {
    Pad,
    /// `bytes` lie in the ring, or in `large`, wherever that is moved.
    Frame {
        ticket: Ticket<T>,
        bytes: NonNull<[u8]>,
        large: Option<Large>,
    },
}

impl Memory {
    /// Memory of `capacity` bytes, a power of two.
    pub(super) fn new(capacity: usize) -> Memory {
        let layout = Memory::layout(capacity);
        // SAFETY: the layout is not empty.
        let Some(base) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // Written, not only asked for as zeros: so that the kernel has brought every page before a put needs it.
        // SAFETY: these bytes were just allocated.
        unsafe { base.write_bytes(0, capacity) };
        Memory { base, capacity, watch: Watch::new(capacity) }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, 128).expect("the capacity is at most 2^32")
    }

    /// Bytes.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where a position lies.
    pub(super) fn offset(&self, position: u64) -> usize {
        position as usize & (self.capacity - 1)
    }

    /// The address of an offset.
    ///
    /// # Safety
    /// The offset is in bounds.
    pub(super) unsafe fn at(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: the caller's word.
        unsafe { self.base.add(offset) }
    }

    /// Asks the processor for the lines from a position on that a frame of some 100 bytes takes.
    #[inline]
    pub(super) fn expect_write(&self, position: u64) {
        // SAFETY: the offset is in bounds.
        let at = unsafe { self.base.add(self.offset(position)) }.as_ptr();
        // At the memory's end what is behind it is asked for: for nothing, once in a round.
        [64, 128, 192].into_iter().for_each(|further| expect_write(at.wrapping_add(further)));
    }

    /// Tells loom that a range is about to be written.
    pub(super) fn will_write(&self, offset: usize, bytes: usize) {
        self.watch.written(offset, bytes);
    }

    /// Writes a value.
    ///
    /// # Safety
    /// `size_of::<V>()` bytes at the offset are in bounds, aligned and the caller's.
    pub(super) unsafe fn write<V>(&self, offset: usize, value: V) {
        self.watch.written(offset, size_of::<V>());
        // SAFETY: the caller's word.
        unsafe { self.base.add(offset).cast::<V>().write(value) };
    }

    /// Writes a frame's header.
    ///
    /// # Safety
    /// The frame's bytes are the caller's.
    pub(super) unsafe fn write_frame<T: Send>(&self, offset: usize, length: usize, kind: u32, ticket: Ticket<T>) {
        // SAFETY: the caller's word.
        unsafe {
            self.write(offset, [length as u32, kind]);
            self.write(offset + 8, ticket.into_raw());
        }
    }

    /// Reads what stands at a position, and takes its ticket out. Returns the size too.
    ///
    /// # Safety
    /// An entry begins at the position and is the caller's, who reads it once.
    #[inline]
    pub(super) unsafe fn read<T: Send>(&self, position: u64) -> (Entry<T>, usize) {
        let offset = self.offset(position);
        self.watch.read(offset, 8);
        // SAFETY: the caller's word, and what the sender wrote: `write_frame`, then bytes.
        unsafe {
            let at = self.base.add(offset);
            let [length, kind] = at.cast::<[u32; 2]>().read();
            if kind != KIND_BYTES {
                return self.read_rare(offset, length as usize, kind);
            }
            let size = frame_size(length as usize);
            self.watch.read(offset, size);
            let bytes = NonNull::slice_from_raw_parts(at.add(HEADER), length as usize);
            (Entry::Frame { ticket: Ticket::from_raw(at.add(8).cast::<*mut ()>().read()), bytes, large: None }, size)
        }
    }

    /// Reads a pad or a large frame.
    ///
    /// # Safety
    /// As [`Memory::read`]: such an entry begins at the offset.
    #[cold]
    #[inline(never)]
    unsafe fn read_rare<T: Send>(&self, offset: usize, length: usize, kind: u32) -> (Entry<T>, usize) {
        if kind == KIND_PAD {
            return (Entry::Pad, length);
        }
        assert_eq!(kind, KIND_LARGE, "an entry is of one of three kinds");
        self.watch.read(offset, LARGE_FRAME);
        // SAFETY: the caller's word, and what the sender wrote: `write_frame`, then a leaked buffer.
        unsafe {
            let at = self.base.add(offset);
            let ticket = Ticket::from_raw(at.add(8).cast::<*mut ()>().read());
            let address = at.add(HEADER).cast::<NonNull<u8>>().read();
            let buffer = at.add(HEADER + size_of::<usize>()).cast::<usize>().read();
            // Leaked by the sender, and read once.
            let large = Large(NonNull::slice_from_raw_parts(address, buffer));
            let bytes = NonNull::slice_from_raw_parts(address, length);
            (Entry::Frame { ticket, bytes, large: Some(large) }, LARGE_FRAME)
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.base.as_ptr(), Memory::layout(self.capacity)) };
    }
}

/// Bytes of a frame of `length` bytes in the ring.
pub(super) fn frame_size(length: usize) -> usize {
    HEADER + length.next_multiple_of(8)
}

/// The buffer of a large frame, which it frees. Not a `Box`, as what lies in it is read beside it.
pub(super) struct Large(NonNull<[u8]>);

// SAFETY: it owns its bytes.
unsafe impl Send for Large {}

impl Drop for Large {
    fn drop(&mut self) {
        // SAFETY: it was leaked from a box by `Sender::stage`, and this is its one owner.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
