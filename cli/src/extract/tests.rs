use std::os::unix::fs::symlink;

use super::*;

/// One entry: name, type flag, content or target.
type Entry<'a> = (&'a str, u8, &'a str);

const FILE: u8 = b'0';
const HARD_LINK: u8 = b'1';
const SYMLINK: u8 = b'2';
const FOLDER: u8 = b'5';

/// An archive as an attacker would write it: names go in raw.
fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, flag, content) in entries {
        let mut header = tar::Header::new_ustar();
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(*flag));
        header.set_mode(0o4777);
        let is_file = *flag == FILE;
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        if !is_file {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        if is_file {
            out.extend_from_slice(content.as_bytes());
            out.resize(out.len().next_multiple_of(512), 0);
        }
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Unpacks into `out` of a fresh folder whose other content is a secret beside it.
fn unpack(entries: &[Entry<'_>]) -> (tempfile::TempDir, Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("secret")).unwrap();
    fs::write(folder.path().join("secret/file"), "untouched").unwrap();
    let bytes = archive(entries);
    let result = Staging::new(&folder.path().join("out"), false).and_then(|staging| {
        extract(bytes.as_slice(), &staging.path(), |_| ())?;
        staging.publish()
    });
    (folder, result)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_tree_is_made_under_the_name_of_the_target() {
    let (folder, result) = unpack(&[
        ("top/", FOLDER, ""),
        ("top/a", FILE, "hello"),
        ("top/empty/", FOLDER, ""),
        ("top/sub", FOLDER, ""),
        ("top/sub/link", SYMLINK, "../../../secret/file"),
        ("top/sub/..b", FILE, "dots"),
    ]);
    result.unwrap();
    let out = folder.path().join("out");
    assert_eq!(fs::read_to_string(out.join("a")).unwrap(), "hello");
    assert_eq!(fs::read_to_string(out.join("sub/..b")).unwrap(), "dots");
    assert_eq!(fs::read_link(out.join("sub/link")).unwrap(), Path::new("../../../secret/file"));
    assert!(out.join("empty").is_dir());
    assert_eq!(names(folder.path()), ["out", "secret"]);
}

#[test]
fn a_single_file_or_link_takes_the_name_of_the_target() {
    let (folder, result) = unpack(&[("whatever", FILE, "x")]);
    result.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("out")).unwrap(), "x");
    let (folder, result) = unpack(&[("whatever", SYMLINK, "/nowhere")]);
    result.unwrap();
    assert!(folder.path().join("out").is_symlink());
}

/// Archives that must be refused. Nothing may be made outside, and nothing may stay.
const HOSTILE: &[&[Entry<'_>]] = &[
    // Names that leave.
    &[("../out2", FILE, "x")],
    &[("/abs", FILE, "x")],
    &[("//abs", FILE, "x")],
    &[("..", FOLDER, "")],
    &[("../", FOLDER, "")],
    &[(".", FOLDER, "")],
    &[("./a", FILE, "x")],
    &[("", FILE, "x")],
    &[("/", FOLDER, "")],
    &[("top/", FOLDER, ""), ("top/../secret/file", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/../../x", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/a/../../b", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/./a", FILE, "x")],
    &[("top/", FOLDER, ""), ("top//a", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/a/..", FOLDER, "")],
    &[("top/", FOLDER, ""), ("../secret/new", FILE, "x")],
    &[("top/", FOLDER, ""), ("/top/a", FILE, "x")],
    // A second top.
    &[("top/", FOLDER, ""), ("other", FILE, "x")],
    &[("top/", FOLDER, ""), ("Top/a", FILE, "x")],
    &[("top/", FOLDER, ""), ("topp/a", FILE, "x")],
    &[("a", FILE, "x"), ("b", FILE, "x")],
    // Through a link.
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "../secret"), ("top/l/file", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "/tmp"), ("top/l/x", FOLDER, "")],
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "."), ("top/l/x", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "l"), ("top/l/x", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "../secret/file"), ("top/l", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "../secret"), ("top/l", FOLDER, "")],
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "../secret"), ("top/l/", FOLDER, "")],
    &[("top", SYMLINK, "secret"), ("top/file", FILE, "x")],
    &[("top", SYMLINK, "secret"), ("top", FOLDER, "")],
    &[("top", SYMLINK, "secret"), ("top/", FOLDER, ""), ("top/file", FILE, "x")],
    &[
        ("top/", FOLDER, ""),
        ("top/d/", FOLDER, ""),
        ("top/d", SYMLINK, "../secret"),
        ("top/d/file", FILE, "x"),
    ],
    // Through a file, or below nothing.
    &[("top", FILE, "x"), ("top/a", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/f", FILE, "x"), ("top/f/a", FILE, "x")],
    &[("top/a", FILE, "x")],
    &[("top/", FOLDER, ""), ("top/none/a", FILE, "x")],
    // Twice.
    &[("top/", FOLDER, ""), ("top/", FOLDER, "")],
    &[("top", FILE, "x"), ("top", FILE, "y")],
    &[("top/", FOLDER, ""), ("top/a", FILE, "x"), ("top/a", FILE, "y")],
    &[("top/", FOLDER, ""), ("top/a/", FOLDER, ""), ("top/a/", FOLDER, "")],
    &[("top/", FOLDER, ""), ("top/a/", FOLDER, ""), ("top/a", FILE, "x")],
    // Kinds that have no place.
    &[("top/", FOLDER, ""), ("top/h", HARD_LINK, "../secret/file")],
    &[("top/", FOLDER, ""), ("top/h", HARD_LINK, "/etc/passwd")],
    &[("h", HARD_LINK, "secret/file")],
    &[("top/", FOLDER, ""), ("top/c", b'3', "")],
    &[("top/", FOLDER, ""), ("top/b", b'4', "")],
    &[("top/", FOLDER, ""), ("top/p", b'6', "")],
    &[("top/", FOLDER, ""), ("top/s", b'S', "")],
    &[("top/", FOLDER, ""), ("top/v", b'V', "")],
    &[("top/", FOLDER, ""), ("top/z", b'Z', "")],
    // A link without a target, and nothing at all.
    &[("top/", FOLDER, ""), ("top/l", SYMLINK, "")],
    &[],
];

#[test]
fn hostile_archives_are_refused_and_leave_nothing_behind() {
    for entries in HOSTILE {
        let (folder, result) = unpack(entries);
        assert!(result.is_err(), "{entries:?}");
        assert_eq!(names(folder.path()), ["secret"], "{entries:?}");
        assert_eq!(names(&folder.path().join("secret")), ["file"], "{entries:?}");
        assert_eq!(
            fs::read_to_string(folder.path().join("secret/file")).unwrap(),
            "untouched",
            "{entries:?}"
        );
    }
}

#[test]
fn odd_names_that_stay_inside_are_made_as_they_are() {
    for name in
        ["a\\b", "C:", "CON", "con.txt", " ", "a\u{1b}[31m", ".cairn-get-x", "new", "old", "~", "-rf", "..."]
    {
        let inside = format!("top/{name}");
        let (folder, result) = unpack(&[("top/", FOLDER, ""), (&inside, FILE, "x")]);
        result.unwrap_or_else(|error| panic!("{name:?}: {error:#}"));
        assert_eq!(names(&folder.path().join("out")), [name]);
    }
}

#[test]
fn permissions_are_taken_over_but_not_to_run_as_someone_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::new(&folder.path().join("out"), false).unwrap();
    let bytes = archive(&[("top/", FOLDER, ""), ("top/a", FILE, "x")]);
    let folders = extract(bytes.as_slice(), &staging.path(), |_| ()).unwrap();
    staging.publish().unwrap();
    folders.apply(&folder.path().join("out")).unwrap();
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
    assert_eq!(mode("out/a") & 0o7777, 0o777);
    assert_eq!(mode("out") & 0o7777, 0o777);
}

#[test]
fn a_torn_archive_is_an_error_wherever_it_is_cut() {
    let whole = archive(&[("top/", FOLDER, ""), ("top/a", FILE, &"x".repeat(700))]);
    for len in [1, 511, 513, 1023, 1025, 1500, 2047] {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::new(&folder.path().join("out"), false).unwrap();
        assert!(extract(&whole[..len], &staging.path(), |_| ()).is_err(), "{len}");
    }
}

#[test]
fn a_target_that_exists_is_kept_unless_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out");
    let make = |force| -> Result<()> {
        let staging = Staging::new(&target, force)?;
        extract(archive(&[("f", FILE, "new")]).as_slice(), &staging.path(), |_| ())?;
        staging.publish()
    };
    symlink("nowhere", &target).unwrap();
    assert!(make(false).unwrap_err().to_string().contains("--force"));
    make(true).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    fs::remove_file(&target).unwrap();
    fs::create_dir_all(target.join("a/b")).unwrap();
    assert!(make(false).is_err());
    make(true).unwrap();
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn a_target_that_appears_meanwhile_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out");
    let staging = Staging::new(&target, false).unwrap();
    fs::write(staging.path(), "new").unwrap();
    fs::write(&target, "theirs").unwrap();
    assert!(staging.publish().is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn a_disk_without_room_is_noticed_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::new(&folder.path().join("out"), false).unwrap();
    staging.check_room(0).unwrap();
    assert!(staging.check_room(u64::MAX).unwrap_err().to_string().contains("not enough room"));
}
