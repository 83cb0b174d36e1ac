//! The embedded endpoint, as a child process, so that what it uses of the processor is not counted as the client's.
//!
//! ```text
//! kpl-bench ──▶ kpl-bench __endpoint emulator | sink SHARDS
//!           ◀── one line: its URL
//!           ──▶ standard input, held open and never written: its end is the child's end
//! ```
//!
//! The child is this same program under a hidden subcommand, so there is one binary to build and to find. It ends when
//! its standard input does: when the handle is dropped, and also when the parent is killed.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use endpoint::{Credentials, EndpointConfig};
use kpl::config::StaticCredentials;

/// The hidden subcommand.
const SUBCOMMAND: &str = "__endpoint";
/// The region that both sides sign for, unless another is asked for.
pub const REGION: &str = "us-east-1";
/// The key that both sides know. It opens nothing but a child process on loopback.
const KEY: (&str, &str) = ("kpl-bench", "embedded endpoint");

/// What is embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded {
    /// Stores records.
    Emulator,
    /// Counts records and forgets them; all its streams have so many shards.
    Sink { shards: u32 },
}

/// A running endpoint. Dropping it ends the child and waits for it.
pub struct EndpointChild {
    child: Child,
    url: String,
}

impl EndpointChild {
    /// Starts the child and waits for its URL.
    ///
    /// # Errors
    /// The child could not be started, or it ended without a URL: then with what it said.
    pub fn start(embedded: Embedded, region: &str) -> io::Result<EndpointChild> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([SUBCOMMAND, region]);
        match embedded {
            Embedded::Emulator => command.arg("emulator"),
            Embedded::Sink { shards } => command.args(["sink", &shards.to_string()]),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let running = EndpointChild { child, url: line.trim_end().to_owned() };
        if running.url.starts_with("http://") {
            return Ok(running);
        }
        Err(io::Error::other("the embedded endpoint ended before it told its URL"))
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for EndpointChild {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It fails only if the child was waited for already, and then it is gone.
        let _ = self.child.wait();
    }
}

/// The credentials of an embedded endpoint.
pub fn credentials() -> StaticCredentials {
    let (access_key_id, secret_access_key) = (KEY.0.to_owned(), KEY.1.to_owned());
    StaticCredentials { access_key_id, secret_access_key, session_token: None }
}

/// If the command line (without the program's name) is the hidden subcommand's, what it asks for and the region.
pub fn asked_to_serve(args: &[OsString]) -> Option<(Embedded, String)> {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
    match args[..] {
        [SUBCOMMAND, region, "emulator"] => Some((Embedded::Emulator, region.to_owned())),
        [SUBCOMMAND, region, "sink", shards] => {
            Some((Embedded::Sink { shards: shards.parse().ok()? }, region.to_owned()))
        }
        _ => None,
    }
}

/// The child's life: serves until standard input ends.
///
/// # Errors
/// The endpoint could not be started.
pub fn serve(embedded: Embedded, region: String) -> io::Result<()> {
    std::thread::Builder::new().name("parent".into()).spawn(|| {
        // Whatever ends the reading, there is no parent to serve any more.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    })?;
    let mut config = match embedded {
        Embedded::Emulator => EndpointConfig::emulator(),
        Embedded::Sink { shards } => EndpointConfig::sink(shards),
    };
    config.region = region;
    config.credentials = vec![Credentials::new(KEY.0, KEY.1)];
    endpoint::run(config, |address| {
        // If nobody reads it the parent is gone, and the other thread sees to that.
        let _ = writeln!(io::stdout(), "http://{address}").and_then(|()| io::stdout().flush());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<(Embedded, String)> {
        asked_to_serve(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn only_the_hidden_subcommand_makes_an_endpoint_of_the_program() {
        assert_eq!(asked("__endpoint eu-west-1 emulator"), Some((Embedded::Emulator, "eu-west-1".to_owned())));
        assert_eq!(asked("__endpoint us-east-1 sink 8"), Some((Embedded::Sink { shards: 8 }, "us-east-1".to_owned())));
        for line in ["", "--sink", "__endpoint", "__endpoint r sink", "__endpoint r sink x", "--stream __endpoint"] {
            assert_eq!(asked(line), None, "{line}");
        }
    }
}
