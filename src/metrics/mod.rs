//! What a producer says of itself in numbers: counters, and the KPL's metrics.
//!
//! ```text
//!   counters    one writer each, read by any thread at any time       ─▶ `Producer::counters`, `Producer::health`
//!   Statistic   plain data, gathered by a core in its own memory
//!     └ Sheet ─ StreamSheets ── handed over when somebody asks, merged ─▶ MetricsSnapshot ─▶ caller, MetricsSink
//! ```
//!
//! Names, units, levels and dimensions of the metrics are the KPL's and stand in one table ([`Metric`]), so that
//! dashboards that were made for the KPL go on working.

mod counters;
mod embedded;
mod metric;
mod sheet;
mod sink;
mod snapshot;
mod statistic;

pub use counters::{CoreCounters, Counter, Counters, LaneCounts, StreamTally, SubmitterCounters};
pub use embedded::EmbeddedMetrics;
pub use metric::{Metric, Unit};
pub use sheet::{SHARDS_MAX, Sheet, StreamSheets};
pub use sink::{MetricsSink, SinkError};
pub use snapshot::{MetricSample, MetricsSnapshot, Place, SnapshotTerms};
pub use statistic::Statistic;
