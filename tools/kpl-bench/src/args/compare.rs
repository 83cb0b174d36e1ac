//! Options of `kpl-bench compare`.

use std::path::PathBuf;

use kpl::limits;

use super::values::{number, number_in, refuse};
use super::{ArgsError, Command, KEY_BYTES};

/// Runs of each side, when `--runs` does not say.
const RUNS_DEFAULT: usize = 7;
/// Most `--runs`.
const RUNS_MAX: usize = 1000;
/// Data of a record, when `--sizes` does not say.
const SIZES_DEFAULT: [usize; 3] = [100, 1 << 10, 10 << 10];
/// Longest data of a record: with its key it is the largest that a stream takes by default.
const SIZE_MAX: usize = limits::RECORD_BYTES_DEFAULT - KEY_BYTES;
/// Most `--records`.
const RECORDS_MAX: u64 = 1 << 32;

/// What `kpl-bench compare` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareOptions {
    /// Runs of each side in each case.
    pub runs: usize,
    /// Data of a record, in bytes, by case.
    pub sizes: Vec<usize>,
    pub tls: TlsChoice,
    /// Records of a run; by default as many as take a second or two.
    pub records: Option<u64>,
    /// Whether a build may be measured in which the peer is not optimised.
    pub any_build: bool,
    pub json: Option<PathBuf>,
}

/// Over what both sides send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsChoice {
    On,
    Off,
    Both,
}

impl TlsChoice {
    /// The cases, with TLS first.
    #[cfg(feature = "peer-sdk")]
    pub fn cases(self) -> &'static [bool] {
        match self {
            TlsChoice::On => &[true],
            TlsChoice::Off => &[false],
            TlsChoice::Both => &[true, false],
        }
    }
}

/// Reads what stands behind `compare`.
pub fn parse(mut parser: lexopt::Parser) -> Result<Command, ArgsError> {
    use lexopt::Arg::{Long, Short, Value};
    use lexopt::ValueExt;
    let mut options = CompareOptions {
        runs: RUNS_DEFAULT,
        sizes: SIZES_DEFAULT.to_vec(),
        tls: TlsChoice::Both,
        records: None,
        any_build: false,
        json: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("peer") => match parser.value()?.string()?.as_str() {
                "sdk" => {}
                other => return refuse("--peer", other, "sdk"),
            },
            Long("runs") => options.runs = number("--runs", &mut parser, 1, RUNS_MAX)?,
            Long("sizes") => options.sizes = sizes(&parser.value()?.string()?)?,
            Long("tls") => options.tls = tls(&parser.value()?.string()?)?,
            Long("records") => options.records = Some(number("--records", &mut parser, 1, RECORDS_MAX)?),
            Long("any-build") => options.any_build = true,
            Long("json") => options.json = Some(parser.value()?.into()),
            Value(_) | Long(_) | Short(_) => return Err(arg.unexpected().into()),
        }
    }
    Ok(Command::Compare(options))
}

fn sizes(text: &str) -> Result<Vec<usize>, ArgsError> {
    let sizes: Option<Vec<usize>> = text.split(',').map(|size| number_in(size, 1, SIZE_MAX)).collect();
    let bound = format_args!("whole numbers of bytes from 1 to {SIZE_MAX}, by commas: 100,1024");
    sizes.map_or_else(|| refuse("--sizes", text, bound), Ok)
}

fn tls(text: &str) -> Result<TlsChoice, ArgsError> {
    match text {
        "on" => Ok(TlsChoice::On),
        "off" => Ok(TlsChoice::Off),
        "both" => Ok(TlsChoice::Both),
        _ => refuse("--tls", text, "both, on or off"),
    }
}
