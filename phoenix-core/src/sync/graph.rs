//! What needs what, and therefore what comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use indexmap::IndexMap;

use super::ResourceId;

/// The resources of a site and what each needs. It has no cycles.
#[derive(Debug, Clone)]
pub struct Graph {
    needs: IndexMap<ResourceId, BTreeSet<ResourceId>>,
}

/// Resources that need each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Cycle {
    /// The resources, each needing the next, the last one needing the first.
    pub path: Vec<ResourceId>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cycle: ")?;
        for id in &self.path {
            write!(f, "{id} needs ")?;
        }
        match self.path.first() {
            Some(first) => write!(f, "{first}"),
            None => Ok(()),
        }
    }
}

impl Graph {
    /// A graph of `needs`, sorted so that everything comes after what it needs. What is needed
    /// but not itself a key is left out.
    ///
    /// # Errors
    /// [`Cycle`] when resources need each other.
    pub fn new(
        needs: impl IntoIterator<Item = (ResourceId, BTreeSet<ResourceId>)>,
    ) -> Result<Self, Cycle> {
        let mut unsorted: IndexMap<_, _> = needs.into_iter().collect();
        let known: BTreeSet<_> = unsorted.keys().cloned().collect();
        for required in unsorted.values_mut() {
            required.retain(|id| known.contains(id));
        }
        let mut sorted: IndexMap<ResourceId, BTreeSet<ResourceId>> = IndexMap::new();
        let mut dependents: BTreeMap<&ResourceId, Vec<&ResourceId>> = BTreeMap::new();
        let mut open: BTreeMap<&ResourceId, usize> = BTreeMap::new();
        for (id, required) in &unsorted {
            open.insert(id, required.len());
            for need in required {
                dependents.entry(need).or_default().push(id);
            }
        }
        let mut free: std::collections::VecDeque<&ResourceId> = unsorted
            .iter()
            .filter(|(_, required)| required.is_empty())
            .map(|(id, _)| id)
            .collect();
        while let Some(id) = free.pop_front() {
            sorted.insert(id.clone(), unsorted[id].clone());
            for dependent in dependents.get(id).into_iter().flatten() {
                if let Some(count) = open.get_mut(*dependent) {
                    *count -= 1;
                    if *count == 0 {
                        free.push_back(dependent);
                    }
                }
            }
        }
        if sorted.len() == unsorted.len() {
            return Ok(Self { needs: sorted });
        }
        Err(find_cycle(&unsorted, &sorted))
    }

    /// A graph of nothing.
    pub(super) fn empty() -> Self {
        Self {
            needs: IndexMap::new(),
        }
    }

    /// The part of it that `wanted` names, in the same order.
    pub(super) fn restricted(&self, wanted: &BTreeSet<&ResourceId>) -> Self {
        let needs = self
            .needs
            .iter()
            .filter(|(id, _)| wanted.contains(id))
            .map(|(id, needs)| {
                let mut needs = needs.clone();
                needs.retain(|need| wanted.contains(need));
                (id.clone(), needs)
            })
            .collect();
        Self { needs }
    }

    /// Every resource, each after all that it needs.
    pub fn order(&self) -> impl Iterator<Item = &ResourceId> {
        self.needs.keys()
    }

    /// What `id` needs directly.
    pub fn needs(&self, id: &ResourceId) -> impl Iterator<Item = &ResourceId> {
        self.needs.get(id).into_iter().flatten()
    }

    /// Whether `id` is part of the site.
    #[must_use]
    pub fn contains(&self, id: &ResourceId) -> bool {
        self.needs.contains_key(id)
    }

    /// The number of resources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.needs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.needs.is_empty()
    }
}

/// Follows needs among what could not be sorted until a resource comes up twice: each of them
/// needs at least one other of them.
fn find_cycle(
    unsorted: &IndexMap<ResourceId, BTreeSet<ResourceId>>,
    sorted: &IndexMap<ResourceId, BTreeSet<ResourceId>>,
) -> Cycle {
    let stuck = |id: &ResourceId| !sorted.contains_key(id);
    let mut path: Vec<ResourceId> = Vec::new();
    let mut next = unsorted.keys().find(|id| stuck(id)).cloned();
    while let Some(id) = next {
        if let Some(start) = path.iter().position(|seen| *seen == id) {
            path.drain(..start);
            break;
        }
        next = unsorted[&id].iter().find(|need| stuck(need)).cloned();
        path.push(id);
    }
    Cycle { path }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: usize) -> ResourceId {
        ResourceId::Stack(format!("s{number}"))
    }

    proptest! {
        #[test]
        fn an_acyclic_graph_is_sorted_after_its_needs(
            edges in prop::collection::vec((0usize..40, 0usize..40), 0..160),
            labels in Just((0usize..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut needs: BTreeMap<usize, BTreeSet<usize>> = (0..40).map(|n| (n, BTreeSet::new())).collect();
            for (a, b) in edges {
                if a != b {
                    needs.entry(a.max(b)).or_default().insert(a.min(b));
                }
            }
            let graph = Graph::new(needs.iter().map(|(id, required)| {
                (node(labels[*id]), required.iter().map(|n| node(labels[*n])).collect())
            })).expect("no cycle");
            let order: Vec<_> = graph.order().cloned().collect();
            prop_assert_eq!(order.len(), 40);
            for (place, id) in order.iter().enumerate() {
                for need in graph.needs(id) {
                    let earlier = order.iter().position(|other| other == need).expect("known");
                    prop_assert!(earlier < place, "{need} after {id}");
                }
            }
        }

        #[test]
        fn a_cycle_is_named(length in 1usize..12, tail in 0usize..6) {
            let mut needs: Vec<(ResourceId, BTreeSet<ResourceId>)> = (0..length)
                .map(|n| (node(n), BTreeSet::from([node((n + 1) % length)])))
                .collect();
            for n in 0..tail {
                needs.insert(0, (node(100 + n), BTreeSet::from([node(n % length)])));
            }
            let cycle = Graph::new(needs).expect_err("a cycle");
            prop_assert_eq!(cycle.path.len(), length);
            let text = cycle.to_string();
            for n in 0..length {
                let named = format!("stack/s{n} needs ");
                prop_assert!(text.contains(&named), "{}", text);
            }
        }
    }
}
