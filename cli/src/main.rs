//! The `cairn` program: the only part that reads the environment, prints, and exits.
//!
//! A command becomes a request of [`cairn_rpc`], which a running daemon serves or, without one, this process on the repo
//! itself. [`session`] decides which; the files of [`commands`] turn events into text.

#![allow(
    rustdoc::invalid_html_tags,
    reason = "the doc comment of a flag is its help text, as a terminal shows it"
)]

mod args;
mod commands;
mod daemon;
mod environment;
mod extract;
mod limits;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
mod session;
mod signals;
mod terminal;
mod waiting;
mod walk;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    memory::keep_freed();
    // Two TLS providers are compiled in; the first to ask would fail without this.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nobody installed a provider before");
    let cli = args::Cli::parse();
    environment::start_logging(cli.global.debug);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!("cannot start threads: {error}")),
    };
    let result = runtime.block_on(commands::run(cli));
    // A thread that waits for a terminal or a slow disk must not hold up the exit.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // A reader that had enough is no failure worth a word.
    if !terminal::is_broken_pipe(error) {
        eprintln!("Error: {}", terminal::escape(&format!("{error:#}")));
    }
    ExitCode::FAILURE
}
