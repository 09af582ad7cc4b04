//! A disk without room: a clear message, reads go on, a collection frees, writing resumes.

use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_tests::{Node, Scratch, files_equal, run, skip};

use super::DEADLINE;

/// A small disk in memory. Nothing, and a line that says so, where none can be mounted.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    fn mount(folder: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(folder);
        if !run(&mut mount, DEADLINE).status.success() {
            skip("a small disk cannot be mounted here");
            return None;
        }
        Some(Self { folder: folder.to_path_buf() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file of it open keeps that.
        run(Command::new("umount").arg("--lazy").arg(&self.folder), DEADLINE);
    }
}

#[test]
fn a_full_disk_is_told_reads_go_on_and_a_collection_makes_room_again() {
    let mut node = Node::cairn();
    let Some(_disk) = Disk::mount(&node.repo().join("store"), 320) else { return };
    let scratch = Scratch::new();
    let kept = scratch.random_file("kept", 20_000_000, 1);
    let too_large = scratch.random_file("too-large", 330_000_000, 2);
    let fits = scratch.random_file("fits", 40_000_000, 3);
    node.start();
    let kept_cid = node.add(&kept);
    let mut add = node.command(&["add", "-Q", "--progress=false"]);
    let refused = run(add.arg(&too_large), DEADLINE);
    assert!(refused.error().contains("full"), "{}", refused.stderr);
    assert!(files_equal(&kept, &node.get(&kept_cid)), "reads go on");
    node.run(&["repo", "gc", "--silent"]).text();
    let fits_cid = node.add(&fits);
    assert!(files_equal(&fits, &node.get(&fits_cid)), "and writing, without a restart");
    node.stop();
}
