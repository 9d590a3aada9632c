//! Mount options as `mount(8)` and Docker write them, sorted into flags, propagation and data. Pure.

/// Flags of `mount(2)`.
pub mod flag {
    pub const RDONLY: u32 = 1;
    pub const NOSUID: u32 = 2;
    pub const NODEV: u32 = 4;
    pub const NOEXEC: u32 = 8;
    pub const SYNCHRONOUS: u32 = 16;
    pub const REMOUNT: u32 = 32;
    pub const MANDLOCK: u32 = 64;
    pub const DIRSYNC: u32 = 128;
    pub const NOSYMFOLLOW: u32 = 256;
    pub const NOATIME: u32 = 1024;
    pub const NODIRATIME: u32 = 2048;
    pub const BIND: u32 = 4096;
    pub const MOVE: u32 = 8192;
    pub const REC: u32 = 16384;
    pub const UNBINDABLE: u32 = 1 << 17;
    pub const PRIVATE: u32 = 1 << 18;
    pub const SLAVE: u32 = 1 << 19;
    pub const SHARED: u32 = 1 << 20;
    pub const RELATIME: u32 = 1 << 21;
    pub const I_VERSION: u32 = 1 << 23;
    pub const STRICTATIME: u32 = 1 << 24;
    pub const LAZYTIME: u32 = 1 << 25;
}

/// Options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub flags: u32,
    /// Propagation changes, each applied by its own call after the mount.
    pub propagation: Vec<u32>,
    /// `rro` and its like: the flag is to reach all submounts too.
    pub recursive_readonly: bool,
    /// Docker's `tmpcopyup`: a tmpfs starts with the content it hides.
    pub copy_up: bool,
    /// What the filesystem itself reads, joined by commas.
    pub data: String,
}

/// Sets or clears these bits.
enum Effect {
    Set(u32),
    Clear(u32),
}

fn effect(option: &str) -> Option<Effect> {
    use Effect::{Clear, Set};
    Some(match option {
        "defaults" => Set(0),
        "async" => Clear(flag::SYNCHRONOUS),
        "atime" => Clear(flag::NOATIME),
        "bind" => Set(flag::BIND),
        "dev" => Clear(flag::NODEV),
        "diratime" => Clear(flag::NODIRATIME),
        "dirsync" => Set(flag::DIRSYNC),
        "exec" => Clear(flag::NOEXEC),
        "iversion" => Set(flag::I_VERSION),
        "lazytime" => Set(flag::LAZYTIME),
        "loud" => Set(0),
        "mand" => Set(flag::MANDLOCK),
        "noatime" => Set(flag::NOATIME),
        "nodev" => Set(flag::NODEV),
        "nodiratime" => Set(flag::NODIRATIME),
        "noexec" => Set(flag::NOEXEC),
        "noiversion" => Clear(flag::I_VERSION),
        "nolazytime" => Clear(flag::LAZYTIME),
        "nomand" => Clear(flag::MANDLOCK),
        "norelatime" => Clear(flag::RELATIME),
        "nostrictatime" => Clear(flag::STRICTATIME),
        "nosuid" => Set(flag::NOSUID),
        "nosymfollow" => Set(flag::NOSYMFOLLOW),
        "rbind" => Set(flag::BIND | flag::REC),
        "relatime" => Set(flag::RELATIME),
        "remount" => Set(flag::REMOUNT),
        "ro" => Set(flag::RDONLY),
        "rw" => Clear(flag::RDONLY),
        "silent" => Set(0),
        "strictatime" => Set(flag::STRICTATIME),
        "suid" => Clear(flag::NOSUID),
        "symfollow" => Clear(flag::NOSYMFOLLOW),
        "sync" => Set(flag::SYNCHRONOUS),
        _ => return None,
    })
}

/// The propagation a word names: `rslave`, `shared`, …
pub fn propagation(word: &str) -> Option<u32> {
    Some(match word {
        "private" => flag::PRIVATE,
        "rprivate" => flag::PRIVATE | flag::REC,
        "shared" => flag::SHARED,
        "rshared" => flag::SHARED | flag::REC,
        "slave" => flag::SLAVE,
        "rslave" => flag::SLAVE | flag::REC,
        "unbindable" => flag::UNBINDABLE,
        "runbindable" => flag::UNBINDABLE | flag::REC,
        _ => return None,
    })
}

/// Sorts options; what no flag is known for goes to the filesystem.
pub fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    let mut data: Vec<&str> = Vec::new();
    for option in options {
        match (effect(option), propagation(option)) {
            (Some(Effect::Set(bits)), _) => parsed.flags |= bits,
            (Some(Effect::Clear(bits)), _) => parsed.flags &= !bits,
            (None, Some(bits)) => parsed.propagation.push(bits),
            (None, None) => match option.as_str() {
                "tmpcopyup" => parsed.copy_up = true,
                "rro" => {
                    parsed.flags |= flag::RDONLY;
                    parsed.recursive_readonly = true;
                }
                other => data.push(other),
            },
        }
    }
    parsed.data = data.join(",");
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted() {
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let parsed = parse(&words("rbind,ro,rslave,nosuid,suid,mode=755,size=64k,tmpcopyup"));
        assert_eq!(parsed.flags, flag::BIND | flag::REC | flag::RDONLY);
        assert_eq!(parsed.propagation, [flag::SLAVE | flag::REC]);
        assert_eq!(parsed.data, "mode=755,size=64k");
        assert!(parsed.copy_up && !parsed.recursive_readonly);
    }
}
