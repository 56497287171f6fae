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

/// Parses a number of processors (`0.5`, `5e-1` or `1/2`) into billionths.
pub(super) fn nano_cpus(text: &str) -> Result<i64, QuantityError> {
    const BILLION: u128 = 1_000_000_000;
    let text = text.strip_prefix('+').unwrap_or(text);
    let (number, divisor) = match text.split_once('/') {
        Some((dividend, divisor)) => {
            let dividend = digits(dividend)?.checked_mul(BILLION);
            (dividend, digits(divisor)?)
        }
        None => {
            let (number, exponent) = match text.split_once(['e', 'E']) {
                Some((number, exponent)) => {
                    let exponent: i32 =
                        exponent.parse().map_err(|_| QuantityError::NoProcessors)?;
                    (number, exponent)
                }
                None => (text, 0),
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            let fraction = fraction.trim_end_matches('0');
            let all = digits(&format!("{whole}{fraction}")).or(
                if number.len() > 1 && whole.is_empty() && fraction.is_empty() {
                    // `.0`, whose zeros were taken off.
                    Ok(0)
                } else {
                    Err(QuantityError::NoProcessors)
                },
            )?;
            let power = i64::from(exponent) + 9 - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
            let ten = |power: i64| {
                u32::try_from(power)
                    .ok()
                    .and_then(|power| 10_u128.checked_pow(power))
            };
            match power {
                0.. => (ten(power).and_then(|ten| all.checked_mul(ten)), 1),
                _ => (Some(all), ten(-power).ok_or(QuantityError::TooPrecise)?),
            }
        }
    };
    if divisor == 0 {
        return Err(QuantityError::NoProcessors);
    }
    let number = number.ok_or(QuantityError::TooLarge)?;
    if number % divisor > 0 {
        return Err(QuantityError::TooPrecise);
    }
    i64::try_from(number / divisor).map_err(|_| QuantityError::TooLarge)
}

/// A number of decimal digits.
fn digits(text: &str) -> Result<u128, QuantityError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::NoProcessors);
    }
    text.parse().map_err(|_| QuantityError::TooLarge)
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
            (".0", 0),
            ("1e1", 10_000_000_000),
            ("5E-1", 500_000_000),
            ("+.5", 500_000_000),
            ("1/4", 250_000_000),
        ] {
            assert_eq!(nano_cpus(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", QuantityError::NoProcessors),
            (".", QuantityError::NoProcessors),
            ("-1", QuantityError::NoProcessors),
            ("1e", QuantityError::NoProcessors),
            ("1/0", QuantityError::NoProcessors),
            ("1/", QuantityError::NoProcessors),
            ("1/3", QuantityError::TooPrecise),
            ("0.0000000001", QuantityError::TooPrecise),
            ("1e-10", QuantityError::TooPrecise),
            ("1e-99999", QuantityError::TooPrecise),
            ("1e99999", QuantityError::TooLarge),
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
