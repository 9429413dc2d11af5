//! Helm, and what it makes of values.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use weft_e2e::cluster::{Binaries, Scope, chart};

pub(crate) struct Helm(PathBuf);

impl Helm {
    pub(crate) fn new() -> Self {
        Self(Binaries::build(Scope::Helm).unwrap().path("helm").unwrap())
    }

    /// What `helm template` prints, or why it refuses.
    pub(crate) fn render(&self, chart: &Path, values: &Value) -> Result<String, String> {
        let chart = chart.to_str().unwrap();
        let place = ["--namespace", "weft-system", "--kube-version", "1.34.0"];
        self.run(&[&["template", "weft", chart, "--values", "-"], &place[..]].concat(), &values.to_string())
    }

    /// The archive that `helm package` makes of a chart, in a folder.
    pub(crate) fn package(&self, chart: &Path, folder: &Path) -> PathBuf {
        let words = ["package", chart.to_str().unwrap(), "--destination", folder.to_str().unwrap()];
        let said = self.run(&words, "").unwrap();
        said.trim().rsplit(' ').next().unwrap().into()
    }

    fn run(&self, words: &[&str], input: &str) -> Result<String, String> {
        let mut helm = Command::new(&self.0);
        // It ends before collecting garbage would pay.
        helm.env("GOGC", "off")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut helm = helm.spawn().unwrap();
        helm.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = helm.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

/// The repository's chart.
pub(crate) fn folder() -> PathBuf {
    chart().unwrap()
}

/// A file of it, YAML or JSON.
pub(crate) fn read(file: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(folder().join(file)).unwrap()).unwrap()
}

pub(crate) fn all_values() -> Value {
    read("ci/all-values.yaml")
}

pub(crate) fn objects(manifests: &str) -> Vec<Value> {
    let documents = manifests.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap());
    documents.filter(|object: &Value| !object.is_null()).collect()
}

/// A folder of the test's own, which goes with it.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weft-chart-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The chart with another Chart.yaml, in a folder `name` of this one.
    pub(crate) fn copy_chart(&self, name: &str, edit: impl Fn(String) -> String) -> PathBuf {
        let to = self.0.join(name);
        copy(&folder(), &to);
        let about = to.join("Chart.yaml");
        fs::write(&about, edit(fs::read_to_string(&about).unwrap())).unwrap();
        to
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
