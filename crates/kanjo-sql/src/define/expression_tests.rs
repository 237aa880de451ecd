//! Expressions of CHECK and DEFAULT: what they come to, and their text.

use super::testing::{World, any_type, any_value};
use super::{default_value, expression, expression_text};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use kanjo_ledger::expression::{Given, check_condition};
use kanjo_types::expression::{Expression, Step};
use kanjo_types::relation::{Column, ColumnType, Definition, Identity};
use kanjo_types::row::Value;
use proptest::prelude::*;

/// Columns of all types, one with a name that needs quotes.
fn wide() -> Definition {
    let column = |name: &str, kind| Column {
        name: name.to_owned(),
        kind,
        not_null: false,
        default: None,
        identity: Identity::None,
        added: None,
    };
    Definition {
        columns: vec![
            column("id", ColumnType::Integer),
            column("small", ColumnType::Smallint),
            column("big", ColumnType::Bigint),
            column("price", ColumnType::Numeric { precision: 12, scale: 2 }),
            column("select", ColumnType::Numeric { precision: 38, scale: 0 }),
            column("status", ColumnType::Text(Some(20))),
            column("Name \"x\"", ColumnType::Text(None)),
            column("flag", ColumnType::Boolean),
            column("interval", ColumnType::Date),
            column("position", ColumnType::Timestamptz),
            column("case", ColumnType::Uuid),
            column("data", ColumnType::Bytea),
            column("map", ColumnType::Jsonb),
        ],
        primary: vec![0],
        constraints: vec![],
    }
}

fn compiled(text: &str) -> Result<Expression, crate::error::SqlError> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(4_000);
    parser = parser.try_with_sql(text).unwrap();
    let expr = parser.parse_expr().unwrap_or_else(|error| panic!("{text}: {error}"));
    expression::condition(&expr, &wide(), "t")
}

#[test]
fn conditions_take_their_types_from_their_neighbours() {
    for (text, shown) in [
        ("price >= 0", "price >= 0"),
        ("t.PRICE > '1.505'", "price > 1.505"),
        ("status in ('open', 'paid')", "status IN ('open', 'paid')"),
        ("\"interval\" >= '2026-01-31'", "\"interval\" >= '2026-01-31'::date"),
        ("'2026-01-31' <= \"interval\"", "'2026-01-31'::date <= \"interval\""),
        ("\"position\" > \"interval\"", "\"position\" > \"interval\"::timestamp with time zone"),
        ("flag is not true", "NOT COALESCE(flag, false)"),
        ("NOT flag OR small = -1", "(NOT flag) OR (small = (-1))"),
        ("id between 1 and 5 * 2", "id BETWEEN 1 AND (5 * 2)"),
        ("status NOT LIKE 'a%' AND id IS NOT NULL", "(status NOT LIKE 'a%') AND (id IS NOT NULL)"),
        ("length(trim_me.status) > 1", ""),
        ("char_length(status) <= 5", "char_length(status) <= 5"),
        ("coalesce(price, 0) > 0", "COALESCE(price, 0::numeric(38,2)) > 0"),
        ("lower(status) = status", "lower(status) = status"),
        ("CAST(price AS integer) % 2 = 0", "(price::integer % 2) = 0"),
        (
            "\"case\" <> 'a0eebc999c0b4ef8bb6d6bb9bd380a11'",
            "\"case\" <> 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
        ),
        ("data = '\\x00'", "data = '\\x00'::bytea"),
        ("(price - -5) > +3", "(price - (-5)) > 3"),
        ("date '2026-01-31' < \"interval\"", "'2026-01-31'::date < \"interval\""),
        ("status = E'it\\'s'", "status = 'it''s'"),
    ] {
        match compiled(text) {
            Ok(expression) => assert_eq!(expression_text(&expression, &wide()), shown, "{text}"),
            Err(error) => assert!(shown.is_empty() && error.code == "42P01", "{text}: {error:?}"),
        }
    }
}

#[test]
fn conditions_that_are_not_here_are_refused_by_name() {
    for (text, code, words) in [
        ("CASE WHEN flag THEN true END", "0A000", "CASE"),
        ("status || 'x' = 'yx'", "0A000", "operator ||"),
        ("status ILIKE 'a'", "0A000", "ILIKE"),
        ("status ~ 'a'", "0A000", "operator ~"),
        ("id = (SELECT 1)", "0A000", "sub-query"),
        ("id = ANY (ARRAY[1])", "0A000", "ANY"),
        ("substring(status from 1) = 'a'", "0A000", "SUBSTRING"),
        ("round(price) = 1", "0A000", "round"),
        ("\"position\" < now()", "0A000", "now"),
        ("\"interval\" < CURRENT_DATE", "0A000", "current_date"),
        ("status = USER", "0A000", "user"),
        ("id IS DISTINCT FROM 1", "0A000", "IS DISTINCT FROM"),
        ("status LIKE 'a' ESCAPE 'b'", "0A000", "ESCAPE"),
        ("status = 5", "42883", "character varying(20) = integer"),
        ("map = '{}'", "42883", "jsonb = jsonb"),
        ("\"interval\" + 1 > \"interval\"", "42883", "date + integer"),
        ("id AND flag", "42804", "boolean"),
        ("length(id) = 1", "42883", "length(integer)"),
        ("coalesce(id, status) = 1", "42804", "COALESCE"),
        ("status::integer = 1", "42846", "integer"),
        ("id = 'x'", "22P02", "integer"),
        ("\"interval\" = '2026-02-30'", "22008", "2026-02-30"),
        ("colour = 1", "42703", "colour"),
        ("price > 1e40", "22003", "38 digits"),
    ] {
        let error = compiled(text).unwrap_err();
        assert_eq!(error.code, code, "{text}: {error:?}");
        assert!(error.message.contains(words), "{text}: {error:?}");
    }
}

#[test]
fn long_lists_are_cut_and_long_expressions_refused() {
    let list = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
    let long = compiled(&format!("id IN ({})", list(100))).unwrap();
    let lists = long.0.iter().filter(|step| matches!(step, Step::In(_))).count();
    assert_eq!((lists, check_condition(&long, &wide())), (5, Ok(())));
    assert_eq!(compiled(&format!("id IN ({})", list(300))).unwrap_err().code, "54001");
    assert!(compiled(&vec!["flag"; 128].join(" AND ")).is_ok());
    assert_eq!(compiled(&vec!["flag"; 129].join(" AND ")).unwrap_err().code, "54001");
    assert_eq!(compiled(&vec!["flag"; 1_900].join(" AND ")).unwrap_err().code, "54001");
    let deep = format!("{}flag{}", "flag AND (".repeat(40), ")".repeat(40));
    assert_eq!(compiled(&deep).unwrap_err().code, "54001");
}

#[test]
fn defaults_give_values_of_their_columns() {
    let mut world = World::default();
    world.run(
        "CREATE TABLE t (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, price numeric(12,2) \
         DEFAULT 1.005, day date DEFAULT CURRENT_DATE, at timestamptz DEFAULT now() NOT NULL, \
         who text DEFAULT SESSION_USER, state varchar(8) DEFAULT 'open', n smallint DEFAULT 2 * 3, \
         yes boolean DEFAULT true, nothing text DEFAULT NULL, since date DEFAULT '2026-01-31')",
    );
    let table = world.table("t");
    let given = Given { now: 86_400_000_001, uuid: [7; 16], user: "kju1".to_owned() };
    let values: Vec<Value> =
        table.columns.iter().map(|column| default_value(column, &given).unwrap()).collect();
    let expected = [
        Value::Uuid([7; 16]),
        Value::Numeric(101),
        Value::Date(1),
        Value::Timestamp(86_400_000_001),
        Value::Text("kju1".to_owned()),
        Value::Text("open".to_owned()),
        Value::Integer(6),
        Value::Boolean(true),
        Value::Null,
        Value::Date(20_484),
    ];
    assert_eq!(values, expected);
    let shown: Vec<String> = table
        .columns
        .iter()
        .filter_map(|column| Some(expression_text(column.default.as_ref()?, &table)))
        .collect();
    assert_eq!(
        shown,
        [
            "gen_random_uuid()",
            "1.005",
            "now()::date",
            "now()",
            "CURRENT_USER",
            "'open'",
            "2 * 3",
            "true",
            "'2026-01-31'::date"
        ]
    );
}

/// A sound expression of a type, as steps.
fn steps(kind: ColumnType, depth: u32) -> BoxedStrategy<Vec<Step>> {
    let leaf = any_value(kind).prop_map(move |value| vec![Step::Constant { kind, value }]).boxed();
    let definition = wide();
    let columns: Vec<u16> = (0..definition.columns.len() as u16)
        .filter(|column| definition.type_of(*column) == Some(kind))
        .collect();
    let leaf = match columns.is_empty() {
        true => leaf,
        false => prop_oneof![
            leaf,
            prop::sample::select(columns).prop_map(|column| vec![Step::Column(column)])
        ]
        .boxed(),
    };
    if depth == 0 {
        return leaf;
    }
    let inner = depth - 1;
    let joined = |of: Vec<Vec<Step>>, step: Step| {
        of.into_iter().flatten().chain(std::iter::once(step)).collect::<Vec<Step>>()
    };
    let same = move |count: usize, step: Step| {
        prop::collection::vec(steps(kind, inner), count)
            .prop_map(move |of| joined(of, step.clone()))
            .boxed()
    };
    let over = move |of: ColumnType, count: usize, step: Step| {
        prop::collection::vec(steps(of, inner), count)
            .prop_map(move |of| joined(of, step.clone()))
            .boxed()
    };
    let mut choices = vec![leaf, same(1, Step::Cast(kind))];
    match kind {
        ColumnType::Boolean => {
            choices.extend([same(2, Step::And), same(2, Step::Or), same(1, Step::Not)]);
            let comparable = any_type().prop_filter("comparable", |of| *of != ColumnType::Jsonb);
            choices.push(
                comparable
                    .prop_flat_map(move |of| {
                        prop_oneof![
                            over(of, 2, Step::Equal),
                            over(of, 2, Step::Less),
                            over(of, 2, Step::GreaterEqual),
                            over(of, 3, Step::Between),
                            over(of, 4, Step::In(3)),
                            over(of, 1, Step::IsNull),
                        ]
                    })
                    .boxed(),
            );
            choices.push(over(ColumnType::Text(None), 2, Step::Like));
        }
        ColumnType::Smallint | ColumnType::Integer | ColumnType::Bigint => {
            choices.extend([
                same(2, Step::Subtract),
                same(2, Step::Multiply),
                same(1, Step::Negate),
                same(3, Step::Coalesce(3)),
            ]);
            let number = ColumnType::Numeric { precision: 9, scale: 3 };
            choices.push(over(number, 1, Step::Cast(kind)));
        }
        ColumnType::Text(None) => {
            choices.extend([same(1, Step::Lower), same(2, Step::Coalesce(2))]);
            choices.push(over(ColumnType::Text(Some(5)), 1, Step::Cast(kind)));
        }
        ColumnType::Text(Some(_)) => {
            choices.push(over(ColumnType::Text(None), 1, Step::Cast(kind)));
        }
        ColumnType::Numeric { .. } => {
            choices.push(over(ColumnType::Integer, 1, Step::Cast(kind)));
        }
        _ => {}
    }
    prop::strategy::Union::new(choices).boxed()
}

proptest! {
    #[test]
    fn the_text_of_an_expression_gives_its_steps_again(of in steps(ColumnType::Boolean, 3)) {
        let expression = Expression(of);
        prop_assume!(check_condition(&expression, &wide()).is_ok());
        let text = expression_text(&expression, &wide());
        let read = compiled(&text);
        prop_assert_eq!(read, Ok(expression), "{}", text);
    }
}
