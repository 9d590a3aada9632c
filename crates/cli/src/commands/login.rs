//! `login`: checks credentials with a registry and keeps them.

use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::config::{Credentials, HUB};
use crate::flags::{Flag, Parsed};
use crate::terminal;
use api::client::Request;
use serde_json::{Value, json};
use std::io::Read;

/// No password is longer.
const MAX_SECRET: u64 = 64 * 1024;

pub const COMMAND: Command = Command::new(
    &["login"],
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    Args::AtMost(1),
    run,
)
.flags(&[&[
    Flag::text("password", "Password or Personal Access Token (PAT)").short('p'),
    Flag::bool(
        "password-stdin",
        "Take the Password or Personal Access Token (PAT) from stdin",
    ),
    Flag::text("username", "Username").short('u'),
]])
.examples(&[
    "login registry.example",
    "login -u device --password-stdin registry.example",
]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let server = parsed
        .first()
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let (username, mut password) = (parsed.text("username").to_string(), parsed.text("password").to_string());
    if parsed.given("password") {
        if parsed.bool("password-stdin") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        cli.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if parsed.bool("password-stdin") {
        if username.is_empty() {
            return Err(Failure::new(
                "the --password-stdin option requires --username to be set",
            ));
        }
        std::io::stdin().take(MAX_SECRET).read_to_string(&mut password)?;
        password = password.trim_end_matches(['\r', '\n']).to_string();
    }
    let address = if server.is_empty() { HUB } else { server };
    let mut credentials = Credentials {
        username: username.clone(),
        password,
        ..Credentials::default()
    };
    let stored = match username.is_empty() && credentials.password.is_empty() {
        true => cli
            .config
            .borrow()
            .credentials(if server.is_empty() { "docker.io" } else { server }),
        false => None,
    };
    let mut accepted = None;
    if let Some(stored) = stored {
        cli.warn(format!(
            "Authenticating with existing credentials... [Username: {}]\n\n Info -> To login with a different account, run '{program} logout' followed by '{program} login'\n\n",
            stored.username,
            program = cli.program,
        ));
        match check(cli, address, &stored) {
            Ok(answer) => {
                credentials = stored;
                accepted = Some(answer);
            }
            Err(e) => cli.warn(format!("Login did not succeed, error: {}", e.text)),
        }
    }
    let answer = match accepted {
        Some(answer) => answer,
        None => {
            ask(cli, &mut credentials)?;
            check(cli, address, &credentials)?
        }
    };
    if let Some(token) = answer["IdentityToken"].as_str().filter(|token| !token.is_empty()) {
        credentials.password.clear();
        credentials.identity_token = token.to_string();
    }
    let mut config = cli.config.borrow_mut();
    let readable = config.store(server, &credentials)?;
    let unencrypted = format!(
        "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
        config.dir.join("config.json").display()
    );
    if readable {
        cli.warn(unencrypted);
    }
    cli.say(
        answer["Status"]
            .as_str()
            .filter(|status| !status.is_empty())
            .unwrap_or("Login Succeeded"),
    )
}

/// Asks on the terminal for what is missing.
fn ask(cli: &Cli, credentials: &mut Credentials) -> Result<(), Failure> {
    if !credentials.username.is_empty() && !credentials.password.is_empty() {
        return Ok(());
    }
    if !terminal::is_input() {
        return Err(Failure::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    if credentials.username.is_empty() {
        cli.print("Username: ")?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        credentials.username = line.trim().to_string();
    }
    cli.print("Password: ")?;
    credentials.password = terminal::read_secret()?;
    cli.say("")?;
    if credentials.username.is_empty() || credentials.password.is_empty() {
        return Err(Failure::new("username is empty"));
    }
    Ok(())
}

/// Asks the registry, by way of the daemon, whether it takes them.
fn check(cli: &Cli, address: &str, credentials: &Credentials) -> Result<Value, Failure> {
    let body = json!({
        "username": credentials.username, "password": credentials.password,
        "identitytoken": credentials.identity_token, "serveraddress": address,
    });
    Ok(cli.client.send(Request::post("/auth").json(&body)?)?.json()?)
}
