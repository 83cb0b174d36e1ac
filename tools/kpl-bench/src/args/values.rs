//! The values of options, from text, with what they must be if they are not.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use endpoint::Profile;
use kpl::config::{IdleStrategy, Pinning, RateLimit, RuntimeChoice, WireFormat};
use kpl::limits;
use lexopt::ValueExt;

use super::{ArgsError, DURATION_MAX, Input, ProxyUrl};

pub fn refuse<T>(option: &str, value: &str, bound: impl fmt::Display) -> Result<T, ArgsError> {
    Err(ArgsError(format!("{option} is {value:?}, but must be {bound}")))
}

/// A whole number, in which `_` may group digits.
pub fn number<T>(option: &str, parser: &mut lexopt::Parser, min: T, max: T) -> Result<T, ArgsError>
where
    T: FromStr + PartialOrd + fmt::Display + Copy,
{
    let text = parser.value()?.string()?;
    let bound = format_args!("a whole number from {min} to {max}");
    number_in(&text, min, max).map_or_else(|| refuse(option, &text, bound), Ok)
}

/// The same of a text, if it is one.
pub fn number_in<T: FromStr + PartialOrd>(text: &str, min: T, max: T) -> Option<T> {
    text.replace('_', "").parse().ok().filter(|value| *value >= min && *value <= max)
}

pub fn rate_limit(text: &str) -> Result<RateLimit, ArgsError> {
    if text == "off" {
        return Ok(RateLimit::Off);
    }
    match text.parse::<u32>() {
        Ok(percent @ 1..=limits::RATE_LIMIT_MAX) => Ok(RateLimit::Percent(percent)),
        _ => refuse("--rate-limit", text, format_args!("a percentage from 1 to {}, or off", limits::RATE_LIMIT_MAX)),
    }
}

pub fn runtime(text: &str) -> Result<RuntimeChoice, ArgsError> {
    match text {
        "auto" => Ok(RuntimeChoice::Auto),
        "glommio" => Ok(RuntimeChoice::Glommio),
        "tokio" => Ok(RuntimeChoice::Tokio),
        _ => refuse("--runtime", text, "auto, glommio or tokio"),
    }
}

pub fn pinning(text: &str) -> Result<Pinning, ArgsError> {
    match text {
        "auto" => Ok(Pinning::Auto),
        "on" => Ok(Pinning::On),
        "off" => Ok(Pinning::Off),
        _ => refuse("--pin", text, "auto, on or off"),
    }
}

pub fn faults(text: &str) -> Result<Profile, ArgsError> {
    Profile::parse(text).map_or_else(|| refuse("--faults", text, "calm, storm, outage, throttle or reshard"), Ok)
}

pub fn wire(text: &str) -> Result<WireFormat, ArgsError> {
    match text {
        "auto" => Ok(WireFormat::Auto),
        "cbor" => Ok(WireFormat::Cbor),
        "json" => Ok(WireFormat::Json),
        _ => refuse("--wire", text, "auto, cbor or json"),
    }
}

pub fn idle(text: &str) -> Result<IdleStrategy, ArgsError> {
    let range = limits::SPIN_MIN..=limits::SPIN_MAX;
    match (text, text.strip_prefix("spin:").and_then(time)) {
        ("park", _) => Ok(IdleStrategy::Park),
        ("spin", _) => Ok(IdleStrategy::Spin),
        (_, Some(time)) if range.contains(&time) => Ok(IdleStrategy::SpinThenPark(time)),
        _ => refuse("--idle", text, "park, spin, or spin: and a whole number of us, ms or s, from 1us to 1s"),
    }
}

pub fn duration(text: &str) -> Result<Duration, ArgsError> {
    match time(text) {
        Some(duration) if !text.ends_with("us") && !duration.is_zero() && duration <= DURATION_MAX => Ok(duration),
        _ => refuse("--duration", text, "a whole number of ms, s, m or h, from 1ms to 24h"),
    }
}

/// A whole number with its unit; of seconds, if it has none.
pub fn time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_us = match &text[digits.len()..] {
        "us" => 1,
        "ms" => 1000,
        "" | "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit_us).map(Duration::from_micros)
}

pub fn url(text: &str) -> Result<String, ArgsError> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(text.to_owned()),
        _ => refuse("--endpoint", text, "http://HOST[:PORT] or https://HOST[:PORT]"),
    }
}

pub fn proxy(text: String) -> Result<ProxyUrl, ArgsError> {
    if text.strip_prefix("http://").is_some_and(|host| !host.is_empty()) {
        return Ok(ProxyUrl(text));
    }
    // What stands before it may be a password.
    let host = text.rsplit('@').next().unwrap_or_default();
    refuse("--proxy", host, "http://[USER:PASSWORD@]HOST[:PORT]")
}

pub fn stream(text: String) -> Result<String, ArgsError> {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if text.is_empty() || text.len() > limits::STREAM_NAME_MAX || !text.bytes().all(of_a_name) {
        let bound = format!("1 to {} of a-z, A-Z, 0-9, _, . and -", limits::STREAM_NAME_MAX);
        return refuse("--stream", &text, bound);
    }
    Ok(text)
}

pub fn input(value: OsString) -> Input {
    if value == "-" { Input::Stdin } else { Input::File(value.into()) }
}
