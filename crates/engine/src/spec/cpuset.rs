//! Which CPUs and memory nodes there are: `--cpuset-cpus 99` is refused before the kernel does.

use crate::error::{self, Error};

/// Highest number that is looked at: the kernel's largest `NR_CPUS`.
const MOST: u32 = 8192;

/// Refuses a list that is none, or one with CPUs or nodes that are not there; an empty one is no wish.
pub fn check(wanted: &str, what: &str, available: &str) -> error::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let short = if what == "CPUs" { "cpuset cpus" } else { "cpuset mems" };
    let list = parse(wanted).map_err(|why| Error::invalid(format!("Invalid value {wanted} for {short}: {why}")))?;
    // A machine that does not say what it has is asked by the kernel itself.
    let Ok(there) = parse(available.trim()) else {
        return Ok(());
    };
    let has = |one: u32| there.iter().any(|(from, to)| (*from..=*to).contains(&one));
    if list.iter().all(|(from, to)| (*from..=*to).all(has)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Requested {what} are not available - requested {wanted}, available: {}",
        available.trim()
    )))
}

/// `0-2,7`: ranges, from and to.
fn parse(text: &str) -> Result<Vec<(u32, u32)>, String> {
    let number = |part: &str| match part.trim().parse::<u32>() {
        Ok(number) if number > MOST => Err(format!("value of out range, maximum is {MOST}")),
        number => number.map_err(|_| format!("invalid format: {text}")),
    };
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        match from <= to {
            true => Ok((from, to)),
            false => Err(format!("invalid format: {text}")),
        }
    };
    text.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there() {
        for wanted in ["", "0", "0-1", "1,0", "0-0,3"] {
            assert!(check(wanted, "CPUs", "0-1,3\n").is_ok(), "{wanted}");
        }
        for wanted in ["2", "0-3", "99", "x", "1-0", "0-", ",", "0-4294967295"] {
            assert!(check(wanted, "CPUs", "0-1,3\n").is_err(), "{wanted}");
        }
        assert_eq!(
            check("99", "CPUs", "0-1").unwrap_err().to_string(),
            "Requested CPUs are not available - requested 99, available: 0-1"
        );
        assert!(check("99", "memory nodes", "").is_ok());
    }
}
