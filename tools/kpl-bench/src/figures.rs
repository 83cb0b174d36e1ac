//! From what was counted to what is reported.
//!
//! Where a figure is a quotient of nothing it is 0.

use kpl::config::{IdleStrategy, Pinning, RateLimit};

use crate::args::{Options, Target};
use crate::clock::Clock;
use crate::hashing::Hashing;
use crate::lane;
use crate::producing::Produced;
use crate::reader::ReadCounts;
use crate::report::{RateLimitShown, Report, listed};
use crate::verify::Findings;

/// The report of a run: what was put, and what was read back, if anything was. The verdict is to be given, and what was done
/// to the run to be added.
pub fn report(options: &Options, shards: u32, produced: &Produced, read: Option<(Findings, ReadCounts)>) -> Report {
    let (settled, counters) = (&produced.settled, &produced.counters);
    let wall_s = produced.wall.as_secs_f64();
    let per = |total: f64, count: u64| if count == 0 { 0.0 } else { total / count as f64 };
    let findings = read.map_or(
        // Without reading back, what has no outcome is all that is known to be lost.
        Findings { lost: settled.unsettled, ..Findings::default() },
        |(findings, _)| findings,
    );
    let counts = produced.counts;
    let own = (produced.put, settled.delivered, settled.failed);
    Report {
        passed: false,
        verified: read.is_some(),
        records_requested: requested(options, produced),
        records_put: produced.put,
        records_delivered: settled.delivered,
        records_failed: settled.failed,
        records_lost: findings.lost,
        records_duplicated: findings.duplicated,
        records_corrupted: findings.corrupted,
        records_unsettled: settled.unsettled,
        records_dropped_by_consumers: read.map_or(0, |(_, counts)| counts.dropped + counts.unreadable),
        records_out_of_order: findings.out_of_order,
        records_stored_though_failed: findings.stored_though_failed,
        counts_agree: (counts.accepted, counts.delivered, counts.failed) == own || settled.unsettled > 0,
        wall_s,
        records_per_s: if wall_s > 0.0 { settled.delivered as f64 / wall_s } else { 0.0 },
        client_cpu_ns_per_record: per(produced.cpu.total().as_nanos() as f64, produced.put),
        client_cpu_user_s: produced.cpu.user.as_secs_f64(),
        client_cpu_system_s: produced.cpu.system.as_secs_f64(),
        put_ns: produced.put_latencies.quantiles(1.0),
        put_sampled_one_of: lane::PUT_SAMPLE,
        put_clock_ns: Clock::start().reading_ns(),
        puts_waited: produced.waits,
        outcome_ms: settled.latencies.quantiles(1e6),
        outcome_sampled_one_of: lane::OUTCOME_SAMPLE,
        kinesis_records: counters.kinesis_records,
        put_records_requests: counters.put_records_requests,
        bytes_sent: counters.bytes_sent,
        aggregation_ratio: per(produced.put as f64, counters.kinesis_records),
        hashing: Hashing::of(counters),
        endpoint: match &options.target {
            Target::Emulator => "embedded emulator".to_owned(),
            Target::Sink => "embedded sink".to_owned(),
            Target::Url(url) => url.clone(),
        },
        tls: options.tls || matches!(&options.target, Target::Url(url) if url.starts_with("https://")),
        stream: options.stream.clone(),
        shards,
        rate_limit: match options.rate_limit {
            RateLimit::Off => RateLimitShown::Off,
            RateLimit::Percent(percent) => RateLimitShown::Percent(percent),
        },
        runtime: produced.runtime.clone(),
        wire: wire_used(counters.put_records_requests, counters.put_records_requests_in_json),
        submitters: options.submitters,
        cores: options.cores,
        pinning: match options.pinning {
            Pinning::Auto => "auto",
            Pinning::On => "on",
            Pinning::Off => "off",
        },
        idle: match options.idle {
            IdleStrategy::Park => "park".to_owned(),
            IdleStrategy::SpinThenPark(time) => format!("spin:{}us", time.as_micros()),
            IdleStrategy::Spin => "spin".to_owned(),
        },
        record_size: options.input.is_none().then_some(options.record_size),
        seed: options.seed,
        refusals: listed(&produced.refusals),
        failures: listed(&settled.failures),
        faults: produced.flush_fault.iter().cloned().collect(),
        rate: options.rate,
        ordered: options.ordered,
        memory: produced.memory.clone(),
        lateness_ms: None,
        reshards: Vec::new(),
        attribution: None,
    }
}

/// The form that requests were written in, which `auto` leaves to the endpoint.
fn wire_used(requests: u64, in_json: u64) -> &'static str {
    match in_json {
        0 if requests == 0 => "none",
        0 => "cbor",
        all if all == requests => "json",
        _ => "cbor, then json",
    }
}

/// How many records were to be put: as many as were asked for, or where time or the input decides, as were tried.
fn requested(options: &Options, produced: &Produced) -> u64 {
    match options.records {
        Some(records) if options.input.is_none() && options.duration.is_none() => records,
        _ => produced.tried_by_lane.iter().sum(),
    }
}
