//! The records: always the same ones.

/// Distinct keys.
const KEYS: u64 = 10_000;

/// Bytes of data.
pub const DATA: [u8; 100] = [7; 100];

/// Keys of ten bytes each, drawn from a fixed seed.
pub struct Keys {
    texts: Vec<String>,
    state: u64,
}

impl Keys {
    pub fn new() -> Keys {
        Keys { texts: (0..KEYS).map(|number| format!("user-{number:05}")).collect(), state: 1 }
    }

    /// The next key.
    pub fn draw(&mut self) -> &str {
        // SplitMix64, by Steele, Lea and Flood.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        &self.texts[((mixed ^ mixed >> 31) % KEYS) as usize]
    }
}
