//! A container's record and its state machine. Pure: nothing here touches the disk or a process.
//!
//! The record is Docker's `config.v2.json` and `hostconfig.json`, field for field, so that a data root can be taken
//! over and given back; fields that we do not know travel along in `rest`. The state is an enum; the booleans of
//! Docker's JSON are derived from it when it is written and read back into it.

use crate::id::ContainerId;
use api::container::{ContainerConfig, Health, State as WireState};
use api::host_config::HostConfig;
use api::network::NetworkSettings;
use api::time;
use json::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Made, never run. `error` is why the last attempt to start it failed.
    Created,
    /// Its init runs.
    Running { pid: i32, paused: bool },
    /// It ended and will be started again after a delay.
    Restarting,
    /// It ended.
    Exited,
    /// It is being removed; where that failed, `dead`.
    Removing { dead: bool },
}

/// A container.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: ContainerId,
    pub state: State,
    /// How the last run ended.
    pub exit_code: i64,
    pub error: String,
    pub oom_killed: bool,
    pub started_at: String,
    pub finished_at: String,
    pub health: Option<Health>,
    pub disk: Disk,
    pub host: HostConfig,
    /// What else stood in `hostconfig.json`, as balenaEngine's `DeviceSync`; written back by [`Record::to_host_json`].
    host_rest: serde_json::Map<String, Value>,
}

/// `config.v2.json` without the state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Disk {
    pub created: String,
    pub path: String,
    pub args: Vec<String>,
    pub config: ContainerConfig,
    pub image: String,
    pub network_settings: NetworkSettings,
    pub log_path: String,
    pub name: String,
    pub driver: String,
    #[serde(rename = "OS")]
    pub os: String,
    pub restart_count: i64,
    pub has_been_started_before: bool,
    pub has_been_manually_stopped: bool,
    pub mount_points: BTreeMap<String, MountPoint>,
    pub hostname_path: String,
    pub hosts_path: String,
    pub shm_path: String,
    pub resolv_conf_path: String,
    pub app_armor_profile: String,
    pub seccomp_profile: String,
    pub no_new_privileges: bool,
    /// What else stood in the file; written back by [`Record::to_config_json`].
    #[serde(skip)]
    pub rest: serde_json::Map<String, Value>,
}

/// A mount of a container as its record keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    pub source: String,
    pub destination: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub name: String,
    pub driver: String,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "api::json::is_zero")]
    pub relabel: String,
    #[serde(skip_serializing_if = "api::json::is_zero")]
    pub propagation: String,
    #[serde(skip_serializing_if = "api::json::is_zero")]
    pub mode: String,
    pub spec: api::host_config::Mount,
    /// The image's content is copied into the volume when it is empty.
    #[serde(skip_serializing_if = "api::json::is_zero")]
    pub copy_data: bool,
    pub skip_mountpoint_creation: bool,
}

/// The state as `config.v2.json` holds it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DiskState {
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    removal_in_progress: bool,
    dead: bool,
    pid: i32,
    exit_code: i64,
    error: String,
    started_at: String,
    finished_at: String,
    health: Option<Health>,
}

impl Record {
    /// A container that was just created.
    pub fn new(id: ContainerId, disk: Disk, host: HostConfig) -> Record {
        Record {
            id,
            state: State::Created,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: time::ZERO.into(),
            finished_at: time::ZERO.into(),
            health: None,
            disk,
            host,
            host_rest: serde_json::Map::new(),
        }
    }

    /// The name without its slash.
    pub fn name(&self) -> &str {
        self.disk.name.strip_prefix('/').unwrap_or(&self.disk.name)
    }

    /// Whether its init runs (paused or not).
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// The process ID of its init.
    pub fn pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Docker's word for the state.
    pub fn status(&self) -> &'static str {
        match self.state {
            State::Created => "created",
            State::Running { paused: true, .. } => "paused",
            State::Running { .. } => "running",
            State::Restarting => "restarting",
            State::Exited => "exited",
            State::Removing { dead: true } => "dead",
            State::Removing { .. } => "removing",
        }
    }

    /// The state as `inspect` gives it.
    pub fn wire_state(&self) -> WireState {
        WireState {
            status: self.status().into(),
            running: self.is_running() || self.state == State::Restarting,
            paused: matches!(self.state, State::Running { paused: true, .. }),
            restarting: self.state == State::Restarting,
            oom_killed: self.oom_killed,
            dead: matches!(self.state, State::Removing { dead: true }),
            pid: i64::from(self.pid().unwrap_or(0)),
            exit_code: self.exit_code,
            error: self.error.clone(),
            started_at: self.started_at.clone(),
            finished_at: self.finished_at.clone(),
            health: self.health.clone(),
        }
    }

    /// Its init was started.
    pub fn set_running(&mut self, pid: i32) {
        self.state = State::Running { pid, paused: false };
        self.started_at = time::now();
        self.exit_code = 0;
        self.error.clear();
        self.oom_killed = false;
        self.disk.has_been_started_before = true;
    }

    /// Its init ended.
    pub fn set_exited(&mut self, exit_code: i64, finished_at: &str, oom_killed: bool, restarting: bool) {
        self.state = if restarting { State::Restarting } else { State::Exited };
        self.exit_code = exit_code;
        self.finished_at = finished_at.into();
        self.oom_killed = oom_killed;
        self.health = None;
    }

    /// `config.v2.json`.
    pub fn to_config_json(&self) -> Vec<u8> {
        let state = DiskState {
            running: self.is_running() || self.state == State::Restarting,
            paused: matches!(self.state, State::Running { paused: true, .. }),
            restarting: self.state == State::Restarting,
            oom_killed: self.oom_killed,
            removal_in_progress: matches!(self.state, State::Removing { .. }),
            dead: matches!(self.state, State::Removing { dead: true }),
            pid: self.pid().unwrap_or(0),
            exit_code: self.exit_code,
            error: self.error.clone(),
            started_at: self.started_at.clone(),
            finished_at: self.finished_at.clone(),
            health: self.health.clone(),
        };
        // By way of a value: this type's own writer exists once, not once more for a flattened part.
        let mut map = self.disk.rest.clone();
        if let Value::Object(disk) = json::to_value(&self.disk) {
            map.extend(disk);
        }
        map.insert("StreamConfig".into(), Value::Object(serde_json::Map::new()));
        map.insert("State".into(), json::to_value(&state));
        map.insert("ID".into(), Value::String(self.id.to_string()));
        json::to_vec(&map)
    }

    /// `hostconfig.json`.
    pub fn to_host_json(&self) -> Vec<u8> {
        let mut map = self.host_rest.clone();
        if let Value::Object(host) = json::to_value(&self.host) {
            map.extend(host);
        }
        json::to_vec(&map)
    }

    /// Reads both files back.
    pub fn from_json(id: &ContainerId, config: &[u8], host: &[u8]) -> Result<Record, String> {
        let bad = |e: json::Error| format!("parse config.v2.json: {e}");
        let mut map: serde_json::Map<String, Value> = json::from_slice(config).map_err(bad)?;
        let on_disk: DiskState = json::from_value(&map.remove("State").unwrap_or_default()).map_err(bad)?;
        let own = map.remove("ID").unwrap_or_default();
        map.remove("StreamConfig");
        let mut disk: Disk = json::from_slice(config).map_err(bad)?;
        if let Value::Object(known) = json::to_value(&Disk::default()) {
            map.retain(|name, _| !known.contains_key(name));
        }
        disk.rest = map;
        let bad = |e: json::Error| format!("parse hostconfig.json: {e}");
        let mut host_rest: serde_json::Map<String, Value> = json::from_slice(host).map_err(bad)?;
        let host: HostConfig = json::from_slice(host).map_err(bad)?;
        // Of what we know, only what is empty and left out when it is written stays in it.
        if let Value::Object(known) = json::to_value(&host) {
            host_rest.retain(|name, _| !known.contains_key(name));
        }
        if own.as_str() != Some(id.as_str()) {
            return Err(format!(
                "config.v2.json is about container {:.12}",
                own.as_str().unwrap_or("")
            ));
        }
        let state = if on_disk.dead || on_disk.removal_in_progress {
            State::Removing { dead: on_disk.dead }
        } else if on_disk.restarting {
            State::Restarting
        } else if on_disk.running {
            State::Running {
                pid: on_disk.pid,
                paused: on_disk.paused,
            }
        } else if on_disk.started_at.is_empty() || on_disk.started_at == time::ZERO {
            State::Created
        } else {
            State::Exited
        };
        let or_zero = |text: String| if text.is_empty() { time::ZERO.to_string() } else { text };
        Ok(Record {
            id: id.clone(),
            state,
            exit_code: on_disk.exit_code,
            error: on_disk.error,
            oom_killed: on_disk.oom_killed,
            started_at: or_zero(on_disk.started_at),
            finished_at: or_zero(on_disk.finished_at),
            health: on_disk.health,
            disk,
            host,
            host_rest,
        })
    }
}

/// The line of `ps`: `Up 5 minutes`, `Exited (0) 3 seconds ago`.
pub fn status_line(record: &Record, now: time::Time) -> String {
    let since = |text: &str| human_duration(now.since(time::Time::parse(text).unwrap_or(now)));
    match record.state {
        State::Created => "Created".into(),
        State::Running { paused, .. } => {
            let up = since(&record.started_at);
            let health = match record.health.as_ref().map(|h| h.status.as_str()) {
                Some("starting") => " (health: starting)",
                Some("healthy") => " (healthy)",
                Some("unhealthy") => " (unhealthy)",
                _ => "",
            };
            if paused {
                format!("Up {up} (Paused)")
            } else {
                format!("Up {up}{health}")
            }
        }
        State::Restarting => format!("Restarting ({}) {} ago", record.exit_code, since(&record.finished_at)),
        State::Exited => format!("Exited ({}) {} ago", record.exit_code, since(&record.finished_at)),
        State::Removing { dead: true } => "Dead".into(),
        State::Removing { .. } => "Removal In Progress".into(),
    }
}

/// A duration in words, as Docker rounds it.
pub fn human_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Go rounds hours half up.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_record_survives_the_disk_with_what_it_does_not_know() {
        let id = ContainerId::random().unwrap();
        let text = format!(
            r#"{{"StreamConfig":{{}},"State":{{"Running":true,"Pid":42,"StartedAt":"2026-11-23T18:20:48.9Z"}},"ID":"{id}","Name":"/web",
            "Args":null,"Config":{{"Env":null}},"NetworkSettings":null,"MountPoints":null,"SecretReferences":null,"LocalLogCacheMeta":{{"HaveNotifyEnabled":false}}}}"#
        );
        let record = Record::from_json(&id, text.as_bytes(), b"{}").unwrap();
        assert_eq!(record.state, State::Running { pid: 42, paused: false });
        assert_eq!(record.name(), "web");
        let written = record.to_config_json();
        assert!(String::from_utf8_lossy(&written).contains("LocalLogCacheMeta"));
        let again = Record::from_json(&id, &written, b"{}").unwrap();
        assert_eq!(again.state, record.state);
        assert!(Record::from_json(&ContainerId::random().unwrap(), &written, b"{}").is_err());
        assert!(Record::from_json(&id, b"{", b"{}").is_err());
        assert!(Record::from_json(&id, &written, b"[]").is_err());
        // The host's side: what was zero and is left out, what is known, what is not.
        let host = br#"{"KernelMemory":0,"Mounts":[{"Type":"tmpfs","Target":"/t"}],"Memory":7,"DeviceSync":true}"#;
        let mut record = Record::from_json(&id, &written, host).unwrap();
        record.host.memory = 8;
        record.host.mounts = None;
        let host: Value = json::from_slice(&record.to_host_json()).unwrap();
        assert_eq!(host["DeviceSync"], Value::Bool(true));
        assert_eq!(host["Memory"], 8);
        assert!(host.get("Mounts").is_none());
    }

    #[test]
    fn durations_in_words() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 20, "2 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 800, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text);
        }
    }
}
