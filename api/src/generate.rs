//! Writes the custom resource definitions into the chart: `weft-crds FOLDER`; `--check` compares and writes nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let check = args.iter().position(|arg| arg == "--check").map(|index| args.remove(index)).is_some();
    let [folder] = args.as_slice() else {
        eprintln!("usage: weft-crds [--check] FOLDER");
        return ExitCode::from(2);
    };
    let act = if check { compare } else { write };
    let results =
        weft_api::crd::definitions().into_iter().map(|definition| act(Path::new(folder), definition));
    let errors: Vec<String> = results.filter_map(Result::err).collect();
    for error in &errors {
        eprintln!("weft-crds: {error}");
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(folder: &Path, definition: CustomResourceDefinition) -> Result<(), String> {
    let (path, text) = render(folder, definition)?;
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn compare(folder: &Path, definition: CustomResourceDefinition) -> Result<(), String> {
    let (path, text) = render(folder, definition)?;
    match std::fs::read_to_string(&path) {
        Ok(have) if have == text => Ok(()),
        Ok(_) => Err(format!("{} differs from the Rust types: run `make crds`", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Helm upgrades what stands in `templates/`, and keeps it at an uninstall when told: users' objects survive.
fn render(folder: &Path, mut definition: CustomResourceDefinition) -> Result<(PathBuf, String), String> {
    let annotations = definition.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    let path = folder.join(format!("{}.yaml", definition.spec.names.plural));
    let yaml =
        serde_saphyr::to_string(&definition).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((path, format!("# Generated from the Rust types by `make crds`.\n{yaml}")))
}
