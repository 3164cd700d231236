//! JSON Schema (draft 2020-12) as a tree of rules, as far as its cost can be bounded.

use super::Types;
use super::number::Number;
use super::pattern::Pattern;
use model::Digest;

/// What a value must be. Made of a file of `schemas/`.
#[derive(Debug)]
pub(crate) struct Schema {
    pub root: Rules,
    /// Of all rules, those of one side by side.
    pub keywords: Box<[Keyword]>,
    /// How many rules may look at one and the same value, at most.
    pub overlap: usize,
    /// Of its text: two with the same say the same.
    pub digest: Digest,
}

/// What one schema object says. Small, and its keywords lie with those of all others: a message comes
/// to rules that have left the processor's caches since the last one, and each line of memory is
/// waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Those a value may have. The schema `false` leaves none.
    pub types: Types,
    /// Which of [`Schema::keywords`], in the order in which they are held.
    pub first: u32,
    pub count: u32,
}

/// What a keyword of JSON Schema says. Of values of other types it says nothing.
#[derive(Debug)]
pub(crate) enum Keyword {
    Allowed(Box<Allowed>),
    Minimum(Number),
    Maximum(Number),
    MinimumExclusive(Number),
    MaximumExclusive(Number),
    MultipleOf(Number),
    /// Characters of a text, both ends included.
    Length {
        min: u32,
        max: u32,
    },
    Pattern(Box<Pattern>),
    Object(Box<ObjectRules>),
    Array(Box<ArrayRules>),
    AllOf(Box<[Rules]>),
    AnyOf(Box<[Rules]>),
    OneOf(Box<[Rules]>),
    Not(Box<Rules>),
    Condition(Box<Condition>),
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
    pub required_count: u32,
    pub count_min: Option<u32>,
    pub count_max: Option<u32>,
    /// If the first is there, the others must be: as indices of `properties`.
    pub dependent: Vec<(usize, Vec<usize>)>,
}

#[derive(Debug)]
pub(crate) struct Property {
    pub name: Name,
    /// `None`: it is not among `properties`.
    pub rules: Option<Rules>,
    pub is_required: bool,
}

/// A property's name. Most differ in what they begin with, which stands here and is not looked up.
#[derive(Debug)]
pub(crate) struct Name {
    /// The first bytes, as a number that sorts as they do.
    head: u64,
    whole: Box<[u8]>,
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

/// Names that one schema object may speak of: each has one of `Marks` while an object is looked at.
pub(super) const PROPERTIES_MAX: usize = 256;
/// Rules that may look at the same value: what bounds the time for a payload.
pub(super) const OVERLAP_MAX: usize = 64;
/// Comparisons to sort so many values as a payload can hold, for each of them.
const UNIQUE_WEIGHT: usize = 17;

impl Schema {
    pub fn keywords_of(&self, rules: Rules) -> &[Keyword] {
        keywords_of(&self.keywords, rules)
    }
}

pub(super) fn keywords_of(all: &[Keyword], rules: Rules) -> &[Keyword] {
    let first = rules.first as usize;
    all.get(first..first + rules.count as usize)
        .unwrap_or_default()
}

/// Of anything.
impl Default for Rules {
    fn default() -> Self {
        Self {
            types: Types::ALL,
            first: 0,
            count: 0,
        }
    }
}

impl Rules {
    /// The schema `false`.
    pub fn is_never(self) -> bool {
        self.types == Types::default()
    }
}

/// How many rules may look at one and the same value. What looks at a member or an item is not what
/// looks at the whole.
pub(super) struct Overlap<'k>(pub &'k [Keyword]);

impl Overlap<'_> {
    /// These rules and those in them.
    pub fn of(&self, rules: &Rules) -> usize {
        self.here(rules).max(self.below(rules))
    }

    fn here(&self, rules: &Rules) -> usize {
        let all = keywords_of(self.0, *rules).iter();
        let all = all.map(|keyword| match keyword {
            Keyword::Array(array) => usize::from(array.is_unique) * UNIQUE_WEIGHT,
            _ => keyword.in_place().map(|it| self.here(it)).sum(),
        });
        1 + all.sum::<usize>()
    }

    fn below(&self, rules: &Rules) -> usize {
        let all = keywords_of(self.0, *rules);
        let own = all.iter().map(|keyword| match keyword {
            Keyword::Object(object) => self.below_object(object),
            Keyword::Array(array) => self.below_array(array),
            _ => 0,
        });
        let in_place = all.iter().flat_map(Keyword::in_place);
        own.max().unwrap_or(0) + in_place.map(|it| self.below(it)).sum::<usize>()
    }

    fn below_object(&self, object: &ObjectRules) -> usize {
        let named = object.properties.iter().filter_map(|it| it.rules.as_ref());
        let one = named.chain(&object.additional).map(|it| self.of(it)).max();
        let patterns = object.patterns.iter().map(|(_, rules)| 1 + self.of(rules));
        let names = object.names.iter().map(|it| self.of(it));
        one.unwrap_or(0) + patterns.sum::<usize>() + names.sum::<usize>()
    }

    fn below_array(&self, array: &ArrayRules) -> usize {
        let one = array.prefix.iter().chain(&array.items);
        let one = one.map(|it| self.of(it)).max();
        let contains = array.contains.iter().map(|it| self.of(&it.rules));
        let unique = usize::from(array.is_unique) * UNIQUE_WEIGHT;
        one.unwrap_or(0) + contains.sum::<usize>() + unique
    }
}

impl Keyword {
    /// The schemas that it holds the same value against.
    fn in_place(&self) -> impl Iterator<Item = &Rules> {
        let list = match self {
            Self::AllOf(all) | Self::AnyOf(all) | Self::OneOf(all) => all,
            _ => [].as_slice(),
        };
        let not = match self {
            Self::Not(not) => Some(not.as_ref()),
            _ => None,
        };
        let condition = match self {
            Self::Condition(it) => [Some(&it.when), it.then.as_ref(), it.otherwise.as_ref()],
            _ => [None; 3],
        };
        list.iter()
            .chain(not)
            .chain(condition.into_iter().flatten())
    }
}

impl Name {
    pub fn new(name: &[u8]) -> Self {
        Self {
            head: head(name),
            whole: name.into(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.whole
    }
}

/// What a name begins with, filled up with zeros.
fn head(name: &[u8]) -> u64 {
    if let Some(first) = name.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let shift = 64 - 8 * name.len();
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        // The two lie over each other.
        let (first, last) = (u32::from_be_bytes(*first), u32::from_be_bytes(*last));
        return u64::from(first) << 32 | u64::from(last) << shift;
    }
    let low = (name.iter()).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    low.checked_shl(shift as u32).unwrap_or(0)
}

impl ObjectRules {
    /// Which of the properties has this name.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        let head = head(name);
        let place = self.properties.partition_point(|it| it.name.head < head);
        let found = (self.properties.get(place)).filter(|it| it.name.head == head)?;
        let is_whole = name.len() <= size_of::<u64>() && found.name.whole.len() == name.len();
        if is_whole {
            return Some(place);
        }
        self.place_of(name).ok()
    }

    /// Where among the properties this name is, or would be.
    #[inline(never)]
    pub(super) fn place_of(&self, name: &[u8]) -> Result<usize, usize> {
        (self.properties).binary_search_by(|it| it.name.whole.as_ref().cmp(name))
    }
}
