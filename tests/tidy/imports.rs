//! Which modules of the crate a file names: every path that begins with `crate::` or leads up with `super::`.
//!
//! `use` and inline paths are alike to it, and of a group it takes each member.

use super::sources::{Source, is_word};

/// How many `super` lead from a file's own module to the crate's root.
pub fn depth(file: &Source) -> usize {
    let below = file.path.strip_prefix("src/").unwrap_or(&file.path);
    below.trim_end_matches("/mod.rs").split('/').count()
}

/// Where a path into the crate begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Root {
    /// At the crate's root.
    Crate,
    /// So many times `super`.
    Super(usize),
}

/// A path into the crate.
pub struct Import {
    /// Counted from 0.
    pub line: usize,
    /// Where it begins.
    pub root: Root,
    /// The first name behind that.
    pub name: String,
}

/// Every path into the crate that a file names; of a group, each of its members.
pub fn imports(file: &Source) -> Vec<Import> {
    let code = file.code.join("\n");
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((start, root, end)) = next_root(&code, at) {
        let line = code[..start].matches('\n').count();
        let names = first_names(&code[end..]);
        found.extend(names.into_iter().map(|name| Import { line, root, name }));
        at = end;
    }
    found
}

/// The next `crate::` or chain of `super::`, where it begins and ends.
fn next_root(code: &str, from: usize) -> Option<(usize, Root, usize)> {
    let begins = |word: &str| {
        let mut places = code[from..].match_indices(word).map(|(at, _)| from + at);
        places.find(|at| !code[..*at].chars().next_back().is_some_and(is_word))
    };
    let in_crate = begins("crate::").map(|at| (at, Root::Crate, at + "crate::".len()));
    let above = begins("super::").map(|at| {
        let chain = code[at..].split("super::").take_while(|between| between.is_empty()).count();
        (at, Root::Super(chain), at + chain * "super::".len())
    });
    [in_crate, above].into_iter().flatten().min_by_key(|(at, ..)| *at)
}

/// The name that `rest` begins with, or the first name of each member if it begins with a group; `*` for everything.
fn first_names(rest: &str) -> Vec<String> {
    if rest.starts_with('*') {
        return vec!["*".to_owned()];
    }
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    if !rest.starts_with('{') {
        return vec![name(rest)];
    }
    let (mut depth, mut names) = (0, Vec::new());
    for (at, character) in rest.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(character, '{' | ',') {
            names.push(name(&rest[at + 1..]));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}
