//! The counters behind `GET /stats`, with which a benchmark checks its own.
//!
//! All are written by the endpoint's thread and read by whoever asks; each is on its own, so relaxed order is enough.

use std::sync::atomic::{AtomicU64, Ordering};

/// Running totals since the start.
#[derive(Default)]
pub(crate) struct Stats {
    requests: AtomicU64,
    put_requests: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    refused_signatures: AtomicU64,
    connections: AtomicU64,
    tls_resumptions: AtomicU64,
}

/// The totals at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StatsSnapshot {
    /// API requests whose body arrived whole, whatever became of them.
    pub requests: u64,
    /// PutRecords requests that were taken (status 200).
    pub put_requests: u64,
    /// Records in those that were stored.
    pub records: u64,
    /// Bytes of data and partition keys in those requests, of records that were not stored too.
    pub bytes: u64,
    /// Requests refused for their signature or credentials.
    pub refused_signatures: u64,
    /// Connections accepted.
    pub connections: u64,
    /// TLS handshakes among them that resumed an earlier session.
    #[serde(default)]
    pub tls_resumptions: u64,
}

impl Stats {
    pub(crate) fn count_request(&self) {
        // Partner: `snapshot`. A counter alone, it orders nothing.
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_put(&self, records: u64, bytes: u64) {
        // Partner: `snapshot`. Counters alone, they order nothing.
        self.put_requests.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_refused_signature(&self) {
        // Partner: `snapshot`. A counter alone, it orders nothing.
        self.refused_signatures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_connection(&self) {
        // Partner: `snapshot`. A counter alone, it orders nothing.
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_tls_resumption(&self) {
        // Partner: `snapshot`. A counter alone, it orders nothing.
        self.tls_resumptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        // Partner of each load: the `count_*` of its name.
        StatsSnapshot {
            requests: self.requests.load(Ordering::Relaxed),
            put_requests: self.put_requests.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            refused_signatures: self.refused_signatures.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            tls_resumptions: self.tls_resumptions.load(Ordering::Relaxed),
        }
    }
}
