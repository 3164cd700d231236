//! Values held against rules, in time that the schema and the payload's length bound.

use super::Types;
use super::number::Number;
use super::pattern::Pattern;
use super::schema::{Allowed, ArrayRules, Keyword, ObjectRules, Property, Rules, Schema};
use super::values::{Marks, Node, Scratch, Span, Value, Values, end_of, items, members};
use core::cmp::Ordering;
use std::fmt;

/// A value that is not what a rule says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault<'s> {
    /// Its index.
    pub at: u32,
    pub rule: Rule<'s>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Rule<'s> {
    Never,
    Type(Types),
    Allowed(&'s Allowed),
    Minimum(Number),
    Maximum(Number),
    MinimumExclusive(Number),
    MaximumExclusive(Number),
    MultipleOf(Number),
    LengthMin(u32),
    LengthMax(u32),
    Pattern(&'s str),
    Required(&'s [u8]),
    Unlisted,
    MembersMin(u32),
    MembersMax(u32),
    ItemsMin(u32),
    ItemsMax(u32),
    Unique,
    ContainsMin(u32),
    ContainsMax(u32),
    AnyOf,
    OneOf,
    Not,
    /// The budget ended. By the schema's overlap it never should.
    Costly,
}

/// Steps for every payload, however short.
const STEPS_MIN: usize = 1024;
/// Bytes of a text that a pattern reads in one step.
const STEP_BYTES: usize = 16;
/// Of what is allowed, shown in a reason.
const SHOWN_MAX: usize = 5;

/// Holds the payload whose values are in `scratch` against `schema`.
pub(super) fn check<'s>(
    schema: &'s Schema,
    payload: &[u8],
    scratch: &mut Scratch,
) -> Result<(), Fault<'s>> {
    let mut check = Check {
        schema,
        values: &scratch.values,
        payload,
        order: &mut scratch.order,
        steps: STEPS_MIN + schema.overlap * payload.len(),
    };
    let result = check.meets(0, schema.root);
    if check.steps == 0 {
        let rule = Rule::Costly;
        return Err(Fault { at: 0, rule });
    }
    result
}

struct Check<'s, 'v> {
    schema: &'s Schema,
    values: &'v Values,
    payload: &'v [u8],
    order: &'v mut Vec<u32>,
    steps: usize,
}

impl<'s, 'v> Check<'s, 'v> {
    fn meets(&mut self, at: u32, rules: Rules) -> Result<(), Fault<'s>> {
        let fault = |rule| Err(Fault { at, rule });
        if !self.step(1) {
            return fault(Rule::Costly);
        }
        let value = self.value(at);
        if !rules.types.has(*value) {
            return fault(if rules.is_never() {
                Rule::Never
            } else {
                Rule::Type(rules.types)
            });
        }
        for keyword in self.schema.keywords_of(rules) {
            self.holds(at, value, keyword)?;
        }
        Ok(())
    }

    fn holds(&mut self, at: u32, value: &'v Value, keyword: &'s Keyword) -> Result<(), Fault<'s>> {
        let rule = match (keyword, value) {
            (Keyword::Minimum(bound), Value::Number(it)) if it.compare(*bound).is_lt() => {
                Rule::Minimum(*bound)
            }
            (Keyword::Maximum(bound), Value::Number(it)) if it.compare(*bound).is_gt() => {
                Rule::Maximum(*bound)
            }
            (Keyword::Length { min, max }, Value::Text(text)) => {
                return self.length(at, *text, *min, *max);
            }
            (Keyword::Pattern(pattern), Value::Text(text)) if !self.matches(*text, pattern) => {
                Rule::Pattern(pattern.source())
            }
            (Keyword::Object(object), Value::Object(count)) => {
                return self.object(at, *count, object);
            }
            (
                Keyword::Minimum(_)
                | Keyword::Maximum(_)
                | Keyword::Length { .. }
                | Keyword::Pattern(_)
                | Keyword::Object(_),
                _,
            ) => return Ok(()),
            _ => return self.holds_rarer(at, value, keyword),
        };
        Err(Fault { at, rule })
    }

    /// Apart, or what it needs on the stack is made ready for each value.
    #[inline(never)]
    fn holds_rarer(
        &mut self,
        at: u32,
        value: &'v Value,
        keyword: &'s Keyword,
    ) -> Result<(), Fault<'s>> {
        let rule = match (keyword, value) {
            (Keyword::Allowed(allowed), _) if !self.is_allowed(at, value, allowed) => {
                Rule::Allowed(allowed)
            }
            (Keyword::MinimumExclusive(bound), Value::Number(it)) if it.compare(*bound).is_le() => {
                Rule::MinimumExclusive(*bound)
            }
            (Keyword::MaximumExclusive(bound), Value::Number(it)) if it.compare(*bound).is_ge() => {
                Rule::MaximumExclusive(*bound)
            }
            (Keyword::MultipleOf(of), Value::Number(it)) if !it.is_multiple_of(*of) => {
                Rule::MultipleOf(*of)
            }
            (Keyword::Array(array), Value::Array(count)) => {
                return self.array(at, *count, array);
            }
            (Keyword::AllOf(all), _) => return all.iter().try_for_each(|it| self.meets(at, *it)),
            (Keyword::AnyOf(any), _) if !any.iter().any(|it| self.meets(at, *it).is_ok()) => {
                Rule::AnyOf
            }
            (Keyword::OneOf(one), _) => {
                let met = one.iter().filter(|it| self.meets(at, **it).is_ok());
                if met.take(2).count() == 1 {
                    return Ok(());
                }
                Rule::OneOf
            }
            (Keyword::Not(not), _) if self.meets(at, **not).is_ok() => Rule::Not,
            (Keyword::Condition(condition), _) => {
                let branch = match self.meets(at, condition.when) {
                    Ok(()) => condition.then,
                    Err(_) => condition.otherwise,
                };
                return branch.map_or(Ok(()), |it| self.meets(at, it));
            }
            _ => return Ok(()),
        };
        Err(Fault { at, rule })
    }

    fn length(&mut self, at: u32, text: Span, min: u32, max: u32) -> Result<(), Fault<'s>> {
        let text = text.of(self.payload, &self.values.texts);
        let (min, max) = (min as usize, max as usize);
        // A character is one byte to four.
        if text.len() <= max && text.len().div_ceil(4) >= min {
            return Ok(());
        }
        self.length_counted(at, text, min, max)
    }

    #[inline(never)]
    fn length_counted(
        &mut self,
        at: u32,
        text: &[u8],
        min: usize,
        max: usize,
    ) -> Result<(), Fault<'s>> {
        self.step(text.len() / STEP_BYTES);
        // All bytes but those that continue one.
        let length = text.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        let rule = if length < min {
            Rule::LengthMin(min as u32)
        } else if length > max {
            Rule::LengthMax(max as u32)
        } else {
            return Ok(());
        };
        Err(Fault { at, rule })
    }

    fn matches(&mut self, text: Span, pattern: &Pattern) -> bool {
        let text = text.of(self.payload, &self.values.texts);
        self.step(text.len() / STEP_BYTES);
        pattern.matches(text)
    }

    #[inline(never)]
    fn object(&mut self, at: u32, count: u32, rules: &'s ObjectRules) -> Result<(), Fault<'s>> {
        let fault = |at, rule| Err(Fault { at, rule });
        if let Some(min) = rules.count_min.filter(|min| count < *min) {
            return fault(at, Rule::MembersMin(min));
        }
        if let Some(max) = rules.count_max.filter(|max| count > *max) {
            return fault(at, Rule::MembersMax(max));
        }
        // Which of the properties that the rules name are there.
        let mut present = Marks::default();
        let mut required = 0;
        for (key, value) in members(&self.values.nodes, at) {
            let name = self.values.text(key, self.payload);
            self.step(1);
            if let Some(names) = rules.names {
                self.meets(key, names)?;
            }
            let property = rules.find(name).and_then(|place| {
                present.add(place);
                rules.properties.get(place)
            });
            required += u32::from(property.is_some_and(|property| property.is_required));
            let mut is_listed = false;
            if let Some(Property {
                rules: Some(of_property),
                ..
            }) = property
            {
                is_listed = true;
                self.meets(value, *of_property)?;
            }
            for (pattern, of_pattern) in &rules.patterns {
                self.step(name.len() / STEP_BYTES);
                if pattern.matches(name) {
                    is_listed = true;
                    self.meets(value, *of_pattern)?;
                }
            }
            if let Some(additional) = rules.additional.filter(|_| !is_listed) {
                if additional.is_never() {
                    return fault(value, Rule::Unlisted);
                }
                self.meets(value, additional)?;
            }
        }
        if required < rules.required_count {
            let mut owed = rules
                .properties
                .iter()
                .enumerate()
                .filter(|(_, it)| it.is_required);
            if let Some((_, missing)) = owed.find(|(place, _)| !present.has(*place)) {
                return fault(at, Rule::Required(missing.name.bytes()));
            }
        }
        for (name, others) in &rules.dependent {
            if present.has(*name)
                && let Some(missing) = others.iter().find(|place| !present.has(**place))
                && let Some(missing) = rules.properties.get(*missing)
            {
                return fault(at, Rule::Required(missing.name.bytes()));
            }
        }
        Ok(())
    }

    fn array(&mut self, at: u32, count: u32, rules: &'s ArrayRules) -> Result<(), Fault<'s>> {
        let fault = |at, rule| Err(Fault { at, rule });
        if let Some(min) = rules.count_min.filter(|min| count < *min) {
            return fault(at, Rule::ItemsMin(min));
        }
        if let Some(max) = rules.count_max.filter(|max| count > *max) {
            return fault(at, Rule::ItemsMax(max));
        }
        let mut prefix = rules.prefix.iter();
        let mut contained = 0;
        for item in items(&self.values.nodes, at) {
            if let Some(of_item) = prefix.next().copied().or(rules.items) {
                self.meets(item, of_item)?;
            }
            if let Some(contains) = &rules.contains
                && self.meets(item, contains.rules).is_ok()
            {
                contained += 1;
            }
        }
        if let Some(contains) = &rules.contains {
            if contained < contains.min {
                return fault(at, Rule::ContainsMin(contains.min));
            }
            if let Some(max) = contains.max.filter(|max| contained > *max) {
                return fault(at, Rule::ContainsMax(max));
            }
        }
        if rules.is_unique
            && let Some(twice) = self.twin(at)
        {
            return fault(twice, Rule::Unique);
        }
        Ok(())
    }

    /// An item that an earlier one equals. All are scalars, or the schema would not be read.
    fn twin(&mut self, array: u32) -> Option<u32> {
        let mut order = std::mem::take(self.order);
        order.clear();
        order.extend(items(&self.values.nodes, array));
        order.sort_unstable_by(|left, right| self.compare(*left, *right));
        let twin = order.windows(2).find_map(|pair| match pair {
            [left, right] if self.compare(*left, *right).is_eq() => Some(*left.max(right)),
            _ => None,
        });
        *self.order = order;
        twin
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        let rank = |value: &Value| match value {
            Value::Null => 0,
            Value::Bool(false) => 1,
            Value::Bool(true) => 2,
            Value::Number(_) => 3,
            Value::Text(_) => 4,
            Value::Array(_) | Value::Object(_) => 5,
        };
        match (self.value(left), self.value(right)) {
            (Value::Number(left), Value::Number(right)) => left.compare(*right),
            (Value::Text(_), Value::Text(_)) => {
                let text = |at| self.values.text(at, self.payload);
                text(left).cmp(text(right))
            }
            (left, right) => rank(left).cmp(&rank(right)),
        }
    }

    fn is_allowed(&self, at: u32, value: &Value, allowed: &Allowed) -> bool {
        match value {
            Value::Null => allowed.is_null,
            Value::Bool(true) => allowed.is_true,
            Value::Bool(false) => allowed.is_false,
            Value::Number(number) => {
                (allowed.numbers.binary_search_by(|it| it.compare(*number))).is_ok()
            }
            Value::Text(_) => {
                let text = self.values.text(at, self.payload);
                (allowed.texts.binary_search_by(|it| it.as_ref().cmp(text))).is_ok()
            }
            Value::Array(_) | Value::Object(_) => false,
        }
    }

    fn value(&self, at: u32) -> &'v Value {
        value_at(&self.values.nodes, at)
    }

    /// False once the budget is spent.
    fn step(&mut self, count: usize) -> bool {
        self.steps = self.steps.saturating_sub(count);
        self.steps > 0
    }
}

fn value_at(nodes: &[Node], at: u32) -> &Value {
    (nodes.get(at as usize)).map_or(&Value::Null, |node| &node.value)
}

/// Where a value is in its payload, as a JSON pointer (RFC 6901): text of the payload, unescaped.
pub(super) fn pointer(target: u32, payload: &[u8], values: &Values) -> String {
    let nodes = values.nodes.as_slice();
    let mut pointer = String::new();
    let mut at = 0;
    while at < target {
        let inside = match value_at(nodes, at) {
            Value::Object(_) => {
                let holds = |key: u32, value: u32| {
                    key == target || (value..end_of(nodes, value)).contains(&target)
                };
                let member = members(nodes, at).find(|(key, value)| holds(*key, *value));
                member.map(|(key, value)| {
                    let name = String::from_utf8_lossy(values.text(key, payload));
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    value
                })
            }
            Value::Array(_) => {
                let mut items = items(nodes, at).enumerate();
                let item = items.find(|(_, item)| (*item..end_of(nodes, *item)).contains(&target));
                item.map(|(index, item)| {
                    pointer.push('/');
                    pointer.push_str(&index.to_string());
                    item
                })
            }
            _ => None,
        };
        match inside {
            Some(inside) => at = inside,
            None => break,
        }
    }
    pointer
}

impl Rule<'_> {
    /// The keyword of JSON Schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "false",
            Self::Type(_) => "type",
            Self::Allowed(_) => "enum",
            Self::Minimum(_) => "minimum",
            Self::Maximum(_) => "maximum",
            Self::MinimumExclusive(_) => "exclusiveMinimum",
            Self::MaximumExclusive(_) => "exclusiveMaximum",
            Self::MultipleOf(_) => "multipleOf",
            Self::LengthMin(_) => "minLength",
            Self::LengthMax(_) => "maxLength",
            Self::Pattern(_) => "pattern",
            Self::Required(_) => "required",
            Self::Unlisted => "additionalProperties",
            Self::MembersMin(_) => "minProperties",
            Self::MembersMax(_) => "maxProperties",
            Self::ItemsMin(_) => "minItems",
            Self::ItemsMax(_) => "maxItems",
            Self::Unique => "uniqueItems",
            Self::ContainsMin(_) | Self::ContainsMax(_) => "contains",
            Self::AnyOf => "anyOf",
            Self::OneOf => "oneOf",
            Self::Not => "not",
            Self::Costly => "budget",
        }
    }
}

/// What the value must be.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => write!(f, "must not be there"),
            Self::Type(types) => write!(f, "must be {types}"),
            Self::Allowed(allowed) => write!(f, "must be {allowed}"),
            Self::Minimum(bound) => write!(f, "must be at least {bound}"),
            Self::Maximum(bound) => write!(f, "must be at most {bound}"),
            Self::MinimumExclusive(bound) => write!(f, "must be above {bound}"),
            Self::MaximumExclusive(bound) => write!(f, "must be below {bound}"),
            Self::MultipleOf(of) => write!(f, "must be a multiple of {of}"),
            Self::LengthMin(min) => write!(f, "must have {min} characters at least"),
            Self::LengthMax(max) => write!(f, "must have {max} characters at most"),
            Self::Pattern(pattern) => write!(f, "must match {pattern}"),
            Self::Required(_) => write!(f, "must be there"),
            Self::Unlisted => write!(f, "is not a property that is listed"),
            Self::MembersMin(min) => write!(f, "must have {min} properties at least"),
            Self::MembersMax(max) => write!(f, "must have {max} properties at most"),
            Self::ItemsMin(min) => write!(f, "must have {min} items at least"),
            Self::ItemsMax(max) => write!(f, "must have {max} items at most"),
            Self::Unique => write!(f, "is there twice"),
            Self::ContainsMin(min) => write!(f, "must have {min} items of one kind at least"),
            Self::ContainsMax(max) => write!(f, "must have {max} items of one kind at most"),
            Self::AnyOf => write!(f, "is none of the alternatives"),
            Self::OneOf => write!(f, "must be exactly one of the alternatives"),
            Self::Not => write!(f, "is what it must not be"),
            Self::Costly => write!(f, "takes too long to check"),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = (self.texts.iter()).map(|text| format!("{:?}", String::from_utf8_lossy(text)));
        let numbers = self.numbers.iter().map(ToString::to_string);
        let words = [
            (self.is_null, "null"),
            (self.is_true, "true"),
            (self.is_false, "false"),
        ];
        let words = words
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, word)| word.to_owned());
        let mut all = texts.chain(numbers).chain(words);
        let shown: Vec<String> = all.by_ref().take(SHOWN_MAX).collect();
        write!(f, "{}", shown.join(" or "))?;
        match all.count() {
            0 => Ok(()),
            more => write!(f, " or one of {more} others"),
        }
    }
}
