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
fn a_config_is_recognised_by_its_content_whoever_made_it() {
    let one = || wanted(ObjectKind::Config, "one");
    let docker = config("st_app", 1, "one");
    assert_eq!(
        look(one(), &[docker.clone()], &[]),
        (ObjectAction::Unchanged, "st_app".to_owned())
    );
    // As versions were named before.
    let earlier = config("st_app-7692c3ad3540", 1, "one");
    assert_eq!(
        look(one(), &[earlier.clone()], &[]),
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
        look(two, &[docker.clone()], &[]),
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
