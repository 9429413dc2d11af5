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
use std::path::PathBuf;
use std::process::ExitCode;

use weft_api::{RUN_DIR, RUN_DIR_ENV, SERVED_MARK};
use weft_pods::cni::CniError;
use weft_pods::cni::result;
use weft_pods::cni::{Call, answer_version};

use crate::agent::{Client, Patience};

/// A conflist plus pod annotations, which alone may be 256 KiB.
const MAX_STDIN: u64 = 384 * 1024;

fn main() -> ExitCode {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| key.starts_with("CNI_"))
        .collect();
    let run_dir = std::env::var_os(RUN_DIR_ENV).map_or_else(|| PathBuf::from(RUN_DIR), PathBuf::from);
    let (stdin, outcome) = match read_stdin() {
        Ok(stdin) => {
            let outcome = run(&Client { run_dir, env, stdin: &stdin });
            (stdin, outcome)
        }
        Err(error) => (String::new(), Err(error)),
    };
    let (stdout, code) = match outcome {
        Ok(answer) => answer,
        Err(error) => (error.document(answer_version(&stdin)), 1),
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
fn run(client: &Client<'_>) -> Result<(String, u8), CniError> {
    let call = Call::parse(&client.env, client.stdin)?;
    let answer = match &call {
        Call::Version => return Ok((result::version(answer_version(client.stdin)), 0)),
        Call::Add(pod) | Call::Check(pod) => {
            let sandbox = sandbox::enter(&pod.netns, pod.netns_override)?;
            client.ask(Patience::Wait, Some(&sandbox))
        }
        Call::Gc(_) => client.ask(Patience::Wait, None),
        Call::Del(_) | Call::Status => client.ask(Patience::None, None),
    };
    match (answer, call) {
        (Ok(reply), _) => Ok((reply.stdout, reply.exit_code)),
        (Err(error), Call::Del(id)) => {
            agent::note(&client.run_dir, &id, &error);
            Ok((String::new(), 0))
        }
        (Err(_), Call::Status) if client.run_dir.join(SERVED_MARK).exists() => Ok((String::new(), 0)),
        (Err(error), Call::Status) => Err(CniError::NotReady(error.to_string())),
        (Err(error), Call::Add(_) | Call::Check(_) | Call::Gc(_) | Call::Version) => {
            Err(CniError::TryAgain(error.to_string()))
        }
    }
}
