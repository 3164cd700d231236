//! What was decided of whom, remembered: the policies for people are built in, so that an answer is a
//! function of who asks and what for, and Cedar need not be asked at each request.

use crate::shared::ReadMostly;
use access::{Action, Asker, DeniedAct, People, PermittedAct, WrongPolicies};
use std::collections::HashMap;

/// Who may what.
pub struct Rights {
    people: People,
    /// At most one answer for each set of roles and action: under a megabyte if all were asked.
    answers: ReadMostly<HashMap<(Asker, Action), Result<PermittedAct, DeniedAct>>>,
}

impl Rights {
    /// # Errors
    /// Never, unless this program was built wrong.
    pub fn new() -> Result<Self, WrongPolicies> {
        Ok(Self {
            people: People::new()?,
            answers: ReadMostly::new(HashMap::new()),
        })
    }

    /// As [`People::decide`].
    ///
    /// # Errors
    /// Why not.
    pub fn decide(&self, asker: Asker, action: Action) -> Result<PermittedAct, DeniedAct> {
        if let Some(answer) = self.answers.read().get(&(asker, action)) {
            return *answer;
        }
        let answer = self.people.decide(asker, action);
        self.answers.write().insert((asker, action), answer);
        answer
    }

    /// For what the room itself asks of its policies.
    #[must_use]
    pub fn people(&self) -> &People {
        &self.people
    }
}
