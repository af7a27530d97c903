//! The way through a text: from one thing that announces a credential to the next.

use memchr::{memchr, memchr2};

use super::edit::Edit;
use super::needles::{Needle, Needles};
use super::values::Found;
use super::{Plan, Text, jwt};

/// What stands in the place of a credential, byte for byte, where it cannot be left empty.
const FILLER: u8 = b'*';
/// Longest own token that is looked for in a field, in bytes.
const MAX_OWN: usize = 4096;

/// Where in a text a walk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere special.
    #[default]
    Text,
    /// Within a JWT that goes.
    Jwt,
    /// After a name in JSON; a colon may follow.
    Colon(Needle),
    /// After the colon.
    Value(Needle),
    /// At the beginning of a string that may be an own token.
    String,
    /// Within a string that goes. `begun`: the quote that ends the empty string has been written.
    Blank { begun: bool, escaped: bool },
    /// At the beginning of an element's text that may be an own token.
    Element,
    /// Within an element's text that goes.
    BlankElement,
}

/// A step of a walk.
enum Step {
    /// Go on there.
    To(usize),
    /// What comes from there on cannot be judged before more of the text is here.
    Wait(usize),
}

/// A piece of text and what was found ahead in it.
pub(super) struct Walk<'w, 't> {
    plan: &'w Plan,
    needles: &'static Needles,
    text: &'t [u8],
    last: bool,
    edit: &'w mut Edit<'t>,
    value: Ahead<Found>,
    needle: Ahead<(usize, usize, Needle)>,
    origin: Ahead<(usize, usize, Needle)>,
    /// No JWT begins before there.
    no_jwt_before: usize,
}

/// The next find of one search, so that none looks at a text twice.
enum Ahead<T> {
    Unknown,
    Nothing,
    There(T),
}

impl<T: Copy> Ahead<T> {
    fn get(&mut self, at: usize, start: impl Fn(&T) -> usize, find: impl FnOnce() -> Option<T>) -> Option<T> {
        let is_stale = match self {
            Self::Unknown => true,
            Self::Nothing => false,
            Self::There(found) => start(found) < at,
        };
        if is_stale {
            *self = find().map_or(Self::Nothing, Self::There);
        }
        match self {
            Self::There(found) => Some(*found),
            Self::Unknown | Self::Nothing => None,
        }
    }
}

impl<'w, 't> Walk<'w, 't> {
    /// Through a text in the given form; `last`: nothing follows it.
    pub(super) fn new(plan: &'w Plan, form: Text, text: &'t [u8], last: bool, edit: &'w mut Edit<'t>) -> Self {
        let needles = Needles::of(plan.secrets.kind, form);
        let (value, needle, origin) = (Ahead::Unknown, Ahead::Unknown, Ahead::Unknown);
        Self { plan, needles, text, last, edit, value, needle, origin, no_jwt_before: 0 }
    }

    /// Walks as far as the text can be judged: how far that is.
    pub(super) fn run(mut self, place: &mut Place) -> usize {
        let mut at = 0;
        while at < self.text.len() {
            match self.step(place, at) {
                Step::To(next) => at = next,
                Step::Wait(from) => return from,
            }
        }
        at
    }

    fn step(&mut self, place: &mut Place, at: usize) -> Step {
        match *place {
            Place::Text => self.text(place, at),
            Place::Jwt => {
                let end = jwt::end(self.text, at);
                self.edit.fill(at..end, FILLER);
                if end < self.text.len() {
                    *place = Place::Text;
                }
                Step::To(end)
            }
            Place::Colon(needle) => self.colon(place, needle, at),
            Place::Value(needle) => self.value(place, needle, at),
            Place::String => self.string(place, at),
            Place::Blank { begun, escaped } => self.blank(place, at, begun, escaped),
            Place::Element => self.element(place, at),
            Place::BlankElement => {
                let end = memchr(b'<', &self.text[at..]).map_or(self.text.len(), |length| at + length);
                self.blank_element(at, end);
                if end < self.text.len() {
                    *place = Place::Text;
                }
                Step::To(end)
            }
        }
    }

    fn text(&mut self, place: &mut Place, at: usize) -> Step {
        let next = self.next(at);
        let start = next.map_or(self.text.len(), |(start, _)| start);
        if !self.last && start + self.plan.longest(self.needles) > self.text.len() {
            let open = self.open(at);
            // Also at the start itself: a longer one may begin there.
            if open < self.text.len() && open <= start {
                return Step::Wait(open);
            }
        }
        match next {
            None => Step::To(self.text.len()),
            Some((start, Next::Value(found))) => {
                self.edit_value(start, found);
                Step::To(found.end)
            }
            Some((_, Next::Needle(end, needle @ (Needle::Field | Needle::OldToken)))) => {
                *place = Place::Colon(needle);
                Step::To(end)
            }
            Some((_, Next::Needle(end, Needle::Element))) => {
                *place = if self.plan.own.in_fields.is_some() { Place::Element } else { Place::BlankElement };
                Step::To(end)
            }
            Some((start, Next::Needle(end, Needle::Jwt))) => self.jwt(place, at, start, end),
            Some((start, Next::Needle(end, Needle::Origin))) => self.origin(start, end),
        }
    }

    /// What comes next, and where.
    fn next(&mut self, at: usize) -> Option<(usize, Next)> {
        let (plan, text, needles) = (self.plan, self.text, self.needles);
        let value = plan.secrets.search.as_ref().and_then(|search| self.value.get(at, |found| found.start, || search.find(text, at)));
        let from = at.max(self.no_jwt_before);
        let needle = self.needle.get(from, |found| found.0, || needles.find(text, from));
        let origin =
            plan.own.public_origin.as_ref().and_then(|_| self.origin.get(at, |found| found.0, || plan.secrets.origins.find(text, at)));
        let needle = [needle, origin].into_iter().flatten().min_by_key(|found| found.0);
        match (value, needle) {
            (Some(value), needle) if needle.is_none_or(|needle| value.start <= needle.0) => Some((value.start, Next::Value(value))),
            (_, needle) => needle.map(|(start, end, needle)| (start, Next::Needle(end, needle))),
        }
    }

    /// Where a tail begins that may become something.
    fn open(&self, at: usize) -> usize {
        let value = self.plan.secrets.search.as_ref().map(|search| search.open(self.text, at));
        let origin = self.plan.own.public_origin.as_ref().map(|_| self.plan.secrets.origins.open(self.text, at));
        let needle = self.needles.open(self.text, at.max(self.no_jwt_before));
        [value, origin, Some(needle)].into_iter().flatten().min().unwrap_or(self.text.len())
    }

    fn edit_value(&mut self, start: usize, found: Found) {
        let own = self.plan.own.is_one(self.plan.secrets.value(found.value));
        match &self.plan.own.in_urls {
            Some(credential) if own => self.edit.replace(start..found.end, credential.expose().as_bytes()),
            _ => self.edit.fill(start..found.end, FILLER),
        }
    }

    fn jwt(&mut self, place: &mut Place, at: usize, start: usize, end: usize) -> Step {
        match jwt::head(self.text, start) {
            jwt::Head::Whole(end) => {
                self.edit.fill(start..end, FILLER);
                *place = Place::Jwt;
                Step::To(end)
            }
            jwt::Head::Open if !self.last => Step::Wait(start),
            jwt::Head::Open => {
                self.no_jwt_before = end;
                Step::To(at)
            }
            jwt::Head::None(until) => {
                self.no_jwt_before = until;
                Step::To(at)
            }
        }
    }

    fn origin(&mut self, start: usize, end: usize) -> Step {
        let ends = match self.text.get(end) {
            None if !self.last => return Step::Wait(start),
            None => true,
            // Another host or port that begins alike.
            Some(byte) => !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'@' | b'_' | &FILLER)),
        };
        if let Some(public) = self.plan.own.public_origin.as_ref().filter(|_| ends) {
            self.edit.replace(start..end, public.as_bytes());
        }
        Step::To(end)
    }

    fn colon(&self, place: &mut Place, needle: Needle, at: usize) -> Step {
        let at = self.after_space(at);
        match self.text.get(at) {
            None => Step::To(at),
            Some(b':') => {
                *place = Place::Value(needle);
                Step::To(at + 1)
            }
            Some(_) => {
                *place = Place::Text;
                Step::To(at)
            }
        }
    }

    fn value(&mut self, place: &mut Place, needle: Needle, at: usize) -> Step {
        let at = self.after_space(at);
        let rest = &self.text[at..];
        let login = self.plan.own.in_fields.is_some();
        let (next, step) = match (needle, rest.first()) {
            (_, None) => return Step::To(at),
            (Needle::Field, Some(b'"')) if login => (Place::String, Step::To(at + 1)),
            (Needle::Field, Some(b'"')) => (Place::Blank { begun: false, escaped: false }, Step::To(at + 1)),
            (Needle::OldToken, _) if login && rest.starts_with(b"true") => {
                self.edit.replace(at..at + 4, b"null");
                (Place::Text, Step::To(at + 4))
            }
            (Needle::OldToken, _) if login && !self.last && b"true".starts_with(rest) => return Step::Wait(at),
            _ => (Place::Text, Step::To(at)),
        };
        *place = next;
        step
    }

    fn after_space(&self, at: usize) -> usize {
        at + self.text[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
    }

    fn string(&mut self, place: &mut Place, at: usize) -> Step {
        let rest = &self.text[at..];
        match memchr2(b'"', b'\\', rest) {
            None if !self.last && rest.len() <= MAX_OWN => return Step::Wait(at),
            // A token holds nothing that JSON escapes.
            Some(length) if rest[length] == b'"' => {
                if let Some(key) = self.plan.own.in_field(&rest[..length]) {
                    self.edit.replace(at..at + length, key);
                    *place = Place::Text;
                    return Step::To(at + length + 1);
                }
            }
            _ => {}
        }
        *place = Place::Blank { begun: false, escaped: false };
        Step::To(at)
    }

    /// A string becomes an empty one, and spaces as long as it was.
    fn blank(&mut self, place: &mut Place, at: usize, begun: bool, escaped: bool) -> Step {
        let mut from = at + usize::from(escaped);
        let end = loop {
            match memchr2(b'"', b'\\', self.text.get(from..).unwrap_or_default()).map(|length| from + length) {
                Some(quote) if self.text[quote] == b'"' => {
                    *place = Place::Text;
                    break quote + 1;
                }
                Some(backslash) => from = backslash + 2,
                None => {
                    *place = Place::Blank { begun: true, escaped: from > self.text.len() };
                    break self.text.len();
                }
            }
        };
        let quotes = usize::from(!begun).min(end - at);
        self.edit.fill(at..at + quotes, b'"');
        self.edit.fill(at + quotes..end, b' ');
        Step::To(end)
    }

    fn element(&mut self, place: &mut Place, at: usize) -> Step {
        let rest = &self.text[at..];
        *place = match memchr(b'<', rest) {
            None if !self.last && rest.len() <= MAX_OWN => return Step::Wait(at),
            Some(length) => match self.plan.own.in_field(rest[..length].trim_ascii()) {
                Some(key) => {
                    self.edit.replace(at..at + length, key);
                    *place = Place::Text;
                    return Step::To(at + length);
                }
                None => Place::BlankElement,
            },
            None => Place::BlankElement,
        };
        Step::To(at)
    }

    /// Text becomes spaces; space stays as it is.
    fn blank_element(&mut self, at: usize, end: usize) {
        let mut from = at;
        for word in self.text[at..end].split(u8::is_ascii_whitespace) {
            if !word.is_empty() {
                self.edit.fill(from..from + word.len(), b' ');
            }
            from += word.len() + 1;
        }
    }
}

/// What was found ahead.
#[derive(Clone, Copy)]
enum Next {
    Value(Found),
    /// With its end.
    Needle(usize, Needle),
}
