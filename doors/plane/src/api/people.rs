//! `/api/v1/access`: people, tokens of programs, and what whoever asks may do.

use super::guard::{Admitted, Allowed};
use super::identity::Recorded;
use super::passkeys::Passkey;
use super::read::{Body, Named};
use super::{Problem, Shared};
use crate::clock;
use crate::people::tokens::{self, DAYS_MAX, Wanted};
use crate::people::{Member, Token, changing, parse_roles};
use crate::shared::to_its_end;
use crate::sign_in::FRESH_FOR;
use crate::sign_in::link::Link;
use access::{Asker, Network, Role, Roles};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use model::{ApiTokenId, PersonId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct WhoAmI {
    /// As the log names whoever asks: `person/…`, `token/…`, `service/…`, `local/uid-…`.
    actor: String,
    /// `person`, `token` or `machine`.
    kind: &'static str,
    /// What a person is called.
    name: Option<String>,
    roles: Vec<&'static str>,
    /// What may be asked, by the names of the registry. Those that are dangerous need a fresh proof.
    actions: Vec<&'static str>,
    /// Until when no fresh proof is needed.
    fresh_until: Option<String>,
    /// When the session ends.
    session_ends_at: Option<String>,
    /// By what they signed in: `link`, `passkey` or `provider`.
    signed_in_by: Option<&'static str>,
    /// A fresh proof is by a passkey: they have one.
    has_passkey: bool,
    /// Their roles are what the provider's groups give.
    by_provider: bool,
}

/// Who asks, and what they may ask.
#[utoipa::path(get, path = "/api/v1/access/whoami", tag = "access",
    responses((status = 200, body = WhoAmI), (status = 401, body = super::problem::ProblemBody)))]
pub async fn whoami(
    State(plane): State<Shared>,
    admitted: Admitted,
) -> Result<Json<WhoAmI>, Problem> {
    let who = admitted.who;
    let session = who.session.as_ref();
    let member = session.and_then(|session| plane.roster.person(&session.person));
    let has_passkey = session.is_some_and(|session| plane.roster.has_passkey(&session.person));
    let by_provider = (member.as_ref()).is_some_and(|member| member.row.subject.is_some());
    let actions = plane.roster.rights.people().actions_of(who.asker);
    Ok(Json(WhoAmI {
        actor: who.actor.map(|actor| actor.to_string()).unwrap_or_default(),
        kind: match who.asker {
            Asker::Person { .. } => "person",
            Asker::Token { .. } => "token",
            _ => "machine",
        },
        name: member.map(|member| member.row.name),
        roles: names(who.asker.roles()),
        actions: actions.into_iter().map(access::Action::name).collect(),
        fresh_until: session
            .filter(|session| session.is_fresh(clock::now(), has_passkey))
            .map(|session| session.proven_at.plus(FRESH_FOR).to_string()),
        session_ends_at: session.map(|session| session.expires_at.to_string()),
        signed_in_by: session.map(|session| session.way.name()),
        has_passkey,
        by_provider,
    }))
}

#[derive(Serialize, ToSchema)]
pub struct Person {
    /// Opaque; this is what the log names.
    person: String,
    name: String,
    roles: Vec<&'static str>,
    created_at: String,
    /// When they first signed in.
    joined_at: Option<String>,
    disabled_at: Option<String>,
    /// Of `If-Match` in a change.
    version: u64,
    /// They come by the provider: each sign-in there sets their roles.
    by_provider: bool,
    passkeys: Vec<Passkey>,
}

impl Person {
    fn of(plane: &Shared, member: Member) -> Self {
        let row = member.row;
        let passkeys = plane.roster.passkeys_of(&row.id).into_iter();
        Self {
            by_provider: row.subject.is_some(),
            passkeys: passkeys.map(Into::into).collect(),
            person: row.id.to_string(),
            name: row.name,
            roles: names(member.roles),
            created_at: row.created_at.to_string(),
            joined_at: row.joined_at.map(|at| at.to_string()),
            disabled_at: row.disabled_at.map(|at| at.to_string()),
            version: row.version,
        }
    }
}

/// Everybody who ever could sign in, the first first.
#[utoipa::path(get, path = "/api/v1/access/people", tag = "access", operation_id = "people",
    responses((status = 200, body = [Person]), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody)))]
pub async fn list(State(plane): State<Shared>, _: Allowed) -> Json<Vec<Person>> {
    let people = plane.roster.people().into_iter();
    Json(people.map(|member| Person::of(&plane, member)).collect())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPerson {
    /// What they are called; never in the log.
    name: String,
    /// `viewer`, `operator`, `release-manager`, `release-approver`, `pki-admin`, `policy-admin`,
    /// `auditor`, `tenant-admin`.
    roles: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct SignInLink {
    /// Works once. It is shown here and nowhere else: hand it over by a way that is private.
    link: String,
    expires_at: String,
}

impl From<&Link> for SignInLink {
    fn from(link: &Link) -> Self {
        Self {
            link: link.address().to_string(),
            expires_at: link.expires_at.to_string(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct PersonAdded {
    person: Person,
    #[serde(flatten)]
    link: SignInLink,
    recorded: Recorded,
}

/// Adds a person, who joins by the link in the answer.
#[utoipa::path(post, path = "/api/v1/access/people", tag = "access", request_body = NewPerson,
    operation_id = "add_person",
    responses((status = 201, body = PersonAdded), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn add(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewPerson>,
) -> Result<(StatusCode, Json<PersonAdded>), Problem> {
    let roles = parse_roles(&new.roles)?;
    let added = Shared::clone(&plane);
    let (member, link, receipt) =
        to_its_end(async move { changing::add(&added, &new.name, roles, &actor).await }).await?;
    let added = PersonAdded {
        person: Person::of(&plane, member),
        link: (&link).into(),
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(added)))
}

#[derive(Serialize, ToSchema)]
pub struct PersonChanged {
    person: Person,
    recorded: Recorded,
}

/// Gives a person these roles and no others. `If-Match` has the version that was looked at. One who
/// was disabled may sign in again.
#[utoipa::path(put, path = "/api/v1/access/people/{person}", tag = "access", request_body = NewPerson,
    params(("person" = String, Path, description = "`p-…`"),
        ("If-Match" = String, Header, description = "the version that was looked at, in quotes")),
    operation_id = "change_person",
    responses((status = 200, body = PersonChanged), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody), (status = 412, body = super::problem::ProblemBody),
        (status = 428, body = super::problem::ProblemBody)))]
pub async fn change(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(person): Named<String>,
    headers: HeaderMap,
    Body(new): Body<NewPerson>,
) -> Result<Json<PersonChanged>, Problem> {
    let id = person_id(&person)?;
    let version = seen_version(&headers)?;
    let roles = parse_roles(&new.roles)?;
    let changed = Shared::clone(&plane);
    let (member, receipt) = to_its_end(async move {
        changing::change(&changed, &id, version, &new.name, roles, &actor).await
    })
    .await?;
    Ok(Json(PersonChanged {
        person: Person::of(&plane, member),
        recorded: receipt.into(),
    }))
}

/// Lets a person in no more and ends their sessions at once. Their row stays: the log names it.
#[utoipa::path(delete, path = "/api/v1/access/people/{person}", tag = "access",
    params(("person" = String, Path, description = "`p-…`")), operation_id = "disable_person",
    responses((status = 200, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody)))]
pub async fn disable(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(person): Named<String>,
) -> Result<Json<Recorded>, Problem> {
    let id = person_id(&person)?;
    let receipt = to_its_end(async move { changing::disable(&plane, &id, &actor).await }).await?;
    Ok(Json(receipt.into()))
}

/// A new link for a person; it works once, within a day.
#[utoipa::path(post, path = "/api/v1/access/people/{person}/link", tag = "access",
    params(("person" = String, Path, description = "`p-…`")), operation_id = "link_person",
    responses((status = 201, body = SignInLink), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn link(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(person): Named<String>,
) -> Result<(StatusCode, Json<SignInLink>), Problem> {
    let id = person_id(&person)?;
    let link = to_its_end(async move { changing::link(&plane, &id, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json((&link).into())))
}

#[derive(Serialize, ToSchema)]
pub struct ApiToken {
    /// Names it in the log; no secret.
    token: String,
    note: String,
    roles: Vec<&'static str>,
    /// From where it may be shown; empty: from anywhere.
    networks: Vec<String>,
    made_by: String,
    made_at: String,
    expires_at: String,
    revoked_at: Option<String>,
    /// About when, to ten minutes.
    used_at: Option<String>,
}

impl From<Token> for ApiToken {
    fn from(token: Token) -> Self {
        let row = token.row;
        Self {
            token: row.id.to_string(),
            note: row.note,
            roles: names(token.roles),
            networks: row.networks.split_whitespace().map(str::to_owned).collect(),
            made_by: row.made_by,
            made_at: row.made_at.to_string(),
            expires_at: row.expires_at.to_string(),
            revoked_at: row.revoked_at.map(|at| at.to_string()),
            used_at: row.used_at.map(|at| at.to_string()),
        }
    }
}

/// All tokens, the newest first, also those that open nothing any more.
#[utoipa::path(get, path = "/api/v1/access/tokens", tag = "access",
    responses((status = 200, body = [ApiToken]), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody)))]
pub async fn tokens(State(plane): State<Shared>, _: Allowed) -> Json<Vec<ApiToken>> {
    Json(plane.roster.tokens().into_iter().map(Into::into).collect())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    note: String,
    /// As of a person, without `tenant-admin`.
    roles: Vec<String>,
    /// 1 to 397.
    days: u32,
    /// From where it may be shown: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`; 16 at most. None:
    /// from anywhere.
    #[serde(default)]
    networks: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct TokenMade {
    token: ApiToken,
    /// `Authorization: Bearer <secret>`. It is shown here and nowhere else.
    secret: String,
    recorded: Recorded,
}

/// Makes a token for a program.
#[utoipa::path(post, path = "/api/v1/access/tokens", tag = "access", request_body = NewToken,
    responses((status = 201, body = TokenMade), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 403, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn make_token(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<TokenMade>), Problem> {
    if !(1..=DAYS_MAX).contains(&new.days) {
        return Err(refused(format!("a token lives 1 to {DAYS_MAX} days")));
    }
    let networks = new.networks.iter().map(|text| {
        let wrong = "no network: write 10.0.0.0/8 (bits behind the prefix are 0), 2001:db8::/32 or \
                     192.0.2.7";
        Network::parse(text).ok_or_else(|| refused(wrong.to_owned()))
    });
    let networks: Result<Vec<Network>, Problem> = networks.collect();
    let wanted = Wanted {
        roles: parse_roles(&new.roles)?,
        networks: networks?,
        note: new.note,
        lifetime: Duration::from_secs(u64::from(new.days) * 86_400),
    };
    let (token, secret, receipt) =
        to_its_end(async move { tokens::make(&plane, wanted, &actor).await }).await?;
    let made = TokenMade {
        token: token.into(),
        secret: secret.to_string(),
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// It opens nothing from here on.
#[utoipa::path(delete, path = "/api/v1/access/tokens/{token}", tag = "access",
    params(("token" = String, Path, description = "`t-…`")),
    responses((status = 200, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody)))]
pub async fn revoke_token(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(token): Named<String>,
) -> Result<Json<Recorded>, Problem> {
    let id = ApiTokenId::new(&token).map_err(|error| refused(error.to_string()))?;
    let receipt = to_its_end(async move { tokens::revoke(&plane, &id, &actor).await }).await?;
    Ok(Json(receipt.into()))
}

fn names(roles: Roles) -> Vec<&'static str> {
    roles.iter().map(Role::name).collect()
}

fn person_id(text: &str) -> Result<PersonId, Problem> {
    PersonId::new(text).map_err(|error| refused(error.to_string()))
}

/// RFC 9110, section 13.1.1; RFC 6585, section 3.
fn seen_version(headers: &HeaderMap) -> Result<u64, Problem> {
    let needed = || {
        Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "version-needed",
            "say with If-Match which version was looked at, as \"3\"",
        )
    };
    let value = headers.get(header::IF_MATCH).ok_or_else(needed)?;
    let text = value.to_str().map_err(|_| needed())?;
    text.trim().trim_matches('"').parse().map_err(|_| needed())
}

fn refused(text: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "request-refused", text)
}
