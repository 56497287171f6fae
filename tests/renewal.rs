//! What is delivered is served, or the certificate has failed: a real TLS server in a guest, looked
//! at from Phoenix and from inside the guest; what differs there is named; and the previous files
//! come back where the new ones cannot be put to use.

use phoenix_core::pki::Bundle;
use phoenix_lab::Node;
use phoenix_lab::harness::{Harness, Run, planned_changes};
use phoenix_lab::proxmox_api::{Recorded, Request};

const SITE: &str = r#"
guests:
  alone: { vmid: @VMID_ALONE@ }
certificates:
  outer:
    common_name: outer.lab.lan
    profile: server
    sans: [outer.lab.lan]
    deliver:
      - guest: alone
        files:
          - { part: chain, path: /etc/outer/tls.pem }
          - { part: key, path: /etc/outer/tls.key }
        reload: [/usr/local/bin/reload-tls, outer, "8443"]
        rollback: true
        check: { address: "@ALONE@:8443", timeout: 3s }
  inner:
    common_name: inner.lab.lan
    profile: server
    sans: [inner.lab.lan]
    deliver:
      - guest: alone
        files:
          - { part: chain, path: /etc/inner/tls.pem }
          - { part: key, path: /etc/inner/tls.key }
        reload: [/usr/local/bin/reload-tls, inner, "8444"]
        check:
          address: "127.0.0.1:8444"
          server_name: inner.lab.lan
          from: guest
          timeout: 3s
"#;

/// Restarts `openssl s_server` of a name on a port, except that it does nothing while there is
/// `/run/lazy`, and refuses certificates that `/run/refused` matches.
const RELOAD: &str = r#"#!/bin/sh
echo "$1" >>/run/reloads
if [ -e /run/lazy ]; then exit 0; fi
if [ -e /run/refused ] && openssl x509 -in "/etc/$1/tls.pem" -noout -text | grep -q -f /run/refused; then
    echo "this certificate is refused" >&2
    exit 3
fi
if [ -e "/run/tls-$1.pid" ]; then
    kill "$(cat "/run/tls-$1.pid")"
    while kill -0 "$(cat "/run/tls-$1.pid")" 2>/dev/null; do sleep 0.05; done
fi
setsid openssl s_server -www -accept "$2" -cert "/etc/$1/tls.pem" -key "/etc/$1/tls.key" \
    </dev/null >/dev/null 2>&1 &
echo $! >"/run/tls-$1.pid"
"#;

/// Whether a request starts this program in a guest.
fn starts(request: &Request, program: &str) -> bool {
    matches!(
        request.parameter("command"),
        Some(Recorded::List(argv)) if argv.first().is_some_and(|first| first == program)
    )
}

struct Site {
    harness: Harness,
}

impl Site {
    async fn start() -> Self {
        let files = [("phoenix.yaml", SITE)];
        let harness = Harness::of_files("renewal", &[("alone", 1101)], &files).await;
        let site = Self { harness };
        site.node()
            .write_file("/usr/local/bin/reload-tls", 0o755, RELOAD.as_bytes())
            .await
            .expect("the reload command");
        // Somebody else that files can belong to.
        site.shell(
            "grep -q ^daemon: /etc/passwd || echo 'daemon:x:1:1::/:/bin/false' >>/etc/passwd
            grep -q ^daemon: /etc/group || echo 'daemon:x:1:' >>/etc/group",
        )
        .await;
        site
    }

    fn node(&self) -> &Node {
        self.harness.node("alone")
    }

    async fn shell(&self, script: &str) -> String {
        let output = self.node().sh(script).await;
        let output = output.and_then(phoenix_lab::Output::success);
        let output = output.unwrap_or_else(|error| panic!("{script}: {}", error.chain()));
        output.trim_end().to_owned()
    }

    /// A sync that ends with `code` and says all of `texts`.
    async fn sync(&self, code: i32, texts: &[&str]) -> Run {
        let run = self.harness.phoenix(&["sync", "all"]).await.expect(code);
        let said = format!("{}{}", run.stdout, run.stderr);
        // Lines may be broken anywhere between words.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts {
            assert!(said.contains(text), "{text:?} in {run}");
        }
        run
    }

    /// A sync that has nothing to do, and runs no reload command.
    async fn nothing_to_do(&self) {
        let reloads = self.reloads("").await;
        self.harness.server().clear_requests();
        self.sync(0, &["Nothing to change."]).await;
        assert_eq!(self.reloads("").await, reloads);
        let writes = self.harness.server().writes().into_iter();
        // Only the look from inside the guest is one.
        let writes = writes.filter(|write| !starts(write, "openssl"));
        assert_eq!(writes.count(), 0);
    }

    /// The changes of a plan to a certificate, which there must be.
    async fn pending(&self, certificate: &str) -> Vec<String> {
        let arguments = ["--json", "plan", "--detailed-exitcode"];
        let run = self.harness.phoenix(&arguments).await.expect(3);
        let mut changes = planned_changes(&run.plan());
        let found = changes.remove(&format!("certificate/{certificate}"));
        assert!(changes.is_empty(), "{changes:?}");
        found.unwrap_or_else(|| panic!("{run}"))
    }

    async fn reloads(&self, of: &str) -> usize {
        let count = format!("grep -c '{of}' /run/reloads || true");
        self.shell(&count).await.parse().expect("a number")
    }

    fn serial(&self, certificate: &str) -> String {
        let path = format!(".phoenix/certificates/{certificate}.pem");
        let bundle = Bundle::load(&self.harness.path(&path)).expect("readable");
        bundle.expect("a bundle").leaf().serial.clone()
    }

    /// The serial number that is really served, as openssl sees it.
    async fn served(&self, port: u16) -> String {
        let script = format!(
            "openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial"
        );
        let line = self.shell(&script).await.to_lowercase();
        line.strip_prefix("serial=").expect("a serial").to_owned()
    }

    async fn assert_served(&self) {
        assert_eq!(self.served(8443).await, self.serial("outer"));
        assert_eq!(self.served(8444).await, self.serial("inner"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_is_served_or_has_failed() {
    let site = Site::start().await;
    nothing_is_put_back_where_nothing_was(&site).await;
    a_reload_that_does_nothing_is_no_success(&site, "inner", "seen from inside alone").await;
    a_reload_that_does_nothing_is_no_success(&site, "outer", "seen from Phoenix").await;
    what_another_one_serves_is_noticed(&site).await;
    a_failed_reload_brings_the_previous_files_back(&site).await;
    a_certificate_that_is_not_served_brings_them_back_too(&site).await;
    differences_are_named(&site).await;
    owner_and_mode_are_read_back(&site).await;
    site.harness.stop().await;
}

async fn nothing_is_put_back_where_nothing_was(site: &Site) {
    site.shell("echo outer.lab.lan >/run/refused").await;
    site.sync(
        1,
        &[
            "exit code 3",
            "nothing was put back: there was no /etc/outer/tls.pem and no /etc/outer/tls.key before",
        ],
    )
    .await;
    let why = "delivered but not reloaded: exit code 3";
    let pending = site.pending("outer").await;
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert!(pending[0].contains(why), "{pending:?}");
    site.shell("rm /run/refused").await;
    site.sync(0, &[why]).await;
    site.assert_served().await;
    site.nothing_to_do().await;
}

async fn a_reload_that_does_nothing_is_no_success(site: &Site, name: &str, from: &str) {
    let old = site.serial(name);
    site.shell("touch /run/lazy").await;
    let names = format!("sans: [{name}.lab.lan]");
    let more = format!("sans: [{name}.lab.lan, more.{name}.lab.lan]");
    site.harness.edit("phoenix.yaml", &names, &more);
    let instead = format!("{from}: it presents serial {old} of CN={name}.lab.lan until 2");
    site.sync(1, &["not served at ", &instead]).await;
    let new = site.serial(name);
    assert_ne!(new, old);

    // It is still due, as long as it is not served.
    let pending = site.pending(name).await;
    let reload = pending.last().expect("a change");
    assert!(
        reload.starts_with(&format!("reload certificate {name} in alone")),
        "{pending:?}"
    );
    assert!(reload.contains(&instead), "{pending:?}");
    assert!(reload.contains(&format!("not serial {new}")), "{pending:?}");
    site.sync(1, &[&instead]).await;

    site.shell("rm /run/lazy").await;
    site.sync(0, &[]).await;
    site.assert_served().await;
    site.nothing_to_do().await;
}

/// Although nothing else differs.
async fn what_another_one_serves_is_noticed(site: &Site) {
    // The server reads its files some time after it was started.
    site.shell(
        "cp -a /etc/outer /etc/kept && cp /etc/inner/* /etc/outer/ && reload-tls outer 8443
        tries=0
        until openssl s_client -connect 127.0.0.1:8443 </dev/null >/dev/null 2>&1; do
            tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; sleep 0.1
        done
        cp -a /etc/kept/* /etc/outer/",
    )
    .await;
    let reloads = site.reloads("outer").await;
    let pending = site.pending("outer").await;
    let inner = format!("it presents serial {} ", site.serial("inner"));
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert!(
        pending[0].starts_with("reload ") && pending[0].contains(&inner),
        "{pending:?}"
    );
    site.sync(0, &[&inner]).await;
    assert_eq!(site.reloads("outer").await, reloads + 1);
    site.assert_served().await;
    site.nothing_to_do().await;

    site.shell("kill $(cat /run/tls-inner.pid); rm /run/tls-inner.pid")
        .await;
    let pending = site.pending("inner").await;
    assert!(
        pending[0].contains("no certificate is presented"),
        "{pending:?}"
    );
    site.sync(0, &[]).await;
    site.assert_served().await;
}

/// What lies in the guest of the certificate `outer`, with owner and mode.
async fn outer_files(site: &Site) -> String {
    site.shell("stat -c '%n %U:%G %a' /etc/outer/*; cat /etc/outer/*")
        .await
}

async fn a_failed_reload_brings_the_previous_files_back(site: &Site) {
    site.shell("chown daemon /etc/outer/tls.key && chmod 0640 /etc/outer/tls.key")
        .await;
    let (files, old) = (outer_files(site).await, site.serial("outer"));
    site.shell("echo third.outer >/run/refused").await;
    site.harness.edit(
        "phoenix.yaml",
        "more.outer.lab.lan]",
        "third.outer.lab.lan]",
    );
    let reloads = site.reloads("outer").await;
    site.sync(
        1,
        &[
            "exit code 3",
            "the previous files were put back, and the reload command ran for them",
        ],
    )
    .await;
    assert_eq!(site.reloads("outer").await, reloads + 2);
    assert_eq!(outer_files(site).await, files);
    assert_eq!(site.served(8443).await, old);

    let pending = site.pending("outer").await.join("\n");
    for why in [
        "SANs differ: -more.outer.lab.lan +third.outer.lab.lan",
        "last time: exit code 3",
    ] {
        assert!(pending.contains(why), "{why} in {pending}");
    }
    site.shell("rm /run/refused").await;
    site.sync(0, &[]).await;
    site.assert_served().await;
    site.nothing_to_do().await;
}

async fn a_certificate_that_is_not_served_brings_them_back_too(site: &Site) {
    let (files, old) = (outer_files(site).await, site.serial("outer"));
    site.shell("touch /run/lazy").await;
    site.harness.edit(
        "phoenix.yaml",
        "third.outer.lab.lan]",
        "fourth.outer.lab.lan]",
    );
    site.sync(1, &["not served at ", "the previous files were put back"])
        .await;
    assert_eq!(outer_files(site).await, files);
    assert_eq!(site.served(8443).await, old);
    let pending = site.pending("outer").await.join("\n");
    assert!(pending.contains("last time: not served at "), "{pending}");
    site.shell("rm /run/lazy").await;
    site.sync(0, &[]).await;
    site.assert_served().await;
    site.nothing_to_do().await;
}

async fn differences_are_named(site: &Site) {
    site.shell(
        "cp /etc/inner/tls.pem /etc/outer/tls.pem; cp /etc/inner/tls.key /etc/outer/tls.key",
    )
    .await;
    let pending = site.pending("outer").await;
    let serials = format!(
        "serial is {}, not {}",
        site.serial("inner"),
        site.serial("outer")
    );
    for why in [
        serials.as_str(),
        "common name is `inner.lab.lan`, not `outer.lab.lan`",
        "SANs differ: -inner.lab.lan -more.inner.lab.lan +fourth.outer.lab.lan +outer.lab.lan",
    ] {
        assert!(pending[0].contains(why), "{why} in {pending:?}");
    }
    assert_eq!(
        pending[1],
        "deliver alone:/etc/outer/tls.key (key does not match)"
    );
    site.shell("echo mine >/etc/outer/tls.pem").await;
    let pending = site.pending("outer").await;
    assert_eq!(
        pending[0],
        "deliver alone:/etc/outer/tls.pem (unreadable: no PEM certificate)"
    );
    site.sync(0, &[]).await;
    site.assert_served().await;
    site.nothing_to_do().await;
}

/// What was changed by hand is named and put right, and no more than that is done: no certificate
/// is issued, no other file placed, nothing reloaded.
async fn owner_and_mode_are_read_back(site: &Site) {
    let (serial, reloads) = (site.serial("outer"), site.reloads("").await);
    let inode = "stat -c %i /etc/outer/tls.pem";
    let (files, untouched) = (outer_files(site).await, site.shell(inode).await);
    let key = "/etc/outer/tls.key";
    for (by_hand, reasons) in [
        (
            "chmod 0644 /etc/outer/tls.key",
            &["mode of /etc/outer/tls.key is 0644, declared 0600"][..],
        ),
        (
            "chown daemon:daemon /etc/outer/tls.key",
            &["owner of /etc/outer/tls.key is daemon:daemon, declared root:root"],
        ),
        (
            "chown 4711 /etc/outer/tls.key && chmod 4600 /etc/outer/tls.key",
            &[
                "owner of /etc/outer/tls.key is 4711:root, declared root:root",
                "mode of /etc/outer/tls.key is 4600, declared 0600",
            ],
        ),
        // What the link leads to is told of, and not changed.
        (
            "cp -a /etc/outer/tls.key /root/kept && chmod 0604 /root/kept && ln -sf /root/kept /etc/outer/tls.key",
            &["mode of /etc/outer/tls.key is 0604, declared 0600"],
        ),
    ] {
        site.shell(by_hand).await;
        site.harness.server().clear_requests();
        let pending = site.pending("outer").await;
        let why = reasons.join("; ");
        assert_eq!(pending, [format!("deliver alone:{key} ({why})")]);
        // A plan asks once for each delivery, of all files at once.
        let asked = site.harness.server().requests();
        let asked = asked.iter().filter(|request| starts(request, "stat"));
        assert_eq!(asked.count(), 2);

        let status = site.harness.phoenix(&["status"]).await;
        let said = format!("{}{}", status.stdout, status.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&why), "{why:?} in {status}");

        site.sync(0, reasons).await;
        assert_eq!(outer_files(site).await, files);
        assert_eq!(site.shell(inode).await, untouched);
        site.nothing_to_do().await;
    }
    assert_eq!(site.shell("stat -c %a /root/kept").await, "604");
    assert_eq!(site.serial("outer"), serial);
    assert_eq!(site.reloads("").await, reloads);

    // A missing file is missing, whatever is told of the other.
    site.shell("rm /etc/outer/tls.key && chmod 0640 /etc/outer/tls.pem")
        .await;
    let pending = site.pending("outer").await;
    assert_eq!(
        pending[..2],
        [
            "deliver alone:/etc/outer/tls.pem (mode of /etc/outer/tls.pem is 0640, declared 0644)",
            "deliver alone:/etc/outer/tls.key (missing)",
        ]
    );
    assert!(
        pending[2].starts_with("reload ") && pending[2].ends_with("(files change)"),
        "{pending:?}"
    );
    site.sync(0, &[]).await;
    assert_eq!(outer_files(site).await, files);
    assert_eq!(site.reloads("").await, reloads + 1);
    site.assert_served().await;
    site.nothing_to_do().await;
}
