//! An exchange over gateways of this computer.

use std::sync::Barrier;

use cairn_proto::cid::Multihash;
use tokio::sync::Notify;

use super::super::http::tests::{Server, body, cid_of, status};
use super::*;
use crate::exchange::Session;

/// Nothing to give: nobody asks.
struct Nothing;

impl ports::Blocks for Nothing {
    fn lengths(&self, blocks: &[Multihash]) -> Vec<Option<usize>> {
        vec![None; blocks.len()]
    }

    fn read(&self, cids: &[Cid]) -> Vec<Option<Block>> {
        vec![None; cids.len()]
    }
}

fn exchange(urls: Vec<GatewayUrl>) -> (Handle, Tasks) {
    let settings = UpstreamSettings {
        gateways: urls,
        roots: None,
        timeout: Duration::from_secs(60),
        agent: "test".to_owned(),
    };
    let tasks = Tasks::new("test");
    (start(Gateways::new(&settings).unwrap(), Arc::new(Nothing), &tasks), tasks)
}

fn content(number: usize) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// A gateway that has the blocks of these numbers.
async fn gateway(numbers: std::ops::Range<usize>) -> Server {
    Server::start(move |request| {
        let found = numbers
            .clone()
            .map(content)
            .find(|content| request.uri().path() == format!("/ipfs/{}", cid_of(content)));
        found.map_or_else(|| status(404), body)
    })
    .await
}

async fn receive(session: &mut Session, count: usize) -> Vec<Cid> {
    let mut cids = Vec::new();
    for _ in 0..count {
        cids.push(*session.recv().await.unwrap().unwrap().cid());
    }
    cids.sort_unstable();
    cids
}

fn cids(numbers: std::ops::Range<usize>) -> Vec<Cid> {
    let mut cids: Vec<_> = numbers.map(|number| cid_of(&content(number))).collect();
    cids.sort_unstable();
    cids
}

#[tokio::test]
async fn blocks_come_from_the_first_gateway_that_has_them() {
    let (first, second) = (gateway(0..200).await, gateway(100..300).await);
    let (exchange, _tasks) = exchange(vec![first.url(), second.url()]);
    let mut session = exchange.session();
    session.want(cids(0..300)).await.unwrap();
    assert_eq!(receive(&mut session, 300).await, cids(0..300));
    assert!(session.recv().await.is_none());
    assert_eq!((first.request_count(), second.request_count()), (300, 100));
    assert_eq!(exchange.stat().await.unwrap().blocks_received, 300);
}

#[tokio::test]
async fn a_block_that_no_gateway_has_fails_at_once_and_the_others_come() {
    let server = gateway(0..10).await;
    let (exchange, _tasks) = exchange(vec![server.url()]);
    let mut session = exchange.session();
    session.want(cids(5..11)).await.unwrap();
    let (mut kinds, mut count) = (Vec::new(), 0);
    while let Some(result) = session.recv().await {
        match result {
            Ok(_) => count += 1,
            Err(error) => kinds.push(error.kind()),
        }
    }
    assert_eq!((kinds, count), (vec![Kind::NotLocal], 5));
}

#[tokio::test]
async fn what_a_gateway_refuses_is_refused_for_its_reason() {
    for (code, kind) in [(410, Kind::Blocked), (451, Kind::BlockedByLaw), (504, Kind::Timeout)] {
        let server = Server::start(move |_| status(code)).await;
        let (exchange, _tasks) = exchange(vec![server.url()]);
        let mut session = exchange.session();
        session.want(cids(0..1)).await.unwrap();
        assert_eq!(session.recv().await.unwrap().unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_gateway_that_lies_is_passed_over() {
    let (liar, honest) = (Server::start(|_| body("other")).await, gateway(0..1).await);
    let (exchange, _tasks) = exchange(vec![liar.url(), honest.url()]);
    let mut session = exchange.session();
    session.want(cids(0..1)).await.unwrap();
    assert_eq!(receive(&mut session, 1).await, cids(0..1));
}

#[tokio::test]
async fn two_sessions_that_want_a_block_share_one_request_and_a_dropped_one_takes_its_own_back() {
    // The server answers once it is let, on a thread of its own.
    let (gate, asked) = (Arc::new(Barrier::new(2)), Arc::new(Notify::new()));
    let (inner, told) = (Arc::clone(&gate), Arc::clone(&asked));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.spawn(Server::start(move |_| {
        told.notify_one();
        inner.wait();
        body(content(0))
    }));
    let server = server.await.unwrap();
    let (exchange, _tasks) = exchange(vec![server.url()]);
    let (mut one, mut two) = (exchange.session(), exchange.session());
    one.want(cids(0..1)).await.unwrap();
    asked.notified().await;
    two.want(cids(0..1)).await.unwrap();
    assert_eq!(two.progress().await.unwrap().want_count, 1);
    drop(one);
    assert_eq!(exchange.stat().await.unwrap().wantlist, cids(0..1), "somebody waits for it still");
    tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
    assert_eq!(receive(&mut two, 1).await, cids(0..1));
    assert_eq!(server.request_count(), 1);
    assert!(exchange.stat().await.unwrap().wantlist.is_empty());
    runtime.shutdown_background();
}
