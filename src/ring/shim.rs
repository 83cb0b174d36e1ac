//! The one place that chooses between the standard library and loom.
//!
//! Under `--cfg loom` atomics, fences, mutexes, cells and the rings' own `Arc` are loom's, which tries every
//! interleaving. Otherwise they are the standard library's; its cell gets loom's `with` and `with_mut`, which cost
//! nothing. What callers share by `Arc` (a budget, a ledger) is `std::sync::Arc` in both cases: their destructors
//! read nothing that another thread wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::task::Waker;

#[cfg(loom)]
pub(super) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(super) use loom::sync::atomic::{
    AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(loom)]
pub(super) use loom::sync::{Arc, Mutex, MutexGuard};

#[cfg(not(loom))]
pub(super) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
};
#[cfg(not(loom))]
pub(super) use std::sync::{Arc, Mutex, MutexGuard};

/// The standard cell under loom's interface.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(super) const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Tells loom which words of a ring's memory are read and written, as loom cannot see through byte slices.
#[cfg(loom)]
#[derive(Debug)]
pub(super) struct Watch(Vec<UnsafeCell<()>>);

#[cfg(loom)]
impl Watch {
    pub(super) fn new(bytes: usize) -> Watch {
        Watch((0..bytes / 8).map(|_| UnsafeCell::new(())).collect())
    }

    pub(super) fn read(&self, offset: usize, bytes: usize) {
        self.0[offset / 8..(offset + bytes) / 8].iter().for_each(|word| word.with(|_| ()));
    }

    pub(super) fn written(&self, offset: usize, bytes: usize) {
        self.0[offset / 8..(offset + bytes) / 8].iter().for_each(|word| word.with_mut(|_| ()));
    }
}

/// Without loom nobody watches.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct Watch;

#[cfg(not(loom))]
impl Watch {
    pub(super) fn new(_bytes: usize) -> Watch {
        Watch
    }

    #[inline(always)]
    pub(super) fn read(&self, _offset: usize, _bytes: usize) {}

    #[inline(always)]
    pub(super) fn written(&self, _offset: usize, _bytes: usize) {}
}

/// Asks for the cache line at `address`, to be written soon. Any address will do: nothing is read or written.
#[inline(always)]
pub(crate) fn expect_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // Not the intrinsic, which asks for reading only unless the compiler knows of a newer processor. Those that lack the
    // instruction take it for none.
    // SAFETY: a hint to the processor, which does nothing if the address is not mapped.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = address;
}

/// Locks. What these mutexes guard is whole between any two statements, so that a poisoned one is as good.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls a waker that may be anyone's code: its panic stays its own.
pub(super) fn wake(waker: Waker) {
    // A panic was reported by the panic hook; there is nobody else to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}
