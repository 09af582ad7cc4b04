//! `kill -9` at any file call.

use cairn_tests::{Fault, run, shim};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{DEADLINE, Promises, World, child, count, seed};

const STEPS: usize = 30;
/// One in so many runs has its last backup restored, which copies and hashes all of it.
const RESTORED: usize = 4;

/// `CAIRN_TEST_KILLS` says how many.
#[tokio::test]
async fn a_process_killed_at_any_file_call_keeps_what_it_acknowledged() {
    let Some(shim) = shim() else { return };
    let kills = count("CAIRN_TEST_KILLS", 20);
    let seed = seed();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = cairn_tests::fast_folder();
    let (repo, calls) = (folder.path().join("repo"), folder.path().join("calls"));
    let world = World::make(&folder.path().join("world"), 0..16).await;

    let mut promises = Promises::default();
    let mut whole_run = child::command_with_backups(&world, &repo, seed, STEPS);
    shim.count(&mut whole_run, &repo, &calls);
    promises.hear(&run(&mut whole_run, DEADLINE).text());
    promises.check(&world, &repo).await;
    promises.check_saved(&world, &repo).await;
    _ = std::fs::remove_dir_all(child::backups(&repo));
    let call_count: u64 = std::fs::read_to_string(&calls).unwrap().parse().unwrap();

    let (mut killed, mut restored) = (0, 0);
    for kill in 1..=kills {
        let at = random.random_range(1..=call_count);
        let mut command = child::command_with_backups(&world, &repo, seed.wrapping_add(kill as u64), STEPS);
        shim.inject(&mut command, &repo, Fault::Kill(at));
        let output = run(&mut command, DEADLINE);
        killed += usize::from(!output.status.success());
        println!("kill {kill} at call {at}");
        promises.hear(&String::from_utf8_lossy(&output.stdout));
        assert_eq!(promises.failures, Vec::<String>::new());
        promises.check(&world, &repo).await;
        if kill % RESTORED == 0 {
            restored += usize::from(promises.check_saved(&world, &repo).await);
        }
        promises.saved = None;
        _ = std::fs::remove_dir_all(child::backups(&repo));
    }
    println!("{killed} kills, {} operations acknowledged, {restored} backups restored", promises.done_count);
    assert!(killed * 2 > kills, "most runs are killed, killed={killed}");
}
