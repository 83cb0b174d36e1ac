//! What the command line says: names, defaults, bounds, and the relations between options.
//!
//! Every refusal names the option, the value and the bound. An option that would have no effect beside another is
//! refused too, since a figure that was measured under a setting nobody applied is worse than none.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use endpoint::Profile;
use kpl::config::{IdleStrategy, Pinning, RateLimit, RuntimeChoice, WireFormat};
use kpl::limits;
use lexopt::ValueExt;

use crate::timeline::{Event, Timeline};
use crate::workload::{KEY_BYTES, STAMP_BYTES};

mod schedule;

/// Records put when neither `--records` nor `--duration` nor `--input` says otherwise.
pub const RECORDS_DEFAULT: u64 = 1_000_000;
/// Most `--records`: their bitmap of one bit each is then 128 GiB, so the machine says no first.
const RECORDS_MAX: u64 = 1 << 40;
/// Most `--record-size`: with its key it is the largest record of the service.
const RECORD_SIZE_MAX: usize = limits::RECORD_BYTES_MAX - KEY_BYTES;
/// Most `--keys`: they are a table of 8 bytes each.
const KEYS_MAX: u32 = 10_000_000;
/// Most `--shards`.
const SHARDS_MAX: u32 = 1000;
/// Most `--submitters`: with the pool of the producer they are the most that it takes.
const SUBMITTERS_MAX: usize = limits::SUBMITTERS_MAX - limits::POOL_SUBMITTERS;
/// `--pin`. A bench wants its cores to stay where they are; only on Linux can they be made to.
const PINNING_DEFAULT: Pinning = if cfg!(target_os = "linux") { Pinning::On } else { Pinning::Auto };
/// Most `--rate`, in records a second.
const RATE_MAX: u64 = 1_000_000_000;
/// Longest `--duration`.
const DURATION_MAX: Duration = limits::DURATION_MAX;

/// What `--help` prints.
pub const HELP: &str = "\
kpl-bench: puts records into a Kinesis stream, reads them back, and says what it cost and whether all arrived

Usage: kpl-bench [OPTIONS]
With no options it starts an embedded endpoint as a child process, with a stream of 4 shards of its own.

Where to
  --endpoint URL        an endpoint that is there already; credentials come from AWS's default chain
  --region NAME         region to sign for (default: AWS's chain; us-east-1 where the endpoint is embedded)
  --stream NAME         the stream (default kpl-bench); created if it is not there, and deleted afterwards if so;
                        one that is there gets a marker record in each shard, behind which it is read back
  --shards N            shards of a stream that is created (default 4)
  --sink                an embedded endpoint that stores nothing: the client's own cost; with --no-verify
  --tls                 the embedded endpoint is spoken to over TLS, with a certificate made for the run
  --ca FILE             roots, in PEM, that the certificate of an https --endpoint is checked with, instead of the
                        machine's
  --proxy URL           the HTTP proxy to go through, http://[USER:PASSWORD@]HOST[:PORT] (default: none, whatever the
                        environment says)

What
  --records N           records to put (default 1000000 without --duration and --input)
  --duration TIME       stop putting after TIME: 500ms, 30s, 5m, 1h; with --records, whichever comes first
  --record-size BYTES   data of a generated record (default 100, at least 16)
  --keys N              distinct partition keys that are drawn (default 10000)
  --input FILE|-        each line is a record, without its line feed; an empty line is an empty record
  --key-field NAME      each line is a JSON object, and its field NAME, a string or a number, is the partition key
  --seed N              of keys, data and backoff (default 1)

How
  --submitters N        threads that put (default 2)
  --cores N             core threads of the producer (default 1)
  --runtime auto|glommio|tokio
                        what cores run on (default auto: glommio where io_uring is allowed)
  --pin auto|on|off     whether each core thread keeps to one CPU; the submitters are left alone (default on; auto
                        where threads cannot be pinned)
  --idle park|spin|spin:TIME
                        what a core does that has nothing to do: rest, spin, or spin for TIME (1us to 1s) and then rest
                        (default park)
  --rate-limit PERCENT|off
                        share of the shards' limits to use (default 150; off with --sink)
  --wire auto|cbor|json form of PutRecords (default auto)
  --rate N              put N records a second in all, whether or not they are taken (default: as fast as they are)
  --ordered             the producer keeps the records of a submitter and key in order; of generated ones that is
                        checked

What happens meanwhile
  --faults PROFILE      calm, storm, outage, throttle or reshard: the embedded endpoint resets, stalls, refuses, fails and
                        throttles as --seed has it. Then records may fail and be there twice, but each such record must
                        be explained by what was injected. reshard splits and merges shards besides
  --reshard TIME:WHAT,...
                        split the widest shard, merge two, double or halve them, so long after the first put:
                        2s:split,5s:merge
  --kill TIME:TIME      kill the embedded endpoint (SIGKILL) so long after the first put, and start it again after the
                        second time, with all that it had stored: 3s:1s

Afterwards
  --no-verify           do not read the stream back
  --json FILE           write the figures as one JSON object
  -h, --help            this text
  -V, --version         the version

Exit status: 0 if every record requested was put, delivered and read back once and unharmed (with --faults, --reshard or
--kill: if every failure and every copy too many is explained by them); 1 if not; 2 if the run could not be made as asked.
";

/// Where the records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The emulator, as a child process.
    Emulator,
    /// The sink, as a child process.
    Sink,
    /// An endpoint that is there already.
    Url(String),
}

/// The URL of a proxy. `Debug` does not show it, as it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(pub String);

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl")
    }
}

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// A run, as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub target: Target,
    /// Whether an embedded endpoint serves TLS.
    pub tls: bool,
    /// The file of roots to trust; `None` leaves it to the machine's, or the embedded endpoint's own.
    pub ca: Option<PathBuf>,
    /// The URL of the proxy to go through.
    pub proxy: Option<ProxyUrl>,
    pub region: Option<String>,
    pub stream: String,
    pub shards: u32,
    /// Most records to put; `None` leaves it to the duration or the input.
    pub records: Option<u64>,
    pub duration: Option<Duration>,
    pub record_size: usize,
    pub keys: u32,
    pub input: Option<Input>,
    pub key_field: Option<String>,
    pub submitters: usize,
    pub cores: usize,
    pub runtime: RuntimeChoice,
    pub pinning: Pinning,
    pub idle: IdleStrategy,
    pub rate_limit: RateLimit,
    pub wire: WireFormat,
    pub verify: bool,
    pub seed: u64,
    /// Records a second, in all.
    pub rate: Option<u64>,
    pub ordered: bool,
    pub faults: Option<Profile>,
    /// What happens while records are put.
    pub timeline: Timeline,
    pub json: Option<PathBuf>,
}

impl Options {
    /// Whether what goes wrong must be explained by what was done to the run.
    pub fn is_disturbed(&self) -> bool {
        self.faults.is_some() || self.timeline != Timeline::default()
    }

    /// Whether the endpoint is killed, and so must remember what it stored.
    pub fn kills(&self) -> bool {
        self.timeline.events.iter().any(|(_, event)| matches!(event, Event::Kill(_)))
    }
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Run(Box<Options>),
    Help,
    Version,
}

/// Why the command line is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgsError(String);

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for ArgsError {
    fn from(error: lexopt::Error) -> ArgsError {
        ArgsError(error.to_string())
    }
}

/// Options as they were given, before defaults and relations.
#[derive(Default)]
struct Given {
    endpoint: Option<String>,
    region: Option<String>,
    stream: Option<String>,
    shards: Option<u32>,
    records: Option<u64>,
    duration: Option<Duration>,
    record_size: Option<usize>,
    keys: Option<u32>,
    input: Option<Input>,
    key_field: Option<String>,
    submitters: Option<usize>,
    cores: Option<usize>,
    runtime: Option<RuntimeChoice>,
    pinning: Option<Pinning>,
    idle: Option<IdleStrategy>,
    rate_limit: Option<RateLimit>,
    wire: Option<WireFormat>,
    sink: bool,
    tls: bool,
    ca: Option<PathBuf>,
    proxy: Option<ProxyUrl>,
    no_verify: bool,
    seed: Option<u64>,
    rate: Option<u64>,
    ordered: bool,
    faults: Option<Profile>,
    reshards: Option<Vec<(Duration, Event)>>,
    kill: Option<(Duration, Event)>,
    json: Option<PathBuf>,
}

/// Reads the command line, without the program's name.
///
/// # Errors
/// The first fault, with option, value and bound.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    use lexopt::Arg::{Long, Short, Value};
    let mut parser = lexopt::Parser::from_args(args);
    let mut given = Given::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("endpoint") => given.endpoint = Some(url(&parser.value()?.string()?)?),
            Long("region") => given.region = Some(parser.value()?.string()?),
            Long("stream") => given.stream = Some(stream(parser.value()?.string()?)?),
            Long("shards") => given.shards = Some(number("--shards", &mut parser, 1, SHARDS_MAX)?),
            Long("records") => given.records = Some(number("--records", &mut parser, 1, RECORDS_MAX)?),
            Long("duration") => given.duration = Some(duration(&parser.value()?.string()?)?),
            Long("record-size") => {
                given.record_size = Some(number("--record-size", &mut parser, STAMP_BYTES, RECORD_SIZE_MAX)?);
            }
            Long("keys") => given.keys = Some(number("--keys", &mut parser, 1, KEYS_MAX)?),
            Long("input") => given.input = Some(input(parser.value()?)),
            Long("key-field") => given.key_field = Some(parser.value()?.string()?),
            Long("submitters") => given.submitters = Some(number("--submitters", &mut parser, 1, SUBMITTERS_MAX)?),
            Long("cores") => given.cores = Some(number("--cores", &mut parser, 1, limits::CORES_MAX)?),
            Long("runtime") => given.runtime = Some(runtime(&parser.value()?.string()?)?),
            Long("pin") => given.pinning = Some(pinning(&parser.value()?.string()?)?),
            Long("idle") => given.idle = Some(idle(&parser.value()?.string()?)?),
            Long("rate-limit") => given.rate_limit = Some(rate_limit(&parser.value()?.string()?)?),
            Long("wire") => given.wire = Some(wire(&parser.value()?.string()?)?),
            Long("sink") => given.sink = true,
            Long("tls") => given.tls = true,
            Long("ca") => given.ca = Some(parser.value()?.into()),
            Long("proxy") => given.proxy = Some(proxy(parser.value()?.string()?)?),
            Long("no-verify") => given.no_verify = true,
            Long("seed") => given.seed = Some(number("--seed", &mut parser, 0, u64::MAX)?),
            Long("rate") => given.rate = Some(number("--rate", &mut parser, 1, RATE_MAX)?),
            Long("ordered") => given.ordered = true,
            Long("faults") => given.faults = Some(faults(&parser.value()?.string()?)?),
            Long("reshard") => given.reshards = Some(schedule::reshards(&parser.value()?.string()?)?),
            Long("kill") => given.kill = Some(schedule::kill(&parser.value()?.string()?)?),
            Long("json") => given.json = Some(parser.value()?.into()),
            Value(_) | Long(_) | Short(_) => return Err(arg.unexpected().into()),
        }
    }
    given.check_relations()?;
    Ok(Command::Run(Box::new(given.with_defaults())))
}

impl Given {
    fn check_relations(&self) -> Result<(), ArgsError> {
        let no_effect = |with: bool, option: &str, because: &str| {
            if with { Err(ArgsError(format!("{option} has no effect with {because}"))) } else { Ok(()) }
        };
        no_effect(self.sink && self.endpoint.is_some(), "--endpoint", "--sink, which is an endpoint itself")?;
        no_effect(self.tls && self.endpoint.is_some(), "--tls", "--endpoint: the URL says whether it is https")?;
        let https = self.endpoint.as_ref().is_some_and(|url| url.starts_with("https://"));
        let embedded = self.endpoint.is_none();
        no_effect(
            self.ca.is_some() && embedded,
            "--ca",
            "an embedded endpoint, whose certificate is made for the run",
        )?;
        no_effect(self.ca.is_some() && !https, "--ca", "an --endpoint that is not https")?;
        no_effect(self.input.is_some() && self.record_size.is_some(), "--record-size", "--input: a record is a line")?;
        no_effect(self.key_field.is_some() && self.keys.is_some(), "--keys", "--key-field: keys come from the lines")?;
        no_effect(self.key_field.is_some() && self.input.is_none(), "--key-field", "generated records: add --input")?;
        let not_ours = "--endpoint: only an embedded endpoint can be made to";
        no_effect(self.faults.is_some() && self.endpoint.is_some(), "--faults", not_ours)?;
        no_effect(self.kill.is_some() && self.endpoint.is_some(), "--kill", not_ours)?;
        let disturbed = [
            (self.faults.is_some(), "--faults"),
            (self.reshards.is_some(), "--reshard"),
            (self.kill.is_some(), "--kill"),
        ];
        for (given, option) in disturbed {
            no_effect(given && self.sink, option, "--sink, which stores nothing that could be read back")?;
        }
        no_effect(self.kill.is_some() && self.tls, "--kill", "--tls: it would come back with another certificate")?;
        if self.sink && !self.no_verify {
            return Err(ArgsError("--sink stores nothing that could be read back: add --no-verify".to_owned()));
        }
        Ok(())
    }

    fn with_defaults(self) -> Options {
        let rate_limit = if self.sink { RateLimit::Off } else { RateLimit::Percent(limits::RATE_LIMIT_DEFAULT) };
        let unbounded = self.duration.is_some() || self.input.is_some();
        let target = match self.endpoint {
            Some(url) => Target::Url(url),
            None if self.sink => Target::Sink,
            None => Target::Emulator,
        };
        let seed = self.seed.unwrap_or(1);
        let mut events = self.reshards.unwrap_or_default();
        // Shards that are given are not drawn besides.
        let drawn = (self.faults == Some(Profile::Reshard) && events.is_empty()).then_some(seed);
        events.extend(self.kill);
        events.sort_by_key(|(at, _)| *at);
        Options {
            target,
            tls: self.tls,
            ca: self.ca,
            proxy: self.proxy,
            region: self.region,
            stream: self.stream.unwrap_or_else(|| "kpl-bench".to_owned()),
            shards: self.shards.unwrap_or(4),
            records: self.records.or((!unbounded).then_some(RECORDS_DEFAULT)),
            duration: self.duration,
            record_size: self.record_size.unwrap_or(100),
            keys: self.keys.unwrap_or(10_000),
            input: self.input,
            key_field: self.key_field,
            submitters: self.submitters.unwrap_or(2),
            cores: self.cores.unwrap_or(1),
            runtime: self.runtime.unwrap_or_default(),
            pinning: self.pinning.unwrap_or(PINNING_DEFAULT),
            idle: self.idle.unwrap_or_default(),
            rate_limit: self.rate_limit.unwrap_or(rate_limit),
            wire: self.wire.unwrap_or_default(),
            verify: !self.no_verify,
            seed,
            rate: self.rate,
            ordered: self.ordered,
            faults: self.faults,
            timeline: Timeline { events, drawn },
            json: self.json,
        }
    }
}

fn refuse<T>(option: &str, value: &str, bound: impl fmt::Display) -> Result<T, ArgsError> {
    Err(ArgsError(format!("{option} is {value:?}, but must be {bound}")))
}

/// A whole number, in which `_` may group digits.
fn number<T>(option: &str, parser: &mut lexopt::Parser, min: T, max: T) -> Result<T, ArgsError>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    let text = parser.value()?.string()?;
    match text.replace('_', "").parse::<T>() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => refuse(option, &text, format_args!("a whole number from {min} to {max}")),
    }
}

fn rate_limit(text: &str) -> Result<RateLimit, ArgsError> {
    if text == "off" {
        return Ok(RateLimit::Off);
    }
    match text.parse::<u32>() {
        Ok(percent @ 1..=limits::RATE_LIMIT_MAX) => Ok(RateLimit::Percent(percent)),
        _ => refuse("--rate-limit", text, format_args!("a percentage from 1 to {}, or off", limits::RATE_LIMIT_MAX)),
    }
}

fn runtime(text: &str) -> Result<RuntimeChoice, ArgsError> {
    match text {
        "auto" => Ok(RuntimeChoice::Auto),
        "glommio" => Ok(RuntimeChoice::Glommio),
        "tokio" => Ok(RuntimeChoice::Tokio),
        _ => refuse("--runtime", text, "auto, glommio or tokio"),
    }
}

fn pinning(text: &str) -> Result<Pinning, ArgsError> {
    match text {
        "auto" => Ok(Pinning::Auto),
        "on" => Ok(Pinning::On),
        "off" => Ok(Pinning::Off),
        _ => refuse("--pin", text, "auto, on or off"),
    }
}

fn faults(text: &str) -> Result<Profile, ArgsError> {
    Profile::parse(text).map_or_else(|| refuse("--faults", text, "calm, storm, outage, throttle or reshard"), Ok)
}

fn wire(text: &str) -> Result<WireFormat, ArgsError> {
    match text {
        "auto" => Ok(WireFormat::Auto),
        "cbor" => Ok(WireFormat::Cbor),
        "json" => Ok(WireFormat::Json),
        _ => refuse("--wire", text, "auto, cbor or json"),
    }
}

fn idle(text: &str) -> Result<IdleStrategy, ArgsError> {
    let range = limits::SPIN_MIN..=limits::SPIN_MAX;
    match (text, text.strip_prefix("spin:").and_then(time)) {
        ("park", _) => Ok(IdleStrategy::Park),
        ("spin", _) => Ok(IdleStrategy::Spin),
        (_, Some(time)) if range.contains(&time) => Ok(IdleStrategy::SpinThenPark(time)),
        _ => refuse("--idle", text, "park, spin, or spin: and a whole number of us, ms or s, from 1us to 1s"),
    }
}

fn duration(text: &str) -> Result<Duration, ArgsError> {
    match time(text) {
        Some(duration) if !text.ends_with("us") && !duration.is_zero() && duration <= DURATION_MAX => Ok(duration),
        _ => refuse("--duration", text, "a whole number of ms, s, m or h, from 1ms to 24h"),
    }
}

/// A whole number with its unit; of seconds, if it has none.
fn time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_us = match &text[digits.len()..] {
        "us" => 1,
        "ms" => 1000,
        "" | "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit_us).map(Duration::from_micros)
}

fn url(text: &str) -> Result<String, ArgsError> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(text.to_owned()),
        _ => refuse("--endpoint", text, "http://HOST[:PORT] or https://HOST[:PORT]"),
    }
}

fn proxy(text: String) -> Result<ProxyUrl, ArgsError> {
    if text.strip_prefix("http://").is_some_and(|host| !host.is_empty()) {
        return Ok(ProxyUrl(text));
    }
    // What stands before it may be a password.
    let host = text.rsplit('@').next().unwrap_or_default();
    refuse("--proxy", host, "http://[USER:PASSWORD@]HOST[:PORT]")
}

fn stream(text: String) -> Result<String, ArgsError> {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if text.is_empty() || text.len() > limits::STREAM_NAME_MAX || !text.bytes().all(of_a_name) {
        let bound = format!("1 to {} of a-z, A-Z, 0-9, _, . and -", limits::STREAM_NAME_MAX);
        return refuse("--stream", &text, bound);
    }
    Ok(text)
}

fn input(value: OsString) -> Input {
    if value == "-" { Input::Stdin } else { Input::File(value.into()) }
}

#[cfg(test)]
mod tests;
