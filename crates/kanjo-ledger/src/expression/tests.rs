//! Expressions against a reader of the same words in plain options and 128-bit integers.

use super::pattern::is_like;
use super::{Given, Work, check_condition, check_default, evaluate};
use kanjo_types::expression::{DEPTH_MAX, Expression, STEPS_MAX, Step};
use kanjo_types::outcome::ResultCode;
use kanjo_types::relation::ColumnType;
use kanjo_types::row::Value;
use proptest::prelude::*;

fn integer(value: Option<i64>) -> Step {
    let value = value.map_or(Value::Null, Value::Integer);
    Step::Constant { kind: ColumnType::Bigint, value }
}

fn numeric(digits: i128, scale: u8) -> Step {
    let kind = ColumnType::Numeric { precision: 38, scale };
    Step::Constant { kind, value: Value::Numeric(digits) }
}

fn boolean(value: Option<bool>) -> Step {
    let value = value.map_or(Value::Null, Value::Boolean);
    Step::Constant { kind: ColumnType::Boolean, value }
}

fn text(value: &str) -> Step {
    Step::Constant { kind: ColumnType::Text(None), value: Value::Text(value.to_owned()) }
}

fn value_of(steps: Vec<Step>) -> Result<Value, ResultCode> {
    evaluate(&Expression(steps), None, &Given::default(), &mut Work::default())
}

/// What a step of two integers gives, by the book.
fn by_the_book(step: &Step, a: i64, b: i64) -> Result<Value, ResultCode> {
    let (wide_a, wide_b) = (i128::from(a), i128::from(b));
    let fits = |result: i128| {
        i64::try_from(result).map(Value::Integer).map_err(|_| ResultCode::ArithmeticOverflow)
    };
    match step {
        Step::Divide | Step::Remainder if b == 0 => Err(ResultCode::DivisionByZero),
        Step::Add => fits(wide_a + wide_b),
        Step::Subtract => fits(wide_a - wide_b),
        Step::Multiply => fits(wide_a * wide_b),
        Step::Divide => fits(wide_a / wide_b),
        Step::Remainder => fits(wide_a % wide_b),
        Step::Equal => Ok(Value::Boolean(a == b)),
        Step::Less => Ok(Value::Boolean(a < b)),
        _ => Ok(Value::Boolean(a >= b)),
    }
}

fn any_integer() -> impl Strategy<Value = Option<i64>> {
    let value = prop_oneof![-3i64..4, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    proptest::option::weighted(0.9, value)
}

/// The pattern by trying every way.
fn like_by_trying(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|at| like_by_trying(&text[at..], rest)),
        ['\\'] => text == ['\\'],
        ['\\', c, rest @ ..] => text.first() == Some(c) && like_by_trying(&text[1..], rest),
        ['_', rest @ ..] => !text.is_empty() && like_by_trying(&text[1..], rest),
        [c, rest @ ..] => text.first() == Some(c) && like_by_trying(&text[1..], rest),
    }
}

proptest! {
    #[test]
    fn integers_are_computed_by_the_book(
        a in any_integer(), b in any_integer(),
        step in prop::sample::select(vec![
            Step::Add, Step::Subtract, Step::Multiply, Step::Divide, Step::Remainder, Step::Equal,
            Step::Less, Step::GreaterEqual,
        ]),
    ) {
        let expected = match (a, b) {
            (Some(a), Some(b)) => by_the_book(&step, a, b),
            _ => Ok(Value::Null),
        };
        prop_assert_eq!(value_of(vec![integer(a), integer(b), step]), expected);
    }

    #[test]
    fn numerics_of_small_scales_are_those_of_one_large_scale(
        a in -10_000i128..10_000, b in -10_000i128..10_000, s in 0u8..4, t in 0u8..4,
    ) {
        let at = |digits: i128, scale: u8| digits * 10i128.pow(4 - u32::from(scale));
        let (x, y) = (at(a, s), at(b, t));
        let run = |step| value_of(vec![numeric(a, s), numeric(b, t), step]);
        let scale = s.max(t);
        let lowered = |digits: i128| Ok(Value::Numeric(digits / 10i128.pow(4 - u32::from(scale))));
        prop_assert_eq!(run(Step::Add), lowered(x + y));
        prop_assert_eq!(run(Step::Subtract), lowered(x - y));
        prop_assert_eq!(run(Step::Multiply), Ok(Value::Numeric(a * b)));
        prop_assert_eq!(run(Step::Less), Ok(Value::Boolean(x < y)));
        prop_assert_eq!(run(Step::Equal), Ok(Value::Boolean(x == y)));
        if b == 0 {
            prop_assert_eq!(run(Step::Divide), Err(ResultCode::DivisionByZero));
        } else {
            // Six places; halves away from zero.
            let (whole, by) = (x.abs() * 1_000_000, y.abs());
            let rounded = (2 * whole + by) / (2 * by) * (x * y).signum();
            prop_assert_eq!(run(Step::Divide), Ok(Value::Numeric(rounded)));
            prop_assert_eq!(run(Step::Remainder), lowered(x % y));
        }
    }

    #[test]
    fn patterns_take_what_trying_every_way_takes(text in "[ab%_]{0,8}", pattern in "[ab%_\\\\]{0,6}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = like_by_trying(&chars(&text), &chars(&pattern));
        prop_assert_eq!(is_like(&text, &pattern, &mut Work::default()), Ok(expected));
    }
}

#[test]
fn truth_has_three_values() {
    let (yes, no, unknown) = (Some(true), Some(false), None);
    for (a, b, both, either) in [
        (yes, yes, yes, yes),
        (yes, no, no, yes),
        (yes, unknown, unknown, yes),
        (no, no, no, no),
        (no, unknown, no, unknown),
        (unknown, unknown, unknown, unknown),
    ] {
        for (a, b) in [(a, b), (b, a)] {
            let run = |step| value_of(vec![boolean(a), boolean(b), step]);
            let expected = |value: Option<bool>| Ok(value.map_or(Value::Null, Value::Boolean));
            assert_eq!(run(Step::And), expected(both), "{a:?} and {b:?}");
            assert_eq!(run(Step::Or), expected(either), "{a:?} or {b:?}");
        }
    }
    assert_eq!(value_of(vec![boolean(None), Step::Not]), Ok(Value::Null));
    assert_eq!(value_of(vec![boolean(None), Step::IsNull]), Ok(Value::Boolean(true)));
    let one_of = |others: [Option<i64>; 2]| {
        let others = others.map(integer);
        value_of([vec![integer(Some(1))], others.to_vec(), vec![Step::In(2)]].concat())
    };
    assert_eq!(one_of([None, Some(1)]), Ok(Value::Boolean(true)));
    assert_eq!(one_of([None, Some(2)]), Ok(Value::Null));
    let between = vec![integer(Some(5)), integer(None), integer(Some(4)), Step::Between];
    assert_eq!(value_of(between), Ok(Value::Boolean(false)));
}

#[test]
fn bounds_of_numbers_are_kept_and_comparisons_exact_beyond_them() {
    let most = 10i128.pow(38) - 1;
    let overflow = Err(ResultCode::ArithmeticOverflow);
    assert_eq!(value_of(vec![numeric(most, 0), numeric(1, 0), Step::Add]), overflow);
    assert_eq!(value_of(vec![integer(Some(i64::MIN)), Step::Negate]), overflow);
    // Lifted to the scale of the other, the first has 76 digits.
    assert_eq!(
        value_of(vec![numeric(most, 0), numeric(1, 38), Step::Greater]),
        Ok(Value::Boolean(true))
    );
    assert_eq!(
        value_of(vec![numeric(1, 38), numeric(-most, 0), Step::Less]),
        Ok(Value::Boolean(false))
    );
    let third = vec![numeric(1, 0), numeric(3, 0), Step::Divide];
    assert_eq!(value_of(third), Ok(Value::Numeric(333_333)));
    let small = Step::Cast(ColumnType::Smallint);
    let out_of_range = Err(ResultCode::OutOfRange);
    assert_eq!(value_of(vec![integer(Some(40_000)), small.clone()]), out_of_range);
    assert_eq!(value_of(vec![numeric(-25, 1), small]), Ok(Value::Integer(-3)));
}

#[test]
fn unsound_expressions_are_no_definitions() {
    let fine = |steps: Vec<Step>| check_default(&Expression(steps), ColumnType::Bigint).is_ok();
    assert!(fine(vec![integer(Some(1))]));
    assert!(fine(vec![numeric(15, 1)]), "a cast makes it fit");
    assert!(!fine(vec![text("x")]));
    assert!(!fine(vec![]));
    assert!(!fine(vec![integer(None), integer(None)]));
    assert!(!fine(vec![Step::Add]));
    assert!(!fine(vec![integer(None), text("x"), Step::Add]));
    assert!(!fine(vec![Step::Coalesce(0)]));
    let deep = |depth: usize| {
        let adds = vec![Step::Add; depth - 1];
        [vec![integer(Some(1)); depth], adds].concat()
    };
    assert!(fine(deep(DEPTH_MAX)));
    assert!(!fine(deep(DEPTH_MAX + 1)));
    let long = |negations| [vec![integer(Some(1))], vec![Step::Negate; negations]].concat();
    assert!(fine(long(STEPS_MAX - 1)));
    assert!(!fine(long(STEPS_MAX)));
    let definition = kanjo_types::relation::Definition {
        columns: Vec::new(),
        primary: Vec::new(),
        constraints: Vec::new(),
    };
    let check = |steps| check_condition(&Expression(steps), &definition).is_ok();
    assert!(check(vec![boolean(None)]));
    assert!(!check(vec![integer(Some(1))]), "not boolean");
    assert!(!check(vec![Step::Now, Step::IsNull]), "replicas have no clock");
    assert!(!check(vec![Step::Column(0), Step::IsNull]), "no such column");
}

#[test]
fn work_ends() {
    let pattern = format!("{}b", "%a".repeat(60));
    let text = "a".repeat(60_000);
    let mut work = Work(1_000_000);
    let mut found = Ok(false);
    for _ in 0..1_000 {
        found = is_like(&text, &pattern, &mut work);
        if found.is_err() {
            break;
        }
    }
    assert_eq!(found, Err(ResultCode::TooMuch));
}
