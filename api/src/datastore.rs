//! Where objects come from, as the agent and the command line name it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `kubernetes`, or `dir:PATH`: a directory of YAML files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datastore {
    Kubernetes,
    Dir(PathBuf),
}

impl FromStr for Datastore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "kubernetes" => Ok(Self::Kubernetes),
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Dir(path.into())),
            _ => Err(format!("{text:?} is neither kubernetes nor dir:PATH")),
        }
    }
}

impl fmt::Display for Datastore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes => f.write_str("kubernetes"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datastore_is_read_as_it_is_shown() {
        for text in ["kubernetes", "dir:/etc/weft", "dir:here:and there"] {
            assert_eq!(text.parse::<Datastore>().unwrap().to_string(), text);
        }
        for wrong in ["/etc/weft", "dir:", "etcd:x", "Kubernetes", ""] {
            assert!(wrong.parse::<Datastore>().is_err(), "{wrong}");
        }
    }
}
