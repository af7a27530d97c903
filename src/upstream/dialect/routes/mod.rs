//! Routes of the media servers as tables, and the table as a tree in which every request looks up what it is, once.
//!
//! A line says two things that have nothing to do with each other: how a request is treated ([`RouteClass`]: whether it needs a key, who
//! answers, how the answer is searched), and what right it takes ([`Scopes`]). A table is a list, to be read by people. The most specific pattern that has the request's method counts,
//! wherever it stands: at each segment a name goes before a name with a gap (the longest end first), that before `{…}`, and that before `*`
//! and `**`.

pub(super) mod audiobookshelf;
pub(super) mod mediabrowser;
#[cfg(test)]
mod tests;
mod tree;

use http::Method;

use crate::keys::{Scope, Scopes};
use crate::upstream::dialect::RouteClass;
use crate::upstream::dialect::libraries::Reach;

pub(super) use tree::{Habits, Tree};

/// Some methods of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u8);

/// What servers answer alike, but for the body: Express runs the handlers of GET for HEAD.
pub(super) const READ: Methods = Methods(1 << 0 | 1 << 1);
pub(super) const POST: Methods = Methods(1 << 2);
pub(super) const PUT: Methods = Methods(1 << 3);
pub(super) const PATCH: Methods = Methods(1 << 4);
pub(super) const DELETE: Methods = Methods(1 << 5);
/// All that is meant to change something.
pub(super) const WRITE: Methods = Methods(POST.0 | PUT.0 | PATCH.0 | DELETE.0);
/// Every method, unknown ones too.
pub(super) const ANY: Methods = Methods(u8::MAX);

impl Methods {
    /// Whether a method is among them.
    pub fn contains(self, method: &Method) -> bool {
        self.0 & Self::of(method).0 != 0
    }

    const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self(1 << 0),
            Method::HEAD => Self(1 << 1),
            Method::POST => POST,
            Method::PUT => PUT,
            Method::PATCH => PATCH,
            Method::DELETE => DELETE,
            _ => Self(1 << 7),
        }
    }
}

/// One line of a table.
///
/// The pattern is of the canonical path below all base paths, without a slash at its end; letter case is ignored. `{…}` is one segment;
/// `name{…}` and `{…}name` are one segment that begins or ends so, with at least one character in the gap; a last `*` is one segment or
/// more, a last `**` any number including none.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// For which methods.
    pub methods: Methods,
    /// On which paths.
    pub pattern: &'static str,
    /// What it is to the gateway.
    pub class: RouteClass,
    /// The scopes that a key must have for it, all of them. None: every key may.
    pub needs: Scopes,
    /// How far across libraries it goes.
    pub reach: Reach,
}

/// What a request is to the gateway, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// How it is treated.
    pub class: RouteClass,
    /// The scopes that a key must have for it.
    pub needs: Scopes,
    /// How far across libraries it goes.
    pub reach: Reach,
}

impl Routed {
    /// What is in no table: nobody has looked at it.
    pub const UNKNOWN: Self = Self { class: RouteClass::Keyed, needs: need::MANAGE, reach: Reach::Everything };
}

/// A line of a table.
const fn on(methods: Methods, pattern: &'static str, class: RouteClass, needs: Scopes) -> Route {
    Route { methods, pattern, class, needs, reach: reach(pattern, needs) }
}

/// What says nothing else is about one thing, or belongs to the account. The scopes that are about the whole server are so in all libraries.
const fn reach(pattern: &'static str, needs: Scopes) -> Reach {
    const SERVER_WIDE: Scopes = Scopes::among(&[Scope::Status, Scope::Events, Scope::Upload, Scope::Scan, Scope::Manage, Scope::Admin]);
    if begins(pattern, "/api/libraries/{") {
        Reach::Library
    } else if needs.and(SERVER_WIDE).is_empty() {
        Reach::Thing
    } else {
        Reach::Everything
    }
}

/// `starts_with`, which is no `const fn`.
const fn begins(text: &str, front: &str) -> bool {
    matches!(text.as_bytes().split_at_checked(front.len()), Some((begin, _)) if is_equal(begin, front.as_bytes()))
}

const fn is_equal(mut one: &[u8], mut other: &[u8]) -> bool {
    while let (Some((first, rest)), Some((second, others))) = (one.split_first(), other.split_first()) {
        if *first != *second {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}

/// A line about a route that is forwarded for a key with a scope.
const fn keyed(methods: Methods, pattern: &'static str, needs: Scopes) -> Route {
    on(methods, pattern, RouteClass::Keyed, needs)
}

/// A line about a list of all libraries, or of the one that the query names.
const fn listing(pattern: &'static str, needs: Scopes) -> Route {
    Route { reach: Reach::Listing, ..keyed(READ, pattern, needs) }
}

/// A line about what goes across all libraries.
const fn across(methods: Methods, pattern: &'static str, needs: Scopes) -> Route {
    Route { reach: Reach::Everything, ..keyed(methods, pattern, needs) }
}

/// A line of the deny lists.
const fn closed(methods: Methods, pattern: &'static str) -> Route {
    on(methods, pattern, RouteClass::Restricted, need::ADMIN)
}

/// What lines ask for.
pub(super) mod need {
    use crate::keys::{Scope, Scopes};

    pub(in crate::upstream::dialect) const NOTHING: Scopes = Scopes::NONE;
    pub(in crate::upstream::dialect) const BROWSE: Scopes = Scopes::of(Scope::Browse);
    pub(in crate::upstream::dialect) const STATUS: Scopes = Scopes::of(Scope::Status);
    pub(in crate::upstream::dialect) const STREAM: Scopes = Scopes::of(Scope::Stream);
    pub(in crate::upstream::dialect) const DOWNLOAD: Scopes = Scopes::of(Scope::Download);
    pub(in crate::upstream::dialect) const PROGRESS: Scopes = Scopes::of(Scope::Progress);
    pub(in crate::upstream::dialect) const PERSONAL: Scopes = Scopes::of(Scope::Personal);
    pub(in crate::upstream::dialect) const CONTROL: Scopes = Scopes::of(Scope::Control);
    pub(in crate::upstream::dialect) const EVENTS: Scopes = Scopes::of(Scope::Events);
    pub(in crate::upstream::dialect) const UPLOAD: Scopes = Scopes::of(Scope::Upload);
    pub(in crate::upstream::dialect) const SCAN: Scopes = Scopes::of(Scope::Scan);
    pub(in crate::upstream::dialect) const METADATA: Scopes = Scopes::of(Scope::Metadata);
    /// `DELETE` is a method.
    pub(in crate::upstream::dialect) const REMOVAL: Scopes = Scopes::of(Scope::Delete);
    pub(in crate::upstream::dialect) const MANAGE: Scopes = Scopes::of(Scope::Manage);
    pub(in crate::upstream::dialect) const ADMIN: Scopes = Scopes::of(Scope::Admin);
}
