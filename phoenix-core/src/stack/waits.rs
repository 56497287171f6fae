//! Services that wait for each other, by `depends_on`.

use std::collections::{BTreeMap, VecDeque};

use indexmap::IndexMap;

use crate::ground::document::Cursor;

use super::model::{Condition, RestartPolicy, Service};

/// Reports services that wait for themselves by way of others: of services that all wait for each
/// other one shortest way, which begins at the first of them in the file.
pub(super) fn refuse_cycles(at: &Cursor<'_>, services: &IndexMap<String, Service>) {
    let needs: Vec<Vec<usize>> = services
        .values()
        .map(|service| {
            let needs = service.depends_on.iter();
            needs
                .filter_map(|need| services.get_index_of(&need.service))
                .collect()
        })
        .collect();
    for way in cycles(&needs) {
        let keys: Vec<&str> = way
            .iter()
            .filter_map(|index| Some(services.get_index(*index)?.0.as_str()))
            .collect();
        let Some(key) = keys.first() else { continue };
        let image = at.child(key).and_then(|service| service.child("image"));
        at.reader().report(
            image.as_ref().unwrap_or(at).position(),
            format!("services.{key}.depends_on"),
            None,
            format!("these services wait for each other: {}", keys.join(" -> ")),
            None,
        );
    }
}

/// Services that end are not started again where another one waits for their end, unless they say
/// what happens then. (`docker compose` starts none again that does not ask for it; a swarm starts
/// every one.)
pub(super) fn end_what_is_waited_for(services: &mut IndexMap<String, Service>) {
    let ended: Vec<String> = services
        .values()
        .flat_map(|service| &service.depends_on)
        .filter(|need| need.condition == Condition::Completed)
        .map(|need| need.service.clone())
        .collect();
    for key in ended {
        if let Some(service) = services.get_mut(&key)
            && !service.deploy.mode.is_job()
        {
            service
                .deploy
                .restart_policy
                .get_or_insert_with(|| RestartPolicy {
                    condition: Some("none"),
                    ..RestartPolicy::default()
                });
        }
    }
}

/// For every set of numbers that lead to each other a shortest way from its least one back to it.
/// `steps` are the numbers that each leads to. Takes time in proportion to their count.
fn cycles(steps: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let components = components(steps);
    let mut least: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, component) in components.iter().enumerate() {
        least.entry(*component).or_insert(index);
    }
    let mut firsts: Vec<usize> = least.into_values().collect();
    firsts.sort_unstable();
    // By which number each was reached. Components share none.
    let mut from: Vec<Option<usize>> = vec![None; steps.len()];
    let mut found = Vec::new();
    for first in firsts {
        let mut next = VecDeque::from([first]);
        'search: while let Some(index) = next.pop_front() {
            for step in &steps[index] {
                if *step == first {
                    let mut way = vec![first];
                    let mut last = index;
                    while last != first {
                        way.push(last);
                        last = from[last].unwrap_or(first);
                    }
                    way.push(first);
                    way.reverse();
                    found.push(way);
                    break 'search;
                }
                if components[*step] == components[first] && from[*step].is_none() {
                    from[*step] = Some(index);
                    next.push_back(*step);
                }
            }
        }
    }
    found
}

/// For each number which component it belongs to: two lead to each other when theirs are the same.
fn components(steps: &[Vec<usize>]) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let count = steps.len();
    let mut components = vec![NONE; count];
    // When each was met, and the earliest that it leads to of those without a component.
    let (mut met, mut least) = (vec![NONE; count], vec![NONE; count]);
    let mut time = 0;
    let mut open: Vec<usize> = Vec::new();
    for start in 0..count {
        if met[start] != NONE {
            continue;
        }
        // The way to the number at hand, with the step that comes next of each.
        let mut way = vec![(start, 0)];
        while let Some((index, step)) = way.pop() {
            if step == 0 {
                met[index] = time;
                least[index] = time;
                time += 1;
                open.push(index);
            }
            if let Some(to) = steps[index].get(step) {
                way.push((index, step + 1));
                if met[*to] == NONE {
                    way.push((*to, 0));
                } else if components[*to] == NONE {
                    least[index] = least[index].min(met[*to]);
                }
                continue;
            }
            if least[index] == met[index] {
                while let Some(own) = open.pop() {
                    components[own] = index;
                    if own == index {
                        break;
                    }
                }
            }
            if let Some((before, _)) = way.last() {
                least[*before] = least[*before].min(least[index]);
            }
        }
    }
    components
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_set_is_told_once_from_its_first() {
        let steps = [
            vec![1],
            vec![2, 3],
            vec![1],
            vec![4],
            vec![3],
            vec![5],
            vec![],
        ];
        let found = cycles(&steps);
        assert_eq!(found, [vec![1, 2, 1], vec![3, 4, 3], vec![5, 5]]);
        assert_eq!(
            cycles(&[vec![1], vec![2], vec![]]),
            Vec::<Vec<usize>>::new()
        );
    }

    proptest! {
        #[test]
        fn whatever_leads_to_itself_is_in_a_set_that_is_told(
            pairs in proptest::collection::vec((0_usize..9, 0_usize..9), 0..20),
        ) {
            let mut steps = vec![Vec::new(); 9];
            for (from, to) in &pairs {
                steps[*from].push(*to);
            }
            let mut reach = vec![vec![false; 9]; 9];
            for (from, to) in &pairs {
                reach[*from][*to] = true;
            }
            for middle in 0..9 {
                for from in 0..9 {
                    for to in 0..9 {
                        reach[from][to] |= reach[from][middle] && reach[middle][to];
                    }
                }
            }
            let found = cycles(&steps);
            for way in &found {
                prop_assert!(way.windows(2).all(|pair| steps[pair[0]].contains(&pair[1])));
                prop_assert_eq!(way.first(), way.last());
            }
            for (index, reached) in reach.iter().enumerate() {
                let told = found.iter().filter(|way| {
                    way[0] == index || reach[way[0]][index] && reached[way[0]]
                });
                prop_assert_eq!(told.count(), usize::from(reached[index]));
            }
        }
    }
}
