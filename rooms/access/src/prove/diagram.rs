//! Boolean functions as reduced ordered binary decision diagrams (Bryant 1986): equal functions are
//! the same node, so "is there an answer at all" is one comparison, and an answer is one walk.

use std::collections::HashMap;

/// A function of the variables. Of the [`Diagrams`] that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Function(u32);

/// More nodes than a fleet that people can read would need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

const NODES_MAX: usize = 1_000_000;

#[derive(Debug)]
pub(super) struct Diagrams {
    /// The first two are the constants.
    nodes: Vec<Node>,
    by_node: HashMap<Node, Function>,
    conjunctions: HashMap<(Function, Function), Function>,
    negations: HashMap<Function, Function>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    variable: u16,
    /// Where the variable is false.
    low: Function,
    /// Where it is true.
    high: Function,
}

impl Function {
    pub(super) const FALSE: Self = Self(0);
    pub(super) const TRUE: Self = Self(1);

    pub(super) const fn constant(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }
}

impl Diagrams {
    pub(super) fn new() -> Self {
        let constant = |function| Node {
            variable: u16::MAX,
            low: function,
            high: function,
        };
        Self {
            nodes: vec![constant(Function::FALSE), constant(Function::TRUE)],
            by_node: HashMap::new(),
            conjunctions: HashMap::new(),
            negations: HashMap::new(),
        }
    }

    pub(super) fn variable(&mut self, variable: u16) -> Result<Function, TooLarge> {
        self.node(variable, Function::FALSE, Function::TRUE)
    }

    pub(super) fn not(&mut self, function: Function) -> Result<Function, TooLarge> {
        match function {
            Function::FALSE => return Ok(Function::TRUE),
            Function::TRUE => return Ok(Function::FALSE),
            _ => {}
        }
        if let Some(known) = self.negations.get(&function) {
            return Ok(*known);
        }
        let Node {
            variable,
            low,
            high,
        } = self.at(function)?;
        let (low, high) = (self.not(low)?, self.not(high)?);
        let negation = self.node(variable, low, high)?;
        self.negations.insert(function, negation);
        Ok(negation)
    }

    pub(super) fn and(&mut self, left: Function, right: Function) -> Result<Function, TooLarge> {
        let (left, right) = (left.min(right), left.max(right));
        match (left, right) {
            (Function::FALSE, _) => return Ok(Function::FALSE),
            (Function::TRUE, other) => return Ok(other),
            _ if left == right => return Ok(left),
            _ => {}
        }
        if let Some(known) = self.conjunctions.get(&(left, right)) {
            return Ok(*known);
        }
        let (one, other) = (self.at(left)?, self.at(right)?);
        let variable = one.variable.min(other.variable);
        let under = |node: Node, function| {
            if node.variable == variable {
                (node.low, node.high)
            } else {
                (function, function)
            }
        };
        let ((left_low, left_high), (right_low, right_high)) =
            (under(one, left), under(other, right));
        let low = self.and(left_low, right_low)?;
        let high = self.and(left_high, right_high)?;
        let conjunction = self.node(variable, low, high)?;
        self.conjunctions.insert((left, right), conjunction);
        Ok(conjunction)
    }

    pub(super) fn or(&mut self, left: Function, right: Function) -> Result<Function, TooLarge> {
        match (left.min(right), left.max(right)) {
            (Function::FALSE, other) => return Ok(other),
            (Function::TRUE, _) => return Ok(Function::TRUE),
            (one, other) if one == other => return Ok(one),
            _ => {}
        }
        let (left, right) = (self.not(left)?, self.not(right)?);
        let neither = self.and(left, right)?;
        self.not(neither)
    }

    /// Values with which `function` is true, by variable; a variable that is not in them may have
    /// any. False ones are preferred: the least that it takes. `None`: there are none.
    pub(super) fn answer(&self, function: Function) -> Option<Vec<(u16, bool)>> {
        let mut answer = Vec::new();
        let mut at = function;
        while at != Function::TRUE {
            if at == Function::FALSE {
                return None;
            }
            let node = self.nodes.get(at.0 as usize)?;
            let value = node.low == Function::FALSE;
            answer.push((node.variable, value));
            at = if value { node.high } else { node.low };
        }
        Some(answer)
    }

    /// What `function` says where exactly the variables in `true_ones` are true.
    pub(super) fn holds(&self, function: Function, true_ones: &[u16]) -> bool {
        let mut at = function;
        while at > Function::TRUE {
            let Some(node) = self.nodes.get(at.0 as usize) else {
                return false;
            };
            at = if true_ones.contains(&node.variable) {
                node.high
            } else {
                node.low
            };
        }
        at == Function::TRUE
    }

    fn at(&self, function: Function) -> Result<Node, TooLarge> {
        self.nodes.get(function.0 as usize).copied().ok_or(TooLarge)
    }

    fn node(&mut self, variable: u16, low: Function, high: Function) -> Result<Function, TooLarge> {
        if low == high {
            return Ok(low);
        }
        let node = Node {
            variable,
            low,
            high,
        };
        if let Some(known) = self.by_node.get(&node) {
            return Ok(*known);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(TooLarge);
        }
        let function = Function(u32::try_from(self.nodes.len()).map_err(|_| TooLarge)?);
        self.nodes.push(node);
        self.by_node.insert(node, function);
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Formula {
        Variable(u16),
        Not(Box<Formula>),
        And(Box<Formula>, Box<Formula>),
        Or(Box<Formula>, Box<Formula>),
    }

    impl Formula {
        fn build(&self, diagrams: &mut Diagrams) -> Function {
            match self {
                Self::Variable(variable) => diagrams.variable(*variable).unwrap(),
                Self::Not(inner) => {
                    let inner = inner.build(diagrams);
                    diagrams.not(inner).unwrap()
                }
                Self::And(left, right) => {
                    let (left, right) = (left.build(diagrams), right.build(diagrams));
                    diagrams.and(left, right).unwrap()
                }
                Self::Or(left, right) => {
                    let (left, right) = (left.build(diagrams), right.build(diagrams));
                    diagrams.or(left, right).unwrap()
                }
            }
        }

        fn holds(&self, values: u8) -> bool {
            match self {
                Self::Variable(variable) => values & (1 << variable) != 0,
                Self::Not(inner) => !inner.holds(values),
                Self::And(left, right) => left.holds(values) && right.holds(values),
                Self::Or(left, right) => left.holds(values) || right.holds(values),
            }
        }
    }

    fn formula() -> impl Strategy<Value = Formula> {
        (0u16..6)
            .prop_map(Formula::Variable)
            .prop_recursive(6, 48, 2, |inner| {
                prop_oneof![
                    inner.clone().prop_map(|f| Formula::Not(Box::new(f))),
                    (inner.clone(), inner.clone())
                        .prop_map(|(l, r)| Formula::And(Box::new(l), Box::new(r))),
                    (inner.clone(), inner).prop_map(|(l, r)| Formula::Or(Box::new(l), Box::new(r))),
                ]
            })
    }

    proptest! {
        #[test]
        fn a_diagram_says_what_its_formula_says(formula in formula()) {
            let mut diagrams = Diagrams::new();
            let function = formula.build(&mut diagrams);
            let mut any = false;
            for values in 0..64u8 {
                let true_ones: Vec<u16> = (0..6).filter(|v| values & (1 << v) != 0).collect();
                prop_assert_eq!(diagrams.holds(function, &true_ones), formula.holds(values));
                any |= formula.holds(values);
            }
            match diagrams.answer(function) {
                None => prop_assert!(!any),
                Some(answer) => {
                    let values = (answer.iter()).fold(0, |all, (v, is)| all | u8::from(*is) << v);
                    prop_assert!(formula.holds(values));
                }
            }
        }
    }
}
