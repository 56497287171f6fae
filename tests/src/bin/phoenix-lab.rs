//! The lab from the command line: `phoenix-lab up`, `down`, `status`, `prepare`, `clean`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};
use phoenix_lab::lab::{self, Record};
use phoenix_lab::place::Places;
use phoenix_lab::process::{self, Running};
use phoenix_lab::{EngineRelease, Lab, LabError, LabOptions, Result, converge, deployments, site};

/// The demo's site.
const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");

#[derive(Parser)]
#[command(about = "A lab of Docker engines and guest agents behind a Proxmox API")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a lab that stays up
    Up {
        /// Its name
        #[arg(long, default_value = "phoenix-demo")]
        name: String,
        /// Its guests as NAME=VMID, instead of the demo's three
        #[arg(long, value_delimiter = ',', value_parser = parse_guest)]
        nodes: Vec<(String, u32)>,
        /// Where their engines come from, in the same order, the last one for all that follow:
        /// bookworm, trixie (the default) or sid
        #[arg(long, value_delimiter = ',')]
        engines: Vec<EngineRelease>,
        /// The site to fill with its addresses
        #[arg(long, default_value = TEMPLATE)]
        template: PathBuf,
        /// Where the site goes
        #[arg(long, default_value = "lab")]
        site: PathBuf,
    },
    /// Take a lab down
    Down {
        /// Its name
        #[arg(long, default_value = "phoenix-demo", conflicts_with = "orphans")]
        name: String,
        /// Instead, all labs whose owners are gone
        #[arg(long)]
        orphans: bool,
    },
    /// Say which labs are up
    Status,
    /// Fetch and make what labs need, of whatever engines, without starting one
    Prepare,
    /// Remove what the lab keeps between runs
    Clean,
    /// Measure a first and a second sync of a site on a lab of its own
    Bench {
        /// The site
        #[arg(long, default_value = TEMPLATE)]
        template: PathBuf,
    },
    /// Measure deployments of ten services beside the docker CLI's on a lab of its own
    BenchStacks {
        /// How often each is measured
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Run the Proxmox API of a lab
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        name: String,
    },
    /// Take a lab down once its owner is gone
    #[command(hide = true)]
    Reap {
        #[arg(long)]
        name: String,
        #[arg(long)]
        pid: i32,
        #[arg(long)]
        started: u64,
    },
}

fn parse_guest(text: &str) -> Result<(String, u32), String> {
    let (name, vmid) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not NAME=VMID"))?;
    let vmid = vmid
        .parse()
        .map_err(|_| format!("'{vmid}' is no number of a guest"))?;
    Ok((name.to_owned(), vmid))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("phoenix-lab: {}", error.chain());
            match error {
                LabError::MissingPackages { .. } | LabError::Unsuitable(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(action: Action) -> Result<()> {
    let places = Places::of_this_user()?;
    match action {
        Action::Up {
            name,
            nodes,
            engines,
            template,
            site,
        } => up(&name, &nodes, engines, &template, &site).await,
        Action::Down { name, orphans } => {
            if orphans {
                lab::remove_orphans(&places).await?;
            } else {
                lab::down(&places, &name).await?;
            }
            lab::leave(&places).await
        }
        Action::Status => status(&places),
        Action::Prepare => lab::prepare(&places).await,
        Action::Clean => lab::clean(&places).await,
        Action::Bench { template } => bench(&template).await,
        Action::BenchStacks { rounds } => bench_stacks(rounds).await,
        Action::Serve { name } => serve(&name).await,
        Action::Reap { name, pid, started } => {
            lab::reap(&places, &name, Running { pid, started }).await
        }
    }
}

async fn up(
    name: &str,
    nodes: &[(String, u32)],
    engines: Vec<EngineRelease>,
    template: &Path,
    site: &Path,
) -> Result<()> {
    let mut options = LabOptions::demo(name).with_engines(engines);
    if !nodes.is_empty() {
        let guests = nodes.iter().map(|(name, vmid)| (name.as_str(), *vmid));
        options = options.with_guests(guests);
    }
    let site = std::path::absolute(site).map_err(|source| LabError::Io {
        what: format!("cannot find {}", site.display()),
        source,
    })?;
    let mut lab = Lab::start(options).await?;
    if let Err(error) = furnish(&mut lab, template, &site).await {
        // The reason why it did not come up is the one to tell.
        let _ = lab.down().await;
        return Err(error);
    }
    println!("lab {} is up:", lab.name());
    for node in lab.nodes() {
        println!("  {:<12} VM {}  {}", node.name(), node.vmid(), node.ip());
    }
    println!("site file: {}", site.join("phoenix.yaml").display());
    Ok(())
}

/// Adds the Proxmox API and the site's files to a lab.
async fn furnish(lab: &mut Lab, template: &Path, site: &Path) -> Result<()> {
    let program = std::env::current_exe().map_err(|source| LabError::Io {
        what: "cannot find this program".to_owned(),
        source,
    })?;
    let mut command = Command::new(program);
    command.args(["serve", "--name", lab.name()]);
    let log = lab.dir().join("proxmox-api.log");
    let server = process::start_detached(command, &log)?;
    lab.adopt("proxmox-api", server)?;
    let allowed = Duration::from_secs(20);
    let until = tokio::time::Instant::now() + allowed;
    let access = loop {
        if let Ok(text) = std::fs::read(access_file(lab)) {
            break serde_json::from_slice(&text)
                .map_err(|error| LabError::Malformed(error.to_string()))?;
        }
        if !server.alive() || tokio::time::Instant::now() > until {
            return Err(LabError::Program {
                what: "the lab's Proxmox API".to_owned(),
                status: "its start".to_owned(),
                stderr: std::fs::read_to_string(&log).unwrap_or_default(),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    site::write(lab, &access, template, site)?;
    lab.set_site(site)
}

fn access_file(lab: &Lab) -> PathBuf {
    lab.dir().join("proxmox-api.json")
}

async fn serve(name: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let lab = Lab::attach(name).await?;
    let (_server, access) = site::serve(site::server_options(&lab)?).await?;
    let path = access_file(&lab);
    let new = path.with_extension("new");
    let text =
        serde_json::to_vec(&access).map_err(|error| LabError::Malformed(error.to_string()))?;
    std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &text))
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(|source| LabError::Io {
            what: format!("cannot write {}", path.display()),
            source,
        })?;
    // It ends by a signal, with the lab.
    std::future::pending().await
}

async fn bench(template: &Path) -> Result<()> {
    let syncs = converge::measure(template).await?;
    for (title, sync) in ["first sync", "second sync"].into_iter().zip(&syncs) {
        println!("{title:<30} {:>8.2} s", sync.wall.as_secs_f64());
        let shown = sync.steps.iter().take(8);
        for (step, elapsed) in shown.filter(|(_, elapsed)| elapsed.as_millis() > 0) {
            println!("  {step:<28} {:>8.2} s", elapsed.as_secs_f64());
        }
    }
    Ok(())
}

async fn bench_stacks(rounds: usize) -> Result<()> {
    let measured = deployments::measure(rounds).await?;
    println!("ten services        phoenix     docker    ratio");
    for (title, times) in [
        ("first", &measured.first),
        ("unchanged", &measured.unchanged),
        ("scaled", &measured.scaled),
        ("labelled", &measured.labelled),
        ("changed", &measured.changed),
    ] {
        println!(
            "{title:<16} {:>8.2} s {:>8.2} s {:>7.1}x",
            deployments::median(&times.phoenix).as_secs_f64(),
            deployments::median(&times.docker).as_secs_f64(),
            times.ratio()
        );
    }
    println!("{} services", deployments::LARGE);
    for (title, times) in [("render", &measured.render), ("plan", &measured.plan)] {
        let median = deployments::median(times).as_secs_f64();
        println!("{title:<16} {median:>8.2} s");
    }
    Ok(())
}

fn status(places: &Places) -> Result<()> {
    let names = lab::names(places)?;
    if names.is_empty() {
        println!("no lab is up");
    }
    for name in names {
        let Some(record) = Record::load(places, &name)? else {
            continue;
        };
        let network = record
            .network
            .as_ref()
            .map_or_else(|| "no network yet".to_owned(), |network| network.subnet());
        let owner = match record.owner {
            None => "stays up".to_owned(),
            Some(owner) if owner.alive() => format!("of process {}", owner.pid),
            Some(_) => "its owner is gone".to_owned(),
        };
        println!("{name}  {network}  {} guests  {owner}", record.guests.len());
    }
    Ok(())
}
