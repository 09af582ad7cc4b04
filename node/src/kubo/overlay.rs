//! A file system for LevelDB that reads a folder and keeps whatever is written in memory.
//!
//! Opening a LevelDB writes: a new manifest, tables of what its log holds, a lock. None of that goes into Kubo's repo.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use rusty_leveldb::env::{Env, FileLock, Logger, RandomAccess};
use rusty_leveldb::{MemEnv, Result, Status, StatusCode};

pub(super) struct Overlay {
    folder: PathBuf,
    memory: MemEnv,
}

impl Overlay {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, memory: MemEnv::new() }
    }

    fn is_in_memory(&self, path: &Path) -> bool {
        self.memory.exists(path).unwrap_or(false)
    }
}

impl Env for Overlay {
    fn open_sequential_file(&self, path: &Path) -> Result<Box<dyn Read>> {
        if self.is_in_memory(path) {
            return self.memory.open_sequential_file(path);
        }
        Ok(Box::new(BufReader::new(open(path)?)))
    }

    fn open_random_access_file(&self, path: &Path) -> Result<Box<dyn RandomAccess>> {
        if self.is_in_memory(path) {
            return self.memory.open_random_access_file(path);
        }
        Ok(Box::new(open(path)?))
    }

    fn open_writable_file(&self, path: &Path) -> Result<Box<dyn Write>> {
        self.memory.open_writable_file(path)
    }

    fn open_appendable_file(&self, path: &Path) -> Result<Box<dyn Write>> {
        if self.is_in_memory(path) || !path.exists() {
            return self.memory.open_appendable_file(path);
        }
        Err(Status::new(StatusCode::NotSupported, "files of Kubo are not written"))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.is_in_memory(path) || path.exists())
    }

    fn children(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let mut names = self.memory.children(path)?;
        if path == self.folder {
            for entry in fs::read_dir(path)? {
                let name = PathBuf::from(entry?.file_name());
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    fn size_of(&self, path: &Path) -> Result<usize> {
        if self.is_in_memory(path) {
            return self.memory.size_of(path);
        }
        Ok(usize::try_from(fs::metadata(path)?.len()).unwrap_or(usize::MAX))
    }

    fn delete(&self, path: &Path) -> Result<()> {
        // What is on the disk stays there.
        if self.is_in_memory(path) { self.memory.delete(path) } else { Ok(()) }
    }

    fn mkdir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn rmdir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.memory.rename(from, to)
    }

    fn lock(&self, path: &Path) -> Result<FileLock> {
        self.memory.lock(path)
    }

    fn unlock(&self, lock: FileLock) -> Result<()> {
        self.memory.unlock(lock)
    }

    fn new_logger(&self, _: &Path) -> Result<Logger> {
        Ok(Logger::new(Box::new(io::sink())))
    }

    fn micros(&self) -> u64 {
        // Only statistics ask.
        0
    }

    fn sleep_for(&self, _: u32) {}
}

fn open(path: &Path) -> Result<File> {
    let code = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => StatusCode::NotFound,
        _ => StatusCode::IOError,
    };
    File::open(path).map_err(|error| Status::new(code(&error), &error.to_string()))
}
