//! Power cuts: a run is recorded, and folders are made of it that a crash could have left.

use cairn_tests::{Recording, run, shim};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{DEADLINE, Promises, World, child, count, seed};

/// Images of one run; then another run is recorded.
const IMAGES: usize = 100;
const STEPS: usize = 25;

/// `CAIRN_TEST_IMAGES` says how many.
#[tokio::test]
async fn what_a_power_cut_leaves_has_everything_that_was_acknowledged() {
    let Some(shim) = shim() else { return };
    let images = count("CAIRN_TEST_IMAGES", 200);
    let seed = seed();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = cairn_tests::fast_folder();
    let world = World::make(&folder.path().join("world"), 0..8).await;
    let (repo, log) = (folder.path().join("repo"), folder.path().join("log"));
    let mut recording = None;
    for image in 0..images {
        if image % IMAGES == 0 {
            for old in [&repo, &log] {
                _ = std::fs::remove_dir_all(old).or_else(|_| std::fs::remove_file(old));
            }
            let mut command = child::command(&world, &repo, seed.wrapping_add(image as u64), STEPS);
            Recording::record(shim, &mut command, &repo, &log);
            run(&mut command, DEADLINE).text();
            recording = Some(Recording::read(&repo, &log));
        }
        let recording = recording.as_ref().unwrap();
        let at = random.random_range(0..=recording.len());
        println!("image {image}, of {at} of {} events", recording.len());
        let crashed = cairn_tests::fast_folder();
        recording.image(at, crashed.path(), &mut random);
        let mut promises = Promises::default();
        promises.hear(&recording.said(at));
        promises.check(&world, crashed.path()).await;
    }
    println!("{images} crash images");
}
