//! JSON Schema (draft 2020-12) as a tree of rules, as far as its cost can be bounded.

use super::Types;
use super::number::Number;
use super::pattern::Pattern;
use core::cmp::Ordering;
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

/// What one schema object says. Small: a message comes to rules that have left the processor's caches
/// since the last one, and each line of memory is waited for.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Those a value may have. The schema `false` leaves none.
    pub types: Types,
    /// In the order in which they are held.
    pub keywords: Box<[Keyword]>,
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
    pub required_count: usize,
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

/// Names that one schema object may speak of: a bit for each is kept while an object is looked at.
pub(super) const PROPERTIES_MAX: usize = 256;
/// Rules that may look at the same value: what bounds the time for a payload.
pub(super) const OVERLAP_MAX: usize = 64;
/// Comparisons to sort so many values as a payload can hold, for each of them.
const UNIQUE_WEIGHT: usize = 17;

/// Of anything.
impl Default for Rules {
    fn default() -> Self {
        Self {
            types: Types::ALL,
            keywords: Box::default(),
        }
    }
}

impl Rules {
    /// The schema `false`.
    pub fn is_never(&self) -> bool {
        self.types == Types::default()
    }

    /// How many rules, these and those in them, may look at one and the same value. What looks at a
    /// member or an item is not what looks at the whole.
    pub(super) fn overlap(&self) -> usize {
        self.here().max(self.below())
    }

    fn here(&self) -> usize {
        let all = self.keywords.iter().map(|keyword| match keyword {
            Keyword::Array(array) => usize::from(array.is_unique) * UNIQUE_WEIGHT,
            _ => keyword.in_place().map(Self::here).sum(),
        });
        1 + all.sum::<usize>()
    }

    fn below(&self) -> usize {
        let of = |find: fn(&Keyword) -> usize| self.keywords.iter().map(find);
        let object = of(|it| match it {
            Keyword::Object(object) => object.below(),
            _ => 0,
        });
        let array = of(|it| match it {
            Keyword::Array(array) => array.below(),
            _ => 0,
        });
        let own = object.max().max(array.max()).unwrap_or(0);
        own + of(|it| it.in_place().map(Self::below).sum()).sum::<usize>()
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

    /// As the bytes sort; `head` is of `name`.
    pub fn compare(&self, head: u64, name: &[u8]) -> Ordering {
        self.head.cmp(&head).then_with(|| {
            if self.whole.len().max(name.len()) <= size_of::<u64>() {
                // What follows the shorter in the longer is zero.
                return self.whole.len().cmp(&name.len());
            }
            self.whole.as_ref().cmp(name)
        })
    }
}

/// What a name begins with, filled up with zeros.
pub(super) fn head(name: &[u8]) -> u64 {
    if let Some(first) = name.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let shift = 8 * (size_of::<u64>() - name.len());
    let low = (name.iter()).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    low.checked_shl(shift as u32).unwrap_or(0)
}

impl ObjectRules {
    /// Where among the properties this name is, or would be.
    pub(super) fn place_of(&self, name: &[u8]) -> Result<usize, usize> {
        let head = head(name);
        (self.properties).binary_search_by(|it| it.name.compare(head, name))
    }

    fn below(&self) -> usize {
        let named = self.properties.iter().filter_map(|it| it.rules.as_ref());
        let one = named.chain(&self.additional).map(Rules::overlap).max();
        let patterns = self.patterns.iter().map(|(_, rules)| 1 + rules.overlap());
        let names = self.names.iter().map(Rules::overlap);
        one.unwrap_or(0) + patterns.sum::<usize>() + names.sum::<usize>()
    }
}

impl ArrayRules {
    fn below(&self) -> usize {
        let one = (self.prefix.iter().chain(&self.items))
            .map(Rules::overlap)
            .max();
        let contains = self.contains.iter().map(|it| it.rules.overlap());
        let unique = usize::from(self.is_unique) * UNIQUE_WEIGHT;
        one.unwrap_or(0) + contains.sum::<usize>() + unique
    }
}
