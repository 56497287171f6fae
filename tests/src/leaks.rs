//! Whether a secret stands where it must not: in an argument vector, a log, a plan, a label.
//!
//! A secret is looked for as it is and in the forms into which programs bring bytes: base64 at
//! every alignment, hexadecimal, percent-encoded, as a JSON string, as a list of numbers. What is
//! found is told by the secret's name, never by its content.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Fewer bytes than these could stand somewhere by chance.
const SHORTEST: usize = 16;

/// Secrets to look for.
#[derive(Default)]
pub struct Secrets {
    /// The forms of secrets, each with the name of the secret and of the form.
    forms: Vec<(Vec<u8>, String)>,
    known: BTreeSet<Vec<u8>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.forms.iter().map(|(_, name)| name.as_str()).collect();
        f.debug_tuple("Secrets").field(&names).finish()
    }
}

impl Secrets {
    /// Adds a secret. One that is known already stays known under its first name.
    ///
    /// # Panics
    /// Where it is so short that it could be found by chance.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        let secret = secret.trim_ascii();
        assert!(secret.len() >= SHORTEST, "{name} is too short to look for");
        if !self.known.insert(secret.to_vec()) {
            return;
        }
        for (form, text) in forms(secret) {
            self.forms.push((text, format!("{name} ({form})")));
        }
    }

    /// Adds every private key in a PEM text, line by line, so that a part of a key is found too.
    /// Returns how many keys there are.
    pub fn add_private_keys(&mut self, name: &str, pem: &str) -> usize {
        let mut keys = 0;
        let mut within = false;
        for line in pem.lines() {
            if line.starts_with("-----BEGIN ") {
                within = line.contains("PRIVATE KEY");
                keys += usize::from(within);
            } else if line.starts_with("-----END ") {
                within = false;
            } else if within && line.len() >= SHORTEST {
                self.add(&format!("private key of {name}"), line.as_bytes());
            }
        }
        keys
    }

    /// How many secrets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The names of the secrets that stand in `text`.
    ///
    /// # Panics
    /// Where there are more secrets than can be looked for at once.
    #[must_use]
    pub fn within(&self, text: &[u8]) -> BTreeSet<&str> {
        let search = AhoCorasick::new(self.forms.iter().map(|(form, _)| form)).expect("a search");
        search
            .find_overlapping_iter(text)
            .map(|found| self.forms[found.pattern()].1.as_str())
            .collect()
    }
}

/// The forms in which programs write bytes, those that are alike only once.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8_lossy(secret);
    let escaped = serde_json::Value::from(text.as_ref()).to_string();
    let percent: String = url::form_urlencoded::byte_serialize(secret).collect();
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("in JSON", escaped.trim_matches('"').as_bytes().to_vec()),
        ("percent-encoded", percent.into_bytes()),
        ("hexadecimal", hex::encode(secret).into_bytes()),
        ("hexadecimal", hex::encode_upper(secret).into_bytes()),
        ("as numbers", numbers.join(", ").into_bytes()),
        ("as numbers", numbers.join(",").into_bytes()),
    ];
    for before in 0..3 {
        let bytes = [&vec![0; before], secret].concat();
        // The characters that hold bits of what stands before or after belong to those.
        let from = [0, 2, 3][before];
        let to = bytes.len() * 8 / 6;
        for encoded in [
            STANDARD_NO_PAD.encode(&bytes),
            URL_SAFE_NO_PAD.encode(&bytes),
        ] {
            forms.push(("base64", encoded.as_bytes()[from..to].to_vec()));
        }
    }
    let mut seen = BTreeSet::new();
    forms.retain(|(_, form)| seen.insert(form.clone()));
    forms
}

/// Looks at the argument vectors of all processes of this machine, those in containers among
/// them, over and over.
#[derive(Debug)]
pub struct ArgumentWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl ArgumentWatch {
    /// Starts looking.
    #[must_use]
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            loop {
                // Read first, so that everything is looked at once more after the end.
                let last = stopped.load(Ordering::Relaxed);
                look(&mut seen);
                if last {
                    break seen;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, thread }
    }

    /// Ends it. Returns every vector that was seen, its arguments separated by spaces.
    ///
    /// # Panics
    /// Where it could not look.
    #[must_use]
    pub fn finish(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch")
    }
}

fn look(seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name();
        if !name
            .as_encoded_bytes()
            .first()
            .is_some_and(u8::is_ascii_digit)
        {
            continue;
        }
        // A process may be gone by now.
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let text = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if !seen.contains(&text) {
            seen.insert(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"s3cret/with+signs\"and=more";

    fn secrets() -> Secrets {
        let mut secrets = Secrets::default();
        secrets.add("token", SECRET);
        secrets
    }

    #[test]
    fn every_form_is_found_between_other_bytes() {
        let secrets = secrets();
        for before in 0..4 {
            for after in 0..4 {
                let bytes = [&vec![b'x'; before], SECRET, &vec![b'y'; after]].concat();
                let text = String::from_utf8(bytes.clone()).expect("text");
                let percent: String = url::form_urlencoded::byte_serialize(&bytes).collect();
                for shown in [
                    text.clone(),
                    format!("{text:?}"),
                    serde_json::json!({ "data": text }).to_string(),
                    serde_json::to_string(&bytes).expect("JSON"),
                    format!("{bytes:?}"),
                    percent,
                    hex::encode(&bytes),
                    base64::engine::general_purpose::STANDARD.encode(&bytes),
                    base64::engine::general_purpose::URL_SAFE.encode(&bytes),
                ] {
                    let shown = format!("before {shown} after");
                    assert!(!secrets.within(shown.as_bytes()).is_empty(), "{shown}");
                }
            }
        }
        assert!(secrets.within(&SECRET[1..]).is_empty());
        assert!(!format!("{secrets:?}").contains("s3cret"));
    }

    #[test]
    fn keys_are_found_line_by_line_and_certificates_are_no_secret() {
        let lines = [
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49",
            "AwEHBG0wawIBAQQg0123456789",
        ];
        let certificate = "MIIBszCCAVmgAwIBAgIUQ29uZ3JhdHVs";
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n\
             -----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        );
        let mut secrets = Secrets::default();
        assert_eq!(secrets.add_private_keys("web", &pem), 1);
        assert_eq!(secrets.len(), 2);
        for line in lines {
            assert!(!secrets.within(line.as_bytes()).is_empty());
        }
        assert!(secrets.within(certificate.as_bytes()).is_empty());
    }

    #[test]
    fn the_arguments_of_a_running_process_are_seen() {
        let watch = ArgumentWatch::start();
        let mut child = std::process::Command::new("sleep")
            .arg("1000.0625")
            .spawn()
            .expect("sleep");
        let seen = watch.finish();
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(seen.contains("sleep 1000.0625 "), "{} seen", seen.len());
    }
}
