//! What is wrong with a file that is looked at again and again: told once, and not too early.

/// A problem that may go away by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Option<Told>);

#[derive(Clone, Debug)]
struct Told {
    text: String,
    is_told: bool,
}

impl Trouble {
    /// Notes what is wrong at this look. Whether it is to be told now: when it is there at two looks; between them, whoever replaces two
    /// files has the time for the second, and whoever writes a long one for its end.
    pub(crate) fn is_to_be_told(&mut self, text: &str) -> bool {
        match &mut self.0 {
            Some(told) if told.text == text => !std::mem::replace(&mut told.is_told, true),
            _ => {
                self.0 = Some(Told { text: text.to_owned(), is_told: false });
                false
            }
        }
    }

    /// Notes what is wrong and was told already.
    pub(crate) fn is_told(&mut self, text: &str) {
        self.0 = Some(Told { text: text.to_owned(), is_told: true });
    }

    /// All is well again.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// What was told and still holds.
    pub(crate) fn told(&self) -> Option<String> {
        self.0.as_ref().filter(|told| told.is_told).map(|told| told.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_at_two_looks_is_told_once() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_to_be_told("a") && trouble.told().is_none());
        assert!(trouble.is_to_be_told("a"));
        assert!(!trouble.is_to_be_told("a"));
        assert_eq!(trouble.told().as_deref(), Some("a"));
        assert!(!trouble.is_to_be_told("b") && trouble.told().is_none(), "something else");
        assert!(trouble.is_to_be_told("b"));
        trouble.end();
        assert!(trouble.told().is_none() && !trouble.is_to_be_told("b"));
    }
}
