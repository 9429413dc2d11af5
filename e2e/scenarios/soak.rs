//! What `make soak` does for hours, here for some steps: whatever can happen, held against a reference model. And
//! stories that are told for good: those that it failed at, made short.

use std::path::Path;

use weft_e2e::soak::run::{self, End};

use crate::story::programs;

/// Bounded in steps, not in time: a busy machine needs longer for the same.
const STEPS: usize = 30;

#[track_caller]
fn drawn_from(seed: u64) {
    let name = format!("soak-{seed}-{}", std::process::id());
    let counts = run::from_seed(&name, seed, End::Steps(STEPS), None, &programs()).unwrap();
    println!("seed {seed}: {counts}");
}

#[test]
fn agrees_with_the_model_whatever_seed_4_draws() {
    drawn_from(4);
}

#[test]
fn agrees_with_the_model_whatever_seed_2_draws() {
    drawn_from(2);
}

#[test]
fn agrees_with_the_model_whatever_seed_12_draws() {
    drawn_from(12);
}

#[test]
fn stories_that_are_kept_agree_with_the_model() {
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("soak");
    for entry in std::fs::read_dir(stories).unwrap() {
        let path = entry.unwrap().path();
        let story = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let name = format!("story-{}", std::process::id());
        let outcome = run::story(&name, &story, &programs());
        println!("{}: {}", path.display(), outcome.unwrap());
    }
}
