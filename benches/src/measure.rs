//! What a run costs: time, processor, memory, disk. The kernel's own accounts, read from /proc.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

/// Ticks a second of the processor times in /proc: `USER_HZ`, which Linux has fixed at 100.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often the peak memory of a command is looked at.
const PEAK_PERIOD: Duration = Duration::from_millis(5);

/// What one run of one contestant cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Cost {
    /// Seconds on the clock.
    pub(crate) wall_s: f64,
    /// Processor seconds, user and system, of all processes of the contestant.
    pub(crate) cpu_s: f64,
    /// Most memory resident at once, in bytes, of the process that did the work.
    pub(crate) peak_bytes: u64,
    /// Bytes sent to the disk by all processes of the contestant.
    pub(crate) written_bytes: u64,
}

/// Processor seconds and bytes written of daemons up to now, to be subtracted later.
#[derive(Debug)]
pub(crate) struct Meter {
    daemons: Vec<u32>,
    started: Instant,
    cpu_s: f64,
    written_bytes: u64,
}

impl Meter {
    /// Starts to measure these running processes together with every command that [`run`] runs from now on.
    pub(crate) fn start(daemons: &[u32]) -> Result<Self> {
        let (cpu_s, written_bytes) = totals(daemons)?;
        Ok(Self { daemons: daemons.to_vec(), started: Instant::now(), cpu_s, written_bytes })
    }

    /// The cost since the start. The peak is that of the last daemon named.
    pub(crate) fn stop(self) -> Result<Cost> {
        let wall_s = self.started.elapsed().as_secs_f64();
        let (cpu_s, written_bytes) = totals(&self.daemons)?;
        let peak_bytes = self.daemons.last().map_or(Ok(0), |process| memory(*process, "VmHWM"))?;
        Ok(Cost {
            wall_s,
            cpu_s: cpu_s - self.cpu_s,
            peak_bytes,
            written_bytes: written_bytes - self.written_bytes,
        })
    }
}

/// Runs a command to its end, checks that it succeeded, and returns its stdout and its cost.
pub(crate) fn run(command: &mut Command) -> Result<(String, Cost)> {
    let meter = Meter::start(&[])?;
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot run {command:?}"))?;
    let process = child.id();
    let (done, ended) = mpsc::sync_channel::<()>(1);
    let watch = thread::Builder::new().name("peak".to_owned()).spawn(move || {
        let mut peak_bytes = 0;
        // An ended process has no memory to read.
        while let Ok(bytes) = memory(process, "VmHWM") {
            peak_bytes = bytes.max(peak_bytes);
            if !matches!(ended.recv_timeout(PEAK_PERIOD), Err(mpsc::RecvTimeoutError::Timeout)) {
                break;
            }
        }
        peak_bytes
    })?;
    let mut stderr = child.stderr.take().context("stderr is piped")?;
    let errors = thread::Builder::new().name("stderr".to_owned()).spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    })?;
    let output = child.wait_with_output()?;
    let mut cost = meter.stop()?;
    drop(done);
    cost.peak_bytes = watch.join().expect("the watcher does not panic");
    let errors = errors.join().expect("the reader does not panic");
    ensure!(output.status.success(), "{command:?} ended with {}: {errors}", output.status);
    Ok((String::from_utf8_lossy(&output.stdout).trim().to_owned(), cost))
}

/// The same command with its stdout in a file, which [`run`] would gather in memory.
pub(crate) fn to_file(command: &Command, target: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$@\" > \"$0\""])
        .arg(target)
        .arg(command.get_program())
        .args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// Bytes of disk that a folder takes.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    let (text, _) = run(Command::new("du").arg("-s").arg("--block-size=1").arg(folder))?;
    Ok(text.split_whitespace().next().context("du prints a number")?.parse()?)
}

/// Lets time pass, where what happens meanwhile is measured.
#[expect(clippy::disallowed_methods, reason = "there is no event to wait for")]
pub(crate) fn pause(period: Duration) {
    thread::sleep(period);
}

/// Writes everything to the disk that earlier runs left in memory, so that later ones do not pay for it.
pub(crate) fn settle() -> Result<()> {
    run(&mut Command::new("sync"))?;
    Ok(())
}

/// A line of /proc/PID/status in bytes: `VmHWM`, the most memory resident so far, or `VmRSS`, the memory resident now.
pub(crate) fn memory(process: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).context("the process has ended")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// Processor seconds and bytes written of the daemons, and of the children of this process that have ended.
fn totals(daemons: &[u32]) -> Result<(f64, u64)> {
    // utime and stime of a daemon; cutime and cstime of this process.
    let (mut cpu_s, mut written_bytes) = (cpu_seconds("self", [15, 16])?, written("self")?);
    for process in daemons {
        let process = process.to_string();
        cpu_s += cpu_seconds(&process, [13, 14])?;
        written_bytes += written(&process)?;
    }
    Ok((cpu_s, written_bytes))
}

/// The sum of two fields of /proc/PID/stat, counted from 0 as proc(5) lists them.
fn cpu_seconds(process: &str, fields: [usize; 2]) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is a name that may hold anything, in parentheses.
    let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat names the program")?;
    let rest: Vec<_> = rest.split(' ').collect();
    let ticks = fields.iter().map(|field| rest[field - 2].parse::<f64>()).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// `write_bytes` of /proc/PID/io; for a process with children also of those that have ended.
fn written(process: &str) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{process}/io"))?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(bytes.context("the kernel counts the bytes of a process")?.parse()?)
}
