//! Long lines: hosts that are far away from another one, each behind a line with delay, a rate and losses.
//!
//! The lines end in this program, which holds every packet back for as long as the line takes. They exist between network
//! namespaces that are made for them, and nowhere else.

mod shape;
mod tun;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::shape::{Fate, Shape, wire_bytes};
use crate::lan::{ip, namespace};
use crate::peers::say_skipped;

/// Packets on their way at a time, one direction: a queue and a line full of whole segments, or of short packets.
const MAX_PACKETS: usize = 1 << 16;

/// Packets that the kernel keeps for this program while others run.
const KERNEL_QUEUE: &str = "10000";

/// Largest buffers of a TCP connection, in bytes: some times what is on the way on any line here.
const TCP_BUFFER_BYTES: u64 = 64 << 20;

/// Longest packet between two routers of the internet, and on every line here, in bytes.
const MTU_BYTES: u64 = 1500;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// What a line is like, both ways alike.
#[derive(Debug, Clone, Copy)]
pub struct LineKind {
    /// Rate, counted with the headers of IP.
    pub bits_per_second: u64,
    /// Time from one end to the other.
    pub delay: Duration,
    /// What waits before the line at most, in bytes; the rest is dropped.
    pub queue_bytes: u64,
    /// Packets lost on the way, of a thousand.
    pub lost_per_mille: u32,
}

impl LineKind {
    /// A line without loss whose queue holds twice what is on the way.
    #[must_use]
    pub fn new(bits_per_second: u64, round_trip: Duration) -> Self {
        let millis = u64::try_from(round_trip.as_millis()).expect("no line is that long");
        let on_the_way = bits_per_second / 8 * millis / 1000;
        Self {
            bits_per_second,
            delay: round_trip / 2,
            queue_bytes: (2 * on_the_way).max(32 * MTU_BYTES),
            lost_per_mille: 0,
        }
    }

    /// The same with losses.
    #[must_use]
    pub fn losing(self, lost_per_mille: u32) -> Self {
        Self { lost_per_mille, ..self }
    }
}

/// A host, and others far away from it. Dropping it takes them away; nodes that live on them have to go before.
#[derive(Debug)]
pub struct Lines {
    near: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    far: String,
    /// Names of the devices at the near and at the far end.
    devices: [String; 2],
    dropped_count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Lines {
    /// Sets up one line of each kind, all from the same near host. Nothing, and a line that says so, where this machine
    /// does not let us.
    #[must_use]
    pub fn new(kinds: &[LineKind]) -> Option<Self> {
        let mut lines = Self { near: namespace("near"), lines: Vec::new() };
        match lines.set_up(kinds) {
            Ok(()) => Some(lines),
            Err(reason) => {
                say_skipped(&format!("no long lines between network namespaces here: {reason}"));
                None
            }
        }
    }

    /// Network namespace of the near host.
    #[must_use]
    pub fn near(&self) -> &str {
        &self.near
    }

    /// Network namespace of a far host.
    #[must_use]
    pub fn far(&self, number: usize) -> &str {
        &self.lines[number].far
    }

    /// Address of the near host on the line to a far one.
    ///
    /// A private one: of peers at public addresses, Kubo wants nothing that no router says they have.
    #[must_use]
    pub fn near_ip(&self, number: usize) -> String {
        format!("10.78.{number}.1")
    }

    /// Address of a far host, as the near one sees it.
    #[must_use]
    pub fn far_ip(&self, number: usize) -> String {
        format!("10.78.{number}.2")
    }

    /// Packets that found the queue of a line full so far, both ways.
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.lines.iter().map(|line| line.dropped_count.load(Ordering::Relaxed)).sum()
    }

    /// What both ends have in common, for those who tell what they measured on it.
    #[must_use]
    pub fn describe(&self) -> String {
        let said = |name: &str| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            let output =
                process::Command::new("ip").args(["netns", "exec", &self.near, "cat", &path]).output();
            output.map_or_else(
                |error| error.to_string(),
                |output| {
                    String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
                },
            )
        };
        format!(
            "both ends: MTU {MTU_BYTES}, TCP {}, buffers {} and {} (tcp_rmem, tcp_wmem), segments cut behind the line",
            said("tcp_congestion_control"),
            said("tcp_rmem"),
            said("tcp_wmem"),
        )
    }

    fn set_up(&mut self, kinds: &[LineKind]) -> Result<(), String> {
        add_host(&self.near)?;
        kinds.iter().enumerate().try_for_each(|(number, kind)| self.add(number, *kind))
    }

    fn add(&mut self, number: usize, kind: LineKind) -> Result<(), String> {
        let far = namespace("far");
        add_host(&far)?;
        // All are in one namespace for a moment.
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let devices = ["a", "b"].map(|end| format!("l{}-{unique}{end}", process::id()));
        let dropped_count = Arc::<AtomicU64>::default();
        self.lines.push(Line {
            far: far.clone(),
            devices: devices.clone(),
            dropped_count: Arc::clone(&dropped_count),
            threads: Vec::new(),
        });
        let open = |device: &String| {
            // A lost packet is one that was on the line: with losses, none has several segments.
            let file = tun::open(device, kind.lost_per_mille == 0);
            file.map(Arc::new).map_err(|error| format!("/dev/net/tun: {error}"))
        };
        let files = [open(&devices[0])?, open(&devices[1])?];
        for (device, space, last) in [(&devices[0], &self.near, 1), (&devices[1], &far, 2)] {
            ip(&["link", "set", device, "netns", space])?;
            let mtu = MTU_BYTES.to_string();
            ip(&["-n", space, "link", "set", device, "mtu", &mtu, "txqueuelen", KERNEL_QUEUE, "up"])?;
            let (own, other) = (format!("10.78.{number}.{last}"), format!("10.78.{number}.{}", 3 - last));
            ip(&["-n", space, "address", "add", &own, "peer", &other, "dev", device])?;
        }
        let line = self.lines.last_mut().expect("it was pushed above");
        for (seed, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
            let shape = Shape::new(kind, (number * 2 + seed) as u64);
            line.carry(Arc::clone(&files[from]), Arc::clone(&files[to]), shape);
        }
        Ok(())
    }
}

impl Line {
    /// Starts to carry packets in one direction, until the devices are gone.
    fn carry(&mut self, from: Arc<File>, to: Arc<File>, mut shape: Shape) {
        let (on_the_way, arriving) = mpsc::sync_channel::<(Instant, Box<[u8]>)>(MAX_PACKETS);
        let dropped_count = Arc::clone(&self.dropped_count);
        let take = move || {
            let mut buffer = vec![0; tun::MAX_PACKET_BYTES];
            while let Ok(read) = (&*from).read(&mut buffer) {
                let packet = &buffer[..read];
                match shape.take(wire_bytes(packet), Instant::now()) {
                    Fate::Arrives(at) if on_the_way.send((at, packet.into())).is_err() => return,
                    Fate::Dropped => _ = dropped_count.fetch_add(1, Ordering::Relaxed),
                    Fate::Arrives(_) | Fate::Lost => {}
                }
            }
        };
        let give = move || {
            for (at, packet) in arriving {
                wait(at);
                // A device that is gone takes nothing; the other thread sees it.
                let _ = (&*to).write(&packet);
            }
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread can be started")
        };
        self.threads.push(spawn("line-in", Box::new(take)));
        self.threads.push(spawn("line-out", Box::new(give)));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        for line in &mut self.lines {
            // Whoever reads from them wakes up.
            let gone = [(&self.near, &line.devices[0]), (&line.far, &line.devices[1])]
                .map(|(space, device)| ip(&["-n", space, "link", "delete", device]));
            if gone.iter().all(Result::is_ok) {
                for thread in line.threads.drain(..) {
                    let _ = thread.join();
                }
            }
            let _ = ip(&["netns", "delete", &line.far]);
        }
        let _ = ip(&["netns", "delete", &self.near]);
    }
}

#[expect(clippy::disallowed_methods, reason = "the delay is the line's")]
fn wait(until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}

/// A host of its own, with buffers that no line here is too long for, and no memory of earlier connections.
fn add_host(space: &str) -> Result<(), String> {
    ip(&["netns", "add", space])?;
    ip(&["-n", space, "link", "set", "lo", "up"])?;
    let settings = format!(
        "cd /proc/sys/net/ipv4 && echo 4096 131072 {TCP_BUFFER_BYTES} > tcp_rmem \
         && echo 4096 16384 {TCP_BUFFER_BYTES} > tcp_wmem && echo 1 > tcp_no_metrics_save"
    );
    ip(&["netns", "exec", space, "sh", "-c", &settings])
}
