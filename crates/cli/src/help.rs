//! Help and lines of usage, laid out as docker's (pflag's columns, 80 characters).

use crate::command::{Args, Command};
use crate::flags::{Flag, HELP, Kind};

const WIDTH: usize = 80;
const SLOP: usize = 5;

/// The line of usage behind `Usage:  `.
pub fn usage_line(program: &str, path: &str, command: &Command) -> String {
    format!("{program} {path} {}", command.usage).trim_end().to_string()
}

/// A command's whole help.
pub fn command(program: &str, path: &str, command: &Command) -> String {
    let mut out = format!("Usage:  {}\n\n{}\n", usage_line(program, path, command), command.about);
    if command.paths.len() > 1 {
        let all: Vec<String> = command.paths.iter().map(|path| format!("{program} {path}")).collect();
        out.push_str(&format!("\nAliases:\n  {}\n", all.join(", ")));
    }
    let mut flags: Vec<&Flag> = command
        .flags
        .iter()
        .flat_map(|set| set.iter())
        .filter(|flag| !flag.hidden)
        .collect();
    // Where -h is something else, help is shown as an option of its own.
    if flags.iter().any(|flag| flag.short == Some('h')) {
        flags.push(&HELP);
    }
    if !flags.is_empty() {
        out.push_str(&format!("\nOptions:\n{}", options(flags)));
    }
    if !command.examples.is_empty() {
        out.push_str("\nExamples:\n");
        for example in command.examples {
            out.push_str(&format!("  {program} {example}\n"));
        }
    }
    out
}

/// What is wrong with a number of arguments, in docker's words; `None` if nothing is.
pub fn wrong_args(program: &str, path: &str, command: &Command, got: usize) -> Option<String> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let (what, hint) = match command.args {
        Args::None if got > 0 => ("accepts no arguments".to_string(), "Run"),
        Args::Exactly(n) if got != n => (format!("requires {n} {}", plural(n)), "Run"),
        Args::AtLeast(n) if got < n => (format!("requires at least {n} {}", plural(n)), "See"),
        Args::AtMost(n) if got > n => (format!("requires at most {n} {}", plural(n)), "Run"),
        Args::Between(low, high) if got < low || got > high => (
            format!("requires at least {low} and at most {high} {}", plural(high)),
            "Run",
        ),
        _ => return None,
    };
    let usage = usage_line(program, path, command);
    Some(format!(
        "{program}: '{program} {path}' {what}\n\nUsage:  {usage}\n\n{hint} '{program} {path} --help' for more information"
    ))
}

/// The columns of flags.
pub fn options(mut flags: Vec<&Flag>) -> String {
    flags.sort_by_key(|flag| flag.long);
    let rows: Vec<(String, String)> = flags
        .iter()
        .map(|flag| {
            let mut left = match flag.short {
                Some(short) => format!("  -{short}, --{}", flag.long),
                None => format!("      --{}", flag.long),
            };
            match flag.kind {
                Kind::Bool => {}
                Kind::Int => left.push_str(" int"),
                Kind::Text(name) | Kind::List(name) => left.push_str(&format!(" {name}")),
            }
            let mut right = flag.help.to_string();
            if !flag.default.is_empty() {
                right.push_str(&format!(" (default {})", flag.default));
            }
            (left, right)
        })
        .collect();
    let column = rows.iter().map(|(left, _)| left.len() + 1).max().unwrap_or(0);
    let mut out = String::new();
    for (left, right) in rows {
        let spaces = " ".repeat(column - left.len());
        out.push_str(&format!("{left} {spaces} {}\n", wrap(column + 2, WIDTH - 1, &right)));
    }
    out
}

/// Cuts off a line of at most `width` characters and a little more if that is all there is.
fn cut(width: usize, slop: usize, text: &str) -> (&str, &str) {
    if width + slop > text.len() {
        return (text, "");
    }
    let mut end = width;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = &text[..end];
    let space = head.rfind([' ', '\t', '\n']).unwrap_or(0);
    if space == 0 {
        return (text, "");
    }
    match head.rfind('\n') {
        Some(line) if line > 0 && line < space => (&text[..line], &text[line + 1..]),
        _ => (&text[..space], &text[space + 1..]),
    }
}

fn wrap(mut indent: usize, width: usize, text: &str) -> String {
    let mut out = String::new();
    let mut room = width.saturating_sub(indent);
    if room < 24 {
        indent = 16;
        room = width - indent;
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    }
    let room = room - SLOP;
    let margin = format!("\n{}", " ".repeat(indent));
    let (line, mut rest) = cut(room, SLOP, text);
    out.push_str(&line.replace('\n', &margin));
    while !rest.is_empty() {
        let (line, more) = cut(room, SLOP, rest);
        out.push_str(&margin);
        out.push_str(&line.replace('\n', &margin));
        rest = more;
    }
    out
}
