//! Amounts of memory (`512M`, powers of 1024) and of processor time (`0.5`).
//!
//! Invariant: what parses fits the engine's signed 64-bit bytes and billionths of a processor.

/// What is wrong with an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuantityError {
    #[error("no amount of memory; one is written like `512M` or `1.5G`")]
    NoBytes,
    #[error("the unit is not one of `b`, `k`, `m`, `g`, `t`, `p`")]
    UnknownUnit,
    #[error("no number of processors; one is written like `0.5` or `2`")]
    NoProcessors,
    #[error("more precise than a billionth of a processor")]
    TooPrecise,
    #[error("the amount is too large")]
    TooLarge,
}

/// Parses an amount of memory into bytes.
pub(super) fn bytes(text: &str) -> Result<i64, QuantityError> {
    let split = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or(QuantityError::NoBytes)?;
    let (number, unit) = text.split_at(split + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if number.is_empty() || !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(QuantityError::NoBytes);
    }
    let number: f64 = number.parse().map_err(|_| QuantityError::NoBytes)?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.as_bytes() {
        [] | [b'b'] => 0,
        [letter] | [letter, b'b'] | [letter, b'i', b'b'] => match letter {
            b'k' => 1,
            b'm' => 2,
            b'g' => 3,
            b't' => 4,
            b'p' => 5,
            _ => return Err(QuantityError::UnknownUnit),
        },
        _ => return Err(QuantityError::UnknownUnit),
    };
    let bytes = number * 1024_f64.powi(power);
    // 2^63; every smaller float converts exactly.
    if bytes >= 9_223_372_036_854_775_808.0 {
        return Err(QuantityError::TooLarge);
    }
    #[allow(clippy::cast_possible_truncation)]
    Ok(bytes as i64)
}

/// Parses a number of processors into billionths.
pub(super) fn nano_cpus(text: &str) -> Result<i64, QuantityError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(QuantityError::NoProcessors);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err(QuantityError::TooPrecise);
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    format!("{whole}{fraction:0<9}")
        .parse()
        .map_err(|_| QuantityError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_counted_in_powers_of_1024() {
        for (text, expected) in [
            ("0", 0),
            ("100", 100),
            ("100b", 100),
            ("50M", 50 << 20),
            ("50mb", 50 << 20),
            ("50MiB", 50 << 20),
            ("1.5G", 3 << 29),
            ("32 k", 32 << 10),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", QuantityError::NoBytes),
            ("M", QuantityError::NoBytes),
            ("-1M", QuantityError::NoBytes),
            ("1.2.3M", QuantityError::NoBytes),
            ("50X", QuantityError::UnknownUnit),
            ("50Mx", QuantityError::UnknownUnit),
            ("99999999p", QuantityError::TooLarge),
        ] {
            assert_eq!(bytes(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn processors_are_exact() {
        for (text, expected) in [
            ("0.5", 500_000_000),
            ("2", 2_000_000_000),
            (".25", 250_000_000),
            ("1.", 1_000_000_000),
            ("0.000000001", 1),
            ("0.1000000000000", 100_000_000),
        ] {
            assert_eq!(nano_cpus(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", QuantityError::NoProcessors),
            (".", QuantityError::NoProcessors),
            ("-1", QuantityError::NoProcessors),
            ("1e3", QuantityError::NoProcessors),
            ("0.0000000001", QuantityError::TooPrecise),
            ("99999999999", QuantityError::TooLarge),
        ] {
            assert_eq!(nano_cpus(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn billionths_survive(whole in 0_i64..1_000_000, nano in 0_i64..1_000_000_000) {
            prop_assert_eq!(nano_cpus(&format!("{whole}.{nano:09}")), Ok(whole * 1_000_000_000 + nano));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,12}") {
            let _ = bytes(&text);
            let _ = nano_cpus(&text);
        }
    }
}
