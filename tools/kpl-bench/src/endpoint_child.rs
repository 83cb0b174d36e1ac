//! The embedded endpoint, as a child process, so that what it uses of the processor is not counted as the client's.
//!
//! ```text
//! kpl-bench ──▶ kpl-bench __endpoint REGION http|https PORT FAULTS STATE emulator | sink SHARDS | sink-of-ages SHARDS
//!           ◀── one line: its URL; with TLS then the certificate to trust, in PEM
//!           ──▶ "stats", "heal" or "ages", a line each, on standard input, whose end is the child's end
//!           ◀── the counters, or the ages, as one line of JSON
//! ```
//!
//! The child is this same program under a hidden subcommand, so there is one binary to build and to find. It ends when
//! its standard input does: when the handle is dropped, and also when the parent is killed. Or it is killed itself, where
//! that is what is to be tried: it comes back on the same port, with what it had written down in STATE.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use endpoint::{
    Credentials, EmulatorOptions, Endpoint, EndpointConfig, FaultOptions, Kind, Profile, StatsSnapshot, TlsOptions,
};
use kpl::config::StaticCredentials;
use kpl::limits;
use serde::de::DeserializeOwned;

use crate::lateness::{AgeKeeper, Ages};
use crate::stream::Access;

/// The hidden subcommand.
const SUBCOMMAND: &str = "__endpoint";
/// The region that both sides sign for, unless another is asked for.
pub const REGION: &str = "us-east-1";
/// The key that both sides know. It opens nothing but a child process on loopback.
const KEY: (&str, &str) = ("kpl-bench", "embedded endpoint");
/// The key of who looks after the stream meanwhile, and has to know the truth about its shards.
const SPARED_KEY: (&str, &str) = ("kpl-bench-control", "embedded endpoint too");
/// What stands for no faults, and for no state.
const NONE: &str = "-";
/// What says that faults may distribute records.
const DISTRIBUTES: &str = "auto";

/// What is embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded {
    /// Stores records.
    Emulator,
    /// Counts records and forgets them; all its streams have so many shards. It may tell how old records are that come.
    Sink { shards: u32, ages: bool },
}

/// An endpoint, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub embedded: Embedded,
    pub region: String,
    pub tls: bool,
    /// The port to listen on; 0 takes any.
    pub port: u16,
    /// What it inflicts, by which seed.
    pub faults: Option<(Profile, u64)>,
    /// Whether these may distribute records, which keeps no order.
    pub distributes: bool,
    /// The directory in which it remembers what it stored.
    pub state: Option<String>,
}

/// A running endpoint. Dropping it ends the child and waits for it.
pub struct EndpointChild {
    asked: Asked,
    process: Mutex<Process>,
    url: String,
    ca_pem: Option<String>,
}

/// The child itself.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl EndpointChild {
    /// Starts the child and waits for its URL.
    ///
    /// # Errors
    /// The child could not be started, or it ended without a URL: then with what it said.
    pub fn start(mut asked: Asked) -> io::Result<EndpointChild> {
        let (mut process, url) = spawn(&asked)?;
        let ca_pem = if url.starts_with("https://") { Some(read_pem(&mut process.lines)?) } else { None };
        // Where it comes back to, should it be killed.
        asked.port = url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        Ok(EndpointChild { asked, process: Mutex::new(process), url, ca_pem })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate to trust, in PEM, if it serves TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Its counters.
    ///
    /// # Errors
    /// The child has ended.
    pub fn stats(&self) -> io::Result<StatsSnapshot> {
        self.process().ask("stats")
    }

    /// Ends its faults, and tells its counters.
    ///
    /// # Errors
    /// The child has ended.
    pub fn heal(&self) -> io::Result<StatsSnapshot> {
        self.process().ask("heal")
    }

    /// How old records were that came to a sink of ages.
    ///
    /// # Errors
    /// The child has ended, or is no such sink.
    pub fn ages(&self) -> io::Result<Ages> {
        self.process().ask("ages")
    }

    /// Kills the child as it stands (SIGKILL).
    ///
    /// # Errors
    /// The system does not let us.
    pub fn kill(&self) -> io::Result<()> {
        let mut process = self.process();
        process.child.kill()?;
        process.child.wait().map(drop)
    }

    /// Starts it again after it was killed, on the same port and with the same state.
    ///
    /// # Errors
    /// As [`EndpointChild::start`].
    pub fn revive(&self) -> io::Result<()> {
        let (process, _) = spawn(&self.asked)?;
        *self.process() = process;
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn ask<T: DeserializeOwned>(&mut self, question: &str) -> io::Result<T> {
        let ended = || io::Error::other("the embedded endpoint has ended");
        writeln!(self.child.stdin.as_mut().ok_or_else(ended)?, "{question}")?;
        let answer = self.lines.next().ok_or_else(ended)??;
        serde_json::from_str(&answer).map_err(io::Error::other)
    }
}

/// Starts a child, and waits for its URL.
fn spawn(asked: &Asked) -> io::Result<(Process, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(asked.to_args());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let ended = || io::Error::other("the embedded endpoint ended before it told its URL");
    let mut lines = BufReader::new(child.stdout.take().ok_or_else(ended)?).lines();
    let url = lines.next().transpose()?.unwrap_or_default();
    let process = Process { child, lines };
    if url.starts_with("http") { Ok((process, url)) } else { Err(ended()) }
}

/// One certificate: the lines up to its end.
fn read_pem(lines: &mut impl Iterator<Item = io::Result<String>>) -> io::Result<String> {
    let mut pem = String::new();
    for line in lines {
        let line = line?;
        pem.push_str(&line);
        pem.push('\n');
        if line.starts_with("-----END") {
            return Ok(pem);
        }
    }
    Err(io::Error::other("the embedded endpoint ended before it told its certificate"))
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It fails only if the child was waited for already, and then it is gone.
        let _ = self.child.wait();
    }
}

/// The credentials of an embedded endpoint, for the producer.
pub fn credentials() -> StaticCredentials {
    static_credentials(KEY)
}

/// The credentials that its faults spare.
pub fn spared_credentials() -> StaticCredentials {
    static_credentials(SPARED_KEY)
}

fn static_credentials((id, secret): (&str, &str)) -> StaticCredentials {
    let (access_key_id, secret_access_key) = (id.to_owned(), secret.to_owned());
    StaticCredentials { access_key_id, secret_access_key, session_token: None }
}

/// How a child is reached that was asked for without a region of its own.
pub fn access(child: &EndpointChild) -> Access {
    Access {
        url: child.url().to_owned(),
        region: Some(REGION.to_owned()),
        credentials: Some(credentials()),
        ca_pem: child.ca_pem().map(str::to_owned),
        proxy: None,
    }
}

impl Asked {
    /// A sink that does nothing besides.
    pub fn sink(shards: u32, tls: bool) -> Asked {
        let region = REGION.to_owned();
        Asked {
            embedded: Embedded::Sink { shards, ages: false },
            region,
            tls,
            port: 0,
            faults: None,
            distributes: false,
            state: None,
        }
    }

    /// The command line of the child, without the program's name.
    fn to_args(&self) -> Vec<String> {
        let scheme = if self.tls { "https" } else { "http" };
        let faults = self.faults.map_or(NONE.to_owned(), |(profile, seed)| {
            format!("{}:{seed}:{}", profile.name(), if self.distributes { DISTRIBUTES } else { NONE })
        });
        let state = self.state.as_deref().unwrap_or(NONE).to_owned();
        let mut args =
            vec![SUBCOMMAND.to_owned(), self.region.clone(), scheme.to_owned(), self.port.to_string(), faults, state];
        match self.embedded {
            Embedded::Emulator => args.push("emulator".to_owned()),
            Embedded::Sink { shards, ages } => {
                args.extend([if ages { "sink-of-ages" } else { "sink" }.to_owned(), shards.to_string()]);
            }
        }
        args
    }
}

/// If the command line (without the program's name) is the hidden subcommand's, what it asks for.
pub fn asked_to_serve(args: &[OsString]) -> Option<Asked> {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
    let [SUBCOMMAND, region, scheme @ ("http" | "https"), port, faults, state, kind @ ..] = &args[..] else {
        return None;
    };
    let embedded = match kind {
        ["emulator"] => Embedded::Emulator,
        ["sink", shards] => Embedded::Sink { shards: shards.parse().ok()?, ages: false },
        ["sink-of-ages", shards] => Embedded::Sink { shards: shards.parse().ok()?, ages: true },
        _ => return None,
    };
    let (faults, distributes) = match faults.split(':').collect::<Vec<_>>()[..] {
        [NONE] => (None, false),
        [profile, seed, how @ (NONE | DISTRIBUTES)] => {
            (Some((Profile::parse(profile)?, seed.parse().ok()?)), how == DISTRIBUTES)
        }
        _ => return None,
    };
    let state = (*state != NONE).then(|| (*state).to_owned());
    let (region, tls) = ((*region).to_owned(), *scheme == "https");
    Some(Asked { embedded, region, tls, port: port.parse().ok()?, faults, distributes, state })
}

/// The child's life: serves until standard input ends.
///
/// # Errors
/// The endpoint could not be started.
pub fn serve(asked: Asked) -> io::Result<()> {
    let mut config = match asked.embedded {
        Embedded::Emulator => {
            let state_dir = asked.state.map(PathBuf::from);
            EndpointConfig::new(Kind::Emulator(EmulatorOptions { state_dir, ..EmulatorOptions::default() }))
        }
        Embedded::Sink { shards, .. } => EndpointConfig::sink(shards),
    };
    let ages = if let Embedded::Sink { ages: true, .. } = asked.embedded { Some(AgeKeeper::start()?) } else { None };
    config.script = ages.as_ref().map(AgeKeeper::script);
    config.region = asked.region;
    config.port = asked.port;
    config.credentials = [KEY, SPARED_KEY].map(|(id, secret)| Credentials::new(id, secret)).into();
    config.faults = asked.faults.map(|(profile, seed)| {
        let patience = limits::REQUEST_TIMEOUT_DEFAULT;
        FaultOptions { profile, seed, patience, spares: Some(SPARED_KEY.0), distributes: asked.distributes }
    });
    config.tls = if asked.tls { Some(TlsOptions::new()?) } else { None };
    let endpoint = Endpoint::start(config)?;
    // Where nobody reads or asks any more the parent is gone.
    let mut stdout = io::stdout();
    write!(stdout, "{}\n{}", endpoint.url(), endpoint.ca_pem().unwrap_or_default()).and_then(|()| stdout.flush())?;
    for question in io::stdin().lines() {
        match (question?.as_str(), &ages) {
            ("ages", Some(ages)) => serde_json::to_writer(&stdout, &ages.so_far())?,
            (question, _) => {
                if question == "heal" {
                    endpoint.heal();
                }
                serde_json::to_writer(&stdout, &endpoint.stats())?;
            }
        }
        writeln!(stdout).and_then(|()| stdout.flush())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<Asked> {
        asked_to_serve(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn emulator() -> Asked {
        let region = "eu-west-1".to_owned();
        Asked {
            embedded: Embedded::Emulator,
            region,
            tls: false,
            port: 0,
            faults: None,
            distributes: false,
            state: None,
        }
    }

    #[test]
    fn only_the_hidden_subcommand_makes_an_endpoint_of_the_program() {
        assert_eq!(asked("__endpoint eu-west-1 http 0 - - emulator"), Some(emulator()));
        let sink = Asked { embedded: Embedded::Sink { shards: 8, ages: false }, tls: true, ..emulator() };
        let ages = Asked { embedded: Embedded::Sink { shards: 8, ages: true }, ..emulator() };
        let faulty = Asked {
            faults: Some((Profile::Storm, 7)),
            distributes: true,
            port: 99,
            state: Some("d".to_owned()),
            ..emulator()
        };
        for one in [emulator(), sink, ages, faulty] {
            assert_eq!(asked(&one.to_args().join(" ")), Some(one));
        }
        for line in [
            "",
            "--sink",
            "__endpoint",
            "__endpoint r http 0 - - sink",
            "__endpoint r http 0 - - sink x",
            "__endpoint r http 0 hail:1:- - emulator",
            "__endpoint r http 0 storm:1 - emulator",
            "__endpoint r sink 8",
            "--stream __endpoint",
        ] {
            assert_eq!(asked(line), None, "{line}");
        }
    }

    #[test]
    fn a_certificate_ends_where_its_last_line_says() {
        let lines = ["-----BEGIN CERTIFICATE-----", "AAAA", "-----END CERTIFICATE-----", "more"];
        let read = read_pem(&mut lines.iter().map(|line| Ok((*line).to_owned()))).expect("a certificate");
        assert_eq!(read.lines().count(), 3);
        assert!(read_pem(&mut std::iter::empty()).is_err());
    }
}
