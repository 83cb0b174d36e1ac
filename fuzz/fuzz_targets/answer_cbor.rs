//! An answer of arbitrary bytes that begins as CBOR does is read or refused, within bounds, and never panics.
//! Seeds are whole bodies; a map head before them sends the fuzzer down the same path.
#![no_main]

use kpl::codec::{EntryResult, parse_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let body = [&[0xBF], data].concat();
    for body in [data, &body] {
        check(200, None, body);
        check(500, None, body);
        check(400, str::from_utf8(data).ok(), body);
    }
});

fn check(status: u16, header: Option<&str>, body: &[u8]) {
    match parse_answer(status, None, header, body) {
        Ok(results) => {
            assert!(status == 200 && results.len() <= 500);
            for result in results {
                if let EntryResult::Failed { code, message } = result {
                    assert!(!code.is_empty() && message.chars().count() <= 1024);
                }
            }
        }
        Err(error) => assert!(error.status == status && error.message.chars().count() <= 1024),
    }
}
