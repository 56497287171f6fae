//! Every deliberate difference from `docker stack deploy`: each row of the table in the
//! documentation is an example here, and behaves as the row says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::super::{Compat, ComposeFile, LoadOptions};
use super::service_text;

/// What becomes of an example.
enum Becomes {
    /// An error that says this.
    Refused(&'static str),
    /// A value (as JSON) at a place in the first service's body.
    Sent(&'static str, &'static str),
    /// A service that another one waits for.
    Waits,
}

use Becomes::{Refused, Sent, Waits};

struct Difference {
    what: &'static str,
    /// Lines of a service (`services` is prefixed), or whole files.
    files: &'static [&'static str],
    docker: &'static str,
    phoenix: &'static str,
    why: &'static str,
    /// What becomes of it here.
    here: Becomes,
    /// What becomes of it in docker's way, and what the warning says (nothing when none is given).
    there: (Becomes, &'static str),
}

const NOTHING: &str = "null";

const TABLE: &[Difference] = &[
    Difference {
        what: "A host address in a port",
        files: &["ports: [\"127.0.0.1:8080:80\"]"],
        docker: "drops the address: the port is open to everybody",
        phoenix: "refuses it (`0.0.0.0` and `[::]` are every address, as a swarm has it)",
        why: "a port that was meant for one machine becomes public",
        here: Refused("every address"),
        there: (
            Sent("/EndpointSpec/Ports/0/PublishedPort", "8080"),
            "open at every address",
        ),
    },
    Difference {
        what: "`tmpfs` of a service",
        files: &["tmpfs: /run"],
        docker: "drops it",
        phoenix: "mounts it",
        why: "what was meant can be done",
        here: Sent("/TaskTemplate/ContainerSpec/Mounts/0/Target", "\"/run\""),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Mounts", NOTHING),
            "drops this key",
        ),
    },
    Difference {
        what: "`depends_on`",
        files: &["services: {w: {image: a, depends_on: [v]}, v: {image: a}}"],
        docker: "drops it",
        phoenix: "deploys a service after those it depends on have converged",
        why: "what was meant can be done",
        here: Waits,
        there: (Sent("/Name", "\"st_w\""), "the order is lost"),
    },
    Difference {
        what: "An empty environment value",
        files: &["environment: {TAG: \"\"}"],
        docker: "takes the variable of that name from the operator's shell",
        phoenix: "leaves it empty",
        why: "what is deployed must not depend on who deploys it",
        here: Sent("/TaskTemplate/ContainerSpec/Env/0", "\"TAG=\""),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Env/0", "\"TAG=1.27\""),
            "of its own environment",
        ),
    },
    Difference {
        what: "A volume with a name of one letter",
        files: &["services: {w: {image: a, volumes: [\"v:/data\"]}}\nvolumes: {v: }"],
        docker: "takes it for a Windows drive, and mounts an anonymous volume at `v:/data`",
        phoenix: "mounts the volume",
        why: "data would be lost with the task",
        here: Sent("/TaskTemplate/ContainerSpec/Mounts/0/Source", "\"st_v\""),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Mounts/0/Target", "\"v:/data\""),
            "Windows drive",
        ),
    },
    Difference {
        what: "Unknown options of a mount",
        files: &["volumes: [\"/a:/b:z\"]"],
        docker: "drops them",
        phoenix: "refuses them",
        why: "a label or a delegation that does not happen is a fault",
        here: Refused("does nothing"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Mounts/0/Source", "\"/a\""),
            "options it does not know",
        ),
    },
    Difference {
        what: "`~` in a path to mount",
        files: &["volumes: [\"~/a:/b\"]"],
        docker: "puts the operator's home directory there",
        phoenix: "refuses it",
        why: "the directory is looked for on the nodes, which know no operator",
        here: Refused("no meaning"),
        there: (
            Sent(
                "/TaskTemplate/ContainerSpec/Mounts/0/Source",
                "\"/home/op/a\"",
            ),
            "home directory",
        ),
    },
    Difference {
        what: "Options of a volume without a name",
        files: &["volumes: [{type: volume, target: /x, volume: {nocopy: true}}]"],
        docker: "drops them",
        phoenix: "sends them",
        why: "what was meant can be done",
        here: Sent(
            "/TaskTemplate/ContainerSpec/Mounts/0/VolumeOptions/NoCopy",
            "true",
        ),
        there: (
            Sent(
                "/TaskTemplate/ContainerSpec/Mounts/0/VolumeOptions",
                NOTHING,
            ),
            "without a name",
        ),
    },
    Difference {
        what: "`create_host_path` and other keys of a bind",
        files: &["volumes: [{type: bind, source: /a, target: /b, bind: {create_host_path: true}}]"],
        docker: "drops them",
        phoenix: "refuses them",
        why: "nothing makes the directory on the nodes",
        here: Refused("unknown key"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Mounts/0/BindOptions", "{}"),
            "drops this key",
        ),
    },
    Difference {
        what: "Unsupported keys: `build`, `privileged`, `devices`, `network_mode`, `security_opt`…",
        files: &["privileged: true"],
        docker: "ignores them with one line for all",
        phoenix: "refuses each at its place, with what to do instead",
        why: "the service would run with something else than was asked for",
        here: Refused("cap_add"),
        there: (Sent("/Name", "\"st_w\""), "ignores this key"),
    },
    Difference {
        what: "Deprecated keys: `container_name`, `expose`",
        files: &["container_name: x"],
        docker: "ignores them with one line for all",
        phoenix: "refuses them",
        why: "they do nothing",
        here: Refused("names of containers"),
        there: (Sent("/Name", "\"st_w\""), "ignores this key"),
    },
    Difference {
        what: "`oom_score_adj`",
        files: &["oom_score_adj: 5"],
        docker: "drops it",
        phoenix: "refuses it",
        why: "engines before version 27 drop it too, and would differ for ever",
        here: Refused("without a word"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/OomScoreAdj", NOTHING),
            "drops this key",
        ),
    },
    Difference {
        what: "`ipv4_address`, `ipv6_address`",
        files: &["networks: {default: {ipv4_address: 10.0.0.9}}"],
        docker: "drops them",
        phoenix: "refuses them",
        why: "a swarm gives services no fixed addresses",
        here: Refused("fixed addresses"),
        there: (
            Sent("/TaskTemplate/Networks/0/Target", "\"st_default\""),
            "drops this key",
        ),
    },
    Difference {
        what: "Unknown keys of a secret or config of a service",
        files: &[
            "services: {w: {image: a, secrets: [{source: s, targt: x}]}}\nsecrets: {s: {external: true}}",
        ],
        docker: "drops them",
        phoenix: "refuses them, with the key that may have been meant",
        why: "a misspelt `target` or `mode` goes unnoticed",
        here: Refused("did you mean `target`?"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Secrets/0/File/Name", "\"s\""),
            "drops this key",
        ),
    },
    Difference {
        what: "`restart: \"no\"`",
        files: &["restart: \"no\""],
        docker: "drops it, and the engine restarts whatever ends",
        phoenix: "sends the condition `none`",
        why: "what was meant can be done",
        here: Sent("/TaskTemplate/RestartPolicy/Condition", "\"none\""),
        there: (
            Sent("/TaskTemplate/RestartPolicy", NOTHING),
            "docker drops this",
        ),
    },
    Difference {
        what: "`restart` beside `deploy.restart_policy`",
        files: &["restart: always\ndeploy: {restart_policy: {condition: none}}"],
        docker: "ignores `restart`",
        phoenix: "refuses it",
        why: "two answers to one question",
        here: Refused("says the same"),
        there: (
            Sent("/TaskTemplate/RestartPolicy/Condition", "\"none\""),
            "ignores this key",
        ),
    },
    Difference {
        what: "`retries: 1.5`",
        files: &["healthcheck: {test: x, retries: 1.5}"],
        docker: "takes 1",
        phoenix: "refuses it",
        why: "it is no count",
        here: Refused("whole number"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Healthcheck/Retries", "1"),
            "takes 1",
        ),
    },
    Difference {
        what: "A test of health that begins with no keyword",
        files: &["healthcheck: {test: [curl, x]}"],
        docker: "sends it, and no task ever starts",
        phoenix: "refuses it",
        why: "the fault shows where it is made",
        here: Refused("CMD-SHELL"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Healthcheck/Test/0", "\"curl\""),
            "CMD-SHELL",
        ),
    },
    Difference {
        what: "`failure_action: rollback` of a rollback",
        files: &["deploy: {rollback_config: {failure_action: rollback}}"],
        docker: "sends it",
        phoenix: "refuses it",
        why: "a rollback that fails cannot be rolled back",
        here: Refused("`continue`"),
        there: (
            Sent("/RollbackConfig/FailureAction", "\"rollback\""),
            "cannot be rolled back",
        ),
    },
    Difference {
        what: "`rollback_config` of a job",
        files: &["deploy: {mode: global-job, rollback_config: {order: stop-first}}"],
        docker: "sends it",
        phoenix: "refuses it",
        why: "jobs are never rolled back",
        here: Refused("they run again"),
        there: (
            Sent("/RollbackConfig/Order", "\"stop-first\""),
            "they run again",
        ),
    },
    Difference {
        what: "A preference without `spread`",
        files: &["deploy: {placement: {preferences: [{}]}}"],
        docker: "sends it",
        phoenix: "refuses it",
        why: "it prefers nothing",
        here: Refused("`spread` is missing"),
        there: (
            Sent(
                "/TaskTemplate/Placement/Preferences/0/Spread/SpreadDescriptor",
                "\"\"",
            ),
            "over nothing",
        ),
    },
    Difference {
        what: "A port with an empty protocol: `80/`",
        files: &["ports: [\"80/\"]"],
        docker: "takes it for `80/tcp`",
        phoenix: "refuses it",
        why: "something is missing there",
        here: Refused("the protocol is one of"),
        there: (
            Sent("/EndpointSpec/Ports/0/Protocol", "\"tcp\""),
            "empty protocol",
        ),
    },
    Difference {
        what: "The published port 0",
        files: &["ports: [\"0:80\"]"],
        docker: "lets the swarm choose one",
        phoenix: "refuses it; `80` says the same",
        why: "it is no port",
        here: Refused("1 to 65535"),
        there: (
            Sent("/EndpointSpec/Ports/0/PublishedPort", NOTHING),
            "port 0",
        ),
    },
    Difference {
        what: "Numbers, booleans and dates as keys",
        files: &["labels: {1: b}"],
        docker: "refuses them with an error of its own making",
        phoenix: "takes them as texts, in docker's way too",
        why: "what was meant can be done",
        here: Sent("/TaskTemplate/ContainerSpec/Labels/1", "\"b\""),
        there: (Sent("/TaskTemplate/ContainerSpec/Labels/1", "\"b\""), ""),
    },
    Difference {
        what: "An empty test of health",
        files: &["healthcheck: {test: \"\"}"],
        docker: "sends it",
        phoenix: "refuses it",
        why: "it tests nothing",
        here: Refused("an empty text"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Healthcheck/Test/1", "\"\""),
            "",
        ),
    },
    Difference {
        what: "`mode` of a tmpfs",
        files: &["volumes: [{type: tmpfs, target: /x, tmpfs: {mode: 01777}}]"],
        docker: "drops it",
        phoenix: "sends it",
        why: "what was meant can be done",
        here: Sent(
            "/TaskTemplate/ContainerSpec/Mounts/0/TmpfsOptions/Mode",
            "1023",
        ),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Mounts/0/TmpfsOptions", "{}"),
            "drops this key",
        ),
    },
    Difference {
        what: "A name server that is no address",
        files: &["dns: [example.org, 10.0.0.1]"],
        docker: "drops it (since version 29)",
        phoenix: "refuses it",
        why: "names would be asked for elsewhere",
        here: Refused("IP address"),
        there: (
            Sent(
                "/TaskTemplate/ContainerSpec/DNSConfig/Nameservers",
                "[\"10.0.0.1\"]",
            ),
            "no IP address",
        ),
    },
    Difference {
        what: "An entry of `extra_hosts` without an address",
        files: &["extra_hosts: [a, \"b:10.0.0.1\"]"],
        docker: "drops it",
        phoenix: "refuses it",
        why: "the host would not be known",
        here: Refused("name:address"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Hosts", "[\"10.0.0.1 b\"]"),
            "without an address",
        ),
    },
    Difference {
        what: "`RESET` among capabilities",
        files: &["cap_add: [RESET, NET_ADMIN]"],
        docker: "drops it",
        phoenix: "refuses it",
        why: "there is nothing to reset",
        here: Refused("NET_ADMIN"),
        there: (
            Sent(
                "/TaskTemplate/ContainerSpec/CapabilityAdd",
                "[\"CAP_NET_ADMIN\"]",
            ),
            "drops this word",
        ),
    },
    Difference {
        what: "`x-cluster-spec` of a volume",
        files: &["services: {w: {image: a}}\nvolumes: {v: {x-cluster-spec: {group: g}}}"],
        docker: "drops it: a stack makes no cluster volumes",
        phoenix: "refuses it (mounts of type `cluster` work)",
        why: "the volume would never be there",
        here: Refused("cluster volumes"),
        there: (Sent("/Name", "\"st_w\""), "cluster volumes"),
    },
    Difference {
        what: "Other keys beside `external`",
        files: &["services: {w: {image: a}}\nnetworks: {n: {external: true, driver: x}}"],
        docker: "drops them, except those of volumes",
        phoenix: "refuses them",
        why: "the stack does not make what is external",
        here: Refused("not made by this stack"),
        there: (Sent("/Name", "\"st_w\""), "drops this key"),
    },
    Difference {
        what: "Two networks, secrets or configs of one name",
        files: &[
            "services: {w: {image: a, networks: [n, m]}}\nnetworks: {n: {name: x}, m: {name: x}}",
        ],
        docker: "makes one of the networks, by chance; makes one of the others, and fails at the next",
        phoenix: "refuses them, in docker's way too",
        why: "what the other one says is lost",
        here: Refused("has the name `x` already"),
        there: (Refused("has the name `x` already"), ""),
    },
    Difference {
        what: "`driver_opts` of a secret without `driver`",
        files: &[
            "services: {w: {image: a}}\nsecrets: {s: {file: Cargo.toml, driver_opts: {a: b}}}",
        ],
        docker: "drops them",
        phoenix: "refuses them",
        why: "they mean nothing",
        here: Refused("mean nothing"),
        there: (Sent("/Name", "\"st_w\""), "drops this key"),
    },
    Difference {
        what: "A variable that is not set",
        files: &["hostname: \"a${NONE}\""],
        docker: "puts nothing there",
        phoenix: "refuses it; `${NONE:-}` says that nothing is meant",
        why: "a misspelt variable goes unnoticed",
        here: Refused("not set"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Hostname", "\"a\""),
            "is not set",
        ),
    },
    Difference {
        what: "A modifier without braces: `$IMG-alpine`",
        files: &["hostname: $TAG-alpine"],
        docker: "reads `alpine` as a default, and loses it",
        phoenix: "refuses it, and says to write `${TAG}-alpine`",
        why: "another image would run",
        here: Refused("with braces"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Hostname", "\"1.27\""),
            "no braces",
        ),
    },
    Difference {
        what: "A hyphen in a message: `${X:?not-set}`",
        files: &["hostname: \"a${TAG:?not-set}\""],
        docker: "reads a default (`set`), whether or not the variable is set",
        phoenix: "takes the first modifier: the variable is required",
        why: "a required variable would never be missed, nor used",
        here: Sent("/TaskTemplate/ContainerSpec/Hostname", "\"a1.27\""),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Hostname", "\"aset\""),
            "another modifier",
        ),
    },
    Difference {
        what: "A fault before another variable: `${X:?needed} $TAG`",
        files: &["hostname: \"a${X:?needed}$TAG\""],
        docker: "forgets the fault",
        phoenix: "refuses it",
        why: "a required variable would not be missed",
        here: Refused("X is not set"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Hostname", "\"a1.27\""),
            "forgets",
        ),
    },
    Difference {
        what: "A variable within a default: `${A:-${B}}`",
        files: &["hostname: \"${NONE:-${TAG}}\""],
        docker: "leaves `${TAG}` as it is",
        phoenix: "refuses it (the compose dialect knows it)",
        why: "a dollar sign in the result is never meant",
        here: Refused("nested"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Hostname", "\"${TAG}\""),
            "replaces no variables",
        ),
    },
    Difference {
        what: "A variable where a boolean or number is expected",
        files: &["init: ${YES}"],
        docker: "reads some of them, and refuses others (`init`, `pids`, `size`)",
        phoenix: "reads all of them",
        why: "what was meant can be done",
        here: Sent("/TaskTemplate/ContainerSpec/Init", "true"),
        there: (Refused("`true` or `false`"), ""),
    },
    Difference {
        what: "A mode that a variable brings in: `mode: ${MODE}` with `0440`",
        files: &[
            "services: {w: {image: a, secrets: [{source: s, mode: \"${MODE}\"}]}}\nsecrets: {s: {external: true}}",
        ],
        docker: "reads it as a decimal number",
        phoenix: "reads it as the octal number it is",
        why: "the file would have strange permissions",
        here: Sent("/TaskTemplate/ContainerSpec/Secrets/0/File/Mode", "288"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Secrets/0/File/Mode", "440"),
            "octal ones begin with `0`",
        ),
    },
    Difference {
        what: "A date or time as a value",
        files: &["environment: {DAY: 2020-01-01}"],
        docker: "writes `2020-01-01 00:00:00 +0000 UTC` in maps of texts (since version 28), and fails elsewhere",
        phoenix: "leaves it as it is",
        why: "nobody means that",
        here: Sent("/TaskTemplate/ContainerSpec/Env/0", "\"DAY=2020-01-01\""),
        there: (
            Sent(
                "/TaskTemplate/ContainerSpec/Env/0",
                "\"DAY=2020-01-01 00:00:00 +0000 UTC\"",
            ),
            "for a time",
        ),
    },
    Difference {
        what: "A number that YAML takes for one by accident: `1_0.5`, `1__0`",
        files: &["environment: {A: 1_0.5}"],
        docker: "writes `10.5`",
        phoenix: "leaves it as it is",
        why: "nobody means that",
        here: Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=1_0.5\""),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=10.5\""),
            "underscores",
        ),
    },
    Difference {
        what: "`.inf` and `.nan`",
        files: &["environment: {A: .inf}"],
        docker: "fails",
        phoenix: "leaves them as they are",
        why: "what was meant can be done",
        here: Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=.inf\""),
        there: (Refused("not finite"), ""),
    },
    Difference {
        what: "The tags `!reset` and `!override`",
        files: &["environment: !override {A: x}"],
        docker: "does not know them, and goes on",
        phoenix: "refuses them",
        why: "what they take away would stay",
        here: Refused("this tag is not supported"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=x\""),
            "does not know this tag",
        ),
    },
    Difference {
        what: "`<<` without a map, or twice in one map",
        files: &["environment: {<<: , A: x}"],
        docker: "refuses it",
        phoenix: "joins what there is, in docker's way too",
        why: "what was meant can be done",
        here: Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=x\""),
        there: (Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=x\""), ""),
    },
    Difference {
        what: "What YAML 1.2 has and docker's 1.1 does not: `\"\\/\"`, pairs of surrogates, tabs in blank lines, `%YAML 1.2`",
        files: &["environment: {A: \"\\/\"}"],
        docker: "refuses it",
        phoenix: "reads it, in docker's way too",
        why: "what was meant can be done",
        here: Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=/\""),
        there: (Sent("/TaskTemplate/ContainerSpec/Env/0", "\"A=/\""), ""),
    },
    Difference {
        what: "A second YAML document",
        files: &["services: {w: {image: a}}\n---\nservices: {v: {image: a}}"],
        docker: "does not read it",
        phoenix: "refuses it, in docker's way too",
        why: "what is written in it would not be deployed",
        here: Refused("a second YAML document"),
        there: (Refused("a second YAML document"), ""),
    },
    Difference {
        what: "A network whose driver is of one node: `bridge`, `host`, `none`, `macvlan`, `ipvlan`",
        files: &["services: {w: {image: a, networks: [n]}}\nnetworks: {n: {driver: bridge}}"],
        docker: "makes it on the manager, where the engine refuses the service that uses it",
        phoenix: "refuses it (a `bridge` of the compose dialect becomes an overlay)",
        why: "the fault shows where it is made, and nothing is left behind",
        here: Refused("those of one node"),
        there: (
            Sent("/TaskTemplate/Networks/0/Target", "\"st_n\""),
            "those of one node",
        ),
    },
    Difference {
        what: "Two files: `false`, `0` or an empty text in the later one",
        files: &[
            "services: {w: {image: a, tty: true}}",
            "services: {w: {tty: false}}",
        ],
        docker: "keeps the earlier value (except of `replicas`, `parallelism`, `retries` and `max_attempts`)",
        phoenix: "takes the later value",
        why: "it was written to be taken",
        here: Sent("/TaskTemplate/ContainerSpec/TTY", NOTHING),
        there: (
            Sent("/TaskTemplate/ContainerSpec/TTY", "true"),
            "replaces nothing",
        ),
    },
    Difference {
        what: "Two files: an empty environment variable in the later one",
        files: &[
            "services: {w: {image: a, environment: {A: x}}}",
            "services: {w: {environment: {A: \"\"}}}",
        ],
        docker: "keeps the earlier value",
        phoenix: "takes the later value",
        why: "it was written to be taken",
        here: Sent("/TaskTemplate/ContainerSpec/Env", "[\"A=\"]"),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Env", "[\"A=x\"]"),
            "replaces nothing",
        ),
    },
    Difference {
        what: "Two files: tests of health",
        files: &[
            "services: {w: {image: a, healthcheck: {test: x}}}",
            "services: {w: {healthcheck: {test: y}}}",
        ],
        docker: "appends one to the other, which is no test",
        phoenix: "takes the later one",
        why: "the result would run the wrong program",
        here: Sent(
            "/TaskTemplate/ContainerSpec/Healthcheck/Test",
            "[\"CMD-SHELL\", \"y\"]",
        ),
        there: (
            Sent(
                "/TaskTemplate/ContainerSpec/Healthcheck/Test",
                "[\"CMD-SHELL\", \"x\", \"CMD-SHELL\", \"y\"]",
            ),
            "appends this",
        ),
    },
    Difference {
        what: "Two files: ports of different protocols, or without a published port",
        files: &[
            "services: {w: {image: a, ports: [\"53:53\"]}}",
            "services: {w: {ports: [\"53:53/udp\"]}}",
        ],
        docker: "keeps the last one with the same published number, or with none",
        phoenix: "keeps all",
        why: "they are different ports",
        here: Sent("/EndpointSpec/Ports/1/Protocol", "\"udp\""),
        there: (Sent("/EndpointSpec/Ports/1", NOTHING), ""),
    },
    Difference {
        what: "Two files: one secret or config at two targets",
        files: &[
            "services: {w: {image: a, secrets: [{source: s, target: x}, {source: s, target: y}]}}\nsecrets: {s: {external: true}}",
            "services: {w: {tty: true}}",
        ],
        docker: "loses one of them",
        phoenix: "keeps both, in the same order every time",
        why: "a file would be missing",
        here: Sent("/TaskTemplate/ContainerSpec/Secrets/1/File/Name", "\"y\""),
        there: (
            Sent("/TaskTemplate/ContainerSpec/Secrets/1", NOTHING),
            "loses this",
        ),
    },
    Difference {
        what: "Two files: `driver_opts` of a service's network",
        files: &[
            "services: {w: {image: a, networks: {default: {driver_opts: {k: v}}}}}",
            "services: {w: {networks: {default: {driver_opts: {k: w}}}}}",
        ],
        docker: "keeps the earlier ones",
        phoenix: "takes the later ones",
        why: "they were written to be taken",
        here: Sent("/TaskTemplate/Networks/0/DriverOpts/k", "\"w\""),
        there: (
            Sent("/TaskTemplate/Networks/0/DriverOpts/k", "\"v\""),
            "keeps the options",
        ),
    },
    Difference {
        what: "Two files: the aliases of a network that is named again without any",
        files: &[
            "services: {w: {image: a, networks: {default: {aliases: [db]}}}}",
            "services: {w: {networks: {default: {}}}}",
        ],
        docker: "drops the earlier ones",
        phoenix: "keeps them",
        why: "others would no longer find the service",
        here: Sent("/TaskTemplate/Networks/0/Aliases/0", "\"db\""),
        there: (
            Sent("/TaskTemplate/Networks/0/Aliases/0", "\"w\""),
            "drops the aliases",
        ),
    },
    Difference {
        what: "Two files: a network, volume, secret or config that is declared in both",
        files: &[
            "services: {w: {image: a, networks: [n]}}\nnetworks: {n: {external: true, name: lan}}",
            "services: {w: {tty: true}}\nnetworks: {n: {}}",
        ],
        docker: "keeps the later declaration alone",
        phoenix: "merges them key by key; what does not go together (`external` and a driver) is refused",
        why: "the stack would make another network, volume or secret in the place of the one that was meant",
        here: Sent("/TaskTemplate/Networks/0/Target", "\"lan\""),
        there: (
            Sent("/TaskTemplate/Networks/0/Target", "\"st_n\""),
            "docker loses this",
        ),
    },
    Difference {
        what: "Two files: options of a log of which the earlier file has none",
        files: &[
            "services: {w: {image: a, logging: {driver: syslog}}}",
            "services: {w: {logging: {options: {tag: x}}}}",
        ],
        docker: "drops them",
        phoenix: "takes them",
        why: "they were written to be taken",
        here: Sent("/TaskTemplate/LogDriver/Options/tag", "\"x\""),
        there: (
            Sent("/TaskTemplate/LogDriver/Options", NOTHING),
            "docker loses these",
        ),
    },
];

fn load(difference: &Difference, compat: Compat) -> Result<ComposeFile, String> {
    let texts: Vec<String> = difference
        .files
        .iter()
        .map(|file| {
            if file.starts_with("services:") {
                (*file).to_owned()
            } else {
                service_text(file)
            }
        })
        .collect();
    let variables = [
        ("TAG", "1.27"),
        ("YES", "yes"),
        ("MODE", "0440"),
        ("HOME", "/home/op"),
    ];
    let variables: BTreeMap<String, String> = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let options = LoadOptions::default()
        .with_compat(compat)
        .with_variables(variables);
    // A directory in which there is a file.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("stack.yaml");
    let files: Vec<(&Path, &str)> = texts
        .iter()
        .map(|text| (path.as_path(), text.as_str()))
        .collect();
    ComposeFile::parse_files(&files, "st", &options).map_err(|problems| problems.to_string())
}

fn check(what: &str, loaded: &Result<ComposeFile, String>, expected: &Becomes) {
    match (expected, loaded) {
        (Refused(part), Err(problems)) => {
            assert!(problems.contains(part), "{what}: {problems}");
        }
        (Refused(_), Ok(_)) => panic!("{what}: accepted"),
        (_, Err(problems)) => panic!("{what}: {problems}"),
        (Sent(pointer, value), Ok(file)) => {
            let wire = file.wire();
            let own = wire.services[0].pointer(pointer).unwrap_or(&Value::Null);
            let value: Value = serde_json::from_str(value).unwrap();
            assert_eq!(*own, value, "{what}: {pointer}");
        }
        (Waits, Ok(file)) => assert_eq!(file.services()["w"].depends_on[0].service, "v", "{what}"),
    }
}

#[test]
fn each_behaves_as_the_table_says() {
    for difference in TABLE {
        let what = difference.what;
        let here = load(difference, Compat::Phoenix);
        check(what, &here, &difference.here);
        let there = load(difference, Compat::Docker);
        let (becomes, warning) = &difference.there;
        check(what, &there, becomes);
        let Ok(there) = there else { continue };
        let warnings: Vec<String> = there.warnings().iter().map(ToString::to_string).collect();
        assert!(
            warnings.iter().any(|own| own.contains(warning)) || warning.is_empty(),
            "{what}: {warnings:#?} do not say {warning:?}"
        );
    }
}

fn table() -> String {
    let mut text = String::from(
        "| what | example | `docker stack deploy` | Phoenix | why |\n|---|---|---|---|---|\n",
    );
    for difference in TABLE {
        let examples: Vec<String> = difference
            .files
            .iter()
            .flat_map(|file| file.lines())
            .map(|line| format!("`{}`", line.replace('|', "\\|")))
            .collect();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            difference.what.replace('|', "\\|"),
            examples.join("<br>"),
            difference.docker,
            difference.phoenix,
            difference.why
        )
        .unwrap();
    }
    text
}

/// The documentation holds the table as it is made here. `PHOENIX_WRITE_DOCS=1` writes it.
#[test]
fn the_documentation_holds_the_table() {
    const BEGIN: &str = "<!-- differences: made by the tests of phoenix-core -->\n";
    const END: &str = "<!-- end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/stacks.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (own, after) = rest.split_once(END).unwrap();
    let table = table();
    if own != table && std::env::var_os("PHOENIX_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        own == table,
        "{} holds another table; run the test with PHOENIX_WRITE_DOCS=1",
        path.display()
    );
}
