//! `-v` and `--mount`: what of the host, of volumes and of memory a container sees where.

use crate::command::errno_text;
use crate::flags::parse_bool;
use crate::units::parse_size;
use api::host_config::{BindOptions, DriverConfig, Mount, TmpfsOptions, VolumeOptions};
use std::collections::BTreeMap;

/// What a `-v` asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    /// A bind of a path or of a volume by name, as the API takes it.
    Bind(String),
    /// A volume without a name at a path.
    Anonymous(String),
}

/// Reads `[source:]target[:mode]`; a relative source becomes absolute.
pub fn volume(text: &str) -> Result<Volume, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    // So short that there is no room for a colon between two things.
    let Some((source, target)) = text.split_once(':').filter(|_| text.len() > 2) else {
        return Ok(Volume::Anonymous(text.to_string()));
    };
    if source.is_empty() || target.is_empty() {
        return Err(format!("invalid spec: {text}: empty section between colons"));
    }
    if source != "." && !source.starts_with("./") {
        return Ok(Volume::Bind(text.to_string()));
    }
    let here = std::env::current_dir().map_err(|e| format!("find the working directory: {}", errno_text(&e)))?;
    let mut path = here;
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    Ok(Volume::Bind(format!("{}:{target}", path.display())))
}

/// Cuts a line of comma separated values, where a field may stand in quotes.
pub fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => fields.last_mut().expect("there is one").push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("there is one").push(c),
        }
    }
    fields
}

/// Reads a `--mount`.
pub fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: "volume".into(),
        ..Mount::default()
    };
    let (mut bind, mut volume, mut tmpfs) = (
        BindOptions::default(),
        VolumeOptions::default(),
        TmpfsOptions::default(),
    );
    let (mut labels, mut options) = (BTreeMap::new(), BTreeMap::new());
    let (mut has_bind, mut has_volume, mut has_tmpfs) = (false, false, false);
    for field in fields(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        let given = value.unwrap_or_default();
        let bool = || match value {
            None => Ok(true),
            Some(value) => parse_bool(value).ok_or_else(|| format!("invalid value for {key}: {value}")),
        };
        if value.is_none() && !matches!(key.as_str(), "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive") {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        let prefix = key.split('-').next().unwrap_or_default();
        has_bind |= prefix == "bind";
        has_volume |= prefix == "volume";
        has_tmpfs |= prefix == "tmpfs";
        let pair = |map: &mut BTreeMap<String, String>| {
            let (name, value) = given.split_once('=').unwrap_or((given, ""));
            map.insert(name.to_string(), value.to_string());
        };
        match key.as_str() {
            "type" => mount.kind = given.to_lowercase(),
            "source" | "src" => {
                mount.source = given.to_string();
                if given == "." || given.starts_with("./") {
                    let Volume::Bind(absolute) = self::volume(&format!("{given}:x"))? else {
                        continue;
                    };
                    mount.source = absolute.trim_end_matches(":x").to_string();
                }
            }
            "target" | "dst" | "destination" => mount.target = given.to_string(),
            "readonly" | "ro" => mount.read_only = bool()?,
            "consistency" => mount.consistency = given.to_lowercase(),
            "bind-propagation" => bind.propagation = given.to_lowercase(),
            "bind-nonrecursive" => bind.non_recursive = bool()?,
            "bind-recursive" => match given {
                "enabled" => {}
                "disabled" => bind.non_recursive = true,
                "writable" => bind.read_only_non_recursive = true,
                "readonly" => bind.read_only_force_recursive = true,
                _ => {
                    return Err(format!(
                        "invalid value for {key}: {given} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    ));
                }
            },
            "volume-subpath" => volume.subpath = given.to_string(),
            "volume-nocopy" => volume.no_copy = bool()?,
            "volume-label" => pair(&mut labels),
            "volume-driver" => volume.driver_config.get_or_insert_default().name = given.to_string(),
            "volume-opt" => pair(&mut options),
            "tmpfs-size" => {
                tmpfs.size_bytes = parse_size(given).map_err(|_| format!("invalid value for {key}: {given}"))?;
            }
            "tmpfs-mode" => {
                tmpfs.mode = u32::from_str_radix(given, 8).map_err(|_| format!("invalid value for {key}: {given}"))?;
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if mount.kind.is_empty() {
        return Err("type is required".into());
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    if mount.kind == "bind" && bind.read_only_force_recursive {
        if !mount.read_only {
            return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".into());
        }
        if bind.propagation != "rprivate" {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                    .into(),
            );
        }
    }
    for (has, kind) in [(has_bind, "bind"), (has_volume, "volume"), (has_tmpfs, "tmpfs")] {
        if has && mount.kind != kind {
            return Err(format!(
                "cannot mix '{kind}-*' options with mount type '{}'",
                mount.kind
            ));
        }
    }
    if !labels.is_empty() {
        volume.labels = Some(labels);
    }
    if !options.is_empty() {
        volume.driver_config.get_or_insert_with(DriverConfig::default).options = Some(options);
    }
    if has_volume {
        // Docker sends an empty one with any other option.
        volume.driver_config.get_or_insert_default();
    }
    mount.bind_options = has_bind.then_some(bind);
    mount.volume_options = has_volume.then_some(volume);
    mount.tmpfs_options = has_tmpfs.then_some(tmpfs);
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        assert_eq!(volume("/a:/b:ro"), Ok(Volume::Bind("/a:/b:ro".into())));
        assert_eq!(volume("name:/b"), Ok(Volume::Bind("name:/b".into())));
        assert_eq!(volume("/b"), Ok(Volume::Anonymous("/b".into())));
        assert_eq!(volume("./x/../y:/b"), Ok(Volume::Bind(format!("{here}/y:/b"))));
        assert_eq!(volume(".:/b"), Ok(Volume::Bind(format!("{here}:/b"))));
        assert!(volume(":/bc").is_err() && volume("").is_err());
    }

    #[test]
    fn mounts() {
        let mount = parse("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        assert!(mount.read_only && mount.kind == "bind" && mount.bind_options.unwrap().propagation == "rslave");
        let mount = parse("target=/b,volume-driver=local,\"volume-opt=o=a,b\",volume-nocopy").unwrap();
        let options = mount.volume_options.unwrap();
        assert!(options.no_copy && options.driver_config.unwrap().options.unwrap()["o"] == "a,b");
        let mount = parse("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770").unwrap();
        assert_eq!(
            mount.tmpfs_options.map(|t| (t.size_bytes, t.mode)),
            Some((64 << 20, 0o1770))
        );
        for (text, why) in [
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("type=bind,src=/a", "target is required"),
            (
                "type=bind,dst=/a,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
            ("type=bind,dst=/a,x=y", "unexpected key 'x' in 'x=y'"),
            ("dst=/a,ro=x", "invalid value for ro: x"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why);
        }
    }
}
