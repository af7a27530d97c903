//! The query of a request to Engine.IO's endpoint: protocol, transport, session.

use crate::carrier::encoding::decoded;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) transport: Transport,
    /// The session; none: a new one.
    pub(crate) sid: Option<String>,
}

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Polling,
    WebSocket,
}

/// Why a request is refused, in Engine.IO's own numbers (engine.io, `lib/server.ts`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// 0: neither polling nor a WebSocket.
    Transport,
    /// 3: a parameter twice, or polling by script tags, whose answers are programs.
    Request,
    /// 5: keygate reads version 4 alone.
    Version,
}

impl Query {
    /// Reads it as Node's `querystring` does: names and values decoded once.
    ///
    /// # Errors
    /// [`Wrong`].
    pub(crate) fn read(query: Option<&str>) -> Result<Self, Wrong> {
        let (mut version, mut transport, mut sid) = (None, None, None);
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = String::from_utf8_lossy(&decoded(value.as_bytes())).into_owned();
            let place = match &*decoded(name.as_bytes()) {
                b"EIO" => &mut version,
                b"transport" => &mut transport,
                b"sid" => &mut sid,
                b"j" => return Err(Wrong::Request),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Wrong::Request);
            }
        }
        if version.as_deref() != Some("4") {
            return Err(Wrong::Version);
        }
        let transport = match transport.as_deref() {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(Wrong::Transport),
        };
        Ok(Self { transport, sid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engine_io_reads_is_read_and_what_can_be_read_twice_is_refused() {
        let read = |query| Query::read(Some(query));
        assert_eq!(read("EIO=4&transport=polling&t=x"), Ok(Query { transport: Transport::Polling, sid: None }));
        let expected = Query { transport: Transport::WebSocket, sid: Some("a-b".to_owned()) };
        assert_eq!(read("%45IO=4&transport=webso%63ket&s%69d=a%2Db"), Ok(expected));
        for (query, wrong) in [
            ("", Wrong::Version),
            ("EIO=3&transport=polling", Wrong::Version),
            ("transport=websocket", Wrong::Version),
            ("EIO=4", Wrong::Transport),
            ("EIO=4&transport=webtransport", Wrong::Transport),
            ("EIO=4&transport=polling&j=0", Wrong::Request),
            ("EIO=4&transport=polling&%6A=0", Wrong::Request),
            ("EIO=4&transport=polling&sid=a&sid=b", Wrong::Request),
            ("EIO=4&transport=polling&transport=websocket", Wrong::Request),
        ] {
            assert_eq!(read(query), Err(wrong), "{query}");
        }
        assert_eq!(Query::read(None), Err(Wrong::Version));
    }
}
