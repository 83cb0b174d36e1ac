//! The load generator: puts records into a stream, reads them back, and says what it cost and whether all arrived.
//!
//! ```text
//!  args ─▶ endpoint child ─▶ stream ─▶ producing: lanes put, outcomes come back ─▶ reader ─▶ ledger ─▶ report
//!           (if embedded)    (if not     workload.rs or lines.rs ─▶ lane.rs         reader.rs  verify.rs
//!                             there)                                outcomes.rs     deaggregate.rs
//! ```
//!
//! While records are put, shards may be split and merged and the endpoint killed (timeline.rs); it may inflict faults of its
//! own (the endpoint's `faults`). What goes wrong then must be explained by what was done (attribution.rs, doubts.rs).
//!
//! Exit status 0: all that was requested was put, delivered, and read back once and unharmed. 1: it was not. 2: the
//! run could not be made as asked. Without arguments it needs nothing but this binary.

mod args;
mod attribution;
mod clock;
#[cfg(feature = "peer-sdk")]
mod compare;
mod cpu;
mod deaggregate;
mod doubts;
mod endpoint_child;
mod figures;
mod hashing;
mod json_key;
mod lane;
mod lateness;
mod lines;
mod load;
mod machine;
mod memory;
mod outcomes;
mod producing;
mod progress;
mod reader;
mod records;
mod report;
mod resharding;
mod roots;
mod scaling;
mod spread;
mod stream;
mod timeline;
mod verify;
mod workload;

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use args::{Command, CompareOptions, Input, Options, ScalingOptions, Target};
use attribution::{Attribution, Explained, Injected};
use endpoint::Profile;
use endpoint_child::{Asked, Embedded, EndpointChild};
use lateness::Lateness;
use lines::KeySource;
use producing::{Feed, Job, Produced};
use progress::Progress;
use reader::{Found, ReadCounts, Reader};
use report::Report;
use serde::Serialize;
use stream::{Access, Marks, Service};
use timeline::{Timekeeper, Timeline};
use verify::{Findings, Ledger, Reading};
use workload::{Keys, Plan};

/// The exit status of a run that could not be made.
const NOT_MADE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(asked) = endpoint_child::asked_to_serve(&args) {
        return match endpoint_child::serve(asked) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => not_made(format_args!("the embedded endpoint cannot be started: {error}")),
        };
    }
    let text = match args::parse(args) {
        Ok(Command::Run(options)) => return run(&options),
        Ok(Command::Compare(options)) => return compare(&options),
        Ok(Command::Scaling(options)) => return scale(&options),
        Ok(Command::Help) => args::HELP.to_owned(),
        Ok(Command::Version) => format!("kpl-bench {}\n", env!("CARGO_PKG_VERSION")),
        Err(error) => return not_made(format_args!("{error} (--help tells the options)")),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(NOT_MADE),
    }
}

fn not_made(error: impl Display) -> ExitCode {
    eprintln!("kpl-bench: {error}");
    ExitCode::from(NOT_MADE)
}

fn run(options: &Options) -> ExitCode {
    let made = |(report, fault): (Report, Option<String>)| (report.passed, report, fault);
    reported(options.json.as_deref(), || bench(options).map(made))
}

#[cfg(feature = "peer-sdk")]
fn compare(options: &CompareOptions) -> ExitCode {
    reported(options.json.as_deref(), || compare::run(options).map(|made| (made.passed, made, None)))
}

#[cfg(not(feature = "peer-sdk"))]
fn compare(_: &CompareOptions) -> ExitCode {
    not_made(
        "compare is not in this build; it is in\n  \
         cargo run --profile compare -p kpl-bench --features peer-sdk -- compare --peer sdk",
    )
}

fn scale(options: &ScalingOptions) -> ExitCode {
    let plot = match options.plot.as_deref().map(|path| create("--plot", path)).transpose() {
        Ok(plot) => plot,
        Err(error) => return not_made(error),
    };
    reported(options.json.as_deref(), || {
        let made = scaling::run(options)?;
        if let Some(mut file) = plot {
            file.write_all(scaling::draw(&made).as_bytes()).map_err(|error| format!("--plot: {error}"))?;
        }
        Ok((made.passed, made, None))
    })
}

/// Makes a report and tells it, also to a file; with it come whether all is well, and a fault that says more than it does.
fn reported<R: Display + Serialize>(
    json: Option<&Path>,
    make: impl FnOnce() -> Result<(bool, R, Option<String>), String>,
) -> ExitCode {
    // Opened before anything runs: a run whose figures cannot be written should not be made.
    let json = match json.map(|path| create("--json", path)).transpose() {
        Ok(json) => json,
        Err(error) => return not_made(error),
    };
    let (passed, report, fault) = match make() {
        Ok(made) => made,
        Err(error) => return not_made(error),
    };
    // The report goes to nobody if standard output is closed; the status still tells.
    let _ = writeln!(io::stdout(), "{report}");
    if let Some(mut file) = json {
        let written = serde_json::to_writer_pretty(&file, &report).map_err(io::Error::from);
        if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
            return not_made(format_args!("--json: {error}"));
        }
    }
    match fault {
        Some(fault) => not_made(fault),
        None if passed => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

fn create(option: &str, path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{option} is {path:?}, which cannot be written: {error}"))
}

/// The whole run; with the report comes the fault that ended the input early, or kept the timeline from happening.
fn bench(options: &Options) -> Result<(Report, Option<String>), String> {
    let input = options.input.as_ref().map(open).transpose()?;
    let roots = options.ca.as_deref().map(roots::read).transpose()?;
    let state = if options.kills() { Some(State::new().map_err(text)?) } else { None };
    let child = start_endpoint(options, state.as_ref())
        .map_err(|error| format!("the embedded endpoint cannot be started: {error}"))?;
    let access = access(options, child.as_ref(), roots);
    let of_service = match &child {
        Some(_) => Access { credentials: Some(endpoint_child::spared_credentials()), ..access.clone() },
        None => access.clone(),
    };
    let service = Service::new(&of_service).map_err(text)?;
    let (created, shards) = match options.target {
        // A sink knows no streams: it takes every name.
        Target::Sink => (false, options.shards),
        _ => service.ensure(&options.stream, options.shards).map_err(text)?,
    };
    let there = There { access: &access, service: &service, child: child.as_ref(), created, shards };
    let done = put_and_read(options, &there, input);
    if created && child.is_none() {
        // A run that went wrong still cleans up behind itself, and its own fault is the one to tell.
        let deleted = service.delete(&options.stream).map_err(text);
        return done.and_then(|done| deleted.map(|()| done));
    }
    done
}

/// What a run finds.
struct There<'b> {
    access: &'b Access,
    service: &'b Service,
    child: Option<&'b EndpointChild>,
    /// Whether the stream was made for it.
    created: bool,
    shards: u32,
}

fn put_and_read(
    options: &Options,
    there: &There<'_>,
    input: Option<Box<dyn Read + Send>>,
) -> Result<(Report, Option<String>), String> {
    let service = there.service;
    let keys = Arc::new(Keys::new(options.keys, options.seed));
    let plan = Plan {
        keys: keys.clone(),
        seed: options.seed,
        record_size: options.record_size,
        lanes: options.submitters as u64,
        put_times: options.lateness,
    };
    let ledger = match (&input, options.verify) {
        (_, false) => Ledger::off(),
        (None, true) => Ledger::generated(plan.clone(), options.is_disturbed()),
        (Some(_), true) => Ledger::lines(options.is_disturbed()),
    };
    let feed = match input {
        None => Feed::Generated { plan, records: options.records },
        Some(input) => {
            let field = options.key_field.as_deref();
            let keys = field.map_or(KeySource::Drawn(keys), |field| KeySource::Field(field.into()));
            Feed::Lines { blocks: lines::start_reader(input, options.records).map_err(text)?, keys }
        }
    };
    // Of a stream that was there before only what is written from now on is ours.
    let marks = match there.created || !options.verify {
        true => Marks::new(),
        false => service.runtime.block_on(stream::mark(&service.client, &options.stream)).map_err(text)?,
    };
    let timekeeper = Timekeeper::new(service, there.child, &options.stream, &options.timeline);
    let produced = job(options, there).run(&feed, &ledger, &timekeeper).map_err(text)?;
    let list_calls = timekeeper.list_calls();
    let injected = injected(options, there, &produced)?;
    let remote = matches!(options.target, Target::Url(_));
    let reader =
        Reader { client: service.client.clone(), stream: options.stream.clone(), marks: Arc::new(marks), remote };
    let expected = produced.settled.delivered;
    let read = match ledger.into_reading(produced.tried_by_lane.clone()) {
        None => None,
        Some(mut reading) => {
            if options.ordered {
                reading.look_at_order();
            }
            let explained = Explained::new(&injected, &produced.settled.tries);
            Some(read_back(service, &reader, reading, expected, &explained)?)
        }
    };
    let mut report = figures::report(options, there.shards, &produced, read);
    if !produced.happened.reshards.is_empty() {
        let shards = service.runtime.block_on(stream::shards(&service.client, &options.stream)).map_err(text)?;
        let (reshards, samples) = (&produced.happened.reshards, &produced.settled.samples);
        report.reshards = resharding::figures(reshards, list_calls, &shards, samples);
    }
    if options.is_disturbed() {
        let (findings, counts) = read.unwrap_or_default();
        let tries = &produced.settled.tries;
        let attribution = Attribution::new(&injected, tries, &findings, counts.misplaced);
        let profile = options.faults.map(Profile::name);
        report.attribution = Some(Attribution { profile, ..attribution });
    }
    if let Some(child) = there.child.filter(|_| options.lateness) {
        report.lateness_ms = Some(Lateness::from(child.ages().map_err(text)?));
    }
    report.passed = report.verdict();
    let fault = produced.input_fault.map(text).or(produced.happened.fault);
    Ok((report, fault))
}

/// What was done to the run; from here on nothing more is.
fn injected(options: &Options, there: &There<'_>, produced: &Produced) -> Result<Injected, String> {
    let happened = &produced.happened;
    let mut injected = happened.forgotten.clone();
    (injected.reshards, injected.kills) = (happened.reshards.len() as u64, happened.kills);
    if let Some(child) = there.child.filter(|_| options.faults.is_some()) {
        for (kind, count) in child.heal().map_err(text)?.faults {
            *injected.struck.entry(kind).or_default() += count;
        }
    }
    Ok(injected)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn open(input: &Input) -> Result<Box<dyn Read + Send>, String> {
    match input {
        Input::Stdin => Ok(Box::new(io::stdin())),
        Input::File(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(format!("--input is {path:?}, which cannot be opened: {error}")),
        },
    }
}

/// A directory for what an endpoint is to remember; removed when it is dropped.
struct State(PathBuf);

impl State {
    fn new() -> io::Result<State> {
        let state = State(std::env::temp_dir().join(format!("kpl-bench-{}", std::process::id())));
        std::fs::create_dir_all(&state.0)?;
        Ok(state)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // What cannot be removed is in the place for what may be.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start_endpoint(options: &Options, state: Option<&State>) -> io::Result<Option<EndpointChild>> {
    let embedded = match options.target {
        Target::Url(_) => return Ok(None),
        Target::Emulator => Embedded::Emulator,
        Target::Sink => Embedded::Sink { shards: options.shards, ages: options.lateness },
    };
    let region = options.region.clone().unwrap_or_else(|| endpoint_child::REGION.to_owned());
    let faults = options.faults.map(|profile| (profile, options.seed));
    let state = state.map(|state| state.0.to_string_lossy().into_owned());
    EndpointChild::start(Asked {
        embedded,
        region,
        tls: options.tls,
        port: 0,
        faults,
        distributes: !options.ordered,
        state,
    })
    .map(Some)
}

fn access(options: &Options, child: Option<&EndpointChild>, roots: Option<String>) -> Access {
    let proxy = options.proxy.clone();
    match (child, &options.target) {
        (Some(child), _) => {
            let region = options.region.clone().unwrap_or_else(|| endpoint_child::REGION.to_owned());
            let credentials = Some(endpoint_child::credentials());
            let ca_pem = child.ca_pem().map(str::to_owned);
            Access { url: child.url().to_owned(), region: Some(region), credentials, ca_pem, proxy }
        }
        (None, Target::Url(url)) => {
            Access { url: url.clone(), region: options.region.clone(), credentials: None, ca_pem: roots, proxy }
        }
        (None, _) => unreachable!("an embedded endpoint has its child"),
    }
}

fn job(options: &Options, there: &There<'_>) -> Job {
    // Lines may be as long as the stream takes records; the producer refuses what is longer.
    let record_size = if options.input.is_some() { 0 } else { options.record_size };
    Job {
        access: there.access.clone(),
        stream: options.stream.clone(),
        shards: there.shards,
        submitters: options.submitters,
        cores: options.cores,
        runtime: options.runtime,
        pinning: options.pinning,
        idle: options.idle,
        rate_limit: options.rate_limit,
        wire: options.wire,
        seed: options.seed,
        record_size,
        duration: options.duration,
        rate: options.rate,
        ordered: options.ordered,
        keep_samples: options.timeline != Timeline::default(),
    }
}

/// Reads the stream, a second time if the first leaves doubt.
fn read_back(
    service: &Service,
    reader: &Reader,
    mut reading: Reading,
    expected: u64,
    explained: &Explained<'_>,
) -> Result<(Findings, ReadCounts), String> {
    let progress = Progress::begin("reading", Some(expected));
    let at = |count| progress.at(count);
    let mut on_record = |found, key: &str, data: &[u8]| match found {
        Found::Seen => reading.read(key, data),
        Found::Dropped => reading.read_dropped(key, data),
    };
    let counts = service.runtime.block_on(reader.read(expected, &at, &mut on_record)).map_err(text)?;
    if reading.needs_second_reading() {
        let mut on_record = |found, key: &str, data: &[u8]| {
            if found == Found::Seen {
                reading.reread(key, data);
            }
        };
        service.runtime.block_on(reader.read(expected, &at, &mut on_record)).map_err(text)?;
    }
    Ok((reading.findings(&|code| explained.code(code)), counts))
}
