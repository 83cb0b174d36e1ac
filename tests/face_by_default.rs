//! The public face on the runtime that a user gets who chooses none: glommio, where io_uring is allowed.

use kpl::RuntimeChoice;

mod face;
mod process;
mod relay;

/// What every producer of the tests is to run on.
const RUNTIME: RuntimeChoice = RuntimeChoice::Auto;
