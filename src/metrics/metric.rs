//! The KPL's fifteen metrics: their names, levels, units, and how finely they can be told apart, as one table.

use crate::config::{MetricsGranularity, MetricsLevel};

/// A metric of the KPL. What each counts is said at its variant; a *sample* is one value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// A user record came to a core: 1 each.
    UserRecordsReceived,
    /// User records that came to a core and have no outcome yet: a sample every 200 ms while there is a sink, and one
    /// for each snapshot.
    UserRecordsPending,
    /// A user record was settled: 1 if it was delivered, 0 if it failed. The mean is the rate of success.
    UserRecordsPut,
    /// Bytes of data of a user record that was delivered.
    UserRecordsDataPut,
    /// The service answered for a Kinesis record: 1 if it stored it, 0 if it refused it. Of a request that failed whole
    /// there is no such sample.
    KinesisRecordsPut,
    /// Bytes of data of a Kinesis record that the service stored.
    KinesisRecordsDataPut,
    /// 1 for each Kinesis record that was refused and each request that failed whole, by error code. Neither `Expired`
    /// nor `Wrong Shard` is such an error.
    ErrorsByCode,
    /// The same without the code, and a 0 for each Kinesis record that was stored.
    AllErrors,
    /// Attempts beyond the first, told when a user record is settled; an expiration counts as an attempt.
    RetriesPerRecord,
    /// How long a user record waited for each of its attempts, from its arrival or from the end of the attempt before;
    /// told when it is settled. Moments of arrival are known to 65.5 µs, so that a sample is too great by so much at
    /// most.
    BufferingTime,
    /// How long a PutRecords request took.
    RequestTime,
    /// User records of a Kinesis record, at each request that had it.
    UserRecordsPerKinesisRecord,
    /// Kinesis records of a request.
    KinesisRecordsPerPutRecordsRequest,
    /// User records of a request.
    UserRecordsPerPutRecordsRequest,
    /// 1 for each user record that failed as `Expired`.
    UserRecordExpired,
}

/// What a metric's values are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// As CloudWatch calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Bytes => "Bytes",
            Unit::Milliseconds => "Milliseconds",
        }
    }

    /// How many of what is gathered make one of this unit: times are gathered in microseconds.
    pub const fn grains(self) -> u32 {
        match self {
            Unit::Count | Unit::Bytes => 1,
            Unit::Milliseconds => 1000,
        }
    }
}

struct Row(Metric, &'static str, MetricsLevel, Unit, MetricsGranularity);

const COUNT: usize = 15;

/// In the order of the variants.
const TABLE: [Row; COUNT] = {
    use Metric::*;
    use MetricsGranularity::{Shard, Stream};
    use MetricsLevel::{Detailed, Summary};
    use Unit::{Bytes, Count, Milliseconds};
    [
        Row(UserRecordsReceived, "UserRecordsReceived", Detailed, Count, Stream),
        Row(UserRecordsPending, "UserRecordsPending", Detailed, Count, Stream),
        Row(UserRecordsPut, "UserRecordsPut", Summary, Count, Shard),
        Row(UserRecordsDataPut, "UserRecordsDataPut", Detailed, Bytes, Shard),
        Row(KinesisRecordsPut, "KinesisRecordsPut", Summary, Count, Shard),
        Row(KinesisRecordsDataPut, "KinesisRecordsDataPut", Detailed, Bytes, Shard),
        Row(ErrorsByCode, "ErrorsByCode", Summary, Count, Shard),
        Row(AllErrors, "AllErrors", Summary, Count, Shard),
        Row(RetriesPerRecord, "RetriesPerRecord", Detailed, Count, Shard),
        Row(BufferingTime, "BufferingTime", Summary, Milliseconds, Shard),
        Row(RequestTime, "RequestTime", Detailed, Milliseconds, Stream),
        Row(UserRecordsPerKinesisRecord, "UserRecordsPerKinesisRecord", Detailed, Count, Shard),
        Row(KinesisRecordsPerPutRecordsRequest, "KinesisRecordsPerPutRecordsRequest", Detailed, Count, Stream),
        Row(UserRecordsPerPutRecordsRequest, "UserRecordsPerPutRecordsRequest", Detailed, Count, Stream),
        Row(UserRecordExpired, "UserRecordExpired", Summary, Count, Shard),
    ]
};

impl Metric {
    /// How many there are.
    pub const COUNT: usize = COUNT;

    /// All of them, in their order.
    pub fn all() -> impl Iterator<Item = Metric> {
        TABLE.iter().map(|row| row.0)
    }

    /// The metric with this name.
    pub fn named(name: &str) -> Option<Metric> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The KPL's name for it.
    pub fn name(self) -> &'static str {
        TABLE[self.index()].1
    }

    /// From which level on it is told.
    pub fn level(self) -> MetricsLevel {
        TABLE[self.index()].2
    }

    /// What its values are counted in.
    pub fn unit(self) -> Unit {
        TABLE[self.index()].3
    }

    /// Whether it is known by shard, or by stream at the finest.
    pub fn finest(self) -> MetricsGranularity {
        TABLE[self.index()].4
    }

    /// Its place in their order.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the specification: metric, level, unit, finest dimension.
    const SPECIFIED: &str = "
        | UserRecordsReceived | detailed | Count | stream |
        | UserRecordsPending | detailed | Count | stream |
        | UserRecordsPut | summary | Count | shard |
        | UserRecordsDataPut | detailed | Bytes | shard |
        | KinesisRecordsPut | summary | Count | shard |
        | KinesisRecordsDataPut | detailed | Bytes | shard |
        | ErrorsByCode | summary | Count | shard |
        | AllErrors | summary | Count | shard |
        | RetriesPerRecord | detailed | Count | shard |
        | BufferingTime | summary | Milliseconds | shard |
        | RequestTime | detailed | Milliseconds | stream |
        | UserRecordsPerKinesisRecord | detailed | Count | shard |
        | KinesisRecordsPerPutRecordsRequest | detailed | Count | stream |
        | UserRecordsPerPutRecordsRequest | detailed | Count | stream |
        | UserRecordExpired | summary | Count | shard |";

    #[test]
    fn the_table_is_the_one_that_was_specified() {
        let written: Vec<String> = Metric::all()
            .map(|metric| {
                let (level, finest) = (format!("{:?}", metric.level()), format!("{:?}", metric.finest()));
                let (level, finest) = (level.to_lowercase(), finest.to_lowercase());
                format!("| {} | {level} | {} | {finest} |", metric.name(), metric.unit().name())
            })
            .collect();
        let specified: Vec<&str> = SPECIFIED.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(written, specified);
    }

    #[test]
    fn a_metric_is_found_by_its_place_and_by_its_name() {
        for (place, metric) in Metric::all().enumerate() {
            assert_eq!((metric.index(), Metric::named(metric.name())), (place, Some(metric)));
            assert_eq!(format!("{metric:?}"), metric.name());
        }
        assert_eq!(Metric::named("userrecordsput"), None);
    }
}
