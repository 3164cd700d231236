//! TLS: what each door offers, whom it lets in, and what was learned on the way.
//!
//! rustls checks the chain before it knows that the peer holds the key. So nothing is decided on
//! the chain alone: who it is, and whether that identity was withdrawn, is asked after the
//! handshake's signature held, and only what was asked there is called proven.

use super::paths::{Paths, name_of};
use super::tickets::Tickets;
use crate::clock;
use crate::served::acme::{ALPN, Answers};
use crate::served::{DoorName, Served};
use crate::shared::{Latest, Locked, ReadMostly};
use identity::claim_certificate::ClaimRefusal;
use identity::{
    Anchors, Authenticated, BadKeys, Door, KeyFlaw, Path, PathRefusal, Presented, Refusal, Registry,
};
use model::{Principal, Timestamp};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// What all doors share: our certificates, whom we trust, who is known.
pub struct Trust {
    provider: Arc<CryptoProvider>,
    pub served: Latest<Served>,
    /// What a CA that looks at our doors is shown meanwhile.
    pub answers: Latest<Answers>,
    pub anchors: Latest<Anchors>,
    /// Locked for a look-up or one change, never across a wait.
    registry: ReadMostly<Registry>,
    /// Chains that were found good.
    paths: Locked<Paths<Anchors, Path>>,
    /// Keys whose private half is known: nothing is certified for them, and who shows one is told of.
    pub bad_keys: Latest<BadKeys>,
    /// The longest time after its end that a certificate of ours lets anybody ask for the next one.
    pub grace: Latest<Duration>,
}

/// How one listener for devices speaks TLS.
#[derive(Debug, Clone)]
pub struct Terms {
    pub at: DoorName,
    pub tls_1_2: bool,
    /// Content of a record that we send, at most.
    pub record_bytes_max: usize,
    /// `None`: each connection begins with a whole handshake.
    pub tickets: Option<Arc<Tickets>>,
}

/// What MQTT is called in ALPN: by its registered name, and by the one that AWS gave it.
pub const MQTT_PROTOCOLS: [&[u8]; 2] = [b"mqtt", b"x-amzn-mqtt-ca"];

/// What one connection has shown so far. It tells a refused handshake's story.
#[derive(Debug, Default)]
pub struct Seen {
    pub server_name: Option<String>,
    pub foreign_server_name: bool,
    /// Only what was found after possession of the key was proven stands here.
    pub proven: Option<Proven>,
    /// Who proved its key, is believed and is not admitted: it may ask for a certificate, and
    /// everything else is refused.
    pub asking: Option<Presented>,
    pub refusal: Option<Refusal>,
    /// Whose certificate was shown by somebody who did not prove to hold its key.
    pub claimed: Option<Principal>,
    /// Who proved possession and is not admitted.
    pub barred: Option<Principal>,
    /// A path was shown but the handshake's signature has not been checked.
    path: Option<Path>,
}

/// Whom a connection proved to be. It was true when the handshake ended: ask again before use.
#[derive(Debug)]
pub struct Proven {
    pub whom: Whom,
    pub presented: Presented,
    /// Others can have the key as well, so possession proves little.
    pub flaw: Option<KeyFlaw>,
}

/// For whom a proven certificate stands.
#[derive(Debug, Clone)]
pub enum Whom {
    One(Principal),
    /// Many devices share it, and which one it is comes with its CONNECT.
    Sharing,
    /// It is a claim certificate: its holder is nobody yet.
    Claiming,
}

enum Admission {
    Admitted(Whom),
    MayAsk,
}

/// The certificate part of one connection; keep it beside the connection.
pub type Sight = Arc<Locked<Seen>>;

impl Trust {
    pub fn new(served: Served, anchors: Anchors, registry: Registry, bad_keys: BadKeys) -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            served: Latest::new(served),
            answers: Latest::new(Answers::default()),
            anchors: Latest::new(anchors),
            registry: ReadMostly::new(registry),
            paths: Locked::default(),
            bad_keys: Latest::new(bad_keys),
            grace: Latest::new(Duration::ZERO),
        }
    }

    /// Who it is, now: asked again at each use, since an identity can be withdrawn meanwhile.
    ///
    /// # Errors
    /// The refusal, which says who must act.
    pub fn authenticate(
        &self,
        door: Door,
        presented: &Presented,
    ) -> Result<Authenticated, Refusal> {
        self.registry()
            .authenticate(door, presented.clone(), clock::now())
    }

    /// Which anchor vouches for a chain, found by checking it or because it was checked before.
    /// Its time is looked at either way; whether it was revoked is asked later, of the registry.
    fn path_of(
        &self,
        door: Door,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Path, PathRefusal> {
        let anchors = self.anchors.get();
        let name = name_of(door, end_entity, intermediates);
        let known = self.paths.lock().find(&anchors, &name);
        if let Some(path) = known {
            return path.check_time(now).map(|()| path);
        }
        let chain: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        // A claim certificate is what it was added as, whoever signed it.
        let claim = match door {
            Door::Gateway => self.registry().claim_path(end_entity, now),
            Door::Devices => None,
        };
        if let Some(path) = claim {
            return path;
        }
        let path = match anchors.verify_path(door, end_entity, &chain, now) {
            Ok(path) => path,
            // What no anchor vouches for may be believed for itself.
            Err(refusal) => match self.registry().pinned_path(end_entity, now) {
                Some(pinned) => pinned?,
                None => return Err(refusal),
            },
        };
        self.paths.lock().keep(&anchors, name, path.clone());
        Ok(path)
    }

    /// The path of a certificate of ours that ended within the grace: it gets as far as asking for
    /// the next one. Seldom, so it is found anew each time.
    fn ended_path_of(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Option<Path> {
        let grace = *self.grace.get();
        if grace.is_zero() {
            return None;
        }
        let chain: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        let anchors = self.anchors.get();
        anchors
            .verify_ended_path(end_entity, &chain, now, grace)
            .ok()
    }

    /// How far somebody comes who proved its key: in, or no further than to ask for a certificate.
    fn admit(&self, door: Door, presented: &Presented) -> Result<Admission, Refusal> {
        let refusal = match self.authenticate(door, presented) {
            Ok(who) => return Ok(Admission::Admitted(Whom::One(who.principal().clone()))),
            Err(Refusal::SharedCertificate) if door == Door::Gateway => {
                return Ok(Admission::Admitted(Whom::Sharing));
            }
            Err(Refusal::Claim(ClaimRefusal::NothingElse)) if door == Door::Gateway => {
                return Ok(Admission::Admitted(Whom::Claiming));
            }
            Err(refusal) if door == Door::Gateway => return Err(refusal),
            Err(refusal) => refusal,
        };
        let (registry, now) = (self.registry(), clock::now());
        match refusal {
            Refusal::UnlistedSerial { .. } => registry.genuine(presented, now).map(drop)?,
            Refusal::Path(PathRefusal::Expired { .. }) => {
                registry.returning(presented, now, *self.grace.get())?;
            }
            other => return Err(other),
        }
        Ok(Admission::MayAsk)
    }

    /// Who comes by a ticket, asked as if its certificate had been shown now: chain, time, anchors,
    /// revocation, containment. Only that it holds the key was proven earlier, when the ticket was
    /// given.
    ///
    /// # Errors
    /// The refusal, and whom it is of, if it is anybody.
    pub fn resumed(
        &self,
        door: Door,
        chain: &[CertificateDer<'_>],
    ) -> Result<Proven, (Refusal, Option<Principal>)> {
        let Some((end_entity, intermediates)) = chain.split_first() else {
            let malformed = PathRefusal::Malformed {
                what: "a ticket without a certificate",
            };
            return Err((malformed.into(), None));
        };
        let path = self
            .path_of(door, end_entity, intermediates, clock::now())
            .map_err(|refusal| (refusal.into(), None))?;
        let presented = (self.anchors.get())
            .presented(&path, end_entity)
            .map_err(|refusal| (refusal, None))?;
        match self.admit(door, &presented) {
            Ok(Admission::Admitted(whom)) => Ok(Proven {
                whom,
                flaw: self.bad_keys.get().flaw_of(&presented),
                presented,
            }),
            Ok(Admission::MayAsk) => Err((Refusal::IdevidAtGateway, None)),
            Err(refusal) => Err((refusal, self.registry().named_by(&presented))),
        }
    }

    /// Who is known, for a look-up; never held across a wait.
    pub fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read()
    }

    /// Who is known, for one change.
    pub fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write()
    }

    /// The configuration of one connection of devices at a listener, and what it will have seen.
    ///
    /// Where TLS 1.2 is spoken, small stacks come in, and a record larger than their buffer ends
    /// their session. rustls does not answer max_fragment_length (RFC 6066), so everybody at such
    /// a door is sent small records.
    ///
    /// # Errors
    /// None in practice: the provider knows both versions.
    pub fn device_door(
        self: &Arc<Self>,
        door: Door,
        terms: &Terms,
    ) -> Result<(Arc<ServerConfig>, Sight), Error> {
        let sight = Sight::default();
        let name = terms.at;
        let verifier = DoorVerifier {
            door,
            trust: Arc::clone(self),
            sight: Arc::clone(&sight),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions(terms.tls_1_2))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.resolver(name, &sight));
        config.alpn_protocols = match (door, name) {
            (Door::Gateway, _) => MQTT_PROTOCOLS.map(<[u8]>::to_vec).into(),
            (Door::Devices, DoorName::Alpn) => vec![b"http/1.1".to_vec(), b"h2".to_vec()],
            // Not HTTP/2: a refusal that comes before the body is read resets the stream there,
            // and clients then show the reset instead of the refusal.
            (Door::Devices, _) => vec![b"http/1.1".to_vec()],
        };
        config.max_fragment_size = terms.max_fragment_size();
        // A shard makes the records of a session itself.
        config.enable_secret_extraction = door == Door::Gateway;
        self.await_ca(name, &mut config);
        forget_sessions(&mut config);
        // At the doors for HTTP each connection begins anew: who asks there is nobody's session.
        if let (Door::Gateway, Some(tickets)) = (door, &terms.tickets) {
            config.ticketer = tickets.of_connection();
            config.send_tls13_tickets = 1;
        }
        Ok((Arc::new(config), sight))
    }

    /// The configuration of one connection at the door for people.
    ///
    /// # Errors
    /// As [`Trust::device_door`].
    pub fn people_door(
        self: &Arc<Self>,
        tls_1_2: bool,
    ) -> Result<(Arc<ServerConfig>, Sight), Error> {
        let sight = Sight::default();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions(tls_1_2))?
            .with_no_client_auth()
            .with_cert_resolver(self.resolver(DoorName::People, &sight));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.await_ca(DoorName::People, &mut config);
        forget_sessions(&mut config);
        Ok((Arc::new(config), sight))
    }

    /// Behind all others, so that only who speaks nothing else is answered in it.
    fn await_ca(&self, door: DoorName, config: &mut ServerConfig) {
        if self.answers.get().awaits_at(door) {
            config.alpn_protocols.push(ALPN.to_vec());
        }
    }

    fn resolver(self: &Arc<Self>, door: DoorName, sight: &Sight) -> Arc<dyn ResolvesServerCert> {
        Arc::new(NameResolver {
            door,
            trust: Arc::clone(self),
            sight: Arc::clone(sight),
        })
    }
}

/// Resumption skips the verifier, so a device revoked in between would come in: it stays off where
/// who resumes is not asked for again ([`Trust::resumed`]). Both switches are needed, the tickets of TLS 1.3 and the session storage of TLS 1.2.
fn forget_sessions(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}

impl Terms {
    /// As rustls counts: with the header. A record of TLS is not larger than this by itself.
    fn max_fragment_size(&self) -> Option<usize> {
        const HEADER_BYTES: usize = 5;
        const RECORD_BYTES: usize = 16 * 1024;
        const SMALL_RECORD_BYTES: usize = 4096;
        let most = if self.tls_1_2 {
            SMALL_RECORD_BYTES
        } else {
            RECORD_BYTES
        };
        let content = self.record_bytes_max.min(most);
        (content < RECORD_BYTES).then_some(content + HEADER_BYTES)
    }
}

fn versions(tls_1_2: bool) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    static NEWEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    if tls_1_2 { &BOTH } else { &NEWEST }
}

/// Chooses what is shown by the name asked for; a name that nothing here is for gets none.
#[derive(Debug)]
struct NameResolver {
    door: DoorName,
    trust: Arc<Trust>,
    sight: Sight,
}

impl ResolvesServerCert for NameResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A client that connects by address sends no name (RFC 6066 section 3).
        let name = hello.server_name();
        let answers = self.trust.answers.get();
        // Where no CA is awaited the protocol is not spoken, and rustls says so.
        if answers.awaits_at(self.door) && hello.alpn().is_some_and(|offered| offered.eq([ALPN])) {
            return answers.certificate(self.door, name);
        }
        let served = self.trust.served.get();
        let chosen = served.choose(self.door, name, hello.signature_schemes(), clock::now());
        if let Some(name) = name {
            let mut seen = self.sight.lock();
            seen.server_name = Some(name.chars().take(253).collect());
            seen.foreign_server_name = chosen.is_none();
        }
        chosen
    }
}

#[derive(Debug)]
struct DoorVerifier {
    door: Door,
    trust: Arc<Trust>,
    sight: Sight,
}

impl DoorVerifier {
    /// The handshake's signature held: from here on the peer is known to hold the key.
    fn possession_proven(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let mut seen = self.sight.lock();
        let Some(path) = seen.path.take() else {
            return Err(Error::General(
                "no path was checked before the signature".into(),
            ));
        };
        let mut barred = None;
        let decided = self
            .trust
            .anchors
            .get()
            .presented(&path, end_entity)
            .and_then(|presented| {
                let admission = (self.trust.admit(self.door, &presented))
                    .inspect_err(|_| barred = self.trust.registry().named_by(&presented))?;
                Ok((admission, presented))
            });
        seen.barred = barred;
        match decided {
            Ok((Admission::Admitted(whom), presented)) => {
                seen.proven = Some(Proven {
                    whom,
                    flaw: self.trust.bad_keys.get().flaw_of(&presented),
                    presented,
                });
                Ok(())
            }
            Ok((Admission::MayAsk, presented)) => {
                seen.asking = Some(presented);
                Ok(())
            }
            Err(refusal) => {
                let alert = match &refusal {
                    Refusal::Revoked { .. } => CertificateError::Revoked,
                    _ => CertificateError::ApplicationVerificationFailure,
                };
                seen.refusal = Some(refusal);
                Err(Error::InvalidCertificate(alert))
            }
        }
    }
}

impl DoorVerifier {
    /// The handshake's signature did not hold: the certificate is somebody's, its key is not here.
    fn only_claimed(&self, end_entity: &CertificateDer<'_>) {
        let mut seen = self.sight.lock();
        let Some(path) = seen.path.take() else {
            return;
        };
        let presented = self.trust.anchors.get().presented(&path, end_entity);
        seen.claimed = presented
            .ok()
            .and_then(|presented| self.trust.registry().named_by(&presented));
    }
}

impl ClientCertVerifier for DoorVerifier {
    fn client_auth_mandatory(&self) -> bool {
        // EST's cacerts is open to devices that have no identity yet (RFC 7030 section 4.1).
        matches!(self.door, Door::Gateway)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Whose devices we take is no stranger's business.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let now = Timestamp::from_seconds(now.as_secs());
        let path = match self
            .trust
            .path_of(self.door, end_entity, intermediates, now)
        {
            Err(ended @ PathRefusal::Expired { .. }) if self.door == Door::Devices => (self.trust)
                .ended_path_of(end_entity, intermediates, now)
                .ok_or(ended),
            path => path,
        };
        let mut seen = self.sight.lock();
        match path {
            Ok(path) => {
                seen.path = Some(path);
                Ok(ClientCertVerified::assertion())
            }
            Err(refusal) => {
                let alert = alert_for(&refusal);
                seen.refusal = Some(refusal.into());
                Err(Error::InvalidCertificate(alert))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        let valid = rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
            .inspect_err(|_| self.only_claimed(cert))?;
        self.possession_proven(cert).map(|()| valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        let valid = rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
            .inspect_err(|_| self.only_claimed(cert))?;
        self.possession_proven(cert).map(|()| valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust
            .provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The TLS alert (RFC 8446 section 6) that tells a peer what its chain lacks.
fn alert_for(refusal: &PathRefusal) -> CertificateError {
    match refusal {
        PathRefusal::Expired { .. } | PathRefusal::NotYetValid { .. } => CertificateError::Expired,
        PathRefusal::WrongPurpose => CertificateError::InvalidPurpose,
        PathRefusal::BadSignature => CertificateError::BadSignature,
        PathRefusal::Malformed { .. } | PathRefusal::TooLarge { .. } => {
            CertificateError::BadEncoding
        }
        _ => CertificateError::UnknownIssuer,
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}
