//! Reads files and folders of this computer for `add`: in a fixed order, on a thread of its own, small files in batches.
//!
//! Invariant: only regular files are read. What is no file, folder or link stops the walk with its path, as does
//! anything that cannot be read or that changes meanwhile.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::vec;

use bytes::Bytes;
use cairn_proto::unixfs::{Attributes, Mtime};
use cairn_rpc::files::{Files, Part};
use cairn_rpc::{Error, Result};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;
use tokio::sync::mpsc;

/// Files of at most this many bytes are read here and travel as a whole.
const SMALL_FILE_BYTES: u64 = 256 * 1024;

/// Content gathered in a batch, in bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// Parts gathered in a batch.
const BATCH_COUNT: usize = 256;

/// Open files in a batch: with [`BATCH_QUEUE`] batches waiting, far below any limit of open files.
const BATCH_FILES: usize = 8;

/// Batches that wait for their reader.
const BATCH_QUEUE: usize = 4;

/// Bytes read from standard input at a time.
const READ_BYTES: usize = 1024 * 1024;

/// What is left out and what is followed.
#[derive(Debug, Clone)]
pub(crate) struct WalkOptions {
    /// Go into folders.
    pub(crate) recursive: bool,
    /// Take what begins with a dot.
    pub(crate) hidden: bool,
    /// Take folders that are empty.
    pub(crate) empty_folders: bool,
    /// Add what a named link points to, not the link.
    pub(crate) dereference_args: bool,
    /// Tell mode and time of each.
    pub(crate) attributes: bool,
    /// Patterns of what to leave out, as in `.gitignore`.
    pub(crate) ignore: Gitignore,
}

/// Patterns of what to leave out: lines as in `.gitignore`, and a file of them.
pub(crate) fn ignore_rules(patterns: &[String], rules: Option<&Path>) -> Result<Gitignore> {
    let invalid = |error: ignore::Error| Error::client(format!("invalid ignore rule: {error}"));
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(invalid)?;
    }
    if let Some(error) = rules.and_then(|rules| builder.add(rules)) {
        return Err(invalid(error));
    }
    builder.build().map_err(invalid)
}

/// The files below `paths`.
pub(crate) fn walk(paths: Vec<PathBuf>, options: WalkOptions) -> Files {
    read_on_a_thread(move |sink| {
        for path in &paths {
            let name = top_name(path)?;
            Walk { options: &options, sink }.top(path, name)?;
        }
        Ok(())
    })
}

/// Standard input as one file of that name.
pub(crate) fn standard_input(name: String) -> Files {
    read_on_a_thread(move |sink| read_stream(sink, name, io::stdin().lock(), Path::new("standard input")))
}

/// Files that are named one by one; `-` or none at all is standard input. What is no regular file is read to its end.
pub(crate) fn files(paths: Vec<PathBuf>) -> Files {
    if paths.is_empty() {
        return standard_input(String::new());
    }
    read_on_a_thread(move |sink| {
        for path in &paths {
            if path.as_os_str() == "-" {
                read_stream(sink, String::new(), io::stdin().lock(), path)?;
                continue;
            }
            let name = top_name(path)?;
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
            if metadata.is_dir() {
                return Err(Error::client(format!("this is a directory, path={path:?}")));
            }
            if metadata.is_file() {
                sink.push(Part::Local { path: name, file }, 0)?;
            } else {
                read_stream(sink, name, file, path)?;
            }
        }
        Ok(())
    })
}

/// Bytes of all files below `paths`, for a bar; what cannot be read counts nothing.
pub(crate) fn total_bytes(paths: &[PathBuf], options: &WalkOptions) -> u64 {
    let mut total = 0;
    let mut stack: Vec<PathBuf> = paths.to_vec();
    while let Some(path) = stack.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_file() {
            total += metadata.len();
        } else if metadata.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            let kept = entries.flatten().filter(|entry| options.hidden || !is_hidden(&entry.file_name()));
            stack.extend(kept.map(|entry| entry.path()));
        }
    }
    total
}

fn read_stream(sink: &mut Sink, name: String, mut input: impl Read, path: &Path) -> Result<()> {
    sink.push(Part::Stream { path: name }, 0)?;
    loop {
        let mut piece = Vec::with_capacity(READ_BYTES);
        let read = input.by_ref().take(READ_BYTES as u64).read_to_end(&mut piece);
        let len = read.map_err(|error| unreadable(path, &error))?;
        if len == 0 {
            return Ok(());
        }
        sink.push(Part::Data(piece.into()), len)?;
    }
}

fn read_on_a_thread(work: impl FnOnce(&mut Sink) -> Result<()> + Send + 'static) -> Files {
    let (sender, receiver) = mpsc::channel(BATCH_QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut sink = Sink { sender, batch: Vec::new(), batch_bytes: 0, open_files: 0 };
        let last = work(&mut sink).and_then(|()| sink.flush());
        if let Err(error) = last {
            // Nobody reads any more: then nobody needs the error either.
            let _ = sink.sender.blocking_send(Err(error));
        }
    });
    Files::new(futures::stream::unfold(receiver, |mut receiver| async move {
        let batch = receiver.recv().await?;
        Some((batch, receiver))
    }))
}

/// Gathers parts and hands them over in batches.
struct Sink {
    sender: mpsc::Sender<Result<Vec<Part>>>,
    batch: Vec<Part>,
    batch_bytes: usize,
    open_files: usize,
}

impl Sink {
    fn push(&mut self, part: Part, len_bytes: usize) -> Result<()> {
        self.open_files += usize::from(matches!(part, Part::Local { .. }));
        self.batch.push(part);
        self.batch_bytes += len_bytes;
        if self.batch_bytes >= BATCH_BYTES
            || self.batch.len() >= BATCH_COUNT
            || self.open_files >= BATCH_FILES
        {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        (self.batch_bytes, self.open_files) = (0, 0);
        let batch = std::mem::take(&mut self.batch);
        self.sender.blocking_send(Ok(batch)).map_err(|_| Error::new("the add has stopped"))
    }
}

struct Walk<'a> {
    options: &'a WalkOptions,
    sink: &'a mut Sink,
}

/// A folder that is being read: its entries in order, and the name by which it is added.
struct Folder {
    path: PathBuf,
    name: String,
    entries: vec::IntoIter<OsString>,
}

impl Walk<'_> {
    /// Reads what a user named, and all below it, depth first. It is taken whatever the rules say.
    fn top(&mut self, path: &Path, name: String) -> Result<()> {
        let metadata =
            if self.options.dereference_args { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let metadata = metadata.map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() && !self.options.recursive {
            return Err(Error::client(format!(
                "{path:?} is a directory, use the '-r' flag to specify directories"
            )));
        }
        let mut folders: Vec<Folder> = self.entry(path.to_owned(), name, &metadata)?.into_iter().collect();
        while let Some(folder) = folders.last_mut() {
            let Some(entry) = folder.entries.next() else {
                folders.pop();
                continue;
            };
            let path = folder.path.join(&entry);
            let Some(entry_name) = entry.to_str() else {
                return Err(Error::client(format!("a file name is not UTF-8, path={path:?}")));
            };
            let name = format!("{}/{entry_name}", folder.name);
            let metadata = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            if !self.is_ignored(&name, metadata.is_dir()) {
                folders.extend(self.entry(path, name, &metadata)?);
            }
        }
        Ok(())
    }

    /// Hands an entry over; gives back a folder to go on with.
    fn entry(&mut self, path: PathBuf, name: String, metadata: &fs::Metadata) -> Result<Option<Folder>> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            let entries = self.folder(&path)?;
            if self.options.empty_folders || self.options.attributes {
                self.attributes(metadata)?;
                self.sink.push(Part::Directory { path: name.clone() }, 0)?;
            }
            return Ok(Some(Folder { path, name, entries }));
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|error| unreadable(&path, &error))?;
            let target = target.into_os_string().into_string();
            let target = target
                .map_err(|_| Error::client(format!("the target of a link is not UTF-8, path={path:?}")))?;
            self.attributes(metadata)?;
            self.sink.push(Part::Symlink { path: name, target }, 0)?;
        } else if kind.is_file() {
            self.file(&path, name)?;
        } else {
            return Err(Error::client(format!(
                "unrecognized file type, only files, directories and links can be added, path={path:?}"
            )));
        }
        Ok(None)
    }

    /// Tells mode and time of the part that comes next, if they are wanted.
    fn attributes(&mut self, metadata: &fs::Metadata) -> Result<()> {
        if !self.options.attributes {
            return Ok(());
        }
        let nanos = u32::try_from(metadata.mtime_nsec()).ok().filter(|nanos| *nanos > 0);
        let mtime = Mtime { seconds: metadata.mtime(), nanos };
        let attributes = Attributes { mode: Some(metadata.mode() & 0o7777), mtime: Some(mtime) };
        self.sink.push(Part::Attributes(attributes), 0)
    }

    /// Names in a folder, sorted by their bytes, without what is hidden.
    fn folder(&self, path: &Path) -> Result<vec::IntoIter<OsString>> {
        let names =
            fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<OsString> = names.map_err(|error| unreadable(path, &error))?;
        names.retain(|name| self.options.hidden || !is_hidden(name));
        names.sort_unstable();
        Ok(names.into_iter())
    }

    fn is_ignored(&self, name: &str, is_folder: bool) -> bool {
        // Rules are relative to what the user named, so its own name is left out.
        let below = name.split_once('/').map_or(name, |(_, below)| below);
        self.options.ignore.matched(below, is_folder).is_ignore()
    }

    fn file(&mut self, path: &Path, name: String) -> Result<()> {
        let mut options = fs::OpenOptions::new();
        // Without waiting: something else may stand here by now, such as a pipe.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("the flags of open fit");
        let mut file =
            options.read(true).custom_flags(flags).open(path).map_err(|error| unreadable(path, &error))?;
        let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
        if !metadata.is_file() {
            return Err(Error::client(format!("not a regular file any more, path={path:?}")));
        }
        self.attributes(&metadata)?;
        if metadata.len() > SMALL_FILE_BYTES {
            return self.sink.push(Part::Local { path: name, file }, 0);
        }
        let content = read_small(&mut file, metadata.len()).map_err(|error| unreadable(path, &error))?;
        if content.len() as u64 != metadata.len() {
            return Err(Error::new(format!(
                "file changed while it was read, path={path:?} len_bytes={}",
                metadata.len()
            )));
        }
        let len_bytes = content.len();
        self.sink.push(Part::Small { path: name, content }, len_bytes)
    }
}

/// All content, or one byte more than expected if there is more.
fn read_small(file: &mut File, len_bytes: u64) -> io::Result<Bytes> {
    let mut content = Vec::with_capacity(usize::try_from(len_bytes).unwrap_or(0) + 1);
    file.take(len_bytes + 1).read_to_end(&mut content)?;
    Ok(content.into())
}

/// The name by which something that a user named is added: the last part of its path.
fn top_name(path: &Path) -> Result<String> {
    let named = match path.file_name() {
        Some(name) => Some(name.to_owned()),
        // `.` and `..` are named by the folder that they are.
        None => path.canonicalize().ok().and_then(|path| path.file_name().map(ToOwned::to_owned)),
    };
    let name = named.ok_or_else(|| Error::client(format!("this has no name to add it by, path={path:?}")))?;
    name.into_string().map_err(|_| Error::client(format!("a file name is not UTF-8, path={path:?}")))
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(format!("cannot read {path:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn options() -> WalkOptions {
        WalkOptions {
            recursive: true,
            hidden: false,
            empty_folders: true,
            dereference_args: false,
            attributes: false,
            ignore: Gitignore::empty(),
        }
    }

    async fn list(path: &Path, options: WalkOptions) -> Result<Vec<String>> {
        let mut files = walk(vec![path.to_owned()], options);
        let mut lines = Vec::new();
        while let Some(part) = files.next().await? {
            lines.push(match part {
                Part::Directory { path } => format!("{path}/"),
                Part::Symlink { path, target } => format!("{path} -> {target}"),
                Part::Small { path, content } => format!("{path}: {}", String::from_utf8_lossy(&content)),
                Part::Local { path, .. } => format!("{path} open"),
                other => panic!("{other:?}"),
            });
        }
        Ok(lines)
    }

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        for path in ["b/c", "empty", ".git"] {
            fs::create_dir_all(top.join(path)).unwrap();
        }
        for (path, content) in [
            ("z", "last"),
            ("a", "first"),
            ("b/c/d", "deep"),
            (".hidden", "h"),
            (".git/x", "g"),
            ("A", "upper"),
        ] {
            fs::write(top.join(path), content).unwrap();
        }
        symlink("../nowhere", top.join("link")).unwrap();
        (folder, top)
    }

    #[tokio::test]
    async fn a_tree_is_read_in_the_order_of_names_and_without_what_is_hidden() {
        let (_folder, top) = tree();
        let lines = list(&top, options()).await.unwrap();
        let expected = [
            "top/",
            "top/A: upper",
            "top/a: first",
            "top/b/",
            "top/b/c/",
            "top/b/c/d: deep",
            "top/empty/",
            "top/link -> ../nowhere",
            "top/z: last",
        ];
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn options_say_what_else_is_taken_or_left_out() {
        let (_folder, top) = tree();
        let lines = list(&top, WalkOptions { hidden: true, ..options() }).await.unwrap();
        assert!(lines.contains(&"top/.git/x: g".to_owned()) && lines.contains(&"top/.hidden: h".to_owned()));
        let ignore = ignore_rules(&["/b".to_owned(), "?".to_owned(), "li*".to_owned()], None).unwrap();
        let lines = list(&top, WalkOptions { ignore, ..options() }).await.unwrap();
        assert_eq!(lines, ["top/", "top/empty/"]);
        let lines = list(&top, WalkOptions { empty_folders: false, ..options() }).await.unwrap();
        assert!(!lines.iter().any(|line| line.ends_with('/')), "{lines:?}");
    }

    #[tokio::test]
    async fn a_named_folder_needs_the_flag_and_a_named_link_is_a_link_unless_asked() {
        let (_folder, top) = tree();
        let error = list(&top, WalkOptions { recursive: false, ..options() }).await.unwrap_err();
        assert!(error.message.contains("use the '-r' flag"), "{error}");
        fs::remove_file(top.join("link")).unwrap();
        symlink("a", top.join("link")).unwrap();
        assert_eq!(list(&top.join("link"), options()).await.unwrap(), ["link -> a"]);
        let followed =
            list(&top.join("link"), WalkOptions { dereference_args: true, ..options() }).await.unwrap();
        assert_eq!(followed, ["link: first"]);
        assert_eq!(list(&top.join(".hidden"), options()).await.unwrap(), [".hidden: h"]);
    }

    #[tokio::test]
    async fn what_is_no_file_or_cannot_be_read_stops_the_walk_with_its_path() {
        let (_folder, top) = tree();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            top.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let error = list(&top, options()).await.unwrap_err();
        assert!(
            error.message.contains("unrecognized file type") && error.message.contains("pipe"),
            "{error}"
        );
        let ignore = ignore_rules(&["pipe".to_owned()], None).unwrap();
        assert!(list(&top, WalkOptions { ignore, ..options() }).await.is_ok());
        let error = list(&top.join("none"), options()).await.unwrap_err();
        assert!(error.message.contains("none"), "{error}");
        let error = list(Path::new("/dev/null"), options()).await.unwrap_err();
        assert!(error.message.contains("unrecognized file type"), "{error}");
    }

    #[tokio::test]
    async fn files_above_the_limit_are_handed_over_open() {
        let folder = tempfile::tempdir().unwrap();
        for (name, len_bytes) in [("at", SMALL_FILE_BYTES), ("over", SMALL_FILE_BYTES + 1)] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(len_bytes).unwrap();
        }
        assert!(list(&folder.path().join("at"), options()).await.unwrap()[0].starts_with("at: "));
        assert_eq!(list(&folder.path().join("over"), options()).await.unwrap(), ["over open"]);
    }

    #[tokio::test]
    async fn more_files_than_a_batch_all_arrive() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..1000 {
            fs::write(folder.path().join(n.to_string()), "x").unwrap();
        }
        assert_eq!(list(folder.path(), options()).await.unwrap().len(), 1001);
        assert_eq!(total_bytes(&[folder.path().to_owned()], &options()), 1000);
    }
}
