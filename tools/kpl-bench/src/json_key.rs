//! The partition key of a JSON line: the value of one top-level field, a string or a number.
//!
//! The rest of the line is skipped over, not built. A number is taken as it is written, so that `1.0` and `1` are two
//! keys. Of a field that stands twice the last counts, as JSON parsers have it.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Writes the key of `line` into `key`.
///
/// # Errors
/// Why the line has no key: it is no JSON object, the field is missing, or its value is of another kind.
pub fn extract(line: &[u8], field: &str, key: &mut String) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let raw = Field(field).deserialize(&mut json).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    let raw = raw.ok_or_else(|| format!("field {field:?} is missing"))?.get();
    key.clear();
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text: std::borrow::Cow<'_, str> =
                serde_json::from_str(raw).map_err(|error| format!("field {field:?}: {error}"))?;
            key.push_str(&text);
        }
        Some(b'-' | b'0'..=b'9') => key.push_str(raw),
        _ => {
            let shown: String = raw.chars().take(40).collect();
            return Err(format!("field {field:?} is {shown}, but must be a string or a number"));
        }
    }
    Ok(())
}

struct Field<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(matches) = map.next_key_seed(Matches(self.0)).map_err(A::Error::custom)? {
            if matches {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a name is the one that is looked for; it is compared where it stands, not copied.
struct Matches<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for Matches<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Matches<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(line: &str) -> Result<String, String> {
        let mut key = "left over".to_owned();
        extract(line.as_bytes(), "user", &mut key).map(|()| key)
    }

    #[test]
    fn strings_are_unescaped_and_numbers_are_verbatim() {
        assert_eq!(key(r#"{"user":"ann"}"#).unwrap(), "ann");
        assert_eq!(key(r#" {"a":[1,{"user":2}],"user":"\u00e9\n\ud83d\ude00","z":null} "#).unwrap(), "é\n😀");
        assert_eq!(key("{\"user\":\"Zoë 日本\"}\r").unwrap(), "Zoë 日本");
        assert_eq!(key(r#"{"user": -1.50e3 }"#).unwrap(), "-1.50e3");
        assert_eq!(key(r#"{"user":123456789012345678901234567890}"#).unwrap(), "123456789012345678901234567890");
        assert_eq!(key(r#"{"user":"first","user":"last"}"#).unwrap(), "last");
        assert_eq!(key(r#"{"us\u0065r":"escaped name"}"#).unwrap(), "escaped name");
        assert_eq!(key(r#"{"user":""}"#).unwrap(), "");
    }

    #[test]
    fn a_line_without_a_key_says_why() {
        for (line, part) in [
            (r#"{"name":"ann"}"#, "field \"user\" is missing"),
            (r#"{"nested":{"user":"ann"}}"#, "field \"user\" is missing"),
            (r#"{"user":null}"#, "is null, but must be a string or a number"),
            (r#"{"user":true}"#, "is true, but must be"),
            (r#"{"user":["ann"]}"#, "is [\"ann\"], but must be"),
            (r#"["user"]"#, "a JSON object"),
            ("", "EOF"),
            (r#"{"user":"ann""#, "EOF"),
            (r#"{"user":"ann"} x"#, "trailing characters"),
            (r#"{"user":"\ud800"}"#, "field \"user\": "),
        ] {
            let error = key(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        let mut key = String::new();
        assert!(extract(b"{\"user\":\"\xFF\"}", "user", &mut key).unwrap_err().contains("unicode"), "bad UTF-8");
    }
}
