//! Each target on its seeds, on what was found before, and on mutations of both: the same in every run.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by stopping")]

use std::path::Path;

use weft_fuzz::Target;
use weft_fuzz::mutate::{Random, child};
use weft_fuzz::targets::ALL;

/// For each target. `WEFT_FUZZ_CASES` sets another number, `WEFT_FUZZ_SEED` another beginning.
const CASES: u64 = 4_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn regressions(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name);
    let Ok(files) = std::fs::read_dir(dir) else { return Vec::new() };
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn survives(name: &str) {
    let target = ALL.iter().find(|target| target.name == name).unwrap();
    let mut inputs = (target.seeds)();
    inputs.extend(regressions(target));
    inputs.iter().for_each(|input| (target.run)(input));
    let first = setting("WEFT_FUZZ_SEED", 1);
    for seed in first..first + setting("WEFT_FUZZ_CASES", CASES) {
        let input = child(&mut Random::new(seed), &inputs, target.words);
        if let Err(panic) = std::panic::catch_unwind(|| (target.run)(&input)) {
            let file = std::env::temp_dir().join(format!("weft-fuzz-{name}-{seed}"));
            std::fs::write(&file, &input).unwrap();
            eprintln!("{name} fell with WEFT_FUZZ_SEED={seed}; the input is in {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
}

macro_rules! survive {
    ($($name:ident)*) => {
        $(#[test] fn $name() { survives(stringify!($name)); })*

        #[test]
        fn every_target_is_run() {
            assert_eq!(ALL.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

survive! { bfd bgp_message bgp_session cni_call cni_frame cni_journal link_alias netlink nft_dump objects }
