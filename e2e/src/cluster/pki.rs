//! The cluster's certificates: one authority, and whom it vouches for. Made by `openssl`, thrown away with the cluster.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

/// Longer than any cluster of ours lives.
const DAYS: &str = "30";

#[derive(Clone, Debug)]
pub(super) struct Pki {
    dir: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Pki {
    pub(super) fn create(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let pki = Self { dir };
        certify(&pki.authority(), "/CN=weft-e2e", &["keyUsage=critical,keyCertSign,cRLSign"], &[])?;
        let service_account = pki.service_account_key();
        // SEC1, not PKCS #8: the API server reads a public key from nothing else.
        openssl(&["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", text(&service_account)])?;
        Ok(pki)
    }

    pub(super) fn open(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn authority(&self) -> Pair {
        Pair { certificate: self.file("ca.crt"), key: self.file("ca.key") }
    }

    pub(super) fn service_account_key(&self) -> PathBuf {
        self.file("sa.key")
    }

    /// `subject` as openssl writes it: `/O=GROUP/CN=USER`.
    pub(super) fn issue(
        &self,
        name: &str,
        subject: &str,
        hosts: &[&str],
        addresses: &[IpAddr],
    ) -> Result<Pair> {
        let pair = self.pair(name);
        let names = hosts.iter().map(|host| format!("DNS:{host}"));
        let names: Vec<_> = names.chain(addresses.iter().map(|address| format!("IP:{address}"))).collect();
        let alternatives = format!("subjectAltName={}", names.join(","));
        let authority = self.authority();
        let mut extensions =
            vec!["basicConstraints=critical,CA:false", "extendedKeyUsage=serverAuth,clientAuth"];
        if !names.is_empty() {
            extensions.push(&alternatives);
        }
        let signer = ["-CA", text(&authority.certificate), "-CAkey", text(&authority.key)];
        certify(&pair, subject, &extensions, &signer)?;
        Ok(pair)
    }

    /// Issues a certificate for `subject` and writes the kubeconfig that uses it against `server`.
    pub(super) fn kubeconfig(&self, name: &str, subject: &str, server: &str) -> Result<PathBuf> {
        let pair = self.issue(name, subject, &[], &[])?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": { "server": server, "certificate-authority": self.authority().certificate } }],
            "users": [{ "name": "lab", "user": { "client-certificate": pair.certificate, "client-key": pair.key } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
        });
        let path = self.file(&format!("{name}.kubeconfig"));
        fs::write(&path, serde_json::to_vec_pretty(&config)?).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    pub(super) fn pair(&self, name: &str) -> Pair {
        Pair { certificate: self.file(&format!("{name}.crt")), key: self.file(&format!("{name}.key")) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a lab's directory is plain ASCII")
}

/// Makes a key and its certificate; self-signed, unless `signer` says by whom.
fn certify(pair: &Pair, subject: &str, extensions: &[&str], signer: &[&str]) -> Result<()> {
    let mut words = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    words.extend(["-days", DAYS, "-subj", subject]);
    words.extend(["-keyout", text(&pair.key), "-out", text(&pair.certificate)]);
    words.extend(signer);
    words.extend(extensions.iter().flat_map(|extension| ["-addext", extension]));
    openssl(&words)
}

fn openssl(words: &[&str]) -> Result<()> {
    let output = Command::new("openssl").args(words).output().context("openssl")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("openssl {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}
