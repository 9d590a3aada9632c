//! The client against a server that says what the test wants.

use super::*;
use std::os::unix::net::UnixListener;

/// Answers each connection with one of the texts; gives back what was asked.
fn server(answers: Vec<&'static str>) -> (tempdir::Dir, std::thread::JoinHandle<Vec<String>>, Client) {
    let dir = tempdir::Dir::new();
    let path = dir.0.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0u8; 8192];
            let n = stream.read(&mut buffer).unwrap();
            asked.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
            // In two pieces, so that no parser relies on packets.
            let (a, b) = answer.split_at(answer.len() / 2);
            stream.write_all(a.as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
            stream.write_all(b.as_bytes()).unwrap();
        }
        asked
    });
    let client = Client::new(Endpoint::Unix(path), Some("1.50".into()));
    (dir, thread, client)
}

mod tempdir {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    pub struct Dir(pub std::path::PathBuf);
    impl Dir {
        pub fn new() -> Dir {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("api-client-{}-{n}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[test]
fn bodies_of_all_kinds() {
    let (_dir, thread, client) = server(vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]);
    let mut texts = Vec::new();
    for i in 0..6 {
        let request = Request::get("/x").query("q", format!("a b{i}"));
        texts.push(client.send(request).unwrap().bytes().map_err(|e| e.to_string()));
    }
    assert_eq!(texts[0].as_deref(), Ok(&b"hello"[..]));
    assert_eq!(texts[1].as_deref(), Ok(&b"hello"[..]));
    assert_eq!(texts[2].as_deref(), Ok(&b"hello"[..]));
    assert_eq!(texts[3].as_deref(), Ok(&b""[..]));
    assert!(
        texts[4].as_ref().is_err_and(|text| text.ends_with("unexpected EOF")),
        "{texts:?}"
    );
    assert!(texts[5].is_err());
    assert!(thread.join().unwrap()[0].starts_with("GET /v1.50/x?q=a%20b0 HTTP/1.1\r\n"));
}

#[test]
fn refusals_are_told_in_the_daemons_words() {
    let (_dir, _thread, client) = server(vec![
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n{\"message\":\"No such container: x\"}\n",
        "HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\n\r\nbroken\n",
        "nonsense\r\n\r\n",
    ]);
    let told = |client: &Client| client.send(Request::get("/x")).err().unwrap();
    let error = told(&client);
    assert_eq!(error.to_string(), "Error response from daemon: No such container: x");
    assert!(error.is_not_found());
    assert_eq!(told(&client).to_string(), "Error response from daemon: broken");
    assert!(matches!(told(&client), Error::Protocol(_)));
}

#[test]
fn nobody_there() {
    let client = Client::new(Endpoint::parse("unix:///nowhere.sock").unwrap(), None);
    assert_eq!(
        client.version().unwrap_err().to_string(),
        "Cannot connect to the Docker daemon at unix:///nowhere.sock. Is the docker daemon running?"
    );
}

#[test]
fn versions_are_agreed_on() {
    let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK";
    let (_dir, _thread, mut client) = server(vec![answer]);
    client.pinned = None;
    assert_eq!(client.version().unwrap(), "1.41");
    assert!(client.speaks(41).unwrap() && !client.speaks(42).unwrap());
}

#[test]
fn endpoints() {
    for (text, want) in [
        ("unix:///a/b", "unix:///a/b"),
        ("unix://", DEFAULT_HOST),
        ("tcp://1.2.3.4", "tcp://1.2.3.4:2375"),
        ("tcp://:5", "tcp://localhost:5"),
        ("http://h:80/", "tcp://h:80"),
        ("h:7", "tcp://h:7"),
        ("tcp://[::1]", "tcp://[::1]:2375"),
    ] {
        assert_eq!(Endpoint::parse(text).unwrap().to_string(), want);
    }
    assert_eq!(
        Endpoint::parse("foo://x").unwrap_err(),
        "invalid bind address format: foo://x"
    );
}
