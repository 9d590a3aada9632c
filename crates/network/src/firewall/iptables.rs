//! `iptables-save` and `iptables-restore` as a backend.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::rules::Table;
use super::{Change, Listing};
use crate::error::{Context, Error, ErrorKind, Result};

/// Where administrators' programs lie when `PATH` does not say so.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/// The two programs.
pub struct Iptables {
    save: PathBuf,
    restore: PathBuf,
}

impl Iptables {
    /// Finds both, in `PATH` or the usual places.
    pub fn find() -> Option<Iptables> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places: Vec<PathBuf> = std::env::split_paths(&path)
            .chain(PLACES.iter().map(PathBuf::from))
            .collect();
        let find = |name: &str| places.iter().map(|dir| dir.join(name)).find(|file| file.is_file());
        Some(Iptables {
            save: find("iptables-save")?,
            restore: find("iptables-restore")?,
        })
    }

    /// Lists the two tables we use.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing::new();
        for table in [Table::Filter, Table::Nat] {
            let text = run(&self.save, &["-t", table.name()], "")?;
            parse(table, &text, &mut listing);
        }
        Ok(listing)
    }

    /// Makes all changes of a table at once: the kernel sees all of them or none.
    pub fn apply(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        // --noflush: the rest of the tables is not ours. -w: another program may hold the lock.
        run(&self.restore, &["-w", "--noflush"], &script(changes)).map(drop)
    }

    pub fn drop_forwarded(&self) -> Result<()> {
        run(
            &self.restore,
            &["-w", "--noflush"],
            "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n",
        )
        .map(drop)
    }
}

fn script(changes: &[Change]) -> String {
    let mut text = String::new();
    for table in [Table::Filter, Table::Nat] {
        let mut lines = changes.iter().filter(|change| change.table() == table).peekable();
        if lines.peek().is_none() {
            continue;
        }
        text.push_str(&format!("*{}\n", table.name()));
        for change in lines {
            text.push_str(&match change {
                // Only for chains that do not exist: an existing one would be flushed.
                Change::Chain(_, chain) => format!(":{chain} - [0:0]\n"),
                Change::Insert(_, chain, at, spec) => format!("-I {chain} {at} {spec}\n"),
                Change::Delete(_, chain, spec) => format!("-D {chain} {spec}\n"),
            });
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn parse(table: Table, text: &str, listing: &mut Listing) {
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(':') {
            let chain = rest.split(' ').next().unwrap_or(rest);
            listing.entry((table, chain.to_owned())).or_default();
        } else if let Some((chain, spec)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            listing
                .entry((table, chain.to_owned()))
                .or_default()
                .push(spec.to_owned());
        }
    }
}

/// Runs a program with its input; its output, or what it complained about.
fn run(program: &Path, args: &[&str], input: &str) -> Result<String> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .what(|| format!("run {name}"))?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(e) = stdin.write_all(input.as_bytes())
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(Error::io(format!("write to {name}"), e));
    }
    let output = child.wait_with_output().what(|| format!("run {name}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let text = format!("{name} {}: {} ({})", args.join(" "), complaint.trim(), output.status);
        return Err(Error::new(ErrorKind::System, text));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_listings() {
        let changes = [
            Change::Chain(Table::Nat, "X".into()),
            Change::Insert(Table::Filter, "FORWARD".into(), 2, "-i a -j X".into()),
            Change::Delete(Table::Nat, "X".into(), "-o b -j Y".into()),
        ];
        assert_eq!(
            script(&changes),
            "*filter\n-I FORWARD 2 -i a -j X\nCOMMIT\n*nat\n:X - [0:0]\n-D X -o b -j Y\nCOMMIT\n"
        );
        let mut listing = Listing::new();
        parse(
            Table::Nat,
            "# x\n*nat\n:OUTPUT ACCEPT [0:0]\n:X - [0:0]\n-A X -o b -j Y\nCOMMIT\n",
            &mut listing,
        );
        assert_eq!(listing[&(Table::Nat, "X".into())], ["-o b -j Y"]);
        assert!(listing[&(Table::Nat, "OUTPUT".into())].is_empty());
    }
}
