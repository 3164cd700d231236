//! A private key with the certificates that go with it, in memory and as PEM files.

use crate::der;
use crate::refusal::SetupError;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// A P-256 key, made here.
#[derive(Clone)]
pub struct Key {
    pair: Arc<EcdsaKeyPair>,
    pkcs8: Arc<[u8]>,
}

impl Key {
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn generate() -> Result<Self, SetupError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| SetupError::Crypto("make a key"))?;
        let pkcs8 = pair
            .to_pkcs8v1()
            .map_err(|_| SetupError::Crypto("encode a key"))?;
        Ok(Self {
            pair: Arc::new(pair),
            pkcs8: pkcs8.as_ref().into(),
        })
    }

    /// # Errors
    /// If it is not a P-256 key in PKCS #8.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SetupError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(|_| SetupError::Crypto("read a P-256 key"))?;
        Ok(Self {
            pair: Arc::new(pair),
            pkcs8: der.into(),
        })
    }

    /// ECDSA with SHA-256, as a DER ECDSA-Sig-Value.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SetupError> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), bytes)
            .map_err(|_| SetupError::Crypto("sign"))?;
        Ok(signature.as_ref().to_vec())
    }

    /// SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn public_key_info(&self) -> Result<Vec<u8>, SetupError> {
        let info: PublicKeyX509Der<'_> = self
            .pair
            .public_key()
            .as_der()
            .map_err(|_| SetupError::Crypto("encode a public key"))?;
        Ok(info.as_ref().to_vec())
    }

    /// The public point, uncompressed: the content of the certificate's BIT STRING.
    #[must_use]
    pub fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// PKCS #8 in DER.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Certificates (the holder's first) and a private key. Nothing checks that they fit together:
/// showing a certificate without having its key is one of the attacks simulated.
#[derive(Clone)]
pub struct Credential {
    chain: Vec<Vec<u8>>,
    key: Key,
    certified: Arc<CertifiedKey>,
}

impl Credential {
    /// `chain` is DER, the holder's certificate first.
    ///
    /// # Errors
    /// If the TLS library cannot use the key.
    pub fn new(chain: Vec<Vec<u8>>, key: Key) -> Result<Self, SetupError> {
        let certified = certified(&chain, key.pkcs8())?;
        Ok(Self {
            chain,
            key,
            certified,
        })
    }

    /// DER, the holder's certificate first.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The holder's certificate in DER; empty if there is none.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.chain.first().map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The same key with other certificates.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_chain(&self, chain: Vec<Vec<u8>>) -> Result<Self, SetupError> {
        Self::new(chain, self.key.clone())
    }

    /// What TLS shows and signs with.
    #[must_use]
    pub fn presented(&self) -> Presented {
        Presented(self.certified.clone())
    }

    /// Reads `<name>.pem` and `<name>.key` as [`Self::write`] leaves them.
    ///
    /// # Errors
    /// Names the file that cannot be read or does not hold what it should.
    pub fn read(folder: &Path, name: &str) -> Result<Self, SetupError> {
        let path = folder.join(format!("{name}.key"));
        let key = PrivatePkcs8KeyDer::from_pem_slice(&read_file(&path)?).map_err(|_| {
            SetupError::Pem {
                what: "PKCS #8 key",
                path: path.display().to_string(),
            }
        })?;
        Self::new(
            read_certificates(&folder.join(format!("{name}.pem")))?,
            Key::from_pkcs8(key.secret_pkcs8_der())?,
        )
    }

    /// Writes `<name>.pem` (the chain) and `<name>.key` (PKCS #8, mode 0600) into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), SetupError> {
        write_certificates(&folder.join(format!("{name}.pem")), &self.chain)?;
        write_file(
            &folder.join(format!("{name}.key")),
            pem("PRIVATE KEY", self.key.pkcs8()).as_bytes(),
            0o600,
        )
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} certificates)", self.chain.len())
    }
}

/// A chain and key of any kind that TLS can use, read from files or made here.
#[derive(Clone, Debug)]
pub struct Presented(pub(crate) Arc<CertifiedKey>);

impl Presented {
    /// Reads PEM: all certificates of one file, the first private key of the other.
    ///
    /// # Errors
    /// Names the file that cannot be read or does not hold what it should.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, SetupError> {
        let chain = read_certificates(certificates)?;
        let key = PrivateKeyDer::from_pem_slice(&read_file(key)?).map_err(|_| SetupError::Pem {
            what: "private key",
            path: key.display().to_string(),
        })?;
        Ok(Self(Arc::new(CertifiedKey::new(
            chain.into_iter().map(CertificateDer::from).collect(),
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?,
        ))))
    }

    /// The first certificate, DER.
    pub(crate) fn leaf(&self) -> &[u8] {
        self.0.cert.first().map_or(&[], |leaf| leaf.as_ref())
    }
}

/// All certificates of a PEM file, as DER, at least one.
///
/// # Errors
/// If the file cannot be read or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, SetupError> {
    let text = read_file(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(SetupError::Pem {
            what: "certificate",
            path: path.display().to_string(),
        }),
    }
}

/// Certificates as one PEM file.
///
/// # Errors
/// If the file cannot be written.
pub fn write_certificates(path: &Path, chain: &[Vec<u8>]) -> Result<(), SetupError> {
    let text: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    write_file(path, text.as_bytes(), 0o644)
}

/// RFC 7468 text of one object, lines of 64.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, character) in STANDARD.encode(der).chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// A PKCS #10 request as PEM text, for whoever is named in person: a service.
///
/// # Errors
/// If the cryptographic library refuses.
pub fn request_pem(key: &Key, common_name: &str) -> Result<String, SetupError> {
    let subject = crate::authority::name(common_name, None);
    Ok(pem(
        "CERTIFICATE REQUEST",
        &certificate_request(key, &subject, None)?,
    ))
}

/// A PKCS #10 request (RFC 2986), DER, signed by `key`.
///
/// `subject` is an encoded Name; `alternative_names` the encoded content of a SubjectAltName
/// extension, asked for in an extensionRequest.
pub(crate) fn certificate_request(
    key: &Key,
    subject: &[u8],
    alternative_names: Option<&[u8]>,
) -> Result<Vec<u8>, SetupError> {
    let attributes = alternative_names.map_or_else(Vec::new, |names| {
        let extension = der::sequence(&[
            der::oid::SUBJECT_ALT_NAME,
            &der::element(der::tag::OCTET_STRING, &[names]),
        ]);
        let extensions = der::sequence(&[&extension]);
        der::sequence(&[
            der::oid::EXTENSION_REQUEST,
            &der::element(der::tag::SET, &[&extensions]),
        ])
    });
    let body = der::sequence(&[
        &der::element(der::tag::INTEGER, &[&[0]]),
        subject,
        &key.public_key_info()?,
        &der::element(der::tag::explicit(0), &[&attributes]),
    ]);
    signed(key, &body)
}

/// `SEQUENCE { body, ecdsa-with-SHA256, signature }`: the frame of certificates and requests.
pub(crate) fn signed(key: &Key, body: &[u8]) -> Result<Vec<u8>, SetupError> {
    let signature = key.sign(body)?;
    Ok(der::sequence(&[
        body,
        &der::sequence(&[der::oid::ECDSA_WITH_SHA256]),
        &der::bit_string(&signature),
    ]))
}

fn certified(chain: &[Vec<u8>], pkcs8: &[u8]) -> Result<Arc<CertifiedKey>, SetupError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
    Ok(Arc::new(CertifiedKey::new(
        chain
            .iter()
            .map(|der| CertificateDer::from(der.clone()))
            .collect(),
        rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&key)?,
    )))
}

fn read_file(path: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(path).map_err(|source| SetupError::File {
        what: "read",
        path: path.display().to_string(),
        source,
    })
}

pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SetupError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| SetupError::File {
            what: "write",
            path: path.display().to_string(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Purpose, Validity, name, subject_of};
    use model::Timestamp;
    use std::process::{Command, Stdio};

    /// What openssl prints for `der` on its input. `None`, with a message, where it is absent.
    fn openssl(arguments: &[&str], der: &[u8]) -> Option<(bool, String)> {
        let child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("skipped: openssl is not installed");
            return None;
        };
        child.stdin.take().unwrap().write_all(der).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        Some((output.status.success(), text))
    }

    const READ_REQUEST: [&str; 6] = ["req", "-inform", "DER", "-verify", "-noout", "-text"];

    #[test]
    fn openssl_reads_our_request_and_finds_its_signature_good() {
        let key = Key::generate().unwrap();
        let subject = name("cam-0001", Some("SN 00/12:AB+7"));
        let request = certificate_request(&key, &subject, None).unwrap();
        let Some((good, text)) = openssl(&READ_REQUEST, &request) else {
            return;
        };
        assert!(good && text.contains("verify OK"), "{text}");
        assert!(text.contains("cam-0001"), "{text}");
        assert!(text.contains(r#"serialNumber = "SN 00/12:AB+7""#), "{text}");

        let mut forged = request;
        *forged.last_mut().unwrap() ^= 1;
        let (_, text) = openssl(&READ_REQUEST, &forged).unwrap();
        assert!(!text.contains("verify OK"), "{text}");
    }

    #[test]
    fn a_renewal_asks_for_exactly_the_names_of_the_present_certificate() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let authority = Authority::new("CA", now).unwrap();
        let key = Key::generate().unwrap();
        let purpose = Purpose::TlsServer {
            names: &["a.example"],
            addresses: &[],
        };
        let subject = name("a", Some("7"));
        let certificate = authority
            .issue(&subject, &key, Validity::of_days(3, now), &purpose)
            .unwrap();
        let (found, alternative_names) = subject_of(&certificate).unwrap();
        assert_eq!(found, subject);
        let request = certificate_request(&key, found, alternative_names).unwrap();
        let Some((good, text)) = openssl(&READ_REQUEST, &request) else {
            return;
        };
        assert!(good && text.contains("DNS:a.example"), "{text}");
    }

    #[test]
    fn a_certificate_cut_anywhere_has_no_subject_to_renew() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let authority = Authority::new("CA", now).unwrap();
        let whole = authority.certificate();
        assert!(subject_of(whole).is_some());
        for end in 0..whole.len() {
            assert!(subject_of(&whole[..end]).is_none(), "cut at {end}");
        }
    }

    #[test]
    fn validity_is_written_in_the_form_of_its_century() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let authority = Authority::new("CA", now).unwrap();
        let Some((good, text)) = openssl(
            &["x509", "-inform", "DER", "-noout", "-dates"],
            authority.certificate(),
        ) else {
            return;
        };
        assert!(good, "{text}");
        assert!(
            text.contains("notBefore=Jan 14 08:00:00 2027 GMT"),
            "{text}"
        );
        assert!(text.contains("notAfter=Jan  7 08:00:00 2057 GMT"), "{text}");
    }
}
