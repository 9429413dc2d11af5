//! Waiting for a condition with a deadline: the only way that anything here waits.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at. Short against what an operator notices, long against the cost of a look.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value. An error of `look` is not final; the last one explains a timeout.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            match seen {
                Err(error) => return Err(error.context(format!("after {limit:?}: no {what}"))),
                Ok(_) => bail!("after {limit:?}: no {what}"),
            }
        }
        thread::sleep(INTERVAL);
    }
}

/// [`until`] for a condition that is only true or false.
pub fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || Ok(look().then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_names_what_was_awaited_and_the_last_error() {
        let error = until::<()>("router", Duration::ZERO, || bail!("no route")).unwrap_err();
        assert_eq!(format!("{error:#}"), "after 0ns: no router: no route");
    }

    #[test]
    fn a_passing_error_is_forgiven() {
        let mut looks = 0;
        let value = until("value", Duration::from_secs(5), || {
            looks += 1;
            if looks < 3 { bail!("not yet") } else { Ok(Some(looks)) }
        });
        assert_eq!(value.unwrap(), 3);
    }
}
