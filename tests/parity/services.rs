//! Services of compose files, made at random: every key of the format occurs.

use proptest::prelude::*;

use super::values::{
    Made, boolean, cpus, duration, integer, integer_from, list, map_of, mostly, odd, pairs, plain,
    plains, ratio, set, size, some, text, texts, with, word, woven,
};
use super::yaml::Yaml;

fn ports() -> Made {
    let number = || 1024..9000_u32;
    let protocol = || proptest::sample::select(&["", "", "/tcp", "/udp", "/sctp"][..]);
    let short = prop_oneof![
        (number(), number(), protocol())
            .prop_map(|(a, b, protocol)| text(format!("{a}:{b}{protocol}"))),
        (number(), protocol()).prop_map(|(a, protocol)| text(format!("{a}{protocol}"))),
        number().prop_map(|a| plain(a.to_string())),
        (number(), number(), 0..4_u32, protocol()).prop_map(|(a, b, more, protocol)| {
            text(format!("{a}-{}:{b}-{}{protocol}", a + more, b + more))
        }),
        (number(), number(), 0..4_u32)
            .prop_map(|(a, b, more)| text(format!("{a}-{}:{b}", a + more))),
        (number(), 0..3_u32).prop_map(|(a, more)| text(format!("{a}-{}", a + more))),
        (number(), number()).prop_map(|(a, b)| text(format!("127.0.0.1:{a}:{b}"))),
        (number(), number()).prop_map(|(a, b)| text(format!("[::1]:{a}:{b}"))),
        number().prop_map(|a| text(format!("127.0.0.1::{a}"))),
        texts(&[
            "${PORT}:80",
            "${PORT}1:80",
            "${X:-9005}",
            "0.0.0.0:9006:80",
            "09007:0080"
        ]),
    ];
    let long = with(
        vec![("target", integer_from(1, 9000))],
        0.5,
        vec![
            ("published", integer(9000)),
            (
                "protocol",
                mostly(plains(&["tcp", "udp", "sctp"]), texts(&[""])),
            ),
            ("mode", mostly(plains(&["host", "ingress"]), texts(&[""]))),
        ],
    );
    let bad = texts(&[
        "",
        "x",
        "80:",
        ":80",
        "1-2:3-5",
        "70000",
        "80/",
        "80:80:80",
        "1.2.3:80:80",
        "80-79",
    ]);
    set(mostly(prop_oneof![4 => short, 2 => long].boxed(), bad), 4)
}

fn volumes() -> Made {
    let source = || {
        proptest::sample::select(&["data", "logs", "/srv/x", "./here", "../up", "~/home", "."][..])
    };
    let target = || proptest::sample::select(&["/a", "/b", "/c/d", "/e/", "/é"][..]);
    let mode = || {
        proptest::sample::select(
            &[
                "",
                "",
                ":ro",
                ":rw",
                ":nocopy",
                ":ro,nocopy",
                ":rslave",
                ":z",
                ":ro,rshared",
            ][..],
        )
    };
    let short = prop_oneof![
        5 => (source(), target(), mode()).prop_map(|(source, target, mode)| text(format!("{source}:{target}{mode}"))),
        1 => target().prop_map(text),
    ];
    let target = || target().prop_map(text).boxed();
    let shared = || {
        vec![
            ("read_only", boolean()),
            ("consistency", plains(&["cached", "consistent"])),
        ]
    };
    let long = prop_oneof![
        with(
            vec![
                ("type", plains(&["volume"])),
                ("source", plains(&["data", "logs"])),
                ("target", target())
            ],
            0.4,
            [
                shared(),
                vec![(
                    "volume",
                    some(
                        0.6,
                        vec![("nocopy", boolean()), ("subpath", plains(&["a/b", "c"]))]
                    )
                )]
            ]
            .concat(),
        ),
        with(
            vec![("type", plains(&["volume"])), ("target", target())],
            0.3,
            shared()
        ),
        with(
            vec![
                ("type", plains(&["bind"])),
                ("source", plains(&["/srv", "./x", "..", "~"])),
                ("target", target())
            ],
            0.4,
            [
                shared(),
                vec![(
                    "bind",
                    some(
                        0.7,
                        vec![
                            ("propagation", plains(&["rslave", "shared", "private"])),
                            ("create_host_path", boolean()),
                        ]
                    )
                )]
            ]
            .concat(),
        ),
        with(
            vec![("type", plains(&["tmpfs"])), ("target", target())],
            0.5,
            [
                shared(),
                vec![(
                    "tmpfs",
                    some(
                        0.7,
                        vec![
                            (
                                "size",
                                mostly(
                                    plains(&["1024", "0", "10485760", "0x400", "1_024", "1024.0"]),
                                    plains(&["1m", "-1", "1.5", "\"5\""])
                                )
                            ),
                            ("mode", plains(&["01777"]))
                        ]
                    )
                )]
            ]
            .concat(),
        ),
        with(
            vec![
                ("type", plains(&["cluster"])),
                ("source", texts(&["data", "group:g"])),
                ("target", target())
            ],
            0.3,
            [shared(), vec![("cluster", plains(&["{}"]))]].concat()
        ),
        with(
            vec![
                ("type", plains(&["npipe"])),
                ("source", texts(&["\\\\.\\pipe\\a"])),
                ("target", texts(&["\\\\.\\pipe\\b"]))
            ],
            0.3,
            shared()
        ),
    ];
    let bad = prop_oneof![
        texts(&[
            "",
            ":",
            "a:b:c:d",
            "nowhere:/a",
            "data::ro",
            "v:/x",
            "data:/a:fast",
        ]),
        with(
            vec![
                (
                    "type",
                    plains(&["volume", "bind", "tmpfs", "nfs", "npipe", "cluster"])
                ),
                ("target", texts(&["/a"]))
            ],
            0.5,
            vec![
                ("source", texts(&["data", "/a", "nowhere", ""])),
                (
                    "bind",
                    some(0.5, vec![("propagation", plains(&["shared"]))])
                ),
                ("volume", some(0.5, vec![("nocopy", boolean())])),
                ("tmpfs", some(0.5, vec![("size", integer(5000))])),
            ],
        ),
    ];
    let item = prop_oneof![20 => short, 20 => long, 1 => bad];
    list(item.boxed(), 3)
}

fn networks() -> Made {
    const NAMES: &[&str] = &["front", "back", "default"];
    let attachment = mostly(
        prop_oneof![
            plains(&["~", "{}"]),
            some(
                0.6,
                vec![
                    ("aliases", set(word(), 3)),
                    ("ipv4_address", texts(&["10.0.0.9"])),
                    ("ipv6_address", texts(&["2001:db8::9"])),
                    (
                        "driver_opts",
                        map_of(
                            &["a", "b"],
                            mostly(plains(&["x", "5", "\"\"", "1.5"]), plains(&["true", "~"])),
                        ),
                    ),
                ]
            ),
        ]
        .boxed(),
        plains(&["true", "[a]", "{priority: 1}"]),
    );
    mostly(
        prop_oneof![set(plains(NAMES), 3), map_of(NAMES, attachment),].boxed(),
        plains(&["[nowhere]", "~", "front", "[outside]"]),
    )
}

/// References to these objects.
fn references(names: &'static [&'static str]) -> Made {
    let long = with(
        vec![("source", plains(names))],
        0.4,
        vec![
            ("target", texts(&["x", "/y/z", "w.conf", "x"])),
            ("uid", texts(&["103", "0"])),
            ("gid", texts(&["104", ""])),
            (
                "mode",
                mostly(
                    plains(&["0440", "0o400", "288", "0", "0777", "\"${N}\""]),
                    plains(&["\"0440\"", "x", "-1"]),
                ),
            ),
        ],
    );
    set(prop_oneof![2 => plains(names), 2 => long].boxed(), 3)
}

fn command() -> Made {
    prop_oneof![
        texts(&[
            "a b",
            "a \"b c\"",
            "a 'b c' d",
            "a\\ b",
            "a # b",
            "",
            "  a  ",
            "a \"b\\\"c\"",
            "a$$b",
            "a 'b\"c' \"d'e\"",
            "'' a",
            "a\nb",
            "sh -c \"exec x\"",
            "a#b",
            "a ${V} b",
        ]),
        list(odd(), 3),
        mostly(
            word(),
            prop_oneof![
                texts(&["a 'b", "a \"b", "a\\"]),
                plains(&["~", "{a: b}", "[1]"])
            ]
            .boxed()
        ),
    ]
    .boxed()
}

fn healthcheck() -> Made {
    let test = prop_oneof![
        texts(&["curl -f x || exit 1", "true", "a ${V}"]),
        word().prop_map(|word| Yaml::List(vec![plain("CMD"), word])),
        plains(&["[CMD-SHELL, \"exit 0\"]", "[NONE]", "[]", "[x]"]),
    ];
    let times = || {
        vec![
            ("interval", duration()),
            ("timeout", duration()),
            ("retries", mostly(integer(9), plains(&["1.5", "0.9"]))),
            ("start_period", duration()),
            ("start_interval", duration()),
        ]
    };
    prop_oneof![
        6 => with(vec![("test", test.boxed())], 0.5, times()),
        1 => with(vec![("disable", boolean())], 0.3, times()),
        1 => some(0.5, times()),
    ]
    .boxed()
}

fn update() -> Made {
    some(
        0.5,
        vec![
            ("parallelism", integer(5)),
            ("delay", duration()),
            (
                "failure_action",
                mostly(plains(&["pause", "continue", "rollback"]), plains(&["x"])),
            ),
            ("monitor", duration()),
            ("max_failure_ratio", ratio()),
            (
                "order",
                mostly(
                    plains(&["start-first", "stop-first"]),
                    plains(&["x", "\"\""]),
                ),
            ),
        ],
    )
}

fn deploy() -> Made {
    let resources = some(
        0.6,
        vec![
            (
                "limits",
                some(
                    0.6,
                    vec![
                        ("cpus", cpus()),
                        ("memory", size()),
                        ("pids", plains(&["0", "1", "100"])),
                    ],
                ),
            ),
            (
                "reservations",
                some(
                    0.5,
                    vec![
                        ("cpus", cpus()),
                        ("memory", size()),
                        (
                            "generic_resources",
                            list(
                                (word(), integer(9))
                                    .prop_map(|(kind, value)| {
                                        Yaml::Map(vec![(
                                            "discrete_resource_spec".to_owned(),
                                            Yaml::Map(vec![
                                                ("kind".to_owned(), kind),
                                                ("value".to_owned(), value),
                                            ]),
                                        )])
                                    })
                                    .boxed(),
                                2,
                            ),
                        ),
                    ],
                ),
            ),
        ],
    );
    let restart = some(
        0.6,
        vec![
            (
                "condition",
                mostly(
                    plains(&["none", "on-failure", "any"]),
                    plains(&["always", "\"\""]),
                ),
            ),
            ("delay", duration()),
            ("max_attempts", integer(5)),
            ("window", duration()),
        ],
    );
    let placement = some(
        0.6,
        vec![
            (
                "constraints",
                list(
                    mostly(
                        texts(&[
                            "node.role == manager",
                            "node.labels.a != b",
                            "node.id==x",
                            "node.hostname == ${V}",
                            "engine.labels.a == b",
                        ]),
                        texts(&["node.role = manager", "", "a"]),
                    ),
                    2,
                ),
            ),
            (
                "preferences",
                list(
                    mostly(
                        word()
                            .prop_map(|word| Yaml::Map(vec![("spread".to_owned(), word)]))
                            .boxed(),
                        plains(&["{}", "{spread: \"\"}", "{binpack: a}", "a"]),
                    ),
                    2,
                ),
            ),
            ("max_replicas_per_node", integer(3)),
        ],
    );
    some(
        0.35,
        vec![
            (
                "mode",
                mostly(
                    plains(&[
                        "replicated",
                        "global",
                        "replicated",
                        "replicated-job",
                        "global-job",
                        "\"\"",
                    ]),
                    plains(&["x", "Global"]),
                ),
            ),
            ("replicas", integer(5)),
            (
                "endpoint_mode",
                mostly(plains(&["vip", "VIP", "dnsrr"]), plains(&["x", "\"\""])),
            ),
            ("labels", pairs()),
            ("update_config", update()),
            ("rollback_config", update()),
            ("resources", resources),
            ("restart_policy", restart),
            ("placement", placement),
        ],
    )
}

/// The keys of a service but its image.
pub(crate) fn keys() -> Vec<(&'static str, Made)> {
    let limit = prop_oneof![
        2 => integer(5000),
        2 => with(
            vec![
                ("soft", plains(&["0", "5", "\"${N}\""])),
                ("hard", plains(&["5", "5000", "0x10", "\"${X:-64}\""])),
            ],
            0.5,
            vec![],
        ),
        1 => plains(&["-1", "0", "{soft: -1, hard: -1}", "{soft: 0, hard: 5}"]),
    ];
    let capabilities = || {
        set(
            mostly(
                plains(&["net_admin", "SYS_TIME", "CAP_CHOWN", "chown", "ALL", "KILL"]),
                plains(&["all", "RESET", "5"]),
            ),
            3,
        )
    };
    let mut keys = vec![
        ("command", command()),
        ("entrypoint", command()),
        ("environment", pairs()),
        (
            "env_file",
            mostly(
                plains(&[
                    "./files/plain.env",
                    "[./files/plain.env, files/second.env]",
                    "files/bare.env",
                    "[]",
                ]),
                plains(&["files/none.env", "files/no-key.env", "~"]),
            ),
        ),
        ("labels", pairs()),
        ("ports", ports()),
        ("volumes", volumes()),
        ("networks", networks()),
        ("secrets", references(&["secret_one", "secret_two"])),
        ("configs", references(&["config_one", "config_two"])),
        ("healthcheck", healthcheck()),
        ("deploy", deploy()),
        ("hostname", prop_oneof![odd(), woven()].boxed()),
        ("user", texts(&["1000", "a:b", ""])),
        ("working_dir", texts(&["/srv", "a"])),
        ("stop_grace_period", duration()),
        ("stop_signal", plains(&["SIGTERM", "SIGQUIT", "\"9\""])),
        ("init", plains(&["true", "false"])),
        ("tty", boolean()),
        ("stdin_open", boolean()),
        ("read_only", boolean()),
        (
            "extra_hosts",
            prop_oneof![
                set(
                    texts(&[
                        "a:10.0.0.1",
                        "b=10.0.0.2",
                        "c:::1",
                        "d:[::1]",
                        "e=[fe80::1]",
                        "f:host-gateway",
                        "g:x",
                        "h : 10.0.0.3"
                    ]),
                    3
                ),
                map_of(
                    &["a", "b", "c"],
                    texts(&["10.0.0.1", "::1", "[::2]", "${V}"])
                ),
            ]
            .boxed(),
        ),
        (
            "dns",
            prop_oneof![
                texts(&["10.0.0.53", "::1"]),
                set(texts(&["10.0.0.53", "10.0.0.54", "2001:db8::0:1"]), 3)
            ]
            .boxed(),
        ),
        ("dns_search", prop_oneof![word(), set(word(), 2)].boxed()),
        ("cap_add", capabilities()),
        ("cap_drop", capabilities()),
        ("sysctls", pairs()),
        (
            "ulimits",
            map_of(&["nofile", "nproc", "core"], limit.boxed()),
        ),
        (
            "logging",
            some(
                0.7,
                vec![
                    ("driver", plains(&["json-file", "syslog", "none"])),
                    (
                        "options",
                        map_of(
                            &["max-size", "tag", "a"],
                            mostly(
                                prop_oneof![odd(), plains(&["3", "~", "1.10"])].boxed(),
                                plains(&["true"]),
                            ),
                        ),
                    ),
                ],
            ),
        ),
        (
            "restart",
            mostly(
                plains(&[
                    "always",
                    "\"no\"",
                    "on-failure",
                    "on-failure:3",
                    "unless-stopped",
                    "no",
                ]),
                plains(&["x", "\"\""]),
            ),
        ),
        (
            "depends_on",
            mostly(
                set(plains(&["web", "db"]), 2),
                plains(&["{web: {condition: service_started}}", "web", "~"]),
            ),
        ),
        ("tmpfs", plains(&["/run", "[/run, /tmp]"])),
        ("expose", plains(&["[80]", "[\"80\"]"])),
        ("container_name", word()),
        ("privileged", boolean()),
        ("links", plains(&["[db]"])),
        ("x-extension", odd()),
        ("isolation", plains(&["default", "process"])),
        ("oom_score_adj", plains(&["100"])),
        (
            "credential_spec",
            mostly(
                plains(&[
                    "{config: config_one}",
                    "{file: a.json}",
                    "{registry: x}",
                    "{}",
                    "{config: \"\", file: x}",
                ]),
                plains(&["{config: nowhere}", "{file: a, registry: b}", "~", "{a: b}"]),
            ),
        ),
    ];
    keys.extend(unsupported());
    keys
}

/// Keys that docker ignores.
fn unsupported() -> Vec<(&'static str, Made)> {
    let bad = || plains(&["~", "[1]", "{a: b}", "5"]);
    let ignored = |good: &'static [&'static str]| mostly(plains(good), bad());
    vec![
        (
            "build",
            ignored(&[
                ".",
                "{context: ., args: {A: 1}, labels: [a=b], cache_from: [x], target: t}",
                "{context: ., network: host, x-a: 1, more: [{}]}",
            ]),
        ),
        ("cgroup_parent", ignored(&["a"])),
        ("cgroupns_mode", ignored(&["host"])),
        ("devices", ignored(&["[\"/dev/a:/dev/b\"]", "[]"])),
        ("domainname", ignored(&["a", "\"\""])),
        ("external_links", ignored(&["[a]"])),
        ("ipc", ignored(&["host"])),
        ("mac_address", ignored(&["\"02:42:ac:11:00:02\""])),
        ("network_mode", ignored(&["host", "bridge"])),
        ("pid", ignored(&["host", "~"])),
        ("security_opt", ignored(&["[a]"])),
        ("shm_size", mostly(plains(&["64m"]), plains(&["5", "1.5"]))),
        ("userns_mode", ignored(&["host"])),
    ]
}

/// A service with some of these keys.
pub(crate) fn service(image: Made, probability: f64, keys: Vec<(&'static str, Made)>) -> Made {
    with(vec![("image", image)], probability, keys)
}
