//! The gateway beside nginx with the same bytes as files, a bare axum with them in memory, and Kubo's gateway.
//!
//! Every contestant is asked by the same clients on the same machine, so the clients' part is in every number alike.

mod first;
mod load;
mod rivals;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cairn_tests::{Node, Profile, Scratch};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use self::load::{Load, Target};
use self::rivals::Axum;
use crate::Args;
use crate::contest::{Contest, Contestant};
use crate::measure::{Cost, Meter, memory, pause, run as measured};
use crate::nginx::Nginx;
use crate::scale::{GARBAGE_BYTES, unpinned};

/// Connections at the same time.
const CONNECTIONS: usize = 64;
/// Connections that are open and silent beside these, for the memory.
const IDLE_CONNECTIONS: usize = 1000;
/// How long the gateway is asked while it does nothing else.
const ALONE: Duration = Duration::from_secs(2);
/// Length of a random range.
const RANGE_BYTES: u64 = 64 * 1024;
/// Ranges that are asked for, against files of the smallest length.
const RANGE_SHARE: usize = 40;

/// Bodies, and how many of the smallest are fetched for each of them.
const BODIES: [(&str, u64, usize); 3] =
    [("1 KiB", 1 << 10, 1), ("256 KiB", 256 << 10, 10), ("1 MiB", 1 << 20, 40)];

/// Everything that is compared.
pub(crate) fn run(args: &Args) -> Result<Vec<Contest>> {
    let arena = Arena::open(args)?;
    let mut contests = Vec::new();
    for body in &arena.bodies {
        contests.push(arena.fetch(body, false)?);
        if body.name != "256 KiB" {
            contests.push(arena.fetch(body, true)?);
        }
    }
    contests.push(arena.slowest()?);
    contests.push(arena.unmodified()?);
    contests.push(arena.ranges()?);
    contests.push(arena.listing()?);
    contests.push(arena.memory()?);
    // It leaves the daemon larger.
    contests.push(arena.collecting()?);
    contests.push(first::run(args, &arena.load)?);
    Ok(contests)
}

struct Body {
    name: &'static str,
    path: PathBuf,
    request_count: usize,
    cid: String,
    kubo_cid: Option<String>,
}

/// The servers, all of which run all the time, and what they serve.
struct Arena<'a> {
    args: &'a Args,
    cairn: Node,
    kubo: Option<Node>,
    nginx: Option<Nginx>,
    axum: Axum,
    bodies: Vec<Body>,
    big: Body,
    folder: Body,
    load: Load,
    /// The servers end before it.
    scratch: Scratch,
}

impl<'a> Arena<'a> {
    fn open(args: &'a Args) -> Result<Self> {
        let scratch = Scratch::new();
        let mut cairn = Node::cairn();
        let mut kubo = Node::kubo();
        for node in std::iter::once(&cairn).chain(&kubo) {
            node.apply(Profile::V1);
        }
        let body = |name, path: PathBuf, request_count| {
            let (cid, kubo_cid) = (cairn.add(&path), kubo.as_ref().map(|kubo| kubo.add(&path)));
            Body { name, path, request_count, cid, kubo_cid }
        };
        let files = BODIES.map(|(name, len_bytes, share)| {
            body(
                name,
                scratch.random_file(&name.replace(' ', "-"), len_bytes, len_bytes),
                args.requests / share,
            )
        });
        let big = body("big", scratch.random_file("big", args.file_bytes, 4), args.requests / RANGE_SHARE);
        let folder = body("folder", many_files(&scratch, args.files)?, 1);
        cairn.start();
        if let Some(kubo) = &mut kubo {
            kubo.start();
        }
        let nginx = Nginx::start(scratch.path(""), None)?;
        let axum = Axum::start(&scratch.path(""))?;
        let trusted = [Some(cairn.authority()), nginx.as_ref().map(|nginx| nginx.certificate.clone())];
        let load = Load::new(trusted.into_iter().flatten())?;
        Ok(Self { args, cairn, kubo, nginx, axum, bodies: files.into(), big, folder, load, scratch })
    }

    /// Where each contestant has a body.
    fn targets(&self, body: &Body, tls: bool) -> Vec<(&'static str, Option<u32>, Target)> {
        let file = body.path.strip_prefix(self.scratch.path("")).expect("it lies there");
        let file = format!("/{}", file.display());
        let cairn = if tls { "Gateway (HTTPS)" } else { "Gateway server" };
        let ipfs = |cid: &str| format!("/ipfs/{cid}");
        let mut targets = vec![(
            "Cairn",
            Some(self.cairn.process_id()),
            Target::new(self.cairn.port(cairn), tls, &ipfs(&body.cid)),
        )];
        if let Some(nginx) = &self.nginx {
            let port = if tls { nginx.tls_port } else { nginx.port };
            targets.push(("nginx, a file", None, Target::new(port, tls, &file)));
        }
        if !tls {
            targets.push(("axum, from memory", None, Target::new(self.axum.port, tls, &file)));
            if let (Some(kubo), Some(cid)) = (&self.kubo, &body.kubo_cid) {
                let target = Target::new(kubo.port("Gateway server"), tls, &ipfs(cid));
                targets.push(("Kubo", Some(kubo.process_id()), target));
            }
        }
        targets
    }

    fn contest(
        &self,
        title: String,
        targets: Vec<(&'static str, Option<u32>, Target)>,
        work: impl Fn(&Load, &Target) -> Result<Option<f64>> + Copy,
    ) -> Result<Contest> {
        let contestants = targets.into_iter().map(|(name, process, target)| {
            Contestant::new(name, move || {
                let meter = Meter::start(process.as_slice())?;
                let told_s = work(&self.load, &target)?;
                let cost = meter.stop()?;
                Ok(Cost { wall_s: told_s.unwrap_or(cost.wall_s), ..cost })
            })
        });
        Contest::run(title, self.args.rounds, contestants.collect())
    }

    /// One body again and again.
    fn fetch(&self, body: &Body, tls: bool) -> Result<Contest> {
        let Body { name, request_count: count, .. } = *body;
        // Ciphers take their time.
        let count = if tls { count / 4 } else { count };
        let over = if tls { " over TLS" } else { "" };
        let title = format!("{name}{over}, {count} times over {CONNECTIONS} connections");
        self.contest(title, self.targets(body, tls), move |load, target| {
            load.run(target, CONNECTIONS, count)?;
            Ok(None)
        })
    }

    /// The time within which 99 of 100 answers come.
    fn slowest(&self) -> Result<Contest> {
        let title = format!("p99 of 1 KiB over {CONNECTIONS} connections (wall: that time, in seconds)");
        self.contest(title, self.targets(&self.bodies[0], false), |load, target| {
            load.run(target, CONNECTIONS, self.args.requests).map(Some)
        })
    }

    /// The same while the node collects garbage.
    fn collecting(&self) -> Result<Contest> {
        let blocks = self.args.files;
        let title = format!(
            "p99 of 1 KiB over {CONNECTIONS} connections beside a collection of {blocks} blocks (wall: that time, in \
             seconds)"
        );
        let target =
            Target::new(self.cairn.port("Gateway server"), false, &format!("/ipfs/{}", self.bodies[0].cid));
        let beside = |work: &dyn Fn() -> Result<()>| {
            unpinned(&self.cairn, &self.scratch, blocks, GARBAGE_BYTES, 6)?;
            let wall_s = self.load.run_beside(&target, CONNECTIONS, work)?;
            Ok(Cost { wall_s, ..Cost::default() })
        };
        let collect = || measured(&mut self.cairn.command(&["repo", "gc", "--silent"])).map(drop);
        let contestants = vec![
            Contestant::new("beside a collection", || beside(&collect)),
            Contestant::new("alone", || {
                // As long as the other, and what it leaves is not there for the next.
                let cost = beside(&|| {
                    pause(ALONE);
                    Ok(())
                });
                collect().and(cost)
            }),
        ];
        Contest::run(title, self.args.rounds, contestants)
    }

    /// What the client has already.
    fn unmodified(&self) -> Result<Contest> {
        let count = self.args.requests;
        let title = format!("304 for a known file, {count} times over {CONNECTIONS} connections");
        let mut targets = self.targets(&self.bodies[0], false);
        targets.retain(|(name, ..)| *name != "axum, from memory");
        for (_, _, target) in &mut targets {
            target.etag = Some(self.load.etag(target)?);
        }
        self.contest(title, targets, move |load, target| {
            load.run(target, CONNECTIONS, count)?;
            Ok(None)
        })
    }

    /// Parts of a big file, over one connection.
    fn ranges(&self) -> Result<Contest> {
        let len_bytes = self.args.file_bytes;
        let title = format!(
            "p99 of random ranges of {} KiB of {} MiB (wall: that time, in seconds)",
            RANGE_BYTES >> 10,
            len_bytes >> 20
        );
        let mut targets = self.targets(&self.big, false);
        targets.retain(|(name, ..)| *name != "axum, from memory");
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let starts: Vec<_> = (0..self.big.request_count)
            .map(|_| random.random_range(0..len_bytes.saturating_sub(RANGE_BYTES).max(1)))
            .collect();
        for (_, _, target) in &mut targets {
            target.ranges = starts.iter().map(|start| (*start, start + RANGE_BYTES - 1)).collect();
        }
        self.contest(title, targets, |load, target| load.run(target, 1, self.big.request_count).map(Some))
    }

    /// The first byte of a long listing.
    fn listing(&self) -> Result<Contest> {
        let title = format!("first byte of a listing of {} entries (wall: until then)", self.args.files);
        let mut targets = self.targets(&self.folder, false);
        targets.retain(|(name, ..)| !name.starts_with("axum") && !name.starts_with("nginx"));
        for (_, _, target) in &mut targets {
            target.path.push('/');
        }
        self.contest(title, targets, |load, target| load.first_byte(target).map(Some))
    }

    /// Memory with many connections.
    fn memory(&self) -> Result<Contest> {
        let title =
            format!("memory resident with {IDLE_CONNECTIONS} idle and {CONNECTIONS} active connections");
        let targets: Vec<_> = self.targets(&self.bodies[0], false);
        let contestants = targets.into_iter().filter_map(|(name, process, target)| {
            let process = process?;
            Some(Contestant::new(name, move || {
                let started = Instant::now();
                let idle = self.load.idle(&target, IDLE_CONNECTIONS)?;
                self.load.run(&target, CONNECTIONS, self.args.requests / 4)?;
                let peak_bytes = memory(process, "VmRSS")?;
                drop(idle);
                Ok(Cost { wall_s: started.elapsed().as_secs_f64(), peak_bytes, ..Cost::default() })
            }))
        });
        Contest::run(title, self.args.rounds, contestants.collect())
    }
}

/// A folder with many small files.
fn many_files(scratch: &Scratch, count: usize) -> Result<PathBuf> {
    let folder = scratch.path("folder");
    fs::create_dir(&folder)?;
    for number in 0..count {
        write(&folder, number).context("cannot make the files of a folder")?;
    }
    Ok(folder)
}

fn write(folder: &Path, number: usize) -> std::io::Result<()> {
    fs::write(folder.join(format!("file-{number:06}.txt")), number.to_string())
}
