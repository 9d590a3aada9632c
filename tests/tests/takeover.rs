//! A data root that Docker made is ours in place, and Docker's again afterwards.

use tests::{Client, Kind, ground};

/// What a user would see of what is there, whoever serves it.
fn seen(client: &Client) -> Vec<String> {
    let sorted = |text: String| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let lists: [&[&str]; 6] = [
        &[
            "images",
            "-a",
            "--no-trunc",
            "--digests",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}}",
        ],
        &[
            "ps",
            "-a",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.Networks}} {{.Labels}} {{.Mounts}}",
        ],
        &["volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Labels}}"],
        &[
            "network",
            "ls",
            "--no-trunc",
            "--filter",
            "type=custom",
            "--format",
            "{{.ID}} {{.Name}} {{.Driver}} {{.Internal}} {{.Labels}}",
        ],
        &[
            "volume",
            "inspect",
            "scratch",
            "--format",
            "{{json .Options}} {{json .Labels}}",
        ],
        &[
            "network",
            "inspect",
            "field",
            "--format",
            "{{json .IPAM.Config}} {{json .Options}} {{json .Labels}} {{.Internal}}",
        ],
    ];
    let mut seen: Vec<String> = lists.iter().map(|words| sorted(client.ok(words))).collect();
    for (container, format) in [
        (
            "web",
            "{{.Path}} {{json .Args}} {{json .Config.Env}} {{json .Config.Labels}} {{.HostConfig.RestartPolicy.Name}}",
        ),
        (
            "web",
            "{{.HostConfig.Memory}} {{json .HostConfig.PortBindings}} {{.HostConfig.NetworkMode}}",
        ),
        (
            "ended",
            "{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.LogConfig.Type}} {{.Image}}",
        ),
    ] {
        seen.push(client.ok(&["inspect", "-f", format, container]));
    }
    seen.push(client.ok(&["logs", "ended"]));
    seen
}

#[test]
fn dockers_data_root_is_taken_over_and_given_back() {
    ground::run(|g| {
        if !ground::there("dockerd") {
            println!("skipped: there is no dockerd to take over from");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let start = |kind: Kind| g.start_on(root.path(), kind, &[]);
        let (mut dockers, docker) = start(Kind::Docker);
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
        docker.ok(&["tag", &g.busybox, "example.com/team/tool:2"]);
        docker.ok(&[
            "network",
            "create",
            "--subnet",
            "10.88.0.0/24",
            "--ip-range",
            "10.88.0.128/25",
            "--gateway",
            "10.88.0.254",
            "--aux-address",
            "printer=10.88.0.200",
            "--label",
            "x=y",
            "-o",
            "com.docker.network.bridge.name=br-field",
            "field",
        ]);
        docker.ok(&["network", "create", "--internal", "quiet"]);
        docker.ok(&["volume", "create", "--label", "k=v", "data"]);
        docker.ok(&[
            "volume",
            "create",
            "--label",
            "a=b",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "scratch",
        ]);
        let ended = "echo kept > /data/file; touch /in-the-layer; echo in the log; exit 3";
        let ran = docker.run(&[
            "run",
            "--name",
            "ended",
            "-v",
            "data:/data",
            "busybox",
            "sh",
            "-c",
            ended,
        ]);
        assert_eq!(ran.code, 3, "{}", ran.err);
        let port = tests::registry::free_port().unwrap();
        let publish = format!("{port}:80");
        let web = [
            "--network",
            "field",
            "--network-alias",
            "www",
            "--restart",
            "on-failure:3",
            "-m",
            "64m",
            "-e",
            "A=1",
            "--label",
            "l=m",
        ];
        docker.ok(&[
            &["create", "--name", "web", "-p", &publish][..],
            &web,
            &["busybox", "httpd", "-f", "-h", "/www"],
        ]
        .concat());
        // An image made by a container's changes, with a layer that no registry has.
        docker.ok(&["commit", "ended", "made:here"]);
        let before = seen(&docker);
        assert_eq!(dockers.stop(), Some(0));

        let (mut ours, docker) = start(Kind::Ours);
        assert_eq!(seen(&docker), before);
        // All of it runs: the layer of one's own, the volume, the network with its addresses, names and port.
        assert_eq!(
            docker.ok(&["run", "--rm", "-v", "data:/data", "made:here", "cat", "/data/file"]),
            "kept"
        );
        docker.ok(&["run", "--rm", "made:here", "test", "-e", "/in-the-layer"]);
        let again = docker.run(&["start", "-a", "ended"]);
        assert_eq!((again.code, again.out.as_str()), (3, "in the log\n"));
        docker.ok(&["start", "web"]);
        let reaches =
            || tests::http::local(port, "GET", "/", &[], b"").is_ok_and(|answer| answer.text() == "It runs.\n");
        assert!(tests::client::within(std::time::Duration::from_secs(10), reaches));
        let address = docker.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.field.IPAddress}}", "web"]);
        assert!(address.starts_with("10.88.0."), "{address}");
        let page = docker.ok(&[
            "run",
            "--rm",
            "--network",
            "field",
            "busybox",
            "wget",
            "-qO-",
            "http://www/",
        ]);
        assert_eq!(page, "It runs.");
        docker.ok(&["stop", "-t", "0", "web"]);
        // And what is made here is Docker's to see.
        docker.ok(&["tag", "busybox", "ours:new"]);
        docker.ok(&[
            "run",
            "--name",
            "ours",
            "-v",
            "data:/data",
            "busybox",
            "sh",
            "-c",
            "echo by us > /data/more",
        ]);
        // A network that is removed here stays so, though Docker's list has it.
        docker.ok(&["network", "rm", "quiet"]);
        assert_eq!(ours.stop(), Some(0));
        ours.up().unwrap();
        assert!(docker.run(&["network", "inspect", "quiet"]).code != 0);
        let given = seen(&docker);
        assert_eq!(ours.stop(), Some(0));

        let (mut dockers, docker) = start(Kind::Docker);
        let after = seen(&docker);
        let networks = 3;
        for (index, (given, after)) in given.iter().zip(&after).enumerate() {
            // Docker never heard of what happened to networks here.
            assert!(
                index == networks || given == after,
                "given back:\n{given}\nDocker has:\n{after}"
            );
        }
        assert_eq!(
            docker.ok(&[
                "run",
                "--rm",
                "-v",
                "data:/data",
                "ours:new",
                "cat",
                "/data/file",
                "/data/more"
            ]),
            "kept\nby us"
        );
        assert_eq!(docker.ok(&["logs", "ended"]), "in the log\nin the log");
        docker.ok(&["start", "web"]);
        assert!(tests::client::within(std::time::Duration::from_secs(10), reaches));
        assert_eq!(docker.run(&["start", "-a", "ours"]).code, 0);
        docker.ok(&["rm", "-f", "web", "ours", "ended"]);
        dockers.stop();
    });
}

/// balenaEngine's data root: Docker's layout with two more fields in `hostconfig.json`, made by a Docker that is started
/// as balenaOS starts balenaEngine; and what it would not read, were it handed it.
#[test]
fn balena_engines_data_root_is_taken_over() {
    ground::run(|g| {
        if !ground::there("dockerd") {
            println!("skipped: there is no dockerd to make the data root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let start = |kind: Kind, extra: &[&str]| g.start_on(root.path(), kind, extra);
        let (mut dockers, docker) = start(Kind::Docker, &[]);
        docker.ok(&["pull", "-q", &g.busybox]);
        docker.ok(&["tag", &g.busybox, "busybox"]);
        let words = ["create", "--name", "supervisor", "--runtime", "io.containerd.runc.v2"];
        let id = docker.ok(&[&words[..], &["busybox", "sh", "-c", "echo $SUPERVISOR_CONTAINER_ID"]].concat());
        assert_eq!(dockers.stop(), Some(0));
        // What `balena run --cidenv` and the device sync of its early versions leave.
        let record = root.path().join("containers").join(&id).join("hostconfig.json");
        let text = std::fs::read_to_string(&record).unwrap();
        let mut host: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        host.insert("ContainerIDEnv".into(), "SUPERVISOR_CONTAINER_ID".into());
        host.insert("DeviceSync".into(), true.into());
        std::fs::write(&record, serde_json::to_string(&host).unwrap()).unwrap();

        let as_balena_os = [
            "--experimental",
            "--storage-driver=overlay2",
            "--storage-opt=overlay2.sync_diffs=false",
            "--max-download-attempts=10",
            "--add-runtime=extension=/bin/true",
            "--bip=10.114.101.1/24",
            "--fixed-cidr=10.114.101.0/25",
            "--dns=10.114.102.1",
        ];
        let (mut ours, docker) = start(Kind::Ours, &as_balena_os);
        assert_eq!(docker.ok(&["start", "-a", "supervisor"]), id);
        docker.ok(&["update", "-m", "64m", "--memory-swap", "64m", "supervisor"]);
        assert_eq!(
            docker.ok(&["run", "--rm", "busybox", "cat", "/etc/resolv.conf"]),
            "nameserver 10.114.102.1"
        );
        assert_eq!(ours.stop(), Some(0));
        let text = std::fs::read_to_string(&record).unwrap();
        let host: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(host["DeviceSync"], true, "{text}");
        assert_eq!(host["ContainerIDEnv"], "SUPERVISOR_CONTAINER_ID");
        assert_eq!(host["Memory"], 64 << 20);

        // Images of a driver that we have not are not passed over in silence.
        std::fs::rename(root.path().join("image/overlay2"), root.path().join("image/aufs")).unwrap();
        ours.options.extra.retain(|word| !word.starts_with("--storage-driver"));
        let refused = ours.up().unwrap_err().to_string();
        assert!(refused.contains("are of the storage driver aufs"), "{refused}");
    });
}
