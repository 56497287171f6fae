//! What holds for every input of a parser. The fuzzer makes inputs up, and the test `found_cases`
//! replays those that are kept in `cases`.
#![allow(dead_code, reason = "each fuzz target uses one")]

use phoenix_core::ground::SecretBytes;
use phoenix_core::pki::{Bundle, ObservedCertificate, Profile, SubjectAltName};
use phoenix_core::stack::{Compat, ComposeFile, Dialect, LoadOptions, difference};

/// A text is refused with itself and useful suggestions, or becomes a name that reads back, that
/// covers itself, and that URLs and TLS clients understand as the same kind of name.
pub(crate) fn san(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let name = match text.parse::<SubjectAltName>() {
        Ok(name) => name,
        Err(error) => {
            assert_eq!(error.text(), text);
            for suggestion in error.suggestion().iter().flat_map(|all| all.split(", ")) {
                let name: SubjectAltName = suggestion.parse().expect("a valid suggestion");
                assert_eq!(name.to_string(), suggestion);
            }
            return;
        }
    };
    let shown = name.to_string();
    assert!(
        shown.is_ascii() && !shown.contains([' ', ',', ';']),
        "{shown:?}"
    );
    assert_eq!(shown.parse().as_ref(), Ok(&name));
    assert!(name.covers(&name));
    let single = matches!(name, SubjectAltName::Dns(_) | SubjectAltName::Ip(_));
    assert_eq!(
        name.server_name().is_some(),
        single && !name.is_wildcard(),
        "{shown:?}"
    );
    match &name {
        SubjectAltName::Dns(name) => {
            let host = name.strip_prefix("*.").unwrap_or(name);
            let url = url::Url::parse(&format!("https://{host}/")).expect("a URL");
            assert_eq!(url.domain(), Some(host), "a URL has another host");
        }
        SubjectAltName::Email(address) => {
            let (_, domain) = address.split_once('@').expect("an @");
            let domain: SubjectAltName = domain.parse().expect("a domain");
            assert!(matches!(domain, SubjectAltName::Dns(_)), "{address:?}");
        }
        SubjectAltName::Uri(uri) => {
            assert!(url::Url::parse(uri).expect("a URL").has_host());
            for escape in uri.split('%').skip(1) {
                let digits = escape.bytes().take_while(u8::is_ascii_hexdigit).count();
                assert!(digits >= 2, "{uri:?} has a malformed escape");
            }
        }
        _ => {}
    }
}

/// A text is refused, or becomes a bundle that reads back as itself and can be judged.
pub(crate) fn bundle(data: &[u8]) {
    if let Ok(bundle) = Bundle::from_pem(data) {
        let written = bundle.to_pem();
        let again = Bundle::from_pem(written.expose()).expect("what was written");
        same(&bundle, &again);
        let parts = Bundle::from_parts(
            &bundle.key_pem(),
            bundle.chain_pem().as_bytes(),
            bundle.root_pem().as_bytes(),
        );
        same(&bundle, &parts.expect("its parts"));
        let names = &bundle.leaf().sans;
        for profile in [Profile::Server, Profile::Client, Profile::Peer] {
            let judged = bundle.check(profile, names, bundle.leaf().not_before);
            if judged.is_ok() {
                assert!(bundle.key_matches());
            }
        }
        assert!(bundle.not_after() <= bundle.leaf().not_after);
    }
    if let Ok(bundle) = Bundle::from_parts(&SecretBytes::new(data.to_vec()), data, data) {
        assert!(bundle.root().is_self_issued());
    }
}

fn same(one: &Bundle, other: &Bundle) {
    assert_eq!(one.key_pem(), other.key_pem());
    assert_eq!(one.chain_pem(), other.chain_pem());
    assert_eq!(one.root_pem(), other.root_pem());
}

/// Octets are refused, or are a certificate of which every field can be shown.
pub(crate) fn certificate(data: &[u8]) {
    let _ = ObservedCertificate::from_pem(data);
    let Ok(observed) = ObservedCertificate::from_der(data) else {
        return;
    };
    assert_eq!(observed.fingerprint_hex().len(), 64);
    assert!(observed.serial.bytes().all(|b| b.is_ascii_hexdigit()));
    for name in &observed.sans {
        let _ = (name.to_string(), name.server_name(), name.caveat());
        assert!(name.covers(name));
    }
    let _ = format!("{observed:?}");
    let longer = [data, b"\0"].concat();
    ObservedCertificate::from_der(&longer).expect_err("an octet after its end");
}

/// Texts (separated by a NUL) are refused at places that are in them, or are files of a stack, in
/// each dialect, whose bodies do not differ from themselves and are the same every time.
pub(crate) fn compose(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let path = std::path::Path::new("/nowhere/stack.yaml");
    let files: Vec<(&std::path::Path, &str)> = text.split('\0').map(|text| (path, text)).collect();
    let variables = [("A", "a"), ("N", "7"), ("EMPTY", "")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let swarm = LoadOptions::default().with_variables(variables.into());
    let docker = swarm.clone().with_compat(Compat::Docker);
    let compose = swarm.clone().with_dialect(Dialect::Compose);
    for options in [swarm, docker, compose] {
        match ComposeFile::parse_files(&files, "fuzz", &options) {
            Ok(file) => {
                let wire = file.wire();
                for service in &wire.services {
                    assert!(difference(service, service).is_empty());
                }
                let again = ComposeFile::parse_files(&files, "fuzz", &options).expect("once more");
                assert_eq!(wire, again.wire());
            }
            Err(problems) => {
                assert!(!problems.0.is_empty());
                // A carriage return alone ends a line of YAML, too.
                let lines = |text: &str| text.split(['\n', '\r']).count();
                let longest = files.iter().map(|(_, text)| lines(text)).max();
                for problem in &problems.0 {
                    assert!(
                        problem.position.line as usize <= longest.unwrap_or(0) + 1,
                        "{problem}"
                    );
                }
            }
        }
    }
}
