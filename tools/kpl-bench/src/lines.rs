//! Lines of a file or of standard input as records, in bounded memory.
//!
//! ```text
//!  input ──▶ reader thread: blocks of 256 KiB, cut at a line feed ──▶ bounded channel ──▶ lanes: key, data
//! ```
//!
//! A record's data is its line without the line feed; a carriage return before it stays. An empty line is an empty
//! record; what follows the last line feed is a record unless it is empty. Lanes take whole blocks and find the keys
//! themselves, so that parsing spreads over the submitters; which lane puts a line is left to chance, so lines of one
//! key keep no order beyond their block.
//!
//! Memory: a channel of [`BLOCKS`] blocks and one more for each lane and the reader, whatever the input's size. A
//! block is larger than 256 KiB only where one line is, and a line past [`LINE_BYTES_MAX`] ends the run.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use xxhash_rust::xxh3::Xxh3;

use crate::json_key;
use crate::workload::{Item, Keys, Next, Source};

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks between the reader and the lanes.
const BLOCKS: usize = 16;
/// The longest line: the service takes no larger record on any stream.
const LINE_BYTES_MAX: usize = kpl::limits::RECORD_BYTES_MAX;
/// How long a lane waits for a block before it looks after its outcomes.
const IDLE: Duration = Duration::from_millis(10);

/// What is wrong with the input. Records before it were put all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--input, line {}: {}", self.line, self.reason)
    }
}

/// Whole lines, each with its line feed; the last line of the input may lack it.
struct Block {
    bytes: Vec<u8>,
    /// Number of its first line, from 1.
    first_line: u64,
}

type BlockResult = Result<Block, InputError>;

/// The identity of a line for the ledger: a hash of its key and its bytes.
pub fn tag(key: &str, data: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key.as_bytes());
    hash.update(data);
    hash.digest()
}

/// Starts the reader, which ends with the input, with its first fault, or when the last receiver is gone.
///
/// # Errors
/// No thread could be started.
pub fn start_reader(input: Box<dyn Read + Send>, lines_max: Option<u64>) -> io::Result<Blocks> {
    let (sender, receiver) = bounded(BLOCKS);
    // Detached: blocked in a read of a terminal it could not be joined, and it holds nothing that needs an end.
    std::thread::Builder::new().name("lines".into()).spawn(move || read_blocks(input, lines_max, &sender))?;
    Ok(Blocks(receiver))
}

/// Where the lanes take their blocks from.
#[derive(Clone)]
pub struct Blocks(Receiver<BlockResult>);

fn read_blocks(mut input: Box<dyn Read + Send>, lines_max: Option<u64>, sender: &Sender<BlockResult>) {
    let mut left = lines_max.unwrap_or(u64::MAX);
    let mut next_line = 1;
    let mut carry: Vec<u8> = Vec::new();
    while left > 0 {
        let (block, ended) = match read_whole_lines(&mut *input, &mut carry) {
            Ok(read) => read,
            Err(reason) => {
                // Nobody may be there to hear it, then nobody needs it.
                let _ = sender.send(Err(InputError { line: next_line, reason }));
                return;
            }
        };
        let (bytes, lines) = cut_after(block, left);
        if lines > 0 && sender.send(Ok(Block { bytes, first_line: next_line })).is_err() {
            return;
        }
        next_line += lines;
        left -= lines;
        if ended {
            return;
        }
    }
}

/// Reads until there is a line feed, or the end; what follows the last line feed is carried over to the next call.
fn read_whole_lines(input: &mut dyn Read, carry: &mut Vec<u8>) -> Result<(Vec<u8>, bool), String> {
    let mut bytes = std::mem::take(carry);
    loop {
        let before = bytes.len();
        bytes.resize(before + BLOCK_BYTES, 0);
        let count = match input.read(&mut bytes[before..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                bytes.truncate(before);
                continue;
            }
            Err(error) => return Err(format!("cannot be read: {error}")),
        };
        bytes.truncate(before + count);
        if count == 0 {
            return Ok((bytes, true));
        }
        if let Some(last) = memchr::memrchr(b'\n', &bytes[before..]) {
            carry.extend_from_slice(&bytes[before + last + 1..]);
            bytes.truncate(before + last + 1);
            return Ok((bytes, false));
        }
        if bytes.len() > LINE_BYTES_MAX {
            return Err(format!("it is longer than {LINE_BYTES_MAX} bytes, the largest record of the service"));
        }
    }
}

/// The first `left` lines, and how many there are.
fn cut_after(mut bytes: Vec<u8>, left: u64) -> (Vec<u8>, u64) {
    let mut lines = 0;
    let mut end = 0;
    for place in memchr::memchr_iter(b'\n', &bytes) {
        lines += 1;
        end = place + 1;
        if lines == left {
            break;
        }
    }
    if lines < left && end < bytes.len() {
        lines += 1;
        end = bytes.len();
    }
    bytes.truncate(end);
    (bytes, lines)
}

/// Where a line's key comes from.
#[derive(Clone)]
pub enum KeySource {
    /// Drawn by the line's number.
    Drawn(Arc<Keys>),
    /// A field of the line, which is a JSON object.
    Field(Arc<str>),
}

/// The lines that one lane puts.
pub struct Lines {
    blocks: Blocks,
    keys: KeySource,
    block: Block,
    /// Where in the block the next line begins.
    at: usize,
    /// Number of the next line.
    line: u64,
    key: String,
}

impl Lines {
    /// Lines from the blocks that nobody else takes.
    pub fn new(blocks: Blocks, keys: KeySource) -> Lines {
        Lines { blocks, keys, block: Block { bytes: Vec::new(), first_line: 1 }, at: 0, line: 1, key: String::new() }
    }

    /// Takes the next block, if this one is used up; says what to answer if there is none.
    fn refill(&mut self) -> Result<Option<Next<'static>>, InputError> {
        if self.at < self.block.bytes.len() {
            return Ok(None);
        }
        match self.blocks.0.recv_timeout(IDLE) {
            Ok(block) => {
                self.block = block?;
                (self.at, self.line) = (0, self.block.first_line);
                Ok(None)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Some(Next::Idle)),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(Next::End)),
        }
    }
}

impl Source for Lines {
    fn next(&mut self) -> Result<Next<'_>, InputError> {
        if let Some(nothing) = self.refill()? {
            return Ok(nothing);
        }
        let rest = &self.block.bytes[self.at..];
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (data, number) = (&rest[..length], self.line);
        self.at += length + 1;
        self.line += 1;
        let key = match &self.keys {
            KeySource::Drawn(keys) => keys.of(number),
            KeySource::Field(field) => {
                json_key::extract(data, field, &mut self.key).map_err(|reason| InputError { line: number, reason })?;
                &self.key
            }
        };
        Ok(Next::Item(Item { key, data, tag: tag(key, data), number }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of the size it is told.
    struct Pieces(Vec<u8>, usize);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn lines(text: &[u8], piece: usize, max: Option<u64>, keys: KeySource) -> Result<Vec<(u64, Vec<u8>)>, InputError> {
        let blocks = start_reader(Box::new(Pieces(text.to_vec(), piece)), max).unwrap();
        let mut source = Lines::new(blocks, keys);
        let mut lines = Vec::new();
        loop {
            match source.next()? {
                Next::Item(item) => lines.push((item.number, item.data.to_vec())),
                Next::Idle => {}
                Next::End => return Ok(lines),
            }
        }
    }

    fn drawn() -> KeySource {
        KeySource::Drawn(Arc::new(Keys::new(3, 1)))
    }

    #[test]
    fn lines_are_the_same_however_the_input_is_cut() {
        let text = "first\n\nZoë 日本 😀\r\n\n  \nlast without a line feed".as_bytes();
        let expected: Vec<_> = ["first", "", "Zoë 日本 😀\r", "", "  ", "last without a line feed"]
            .iter()
            .zip(1..)
            .map(|(line, number)| (number, line.as_bytes().to_vec()))
            .collect();
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(lines(text, piece, None, drawn()).unwrap(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn a_last_line_feed_begins_no_record_and_no_input_has_none() {
        assert_eq!(lines(b"a\n", 10, None, drawn()).unwrap().len(), 1);
        assert_eq!(lines(b"\n", 10, None, drawn()).unwrap(), [(1, Vec::new())]);
        assert_eq!(lines(b"", 10, None, drawn()).unwrap(), []);
    }

    #[test]
    fn no_more_lines_are_taken_than_asked_for() {
        for piece in [1, 4, 100] {
            let taken = lines(b"a\nb\nc\nd", piece, Some(3), drawn()).unwrap();
            assert_eq!(taken.len(), 3, "pieces of {piece}");
        }
        assert_eq!(lines(b"a\nb\nc\nd", 100, Some(4), drawn()).unwrap().len(), 4);
    }

    #[test]
    fn many_blocks_keep_their_numbers() {
        let text: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
        let lines = lines(text.as_bytes(), usize::MAX, None, drawn()).unwrap();
        assert_eq!(lines.len(), 100_000);
        assert!(lines.iter().all(|(number, line)| number.to_string().as_bytes() == line));
    }

    #[test]
    fn a_fault_names_its_line() {
        let field = KeySource::Field("user".into());
        let text = b"{\"user\":\"a\"}\n{\"user\":2}\n{\"name\":\"b\"}\n";
        let error = lines(text, 1000, None, field.clone()).unwrap_err();
        assert_eq!(error.to_string(), "--input, line 3: field \"user\" is missing");
        let error = lines(b"{\"user\":1}\n\n", 1000, None, field).unwrap_err();
        assert_eq!(error.line, 2);
    }

    #[test]
    fn a_line_longer_than_any_record_is_refused_before_it_fills_the_memory() {
        let mut text = b"short\n".to_vec();
        text.resize(LINE_BYTES_MAX + 2 * BLOCK_BYTES, b'x');
        let error = lines(&text, 10 << 20, None, drawn()).unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.reason.contains("10485760"), "{error}");
    }
}
