//! Rust files as the house's rules look at them: line by line, with comments and literals blanked.
//!
//! ```text
//!   file ──▶ text, as written ──▶ code: as long, but comments, strings and characters are spaces
//!                                    └──▶ where the tests at its foot begin
//! ```
//!
//! It knows just enough of the language's surface for that. It parses nothing.

use std::fs;
use std::path::Path;

/// One Rust file.
pub struct Source {
    /// Its path below the root, with slashes.
    pub path: String,
    /// Its lines as they are.
    pub text: Vec<String>,
    /// Its lines without comments and literals.
    pub code: Vec<String>,
    /// The line at which `#[cfg(test)] mod tests` begins; the number of lines, if it has none.
    pub tests_at: usize,
}

impl Source {
    /// The file `path` with the given text.
    pub fn new(path: &str, text: &str) -> Source {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let code = lines(&blanked(text));
        let is_foot = |at: &usize| {
            code[*at].trim() == "#[cfg(test)]" && code.get(at + 1).is_some_and(|next| next.starts_with("mod tests {"))
        };
        let whole_is_test = path.ends_with("/tests.rs") || path.split('/').any(|folder| folder == "tests");
        let tests_at = if whole_is_test { 0 } else { (0..code.len()).find(is_foot).unwrap_or(code.len()) };
        Source { path: path.to_owned(), text: lines(text), code, tests_at }
    }

    /// The code that is no test.
    pub fn shipped(&self) -> &[String] {
        &self.code[..self.tests_at]
    }

    /// The code of its tests.
    pub fn tests(&self) -> impl Iterator<Item = (usize, &String)> {
        self.code.iter().enumerate().skip(self.tests_at)
    }

    /// Names a line the way an editor opens it. `line` counts from 0.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{}", self.path, line + 1)
    }
}

/// Every Rust file below `root`, in the order of their paths; what is built or hidden is passed over.
pub fn sources(root: &Path) -> Vec<Source> {
    let (mut folders, mut found) = (vec![root.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the checkout is readable") {
            let path = entry.expect("its entries are too").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if path.is_file() && name.ends_with(".rs") {
                let below = path.strip_prefix(root).expect("it was found below the root");
                let text = fs::read_to_string(&path).expect("a source file is readable UTF-8");
                found.push(Source::new(&below.to_string_lossy().replace('\\', "/"), &text));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Where in `line` the word begins, not as a part of a longer one.
pub fn find_word(line: &str, word: &str) -> Option<usize> {
    line.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back().is_some_and(is_word);
        let after = line[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

/// Whether a character belongs to an identifier.
pub fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The text with every character of comments and literals replaced by a space; lines stay lines.
fn blanked(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while let Some(first) = rest.chars().next() {
        let after_word = code.chars().next_back().is_some_and(is_word);
        let skip = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_len(rest),
            '"' => string_len(rest),
            'r' | 'b' if !after_word => raw_string_len(rest),
            '\'' => character_len(rest),
            _ => 0,
        };
        if skip == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..skip].chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    code
}

/// Bytes of a block comment; they nest.
fn comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        match here {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Bytes of a string with escapes.
fn string_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Bytes of a raw string, if one begins here.
fn raw_string_len(rest: &str) -> usize {
    let head = rest.trim_start_matches('b');
    let Some(head) = head.strip_prefix('r') else { return 0 };
    let body = head.trim_start_matches('#');
    if !body.starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(head.len() - body.len()));
    let before = rest.len() - body.len() + 1;
    rest[before..].find(&end).map_or(rest.len(), |at| before + at + end.len())
}

/// Bytes of a character, if it is one and not a lifetime.
fn character_len(rest: &str) -> usize {
    let mut characters = rest[1..].chars();
    match (characters.next(), characters.next()) {
        (Some('\\'), Some(escaped)) => {
            let escape = 2 + escaped.len_utf8();
            rest[escape..].find('\'').map_or(0, |at| escape + at + 1)
        }
        (Some(only), Some('\'')) => 2 + only.len_utf8(),
        _ => 0,
    }
}
