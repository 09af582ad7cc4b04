//! More requests than a gateway answers, clients that read nothing, certificates that change under load, and lists of
//! what is not served that are as long as lists get.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cairn_tests::{Curl, Node, Scratch, free_port, until};
use serde_json::json;

use crate::faults::count;

/// Requests that the gateway of these scenarios answers at the same time.
const MAX_REQUESTS: usize = 16;

/// Memory by which a gateway may grow from one round of overload to the last, in bytes.
const MAX_GROWTH_BYTES: u64 = 64 * 1024 * 1024;

/// Shorter than the time for which a gateway waits for a client that reads nothing.
const CLIENT_PATIENCE: Duration = Duration::from_secs(25);

/// Resident memory of a process, in bytes.
fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("it is a number");
    kib * 1024
}

/// Asks for `path` and reads no more than `len` bytes of the answer. The connection stays open.
fn start_to_read(port: u16, path: &str, len: usize) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").expect("a request can be sent");
    let mut head = vec![0; len];
    stream.read_exact(&mut head).expect("an answer has that many bytes");
    (stream, String::from_utf8_lossy(&head).into_owned())
}

/// `CAIRN_TEST_OVERLOAD_ROUNDS` says how many rounds, of half a second or more each: 2,200 are over ten minutes.
#[test]
fn twice_what_a_gateway_answers_gets_429_and_takes_no_more_memory_with_every_round() {
    let rounds = count("CAIRN_TEST_OVERLOAD_ROUNDS", 6);
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    // More than all the buffers between a gateway and a client that reads nothing.
    let large = node.add(&scratch.random_file("large", 30_000_000, 65));
    let small = node.add(&scratch.random_file("small", 1000, 66));
    node.set("Gateway.MaxConcurrentRequests", json!(MAX_REQUESTS));
    node.set("Addresses.GatewayAdmin", json!(format!("/ip4/127.0.0.1/tcp/{}", free_port())));
    node.start();
    let (port, admin) = (node.port("Gateway server"), node.port("Gateway (admin)"));
    let is_idle = || {
        let numbers = Curl::get(&format!("http://127.0.0.1:{admin}/metrics")).body(200);
        String::from_utf8_lossy(&numbers).contains("cairn_gateway_requests_active 0\n")
    };
    let small_url = format!("http://127.0.0.1:{port}/ipfs/{small}");
    let mut first_bytes = 0;
    for round in 0..rounds {
        let started = Instant::now();
        let clients: Vec<_> =
            (0..2 * MAX_REQUESTS).map(|_| start_to_read(port, &format!("/ipfs/{large}"), 400)).collect();
        let answered = clients.iter().filter(|(_, head)| head.starts_with("HTTP/1.1 200")).count();
        let refused = clients.iter().filter(|(_, head)| {
            head.starts_with("HTTP/1.1 429") && head.to_ascii_lowercase().contains("retry-after: 60")
        });
        assert_eq!(answered + refused.count(), 2 * MAX_REQUESTS, "round {round}");
        let small_status = Curl::get(&small_url).status();
        // On a machine so slow that clients were given up meanwhile, others took their places.
        if started.elapsed() < CLIENT_PATIENCE {
            assert_eq!((answered, small_status), (MAX_REQUESTS, 429), "round {round}");
        }
        drop(clients);
        until("every client is forgotten", is_idle);
        assert_eq!(Curl::get(&small_url).status(), 200);
        if round == rounds / 4 {
            first_bytes = resident_bytes(node.process_id());
        }
    }
    let last_bytes = resident_bytes(node.process_id());
    assert!(
        last_bytes < first_bytes + MAX_GROWTH_BYTES,
        "rounds={rounds}: {first_bytes} to {last_bytes} bytes"
    );
}

/// A certificate for a name that is its own authority, and its key, in the place of what is there.
fn write_certificate(folder: &Path, name: &str) -> String {
    let key = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate can be made");
    for (file, text) in [("cert.pem", key.cert.pem()), ("key.pem", key.signing_key.serialize_pem())] {
        // In one step each, as certbot does it.
        fs::write(folder.join("new"), text).expect("a file can be written");
        fs::rename(folder.join("new"), folder.join(file)).expect("a file can be renamed");
    }
    key.cert.pem()
}

#[test]
fn a_certificate_is_replaced_under_load_without_a_request_that_fails() {
    const NAME: &str = "gateway.example";
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    let cid = node.add(&scratch.random_file("file", 100_000, 67));
    let folder = scratch.path("");
    let before = write_certificate(&folder, NAME);
    node.set("Gateway.TLS", json!({ "Certificate": folder.join("cert.pem"), "Key": folder.join("key.pem") }));
    node.start();
    let port = node.port("Gateway (HTTPS)");
    let get = |trusted: &Path| {
        Curl::get(&format!("https://{NAME}:{port}/ipfs/{cid}")).with(&[
            "--connect-to",
            &format!("{NAME}:{port}:127.0.0.1:{port}"),
            "--cacert",
            trusted.to_str().expect("a path of UTF-8"),
        ])
    };
    let (old, either) = (scratch.path("old.pem"), scratch.path("either.pem"));
    fs::write(&old, &before).expect("a file can be written");
    assert_eq!(get(&old).status(), 200);
    let after = write_certificate(&folder, NAME);
    fs::write(&either, before + &after).expect("a file can be written");
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(get(&either).body(200).len(), 100_000);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Exit code 60: the certificate cannot be verified.
        until("the former certificate is gone", || get(&old).exit_code() == Some(60));
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(served.load(Ordering::Relaxed) > 0);
}

/// `CAIRN_TEST_DENYLIST_LINES` says how many lines.
#[test]
fn a_long_denylist_is_read_whole_and_takes_a_bounded_memory_for_each_line() {
    /// Memory for one line: 40 bytes in a map that is at worst half empty, and as much again while it grows.
    const MAX_LINE_BYTES: u64 = 40 * 2 * 2;
    /// What a node takes without a list, and the piece of a file that is read at a time.
    const FIXED_BYTES: u64 = 256 * 1024 * 1024;
    let lines = count("CAIRN_TEST_DENYLIST_LINES", 50_000);
    let scratch = Scratch::new();
    let mut node = Node::cairn();
    let (denied, allowed) = (
        node.add(&scratch.random_file("denied", 1000, 68)),
        node.add(&scratch.random_file("allowed", 1000, 69)),
    );
    let mut list = String::with_capacity(lines * 67);
    for line in 0..lines {
        writeln!(list, "//{line:064x}").expect("a text takes more text");
    }
    writeln!(list, "/ipfs/{denied}").expect("a text takes more text");
    let folder = node.repo().join("denylists");
    fs::create_dir(&folder).expect("a folder can be made");
    fs::write(folder.join("long.deny"), list).expect("a file can be written");
    node.start();
    let url = |cid: &str| format!("http://127.0.0.1:{}/ipfs/{cid}", node.port("Gateway server"));
    assert_eq!(Curl::get(&url(&denied)).status(), 410);
    assert_eq!(Curl::get(&url(&allowed)).status(), 200);
    let (used, lines) = (resident_bytes(node.process_id()), lines as u64);
    assert!(used < FIXED_BYTES + lines * MAX_LINE_BYTES, "lines={lines} used_bytes={used}");
}
