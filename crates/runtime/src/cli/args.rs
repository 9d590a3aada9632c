//! Arguments as Go's flag package reads them: `--name value`, `--name=value`, one dash as good as two,
//! and the first argument that is no option ends the options.

use crate::error::{Error, Result};

/// One option a command knows: its names (the first is the one asked for), and whether a value follows.
pub type Option_ = (&'static [&'static str], bool);

/// A parsed command line.
#[derive(Debug, Default)]
pub struct Args {
    values: Vec<(&'static str, String)>,
    pub rest: Vec<String>,
}

impl Args {
    /// Parses `line` (without the command's name).
    pub fn parse(line: &[String], known: &[Option_]) -> Result<Self> {
        let mut parsed = Self::default();
        let mut line = line.iter();
        while let Some(word) = line.next() {
            if word == "--" {
                parsed.rest.extend(line.cloned());
                break;
            }
            let Some(option) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                parsed.rest.push(word.clone());
                parsed.rest.extend(line.cloned());
                break;
            };
            let option = option.strip_prefix('-').unwrap_or(option);
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            };
            let Some((names, takes_value)) = known.iter().find(|(names, _)| names.contains(&name)) else {
                return Err(Error::new(format!("flag provided but not defined: -{name}")));
            };
            let value = match (value, takes_value) {
                (Some(value), _) => value,
                (None, false) => "true".to_owned(),
                (None, true) => match line.next() {
                    Some(value) => value.clone(),
                    None => return Err(Error::new(format!("flag needs an argument: -{name}"))),
                },
            };
            parsed.values.push((names[0], value));
        }
        Ok(parsed)
    }

    /// The last value given for an option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// All values given for an option.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A switch.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false" && value != "0")
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        match self.value(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Error::new(format!("invalid value {text:?} for flag -{name}: parse error"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Option_] = &[(&["bundle", "b"], true), (&["tty", "t"], false), (&["env", "e"], true)];

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn as_go_does() {
        let args = Args::parse(&words("-b x --tty -e A=1 --env=B=2 id cmd -t"), KNOWN).unwrap();
        assert_eq!(args.value("bundle"), Some("x"));
        assert!(args.is_set("tty"));
        assert_eq!(args.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(args.rest, ["id", "cmd", "-t"]);
        assert!(!Args::parse(&words("-tty=false id"), KNOWN).unwrap().is_set("tty"));
        assert_eq!(Args::parse(&words("-- -t"), KNOWN).unwrap().rest, ["-t"]);
        assert!(Args::parse(&words("--nope"), KNOWN).is_err());
        assert!(Args::parse(&words("-b"), KNOWN).is_err());
    }
}
