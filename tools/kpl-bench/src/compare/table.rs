//! The comparison as a table to read.

use std::fmt;

use super::{Case, Comparison, Question, SideFigures};
use crate::report::grouped;
use crate::spread::Spread;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { machine, settings, .. } = self;
        writeln!(f, "machine    {}", machine.line())?;
        let cpu = |cpu: Option<usize>| cpu.map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        let (client, endpoint) = (cpu(settings.client_cpu), cpu(settings.sink_cpu));
        writeln!(
            f,
            "setting    {} shards, rate limit {}, linger {} ms, {} records outstanding at most; client on {client}, sink on \
             {endpoint}; {} runs of each",
            settings.shards,
            settings.rate_limit,
            settings.linger_ms,
            grouped(settings.outstanding_records_max as u64),
            settings.runs
        )?;
        writeln!(f, "ours       {}, by {}, in {}", settings.ours, settings.runtime, settings.ours_wire)?;
        writeln!(f, "sdk        {}, in {}", settings.sdk, settings.sdk_wire)?;
        if !self.fair_build {
            let profile = machine.profile;
            writeln!(f, "NOT FAIR   profile {profile:?} may not have optimised the SDK: build with --profile compare")?;
        }
        writeln!(f)?;
        writeln!(f, "{:26}{:^33}   {:^33}", "", "ns of CPU a record", "MB of data a CPU-second")?;
        let heads = ["p25", "median", "min", "max"].map(|head| format!("{head:>8}")).concat();
        writeln!(f, "{:>8} {:6} {:8}  {heads}    {heads} {:>12}", "record", "", "", "records/s")?;
        for case in &self.cases {
            write_case(f, case)?;
        }
        if !self.questions.is_empty() {
            writeln!(f, "\nours with TLS against the SDK in the clear, CPU a record, round by round")?;
        }
        for Question { record_size, ours_tls_over_sdk_clear } in &self.questions {
            writeln!(f, "{:>6} B    {}", grouped(*record_size as u64), ratio(ours_tls_over_sdk_clear))?;
        }
        writeln!(f)?;
        for fault in &self.faults {
            writeln!(f, "fault      {fault}")?;
        }
        write!(f, "verdict    {}", if self.passed { "all records of both were delivered" } else { "FAILED" })
    }
}

fn write_case(f: &mut fmt::Formatter<'_>, case: &Case) -> fmt::Result {
    let size = format!("{} B", grouped(case.record_size as u64));
    let tls = if case.tls { "TLS" } else { "clear" };
    for (side, SideFigures { cpu_ns_per_record, mb_per_cpu_s, records_per_s }) in
        [("ours", &case.ours), ("sdk", &case.sdk)]
    {
        let rate = grouped(records_per_s.median as u64);
        let (cpu, mb) = (row(cpu_ns_per_record), row(mb_per_cpu_s));
        writeln!(f, "{size:>8} {tls:6} {side:8}  {cpu}    {mb} {rate:>12}")?;
    }
    writeln!(f, "{:>8} {:6} {:8}  {:>8}", "", "", "ours/sdk", ratio(&case.ours_over_sdk))
}

fn row(spread: &Spread) -> String {
    [spread.p25, spread.median, spread.min, spread.max]
        .map(|value| format!("{:>8}", grouped(value.round() as u64)))
        .concat()
}

/// Median, and the extremes of single rounds.
fn ratio(spread: &Spread) -> String {
    format!("{:.3} ({:.3} to {:.3})", spread.median, spread.min, spread.max)
}
