//! A TLS handshake with ourselves, in memory: keys, signatures, ciphers and certificates, as a pull uses them.

use super::{Checked, Said, certificate, ensure};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::sync::Arc;

/// Bytes sent; rustls holds 16 KiB for whoever does not read.
const QUESTION: usize = 12_000;

type Any = Box<dyn std::error::Error>;

pub fn version_1_2() -> Checked {
    handshakes(&rustls::version::TLS12)
}

pub fn version_1_3() -> Checked {
    handshakes(&rustls::version::TLS13)
}

/// One handshake with each cipher of the version, and one that a client must refuse.
fn handshakes(version: &'static SupportedProtocolVersion) -> Checked {
    let (certificate, key) = certificate::localhost()?;
    let certificate = CertificateDer::from(certificate);
    let mut names = Vec::new();
    for suite in ring::default_provider().cipher_suites {
        // Our key is ECDSA.
        let name = format!("{:?}", suite.suite());
        if suite.version() != version || name.contains("_RSA_") {
            continue;
        }
        let provider = CryptoProvider {
            cipher_suites: vec![suite],
            ..ring::default_provider()
        };
        let pair = Pair::new(Arc::new(provider), version, &certificate, &key, true)?;
        pair.talk().map_err(|e| format!("{name}: {e}"))?;
        names.push(
            name.trim_start_matches("TLS13_")
                .trim_start_matches("TLS_ECDHE_ECDSA_WITH_")
                .to_owned(),
        );
    }
    ensure(!names.is_empty(), || "no cipher was tried".to_owned())?;
    let strange = Pair::new(Arc::new(ring::default_provider()), version, &certificate, &key, false)?;
    ensure(strange.talk().is_err(), || {
        "a certificate that nobody vouches for is taken".to_owned()
    })?;
    Ok(Said::Ok(format!(
        "{}; a strange certificate is refused",
        names.join(", ")
    )))
}

/// A client and a server.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
}

impl Pair {
    fn new(
        provider: Arc<CryptoProvider>,
        version: &'static SupportedProtocolVersion,
        certificate: &CertificateDer<'static>,
        key: &[u8],
        trusted: bool,
    ) -> Result<Pair, Any> {
        let mut roots = RootCertStore::empty();
        let vouches = match trusted {
            true => certificate.clone(),
            false => CertificateDer::from(certificate::localhost()?.0),
        };
        roots.add(vouches)?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        Ok(Pair {
            client: ClientConnection::new(Arc::new(client), ServerName::try_from("localhost")?)?,
            server: ServerConnection::new(Arc::new(server))?,
        })
    }

    /// Shakes hands, asks, answers.
    fn talk(mut self) -> Result<(), Any> {
        // Far more turns than a handshake has.
        for _ in 0..20 {
            self.exchange()?;
        }
        ensure(!self.client.is_handshaking() && !self.server.is_handshaking(), || {
            "the handshake does not end".into()
        })?;
        let question = vec![b'?'; QUESTION];
        self.client.writer().write_all(&question)?;
        let mut heard = Vec::new();
        for _ in 0..20 {
            self.exchange()?;
            read_some(&mut self.server.reader(), &mut heard)?;
        }
        ensure(heard == question, || {
            format!("of {QUESTION} bytes {} came through", heard.len())
        })?;
        self.server.writer().write_all(b"answer")?;
        self.exchange()?;
        heard.clear();
        read_some(&mut self.client.reader(), &mut heard)?;
        ensure(heard == b"answer", || "the answer did not come through".into())?;
        Ok(())
    }

    /// Carries what each has to say to the other.
    fn exchange(&mut self) -> Result<(), Any> {
        let mut wire = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire)?;
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            self.server.read_tls(&mut rest)?;
            self.server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut wire)?;
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest)?;
            self.client.process_new_packets()?;
        }
        Ok(())
    }
}

/// Reads what is there now.
fn read_some(from: &mut dyn Read, into: &mut Vec<u8>) -> std::io::Result<()> {
    match from.read_to_end(into) {
        Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => Err(e),
        _ => Ok(()),
    }
}
