//! Images checked on the disk, and healed from their registry while other layers stay as they are.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tests::client::within;
use tests::{Daemon, ground};

/// The file of a name in any layer.
fn file(daemon: &Daemon, name: &str) -> PathBuf {
    let layers = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().flatten();
    let mut found = layers
        .map(|layer| layer.path().join("diff").join(name))
        .filter(|path| path.exists());
    found.next().unwrap()
}

/// Changes a byte, and nothing that a look at the file would tell.
fn flip(path: &PathBuf) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[2] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

#[test]
fn damage_is_named_and_repaired() {
    ground::run(|g| {
        let daemon = g.daemon();
        let cli = daemon.cli();
        let ask = |flags: &[&str]| cli.run(&[&["image", "verify"], flags].concat());
        cli.ok(&["pull", "-q", &g.busybox]);
        let before = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().count();
        for flags in [&["--all"][..], &["--deep", &g.busybox]] {
            let ran = ask(flags);
            assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
            assert!(ran.out.contains(&format!("{}: whole", g.busybox)), "{}", ran.out);
        }
        assert_eq!(ask(&[]).code, 1);
        assert_eq!(ask(&["nobody/there"]).code, 1);
        flip(&file(&daemon, "www/index.html"));
        assert_eq!(ask(&["--all"]).code, 0);
        let ran = ask(&["--deep", "--all"]);
        assert_eq!(ran.code, 1);
        assert!(ran.out.contains("www/index.html: has another content"), "{}", ran.out);
        // A pull fetches what is known to be damaged, and does not say that it exists.
        let ran = cli.run(&["pull", &g.busybox]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(!ran.out.contains("Already exists"), "{}", ran.out);
        assert_eq!(ask(&["--deep", "--all"]).code, 0);
        fs::remove_file(file(&daemon, "etc/group")).unwrap();
        let ran = ask(&["--all"]);
        assert_eq!(ran.code, 1);
        assert!(ran.out.contains("etc/group: missing"), "{}", ran.out);
        let ran = ask(&["--repair", &g.busybox]);
        assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
        assert_eq!(ask(&["--deep", "--all"]).code, 0);
        let shown = cli.ok(&["run", "--rm", &g.busybox, "cat", "/www/index.html"]);
        assert_eq!(shown, "It runs.");
        let after = fs::read_dir(daemon.data_root().join("overlay2")).unwrap().count();
        assert_eq!(after, before);
    });
}

#[test]
fn after_a_kill_everything_is_looked_at() {
    ground::run(|g| {
        let mut daemon = g.daemon();
        daemon.docker().ok(&["pull", "-q", &g.busybox]);
        assert_eq!(daemon.stop(), Some(0));
        daemon.up().unwrap();
        assert!(!daemon.log().contains("the last stop was not clean"));
        daemon.kill();
        fs::remove_file(file(&daemon, "etc/group")).unwrap();
        daemon.up().unwrap();
        let told = || {
            let log = daemon.log();
            log.contains("etc/group: missing") && log.contains("the last stop was not clean")
        };
        assert!(within(Duration::from_secs(20), told), "{}", daemon.log());
        daemon.docker().ok(&["pull", "-q", &g.busybox]);
        assert_eq!(
            daemon
                .docker()
                .ok(&["run", "--rm", &g.busybox, "cat", "/etc/group"])
                .lines()
                .count(),
            2
        );
    });
}
