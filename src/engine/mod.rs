//! The engine: one core's state, pure. It takes the time and messages, and returns values.

pub mod limiter;
pub mod shard_map;
pub mod wheel;
