//! `phoenix renew`: nothing is said or written where nothing is due; what is renewed is what was
//! named; what is not as declared is said, and not changed; a watch renews by itself; a thousand
//! certificates at once go to each guest one request at a time; and a renewal that is killed
//! anywhere leaves a key with its own certificate.
#![allow(clippy::print_stderr, reason = "counts and times are for information")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use phoenix_core::pki::Bundle;
use phoenix_lab::harness::{EngineCall, Harness, Run, planned_changes, until};
use phoenix_lab::proxmox_api::Request;
use phoenix_lab::{Node, Output};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

const WHOLE: &str = r#"
guests:
  alone:
    vmid: @VMID_ALONE@
    docker:
      address: tcp://@ALONE@:2376
      managed: { restart: [/usr/local/bin/restart-docker] }
    swarm: { role: manager, labels: { place: here } }
swarm: { address_pools: ["@OVERLAY_POOL@"], subnet_size: 24 }
networks: { front: {} }
certificates:
  file:
    common_name: file.lab.lan
    profile: server
    sans: [file.lab.lan]
    deliver:
      - guest: alone
        files:
          - { part: chain, path: /etc/web/tls.pem }
          - { part: key, path: /etc/web/tls.key }
        reload: [/bin/sh, -c, "echo reloaded >> /etc/web/reloads"]
  stack:
    common_name: stack.lab.lan
    profile: server
    sans: [stack.lab.lan]
    deliver:
      - secrets: { bundle: stack_tls }
stacks:
  web: { compose: web.yml }
  other: { compose: other.yml }
"#;

const WEB: &str = r#"
services:
  one:
    image: busybox:1.37
    networks: [front]
    secrets: [stack_tls]
    stop_grace_period: 1s
    deploy:
      update_config: { monitor: 1s }
networks:
  front: { external: true }
secrets:
  stack_tls: { external: true }
"#;

const OTHER: &str = r#"
services:
  one:
    image: busybox:1.37
    networks: [front]
    stop_grace_period: 1s
networks:
  front: { external: true }
"#;

/// A lab with the guests `guests`, and the site of these files.
async fn start(guests: &[(&'static str, u32)], files: &[(&str, &str)]) -> Harness {
    Harness::of_files("renew", guests, files).await
}

async fn shell(node: &Node, script: &str) -> String {
    let output = node.sh(script).await.and_then(Output::success);
    let output = output.unwrap_or_else(|error| panic!("{script}: {}", error.chain()));
    output.trim_end().to_owned()
}

/// The serial number of the first certificate of a file in a guest.
async fn serial_in(node: &Node, path: &str) -> String {
    let line = shell(node, &format!("openssl x509 -in {path} -noout -serial")).await;
    let line = line.to_lowercase();
    line.strip_prefix("serial=").expect("a serial").to_owned()
}

/// What is in a file whose lines are folded anywhere between words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Site {
    harness: Harness,
}

impl Site {
    fn node(&self) -> &Node {
        self.harness.node("alone")
    }

    /// The serial numbers of all certificates by name: those in the guest, and the stored one of
    /// what lies in a secret.
    async fn serials(&self) -> BTreeMap<&'static str, String> {
        let mut serials = BTreeMap::new();
        for (name, path) in [
            ("file", "/etc/web/tls.pem"),
            ("docker/alone", "/etc/docker/phoenix/server.pem"),
        ] {
            serials.insert(name, serial_in(self.node(), path).await);
        }
        for (name, path) in [
            ("stack", "certificates/stack.pem"),
            ("docker-client", "docker-client.pem"),
        ] {
            let path = self.harness.path(&format!(".phoenix/{path}"));
            let bundle = Bundle::load(&path).expect("readable");
            let bundle = bundle.unwrap_or_else(|| panic!("no {}", path.display()));
            serials.insert(name, bundle.leaf().serial.clone());
        }
        serials
    }

    /// What `renew` did not leave as it was, by `before`.
    async fn renewed(&self, before: &BTreeMap<&'static str, String>) -> BTreeSet<&'static str> {
        let now = self.serials().await;
        let changed = now.into_iter().filter(|(name, now)| before[name] != *now);
        changed.map(|(name, _)| name).collect()
    }

    /// Runs the program; it asks neither the engine nor a guest to change anything.
    async fn without_writes(&self, arguments: &[&str]) -> Run {
        let before = self.harness.swarm("alone").await;
        let mark = self.harness.mark().await;
        self.harness.server().clear_requests();
        let run = self.harness.phoenix(arguments).await;
        let writes: Vec<EngineCall> = self.harness.engine_writes(&mark).await;
        assert!(writes.is_empty(), "{arguments:?}: {writes:?}");
        let writes = self.harness.server().writes();
        assert!(writes.is_empty(), "{arguments:?}: {writes:#?}");
        assert_eq!(self.harness.swarm("alone").await, before);
        run
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_and_due_is_renewed_and_nothing_else() {
    let files = [
        ("phoenix.yaml", WHOLE),
        ("web.yml", WEB),
        ("other.yml", OTHER),
    ];
    let harness = start(&[("alone", 1101)], &files).await;
    let site = Site { harness };
    nothing_is_renewed_before_there_is_a_site(&site).await;
    site.harness.phoenix(&["sync", "all"]).await.expect(0);
    nothing_due_is_nothing_said_or_written(&site).await;
    a_dry_run_shows_and_changes_nothing(&site).await;
    unknown_names_are_refused(&site).await;
    units_are_printed(&site).await;
    what_is_named_is_renewed_alone(&site).await;
    everything_is_renewed_at_once(&site).await;
    drift_is_left_to_a_sync(&site).await;
    a_guest_that_is_not_reached_is_said(&site).await;
    the_lock_is_honoured(&site).await;
    what_is_delivered_and_the_ca_are_shown(&site).await;
    a_revoked_certificate_is_listed_and_replaced(&site).await;
    site.harness.stop().await;
}

async fn nothing_is_renewed_before_there_is_a_site(site: &Site) {
    // There is no swarm to look at yet.
    let run = site.harness.phoenix(&["renew"]).await.expect(1);
    let said = words(&format!("{}{}", run.stdout, run.stderr));
    assert!(said.contains("run `phoenix sync all` first"), "{run}");
}

async fn nothing_due_is_nothing_said_or_written(site: &Site) {
    let before = site.serials().await;
    let run = site.without_writes(&["renew"]).await.expect(0);
    assert_eq!(run.stdout, "", "{run}");
    assert!(site.renewed(&before).await.is_empty());
    let run = site.without_writes(&["--json", "renew"]).await.expect(0);
    assert_eq!(run.report()["changed"], 0, "{run}");
    let run = site.without_writes(&["--verbose", "renew"]).await.expect(0);
    assert!(run.stdout.contains("Nothing is due before 2"), "{run}");
}

async fn a_dry_run_shows_and_changes_nothing(site: &Site) {
    let before = site.serials().await;
    let arguments = ["--json", "renew", "--dry-run", "--force"];
    let run = site.without_writes(&arguments).await.expect(0);
    let changes = planned_changes(&run.plan());
    let steps: Vec<&str> = changes.keys().map(String::as_str).collect();
    for step in ["certificate/file", "certificate/stack", "secret/stack_tls"] {
        assert!(steps.contains(&step), "{step} in {changes:#?}");
    }
    assert!(
        !steps.iter().any(|step| step.contains("other")),
        "{steps:?}"
    );
    let run = site
        .without_writes(&["renew", "--dry-run", "--force"])
        .await
        .expect(0);
    assert!(run.stdout.contains("server certificate file"), "{run}");
    assert!(site.renewed(&before).await.is_empty());
    site.without_writes(&["renew"]).await.expect(0);
}

async fn unknown_names_are_refused(site: &Site) {
    for arguments in [
        &["renew", "fiel"][..],
        &["renew", "--dry-run", "fiel"],
        &["renew", "--force", "file", "fiel"],
    ] {
        let run = site.without_writes(arguments).await.expect(2);
        let all =
            "the site has no certificate `fiel`: it has file, stack, docker/alone, docker-client";
        assert!(words(&run.stderr).contains(all), "{run}");
    }
}

async fn units_are_printed(site: &Site) {
    let run = site
        .without_writes(&["renew", "--print-systemd"])
        .await
        .expect(0);
    let program = phoenix_lab::harness::program();
    let start = format!(
        "ExecStart={} --config {} renew\n",
        program.display(),
        site.harness.path("phoenix.yaml").display()
    );
    assert!(run.stdout.contains(&start), "{run}");
    assert!(run.stdout.contains("[Timer]\n"), "{run}");
}

async fn what_is_named_is_renewed_alone(site: &Site) {
    let before = site.serials().await;
    let swarm = site.harness.swarm("alone").await;
    let run = site
        .harness
        .phoenix(&["renew", "file", "--force"])
        .await
        .expect(0);
    assert!(
        run.stdout.contains("certificate/file") || run.stdout.contains("certificate file"),
        "{run}"
    );
    assert_eq!(site.renewed(&before).await, BTreeSet::from(["file"]));
    assert!(
        site.harness
            .swarm("alone")
            .await
            .touched_since(&swarm)
            .is_empty()
    );
    assert_eq!(
        shell(site.node(), "grep -c reloaded /etc/web/reloads").await,
        "2"
    );

    let before = site.serials().await;
    site.harness
        .phoenix(&["renew", "stack", "--force"])
        .await
        .expect(0);
    assert_eq!(site.renewed(&before).await, BTreeSet::from(["stack"]));
    let after = site.harness.swarm("alone").await;
    assert_eq!(
        after.touched_since(&swarm),
        BTreeSet::from(["web_one".to_owned()])
    );
    // The one before is what a rollback would find.
    assert_eq!(after.versions("stack_tls").len(), 2, "{:?}", after.secrets);

    let before = site.serials().await;
    site.harness
        .phoenix(&["renew", "docker/alone", "--force"])
        .await
        .expect(0);
    assert_eq!(
        site.renewed(&before).await,
        BTreeSet::from(["docker/alone"])
    );
    site.without_writes(&["renew"]).await.expect(0);
}

async fn everything_is_renewed_at_once(site: &Site) {
    let before = site.serials().await;
    site.harness.phoenix(&["renew", "--force"]).await.expect(0);
    let all: BTreeSet<&str> = before.keys().copied().collect();
    assert_eq!(site.renewed(&before).await, all);
    let run = site.without_writes(&["renew"]).await.expect(0);
    assert_eq!(run.stdout, "", "{run}");
    let run = site.harness.phoenix(&["--json", "sync", "all"]).await;
    let run = run.expect(0);
    // The daemon was restarted: tasks may still be coming back, and one that was ending may have
    // held an old version.
    let mut left = planned_changes(&run.plan());
    left.remove("retired-versions");
    left.retain(|_, changes| !changes.iter().all(|change| change.starts_with("await ")));
    assert!(left.is_empty(), "{left:#?}");
}

/// A label is not a matter of certificates: what is below it fails, says where to go, and is not
/// changed.
async fn drift_is_left_to_a_sync(site: &Site) {
    let update = "docker node update --label-rm place $(docker node ls -q)";
    shell(site.node(), update).await;
    let before = site.serials().await;
    let run = site
        .harness
        .phoenix(&["renew", "--force", "stack"])
        .await
        .expect(1);
    let said = words(&format!("{}{}", run.stdout, run.stderr));
    for text in [
        "it is not as declared",
        "place",
        "run `phoenix sync all` first",
    ] {
        assert!(said.contains(text), "{text:?} in {run}");
    }
    // The label is as it was found.
    let labels = "docker node inspect self --format '{{.Spec.Labels}}'";
    assert_eq!(shell(site.node(), labels).await, "map[]");
    // No declared certificate is renewed before all nodes are as declared.
    site.harness
        .phoenix(&["renew", "--force", "file"])
        .await
        .expect(1);
    assert!(site.renewed(&before).await.is_empty());
    site.harness.phoenix(&["sync", "all"]).await.expect(0);
    site.without_writes(&["renew"]).await.expect(0);
}

async fn a_guest_that_is_not_reached_is_said(site: &Site) {
    let vmid = 1101;
    site.harness
        .server()
        .faults()
        .set_agent_answering(vmid, false);
    let before = site.serials().await;
    let run = site
        .harness
        .phoenix(&["renew", "--force", "file"])
        .await
        .expect(4);
    assert!(
        run.stdout.contains("alone") || run.stderr.contains("alone"),
        "{run}"
    );
    site.harness
        .server()
        .faults()
        .set_agent_answering(vmid, true);
    assert!(site.renewed(&before).await.is_empty(), "{run}");
    site.harness.phoenix(&["renew"]).await.expect(0);
}

async fn the_lock_is_honoured(site: &Site) {
    let first = site
        .harness
        .command(["renew", "--force", "file"])
        .spawn()
        .expect("spawn");
    let id = first.id().expect("it runs");
    let holder = format!("process {id}");
    until("the first has the lock", async || {
        site.harness.read(".phoenix/lock").trim() == holder
    })
    .await;
    // It stands still, however slow the second one is.
    let pid = pid(id);
    kill_process(pid, Signal::STOP).expect("stop");
    let second = site.harness.phoenix(&["renew"]).await.expect(5);
    assert!(second.stderr.contains(&holder), "{second}");
    // A plan needs no lock.
    site.harness
        .phoenix(&["renew", "--dry-run"])
        .await
        .expect(0);
    kill_process(pid, Signal::CONT).expect("continue");
    let ended = first.wait_with_output().await.expect("its end");
    assert_eq!(ended.status.code(), Some(0));
}

/// `cert show` of a guest's file, and `ca` without a directory: the site's own.
async fn what_is_delivered_and_the_ca_are_shown(site: &Site) {
    let serial = serial_in(site.node(), "/etc/web/tls.pem").await;
    let run = site
        .without_writes(&["cert", "show", "alone:/etc/web/tls.pem"])
        .await
        .expect(0);
    for text in ["CN=file.lab.lan", "names (DNS):      file.lab.lan", &serial] {
        assert!(run.stdout.contains(text), "{text:?} in {run}");
    }
    // A key is looked at, and not shown.
    let run = site
        .without_writes(&["cert", "show", "alone:/etc/docker/phoenix/server-key.pem"])
        .await;
    assert!(
        !run.stdout.contains("PRIVATE") && !run.stderr.contains("PRIVATE"),
        "{run}"
    );
    let run = site
        .without_writes(&["cert", "show", "alone:/etc/web/none.pem"])
        .await
        .expect(1);
    assert!(run.stderr.contains("/etc/web/none.pem"), "{run}");

    let run = site
        .without_writes(&["ca", "show", "--inventory"])
        .await
        .expect(0);
    for text in ["(root)", "certificates issued", &serial] {
        assert!(run.stdout.contains(text), "{text:?} in {run}");
    }
    let run = site.without_writes(&["ca", "export"]).await.expect(0);
    let root = shell(site.node(), "cat /etc/docker/phoenix/ca.pem").await;
    assert_eq!(run.stdout.trim_end(), root);
}

/// openssl takes the list of revoked certificates for what it is.
async fn a_revoked_certificate_is_listed_and_replaced(site: &Site) {
    let node = site.node();
    let judged = async || {
        let lists = site.without_writes(&["ca", "crl"]).await.expect(0).stdout;
        node.write_file("/tmp/crl.pem", 0o644, lists.as_bytes())
            .await
            .expect("the list");
        let script = "openssl verify -crl_check -CAfile /etc/docker/phoenix/ca.pem \
                      -CRLfile /tmp/crl.pem -untrusted /etc/web/tls.pem /etc/web/tls.pem 2>&1 || true";
        shell(node, script).await
    };
    let said = judged().await;
    assert!(said.ends_with(": OK"), "{said}");
    let serial = serial_in(node, "/etc/web/tls.pem").await;
    let run = site.without_writes(&["ca", "revoke", &serial]).await;
    run.expect(0);
    let said = judged().await;
    assert!(said.contains("certificate revoked"), "{said}");
    let before = site.serials().await;
    site.harness.phoenix(&["renew"]).await.expect(0);
    assert_eq!(site.renewed(&before).await, BTreeSet::from(["file"]));
    let said = judged().await;
    assert!(said.ends_with(": OK"), "{said}");
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a pid")).expect("a pid")
}

/// A site without Docker and one certificate in `/etc/web`, with `more` about it.
fn one_pair(more: &str) -> String {
    format!(
        r#"
guests:
  alone: {{ vmid: @VMID_ALONE@ }}
certificates:
  web:
    common_name: web.lab.lan
    profile: server
    sans: [web.lab.lan]
{more}
    deliver:
      - guest: alone
        files:
          - {{ part: chain, path: /etc/web/tls.pem }}
          - {{ part: key, path: /etc/web/tls.key }}
        reload: [/bin/sh, -c, "echo reloaded >> /etc/web/reloads"]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_renews_by_itself_until_it_is_told_to_end() {
    let text = one_pair("    lifetime: 70s\n    renew_before: 60s");
    let harness = start(&[("alone", 1101)], &[("phoenix.yaml", &text)]).await;
    let node = harness.node("alone");
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let mut seen = serial_in(node, "/etc/web/tls.pem").await;

    let mut watch = harness
        .command(["renew", "--watch"])
        .stdout(Stdio::null())
        .spawn()
        .expect("phoenix");
    let id = watch.id().expect("it runs");
    let errors = watch.stderr.take().expect("its stderr");
    let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let listening = tokio::spawn({
        let said = std::sync::Arc::clone(&said);
        async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut said = said.lock().expect("the text");
                said.push_str(&line);
                said.push('\n');
            }
        }
    });
    let heard = |text: &str| words(&said.lock().expect("the text")).contains(text);

    let mut renewals = 0;
    while renewals < 3 {
        let mut now = String::new();
        until("a renewal", async || {
            now = serial_in(node, "/etc/web/tls.pem").await;
            now != seen
        })
        .await;
        renewals += 1;
        seen = now;
        match renewals {
            1 => {
                harness.edit("phoenix.yaml", "profile: server", "profile: severe");
                until("the broken site file is said", async || {
                    heard("severe") && heard("the site file as it was is kept")
                })
                .await;
            }
            2 => {
                harness.edit("phoenix.yaml", "profile: severe", "profile: server");
                until("the mended site file is said", async || {
                    heard("the site file has changed")
                })
                .await;
            }
            _ => {}
        }
    }

    kill_process(pid(id), Signal::TERM).expect("a signal");
    let begun = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(10), watch.wait()).await;
    let ended = ended.expect("it ends").expect("its end");
    assert_eq!(ended.code(), Some(0), "{}", said.lock().expect("the text"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    listening.await.expect("heard to the end");
    assert!(heard("stopped by"), "{}", said.lock().expect("the text"));
    assert!(
        heard("next look at 2"),
        "{}",
        said.lock().expect("the text")
    );
    // Nothing was left in the middle, and nobody holds the lock.
    harness.phoenix(&["renew"]).await.expect(0);
    harness.stop().await;
}

/// The most requests about one guest's agent that were under way at the same time.
fn most_at_once(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut events: BTreeMap<String, Vec<(Duration, i32)>> = BTreeMap::new();
    for request in requests {
        let Some((guest, _)) = request.path.split_once("/agent") else {
            continue;
        };
        let answered = request.answered.expect("every request was answered");
        let of_guest = events.entry(guest.to_owned()).or_default();
        of_guest.push((request.arrived, 1));
        of_guest.push((answered, -1));
    }
    events
        .into_iter()
        .map(|(guest, mut events)| {
            // One that ends at the moment at which another begins is not at once with it.
            events.sort_unstable();
            let most = events.iter().scan(0, |now, (_, step)| {
                *now += step;
                Some(*now)
            });
            let most = most.max().unwrap_or_default();
            (guest, usize::try_from(most).expect("a number"))
        })
        .collect()
}

const MANY: usize = 1_000;
const THREE: [(&str, u32); 3] = [("one", 1101), ("two", 1102), ("three", 1103)];

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_certificates_due_at_once_are_delivered_one_request_at_a_time() {
    let mut text = String::from("guests:\n");
    for (name, _) in THREE {
        let _ = writeln!(text, "  {name}: {{ vmid: @VMID_{}@ }}", name.to_uppercase());
    }
    // A site without certificates has no CA, and a renewal makes none.
    text.push_str(
        "certificates:\n  first: { common_name: first, profile: server, sans: [first.lab.lan] }\n",
    );
    let harness = start(&THREE, &[("phoenix.yaml", &text)]).await;
    harness.phoenix(&["sync", "all"]).await.expect(0);

    let mut certificates = String::from("certificates:\n");
    for number in 0..MANY {
        let (guest, _) = THREE[number % THREE.len()];
        let _ = write!(
            certificates,
            "  c{number}:
    common_name: c{number}.lab.lan
    profile: server
    sans: [c{number}.lab.lan]
    deliver:
      - guest: {guest}
        files: [{{ part: bundle, path: /etc/many/c{number}.pem }}]
"
        );
    }
    harness.edit("phoenix.yaml", "certificates:\n", &certificates);
    harness.server().clear_requests();
    let begun = Instant::now();
    let run = harness.phoenix(&["--json", "renew"]).await.expect(0);
    eprintln!(
        "{MANY} certificates issued and delivered to {} guests in {:?}, with {} requests",
        THREE.len(),
        begun.elapsed(),
        harness.server().requests().len()
    );
    assert_eq!(run.report()["changed"], MANY);
    let most = most_at_once(&harness.server().requests());
    assert_eq!(most.len(), THREE.len(), "{most:?}");
    assert!(most.values().all(|most| *most == 1), "{most:?}");

    let mut delivered = 0;
    for (name, _) in THREE {
        let count = "cd /etc/many && for f in *.pem; do openssl x509 -in $f -noout -subject; done | sort -u | wc -l; find . -type f ! -name 'c*.pem' | wc -l; find . -type f -perm /077 | wc -l";
        let counts = shell(harness.node(name), count).await;
        let counts: Vec<usize> = counts
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        let [certificates, others, readable] = counts[..] else {
            panic!("{counts:?}")
        };
        assert_eq!((others, readable), (0, 0), "{name}");
        delivered += certificates;
    }
    assert_eq!(delivered, MANY);

    harness.server().clear_requests();
    let begun = Instant::now();
    let run = harness.phoenix(&["renew"]).await.expect(0);
    eprintln!("nothing due among {MANY}: {:?}", begun.elapsed());
    assert_eq!(run.stdout, "");
    let writes = harness.server().writes();
    assert!(writes.is_empty(), "{writes:#?}");
    harness.stop().await;
}

const VERY_MANY: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_certificates_that_need_nothing_are_planned() {
    let mut text = String::from("guests:\n  alone: { vmid: @VMID_ALONE@ }\ncertificates:\n");
    for number in 0..VERY_MANY {
        let _ = writeln!(
            text,
            "  c{number}: {{ common_name: c{number}.lab.lan, profile: server, sans: [c{number}.lab.lan] }}"
        );
    }
    let harness = start(&[("alone", 1101)], &[("phoenix.yaml", &text)]).await;
    let begun = Instant::now();
    harness.phoenix(&["sync", "all"]).await.expect(0);
    eprintln!("{VERY_MANY} certificates issued in {:?}", begun.elapsed());
    let begun = Instant::now();
    let run = harness
        .phoenix(&["--json", "plan", "--detailed-exitcode"])
        .await
        .expect(0);
    eprintln!("{VERY_MANY} certificates planned in {:?}", begun.elapsed());
    assert!(planned_changes(&run.plan()).is_empty());
    let begun = Instant::now();
    let run = harness.phoenix(&["renew"]).await.expect(0);
    eprintln!("nothing due among {VERY_MANY}: {:?}", begun.elapsed());
    assert_eq!(run.stdout, "");
    harness.stop().await;
}

/// In the guest is a key with its own certificate, whose serial number is in the CA's inventory.
async fn assert_a_pair(harness: &Harness, when: &str) -> String {
    let node = harness.node("alone");
    // What was asked of the guest before the kill goes on in it.
    until(&format!("a pair {when}"), async || {
        let script = "cd /etc/web && test \"$(openssl pkey -in tls.key -pubout)\" = \"$(openssl x509 -in tls.pem -noout -pubkey)\" && echo pair || echo none";
        shell(node, script).await == "pair"
    })
    .await;
    let readable = "find /etc/web /tmp -type f -name '*key*' -perm /077";
    assert_eq!(shell(node, readable).await, "", "{when}");
    let serial = serial_in(node, "/etc/web/tls.pem").await;
    let inventory = harness.read(".phoenix/ca/inventory.jsonl").to_lowercase();
    assert!(inventory.contains(&serial), "{serial} {when}: {inventory}");
    serial
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_killed_at_any_request_leaves_a_pair() {
    let harness = start(&[("alone", 1101)], &[("phoenix.yaml", &one_pair(""))]).await;
    let node = harness.node("alone");
    harness.phoenix(&["sync", "all"]).await.expect(0);
    let mut serials = BTreeSet::from([assert_a_pair(&harness, "at first").await]);
    let mut kills = 0;
    for requests in 1.. {
        assert!(requests < 200, "it takes more and more requests");
        harness.server().clear_requests();
        let mut program = harness
            .command(["renew", "--force"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("phoenix");
        let ended = loop {
            if let Some(ended) = program.try_wait().expect("its state") {
                break Some(ended);
            }
            if harness.server().requests().len() >= requests {
                break None;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        if let Some(ended) = ended {
            assert_eq!(ended.code(), Some(0));
            break;
        }
        program.kill().await.expect("killed");
        kills += 1;
        let when = format!("after request {requests}");
        serials.insert(assert_a_pair(&harness, &when).await);

        harness.phoenix(&["renew"]).await.expect(0);
        serials.insert(assert_a_pair(&harness, &when).await);
        let left = shell(
            node,
            "find /etc/web /tmp /run /var/tmp -xdev -name '*.phoenix*' -o -xdev -name '*.proposed'; ls /etc/web",
        )
        .await;
        assert_eq!(left, "reloads\ntls.key\ntls.pem", "{when}");
        let run = harness.phoenix(&["--json", "renew"]).await.expect(0);
        assert_eq!(run.report()["changed"], 0, "{when}: {run}");
    }
    eprintln!(
        "{kills} kills, {} certificates reached the guest",
        serials.len()
    );
    assert!(kills >= 5, "only {kills} runs were killed");
    assert!(serials.len() >= 3, "only {serials:?} reached the guest");
    harness.stop().await;
}
