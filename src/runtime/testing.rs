//! One set of tests for every runtime.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::Runtime;

/// Makes of each `async fn(runtime: impl Runtime)` a test on tokio and one on glommio.
macro_rules! on_each_runtime {
    ($($test:ident)*) => {
        mod on_tokio {
            $(#[test] fn $test() { $crate::runtime::testing::run($crate::runtime::tokio::Tokio, super::$test); })*
        }
        #[cfg(all(feature = "glommio", target_os = "linux"))]
        mod on_glommio {
            $(#[test] fn $test() { $crate::runtime::testing::run($crate::runtime::glommio::Glommio, super::$test); })*
        }
    };
}
pub(crate) use on_each_runtime;

/// Runs a test on a runtime. Where the system refuses the runtime, which only glommio can be, the test says so and
/// tests nothing.
pub(crate) fn run<R: Runtime, F: Future<Output = ()>>(runtime: R, test: impl FnOnce(R) -> F) {
    match runtime.start(|| test(runtime)) {
        Ok(()) => {}
        Err(error) if std::any::type_name::<R>().ends_with("Glommio") => eprintln!("NOT TESTED: {error}"),
        Err(error) => panic!("{error}"),
    }
}

/// A listener on a loopback port that can be asked without blocking the thread.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("a bound socket");
    (listener, address)
}

/// Does what would block, again and again, while the thread's other tasks have their turns.
pub(crate) async fn unblocked<T>(runtime: impl Runtime, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => runtime.yield_now().await,
            result => return result,
        }
    }
}
