//! Images of a registry that asks for credentials, on a swarm of two real engines: without
//! credentials, with those of docker's configuration file, and with those of a site.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phoenix_lab::harness::{Harness, Run};
use phoenix_lab::leaks::Secrets;
use phoenix_lab::registry::{PASSWORD, USERNAME};
use serde_json::{Value, json};

const SITE: &str = r#"
guests:
  one:
    vmid: @VMID_ONE@
    docker:
      address: tcp://@ONE@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: manager }
  two:
    vmid: @VMID_TWO@
    docker:
      address: tcp://@TWO@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: worker }
swarm: { address_pools: ["@OVERLAY_POOL@"], subnet_size: 24 }
"#;

const WRONG: &str = "not-the-password-of-it";
const IMAGE: &str = "vault/app:1";

/// A site whose nodes are to run an image of the private registry.
struct Private {
    harness: Harness,
    /// `HOST:PORT` of the registry.
    host: String,
    /// The image's digest.
    digest: String,
    secrets: Secrets,
}

impl Private {
    async fn start() -> Self {
        let guests = [("one", 1501), ("two", 1502)];
        let files = [("phoenix.yaml", SITE)];
        let mut harness = Harness::of_files("registry", &guests, &files).await;
        let host = harness.private_registry().await.host();
        let digest = push(&harness, IMAGE, "app").await;
        let mut secrets = Secrets::default();
        secrets.add("the password", PASSWORD.as_bytes());
        secrets.add("a wrong password", WRONG.as_bytes());
        Self {
            harness,
            host,
            digest,
            secrets,
        }
    }

    fn image(&self) -> String {
        format!("{}/{IMAGE}", self.host)
    }

    /// Writes a compose file of one service on every node.
    fn write_stack(&self, file: &str, image: &str) {
        let text = format!(
            "services:\n  app:\n    image: {image}\n    stop_grace_period: 1s\n    deploy: {{ mode: global, update_config: {{ monitor: 1s }} }}\n"
        );
        std::fs::write(self.harness.path(file), text).expect(file);
    }

    /// Writes a configuration file of docker into a folder of its own.
    fn write_docker_config(&self, config: &Value) {
        let folder = self.harness.path("docker");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("config.json"), config.to_string()).expect("write");
    }

    /// The entry of `auths` that `docker login` writes.
    fn login(password: &str) -> Value {
        json!({ "auth": STANDARD.encode(format!("{USERNAME}:{password}")) })
    }

    /// Runs the program. Whatever comes of it, it tells no password.
    async fn phoenix(&self, arguments: &[&str]) -> Run {
        let mut command = self.harness.command(arguments);
        command.env("DOCKER_CONFIG", self.harness.path("docker"));
        let run = Run::of(&mut command).await;
        for text in [&run.stdout, &run.stderr] {
            let told = self.secrets.within(text.as_bytes());
            assert!(told.is_empty(), "{told:?} of {arguments:?}");
        }
        run
    }

    /// The manager's engine, as an argument.
    fn engine(&self) -> String {
        let socket = self.harness.node("one").docker_socket();
        format!("--host=unix://{}", socket.display())
    }

    /// `phoenix stack WHAT FILE` at the manager's engine: nothing of the site is looked at.
    async fn stack(&self, what: &str, file: &str, more: &[&str]) -> Run {
        let host = self.engine();
        let mut arguments = vec!["stack", what, file, "--name", "direct", &host];
        arguments.extend(more);
        self.phoenix(&arguments).await
    }

    /// The image with its digest.
    fn pinned(&self) -> String {
        format!("{}@{}", self.image(), self.digest)
    }

    /// Demands that a service has this image, with its digest, and that every node runs it.
    async fn assert_runs(&self, service: &str, pinned: &str) {
        let docker = self.harness.node("one").docker();
        let path = format!("/services/{service}");
        let found = docker.get(&path).await.expect("a service");
        assert_eq!(
            found["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"],
            pinned
        );
        // The swarm hands the credentials to its nodes, and shows them to nobody.
        let shown = found.to_string();
        assert!(self.secrets.within(shown.as_bytes()).is_empty());
        let swarm = self.harness.swarm("one").await;
        assert_eq!(swarm.services[service].tasks.len(), 2, "{swarm:?}");
    }
}

/// Pushes an image that differs from others by its label; returns its digest.
async fn push(harness: &Harness, name: &str, label: &str) -> String {
    let image = harness.lab().busybox().expect("an image");
    let image = image.with("Labels", json!({ "called": label }));
    let pushed = harness.lab().push_image(name, &image).await;
    pushed.expect("pushed")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_asks_for_credentials_is_deployed_with_them_only() {
    let private = Private::start().await;
    private.harness.phoenix(&["sync", "all"]).await.expect(0);
    without_credentials_the_image_is_missing(&private).await;
    with_those_of_the_docker_cli_it_runs(&private).await;
    what_a_credential_program_keeps_is_refused_by_the_plan(&private).await;
    credentials_that_come_later_are_handed_out(&private).await;
    with_those_of_the_site_it_runs(&private).await;
    private.harness.stop().await;
}

async fn without_credentials_the_image_is_missing(private: &Private) {
    let image = private.image();
    private.write_stack("app.yml", &image);
    let missing = async |more: &[&str]| {
        let more = [more, &["--json"]].concat();
        let run = private.stack("deploy", "app.yml", &more).await.expect(14);
        let end = run.events().pop().expect("an end");
        let outcome = &end["outcomes"][0];
        assert_eq!(outcome["outcome"], "image-missing", "{run}");
        let node = outcome["node"].as_str().expect("a node");
        assert!(["one", "two"].contains(&node), "{run}");
        let text = outcome["text"].as_str().expect("words");
        let said = format!("image {image} is missing");
        assert!(text.contains(&said) && text.contains(node), "{text}");
        // Why it has no digest.
        let warning = end["warnings"][0].as_str().expect("a warning");
        assert!(warning.contains(&image), "{run}");
    };
    // There is no configuration file, and none is asked for.
    missing(&[]).await;
    missing(&["--with-registry-auth"]).await;
    let auths = json!({ (&private.host): Private::login(WRONG) });
    private.write_docker_config(&json!({ "auths": auths }));
    let host = private.engine();
    let remove = ["stack", "rm", "direct", &host];
    private.phoenix(&remove).await.expect(0);
    missing(&["--with-registry-auth"]).await;
}

async fn with_those_of_the_docker_cli_it_runs(private: &Private) {
    // Also as a URL, and beside a program that keeps those of other registries.
    let right = Private::login(PASSWORD);
    let url = format!("http://{}/v2/", private.host);
    let configs = [
        json!({ "auths": { (&private.host): right.clone() } }),
        json!({ "auths": { url: right }, "credsStore": "desktop", "credHelpers": { "x.example": "ecr-login" } }),
    ];
    // Both are taken, though not both are written: the second time nothing differs.
    private.write_docker_config(&configs[0]);
    let run = private.stack("deploy", "app.yml", &["--with-registry-auth"]);
    let run = run.await.expect(0);
    assert!(run.stdout.contains("converged, 2 tasks"), "{run}");
    private.assert_runs("direct_app", &private.pinned()).await;
    for config in &configs {
        private.write_docker_config(config);
        let mark = private.harness.mark().await;
        let run = private.stack("deploy", "app.yml", &["--with-registry-auth"]);
        let run = run.await.expect(0);
        assert!(run.stdout.contains("nothing to change"), "{run}");
        assert!(!run.stderr.contains("no registry told"), "{run}");
        assert_eq!(private.harness.engine_writes(&mark).await, []);
    }
    // Without them the digest that is known is kept, and so are the tasks.
    let run = private.stack("deploy", "app.yml", &[]).await.expect(0);
    assert!(run.stdout.contains("nothing to change"), "{run}");
    assert!(run.stderr.contains("no registry told"), "{run}");
}

async fn what_a_credential_program_keeps_is_refused_by_the_plan(private: &Private) {
    private.write_docker_config(&json!({
        "auths": { (&private.host): {} },
        "credsStore": "desktop",
    }));
    private.write_stack("pinned.yml", &private.pinned());
    let mark = private.harness.mark().await;
    for file in ["app.yml", "pinned.yml"] {
        for what in ["diff", "deploy"] {
            let run = private.stack(what, file, &["--with-registry-auth"]).await;
            let run = run.expect(1);
            let said = format!(
                "the credentials of {} are kept by the program docker-credential-desktop",
                private.host
            );
            assert!(run.stderr.contains(&said), "{what} {file}: {run}");
        }
    }
    assert_eq!(private.harness.engine_writes(&mark).await, []);
    // One that is there is taken from the file, whatever keeps the others.
    let auths = json!({ (&private.host): Private::login(PASSWORD) });
    private.write_docker_config(&json!({ "auths": auths, "credsStore": "desktop" }));
    let run = private.stack("deploy", "pinned.yml", &["--with-registry-auth"]);
    run.await.expect(0);
    private.assert_runs("direct_app", &private.pinned()).await;
}

/// Nothing differs in the spec of an image with a digest: that it is missing is what differs.
async fn credentials_that_come_later_are_handed_out(private: &Private) {
    for action in ["pause", "rollback"] {
        // One that no node has yet.
        let name = format!("vault/{action}:1");
        let digest = push(&private.harness, &name, action).await;
        let pinned = format!("{}/{name}@{digest}", private.host);
        let text = format!(
            "services:\n  app:\n    image: {pinned}\n    stop_grace_period: 1s\n    deploy: {{ mode: global, update_config: {{ monitor: 1s, failure_action: {action} }} }}\n"
        );
        std::fs::write(private.harness.path("later.yml"), text).expect("write");
        let host = private.engine();
        let deploy = ["stack", "deploy", "later.yml", "--name", action, &host];
        let with = [&deploy[..], &["--with-registry-auth"]].concat();
        private.phoenix(&deploy).await.expect(14);
        let run = private.phoenix(&with).await.expect(0);
        let said = "RegistryAuth: + the credentials that are given: a node lacks the image";
        assert!(run.stdout.contains(said), "{run}");
        private.assert_runs(&format!("{action}_app"), &pinned).await;
        let mark = private.harness.mark().await;
        let run = private.phoenix(&with).await.expect(0);
        assert!(run.stdout.contains("nothing to change"), "{run}");
        assert_eq!(private.harness.engine_writes(&mark).await, []);
    }
}

async fn with_those_of_the_site_it_runs(private: &Private) {
    let append = |text: &str| {
        let site = private.harness.read("phoenix.yaml");
        std::fs::write(private.harness.path("phoenix.yaml"), site + text).expect("write");
    };
    append("stacks:\n  vault: { compose: app.yml }\n");
    let run = private.phoenix(&["sync", "all"]).await;
    assert_ne!(run.code, Some(0), "{run}");
    let said = format!("image {} is missing", private.image());
    assert!(
        run.stderr.contains(&said) || run.stdout.contains(&said),
        "{run}"
    );

    append(&format!(
        "registries:\n  {}: {{ username: {USERNAME}, password: {{ file: registry.password }} }}\n",
        private.host
    ));
    write_private(&private.harness.path("registry.password"), PASSWORD);
    private.phoenix(&["sync", "all"]).await.expect(0);
    private.assert_runs("vault_app", &private.pinned()).await;
    let mark = private.harness.mark().await;
    let run = private.phoenix(&["--json", "sync", "all"]).await.expect(0);
    assert_eq!(run.report()["changed"], 0, "{run}");
    assert_eq!(private.harness.engine_writes(&mark).await, []);
    // So it does for a stack that is deployed by hand through the site, without a flag.
    let arguments = ["stack", "deploy", "app.yml", "--name", "through"];
    private.phoenix(&arguments).await.expect(0);
    private.assert_runs("through_app", &private.pinned()).await;
    // What is kept of the runs tells no password either.
    assert_hidden(private, &private.harness.path(".phoenix"));
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("write");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("a mode");
}

fn assert_hidden(private: &Private, folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_hidden(private, &path);
            continue;
        }
        let text = std::fs::read(&path).expect("a file");
        let told = private.secrets.within(&text);
        assert!(told.is_empty(), "{told:?} in {}", path.display());
    }
}
