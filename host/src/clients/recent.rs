//! What was heard of lately, in bounded room.

use std::collections::HashMap;
use std::hash::Hash;

/// A generation has no more entries.
const GENERATION: usize = 32 * 1024;

/// A map that forgets what was not asked for longest: when the young generation is full it becomes the old one,
/// and what was in the old one and not asked for since is gone. Each use takes the same time on average.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy, V: Default> Recent<K, V> {
    pub(super) fn entry(&mut self, key: K) -> &mut V {
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        let Self { young, old } = self;
        young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut recent = Recent::<usize, usize>::default();
        for key in 1..10 * GENERATION {
            *recent.entry(0) += 1;
            *recent.entry(key) = key;
            assert!(recent.young.len() + recent.old.len() <= 2 * GENERATION);
        }
        assert_eq!(*recent.entry(0), 10 * GENERATION - 1);
        assert_eq!(*recent.entry(10 * GENERATION - 1), 10 * GENERATION - 1);
        assert_eq!(*recent.entry(1), 0);
    }
}
