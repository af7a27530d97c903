//! A table of routes compiled into a tree of segments. A look-up walks down a path's segments, takes no lock and allocates nothing.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};

use http::Method;

use crate::keys::Scopes;
use crate::target::Path;
use crate::upstream::dialect::RouteClass;
use crate::upstream::dialect::libraries::Reach;
use crate::upstream::dialect::routes::{Methods, Route, Routed};

/// More segments than any pattern has: what lies deeper can only be meant by a `*`.
const DEPTH: usize = 12;

/// What a server does to a path before it looks for the route.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream::dialect) struct Habits {
    /// Segments that it takes off the front. Emby answers below `/emby/emby` too (`DoubleNormalizeEmbyRoutePath` of its
    /// `HttpListenerHost.cs`: "needed because apps add /emby, and some users also add /emby"): they are taken off as often as they come.
    pub base_paths: &'static [&'static str],
    /// Endings that it takes off the end.
    pub endings: &'static [&'static str],
    /// Whether it takes any base path off the front that it was configured with, and answers without it as well: keygate works then
    /// without having been told of it (`ROUTER_BASE_PATH` of Audiobookshelf).
    pub may_have_another_base: bool,
}

/// A compiled table.
pub(in crate::upstream::dialect) struct Tree {
    nodes: Vec<Node>,
    habits: Habits,
}

/// Where a path is after some segments.
#[derive(Default)]
struct Node {
    /// Names and what follows them, ordered by [`compare`].
    names: Vec<(&'static str, usize)>,
    /// Beginning and end of a name, and what follows.
    gaps: Vec<(&'static str, &'static str, usize)>,
    /// What follows any segment.
    any: Option<usize>,
    /// What paths are that end here.
    here: Vec<(Methods, Routed)>,
    /// What paths are that go on in whatever way.
    below: Vec<(Methods, Routed)>,
}

impl Tree {
    /// Compiles a table.
    pub(in crate::upstream::dialect) fn new(routes: &[Route], habits: Habits) -> Self {
        let mut tree = Self { nodes: vec![Node::default()], habits };
        routes.iter().for_each(|route| tree.insert(route));
        for node in &mut tree.nodes {
            node.names.sort_unstable_by(|(one, _), (other, _)| compare(one, other));
            node.gaps.sort_by_key(|(front, back, _)| Reverse((back.len(), front.len())));
        }
        tree
    }

    fn insert(&mut self, route: &Route) {
        let rule = (route.methods, Routed { class: route.class, needs: route.needs, reach: route.reach });
        let mut at = 0;
        for part in route.pattern.split('/').filter(|part| !part.is_empty()) {
            match part {
                "*" => return self.nodes[at].below.push(rule),
                "**" => {
                    self.nodes[at].below.push(rule);
                    break;
                }
                part => at = self.child(at, part),
            }
        }
        self.nodes[at].here.push(rule);
    }

    /// The node for a part of a pattern below another, made if it is not there.
    fn child(&mut self, at: usize, part: &'static str) -> usize {
        let next = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match (part.split_once('{'), part.rsplit_once('}')) {
            (Some(("", _)), Some((_, ""))) => *node.any.get_or_insert(next),
            (Some((front, _)), Some((_, back))) => match node.gaps.iter().find(|(one, other, _)| (*one, *other) == (front, back)) {
                Some((_, _, child)) => *child,
                None => {
                    node.gaps.push((front, back, next));
                    next
                }
            },
            _ => match node.names.iter().find(|(name, _)| name.eq_ignore_ascii_case(part)) {
                Some((_, child)) => *child,
                None => {
                    node.names.push((part, next));
                    next
                }
            },
        };
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// What a request is, if the table knows it.
    pub(in crate::upstream::dialect) fn find(&self, method: &Method, path: &Path<'_>) -> Option<Routed> {
        let text = folded(path.as_str());
        let mut segments = [""; DEPTH];
        let mut count = 0;
        let parts = text.split('/').filter(|part| !part.is_empty()).skip_while(|part| self.is_base(part));
        for (place, part) in segments.iter_mut().zip(parts) {
            *place = part;
            count += 1;
        }
        let segments = segments.get_mut(..count)?;
        let methods = Methods::of(method);
        let whole = self.find_below(0, segments, methods);
        let based = self.below_another_base(whole, segments, methods);
        let bare = self.without_ending(segments, methods);
        joined(joined(whole, based), bare)
    }

    /// What stands below segments that may be a base path. `whole`: what all of it is without one.
    fn below_another_base(&self, whole: Option<Routed>, segments: &[&str], methods: Methods) -> Option<Routed> {
        let root = self.nodes.first().filter(|_| self.habits.may_have_another_base)?;
        let (first, rest) = segments.split_first()?;
        let is_known = |segment: &&str| root.names.binary_search_by(|(name, _)| compare(name, segment)).is_ok();
        let may_be_base = match whole {
            None => !is_known(first),
            Some(whole) => whole.class == RouteClass::WebUi,
        };
        let below = rest.get(rest.iter().position(is_known).filter(|_| may_be_base)?..)?;
        self.find_below(0, below, methods)
    }

    /// What the path is without its ending, if it has one that the server takes off.
    fn without_ending(&self, segments: &mut [&str], methods: Methods) -> Option<Routed> {
        let (last, front) = segments.split_last_mut()?;
        let bytes = last.len();
        let bare = self.habits.endings.iter().find_map(|ending| {
            let (name, tail) = last.split_at_checked(bytes.checked_sub(ending.len())?)?;
            tail.eq_ignore_ascii_case(ending).then_some(name)
        })?;
        if bare.is_empty() {
            return self.find_below(0, front, methods);
        }
        *last = bare;
        self.find_below(0, segments, methods)
    }

    fn is_base(&self, part: &str) -> bool {
        self.habits.base_paths.iter().any(|base| base.eq_ignore_ascii_case(part))
    }

    /// No node is visited twice: each has one way to it.
    fn find_below(&self, at: usize, segments: &[&str], methods: Methods) -> Option<Routed> {
        let node = self.nodes.get(at)?;
        let Some((first, rest)) = segments.split_first() else { return ruled(&node.here, methods) };
        let named = node.names.binary_search_by(|(name, _)| compare(name, first)).ok();
        let named = named.and_then(|place| self.find_below(node.names.get(place)?.1, rest, methods));
        let gaps = || {
            let fits = node.gaps.iter().filter(|(front, back, _)| has_gap(first, front, back));
            fits.map(|gap| gap.2).find_map(|next| self.find_below(next, rest, methods))
        };
        let any = || self.find_below(node.any?, rest, methods);
        named.or_else(gaps).or_else(any).or_else(|| ruled(&node.below, methods))
    }
}

/// What a request is that can be read in two ways: it takes what both take, and is treated as the first, or as the second where that is
/// stricter.
fn joined(first: Option<Routed>, second: Option<Routed>) -> Option<Routed> {
    let Some(second) = second else { return first };
    let base = first.unwrap_or(Routed { class: RouteClass::Keyed, needs: Scopes::NONE, reach: Reach::Thing });
    let class = if is_stricter(second.class) { second.class } else { base.class };
    Some(Routed { class, needs: base.needs.or(second.needs), reach: base.reach.max(second.reach) })
}

/// Whether a class closes a route or hands it to keygate: what it is for one spelling it is for all. Open classes are not widened.
const fn is_stricter(class: RouteClass) -> bool {
    use RouteClass::{Answered, Login, Logout, Refresh, Restricted, Socket};
    matches!(class, Restricted | Login | Refresh | Logout | Answered(_) | Socket)
}

fn ruled(rules: &[(Methods, Routed)], methods: Methods) -> Option<Routed> {
    rules.iter().find(|(ruled, _)| ruled.overlaps(methods)).map(|(_, routed)| *routed)
}

/// Orders names by length, then by letters without their case: most are told apart by their length alone.
fn compare(one: &str, other: &str) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    one.len().cmp(&other.len()).then_with(|| one.bytes().map(lower).cmp(other.bytes().map(lower)))
}

/// Whether a segment begins and ends so, with something between.
fn has_gap(segment: &str, front: &str, back: &str) -> bool {
    let segment = segment.as_bytes();
    segment.len() > front.len() + back.len()
        && segment.get(..front.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(front.as_bytes()))
        && segment.get(segment.len() - back.len()..).is_some_and(|bytes| bytes.eq_ignore_ascii_case(back.as_bytes()))
}

/// The characters outside ASCII that become ASCII letters when their case is changed (Unicode's `UnicodeData.txt`: the Kelvin sign, the
/// long s, the i with and the i without a dot). Emby lowers the case of the decoded path (`RestPath.GetPathPartsForMatching`), so that
/// `/Auth/%E2%84%AAeys` is `/Auth/Keys` to it.
const LOOKALIKES: [(&str, &str); 4] = [("%e2%84%aa", "k"), ("%c5%bf", "s"), ("%c4%b0", "i"), ("%c4%b1", "i")];

/// The path as a server may fold it: with letters in the place of their lookalikes. For matching only.
fn folded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let lower = path.to_ascii_lowercase();
    Cow::Owned(LOOKALIKES.iter().fold(lower, |path, (lookalike, letter)| path.replace(lookalike, letter)))
}
