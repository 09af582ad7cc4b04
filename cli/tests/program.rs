//! The program as a shell sees it. This test also makes Cargo build `cairn` for the scenarios of `cairn-tests`.

use std::process::Command;

#[test]
fn help_names_what_a_user_starts_with() {
    let help = Command::new(env!("CARGO_BIN_EXE_cairn")).arg("--help").output().expect("cairn runs");
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success());
    for command in ["init", "daemon", "add", "get", "cat", "ls", "pin", "config"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(command)), "{command}:\n{text}");
    }
}

#[test]
fn a_command_that_is_none_fails_and_says_so_on_stderr() {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn")).arg("frobnicate").output().expect("cairn runs");
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("frobnicate"));
}

#[test]
fn the_version_is_told_without_a_repo() {
    let mut cairn = Command::new(env!("CARGO_BIN_EXE_cairn"));
    let output =
        cairn.args(["version", "--number"]).env("CAIRN_PATH", "/nowhere").output().expect("cairn runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), env!("CARGO_PKG_VERSION"));
}
