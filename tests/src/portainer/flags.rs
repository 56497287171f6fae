//! The command line of Portainer 2.21, as far as it means anything here. Unknown flags are
//! refused, as there.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// How to start a [`super::Portainer`].
#[derive(Debug, Clone, Parser)]
#[command(name = "portainer", version = super::VERSION, about = None, long_about = None)]
pub struct Options {
    /// Environment to create, named `primary`, once there is an administrator.
    #[arg(long = "host", short = 'H')]
    pub host: Option<String>,
    /// File with the administrator's password; one trailing newline is cut.
    #[arg(long)]
    pub admin_password_file: Option<PathBuf>,
    /// The server's certificate (chain); copied into the data directory at every start.
    #[arg(long)]
    pub sslcert: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub sslkey: Option<PathBuf>,
    /// Use TLS with a client certificate toward the host of `-H`. Without `-H` of no effect.
    #[arg(long)]
    pub tlsverify: bool,
    /// Use TLS toward the host of `-H` without verifying it.
    #[arg(long)]
    pub tlsskipverify: bool,
    /// CA that verifies the host of `-H`.
    #[arg(long, default_value = "/certs/ca.pem")]
    pub tlscacert: PathBuf,
    /// Client certificate toward the host of `-H`. Before 2.33.2 never the server's own.
    #[arg(long, default_value = "/certs/cert.pem")]
    pub tlscert: PathBuf,
    /// Its key.
    #[arg(long, default_value = "/certs/key.pem")]
    pub tlskey: PathBuf,
    /// No plain HTTP; remembered in the data directory.
    #[arg(long)]
    pub http_disabled: bool,
    /// Plain HTTP again.
    #[arg(long)]
    pub http_enabled: bool,
    /// Where everything is kept.
    #[arg(long, short = 'd', default_value = "/data")]
    pub data: PathBuf,
    /// Where to serve plain HTTP; an empty host is every address.
    #[arg(long, short = 'p', default_value = ":9000")]
    pub bind: String,
    /// Where to serve HTTPS.
    #[arg(long, default_value = ":9443")]
    pub bind_https: String,
    /// Address of the tunnel server.
    #[arg(long, default_value = "0.0.0.0")]
    pub tunnel_addr: String,
    /// Port of the tunnel server.
    #[arg(long, default_value = "8000")]
    pub tunnel_port: u16,
    /// Accepted; says nothing since 2.0.
    #[arg(long, hide = true)]
    pub no_analytics: bool,
    /// Accepted; there is nothing to filter.
    #[arg(long, hide = true, value_parser = ["DEBUG", "INFO", "WARN", "ERROR"])]
    pub log_level: Option<String>,
    /// Accepted; snapshots are taken only when an environment is created.
    #[arg(long, hide = true)]
    pub snapshot_interval: Option<String>,
    /// Accepted; the data are not encrypted here.
    #[arg(long, hide = true)]
    pub secret_key_name: Option<String>,
    /// How long the instance stays open without an administrator. Not a flag of the original.
    #[arg(skip = Duration::from_secs(300))]
    pub init_timeout: Duration,
    /// Addresses that may ask for anything secret this often in a second; others are banned for
    /// an hour. Not a flag of the original.
    #[arg(skip = 10_usize)]
    pub attempts: usize,
}

impl Options {
    /// Reads a command line without its program name.
    ///
    /// # Errors
    /// As the original exits: on unknown flags and missing values.
    pub fn parse_line<'a>(line: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        Self::try_parse_from(std::iter::once("portainer").chain(line))
    }

    /// On free ports of 127.0.0.1, for tests in the same process.
    pub fn loopback(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            bind: "127.0.0.1:0".to_owned(),
            bind_https: "127.0.0.1:0".to_owned(),
            tunnel_addr: "127.0.0.1".to_owned(),
            tunnel_port: 0,
            ..Self::parse_from(["portainer"])
        }
    }
}

/// Go's way to write every address: an empty host.
pub(super) fn listen_address(bind: &str) -> String {
    match bind.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => bind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_lines_are_read() {
        let options = Options::parse_line([
            "-H",
            "tcp://10.0.0.1:2376",
            "--tlsverify",
            "--tlscacert=/run/secrets/ca",
            "--sslcert",
            "/run/secrets/cert",
            "--sslkey=/run/secrets/key",
            "--http-disabled",
            "--admin-password-file",
            "/run/secrets/password",
            "--bind=:9001",
            "--tunnel-port",
            "1",
        ])
        .expect("options");
        assert_eq!(options.host.as_deref(), Some("tcp://10.0.0.1:2376"));
        assert_eq!(options.tlscacert, PathBuf::from("/run/secrets/ca"));
        assert_eq!(options.data, PathBuf::from("/data"));
        assert!(options.tlsverify && options.http_disabled && !options.tlsskipverify);
        assert_eq!(listen_address(&options.bind), "0.0.0.0:9001");
        assert_eq!(options.init_timeout, Duration::from_secs(300));
        assert_eq!(options.attempts, 10);
    }

    #[test]
    fn flags_of_later_versions_are_fatal() {
        Options::parse_line(["--no-setup-token"]).expect_err("unknown in 2.21");
    }
}
