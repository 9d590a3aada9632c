//! `run -it` and `exec -it` on a real terminal.

use std::time::Duration;
use tests::ground;
use tests::terminal::Terminal;

#[test]
fn a_shell_on_a_terminal() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        let command = docker.command(&["run", "-it", "--rm", "--name", "shell", "busybox", "sh"]);
        let mut terminal = Terminal::start(&command, 93, 31).unwrap();
        assert!(terminal.shows("/ # "), "{}", terminal.shown());
        // Until the client has told it, the size is another.
        assert!(terminal.comes_to("stty size; tty\n", "31 93"), "{}", terminal.shown());
        assert!(terminal.shows("/dev/pts/"), "{}", terminal.shown());
        terminal.resize(77, 22).unwrap();
        assert!(terminal.comes_to("stty size\n", "22 77"), "{}", terminal.shown());
        // Control-C ends the command and not the shell.
        terminal.type_in("sleep 100\n").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        terminal.type_in("\x03").unwrap();
        terminal.type_in("echo af''ter; exit 7\n").unwrap();
        assert!(terminal.shows("after"), "{}", terminal.shown());
        assert_eq!(terminal.exit_code(), Some(7), "{}", terminal.shown());
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn detach_leaves_it_running() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        let command = docker.command(&["run", "-it", "--name", "stays", "busybox", "sh"]);
        let mut terminal = Terminal::start(&command, 80, 24).unwrap();
        assert!(terminal.shows("/ # "), "{}", terminal.shown());
        terminal.type_in("\x10\x11").unwrap();
        assert_eq!(terminal.exit_code(), Some(0), "{}", terminal.shown());
        assert_eq!(docker.ok(&["inspect", "-f", "{{.State.Running}}", "stays"]), "true");
        let again = docker.command(&["attach", "stays"]);
        let mut terminal = Terminal::start(&again, 80, 24).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        terminal.type_in("echo ba''ck; exit 3\n").unwrap();
        assert!(terminal.shows("back"), "{}", terminal.shown());
        assert_eq!(terminal.exit_code(), Some(3), "{}", terminal.shown());
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}

#[test]
fn exec_on_a_terminal() {
    ground::run(|g| {
        let (mut daemon, docker) = g.daemon_with_busybox();
        docker.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "100"]);
        let command = docker.command(&["exec", "-it", "one", "sh"]);
        let mut terminal = Terminal::start(&command, 80, 24).unwrap();
        assert!(terminal.shows("/ # "), "{}", terminal.shown());
        terminal.type_in("tty && exit 6\n").unwrap();
        assert!(terminal.shows("/dev/pts/"), "{}", terminal.shown());
        assert_eq!(terminal.exit_code(), Some(6), "{}", terminal.shown());
        assert_eq!(daemon.left_behind(), Vec::<String>::new());
    });
}
