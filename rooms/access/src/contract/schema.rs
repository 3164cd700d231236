//! JSON Schema (draft 2020-12) as a tree of rules, as far as its cost can be bounded.

use super::Types;
use super::number::Number;
use super::pattern::Pattern;
use model::Digest;

/// What a value must be. Made of a file of `schemas/`.
#[derive(Debug)]
pub(crate) struct Schema {
    pub root: Rules,
    /// How many rules may look at one and the same value, at most.
    pub overlap: usize,
    /// Of its text: two with the same say the same.
    pub digest: Digest,
}

/// What one schema object says. What is `None` or empty says nothing.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The schema `false`.
    pub is_never: bool,
    pub types: Option<Types>,
    pub allowed: Option<Allowed>,
    pub minimum: Option<Number>,
    pub maximum: Option<Number>,
    pub minimum_exclusive: Option<Number>,
    pub maximum_exclusive: Option<Number>,
    pub multiple_of: Option<Number>,
    pub length_min: Option<u32>,
    pub length_max: Option<u32>,
    pub pattern: Option<Pattern>,
    pub object: Option<Box<ObjectRules>>,
    pub array: Option<Box<ArrayRules>>,
    pub all_of: Vec<Rules>,
    pub any_of: Vec<Rules>,
    pub one_of: Vec<Rules>,
    pub not: Option<Box<Rules>>,
    pub condition: Option<Box<Condition>>,
}

/// The values of an `enum` or a `const`.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    /// Sorted.
    pub texts: Vec<Box<[u8]>>,
    /// Sorted.
    pub numbers: Vec<Number>,
    pub is_null: bool,
    pub is_true: bool,
    pub is_false: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ObjectRules {
    /// Sorted by name; those that are only required too.
    pub properties: Vec<Property>,
    pub patterns: Vec<(Pattern, Rules)>,
    pub names: Option<Rules>,
    /// Of members that nothing above is about.
    pub additional: Option<Rules>,
    pub required_count: usize,
    pub count_min: Option<u32>,
    pub count_max: Option<u32>,
    /// If the first is there, the others must be: as indices of `properties`.
    pub dependent: Vec<(usize, Vec<usize>)>,
}

#[derive(Debug)]
pub(crate) struct Property {
    pub name: Box<[u8]>,
    /// `None`: it is not among `properties`.
    pub rules: Option<Rules>,
    pub is_required: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ArrayRules {
    pub prefix: Vec<Rules>,
    pub items: Option<Rules>,
    pub contains: Option<Contains>,
    pub count_min: Option<u32>,
    pub count_max: Option<u32>,
    pub is_unique: bool,
}

#[derive(Debug)]
pub(crate) struct Contains {
    pub rules: Rules,
    pub min: u32,
    pub max: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Condition {
    pub when: Rules,
    pub then: Option<Rules>,
    pub otherwise: Option<Rules>,
}

/// Names that one schema object may speak of: a bit for each is kept while an object is looked at.
pub(super) const PROPERTIES_MAX: usize = 256;
/// Rules that may look at the same value: what bounds the time for a payload.
pub(super) const OVERLAP_MAX: usize = 64;
/// Comparisons to sort so many values as a payload can hold, for each of them.
const UNIQUE_WEIGHT: usize = 17;

impl Rules {
    /// How many rules, these and those in them, may look at one and the same value. What looks at a
    /// member or an item is not what looks at the whole.
    pub(super) fn overlap(&self) -> usize {
        self.here().max(self.below())
    }

    fn in_place(&self) -> impl Iterator<Item = &Self> {
        let condition = self.condition.iter().flat_map(|it| {
            let both = it.then.iter().chain(&it.otherwise);
            std::iter::once(&it.when).chain(both)
        });
        (self.all_of.iter().chain(&self.any_of).chain(&self.one_of))
            .chain(self.not.as_deref())
            .chain(condition)
    }

    fn here(&self) -> usize {
        let unique = (self.array.as_ref()).map_or(0, |array| usize::from(array.is_unique));
        1 + unique * UNIQUE_WEIGHT + self.in_place().map(Self::here).sum::<usize>()
    }

    fn below(&self) -> usize {
        let own = self.below_object().max(self.below_array());
        own + self.in_place().map(Self::below).sum::<usize>()
    }

    fn below_object(&self) -> usize {
        let Some(object) = &self.object else {
            return 0;
        };
        let named = object.properties.iter().filter_map(|it| it.rules.as_ref());
        let one = named.chain(&object.additional).map(Self::overlap).max();
        let patterns = object.patterns.iter().map(|(_, rules)| 1 + rules.overlap());
        let names = object.names.iter().map(Self::overlap);
        one.unwrap_or(0) + patterns.sum::<usize>() + names.sum::<usize>()
    }

    fn below_array(&self) -> usize {
        let Some(array) = &self.array else {
            return 0;
        };
        let one = array
            .prefix
            .iter()
            .chain(&array.items)
            .map(Self::overlap)
            .max();
        let contains = array.contains.iter().map(|it| it.rules.overlap());
        let unique = usize::from(array.is_unique) * UNIQUE_WEIGHT;
        one.unwrap_or(0) + contains.sum::<usize>() + unique
    }
}
