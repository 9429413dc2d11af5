//! Writes the seeds of a target as files, where libFuzzer looks for them: `seeds TARGET FOLDER`.

use std::path::Path;

use weft_fuzz::targets::ALL;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = &arguments[..] else { panic!("seeds TARGET FOLDER") };
    let target = ALL.iter().find(|target| target.name == name).expect("one of fuzz/fuzz_targets");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(Path::new(folder).join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
