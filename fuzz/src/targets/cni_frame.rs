//! What the plugin, of whatever release, sends to the agent over its socket.
//!
//! Property: nothing panics, and what is refused says why.

use weft_agent::cni::decode;

pub const WORDS: &[&str] =
    &["\"protocol\":", "\"env\":", "\"stdin\":", "null", "{}", "[]", "-1", "1e9", "\"\"", "\\u0000"];

pub fn run(data: &[u8]) {
    if let Err(error) = decode(data) {
        assert!(!error.to_string().is_empty());
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let request = |protocol: u32| {
        let stdin = r#"{\"cniVersion\":\"1.1.0\",\"name\":\"weft\",\"type\":\"weft-cni\"}"#;
        format!(
            r#"{{"protocol":{protocol},"started":7,"env":{{"CNI_COMMAND":"ADD","CNI_IFNAME":"eth0"}},"stdin":"{stdin}"}}"#
        )
    };
    [0, 1, 2, 3].map(|protocol| request(protocol).into_bytes()).to_vec()
}
