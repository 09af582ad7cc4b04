//! `cairn get`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, Bytes};
use cairn_rpc::commands::get::Get;
use cairn_rpc::{Events, Piece};
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::extract::{self, FolderAttributes, Staging};
use crate::session::Session;
use crate::terminal;

/// Pieces of the archive that wait to be written.
const PIECE_QUEUE: usize = 8;

/// Downloads a file or folder.
///
/// It is made under another name and takes its own when it is whole; a target that exists is not touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Path, as CID/name.
    #[arg(value_name = "PATH")]
    path: String,
    /// Where to; the last part of the path by default.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Make a tar archive.
    #[arg(long, short)]
    archive: bool,
    /// Compress with gzip.
    #[arg(long, short = 'C')]
    compress: bool,
    /// Level of compression, 1 to 9.
    #[arg(long, short = 'l', value_name = "LEVEL", requires = "compress")]
    compression_level: Option<u32>,
    /// Replace a target that exists.
    #[arg(long, short)]
    force: bool,
    /// Show progress; by default on a terminal.
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    progress: Option<bool>,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<()> {
    let as_file = args.archive || args.compress;
    let target = args.target()?;
    let staging = Staging::new(&target, args.force)?;
    let bar = terminal::progress(args.progress, None);
    let pieces = session.run(Get {
        path: args.path,
        archive: args.archive,
        compress: args.compress,
        compression_level: args.compression_level,
    });
    let mut pieces = session.explain_waiting(pieces, &bar);
    let first = match pieces.try_next().await.map_err(|error| session.explain(error))? {
        Some(Piece::Length(length)) => {
            staging.check_room(length)?;
            terminal::set_total(&bar, length);
            None
        }
        Some(Piece::Bytes(bytes)) => Some(bytes),
        None => None,
    };
    let what = if as_file { "archive" } else { "file(s)" };
    terminal::print_line(&format!("Saving {what} to {}", terminal::escape(&target.display().to_string())))?;
    let path = staging.path();
    let result = if as_file {
        save(first, pieces, &path, &bar).await.map(|()| FolderAttributes::default())
    } else {
        unpack(first, pieces, path, &bar).await
    };
    bar.finish_and_clear();
    let folders = result.map_err(|failure| match failure {
        Failure::Command(error) => session.explain(error),
        Failure::Disk(error) => error,
    })?;
    staging.publish()?;
    folders.apply(&target)
}

impl Args {
    fn target(&self) -> Result<PathBuf> {
        let named = match &self.output {
            Some(output) => output.clone(),
            None => {
                let name = self
                    .path
                    .trim_end_matches('/')
                    .rsplit('/')
                    .next()
                    .filter(|name| !matches!(*name, "" | "." | ".."));
                PathBuf::from(name.context("give a name with -o")?)
            }
        };
        let mut text = named.into_os_string();
        for (wanted, ending) in [(self.archive, ".tar"), (self.compress, ".gz")] {
            let there =
                [ending, ".tar.gz"].iter().any(|known| text.as_encoded_bytes().ends_with(known.as_bytes()));
            if wanted && !there {
                text.push(ending);
            }
        }
        Ok(text.into())
    }
}

/// Why a download stopped.
enum Failure {
    Command(cairn_rpc::Error),
    Disk(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Disk(error)
    }
}

/// Writes what comes to one file.
async fn save(
    first: Option<Bytes>,
    mut pieces: Events<Piece>,
    path: &Path,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).with_context(failed)?;
    let mut next = first;
    loop {
        if let Some(bytes) = next.take() {
            bar.inc(bytes.len() as u64);
            tokio::task::block_in_place(|| file.write_all(&bytes)).with_context(failed)?;
        }
        match pieces.try_next().await.map_err(Failure::Command)? {
            Some(Piece::Bytes(bytes)) => next = Some(bytes),
            Some(Piece::Length(_)) => {}
            None => return Ok(()),
        }
    }
}

/// Unpacks what comes, on a thread of its own.
async fn unpack(
    first: Option<Bytes>,
    mut pieces: Events<Piece>,
    path: PathBuf,
    bar: &ProgressBar,
) -> Result<FolderAttributes, Failure> {
    let (sender, receiver) = mpsc::channel(PIECE_QUEUE);
    let shown = bar.clone();
    let work = tokio::task::spawn_blocking(move || {
        let reader = PieceReader { receiver, piece: Bytes::new() };
        extract::extract(reader, &path, |bytes| shown.inc(bytes)).inspect_err(|_| remove(&path))
    });
    let feed = async {
        if let Some(bytes) = first {
            // A closed channel means that unpacking failed, which its own result tells.
            let _ = sender.send(Ok(bytes)).await;
        }
        let mut failure = None;
        while let Some(piece) = pieces.next().await {
            let sent = match piece {
                Ok(Piece::Bytes(bytes)) => sender.send(Ok(bytes)).await,
                Ok(Piece::Length(_)) => Ok(()),
                Err(error) => {
                    failure = Some(error.clone());
                    sender.send(Err(error)).await
                }
            };
            if sent.is_err() {
                break;
            }
        }
        drop(sender);
        failure
    };
    let (failure, result) = tokio::join!(feed, work);
    let result = result.context("unpacking stopped").and_then(|result| result);
    match failure {
        Some(error) => Err(Failure::Command(error)),
        None => Ok(result?),
    }
}

/// Removes what was made; the folder around it goes anyway.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        // A file, or nothing at all.
        let _ = fs::remove_file(path);
    }
}

/// Pieces that arrive, as a reader for a thread that may wait.
struct PieceReader {
    receiver: mpsc::Receiver<cairn_rpc::Result<Bytes>>,
    piece: Bytes,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let len = buffer.len().min(self.piece.len());
        buffer[..len].copy_from_slice(&self.piece[..len]);
        self.piece.advance(len);
        Ok(len)
    }
}
