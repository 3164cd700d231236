//! From the text of a schema to its rules. What cannot be held, or not at a bounded cost, is refused
//! with what to write instead.

use super::number::Number;
use super::pattern::Pattern;
use super::schema::{
    Allowed, ArrayRules, Condition, Contains, Keyword, Name, OVERLAP_MAX, ObjectRules, Overlap,
    PROPERTIES_MAX, Property, Rules, Schema, keywords_of,
};
use super::values::{Malformed, Scratch, Value, Values, items, members};
use super::{Types, json};
use crate::diagnostic::{Diagnostic, Place, SourceFile};
use crate::fleet::{Sha256, caps};

/// Schema objects, those behind each `$ref` counted anew.
const RULES_MAX: usize = 2000;
const NESTING_MAX: u8 = 32;
const ALLOWED_MAX: usize = 1000;
const PATTERN_BYTES_MAX: usize = 4 * 1024 * 1024;
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What is read here means the same in these.
const DRAFTS: [&str; 3] = [
    DRAFT,
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
];

impl Schema {
    /// Reads a file of `schemas/`; what is wrong is added to `wrong`. Automata of all schemas take
    /// from `automaton_bytes` what they need in memory.
    pub fn read(
        file: &SourceFile,
        automaton_bytes: &mut usize,
        wrong: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let mut scratch = Scratch::default();
        let text = file.text.as_bytes();
        if let Err(Malformed { rule, at }) = json::read(text, 64, &mut scratch) {
            let place = Place::in_file(file, at..at);
            let message = format!("this is not JSON: {rule}");
            let help = "correct the JSON at this place".to_owned();
            wrong.push(Diagnostic::new(place, message, help));
            return None;
        }
        let known = wrong.len();
        let mut compiler = Compiler {
            file,
            values: &scratch.values,
            wrong,
            rules: 0,
            keywords: Vec::new(),
            pattern_bytes: 0,
            refs: Vec::new(),
        };
        let root = compiler.rules(0, NESTING_MAX);
        let pattern_bytes = compiler.pattern_bytes;
        let keywords = compiler.keywords.into_boxed_slice();
        let overlap = Overlap(&keywords).of(&root);
        let mut refuse = |message: String, help: &str| {
            let place = Place::start_of(file);
            wrong.push(Diagnostic::new(place, message, help.to_owned()));
        };
        if overlap > OVERLAP_MAX {
            refuse(
                format!(
                    "up to {overlap} rules of this schema may look at one value; {OVERLAP_MAX} are affordable"
                ),
                "use fewer alternatives, or give each kind of message a channel of its own",
            );
        }
        match automaton_bytes.checked_sub(pattern_bytes) {
            Some(left) => *automaton_bytes = left,
            None => refuse(
                "the patterns of all schemas need more than 32 MiB".to_owned(),
                "use shorter patterns, or enum for lists of words",
            ),
        }
        let mut digest = Sha256::new("fleetward schema");
        digest.update(&file.text);
        (wrong.len() == known).then(|| Self {
            root,
            keywords,
            overlap,
            digest: digest.finish(),
        })
    }
}

struct Compiler<'f, 'w> {
    file: &'f SourceFile,
    values: &'f Values,
    wrong: &'w mut Vec<Diagnostic>,
    rules: usize,
    keywords: Vec<Keyword>,
    pattern_bytes: usize,
    /// Where each `$ref` leads that is being followed.
    refs: Vec<u32>,
}

/// The rules of one schema object while its keywords are read, which come in any order.
#[derive(Default)]
struct Draft {
    types: Option<Types>,
    allowed: Option<Allowed>,
    minimum: Option<Number>,
    maximum: Option<Number>,
    minimum_exclusive: Option<Number>,
    maximum_exclusive: Option<Number>,
    multiple_of: Option<Number>,
    length_min: Option<u32>,
    length_max: Option<u32>,
    pattern: Option<Pattern>,
    object: Option<Box<ObjectRules>>,
    array: Option<Box<ArrayRules>>,
    all_of: Vec<Rules>,
    any_of: Vec<Rules>,
    one_of: Vec<Rules>,
    not: Option<Box<Rules>>,
    condition: Option<Box<Condition>>,
}

impl Draft {
    /// Puts the keywords behind those of other rules, in the order in which they are held.
    fn end(self, all: &mut Vec<Keyword>) -> Rules {
        let length =
            (self.length_min.is_some() || self.length_max.is_some()).then(|| Keyword::Length {
                min: self.length_min.unwrap_or(0),
                max: self.length_max.unwrap_or(u32::MAX),
            });
        let list = |rules: Vec<Rules>| (!rules.is_empty()).then(|| rules.into_boxed_slice());
        let keywords = [
            self.allowed.map(Box::new).map(Keyword::Allowed),
            self.minimum.map(Keyword::Minimum),
            self.maximum.map(Keyword::Maximum),
            self.minimum_exclusive.map(Keyword::MinimumExclusive),
            self.maximum_exclusive.map(Keyword::MaximumExclusive),
            self.multiple_of.map(Keyword::MultipleOf),
            length,
            self.pattern.map(Box::new).map(Keyword::Pattern),
            self.object.map(Keyword::Object),
            self.array.map(Keyword::Array),
            list(self.all_of).map(Keyword::AllOf),
            list(self.any_of).map(Keyword::AnyOf),
            list(self.one_of).map(Keyword::OneOf),
            self.not.map(Keyword::Not),
            self.condition.map(Keyword::Condition),
        ];
        let first = all.len();
        all.extend(keywords.into_iter().flatten());
        Rules {
            types: self.types.unwrap_or(Types::ALL),
            first: first as u32,
            count: (all.len() - first) as u32,
        }
    }
}

impl Compiler<'_, '_> {
    fn rules(&mut self, at: u32, depth: u8) -> Rules {
        self.rules += 1;
        let mut rules = Draft::default();
        let Some(depth) = depth.checked_sub(1).filter(|_| self.rules <= RULES_MAX) else {
            if self.rules <= RULES_MAX || self.rules == RULES_MAX + 1 {
                self.refuse(
                    at,
                    format!("a schema has at most {RULES_MAX} rules, {NESTING_MAX} deep; each $ref counts what it refers to"),
                    "use a simpler schema, or give each kind of message a channel of its own",
                );
            }
            return Rules::default();
        };
        match self.value(at) {
            Value::Bool(true) => {}
            Value::Bool(false) => rules.types = Some(Types::default()),
            Value::Object(_) => {
                let keywords: Vec<(u32, u32)> = members(&self.values.nodes, at).collect();
                for (key, value) in keywords {
                    self.keyword(&mut rules, key, value, depth);
                }
                self.finish(&mut rules, at);
            }
            _ => self.refuse(at, "a schema is an object, true or false", "write { }"),
        }
        rules.end(&mut self.keywords)
    }

    fn keyword(&mut self, rules: &mut Draft, key: u32, value: u32, depth: u8) {
        let keyword = self.text(key).to_owned();
        match keyword.as_str() {
            "title" | "description" | "default" | "examples" | "deprecated" | "readOnly"
            | "writeOnly" | "$comment" | "$id" | "$defs" | "definitions" => {}
            "$schema" => {
                let draft = self.text(value).to_owned();
                if !DRAFTS.contains(&draft.trim_end_matches('#')) {
                    let message = format!("a draft that is not read here: {draft}");
                    self.refuse(value, message, DRAFT);
                }
            }
            "$ref" => self.reference(rules, value, depth),
            "type" => rules.types = self.types(value),
            "enum" => self.allowed(rules, value),
            "const" => {
                let mut allowed = rules.allowed.take().unwrap_or_default();
                self.allow(&mut allowed, value);
                rules.allowed = Some(allowed);
            }
            "minimum" => rules.minimum = self.number(value),
            "maximum" => rules.maximum = self.number(value),
            "exclusiveMinimum" => rules.minimum_exclusive = self.number(value),
            "exclusiveMaximum" => rules.maximum_exclusive = self.number(value),
            "multipleOf" => {
                rules.multiple_of = self.number(value);
                let zero = Number::Natural(0);
                if (rules.multiple_of).is_some_and(|of| of.compare(zero).is_le()) {
                    self.refuse(
                        value,
                        "multipleOf is greater than 0",
                        "write a number above 0",
                    );
                    rules.multiple_of = None;
                }
            }
            "minLength" => rules.length_min = self.count(value),
            "maxLength" => rules.length_max = self.count(value),
            "pattern" => rules.pattern = self.pattern(value),
            "properties"
            | "patternProperties"
            | "additionalProperties"
            | "propertyNames"
            | "required"
            | "minProperties"
            | "maxProperties"
            | "dependentRequired" => {
                let mut object = rules.object.take().unwrap_or_default();
                self.object_keyword(&mut object, &keyword, value, depth);
                rules.object = Some(object);
            }
            "items" | "prefixItems" | "contains" | "minContains" | "maxContains" | "minItems"
            | "maxItems" | "uniqueItems" => {
                let mut array = rules.array.take().unwrap_or_default();
                self.array_keyword(&mut array, &keyword, value, depth);
                rules.array = Some(array);
            }
            "allOf" => rules.all_of.extend(self.list(value, depth)),
            "anyOf" => rules.any_of = self.list(value, depth),
            "oneOf" => rules.one_of = self.list(value, depth),
            "not" => rules.not = Some(Box::new(self.rules(value, depth))),
            "if" => {
                let when = self.rules(value, depth);
                self.condition(rules).when = when;
            }
            "then" => {
                let then = self.rules(value, depth);
                self.condition(rules).then = Some(then);
            }
            "else" => {
                let otherwise = self.rules(value, depth);
                self.condition(rules).otherwise = Some(otherwise);
            }
            _ => self.unknown(key, &keyword),
        }
    }

    /// What is not read is refused: a rule that is not held would be taken for one that is.
    fn unknown(&mut self, key: u32, keyword: &str) {
        let help = match keyword {
            "format" => "write a pattern, or minimum and maximum of a number",
            "$dynamicRef" | "$dynamicAnchor" | "$recursiveRef" | "$recursiveAnchor" | "$anchor" => {
                "refer by $ref to #/$defs/NAME"
            }
            "unevaluatedProperties" => "use additionalProperties",
            "unevaluatedItems" | "additionalItems" => "use prefixItems and items",
            "dependentSchemas" | "dependencies" => "use if and then, or dependentRequired",
            "contentEncoding" | "contentMediaType" | "contentSchema" => "write a pattern",
            _ => "correct the keyword or take it out",
        };
        self.refuse(
            key,
            format!("{keyword:?} is no keyword that is held here"),
            help,
        );
    }

    fn condition<'r>(&self, rules: &'r mut Draft) -> &'r mut Condition {
        rules.condition.get_or_insert_with(|| {
            Box::new(Condition {
                when: Rules::default(),
                then: None,
                otherwise: None,
            })
        })
    }

    /// Followed where it stands: what is behind it counts anew. Back into itself it would have no end.
    fn reference(&mut self, rules: &mut Draft, value: u32, depth: u8) {
        let target = self.text(value).to_owned();
        let Some(at) = self.find(&target) else {
            self.refuse(
                value,
                format!("{target:?} is nothing in this file"),
                "refer to #/$defs/NAME of the same file; nothing is fetched from elsewhere",
            );
            return;
        };
        if self.refs.contains(&at) || at == 0 {
            self.refuse(
                value,
                "a schema that refers to itself has no bound",
                "write out as many levels as messages have",
            );
            return;
        }
        self.refs.push(at);
        let referred = self.rules(at, depth);
        self.refs.pop();
        rules.all_of.push(referred);
    }

    /// By JSON pointer (RFC 6901) from the root.
    fn find(&self, reference: &str) -> Option<u32> {
        let pointer = reference.strip_prefix('#')?;
        if pointer.is_empty() {
            return Some(0);
        }
        let mut at = 0;
        for step in pointer.strip_prefix('/')?.split('/') {
            let step = step.replace("~1", "/").replace("~0", "~");
            let nodes = &self.values.nodes;
            at = match self.value(at) {
                Value::Object(_) => {
                    members(nodes, at)
                        .find(|(key, _)| self.text(*key) == step)?
                        .1
                }
                Value::Array(_) => items(nodes, at).nth(step.parse().ok()?)?,
                _ => return None,
            };
        }
        Some(at)
    }

    fn list(&mut self, at: u32, depth: u8) -> Vec<Rules> {
        let all: Vec<u32> = items(&self.values.nodes, at).collect();
        if all.is_empty() {
            self.refuse(at, "a list of one schema at least is due", "write [{ }]");
        }
        all.into_iter().map(|one| self.rules(one, depth)).collect()
    }

    fn object_keyword(&mut self, object: &mut ObjectRules, keyword: &str, value: u32, depth: u8) {
        let is_object = matches!(self.value(value), Value::Object(_));
        let all: Vec<(u32, u32)> = members(&self.values.nodes, value).collect();
        match keyword {
            "properties" | "patternProperties" | "dependentRequired" if !is_object => {
                self.refuse(value, format!("{keyword} is an object"), "write { }");
            }
            "properties" => {
                for (key, member) in all {
                    let rules = self.rules(member, depth);
                    let name = self.text(key).to_owned();
                    property(object, &name, |it| it.rules = Some(rules));
                }
            }
            "patternProperties" => {
                for (key, member) in all {
                    let pattern = self.pattern(key);
                    let rules = self.rules(member, depth);
                    object
                        .patterns
                        .extend(pattern.map(|pattern| (pattern, rules)));
                }
            }
            "dependentRequired" => {
                for (key, names) in all {
                    let name = self.text(key).to_owned();
                    let others = self.names(names);
                    // As names now, as indices when all are known.
                    for other in std::iter::once(&name).chain(&others) {
                        property(object, other, |_| {});
                    }
                }
            }
            "additionalProperties" => object.additional = Some(self.rules(value, depth)),
            "propertyNames" => object.names = Some(self.rules(value, depth)),
            "required" => {
                for name in self.names(value) {
                    property(object, &name, |it| it.is_required = true);
                }
            }
            "minProperties" => object.count_min = self.count(value),
            _ => object.count_max = self.count(value),
        }
    }

    fn array_keyword(&mut self, array: &mut ArrayRules, keyword: &str, value: u32, depth: u8) {
        let contains = |array: &mut ArrayRules| {
            let contains = array.contains.take();
            contains.unwrap_or(Contains {
                rules: Rules::default(),
                min: 1,
                max: None,
            })
        };
        match keyword {
            "items" if matches!(self.value(value), Value::Array(_)) => self.refuse(
                value,
                "items is one schema for all items",
                "write prefixItems for a list of schemas",
            ),
            "items" => array.items = Some(self.rules(value, depth)),
            "prefixItems" => array.prefix = self.list(value, depth),
            "contains" => {
                let rules = self.rules(value, depth);
                array.contains = Some(Contains {
                    rules,
                    ..contains(array)
                });
            }
            "minContains" => {
                let min = self.count(value).unwrap_or(1);
                array.contains = Some(Contains {
                    min,
                    ..contains(array)
                });
            }
            "maxContains" => {
                let max = self.count(value);
                array.contains = Some(Contains {
                    max,
                    ..contains(array)
                });
            }
            "minItems" => array.count_min = self.count(value),
            "maxItems" => array.count_max = self.count(value),
            _ => match self.value(value) {
                Value::Bool(is_unique) => array.is_unique = is_unique,
                _ => self.refuse(value, "uniqueItems is true or false", "write true or false"),
            },
        }
    }

    /// What one keyword alone cannot know.
    fn finish(&mut self, rules: &mut Draft, at: u32) {
        if let Some(list) = self.member(at, "dependentRequired") {
            let all: Vec<(u32, u32)> = members(&self.values.nodes, list).collect();
            for (key, names) in all {
                let others: Vec<String> = (items(&self.values.nodes, names))
                    .map(|name| self.text(name).to_owned())
                    .collect();
                let name = self.text(key).to_owned();
                if let Some(object) = &mut rules.object {
                    let others = others
                        .iter()
                        .filter_map(|name| object.place_of(name.as_bytes()).ok());
                    let others = others.collect();
                    if let Ok(place) = object.place_of(name.as_bytes()) {
                        object.dependent.push((place, others));
                    }
                }
            }
        }
        if (self.member(at, "minContains").is_some() || self.member(at, "maxContains").is_some())
            && self.member(at, "contains").is_none()
        {
            self.refuse(
                at,
                "minContains and maxContains need contains",
                "add contains",
            );
        }
        if (self.member(at, "then").is_some() || self.member(at, "else").is_some())
            && self.member(at, "if").is_none()
        {
            self.refuse(at, "then and else need if", "add if, or use allOf");
        }
        if self.member(at, "enum").is_some() && self.member(at, "const").is_some() {
            self.refuse(
                at,
                "enum and const say the same thing twice",
                "keep one of the two",
            );
        }
        if let Some(object) = &mut rules.object {
            object.required_count =
                object.properties.iter().filter(|it| it.is_required).count() as u32;
            if object.properties.len() > PROPERTIES_MAX {
                self.refuse(
                    at,
                    format!("a schema object names at most {PROPERTIES_MAX} properties"),
                    "use patternProperties or additionalProperties",
                );
            }
        }
        let unique = rules.array.as_ref().filter(|array| array.is_unique);
        if unique.is_some_and(|array| {
            let mut rules = array.prefix.iter().chain(&array.items);
            array.items.is_none() || !rules.all(|it| is_scalar(it, &self.keywords))
        }) {
            self.refuse(
                at,
                "uniqueItems compares strings, numbers and the like, not arrays or objects",
                "give items a type, such as \"string\" or \"integer\", or take uniqueItems out",
            );
        }
    }

    fn member(&self, at: u32, keyword: &str) -> Option<u32> {
        let mut all = members(&self.values.nodes, at);
        let (_, value) = all.find(|(key, _)| self.text(*key) == keyword)?;
        Some(value)
    }

    fn allowed(&mut self, rules: &mut Draft, at: u32) {
        let all: Vec<u32> = items(&self.values.nodes, at).collect();
        if all.is_empty() || all.len() > ALLOWED_MAX {
            self.refuse(
                at,
                format!("an enum lists 1 to {ALLOWED_MAX} values"),
                "use a pattern, or minimum and maximum",
            );
            return;
        }
        let mut allowed = Allowed::default();
        for one in all {
            self.allow(&mut allowed, one);
        }
        rules.allowed = Some(allowed);
    }

    fn allow(&mut self, allowed: &mut Allowed, at: u32) {
        match self.value(at) {
            Value::Null => allowed.is_null = true,
            Value::Bool(true) => allowed.is_true = true,
            Value::Bool(false) => allowed.is_false = true,
            Value::Number(number) => {
                let place = allowed.numbers.binary_search_by(|it| it.compare(number));
                if let Err(place) = place {
                    allowed.numbers.insert(place, number);
                }
            }
            Value::Text(_) => {
                let text = self.text(at).as_bytes();
                if let Err(place) = allowed.texts.binary_search_by(|it| it.as_ref().cmp(text)) {
                    allowed.texts.insert(place, text.into());
                }
            }
            Value::Array(_) | Value::Object(_) => self.refuse(
                at,
                "enum and const list strings, numbers, true, false and null",
                "describe an object by properties with const, an array by prefixItems",
            ),
        }
    }

    fn types(&mut self, at: u32) -> Option<Types> {
        let list: Vec<u32> = match self.value(at) {
            Value::Array(_) => items(&self.values.nodes, at).collect(),
            _ => vec![at],
        };
        let mut types = Types::default();
        for one in list {
            match Types::named(self.text(one)) {
                Some(named) => types = types.with(named),
                None => {
                    let help = "use null, boolean, integer, number, string, array, object";
                    self.refuse(one, "no such type", help);
                }
            }
        }
        Some(types)
    }

    fn pattern(&mut self, at: u32) -> Option<Pattern> {
        if !matches!(self.value(at), Value::Text(_)) {
            self.refuse(at, "a pattern is a string", "write it in quotes");
            return None;
        }
        // What is over the cap already costs nothing more.
        if self.pattern_bytes > PATTERN_BYTES_MAX {
            return None;
        }
        match Pattern::new(self.text(at)) {
            Ok(pattern) => {
                self.pattern_bytes += pattern.bytes();
                if self.pattern_bytes > PATTERN_BYTES_MAX {
                    let message = "the patterns of this schema need more than 4 MiB";
                    self.refuse(
                        at,
                        message,
                        "use shorter patterns, or enum for lists of words",
                    );
                }
                Some(pattern)
            }
            Err(fault) => {
                self.refuse(at, fault.message, fault.help);
                None
            }
        }
    }

    fn names(&mut self, at: u32) -> Vec<String> {
        if !matches!(self.value(at), Value::Array(_)) {
            self.refuse(at, "a list of names is due", "write [\"name\"]");
        }
        let all: Vec<u32> = items(&self.values.nodes, at).collect();
        let mut names = Vec::new();
        for one in all {
            if matches!(self.value(one), Value::Text(_)) {
                names.push(self.text(one).to_owned());
            } else {
                self.refuse(one, "a name is a string", "write it in quotes");
            }
        }
        names
    }

    fn number(&mut self, at: u32) -> Option<Number> {
        match self.value(at) {
            Value::Number(number) => Some(number),
            _ => {
                self.refuse(at, "a number is due", "write a number");
                None
            }
        }
    }

    fn count(&mut self, at: u32) -> Option<u32> {
        let count = match self.value(at) {
            Value::Number(Number::Natural(count)) => u32::try_from(count).ok(),
            Value::Number(Number::Float(count))
                if (0.0..4e9).contains(&count) && count.trunc() == count =>
            {
                Some(count as u32)
            }
            _ => None,
        };
        if count.is_none() {
            self.refuse(
                at,
                "a whole number from 0 is due",
                "write 0 or more, up to 4294967295",
            );
        }
        count
    }

    fn value(&self, at: u32) -> Value {
        (self.values.nodes.get(at as usize)).map_or(Value::Null, |node| node.value)
    }

    /// Of a string; nothing of anything else.
    fn text(&self, at: u32) -> &str {
        let text = self.values.text(at, self.file.text.as_bytes());
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn refuse(&mut self, at: u32, message: impl Into<String>, help: &str) {
        if self.wrong.len() >= caps::DIAGNOSTICS {
            return;
        }
        let at = self
            .values
            .nodes
            .get(at as usize)
            .map_or(0, |node| node.at as usize);
        let place = Place::in_file(self.file, at..at);
        self.wrong
            .push(Diagnostic::new(place, message, help.to_owned()));
    }
}

/// Its values are no arrays or objects.
fn is_scalar(rules: &Rules, keywords: &[Keyword]) -> bool {
    let mut own = keywords_of(keywords, *rules).iter();
    !rules.types.has_parts()
        || own.any(|keyword| match keyword {
            Keyword::Allowed(_) => true,
            Keyword::AllOf(all) => all.iter().any(|it| is_scalar(it, keywords)),
            _ => false,
        })
}

/// Says something of a property, which is entered if it is new.
fn property(object: &mut ObjectRules, name: &str, say: impl FnOnce(&mut Property)) {
    match object.place_of(name.as_bytes()) {
        Ok(place) => {
            if let Some(known) = object.properties.get_mut(place) {
                say(known);
            }
        }
        Err(place) => {
            let mut new = Property {
                name: Name::new(name.as_bytes()),
                rules: None,
                is_required: false,
            };
            say(&mut new);
            object.properties.insert(place, new);
        }
    }
}
