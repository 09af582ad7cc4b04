//! Ports for what cannot take port 0 and say which it got.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux takes ports for connections and for port 0 (32768 to 60999), so that nothing but a server
/// of that very number can take one of these.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A loopback port, for TCP and UDP, that is this process's until it ends: a locked file tells other test runs so.
///
/// # Panics
///
/// When all are taken.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("cairn-test-ports");
    fs::create_dir_all(&folder).expect("a folder can be made");
    // Runs that start at different places seldom meet.
    let start =
        u16::try_from(process::id().wrapping_mul(97) % u32::from(COUNT)).expect("it is below the count");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        let file = File::create(folder.join(port.to_string())).expect("a file can be made");
        let is_ours = file.try_lock().is_ok();
        if is_ours
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        {
            HELD.lock().expect("no thread panics with it").push(file);
            return port;
        }
    }
    panic!("no port is free from {FIRST} on");
}
