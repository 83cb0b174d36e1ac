//! Whatever is put, answered, remapped, flushed and closed, in whatever order, the engine keeps its promises.
//! The first four bytes choose how many cores there are and how they are configured; each three bytes after them are an
//! operation.
#![no_main]

use kpl::engine::oracle::{Op, Plan, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((plan, rest)) = data.split_first_chunk() else { return };
    let ops = rest.chunks_exact(3).map(|op| Op::decode(op[0], u16::from_le_bytes([op[1], op[2]])));
    check(&Plan::decode(*plan), ops);
});
