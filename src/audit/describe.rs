//! Keys and accounts as the log names them, and what of them differs.

use crate::audit::{Act, Field, Object, ObjectKind, Value, Verb};
use crate::keys::admin::AdminTokenRecord;
use crate::keys::record::KeyRecord;
use crate::store::records::AccountRecord;

impl From<&KeyRecord> for Object {
    fn from(record: &KeyRecord) -> Self {
        Self { kind: ObjectKind::Key, id: record.id.to_string(), name: Value::text(&record.name) }
    }
}

impl From<&AccountRecord> for Object {
    fn from(record: &AccountRecord) -> Self {
        Self { kind: ObjectKind::Account, id: record.id.0.to_string(), name: Value::text(&record.full_name()) }
    }
}

impl From<&AdminTokenRecord> for Object {
    fn from(record: &AdminTokenRecord) -> Self {
        Self { kind: ObjectKind::AdminToken, id: record.id.to_string(), name: Value::text(&record.name) }
    }
}

/// An admin token that is new.
pub fn of_new_token(record: &AdminTokenRecord) -> Act {
    let scopes: Vec<&str> = record.scopes.iter().map(|scope| scope.as_str()).collect();
    Act::new(Verb::Created, record.into())
        .with([Field::new("scopes", Value::text(&scopes.join(" "))), Field::new("expires", record.expires_at)])
}

/// A key that is new.
pub fn of_new_key(record: &KeyRecord) -> Act {
    Act::new(Verb::Created, record.into()).with([
        Field::new("account", u64::from(record.account.0)),
        Field::new("expires", record.expires_at),
        Field::new("active", record.is_active),
        Field::new("scopes", record.scopes),
        Field::new("libraries", libraries(record)),
        Field::new("limits", limits(record)),
    ])
}

/// What of a key differs.
pub fn of_key(verb: Verb, before: &KeyRecord, after: &KeyRecord) -> Act {
    let fields = [
        Field::changed("name", Value::text(&before.name), Value::text(&after.name)),
        Field::changed("account", u64::from(before.account.0), u64::from(after.account.0)),
        Field::changed("expires", before.expires_at, after.expires_at),
        Field::changed("active", before.is_active, after.is_active),
        Field::changed("scopes", before.scopes, after.scopes),
        Field::changed("libraries", libraries(before), libraries(after)),
        Field::changed("limits", limits(before), limits(after)),
        Field::changed("old secret until", old_secret_until(before), old_secret_until(after)),
    ];
    Act::new(verb, after.into()).with(fields.into_iter().flatten())
}

fn libraries(record: &KeyRecord) -> Value {
    record.libraries.as_ref().map_or_else(|| Value::from("all"), |libraries| Value::text(&libraries.join(" ")))
}

fn limits(record: &KeyRecord) -> Value {
    Value::text(&record.limits.to_string())
}

fn old_secret_until(record: &KeyRecord) -> Value {
    record.previous.as_ref().map_or_else(|| Value::from("none"), |previous| previous.expires_at.into())
}

/// An account that is new.
pub fn of_new_account(record: &AccountRecord) -> Act {
    Act::new(Verb::Created, record.into()).with([Field::new("method", record.credential.method())])
}

/// What of an account differs; of its credential only the method is told.
pub fn of_account(verb: Verb, before: &AccountRecord, after: &AccountRecord) -> Act {
    let fields = [
        Field::changed("method", before.credential.method(), after.credential.method()),
        Field::changed("administrator", before.is_administrator, after.is_administrator),
        Field::changed("broken", why(before), why(after)),
    ];
    Act::new(verb, after.into()).with(fields.into_iter().flatten())
}

fn why(record: &AccountRecord) -> Value {
    record.broken.as_deref().map_or_else(|| Value::from("no"), Value::text)
}
