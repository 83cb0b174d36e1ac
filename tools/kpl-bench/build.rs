//! Tells the program by which profile it is built: `kpl-bench compare` is fair by one of them only.
//!
//! Cargo tells a build script the optimisation of its own package, and nothing of its dependencies'. But the directory that
//! it gives lies in the profile's, `target/PROFILE/build/…`, and what a profile does to dependencies stands in the
//! workspace's `Cargo.toml`.

use std::path::Path;

fn main() {
    let out = std::env::var_os("OUT_DIR").unwrap_or_default();
    let build = Path::new(&out).ancestors().find(|directory| directory.file_name().is_some_and(|name| name == "build"));
    let profile = build.and_then(|build| build.parent()?.file_name()?.to_str()).unwrap_or("unknown");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=KPL_BENCH_PROFILE={profile}");
}
