//! What every command works with: the daemon's client, the configuration, the output.

use crate::command::Failure;
use crate::config::Config;
use crate::flags::{Flag, Kind, Parsed};
use api::client::{Client, DEFAULT_HOST, Endpoint};
use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;

/// Flags that stand before the command.
pub const GLOBAL: &[Flag] = &[
    Flag::text("config", "Location of client config files"),
    Flag::text(
        "context",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")",
    )
    .short('c'),
    Flag::bool("debug", "Enable debug mode").short('D'),
    Flag::list("host", "Daemon socket to connect to").short('H'),
    Flag::text("log-level", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .short('l')
        .default("\"info\""),
    Flag::bool("tls", "Use TLS; implied by --tlsverify"),
    Flag::text("tlscacert", "Trust certs signed only by this CA"),
    Flag::text("tlscert", "Path to TLS certificate file"),
    Flag::text("tlskey", "Path to TLS key file"),
    Flag::new("tlsverify", Kind::Bool, "Use TLS and verify the remote"),
    Flag::bool("version", "Print version information and quit").short('v'),
];

/// The commit that this was built from; the build says.
pub const COMMIT: &str = match option_env!("BALENA_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A command's surroundings.
pub struct Cli {
    /// The name that we were called by.
    pub program: String,
    pub client: Arc<Client>,
    pub config: RefCell<Config>,
    pub debug: bool,
}

impl Cli {
    /// Reads the configuration and decides which daemon is meant; nothing is connected yet.
    pub fn new(program: &str, global: &Parsed) -> Result<Cli, Failure> {
        let config = Config::load(Config::directory(global.get("config")));
        let unresolved = |why: String| {
            Failure::new(format!(
                "Failed to initialize: unable to resolve docker endpoint: {why}"
            ))
        };
        let endpoint = endpoint(global, &config).map_err(unresolved)?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let tls = global.bool("tls") || global.bool("tlsverify") || variable("DOCKER_TLS_VERIFY").is_some();
        if tls && matches!(endpoint, Endpoint::Tcp(_)) {
            return Err(unresolved(format!(
                "TLS is not supported yet by this client: {endpoint}"
            )));
        }
        let pinned = variable("DOCKER_API_VERSION").map(|version| version.trim_start_matches('v').to_string());
        let mut client = Client::new(endpoint, pinned);
        for (name, value) in config.headers() {
            client = client.with_header(&name, &value);
        }
        Ok(Cli {
            program: program.to_string(),
            client: Arc::new(client),
            config: RefCell::new(config),
            debug: global.bool("debug"),
        })
    }

    /// Writes to standard output.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Writes a line to standard output.
    pub fn say(&self, line: impl std::fmt::Display) -> Result<(), Failure> {
        self.print(&format!("{line}\n"))
    }

    /// Writes a line to standard error, where nobody may listen.
    pub fn warn(&self, line: impl std::fmt::Display) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// Asks a question that only `y` answers with yes.
    pub fn confirm(&self, question: &str) -> Result<bool, Failure> {
        self.print(&format!("{question} [y/N] "))?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        Ok(line.trim().eq_ignore_ascii_case("y"))
    }
}

/// Which daemon: `-H`, else a context, else `DOCKER_HOST`, else the usual socket.
fn endpoint(global: &Parsed, config: &Config) -> Result<Endpoint, String> {
    let hosts = global.list("host");
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if hosts.len() > 1 {
        return Err("Specify only one -H".into());
    }
    if let Some(host) = hosts.first() {
        if global.given("context") {
            return Err("conflicting options: cannot specify both --host and --context".into());
        }
        return Endpoint::parse(host);
    }
    let host = variable("DOCKER_HOST");
    let context = match global.get("context") {
        Some(context) => Some(context.to_string()),
        None if host.is_some() => None,
        None => variable("DOCKER_CONTEXT").or_else(|| Some(config.text("currentContext").to_string())),
    };
    if let Some(context) = context.filter(|context| !context.is_empty() && context != "default") {
        return Err(format!(
            "context \"{context}\": context not found: only the default context is supported by balena"
        ));
    }
    Endpoint::parse(&host.unwrap_or_else(|| DEFAULT_HOST.to_string()))
}
