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
use flags::FlagError;
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

/// What the command line asks for.
enum Line<'a> {
    Command(&'static Command, &'static str, &'a [String]),
    Group(&'static str),
}

fn run(program: &str, args: &[String]) -> Result<(), Failure> {
    let global = match flags::parse(&[cli::GLOBAL], args, false) {
        Ok(global) => global,
        Err(FlagError::Help | FlagError::ShortHelp) => return show(&commands::help(program)),
        Err(FlagError::Text(why)) => {
            let usage = format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]");
            let text = format!("{why}\n\n{usage}\n\nRun '{program} --help' for more information");
            return Err(Failure { code: 125, text });
        }
    };
    if global.bool("version") {
        let name = if program == "docker" { "Docker" } else { program };
        return show(&format!(
            "{name} version {}, build {}\n",
            api::ENGINE_VERSION,
            cli::COMMIT
        ));
    }
    let mut words = global.args.as_slice();
    let help = words.first().is_some_and(|word| word == "help");
    if help {
        words = &words[1..];
    }
    if words.is_empty() {
        return show(&commands::help(program));
    }
    if help && find(program, words).is_err() {
        return Err(Failure::new(format!("unknown help topic: {}", words.join(" "))));
    }
    match find(program, words)? {
        Line::Group(group) => {
            let wanted = help || words.get(1).is_some_and(|word| word == "--help");
            let text = commands::group_help(program, group);
            if wanted {
                return show(&text);
            }
            match words.get(1) {
                Some(flag) if flag.starts_with('-') => {
                    let tail = commands::group_usage(group);
                    let text = format!(
                        "unknown flag: {flag}\n\nUsage:  {program} {group}{tail}\n\nRun '{program} {group} --help' for more information"
                    );
                    Err(Failure { code: 125, text })
                }
                _ => {
                    eprint!("{text}");
                    Ok(())
                }
            }
        }
        Line::Command(command, path, _) if help => show(&help::command(program, path, command)),
        Line::Command(command, path, rest) => {
            let parsed = match flags::parse(command.flags, rest, !command.stop_at_args) {
                Ok(parsed) => parsed,
                Err(FlagError::Help) => return show(&help::command(program, path, command)),
                Err(FlagError::ShortHelp) => {
                    eprintln!("Flag shorthand -h has been deprecated, use --help");
                    return show(&help::command(program, path, command));
                }
                Err(FlagError::Text(why)) => {
                    let usage = help::usage_line(program, path, command);
                    let text =
                        format!("{why}\n\nUsage:  {usage}\n\nRun '{program} {path} --help' for more information");
                    return Err(Failure { code: 125, text });
                }
            };
            if let Some(text) = help::wrong_args(program, path, command, parsed.args.len()) {
                return Err(Failure::new(text));
            }
            (command.run)(&Cli::new(program, &global)?, &parsed)
        }
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

fn find<'a>(program: &str, words: &'a [String]) -> Result<Line<'a>, Failure> {
    let first = words[0].as_str();
    if let Some(group) = commands::GROUPS.iter().find(|group| group.name == first) {
        let Some(second) = words.get(1).filter(|word| !word.starts_with('-')) else {
            return Ok(Line::Group(group.name));
        };
        if let Some((command, path)) = commands::find(&format!("{first} {second}")) {
            return Ok(Line::Command(command, path, &words[2..]));
        }
        if commands::later(&format!("{first} {second}")) {
            return Err(Failure::new(format!(
                "balena: '{first} {second}' is not supported yet by balena"
            )));
        }
        let tail = commands::group_usage(first);
        return Err(Failure::new(format!(
            "{program}: unknown command: {program} {first} {second}\n\nUsage:  {program} {first}{tail}\n\nRun '{program} {first} --help' for more information"
        )));
    }
    if let Some((command, path)) = commands::find(first) {
        return Ok(Line::Command(command, path, &words[1..]));
    }
    if commands::later(first) {
        return Err(Failure::new(format!(
            "balena: '{first}' is not supported yet by balena"
        )));
    }
    Err(Failure::new(format!(
        "{program}: unknown command: {program} {first}\n\nRun '{program} --help' for more information"
    )))
}
