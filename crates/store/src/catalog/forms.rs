//! How words of the house stand in columns. Model types are not serializable; these forms are, and each way is written
//! out, so that a change of a model type cannot change the file unnoticed.

use chancery_model::{Actor, Assurance, Delegation, Digest, Principal, PrincipalKind, ReviewId, SessionId};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::CatalogError;

const ROW: CatalogError = CatalogError::Corrupt("a row has not the form it was written in");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalForm {
    issuer: String,
    subject: String,
    kind: String,
    display: String,
    groups: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActorForm {
    issuer: String,
    subject: String,
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainForm {
    principal: PrincipalForm,
    actors: Vec<ActorForm>,
}

fn principal_form(principal: &Principal) -> PrincipalForm {
    PrincipalForm {
        issuer: principal.issuer.clone(),
        subject: principal.subject.clone(),
        kind: kind_word(principal.kind).to_owned(),
        display: principal.display.clone(),
        groups: principal.groups.clone(),
    }
}

fn principal(form: PrincipalForm) -> Result<Principal, CatalogError> {
    Ok(Principal {
        issuer: form.issuer,
        subject: form.subject,
        kind: kind(&form.kind)?,
        display: form.display,
        groups: form.groups,
    })
}

pub(super) fn principal_to_json(value: &Principal) -> Result<String, CatalogError> {
    to_json(&principal_form(value))
}

pub(super) fn principal_from_json(json: &str) -> Result<Principal, CatalogError> {
    principal(from_json(json)?)
}

pub(super) fn chain_to_json(chain: &Delegation) -> Result<String, CatalogError> {
    let actor = |actor: &Actor| ActorForm {
        issuer: actor.issuer.clone(),
        subject: actor.subject.clone(),
        kind: kind_word(actor.kind).to_owned(),
    };
    to_json(&ChainForm {
        principal: principal_form(&chain.principal),
        actors: chain.actors.iter().map(actor).collect(),
    })
}

pub(super) fn chain_from_json(json: &str) -> Result<Delegation, CatalogError> {
    let form: ChainForm = from_json(json)?;
    let actor = |form: ActorForm| {
        Ok::<_, CatalogError>(Actor { issuer: form.issuer, subject: form.subject, kind: kind(&form.kind)? })
    };
    Ok(Delegation {
        principal: principal(form.principal)?,
        actors: form.actors.into_iter().map(actor).collect::<Result<_, _>>()?,
    })
}

pub(super) fn words_to_json(words: &[String]) -> Result<String, CatalogError> {
    to_json(words)
}

pub(super) fn words_from_json(json: &str) -> Result<Vec<String>, CatalogError> {
    from_json(json)
}

pub(super) fn kind_word(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
        PrincipalKind::Agent => "agent",
    }
}

pub(super) fn kind(word: &str) -> Result<PrincipalKind, CatalogError> {
    match word {
        "user" => Ok(PrincipalKind::User),
        "service" => Ok(PrincipalKind::Service),
        "agent" => Ok(PrincipalKind::Agent),
        _ => Err(ROW),
    }
}

pub(super) fn assurance(word: &str) -> Result<Assurance, CatalogError> {
    [Assurance::Clicked, Assurance::SteppedUp, Assurance::Signed]
        .into_iter()
        .find(|assurance| assurance.as_str() == word)
        .ok_or(ROW)
}

/// A count from a column.
pub(super) fn count(value: i64) -> Result<u64, CatalogError> {
    u64::try_from(value).map_err(|_| ROW)
}

/// A count for a column.
pub(super) fn column(value: u64) -> Result<i64, CatalogError> {
    i64::try_from(value).map_err(|_| CatalogError::Limit { what: "a count", max: i64::MAX as u64 })
}

pub(super) fn sixteen(row: &SqliteRow, column: &'static str) -> Result<[u8; 16], CatalogError> {
    row.try_get::<Vec<u8>, _>(column)?.try_into().map_err(|_| ROW)
}

pub(super) fn review_id(row: &SqliteRow) -> Result<ReviewId, CatalogError> {
    sixteen(row, "id").map(ReviewId)
}

pub(super) fn session_id(row: &SqliteRow, column: &'static str) -> Result<SessionId, CatalogError> {
    sixteen(row, column).map(SessionId)
}

pub(super) fn digest(row: &SqliteRow, column: &'static str) -> Result<Digest, CatalogError> {
    row.try_get::<Vec<u8>, _>(column)?.try_into().map(Digest).map_err(|_| ROW)
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|error| CatalogError::Io(error.into()))
}

fn from_json<T: for<'a> Deserialize<'a>>(json: &str) -> Result<T, CatalogError> {
    serde_json::from_str(json).map_err(|_| ROW)
}
