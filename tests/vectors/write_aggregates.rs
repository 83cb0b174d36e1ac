//! Prints our aggregate of every case, for AWS's de-aggregators to read: `{"name": …, "aggregate": base64}` a line.

#[path = "cases.rs"]
mod cases;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

fn main() {
    for case in cases::cases() {
        let line = serde_json::json!({ "name": case.name, "aggregate": STANDARD.encode(case.aggregate()) });
        println!("{line}");
    }
}
