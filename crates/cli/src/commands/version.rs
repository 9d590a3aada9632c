//! `version`: what client and server are.

use super::formats;
use crate::cli::{COMMIT, Cli};
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;
use crate::table;
use api::client::Client;
use serde_json::{Value as Json, json};
use template::{Template, Type, Value};

pub const COMMAND: Command = Command::new(
    &["version"],
    "[OPTIONS]",
    "Show the Docker version information",
    Args::None,
    run,
)
.flags(&[&[formats::INSPECT]])
.examples(&["version", "version --format {{.Server.Version}}"]);

/// When this was built; the build says.
pub const BUILD_TIME: &str = match option_env!("BALENA_BUILD_TIME") {
    Some(time) => time,
    None => "unknown",
};

/// The architecture as Go names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let template = match parsed.text("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        format => Some(format),
    };
    let template = template
        .map(|text| Template::named("version", text))
        .transpose()
        .map_err(|why| Failure {
            code: 64,
            text: format!("template parsing error: {why}"),
        })?;
    let server = cli.client.get::<Json>("/version");
    let newest = Client::newest();
    let spoken = cli.client.version().unwrap_or(&newest).to_string();
    let client = json!({
        "Version": api::ENGINE_VERSION, "ApiVersion": spoken, "DefaultAPIVersion": newest, "GitCommit": COMMIT,
        "GoVersion": "", "Os": "linux", "Arch": architecture(), "BuildTime": BUILD_TIME, "Context": "default",
    });
    if let Some(template) = template {
        let mut all = json!({"Client": client, "Server": server.as_ref().ok()});
        for component in all
            .pointer_mut("/Server/Components")
            .and_then(Json::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(time) = component["Details"].get_mut("BuildTime")
                && let Some(text) = time.as_str()
            {
                *time = Json::from(reformat(text));
            }
        }
        let result = template.execute(&Value::typed(&all, &Type::parse("system.versionInfo")));
        let (text, why) = match result {
            Ok(text) => (text, None),
            Err((text, why)) => (text, Some(why)),
        };
        cli.say(text)?;
        if let Some(why) = why {
            return Err(Failure::new(why));
        }
        return server.map(|_| ()).map_err(Failure::from);
    }
    let downgraded = if spoken == newest {
        String::new()
    } else {
        format!(" (downgraded from {newest})")
    };
    let mut text = format!(
        "Client:\n Version:\t{}\n API version:\t{spoken}{downgraded}\n Git commit:\t{COMMIT}\n Built:\t{BUILD_TIME}\n OS/Arch:\tlinux/{}\n Context:\tdefault\n",
        api::ENGINE_VERSION,
        architecture()
    );
    if let Ok(server) = &server {
        text.push_str(&show(server));
    }
    cli.print(&table::align(&text, 20, 1))?;
    server.map(|_| ()).map_err(Failure::from)
}

/// The server's part: its components, the engine first.
fn show(server: &Json) -> String {
    let word = |json: &Json| json.as_str().unwrap_or_default().to_string();
    let platform = word(&server["Platform"]["Name"]);
    let mut text = if platform.is_empty() {
        "\nServer:\n".to_string()
    } else {
        format!("\nServer: {platform}\n")
    };
    let engine = json!({"Name": "Engine", "Version": server["Version"], "Details": server});
    let listed = server["Components"].as_array().filter(|list| !list.is_empty()).cloned();
    for component in listed.unwrap_or_else(|| vec![engine]) {
        let (name, version, details) = (
            word(&component["Name"]),
            word(&component["Version"]),
            &component["Details"],
        );
        text.push_str(&format!(" {name}:\n  Version:\t{version}\n"));
        let detail = |key: &str| word(&details[key]);
        if name == "Engine" {
            text.push_str(&format!(
                "  API version:\t{} (minimum version {})\n  Go version:\t{}\n  Git commit:\t{}\n  Built:\t{}\n  OS/Arch:\t{}/{}\n  Experimental:\t{}\n",
                detail("ApiVersion"),
                detail("MinAPIVersion"),
                detail("GoVersion"),
                detail("GitCommit"),
                reformat(&detail("BuildTime")),
                detail("Os"),
                detail("Arch"),
                detail("Experimental"),
            ));
        } else if let Some(map) = details.as_object() {
            for (key, value) in map {
                text.push_str(&format!("  {key}:\t{}\n", word(value)));
            }
        }
    }
    text
}

/// A moment of RFC 3339 as Go's `time.ANSIC` shows it; anything else stays.
fn reformat(text: &str) -> String {
    let Some(time) = api::time::Time::parse(text) else {
        return text.to_string();
    };
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let plain = time.whole_seconds().to_rfc3339();
    let number = |range: std::ops::Range<usize>| plain[range].parse::<usize>().unwrap_or(1);
    let day = usize::try_from(time.seconds.div_euclid(86_400).rem_euclid(7)).unwrap_or(0);
    let month = MONTHS[(number(5..7) - 1).min(11)];
    format!(
        "{} {month} {:>2} {} {}",
        DAYS[day],
        number(8..10),
        &plain[11..19],
        &plain[..4]
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments_as_ansi_c() {
        assert_eq!(
            super::reformat("2026-05-07T21:09:36.000000000+00:00"),
            "Thu May  7 21:09:36 2026"
        );
        assert_eq!(super::reformat("unknown"), "unknown");
    }
}
