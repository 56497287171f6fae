//! Values of compose files, made at random: texts, numbers, times, amounts, and what may stand in
//! their place.

use proptest::prelude::*;

use super::yaml::Yaml;

pub(crate) type Made = BoxedStrategy<Yaml>;

pub(crate) fn plain(text: impl Into<String>) -> Yaml {
    Yaml::Plain(text.into())
}

pub(crate) fn text(text: impl Into<String>) -> Yaml {
    Yaml::Text(text.into())
}

/// One of these plain scalars.
pub(crate) fn plains(words: &'static [&'static str]) -> Made {
    proptest::sample::select(words).prop_map(plain).boxed()
}

/// One of these texts.
pub(crate) fn texts(words: &'static [&'static str]) -> Made {
    proptest::sample::select(words).prop_map(text).boxed()
}

/// One of the first in most cases, of the second in few.
pub(crate) fn mostly(good: Made, bad: Made) -> Made {
    prop_oneof![60 => good, 1 => bad].boxed()
}

/// A map with these keys.
pub(crate) fn all(keys: Vec<(&'static str, Made)>) -> Made {
    let keys: Vec<_> = keys
        .into_iter()
        .map(|(key, value)| value.prop_map(move |value| (key.to_owned(), value)))
        .collect();
    keys.prop_map(Yaml::Map).boxed()
}

/// A map with some of these keys, each with this probability.
pub(crate) fn some(probability: f64, keys: Vec<(&'static str, Made)>) -> Made {
    let keys: Vec<_> = keys
        .into_iter()
        .map(|(key, value)| {
            proptest::option::weighted(probability, value)
                .prop_map(move |value| value.map(|value| (key.to_owned(), value)))
        })
        .collect();
    keys.prop_map(|entries| Yaml::Map(entries.into_iter().flatten().collect()))
        .boxed()
}

/// As [`some`], with keys that are always there before.
pub(crate) fn with(
    required: Vec<(&'static str, Made)>,
    probability: f64,
    keys: Vec<(&'static str, Made)>,
) -> Made {
    (all(required), some(probability, keys))
        .prop_map(|maps| match maps {
            (Yaml::Map(mut first), Yaml::Map(second)) => {
                first.extend(second);
                Yaml::Map(first)
            }
            (first, _) => first,
        })
        .boxed()
}

pub(crate) fn list(item: Made, longest: usize) -> Made {
    proptest::collection::vec(item, 0..=longest)
        .prop_map(Yaml::List)
        .boxed()
}

/// A list in which, mostly, nothing is twice.
pub(crate) fn set(item: Made, longest: usize) -> Made {
    let twice = list(item.clone(), longest);
    let once = proptest::collection::vec(item, 0..=longest).prop_map(|items| {
        let mut kept: Vec<Yaml> = Vec::new();
        for item in items {
            if !kept.contains(&item) {
                kept.push(item);
            }
        }
        Yaml::List(kept)
    });
    mostly(once.boxed(), twice)
}

/// A map from some of these names.
pub(crate) fn map_of(names: &'static [&'static str], value: Made) -> Made {
    some(
        0.4,
        names.iter().map(|name| (*name, value.clone())).collect(),
    )
}

pub(crate) fn word() -> Made {
    "[a-z]{1,6}".prop_map(text).boxed()
}

/// A text of the sorts that are read in odd ways.
pub(crate) fn odd() -> Made {
    prop_oneof![
        3 => word(),
        2 => texts(&[
            "", "a b", " a", "a: b", "#a", "a # b", "$$", "$$V", "{{.Task.Slot}}", "é", "a=b", "=",
            "null", "~", "1.10", "yes", "'", "\"", "\\", "a\nb", "a\tb", "-", "%", "@", "${V}", "$V",
            "x${V}y", "${X}", "${X:-d}", "${X-d}", "${EMPTY:-d}", "${EMPTY-d}", "${V:-d}", "${V:?m}",
            "$V-x", "$$$V", "${X:-a b}", "${X:-a:-b}", "${EMPTY?m}", "${X:-}", "$V$V",
        ]),
        1 => "[ -~]{0,8}".prop_map(|made| text(made.replace('$', "$$"))),
    ]
    .boxed()
}

/// A text in which variables are named rightly or wrongly.
pub(crate) fn woven() -> Made {
    let piece = proptest::sample::select(
        &[
            "$",
            "${",
            "}",
            "$$",
            "V",
            "N",
            "X",
            "EMPTY",
            ":-",
            "-",
            ":?",
            "?",
            ":",
            "+",
            "=",
            " ",
            "x",
            "_",
            "0",
            "{",
            "${V}",
            "$X",
            "${X:-",
            "${EMPTY-",
            "é",
            "{{.Node.ID}}",
            "\\",
            "/",
        ][..],
    );
    proptest::collection::vec(piece, 1..7)
        .prop_map(|pieces| text(pieces.concat()))
        .boxed()
}

/// A plain scalar that may look like a number or a time.
pub(crate) fn odd_scalar() -> Made {
    let made = prop_oneof![
        4 => "[-+.0-9_xXoObBeEa-f]{1,10}",
        1 => "[-+]?[0-9_]{1,22}",
        1 => "[-+]?[0-9_]{1,5}\\.[0-9_]{0,5}([eE][-+]?[0-9]{1,3})?",
        1 => "[-+]?0[xob]?[0-9a-f_]{1,20}",
        2 => "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\\.[0-9]{1,3})?(Z|[-+][0-9]{2}:[0-9]{2})?)?",
        2 => "20[0-9]{2}-1?[1-9]-[12][0-9]([ Tt]1?[0-9]:[0-5]?[0-9]:[0-5][0-9](\\.[0-9]{1,10})?(Z|[-+]0[0-9]:[0-5]0)?)?",
        1 => "[-+.a-zA-Z0-9:,_]{1,6}",
    ];
    // Single dashes begin lists, and colons end keys.
    made.prop_filter("a plain scalar", |text| {
        text != "-" && !text.ends_with(':') && !text.starts_with([',', ':'])
    })
    .prop_map(plain)
    .boxed()
}

/// A scalar as a map of texts may hold it.
pub(crate) fn scalar() -> Made {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-1000..1000_i32).prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        (-1e7..1e7_f64).prop_map(|number| format!("{number:?}")),
        (-1e7..1e7_f64).prop_map(|number| format!("{number:.2}")),
        (0..30_i32).prop_map(|exponent| format!("1e{exponent}")),
    ];
    let good = prop_oneof![
        4 => odd(),
        2 => number.prop_map(plain),
        2 => plains(&[
            "1.10", "0x10", "010", "0o17", "0b11", "1_000", "12:30", "yes", "off", "y", "N", "~",
            "null", "+1", "-0", "0.0", "1.", ".5", "1e3", "1E3", "08", "09.5",
             "2020-02-30",   "1e+06", "0xFFFFFFFFFFFFFFFF", "Null",
            "18446744073709551615", "99999999999999999999",  "a-b", "1a",
            "--", "0o8", "0b2", "-0x10",  "_1", "1e", "4:5:6", "TRUEE", "=",
        ]),
    ];
    mostly(good.boxed(), plains(&["true", "False", "[a]", "{a: b}"]))
}

/// Labels, environment, and the like: a map, or a list of `name=value`.
pub(crate) fn pairs() -> Made {
    const NAMES: &[&str] = &["AA", "B", "com.example.a-b", "d", "V", "EMPTY"];
    let entry = (
        proptest::sample::select(NAMES),
        proptest::option::weighted(0.8, odd()),
    )
        .prop_map(|(name, value)| match value {
            Some(Yaml::Text(value)) => text(format!("{name}={value}")),
            _ => text(name),
        });
    prop_oneof![2 => map_of(NAMES, scalar()), 1 => set(entry.boxed(), 4)].boxed()
}

pub(crate) fn duration() -> Made {
    let good = prop_oneof![
        3 => (1..300_u32, proptest::sample::select(&["s", "m", "h", "ms"][..]))
            .prop_map(|(number, unit)| plain(format!("{number}{unit}"))),
        1 => plains(&[
            "1m30s", "1.5s", "0s", "1h2m3s4ms", "\"0\"", "100us", "100µs", "7ns",  "+5s",
            ".5s", "1.s", "0.000000001s", "1.23456789012s", "2540400h",
        ]),
    ];
    mostly(
        good.boxed(),
        plains(&["10", "1d", "\"10\"", "\"\"", "s", "1 s", "3000000h", "true"]),
    )
}

pub(crate) fn boolean() -> Made {
    let good = plains(&[
        "true",
        "false",
        "true",
        "True",
        "FALSE",
        "\"${B}\"",
        "\"${X:-no}\"",
        "\"${X:-ON}\"",
    ]);
    mostly(
        good,
        plains(&["yes", "\"true\"", "1", "\"${N}\"", "~", "\"${EMPTY}\""]),
    )
}

pub(crate) fn integer(most: u32) -> Made {
    integer_from(0, most)
}

pub(crate) fn integer_from(least: u32, most: u32) -> Made {
    let good = prop_oneof![
        6 => (least..=most).prop_map(|number| plain(number.to_string())),
        1 => plains(&["\"${N}\"", "\"${X:-2}\"", "3.0", "0x3", "03", "1_0"]),
    ];
    mostly(
        good.boxed(),
        plains(&["\"3\"", "-1", "1.5", "x", "~", "\"${V}\"", "1e2"]),
    )
}

pub(crate) fn ratio() -> Made {
    mostly(
        plains(&[
            "0.5",
            "1",
            "0",
            "0.1",
            "1.0",
            "0.25",
            "1e-1",
            "\"${X:-0.75}\"",
            "1",
        ]),
        plains(&["\"0.5\"", "x", "~"]),
    )
}

pub(crate) fn size() -> Made {
    let good = (
        4_194_304..99_999_999_u64,
        proptest::sample::select(
            &[
                "", "b", "B", "k", "KB", "m", "MB", "g", "gb", "MiB", " k", "kib",
            ][..],
        ),
    )
        .prop_map(|(number, unit)| {
            let number = match unit.trim().chars().next() {
                None | Some('b' | 'B') => number,
                Some('k' | 'K') => number >> 10,
                Some('g' | 'G') => (number >> 22) + 1,
                Some(_) => (number >> 20) + 4,
            };
            text(format!("{number}{unit}"))
        });
    let good = prop_oneof![5 => good, 1 => texts(&["1.5g", "8388608", "0.5G", "10.25m", "8.m"])];
    mostly(
        good.boxed(),
        plains(&[
            "8388608", "50X", "\"\"", "-5m", "m", "\"5 0m\"", "1m", "1e8", "5mm",
        ]),
    )
}

pub(crate) fn cpus() -> Made {
    mostly(
        texts(&[
            "0.5",
            "1",
            "2.25",
            "0.001",
            ".5",
            "1.",
            "1/4",
            "5e-1",
            "0.123456789",
            "10",
            "+1",
            "1/3e1",
        ]),
        prop_oneof![
            plains(&["0.5", "1"]),
            texts(&["x", "0.1234567891", "1/3", "", "-1", "1/0", "0.0001"])
        ]
        .boxed(),
    )
}
