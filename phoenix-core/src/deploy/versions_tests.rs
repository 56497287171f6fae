use super::*;
use time::OffsetDateTime;

fn wanted(kind: ObjectKind, content: &str) -> Wanted {
    let content = SecretBytes::from(content.to_owned());
    let key = FingerprintKey::from_bytes(vec![7; 32]).unwrap();
    Wanted {
        kind,
        key: "app".to_owned(),
        logical: "st_app".to_owned(),
        mark: Mark::of(kind, "st_app", &content, Some(&key)),
        content,
        template_driver: None,
        labels: labels(&[(STACK_LABEL, "st")]),
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// An object made at second `at`.
fn object(name: &str, at: i64, labels: BTreeMap<String, String>) -> ObjectObserved {
    let mut object = ObjectObserved::named(name);
    object.id = format!("id-{name}");
    object.created_at = OffsetDateTime::from_unix_timestamp(at).ok();
    object.labels = labels;
    object
}

fn config(name: &str, at: i64, content: &str) -> ObjectObserved {
    let mut config = object(name, at, labels(&[(STACK_LABEL, "st")]));
    config.sha256 = Some(sha256(content.as_bytes()));
    config
}

fn look(wanted: Wanted, found: &[ObjectObserved], used: &[&str]) -> (ObjectAction, String) {
    let used = used.iter().map(|id| (*id).to_owned()).collect();
    let decision = decide(wanted, found, &used, "0123456789ab");
    (decision.action, decision.name().to_owned())
}

#[test]
fn the_first_version_has_the_name_that_docker_gives() {
    for kind in [ObjectKind::Secret, ObjectKind::Config] {
        assert_eq!(
            look(wanted(kind, "one"), &[], &[]),
            (ObjectAction::Create, "st_app".to_owned())
        );
    }
}

#[test]
fn what_belongs_to_another_stack_is_not_taken_over() {
    let mut other = config("st_app", 1, "one");
    other.labels = labels(&[(STACK_LABEL, "other")]);
    let wanted = wanted(ObjectKind::Config, "one");
    assert!(!wanted.is_version(&other));
    // Creating it then meets the one that is there.
    assert_eq!(
        look(wanted, &[other.clone()], &[]),
        (ObjectAction::Create, "st_app".to_owned())
    );
    other.labels.clear();
    assert!(super::super::versions::Wanted::is_version(
        &self::wanted(ObjectKind::Config, "one"),
        &other
    ));
}

#[test]
fn another_template_driver_takes_another_version() {
    for kind in [ObjectKind::Secret, ObjectKind::Config] {
        let templated = || Wanted {
            template_driver: Some("golang".to_owned()),
            ..wanted(kind, "one")
        };
        let mut plain = object("st_app", 1, wanted(kind, "one").all_labels());
        plain.sha256 = (kind == ObjectKind::Config).then(|| sha256(b"one"));
        let (action, name) = look(templated(), &[plain.clone()], &[]);
        assert_eq!(action, ObjectAction::Rotate);
        let mut later = plain.clone();
        (later.id, later.name) = ("later".to_owned(), name.clone());
        later.template_driver = Some("golang".to_owned());
        assert_eq!(
            look(templated(), &[plain.clone(), later.clone()], &[]),
            (ObjectAction::Unchanged, name)
        );
        // Another one of the same content is not called as the earlier one is.
        later.template_driver = Some("other".to_owned());
        let (action, name) = look(templated(), &[plain, later.clone()], &[]);
        assert_eq!(action, ObjectAction::Rotate);
        assert_ne!(name, later.name);
    }
}

#[test]
fn a_config_is_recognised_by_its_content_whoever_made_it() {
    let one = || wanted(ObjectKind::Config, "one");
    let docker = config("st_app", 1, "one");
    assert_eq!(
        look(one(), std::slice::from_ref(&docker), &[]),
        (ObjectAction::Unchanged, "st_app".to_owned())
    );
    // As versions were named before.
    let earlier = config("st_app-7692c3ad3540", 1, "one");
    assert_eq!(
        look(one(), std::slice::from_ref(&earlier), &[]),
        (ObjectAction::Unchanged, "st_app-7692c3ad3540".to_owned())
    );
    // Of two with the content, the one in use: nothing restarts.
    assert_eq!(
        look(
            one(),
            &[docker.clone(), earlier.clone()],
            &["id-st_app-7692c3ad3540"]
        ),
        (ObjectAction::Unchanged, "st_app-7692c3ad3540".to_owned())
    );
    assert_eq!(
        look(wanted(ObjectKind::Config, "two"), &[docker], &[]),
        (ObjectAction::Rotate, "st_app-3fc4ccfe7458".to_owned())
    );
    // The name that docker gives is free.
    assert_eq!(
        look(wanted(ObjectKind::Config, "two"), &[earlier], &[]),
        (ObjectAction::Rotate, "st_app".to_owned())
    );
}

#[test]
fn a_config_without_its_labels_is_labelled() {
    let mut bare = config("st_app", 1, "one");
    bare.labels.clear();
    assert_eq!(
        look(wanted(ObjectKind::Config, "one"), &[bare], &[]),
        (ObjectAction::Label, "st_app".to_owned())
    );
}

#[test]
fn a_secret_is_known_by_its_fingerprint_or_the_engine_is_asked() {
    let one = wanted(ObjectKind::Secret, "one");
    let own = object("st_app", 1, one.all_labels());
    assert_eq!(
        look(one.clone(), std::slice::from_ref(&own), &[]),
        (ObjectAction::Unchanged, "st_app".to_owned())
    );
    let two = wanted(ObjectKind::Secret, "two");
    let (action, name) = look(two.clone(), std::slice::from_ref(&own), &[]);
    assert_eq!(action, ObjectAction::Rotate);
    assert!(name.starts_with("st_app-") && name.len() == 19, "{name}");
    let docker = object("st_app", 1, labels(&[(STACK_LABEL, "st")]));
    assert_eq!(
        look(two, std::slice::from_ref(&docker), &[]),
        (ObjectAction::Ask, "st_app".to_owned())
    );
    // Without a key nothing is known.
    let mut keyless = one;
    keyless.mark = Mark::None;
    assert_eq!(
        look(keyless.clone(), &[own], &[]),
        (ObjectAction::Ask, "st_app".to_owned())
    );
    let decision = decide(keyless, &[docker], &BTreeSet::new(), "0123456789ab");
    assert_eq!(decision.new_name, "st_app-0123456789ab");
}

#[test]
fn what_only_looks_like_a_version_is_none() {
    let one = wanted(ObjectKind::Config, "one");
    let other = config("st_app-settings", 1, "one");
    assert!(!one.is_version(&other));
    let mut foreign = config("st_app-7692c3ad3540", 1, "one");
    foreign.labels = labels(&[(STACK_LABEL, "other")]);
    assert!(!one.is_version(&foreign));
    let mut sibling = config("st_app-7692c3ad3540", 1, "one");
    sibling
        .labels
        .insert(LOGICAL_LABEL.to_owned(), "st_app-7692c3ad3540".to_owned());
    assert!(!one.is_version(&sibling));
}

#[test]
fn the_newest_old_versions_are_kept_and_those_in_use_never_go() {
    let one = wanted(ObjectKind::Config, "one");
    let found = [
        config("st_app", 1, "a"),
        config("st_app-000000000002", 2, "b"),
        config("st_app-000000000003", 3, "c"),
        config("st_app-000000000004", 4, "one"),
    ];
    let gone = |used: &[&str], keep| -> Vec<String> {
        let used = used.iter().map(|id| (*id).to_owned()).collect();
        retired(&one, &found, Some("id-st_app-000000000004"), &used, keep)
            .into_iter()
            .map(|object| object.name.clone())
            .collect()
    };
    assert_eq!(gone(&[], 1), ["st_app-000000000002", "st_app"]);
    assert_eq!(gone(&["id-st_app"], 1), ["st_app-000000000002"]);
    assert_eq!(gone(&[], 0).len(), 3);
    assert!(gone(&[], 9).is_empty());
}

#[test]
fn a_long_logical_name_leaves_room_for_the_digits() {
    let mut one = wanted(ObjectKind::Config, "one");
    one.logical = "s".repeat(64);
    let first = object(&one.logical, 1, one.labels.clone());
    let (_, name) = look(one.clone(), &[first], &[]);
    assert_eq!(name.len(), 64);
    let later = object(&name, 2, one.labels.clone());
    assert!(one.is_version(&later));
}

mod generated {
    use proptest::prelude::*;

    use super::*;

    fn objects(kind: ObjectKind) -> impl Strategy<Value = Vec<ObjectObserved>> {
        let one = (0usize..4, 0usize..3, any::<bool>(), any::<bool>());
        proptest::collection::vec(one, 0..6).prop_map(move |rows| {
            let names = ["st_app", "st_app-00000000000", "st_app-other", "other"];
            let contents = ["one", "two", "three"];
            rows.into_iter()
                .enumerate()
                .map(|(index, (name, content, marked, own))| {
                    let mut name = names[name].to_owned();
                    if name.ends_with('0') {
                        name.push_str(&index.to_string());
                    }
                    let version = wanted(kind, contents[content]);
                    let mut labels = version.labels.clone();
                    if marked {
                        labels = version.all_labels();
                    }
                    if !own {
                        labels.remove(STACK_LABEL);
                    }
                    let at = i64::try_from(index).unwrap();
                    let mut found = object(&name, at, labels);
                    found.id = format!("{index} {content}");
                    if kind == ObjectKind::Config {
                        found.sha256 = Some(sha256(contents[content].as_bytes()));
                    }
                    found
                })
                .collect()
        })
    }

    proptest! {
        /// Whatever is there: the services never get a version that is known to hold something
        /// else, and what is known to hold the content is never made once more.
        #[test]
        fn no_version_with_another_content_is_chosen(
            (kind, found) in prop_oneof![Just(ObjectKind::Secret), Just(ObjectKind::Config)]
                .prop_flat_map(|kind| (Just(kind), objects(kind))),
            used in proptest::collection::btree_set("[0-5] 0", 0..3),
        ) {
            let one = wanted(kind, "one");
            let decision = decide(one.clone(), &found, &used, "0123456789ab");
            let same = |object: &ObjectObserved| object.id.ends_with(" 0");
            match decision.action {
                ObjectAction::Unchanged | ObjectAction::Label => {
                    let current = decision.current.as_ref().unwrap();
                    prop_assert_eq!(one.mark.matches(current), Some(true));
                    prop_assert!(same(current));
                }
                ObjectAction::Ask => {
                    for object in decision.current.iter().chain(&decision.others) {
                        prop_assert_eq!(one.mark.matches(object), None);
                    }
                }
                _ => {
                    prop_assert!(decision.current.is_none());
                    for object in found.iter().filter(|object| one.is_version(object)) {
                        prop_assert_eq!(one.mark.matches(object), Some(false));
                        prop_assert!(object.name != decision.new_name || object.name == one.logical);
                    }
                }
            }
            // The name that is made is free.
            if decision.current.is_none() {
                let taken = found
                    .iter()
                    .any(|object| one.is_version(object) && object.name == decision.new_name);
                prop_assert!(!taken);
            }
        }

        /// Neither the current version nor one in use is ever removed, and never one of another.
        #[test]
        fn what_is_needed_stays(
            found in objects(ObjectKind::Config),
            used in proptest::collection::btree_set("[0-5] [0-2]", 0..3),
            keep in 0usize..3,
        ) {
            let one = wanted(ObjectKind::Config, "one");
            let decision = decide(one.clone(), &found, &used, "");
            let current = decision.current.as_ref().map(|object| object.id.as_str());
            for object in retired(&one, &found, current, &used, keep) {
                prop_assert!(!used.contains(&object.id));
                prop_assert_ne!(Some(object.id.as_str()), current);
                prop_assert!(one.is_version(object));
                prop_assert_eq!(object.labels.get(STACK_LABEL).map(String::as_str), Some("st"));
            }
        }
    }
}
