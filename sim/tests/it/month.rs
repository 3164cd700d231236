//! A short month of a small fleet: the promises of the long one, in seconds.

use sim::month::{Plan, live};

const PLAN: Plan = Plan {
    devices: 300,
    days: 10,
    seed: 1,
    attacks_per_kind: 2,
};

#[test]
fn a_short_month_keeps_every_promise() {
    let mut days = 0;
    let outcome = live(&PLAN, &mut |day| days = day).unwrap();
    assert_eq!(days, 13);
    assert!(outcome.is_kept(), "{}", outcome.table());
    // What the promises rest on did happen.
    assert!(outcome.observations > 500_000);
    assert!(outcome.fleet_events >= 3, "{}", outcome.table());
    assert_eq!(outcome.attacks.len(), 9);
    assert!(outcome.attacks.iter().all(|found| found.attacks == 2));
}
