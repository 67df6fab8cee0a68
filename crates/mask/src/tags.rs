//! Sets of tags. Tags are numbered in the order of the rules; a set is bits, a name is looked up only for reports.

/// A set of tags of one catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<u64>);

impl Tags {
    /// The empty set.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The first `count` tags.
    pub(crate) fn first(count: usize) -> Self {
        let mut tags = Self::none();
        for tag in 0..count {
            tags.insert(tag);
        }
        tags
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn insert(&mut self, tag: usize) {
        if self.0.len() <= tag / 64 {
            self.0.resize(tag / 64 + 1, 0);
        }
        self.0[tag / 64] |= 1 << (tag % 64);
    }

    pub(crate) fn contains(&self, tag: usize) -> bool {
        self.0.get(tag / 64).is_some_and(|word| word & (1 << (tag % 64)) != 0)
    }

    pub(crate) fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().enumerate().all(|(i, word)| word & !other.0.get(i).copied().unwrap_or(0) == 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|tag| self.contains(*tag))
    }
}

/// Names of the tags that an `unmask` permit lifts for one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifted(Vec<String>);

impl Lifted {
    /// Lifts nothing.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Lifts these tags.
    pub fn of(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(tags.into_iter().map(Into::into).collect())
    }

    /// Whether a tag is lifted.
    pub fn contains(&self, tag: &str) -> bool {
        self.0.iter().any(|t| t == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_beyond_one_word() {
        let mut a = Tags::first(3);
        let mut b = Tags::none();
        b.insert(130);
        assert!(!b.is_within(&a) && Tags::none().is_within(&a));
        a.join(&b);
        assert!(b.is_within(&a));
        assert_eq!(a.iter().collect::<Vec<_>>(), [0, 1, 2, 130]);
        assert!(!a.contains(129) && !a.contains(9999));
    }
}
