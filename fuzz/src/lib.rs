//! Everything that decodes what others wrote, fed with what nobody would write.
//!
//! A target is a function of bytes that returns, or panics and so names a fault: in our code, or of a property that it
//! states. Two drivers run the same targets: `cargo test -p weft-fuzz` a fixed number of random mutations of the seeds
//! ([`mutate`]), on any toolchain and with the same inputs each time; `make fuzz` libFuzzer, which looks for inputs
//! that reach new code. What either finds is kept in `fuzz/regressions/TARGET/` and runs with every test.

pub mod mutate;
pub mod targets;

/// What is run, and inputs to begin with that are mostly well-formed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As its program, its folder of regressions, and `make fuzz TARGET=`.
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What is random in it, beside the seeds' bytes: JSON and YAML are mutated by words as well as by bits.
    pub words: &'static [&'static str],
}
