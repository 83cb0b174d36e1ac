//! Whatever is pushed, popped, abandoned and waited for, in whatever order, the byte ring does what its naive form does.
//! The first byte chooses the ring's capacity; each three bytes after it are an operation.
#![no_main]

use kpl::ring::oracle::{Op, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    // 64 bytes to 8 KiB: small enough that a short input wraps it many times.
    let capacity = 64 << (first % 8);
    check(capacity, rest.chunks_exact(3).map(|op| Op::decode(op[0], u16::from_le_bytes([op[1], op[2]]), capacity)));
});
