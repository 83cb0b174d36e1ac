//! The bytes: what goes into a ring, into an aggregate, into a request, and what comes back in an answer.

mod aggregate;
mod answer;
mod body;
mod deaggregate;
mod frame;
mod hash_key;
pub mod lanes;
mod message;
mod put_records;

pub use aggregate::{Aggregate, KeyIndex, Member, Place, Written, wrapped_size};
pub use answer::{EntryResult, RequestError, parse_answer};
pub use body::{Body, Buffers, Part, SHARED_BYTES_MIN};
pub use deaggregate::{Deaggregated, UserRecord, deaggregate, has_digest, starts_with_magic};
pub use frame::{Framed, begin_frame, finish_frame, frame_len, read_frame, reserved_frame_len, write_frame};
pub use hash_key::hash_key;
pub use message::kept_message;
pub use put_records::{PUT_RECORDS_TARGET, RequestEncoder, StreamRef, Wire};
