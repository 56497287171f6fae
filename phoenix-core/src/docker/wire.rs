//! Shapes that recur in the engine's JSON.
//!
//! The engine leaves out what is empty and writes `null` for empty lists and maps, so both are
//! read as the default.

use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads `null` as the default.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a time; `None` when it is missing or none.
pub(super) fn instant<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OffsetDateTime>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok()))
}

/// The version of an object, which every write of it must name.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ObjectVersion {
    #[serde(default)]
    pub(super) index: u64,
}

/// The answer to a creation.
#[derive(Debug, Deserialize)]
pub(super) struct Created {
    #[serde(rename = "ID", alias = "Id")]
    pub(super) id: String,
    #[serde(rename = "Warning", default, deserialize_with = "nullable")]
    pub(super) warning: String,
    #[serde(rename = "Warnings", default, deserialize_with = "nullable")]
    pub(super) warnings: Vec<String>,
}

impl Created {
    pub(super) fn warnings(self) -> (String, Vec<String>) {
        let mut warnings = self.warnings;
        if !self.warning.is_empty() {
            warnings.push(self.warning);
        }
        (self.id, warnings)
    }
}

/// A list filter as the engine takes it: `{"key":{"value":true}}`.
pub(super) fn filters<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut map = serde_json::Map::new();
    for (key, value) in pairs {
        let entry = map
            .entry(key)
            .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
        if let serde_json::Value::Object(values) = entry {
            values.insert(value, serde_json::Value::Bool(true));
        }
    }
    serde_json::Value::Object(map).to_string()
}

/// A label filter's value: `key`, or `key=value`.
pub(super) fn label_filter(key: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{key}={value}"),
        None => key.to_owned(),
    }
}

/// Whether something with these labels has all that are wanted. The engine takes a filter with an empty value for one without
/// a value, so what it lists is not believed.
pub(super) fn is_labelled<'l>(
    label: impl Fn(&str) -> Option<&'l str>,
    wanted: &[(&str, Option<&str>)],
) -> bool {
    wanted.iter().all(|(key, value)| {
        label(key).is_some_and(|found| value.is_none_or(|value| value == found))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_key_are_gathered() {
        assert_eq!(
            filters([
                ("service", "a".to_owned()),
                ("service", "b".to_owned()),
                ("_up-to-date", "true".to_owned())
            ]),
            r#"{"service":{"a":true,"b":true},"_up-to-date":{"true":true}}"#
        );
    }
}
