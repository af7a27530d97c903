//! The throttle of guesses: failures are counted per client address, and after too many of them an address reads 429 in place of 401.
//!
//! The key is looked up first and only what failed comes here, so a good key passes whatever its neighbours behind the same address
//! do, and the way of a good key touches nothing of this. Failures take a lock for some dozen instructions.
//!
//! The crate `governor` does the same arithmetic, but its table of addresses grows without a bound between two sweeps, it reads a clock
//! of its own, and it brings a dozen crates: the whole of it is the one function `Bucket::take`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::clock::Clock;

/// Addresses that have a bucket of their own; about 400 KiB at most.
const MOST_ADDRESSES: usize = 8192;

/// How often something may happen: `burst` times at once, then once per `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many at once.
    pub burst: u32,
    /// One more after each of these.
    pub interval: Duration,
}

/// Failures of one address: 20 at once and 20 a minute. A person who mistypes, or a family's apps whose key was just revoked, stay
/// below it; a search through keys gets nowhere at any rate.
pub const GUESSES: Rate = Rate { burst: 20, interval: Duration::from_secs(3) };
/// Failures of all addresses together: 600 at once and 600 a minute. Above it every failure is a 429, whoever's it is.
pub const ALL_GUESSES: Rate = Rate { burst: 600, interval: Duration::from_millis(100) };
/// Logins and renewals that natives send through one address, successful ones too: Audiobookshelf's own limit (40 in 10 minutes), which
/// Emby and Jellyfin lack. A household's apps renew once an hour.
pub const NATIVE_LOGINS: Rate = Rate { burst: 40, interval: Duration::from_secs(15) };
/// The same for all addresses together: what a server that hashes passwords for 0.2 s on one core stands.
pub const ALL_NATIVE_LOGINS: Rate = Rate { burst: 200, interval: Duration::from_millis(500) };

/// Too often: seconds for `Retry-After`, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// Seconds.
    pub retry_after_secs: u64,
}

/// Counts what clients do, by address (IPv6: by /64, which is what one customer has). Shared by all cores.
pub struct Throttle {
    clock: Arc<dyn Clock>,
    each: Rate,
    all: Rate,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    all: Bucket,
    by_address: FxHashMap<IpAddr, Bucket>,
    /// Who finds no place in a full table shares this one.
    others: Bucket,
}

/// When its next free place would be if it were empty (the "theoretical arrival time" of the cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(Duration);

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("each", &self.each).finish_non_exhaustive()
    }
}

impl Throttle {
    /// An empty one. `each`: for one address; `all`: for all of them together.
    pub fn new(clock: Arc<dyn Clock>, each: Rate, all: Rate) -> Self {
        Self { clock, each, all, table: Mutex::default() }
    }

    /// Counts one for an address.
    ///
    /// # Errors
    /// [`TooOften`]: then it is not counted.
    pub fn count(&self, address: IpAddr) -> Result<(), TooOften> {
        let now = self.clock.monotonic();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let table = &mut *table;
        table.bucket(network(address), now).take(now, self.each)?;
        table.all.take(now, self.all)
    }

    /// Whether an address has used up what it may; counts nothing.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn check(&self, address: IpAddr) -> Result<(), TooOften> {
        let now = self.clock.monotonic();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bucket = *table.bucket(network(address), now);
        bucket.take(now, self.each)
    }
}

impl Table {
    fn bucket(&mut self, network: IpAddr, now: Duration) -> &mut Bucket {
        if self.by_address.len() >= MOST_ADDRESSES && !self.by_address.contains_key(&network) {
            // What has recovered is as good as absent.
            self.by_address.retain(|_, bucket| bucket.0 > now);
            if self.by_address.len() >= MOST_ADDRESSES {
                return &mut self.others;
            }
        }
        self.by_address.entry(network).or_default()
    }
}

impl Bucket {
    fn take(&mut self, now: Duration, rate: Rate) -> Result<(), TooOften> {
        let full = now + rate.interval * rate.burst;
        let next = self.0.max(now) + rate.interval;
        if next > full {
            let wait = next.saturating_sub(full);
            return Err(TooOften { retry_after_secs: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) });
        }
        self.0 = next;
        Ok(())
    }
}

/// An address, or the network that one customer has of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    fn throttle() -> (Arc<ManualClock>, Throttle) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1)));
        (Arc::clone(&clock), Throttle::new(clock, GUESSES, ALL_GUESSES))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn so_many_pass_at_once_and_then_one_per_interval() {
        let (clock, throttle) = throttle();
        let client = address("192.0.2.1");
        for _ in 0..20 {
            assert_eq!(throttle.count(client), Ok(()));
        }
        for _ in 0..100 {
            assert_eq!(throttle.count(client), Err(TooOften { retry_after_secs: 3 }), "what is refused does not lengthen the wait");
        }
        assert_eq!(throttle.count(address("192.0.2.2")), Ok(()), "another address is not touched by it");
        clock.advance(Duration::from_secs(3));
        assert_eq!((throttle.count(client), throttle.count(client).is_err()), (Ok(()), true));
        clock.advance(Duration::from_secs(60));
        assert_eq!((0..50).filter(|_| throttle.count(client).is_ok()).count(), 20);
    }

    #[test]
    fn looking_counts_nothing() {
        let (_, throttle) = throttle();
        let client = address("192.0.2.1");
        assert!((0..100).all(|_| throttle.check(client).is_ok()));
        assert_eq!((0..50).filter(|_| throttle.count(client).is_ok()).count(), 20);
        assert!(throttle.check(client).is_err());
    }

    #[test]
    fn an_ipv6_customer_is_one_client_and_a_mapped_address_is_the_ipv4_one() {
        let (_, throttle) = throttle();
        for last in 0..20 {
            assert_eq!(throttle.count(address(&format!("2001:db8:1:2:{last}::1"))), Ok(()));
            assert_eq!(throttle.count(address("::ffff:192.0.2.1")), Ok(()));
        }
        assert!(throttle.count(address("2001:db8:1:2::ffff")).is_err());
        assert!(throttle.count(address("192.0.2.1")).is_err());
        assert_eq!(throttle.count(address("2001:db8:1:3::1")), Ok(()));
    }

    #[test]
    fn all_addresses_together_have_a_ceiling() {
        let (_, throttle) = throttle();
        let passed = (0..2000_u32).filter(|&client| throttle.count(IpAddr::V4(client.into())).is_ok()).count();
        assert_eq!(passed, 600);
    }

    #[test]
    fn the_table_is_bounded_and_a_full_one_forgets_whom_it_may() {
        let (clock, mut throttle) = throttle();
        throttle.all = Rate { burst: u32::MAX, interval: Duration::from_nanos(1) };
        let len = |throttle: &Throttle| throttle.table.lock().expect("a lock").by_address.len();
        let size = u32::try_from(MOST_ADDRESSES).expect("small");
        let passed = (0..size + 100).filter(|&client| throttle.count(IpAddr::V4(client.into())).is_ok()).count();
        assert_eq!((passed, len(&throttle)), (MOST_ADDRESSES + 20, MOST_ADDRESSES), "who finds no place shares one bucket");
        clock.advance(Duration::from_secs(60));
        assert_eq!(throttle.count(address("203.0.113.9")), Ok(()));
        assert_eq!(len(&throttle), 1);
    }
}
