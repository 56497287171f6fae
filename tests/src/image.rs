//! Container images made here, without a base image from anywhere.
//!
//! An [`Image`] is one layer of files and a configuration, in the form a registry takes: the same
//! content always has the same digests.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::root::Root;
use crate::{LabError, Result, process};

const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";
const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
/// The media type of [`Image::manifest`].
pub const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Files and configuration of an image.
#[derive(Debug, Clone)]
pub struct Image {
    layer: bytes::Bytes,
    layer_digest: String,
    config: Value,
}

/// `sha256:` and the digest in hexadecimal.
pub(crate) fn digest(content: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    format!("sha256:{}", hex::encode(digest))
}

fn malformed(error: std::io::Error) -> LabError {
    LabError::Malformed(error.to_string())
}

/// Builds a layer: entries in the order given, of root, without times.
struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header
    }

    fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        self.0
            .append_data(&mut header, path, std::io::empty())
            .map_err(malformed)
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Regular, mode, content.len() as u64);
        self.0
            .append_data(&mut header, path, content)
            .map_err(malformed)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        self.0
            .append_link(&mut header, path, target)
            .map_err(malformed)
    }

    /// All regular files below a folder, at the same places below the image's root.
    fn tree(&mut self, base: &Path, below: &Path) -> Result<()> {
        let dir = base.join(below);
        let read = LabError::io("read", &dir);
        let mut entries: Vec<_> = fs::read_dir(&dir)
            .and_then(Iterator::collect::<std::io::Result<Vec<fs::DirEntry>>>)
            .map_err(read)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            if entry.path().is_dir() {
                self.tree(base, &path)?;
            } else {
                let content =
                    fs::read(entry.path()).map_err(LabError::io("read", &entry.path()))?;
                self.file(&path.to_string_lossy(), 0o755, &content)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<bytes::Bytes> {
        self.0.into_inner().map(Into::into).map_err(malformed)
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Image {
    fn new(layer: bytes::Bytes) -> Self {
        Self {
            layer_digest: digest(&layer),
            layer,
            config: json!({
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                // Few programs here handle TERM as process 1, and stopping them would take 10 s.
                "StopSignal": "SIGKILL",
            }),
        }
    }

    /// A small image with a shell, busybox's programs and a page for its web server. Its command
    /// sleeps.
    ///
    /// # Errors
    /// Where the root in the cache is damaged.
    pub fn busybox(root: &Root) -> Result<Self> {
        let base = root.busybox();
        let mut layer = Layer::new();
        layer.dir("tmp", 0o1777)?;
        layer.dir("root", 0o700)?;
        layer.file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )?;
        layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        layer.file("www/index.html", 0o644, b"it works\n")?;
        for entry in ["bin", "lib", "lib64", "usr"] {
            if base.join(entry).is_dir() {
                layer.tree(&base, Path::new(entry))?;
            }
        }
        let applets = base.join("applets");
        let applets = fs::read_to_string(&applets).map_err(LabError::io("read", &applets))?;
        for applet in applets.lines().filter(|name| *name != "busybox") {
            layer.link(&format!("bin/{applet}"), "busybox")?;
        }
        Ok(Self::new(layer.finish()?).cmd(["sleep", "2147483647"]))
    }

    /// An image of one program of this machine and the libraries it is linked with.
    ///
    /// # Errors
    /// Where the program is not there.
    pub async fn of_program(program: &Path, at: &str) -> Result<Self> {
        let mut command = Command::new("ldd");
        command.arg(program);
        let listed = process::run(command).await?;
        let mut layer = Layer::new();
        layer.dir("tmp", 0o1777)?;
        layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/false\n")?;
        for library in libraries(&listed) {
            let content = fs::read(library).map_err(LabError::io("read", Path::new(library)))?;
            layer.file(library.trim_start_matches('/'), 0o755, &content)?;
        }
        let content = fs::read(program).map_err(LabError::io("read", program))?;
        layer.file(at.trim_start_matches('/'), 0o755, &content)?;
        Ok(Self::new(layer.finish()?).entrypoint([at]))
    }

    /// With this command.
    #[must_use]
    pub fn cmd<'a>(self, argv: impl IntoIterator<Item = &'a str>) -> Self {
        let argv: Vec<&str> = argv.into_iter().collect();
        self.with("Cmd", json!(argv))
    }

    /// With this entry point.
    #[must_use]
    pub fn entrypoint<'a>(self, argv: impl IntoIterator<Item = &'a str>) -> Self {
        let argv: Vec<&str> = argv.into_iter().collect();
        self.with("Entrypoint", json!(argv))
    }

    /// With a field of the image's `config` object set, as the image specification names it.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// With busybox's web server on this port as command.
    #[must_use]
    pub fn web(self, port: u16) -> Self {
        self.cmd(["httpd", "-f", "-p", &port.to_string(), "-h", "/www"])
            .with("ExposedPorts", json!({ (format!("{port}/tcp")): {} }))
    }

    /// With a command that writes `text` to stderr and exits with `code`.
    #[must_use]
    pub fn crash(self, code: u8, text: &str) -> Self {
        self.cmd(["sh", "-c", &format!("echo '{text}' >&2; exit {code}")])
    }

    /// With a health check that always fails, first after a second.
    #[must_use]
    pub fn unhealthy(self) -> Self {
        let second = 1_000_000_000_u64;
        self.with(
            "Healthcheck",
            json!({ "Test": ["CMD", "false"], "Interval": second, "Timeout": second, "Retries": 1 }),
        )
    }

    /// The layer's tar and its digest.
    #[must_use]
    pub fn layer(&self) -> (&bytes::Bytes, &str) {
        (&self.layer, &self.layer_digest)
    }

    /// The configuration's bytes.
    #[must_use]
    pub fn configuration(&self) -> Vec<u8> {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [self.layer_digest] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "phoenix-lab" }],
        })
        .to_string()
        .into_bytes()
    }

    /// The manifest's bytes.
    #[must_use]
    pub fn manifest(&self) -> Vec<u8> {
        let config = self.configuration();
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": { "mediaType": CONFIG_TYPE, "size": config.len(), "digest": digest(&config) },
            "layers": [{ "mediaType": LAYER_TYPE, "size": self.layer.len(), "digest": self.layer_digest }],
        })
        .to_string()
        .into_bytes()
    }
}

/// The files in what `ldd` prints: `name => path (address)`, or `path (address)` for the loader.
fn libraries(listed: &str) -> Vec<&str> {
    listed
        .lines()
        .filter_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with('/') && !word.starts_with("(0x"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_listed() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld-linux.so.2 (0x7f)\n";
        assert_eq!(
            libraries(listed),
            ["/lib/x/libc.so.6", "/lib64/ld-linux.so.2"]
        );
    }

    #[test]
    fn the_same_content_has_the_same_manifest() {
        let image = || Image::new(bytes::Bytes::from_static(b"layer")).cmd(["true"]);
        assert_eq!(image().manifest(), image().manifest());
        assert_ne!(image().manifest(), image().crash(3, "x").manifest());
    }
}
