//! Headers that carry a credential, and those that are removed because a media server might read one in them.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::strip::{self, Found, Names, names};
use super::{Carrier, CarrierError, Credential, authorization, encoding};

/// Removed from every request. The first four are carriers and may come once only.
static NAMES: Names<14> = names![
    "authorization",
    "x-emby-token",
    "x-mediabrowser-token",
    "x-emby-authorization",
    "proxy-authorization",
    "cookie",
    "x-refresh-token",
    "x-return-tokens",
    "x-application",
    // The client's identity: the session upstream is keygate's own and has an identity of its own.
    "x-emby-client",
    "x-emby-device-name",
    "x-emby-device-id",
    "x-emby-client-version",
    "x-mediabrowser-authorization",
];

/// Whether a header (lower-case name) is a credential or an identity, and so never forwarded.
pub(crate) fn is_credential(name: &str) -> bool {
    NAMES.iter().any(|listed| listed.as_str() == name)
}

/// What is to be removed.
#[derive(Debug, Default)]
pub(super) struct Removal {
    listed: Found,
    /// Rare: names in disguise, and headers that hold a key though they are no carriers.
    others: Vec<HeaderName>,
}

/// Reads the carriers among the headers and notes what is to be removed.
pub(super) fn read<'h>(headers: &'h HeaderMap, credential: &mut Credential<'h>) -> Result<Removal, CarrierError> {
    let mut removal = Removal::default();
    for (name, value) in headers {
        if let Some(place) = NAMES.place_of(name) {
            let repeated = removal.listed.note(place);
            read_listed(place, repeated, value, credential)?;
        } else if strip::is_odd(name.as_str()) || encoding::holds_key(value.as_bytes()) {
            removal.others.push(name.clone());
        }
    }
    Ok(removal)
}

fn read_listed<'h>(place: usize, repeated: bool, value: &'h HeaderValue, credential: &mut Credential<'h>) -> Result<(), CarrierError> {
    if repeated && place < 4 {
        return Err(CarrierError::Repeated);
    }
    match place {
        0 => read_authorization(value, credential),
        1 => credential.add(Cow::Borrowed(value.as_bytes()), Carrier::XEmbyToken),
        2 => credential.add(Cow::Borrowed(value.as_bytes()), Carrier::XMediaBrowserToken),
        3 => match authorization::token(text_of(value)?)? {
            Some((text, authorization::Scheme::Structured)) => credential.add(text, Carrier::XEmbyAuthorization),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn read_authorization<'h>(value: &'h HeaderValue, credential: &mut Credential<'h>) -> Result<(), CarrierError> {
    match authorization::token(text_of(value)?)? {
        Some((text, authorization::Scheme::Bearer)) => credential.add(text, Carrier::Bearer),
        Some((text, authorization::Scheme::Structured)) => credential.add(text, Carrier::MediaBrowser),
        None => Ok(()),
    }
}

fn text_of(value: &HeaderValue) -> Result<&str, CarrierError> {
    value.to_str().map_err(|_| CarrierError::Ambiguous)
}

/// Removes what [`read`] noted.
pub(super) fn remove(headers: &mut HeaderMap, removal: Removal) {
    removal.listed.remove_from(headers, &NAMES);
    for name in removal.others {
        headers.remove(name);
    }
}
