//! How the sets of topics that filters match lie to each other.
//!
//! All answers are exact over topics of any length and any level text. (A topic is really at most
//! 65,535 bytes; ignoring that can only make [`Filter::covers`] too strict and
//! [`Filter::intersects`] too cautious, and only for filters near that size.)

use crate::topic::is_dollar;
use crate::{Filter, Level};

impl Filter {
    /// Does every topic that `other` matches match here too?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        covered_by_union(other, std::slice::from_ref(self))
    }

    /// Is there a topic that both match?
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        if dollar_apart(self, other) || dollar_apart(other, self) {
            return false;
        }
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        loop {
            match (ours.next(), theirs.next()) {
                (Some(Level::Rest), _) | (_, Some(Level::Rest)) | (None, None) => return true,
                (None, _) | (_, None) => return false,
                (Some(Level::Literal(a)), Some(Level::Literal(b))) if a != b => return false,
                (Some(_), Some(_)) => {}
            }
        }
    }
}

/// Is every topic that `filter` matches matched by some of `union`? Exact, in time linear in the
/// total length of `union`.
///
/// Why it is so simple: put a text that no filter names in the place of every `+`, and `k` of
/// them in the place of `#`. Whoever matches that topic has a wildcard at each such place and so
/// matches whatever else stands there. Without `#` there is one such topic; with `#` there is one
/// for each `k`, and a filter of the union matches one `k` (no `#`) or all from some `k` on.
#[must_use]
pub fn covered_by_union(filter: &Filter, union: &[Filter]) -> bool {
    let fixed_levels = filter
        .levels()
        .take_while(|level| *level != Level::Rest)
        .count();
    let open = filter.levels().last() == Some(Level::Rest);
    // `#` alone stands for at least one level: there is no topic of none.
    let first = usize::from(fixed_levels == 0);

    // Each free count below `all_from` must be met by a filter of exactly that length.
    let mut all_from = None::<usize>;
    let mut exact = Vec::new();
    for candidate in union {
        match free_levels_met(filter, fixed_levels, open, candidate) {
            Some(Met::Exactly(count)) => exact.push(count),
            Some(Met::From(count)) => {
                all_from = Some(all_from.map_or(count, |least| least.min(count)));
            }
            None => {}
        }
    }
    if !open {
        return all_from.is_some() || !exact.is_empty();
    }
    let Some(all_from) = all_from else {
        return false;
    };
    exact.sort_unstable();
    (first..all_from).all(|count| exact.binary_search(&count).is_ok())
}

/// For which numbers of free levels in the place of `#` a candidate matches.
enum Met {
    Exactly(usize),
    From(usize),
}

fn free_levels_met(
    filter: &Filter,
    fixed_levels: usize,
    open: bool,
    candidate: &Filter,
) -> Option<Met> {
    if dollar_apart(filter, candidate) {
        return None;
    }
    let mut wanted = filter.levels().take(fixed_levels);
    let mut candidate_levels: usize = 0;
    for level in candidate.levels() {
        match (level, wanted.next()) {
            (Level::Rest, _) => {
                return Some(Met::From(candidate_levels.saturating_sub(fixed_levels)));
            }
            (Level::Literal(a), Some(Level::Literal(b))) if a == b => {}
            (Level::Any, Some(_)) => {}
            (Level::Any, None) if open => {}
            _ => return None,
        }
        candidate_levels += 1;
    }
    candidate_levels.checked_sub(fixed_levels).map(Met::Exactly)
}

/// Does `dollar` match only topics that begin with `$`, which a leading wildcard never reaches
/// (MQTT 4.7.2)?
fn dollar_apart(dollar: &Filter, wildcard: &Filter) -> bool {
    is_dollar(dollar.as_str()) && wildcard.begins_with_wildcard()
}
