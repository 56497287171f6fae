//! The keys of a service: those that a swarm honours, and why it does not honour the others.

/// Keys of a service that a swarm honours.
pub(super) const KEYS: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "labels",
    "ports",
    "volumes",
    "tmpfs",
    "networks",
    "configs",
    "secrets",
    "healthcheck",
    "deploy",
    "restart",
    "depends_on",
    "hostname",
    "user",
    "working_dir",
    "stop_grace_period",
    "stop_signal",
    "init",
    "tty",
    "stdin_open",
    "read_only",
    "extra_hosts",
    "dns",
    "dns_search",
    "cap_add",
    "cap_drop",
    "sysctls",
    "ulimits",
    "logging",
    "credential_spec",
    "isolation",
];

/// Keys of other compose dialects, and of the swarm's where it does nothing with them.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("annotations", "a swarm does not support annotations"),
    (
        "blkio_config",
        "a swarm does not support limits of block devices",
    ),
    (
        "build",
        "a swarm does not build images: build and push it, and name it under `image`",
    ),
    (
        "cgroup",
        "a swarm does not support the choice of a cgroup namespace",
    ),
    ("cgroup_parent", "a swarm does not support a cgroup parent"),
    (
        "cgroupns_mode",
        "a swarm does not support the choice of a cgroup namespace",
    ),
    (
        "container_name",
        "a swarm does not support names of containers: a service may have several",
    ),
    (
        "cpu_count",
        "a swarm does not support this; use `deploy.resources`",
    ),
    (
        "cpu_quota",
        "a swarm does not support this; use `deploy.resources.limits.cpus`",
    ),
    (
        "cpu_shares",
        "a swarm does not support this; use `deploy.resources`",
    ),
    (
        "cpus",
        "a swarm does not support this; use `deploy.resources.limits.cpus`",
    ),
    (
        "cpuset",
        "a swarm does not support this; use `deploy.resources`",
    ),
    ("develop", "this has no meaning in a swarm"),
    ("device_cgroup_rules", "a swarm does not support devices"),
    ("devices", "a swarm does not support devices"),
    (
        "dns_opt",
        "a swarm takes no resolver options from compose files",
    ),
    (
        "domainname",
        "a swarm does not support domain names; write the whole name under `hostname`",
    ),
    (
        "expose",
        "this does nothing in a swarm: every port of a service is open to its networks; remove it",
    ),
    (
        "extends",
        "services that extend others are not supported; use YAML anchors",
    ),
    (
        "external_links",
        "a swarm does not support links; use a common network",
    ),
    (
        "gpus",
        "a swarm does not support this; use `deploy.resources.reservations.generic_resources`",
    ),
    (
        "group_add",
        "a swarm takes no further groups from compose files",
    ),
    (
        "ipc",
        "a swarm does not support the choice of an IPC namespace",
    ),
    (
        "links",
        "a swarm does not support links; services of a network reach each other by name",
    ),
    ("mac_address", "a swarm does not support MAC addresses"),
    (
        "mem_limit",
        "a swarm does not support this; use `deploy.resources.limits.memory`",
    ),
    (
        "mem_reservation",
        "a swarm does not support this; use `deploy.resources.reservations.memory`",
    ),
    ("mem_swappiness", "a swarm does not support this"),
    (
        "memswap_limit",
        "a swarm does not support this; use `deploy.resources.limits.memory`",
    ),
    (
        "network_mode",
        "a swarm does not support network modes; an external network named `host` does the same as `host`",
    ),
    ("oom_kill_disable", "a swarm does not support this"),
    (
        "oom_score_adj",
        "`docker stack deploy` drops this without a word, and engines before version 27 do so too",
    ),
    (
        "pid",
        "a swarm does not support the choice of a PID namespace",
    ),
    (
        "pids_limit",
        "a swarm does not support this; use `deploy.resources.limits.pids`",
    ),
    (
        "platform",
        "a swarm does not support this; use `deploy.placement.constraints`",
    ),
    (
        "privileged",
        "a swarm does not support privileged containers; use `cap_add`",
    ),
    ("profiles", "a swarm does not support profiles"),
    ("pull_policy", "a swarm pulls what a node does not have"),
    ("runtime", "a swarm does not support runtimes"),
    (
        "scale",
        "a swarm does not support this; use `deploy.replicas`",
    ),
    ("security_opt", "a swarm does not support security options"),
    (
        "shm_size",
        "a swarm does not support this; mount a tmpfs of that size at `/dev/shm`",
    ),
    ("storage_opt", "a swarm does not support storage options"),
    ("userns_mode", "a swarm does not support user namespaces"),
    (
        "uts",
        "a swarm does not support the choice of a UTS namespace",
    ),
    (
        "volume_driver",
        "a swarm does not support this; set the driver of the volume",
    ),
    (
        "volumes_from",
        "a swarm does not support this; declare a volume and mount it in both services",
    ),
];
