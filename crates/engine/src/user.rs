//! Who a container runs as: `user[:group]`, by name or number, looked up in the image's own files. Pure.
//!
//! Source: Docker's `USER` and `--user`; passwd(5), group(5). The files are an untrusted image's: odd lines are
//! passed over, numbers are bounded by 2^31 - 1 as Docker bounds them.

use crate::error::{Error, Result};

/// The identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory, `/` where none is known.
    pub home: String,
}

const MAX_ID: u32 = i32::MAX as u32;

/// Resolves `spec`; an empty one is root. `extra` are `--group-add`'s groups.
pub fn resolve(spec: &str, passwd: &str, group: &str, extra: &[String]) -> Result<User> {
    let (user, wanted_group) = spec.split_once(':').unwrap_or((spec, ""));
    let name = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .map(fields)
        .find(|f| f.first() == Some(&name))
        .or_else(|| {
            let uid: u32 = name.parse().ok()?;
            passwd
                .lines()
                .map(fields)
                .find(|f| f.get(2).and_then(|n| n.parse().ok()) == Some(uid))
        });
    let mut found = match &entry {
        Some(f) => {
            let number = |at: usize| f.get(at).and_then(|n| n.parse::<u32>().ok());
            match (number(2), number(3)) {
                (Some(uid), Some(gid)) => User {
                    uid,
                    gid,
                    groups: Vec::new(),
                    home: f.get(5).map_or("/", |h| h).to_string(),
                },
                _ => {
                    return Err(Error::invalid(format!(
                        "unable to find user {name}: malformed entry in passwd file"
                    )));
                }
            }
        }
        None => {
            let uid = name.parse().map_err(|_| {
                Error::invalid(format!(
                    "unable to find user {name}: no matching entries in passwd file"
                ))
            })?;
            User {
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".into(),
            }
        }
    };
    if found.home.is_empty() {
        found.home = "/".into();
    }
    if wanted_group.is_empty() {
        if let Some(login) = entry.as_ref().and_then(|f| f.first()) {
            for f in group.lines().map(fields) {
                if f.get(3).is_some_and(|members| members.split(',').any(|m| m == *login))
                    && let Some(gid) = f.get(2).and_then(|n| n.parse().ok())
                    && gid != found.gid
                {
                    found.groups.push(gid);
                }
            }
        }
    } else {
        found.gid = find_group(wanted_group, group)?;
    }
    for wanted in extra {
        let gid = find_group(wanted, group)?;
        if !found.groups.contains(&gid) {
            found.groups.push(gid);
        }
    }
    if found.uid > MAX_ID || found.gid > MAX_ID {
        return Err(Error::invalid(format!("uids and gids must be in range 0-{MAX_ID}")));
    }
    Ok(found)
}

fn find_group(name: &str, group: &str) -> Result<u32> {
    let by_name = group.lines().map(fields).find(|f| f.first() == Some(&name));
    by_name
        .and_then(|f| f.get(2).and_then(|n| n.parse().ok()))
        .or_else(|| name.parse().ok())
        .ok_or_else(|| {
            Error::invalid(format!(
                "unable to find group {name}: no matching entries in group file"
            ))
        })
}

fn fields(line: &str) -> Vec<&str> {
    line.trim().split(':').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbad\nweb:x:33:33:web:/var/www:/bin/sh\nodd:x:z:1::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nadm:x:4:web,x\nvideo:x:44:\n";

    fn who(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(spec, PASSWD, GROUP, &[]).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(who(""), (0, 0, vec![], "/root".into()));
        assert_eq!(who("web"), (33, 33, vec![4], "/var/www".into()));
        assert_eq!(who("33"), (33, 33, vec![4], "/var/www".into()));
        assert_eq!(who("1000"), (1000, 0, vec![], "/".into()));
        assert_eq!(who("web:video"), (33, 44, vec![], "/var/www".into()));
        assert_eq!(who("5:6"), (5, 6, vec![], "/".into()));
        assert_eq!(
            resolve("", PASSWD, GROUP, &["video".into(), "99".into()])
                .unwrap()
                .groups,
            [44, 99]
        );
    }

    #[test]
    fn unknown_ones() {
        assert_eq!(
            resolve("nobody", PASSWD, GROUP, &[]).unwrap_err().to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        for bad in ["odd", "root:nogroup", "4294967295", "99999999999"] {
            assert!(resolve(bad, PASSWD, GROUP, &[]).is_err(), "{bad}");
        }
    }
}
