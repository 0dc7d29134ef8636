//! TLS from files of certificates and keys, with one provider in the whole program: `ring`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clasp_rt_bridges::ConfigError;
use serde::Deserialize;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, Error, InconsistentKeys, RootCertStore, ServerConfig,
};

/// The key `tls` of a service that listens: with it the port speaks TLS 1.2 and 1.3, and nothing
/// else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(expecting = "a table such as { cert = \"cert.pem\", key = \"key.pem\" }")]
pub struct TlsFiles {
    /// PEM file of the certificate, with its chain behind it.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of authorities: only clients with a certificate of theirs come in. Default: all.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads them.
    pub fn server(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        server(&self.cert, &self.key, self.client_ca.as_deref())
            .map_err(|ConfigError { key, why }| ConfigError::new(format!("tls.{key}"), why))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What a client needs: whom it believes, and who it is.
///
/// `ca`: a PEM file of authorities; without it those of the system. `identity`: PEM files of a
/// certificate with its chain and of its key, for a server that asks for them.
pub fn client(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let roots = match ca {
        Some(path) => roots("ca", path)?,
        None => system_roots()?,
    };
    let builder = believing(roots)?;
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(certificates("cert", cert)?, private_key(key)?)
            .map_err(|why| no_pair(cert, key, &why))?,
    };
    Ok(Arc::new(config))
}

/// A client that believes nobody, for one that is to meet no server with TLS.
pub fn client_of_nobody() -> Result<Arc<ClientConfig>, ConfigError> {
    Ok(Arc::new(believing(RootCertStore::empty())?.with_no_client_auth()))
}

fn believing(
    roots: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|why| ConfigError::new("ca", why.to_string()))?;
    Ok(builder.with_root_certificates(roots))
}

/// What a server needs: who it is, and, with `client_ca`, who may come at all.
pub fn server(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|why| ConfigError::new("cert", why.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots("client_ca", path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            let verifier =
                verifier.map_err(|why| ConfigError::new("client_ca", why.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder
        .with_single_cert(certificates("cert", cert)?, private_key(key)?)
        .map_err(|why| no_pair(cert, key, &why))?;
    Ok(Arc::new(config))
}

fn roots(key: &str, path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        let added = roots.add(certificate);
        added.map_err(|why| ConfigError::new(key, format!("{}: {why}", path.display())))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = "this system has no authorities to believe: name a PEM file of them";
        return Err(ConfigError::new("ca", why));
    }
    Ok(roots)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |why: &dyn std::fmt::Display| {
        ConfigError::new(key, format!("{}: {why}; a PEM file is wanted", path.display()))
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|why| wrong(&why))?;
    let read: Result<Vec<_>, _> = read.collect();
    let certificates = read.map_err(|why| wrong(&why))?;
    if certificates.is_empty() {
        return Err(wrong(match fs::read_to_string(path) {
            Ok(text) if text.contains(A_KEY) => &"it holds a private key and no certificate",
            _ => &"it holds no certificate",
        }));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let wrong =
        |why: &dyn std::fmt::Display| ConfigError::new("key", format!("{}: {why}", path.display()));
    let text = fs::read(path).map_err(|why| wrong(&why))?;
    let holds = |words: &str| text.windows(words.len()).any(|found| found == words.as_bytes());
    // Both forms name it, in the first line or in the second.
    if holds(A_KEY) && holds("ENCRYPTED") {
        return Err(wrong(
            &"the key is encrypted, and nobody is asked for its password: name one that \
              `openssl pkey -in ENCRYPTED -out PLAIN` made of it",
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|why| match holds("BEGIN CERTIFICATE") {
        true => wrong(&"it holds a certificate and no private key; a PEM file of one is wanted"),
        false => wrong(&format!("{why}; a PEM file of a private key is wanted")),
    })
}

/// Ends the first line of every private key.
const A_KEY: &str = "PRIVATE KEY-----";

fn no_pair(cert: &Path, key: &Path, why: &Error) -> ConfigError {
    let (cert, key) = (cert.display(), key.display());
    match why {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => ConfigError::new(
            "key",
            format!("{key}: it is not the key of the first certificate in {cert}; name that one"),
        ),
        why => ConfigError::new("cert", format!("{cert}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_certificate_are_told_under_their_key() {
        let nowhere = Path::new("/nowhere/ca.pem");
        let here = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        for (path, said) in [(nowhere, "/nowhere/ca.pem"), (here, "no certificate")] {
            let error = client(Some(path), None).expect_err("not PEM");
            assert_eq!(error.key, "ca");
            assert!(error.why.contains(said), "{error}");
        }
        let error = server(here, here, None).expect_err("not PEM");
        assert!(["cert", "key"].contains(&error.key.as_str()), "{error}");
        let files = TlsFiles { cert: here.into(), key: here.into(), client_ca: Some(here.into()) };
        assert_eq!(files.server().expect_err("not PEM").key, "tls.client_ca");
    }
}
