//! JSON, of which a part becomes a value: what is not read is passed over, without a place in memory at any time.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// How much of a part of an object becomes a value.
#[derive(Clone, Copy)]
pub(super) enum Part {
    All,
    Nothing,
    /// Of a map, these fields as they say, and all others.
    But(&'static [(&'static str, Part)]),
    /// Of a map, these fields as they say, and no others.
    Only(&'static [(&'static str, Part)]),
    /// Of each item of a list, so much.
    Each(&'static Part),
}

impl Part {
    fn field(self, name: &str) -> Self {
        let find =
            |fields: &[(&str, Self)]| fields.iter().find(|(known, _)| *known == name).map(|(_, part)| *part);
        match self {
            Self::All | Self::Each(_) => Self::All,
            Self::Nothing => Self::Nothing,
            Self::But(fields) => find(fields).unwrap_or(Self::All),
            Self::Only(fields) => find(fields).unwrap_or(Self::Nothing),
        }
    }

    fn item(self) -> Self {
        if let Self::Each(part) = self { *part } else { Self::All }
    }
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Self::All => Value::deserialize(deserializer),
            Self::Nothing => IgnoredAny::deserialize(deserializer).map(|_| Value::Null),
            Self::But(_) | Self::Only(_) | Self::Each(_) => deserializer.deserialize_any(self),
        }
    }
}

/// What has another form than is said is kept as it is.
impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = serde_json::Map::new();
        while let Some(field) = map.next_key_seed(Field(self))? {
            match field {
                Some((name, part)) => drop(kept.insert(name, map.next_value_seed(part)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(kept.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.item())? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

/// Of a field's name: that name and how much of the field is kept, if any.
struct Field(Part);

impl<'de> DeserializeSeed<'de> for Field {
    type Value = Option<(String, Part)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Field {
    type Value = Option<(String, Part)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        match self.0.field(name) {
            Part::Nothing => Ok(None),
            part => Ok(Some((name.to_owned(), part))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PART: Part = Part::But(&[
        (
            "spec",
            Part::But(&[("list", Part::Each(&Part::Only(&[("kept", Part::All)]))), ("large", Part::Nothing)]),
        ),
        ("metadata", Part::Only(&[("name", Part::All)])),
    ]);

    fn read(text: &str) -> Value {
        PART.deserialize(&mut serde_json::Deserializer::from_str(text)).unwrap()
    }

    #[test]
    fn of_each_part_that_is_kept_which_is_said() {
        let text = r#"{"kind": "x", "metadata": {"name": "a", "other": {}}, "status": {"large": [{"a": 1.5}]},
            "spec": {"large": {"a": [1, {"b": "\"}"}]}, "list": [{"kept": -1, "other": 2}, {"other": 3}], "more": [true]}}"#;
        let kept = json!({
            "kind": "x", "metadata": {"name": "a"}, "status": {"large": [{"a": 1.5}]},
            "spec": {"list": [{"kept": -1}, {}], "more": [true]},
        });
        assert_eq!(read(text), kept);
    }

    /// One object that no server should send must not end the watch of all. Who reads it says what is wrong with it.
    #[test]
    fn what_has_another_form_than_is_said_is_kept_as_it_is() {
        let odd = r#"{"metadata": "x", "spec": {"list": null, "more": 1}}"#;
        assert_eq!(read(odd), serde_json::from_str::<Value>(odd).unwrap());
        for odd in ["null", "true", "-1", "7", "1.5", r#""text""#, r#"[{"name": "a"}]"#] {
            assert_eq!(read(odd), serde_json::from_str::<Value>(odd).unwrap());
        }
        assert_eq!(read(r#"{"spec": {"list": {"kept": 1}}}"#), json!({"spec": {"list": {"kept": 1}}}));
    }
}
