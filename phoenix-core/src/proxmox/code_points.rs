//! Bytes as code points of equal value, which is how the API carries what a guest's agent handles.
//!
//! The server decodes the agent's base64 and prints every byte as the code point of equal value;
//! `input-data` goes the other way. Read as text this would be mojibake; mapped back it is exact.

/// A text holds a code point above U+00FF: it is not what the server makes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the code point U+{:04X} stands for no byte", *.0 as u32)]
pub struct NotABytePoint(pub char);

/// The bytes that the code points of `text` stand for.
pub(super) fn to_bytes(text: &str) -> Result<Vec<u8>, NotABytePoint> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).map_err(|_| NotABytePoint(c)))
        .collect()
}

/// `bytes` as a text whose code points have their values.
pub(super) fn from_bytes(bytes: &[u8]) -> String {
    // Reserved at once, so that no copy of a secret is left behind by growing.
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().map(|byte| char::from(*byte)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(to_bytes(&from_bytes(&all)), Ok(all));
    }

    proptest! {
        #[test]
        fn bytes_survive_also_through_json(bytes: Vec<u8>) {
            let json = serde_json::to_string(&from_bytes(&bytes)).expect("json");
            let text: String = serde_json::from_str(&json).expect("text");
            prop_assert_eq!(to_bytes(&text), Ok(bytes));
        }

        #[test]
        fn a_code_point_above_ff_is_refused(before: Vec<u8>, c in proptest::char::range('\u{100}', char::MAX)) {
            let mut text = from_bytes(&before);
            text.push(c);
            prop_assert_eq!(to_bytes(&text), Err(NotABytePoint(c)));
        }
    }
}
