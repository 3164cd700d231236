//! E-mail by SMTP: encrypted, or to this machine.

use super::{Message, NotSent};
use crate::config::ResponseConfig;
use crate::secret::{read_roots, read_secret};
use anyhow::{Context, bail};
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Mailboxes, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::net::IpAddr;
use std::time::Duration;

const COMMAND_SECONDS_MAX: Duration = Duration::from_secs(10);
const RECEIVERS_MAX: usize = 32;

const RULE: &str = "write smtps://host:465 (TLS) or smtp://host:587 (STARTTLS, which is required; \
                    only to this machine it may stay plain); no user name or password: see \
                    mail_user and mail_password_file";

pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// Right of the `@` in message ids.
    domain: String,
}

struct Server {
    host: String,
    port: u16,
    wrapped: bool,
}

impl Mail {
    pub fn new(settings: &ResponseConfig, domain: &str) -> anyhow::Result<Self> {
        let server = parse(&settings.mail_smtp)?;
        let local = is_local(&server.host);
        let tls = if local && !server.wrapped && settings.roots_file.as_os_str().is_empty() {
            Tls::None
        } else {
            let mut parameters = TlsParameters::builder(server.host.clone());
            if !settings.roots_file.as_os_str().is_empty() {
                parameters = parameters.certificate_store(CertificateStore::None);
                for root in read_roots(&settings.roots_file)? {
                    parameters =
                        parameters.add_root_certificate(Certificate::from_der(root.to_vec())?);
                }
            }
            let parameters = parameters.build()?;
            if server.wrapped {
                Tls::Wrapper(parameters)
            } else {
                Tls::Required(parameters)
            }
        };
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host.as_str())
                .port(server.port)
                .tls(tls)
                .timeout(Some(COMMAND_SECONDS_MAX));
        if !settings.mail_user.is_empty() {
            let password = read_secret(&settings.mail_password_file, 1)
                .context("response.mail_password_file")?;
            let credentials =
                Credentials::new(settings.mail_user.clone(), password.as_str().to_owned());
            transport = transport.credentials(credentials);
        }
        let (from, to) = addresses(settings).map_err(anyhow::Error::msg)?;
        Ok(Self {
            transport: transport.build(),
            from,
            to,
            domain: domain.to_owned(),
        })
    }

    pub async fn send(&self, body: &[u8]) -> Result<(), NotSent> {
        let given_up = |why: String| NotSent {
            why,
            is_final: true,
        };
        let message: Message = serde_json::from_slice(body)
            .map_err(|e| given_up(format!("the queued message cannot be read: {e}")))?;
        let id = message.id.replace('/', ".");
        let mail = self
            .addressed()
            .subject(message.subject)
            .message_id(Some(format!("<{id}@{}>", self.domain)))
            .header(ContentType::TEXT_PLAIN)
            .body(format!(
                "{}\nfor: {}\nmessage: {}\n",
                message.text, message.to, message.id
            ))
            .map_err(|e| given_up(e.to_string()))?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NotSent {
                why: error.to_string(),
                // 5xx: the server says that it never will.
                is_final: error.is_permanent(),
            }),
        }
    }

    fn addressed(&self) -> MessageBuilder {
        let to: Mailboxes = self.to.iter().cloned().collect();
        lettre::Message::builder()
            .from(self.from.clone())
            .mailbox(lettre::message::header::To::from(to))
    }
}

/// Refuses at the start what could never be sent.
pub fn check(settings: &ResponseConfig) -> Result<(), (&'static str, String)> {
    parse(&settings.mail_smtp).map_err(|e| ("response.mail_smtp", e.to_string()))?;
    addresses(settings)
        .map(drop)
        .map_err(|why| ("response.mail_from and response.mail_to", why))
}

fn addresses(settings: &ResponseConfig) -> Result<(Mailbox, Vec<Mailbox>), String> {
    let address = |text: &String| {
        text.parse::<Mailbox>()
            .map_err(|_| format!("{text:?} is no mail address"))
    };
    if settings.mail_to.is_empty() || settings.mail_to.len() > RECEIVERS_MAX {
        return Err(format!("write 1 to {RECEIVERS_MAX} receivers"));
    }
    let to = settings
        .mail_to
        .iter()
        .map(address)
        .collect::<Result<_, _>>()?;
    Ok((address(&settings.mail_from)?, to))
}

fn parse(url: &str) -> anyhow::Result<Server> {
    let (scheme, rest) = url.split_once("://").context(RULE)?;
    let (wrapped, default) = match scheme {
        "smtps" => (true, 465),
        "smtp" => (false, 587),
        _ => bail!(RULE),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let uri: hyper::Uri = rest.parse().ok().context(RULE)?;
    let authority = uri.authority().context(RULE)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        bail!(RULE);
    }
    let host = authority.host();
    Ok(Server {
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port: authority.port_u16().unwrap_or(default),
        wrapped,
    })
}

fn is_local(host: &str) -> bool {
    host.parse()
        .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_without_a_password() {
        for (url, port, wrapped) in [
            ("smtps://mail.example.com", 465, true),
            ("smtp://mail.example.com/", 587, false),
            ("smtp://[::1]:2525", 2525, false),
        ] {
            let server = parse(url).unwrap();
            assert_eq!((server.port, server.wrapped), (port, wrapped), "{url}");
        }
        for url in [
            "",
            "mail.example.com",
            "http://mail.example.com",
            "smtp://",
            "smtps://user:secret@mail.example.com",
            "smtp://a b",
            "smtp://host/path",
        ] {
            let error = parse(url).err().unwrap().to_string();
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }
}
