use std::time::{Duration, Instant};

use super::*;
use crate::cid::{RAW, SHA2_256};

const SESSION: SessionId = SessionId(1);
const A: PeerKey = PeerKey(1);
const B: PeerKey = PeerKey(2);
const C: PeerKey = PeerKey(3);
const LEN: usize = 1000;

pub(super) fn cid(number: usize) -> Cid {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    Cid::new_v1(RAW, Multihash::wrap(SHA2_256, &digest).unwrap())
}

/// Where virtual time begins.
#[allow(clippy::disallowed_methods, reason = "an instant can be had in no other way; only differences count")]
pub(super) fn some_time() -> Instant {
    Instant::now()
}

fn hash(number: usize) -> Multihash {
    *cid(number).hash()
}

fn number(cid: &Cid) -> usize {
    usize::from_be_bytes(cid.hash().digest()[..8].try_into().unwrap())
}

/// A client at a time that moves only when told.
struct Scene {
    client: Client,
    now: Instant,
}

impl Scene {
    fn new(peers: &[PeerKey]) -> Self {
        let mut scene = Self { client: Client::default(), now: some_time() };
        scene.client.open(SESSION);
        for peer in peers {
            scene.client.connect(*peer, false, scene.now);
        }
        scene
    }

    fn want(&mut self, numbers: impl IntoIterator<Item = usize>) {
        self.client.want(SESSION, numbers.into_iter().map(cid), self.now);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + TICK).min(end);
            self.client.tick(self.now);
        }
    }

    /// What a peer is told, as `block 1`, `have 1` or `cancel 1`.
    fn told(&mut self, peer: PeerKey) -> Vec<String> {
        let word = |entry: &WantEntry| match entry {
            WantEntry::Cancel(cid) => format!("cancel {}", number(cid)),
            WantEntry::Want { cid, kind: WantKind::Block, .. } => format!("block {}", number(cid)),
            WantEntry::Want { cid, kind: WantKind::Have, .. } => format!("have {}", number(cid)),
        };
        self.client.take_entries(peer, self.now).iter().map(word).collect()
    }

    fn serve(&mut self, peer: PeerKey, number: usize) -> usize {
        self.client.on_block(peer, &hash(number), LEN, self.now).len()
    }

    /// Lets a peer show that it serves, in a session of its own.
    fn trust(&mut self, peer: PeerKey) {
        let (session, number) = (SessionId(1_000_000 + peer.0), usize::try_from(1_000_000 + peer.0).unwrap());
        self.client.open(session);
        self.client.add_provider(session, peer, self.now);
        self.client.want(session, [cid(number)], self.now);
        assert_eq!((self.told(peer), self.serve(peer, number)), (vec![format!("block {number}")], 1));
        self.client.close(session);
        self.client.add_provider(SESSION, peer, self.now);
    }

    fn presence(&mut self, peer: PeerKey, number: usize, presence: Presence) {
        self.client.on_presence(peer, &hash(number), presence, self.now);
    }

    fn searched(&mut self) -> Vec<usize> {
        self.client.take_searches().iter().map(|search| number(&search.cid)).collect()
    }
}

#[test]
fn the_only_peer_is_asked_for_the_block_at_once() {
    let mut scene = Scene::new(&[A]);
    scene.want([1]);
    assert_eq!(scene.told(A), ["block 1"]);
    assert_eq!(scene.serve(A, 1), 1);
    assert!(scene.told(A).is_empty(), "who served is sent no cancel");
    assert_eq!(scene.client.next_tick(), None);
}

#[test]
fn unknown_peers_are_asked_whether_they_have_the_first_block() {
    let mut scene = Scene::new(&[A, B]);
    scene.want([1]);
    assert_eq!((scene.told(A), scene.told(B)), (vec!["have 1".into()], vec!["have 1".into()]));
    scene.presence(B, 1, Presence::Have);
    assert!(scene.told(A).is_empty());
    assert_eq!(scene.told(B), ["block 1"]);
}

#[test]
fn who_served_the_session_is_asked_for_every_further_block_without_a_round_trip() {
    let mut scene = Scene::new(&[A, B]);
    scene.want([1]);
    assert_eq!(scene.told(B), ["have 1"]);
    scene.presence(A, 1, Presence::Have);
    scene.serve(A, 1);
    scene.told(A);
    assert_eq!(scene.told(B), ["cancel 1"]);
    scene.want(2..12);
    assert_eq!(scene.told(A).len(), 10);
    assert!(scene.told(B).is_empty());
}

#[test]
fn a_window_of_any_size_is_asked_for_up_to_the_limit_and_refilled_in_order() {
    let mut scene = Scene::new(&[A]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.want(0..MAX_WANTS_IN_FLIGHT + 2);
    assert_eq!(scene.told(A).len(), MAX_WANTS_IN_FLIGHT);
    assert!(scene.told(A).is_empty());
    scene.serve(A, 5);
    assert_eq!(scene.told(A), [format!("block {MAX_WANTS_IN_FLIGHT}")]);
}

#[test]
fn older_wants_have_the_higher_priority() {
    let mut scene = Scene::new(&[A]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.want(0..3);
    let entries = scene.client.take_entries(A, scene.now);
    let priorities: Vec<_> = entries
        .iter()
        .map(|entry| match entry {
            WantEntry::Want { priority, .. } => *priority,
            WantEntry::Cancel(_) => panic!("no cancels"),
        })
        .collect();
    assert!(priorities.is_sorted_by(|a, b| a > b), "{priorities:?}");
}

#[test]
fn a_want_goes_elsewhere_when_its_peer_lacks_it() {
    let mut scene = Scene::new(&[A, B]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.want([1]);
    assert_eq!(scene.told(A), ["block 1"]);
    scene.presence(A, 1, Presence::DontHave);
    assert_eq!(scene.told(B), ["have 1"]);
    scene.presence(B, 1, Presence::Have);
    assert_eq!(scene.told(B), ["block 1"]);
    scene.serve(B, 1);
    assert_eq!(scene.told(A), ["cancel 1"], "who lacked it has it on its list still");
}

#[test]
fn a_want_goes_elsewhere_when_its_peer_leaves() {
    let mut scene = Scene::new(&[A, B]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.want([1]);
    scene.client.add_provider(SESSION, B, scene.now);
    assert_eq!(scene.client.disconnect(A, scene.now), [SESSION]);
    assert_eq!(scene.told(B), ["block 1"]);
}

#[test]
fn a_want_goes_elsewhere_when_its_peer_stalls_and_not_while_bytes_come() {
    let mut scene = Scene::new(&[A, B]);
    scene.trust(A);
    scene.want([1]);
    scene.told(A);
    scene.client.add_provider(SESSION, B, scene.now);
    for _ in 0..3 {
        scene.pass(STALL_AFTER - TICK);
        scene.client.on_bytes(A, 5000, scene.now);
    }
    assert!(scene.told(B).is_empty());
    scene.pass(STALL_AFTER);
    assert_eq!(scene.told(B), ["block 1"]);
    scene.serve(B, 1);
    assert_eq!(scene.told(A), ["cancel 1"]);
}

#[test]
fn bytes_that_come_too_slowly_or_bring_no_block_are_no_sign_of_life() {
    for step_bytes in [1, 4 << 20] {
        let mut scene = Scene::new(&[A]);
        scene.trust(A);
        scene.want([1]);
        scene.told(A);
        scene.client.connect(B, false, scene.now);
        scene.client.add_provider(SESSION, B, scene.now);
        let pass = |scene: &mut Scene, steps| {
            for _ in 0..steps {
                scene.pass(Duration::from_secs(1));
                scene.client.on_bytes(A, step_bytes, scene.now);
            }
        };
        pass(&mut scene, 2);
        assert!(scene.told(B).is_empty(), "step_bytes={step_bytes}");
        pass(&mut scene, 4);
        assert_eq!(scene.told(B), ["block 1"], "step_bytes={step_bytes}");
    }
}

#[test]
fn who_sends_what_nobody_asked_for_has_stalled_however_much_it_sends() {
    let mut scene = Scene::new(&[A]);
    scene.trust(A);
    scene.want([1]);
    scene.told(A);
    scene.client.connect(B, false, scene.now);
    scene.client.add_provider(SESSION, B, scene.now);
    let mut sent = 1000;
    for _ in 0..50 {
        scene.pass(Duration::from_millis(100));
        for _ in 0..20 {
            sent += 1;
            assert_eq!(scene.serve(A, sent), 0);
        }
    }
    assert_eq!(scene.told(B), ["block 1"]);
    // What it was asked for is taken all the same.
    assert_eq!(scene.serve(A, 1), 1);
}

#[test]
fn a_peer_with_nothing_to_do_takes_over_from_one_that_is_silent() {
    let mut scene = Scene::new(&[A, B]);
    scene.trust(A);
    scene.trust(B);
    scene.want(0..8);
    let of_b = scene.told(B);
    assert_eq!((scene.told(A).len(), of_b.len()), (4, 4));
    for number in (0..8).filter(|number| !of_b.contains(&format!("block {number}"))) {
        scene.serve(A, number);
    }
    assert!(scene.told(A).is_empty());
    // Longer than a round trip, and less than a stall.
    scene.pass(STALL_AFTER / 2);
    assert_eq!(scene.told(A), of_b[2..]);
    assert_eq!(
        scene.told(B),
        of_b[2..].iter().map(|told| told.replace("block", "cancel")).collect::<Vec<_>>()
    );
}

#[test]
fn a_cairn_node_that_has_served_gets_more_wants_than_another_peer() {
    let in_flight = |is_kin| {
        let mut scene = Scene::new(&[A]);
        scene.client.add_provider(SESSION, A, scene.now);
        if is_kin {
            scene.client.is_kin(A);
        }
        scene.want(0..2 * MAX_WANTS_AT_KIN);
        let mut asked = 0;
        for served in 0..MAX_WANTS_IN_FLIGHT {
            asked +=
                std::iter::repeat_with(|| scene.told(A).len()).take_while(|count| *count > 0).sum::<usize>();
            assert_eq!(asked - served, MAX_WANTS_IN_FLIGHT);
            scene.serve(A, served);
        }
        asked += std::iter::repeat_with(|| scene.told(A).len()).take_while(|count| *count > 0).sum::<usize>();
        asked - MAX_WANTS_IN_FLIGHT
    };
    assert_eq!(in_flight(false), MAX_WANTS_IN_FLIGHT);
    assert_eq!(in_flight(true), MAX_WANTS_AT_KIN);
}

#[test]
fn the_only_provider_is_asked_again_when_it_stalls_for_long() {
    let mut scene = Scene::new(&[A]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.want([1]);
    assert_eq!(scene.told(A), ["block 1"]);
    scene.pass(STALL_AFTER + ASK_AGAIN_AFTER + TICK);
    assert_eq!(scene.told(A), ["block 1"]);
}

#[test]
fn a_want_passed_by_many_later_ones_is_asked_for_again() {
    let mut scene = Scene::new(&[A]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.want(0..100);
    scene.told(A);
    scene.pass(Duration::from_secs(2));
    (1..100).for_each(|number| {
        scene.serve(A, number);
    });
    scene.want(100..170);
    scene.told(A);
    for number in 100..170 {
        scene.pass(TICK);
        scene.serve(A, number);
    }
    scene.pass(TICK);
    assert_eq!(scene.told(A), ["block 0"]);
}

#[test]
fn providers_are_searched_at_once_when_nobody_can_be_asked() {
    let mut scene = Scene::new(&[]);
    scene.want([1]);
    assert_eq!(scene.searched(), [1]);
    scene.pass(SEARCH_AGAIN.0 - TICK);
    assert!(scene.searched().is_empty());
    scene.pass(TICK);
    assert_eq!(scene.searched(), [1]);
}

#[test]
fn providers_are_searched_after_a_delay_when_peers_do_not_answer_and_at_once_when_all_lack_it() {
    let mut scene = Scene::new(&[A, B]);
    scene.want([1]);
    scene.pass(SEARCH_DELAY - TICK);
    assert!(scene.searched().is_empty());
    scene.pass(TICK);
    assert_eq!(scene.searched(), [1]);

    let mut scene = Scene::new(&[A, B]);
    scene.want([1]);
    scene.presence(A, 1, Presence::DontHave);
    assert!(scene.searched().is_empty());
    scene.presence(B, 1, Presence::DontHave);
    assert_eq!(scene.searched(), [1]);
}

#[test]
fn a_silent_peer_without_a_record_does_not_delay_the_search_or_its_provider() {
    let mut scene = Scene::new(&[A]);
    scene.want([1]);
    assert_eq!(scene.told(A), ["block 1"]);
    scene.pass(SEARCH_DELAY);
    assert_eq!(scene.searched(), [1]);
    scene.client.connect(B, false, scene.now);
    scene.client.add_provider(SESSION, B, scene.now);
    assert_eq!(scene.told(B), ["block 1"]);
}

#[test]
fn a_peer_that_connects_is_asked_for_what_nobody_has() {
    let mut scene = Scene::new(&[A, B]);
    scene.want([1]);
    scene.client.connect(C, false, scene.now);
    assert_eq!(scene.told(C), ["have 1"]);
}

#[test]
fn only_so_many_strangers_are_asked_but_every_local_peer() {
    let strangers: Vec<_> = (100..100 + MAX_STRANGERS as u64 + 5).map(PeerKey).collect();
    let mut scene = Scene::new(&strangers);
    let locals: Vec<_> = (200..220).map(PeerKey).collect();
    locals.iter().for_each(|peer| scene.client.connect(*peer, true, scene.now));
    scene.want([1]);
    let asked = |scene: &mut Scene, peers: &[PeerKey]| {
        peers.iter().filter(|peer| !scene.told(**peer).is_empty()).count()
    };
    assert_eq!(asked(&mut scene, &strangers), MAX_STRANGERS);
    assert_eq!(asked(&mut scene, &locals), locals.len());
}

#[test]
fn at_most_so_many_wants_are_asked_about_at_a_time_and_all_in_the_end() {
    let mut scene = Scene::new(&[A, B]);
    scene.want(0..MAX_PROBES + 1);
    assert_eq!(scene.told(A).len(), MAX_PROBES);
    scene.presence(A, 0, Presence::DontHave);
    scene.presence(B, 0, Presence::DontHave);
    assert_eq!(scene.told(A), [format!("have {MAX_PROBES}")]);
}

#[test]
fn a_cancelled_want_is_taken_back_from_all_who_were_told_and_only_from_them() {
    let mut scene = Scene::new(&[A, B]);
    scene.want([1, 2]);
    scene.told(A);
    scene.client.cancel(SESSION, [cid(1)]);
    assert_eq!(scene.told(A), ["cancel 1"]);
    assert_eq!(scene.told(B), ["have 2"], "never told of 1");
    scene.client.close(SESSION);
    assert_eq!(scene.told(A), ["cancel 2"]);
    assert_eq!(scene.client.want_count(), 0);
}

#[test]
fn a_want_taken_back_and_renewed_before_the_peer_heard_is_not_cancelled() {
    let mut scene = Scene::new(&[A]);
    scene.want([1]);
    scene.told(A);
    scene.client.cancel(SESSION, [cid(1)]);
    scene.want([1]);
    assert_eq!(scene.told(A), ["block 1"]);
}

#[test]
fn a_block_wanted_by_two_sessions_is_asked_for_once_and_goes_to_both() {
    let mut scene = Scene::new(&[A]);
    scene.want([1]);
    scene.client.open(SessionId(2));
    scene.client.want(SessionId(2), [cid(1)], scene.now);
    assert_eq!(scene.told(A), ["block 1"]);
    scene.client.close(SESSION);
    assert!(scene.told(A).is_empty(), "the other session wants it still");
    assert_eq!(scene.client.on_block(A, &hash(1), LEN, scene.now), [(SessionId(2), cid(1))]);
}

#[test]
fn the_same_bytes_under_two_cids_are_asked_for_once_and_come_under_both() {
    let mut scene = Scene::new(&[A]);
    let other = Cid::new_v1(crate::cid::DAG_PB, hash(1));
    scene.client.want(SESSION, [cid(1), other], scene.now);
    assert_eq!(scene.told(A), ["block 1"]);
    let receivers = scene.client.on_block(A, &hash(1), LEN, scene.now);
    assert_eq!(receivers, [(SESSION, cid(1)), (SESSION, other)]);
}

#[test]
fn blocks_that_nobody_wants_go_nowhere() {
    let mut scene = Scene::new(&[A]);
    assert_eq!(scene.serve(A, 1), 0);
    scene.want([1]);
    assert_eq!(scene.serve(A, 1), 1);
    assert_eq!(scene.serve(A, 1), 0, "twice");
}

#[test]
fn a_peer_of_an_old_version_is_asked_for_blocks_only() {
    let mut scene = Scene::new(&[A, B]);
    scene.want([1]);
    assert_eq!(scene.told(A), ["have 1"]);
    scene.client.knows_no_presences(A, scene.now);
    assert_eq!(scene.told(A), ["block 1"]);
}

#[test]
fn a_session_that_found_no_room_gets_some_before_the_one_that_took_it_all() {
    let mut scene = Scene::new(&[A]);
    scene.client.open(SessionId(2));
    for session in [SESSION, SessionId(2)] {
        scene.client.add_provider(session, A, scene.now);
    }
    scene.want(0..2 * MAX_WANTS_IN_FLIGHT);
    let late = 1_000_000;
    scene.client.want(SessionId(2), [cid(late)], scene.now);
    scene.told(A);
    scene.serve(A, 0);
    scene.serve(A, 1);
    assert!(scene.told(A).contains(&format!("block {late}")));
}

#[test]
fn work_is_split_by_speed_and_the_slow_one_is_relieved_at_the_end() {
    let mut scene = Scene::new(&[A, B]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.client.add_provider(SESSION, B, scene.now);
    scene.want(0..400);
    let (mut owed_by_a, mut owed_by_b) = (Vec::new(), Vec::new());
    let mut served = [0, 0];
    // A serves ten blocks in the time of one of B.
    for step in 0..4000 {
        scene.now += Duration::from_millis(10);
        if step % 20 == 0 {
            scene.client.tick(scene.now);
        }
        for (peer, owed, is_turn, count) in
            [(A, &mut owed_by_a, true, 0), (B, &mut owed_by_b, step % 10 == 0, 1)]
        {
            for entry in scene.client.take_entries(peer, scene.now) {
                match entry {
                    WantEntry::Want { cid, .. } => owed.push(cid),
                    WantEntry::Cancel(cancelled) => owed.retain(|cid| *cid != cancelled),
                }
            }
            if is_turn && !owed.is_empty() {
                let cid = owed.remove(0);
                served[count] += scene.client.on_block(peer, cid.hash(), LEN, scene.now).len();
            }
        }
        if scene.client.want_count() == 0 {
            // Alone A takes 400 steps, together they could do it in 364.
            assert!(step < 400, "took {step} steps, served {served:?}");
            return;
        }
    }
    panic!("not finished, served {served:?}");
}

#[test]
fn a_peer_is_needed_while_it_owes_a_block_or_a_session_that_it_served_is_open() {
    let mut scene = Scene::new(&[A]);
    assert!(!scene.client.needs(A));
    scene.want([1]);
    scene.told(A);
    assert!(scene.client.needs(A) && scene.client.may_serve(A));
    scene.serve(A, 1);
    assert!(scene.client.needs(A) && !scene.client.may_serve(A));
    scene.client.close(SESSION);
    assert!(!scene.client.needs(A));
}

#[test]
fn providers_are_searched_at_once_when_the_one_of_the_session_has_left() {
    let mut scene = Scene::new(&[]);
    scene.want([1]);
    assert_eq!(scene.searched(), [1]);
    scene.client.connect(A, false, scene.now);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.serve(A, 1);
    scene.client.disconnect(A, scene.now);
    scene.want([2]);
    assert_eq!(scene.searched(), [2]);
}

#[test]
fn a_peer_that_lacked_a_block_is_asked_again_with_the_next_search() {
    for is_proven in [false, true] {
        let mut scene = Scene::new(&[A, B]);
        if is_proven {
            scene.client.add_provider(SESSION, A, scene.now);
        }
        scene.want([1]);
        scene.told(A);
        scene.told(B);
        scene.presence(A, 1, Presence::DontHave);
        scene.told(B);
        scene.presence(B, 1, Presence::DontHave);
        assert_eq!(scene.searched(), [1]);
        assert!(scene.told(A).is_empty() && scene.told(B).is_empty());
        scene.pass(SEARCH_AGAIN.0);
        assert_eq!(scene.searched(), [1]);
        assert_eq!(scene.told(A), [if is_proven { "block 1" } else { "have 1" }]);
    }
}

#[test]
fn everything_wanted_before_a_peer_came_is_asked_of_it_once_it_has_served_a_block() {
    let mut scene = Scene::new(&[]);
    let count = 3 * MAX_PROBES;
    scene.want(0..count);
    scene.client.connect(A, false, scene.now);
    assert_eq!(scene.told(A).len(), MAX_PROBES);
    scene.serve(A, 0);
    assert_eq!(scene.told(A).len(), count - MAX_PROBES);
}

#[test]
fn peers_that_never_served_are_found_out_side_by_side() {
    let peers: Vec<_> = (1..=10).map(PeerKey).collect();
    let mut scene = Scene::new(&peers);
    scene.want([1]);
    for peer in &peers {
        scene.told(*peer);
        scene.presence(*peer, 1, Presence::Have);
    }
    let mut asked = Vec::new();
    for _ in 0..5 {
        asked.push(peers.iter().filter(|peer| !scene.told(**peer).is_empty()).count());
        scene.pass(TICK);
    }
    assert_eq!(asked, [1, 2, 6, 1, 0]);
    assert_eq!(scene.serve(peers[0], 1), 1);
    assert!(peers[1..].iter().all(|peer| scene.told(*peer) == ["cancel 1"]));
}

#[test]
fn others_are_not_asked_before_an_honest_peer_could_have_answered() {
    let mut scene = Scene::new(&[A, B]);
    scene.want([1]);
    scene.told(A);
    scene.told(B);
    // Far away.
    let round_trip = 2 * TICK;
    scene.pass(round_trip);
    scene.presence(A, 1, Presence::Have);
    scene.presence(B, 1, Presence::Have);
    assert_eq!(scene.told(A), ["block 1"]);
    scene.pass(round_trip);
    // A long block on a thin line.
    for _ in 0..10 {
        scene.client.on_bytes(A, 10_000, scene.now);
        scene.pass(2 * round_trip);
    }
    assert!(scene.told(B).is_empty());
    scene.pass(round_trip);
    assert_eq!(scene.told(B), ["block 1"]);
}

#[test]
fn a_peer_that_never_served_is_put_to_the_test_with_one_block() {
    let mut scene = Scene::new(&[A, B]);
    scene.trust(A);
    scene.client.add_provider(SESSION, B, scene.now);
    scene.want(0..20);
    assert_eq!((scene.told(A).len(), scene.told(B)), (18, vec!["block 1".into()]), "one waits");
    scene.serve(B, 1);
    scene.want(20..40);
    assert_eq!(scene.told(B).len(), 18);
}

#[test]
fn what_a_doubtful_peer_owes_goes_to_one_that_has_served_and_only_the_first_is_asked_of_both() {
    let mut scene = Scene::new(&[A, B]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.client.add_provider(SESSION, B, scene.now);
    scene.want(0..8);
    let (of_a, of_b) = (scene.told(A), scene.told(B));
    assert_eq!((of_a.len(), of_b.len()), (4, 4));
    for number in (0..8).filter(|number| of_a.contains(&format!("block {number}"))) {
        scene.serve(A, number);
    }
    scene.pass(3 * TICK);
    let mut moved = scene.told(A);
    moved.sort_unstable();
    assert_eq!(moved, of_b);
    let cancelled: Vec<_> = of_b[1..].iter().map(|told| told.replace("block", "cancel")).collect();
    assert_eq!(scene.told(B), cancelled);
}

#[test]
fn a_doubtful_peer_is_tried_again_after_longer_and_longer() {
    let mut scene = Scene::new(&[A, B]);
    scene.trust(A);
    scene.client.add_provider(SESSION, B, scene.now);
    let mut tried = Vec::new();
    for number in 0..150 {
        scene.want([number]);
        scene.pass(TICK);
        if scene.told(B).contains(&format!("block {number}")) {
            tried.push(number);
        }
        scene.told(A);
        scene.serve(A, number.saturating_sub(5));
    }
    let waits: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 3 && waits.is_sorted_by(|a, b| 2 * a - 6 <= *b), "{tried:?}");
}

#[test]
fn a_block_that_another_served_first_shows_that_a_peer_serves() {
    let mut scene = Scene::new(&[A, B]);
    scene.trust(A);
    scene.client.add_provider(SESSION, B, scene.now);
    scene.want(0..2);
    assert_eq!((scene.told(A), scene.told(B)), (vec!["block 0".into()], vec!["block 1".into()]));
    scene.pass(4 * TICK);
    assert_eq!(scene.told(A), ["block 1"]);
    scene.serve(A, 1);
    assert_eq!(scene.told(B), ["cancel 1"]);
    assert!(scene.client.may_serve(B));
    assert_eq!(scene.serve(B, 1), 0);
    assert!(!scene.client.may_serve(B));
    scene.want(2..20);
    assert!(scene.told(B).len() > 1);
}

#[test]
fn wrong_blocks_do_not_make_a_peer_one_that_serves() {
    let mut scene = Scene::new(&[A, B]);
    scene.client.add_provider(SESSION, A, scene.now);
    scene.client.add_provider(SESSION, B, scene.now);
    scene.want([1]);
    for wrong in 100..104 {
        scene.serve(A, wrong);
        scene.serve(B, wrong);
        scene.pass(TICK);
    }
    assert_eq!((scene.told(A), scene.told(B)), (vec!["block 1".into()], vec!["block 1".into()]));
}

#[test]
fn providers_are_searched_however_many_promise_a_block_and_never_send_it() {
    let liars: Vec<_> = (1..=9).map(PeerKey).collect();
    let mut scene = Scene::new(&liars);
    scene.want([1]);
    let mut search_count = 0;
    for _ in 0..600 {
        for liar in &liars {
            scene.told(*liar);
            scene.presence(*liar, 1, Presence::Have);
        }
        scene.pass(TICK);
        search_count += scene.searched().len();
    }
    assert!(search_count >= 3, "{search_count} searches in a minute");
}
