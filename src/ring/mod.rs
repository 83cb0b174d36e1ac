//! stub
#![allow(unsafe_code)]
mod shim;
pub mod slots;
pub use slots::*;
