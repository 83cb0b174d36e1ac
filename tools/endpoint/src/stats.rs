//! The counters behind `GET /stats`, with which a benchmark checks its own.
//!
//! All are written by the endpoint's thread and read by whoever asks; each is on its own, so relaxed order is enough.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Running totals since the start.
#[derive(Default)]
pub(crate) struct Stats {
    requests: AtomicU64,
    /// Those that are not PutRecords, by operation.
    others: Mutex<BTreeMap<String, u64>>,
    puts: AtomicU64,
    put_requests: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    refused_signatures: AtomicU64,
    connections: AtomicU64,
    tls_resumptions: AtomicU64,
}

/// The totals at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// Of the requests, how many for each operation.
    #[serde(default)]
    pub calls: BTreeMap<String, u64>,
    /// Faults that struck, by kind.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
}

impl Stats {
    pub(crate) fn count_request(&self, operation: &str) {
        // Partner: `snapshot`. Counters alone, they order nothing.
        self.requests.fetch_add(1, Ordering::Relaxed);
        if operation == "PutRecords" {
            self.puts.fetch_add(1, Ordering::Relaxed);
        } else {
            let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            *others.entry(operation.to_owned()).or_default() += 1;
        }
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
        let mut calls = self.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let puts = self.puts.load(Ordering::Relaxed);
        if puts > 0 {
            calls.insert("PutRecords".to_owned(), puts);
        }
        StatsSnapshot {
            requests: self.requests.load(Ordering::Relaxed),
            put_requests: self.put_requests.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            refused_signatures: self.refused_signatures.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            tls_resumptions: self.tls_resumptions.load(Ordering::Relaxed),
            calls,
            faults: BTreeMap::new(),
        }
    }
}
