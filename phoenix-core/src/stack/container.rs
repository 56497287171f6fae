//! What the containers of a service are given: health checks, hosts, name servers, capabilities,
//! limits, logs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::ground::document::{Cursor, Fields, Value};

use super::model::{Healthcheck, Logging, Ulimit};
use super::options::Dialect;
use super::reading::{
    boolean, fields, filled, integer, optional, options_or_nothing, present, text, texts, time,
};
use super::service::Declared;

pub(super) fn healthcheck(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Healthcheck> {
    let map = fields(
        at,
        &[
            "test",
            "disable",
            "interval",
            "timeout",
            "retries",
            "start_period",
            "start_interval",
        ],
        &[],
    )?;
    let disable = optional(&map, "disable", boolean)?;
    let test = match map.get("test") {
        None => Vec::new(),
        // A later file has disabled it.
        Some(at) if disable && declared.options.dialect == Dialect::Compose => {
            at.warn("the check is disabled, and its test does nothing");
            Vec::new()
        }
        Some(at) => {
            if disable && !declared.is_docker_part() {
                at.refuse("a check that is disabled has no test");
                return None;
            }
            match at.node().value {
                Value::List(_) => {
                    let test = texts(&at)?;
                    let kind = test.first().map(String::as_str);
                    if !matches!(kind, None | Some("CMD" | "CMD-SHELL" | "NONE")) {
                        const MESSAGE: &str =
                            "a test in list form begins with `CMD`, `CMD-SHELL` or `NONE`";
                        if !declared.as_docker() {
                            at.refuse(MESSAGE);
                            return None;
                        }
                        at.warn(MESSAGE);
                    }
                    test
                }
                _ if declared.as_docker() => vec!["CMD-SHELL".to_owned(), text(&at)?.to_owned()],
                _ => vec!["CMD-SHELL".to_owned(), filled(&at)?.to_owned()],
            }
        }
    };
    if disable {
        return Some(Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        });
    }
    Some(Healthcheck {
        test,
        interval: present(&map, "interval", time)?,
        timeout: present(&map, "timeout", time)?,
        retries: present(&map, "retries", |at| {
            integer(at, 0..=i32::MAX.unsigned_abs())
        })?,
        start_period: present(&map, "start_period", time)?,
        start_interval: present(&map, "start_interval", time)?,
    })
}

pub(super) fn extra_hosts(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Vec<String>> {
    let entry = |item: &Cursor<'_>, host: &str, address: &str| {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || address.parse::<IpAddr>().is_err() && address != "host-gateway" {
            const MESSAGE: &str = "a host is written `name:address`, with an IP address";
            if !declared.as_docker() {
                item.refuse(MESSAGE);
                return None;
            }
            item.warn(MESSAGE);
        }
        Some(format!("{address} {host}"))
    };
    if let Value::List(_) = at.node().value {
        return at.each(|item| {
            let text = text(&item)?;
            let (host, address) = text
                .split_once('=')
                .or_else(|| text.split_once(':'))
                .unwrap_or((text, ""));
            entry(&item, host, address)
        });
    }
    let sorted: BTreeMap<&str, Cursor<'_>> = at
        .entries()?
        .into_iter()
        .map(|(host, _, value)| (host, value))
        .collect();
    Some(
        sorted
            .iter()
            .filter_map(|(host, value)| entry(value, host, text(value)?))
            .collect(),
    )
}

pub(super) fn dns(at: &Cursor<'_>) -> Option<Vec<IpAddr>> {
    let read = |item: &Cursor<'_>| {
        let address = text(item)?.parse();
        if address.is_err() {
            item.refuse("a name server is an IP address");
        }
        address.ok()
    };
    match at.node().value {
        Value::List(_) => at.each(|item| read(&item)),
        _ => read(at).map(|address| vec![address]),
    }
}

/// Capabilities added and dropped, as the docker CLI joins them: `ALL` stands for every other in
/// its list, and what is added is not dropped.
pub(super) fn capabilities(map: &Fields<'_>) -> Option<(Vec<String>, Vec<String>)> {
    let read = |at: &Cursor<'_>| {
        let names = at.each(|item| {
            let name = text(&item)?.to_ascii_uppercase();
            let letters = |c: char| c.is_ascii_uppercase() || c == '_';
            if name.is_empty() || name == "RESET" || !name.chars().all(letters) {
                item.refuse("a capability is written like `NET_ADMIN` or `CAP_NET_ADMIN`, and all of them `ALL`");
                return None;
            }
            Some(if name == "ALL" || name.starts_with("CAP_") {
                name
            } else {
                format!("CAP_{name}")
            })
        })?;
        let mut names: BTreeSet<String> = names.into_iter().collect();
        if names.contains("ALL") {
            names.retain(|name| name == "ALL");
        }
        Some(names)
    };
    let add = optional(map, "cap_add", read);
    let drop = optional(map, "cap_drop", read);
    let (add, mut drop) = (add?, drop?);
    drop.retain(|name| !add.contains(name));
    Some((add.into_iter().collect(), drop.into_iter().collect()))
}

pub(super) fn ulimits(at: &Cursor<'_>) -> Option<BTreeMap<String, Ulimit>> {
    let mut ulimits = BTreeMap::new();
    for (name, _, value) in at.entries()? {
        let limit = if let Value::Map(_) = value.node().value {
            let map = fields(&value, &["soft", "hard"], &[])?;
            let soft = integer(&map.required("soft")?, -1..=i64::MAX)?;
            let hard = integer(&map.required("hard")?, -1..=i64::MAX)?;
            if hard >= 0 && (soft > hard || soft < 0) {
                value.refuse("the soft limit is above the hard one");
            }
            Ulimit { soft, hard }
        } else {
            // Here docker takes no `3.0`.
            let both = match value.node().value {
                Value::Float(_) => value.integer(-1..=i64::MAX)?,
                _ => integer(&value, -1..=i64::MAX)?,
            };
            Ulimit {
                soft: both,
                hard: both,
            }
        };
        ulimits.insert(name.to_owned(), limit);
    }
    Some(ulimits)
}

pub(super) fn logging(at: &Cursor<'_>) -> Option<Logging> {
    let map = fields(at, &["driver", "options"], &[])?;
    Some(Logging {
        driver: optional(&map, "driver", |at| text(at).map(str::to_owned))?,
        options: optional(&map, "options", options_or_nothing)?,
    })
}
