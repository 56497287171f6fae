use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Document {
    Document::parse("site.yaml", text).expect("parses")
}

fn refused(text: &str) -> Problem {
    Document::parse("site.yaml", text).expect_err("is refused")
}

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

fn map(node: &Node) -> &Map {
    match &node.value {
        Value::Map(map) => map,
        other => panic!("{other:?} is no map"),
    }
}

#[test]
fn values_and_keys_have_positions() {
    let document = parse("# head\nname: ä\nlist:\n  - one\n  - {two: 2}\nempty:\n");
    let root = map(document.root());
    assert_eq!(document.root().position, at(2, 1));
    let keys: Vec<_> = root
        .iter()
        .map(|e| (e.key.as_str(), e.key_position))
        .collect();
    assert_eq!(
        keys,
        [("name", at(2, 1)), ("list", at(3, 1)), ("empty", at(6, 1))]
    );
    let name = root.get("name").expect("name");
    assert_eq!((name.text(), name.position), (Some("ä"), at(2, 7)));
    let Value::List(items) = &root.get("list").expect("list").value else {
        panic!("no list");
    };
    assert_eq!(items[0].position, at(4, 5));
    let two = map(&items[1]).entry("two").expect("two");
    assert_eq!(two.key_position, at(5, 6));
    assert_eq!(two.value.position, at(5, 11));
    assert_eq!(root.get("empty").expect("empty").value, Value::Null);
}

#[test]
fn plain_scalars_keep_how_they_were_written() {
    let document = parse(
        "a: 1.10\nb: 0640\nc: true\nd: 18446744073709551615\ne: \"0640\"\nf: yes\ng: .inf\nh: 12:34\n",
    );
    let root = map(document.root());
    let of = |key: &str| root.get(key).map(|n| (&n.value, n.text())).expect("key");
    assert_eq!(of("a"), (&Value::Float(1.1), Some("1.10")));
    assert_eq!(of("b"), (&Value::Integer(0o640), Some("0640")));
    assert_eq!(of("c"), (&Value::Bool(true), Some("true")));
    assert_eq!(of("d").1, Some("18446744073709551615"));
    assert_eq!(of("e").0, &Value::String("0640".into()));
    assert_eq!(of("f").0, &Value::String("yes".into()));
    assert_eq!(of("g").0, &Value::String(".inf".into()));
    assert_eq!(of("h").0, &Value::String("12:34".into()));
}

#[test]
fn written_text_survives_multibyte_characters_and_aliases() {
    let document = parse("ü: &v 1.50\nß: *v\n");
    let root = map(document.root());
    assert_eq!(root.get("ü").and_then(Node::text), Some("1.50"));
    let alias = root.get("ß").expect("alias");
    assert_eq!((alias.text(), alias.position), (Some("1.50"), at(1, 7)));
}

#[test]
fn merge_keys_yield_to_what_is_written() {
    let document = parse("base: &b\n  x: 1\n  y: 2\nuse:\n  <<: *b\n  y: 3\n");
    let used = map(map(document.root()).get("use").expect("use"));
    assert_eq!(used.len(), 2);
    assert_eq!(used.get("y").and_then(Node::text), Some("3"));
    let x = used.entry("x").expect("merged");
    assert_eq!((x.value.text(), x.value.position), (Some("1"), at(2, 6)));
    assert_eq!(x.key_position, at(2, 3));
}

#[test]
fn keys_that_are_read_alike_are_one_key() {
    for (text, key) in [
        ("1: a\n\"1\": b\n", "1"),
        ("x: {true: a, 'true': b}\n", "true"),
        ("x: &x {1: a}\ny:\n  <<: *x\n  \"2\": b\n  2: c\n", "2"),
    ] {
        let problem = refused(text);
        assert_eq!(problem.message, "the key occurs twice in its map", "{text}");
        assert_eq!(problem.offending.as_deref(), Some(key), "{text}");
    }
    let document = parse("x: &x {1: a}\ny:\n  <<: *x\n  \"1\": b\n");
    let y = map(document.root()).get("y").expect("y");
    assert_eq!(map(y).get("1").and_then(Node::text), Some("b"));
}

#[test]
fn what_is_no_finite_number_stays_as_it_is_written() {
    let text = "a: .Inf\nb: +.inf\nc: 1e400\nd: .NaN\ne: \".inf\"\nf: -1e999\ng: &g .INF\nh: *g\n\
                i: !!float .inf\nj: '-.inf'\nk: !!str .inf\nl: |-\n  .nan\n";
    let document = parse(text);
    let root = map(document.root());
    let of = |key: &str| root.get(key).map(|node| &node.value).expect("key");
    for (key, text) in [
        ("a", ".Inf"),
        ("b", "+.inf"),
        ("c", "1e400"),
        ("d", ".NaN"),
        ("e", ".inf"),
        ("f", "-1e999"),
        ("g", ".INF"),
        ("h", ".INF"),
        ("i", ".inf"),
        ("j", "-.inf"),
        ("k", ".inf"),
        ("l", ".nan"),
    ] {
        assert_eq!(of(key), &Value::String(text.to_owned()), "{key}");
    }
}

#[test]
fn nothing_is_made_of_no_text() {
    for text in ["a: !!null x\n", "a: [!!null \"x\"]\n", "a: !!null 0\n"] {
        let problem = refused(text);
        assert!(problem.message.contains("as its tag says"), "{problem}");
    }
    for text in [
        "a: !!null ~\n",
        "a: !!null\n",
        "a: !!null ''\n",
        "a: &a\nb: *a\n",
        "a: {b: }\n",
        "a: {b}\n",
        "- \n- ~\n- Null",
    ] {
        parse(text);
    }
}

#[test]
fn json_is_read_too() {
    let document = parse("{\n  \"a\": [1, \"b\"],\n  \"c\": null\n}\n");
    let root = map(document.root());
    assert_eq!(root.entry("a").expect("a").key_position, at(2, 3));
    assert_eq!(root.get("c").expect("c").value, Value::Null);
}

#[test]
fn keys_that_are_numbers_are_text() {
    let document = parse("8080: x\ntrue: y\n");
    let keys: Vec<_> = map(document.root())
        .iter()
        .map(|e| e.key.as_str())
        .collect();
    assert_eq!(keys, ["8080", "true"]);
}

#[test]
fn malformed_documents_are_refused_where_they_are() {
    for (text, line, word) in [
        ("a: 1\na: 2\n", 2, "twice"),
        ("a: [1\nb: 2\n", 2, ""),
        ("a: *nowhere\n", 1, "anchor"),
        ("a: 1\n---\nb: 2\n", 3, "second"),
        ("a:\n\t- b\n", 2, "tab"),
        ("? [a, b]\n: c\n", 1, ""),
    ] {
        let problem = refused(text);
        assert_eq!(problem.position.line, line, "{text:?}: {problem}");
        assert!(
            problem.message.to_lowercase().contains(word),
            "{text:?}: {problem}"
        );
        assert!(!problem.message.contains('\n'), "{problem}");
    }
}

#[test]
fn an_empty_document_is_null() {
    for text in ["", "\n", "# only a remark\n", "---\n"] {
        assert_eq!(parse(text).root().value, Value::Null, "{text:?}");
    }
}

#[test]
fn expansion_and_depth_are_bounded() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let before = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [before.as_str(); 9].join(",")
        ));
    }
    refused(&bomb);
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..500 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    refused(&chain);
    refused(&"[".repeat(10_000));
    refused(&format!("{}{}", "[".repeat(100), "]".repeat(100)));
}

fn read<T>(text: &str, read: impl FnOnce(Cursor<'_>) -> T) -> (T, Vec<String>) {
    let document = parse(text);
    let reader = Reader::new(&document);
    let value = read(reader.root());
    let problems = match reader.finish() {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    };
    (value, problems)
}

#[test]
fn unknown_keys_name_the_nearest_and_the_allowed() {
    let (_, problems) = read("guests:\n  web: {vimd: 1}\n", |root| {
        let guests = root.fields(&["guests"])?.get("guests")?;
        let _ = guests.entries()?.first()?.2.fields(&["vmid", "node"]);
        Some(())
    });
    assert_eq!(
        problems,
        [
            "site.yaml:2:9: guests.web.vimd: unknown key; allowed here: `vmid`, `node` \
             (got `vimd`; did you mean `vmid`?)"
        ]
    );
}

#[test]
fn all_problems_are_collected_in_order() {
    let (_, problems) = read("a: 90\nb: maybe\nc: 70000\nd: cleint\ne:\n", |root| {
        let fields = root.fields(&["a", "b", "c", "d", "e", "f"])?;
        let _ = fields.required("f");
        let _ = fields.get("e")?.text();
        let _ = fields.get("d")?.word(&[("server", 1), ("client", 2)]);
        let _ = fields.get("c")?.integer(1_u16..=65535);
        let _ = fields.get("b")?.boolean();
        let _ = fields.get("a")?.duration();
        Some(())
    });
    assert_eq!(
        problems,
        [
            "site.yaml:1:1: the key `f` is missing",
            "site.yaml:1:4: a: the duration has no unit (got `90`; did you mean `90s`?)",
            "site.yaml:2:4: b: `true` or `false` is expected here, not a text (got `maybe`)",
            "site.yaml:3:4: c: a number from 1 to 65535 is expected here (got `70000`)",
            "site.yaml:4:4: d: one of `server`, `client` is expected here (got `cleint`; did you mean `client`?)",
            "site.yaml:5:2: e: a text is expected here, and nothing is written",
        ]
    );
}

#[test]
fn durations_have_units() {
    let (value, problems) = read("1h 30m", |root| root.duration());
    assert_eq!(
        (value, problems.len()),
        (Some(Duration::from_secs(5400)), 0)
    );
    for wrong in ["0s", "soon", "''", "[]", "-1d"] {
        let (value, problems) = read(wrong, |root| root.duration());
        assert_eq!((value, problems.len()), (None, 1), "{wrong}");
    }
}

#[test]
fn offending_text_is_short_and_on_one_line() {
    let long = format!("\"a\\n{}\"", "x".repeat(500));
    let (_, problems) = read(&long, |root| root.refuse("wrong"));
    assert!(problems[0].len() < 140, "{problems:?}");
    assert!(!problems[0].contains('\n'));
}

#[test]
fn an_excerpt_marks_the_column() {
    let text = "a: 1\nguests: many\n";
    let document = parse(text);
    let reader = Reader::new(&document);
    reader
        .root()
        .fields(&["a", "guests"])
        .and_then(|fields| fields.get("guests"))
        .expect("guests")
        .refuse("wrong");
    let problems = reader.finish().expect_err("refused");
    assert_eq!(
        problems.0[0].excerpt(text).expect("excerpt"),
        "    2 | guests: many\n      |         ^"
    );
    assert_eq!(problems.0[0].excerpt("a"), None);
}

#[test]
fn an_excerpt_ends_with_the_offending_text() {
    let text = "secrets: { value: hunter2 }\n";
    let document = parse(text);
    let reader = Reader::new(&document);
    let secrets = reader.root().child("secrets").expect("secrets");
    let _ = secrets.fields(&["file"]);
    let problems = reader.finish().expect_err("refused");
    assert_eq!(
        problems.0[0].excerpt(text).expect("excerpt"),
        "    1 | secrets: { value: …\n      |            ^"
    );
    let problem = refused("a: [1\nb: 2\n");
    assert!(
        problem
            .excerpt("a: [1\nb: 2\n")
            .expect("excerpt")
            .contains("b: 2")
    );
}

#[test]
fn near_names_are_found_and_far_ones_are_not() {
    let names = ["certificates", "secrets", "stacks", "renew_before"];
    assert_eq!(nearest("certs", names), None);
    assert_eq!(nearest("cert", names), Some("certificates"));
    assert_eq!(nearest("secret", names), Some("secrets"));
    assert_eq!(nearest("renew-before", names), Some("renew_before"));
    assert_eq!(nearest("Stacks", names), Some("stacks"));
    assert_eq!(nearest("portainer", names), None);
    assert_eq!(nearest("", names), None);
    assert_eq!(nearest("b", ["a"]), None);
}

#[test]
fn odd_keys_are_quoted_in_paths() {
    assert_eq!(child_path("a", "b"), "a.b");
    assert_eq!(child_path("a", "com.example.x"), "a[\"com.example.x\"]");
    assert_eq!(child_path("", ""), "[\"\"]");
}

fn check_positions(node: &Node, lines: &[usize]) {
    let inside = |p: Position| p.line >= 1 && p.column >= 1 && p.line as usize <= lines.len() + 1;
    assert!(inside(node.position), "{node:?}");
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| check_positions(item, lines)),
        Value::Map(map) => map.iter().for_each(|entry| {
            assert!(inside(entry.key_position), "{entry:?}");
            check_positions(&entry.value, lines);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_text_makes_parsing_panic(text in "[-a:&*<\\[\\]{}\n #'\"|>!?0.é\t,]{0,60}") {
        let lines: Vec<usize> = text.lines().map(|l| l.chars().count()).collect();
        match Document::parse("x", &text) {
            Ok(document) => check_positions(document.root(), &lines),
            Err(problem) => prop_assert!(problem.position.line as usize <= lines.len() + 1, "{}", problem),
        }
    }
}
