//! The public face on tokio, which takes glommio's place where io_uring is refused.

use kpl::RuntimeChoice;

mod face;
mod process;
mod relay;

/// What every producer of the tests is to run on.
const RUNTIME: RuntimeChoice = RuntimeChoice::Tokio;
