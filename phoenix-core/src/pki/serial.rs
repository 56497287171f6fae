//! Serial numbers of certificates, as people write them.

use std::fmt;
use std::str::FromStr;

/// The most octets that a serial number may have (RFC 5280 section 4.1.2.2).
const LONGEST: usize = 20;

/// The serial number of a certificate: positive, of 20 octets at most. Shown, and compared, as
/// lower-case hexadecimal digits without leading zero octets.
///
/// Parsed from what programs print: hexadecimal digits of either case, with colons or spaces
/// between them and `0x` before them, or without.
///
/// ```
/// use phoenix_core::pki::Serial;
///
/// let serial: Serial = "0x4A:0B:c1".parse().expect("a serial number");
/// assert_eq!(serial.to_string(), "4a0bc1");
/// ```
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

/// A text is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SerialError {
    /// Something else than a digit is in it, or no digit at all.
    #[error("`{text}` is no serial number: hexadecimal digits are expected, such as 4a:0b:c1")]
    NotHexadecimal {
        /// What was parsed.
        text: String,
    },
    /// It is longer than a serial number may be.
    #[error("`{text}` is no serial number: it has more than 20 octets")]
    TooLong {
        /// What was parsed.
        text: String,
    },
    /// It is zero.
    #[error("a serial number is not zero")]
    Zero,
}

impl Serial {
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its octets, without leading zeros.
    pub(super) fn octets(&self) -> Vec<u8> {
        // The digits were checked when it was made.
        hex::decode(&self.0).unwrap_or_default()
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let refused = || SerialError::NotHexadecimal {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let digits = trimmed
            .strip_prefix("0x")
            .or_else(|| trimmed.strip_prefix("0X"))
            .unwrap_or(trimmed);
        let mut digits: String = digits
            .chars()
            .filter(|digit| !matches!(digit, ':' | ' '))
            .map(|digit| digit.to_ascii_lowercase())
            .collect();
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(refused());
        }
        if !digits.len().is_multiple_of(2) {
            digits.insert(0, '0');
        }
        while let Some(rest) = digits.strip_prefix("00") {
            digits = rest.to_owned();
        }
        match digits.len() / 2 {
            0 => Err(SerialError::Zero),
            octets if octets > LONGEST => Err(SerialError::TooLong {
                text: text.to_owned(),
            }),
            _ => Ok(Self(digits)),
        }
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialError;

    fn try_from(text: String) -> Result<Self, SerialError> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_serial_number_is_refused() {
        for text in ["", "  ", "0x", ":", "4g", "0x4a-b", "４", "12 0x34"] {
            assert_eq!(
                text.parse::<Serial>(),
                Err(SerialError::NotHexadecimal { text: text.into() })
            );
        }
        assert_eq!("0x00:00".parse::<Serial>(), Err(SerialError::Zero));
        let long = "4a".repeat(21);
        assert_eq!(
            long.parse::<Serial>(),
            Err(SerialError::TooLong { text: long })
        );
        assert!(format!("00{}", "ff".repeat(20)).parse::<Serial>().is_ok());
    }

    proptest! {
        #[test]
        fn however_it_is_written_it_is_the_same(
            octets in prop::collection::vec(any::<u8>(), 0..19),
            first in 1_u8..,
            upper: bool,
            prefix: bool,
            zero: bool,
            separator in prop::sample::select(vec!["", ":", " "]),
        ) {
            let octets = [&[first][..], &octets].concat();
            let mut words: Vec<String> =
                octets.iter().map(|octet| format!("{octet:02x}")).collect();
            if zero {
                words.insert(0, "00".into());
            }
            let mut text = words.join(separator);
            if upper {
                text.make_ascii_uppercase();
            }
            if prefix {
                text.insert_str(0, "0x");
            }
            let serial: Serial = text.parse().expect("a serial number");
            prop_assert_eq!(serial.as_str(), hex::encode(&octets));
            prop_assert_eq!(serial.octets(), octets);
        }

        #[test]
        fn no_text_breaks_the_parser(text in "\\PC*") {
            let _ = text.parse::<Serial>();
        }
    }
}
