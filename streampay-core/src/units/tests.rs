use super::*;

#[test]
fn amounts_stay_in_range() {
    assert_eq!(Msat::new(u64::MAX), Err(Overflow));
    assert_eq!(Msat::from_sat(u64::MAX), Err(Overflow));
    assert_eq!(Msat::MAX.plus(Msat::new(1).unwrap()), Err(Overflow));
    assert_eq!(Msat::ZERO.minus(Msat::new(1).unwrap()), Err(Overflow));
    assert_eq!(Msat::MAX.times(2), Err(Overflow));
    assert_eq!(Msat::MAX.saturating_plus(Msat::MAX), Msat::MAX);
}

#[test]
fn rounding_up_reaches_the_next_whole_quantum() {
    for (amount, quantum, expect) in [
        (0, 1000, 0),
        (1, 1000, 1000),
        (1000, 1000, 1000),
        (1001, 1000, 2000),
        (7, 0, 7),
    ] {
        let rounded = Msat::new(amount)
            .unwrap()
            .round_up_to(Msat::new(quantum).unwrap());
        assert_eq!(rounded, Msat::new(expect), "{amount} to {quantum}");
    }
    assert_eq!(
        Msat::MAX.round_up_to(Msat::MAX.minus(Msat::new(1).unwrap()).unwrap()),
        Err(Overflow)
    );
}

#[test]
fn hex_round_trips_and_refuses_all_else() {
    let id = SessionId([0xab; 32]);
    let text = alloc::format!("{id}");
    assert_eq!(text.parse(), Ok(id));
    assert_eq!(text.to_uppercase().parse(), Ok(id));
    assert!(text[1..].parse::<SessionId>().is_err());
    assert!(text.replace('a', "g").parse::<SessionId>().is_err());
    assert!("é".repeat(32).parse::<SessionId>().is_err());
}
