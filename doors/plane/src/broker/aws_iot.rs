//! AWS IoT Core by its documented calls. UpdateCertificate: a certificate that is not ACTIVE opens no
//! session there, and within some minutes the service ends those that stand. DeleteConnection ends a
//! client's session at once, where the address for messages is configured.
//!
//! Tried against a stub made from the documentation, not against the service. Requests are signed by
//! Signature Version 4, held in the tests against botocore's.

use super::settings::BrokersConfig;
use crate::outward::Outward;
use crate::respond::notify::NotSent;
use crate::secret::read_private;
use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use model::Timestamp;
use std::path::PathBuf;
use zeroize::Zeroizing;

const CREDENTIALS_BYTES_MAX: u64 = 4096;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What is signed for, at the address for certificates and at the one for messages.
const CERTIFICATES: &str = "iot";
const MESSAGES: &str = "iotdata";

pub struct AwsIot {
    outward: Outward,
    messages: Option<Outward>,
    region: String,
    credentials_file: PathBuf,
}

/// What a certificate becomes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateStatus {
    Active,
    /// On hold.
    Inactive,
    Revoked,
}

impl CertificateStatus {
    const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
        }
    }
}

impl AwsIot {
    /// `None` where none is configured.
    pub fn new(config: &BrokersConfig) -> anyhow::Result<Option<Self>> {
        if config.aws_iot_region.is_empty() {
            return Ok(None);
        }
        let usual = format!("https://iot.{}.amazonaws.com", config.aws_iot_region);
        let url = match config.aws_iot_url.as_str() {
            "" => usual.as_str(),
            url => url,
        };
        let roots = &config.aws_iot_roots_file;
        let roots_key = "brokers.aws_iot_roots_file";
        let messages = (!config.aws_iot_data_url.is_empty())
            .then(|| Outward::new(&config.aws_iot_data_url, roots_key, roots));
        let aws = Self {
            outward: Outward::new(url, roots_key, roots).context("brokers.aws_iot_url")?,
            messages: messages.transpose().context("brokers.aws_iot_data_url")?,
            region: config.aws_iot_region.clone(),
            credentials_file: config.aws_iot_credentials_file.clone(),
        };
        // Said at the start, not when somebody is to be cut off.
        Credentials::read(&aws.credentials_file)?;
        Ok(Some(aws))
    }

    /// `certificate_id` is the SHA-256 of the certificate's DER, in hex, as the service names it.
    ///
    /// # Errors
    /// It is tried again, but for what it will never take.
    pub async fn put_status(
        &self,
        certificate_id: &str,
        status: CertificateStatus,
        now: Timestamp,
    ) -> Result<(), NotSent> {
        let asked = Asked {
            method: Method::PUT,
            service: CERTIFICATES,
            path: format!("/certificates/{certificate_id}"),
            query: format!("newStatus={}", status.name()),
        };
        self.ask(&self.outward, &asked, now).await
    }

    /// Whether it can be told to end a session.
    #[must_use]
    pub fn kicks(&self) -> bool {
        self.messages.is_some()
    }

    /// Ends the session of a client. One with a certificate that is active may come back.
    ///
    /// # Errors
    /// As [`AwsIot::put_status`].
    pub async fn end_session(&self, client_id: &str, now: Timestamp) -> Result<(), NotSent> {
        let Some(messages) = &self.messages else {
            return Err(NotSent::for_ever(
                "no address for messages is configured any more",
            ));
        };
        let asked = Asked {
            method: Method::DELETE,
            service: MESSAGES,
            // Names of ours hold nothing that would have to be written otherwise.
            path: format!("/connections/{client_id}"),
            query: String::new(),
        };
        self.ask(messages, &asked, now).await
    }

    async fn ask(&self, outward: &Outward, asked: &Asked, now: Timestamp) -> Result<(), NotSent> {
        // Read each time: credentials that end are replaced in the file.
        let credentials = Credentials::read(&self.credentials_file)
            .map_err(|error| NotSent::for_now(format_args!("{error:#}")))?;
        let host = outward.authority();
        let moment = moment(now);
        let uri = match asked.query.as_str() {
            "" => asked.path.clone(),
            query => format!("{}?{query}", asked.path),
        };
        let mut request = Request::builder()
            .method(asked.method.clone())
            .uri(uri)
            .header(HOST, &host)
            .header("x-amz-date", &moment)
            .header(
                AUTHORIZATION,
                asked.authorization(&host, &credentials, &self.region, &moment),
            );
        if let Some(token) = &credentials.session_token {
            let mut token = HeaderValue::from_str(token).map_err(NotSent::for_now)?;
            token.set_sensitive(true);
            request = request.header("x-amz-security-token", token);
        }
        let request = request.body(String::new()).map_err(NotSent::for_now)?;
        let answer = outward.exchange(request).await;
        let answer = answer.map_err(NotSent::for_now)?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => {
                tracing::info!("AWS IoT knows nothing of {}", asked.path);
                Ok(())
            }
            // InvalidRequestException, CertificateStateException: the same again is refused again.
            status @ (StatusCode::BAD_REQUEST | StatusCode::NOT_ACCEPTABLE) => {
                Err(NotSent::for_ever(status))
            }
            status => Err(NotSent::for_now(format_args!(
                "{status}; operator: see that the credentials may call iot:UpdateCertificate and \
                 iot:DeleteConnection"
            ))),
        }
    }
}

struct Credentials {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
}

impl Credentials {
    /// The first profile of a file as the AWS tools write it.
    fn read(file: &std::path::Path) -> anyhow::Result<Self> {
        let bytes = read_private(file, CREDENTIALS_BYTES_MAX)
            .context("brokers.aws_iot_credentials_file")?;
        let text = std::str::from_utf8(&bytes).context("brokers.aws_iot_credentials_file")?;
        let value = |wanted: &str| {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let mut values = pairs
                .filter(|(key, _)| key.trim() == wanted)
                .map(|(_, value)| value.trim());
            values.next().filter(|value| !value.is_empty())
        };
        let missing = "brokers.aws_iot_credentials_file: write aws_access_key_id = … and \
                       aws_secret_access_key = … into it";
        Ok(Self {
            access_key_id: value("aws_access_key_id").context(missing)?.to_owned(),
            secret_access_key: Zeroizing::new(
                value("aws_secret_access_key").context(missing)?.to_owned(),
            ),
            session_token: value("aws_session_token").map(|token| Zeroizing::new(token.to_owned())),
        })
    }
}

/// A request without a body. Path and query hold nothing that would have to be written otherwise.
struct Asked {
    method: Method,
    service: &'static str,
    path: String,
    query: String,
}

impl Asked {
    /// Signature Version 4.
    fn authorization(
        &self,
        host: &str,
        credentials: &Credentials,
        region: &str,
        moment: &str,
    ) -> String {
        let mut headers = format!("host:{host}\nx-amz-date:{moment}\n");
        let mut names = String::from("host;x-amz-date");
        if let Some(token) = &credentials.session_token {
            headers.push_str(&format!("x-amz-security-token:{}\n", token.as_str()));
            names.push_str(";x-amz-security-token");
        }
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{names}\n{}",
            self.method,
            self.path,
            self.query,
            hex(digest(&SHA256, b"").as_ref())
        );
        let day = moment.get(..8).unwrap_or_default();
        let scope = format!("{day}/{region}/{}/aws4_request", self.service);
        let canonical = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let text = format!("{ALGORITHM}\n{moment}\n{scope}\n{canonical}");
        let start = Zeroizing::new(format!("AWS4{}", credentials.secret_access_key.as_str()));
        let sign = |key: &[u8], text: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            Zeroizing::new(hmac::sign(&key, text.as_bytes()).as_ref().to_vec())
        };
        let key = [day, region, self.service, "aws4_request"]
            .into_iter()
            .fold(Zeroizing::new(start.as_bytes().to_vec()), |key, part| {
                sign(&key, part)
            });
        let signature = hex(&sign(&key, &text));
        format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            credentials.access_key_id
        )
    }
}

/// `20261129T031500Z`
fn moment(now: Timestamp) -> String {
    let text = Timestamp::from_seconds(now.as_seconds()).to_string();
    let plain = text.split('.').next().unwrap_or_default();
    let digits: String = (plain.chars())
        .filter(|c| c.is_ascii_digit() || *c == 'T')
        .collect();
    format!("{digits}Z")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::process::Command;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    pub(crate) const KEY_ID: &str = "AKIDEXAMPLE";
    pub(crate) const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// What AWS's own library signs; `None`: it is not here, and that was said.
    pub(crate) fn botocore(
        (service, method): (&str, &str),
        url: &str,
        moment: &str,
        region: &str,
        token: Option<&str>,
    ) -> Option<String> {
        const SCRIPT: &str = r#"
import sys
try:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
except ImportError:
    sys.exit(77)
service, method, url, moment, region, token, key_id, key = sys.argv[1:]
signer = SigV4Auth(Credentials(key_id, key, token or None), service, region)
request = AWSRequest(method=method, url=url, headers={})
request.context["timestamp"] = moment
signer._modify_request_before_signing(request)
text = signer.string_to_sign(request, signer.canonical_request(request))
signer._inject_signature_to_request(request, signer.signature(text, request))
print(request.headers["Authorization"])
"#;
        let arguments = ["-c", SCRIPT, service, method, url, moment, region];
        // Debian's Python need not be the first on the path.
        let output = ["/usr/bin/python3", "python3"].iter().find_map(|python| {
            let output = Command::new(python)
                .args(arguments)
                .args([token.unwrap_or_default(), KEY_ID, KEY])
                .output();
            output.ok().filter(|one| one.status.code() != Some(77))
        });
        let Some(output) = output else {
            println!("skipped: no botocore for python3");
            return None;
        };
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    #[test]
    fn a_signature_is_that_of_aws_own_library() {
        let host = "iot.eu-central-1.amazonaws.com";
        let moment = moment(NOW);
        assert_eq!(moment, "20270115T080000Z");
        let put = || Asked {
            method: Method::PUT,
            service: CERTIFICATES,
            path: format!("/certificates/{}", "ab".repeat(32)),
            query: "newStatus=REVOKED".to_owned(),
        };
        let delete = || Asked {
            method: Method::DELETE,
            service: MESSAGES,
            path: "/connections/cam-1_a.b~c".to_owned(),
            query: String::new(),
        };
        let token = Some("IQoJb3JpZ2luX2VjEXAMPLE//==");
        for (asked, token) in [(put(), None), (put(), token), (delete(), None)] {
            let query = match asked.query.as_str() {
                "" => String::new(),
                query => format!("?{query}"),
            };
            let url = format!("https://{host}{}{query}", asked.path);
            let what = (asked.service, asked.method.as_str());
            let Some(theirs) = botocore(what, &url, &moment, "eu-central-1", token) else {
                return;
            };
            let credentials = Credentials {
                access_key_id: KEY_ID.to_owned(),
                secret_access_key: Zeroizing::new(KEY.to_owned()),
                session_token: token.map(|token| Zeroizing::new(token.to_owned())),
            };
            let ours = asked.authorization(host, &credentials, "eu-central-1", &moment);
            assert_eq!(ours, theirs);
        }
    }
}
