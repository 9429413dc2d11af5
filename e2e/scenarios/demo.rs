//! `make demo` tells a true story: every step of it is checked, and it is the same story.

use weft_e2e::demo;
use weft_e2e::lab::LabSpec;

use crate::story::raise;

#[test]
fn the_demo_tells_its_whole_story() {
    let lab = raise("demo-story", &LabSpec::default());
    demo::tell(&lab, &mut std::io::stdout()).unwrap();
}
