//! What is counted of requests.

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 101: it became a socket.
    Switched,
    /// 2xx.
    Success,
    /// 3xx.
    Redirect,
    /// 4xx of the upstream.
    ClientError,
    /// 5xx of the upstream, or of keygate in its place.
    ServerError,
    /// keygate refused it.
    Refused,
    /// The client went away before there was an answer.
    Aborted,
}

impl Class {
    /// All, in the order of `Counts::by_class`.
    pub const ALL: [Self; 7] =
        [Self::Switched, Self::Success, Self::Redirect, Self::ClientError, Self::ServerError, Self::Refused, Self::Aborted];

    /// Of a status that the upstream gave; `None`: there was none.
    pub const fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::Aborted,
            Some(..200) => Self::Switched,
            Some(200..300) => Self::Success,
            Some(300..400) => Self::Redirect,
            Some(400..500) => Self::ClientError,
            Some(500..) => Self::ServerError,
        }
    }

    /// As figures are labelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Switched => "1xx",
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Refused => "refused",
            Self::Aborted => "aborted",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// Requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests that have ended, by [`Class`].
    by_class: [u64; 7],
    /// Bytes of bodies and sockets toward the upstream.
    pub bytes_in: u64,
    /// Bytes of bodies and sockets toward the client.
    pub bytes_out: u64,
}

impl Counts {
    /// One more request of this class.
    pub fn request(&mut self, class: Class) {
        self.by_class[class.index()] += 1;
    }

    /// Requests of a class.
    pub const fn of(&self, class: Class) -> u64 {
        self.by_class[class.index()]
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Bytes in both directions.
    pub const fn bytes(&self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (own, theirs) in self.by_class.iter_mut().zip(other.by_class) {
            *own = own.saturating_add(theirs);
        }
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }

    /// Takes away what is a part of it.
    pub fn take_away(&mut self, part: &Self) {
        for (own, theirs) in self.by_class.iter_mut().zip(part.by_class) {
            *own = own.saturating_sub(theirs);
        }
        self.bytes_in = self.bytes_in.saturating_sub(part.bytes_in);
        self.bytes_out = self.bytes_out.saturating_sub(part.bytes_out);
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// So many of each, by a fixed word. The list is short: the words are keygate's own.
#[derive(Clone, Debug, Default)]
pub struct ByWord(Vec<(&'static str, u64)>);

impl ByWord {
    /// One more. Nothing is allocated for a word that was there before.
    pub fn count(&mut self, word: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => self.0.push((word, 1)),
        }
    }

    /// What was counted since the last time; the words stay, so that the next one allocates nothing.
    pub fn take(&mut self) -> Vec<(&'static str, u64)> {
        self.0.iter_mut().filter(|(_, count)| *count > 0).map(|(word, count)| (*word, std::mem::take(count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_place_and_label() {
        let mut counts = Counts::default();
        for (times, class) in (1..).zip(Class::ALL) {
            (0..times).for_each(|_| counts.request(class));
        }
        assert_eq!(Class::ALL.map(|class| counts.of(class)), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(counts.requests(), 28);
        let mut labels = Class::ALL.map(Class::as_str).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 7);
        assert_eq!(
            [Some(101), Some(206), Some(304), Some(404), Some(502), None].map(Class::of),
            [Class::Switched, Class::Success, Class::Redirect, Class::ClientError, Class::ServerError, Class::Aborted]
        );
    }

    #[test]
    fn words_are_counted_and_taken_once() {
        let mut words = ByWord::default();
        ["a", "b", "a"].into_iter().for_each(|word| words.count(word));
        assert_eq!(words.take(), [("a", 2), ("b", 1)]);
        assert!(words.take().is_empty());
        words.count("b");
        assert_eq!(words.take(), [("b", 1)]);
    }
}
