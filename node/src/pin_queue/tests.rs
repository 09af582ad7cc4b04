use cairn_proto::cid::{Cid, HashFunction, RAW};

use super::*;
use crate::settings::StoreSettings;
use crate::store::{Store, Table};

fn open(dir: &std::path::Path) -> (Store, PinQueue) {
    let store = Store::open(dir, &StoreSettings::default()).unwrap();
    let queue = PinQueue::open(store.rows(Table::Pinning)).unwrap();
    (store, queue)
}

fn wanted(number: u8) -> WantedPin {
    let cid = Cid::new_v1(RAW, HashFunction::Sha2_256.multihash(&[number]));
    let kind = if number.is_multiple_of(2) { PinKind::Recursive } else { PinKind::Direct };
    WantedPin { path: ContentPath::from_cid(cid), kind, name: Some(format!("pin {number}")) }
}

fn error(kind: Kind) -> Error {
    Error::new(kind, "it failed")
}

#[tokio::test]
async fn the_queue_outlives_the_process_and_a_pin_that_was_given_up_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, queue) = open(dir.path());
    for number in 0..3 {
        queue.push(wanted(number)).await.unwrap();
    }
    assert!(queue.remove(&wanted(1).path).await.unwrap());
    assert!(!queue.remove(&wanted(1).path).await.unwrap());
    store.close().await.unwrap();
    drop((store, queue));

    let (store, queue) = open(dir.path());
    let mut pins: Vec<_> = queue.list().into_iter().map(|queued| queued.pin).collect();
    pins.sort_by_key(|pin| pin.name.clone());
    assert_eq!(pins, [wanted(0), wanted(2)]);
    assert!(queue.list().iter().all(|queued| queued.status == PinStatus::Queued));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_name_of_the_longest_length_is_queued_and_one_byte_more_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, queue) = open(dir.path());
    let named = |len| WantedPin { name: Some("x".repeat(len)), ..wanted(0) };
    queue.push(named(MAX_PIN_NAME_BYTES)).await.unwrap();
    assert_eq!(queue.push(named(MAX_PIN_NAME_BYTES + 1)).await.unwrap_err().kind(), Kind::Invalid);
    store.close().await.unwrap();
}

#[test]
fn what_can_never_succeed_is_told_from_what_may() {
    let path = wanted(0).path;
    let name = ContentPath::parse("/ipns/example.com").unwrap();
    for kind in [Kind::Invalid, Kind::Blocked, Kind::BlockedByLaw] {
        assert!(is_final(&path, &error(kind)), "{kind:?}");
    }
    for kind in [Kind::Timeout, Kind::Unavailable, Kind::NotLocal, Kind::Full, Kind::Internal] {
        assert!(!is_final(&path, &error(kind)), "{kind:?}");
    }
    assert!(is_final(&path, &error(Kind::NotFound)));
    assert!(!is_final(&name, &error(Kind::NotFound)));
}

#[test]
fn pauses_double_up_to_the_longest() {
    let (first, longest) = RETRY_DELAYS;
    assert_eq!([1, 2, 3].map(retry_delay), [first, first * 2, first * 4]);
    assert_eq!([20, u32::MAX].map(retry_delay), [longest, longest]);
}
