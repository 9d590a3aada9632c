//! Certificates of a test's own, made by `openssl`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `openssl` with these words; false if it is not there.
pub fn openssl(dir: &Path, line: &str) -> bool {
    let words = line.split(' ');
    let out = Command::new("openssl")
        .args(words)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    out.is_ok_and(|status| status.success())
}

/// Makes a CA, a server certificate for 127.0.0.1 and a client certificate.
pub fn certificates(dir: &Path) -> bool {
    certificates_for(dir, "IP:127.0.0.1,DNS:localhost")
}

/// The same with a server certificate for these names.
pub fn certificates_for(dir: &Path, names: &str) -> bool {
    fs::write(dir.join("san"), format!("subjectAltName={names}\n")).unwrap();
    fs::write(dir.join("usage"), "extendedKeyUsage=clientAuth\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let sign = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2";
    [
        format!(
            "req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=ours -addext keyUsage=critical,keyCertSign"
        ),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=server"),
        format!("x509 -req -in server.csr {sign} -extfile san -out server.crt"),
        format!("req {key} -keyout client.key -out client.csr -subj /CN=client"),
        format!("x509 -req -in client.csr {sign} -extfile usage -out client.cert"),
    ]
    .iter()
    .all(|line| openssl(dir, line))
}
