//! What a run came to: the figures, the verdict, as text and as one JSON object.
//!
//! The verdict is *passed* only if every record requested was put and delivered, no outcome failed or is missing, the
//! producer's own counts agree, and nothing is lost, duplicated or corrupted. Where faults were injected, records may fail
//! and be duplicated if each of them is explained (`attribution.rs`).

use std::fmt::{self, Write};

use serde::{Serialize, Serializer};

use crate::attribution::Attribution;
use crate::clock::Quantiles;
use crate::hashing::Hashing;
use crate::lateness::Lateness;
use crate::memory::MemoryFigures;
use crate::outcomes::Reasons;
use crate::resharding::ReshardFigures;

/// A rate limit, as it is written: a number of percent, or "off".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitShown {
    Off,
    Percent(u32),
}

impl Serialize for RateLimitShown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RateLimitShown::Off => serializer.serialize_str("off"),
            RateLimitShown::Percent(percent) => serializer.serialize_u32(*percent),
        }
    }
}

/// How often something went wrong, and what it said the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    pub code: String,
    pub count: u64,
    pub first_message: String,
}

/// The reasons as a list, the most frequent first.
pub fn listed(reasons: &Reasons) -> Vec<Reason> {
    let mut list: Vec<_> = (reasons.0.iter())
        .map(|(code, (count, message))| Reason { code: code.clone(), count: *count, first_message: message.clone() })
        .collect();
    list.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    list
}

/// All figures of a run, in the order of the JSON object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub passed: bool,
    /// Whether the stream was read back; if not, lost is what has no outcome, and the next two are 0.
    pub verified: bool,
    pub records_requested: u64,
    pub records_put: u64,
    pub records_delivered: u64,
    pub records_failed: u64,
    pub records_lost: u64,
    pub records_duplicated: u64,
    pub records_corrupted: u64,
    /// Without an outcome.
    pub records_unsettled: u64,
    /// In aggregates that a consumer drops whole; they are lost besides.
    pub records_dropped_by_consumers: u64,
    /// Behind younger ones of their submitter and key; looked at with `--ordered`.
    pub records_out_of_order: u64,
    /// Failed, but in the stream all the same.
    pub records_stored_though_failed: u64,
    pub counts_agree: bool,
    pub wall_s: f64,
    pub records_per_s: f64,
    pub client_cpu_ns_per_record: f64,
    pub client_cpu_user_s: f64,
    pub client_cpu_system_s: f64,
    pub put_ns: Quantiles,
    pub put_sampled_one_of: u64,
    pub put_clock_ns: u64,
    pub puts_waited: u64,
    pub outcome_ms: Quantiles,
    pub outcome_sampled_one_of: u64,
    pub kinesis_records: u64,
    pub put_records_requests: u64,
    pub bytes_sent: u64,
    pub aggregation_ratio: f64,
    pub hashing: Hashing,
    pub endpoint: String,
    pub tls: bool,
    pub stream: String,
    pub shards: u32,
    pub rate_limit: RateLimitShown,
    pub runtime: String,
    pub wire: &'static str,
    pub submitters: usize,
    pub cores: usize,
    pub pinning: &'static str,
    pub idle: String,
    /// Of generated records.
    pub record_size: Option<usize>,
    pub seed: u64,
    pub refusals: Vec<Reason>,
    pub failures: Vec<Reason>,
    /// What else went wrong.
    pub faults: Vec<String>,
    /// Records a second that were asked for.
    pub rate: Option<u64>,
    pub ordered: bool,
    pub memory: MemoryFigures,
    /// Of the oldest user record of each Kinesis record; if it was asked for.
    pub lateness_ms: Option<Lateness>,
    pub reshards: Vec<ReshardFigures>,
    /// What was done to the run, and whether it explains what went wrong; if anything was done.
    pub attribution: Option<Attribution>,
}

impl Report {
    /// Whether the run did what was asked, as the head of this file says.
    pub fn verdict(&self) -> bool {
        let explained = match &self.attribution {
            None => [self.records_failed, self.records_duplicated] == [0; 2],
            Some(attribution) => attribution.is_complete(),
        };
        let all = self.records_put == self.records_requested
            && self.records_put == self.records_delivered + self.records_failed;
        let wrong = [self.records_lost, self.records_corrupted, self.records_unsettled, self.records_out_of_order];
        all && explained && wrong == [0; 4] && self.counts_agree && self.faults.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = grouped;
        let rate_limit = match self.rate_limit {
            RateLimitShown::Off => "off".to_owned(),
            RateLimitShown::Percent(percent) => format!("{percent} %"),
        };
        writeln!(
            f,
            "endpoint       {}{}, stream {}, {}",
            self.endpoint,
            if self.tls { " over TLS" } else { "" },
            self.stream,
            several(self.shards as usize, "shard")
        )?;
        let what =
            self.record_size.map_or("lines of the input".to_owned(), |size| format!("{} B each", n(size as u64)));
        writeln!(
            f,
            "setting        {what}, {}, {}, pinning {}, idle {}, rate limit {rate_limit}, {}, {}, seed {}",
            several(self.submitters, "submitter"),
            several(self.cores, "core"),
            self.pinning,
            self.idle,
            self.runtime,
            self.wire,
            self.seed
        )?;
        writeln!(f)?;
        let (wall, rate) = (self.wall_s, n(self.records_per_s as u64));
        writeln!(f, "throughput     {} records in {wall:.2} s: {rate} records/s", n(self.records_delivered))?;
        let waited = match self.puts_waited {
            0 => String::new(),
            waited => format!("; {} puts waited for room", n(waited)),
        };
        write!(f, "put            {}", quantiles(&self.put_ns, "ns", 0))?;
        writeln!(f, "  (1 of {}, {} ns of it the clock{waited})", self.put_sampled_one_of, self.put_clock_ns)?;
        write!(f, "put to outcome {}", quantiles(&self.outcome_ms, "ms", 2))?;
        writeln!(f, "  (1 of {})", self.outcome_sampled_one_of)?;
        writeln!(
            f,
            "client CPU     {} ns a record  ({:.2} s user, {:.2} s system, submitters included)",
            n(self.client_cpu_ns_per_record as u64),
            self.client_cpu_user_s,
            self.client_cpu_system_s
        )?;
        writeln!(
            f,
            "sent           {} B in {} requests of {} Kinesis records: {:.1} records aggregated into one",
            n(self.bytes_sent),
            n(self.put_records_requests),
            n(self.kinesis_records),
            self.aggregation_ratio
        )?;
        writeln!(f, "{}", self.hashing)?;
        self.write_memory(f)?;
        if let Some(Lateness { kinesis_records, linger_ms, min, p50, p99, p999, max }) = self.lateness_ms {
            let oldest = n(kinesis_records);
            writeln!(f, "lateness       p50 {p50:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2}  min {min:.2} ms")?;
            writeln!(
                f,
                "               past {linger_ms:.0} ms after the put, of the oldest record of {oldest} Kinesis records"
            )?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "records        {} requested, {} put, {} delivered, {} failed",
            n(self.records_requested),
            n(self.records_put),
            n(self.records_delivered),
            n(self.records_failed)
        )?;
        self.write_reading(f)?;
        self.write_faults(f)?;
        for ReshardFigures { change, at_s, list_shards_calls, others_p99_ms_before, others_p99_ms_after } in
            &self.reshards
        {
            let calls = list_shards_calls.map_or("?".to_owned(), n);
            let ms = |p99: &Option<f64>| p99.map_or("unknown".to_owned(), |p99| format!("{p99:.2} ms"));
            write!(f, "{change:14} at {at_s:.2} s: {calls} ListShards calls, p99 of the other shards ")?;
            writeln!(f, "{} before, {} after", ms(others_p99_ms_before), ms(others_p99_ms_after))?;
        }
        if let Some(attribution) = &self.attribution {
            write!(f, "{attribution}")?;
        }
        write!(f, "verdict        {}", if self.passed { "PASSED" } else { "FAILED" })
    }
}

impl Report {
    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryFigures { resident_max_mib, base_mib, end_mib, growth_mib_per_10_min, .. } = &self.memory;
        write!(f, "memory         {resident_max_mib:.1} MiB resident at most")?;
        if let (Some(base), Some(end), Some(growth)) = (base_mib, end_mib, growth_mib_per_10_min) {
            write!(f, "; {base:.1} MiB after 5 minutes, {end:.1} MiB at the end: {growth:+.2} MiB in 10 minutes")?;
        }
        writeln!(f)
    }

    fn write_reading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = grouped;
        if !self.verified {
            return writeln!(f, "read back      no: {} lost, by the outcomes alone", n(self.records_lost));
        }
        let (lost, duplicated) = (n(self.records_lost), n(self.records_duplicated));
        write!(f, "read back      {lost} lost, {duplicated} duplicated, {} corrupted", n(self.records_corrupted))?;
        if self.records_dropped_by_consumers > 0 {
            write!(f, "; consumers drop {}, in a wrong shard", n(self.records_dropped_by_consumers))?;
        }
        if self.ordered {
            write!(f, "; {} out of order", n(self.records_out_of_order))?;
        }
        if self.records_stored_though_failed > 0 {
            write!(f, "; {} stored though failed", n(self.records_stored_though_failed))?;
        }
        writeln!(f)
    }

    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.records_unsettled > 0 {
            writeln!(f, "no outcome     {} records", grouped(self.records_unsettled))?;
        }
        for (label, reasons) in [("refused", &self.refusals), ("failed", &self.failures)] {
            for Reason { code, count, first_message } in reasons {
                writeln!(f, "{label:14} {} with {code}, the first: {first_message}", grouped(*count))?;
            }
        }
        if !self.counts_agree {
            writeln!(f, "counts         the producer's own counts are not those of the outcomes")?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "fault          {fault}"))
    }
}

fn quantiles(quantiles: &Quantiles, unit: &str, digits: usize) -> String {
    let shown = |value: f64| {
        if digits == 0 { grouped(value as u64) } else { format!("{value:.digits$}") }
    };
    let Quantiles { p50, p99, p999, max } = *quantiles;
    format!("p50 {}  p99 {}  p99.9 {}  max {} {unit}", shown(p50), shown(p99), shown(p999), shown(max))
}

fn several(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        // Writing to a string does not fail.
        let _ = text.write_char(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let quantiles = Quantiles { p50: 31.0, p99: 99.5, p999: 1234.0, max: 56789.0 };
        Report {
            passed: true,
            verified: true,
            records_requested: 1_000_000,
            records_put: 1_000_000,
            records_delivered: 1_000_000,
            records_failed: 0,
            records_lost: 0,
            records_duplicated: 0,
            records_corrupted: 0,
            records_unsettled: 0,
            records_dropped_by_consumers: 0,
            records_out_of_order: 0,
            records_stored_though_failed: 0,
            counts_agree: true,
            wall_s: 20.0,
            records_per_s: 50_000.0,
            client_cpu_ns_per_record: 640.0,
            client_cpu_user_s: 0.5,
            client_cpu_system_s: 0.14,
            put_ns: quantiles,
            put_sampled_one_of: 8,
            put_clock_ns: 25,
            puts_waited: 0,
            outcome_ms: quantiles,
            outcome_sampled_one_of: 64,
            kinesis_records: 2_400,
            put_records_requests: 150,
            bytes_sent: 123_456_789,
            aggregation_ratio: 416.7,
            hashing: Hashing::of(&kpl::metrics::Counters::default()),
            endpoint: "embedded emulator".to_owned(),
            tls: false,
            stream: "kpl-bench".to_owned(),
            shards: 4,
            rate_limit: RateLimitShown::Percent(150),
            runtime: "tokio".to_owned(),
            wire: "cbor",
            submitters: 2,
            cores: 1,
            pinning: "on",
            idle: "park".to_owned(),
            record_size: Some(100),
            seed: 1,
            refusals: Vec::new(),
            failures: Vec::new(),
            faults: Vec::new(),
            rate: None,
            ordered: false,
            memory: MemoryFigures::default(),
            lateness_ms: None,
            reshards: Vec::new(),
            attribution: None,
        }
    }

    #[test]
    fn what_is_explained_does_not_fail_the_verdict() {
        let mut report = good();
        report.records_delivered -= 3;
        report.records_failed = 3;
        report.records_duplicated = 2;
        assert!(!report.verdict());
        report.attribution = Some(Attribution::default());
        assert!(report.verdict());
        report.attribution = Some(Attribution { duplicates_unattributed: 1, ..Attribution::default() });
        assert!(!report.verdict());
    }

    #[test]
    fn each_thing_that_can_go_wrong_fails_the_verdict() {
        assert!(good().verdict());
        let faults: [fn(&mut Report); 10] = [
            |report| report.records_out_of_order = 1,
            |report| report.records_requested += 1,
            |report| report.records_delivered -= 1,
            |report| report.records_failed = 1,
            |report| report.records_lost = 1,
            |report| report.records_duplicated = 1,
            |report| report.records_corrupted = 1,
            |report| report.records_unsettled = 1,
            |report| report.counts_agree = false,
            |report| report.faults.push("the flush did not end".to_owned()),
        ];
        for (number, fault) in faults.into_iter().enumerate() {
            let mut report = good();
            fault(&mut report);
            assert!(!report.verdict(), "fault {number}");
        }
    }

    #[test]
    fn the_json_has_every_field_that_was_promised() {
        let json = serde_json::to_value(good()).unwrap();
        for field in [
            "records_put",
            "records_delivered",
            "records_failed",
            "records_lost",
            "records_duplicated",
            "records_corrupted",
            "wall_s",
            "records_per_s",
            "client_cpu_ns_per_record",
            "kinesis_records",
            "put_records_requests",
            "bytes_sent",
            "shards",
            "seed",
        ] {
            assert!(json[field].is_number(), "{field}");
        }
        for field in ["put_ns", "outcome_ms"] {
            for quantile in ["p50", "p99", "p999", "max"] {
                assert!(json[field][quantile].is_number(), "{field}.{quantile}");
            }
        }
        assert_eq!((json["rate_limit"].as_u64(), json["runtime"].as_str()), (Some(150), Some("tokio")));
        assert_eq!((&json["wire"], &json["pinning"]), (&"cbor".into(), &"on".into()));
        assert_eq!(json["idle"], "park");
        let off = Report { rate_limit: RateLimitShown::Off, ..good() };
        assert_eq!(serde_json::to_value(off).unwrap()["rate_limit"], "off");
    }

    #[test]
    fn the_text_says_what_went_wrong_and_how_often() {
        let mut report = good();
        assert!(report.to_string().ends_with("PASSED"), "{report}");
        report.passed = false;
        report.records_dropped_by_consumers = 417;
        let (code, first_message) = ("Expired".to_owned(), "after 30 s".to_owned());
        report.failures.push(Reason { code, count: 1_234, first_message });
        let text = report.to_string();
        for part in [
            "1 234 with Expired, the first: after 30 s",
            "consumers drop 417",
            "FAILED",
            "50 000 records/s",
            "pinning on, idle park",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (12_345_678, "12 345 678")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn reasons_are_listed_by_frequency() {
        let mut reasons = Reasons::default();
        reasons.note("A", "first");
        (0..3).for_each(|number| reasons.note("B", number));
        let listed: Vec<_> = listed(&reasons).into_iter().map(|r| (r.code, r.count, r.first_message)).collect();
        assert_eq!(listed, [("B".to_owned(), 3, "0".to_owned()), ("A".to_owned(), 1, "first".to_owned())]);
    }
}
