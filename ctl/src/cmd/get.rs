//! `weftctl get`

use std::io::Write as _;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Outcome, print};
use crate::resource::{Selection, select};
use crate::whom::{ObjectsIn, Where};
use crate::{Output, client, render};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Which objects: a kind (`bgppeers`), several (`bgppeers,bgpfilters`) or `all`, then names if not all are wanted; or
    /// KIND/NAME as often as you like.
    #[arg(value_name = "KIND [NAME]", required_unless_present = "raw")]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    place: ObjectsIn,
    /// Ask the control API of this machine's agent for a path as it is, and print the status, then the body.
    #[arg(long, hide = true, value_name = "URI", conflicts_with = "what")]
    raw: Option<String>,
}

pub(crate) async fn run(options: &Options, place: &Where, output: Output) -> Result<Outcome> {
    if let Some(uri) = &options.raw {
        return raw(place, uri).await;
    }
    let selections = select(&options.what)?;
    let store = place.store(&options.place).await?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for selection in selections {
        let (objects, faults) = store.get(&selection).await?;
        missing.extend(faults);
        found.push((selection, objects));
    }
    match output {
        Output::Table | Output::Wide => tables(&found, output, missing.is_empty()),
        Output::Json | Output::Yaml => print(output, &document(&found), |_| String::new())?,
    }
    for fault in &missing {
        eprintln!("weftctl: {fault}");
    }
    Ok(if missing.is_empty() { Outcome::Yes } else { Outcome::Refused })
}

fn tables(found: &[(Selection, Vec<Value>)], output: Output, expects_some: bool) {
    let there: Vec<_> = found.iter().filter(|(_, objects)| !objects.is_empty()).collect();
    if there.is_empty() && expects_some {
        eprintln!("No resources found");
    }
    let (wide, of_many, now) = (output == Output::Wide, found.len() > 1, Timestamp::now());
    let table = |(selection, objects): &&(Selection, Vec<Value>)| {
        render::objects(selection.resource, objects, wide, of_many, now)
    };
    print!("{}", there.iter().map(table).collect::<Vec<_>>().join("\n"));
}

/// The object, where one was asked for by name; else a list, as `apply` and kubectl take it.
fn document(found: &[(Selection, Vec<Value>)]) -> Value {
    match found {
        [(Selection { names, .. }, objects)] if names.len() == 1 && objects.len() == 1 => objects[0].clone(),
        _ => {
            let items: Vec<_> = found.iter().flat_map(|(_, objects)| objects).collect();
            json!({ "apiVersion": "v1", "kind": "List", "items": items })
        }
    }
}

async fn raw(place: &Where, uri: &str) -> Result<Outcome> {
    let answer = client::get_raw(&place.socket(), uri).await?;
    std::io::stdout().write_all(&answer.encode())?;
    Ok(Outcome::Yes)
}
