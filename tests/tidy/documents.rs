//! What the documents say of the code: the files and functions that they name exist, and the examples are those that
//! are compiled.
//!
//! A document names a file as `folder/file.rs`, below `src/` or below the root, and a function as `file.rs::name`.

use std::fs;
use std::path::Path;

use super::sources::{Source, find_word};

/// The names in a document that stand for nothing.
pub fn dangling_names(document: &str, text: &str, files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for (line, code) in code_spans(text) {
        let (path, function) = code.split_once("::").map_or((code, None), |(path, name)| (path, Some(name)));
        if !path.ends_with(".rs") {
            continue;
        }
        let file = files.iter().find(|file| file.path == path || file.path == format!("src/{path}"));
        match (file, function) {
            (None, _) => broken.push(format!("{document}:{line}: there is no file {path}")),
            (Some(file), Some(name)) if !defines(file, name) => {
                broken.push(format!("{document}:{line}: {path} has no function {name}"));
            }
            _ => {}
        }
    }
    broken
}

fn defines(file: &Source, function: &str) -> bool {
    let head = format!("fn {function}");
    file.code.iter().any(|line| find_word(line, &head).is_some())
}

/// What stands between backticks, with its line from 1.
fn code_spans(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |code| (at + 1, code)))
}

/// The README's Rust blocks, in their order.
pub fn rust_blocks(readme: &str) -> impl Iterator<Item = &str> {
    readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default())
}

/// An example without its essay.
pub fn example(root: &Path, name: &str) -> String {
    let text = fs::read_to_string(root.join("examples").join(name)).expect("an example is readable");
    let code = text.lines().skip_while(|line| line.starts_with("//!") || line.is_empty());
    code.map(|line| format!("{line}\n")).collect()
}
