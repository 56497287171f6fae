//! The format of the site file: every object, key and word of it.

use super::model::{CertificatePart, EnvironmentKind, Reach, SwarmRole, Viewpoint};
use super::names::{
    ACCOUNT_NAME, HOST_NAME, PLAIN_NAME, REGISTRY_NAME, SECRET_NAME, SITE_NAME, STACK_NAME,
    VARIABLE_NAME,
};
use super::shape::{Key, Names, Object, Shape, key, needed};
use crate::pki::{KeyType, Profile};
use crate::stack::{Compat, Dialect};

pub(super) const PROFILES: &[(&str, Profile)] = &[
    ("server", Profile::Server),
    ("client", Profile::Client),
    ("peer", Profile::Peer),
];
pub(super) const KEY_TYPES: &[(&str, KeyType)] = &[
    ("ecdsa-p256", KeyType::EcdsaP256),
    ("ecdsa-p384", KeyType::EcdsaP384),
    ("ed25519", KeyType::Ed25519),
    ("rsa-2048", KeyType::Rsa2048),
    ("rsa-4096", KeyType::Rsa4096),
];
pub(super) const PARTS: &[(&str, CertificatePart)] = &[
    ("certificate", CertificatePart::Certificate),
    ("chain", CertificatePart::Chain),
    ("key", CertificatePart::Key),
    ("ca", CertificatePart::Ca),
    ("bundle", CertificatePart::Bundle),
];
pub(super) const REACHES: &[(&str, Reach)] =
    &[("agent", Reach::Agent), ("docker", Reach::DockerOnly)];
pub(super) const ROLES: &[(&str, SwarmRole)] = &[
    ("manager", SwarmRole::Manager),
    ("worker", SwarmRole::Worker),
];
pub(super) const KINDS: &[(&str, EnvironmentKind)] = &[
    ("docker", EnvironmentKind::Docker),
    ("agent", EnvironmentKind::Agent),
];

pub(super) const DIALECTS: &[(&str, Dialect)] =
    &[("swarm", Dialect::Swarm), ("compose", Dialect::Compose)];
pub(super) const COMPATS: &[(&str, Compat)] =
    &[("phoenix", Compat::Phoenix), ("docker", Compat::Docker)];

pub(super) const VIEWPOINTS: &[(&str, Viewpoint)] =
    &[("phoenix", Viewpoint::Phoenix), ("guest", Viewpoint::Guest)];

fn words<T>(list: &[(&'static str, T)]) -> Vec<&'static str> {
    list.iter().map(|(word, _)| *word).collect()
}

const HTTPS: Shape = Shape::Form("^https://");
const FINGERPRINT: Shape = Shape::Form("^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$");
const CIDR: Shape = Shape::Form("^[0-9A-Fa-f:.]+/[0-9]{1,3}$");
const VARIABLE: Shape = Shape::Name(&VARIABLE_NAME);
const LABELS: Shape = Shape::Texts(Names::Any);
const COMMAND: Shape = Shape::Either(&[
    Shape::Text,
    Shape::List(&Shape::Argument),
    Shape::Object(&COMMAND_OBJECT),
]);
const COMPOSE: Shape = Shape::Either(&[Shape::LocalPath, Shape::List(&Shape::LocalPath)]);
const SERVICE_LABELS: Shape = Shape::Map(Names::Any, &LABELS);
const VARIABLES: Shape = Shape::Texts(Names::Rule(&VARIABLE_NAME));
const ARGV: Shape = Shape::Either(&[Shape::Text, Shape::List(&Shape::Argument)]);

const fn object(name: &'static str, about: &'static str, keys: &'static [Key]) -> Object {
    Object {
        name,
        about,
        keys,
        one_of: &[],
        at_most_one: &[],
    }
}

/// The whole file.
pub(super) static SITE: Object = object(
    "site",
    "A Phoenix site: Proxmox VE guests, a private CA, a Docker Swarm with its networks, secrets \
     and stacks, and Portainer. Relative paths are relative to the directory of this file.",
    &[
        needed(
            "site",
            Shape::Name(&SITE_NAME),
            "The site's name; it labels what Phoenix creates.",
        ),
        key(
            "state",
            Shape::LocalPath,
            "The directory of the site's CA, issued certificates, records and lock. Default `.phoenix`.",
        ),
        key(
            "environment",
            Shape::Text,
            "Which of the stacks' `environments` applies, such as `production`. Default: none.",
        ),
        key(
            "proxmox",
            Shape::Object(&PROXMOX),
            "How to reach the Proxmox VE API. Needed when a guest is reached by its agent.",
        ),
        key(
            "ca",
            Shape::Object(&CA),
            "The issuer of the site's certificates, unless they name another. Default: an embedded CA with its defaults.",
        ),
        key(
            "issuers",
            Shape::Map(Names::Rule(&PLAIN_NAME), &Shape::Object(&ISSUER)),
            "Further issuers by name.",
        ),
        key(
            "guests",
            Shape::Map(Names::Rule(&HOST_NAME), &Shape::Object(&GUEST)),
            "Guests by name.",
        ),
        key(
            "swarm",
            Shape::Object(&SWARM),
            "Settings that apply when the swarm is initialised, and never later.",
        ),
        key(
            "networks",
            Shape::Map(Names::Rule(&PLAIN_NAME), &Shape::Optional(&NETWORK)),
            "Overlay networks by name.",
        ),
        key(
            "secrets",
            Shape::Map(Names::Rule(&SECRET_NAME), &Shape::Object(&SECRET)),
            "Docker secrets by logical name.",
        ),
        key(
            "registries",
            Shape::Map(Names::Rule(&REGISTRY_NAME), &Shape::Object(&REGISTRY)),
            "Image registries that ask for credentials, by host (`docker.io` for Docker Hub). They are used to ask for digests, and given to the nodes that pull.",
        ),
        key(
            "certificates",
            Shape::Map(Names::Rule(&PLAIN_NAME), &Shape::Object(&CERTIFICATE)),
            "Certificates by name.",
        ),
        key(
            "stacks",
            Shape::Map(Names::Rule(&STACK_NAME), &Shape::Object(&STACK)),
            "Stacks by name, the one of Portainer among them.",
        ),
        key(
            "portainer",
            Shape::Object(&PORTAINER),
            "The site's Portainer.",
        ),
        key(
            "timeouts",
            Shape::Object(&TIMEOUTS),
            "How long things may take before they count as failed.",
        ),
    ],
);

pub(super) static PROXMOX: Object = Object {
    at_most_one: &["ca", "fingerprint"],
    ..object(
        "proxmox",
        "How to reach the Proxmox VE API. Without `ca` and `fingerprint` the server is recognised \
         by the operating system's trusted roots.",
        &[
            needed("url", HTTPS, "`https://HOST:8006`, without a path."),
            needed(
                "token",
                Shape::Object(&SOURCE),
                "Where the API token (`USER@REALM!ID=SECRET`) comes from.",
            ),
            key(
                "ca",
                Shape::LocalPath,
                "A PEM file with the CA of the server's certificate.",
            ),
            key(
                "fingerprint",
                FINGERPRINT,
                "The SHA-256 of the server's certificate, in hexadecimal.",
            ),
        ],
    )
};

pub(super) static SOURCE: Object = Object {
    one_of: &["env", "file"],
    ..object(
        "source",
        "Where a token, password or key comes from. It is never written in the site file itself.",
        &[
            key("env", VARIABLE, "The environment variable that holds it."),
            key(
                "file",
                Shape::LocalPath,
                "The file that holds it; only its owner should be able to read it.",
            ),
        ],
    )
};

pub(super) static CA: Object = Object {
    one_of: &["embedded", "step_ca"],
    ..object(
        "ca",
        "The issuer of the site's certificates, those of managed Docker daemons among them.",
        &[
            key("embedded", Shape::Optional(&EMBEDDED), EMBEDDED.about),
            key("step_ca", Shape::Object(&STEP_CA), STEP_CA.about),
        ],
    )
};

pub(super) static ISSUER: Object = Object {
    one_of: &["embedded", "step_ca", "acme"],
    ..object(
        "issuer",
        "A further issuer of certificates.",
        &[
            key("embedded", Shape::Optional(&EMBEDDED), EMBEDDED.about),
            key("step_ca", Shape::Object(&STEP_CA), STEP_CA.about),
            key("acme", Shape::Object(&ACME), ACME.about),
        ],
    )
};

pub(super) static STEP_CA: Object = Object {
    one_of: &["provisioner", "provisioners"],
    ..object(
        "step_ca",
        "A step-ca server, which signs for the holder of a JWK provisioner's password.",
        &[
            needed(
                "url",
                HTTPS,
                "`https://HOST:9000`, without a path. HOST is one of the server's `dnsNames`.",
            ),
            needed(
                "fingerprint",
                FINGERPRINT,
                "The SHA-256 of the root's certificate, in hexadecimal (`step certificate fingerprint root_ca.crt`).",
            ),
            key(
                "provisioner",
                Shape::Text,
                "The name of the JWK provisioner that signs every profile.",
            ),
            key(
                "provisioners",
                Shape::Object(&PROVISIONERS),
                "JWK provisioners by profile, where their templates differ.",
            ),
            needed(
                "password",
                Shape::Object(&SOURCE),
                "The password of the provisioners' keys. White space at its end is ignored.",
            ),
            key(
                "max_lifetime",
                Shape::Duration,
                "The longest lifetime that the server grants. Default `24h`, as step-ca's.",
            ),
            key(
                "strict",
                Shape::Boolean,
                "Whether a certificate that is good for more than its profile is refused. Default false: a warning.",
            ),
        ],
    )
};

pub(super) static PROVISIONERS: Object = object(
    "provisioners",
    "Names of JWK provisioners by the profile that they sign.",
    &[
        key("server", Shape::Text, "For servers."),
        key("client", Shape::Text, "For clients."),
        key("peer", Shape::Text, "For peers."),
    ],
);

pub(super) static ACME: Object = Object {
    one_of: &["http_01", "dns_01"],
    ..object(
        "acme",
        "A server that speaks ACME (RFC 8555). It decides how long its certificates live.",
        &[
            needed("directory", HTTPS, "The URL of its directory."),
            key(
                "ca",
                Shape::LocalPath,
                "A PEM file with the CA of the server's own certificate. Default: the operating system's trusted roots.",
            ),
            key(
                "roots",
                Shape::LocalPath,
                "A PEM file with the roots of the certificates it issues. Default: `ca`, or the operating system's trusted roots.",
            ),
            key(
                "contact",
                Shape::List(&Shape::Form("^mailto:")),
                "Where the CA reaches you: `mailto:` URLs.",
            ),
            key(
                "external_account",
                Shape::Object(&EXTERNAL_ACCOUNT),
                "The account at the CA to bind to, where it demands one.",
            ),
            key(
                "http_01",
                Shape::Object(&HTTP_01),
                "Names are proven by Phoenix itself answering over HTTP.",
            ),
            key(
                "dns_01",
                Shape::Object(&DNS_01),
                "Names, wildcards too, are proven by TXT records that commands in a guest set.",
            ),
        ],
    )
};

pub(super) static EXTERNAL_ACCOUNT: Object = object(
    "external_account",
    "An account at a CA to which an ACME account is bound.",
    &[
        needed("key_id", Shape::Text, "The key's identifier."),
        needed(
            "key",
            Shape::Object(&SOURCE),
            "The HMAC key, in base64url as CAs hand it out.",
        ),
    ],
);

pub(super) static HTTP_01: Object = object(
    "http_01",
    "Phoenix answers `/.well-known/acme-challenge/` while it waits; the CA must reach it on port 80 of every name.",
    &[key(
        "listen",
        Shape::Text,
        "The address and port to listen on. Default `0.0.0.0:80`.",
    )],
);

pub(super) static DNS_01: Object = object(
    "dns_01",
    "Commands in a guest set and clear a TXT record. Each gets its name and its value as last two arguments.",
    &[
        needed(
            "guest",
            Shape::Text,
            "The name of a guest that is reached by its agent.",
        ),
        needed("set", COMMAND, "Sets the record."),
        needed("clear", COMMAND, "Clears the record."),
        key(
            "propagation",
            Shape::Duration,
            "How long the record may take to be seen everywhere. Default `10s`.",
        ),
    ],
);

pub(super) static EMBEDDED: Object = object(
    "embedded_ca",
    "A root and an intermediate that Phoenix creates on first use and keeps.",
    &[
        key(
            "directory",
            Shape::LocalPath,
            "Where they are kept. Default `ca` in the state directory.",
        ),
        key(
            "common_name",
            Shape::Text,
            "The root's common name, at most 51 characters; the intermediate's is derived from it. Default `SITE CA`.",
        ),
        key("root_lifetime", Shape::Duration, "Default `3650d`."),
        key(
            "intermediate_lifetime",
            Shape::Duration,
            "No longer than the root's. Default `1825d`, or the root's where that is shorter.",
        ),
        key(
            "key",
            Shape::Words(|| words(KEY_TYPES)),
            "The kind of both keys. Default `ecdsa-p256`.",
        ),
        key(
            "passphrase",
            Shape::Object(&SOURCE),
            "What both keys are encrypted with at rest. Default: none, in files that only their owner can read.",
        ),
    ],
);

pub(super) static GUEST: Object = object(
    "guest",
    "A guest of the Proxmox cluster, or a machine reached through Docker alone.",
    &[
        key(
            "vmid",
            Shape::Integer(100, 999_999_999),
            "Its VMID. Needed when `reach` is `agent`.",
        ),
        key(
            "node",
            Shape::Name(&HOST_NAME),
            "The Proxmox node it must be on. Default: looked up.",
        ),
        key(
            "reach",
            Shape::Words(|| words(REACHES)),
            "How programs are run and files placed inside: by the QEMU guest `agent`, or not at all (`docker`). Default `agent` when there is a `vmid`.",
        ),
        key("docker", Shape::Object(&DOCKER), "Its Docker engine."),
        key(
            "swarm",
            Shape::Object(&MEMBER),
            "Its place in the swarm. Needs `docker`.",
        ),
    ],
);

pub(super) static DOCKER: Object = Object {
    at_most_one: &["tls", "managed"],
    ..object(
        "docker",
        "How to reach a Docker engine. A TCP address needs `tls` or `managed`.",
        &[
            needed(
                "address",
                Shape::Form("^(tcp|unix)://"),
                "`tcp://HOST:2376`, or `unix:///PATH` on the machine Phoenix runs on.",
            ),
            key(
                "tls",
                Shape::Object(&DOCKER_TLS),
                "TLS with files that exist already.",
            ),
            key(
                "managed",
                Shape::Object(&MANAGED),
                "Phoenix issues both sides' certificates and configures the daemon. Needs `reach: agent`.",
            ),
        ],
    )
};

pub(super) static DOCKER_TLS: Object = object(
    "docker_tls",
    "TLS with a Docker engine by files that exist already, all PEM.",
    &[
        needed(
            "ca",
            Shape::LocalPath,
            "The CA of the engine's certificate.",
        ),
        needed(
            "cert",
            Shape::LocalPath,
            "Phoenix's client certificate, with its chain.",
        ),
        needed("key", Shape::LocalPath, "Its key."),
    ],
);

pub(super) static MANAGED: Object = object(
    "managed_daemon",
    "How Phoenix configures a managed Docker daemon.",
    &[
        needed(
            "restart",
            COMMAND,
            "Restarts the daemon; run in the guest, only when something changed.",
        ),
        key(
            "daemon_json",
            Shape::GuestPath,
            "Default `/etc/docker/daemon.json`.",
        ),
        key(
            "certificates",
            Shape::GuestPath,
            "The directory of `ca.pem`, `server.pem` and `server-key.pem`. Default `/etc/docker/phoenix`.",
        ),
        key(
            "unit",
            Shape::Form(r"^[A-Za-z0-9@:._-]+\.service$"),
            "The systemd unit of the daemon. Default `docker.service`.",
        ),
        key(
            "sans",
            Shape::List(&Shape::Text),
            "Names in the daemon's certificate beside the address's host and the guest's name.",
        ),
        key(
            "lifetime",
            Shape::Duration,
            "Of both sides' certificates. Default `90d`.",
        ),
        key(
            "renew_before",
            Shape::Duration,
            "Renewed when less than this is left. Default: after two thirds of its lifetime, or up to a twentieth of it earlier.",
        ),
    ],
);

pub(super) static MEMBER: Object = object(
    "swarm_member",
    "A guest's place in the swarm.",
    &[
        needed(
            "role",
            Shape::Words(|| words(ROLES)),
            "`manager` or `worker`.",
        ),
        key(
            "advertise",
            Shape::Text,
            "The IP address or network interface, with an optional port, that the engine advertises. Default: the IP address in the Docker endpoint's address.",
        ),
        key("labels", LABELS, "Labels of the swarm node."),
    ],
);

pub(super) static SWARM: Object = object(
    "swarm",
    "Settings that apply when the swarm is initialised, and never later.",
    &[
        key(
            "address_pools",
            Shape::List(&CIDR),
            "Address pools of overlay networks, as CIDR. Default: the engine's.",
        ),
        key(
            "subnet_size",
            Shape::Integer(1, 29),
            "Prefix length of each overlay network within the pools. Default 24.",
        ),
        key(
            "heartbeat",
            Shape::Duration,
            "Period of the dispatcher's heartbeat. Default: the engine's (`5s`).",
        ),
    ],
);

pub(super) static NETWORK: Object = object(
    "network",
    "An overlay network that stacks share.",
    &[
        key("driver", Shape::Text, "Default `overlay`."),
        key(
            "attachable",
            Shape::Boolean,
            "Whether containers outside the swarm's services may join. Default false.",
        ),
        key(
            "internal",
            Shape::Boolean,
            "Whether it has no way out. Default false.",
        ),
        key(
            "subnets",
            Shape::List(&CIDR),
            "Subnets as CIDR. Default: chosen by the swarm.",
        ),
        key("options", LABELS, "Driver options."),
        key("labels", LABELS, "Labels."),
    ],
);

pub(super) static SECRET: Object = Object {
    one_of: &["file", "env", "certificate"],
    ..object(
        "secret",
        "A Docker secret. Its content is never written in the site file.",
        &[
            key(
                "file",
                Shape::LocalPath,
                "A file, taken byte for byte; only its owner should be able to read it.",
            ),
            key(
                "env",
                VARIABLE,
                "An environment variable of the Phoenix process.",
            ),
            key(
                "certificate",
                Shape::Text,
                "The name of a declared certificate.",
            ),
            key(
                "part",
                Shape::Words(|| words(PARTS)),
                "Which part of the certificate. Needed with `certificate`.",
            ),
            key("labels", LABELS, "Labels beside those that Phoenix sets."),
        ],
    )
};

pub(super) static CERTIFICATE: Object = object(
    "certificate",
    "A certificate that Phoenix issues, renews and delivers.",
    &[
        needed(
            "common_name",
            Shape::Text,
            "The subject's common name, at most 64 characters.",
        ),
        needed(
            "profile",
            Shape::Words(|| words(PROFILES)),
            "What it may be used for; `peer` is both `server` and `client`.",
        ),
        key(
            "sans",
            Shape::List(&Shape::Text),
            "Subject alternative names, one per entry: DNS names (`*.` in front for a wildcard), IP addresses, e-mail addresses, URIs. Needed for `server` and `peer`.",
        ),
        key(
            "lifetime",
            Shape::Duration,
            "No longer than the issuer grants. Default `90d`, or the longest that the issuer grants where that is shorter. An ACME server decides by itself.",
        ),
        key(
            "renew_before",
            Shape::Duration,
            "Renewed when less than this is left. Default: after two thirds of its lifetime, or up to a twentieth of it earlier.",
        ),
        key(
            "key",
            Shape::Words(|| words(KEY_TYPES)),
            "The kind of its key. Default `ecdsa-p256`.",
        ),
        key(
            "issuer",
            Shape::Text,
            "The name of its issuer in `issuers`. Default: `ca`.",
        ),
        key(
            "deliver",
            Shape::List(&Shape::Object(&DELIVERY)),
            "Where it goes.",
        ),
    ],
);

pub(super) static DELIVERY: Object = Object {
    one_of: &["guest", "secrets"],
    ..object(
        "delivery",
        "Where parts of a certificate go: to files in a guest, or to Docker secrets.",
        &[
            key(
                "guest",
                Shape::Text,
                "The name of a guest that is reached by its agent.",
            ),
            key(
                "files",
                Shape::List(&Shape::Object(&FILE)),
                "The files in the guest. Needed with `guest`.",
            ),
            key(
                "reload",
                COMMAND,
                "Run in the guest after any of the files changed.",
            ),
            key(
                "rollback",
                Shape::Boolean,
                "Whether the previous files are put back, and reloaded, when the reload fails or the check does not see the new certificate. Default false.",
            ),
            key(
                "check",
                Shape::Object(&CHECK),
                "Where the new certificate must be seen after the reload.",
            ),
            key(
                "secrets",
                Shape::Object(&SECRET_PARTS),
                "Which Docker secret gets which part.",
            ),
        ],
    )
};

pub(super) static CHECK: Object = object(
    "served_check",
    "A TLS endpoint that must present the delivered certificate.",
    &[
        needed(
            "address",
            Shape::Text,
            "`HOST:PORT`; an IPv6 address stands in brackets.",
        ),
        key(
            "server_name",
            Shape::Text,
            "The server name (SNI) that is asked for. Default: the host in `address`.",
        ),
        key(
            "from",
            Shape::Words(|| words(VIEWPOINTS)),
            "From where it is looked at: `phoenix`, or the `guest` that is delivered to, which needs openssl for it. Default `phoenix`.",
        ),
        key(
            "timeout",
            Shape::Duration,
            "How long after the reload the new certificate may take to appear. Default `30s`.",
        ),
    ],
);

pub(super) static SECRET_PARTS: Object = object(
    "secret_parts",
    "Names of Docker secrets by the part of the certificate that they hold.",
    &[
        key("certificate", Shape::Name(&SECRET_NAME), "The leaf alone."),
        key(
            "chain",
            Shape::Name(&SECRET_NAME),
            "The leaf, then the intermediate.",
        ),
        key(
            "key",
            Shape::Name(&SECRET_NAME),
            "The private key (PKCS#8).",
        ),
        key("ca", Shape::Name(&SECRET_NAME), "The root."),
        key(
            "bundle",
            Shape::Name(&SECRET_NAME),
            "Key, leaf and intermediate in one.",
        ),
    ],
);

pub(super) static FILE: Object = object(
    "delivered_file",
    "A file of a certificate in a guest.",
    &[
        needed(
            "part",
            Shape::Words(|| words(PARTS)),
            "What it holds: the leaf alone (`certificate`), leaf and intermediate (`chain`), the private `key`, the root (`ca`), or key, leaf and intermediate (`bundle`).",
        ),
        needed("path", Shape::GuestPath, "Its absolute path, ASCII only."),
        key(
            "owner",
            Shape::Name(&ACCOUNT_NAME),
            "Owner's name or number. Default `root`.",
        ),
        key(
            "group",
            Shape::Name(&ACCOUNT_NAME),
            "Group's name or number. Default `root`.",
        ),
        key(
            "mode",
            Shape::Mode,
            "Permission bits in octal. Default `0600` where the part holds a key, `0644` elsewhere.",
        ),
    ],
);

pub(super) static COMMAND_OBJECT: Object = object(
    "command",
    "A program run in a guest. Never a secret in it: every process there can see it.",
    &[
        needed(
            "command",
            ARGV,
            "The program and its arguments (ASCII), or one text for `/bin/sh -c`.",
        ),
        key(
            "timeout",
            Shape::Duration,
            "How long it may run. Default `60s`.",
        ),
    ],
);

pub(super) static REGISTRY: Object = object(
    "registry",
    "The credentials for an image registry.",
    &[
        needed(
            "username",
            Shape::Text,
            "The user, or what the registry wants for one beside a token.",
        ),
        needed(
            "password",
            Shape::Object(&SOURCE),
            "Where the password or access token comes from.",
        ),
    ],
);

pub(super) static STACK: Object = object(
    "stack",
    "A stack of services.",
    &[
        needed(
            "compose",
            COMPOSE,
            "Its compose file, or several, each laid over those before it.",
        ),
        key(
            "dialect",
            Shape::Words(|| words(DIALECTS)),
            "`swarm` for files that `docker stack deploy` reads, `compose` for those of `docker compose`. Default `swarm`.",
        ),
        key(
            "compat",
            Shape::Words(|| words(COMPATS)),
            "What becomes of what `docker stack deploy` drops or changes without a word: `phoenix` does what was meant or refuses it, `docker` does as docker does, with a warning. Default `phoenix`.",
        ),
        key(
            "profiles",
            Shape::List(&Shape::Text),
            "The profiles whose services are deployed (of the compose dialect only). Default: none.",
        ),
        key(
            "variables",
            VARIABLES,
            "Values for `${VAR}` in the compose file. Phoenix's own environment is not used.",
        ),
        key(
            "labels",
            SERVICE_LABELS,
            "Labels added to services: by service name, or `*` for all.",
        ),
        key(
            "environments",
            Shape::Map(Names::Any, &Shape::Optional(&STACK_ENVIRONMENT)),
            "What the environment chosen at the top adds, by its name.",
        ),
        key(
            "after",
            Shape::List(&Shape::Text),
            "Stacks that must have converged first.",
        ),
        key(
            "keep",
            Shape::Integer(0, 100),
            "How many old versions of a secret or config of the stack stay, for a rollback to find. Default 1.",
        ),
        key(
            "prune",
            Shape::Boolean,
            "Whether services, networks, secrets and configs of the stack that its compose files do not have any more are removed. Default false.",
        ),
        key(
            "timeout",
            Shape::Duration,
            "How long its services may take to converge. Default `timeouts.converge`.",
        ),
    ],
);

pub(super) static STACK_ENVIRONMENT: Object = object(
    "stack_environment",
    "What an environment adds to a stack; it wins over the stack's own.",
    &[
        key(
            "variables",
            VARIABLES,
            "Values for `${VAR}` in the compose file.",
        ),
        key(
            "labels",
            SERVICE_LABELS,
            "Labels added to services: by service name, or `*` for all.",
        ),
    ],
);

pub(super) static PORTAINER: Object = Object {
    at_most_one: &["ca", "fingerprint"],
    ..object(
        "portainer",
        "The site's Portainer. Without `ca` and `fingerprint` it is recognised by the site's CA.",
        &[
            needed("stack", Shape::Text, "The stack that deploys it."),
            needed(
                "url",
                HTTPS,
                "Where its API answers, such as `https://HOST:9443`.",
            ),
            key(
                "ca",
                Shape::LocalPath,
                "A PEM file with the CA of its certificate.",
            ),
            key(
                "fingerprint",
                FINGERPRINT,
                "The SHA-256 of its certificate, in hexadecimal.",
            ),
            needed(
                "admin_password",
                Shape::Text,
                "The name of the declared secret with the admin's password.",
            ),
            key(
                "environments",
                Shape::Map(Names::Any, &Shape::Object(&ENVIRONMENT)),
                "Environments to register, by name.",
            ),
            key(
                "ready_timeout",
                Shape::Duration,
                "How long it may take to answer after its stack converged. Default `120s`.",
            ),
        ],
    )
};

pub(super) static ENVIRONMENT: Object = object(
    "portainer_environment",
    "An environment that Portainer manages.",
    &[
        needed(
            "kind",
            Shape::Words(|| words(KINDS)),
            "What answers: a `docker` engine or a Portainer `agent`.",
        ),
        needed(
            "url",
            Shape::Form("^(tcp|unix)://"),
            "As Portainer sees it: `unix:///var/run/docker.sock`, `tcp://tasks.agent:9001`, `tcp://HOST:2376`.",
        ),
        key(
            "tls",
            Shape::Object(&ENVIRONMENT_TLS),
            "TLS to a Docker engine at a TCP address.",
        ),
    ],
);

pub(super) static ENVIRONMENT_TLS: Object = object(
    "portainer_environment_tls",
    "TLS from Portainer to a Docker engine, which is recognised by the site's CA.",
    &[needed(
        "certificate",
        Shape::Text,
        "The declared `client` or `peer` certificate that Portainer presents.",
    )],
);

pub(super) static TIMEOUTS: Object = object(
    "timeouts",
    "How long things may take before they count as failed.",
    &[
        key(
            "guest",
            Shape::Duration,
            "A guest running with its agent answering. Default `60s`.",
        ),
        key(
            "request",
            Shape::Duration,
            "One request to a server. Default `30s`.",
        ),
        key(
            "node",
            Shape::Duration,
            "A swarm node ready after it joined; a daemon back after its restart. Default `120s`.",
        ),
        key(
            "converge",
            Shape::Duration,
            "The services of a stack converged. Default `5m`.",
        ),
    ],
);
