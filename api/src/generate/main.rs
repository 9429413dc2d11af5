//! Writes what is derived from the Rust types: the chart's custom resource definitions, and their reference page.
//! `weft-crds [--check] [--docs FILE] FOLDER`; `--check` compares and writes nothing.

mod reference;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const USAGE: &str = "usage: weft-crds [--check] [--docs FILE] FOLDER";

fn main() -> ExitCode {
    let Some(Arguments { check, docs, folder }) = Arguments::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let definitions = weft_api::crd::definitions();
    let mut files: Vec<Result<(PathBuf, String), String>> = Vec::new();
    files.extend(docs.map(|path| Ok((path, reference::page(&definitions)))));
    files.extend(definitions.into_iter().map(|definition| render(&folder, definition)));
    let act = if check { compare } else { write };
    let results = files.into_iter().map(|file| file.and_then(|(path, text)| act(&path, &text)));
    let errors: Vec<String> = results.filter_map(Result::err).collect();
    for error in &errors {
        eprintln!("weft-crds: {error}");
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Arguments {
    check: bool,
    docs: Option<PathBuf>,
    folder: PathBuf,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let (mut check, mut docs, mut folder) = (false, None, None);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--check" => check = true,
                "--docs" => docs = Some(words.next()?.into()),
                _ if folder.is_none() => folder = Some(word.into()),
                _ => return None,
            }
        }
        Some(Self { check, docs, folder: folder? })
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn compare(path: &Path, text: &str) -> Result<(), String> {
    match std::fs::read_to_string(path) {
        Ok(have) if have == text => Ok(()),
        Ok(_) => Err(format!("{} differs from the Rust types: run `make crds`", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Helm upgrades what templates bring, and keeps it at an uninstall when told: users' objects survive.
fn render(folder: &Path, mut definition: CustomResourceDefinition) -> Result<(PathBuf, String), String> {
    let annotations = definition.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    let path = folder.join(format!("{}.yaml", definition.spec.names.plural));
    let yaml =
        serde_saphyr::to_string(&definition).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((path, format!("# Generated from the Rust types by `make crds`.\n{yaml}")))
}
