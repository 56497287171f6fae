//! Parameters as Perl sees them, and their verification, with the texts of `PVE::JSONSchema`.

use serde_json::{Map, Value};

use super::answer::ApiError;

/// Parameters of a request by name. Forms give strings, and arrays for repeated keys.
pub(super) type Parameters = Map<String, Value>;

/// What one parameter may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text { minimum: usize, maximum: usize },
    Integer { minimum: i64, maximum: i64 },
    Boolean,
    Choice(&'static [&'static str]),
    TextArray,
}

/// Any text.
pub(super) const TEXT: Kind = Kind::Text {
    minimum: 0,
    maximum: usize::MAX,
};
/// Any whole number.
pub(super) const INTEGER: Kind = Kind::Integer {
    minimum: i64::MIN,
    maximum: i64::MAX,
};
/// Zero or more.
pub(super) const NATURAL: Kind = Kind::Integer {
    minimum: 0,
    maximum: i64::MAX,
};

/// One declared parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) optional: bool,
}

/// A parameter that must be there.
pub(super) const fn required(name: &'static str, kind: Kind) -> Property {
    Property {
        name,
        kind,
        optional: false,
    }
}

/// A parameter that may be absent.
pub(super) const fn optional(name: &'static str, kind: Kind) -> Property {
    Property {
        name,
        kind,
        optional: true,
    }
}

/// Splits a form or query. Splits on `&` *and* `;`, keeps only what precedes a second `=`.
pub(super) fn decode_form(form: &[u8]) -> Parameters {
    let mut parameters = Parameters::new();
    for pair in form
        .split(|byte| matches!(byte, b'&' | b';'))
        .filter(|pair| !pair.is_empty())
    {
        let mut parts = pair.split(|byte| *byte == b'=');
        let key = unescape(parts.next().unwrap_or_default(), true);
        let Some(value) = parts.next() else {
            parameters.insert(key, Value::Null);
            continue;
        };
        let value = Value::String(unescape(value, true));
        let merged = match parameters.remove(&key) {
            Some(Value::Array(mut list)) => {
                list.push(value);
                Value::Array(list)
            }
            Some(old @ Value::String(_)) => Value::Array(vec![old, value]),
            _ => value,
        };
        parameters.insert(key, merged);
    }
    parameters
}

/// Percent-decoding; invalid UTF-8 becomes U+FFFD.
pub(super) fn unescape(text: &[u8], plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = (first == b'%').then(|| tail.get(..2)).flatten();
        match digits.and_then(|digits| hex::decode(digits).ok()) {
            Some(decoded) => {
                bytes.extend(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if first == b'+' && plus_is_space {
                    b' '
                } else {
                    first
                });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A scalar as the text Perl would make of it.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Verifies `given` against the declared properties, wrapping lone scalars into arrays first.
pub(super) fn verify(given: &mut Parameters, properties: &[Property]) -> Result<(), ApiError> {
    let mut errors = Map::new();
    for property in properties {
        let value = match given.get_mut(property.name) {
            None | Some(Value::Null) => {
                if !property.optional {
                    complain(
                        &mut errors,
                        property.name,
                        "property is missing and it is not optional",
                    );
                }
                continue;
            }
            Some(value) => value,
        };
        if matches!(property.kind, Kind::TextArray) {
            wrap_scalar(value);
        }
        verify_value(property.name, property.kind, value, &mut errors);
    }
    for name in given.keys() {
        if !properties.iter().any(|property| property.name == name) {
            complain(
                &mut errors,
                name,
                "property is not defined in schema and the schema does not allow additional \
                 properties",
            );
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::parameters(errors))
    }
}

/// The deprecated kindness to forms; what Perl holds for false is not wrapped.
fn wrap_scalar(value: &mut Value) {
    if scalar_text(value).is_some_and(|text| !text.is_empty() && text != "0") {
        *value = Value::Array(vec![value.take()]);
    }
}

fn complain(errors: &mut Map<String, Value>, name: &str, text: impl Into<String>) {
    errors.insert(name.to_owned(), Value::String(text.into()));
}

fn verify_value(path: &str, kind: Kind, value: &Value, errors: &mut Map<String, Value>) {
    if let Kind::TextArray = kind {
        let Value::Array(items) = value else {
            return complain(errors, path, "type check ('array') failed");
        };
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if item.is_null() {
                complain(errors, &path, "property is missing and it is not optional");
            } else {
                verify_value(&path, TEXT, item, errors);
            }
        }
        return;
    }
    let type_name = match kind {
        Kind::Integer { .. } => "integer",
        Kind::Boolean => "boolean",
        _ => "string",
    };
    let reference = match value {
        Value::Bool(_) if matches!(kind, Kind::Boolean) => return,
        Value::Bool(_) => Some("JSON::PP::Boolean"),
        Value::Array(_) => Some("ARRAY"),
        Value::Object(_) => Some("HASH"),
        _ => None,
    };
    if let Some(reference) = reference {
        let text = format!("type check ('{type_name}') failed - got {reference}");
        return complain(errors, path, text);
    }
    let text = scalar_text(value).unwrap_or_default();
    let refused = || format!("type check ('{type_name}') failed - got '{text}'");
    match kind {
        Kind::Boolean if text != "0" && text != "1" => complain(errors, path, refused()),
        Kind::Integer { minimum, maximum } => match text.parse::<i64>() {
            Err(_) => complain(errors, path, refused()),
            Ok(number) if number > maximum => {
                complain(
                    errors,
                    path,
                    format!("value must have a maximum value of {maximum}"),
                );
            }
            Ok(number) if number < minimum => {
                complain(
                    errors,
                    path,
                    format!("value must have a minimum value of {minimum}"),
                );
            }
            Ok(_) => {}
        },
        Kind::Text { minimum, maximum } => {
            let length = text.chars().count();
            if length > maximum {
                complain(
                    errors,
                    path,
                    format!("value may only be {maximum} characters long"),
                );
            } else if length < minimum {
                complain(
                    errors,
                    path,
                    format!("value must be at least {minimum} characters long"),
                );
            }
        }
        Kind::Choice(choices) if !choices.contains(&text.as_str()) => {
            let text = format!(
                "value '{text}' does not have a value in the enumeration '{}'",
                choices.join(", ")
            );
            complain(errors, path, text);
        }
        _ => {}
    }
}

/// A verified text parameter.
pub(super) fn text(parameters: &Parameters, name: &str) -> Option<String> {
    parameters.get(name).and_then(scalar_text)
}

/// A verified whole number.
pub(super) fn integer(parameters: &Parameters, name: &str) -> Option<i64> {
    text(parameters, name).and_then(|text| text.parse().ok())
}

/// A verified boolean.
pub(super) fn boolean(parameters: &Parameters, name: &str) -> Option<bool> {
    match parameters.get(name) {
        Some(Value::Bool(value)) => Some(*value),
        Some(other) => scalar_text(other).map(|text| text == "1"),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn complaints(given: Value, properties: &[Property]) -> Value {
        let Value::Object(mut given) = given else {
            panic!("not an object")
        };
        match verify(&mut given, properties) {
            Ok(()) => Value::Null,
            Err(error) => Value::Object(error.errors.expect("errors")),
        }
    }

    #[test]
    fn forms_split_on_semicolons_and_second_equals_signs() {
        let form =
            decode_form(b"content=a=b=c;x=1&command=sh&command=&command=-c&empty=&flag&p=a+b%3B");
        assert_eq!(
            Value::Object(form),
            json!({"content": "a", "x": "1", "command": ["sh", "", "-c"], "empty": "",
                   "flag": null, "p": "a b;"})
        );
    }

    #[test]
    fn texts_of_refusals() {
        let properties = [
            required("command", Kind::TextArray),
            optional("flag", Kind::Boolean),
            optional(
                "size",
                Kind::Integer {
                    minimum: 1,
                    maximum: 9,
                },
            ),
            optional(
                "input",
                Kind::Text {
                    minimum: 0,
                    maximum: 3,
                },
            ),
        ];
        assert_eq!(
            complaints(json!({"size": "x", "more": 1, "flag": "true"}), &properties),
            json!({
                "command": "property is missing and it is not optional",
                "flag": "type check ('boolean') failed - got 'true'",
                "size": "type check ('integer') failed - got 'x'",
                "more": "property is not defined in schema and the schema does not allow \
                         additional properties",
            })
        );
        assert_eq!(
            complaints(
                json!({"command": ["a", true], "size": 10, "input": "ääää"}),
                &properties
            ),
            json!({
                "command[1]": "type check ('string') failed - got JSON::PP::Boolean",
                "size": "value must have a maximum value of 9",
                "input": "value may only be 3 characters long",
            })
        );
        assert_eq!(
            complaints(json!({"command": "0"}), &properties),
            json!({"command": "type check ('array') failed"})
        );
        assert_eq!(
            complaints(json!({"command": "ls -l", "flag": true}), &properties),
            Value::Null
        );
    }

    proptest! {
        #[test]
        fn encoded_forms_come_back(key in "[a-z]{1,8}", value in "\\PC{0,40}") {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair(&key, &value)
                .finish();
            let decoded = decode_form(form.as_bytes());
            prop_assert_eq!(decoded.get(&key), Some(&Value::String(value)));
        }

        #[test]
        fn any_bytes_decode(form in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode_form(&form);
        }
    }
}
