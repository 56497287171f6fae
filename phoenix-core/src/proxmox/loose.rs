//! Readers for values whose JSON type changes between versions of Proxmox VE.
//!
//! Perl prints a scalar as a string once it was used as one, booleans are 0 and 1 but also `"0"`,
//! `"1"`, `true` and `false`, and large numbers come as floats.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};

struct IntegerVisitor;

impl Visitor<'_> for IntegerVisitor {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, also as a float or in a string")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(i64::from(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        i64::try_from(value)
            .map(Some)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        // Beyond 2^53 a float does not name one integer.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            #[allow(clippy::cast_possible_truncation)]
            return Ok(Some(value as i64));
        }
        Err(E::invalid_value(de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        if let Ok(integer) = value.trim().parse::<i64>() {
            return Ok(Some(integer));
        }
        match value.trim().parse::<f64>() {
            Ok(float) => self.visit_f64(float),
            Err(_) => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An integer that may be absent or `null`.
pub(super) fn optional_integer<'de, D: Deserializer<'de>>(d: D) -> Result<Option<i64>, D::Error> {
    d.deserialize_any(IntegerVisitor)
}

/// An integer that must be there.
pub(super) fn integer<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    optional_integer(d)?.ok_or_else(|| de::Error::custom("an integer is missing"))
}

/// A truth value that counts as false when absent or `null`.
pub(super) fn boolean<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    struct BooleanVisitor;

    impl Visitor<'_> for BooleanVisitor {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("0, 1, true or false")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<bool, E> {
            match value {
                "true" => Ok(true),
                "false" | "" => Ok(false),
                other => match other.parse() {
                    Ok(integer) => self.visit_i64(integer),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                },
            }
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<bool, E> {
            match value {
                0 => Ok(false),
                1 => Ok(true),
                other => Err(E::invalid_value(de::Unexpected::Signed(other), &self)),
            }
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
            self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<bool, E> {
            if value == 0.0 || value == 1.0 {
                return Ok(value == 1.0);
            }
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }

        fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
            Ok(false)
        }
    }

    d.deserialize_any(BooleanVisitor)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Row {
        #[serde(deserialize_with = "super::integer")]
        number: i64,
        #[serde(default, deserialize_with = "super::boolean")]
        flag: bool,
    }

    fn read(number: &str, flag: &str) -> Result<(i64, bool), serde_json::Error> {
        let row: Row = serde_json::from_str(&format!("{{\"number\":{number}{flag}}}"))?;
        Ok((row.number, row.flag))
    }

    #[test]
    fn the_forms_that_perl_prints_are_read() {
        for number in ["7", "7.0", "\"7\"", "\"7.0\"", "\" 7\""] {
            assert_eq!(read(number, "").expect(number), (7, false));
        }
        assert_eq!(
            read("1e+15", "").expect("float").0,
            1_000_000_000_000_000_i64
        );
        for flag in ["1", "\"1\"", "true", "1.0", "\"true\""] {
            assert!(read("0", &format!(",\"flag\":{flag}")).expect(flag).1);
        }
        for flag in ["0", "\"0\"", "false", "null", "\"\""] {
            assert!(!read("0", &format!(",\"flag\":{flag}")).expect(flag).1);
        }
    }

    #[test]
    fn what_is_no_number_or_truth_value_is_refused() {
        for number in ["7.5", "\"seven\"", "null", "[]", "1e300"] {
            assert!(read(number, "").is_err(), "{number}");
        }
        for flag in ["2", "\"yes\"", "[]"] {
            assert!(read("0", &format!(",\"flag\":{flag}")).is_err(), "{flag}");
        }
    }
}
