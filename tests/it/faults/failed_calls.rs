//! File calls that fail: an error that names the cause, no promise that is not kept, and a store that opens afterwards.

use std::path::Path;

use cairn_tests::{Fault, Node, Scratch, run, shim};

use super::{DEADLINE, Promises, World, child, count};

const STEPS: usize = 12;
/// A run that does every operation.
const SEED: u64 = 3;

/// Every so many calls fail; 1 for each of them. `CAIRN_TEST_CALL_STRIDE` changes it.
const STRIDE: usize = 20;

#[tokio::test]
async fn whichever_file_call_fails_nothing_false_is_promised_and_the_store_opens_again() {
    let Some(shim) = shim() else { return };
    let stride = count("CAIRN_TEST_CALL_STRIDE", STRIDE);
    let folder = cairn_tests::fast_folder();
    let world = World::make(&folder.path().join("world"), 0..8).await;
    let calls = folder.path().join("calls");
    let fresh = |name: &str| {
        let repo = folder.path().join(name);
        _ = std::fs::remove_dir_all(&repo);
        repo
    };
    let count_of = |fault: Option<Fault>| {
        let repo = fresh("counted");
        let mut command = child::command(&world, &repo, SEED, STEPS);
        if let Some(fault) = fault {
            shim.inject(&mut command, &repo, fault);
        }
        shim.count(&mut command, &repo, &calls);
        run(&mut command, DEADLINE).text();
        std::fs::read_to_string(&calls).unwrap().parse::<usize>().unwrap()
    };
    // A fault that never comes: only then are syncs counted alone.
    let (call_count, sync_count) = (count_of(None), count_of(Some(Fault::Sync(0))));
    type AtCall = fn(u64) -> Fault;
    let kinds: [(AtCall, usize); 4] = [
        (Fault::Eio, call_count),
        (Fault::Enospc, call_count),
        (Fault::Short, call_count),
        (Fault::Sync, sync_count),
    ];
    let (mut runs, mut refused) = (0, 0);
    for (kind, call_count) in kinds {
        for at in (1..=call_count as u64).step_by(stride) {
            let fault = kind(at);
            println!("{fault:?}");
            let repo = fresh("hurt");
            let mut command = child::command(&world, &repo, SEED, STEPS);
            shim.inject(&mut command, &repo, fault);
            let output = run(&mut command, DEADLINE);
            // No panic and no abort: what fails is told.
            let said = output.text();
            assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
            let mut promises = Promises::default();
            promises.hear(&said);
            check_words(&promises, fault);
            promises.check(&world, &repo).await;
            runs += 1;
            refused += usize::from(!promises.failures.is_empty());
        }
    }
    println!("{runs} runs with a failed call, {refused} of them told of it");
}

/// What is said of the failure tells its cause, and that nothing is written any more.
fn check_words(promises: &Promises, fault: Fault) {
    let Some(first) = promises.failures.first() else { return };
    let cause = if matches!(fault, Fault::Enospc(_)) { "full" } else { "nput/output error" };
    assert!(first.contains(cause), "{fault:?}: {:#?}", promises.failures);
    if let (Fault::Sync(_), Some(last)) = (fault, promises.failures.last()) {
        let read_only = promises.failures.len() == 1 || last.contains("store is read-only");
        assert!(read_only, "{fault:?}: {:?}", promises.failures);
    }
}

#[test]
fn a_command_whose_file_calls_fail_says_so_and_exits_with_an_error() {
    let Some(shim) = shim() else { return };
    let scratch = Scratch::new();
    let file = scratch.random_file("file", 3_000_000, 9);
    let calls = scratch.path("calls");
    let node = Node::cairn();
    let add = |node: &Node, fault: Option<Fault>, calls: Option<&Path>| {
        let mut command = node.command(&["add", "-Q", "--progress=false"]);
        command.arg(&file);
        match (fault, calls) {
            (Some(fault), _) => shim.inject(&mut command, &node.repo(), fault),
            (_, Some(calls)) => shim.count(&mut command, &node.repo(), calls),
            _ => {}
        }
        run(&mut command, DEADLINE)
    };
    let root = add(&node, None, Some(&calls)).text();
    let call_count: u64 = std::fs::read_to_string(&calls).unwrap().parse().unwrap();
    for at in (1..=call_count).step_by(STRIDE) {
        let node = Node::cairn();
        let output = add(&node, Some(Fault::Eio(at)), None);
        if output.status.success() {
            assert_eq!(output.text(), root, "call {at}");
            assert_eq!(node.run(&["pin", "ls", "--type=recursive", "-q"]).text(), root, "call {at}");
        } else {
            assert!(output.error().contains("nput/output error"), "call {at}: {}", output.stderr);
            assert_eq!(output.stdout, b"", "call {at}");
            assert_eq!(add(&node, None, None).text(), root, "call {at}");
        }
    }
}
