//! What one producer asks of AWS beside writing records: credentials, the region, endpoints, shards.
//!
//! ```text
//!     credentials ──▶ who we are     ┐
//!     endpoint    ──▶ where to write ├──▶ published whole to the cores, by the face
//!     discovery   ──▶ which shards   ┘
//! ```
//!
//! AWS's own crates do the work, since their rules (the credential chain, endpoints by partition and account) are
//! nobody's to write by hand. They want tokio, so all of it runs on the control thread and none of it on a core.
//! Every wait is bounded by a timeout that the caller gives. This folder and `runtime/` never import each other.

pub(crate) mod access;
mod connector;
pub(crate) mod credentials;
pub(crate) mod discovery;
mod distribution;
pub(crate) mod endpoint;
pub(crate) mod service;
#[cfg(test)]
mod testing;
