//! A lab: outer engine, network, nodes and registry together, and its end.
//!
//! Everything of a lab carries its name: its containers and its network at the outer engine by
//! label, its processes in the record in its runtime folder. A lab can therefore be taken down by
//! name, by any process, at any time, whatever became of the one that started it. A lab that
//! belongs to a process is also watched by a reaper, a process that takes it down when its owner
//! is gone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::image::Image;
use crate::network::{self, Network};
use crate::node::{Guest, Node, remove_dir};
use crate::outer::{self, Outer};
use crate::packages::{self, Unpacked};
use crate::place::{self, Places};
use crate::process::{self, Running};
use crate::registry::{self, Registry};
use crate::release::{self, EngineRelease};
use crate::root::{self, Root};
use crate::site;
use crate::{LabError, Result};

/// The label that every container, volume and network of a lab carries, with the lab's name.
pub const LABEL: &str = "phoenix-lab";
/// The prefix of the names of labs that belong to tests.
pub const TEST_PREFIX: &str = "phoenix-test-";
/// The image under whose name the stand-in for Portainer is served.
pub const PORTAINER_IMAGE: &str = "portainer/portainer-ce:2.21.4";

const FIRST_ADDRESS: u8 = 11;
/// Whatever engines a lab has, its own images are the same.
const IMAGES_FROM: EngineRelease = EngineRelease::Trixie;

/// What a lab is to be.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Its name; containers are called `<name>-<guest>`.
    pub name: String,
    /// Its guests, in the order of their addresses, which start at .11.
    pub guests: Vec<Guest>,
    /// Where their engines come from, in the same order, the last one for all that follow. Where
    /// it is empty, `$PHOENIX_LAB_ENGINES` says so for a test's lab (`bookworm`, or a list with
    /// commas), else all have the default one.
    pub engines: Vec<EngineRelease>,
    /// Whether it outlives this process.
    pub detached: bool,
}

impl LabOptions {
    /// A lab of this process, with a random name and the demo's guests.
    #[must_use]
    pub fn test() -> Self {
        let mut random = [0; 4];
        // Without randomness the names of labs of one process would collide, and creating one fails.
        let _ = aws_lc_rs::rand::fill(&mut random);
        Self {
            name: format!("{TEST_PREFIX}{}", hex::encode(random)),
            guests: Self::demo("").guests,
            engines: Vec::new(),
            detached: false,
        }
    }

    /// A lab that outlives this process: `portainer` (1001), `drphoenix` (1002), `traefik` (1003).
    #[must_use]
    pub fn demo(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            guests: Vec::new(),
            engines: Vec::new(),
            detached: true,
        }
        .with_guests([("portainer", 1001), ("drphoenix", 1002), ("traefik", 1003)])
    }

    /// With these guests: names and numbers.
    #[must_use]
    pub fn with_guests<'a>(mut self, guests: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        self.guests = guests
            .into_iter()
            .map(|(name, vmid)| Guest {
                name: name.to_owned(),
                vmid,
                engine: EngineRelease::default(),
            })
            .collect();
        self
    }

    /// With engines of these releases, in the order of the guests, the last one for all that
    /// follow.
    #[must_use]
    pub fn with_engines(mut self, engines: impl IntoIterator<Item = EngineRelease>) -> Self {
        self.engines = engines.into_iter().collect();
        self
    }

    /// The guests with their engines.
    fn equipped(&self) -> Result<Vec<Guest>> {
        let named = std::env::var("PHOENIX_LAB_ENGINES").unwrap_or_default();
        let engines = if self.engines.is_empty() && !self.detached && !named.is_empty() {
            release::parse_list(&named)?
        } else {
            self.engines.clone()
        };
        let last = engines.last().copied().unwrap_or_default();
        let engines = engines.into_iter().chain(std::iter::repeat(last));
        let guests = self.guests.iter().cloned().zip(engines);
        Ok(guests
            .map(|(guest, engine)| Guest { engine, ..guest })
            .collect())
    }

    fn check(&self) -> Result<()> {
        let fine = |name: &str| {
            !name.is_empty()
                && name.len() <= 40
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !name.starts_with('-')
        };
        let bad = std::iter::once(self.name.as_str())
            .chain(self.guests.iter().map(|guest| guest.name.as_str()))
            .find(|name| !fine(name));
        if let Some(name) = bad {
            return Err(LabError::Unsuitable(format!(
                "'{name}' is no name for a lab or a guest: letters, digits and dashes, at most 40"
            )));
        }
        if self.guests.is_empty() || self.guests.len() > 200 {
            return Err(LabError::Unsuitable(
                "a lab has one to 200 guests".to_owned(),
            ));
        }
        Ok(())
    }
}

/// What is written down about a lab, so that another process can find and end it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The lab's name.
    pub name: String,
    /// The process it belongs to; none for one that was started to stay.
    pub owner: Option<Running>,
    /// The outer engine's socket.
    pub engine: PathBuf,
    /// The network, once it is there.
    pub network: Option<Network>,
    /// The guests.
    pub guests: Vec<Guest>,
    /// Processes of the lab on the host, by name.
    pub processes: Vec<(String, Running)>,
    /// The folder of its site, where it has one; it goes with the lab.
    #[serde(default)]
    pub site: Option<PathBuf>,
}

impl Record {
    fn path(places: &Places, name: &str) -> PathBuf {
        places.lab(name).join("lab.json")
    }

    /// The record of a lab; none where there is no such lab.
    ///
    /// # Errors
    /// Where it is not readable.
    pub fn load(places: &Places, name: &str) -> Result<Option<Self>> {
        let path = Self::path(places, name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| LabError::Malformed(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LabError::io("read", &path)(error)),
        }
    }

    fn save(&self, places: &Places) -> Result<()> {
        let path = Self::path(places, &self.name);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| LabError::Malformed(error.to_string()))?;
        let new = path.with_extension("new");
        place::write(&new, text)?;
        fs::rename(&new, &path).map_err(LabError::io("rename", &new))
    }

    /// Whether its owner is gone.
    #[must_use]
    pub fn orphaned(&self) -> bool {
        self.owner.is_some_and(|owner| !owner.alive())
    }
}

/// The names of all labs of this user.
///
/// # Errors
/// Where the runtime folder is not readable.
pub fn names(places: &Places) -> Result<Vec<String>> {
    let dir = places.run.join("labs");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LabError::io("read", &dir)(error)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// A lab that is up. Taken down by [`Lab::down`], or when dropped unless it is detached.
#[derive(Debug)]
pub struct Lab {
    places: Places,
    record: Record,
    network: Network,
    nodes: Vec<Node>,
    registry: Registry,
    root: Root,
    gone: bool,
}

impl Lab {
    /// Starts a lab: everything that is missing is made first, and labs whose owners are gone are
    /// removed. Returns once every node's engine and agent answer and the images are served.
    ///
    /// # Errors
    /// Where any part fails; what was started by then is taken down again.
    pub async fn start(options: LabOptions) -> Result<Self> {
        let owner = if options.detached {
            None
        } else {
            Some(Running::this()?)
        };
        Self::start_owned(options, owner).await
    }

    /// As [`Lab::start`], for another process: the lab goes down when that one is gone.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub async fn start_for(options: LabOptions, owner: Running) -> Result<Self> {
        Self::start_owned(options, Some(owner)).await
    }

    async fn start_owned(options: LabOptions, owner: Option<Running>) -> Result<Self> {
        options.check()?;
        let places = Places::of_this_user()?;
        remove_orphans(&places).await?;
        let guests = options.equipped()?;
        let roots = Roots::ensure(&places, &guests).await?;
        let record = {
            let _lock = places.lock(&places.run, "labs").await?;
            if places.lab(&options.name).exists() {
                return Err(LabError::Unsuitable(format!(
                    "a lab called '{}' is up already",
                    options.name
                )));
            }
            let outer = outer::ensure(&places).await?;
            let record = Record {
                name: options.name,
                owner,
                engine: outer.engine.socket().to_owned(),
                network: None,
                guests,
                processes: Vec::new(),
                site: None,
            };
            place::make_dir(&places.lab(&record.name))?;
            record.save(&places)?;
            record
        };
        let name = record.name.clone();
        match Self::raise(&places, record, roots).await {
            Ok(lab) => Ok(lab),
            Err(error) => {
                // The reason why it did not come up is the one to tell.
                let _ = down(&places, &name).await;
                Err(error)
            }
        }
    }

    async fn raise(places: &Places, mut record: Record, roots: Roots) -> Result<Self> {
        if let Some(owner) = record.owner {
            let reaper = start_reaper(places, &record.name, owner)?;
            record.processes.push(("reaper".to_owned(), reaper));
            record.save(places)?;
        }
        let outer = Engine::at(&record.engine);
        let labels = json!({ LABEL: record.name });
        for root in roots.of_nodes.values() {
            root::ensure_image(places, root, &outer).await?;
        }
        let network = network::create(&outer, &record.name, &labels).await?;
        record.network = Some(network.clone());
        record.save(places)?;
        let nodes = nodes_of(places, &record, &network);
        let (registry, ()) = tokio::try_join!(
            raise_registry(places, &mut record, &network, &roots.of_images),
            raise_nodes(&nodes, &network, &roots, &labels),
        )?;
        Ok(Self {
            places: places.clone(),
            record,
            network,
            nodes,
            registry,
            root: roots.of_images,
            gone: false,
        })
    }

    /// The lab of this name that is up.
    ///
    /// # Errors
    /// Where there is none, or it never came up.
    pub async fn attach(name: &str) -> Result<Self> {
        let places = Places::of_this_user()?;
        let record = Record::load(&places, name)?
            .ok_or_else(|| LabError::Unsuitable(format!("no lab called '{name}' is up")))?;
        let network = record
            .network
            .clone()
            .ok_or_else(|| LabError::Unsuitable(format!("the lab '{name}' did not come up")))?;
        let root = root::ensure(&places, IMAGES_FROM).await?;
        Ok(Self {
            nodes: nodes_of(&places, &record, &network),
            registry: Registry::at(network.gateway().into(), registry::PORT),
            places,
            record,
            network,
            root,
            // Whoever attaches does not own it.
            gone: true,
        })
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The host's address on the lab's bridge.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.network.gateway()
    }

    /// The lab's network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The guests, in the order they were asked for.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The guest of this name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name() == name)
            .ok_or_else(|| LabError::Unsuitable(format!("no guest '{name}' in this lab")))
    }

    /// The engine that runs the nodes.
    #[must_use]
    pub fn outer(&self) -> Engine {
        Engine::at(&self.record.engine)
    }

    /// The lab's runtime folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.places.lab(self.name())
    }

    /// A small image to derive others from.
    ///
    /// # Errors
    /// As [`Image::busybox`].
    pub fn busybox(&self) -> Result<Image> {
        Image::busybox(&self.root)
    }

    /// Serves an image to the nodes under an ordinary name. Returns the manifest's digest.
    ///
    /// # Errors
    /// As [`Registry::push`].
    pub async fn push_image(&self, name: &str, image: &Image) -> Result<String> {
        self.registry.push(name, image).await
    }

    /// Starts the registry that asks for credentials ([`registry::USERNAME`],
    /// [`registry::PASSWORD`]). What is pushed to the lab's own is there, too.
    ///
    /// # Errors
    /// Where it does not come up.
    pub async fn private_registry(&mut self) -> Result<Registry> {
        let programs = registry_programs(&self.places).await?;
        let dir = registry_dir(&self.places, self.name());
        let address = IpAddr::V4(self.gateway());
        let (registry, process) = Registry::start_private(&programs, address, &dir).await?;
        self.adopt("private-registry", process)?;
        Ok(registry)
    }

    /// Notes a process of the lab on the host, which ends with it.
    ///
    /// # Errors
    /// Where the record cannot be written.
    pub fn adopt(&mut self, name: &str, process: Running) -> Result<()> {
        self.record.processes.push((name.to_owned(), process));
        self.record.save(&self.places)
    }

    /// Notes the folder of the lab's site, which goes with it.
    ///
    /// # Errors
    /// Where the record cannot be written.
    pub fn set_site(&mut self, dir: &Path) -> Result<()> {
        self.record.site = Some(dir.to_owned());
        self.record.save(&self.places)
    }

    /// Takes the lab down and returns once nothing of it is left.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub async fn down(mut self) -> Result<()> {
        self.gone = true;
        down(&self.places, &self.record.name).await
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.gone || self.record.owner.is_none() {
            return;
        }
        let (places, name) = (self.places.clone(), self.record.name.clone());
        // A runtime of its own, because a drop may happen within one or without any.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                // Whatever is left now, the reaper removes.
                let _ = runtime.block_on(down(&places, &name));
            }
        });
        let _ = thread.join();
    }
}

fn nodes_of(places: &Places, record: &Record, network: &Network) -> Vec<Node> {
    let dir = places.lab(&record.name).join("nodes");
    let addresses = (FIRST_ADDRESS..=u8::MAX).map(|host| network.address(host));
    record
        .guests
        .iter()
        .zip(addresses)
        .map(|(guest, ip)| {
            let outer = Engine::at(&record.engine);
            Node::new(&record.name, guest.clone(), ip, &dir, outer)
        })
        .collect()
}

/// The roots that a lab is made of.
struct Roots {
    /// By the release of the nodes that have it.
    of_nodes: BTreeMap<EngineRelease, Root>,
    /// What the lab's own images are made of.
    of_images: Root,
}

impl Roots {
    async fn ensure(places: &Places, guests: &[Guest]) -> Result<Self> {
        let mut of_nodes = BTreeMap::new();
        for guest in guests {
            if let Entry::Vacant(place) = of_nodes.entry(guest.engine) {
                place.insert(root::ensure(places, guest.engine).await?);
            }
        }
        Ok(Self {
            of_nodes,
            of_images: root::ensure(places, IMAGES_FROM).await?,
        })
    }
}

async fn raise_nodes(
    nodes: &[Node],
    network: &Network,
    roots: &Roots,
    labels: &Value,
) -> Result<()> {
    let hosts: Vec<String> = nodes
        .iter()
        .map(|node| format!("{}:{}", node.name(), node.ip()))
        .collect();
    try_join_all(nodes.iter().map(async |node| {
        let image = roots.of_nodes[&node.release()].image();
        node.create(&image, network, &hosts, labels).await?;
        node.wait().await
    }))
    .await
    .map(drop)
}

async fn registry_programs(places: &Places) -> Result<Unpacked> {
    packages::unpack(places, "docker-registry", "docker-registry").await
}

fn registry_dir(places: &Places, lab: &str) -> PathBuf {
    places.cache.join("labs").join(lab)
}

async fn raise_registry(
    places: &Places,
    record: &mut Record,
    network: &Network,
    root: &Root,
) -> Result<Registry> {
    let programs = registry_programs(places).await?;
    let dir = registry_dir(places, &record.name);
    remove_dir(&dir)?;
    let (registry, process) =
        Registry::start(&programs, IpAddr::V4(network.gateway()), &dir).await?;
    record.processes.push(("registry".to_owned(), process));
    record.save(places)?;
    push_images(&registry, root).await?;
    Ok(registry)
}

/// The images that every lab serves: a web server on port 80 under the names of some, a sleeping
/// shell under those of others, and programs that misbehave.
async fn push_images(registry: &Registry, root: &Root) -> Result<()> {
    let base = Image::busybox(root)?;
    let mut images: Vec<(&str, Image)> = Vec::new();
    for name in ["traefik/whoami:v1.10", "nginx:1.27-alpine", "traefik:v3.1"] {
        images.push((name, base.clone().web(80)));
    }
    for name in [
        "busybox:1.37",
        "alpine:3.20",
        "demo/notes-api:1.0",
        "demo/notes-store:1.0",
    ] {
        images.push((name, base.clone()));
    }
    images.push(("crash:1", base.clone().crash(3, "cannot open the database")));
    images.push(("unhealthy:1", base.clone().unhealthy()));
    let deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    images.push((
        "hang:1",
        base.cmd(deaf).with("StopSignal", json!("SIGTERM")),
    ));
    let program = built("portainer-standin")?;
    images.push((
        PORTAINER_IMAGE,
        Image::of_program(&program, "/portainer").await?,
    ));
    for (name, image) in &images {
        registry.push(name, image).await?;
    }
    Ok(())
}

/// A program of this workspace, beside the running one or, for a test, one folder up.
///
/// # Errors
/// Where it is not built.
pub fn built(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().map_err(LabError::io("find", Path::new("this program")))?;
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            LabError::Unsuitable(format!(
                "'{name}' is not built; run: cargo build --workspace --bins"
            ))
        })
}

fn start_reaper(places: &Places, name: &str, owner: Running) -> Result<Running> {
    let mut command = Command::new(built("phoenix-lab")?);
    command.args(["reap", "--name", name]);
    command.args(["--pid", &owner.pid.to_string()]);
    command.args(["--started", &owner.started.to_string()]);
    process::start_detached(command, &places.run.join("reaper.log"))
}

/// Waits until the owner is gone or the lab is, and takes down what is left of it.
///
/// # Errors
/// As [`down`].
pub async fn reap(places: &Places, name: &str, owner: Running) -> Result<()> {
    while owner.alive() {
        if !places.lab(name).exists() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    down(places, name).await
}

/// Takes down all labs whose owners are gone.
///
/// # Errors
/// As [`down`].
pub async fn remove_orphans(places: &Places) -> Result<()> {
    for name in names(places)? {
        // One that is being written, or has just gone, is not an orphan.
        if let Ok(Some(record)) = Record::load(places, &name)
            && record.orphaned()
        {
            down(places, &name).await?;
        }
    }
    Ok(())
}

/// Takes a lab down by its name, in whatever state it is, and stops the lab's own engine where no
/// other lab is up. A lab that is not there is down.
///
/// # Errors
/// Where something of it cannot be removed.
pub async fn down(places: &Places, name: &str) -> Result<()> {
    let record = Record::load(places, name)?;
    let this = Running::this()?;
    for (_, process) in record.iter().flat_map(|record| &record.processes) {
        if *process != this {
            process.end(Duration::from_secs(3)).await?;
        }
    }
    let _lock = places.lock(&places.run, "labs").await?;
    if outer::was_killed(places) {
        // Only a running engine can take its containers and networks away.
        outer::ensure(places).await?;
    }
    let outer = match &record {
        Some(record) => Some(Outer {
            engine: Engine::at(&record.engine),
            own: false,
        }),
        None => outer::find(places).await?,
    };
    if let Some(outer) = outer
        && outer.engine.answers().await
    {
        outer.engine.clear(&format!("{LABEL}={name}")).await?;
    }
    if let Some(site) = record.and_then(|record| record.site) {
        site::remove(&site)?;
    }
    remove_dir(&registry_dir(places, name))?;
    remove_dir(&places.lab(name))?;
    if names(places)?.is_empty() {
        outer::stop(places).await?;
        // Only empty ones go; a lock that another process waits for stays valid through its
        // descriptor.
        let _ = fs::remove_dir(places.run.join("labs"));
    }
    Ok(())
}

/// Leaves a user's engine as it was: without the nodes' images, unless a lab is up. Labs of tests
/// do not, so that the next one need not import it again.
///
/// # Errors
/// Where the engine refuses.
pub async fn leave(places: &Places) -> Result<()> {
    let _lock = places.lock(&places.run, "labs").await?;
    if !names(places)?.is_empty() {
        return Ok(());
    }
    match outer::find(places).await? {
        Some(outer) if !outer.own => root::remove_images(&outer.engine).await,
        _ => Ok(()),
    }
}

/// What the lab keeps in its cache is removed: roots, packages, the data of its own engine.
///
/// # Errors
/// Where labs are up, or something cannot be removed.
pub async fn clean(places: &Places) -> Result<()> {
    let _lock = places.lock(&places.run, "labs").await?;
    if let Some(name) = names(places)?.first() {
        return Err(LabError::Unsuitable(format!("the lab '{name}' is up")));
    }
    outer::stop(places).await?;
    remove_dir(&places.cache)
}

/// Fetches and makes everything that labs need, of whatever engines, without starting one.
///
/// # Errors
/// Where something is missing or cannot be made.
pub async fn prepare(places: &Places) -> Result<()> {
    for release in EngineRelease::ALL {
        root::ensure(places, release).await?;
    }
    registry_programs(places).await?;
    packages::docker_cli(places).await?;
    if outer::find(places).await?.is_none() {
        packages::unpack(places, "docker.io", "dockerd").await?;
    }
    Ok(())
}
