//! The JSON of the engine's API, field by field.
//!
//! Invariant: a field is absent exactly where the docker CLI leaves it out, and times are
//! nanoseconds. `Healthcheck` is written as the engine reads it back (some clients write
//! `HealthCheck`, and lose it when they read).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration::nanoseconds;
use super::image::Platform;
use super::model::{
    EndpointMode, FileReference, Healthcheck, Mode, Mount, MountKind, NetworkDeclaration, Port,
    Protocol, PublishMode, Resources, RestartPolicy, Service, UpdateConfig, VolumeDeclaration,
};
use super::render::ResolvedObject;

type Object = Map<String, Value>;
type Texts = BTreeMap<String, String>;

fn put(object: &mut Object, key: &str, value: impl Into<Value>) {
    object.insert(key.to_owned(), value.into());
}

fn put_text(object: &mut Object, key: &str, text: Option<&str>) {
    if let Some(text) = text
        && !text.is_empty()
    {
        put(object, key, text);
    }
}

fn put_true(object: &mut Object, key: &str, flag: bool) {
    if flag {
        put(object, key, true);
    }
}

fn put_number(object: &mut Object, key: &str, number: i64) {
    if number != 0 {
        put(object, key, number);
    }
}

fn put_texts(object: &mut Object, key: &str, texts: &Texts) {
    if !texts.is_empty() {
        put(object, key, json!(texts));
    }
}

pub(super) fn put_list<T: Into<Value>>(object: &mut Object, key: &str, list: Vec<T>) {
    if !list.is_empty() {
        put(object, key, list);
    }
}

fn time(duration: Option<Duration>) -> i64 {
    duration.map_or(0, nanoseconds)
}

/// The container spec without what must be looked up (mounts, secrets, configs).
pub(super) fn container(
    service: &Service,
    image: &str,
    labels: Texts,
    credential_spec: Value,
) -> Object {
    let mut body = Object::new();
    put(&mut body, "Image", image);
    put(&mut body, "Labels", json!(labels));
    put_list(&mut body, "Command", service.entrypoint.clone());
    put_list(&mut body, "Args", service.command.clone());
    put_text(&mut body, "Hostname", service.hostname.as_deref());
    let mut environment: Vec<String> = service
        .environment
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        })
        .collect();
    environment.sort();
    put_list(&mut body, "Env", environment);
    put_text(&mut body, "Dir", service.working_dir.as_deref());
    put_text(&mut body, "User", service.user.as_deref());
    put(
        &mut body,
        "Privileges",
        json!({
            "CredentialSpec": credential_spec,
            "SELinuxContext": null,
            "NoNewPrivileges": false,
        }),
    );
    if let Some(init) = service.init {
        put(&mut body, "Init", init);
    }
    put_text(&mut body, "StopSignal", service.stop_signal.as_deref());
    put_true(&mut body, "TTY", service.tty);
    put_true(&mut body, "OpenStdin", service.stdin_open);
    put_true(&mut body, "ReadOnly", service.read_only);
    if let Some(period) = service.stop_grace_period {
        put(&mut body, "StopGracePeriod", nanoseconds(period));
    }
    if let Some(check) = &service.healthcheck {
        put(&mut body, "Healthcheck", healthcheck(check));
    }
    put_list(&mut body, "Hosts", service.extra_hosts.clone());
    if service.dns.is_some() || service.dns_search.is_some() {
        let mut dns = Object::new();
        let servers = service.dns.iter().flatten();
        let servers: Vec<String> = servers.map(ToString::to_string).collect();
        put_list(&mut dns, "Nameservers", servers);
        let search = service.dns_search.clone().unwrap_or_default();
        put_list(&mut dns, "Search", search);
        put(&mut body, "DNSConfig", dns);
    }
    put_text(&mut body, "Isolation", service.isolation.as_deref());
    put_texts(&mut body, "Sysctls", &service.sysctls);
    put_list(&mut body, "CapabilityAdd", service.cap_add.clone());
    put_list(&mut body, "CapabilityDrop", service.cap_drop.clone());
    let ulimits: Vec<Value> = service
        .ulimits
        .iter()
        .map(|(name, limit)| json!({"Name": name, "Hard": limit.hard, "Soft": limit.soft}))
        .collect();
    put_list(&mut body, "Ulimits", ulimits);
    body
}

fn healthcheck(check: &Healthcheck) -> Object {
    let mut body = Object::new();
    put_list(&mut body, "Test", check.test.clone());
    put_number(&mut body, "Interval", time(check.interval));
    put_number(&mut body, "Timeout", time(check.timeout));
    put_number(&mut body, "StartPeriod", time(check.start_period));
    put_number(&mut body, "StartInterval", time(check.start_interval));
    put_number(&mut body, "Retries", check.retries.unwrap_or(0).into());
    body
}

/// The parts of the task template beside container and networks.
pub(super) fn put_task(task: &mut Object, service: &Service, platforms: &[Platform]) {
    let deploy = &service.deploy;
    let mut amounts = Object::new();
    if let Some(limits) = &deploy.limits {
        put(&mut amounts, "Limits", resources(limits));
    }
    if let Some(reservations) = &deploy.reservations {
        put(&mut amounts, "Reservations", resources(reservations));
    }
    put(task, "Resources", amounts);
    if let Some(policy) = &deploy.restart_policy {
        put(task, "RestartPolicy", restart_policy(policy));
    }
    let mut placement = Object::new();
    put_list(
        &mut placement,
        "Constraints",
        deploy.placement.constraints.clone(),
    );
    let preferences: Vec<Value> = deploy
        .placement
        .spread
        .iter()
        .map(|spread| json!({"Spread": {"SpreadDescriptor": spread}}))
        .collect();
    put_list(&mut placement, "Preferences", preferences);
    if let Some(most) = deploy.placement.max_replicas_per_node
        && most > 0
    {
        put(&mut placement, "MaxReplicas", most);
    }
    let platforms: Vec<Value> = platforms
        .iter()
        .map(|platform| {
            let mut body = Object::new();
            put_text(&mut body, "Architecture", Some(&platform.architecture));
            put_text(&mut body, "OS", Some(&platform.os));
            Value::Object(body)
        })
        .collect();
    put_list(&mut placement, "Platforms", platforms);
    put(task, "Placement", placement);
    if let Some(logging) = &service.logging {
        let mut body = Object::new();
        put_text(&mut body, "Name", Some(&logging.driver));
        put_texts(&mut body, "Options", &logging.options);
        put(task, "LogDriver", body);
    }
    put(task, "ForceUpdate", 0);
}

fn resources(resources: &Resources) -> Object {
    let mut body = Object::new();
    put_number(&mut body, "NanoCPUs", resources.nano_cpus);
    put_number(&mut body, "MemoryBytes", resources.memory);
    put_number(&mut body, "Pids", resources.pids);
    let generic: Vec<Value> = resources
        .generic
        .iter()
        .map(|(kind, value)| {
            let mut spec = Object::new();
            put_text(&mut spec, "Kind", Some(kind));
            put_number(&mut spec, "Value", *value);
            json!({"DiscreteResourceSpec": spec})
        })
        .collect();
    put_list(&mut body, "GenericResources", generic);
    body
}

fn restart_policy(policy: &RestartPolicy) -> Object {
    let mut body = Object::new();
    put_text(&mut body, "Condition", policy.condition);
    if let Some(delay) = policy.delay {
        put(&mut body, "Delay", nanoseconds(delay));
    }
    if let Some(attempts) = policy.max_attempts {
        put(&mut body, "MaxAttempts", attempts);
    }
    if let Some(window) = policy.window {
        put(&mut body, "Window", nanoseconds(window));
    }
    body
}

/// The parts of the service spec beside name, labels and task template.
pub(super) fn put_service(spec: &mut Object, service: &Service) {
    let deploy = &service.deploy;
    let mut mode = Object::new();
    match deploy.mode {
        Mode::Replicated(replicas) => {
            let mut body = Object::new();
            if let Some(replicas) = replicas {
                put(&mut body, "Replicas", replicas);
            }
            put(&mut mode, "Replicated", body);
        }
        Mode::Global => put(&mut mode, "Global", Object::new()),
        Mode::ReplicatedJob(count) => {
            let mut body = Object::new();
            if let Some(count) = count {
                put(&mut body, "MaxConcurrent", count);
                put(&mut body, "TotalCompletions", count);
            }
            put(&mut mode, "ReplicatedJob", body);
        }
        Mode::GlobalJob => put(&mut mode, "GlobalJob", Object::new()),
    }
    put(spec, "Mode", mode);
    if let Some(config) = &deploy.update_config {
        put(spec, "UpdateConfig", update_config(config));
    }
    if let Some(config) = &deploy.rollback_config {
        put(spec, "RollbackConfig", update_config(config));
    }
    let mut endpoint = Object::new();
    match deploy.endpoint_mode {
        Some(EndpointMode::Vip) => put(&mut endpoint, "Mode", "vip"),
        Some(EndpointMode::Dnsrr) => put(&mut endpoint, "Mode", "dnsrr"),
        None => {}
    }
    let mut ports = service.ports.clone();
    ports.sort_by_key(|port| {
        (
            port.published,
            port.target,
            wire_protocol(port),
            wire_mode(port),
        )
    });
    put_list(&mut endpoint, "Ports", ports.iter().map(port).collect());
    put(spec, "EndpointSpec", endpoint);
}

fn update_config(config: &UpdateConfig) -> Object {
    let mut body = Object::new();
    put(&mut body, "Parallelism", config.parallelism.unwrap_or(1));
    put_number(&mut body, "Delay", nanoseconds(config.delay));
    put_text(&mut body, "FailureAction", config.failure_action);
    put_number(&mut body, "Monitor", nanoseconds(config.monitor));
    put(
        &mut body,
        "MaxFailureRatio",
        ratio(config.max_failure_ratio),
    );
    put(&mut body, "Order", config.order.unwrap_or_default());
    body
}

/// A whole ratio as an integer: the engine writes it so, and JSON tells `0` from `0.0`.
fn ratio(ratio: f64) -> Value {
    if ratio == 0.0 {
        json!(0)
    } else if ratio == 1.0 {
        json!(1)
    } else {
        json!(ratio)
    }
}

fn wire_protocol(port: &Port) -> Option<&'static str> {
    port.protocol.map(|protocol| match protocol {
        Protocol::Sctp => "sctp",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    })
}

fn wire_mode(port: &Port) -> Option<&'static str> {
    port.mode.map(|mode| match mode {
        PublishMode::Host => "host",
        PublishMode::Ingress => "ingress",
    })
}

fn port(port: &Port) -> Value {
    let mut body = Object::new();
    put_text(&mut body, "Protocol", wire_protocol(port));
    put(&mut body, "TargetPort", port.target);
    if let Some(published) = port.published {
        put(&mut body, "PublishedPort", published);
    }
    put_text(&mut body, "PublishMode", wire_mode(port));
    Value::Object(body)
}

/// A mount; `volume` is a named volume's real name, declaration and labels.
pub(super) fn mount(mount: &Mount, volume: Option<(String, VolumeDeclaration, Texts)>) -> Value {
    let mut body = Object::new();
    let (kind, source, key, options) = match &mount.kind {
        MountKind::Bind {
            source,
            propagation,
        } => {
            let options = bind_options(propagation.as_deref());
            ("bind", Some(source.clone()), "BindOptions", options)
        }
        MountKind::Npipe {
            source,
            propagation,
        } => {
            let options = bind_options(propagation.as_deref());
            ("npipe", Some(source.clone()), "BindOptions", options)
        }
        MountKind::Cluster { source } => {
            let name = volume.map_or_else(|| source.clone(), |(name, _, _)| name);
            ("cluster", Some(name), "ClusterOptions", Some(Object::new()))
        }
        MountKind::Image { source, subpath } => {
            let options = subpath.as_deref().map(|subpath| {
                let mut options = Object::new();
                put_text(&mut options, "Subpath", Some(subpath));
                options
            });
            ("image", Some(source.clone()), "ImageOptions", options)
        }
        MountKind::Volume {
            no_copy, subpath, ..
        } => {
            let mut options = Object::new();
            put_true(&mut options, "NoCopy", *no_copy);
            put_text(&mut options, "Subpath", subpath.as_deref());
            let named = volume.is_some();
            let mut source = None;
            if let Some((name, declared, labels)) = volume {
                source = Some(name);
                if !declared.external {
                    put_texts(&mut options, "Labels", &labels);
                    if declared.driver.is_some() || declared.driver_opts.is_some() {
                        let mut driver = Object::new();
                        put_text(&mut driver, "Name", declared.driver.as_deref());
                        put_texts(
                            &mut driver,
                            "Options",
                            &declared.driver_opts.unwrap_or_default(),
                        );
                        put(&mut options, "DriverConfig", driver);
                    }
                }
            }
            let options = (named || !options.is_empty()).then_some(options);
            ("volume", source, "VolumeOptions", options)
        }
        MountKind::Tmpfs { size, mode } => {
            let mut options = Object::new();
            put_number(&mut options, "SizeBytes", size.unwrap_or(0));
            put_number(&mut options, "Mode", mode.unwrap_or(0).into());
            let options = (size.is_some() || mode.is_some()).then_some(options);
            ("tmpfs", None, "TmpfsOptions", options)
        }
    };
    put(&mut body, "Type", kind);
    put_text(&mut body, "Source", source.as_deref());
    put(&mut body, "Target", mount.target.as_str());
    put_true(&mut body, "ReadOnly", mount.read_only);
    put_text(&mut body, "Consistency", mount.consistency.as_deref());
    if let Some(options) = options {
        put(&mut body, key, options);
    }
    Value::Object(body)
}

fn bind_options(propagation: Option<&str>) -> Option<Object> {
    propagation.map(|propagation| {
        let mut options = Object::new();
        put_text(&mut options, "Propagation", Some(propagation));
        options
    })
}

pub(super) fn attachment(target: &str, aliases: &[String], options: &Texts) -> Value {
    let mut body = Object::new();
    put(&mut body, "Target", target);
    put_list(&mut body, "Aliases", aliases.to_vec());
    put_texts(&mut body, "DriverOpts", options);
    Value::Object(body)
}

/// A reference to a secret or config (`kind`): `{"File": …, "SecretID": …, "SecretName": …}`.
pub(super) fn file_reference(kind: &str, object: &ResolvedObject, file: &FileReference) -> Value {
    let mut body = Object::new();
    put(
        &mut body,
        "File",
        json!({"Name": file.target, "UID": file.uid, "GID": file.gid, "Mode": file.mode}),
    );
    if let Some(id) = &object.id {
        put(&mut body, &format!("{kind}ID"), id.as_str());
    }
    put(&mut body, &format!("{kind}Name"), object.name.as_str());
    Value::Object(body)
}

/// A reference to a config that the engine itself uses.
pub(super) fn runtime_reference(object: &ResolvedObject) -> Value {
    let mut body = Object::new();
    put(&mut body, "Runtime", Object::new());
    if let Some(id) = &object.id {
        put(&mut body, "ConfigID", id.as_str());
    }
    put(&mut body, "ConfigName", object.name.as_str());
    Value::Object(body)
}

/// The body that creates a secret or config, without its content.
pub(super) fn object(name: &str, labels: &Texts, template_driver: Option<&str>) -> Object {
    let mut body = Object::new();
    put(&mut body, "Name", name);
    put(&mut body, "Labels", json!(labels));
    if let Some(driver) = template_driver {
        put(&mut body, "Templating", json!({"Name": driver}));
    }
    body
}

/// A driver with its options.
pub(super) fn driver(name: &str, options: &Texts) -> Value {
    let mut body = Object::new();
    put_text(&mut body, "Name", Some(name));
    put_texts(&mut body, "Options", options);
    Value::Object(body)
}

/// The body that creates a network.
pub(super) fn network(name: &str, network: &NetworkDeclaration, labels: Texts) -> Value {
    let mut body = Object::new();
    put(&mut body, "Name", name);
    put(
        &mut body,
        "Driver",
        network.driver.as_deref().unwrap_or("overlay"),
    );
    if network.ipam_driver.is_some() || !network.subnets.is_empty() {
        let mut ipam = Object::new();
        let driver = network.ipam_driver.as_deref().unwrap_or_default();
        put(&mut ipam, "Driver", driver);
        let subnets: Vec<Value> = network
            .subnets
            .iter()
            .map(|subnet| match subnet.as_str() {
                "" => json!({}),
                subnet => json!({ "Subnet": subnet }),
            })
            .collect();
        put_list(&mut ipam, "Config", subnets);
        put(&mut body, "IPAM", ipam);
    }
    put(&mut body, "Internal", network.internal);
    put(&mut body, "Attachable", network.attachable);
    put_texts(&mut body, "Options", &network.driver_opts);
    put(&mut body, "Labels", json!(labels));
    Value::Object(body)
}
