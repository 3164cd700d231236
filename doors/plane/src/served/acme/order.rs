//! One order, from the names to the certificate (RFC 8555 section 7.4).

use super::answers::Answers;
use crate::plane::Plane;
use crate::served::settings::{AcmeSettings, ChallengeKind};
use anyhow::{Context, bail};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a CA may take to look, and then to sign.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// What a CA gave, and the key it is for.
pub struct Got {
    pub chain_pem: String,
    /// PKCS #8 in DER.
    pub key: Zeroizing<Vec<u8>>,
}

/// Proves each name, and asks for one certificate for all of them with a key of its own.
///
/// # Errors
/// What the CA said.
pub async fn place(
    plane: &Plane,
    settings: &AcmeSettings,
    account: &Account,
) -> anyhow::Result<Got> {
    let names: Vec<Identifier> = settings
        .names
        .iter()
        .cloned()
        .map(Identifier::Dns)
        .collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    answer(plane, settings, &mut order).await?;
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing) => {}
        // What it says of each name tells more than what it says of the order.
        ended => match (refusals(&mut order).await, ended) {
            (Some(said), _) => bail!("{said}"),
            (None, Err(error)) => return Err(error.into()),
            (None, Ok(status)) => bail!("the order ended as {status:?} without a reason"),
        },
    }
    let key = KeyPair::generate().context("a key could not be made")?;
    let mut request = CertificateParams::new(settings.names.clone())?;
    request.distinguished_name = DistinguishedName::new();
    let request = request.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain_pem = order.poll_certificate(&POLL).await?;
    Ok(Got {
        chain_pem,
        key: Zeroizing::new(key.serialize_der()),
    })
}

/// Has the answers in place before the CA is told to look.
async fn answer(plane: &Plane, settings: &AcmeSettings, order: &mut Order) -> anyhow::Result<()> {
    let mut answers = Answers::default();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let kind = match settings.challenge {
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            ChallengeKind::Http01 => ChallengeType::Http01,
        };
        let mut challenge = authorization.challenge(kind).with_context(|| {
            format!(
                "it offers no {:?} for {name}; operator: choose another listen.acme.challenge",
                settings.challenge
            )
        })?;
        let proof = challenge.key_authorization();
        match settings.challenge {
            ChallengeKind::TlsAlpn01 => {
                answers.certify(settings.challenge_door, &name, proof.digest().as_ref())?;
            }
            ChallengeKind::Http01 => answers.tell(&challenge.token, proof.as_str()),
        }
        plane.trust().answers.replace(Arc::new(answers.clone()));
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Why names were not proven, as the CA says it of each.
async fn refusals(order: &mut Order) -> Option<String> {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(now) = authorization.refresh().await else {
            continue;
        };
        let errors = now.challenges.iter().filter_map(|one| one.error.as_ref());
        said.extend(errors.map(|error| {
            let detail = error.detail.as_deref().unwrap_or("no reason given");
            format!("{name}: {detail}")
        }));
    }
    (!said.is_empty()).then(|| {
        format!(
            "the CA could not see that the names are ours ({}); operator: see that each leads here",
            said.join("; ")
        )
    })
}
