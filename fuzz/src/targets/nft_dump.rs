//! nf_tables' dumps: what the kernel, or whoever writes into its tables, makes us read.
//!
//! Properties: nothing panics; the walk ends; whatever was found, the way from it to an empty table can be planned.

use weft_policy::model::World;
use weft_policy::nft::wire::messages;
use weft_policy::nft::{Dump, TableFlags, Transaction, create_table, names_our_table, parse_commit};
use weft_policy::ruleset::Ruleset;
use weft_policy::{Options, compile};

pub fn run(data: &[u8]) {
    let mut dump = Dump::default();
    for message in messages(data) {
        names_our_table(&message);
        parse_commit(&message);
        dump.absorb(&message);
    }
    let want = Ruleset::default();
    let have = dump.recognise(&want);
    for batch in Transaction::diff(&want, &have).batches(1) {
        assert!(!batch.bytes().is_empty());
    }
}

/// What we send looks like what we are sent.
pub fn seeds() -> Vec<Vec<u8>> {
    let ruleset = compile(&World::default(), &[], &Options::default()).ruleset;
    let batches = Transaction::diff(&ruleset, &Ruleset::default()).batches(1);
    let table = create_table(TableFlags::Owned, 1).bytes().to_vec();
    let mut seeds: Vec<_> = batches.iter().map(|batch| batch.bytes().to_vec()).collect();
    seeds.push(table);
    seeds
}
