//! EST (RFC 7030, clarified by RFC 8951) at `/.well-known/est`: for devices that proved a factory
//! certificate, or the one they renew, in the TLS handshake. Errors are plain text, as clients
//! only show them.
//!
//! A label between `est` and the operation is a product, or `returning`: the one place where a
//! certificate of ours that has ended is looked at.

mod token;

use super::{Caller, Problem, Shared};
use crate::certify::enrolling::{self, Asked, Enrolled, Way};
use crate::certify::issuing;
use crate::judge::signals::{Signals, Told};
use crate::listen::tls::Trust;
use crate::shared::to_its_end;
use crate::trouble::Trouble;
use crate::{clock, flow};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use identity::est::{self, BodyForm};
use identity::{CertificateRequest, Door, IdentityKind, Operation, Presented, Refusal, csrattrs};
use model::{Attribution, Digest, Principal, ProductId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// A request of the largest key with room for what clients add, in base64.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The label of those whose certificate has ended.
const RETURNING: &str = "returning";

pub fn router() -> Router<Shared> {
    let mut router = Router::new();
    // With a label and without.
    for base in ["/.well-known/est", "/.well-known/est/{label}"] {
        let at = |operation: &str| format!("{base}/{operation}");
        router = router
            .route(&at("cacerts"), get(cacerts))
            .route(&at("csrattrs"), get(csr_attributes))
            .route(&at("simpleenroll"), post(simpleenroll))
            .route(&at("simplereenroll"), post(simplereenroll))
            .route(&at("serverkeygen"), post(serverkeygen))
            .route(&at("fullcmc"), post(fullcmc));
    }
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// What stands between `est` and the operation.
#[derive(Debug, PartialEq, Eq)]
enum Label {
    None,
    Product(ProductId),
    Returning,
}

impl FromRequestParts<Shared> for Label {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Response> {
        let Ok(path) = RawPathParams::from_request_parts(parts, plane).await else {
            return Err(unknown_label());
        };
        match path.iter().find(|(name, _)| *name == "label") {
            None => Ok(Self::None),
            Some((_, RETURNING)) => Ok(Self::Returning),
            Some((_, label)) => ProductId::new(label)
                .ok()
                .filter(|product| plane.admission.fleet.get().has_product(product))
                .map(Self::Product)
                .ok_or_else(unknown_label),
        }
    }
}

impl Label {
    /// For what is not done for those who return: `None` is the refusal of their label.
    fn product(self) -> Option<Option<ProductId>> {
        match self {
            Self::None => Some(None),
            Self::Product(product) => Some(Some(product)),
            Self::Returning => None,
        }
    }
}

fn unknown_label() -> Response {
    plain(Problem::new(
        StatusCode::NOT_FOUND,
        "label-unknown",
        "no product is called so; device: ask without a label, or under its product's name",
    ))
}

/// Open to everybody: whoever reads it must know the root by other means.
async fn cacerts(State(plane): State<Shared>, label: Label, headers: HeaderMap) -> Response {
    if label.product().is_none() {
        return unknown_label();
    }
    let tree = plane.tree();
    let chain: Vec<&[u8]> = tree.published().collect();
    certificates(&chain, &headers)
}

/// What the product's requests must hold: of the label, or else of whoever shows its certificate.
/// 204: any permitted key will do (RFC 8951 section 3.2).
async fn csr_attributes(
    State(plane): State<Shared>,
    label: Label,
    caller: Option<axum::Extension<Caller>>,
) -> Response {
    let product = match label.product() {
        Some(Some(label)) => Some(label),
        Some(None) => caller.and_then(|caller| product_of(&plane, &caller)),
        None => return unknown_label(),
    };
    let key = product.and_then(|product| plane.admission.fleet.get().enrollment(&product).key);
    let Some(key) = key else {
        return StatusCode::NO_CONTENT.into_response();
    };
    match csrattrs::csrattrs(enrolling::wanted(key)) {
        Ok(der) => base64(csrattrs::MEDIA_TYPE, est::encode_body(&der)),
        Err(error) => fault(error),
    }
}

fn product_of(plane: &Shared, caller: &Caller) -> Option<ProductId> {
    let (_, presented) = caller.shown().ok()?;
    let who = plane.trust().authenticate(Door::Devices, presented).ok()?;
    let Principal::Device(device) = who.principal() else {
        return None;
    };
    let registry = plane.trust().registry();
    registry.device(device).map(|known| known.product.clone())
}

/// Whoever proved a certificate, admitted by it or not: asked before the body is read.
struct Holder {
    peer: SocketAddr,
    presented: Arc<Presented>,
}

impl FromRequestParts<Shared> for Holder {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Response> {
        let Some(caller) = parts.extensions.get::<Caller>() else {
            return Err(StatusCode::UNAUTHORIZED.into_response());
        };
        let (peer, presented) = caller.shown().map_err(plain)?;
        Ok(Self {
            peer,
            presented: Arc::clone(presented),
        })
    }
}

async fn simpleenroll(
    State(plane): State<Shared>,
    label: Label,
    proof: token::Proof,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let holder = match proof {
        token::Proof::Certificate(holder) => holder,
        token::Proof::Token(shown) => {
            return token::enroll(plane, label, shown, headers, body).await;
        }
    };
    let Some(label) = label.product() else {
        return unknown_label();
    };
    let way = Way::Est(Operation::SimpleEnroll);
    enroll(plane, way, label, holder, headers, body).await
}

async fn simplereenroll(
    State(plane): State<Shared>,
    label: Label,
    holder: Holder,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (way, label) = match label {
        Label::Returning => (Way::Returning, None),
        Label::Product(product) => (Way::Est(Operation::SimpleReenroll), Some(product)),
        Label::None => (Way::Est(Operation::SimpleReenroll), None),
    };
    enroll(plane, way, label, holder, headers, body).await
}

async fn enroll(
    plane: Shared,
    way: Way,
    label: Option<ProductId>,
    holder: Holder,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let told = Telling::new(&plane, &holder);
    let presented = Arc::clone(&holder.presented);
    let peer = holder.peer.ip();
    let done = async {
        let request = read_request(&holder, &headers, &body)?;
        let enrolling = async move {
            let asked = Asked {
                presented: &presented,
                way,
                from: Some(peer),
                request: &request,
                label,
                generated: None,
            };
            flow::enroll(&plane, &asked).await
        };
        Ok::<_, Problem>(to_its_end(enrolling).await?)
    };
    match done.await {
        // Clients of small stacks take the first certificate: the new one, alone.
        Ok(Enrolled::Issued(der)) => certificates(&[&der], &headers),
        Ok(Enrolled::Waits {
            id,
            retry_after,
            is_new,
        }) => told.waits(id, retry_after, is_new),
        Err(problem) => told.refuse(problem),
    }
}

/// A key made here for a device that cannot, if its product says so. It is on the wire once and
/// nowhere else: neither kept nor logged, and another one is made when it is asked again.
async fn serverkeygen(
    State(plane): State<Shared>,
    label: Label,
    holder: Holder,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(label) = label.product() else {
        return unknown_label();
    };
    let told = Telling::new(&plane, &holder);
    let presented = Arc::clone(&holder.presented);
    let peer = holder.peer.ip();
    let way = Way::Est(match presented.kind() {
        // A claim certificate gets no further than being told so.
        IdentityKind::Idevid | IdentityKind::Imported | IdentityKind::Claim => {
            Operation::SimpleEnroll
        }
        IdentityKind::Ldevid => Operation::SimpleReenroll,
    });
    let done = async {
        let request = read_request(&holder, &headers, &body)?;
        if request.asks_for_encrypted_key() {
            return Err(Trouble::from(Refusal::KeygenEncrypted).into());
        }
        let enrolling = async move {
            let key = issuing::generate_key()?;
            let asked = Asked {
                presented: &presented,
                way,
                from: Some(peer),
                request: &request,
                label,
                generated: Some(&key.public_key),
            };
            let enrolled = flow::enroll(&plane, &asked).await?;
            Ok((enrolled, key.pkcs8))
        };
        Ok::<_, Problem>(to_its_end(enrolling).await?)
    };
    match done.await {
        Ok((Enrolled::Issued(der), pkcs8)) => match est::generated_key(&pkcs8, &der) {
            Ok(body) => {
                let body = Bytes::from_owner(Zeroizing::new(body.into_bytes()));
                let mut response = Response::new(Body::from(body));
                let media_type = HeaderValue::from_static(est::KEY_MEDIA_TYPE);
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, media_type);
                response
            }
            Err(error) => fault(error),
        },
        Ok((
            Enrolled::Waits {
                id,
                retry_after,
                is_new,
            },
            _,
        )) => told.waits(id, retry_after, is_new),
        Err(problem) => told.refuse(problem),
    }
}

async fn fullcmc(label: Label) -> Response {
    match label.product() {
        Some(_) => plain(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "not-offered",
            "CMC is not spoken here; device: use simpleenroll",
        )),
        None => unknown_label(),
    }
}

fn read_request(
    holder: &Holder,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<CertificateRequest, Problem> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let (request, form) = issuing::read_request(content_type, body)?;
    if form == BodyForm::Der {
        tracing::info!(
            target: "devices",
            "{}: {} sent bare DER, which RFC 8951 does not have",
            holder.peer,
            holder.presented
        );
    }
    Ok(request)
}

/// Who asked, for telling how it ended.
struct Telling {
    peer: SocketAddr,
    presented: Arc<Presented>,
    signals: Signals,
    trust: Arc<Trust>,
}

impl Telling {
    fn new(plane: &Shared, holder: &Holder) -> Self {
        Self {
            peer: holder.peer,
            presented: Arc::clone(&holder.presented),
            signals: plane.signals.clone(),
            trust: Arc::clone(plane.trust()),
        }
    }

    /// 202: the same request again, later (RFC 7030 section 4.2.3).
    fn waits(&self, id: Digest, retry_after: Duration, is_new: bool) -> Response {
        if is_new {
            tracing::warn!(
                target: "devices",
                "{}: {} waits for a person as enrollment {id}; see `fleetward identity pending \
                 list` [operator must act]",
                self.peer,
                self.presented
            );
        }
        let seconds = retry_after.as_secs();
        let text = format!(
            "enrollment {id} waits for a person; ask again with the same request in {seconds} s\n"
        );
        let mut response = super::bytes("text/plain; charset=utf-8", text.into_bytes());
        *response.status_mut() = StatusCode::ACCEPTED;
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    fn refuse(&self, problem: Problem) -> Response {
        self.tell(problem.body.code);
        // What is no refusal of a room is wrong in the request, unless we have a trouble.
        let actor = problem.body.who_must_act.unwrap_or({
            if problem.status.is_server_error() {
                "operator"
            } else {
                "device"
            }
        });
        tracing::warn!(
            target: "devices",
            "{}: refused {}: {} (it is {}) [{actor} must act]",
            self.peer,
            problem.body.code,
            problem.body.detail,
            self.presented
        );
        plain(problem)
    }

    /// Its key was proven in the handshake, so the refusal is its own doing.
    fn tell(&self, reason: &str) {
        let Some(principal) = self.trust.registry().named_by(&self.presented) else {
            // A factory identity that is on no list: nobody we know.
            return;
        };
        self.signals.tell(Told::denied(
            principal,
            Attribution::Proven,
            ("est", ""),
            reason,
            clock::now(),
        ));
    }
}

/// As CMS, or as PEM for a device that asks for it.
fn certificates(chain: &[&[u8]], headers: &HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if est::wants_pem(accept) {
        return super::bytes(est::PEM_MEDIA_TYPE, est::pem(chain).into_bytes());
    }
    match est::certs_only(chain) {
        Ok(cms) => base64(est::CERTIFICATES_MEDIA_TYPE, est::encode_body(&cms)),
        Err(error) => fault(error),
    }
}

fn base64(media_type: &'static str, text: String) -> Response {
    let mut response = super::bytes(media_type, text.into_bytes());
    // Meaningless in HTTP (RFC 8951 section 3.1), but old clients look for it.
    response.headers_mut().insert(
        "content-transfer-encoding",
        HeaderValue::from_static("base64"),
    );
    response
}

fn fault(error: impl std::fmt::Display) -> Response {
    plain(Trouble::fault(error).into())
}

fn plain(problem: Problem) -> Response {
    let text = format!("{}: {}\n", problem.body.code, problem.body.detail);
    let mut response = problem.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    *response.body_mut() = text.into();
    response
}
