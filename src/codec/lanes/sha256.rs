//! SHA-256 of bodies, as their bytes come, and of two of them side by side.
//!
//! Blocks that lie whole in what is given are hashed where they are; only the beginning of a block is kept. `sha2` takes the
//! blocks of one body, with the processor's SHA instructions where it has them.

use sha2::block_api::compress256;

use super::kernel::Block;

/// Bytes of a block.
const BLOCK: usize = 64;

/// A SHA-256 that is fed as the bytes come.
#[derive(Clone, Debug)]
pub struct Sha256 {
    state: [u32; 8],
    /// What has come since the last whole block: `len % 64` bytes.
    rest: [u8; BLOCK],
    /// Bytes so far.
    len: u64,
}

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256::new()
    }
}

impl Sha256 {
    /// Of no bytes yet.
    pub fn new() -> Sha256 {
        // FIPS 180-4, 5.3.3.
        let state = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
        Sha256 { state, rest: [0; BLOCK], len: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let bytes = self.fill(bytes);
        let (blocks, rest) = bytes.as_chunks();
        compress256(&mut self.state, blocks);
        self.keep(rest);
        self.len += (blocks.len() * BLOCK) as u64;
    }

    /// The digest of all bytes.
    pub fn finalize(mut self) -> [u8; 32] {
        let bits = self.len * 8;
        let zeros = (BLOCK + BLOCK - 9 - (self.len as usize % BLOCK)) % BLOCK;
        self.update(&[0x80]);
        self.update(&[0; BLOCK][..zeros]);
        self.update(&bits.to_be_bytes());
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// Completes the block that has begun, if there is one, and says what is left of `bytes`.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let held = self.len as usize % BLOCK;
        if held == 0 {
            return bytes;
        }
        let (first, left) = bytes.split_at(bytes.len().min(BLOCK - held));
        self.rest[held..held + first.len()].copy_from_slice(first);
        self.len += first.len() as u64;
        if held + first.len() == BLOCK {
            compress256(&mut self.state, &[self.rest]);
        }
        left
    }

    /// Keeps the beginning of a block.
    fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.rest[..bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len() as u64;
        }
    }
}

/// Feeds two of them, as `a.update(a_bytes)` and `b.update(b_bytes)` would: side by side, where the processor gains by it,
/// as far as both have bytes.
pub fn update_pair(a: &mut Sha256, a_bytes: &[u8], b: &mut Sha256, b_bytes: &[u8]) {
    let [a_bytes, b_bytes] = [a.fill(a_bytes), b.fill(b_bytes)];
    let done = compress_pair([&mut a.state, &mut b.state], [a_bytes.as_chunks().0, b_bytes.as_chunks().0]) * BLOCK;
    for (hash, bytes) in [(a, a_bytes), (b, b_bytes)] {
        hash.len += done as u64;
        hash.update(&bytes[done..]);
    }
}

/// Takes blocks of two messages into their states, and says how many of each: none, where that is not done at once.
fn compress_pair(states: [&mut [u32; 8]; 2], blocks: [&[Block]; 2]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") {
        // SAFETY: the processor has these features, and with SSE4.1 SSSE3.
        return unsafe { super::sha_ni::compress_pair(states, blocks) };
    }
    let _ = (states, blocks);
    0
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    #[test]
    fn it_is_sha_256_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..140).map(|number| (number * 7) as u8).collect();
        for len in 0..bytes.len() {
            for at in 0..=len {
                let mut hash = Sha256::new();
                hash.update(&bytes[..at]);
                hash.update(&bytes[at..len]);
                assert_eq!(hash.finalize(), <[u8; 32]>::from(sha2::Sha256::digest(&bytes[..len])), "{at} of {len}");
            }
        }
    }
}
