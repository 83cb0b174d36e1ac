//! Options of `kpl-bench scaling`.

use std::path::PathBuf;

use super::values::number;
use super::{ArgsError, Command};

/// Runs of each point, when `--runs` does not say.
const RUNS_DEFAULT: usize = 5;
/// Most `--runs`.
const RUNS_MAX: usize = 1000;
/// Records of a run, when `--records` does not say: about a second of a core.
const RECORDS_DEFAULT: u64 = 1_000_000;
/// Most `--records`.
const RECORDS_MAX: u64 = 1 << 32;

/// What `kpl-bench scaling` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingOptions {
    /// Runs of each point.
    pub runs: usize,
    /// Records of a run.
    pub records: u64,
    pub tls: bool,
    /// Where to draw it.
    pub plot: Option<PathBuf>,
    pub json: Option<PathBuf>,
}

/// Reads what stands behind `scaling`.
pub fn parse(mut parser: lexopt::Parser) -> Result<Command, ArgsError> {
    use lexopt::Arg::{Long, Short, Value};
    let mut options =
        ScalingOptions { runs: RUNS_DEFAULT, records: RECORDS_DEFAULT, tls: false, plot: None, json: None };
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("runs") => options.runs = number("--runs", &mut parser, 1, RUNS_MAX)?,
            Long("records") => options.records = number("--records", &mut parser, 1, RECORDS_MAX)?,
            Long("tls") => options.tls = true,
            Long("plot") => options.plot = Some(parser.value()?.into()),
            Long("json") => options.json = Some(parser.value()?.into()),
            Value(_) | Long(_) | Short(_) => return Err(arg.unexpected().into()),
        }
    }
    Ok(Command::Scaling(options))
}
