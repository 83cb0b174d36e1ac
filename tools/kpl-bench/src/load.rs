//! Our producer under load: threads put as fast as they are let, and hear how each record ended.
//!
//! ```text
//!  warm up:  start ─▶ put … put ─▶ flush ─▶ last end       connections, buffers and slots are there from now on
//!  measure:  start ─▶ put … put ─▶ flush ─▶ last end
//!              ▲ wall and processor time of the client ▲
//! ```
//!
//! Records are put with tokens, and each thread drains its own completions between puts, and at once when it has put all,
//! since what it left would keep the others from putting. It is the cheapest way of hearing where each record is. So what is measured is the way from the put to the outcome, and nothing is left out of it but the making
//! of records. The producer has its defaults, but for what [`Load`] says, CBOR, and no rate limit, as the sink has none.

use std::sync::Barrier;
use std::time::Duration;

use crossbeam_channel::unbounded;
use kpl::config::{Pinning, RateLimit, TlsRoots, WireFormat};
use kpl::metrics::Counters;
use kpl::{Completions, Producer, PutErrorReason, Record, Stream, Submitter, limits};

use crate::clock::Clock;
use crate::cpu::CpuTime;
use crate::outcomes::Reasons;
use crate::records::Records;
use crate::stream::Access;

/// How long to wait for shards, and for a next outcome.
const PATIENCE: Duration = Duration::from_secs(60);
/// Puts between two looks at the completions.
const DRAIN_EVERY: u64 = 1024;

/// A producer, and how it is put into.
#[derive(Clone, Debug)]
pub struct Load<'a> {
    pub access: &'a Access,
    pub cores: usize,
    /// Where the cores run; by default each on one of those that are allowed.
    pub cpus: Option<Vec<usize>>,
    pub submitters: usize,
    pub streams: usize,
    /// Records of the measured part, over all submitters and streams.
    pub records: u64,
}

/// What the measured part came to; of our producer, or of a peer.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub cpu: CpuTime,
    pub wall: Duration,
    pub delivered: u64,
    pub failures: Reasons,
    /// Entries of the PutRecords requests.
    pub kinesis_records: u64,
    pub requests: u64,
    /// What it ran on.
    pub runtime: String,
}

/// Records that are put before anything is measured.
pub fn warm_up(records: u64) -> u64 {
    (records / 5).max(1)
}

impl Load<'_> {
    /// Puts the records, and returns when each has its outcome.
    ///
    /// # Errors
    /// The producer, its streams or its submitters could not be had.
    pub fn run(&self, records: &Records) -> Result<Measured, String> {
        let producer = self.producer().map_err(|error| error.to_string())?;
        let streams = self.open(&producer)?;
        let lanes = (0..self.submitters).map(|_| Lane::new(&producer, &streams)).collect::<Result<Vec<_>, _>>()?;
        let mut measured = self.put(&producer, lanes, records);
        measured.runtime = producer.health().runtime.to_string();
        producer.close(PATIENCE).wait();
        Ok(measured)
    }

    fn producer(&self) -> Result<Producer, impl std::fmt::Display + use<>> {
        let submitters_max = (self.submitters + limits::POOL_SUBMITTERS).max(limits::SUBMITTERS_DEFAULT);
        let mut builder = Producer::builder()
            .endpoint_url(self.access.url.clone())
            .cores(self.cores)
            .pinning(if cfg!(target_os = "linux") { Pinning::On } else { Pinning::Auto })
            .rate_limit(RateLimit::Off)
            .wire(WireFormat::Cbor)
            .max_submitters(submitters_max)
            .seed(1);
        if let Some(cpus) = &self.cpus {
            builder = builder.cpus(cpus.clone());
        }
        if let Some(region) = &self.access.region {
            builder = builder.region(region.clone());
        }
        if let Some(credentials) = &self.access.credentials {
            builder = builder.credentials(credentials.clone());
        }
        if let Some(ca_pem) = &self.access.ca_pem {
            builder = builder.tls_roots(TlsRoots::Pem(ca_pem.clone().into_bytes()));
        }
        builder.build()
    }

    /// The streams, whose shards are known.
    fn open(&self, producer: &Producer) -> Result<Vec<Stream>, String> {
        let open = |number| producer.stream(&format!("kpl-bench-{number}")).map_err(|error| error.to_string());
        let streams = (0..self.streams).map(open).collect::<Result<Vec<_>, _>>()?;
        for stream in &streams {
            match stream.ready().wait_timeout(PATIENCE) {
                Some(ready) => ready.map_err(|error| error.to_string())?,
                None => return Err(format!("the shards of {:?} are not known after {PATIENCE:?}", stream.name())),
            }
        }
        Ok(streams)
    }

    fn put(&self, producer: &Producer, lanes: Vec<Lane<'_>>, records: &Records) -> Measured {
        let meet = Barrier::new(lanes.len() + 1);
        let (done, all_done) = unbounded();
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, mut lane) in lanes.into_iter().enumerate() {
                let (share, meet, done) = (self.share(number as u64), &meet, done.clone());
                let body = move || {
                    for count in [warm_up(share), share] {
                        meet.wait();
                        lane.heard = Heard::default();
                        lane.put(records.iter(number as u64 * share), count);
                        // It fails only if the main thread panicked.
                        let _ = done.send(());
                        lane.settle();
                        meet.wait();
                    }
                    lane.heard
                };
                threads.push(scope.spawn(body));
            }
            let phase = || {
                meet.wait();
                threads.iter().for_each(|_| all_done.recv().expect("lanes keep their end"));
                // It begins now; that it has ended is seen by the completions.
                drop(producer.flush());
                meet.wait();
            };
            phase();
            let (clock, cpu, before) = (Clock::start(), CpuTime::now(), producer.counters());
            phase();
            let mut measured = Measured {
                cpu: CpuTime::now().since(cpu),
                wall: clock.elapsed(),
                ..counted(before, producer.counters())
            };
            for thread in threads {
                let heard = thread.join().expect("no lane panics");
                measured.delivered += heard.delivered;
                measured.failures.add(heard.failures);
            }
            measured
        })
    }

    /// Records of one submitter.
    fn share(&self, number: u64) -> u64 {
        let submitters = self.submitters as u64;
        (self.records + submitters - 1 - number) / submitters
    }
}

fn counted(before: Counters, after: Counters) -> Measured {
    Measured {
        kinesis_records: after.kinesis_records - before.kinesis_records,
        requests: after.put_records_requests - before.put_records_requests,
        ..Measured::default()
    }
}

/// One thread that puts.
struct Lane<'s> {
    submitter: Submitter,
    completions: Completions,
    streams: &'s [Stream],
    heard: Heard,
}

/// What became of its records.
#[derive(Default)]
struct Heard {
    put: u64,
    delivered: u64,
    failed: u64,
    failures: Reasons,
}

impl<'s> Lane<'s> {
    fn new(producer: &Producer, streams: &'s [Stream]) -> Result<Lane<'s>, String> {
        let mut submitter = producer.submitter().map_err(|error| error.to_string())?;
        let completions = submitter.completions().ok_or("a submitter gives its completions out once")?;
        Ok(Lane { submitter, completions, streams, heard: Heard::default() })
    }

    /// Puts so many, over all streams in turn; ends early where one is refused.
    fn put<'r>(&mut self, records: impl Iterator<Item = (&'r str, &'r [u8])>, count: u64) {
        let mut stream = 0;
        for (number, (key, data)) in (0..count).zip(records) {
            if number % DRAIN_EVERY == 0 {
                self.drain();
            }
            if let Err(reason) = self.put_one(stream, Record::new(key, data), number) {
                self.heard.failures.note("refused", reason);
                return;
            }
            self.heard.put += 1;
            stream = if stream + 1 == self.streams.len() { 0 } else { stream + 1 };
        }
    }

    #[inline]
    fn put_one(&mut self, stream: usize, record: Record<'_>, token: u64) -> Result<(), PutErrorReason> {
        let mut refused = match self.submitter.try_put_with_token(&self.streams[stream], record, token) {
            Ok(()) => return Ok(()),
            Err(refused) => refused.reason,
        };
        while refused == PutErrorReason::Full {
            self.drain();
            // It waits for room, and says that it is full only where all that there is are completions to drain.
            match self.submitter.put_with_token(&self.streams[stream], record, token) {
                Ok(()) => return Ok(()),
                Err(again) => refused = again.reason,
            }
        }
        Err(refused)
    }

    /// Waits for what is left.
    fn settle(&mut self) {
        while self.heard.delivered + self.heard.failed < self.heard.put {
            if self.drain() == 0 && self.completions.wait_timeout(PATIENCE) != Some(true) {
                return;
            }
        }
    }

    fn drain(&mut self) -> usize {
        let heard = &mut self.heard;
        self.completions.drain(|ended| match &ended.result {
            Ok(_) => heard.delivered += 1,
            Err(failure) => {
                heard.failed += 1;
                heard.failures.note(failure.code().as_str(), failure.message());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use endpoint::{Endpoint, EndpointConfig};
    use kpl::config::StaticCredentials;

    use super::*;

    #[test]
    fn threads_that_have_put_all_do_not_keep_what_the_others_wait_for() {
        let sink = Endpoint::start(EndpointConfig::sink(4)).expect("a sink");
        let key = || "test".to_owned();
        let access = Access {
            url: sink.url(),
            region: Some("us-east-1".to_owned()),
            credentials: Some(StaticCredentials {
                access_key_id: key(),
                secret_access_key: key(),
                session_token: None,
            }),
            ca_pem: None,
            proxy: None,
        };
        // Half as many again as may be outstanding, completions that nobody has drained among them.
        let records = limits::OUTSTANDING_RECORDS_DEFAULT as u64 * 3 / 2;
        let load = Load { access: &access, cores: 1, cpus: None, submitters: 16, streams: 2, records };
        let measured = load.run(&Records::new(16, 1)).expect("a run");
        assert_eq!((measured.delivered, measured.failures), (records, Reasons::default()));
        assert!(measured.kinesis_records > 0 && measured.kinesis_records < records && measured.requests > 0);
    }
}
