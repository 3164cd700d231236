//! A payload is held against the contract of its channel: when it is sent, when it is promised as a
//! will, and when that will fires.

use crate::gateway::Gateway;
use crate::signal::{NOBODY, Signal, cut};
use crate::turn::Turn;
use access::{ChannelId, Publish, Violation};
use model::Principal;

impl Gateway {
    /// Payloads that broke their channel's contract, by channel, since `new`.
    pub fn contract_violations(&self) -> impl Iterator<Item = (&ChannelId, u64)> {
        self.violations
            .iter()
            .map(|(channel, count)| (channel, *count))
    }

    pub(crate) fn hold_to_contract(
        &mut self,
        place: &Publish<'_>,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match self.grants.contract(place) {
            Some(contract) => contract.check(payload, &mut self.payload_scratch),
            None => Ok(()),
        }
    }

    /// Whether a will's payload may be promised.
    pub(crate) fn check_will_payload(
        &mut self,
        principal: u32,
        place: &Publish<'_>,
        payload: &[u8],
        retain: bool,
        turn: &mut Turn,
    ) -> Result<(), Violation> {
        if is_removal(payload, retain) {
            return Ok(());
        }
        let held = self.hold_to_contract(place, payload);
        if let (Err(violation), Some(known)) = (&held, self.principals.get(principal)) {
            let principal = known.facts.principal.clone();
            self.note_violation(&principal, place, violation, true, turn);
        }
        held
    }

    /// Counts and signals. Channels are those of a fleet, so their counts are bounded.
    pub(crate) fn note_violation(
        &mut self,
        principal: &Principal,
        place: &Publish<'_>,
        violation: &Violation,
        will: bool,
        turn: &mut Turn,
    ) {
        self.counters.publishes_denied += 1;
        self.counters.contract_violations += 1;
        let index = self.by_principal.get(principal).copied();
        if let Some(index) = index {
            self.meter(index, |meter| meter.denied += 1);
        }
        let Some(channel) = self.grants.channel(place).map(|channel| channel.id.clone()) else {
            return;
        };
        let whose = index.unwrap_or(NOBODY);
        turn.signal(whose, self.limits.signals_per_turn_max, || {
            Signal::ContractViolation {
                principal: principal.clone(),
                topic: cut(place.topic),
                channel: channel.to_string(),
                field: violation.field.clone(),
                rule: violation.rule,
                text: violation.text.clone(),
                will,
            }
        });
        *self.violations.entry(channel).or_default() += 1;
    }

    /// Of channels that are no more nothing is counted.
    pub(crate) fn recount_violations(&mut self) {
        let fleet = self.grants.fleet();
        let is_known = |id: &ChannelId| fleet.channels().any(|channel| channel.id == *id);
        self.violations.retain(|id, _| is_known(id));
    }
}

/// A payload of nothing takes a retained message away: no contract is about it.
pub(crate) fn is_removal(payload: &[u8], retain: bool) -> bool {
    retain && payload.is_empty()
}
