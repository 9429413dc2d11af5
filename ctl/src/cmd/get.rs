//! `weftctl get`

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Outcome, print};
use crate::resource::{Selection, select};
use crate::terminal::{printable, tell, write};
use crate::whom::{ObjectsIn, Where};
use crate::{Output, client, render};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Name a kind (`bgppeers`), several (`bgppeers,bgpfilters`) or `all`, then objects if not all of them are wanted; or
    /// give KIND/NAME as often as you like.
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
    let is_empty = found.iter().all(|(_, objects)| objects.is_empty());
    match output {
        // That it is not there is no object.
        _ if is_empty && !missing.is_empty() => {}
        Output::Table | Output::Wide if is_empty => eprintln!("No resources found"),
        Output::Table | Output::Wide => write(printable(&tables(&found, output)).as_bytes())?,
        Output::Json | Output::Yaml => print(output, &document(&found), |_| String::new())?,
    }
    missing.iter().for_each(tell);
    Ok(if missing.is_empty() { Outcome::Yes } else { Outcome::Refused })
}

fn tables(found: &[(Selection, Vec<Value>)], output: Output) -> String {
    let there = found.iter().filter(|(_, objects)| !objects.is_empty());
    let (wide, of_many, now) = (output == Output::Wide, found.len() > 1, Timestamp::now());
    let table = |(selection, objects): &(Selection, Vec<Value>)| {
        render::objects(selection.resource, objects, wide, of_many, now)
    };
    there.map(table).collect::<Vec<_>>().join("\n")
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
    write(&answer.encode())?;
    Ok(Outcome::Yes)
}
