//! Child processes that are read line by line, waited for with deadlines, and killed with their handles.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Lines kept of each process, for its tests and for the report when it fails.
const MAX_LINES: usize = 10_000;
/// Lines of a report.
const REPORT_LINES: usize = 40;

/// A process that runs beside the test. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Log>,
    /// Lines of stdout that [`Self::wait_for`] has passed.
    passed: usize,
}

/// Asks again and again until the answer is yes, for what no line of a log tells.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(60);
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain, expected={what}");
        thread::yield_now();
    }
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stdout: VecDeque<String>,
    /// Lines that were dropped from the front of `stdout`.
    dropped: usize,
    /// The last lines of both streams, in the order of their arrival.
    tail: VecDeque<String>,
    closed_streams: u8,
}

impl Process {
    /// Starts `command` with its three streams connected to the test.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}, command={command:?}"));
        let log = Arc::new(Log::default());
        follow(child.stdout.take().expect("stdout is piped"), Arc::clone(&log), true);
        follow(child.stderr.take().expect("stderr is piped"), Arc::clone(&log), false);
        Self { name, stdin: child.stdin.take(), child, log, passed: 0 }
    }

    /// Writes a line to the process.
    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is piped and open");
        let sent = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        sent.unwrap_or_else(|error| panic!("{} does not read: {error}\n{}", self.name, self.log.report()));
    }

    /// Returns what `find` makes of the first line of stdout, after those already passed, that it accepts.
    pub fn wait_for<T>(&mut self, what: &str, deadline: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let until = Instant::now() + deadline;
        let mut state = self.log.lock();
        loop {
            while self.passed < state.dropped + state.stdout.len() {
                let line = &state.stdout[self.passed.saturating_sub(state.dropped)];
                self.passed = self.passed.max(state.dropped) + 1;
                if let Some(found) = find(line) {
                    return found;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            let ended = state.closed_streams == 2;
            if ended || left.is_zero() {
                let why = if ended { "ended" } else { "was waited for in vain" };
                panic!("{} {why}, expected={what}\n{}", self.name, state.report());
            }
            state = self.log.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the process to end by itself.
    pub fn wait(mut self, deadline: Duration) -> ExitStatus {
        let until = Instant::now() + deadline;
        drop(self.stdin.take());
        let log = Arc::clone(&self.log);
        let mut state = log.lock();
        while state.closed_streams < 2 {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} does not end\n{}", self.name, state.report());
            state = log.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.child.wait().expect("a child of ours can be waited for")
    }

    /// Ends the process at once, as a power cut would (`SIGKILL`).
    pub fn kill(mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("a child of ours can be waited for");
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{} said last:\n{}", self.name, self.log.report());
        }
    }
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> String {
        self.lock().report()
    }
}

impl State {
    fn report(&self) -> String {
        self.tail.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "    {line}");
            text
        })
    }
}

/// Reads a stream of the process into its log until the stream ends.
fn follow(stream: impl Read + Send + 'static, log: Arc<Log>, is_stdout: bool) {
    let mut lines = BufReader::new(stream);
    let read = move || {
        let mut bytes = Vec::new();
        while matches!(lines.read_until(b'\n', &mut bytes), Ok(1..)) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            let mut state = log.lock();
            if state.tail.len() == REPORT_LINES {
                state.tail.pop_front();
            }
            state.tail.push_back(line.clone());
            if is_stdout {
                if state.stdout.len() == MAX_LINES {
                    state.stdout.pop_front();
                    state.dropped += 1;
                }
                state.stdout.push_back(line);
            }
            log.changed.notify_all();
        }
        log.lock().closed_streams += 1;
        log.changed.notify_all();
    };
    thread::Builder::new().name("follow".to_owned()).spawn(read).expect("a thread can be started");
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Bytes of its stdout.
    pub stdout: Vec<u8>,
    /// Text of its stderr.
    pub stderr: String,
}

impl Output {
    /// The text of stdout without the line end, after checking that the command succeeded.
    pub fn text(&self) -> String {
        assert!(self.status.success(), "{}\n{}", self.status, self.stderr);
        String::from_utf8(self.stdout.clone()).expect("text is printed").trim_end().to_owned()
    }

    /// The text of stderr, after checking that the command failed with exit code 1.
    pub fn error(&self) -> &str {
        let printed = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.status.code(), Some(1), "stdout: {printed}\nstderr: {}", self.stderr);
        &self.stderr
    }
}

/// A command for `program`, in a network namespace if one is named.
#[must_use]
pub fn command_in(namespace: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    let Some(namespace) = namespace else { return Command::new(program) };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

/// Runs `command` to its end.
pub fn run(command: &mut Command, deadline: Duration) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (done, ends) = mpsc::sync_channel(2);
    let streams: [(Box<dyn Read + Send>, bool); 2] = [
        (Box::new(child.stdout.take().expect("stdout is piped")), true),
        (Box::new(child.stderr.take().expect("stderr is piped")), false),
    ];
    for (mut stream, is_stdout) in streams {
        let done = done.clone();
        let read = move || {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let _ = done.send((is_stdout, bytes));
        };
        thread::Builder::new().name("read".to_owned()).spawn(read).expect("a thread can be started");
    }
    let until = Instant::now() + deadline;
    let (mut stdout, mut stderr) = (Vec::new(), String::new());
    for _ in 0..2 {
        match ends.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((true, bytes)) => stdout = bytes,
            Ok((false, bytes)) => stderr = String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("no end within {deadline:?}: {command:?}");
            }
        }
    }
    let status = child.wait().expect("a child of ours can be waited for");
    Output { status, stdout, stderr }
}
