//! What TLS trusts: the system's CA bundle (`SSL_CERT_FILE`, `SSL_CERT_DIR`, the usual places), else the
//! built-in Mozilla roots; and per registry what lies in `certs.d/<host:port>/`: `*.crt` are further CAs,
//! `*.cert` with `*.key` a client certificate, as Docker has it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme};

/// Bundles of the distributions, in the order Go looks for them.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files of `certs.d` for one server, and what tells that one was changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, u64, Option<SystemTime>, u64)>);

impl Files {
    /// Looks for them: nothing is read but the directory.
    pub fn of(certs_dirs: &[PathBuf], authority: &str) -> Files {
        // The port 443 is said in the directory's name if it is said in the image's.
        let names = [authority.replace('/', "_"), format!("{authority}:443")];
        let named = |dir: &PathBuf| names.iter().find_map(|name| fs::read_dir(dir.join(name)).ok());
        let listing = certs_dirs.iter().find_map(named);
        let mut found: Vec<_> = listing
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let path = entry.path();
                // Through links: they are how such files are changed at once.
                let file = fs::metadata(&path).ok()?;
                Some((path, file.len(), file.modified().ok(), file.ino()))
            })
            .collect();
        found.sort();
        Files(found)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Builds the TLS configuration for one server.
///
/// `insecure` accepts any certificate (the registry is listed in `insecure-registries`).
pub fn config(files: &Files, authority: &str, insecure: bool) -> Result<Arc<ClientConfig>, String> {
    let own = HostCerts::read(files)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("set up TLS: {e}"))?;
    let trusted = if insecure {
        None
    } else {
        let mut roots = RootCertStore::clone(system_roots());
        for ca in &own.authorities {
            roots
                .add(ca.clone())
                .map_err(|e| format!("use a CA certificate of {authority}: {e}"))?;
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| format!("set up TLS: {e}"))?;
        let own = own.authorities;
        Some(Trusted { chains, own })
    };
    let keys = provider.key_provider;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { provider, trusted }));
    let mut clients = Vec::new();
    for (chain, key, path) in own.clients {
        let key = keys.load_private_key(key);
        let key = key.map_err(|e| format!("use the key of {}: {e}", path.display()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(format!(
                    "tls: private key does not match public key of {}",
                    path.display()
                ));
            }
            // Of some keys it cannot be told.
            Err(rustls::Error::InconsistentKeys(_)) | Ok(()) => clients.push(Arc::new(certified)),
            Err(e) => return Err(format!("use the client certificate {}: {e}", path.display())),
        }
    }
    let config = match clients.is_empty() {
        false => builder.with_client_cert_resolver(Arc::new(Clients(clients))),
        true => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The client certificates for a server, in the order of their files' names.
#[derive(Debug)]
struct Clients(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Clients {
    /// The first that one of the server's authorities signed; the first, where it names none of them: its refusal says more
    /// than silence.
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = || self.0.iter().filter(|one| one.key.choose_scheme(schemes).is_some());
        // An issuer's name stands in a certificate as the bytes that the server sends.
        let names = |cert: &CertificateDer<'_>, name: &[u8]| cert.windows(name.len().max(1)).any(|at| at == name);
        let signed = |one: &&Arc<CertifiedKey>| one.cert.iter().any(|c| authorities.iter().any(|name| names(c, name)));
        usable().find(signed).or_else(|| usable().next()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The roots shared by all servers, read once: some 150 anchors of about 1 KB.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system_certificates());
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    })
}

fn system_certificates() -> Vec<CertificateDer<'static>> {
    let file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let dir = std::env::var_os("SSL_CERT_DIR");
    let mut found = Vec::new();
    match &file {
        Some(file) => found.extend(certificates(file).unwrap_or_default()),
        None if dir.is_none() => {
            let bundle = BUNDLES.iter().map(Path::new).find(|path| path.exists());
            found.extend(bundle.and_then(|path| certificates(path).ok()).unwrap_or_default());
        }
        None => {}
    }
    let dirs = dir
        .map(|dirs| std::env::split_paths(&dirs).collect::<Vec<_>>())
        .unwrap_or_default();
    for entry in dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
        found.extend(certificates(&entry.path()).unwrap_or_default());
    }
    found
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("read certificates in {}: {e}", path.display()))
}

/// What one `certs.d/<host:port>` holds.
#[derive(Default)]
struct HostCerts {
    authorities: Vec<CertificateDer<'static>>,
    /// With their keys, and the files that they are from.
    clients: Vec<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, PathBuf)>,
}

impl HostCerts {
    fn read(files: &Files) -> Result<HostCerts, String> {
        let mut certs = HostCerts::default();
        for (path, ..) in &files.0 {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => certs.authorities.extend(certificates(path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(format!(
                            "missing key {} for client certificate {}. Note that CA certificates should use the extension .crt",
                            name(&key),
                            name(path)
                        ));
                    }
                    let pem = fs::read(&key).map_err(|e| format!("read {}: {e}", key.display()))?;
                    let secret = PrivateKeyDer::from_pem_slice(&pem)
                        .map_err(|e| format!("read the key in {}: {e}", key.display()))?;
                    let chain = certificates(path)?;
                    if chain.is_empty() {
                        return Err(format!(
                            "tls: failed to find any PEM data in certificate input: {} has no certificate",
                            path.display()
                        ));
                    }
                    certs.clients.push((chain, secret, path.clone()));
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    return Err(format!(
                        "missing client certificate {} for key {}",
                        name(&path.with_extension("cert")),
                        name(path)
                    ));
                }
                _ => {}
            }
        }
        Ok(certs)
    }
}

/// Whom to take for the registry. The signature of the handshake is checked in any case.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Nothing: whoever answers.
    trusted: Option<Trusted>,
}

/// What a CA vouches for, and a server's certificate that is trusted itself.
///
/// A certificate that signed itself, as `openssl req -x509` makes it, says that it is a CA. webpki lets no CA be a server
/// (RFC 5280 4.2.1.9 asks no such thing of a trust anchor); Go does, and many a registry of one's own has one.
#[derive(Debug)]
struct Trusted {
    chains: Arc<WebPkiServerVerifier>,
    /// The registry's own `*.crt`.
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(Trusted { chains, own }) = &self.trusted else {
            return Ok(ServerCertVerified::assertion());
        };
        let checked = chains.verify_server_cert(end, intermediates, name, ocsp, now);
        // The times are looked at before that, so it is valid now; the name is looked at after it.
        let is_ca = |error: &rustls::Error| match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(why)) => why.to_string() == "CaUsedAsEndEntity",
            _ => false,
        };
        match checked {
            Err(error) if is_ca(&error) => {
                if !own.iter().chain(&system_certificates()).any(|trusted| trusted == end) {
                    return Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
                }
                verify_server_name(&ParsedCertificate::try_from(end)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A handshake's failure in the words of Go's `crypto/tls`, where users know them.
pub fn describe(error: &rustls::Error, host: &str) -> String {
    use CertificateError as C;
    const BAD: &str = "tls: failed to verify certificate: x509:";
    match error {
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => {
            format!("{BAD} certificate signed by unknown authority")
        }
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            format!("{BAD} certificate has expired or is not yet valid: check this device's clock")
        }
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            format!("{BAD} certificate has expired or is not yet valid: check this device's clock")
        }
        rustls::Error::InvalidCertificate(C::NotValidForNameContext { presented, .. }) if !presented.is_empty() => {
            // rustls writes `IpAddress(…)` where Go writes the address.
            let name = |shown: &String| {
                let inner = shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
                inner.unwrap_or(shown).trim_matches('"').to_owned()
            };
            let names: Vec<String> = presented.iter().take(10).map(name).collect();
            format!("{BAD} certificate is valid for {}, not {host}", names.join(", "))
        }
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            format!("{BAD} certificate is not valid for any names, but wanted to match {host}")
        }
        rustls::Error::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
        other => super::conn::go_words(&std::io::Error::other(other.clone())),
    }
}
