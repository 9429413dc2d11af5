//! JSON to types, with the path of what is wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Source;

/// As `T`, with the path of the offending field in the error.
pub(super) fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    read(value, |_| {})
}

/// A whole object.
pub(super) fn checked<T: DeserializeOwned>(value: &Value, source: Source) -> Result<T, String> {
    match source {
        Source::Written => strict_but(&["apiVersion", "kind"], value),
        Source::Served => typed(value),
    }
}

/// As `T`, refusing fields that `T` does not have, as `kubectl apply` does.
pub(super) fn strict<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    strict_but(&[], value)
}

/// `known` are fields that somebody else has read.
fn strict_but<T: DeserializeOwned>(known: &[&str], value: &Value) -> Result<T, String> {
    let mut unknown = Vec::new();
    let object = read(value, |path| unknown.push(path))?;
    unknown.retain(|path| !known.contains(&path.as_str()));
    match unknown.split_first() {
        None => Ok(object),
        Some((path, [])) => Err(format!("{path}: unknown field")),
        Some((path, others)) => Err(format!("{path}: unknown field, as are {}", others.join(", "))),
    }
}

/// Tells `ignored` the path of each field that nothing reads.
fn read<T: DeserializeOwned>(value: &Value, mut ignored: impl FnMut(String)) -> Result<T, String> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let object = serde_ignored::deserialize(tracked, |path| ignored(render(&path)));
    object.map_err(|reason: serde_json::Error| match track.path().to_string().as_str() {
        "." => reason.to_string(),
        path => format!("{path}: {reason}"),
    })
}

/// `spec.rules[0].prefixes`, as [`serde_path_to_error`] has it.
fn render(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", render(parent)),
        Path::Map { parent: Path::Root, key } => key.clone(),
        Path::Map { parent, key } => format!("{}.{key}", render(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            render(parent)
        }
    }
}
