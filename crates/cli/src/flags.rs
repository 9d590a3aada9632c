//! Options as docker's users write them: the habits of Go's pflag, which clap has not.
//!
//! `-itd`, `-p80:80`, `-p=80:80`, `--rm=false`, `--name x`, `--name=x`; options may stand behind arguments unless
//! the command says that they end at its first one (`run`, `create`, `exec`). Texts of errors are pflag's.

use api::quote::quote;
use template::parse_int;

/// What kind of value a flag takes; help shows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// A signed number.
    Int,
    /// One value; the last one given counts. The name is shown in help (`string`, `bytes`, …).
    Text(&'static str),
    /// Any number of values, in order. The name is shown in help (`list`, `map`, …).
    List(&'static str),
}

/// Looks at a value; the error is the part behind `for "…" flag: `.
pub type Check = fn(&str) -> Result<(), String>;

/// One flag of a command.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    pub help: &'static str,
    /// What help shows as the default; empty shows none.
    pub default: &'static str,
    pub hidden: bool,
    /// The flag that this is another spelling of.
    pub same_as: &'static str,
    /// Looks at a value when it is read; the error is the part behind `for "…" flag: `.
    pub check: Option<Check>,
}

impl Flag {
    pub const fn new(long: &'static str, kind: Kind, help: &'static str) -> Flag {
        Flag {
            long,
            short: None,
            kind,
            help,
            default: "",
            hidden: false,
            same_as: "",
            check: None,
        }
    }

    pub const fn bool(long: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::Bool, help)
    }

    pub const fn text(long: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::Text("string"), help)
    }

    pub const fn int(long: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::Int, help)
    }

    pub const fn list(long: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::List("list"), help)
    }

    /// Another spelling, not shown.
    pub const fn alias(long: &'static str, same_as: &'static str, kind: Kind) -> Flag {
        let mut flag = Flag::new(long, kind, "");
        flag.same_as = same_as;
        flag.hidden = true;
        flag
    }

    pub const fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }

    pub const fn default(mut self, text: &'static str) -> Flag {
        self.default = text;
        self
    }

    pub const fn check(mut self, check: Check) -> Flag {
        self.check = Some(check);
        self
    }

    /// `-n, --last`, as errors name it.
    fn display(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

/// What every command has; where `-h` is no option of its own, it is this one's, which docker would rather not know any more.
pub const HELP: Flag = Flag::bool("help", "Print usage");

/// Flags and arguments that were given.
#[derive(Debug, Default)]
pub struct Parsed {
    values: Vec<(&'static str, String)>,
    pub args: Vec<String>,
    /// Help was spoken of as `-h`.
    pub by_h: bool,
}

impl Parsed {
    /// Says whether the flag was given.
    pub fn given(&self, long: &str) -> bool {
        self.values.iter().any(|(name, _)| *name == long)
    }

    /// The last value.
    pub fn get(&self, long: &str) -> Option<&str> {
        self.values
            .iter()
            .rev()
            .find(|(name, _)| *name == long)
            .map(|(_, value)| value.as_str())
    }

    /// The last value, or nothing.
    pub fn text(&self, long: &str) -> &str {
        self.get(long).unwrap_or_default()
    }

    pub fn bool(&self, long: &str) -> bool {
        self.bool_or(long, false)
    }

    pub fn bool_or(&self, long: &str, default: bool) -> bool {
        self.get(long)
            .map_or(default, |value| parse_bool(value).unwrap_or(default))
    }

    /// Whether help is asked for; nothing if it is not spoken of.
    pub fn help(&self) -> Option<bool> {
        self.get(HELP.long).and_then(parse_bool)
    }

    /// A number; what is given was looked at when it was read.
    pub fn int(&self, long: &str) -> Option<i64> {
        self.get(long).and_then(parse_int)
    }

    /// All values, in order.
    pub fn list(&self, long: &str) -> Vec<String> {
        self.values
            .iter()
            .filter(|(name, _)| *name == long)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// `key=value` pairs; a later one replaces an earlier one.
    pub fn map(&self, long: &str) -> std::collections::BTreeMap<String, String> {
        let pair = |text: &String| match text.split_once('=') {
            Some((key, value)) => (key.to_string(), value.to_string()),
            None => (text.clone(), String::new()),
        };
        self.list(long).iter().map(pair).collect()
    }

    /// The first argument; commands that use it require one.
    pub fn first(&self) -> &str {
        self.args.first().map(String::as_str).unwrap_or_default()
    }
}

/// Reads a command line; an error is what pflag says. `interspersed` says whether options may stand behind arguments.
pub fn parse(flags: &[&'static [Flag]], args: &[String], interspersed: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if !arg.starts_with('-') || arg.len() == 1 {
            parsed.args.push(arg.clone());
            if !interspersed {
                break;
            }
        } else if arg == "--" {
            break;
        } else if let Some(long) = arg.strip_prefix("--") {
            parse_long(flags, long, &mut rest, &mut parsed)?;
        } else {
            parse_short(flags, &arg[1..], &mut rest, &mut parsed)?;
        }
    }
    parsed.args.extend(rest.cloned());
    Ok(parsed)
}

fn parse_long(
    flags: &[&'static [Flag]],
    text: &str,
    rest: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<(), String> {
    if text.is_empty() || text.starts_with(['-', '=']) {
        return Err(format!("bad flag syntax: --{text}"));
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let mut known = flags.iter().flat_map(|set| set.iter()).chain([&HELP]);
    let Some(flag) = known.find(|flag| flag.long == name) else {
        return Err(format!("unknown flag: --{name}"));
    };
    match value {
        Some(value) => set(flag, value, parsed),
        None if flag.kind == Kind::Bool => set(flag, "true", parsed),
        None => match rest.next() {
            Some(value) => set(flag, value, parsed),
            None => Err(format!("flag needs an argument: --{name}")),
        },
    }
}

fn parse_short(
    flags: &[&'static [Flag]],
    text: &str,
    rest: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<(), String> {
    let mut letters = text;
    while let Some(letter) = letters.chars().next() {
        let after = &letters[letter.len_utf8()..];
        let mut known = flags.iter().flat_map(|set| set.iter());
        let flag = match known.find(|flag| flag.short == Some(letter)) {
            Some(flag) => flag,
            None if letter == 'h' => {
                parsed.by_h = true;
                &HELP
            }
            None => return Err(format!("unknown shorthand flag: '{letter}' in -{letters}")),
        };
        if let Some(value) = after.strip_prefix('=')
            && !value.is_empty()
        {
            return set(flag, value, parsed);
        }
        if flag.kind == Kind::Bool {
            set(flag, "true", parsed)?;
            letters = after;
            continue;
        }
        if !after.is_empty() {
            return set(flag, after, parsed);
        }
        return match rest.next() {
            Some(value) => set(flag, value, parsed),
            None => Err(format!("flag needs an argument: '{letter}' in -{letters}")),
        };
    }
    Ok(())
}

fn set(flag: &Flag, value: &str, parsed: &mut Parsed) -> Result<(), String> {
    let looked = match flag.kind {
        Kind::Bool if parse_bool(value).is_none() => {
            Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(value)))
        }
        Kind::Int if parse_int(value).is_none() => {
            let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
            let range = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
            let why = if range { "value out of range" } else { "invalid syntax" };
            Err(format!("strconv.ParseInt: parsing {}: {why}", quote(value)))
        }
        _ => flag.check.map_or(Ok(()), |check| check(value)),
    };
    if let Err(why) = looked {
        return Err(format!(
            "invalid argument {} for {} flag: {why}",
            quote(value),
            quote(&flag.display())
        ));
    }
    let name = if flag.same_as.is_empty() {
        flag.long
    } else {
        flag.same_as
    };
    parsed.values.push((name, value.to_string()));
    Ok(())
}

/// Reads what Go's `strconv.ParseBool` reads.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::bool("rm", ""),
        Flag::bool("interactive", "").short('i'),
        Flag::bool("tty", "").short('t'),
        Flag::bool("detach", "").short('d'),
        Flag::list("publish", "").short('p'),
        Flag::text("name", ""),
        Flag::int("last", "").short('n'),
        Flag::text("network", ""),
        Flag::alias("net", "network", Kind::Text("string")),
        Flag::list("dns", ""),
    ];

    fn read(line: &str, interspersed: bool) -> Result<Parsed, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        parse(&[FLAGS], &args, interspersed)
    }

    #[test]
    fn habits() {
        let p = read(
            "--rm=false -itd -p80:80 -p 81 -p=82 --name=x --net none --dns a --dns b busybox -x --rm",
            false,
        )
        .unwrap();
        assert!(!p.bool("rm") && p.bool("interactive") && p.bool("tty") && p.bool("detach"));
        assert_eq!(p.list("publish"), ["80:80", "81", "82"]);
        assert_eq!((p.text("name"), p.text("network")), ("x", "none"));
        assert_eq!(p.list("dns"), ["a", "b"]);
        assert_eq!(p.args, ["busybox", "-x", "--rm"]);
        let p = read("a --rm b -n 5 -- --rm -", true).unwrap();
        assert!(p.bool("rm"));
        assert_eq!(p.int("last"), Some(5));
        assert_eq!(p.args, ["a", "b", "--rm", "-"]);
        assert_eq!(read("- x", false).unwrap().args, ["-", "x"]);
    }

    #[test]
    fn errors_are_pflags() {
        for (line, text) in [
            ("--foo", "unknown flag: --foo"),
            ("--foo=1", "unknown flag: --foo"),
            ("-x", "unknown shorthand flag: 'x' in -x"),
            ("-ix", "unknown shorthand flag: 'x' in -x"),
            ("-xi", "unknown shorthand flag: 'x' in -xi"),
            ("--name", "flag needs an argument: --name"),
            ("-p", "flag needs an argument: 'p' in -p"),
            ("-ip", "flag needs an argument: 'p' in -p"),
            ("---x", "bad flag syntax: ---x"),
            ("--=x", "bad flag syntax: --=x"),
            (
                "--rm=x",
                "invalid argument \"x\" for \"--rm\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                "-n x",
                "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            ("--help --foo", "unknown flag: --foo"),
            ("-hx", "unknown shorthand flag: 'x' in -x"),
            ("-h=", "unknown shorthand flag: '=' in -="),
            (
                "-h=x",
                "invalid argument \"x\" for \"--help\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(read(line, true).unwrap_err(), text, "{line}");
        }
    }

    #[test]
    fn help() {
        for (line, expected) in [
            ("a", None),
            ("--help a", Some(true)),
            ("-ih", Some(true)),
            ("--help --help=false", Some(false)),
            ("-h=0 --help", Some(true)),
            ("-- --help", None),
        ] {
            let parsed = read(line, true).unwrap();
            assert_eq!(
                (parsed.help(), parsed.by_h),
                (expected, line.starts_with("-h") || line == "-ih"),
                "{line}"
            );
        }
    }

    #[test]
    fn numbers() {
        for (text, number) in [
            ("5", Some(5)),
            ("-5", Some(-5)),
            ("0x1f", Some(31)),
            ("010", Some(8)),
            ("", None),
        ] {
            assert_eq!(parse_int(text), number, "{text}");
        }
        assert_eq!(parse_int("+-5"), None);
        assert_eq!(parse_int("9223372036854775808"), None);
    }
}
