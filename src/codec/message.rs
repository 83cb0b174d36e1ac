//! The words of a service or a proxy, made fit to be kept: short, and without what they repeat of our secrets.
//!
//! The service answers a signature that it does not take with the whole of what it would have signed, session token
//! included; an incomplete one with the `Authorization` header. Both would come to lie in outcomes and logs. So the
//! value of `x-amz-security-token` and that of `Signature` are masked, wherever they stand and before anything is cut:
//! half a token is still half a token.
//!
//! It knows them by the names before them. A proxy that repeats a token without its name is not found out.

use std::borrow::Cow;

/// Characters of a message that are kept, since every attempt of every record may hold one.
const MESSAGE_CHARS_MAX: usize = 1024;
/// Bytes of a message that are looked at: enough for those characters behind a long token, and little work.
const MESSAGE_BYTES_READ: usize = 8 * 1024;
/// What stands in the place of a secret.
const MASK: &str = "***";
/// The names before secrets, in lower case.
const NAMES: [&str; 2] = ["x-amz-security-token", "signature"];

/// The beginning of a message, with its secrets masked.
pub fn kept_message(message: &str) -> Cow<'_, str> {
    // A secret that begins before this end is masked up to it.
    match masked(&message[..message.floor_char_boundary(MESSAGE_BYTES_READ)]) {
        Cow::Borrowed(message) => Cow::Borrowed(cut(message)),
        Cow::Owned(message) => Cow::Owned(cut(&message).to_owned()),
    }
}

fn cut(message: &str) -> &str {
    message.char_indices().nth(MESSAGE_CHARS_MAX).map_or(message, |(end, _)| &message[..end])
}

/// A text with the values of [`NAMES`] masked. It takes time by the square of the text, which is to be short.
pub(super) fn masked(text: &str) -> Cow<'_, str> {
    let lower = text.to_ascii_lowercase(); // as long as the text, byte for byte
    let mut kept = String::new();
    let mut from = 0;
    while let Some(name_end) = NAMES.iter().filter_map(|name| Some(from + lower[from..].find(name)? + name.len())).min()
    {
        let rest = &text[name_end..];
        let value_at = rest.len() - rest.trim_start_matches([':', '=', ' ', '"', '\'', '\\']).len();
        let value = &rest[value_at..];
        let value_len = value.find(|c: char| !is_of_a_secret(c)).unwrap_or(value.len());
        let assigned = rest[..value_at].contains([':', '=']);
        kept.push_str(&text[from..name_end + value_at]);
        if assigned && value_len > 0 {
            kept.push_str(MASK);
            from = name_end + value_at + value_len;
        } else {
            from = name_end + value_at;
        }
    }
    if kept.is_empty() {
        return Cow::Borrowed(text);
    }
    kept.push_str(&text[from..]);
    Cow::Owned(kept)
}

/// Base64, its variant for URLs, hexadecimal, and percent signs.
fn is_of_a_secret(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_' | '.' | '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_repeats_of_a_request_is_masked() {
        let canonical =
            "should have been\n'POST\n/\n\nhost:h\nx-amz-security-token:FwoG/ab+c==\n\nhost;x-amz-security-token\n2f'";
        let expected =
            "should have been\n'POST\n/\n\nhost:h\nx-amz-security-token:***\n\nhost;x-amz-security-token\n2f'";
        assert_eq!(kept_message(canonical), expected);
        let header = "Authorization=AWS4-HMAC-SHA256 Credential=AKID/20260731, SignedHeaders=host, Signature=0a1b2c";
        assert!(kept_message(header).ends_with("Credential=AKID/20260731, SignedHeaders=host, Signature=***"));
        let page = "<pre>X-Amz-Security-Token: FwoG/ab</pre> {\"x-amz-security-token\": \"FwoG\"}";
        assert_eq!(kept_message(page), "<pre>X-Amz-Security-Token: ***</pre> {\"x-amz-security-token\": \"***\"}");
    }

    #[test]
    fn a_token_is_masked_before_the_message_is_cut() {
        let long = format!("{}x-amz-security-token:{}", "é".repeat(MESSAGE_CHARS_MAX - 30), "t0ken".repeat(1000));
        let kept = kept_message(&long);
        assert!(kept.ends_with("x-amz-security-token:***"), "{kept}");
    }

    #[test]
    fn other_messages_are_left_as_they_are() {
        for text in ["", "Rate exceeded for shard.", "The request signature we calculated does not match", "signature"]
        {
            assert_eq!(kept_message(text), text);
        }
        assert_eq!(kept_message(&"ü".repeat(5000)).chars().count(), MESSAGE_CHARS_MAX);
    }
}
