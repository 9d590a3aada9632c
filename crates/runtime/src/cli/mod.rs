//! The runtime's command line: runc's commands, options, output and exit codes.

mod args;
mod exec;
mod lifecycle;
mod observe;
mod run;
mod spec;
mod update;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use crate::error::{Context, Error, Result};
use args::{Args, Option_};

/// Where containers' state is kept when `--root` does not say.
const DEFAULT_ROOT: &str = "/run/balena-engine-runc";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Options before the command.
struct Globals {
    root: PathBuf,
    systemd_cgroup: bool,
}

/// A command: its options, and what it does. The number is the exit code.
struct Command {
    name: &'static str,
    options: &'static [Option_],
    /// It makes a process that enters a container.
    enters: bool,
    run: fn(&Globals, &Args) -> Result<i32>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "create",
        options: lifecycle::CREATE_OPTIONS,
        enters: true,
        run: lifecycle::create,
    },
    Command {
        name: "start",
        options: &[],
        enters: false,
        run: lifecycle::start,
    },
    Command {
        name: "run",
        options: run::OPTIONS,
        enters: true,
        run: run::run,
    },
    Command {
        name: "state",
        options: &[],
        enters: false,
        run: observe::state,
    },
    Command {
        name: "kill",
        options: &[(&["all", "a"], false)],
        enters: false,
        run: lifecycle::kill,
    },
    Command {
        name: "delete",
        options: &[(&["force", "f"], false)],
        enters: false,
        run: lifecycle::delete,
    },
    Command {
        name: "exec",
        options: exec::OPTIONS,
        enters: true,
        run: exec::exec,
    },
    Command {
        name: "ps",
        options: &[(&["format", "f"], true)],
        enters: false,
        run: observe::ps,
    },
    Command {
        name: "pause",
        options: &[],
        enters: false,
        run: lifecycle::pause,
    },
    Command {
        name: "resume",
        options: &[],
        enters: false,
        run: lifecycle::resume,
    },
    Command {
        name: "update",
        options: update::OPTIONS,
        enters: false,
        run: update::update,
    },
    Command {
        name: "events",
        options: &[(&["stats"], false), (&["interval"], true)],
        enters: false,
        run: observe::events,
    },
    Command {
        name: "list",
        options: &[(&["format", "f"], true), (&["quiet", "q"], false)],
        enters: false,
        run: observe::list,
    },
    Command {
        name: "spec",
        options: &[(&["bundle", "b"], true), (&["rootless"], false)],
        enters: false,
        run: spec::spec,
    },
    Command {
        name: "features",
        options: &[],
        enters: false,
        run: observe::features,
    },
];

const GLOBAL_OPTIONS: &[Option_] = &[
    (&["root"], true),
    (&["log"], true),
    (&["log-format"], true),
    (&["debug"], false),
    (&["systemd-cgroup"], false),
    (&["rootless"], true),
    (&["criu"], true),
    (&["version", "v"], false),
    (&["help", "h"], false),
];

/// Where errors are written.
struct Log {
    path: Option<PathBuf>,
    json: bool,
}

/// The runtime. `args` is the whole command line, the program's name first.
pub fn main_runc(args: Vec<OsString>) -> i32 {
    let mut log = Log {
        path: None,
        json: false,
    };
    match dispatch(args, &mut log) {
        Ok(code) => code,
        Err(Failed { error, code }) => {
            log.report(&error);
            code
        }
    }
}

/// An error and the exit code it is left with.
struct Failed {
    error: Error,
    code: i32,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, code: 1 }
    }
}

fn dispatch(line: Vec<OsString>, log: &mut Log) -> Result<i32, Failed> {
    let words: Vec<String> = line
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let globals = Args::parse(&words, GLOBAL_OPTIONS)?;
    log.path = globals.value("log").filter(|path| !path.is_empty()).map(PathBuf::from);
    log.json = match globals.value("log-format") {
        None | Some("text" | "") => false,
        Some("json") => true,
        Some(other) => return Err(Error::new(format!("invalid log-format: {other}")).into()),
    };
    if globals.is_set("version") {
        println!("runc version {VERSION}\nspec: {}", oci::runtime::OCI_VERSION);
        return Ok(0);
    }
    let Some((name, rest)) = globals.rest.split_first() else {
        print_help();
        return Ok(0);
    };
    if globals.is_set("help") || name == "help" {
        print_help();
        return Ok(0);
    }
    // An emulator adds threads of its own: to be asked for the version, they do not matter.
    let threads = sys::process::threads().context("count own threads")?;
    if threads != 1 {
        return Err(Error::new(format!("the runtime runs in a process with {threads} threads")).into());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Error::new(format!("No help topic for '{name}'")).into());
    };
    let args = Args::parse(rest, command.options)?;
    if command.enters {
        // Made by `create` anyway; here it is the overlay's second layer, which nobody looks into.
        let root = std::path::PathBuf::from(globals.value("root").unwrap_or(DEFAULT_ROOT));
        let _ = std::fs::create_dir_all(&root);
        crate::sealed::ensure(&line, &root)?;
    }
    let globals = Globals {
        root: globals.value("root").unwrap_or(DEFAULT_ROOT).into(),
        systemd_cgroup: globals.is_set("systemd-cgroup"),
    };
    (command.run)(&globals, &args).map_err(|error| match name.as_str() {
        "create" => error.within("runc create failed").into(),
        "run" => error.within("runc run failed").into(),
        "exec" => Failed {
            error: error.within("exec failed"),
            code: 255,
        },
        _ => error.into(),
    })
}

fn print_help() {
    println!(
        "NAME:\n   runc - Open Container Initiative runtime\n\nUSAGE:\n   runc [global options] command [command options] [arguments...]\n\nCOMMANDS:"
    );
    for command in COMMANDS {
        println!("   {}", command.name);
    }
}

impl Log {
    /// As runc: to the log file when there is one, in its format, and to stderr.
    fn report(&self, error: &Error) {
        let message = json::to_string(&error.to_string());
        let time = crate::time::now();
        // logrus writes whole seconds.
        let time = format!("{}Z", time.split(['.', 'Z']).next().unwrap_or_default());
        let line = if self.json {
            format!("{{\"level\":\"error\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        } else {
            format!("time=\"{time}\" level=error msg={message}\n")
        };
        match &self.path {
            None => {
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            Some(path) => {
                let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
                let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
                let _ = writeln!(std::io::stderr(), "{error}");
            }
        }
    }
}

/// The container a command is about.
fn container(globals: &Globals, args: &Args) -> Result<crate::container::Container> {
    let id = args.rest.first().map(String::as_str).unwrap_or_default();
    crate::container::Container::load(&globals.root, id)
}

/// Refuses a wrong number of arguments with runc's words.
fn expect_args(args: &Args, command: &str, minimum: usize, maximum: Option<usize>) -> Result<()> {
    let count = args.rest.len();
    if maximum == Some(minimum) && count != minimum {
        return Err(Error::new(format!("{command:?} requires exactly {minimum} argument(s)")).within("runc"));
    }
    if count < minimum {
        return Err(Error::new(format!("{command:?} requires a minimum of {minimum} argument")).within("runc"));
    }
    if maximum.is_some_and(|maximum| count > maximum) {
        return Err(Error::new(format!(
            "{command:?} requires a maximum of {} argument",
            maximum.unwrap_or(0)
        ))
        .within("runc"));
    }
    Ok(())
}
