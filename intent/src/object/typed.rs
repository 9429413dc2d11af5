//! JSON to types, with the path of what is wrong.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Source;

/// As `T`, with the path of the offending field in the error.
pub(super) fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        if path == "." { reason.to_string() } else { format!("{path}: {reason}") }
    })
}

pub(super) fn checked<T: DeserializeOwned + Serialize>(value: &Value, source: Source) -> Result<T, String> {
    match source {
        Source::Written => strict(value),
        Source::Served => typed(value),
    }
}

/// As `T`, refusing fields that `T` does not have, as `kubectl apply` does.
pub(super) fn strict<T: DeserializeOwned + Serialize>(value: &Value) -> Result<T, String> {
    let object: T = typed(value)?;
    let understood = serde_json::to_value(&object).map_err(|error| error.to_string())?;
    match unknown_field(value, &understood) {
        Some(path) => Err(format!("{path}: unknown field")),
        None => Ok(object),
    }
}

/// The path of the first field with a value that `understood` lacks.
fn unknown_field(written: &Value, understood: &Value) -> Option<String> {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => written
            .iter()
            .filter(|(_, value)| !value.is_null())
            .find_map(|(name, value)| match understood.get(name) {
                None => Some(name.clone()),
                Some(inner) => unknown_field(value, inner).map(|rest| join(name, &rest)),
            }),
        (Value::Array(written), Value::Array(understood)) => {
            let pairs = written.iter().zip(understood).enumerate();
            pairs.into_iter().find_map(|(index, (written, understood))| {
                unknown_field(written, understood).map(|rest| join(&format!("[{index}]"), &rest))
            })
        }
        _ => None,
    }
}

fn join(name: &str, rest: &str) -> String {
    if rest.starts_with('[') { format!("{name}{rest}") } else { format!("{name}.{rest}") }
}
