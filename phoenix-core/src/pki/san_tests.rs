use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> SubjectAltName {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?} was refused: {error}"))
}

fn refused(text: &str) -> SanError {
    match text.parse::<SubjectAltName>() {
        Ok(name) => panic!("{text:?} was taken for {name:?}"),
        Err(error) => error,
    }
}

#[test]
fn the_kind_follows_from_the_text() {
    let dns = |name: &str| SubjectAltName::Dns(name.to_owned());
    for (text, expected) in [
        ("portainer", dns("portainer")),
        ("Portainer.Example.LAN", dns("portainer.example.lan")),
        ("*.example.lan", dns("*.example.lan")),
        ("*.lan", dns("*.lan")),
        ("a--b.1x", dns("a--b.1x")),
        ("3com.example", dns("3com.example")),
        ("0x10.lan", dns("0x10.lan")),
        ("lan.0xg", dns("lan.0xg")),
        ("bücher.example", dns("xn--bcher-kva.example")),
        ("*.BÜCHER.example", dns("*.xn--bcher-kva.example")),
        ("xn--bcher-kva.example", dns("xn--bcher-kva.example")),
        ("10.0.0.25", SubjectAltName::Ip([10, 0, 0, 25].into())),
        (
            "FD00:0::1",
            SubjectAltName::Ip("fd00::1".parse().expect("address")),
        ),
        (
            "Ops@Example.LAN",
            SubjectAltName::Email("Ops@example.lan".into()),
        ),
        (
            "spiffe://site.lan/ns/x",
            SubjectAltName::Uri("spiffe://site.lan/ns/x".into()),
        ),
        (
            "https://site.lan/a%20b?%C3%bc",
            SubjectAltName::Uri("https://site.lan/a%20b?%C3%bc".into()),
        ),
        (
            "https://Site.lan:8443",
            SubjectAltName::Uri("https://Site.lan:8443".into()),
        ),
    ] {
        assert_eq!(parsed(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_name_is_refused_with_the_reason_and_what_was_meant() {
    // (text, part of the message, suggestion)
    for (text, message, suggestion) in [
        ("", "empty", None),
        (" ", "white space", None),
        ("a.lan ", "white space", Some("a.lan")),
        ("a.lan b.lan", "white space", Some("a.lan, b.lan")),
        ("a\tb", "white space", Some("a, b")),
        ("a.lan,b.lan", "one name per entry", Some("a.lan, b.lan")),
        (
            "a.lan; 10.0.0.1",
            "one name per entry",
            Some("a.lan, 10.0.0.1"),
        ),
        (
            "DNS:a.lan,IP:10.0.0.1",
            "one name per entry",
            Some("a.lan, 10.0.0.1"),
        ),
        (",", "one name per entry", None),
        ("DNS:a.lan", "starts with `DNS:`", Some("a.lan")),
        ("dns=a.lan", "starts with `dns=`", Some("a.lan")),
        ("IP:10.0.0.1", "starts with `IP:`", Some("10.0.0.1")),
        ("IP:fd00::1", "starts with `IP:`", Some("fd00::1")),
        ("email:a@b.lan", "starts with `email:`", Some("a@b.lan")),
        ("mailto:a@b.lan", "starts with `mailto:`", Some("a@b.lan")),
        (
            "URI:https://b.lan/",
            "starts with `URI:`",
            Some("https://b.lan/"),
        ),
        ("DNS:", "starts with `DNS:`", None),
        ("DNS:a.lan:80", "starts with `DNS:`", Some("a.lan")),
        ("host:8443", "port", Some("host")),
        ("dns:53", "port", Some("dns")),
        ("host.lan:", "port", Some("host.lan")),
        ("10.0.0.1:443", "port", Some("10.0.0.1")),
        ("[fd00::1]:443", "port", Some("fd00::1")),
        ("*.lan:443", "port", Some("*.lan")),
        ("[fd00::1]", "brackets", Some("fd00::1")),
        ("10.0.0.0/24", "network", Some("10.0.0.0")),
        ("fd00::/8", "network", Some("fd00::")),
        ("fe80::1%eth0", "zone", Some("fe80::1")),
        ("10.0.0.256", "looks like an IP", None),
        ("10.0.0", "looks like an IP", None),
        ("10.0.0.01", "looks like an IP", None),
        ("1", "looks like an IP", None),
        ("１０.0.0.256", "looks like an IP", None),
        ("fd00::1::2", "looks like an IP", None),
        ("host.7", "looks like an IP", None),
        ("*.10.0.0.1", "looks like an IP", None),
        // URLs and many resolvers take such a last label for a number, and all of it for an
        // IPv4 address.
        ("0x7f000001", "looks like an IP", None),
        ("0x", "looks like an IP", None),
        ("host.0x1F", "looks like an IP", None),
        ("*.lan.0X7f", "looks like an IP", None),
        ("a@lan.0x1", "looks like an IP", None),
        ("host:name", "`:`", None),
        ("urn:uuid:x", "`:`", None),
        ("a.lan.", "dot", Some("a.lan")),
        ("a.lan..", "empty label", None),
        (".", "empty label", None),
        (".a.lan", "empty label", None),
        ("a..lan", "empty label", None),
        ("*.", "empty label", None),
        ("-a.lan", "`-a`", None),
        ("a-.lan", "`a-`", None),
        ("a_b.lan", "`_`", Some("a-b.lan")),
        ("tasks.a_b", "`_`", Some("tasks.a-b")),
        ("a/b", "`/`", None),
        ("a!b", "`!`", None),
        ("${NAME}", "`$`", None),
        ("*", "`*`", None),
        ("*a.lan", "`*`", None),
        ("a*.lan", "`*`", None),
        ("a.*.lan", "`*`", None),
        ("*.*.lan", "`*`", None),
        ("xn--a.example", "internationalised", None),
        ("xn--\u{e9}.example", "internationalised", None),
        ("a@", "after the `@`", None),
        ("@b.lan", "before the `@`", None),
        ("a@b@c", "more than one", None),
        ("a..b@c.lan", "a dot too many", None),
        ("a\"b@c.lan", "`\"`", None),
        ("a@10.0.0.1", "looks like an IP", None),
        ("a@*.lan", "`*`", None),
        ("https://", "no URI", None),
        ("://x", "no URI", None),
        ("file:///etc", "names no host", None),
        ("https://u:p@x.lan", "password", None),
        ("https://b\u{fc}cher.example", "percent-encoded", None),
        ("https://*.lan/", "`*`", None),
        ("http://a/%zz", "percent-escape", None),
        ("http://a/%2", "percent-escape", None),
        ("http://a/?q=%", "percent-escape", None),
        ("http://a/#%%41", "percent-escape", None),
    ] {
        let error = refused(text);
        assert!(
            error.to_string().contains(message),
            "{text:?}: {error} does not say {message:?}"
        );
        assert_eq!(
            error.suggestion().as_deref(),
            suggestion,
            "{text:?}: {error}"
        );
        assert_eq!(error.text(), text);
    }
}

#[test]
fn the_limits_of_length_are_exact() {
    let label = |length| "a".repeat(length);
    parsed(&format!("{}.lan", label(63)));
    assert!(matches!(
        refused(&format!("{}.lan", label(64))),
        SanError::LabelTooLong { length: 64, .. }
    ));
    let longest = format!("{0}.{0}.{0}.{1}", label(63), label(61));
    assert_eq!(longest.len(), 253);
    parsed(&longest);
    assert!(matches!(
        refused(&format!("{longest}a")),
        SanError::NameTooLong { length: 254, .. }
    ));
    // The `*.` of a wildcard counts.
    parsed(&format!("*.{}", &longest[2..]));
    assert!(matches!(
        refused(&format!("*.{}", &longest[1..])),
        SanError::NameTooLong { length: 254, .. }
    ));
    // An address of e-mail is 254 octets at most, however long its parts may be.
    let local = label(64);
    let domain = &longest[64..];
    assert_eq!(local.len() + 1 + domain.len(), 254);
    parsed(&format!("{local}@{domain}"));
    assert!(matches!(
        refused(&format!("{local}@b.{}", &longest[65..])),
        SanError::Email { .. }
    ));
    parsed(&format!("{}@b.lan", label(64)));
    assert!(matches!(
        refused(&format!("{}@b.lan", label(65))),
        SanError::Email { .. }
    ));
}

#[test]
fn a_wildcard_covers_exactly_one_label() {
    for (pattern, name, covered) in [
        ("a.lan", "A.LAN", true),
        ("a.lan", "b.a.lan", false),
        ("*.site.lan", "a.site.lan", true),
        ("*.site.lan", "*.site.lan", true),
        ("*.site.lan", "site.lan", false),
        ("*.site.lan", "a.b.site.lan", false),
        ("*.b.lan", "*.lan", false),
        ("*.lan", "*.b.lan", false),
        ("a.lan", "*.lan", false),
        ("10.0.0.1", "10.0.0.1", true),
        ("::ffff:10.0.0.1", "10.0.0.1", false),
        ("a@b.lan", "b.lan", false),
    ] {
        assert_eq!(
            parsed(pattern).covers(&parsed(name)),
            covered,
            "{pattern} over {name}"
        );
    }
}

#[test]
fn only_a_wildcard_under_a_single_label_has_a_caveat() {
    assert!(parsed("*.lan").caveat().expect("caveat").contains("*.lan"));
    for text in ["*.site.lan", "lan", "10.0.0.1"] {
        assert_eq!(parsed(text).caveat(), None);
    }
}

#[test]
fn names_keep_their_declared_order_and_lose_repetitions() {
    let names = ["b.lan", "a.lan", "B.lan", "10.0.0.1", "a.lan"].map(parsed);
    let normal = SubjectAltName::normalize(names.to_vec());
    assert_eq!(normal, ["b.lan", "a.lan", "10.0.0.1"].map(parsed));
}

#[test]
fn a_difference_names_what_goes_and_what_comes() {
    let have = ["a.lan", "b.lan", "10.0.0.1"].map(parsed);
    let want = ["10.0.0.1", "d.lan", "c.lan", "b.lan", "c.lan"].map(parsed);
    let difference = SanDifference::between(&have, &want);
    assert_eq!(difference.to_string(), "-a.lan +c.lan +d.lan");
    assert!(!difference.is_empty());
    let mut turned = have.to_vec();
    turned.reverse();
    assert!(SanDifference::between(&have, &turned).is_empty());
}

fn name() -> impl Strategy<Value = SubjectAltName> {
    prop_oneof![
        "(\\*\\.)?[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]([a-z0-9-]{0,8}[a-z0-9])?){0,4}"
            // Four arbitrary hyphenated characters may happen to claim to be punycode.
            .prop_filter("claims to be an A-label", |name| !name.contains("xn--"))
            .prop_map(SubjectAltName::Dns),
        any::<IpAddr>().prop_map(SubjectAltName::Ip),
        "[a-zA-Z0-9+_-]{1,8}(\\.[a-z]{1,5})?@[a-z]{1,8}\\.[a-z]{2,5}"
            .prop_map(SubjectAltName::Email),
        "[a-z]{3,6}://[a-z]{1,8}(\\.[a-z]{1,4})?(:8[0-9]{1,3})?(/([a-zA-Z0-9]|%[0-9a-fA-F]{2}){0,5}){0,3}"
            .prop_filter("not a URL", |text| url::Url::parse(text)
                .is_ok_and(|url| url.has_host()))
            .prop_map(SubjectAltName::Uri),
    ]
}

/// Labels whose lengths, joined with dots, come close to the limits from both sides.
fn labels() -> impl Strategy<Value = Vec<String>> {
    let label = prop_oneof![
        4 => (55..=66_usize).prop_map(|length| "a".repeat(length)),
        1 => (1..=20_usize).prop_map(|length| "b".repeat(length)),
    ];
    prop::collection::vec(label, 1..=5)
}

/// Whether a DNS name of these labels, so many octets of it before them, is within the limits.
fn fits(labels: &[String], before: usize) -> bool {
    let length = before + labels.join(".").len();
    labels.iter().all(|label| label.len() <= 63) && length <= 253
}

proptest! {
    #[test]
    fn a_dns_name_is_taken_just_when_it_is_within_the_limits(labels in labels()) {
        let name = labels.join(".");
        let parsed = name.parse::<SubjectAltName>();
        prop_assert_eq!(parsed.is_ok(), fits(&labels, 0), "{:?}", parsed);
        match parsed {
            Ok(name) => prop_assert!(name.server_name().is_some()),
            Err(SanError::LabelTooLong { length, .. }) => {
                prop_assert!(labels.iter().any(|label| label.len() == length && length > 63));
            }
            Err(SanError::NameTooLong { length, .. }) => {
                prop_assert_eq!(length, name.len());
                prop_assert!(length > 253);
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_wildcard_is_taken_just_when_all_of_it_is_within_the_limits(labels in labels()) {
        let name = format!("*.{}", labels.join("."));
        let parsed = name.parse::<SubjectAltName>();
        prop_assert_eq!(parsed.is_ok(), fits(&labels, 2), "{:?}", parsed);
        if let Ok(parsed) = parsed {
            prop_assert_eq!(parsed, SubjectAltName::Dns(name));
        }
    }

    #[test]
    fn an_address_of_e_mail_is_taken_just_when_all_of_it_is_within_the_limits(
        local in 1..=70_usize,
        labels in labels(),
    ) {
        let address = format!("{}@{}", "l".repeat(local), labels.join("."));
        let fits = local <= 64 && fits(&labels, 0) && address.len() <= 254;
        let parsed = address.parse::<SubjectAltName>();
        prop_assert_eq!(parsed.is_ok(), fits, "{:?}", parsed);
        if let Ok(parsed) = parsed {
            prop_assert_eq!(parsed, SubjectAltName::Email(address));
        }
    }

    #[test]
    fn a_name_reads_back_from_its_text(name in name()) {
        prop_assert_eq!(name.to_string().parse::<SubjectAltName>(), Ok(name));
    }

    #[test]
    fn any_text_is_refused_with_itself_or_becomes_a_stable_name(
        text in prop_oneof![
            any::<String>(),
            "[-a-zA-Z0-9.:*_@/\\[\\]%, ü]{0,40}",
            "[0-9.:]{1,20}",
            "[a-z]{1,5}://[ -~]{0,20}",
        ]
    ) {
        match text.parse::<SubjectAltName>() {
            Ok(name) => {
                let shown = name.to_string();
                prop_assert!(shown.is_ascii());
                prop_assert!(!shown.contains([' ', ',']));
                prop_assert_eq!(shown.parse::<SubjectAltName>(), Ok(name.clone()));
                prop_assert!(name.covers(&name));
                let askable = matches!(name, SubjectAltName::Dns(_) | SubjectAltName::Ip(_))
                    && !name.is_wildcard();
                prop_assert_eq!(name.server_name().is_some(), askable);
            }
            Err(error) => {
                prop_assert_eq!(error.text(), text.as_str());
                if let Some(suggestion) = error.suggestion() {
                    for name in suggestion.split(", ") {
                        prop_assert!(name.parse::<SubjectAltName>().is_ok(), "{}", name);
                    }
                }
            }
        }
    }

    #[test]
    fn case_does_not_matter_in_dns_names(text in "[a-zA-Z]{1,9}(\\.[a-zA-Z]{1,9}){0,3}") {
        prop_assert_eq!(
            text.parse::<SubjectAltName>(),
            text.to_ascii_lowercase().parse::<SubjectAltName>()
        );
    }

    #[test]
    fn a_difference_is_empty_just_for_equal_sets(
        have in prop::collection::vec(name(), 0..6),
        want in prop::collection::vec(name(), 0..6),
        shared in prop::collection::vec(name(), 0..3),
    ) {
        let have: Vec<_> = have.into_iter().chain(shared.clone()).collect();
        let want: Vec<_> = shared.into_iter().chain(want).collect();
        let difference = SanDifference::between(&have, &want);
        let mut moved: std::collections::BTreeSet<_> = have.iter().cloned().collect();
        for name in &difference.removed {
            prop_assert!(moved.remove(name));
        }
        for name in &difference.added {
            prop_assert!(moved.insert(name.clone()));
        }
        prop_assert_eq!(moved, want.into_iter().collect::<std::collections::BTreeSet<_>>());
        prop_assert!(SanDifference::between(&have, &have).is_empty());
    }
}
