//! A test's part in a process of its own: the same test program again, told by its environment which part it plays.

use std::process::{Command, ExitStatus, Stdio};

/// Names the test that a child is to play its part of.
const CHILD: &str = "KPL_TEST_CHILD";
/// What the child is told; as a rule the URL of the endpoint that its producer writes to.
const TOLD: &str = "KPL_TEST_TOLD";

/// What this process was told, if it is the child of `test`.
pub fn as_child(test: &str) -> Option<String> {
    (std::env::var(CHILD).ok()? == test).then(|| std::env::var(TOLD).expect("a child is told something"))
}

/// Variables that would lead a child to a proxy, or to another endpoint.
const WAYS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
];

/// Plays a test's part in a process of its own, with these variables beside the environment of this one.
pub fn run_child(test: &str, told: &str, variables: &[(&str, &str)]) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().expect("the test program"));
    child.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(CHILD, test).env(TOLD, told);
    for name in WAYS {
        child.env_remove(name);
    }
    child.envs(variables.iter().copied()).stdin(Stdio::null()).status().expect("a child")
}
