//! The command line client: docker's commands, options, texts and exit codes.
//!
//! [`main`] finds the command in the table of `commands`, reads its line with `flags`, and runs it with a `Cli`.
//! Knows the Engine API and nothing of the engine: it works with any daemon that speaks the API. What docker's client does
//! without a daemon and ours does not know how to do, another process of this binary does (`process`).

mod cli;
mod command;
mod commands;
mod config;
mod credentials;
mod delta;
mod files;
mod flags;
mod help;
mod input;
mod manifests;
mod output;
mod process;
mod progress;
mod remote;
mod rows;
mod stream;
mod table;
mod terminal;
mod units;

use cli::Cli;
use command::{Command, Failure};
use flags::Parsed;
use std::io::Write;

/// Runs a command line; `args[0]` is the name of the program. Gives the exit code.
pub fn main(args: &[String]) -> i32 {
    let program = args
        .first()
        .and_then(|name| name.rsplit('/').next())
        .filter(|name| !name.is_empty());
    match run(program.unwrap_or("balena"), args.get(1..).unwrap_or_default()) {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.text.is_empty() {
                // Nobody may listen any more.
                let _ = writeln!(std::io::stderr(), "{}", failure.text);
            }
            failure.code
        }
    }
}

/// What `--format` makes of a value. For the self-test, which has no daemon to ask for one.
pub fn format(text: &str, data: &serde_json::Value) -> Result<String, String> {
    let template = template::Template::parse(text)?;
    template.execute(&template::Value::raw(data)).map_err(|(_, why)| why)
}

/// What docker says of `-h`.
const BY_H: &str = "Flag shorthand -h has been deprecated, use --help\n";

fn run(program: &str, args: &[String]) -> Result<(), Failure> {
    let unread = |why: String| {
        let usage = format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]");
        let text = format!("{why}\n\n{usage}\n\nRun '{program} --help' for more information");
        Failure { code: 125, text }
    };
    let global = flags::parse(&[cli::GLOBAL], args, false).map_err(unread)?;
    if global.by_h {
        tell(BY_H)?;
    }
    let asked = global.help() == Some(true);
    if global.bool("version") && !asked {
        let name = if program == "docker" { "Docker" } else { program };
        return show(&format!(
            "{name} version {}, build {}\n",
            api::ENGINE_VERSION,
            cli::COMMIT
        ));
    }
    let Some((first, rest)) = global.args.split_first() else {
        let text = commands::help(program);
        return if asked { show(&text) } else { tell(&text) };
    };
    if first == "help" {
        return help_on(program, rest);
    }
    if let Some(group) = commands::GROUPS.iter().find(|group| group.name == first) {
        return run_group(program, &global, group.name, rest, asked);
    }
    if let Some(found) = commands::find(first) {
        return run_command(program, &global, found, rest, asked);
    }
    if commands::later(first) {
        return Err(not_yet(first));
    }
    // Options behind what is no command are read all the same.
    let all = flags::parse(&[cli::GLOBAL], args, true).map_err(unread)?;
    if all.help() == Some(true) {
        return show_help(&all, &commands::help(program));
    }
    Err(Failure::new(format!(
        "{program}: unknown command: {program} {first}\n\nRun '{program} --help' for more information"
    )))
}

fn run_group(program: &str, global: &Parsed, group: &str, words: &[String], asked: bool) -> Result<(), Failure> {
    let tail = commands::group_usage(group);
    let usage = format!("Usage:  {program} {group}{tail}\n\nRun '{program} {group} --help' for more information");
    let unread = |why: String| Failure {
        code: 125,
        text: format!("{why}\n\n{usage}"),
    };
    let parsed = flags::parse(&[], words, false).map_err(unread)?;
    let asked = parsed.help().unwrap_or(asked);
    let Some((name, rest)) = parsed.args.split_first() else {
        let text = commands::group_help(program, group);
        return if asked { show_help(&parsed, &text) } else { tell(&text) };
    };
    let name = format!("{group} {name}");
    if let Some(found) = commands::find(&name) {
        return run_command(program, global, found, rest, asked);
    }
    if commands::later(&name) {
        return Err(not_yet(&name));
    }
    let all = flags::parse(&[], words, true).map_err(unread)?;
    if all.help().unwrap_or(asked) {
        return show_help(&all, &commands::group_help(program, group));
    }
    Err(Failure::new(format!(
        "{program}: unknown command: {program} {name}\n\n{usage}"
    )))
}

fn run_command(
    program: &str,
    global: &Parsed,
    (command, path): (&Command, &str),
    words: &[String],
    asked: bool,
) -> Result<(), Failure> {
    let parsed = flags::parse(command.flags, words, !command.stop_at_args).map_err(|why| {
        let usage = help::usage_line(program, path, command);
        let text = format!("{why}\n\nUsage:  {usage}\n\nRun '{program} {path} --help' for more information");
        Failure { code: 125, text }
    })?;
    if parsed.help().unwrap_or(asked) {
        return show_help(&parsed, &help::command(program, path, command));
    }
    if parsed.by_h {
        show(BY_H)?;
    }
    if let Some(text) = help::wrong_args(program, path, command, parsed.args.len()) {
        return Err(Failure::new(text));
    }
    (command.run)(&Cli::new(program, global)?, &parsed)
}

/// `help`, with what it is asked about.
fn help_on(program: &str, topic: &[String]) -> Result<(), Failure> {
    let unknown = |words: &[String]| Err(Failure::new(format!("unknown help topic: {}", words.join(" "))));
    let Some((first, rest)) = topic.split_first() else {
        return show(&commands::help(program));
    };
    let group = commands::GROUPS.iter().find(|group| group.name == first);
    let (found, rest) = match (group, rest.split_first()) {
        (Some(group), None) => return show(&commands::group_help(program, group.name)),
        (Some(group), Some((name, behind))) => match commands::find(&format!("{} {name}", group.name)) {
            Some(found) => (found, behind),
            None => return unknown(rest),
        },
        (None, _) => match commands::find(first) {
            Some(found) => (found, rest),
            None => return unknown(topic),
        },
    };
    match rest.is_empty() {
        true => show(&help::command(program, found.1, found.0)),
        false => unknown(rest),
    }
}

fn not_yet(name: &str) -> Failure {
    Failure::new(format!("balena: '{name}' is not supported yet by balena"))
}

/// Help that was asked for.
fn show_help(parsed: &Parsed, text: &str) -> Result<(), Failure> {
    let before = if parsed.by_h { BY_H } else { "" };
    show(&format!("{before}{text}"))
}

/// What who asked for nothing is told beside the output.
fn tell(text: &str) -> Result<(), Failure> {
    // Nobody may listen.
    let _ = std::io::stderr().write_all(text.as_bytes());
    Ok(())
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
