//! The CNI plugin that container runtimes execute: hands the call, and the pod's network namespace, to the node's agent.
//!
//! In: `CNI_*` variables, standard input. Out: at most one JSON document on standard output, and the exit code. It enters
//! the pod's namespace, since the runtime runs it as root, and the agent needs no such right. It decides only what must
//! be decided without an agent: VERSION, calls that are not valid, DEL, which then succeeds (see [`agent::note`]), and
//! STATUS (see [`SERVED_MARK`]).

mod agent;
mod sandbox;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weft_api::{RUN_DIR, RUN_DIR_ENV, SERVED_MARK};
use weft_pods::cni::{Call, CallError, CniError, CniVersion, Verb, result};

use crate::agent::{AskError, Client, Patience};

/// A conflist plus pod annotations, which alone may be 256 KiB.
const MAX_STDIN: u64 = 384 * 1024;

fn main() -> ExitCode {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| key.starts_with("CNI_"))
        .collect();
    let run_dir = std::env::var_os(RUN_DIR_ENV).map_or_else(|| PathBuf::from(RUN_DIR), PathBuf::from);
    let (stdout, code) = match run(run_dir, env) {
        Ok(answer) => answer,
        Err(failed) => (failed.document(), 1),
    };
    match std::io::stdout().write_all(stdout.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

fn read_stdin() -> Result<String, CniError> {
    let mut stdin = String::new();
    let read = std::io::stdin().take(MAX_STDIN + 1).read_to_string(&mut stdin);
    read.map_err(|error| CniError::Io { action: "read standard input".into(), reason: error.to_string() })?;
    if stdin.len() as u64 > MAX_STDIN {
        return Err(CniError::Config(format!("is larger than {MAX_STDIN} bytes")));
    }
    Ok(stdin)
}

/// What to print, and the exit code.
fn run(run_dir: PathBuf, env: BTreeMap<String, String>) -> Result<(String, u8), CallError> {
    let stdin = read_stdin().map_err(|error| CallError { version: CniVersion::LATEST, error })?;
    let Call { version, verb } = Call::parse(&env, &stdin)?;
    let client = Client { run_dir, env, stdin: &stdin };
    let asked = match &verb {
        Verb::Version => return Ok((result::version(version), 0)),
        Verb::Add(pod) | Verb::Check(pod) => {
            let sandbox = sandbox::enter(&pod.netns, pod.netns_override)
                .map_err(|error| CallError { version, error })?;
            client.ask(Patience::Wait, Some(&sandbox))
        }
        Verb::Gc(_) => client.ask(Patience::Wait, None),
        Verb::Del(_) | Verb::Status => client.ask(Patience::None, None),
    };
    match asked {
        Ok(reply) => Ok((reply.stdout, reply.exit_code)),
        Err(unanswered) => {
            let without = without_agent(&client.run_dir, &verb, &unanswered);
            without.map(|()| (String::new(), 0)).map_err(|error| CallError { version, error })
        }
    }
}

/// What becomes of a call that nobody answers.
fn without_agent(run_dir: &Path, verb: &Verb, unanswered: &AskError) -> Result<(), CniError> {
    match verb {
        Verb::Del(id) => {
            agent::note(run_dir, id, unanswered);
            Ok(())
        }
        Verb::Status if run_dir.join(SERVED_MARK).exists() => Ok(()),
        Verb::Status => Err(CniError::NotReady(unanswered.to_string())),
        Verb::Add(_) | Verb::Check(_) | Verb::Gc(_) | Verb::Version => {
            Err(CniError::TryAgain(unanswered.to_string()))
        }
    }
}
