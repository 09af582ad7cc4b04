//! Disks that fail: file calls of a process that fail or kill it, and what a power cut could leave of those that did not.
//!
//! `faults.c` is compiled once and preloaded into a process. It makes the N-th call below a folder fail, or writes down
//! all of them, so that [`Recording::image`] can make the folder as a crash could have left it.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;

use crate::process::run;

const COMPILE_DEADLINE: Duration = Duration::from_secs(60);
/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// What happens to a process at its N-th file call; numbers begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is killed, a write half done.
    Kill(u64),
    /// The call fails with `EIO`.
    Eio(u64),
    /// The call, and each later one that needs room, fails with `ENOSPC`.
    Enospc(u64),
    /// A write does half of its work.
    Short(u64),
    /// The N-th sync fails; calls of other kinds are not counted.
    Sync(u64),
}

impl Fault {
    fn text(self) -> String {
        match self {
            Self::Kill(n) => format!("kill:{n}"),
            Self::Eio(n) => format!("eio:{n}"),
            Self::Enospc(n) => format!("enospc:{n}"),
            Self::Short(n) => format!("short:{n}"),
            Self::Sync(n) => format!("sync:{n}"),
        }
    }
}

/// A folder for a test that writes much and needs no disk: in memory, where the system has such a place.
#[must_use]
pub fn fast_folder() -> TempDir {
    let builder = &mut tempfile::Builder::new();
    let builder = builder.prefix("cairn-faults-");
    let folder =
        if Path::new("/dev/shm").is_dir() { builder.tempdir_in("/dev/shm") } else { builder.tempdir() };
    folder.expect("a temporary folder")
}

/// What stands between a process and its file calls. Nothing, and a line that says so, where it cannot be made.
#[must_use]
pub fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    SHIM.get_or_init(Shim::compile).as_ref()
}

/// The compiled `faults.c`.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    fn compile() -> Option<Self> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            crate::peers::skip("faults of file calls need Linux and glibc");
            return None;
        }
        let test = env::current_exe().expect("a process knows its executable");
        let library = test.with_file_name(format!("faults-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"]).arg(&library);
        cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/support/faults.c")).arg("-ldl");
        run(&mut cc, COMPILE_DEADLINE).text();
        // Under one name for all processes, so that only one is left behind.
        let known = test.with_file_name("faults.so");
        fs::rename(library, &known).expect("a file can be renamed");
        Some(Self { library: known })
    }

    /// Puts it before the calls of `command` on files below `folder`.
    pub fn watch(&self, command: &mut Command, folder: &Path) {
        command.env("LD_PRELOAD", &self.library);
        command.env("CAIRN_FAULTS_FOLDER", folder);
    }

    /// The same, with a fault.
    pub fn inject(&self, command: &mut Command, folder: &Path, fault: Fault) {
        self.watch(command, folder);
        command.env("CAIRN_FAULTS", fault.text());
    }

    /// The same; the number of calls is in `file` when the process has ended by itself.
    pub fn count(&self, command: &mut Command, folder: &Path, file: &Path) {
        self.watch(command, folder);
        command.env("CAIRN_FAULTS_COUNT", file);
    }
}

/// Everything that a process did to the files of one folder, in order, and what it said meanwhile.
#[derive(Debug)]
pub struct Recording {
    folder: PathBuf,
    events: Vec<Event>,
}

/// Number of a file in the order in which files were made.
type FileId = usize;

#[derive(Debug)]
enum Event {
    Create { file: FileId, path: PathBuf },
    Write { file: FileId, at: usize, data: Vec<u8> },
    Truncate { file: FileId, len: usize },
    Sync { file: FileId },
    SyncFolder { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
    MakeFolder { path: PathBuf },
    Said { text: String },
}

impl Recording {
    /// Makes `command` write its calls below `folder` into the file `log`.
    pub fn record(shim: &Shim, command: &mut Command, folder: &Path, log: &Path) {
        shim.watch(command, folder);
        command.env("CAIRN_FAULTS_LOG", log);
    }

    /// Reads what was recorded. The folder was empty when it began.
    #[must_use]
    pub fn read(folder: &Path, log: &Path) -> Self {
        let bytes = fs::read(log).expect("the log can be read");
        let mut events = Vec::new();
        let mut files = HashMap::new();
        let mut file_count = 0;
        let mut rest = &bytes[..];
        while let Some((what, inode, at, a, b)) = split_event(&mut rest) {
            let path = |bytes: &[u8]| PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
            if what == b'c' {
                files.insert(inode, file_count);
                file_count += 1;
            }
            // What was there before the recording began, such as a folder, is no file of ours.
            let file = files.get(&inode).copied().unwrap_or(FileId::MAX);
            events.push(match what {
                b'c' => Event::Create { file, path: path(a) },
                b'w' => Event::Write { file, at, data: a.to_vec() },
                b't' => Event::Truncate { file, len: at },
                b's' => Event::Sync { file },
                b'd' => Event::SyncFolder { path: path(a) },
                b'r' => Event::Rename { from: path(a), to: path(b) },
                b'u' => Event::Unlink { path: path(a) },
                b'm' => Event::MakeFolder { path: path(a) },
                b'k' => Event::Said { text: String::from_utf8_lossy(a).into_owned() },
                other => panic!("unknown event in the log: {other}"),
            });
        }
        Self { folder: folder.to_path_buf(), events }
    }

    /// Number of events: a crash can come before each of them, and after the last.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What the process had said before event number `at`.
    #[must_use]
    pub fn said(&self, at: usize) -> String {
        let said = self.events[..at].iter().filter_map(|event| match event {
            Event::Said { text } => Some(text.as_str()),
            _ => None,
        });
        said.collect()
    }

    /// Makes in `target` one of the folders that a power cut before event number `at` could leave: what was synced is
    /// there, of the rest anything may be.
    ///
    /// Names go as on a disk with a journal: of those in one folder, a prefix in the order in which they were made.
    /// Bytes that were not synced are kept, lost, zero or torn, each write by itself.
    pub fn image(&self, at: usize, target: &Path, random: &mut impl Rng) {
        let names = self.names(at, random);
        let mut files = self.contents(at, random);
        for (path, file) in names {
            let path = target.join(path.strip_prefix(&self.folder).expect("below the folder"));
            match file {
                Name::Folder => fs::create_dir_all(path).expect("a folder can be made"),
                Name::File(file) => {
                    fs::create_dir_all(path.parent().expect("it has a parent"))
                        .expect("a folder can be made");
                    fs::write(path, files.remove(&file).unwrap_or_default()).expect("a file can be written");
                }
            }
        }
    }

    fn names(&self, at: usize, random: &mut impl Rng) -> BTreeMap<PathBuf, Name> {
        // For each folder: its changes, and how many of them are durable.
        let mut changes: BTreeMap<&Path, (Vec<&Event>, usize)> = BTreeMap::new();
        for event in &self.events[..at] {
            let parent =
                |path: &'_ PathBuf| -> PathBuf { path.parent().expect("below a folder").to_path_buf() };
            let folder = match event {
                Event::Create { path, .. } | Event::Unlink { path } | Event::MakeFolder { path } => {
                    path.parent()
                }
                Event::Rename { from, to } => {
                    assert_eq!(parent(from), parent(to), "a rename between folders is not modelled");
                    from.parent()
                }
                Event::SyncFolder { path } => {
                    let (made, durable) = changes.entry(path).or_default();
                    *durable = made.len();
                    None
                }
                _ => None,
            };
            if let Some(folder) = folder {
                changes.entry(folder).or_default().0.push(event);
            }
        }
        let mut names = BTreeMap::new();
        for (made, durable) in changes.into_values() {
            let kept = random.random_range(durable..=made.len());
            for event in &made[..kept] {
                match event {
                    Event::Create { file, path } => _ = names.insert(path.clone(), Name::File(*file)),
                    Event::MakeFolder { path } => _ = names.insert(path.clone(), Name::Folder),
                    Event::Unlink { path } => _ = names.remove(path),
                    Event::Rename { from, to } => {
                        if let Some(file) = names.remove(from) {
                            names.insert(to.clone(), file);
                        }
                    }
                    _ => {}
                }
            }
        }
        names
    }

    fn contents(&self, at: usize, random: &mut impl Rng) -> HashMap<FileId, Vec<u8>> {
        let mut synced = HashMap::new();
        for (number, event) in self.events[..at].iter().enumerate() {
            if let Event::Sync { file } = event {
                synced.insert(*file, number);
            }
        }
        let mut files: HashMap<FileId, Vec<u8>> = HashMap::new();
        // Often all is lost, or nothing: both find what single losses do not.
        let whole: Option<Fate> = [None, Some(Fate::Lost), Some(Fate::Kept)][random.random_range(0..3)];
        for (number, event) in self.events[..at].iter().enumerate() {
            let fate = |file: &FileId, random: &mut _| match synced.get(file) {
                Some(sync) if number < *sync => Fate::Kept,
                _ => whole.unwrap_or_else(|| Fate::random(random)),
            };
            match event {
                Event::Write { file, at, data } => {
                    let bytes = files.entry(*file).or_default();
                    write(bytes, *at, data, fate(file, random), random);
                }
                Event::Truncate { file, len } if fate(file, random) == Fate::Kept => {
                    files.entry(*file).or_default().resize(*len, 0);
                }
                _ => {}
            }
        }
        files
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Folder,
    File(FileId),
}

/// What becomes of a write that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// The file has its length, the disk not its bytes.
    Zero,
    /// Only its first sectors arrived.
    Torn,
}

impl Fate {
    fn random(random: &mut impl Rng) -> Self {
        [Self::Kept, Self::Lost, Self::Zero, Self::Torn][random.random_range(0..4)]
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, data: &[u8], fate: Fate, random: &mut impl Rng) {
    let kept = match fate {
        Fate::Kept => data.len(),
        Fate::Zero => 0,
        Fate::Torn => random.random_range(0..=data.len()) / SECTOR_BYTES * SECTOR_BYTES,
        Fate::Lost => return,
    };
    let end = if fate == Fate::Torn { at + kept } else { at + data.len() };
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..at + kept].copy_from_slice(&data[..kept]);
}

type RawEvent<'a> = (u8, u64, usize, &'a [u8], &'a [u8]);

/// The next event of a log, as `record` in `faults.c` wrote it. The last one may be cut short by a kill.
fn split_event<'a>(rest: &mut &'a [u8]) -> Option<RawEvent<'a>> {
    let (head, body) = rest.split_first_chunk::<25>()?;
    let number = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().expect("8 bytes"));
    let length = |from: usize| u32::from_le_bytes(head[from..from + 4].try_into().expect("4 bytes")) as usize;
    let (a, body) = body.split_at_checked(length(17))?;
    let (b, body) = body.split_at_checked(length(21))?;
    *rest = body;
    Some((head[0], number(1), usize::try_from(number(9)).expect("a file fits in memory"), a, b))
}
