//! Who has which token: accounts and everything that was handed out for them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::options::Options;
use super::{random, signed};
use crate::clock::Clock;
use crate::upstream::Kind;

/// A user and what belongs to them.
pub(super) struct Account {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) password: String,
    pub(super) is_admin: bool,
    pub(super) can_upload: bool,
    pub(super) is_active: bool,
    /// Audiobookshelf's old token that never expires, in many answers as `user.token`.
    pub(super) permanent: String,
    pub(super) failed_logins: u32,
}

/// A log-in of Audiobookshelf: one current refresh token and, for a while, the previous one.
pub(super) struct BookSession {
    pub(super) user: String,
    pub(super) current: String,
    pub(super) previous: Option<(String, Duration)>,
}

/// A log-in of Emby or Jellyfin.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) token: String,
    /// User id; empty for an API key of the server, which has no user.
    pub(super) user: String,
    pub(super) client: String,
    pub(super) name: String,
    pub(super) device_id: String,
    pub(super) version: String,
}

/// An API key of Audiobookshelf that was made over its routes.
#[derive(Clone)]
pub(super) struct BookKey {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) user: String,
    pub(super) is_active: bool,
    pub(super) created_by: String,
    pub(super) token: String,
}

/// A request of Quick Connect.
pub(super) struct QuickRequest {
    pub(super) secret: String,
    pub(super) code: String,
    /// Who it was authorised for.
    pub(super) user: Option<String>,
    /// The device that asked.
    pub(super) device: Device,
    pub(super) made_at: Duration,
}

/// The state behind the routes.
pub(super) struct Ledger {
    pub(super) kind: Kind,
    pub(super) accounts: Vec<Account>,
    pub(super) sessions: Vec<BookSession>,
    pub(super) devices: Vec<Device>,
    pub(super) book_keys: Vec<BookKey>,
    pub(super) quick_requests: Vec<QuickRequest>,
    /// Access tokens and API keys in the shape of access tokens that were handed out, and dead ones among them.
    access: HashMap<String, String>,
    killed: HashSet<String>,
    all: Vec<String>,
    attempts: HashMap<String, (u32, Duration)>,
    /// Open playback sessions of Audiobookshelf: item id, and whether it is a transcode.
    pub(super) playbacks: HashMap<String, (String, bool)>,
    secret: Vec<u8>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Ledger {
    pub(super) fn new(kind: Kind, options: &Options) -> Self {
        let secret = random::hex(32).into_bytes();
        let issued = options.clock.now().as_millis() / 1000;
        let accounts: Vec<_> = options
            .users
            .iter()
            .map(|user| {
                let id = if kind == Kind::Audiobookshelf { random::uuid() } else { random::hex(16) };
                let claims = json!({"userId": id, "username": user.name, "iat": issued});
                Account {
                    permanent: if kind == Kind::Audiobookshelf { signed::sign(&secret, &claims) } else { String::new() },
                    id,
                    name: user.name.clone(),
                    password: user.password.clone(),
                    is_admin: user.is_admin,
                    can_upload: user.is_admin || user.can_upload,
                    is_active: true,
                    failed_logins: 0,
                }
            })
            .collect();
        let all = accounts
            .iter()
            .flat_map(|account| [account.permanent.clone(), account.password.clone()])
            .filter(|text| !text.is_empty())
            .collect();
        Self {
            kind,
            accounts,
            sessions: Vec::new(),
            devices: Vec::new(),
            book_keys: Vec::new(),
            quick_requests: Vec::new(),
            access: HashMap::new(),
            killed: HashSet::new(),
            all,
            attempts: HashMap::new(),
            playbacks: HashMap::new(),
            secret,
            clock: Arc::clone(&options.clock),
        }
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn by_name_mut(&mut self, name: &str) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.id == id)
    }

    /// Mints a token of Audiobookshelf's shape. `kind` is `access`, `refresh` or `api`.
    pub(super) fn mint(&mut self, user: &str, kind: &str, life: Option<Duration>) -> String {
        let now = self.clock.now().as_millis() / 1000;
        let name = self.by_id(user).map(|account| account.name.clone()).unwrap_or_default();
        let mut claims = json!({"userId": user, "username": name, "jti": random::uuid(), "type": kind, "iat": now});
        if let Some(life) = life {
            claims["exp"] = json!(now + i64::try_from(life.as_secs()).unwrap_or(i64::MAX / 2));
        }
        let token = signed::sign(&self.secret, &claims);
        if kind != "refresh" {
            self.access.insert(token.clone(), user.to_owned());
        }
        self.all.push(token.clone());
        token
    }

    /// The claims of a token that is signed here, whose time has not passed and that nobody killed; its kind is in `type`.
    pub(super) fn claims(&self, token: &str) -> Result<serde_json::Value, Stale> {
        let claims = signed::verify(&self.secret, token).ok_or(Stale::Unknown)?;
        if self.killed.contains(token) {
            return Err(Stale::Unknown);
        }
        match claims["exp"].as_i64() {
            Some(end) if end * 1000 <= self.clock.now().as_millis() => Err(Stale::Expired),
            _ => Ok(claims),
        }
    }

    /// The user behind a bearer of Audiobookshelf: an access token, an API key, or the permanent token.
    pub(super) fn bearer(&self, token: &str) -> Option<&Account> {
        let claims = self.claims(token).ok()?;
        let is_off = |key: &BookKey| key.token == token && !key.is_active;
        if claims["type"] == "refresh" || self.book_keys.iter().any(is_off) {
            return None;
        }
        self.by_id(claims["userId"].as_str()?).filter(|account| account.is_active)
    }

    /// Keeps a secret that is no token among those that must not be found anywhere.
    pub(super) fn remember(&mut self, secret: &str) {
        self.all.push(secret.to_owned());
    }

    /// Adds a device of Emby or Jellyfin with a new token.
    pub(super) fn add_device(&mut self, device: Device) {
        self.all.push(device.token.clone());
        self.devices.push(device);
    }

    /// Counts an attempt of `address` and says how many are left and in how many seconds the window ends; `None` when it is over.
    pub(super) fn attempt(&mut self, address: &str, limit: (u32, Duration)) -> (Option<u32>, u64) {
        let now = self.clock.monotonic();
        let (count, start) = self.attempts.entry(address.to_owned()).or_insert((0, now));
        if now.saturating_sub(*start) >= limit.1 {
            (*count, *start) = (0, now);
        }
        *count += 1;
        let reset = limit.1.saturating_sub(now.saturating_sub(*start)).as_secs().max(1);
        (limit.0.checked_sub(*count), reset)
    }

    pub(super) fn live_tokens(&self) -> Vec<String> {
        let permanent = self.accounts.iter().filter(|account| account.is_active).map(|account| &account.permanent);
        let refresh = self.sessions.iter().map(|session| &session.current);
        let bearer = self.access.keys().filter(|token| self.bearer(token).is_some());
        let devices = self.devices.iter().map(|device| &device.token);
        permanent.chain(refresh).chain(bearer).chain(devices).filter(|token| !token.is_empty()).cloned().collect()
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        self.all.clone()
    }

    pub(super) fn secrets_since(&self, known: usize) -> Vec<String> {
        self.all.get(known..).unwrap_or_default().to_vec()
    }

    pub(super) fn kill(&mut self, token: &str) {
        self.killed.insert(token.to_owned());
        self.sessions.retain(|session| session.current != token);
        self.devices.retain(|device| device.token != token);
    }

    pub(super) fn kill_access(&mut self) {
        let is_access = |token: &&String| signed::verify(&self.secret, token).is_some_and(|claims| claims["type"] == "access");
        let dead: Vec<_> = self.access.keys().filter(is_access).cloned().collect();
        self.killed.extend(dead);
    }

    pub(super) fn kill_all(&mut self) {
        self.killed.extend(self.access.keys().cloned());
        self.sessions.clear();
        self.devices.clear();
    }

    pub(super) fn set_active(&mut self, name: &str, is_active: bool) {
        let Some(account) = self.by_name_mut(name) else { return };
        account.is_active = is_active;
        account.failed_logins = 0;
        let id = account.id.clone();
        if !is_active {
            self.devices.retain(|device| device.user != id);
        }
    }

    pub(super) fn set_password(&mut self, name: &str, password: &str) {
        let Some(account) = self.by_name_mut(name) else { return };
        password.clone_into(&mut account.password);
        let id = account.id.clone();
        self.all.push(password.to_owned());
        // Access tokens of Audiobookshelf live on until they expire: nothing looks them up.
        self.sessions.retain(|session| session.user != id);
        self.devices.retain(|device| device.user != id);
    }

    pub(super) fn create_api_key(&mut self, name: &str) -> Option<String> {
        if self.kind == Kind::Audiobookshelf {
            let id = self.by_name(name)?.id.clone();
            return Some(self.mint(&id, "api", None));
        }
        let token = random::hex(16);
        self.add_device(Device {
            token: token.clone(),
            user: String::new(),
            client: name.to_owned(),
            name: String::new(),
            device_id: String::new(),
            version: String::new(),
        });
        Some(token)
    }
}

/// Why a signed token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Not signed here, or killed.
    Unknown,
    /// Its time has passed.
    Expired,
}
