use super::*;

#[test]
fn a_fleet_that_enrolled_at_once_does_not_renew_at_once() {
    let day = |days: u64| Timestamp::from_seconds(86_400 * days);
    let at = |random| renew_at(day(0), day(30), random);
    assert_eq!((at(0), at(u32::MAX)), (day(18), day(22)));
}
