//! `config.json` of a bundle: the OCI runtime specification 1.x, its Linux parts.
//!
//! The engine builds a [`Spec`], the runtime obeys it. Absent and empty fields are left out when
//! written, as Go's `omitempty` does; `null` is read as absent, as Go's decoder does.

use std::collections::BTreeMap;

use json::{Deserialize, Serialize};

/// The version of the specification this module describes.
pub const OCI_VERSION: &str = "1.2.0";

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

macro_rules! spec_types {
    ($( $(#[$doc:meta])* struct $name:ident { $( $(#[$field_doc:meta])* $field:ident: $type:ty ),* $(,)? } )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                $( $(#[$field_doc])* pub $field: $type, )*
            }
        )*
    };
}

spec_types! {
    /// The whole of `config.json`.
    struct Spec {
        oci_version: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
        #[serde(skip_serializing_if = "Option::is_none")]
        root: Option<Root>,
        #[serde(skip_serializing_if = "String::is_empty")]
        hostname: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        domainname: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        mounts: Vec<Mount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hooks: Option<Hooks>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        annotations: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        linux: Option<Linux>,
    }

    /// What runs in the container, and as whom.
    struct Process {
        #[serde(skip_serializing_if = "is_false")]
        terminal: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        console_size: Option<ConsoleSize>,
        user: User,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        args: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        env: Vec<String>,
        cwd: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        capabilities: Option<Capabilities>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        rlimits: Vec<Rlimit>,
        #[serde(skip_serializing_if = "is_false")]
        no_new_privileges: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        apparmor_profile: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        oom_score_adj: Option<i32>,
        #[serde(skip_serializing_if = "String::is_empty")]
        selinux_label: String,
    }

    /// Size of a terminal, in character cells.
    struct ConsoleSize {
        height: u16,
        width: u16,
    }

    /// Credentials inside the container.
    struct User {
        uid: u32,
        gid: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        umask: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        additional_gids: Vec<u32>,
    }

    /// The five capability sets, as `CAP_…` names.
    struct Capabilities {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        bounding: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        effective: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        inheritable: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        permitted: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ambient: Vec<String>,
    }

    /// One resource limit (`RLIMIT_NOFILE`, …).
    struct Rlimit {
        #[serde(rename = "type")]
        kind: String,
        hard: u64,
        soft: u64,
    }

    /// The root filesystem.
    struct Root {
        path: String,
        #[serde(skip_serializing_if = "is_false")]
        readonly: bool,
    }

    /// One mount, in the order they are made.
    struct Mount {
        destination: String,
        #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
        kind: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        source: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    }

    /// Programs run at fixed moments of a container's life; each reads the state JSON on stdin.
    struct Hooks {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        prestart: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        create_runtime: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        create_container: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        start_container: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        poststart: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        poststop: Vec<Hook>,
    }

    /// One hook. `args` includes argv[0]; `timeout` is in seconds.
    struct Hook {
        path: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        args: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        env: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<u32>,
    }

    /// Linux' own part.
    struct Linux {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        uid_mappings: Vec<IdMapping>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        gid_mappings: Vec<IdMapping>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        sysctl: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Resources>,
        #[serde(skip_serializing_if = "String::is_empty")]
        cgroups_path: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        namespaces: Vec<Namespace>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        devices: Vec<Device>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seccomp: Option<Seccomp>,
        #[serde(skip_serializing_if = "String::is_empty")]
        rootfs_propagation: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        masked_paths: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        readonly_paths: Vec<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        mount_label: String,
    }

    /// One line of a user namespace's `uid_map` or `gid_map`.
    struct IdMapping {
        #[serde(rename = "containerID")]
        container_id: u32,
        #[serde(rename = "hostID")]
        host_id: u32,
        size: u32,
    }

    /// A namespace of the container: new, or joined when `path` is given.
    struct Namespace {
        #[serde(rename = "type")]
        kind: NamespaceKind,
        #[serde(skip_serializing_if = "String::is_empty")]
        path: String,
    }

    /// A device node to make. `kind` is `c`, `b`, `u` or `p`.
    struct Device {
        path: String,
        #[serde(rename = "type")]
        kind: String,
        major: i64,
        minor: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_mode: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    }

    /// Limits of the container's cgroup.
    struct Resources {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        devices: Vec<DeviceRule>,
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<Memory>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cpu: Option<Cpu>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pids: Option<Pids>,
        #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
        block_io: Option<BlockIo>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        hugepage_limits: Vec<HugepageLimit>,
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<NetworkClass>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        unified: BTreeMap<String, String>,
    }

    /// One rule of the device cgroup. Absent `kind` means all, absent numbers mean any.
    struct DeviceRule {
        allow: bool,
        #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
        kind: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        major: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        minor: Option<i64>,
        #[serde(skip_serializing_if = "String::is_empty")]
        access: String,
    }

    /// Memory limits in bytes; -1 is unlimited.
    struct Memory {
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reservation: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        swap: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        kernel: Option<i64>,
        #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
        kernel_tcp: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        swappiness: Option<u64>,
        #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
        disable_oom_killer: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        use_hierarchy: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        check_before_update: Option<bool>,
    }

    /// CPU limits; `quota` and `period` in microseconds.
    struct Cpu {
        #[serde(skip_serializing_if = "Option::is_none")]
        shares: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        quota: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        burst: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        period: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        realtime_runtime: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        realtime_period: Option<u64>,
        #[serde(skip_serializing_if = "String::is_empty")]
        cpus: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        mems: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        idle: Option<i64>,
    }

    /// Limit of the number of tasks; 0 is left alone, negative is unlimited.
    struct Pids {
        limit: i64,
    }

    /// Block I/O limits.
    struct BlockIo {
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        leaf_weight: Option<u16>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        weight_device: Vec<WeightDevice>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        throttle_read_bps_device: Vec<ThrottleDevice>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice", skip_serializing_if = "Vec::is_empty")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice", skip_serializing_if = "Vec::is_empty")]
        throttle_write_iops_device: Vec<ThrottleDevice>,
    }

    /// Weight of one block device.
    struct WeightDevice {
        major: i64,
        minor: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        leaf_weight: Option<u16>,
    }

    /// Rate of one block device, bytes or operations per second.
    struct ThrottleDevice {
        major: i64,
        minor: i64,
        rate: u64,
    }

    /// Limit of one huge page size (`2MB`), in bytes.
    struct HugepageLimit {
        page_size: String,
        limit: u64,
    }

    /// net_cls and net_prio.
    struct NetworkClass {
        #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
        class_id: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        priorities: Vec<InterfacePriority>,
    }

    /// Priority of traffic on one interface.
    struct InterfacePriority {
        name: String,
        priority: u32,
    }

    /// A seccomp filter; names as in libseccomp (`SCMP_ACT_…`, `SCMP_ARCH_…`, `SCMP_CMP_…`).
    struct Seccomp {
        default_action: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        default_errno_ret: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        architectures: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        listener_path: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        syscalls: Vec<SyscallRule>,
    }

    /// One rule: these system calls, with all of these arguments, get this action.
    struct SyscallRule {
        names: Vec<String>,
        action: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        errno_ret: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        args: Vec<SyscallArg>,
    }

    /// One condition on an argument. `value_two` is the operand of `SCMP_CMP_MASKED_EQ`.
    struct SyscallArg {
        #[serde(skip_serializing_if = "is_zero_u32")]
        index: u32,
        value: u64,
        value_two: u64,
        op: String,
    }
}

/// The kinds of namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    #[default]
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

impl NamespaceKind {
    /// The name of its file in `/proc/PID/ns`.
    pub fn proc_name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

impl Spec {
    /// Reads `config.json`. A `null` anywhere counts as absent.
    pub fn from_slice(bytes: &[u8]) -> json::Result<Self> {
        json::from_slice(bytes)
    }

    /// The container's own (not joined) or joined namespace of a kind.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux
            .as_ref()?
            .namespaces
            .iter()
            .find(|namespace| namespace.kind == kind)
    }
}

impl Process {
    /// Reads the file given to `runc exec --process`.
    pub fn from_slice(bytes: &[u8]) -> json::Result<Self> {
        json::from_slice(bytes)
    }
}

impl Seccomp {
    /// Reads a profile.
    pub fn from_slice(bytes: &[u8]) -> json::Result<Self> {
        json::from_slice(bytes)
    }
}

impl Resources {
    /// Reads what `runc update --resources` is given.
    pub fn from_slice(bytes: &[u8]) -> json::Result<Self> {
        json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_absent() {
        let spec = Spec::from_slice(
            br#"{"ociVersion":"1.0.2","process":{"args":null,"cwd":"/","user":{"uid":1,"gid":2,"additionalGids":null}},"hooks":null,"linux":{"maskedPaths":null,"namespaces":[{"type":"network","path":"/x"}]}}"#,
        )
        .unwrap();
        assert_eq!(spec.process.as_ref().unwrap().user.uid, 1);
        assert_eq!(spec.namespace(NamespaceKind::Network).unwrap().path, "/x");
        assert!(spec.namespace(NamespaceKind::Pid).is_none());
    }

    #[test]
    fn names_are_those_of_the_specification() {
        let resources = Resources::from_slice(
            br#"{"memory":{"limit":1,"disableOOMKiller":true},"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":5}]}}"#,
        )
        .unwrap();
        assert_eq!(resources.memory.as_ref().unwrap().disable_oom_killer, Some(true));
        let text = json::to_string(&resources);
        assert!(
            text.contains(r#""throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":5}]"#),
            "{text}"
        );
        assert!(!text.contains("weight"), "{text}");
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Spec::from_slice(b"{").is_err());
        assert!(Spec::from_slice(br#"{"linux":3}"#).is_err());
    }
}
