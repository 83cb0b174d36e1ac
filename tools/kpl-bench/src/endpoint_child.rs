//! The embedded endpoint, as a child process, so that what it uses of the processor is not counted as the client's.
//!
//! ```text
//! kpl-bench ──▶ kpl-bench __endpoint REGION http|https emulator | sink SHARDS
//!           ◀── one line: its URL; with TLS then the certificate to trust, in PEM
//!           ──▶ standard input, held open and never written: its end is the child's end
//! ```
//!
//! The child is this same program under a hidden subcommand, so there is one binary to build and to find. It ends when
//! its standard input does: when the handle is dropped, and also when the parent is killed.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use endpoint::{Credentials, EndpointConfig, TlsOptions};
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

/// An endpoint, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub embedded: Embedded,
    pub region: String,
    pub tls: bool,
}

/// A running endpoint. Dropping it ends the child and waits for it.
pub struct EndpointChild {
    child: Child,
    url: String,
    ca_pem: Option<String>,
}

impl EndpointChild {
    /// Starts the child and waits for its URL.
    ///
    /// # Errors
    /// The child could not be started, or it ended without a URL: then with what it said.
    pub fn start(asked: &Asked) -> io::Result<EndpointChild> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([SUBCOMMAND, &asked.region, if asked.tls { "https" } else { "http" }]);
        match asked.embedded {
            Embedded::Emulator => command.arg("emulator"),
            Embedded::Sink { shards } => command.args(["sink", &shards.to_string()]),
        };
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut running = EndpointChild { child, url: String::new(), ca_pem: None };
        if let Some(stdout) = running.child.stdout.take() {
            let mut lines = BufReader::new(stdout).lines();
            running.url = lines.next().transpose()?.unwrap_or_default();
            if running.url.starts_with("https://") {
                running.ca_pem = Some(read_pem(lines)?);
            }
        }
        if running.url.starts_with("http") {
            return Ok(running);
        }
        Err(io::Error::other("the embedded endpoint ended before it told its URL"))
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate to trust, in PEM, if it serves TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }
}

/// One certificate: the lines up to its end.
fn read_pem(lines: impl Iterator<Item = io::Result<String>>) -> io::Result<String> {
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

/// If the command line (without the program's name) is the hidden subcommand's, what it asks for.
pub fn asked_to_serve(args: &[OsString]) -> Option<Asked> {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
    let [SUBCOMMAND, region, scheme @ ("http" | "https"), kind @ ..] = &args[..] else { return None };
    let embedded = match kind {
        ["emulator"] => Embedded::Emulator,
        ["sink", shards] => Embedded::Sink { shards: shards.parse().ok()? },
        _ => return None,
    };
    Some(Asked { embedded, region: (*region).to_owned(), tls: *scheme == "https" })
}

/// The child's life: serves until standard input ends.
///
/// # Errors
/// The endpoint could not be started.
pub fn serve(asked: Asked) -> io::Result<()> {
    std::thread::Builder::new().name("parent".into()).spawn(|| {
        // Whatever ends the reading, there is no parent to serve any more.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    })?;
    let mut config = match asked.embedded {
        Embedded::Emulator => EndpointConfig::emulator(),
        Embedded::Sink { shards } => EndpointConfig::sink(shards),
    };
    config.region = asked.region;
    config.credentials = vec![Credentials::new(KEY.0, KEY.1)];
    config.tls = if asked.tls { Some(TlsOptions::new()?) } else { None };
    let (scheme, ca_pem) = match &config.tls {
        Some(tls) => ("https", tls.ca_pem().to_owned()),
        None => ("http", String::new()),
    };
    endpoint::run(config, |address| {
        // If nobody reads it the parent is gone, and the other thread sees to that.
        let _ = write!(io::stdout(), "{scheme}://{address}\n{ca_pem}").and_then(|()| io::stdout().flush());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<Asked> {
        asked_to_serve(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn only_the_hidden_subcommand_makes_an_endpoint_of_the_program() {
        let emulator = Asked { embedded: Embedded::Emulator, region: "eu-west-1".to_owned(), tls: false };
        assert_eq!(asked("__endpoint eu-west-1 http emulator"), Some(emulator));
        let sink = Asked { embedded: Embedded::Sink { shards: 8 }, region: "us-east-1".to_owned(), tls: true };
        assert_eq!(asked("__endpoint us-east-1 https sink 8"), Some(sink));
        for line in [
            "",
            "--sink",
            "__endpoint",
            "__endpoint r http sink",
            "__endpoint r http sink x",
            "__endpoint r sink 8",
            "--stream __endpoint",
        ] {
            assert_eq!(asked(line), None, "{line}");
        }
    }

    #[test]
    fn a_certificate_ends_where_its_last_line_says() {
        let lines = ["-----BEGIN CERTIFICATE-----", "AAAA", "-----END CERTIFICATE-----", "more"];
        let read = read_pem(lines.iter().map(|line| Ok((*line).to_owned()))).expect("a certificate");
        assert_eq!(read.lines().count(), 3);
        assert!(read_pem(std::iter::empty()).is_err());
    }
}
