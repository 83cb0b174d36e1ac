//! The house's rules that a machine can check, each a test that lists where it is broken.
//!
//! ```text
//!   4 face     builder producer submitter reply stream shared callbacks waiting
//!   3 edges    runtime │ control          never each other
//!   2 engine   engine: stages never each other; mod, stream and shard join them
//!   1 tools    ring │ codec │ metrics     never each other; ring imports nothing of the crate
//!   0 words    limits time record outcome error config
//! ```
//!
//! A file imports from lower ranks and from its own folder; words and the face are folders in that sense. The rules
//! read the files as text, without git and without building anything. Each is tried on a planted fault too.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/sources.rs"]
mod sources;

use std::fs;
use std::path::Path;

use documents::{dangling_names, example, rust_blocks};
use imports::{Import, Root, depth, imports};
use sources::{Source, find_word, is_word, sources};

const WORDS: [&str; 6] = ["limits", "time", "record", "outcome", "error", "config"];
const TOOLS: [&str; 3] = ["ring", "codec", "metrics"];
const ENGINE: [&str; 1] = ["engine"];
/// What both edges use: they never import each other.
const EDGE_TOOLS: [&str; 3] = ["fork", "proxy", "trust"];
const EDGES: [&str; 2] = ["runtime", "control"];
const FACE: [&str; 8] = ["builder", "producer", "submitter", "reply", "stream", "shared", "callbacks", "waiting"];
const STAGES: [&str; 7] = ["router", "aggregator", "limiter", "collector", "sender", "retrier", "settler"];
const STAGE_JOINERS: [&str; 3] = ["mod", "stream", "shard"];
const UNSAFE_ALLOWED: [&str; 3] = ["src/ring/", "src/codec/lanes/", "src/fork.rs"];
const ATOMICS_ALLOWED: [&str; 3] = ["src/ring/", "src/metrics/", "src/fork.rs"];
const FILE_LINES_MAX: usize = 500;

/// What has no place below the edges: clocks, threads, sockets, random sources, logs.
const WORLD: &str = "Instant SystemTime thread net tokio RandomState rand tracing println eprintln dbg fs env process";
const LOCKS: &str = "Mutex RwLock Condvar";

/// A rule: the places that break it, each with what is wrong there.
type Rule = fn(&[Source]) -> Vec<String>;

/// The checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Applies a rule to the checkout.
fn check(rule: Rule) {
    let files = sources(root());
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the checkout was found");
    let broken = rule(&files);
    assert!(broken.is_empty(), "\n  {}\n", broken.join("\n  "));
}

#[test]
fn every_module_of_the_crate_has_a_rank() {
    check(unranked_modules);
}

#[test]
fn imports_go_to_lower_ranks_or_stay_in_their_folder() {
    check(upward_imports);
}

#[test]
fn the_ring_imports_nothing_of_the_crate() {
    check(imports_of_the_ring);
}

#[test]
fn stages_of_the_engine_do_not_know_each_other() {
    check(stages_that_know_each_other);
}

#[test]
fn files_begin_with_an_essay() {
    check(files_without_an_essay);
}

#[test]
fn files_are_not_longer_than_one_can_hold_in_mind() {
    check(long_files);
}

#[test]
fn unsafe_code_is_in_its_few_places_only() {
    check(unsafe_elsewhere);
}

#[test]
fn atomics_are_in_their_few_places_only() {
    check(atomics_elsewhere);
}

#[test]
fn below_the_edges_there_is_no_world() {
    check(world_below_the_edges);
}

#[test]
fn nothing_is_left_for_later_or_switched_off() {
    check(leftovers);
}

#[test]
fn tests_do_not_sleep() {
    check(sleeping_tests);
}

#[test]
fn documents_name_what_there_is() {
    check(|files| {
        let dangling = |name: &str| {
            let text = fs::read_to_string(root().join(name)).expect("a document is readable");
            dangling_names(name, &text, files)
        };
        ["README.md", "ARCHITECTURE.md"].into_iter().flat_map(dangling).collect()
    });
}

#[test]
fn the_examples_of_the_readme_are_those_that_are_compiled() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a document is readable");
    let blocks: Vec<_> = rust_blocks(&readme).collect();
    assert_eq!(blocks.len(), 3, "one to begin with, one of all ways to put, one for who comes from the SDK");
    assert_eq!(blocks[0], example(root(), "quickstart.rs"));
    assert_eq!(blocks[1], example(root(), "ways_to_put.rs"));
    let from_put_records = example(root(), "from_put_records.rs");
    assert!(!blocks[2].is_empty() && from_put_records.contains(blocks[2]), "{}", blocks[2]);
}

/// The module of the crate that a file belongs to, if it is one of `src/`.
fn module(file: &Source) -> Option<&str> {
    let below = file.path.strip_prefix("src/")?;
    let module = below.split('/').next()?;
    Some(module.strip_suffix(".rs").unwrap_or(module)).filter(|module| *module != "lib")
}

/// The modules of each rank, and whether those of one rank may import each other.
const RANKS: [(&[&str], bool); 6] =
    [(&WORDS, true), (&TOOLS, false), (&ENGINE, false), (&EDGE_TOOLS, false), (&EDGES, false), (&FACE, true)];

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|(modules, _)| modules.contains(&module))
}

fn unranked_modules(files: &[Source]) -> Vec<String> {
    let unranked = |file: &&Source| module(file).is_some_and(|module| rank(module).is_none());
    files.iter().filter(unranked).map(|file| format!("{}: give it a rank, here and in its place", file.at(0))).collect()
}

fn upward_imports(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files {
        let Some(own) = module(file) else { continue };
        let Some(own_rank) = rank(own) else { continue };
        for Import { line, root, name } in imports(file) {
            if root == Root::Crate {
                let allowed = match rank(&name) {
                    Some(other) => other < own_rank || name == own || (other == own_rank && RANKS[own_rank].1),
                    None => false,
                };
                if !allowed {
                    broken.push(format!("{}: {own} (rank {own_rank}) imports crate::{name}", file.at(line)));
                }
            } else if root == Root::Super(depth(file) + usize::from(line >= file.tests_at)) {
                broken.push(format!("{}: super reaches the crate's root; write crate::{name}", file.at(line)));
            }
        }
    }
    broken
}

fn imports_of_the_ring(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/ring/")) {
        for Import { line, name, .. } in imports(file).into_iter().filter(|path| path.root == Root::Crate) {
            if name != "ring" {
                broken.push(format!("{}: the ring imports crate::{name}", file.at(line)));
            }
        }
    }
    broken
}

fn stages_that_know_each_other(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files {
        let Some(below) = file.path.strip_prefix("src/engine/") else { continue };
        let own = below.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if STAGE_JOINERS.contains(&own) {
            continue;
        }
        for Import { line, root, name } in imports(file) {
            let everything = name == "*" && line < file.tests_at && root == Root::Super(depth(file) - 1);
            if everything || (STAGES.contains(&name.as_str()) && name != own) {
                broken.push(format!("{}: {own} imports the stage {name}, though it joins none", file.at(line)));
            }
        }
    }
    broken
}

fn files_without_an_essay(files: &[Source]) -> Vec<String> {
    let shipped = |file: &&Source| file.path.split('/').any(|folder| folder == "src" || folder == "fuzz_targets");
    let bare = |file: &&Source| !file.text.first().is_some_and(|line| line.starts_with("//! "));
    files.iter().filter(shipped).filter(bare).map(|file| format!("{}: does not begin with //!", file.at(0))).collect()
}

fn long_files(files: &[Source]) -> Vec<String> {
    let long = |file: &&Source| file.path.starts_with("src/") && file.tests_at > FILE_LINES_MAX;
    let say = |file: &Source| format!("{}: {} lines without tests; split it", file.at(FILE_LINES_MAX), file.tests_at);
    files.iter().filter(long).map(say).collect()
}

fn unsafe_elsewhere(files: &[Source]) -> Vec<String> {
    let shipped = |file: &Source| file.path.starts_with("src/") || file.path.starts_with("tools/");
    words_outside(files, shipped, &UNSAFE_ALLOWED, &["unsafe"])
}

fn atomics_elsewhere(files: &[Source]) -> Vec<String> {
    let mut broken = words_outside(files, |file| file.path.starts_with("src/"), &ATOMICS_ALLOWED, &["atomic", "fence"]);
    for file in files.iter().filter(|file| file.path.starts_with("src/") && !is_in(file, &ATOMICS_ALLOWED)) {
        for (line, code) in file.code.iter().enumerate() {
            let names = code.split(|character| !is_word(character));
            let atomic = |name: &&str| {
                name.strip_prefix("Atomic").is_some_and(|kind| kind.starts_with(|c: char| c.is_ascii_uppercase()))
            };
            broken.extend(names.filter(atomic).map(|name| format!("{}: {name}", file.at(line))));
        }
    }
    broken
}

fn world_below_the_edges(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files {
        let Some(own) = module(file) else { continue };
        if rank(own).is_none_or(|rank| rank >= 3) {
            continue;
        }
        // The budget and the doorbell may lock off the hot path.
        let locks = if own == "ring" { "" } else { LOCKS };
        for (line, code) in file.shipped().iter().enumerate() {
            for word in WORLD.split(' ').chain(locks.split_whitespace()).filter(|word| find_word(code, word).is_some())
            {
                broken.push(format!("{}: {word}, below the edges", file.at(line)));
            }
        }
    }
    broken
}

fn leftovers(files: &[Source]) -> Vec<String> {
    // Put together, so that this file does not break its own rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let code = [
        concat!("to", "do!"),
        concat!("unimpl", "emented!"),
        concat!("#[ig", "nore"),
        concat!("allow(dead", "_code"),
        concat!("expect(dead", "_code"),
    ];
    let mut broken = Vec::new();
    for file in files {
        for (line, text) in file.text.iter().enumerate() {
            broken.extend(
                words
                    .iter()
                    .filter(|word| find_word(text, word).is_some())
                    .chain(code.iter().filter(|phrase| file.code[line].contains(**phrase)))
                    .map(|found| format!("{}: {found}", file.at(line))),
            );
        }
    }
    broken
}

fn sleeping_tests(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files {
        for (line, code) in file.tests().filter(|(_, code)| code.contains("sleep(")) {
            if find_word(code, "sleep").is_some() {
                broken.push(format!("{}: a test sleeps; wait for what it waits for", file.at(line)));
            }
        }
    }
    broken
}

fn is_in(file: &Source, folders: &[&str]) -> bool {
    folders.iter().any(|folder| file.path.starts_with(folder))
}

fn words_outside(files: &[Source], among: fn(&Source) -> bool, allowed: &[&str], words: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| among(file) && !is_in(file, allowed)) {
        for (line, code) in file.code.iter().enumerate() {
            let found = words.iter().filter(|word| find_word(code, word).is_some());
            broken.extend(found.map(|word| format!("{}: {word}, outside {}", file.at(line), allowed.join(" and "))));
        }
    }
    broken
}

#[test]
fn a_planted_fault_is_found() {
    let faults: [(Rule, &str, &str); 19] = [
        (unranked_modules, "src/util.rs", "//! A"),
        (upward_imports, "src/codec/a.rs", "use crate::engine::Core;"),
        (upward_imports, "src/codec/a.rs", "let x = crate::ring::ring(1);"),
        (upward_imports, "src/runtime/a.rs", "use crate::control::service;"),
        (upward_imports, "src/engine/a.rs", "use crate::{\n    limits,\n    codec::{x, y},\n    shared,\n};"),
        (upward_imports, "src/engine/mod.rs", "use super::runtime;"),
        (upward_imports, "src/codec/answer/cbor.rs", "use super::super::super::engine;"),
        (imports_of_the_ring, "src/ring/a.rs", "use crate::limits;"),
        (stages_that_know_each_other, "src/engine/limiter.rs", "use super::{batch, router::Router};"),
        (stages_that_know_each_other, "src/engine/limiter/tests.rs", "use super::super::sender::X;"),
        (stages_that_know_each_other, "src/engine/limiter.rs", "use super::*;"),
        (files_without_an_essay, "tools/a/src/main.rs", "fn main() {}"),
        (long_files, "src/engine/a.rs", &"\n".repeat(501)),
        (unsafe_elsewhere, "src/runtime/a.rs", "let x = 'a'; unsafe { x }"),
        (atomics_elsewhere, "src/engine/a.rs", "x: AtomicU64,"),
        (world_below_the_edges, "src/engine/a.rs", "let x: &'a str = f(Instant::now());"),
        (leftovers, "tools/a/src/a.rs", concat!("// TO", "DO: later")),
        (leftovers, "tests/a.rs", concat!("#[ig", "nore = \"slow\"]")),
        (sleeping_tests, "src/engine/a.rs", "#[cfg(test)]\nmod tests {\n    std::thread::sleep(x);"),
    ];
    for (rule, path, text) in faults {
        assert!(!rule(&[Source::new(path, text)]).is_empty(), "{path}: {text}");
    }
}

#[test]
fn a_name_that_stands_for_nothing_is_found() {
    let files = [Source::new("src/ring/a.rs", "pub fn push() {}")];
    let text = "`ring/a.rs` `src/ring/a.rs` `ring/a.rs::push`\n`ring/b.rs` and `ring/a.rs::pop`, not `Pop::pop`";
    assert_eq!(
        dangling_names("A.md", text, &files),
        ["A.md:2: there is no file ring/b.rs", "A.md:2: ring/a.rs has no function pop"]
    );
}

#[test]
fn what_is_allowed_is_not_taken_for_a_fault() {
    let innocent: [(Rule, &str, &str); 8] = [
        (upward_imports, "src/engine/a.rs", "use crate::codec::x;\nuse crate::engine::b;\n// crate::runtime"),
        (upward_imports, "src/shared.rs", "use crate::stream::Stream;"),
        (upward_imports, "src/record.rs", "#[cfg(test)]\nmod tests {\n    use super::Record;"),
        (stages_that_know_each_other, "src/engine/limiter/tests.rs", "use super::super::limiter::X;"),
        (stages_that_know_each_other, "src/engine/stream.rs", "use super::router::Router;"),
        (
            unsafe_elsewhere,
            "src/runtime/a.rs",
            "//! unsafe\n#![deny(unsafe_code)] /* unsafe */ \"unsafe\"; r#\"unsafe\"#",
        ),
        (world_below_the_edges, "src/engine/a.rs", "f(\"Instant\", '\"', '\\'', \"\\\" thread\");"),
        (sleeping_tests, "src/runtime/a.rs", "x.sleep_until(y);\nsleep(z);"),
    ];
    for (rule, path, text) in innocent {
        assert_eq!(rule(&[Source::new(path, text)]), Vec::<String>::new(), "{path}: {text}");
    }
}
