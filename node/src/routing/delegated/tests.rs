//! Routers of this computer, honest and otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_proto::cid::HashFunction;
use libp2p::identity::Keypair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::swarm::testing::DEADLINE;

const PEER: &str = "12D3KooWM8sovaEGU1bmiWGWAzvs47DEcXKZZTuJnpQyVTkRs2Vn";
const LINES: &str = "application/x-ndjson";

/// What a server does after the headers of its answer.
#[derive(Clone)]
enum Then {
    /// Sends this, and ends the answer.
    Send(Vec<u8>),
    /// Sends this, and then nothing for ever.
    Hang(Vec<u8>),
    /// Sends this again and again.
    Repeat(Vec<u8>),
}

/// A server that answers every question alike.
struct Server {
    url: RouterUrl,
    questions: Arc<AtomicUsize>,
}

async fn server(status: u16, media_type: &'static str, then: Then) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/routing/v1/", listener.local_addr().unwrap()).parse().unwrap();
    let questions = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&questions);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream, status, media_type, then.clone()));
        }
    });
    Server { url, questions }
}

/// Answers one question. A client that has gone away ends it.
async fn answer(mut stream: TcpStream, status: u16, media_type: &str, then: Then) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {media_type}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    match then {
        Then::Send(body) => {
            stream.write_all(&body).await?;
            stream.shutdown().await
        }
        Then::Hang(body) => {
            stream.write_all(&body).await?;
            stream.read_u8().await.map(|_| ())
        }
        Then::Repeat(body) => loop {
            stream.write_all(&body).await?;
        },
    }
}

fn line(peer: &str, port: u16) -> String {
    format!(r#"{{"Schema":"peer","ID":"{peer}","Addrs":["/ip4/192.0.2.1/tcp/{port}"]}}"#) + "\n"
}

fn key() -> Multihash {
    HashFunction::Sha2_256.multihash(b"content")
}

fn delegated(servers: &[&Server]) -> Delegated {
    Delegated::new(servers.iter().map(|server| server.url.clone()).collect(), "test").unwrap()
}

/// Everything that all servers name, in the order in which it comes.
fn all(delegated: &Delegated, limit: usize) -> BoxStream<'static, Provider> {
    stream::select_all(delegated.providers(&key(), limit)).boxed()
}

async fn collect<T>(found: BoxStream<'static, T>) -> Vec<T> {
    tokio::time::timeout(DEADLINE, found.collect()).await.expect("the answer ends")
}

#[tokio::test]
async fn answers_come_as_they_are_and_a_server_that_hangs_holds_up_nobody() {
    let slow = server(200, LINES, Then::Hang(line(PEER, 1).into())).await;
    let list = format!(r#"{{"Providers":[{}]}}"#, line(PEER, 2));
    let quick = server(200, "application/json", Then::Send(list.into())).await;
    let delegated = delegated(&[&slow, &quick]);
    let mut found = all(&delegated, 10);
    let mut ports = Vec::new();
    for _ in 0..2 {
        let next = tokio::time::timeout(DEADLINE, found.next()).await.unwrap().unwrap();
        ports.push(next.addrs[0].to_string());
    }
    ports.sort();
    assert_eq!(ports, ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/2"]);
}

#[tokio::test]
async fn answers_without_end_end_at_the_limit_or_where_they_are_too_long() {
    let lines = server(200, LINES, Then::Repeat(line(PEER, 1).into())).await;
    assert_eq!(collect(all(&delegated(&[&lines]), 7)).await.len(), 7);
    for media_type in [LINES, "application/json"] {
        let blanks = server(200, media_type, Then::Repeat(vec![b' '; 4096])).await;
        assert_eq!(collect(all(&delegated(&[&blanks]), 7)).await, []);
    }
}

#[tokio::test]
async fn what_is_no_answer_names_nobody() {
    let mut servers = vec![
        server(404, LINES, Then::Send(line(PEER, 1).into())).await,
        server(302, LINES, Then::Send(line(PEER, 1).into())).await,
        server(200, "text/html", Then::Send(line(PEER, 1).into())).await,
        server(200, LINES, Then::Send(b"{\"Schema\":\"peer\"".to_vec())).await,
        server(200, LINES, Then::Send(vec![0xff; 9000])).await,
    ];
    // Nobody listens there: no system gives out port 1 by itself.
    servers[0].url = "http://127.0.0.1:1".parse().unwrap();
    for server in &servers {
        assert_eq!(collect(all(&delegated(&[server]), 7)).await, [], "{}", server.url);
    }
}

#[tokio::test]
async fn a_server_that_failed_is_left_alone_for_a_while() {
    let busy = server(503, LINES, Then::Send(Vec::new())).await;
    let absent = server(404, LINES, Then::Send(Vec::new())).await;
    for (server, count) in [(&busy, 1), (&absent, 3)] {
        let delegated = delegated(&[server]);
        for _ in 0..3 {
            assert_eq!(collect(all(&delegated, 1)).await, []);
        }
        assert_eq!(server.questions.load(Ordering::Relaxed), count);
    }
}

#[tokio::test]
async fn addresses_of_a_peer_and_records_of_a_name_are_read() {
    let key = Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let lines = line(PEER, 1) + &line(&peer.to_string(), 2);
    let peers = server(200, LINES, Then::Send(lines.into())).await;
    let found = delegated(&[&peers]).peer(peer).pop().unwrap();
    // Only one is asked for, and it is another's.
    assert_eq!(collect(found).await, Vec::<Vec<Multiaddr>>::new());
    let peers = server(200, LINES, Then::Send(line(&peer.to_string(), 2).into())).await;
    let found = delegated(&[&peers]).peer(peer).pop().unwrap();
    assert_eq!(collect(found).await, [vec!["/ip4/192.0.2.1/tcp/2".parse::<Multiaddr>().unwrap()]]);

    let name = Name::parse(&peer.to_string()).unwrap();
    let ask = async |media_type, then| {
        let server = server(200, media_type, then).await;
        collect(delegated(&[&server]).records(&name).pop().unwrap()).await
    };
    let record = "application/vnd.ipfs.ipns-record";
    assert_eq!(ask(record, Then::Send(b"record".to_vec())).await, [b"record".to_vec()]);
    assert_eq!(ask("text/plain", Then::Send(b"none".to_vec())).await, Vec::<Vec<u8>>::new());
    assert_eq!(ask(record, Then::Repeat(vec![0; 1000])).await, Vec::<Vec<u8>>::new());
}

#[test]
fn routers_are_named_by_the_base_of_their_api_or_by_all_of_its_prefix() {
    for (text, url) in [
        ("https://delegated.example", "https://delegated.example"),
        ("https://delegated.example/routing/v1/", "https://delegated.example"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
    ] {
        assert_eq!(text.parse::<RouterUrl>().unwrap().to_string(), url);
    }
    for text in
        ["", "delegated.example", "ftp://a.example", "https://", "https://a@b", "https://a.example?x=1"]
    {
        assert!(text.parse::<RouterUrl>().is_err(), "{text}");
    }
    assert!(!"https://cid.contact".parse::<RouterUrl>().unwrap().knows_all);
}
