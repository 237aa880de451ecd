//! Statements as people write them, and what they come to.

use super::testing::{CLERK, OWNER, World};
use super::{expression_text, set_schema};
use kanjo_types::RelationId;
use kanjo_types::expression::Expression;
use kanjo_types::relation::{
    ColumnType, Constraint, Definition, Identity, LedgerTable, OnDelete, RIGHT_DELETE,
    RIGHT_INSERT, RIGHT_SELECT, RIGHTS_ALL, RelationChange, RelationKind, TableGrant, Target,
};
use kanjo_types::row::Value;

/// The tables of PostgreSQL's manual, section 5.5.
fn shop() -> World {
    let mut world = World::default();
    world.run(
        "CREATE TABLE products (product_no integer PRIMARY KEY, name text, price numeric(12,2) \
         CHECK (price > 0), discounted_price numeric(12,2) CHECK (discounted_price > 0), \
         CHECK (price > discounted_price))",
    );
    world.run("CREATE TABLE orders (order_id integer PRIMARY KEY, shipping_address text)");
    world.run(
        "CREATE TABLE order_items (product_no integer REFERENCES products ON DELETE RESTRICT, \
         order_id integer REFERENCES orders ON DELETE CASCADE, quantity integer, \
         PRIMARY KEY (product_no, order_id))",
    );
    world
}

fn names_of(definition: &Definition) -> Vec<&str> {
    definition.constraints.iter().map(Constraint::name).collect()
}

fn check_of<'a>(definition: &'a Definition, name: &str) -> &'a Expression {
    match definition.constraint(name) {
        Some(Constraint::Check { expression, .. }) => expression,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_tables_of_the_manual_are_made() {
    let world = shop();
    let products = world.table("products");
    let names = ["products_price_check", "products_discounted_price_check", "products_check"];
    assert_eq!(names_of(&products), names);
    assert_eq!((&products.primary[..], products.columns[0].not_null), (&[0][..], true));
    let check = check_of(&products, "products_check");
    assert_eq!(expression_text(check, &products), "price > discounted_price");
    let items = world.table("order_items");
    assert_eq!(items.primary, [0, 1]);
    assert_eq!(
        items.constraints[1],
        Constraint::Foreign {
            name: "order_items_order_id_fkey".to_owned(),
            columns: vec![1],
            target: Target::Rows { relation: RelationId(2), columns: vec![0] },
            on_delete: OnDelete::Cascade,
        }
    );
}

#[test]
fn all_column_types_have_their_spellings() {
    let mut world = World::default();
    let defined = world.run(
        "CREATE TABLE t (a bool, b int2, c int, d int8, e numeric(12,2), f numeric(5), g numeric, \
         h varchar(20), i character varying, j text, k bytea, l uuid, m date, n timestamptz, \
         o timestamp with time zone, p json, q jsonb, r decimal(3,3), id bigserial PRIMARY KEY)",
    );
    use ColumnType::{
        Bigint, Boolean, Bytea, Date, Integer, Jsonb, Numeric, Smallint, Text, Timestamptz, Uuid,
    };
    let numeric = |precision, scale| Numeric { precision, scale };
    let table = world.table("t");
    let kinds: Vec<ColumnType> = table.columns.iter().map(|column| column.kind).collect();
    let expected = [
        Boolean,
        Smallint,
        Integer,
        Bigint,
        numeric(12, 2),
        numeric(5, 0),
        numeric(38, 9),
        Text(Some(20)),
        Text(None),
        Text(None),
        Bytea,
        Uuid,
        Date,
        Timestamptz,
        Timestamptz,
        Jsonb,
        Jsonb,
        numeric(3, 3),
        Bigint,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(defined.notices, ["column \"g\": numeric without a precision is numeric(38,9)"]);
    let id = table.columns.last().unwrap();
    assert_eq!((id.identity, id.not_null), (Identity::ByDefault, true));
}

#[test]
fn types_that_are_not_here_are_refused_by_name() {
    let world = World::default();
    for (kind, code) in [
        ("real", "0A000"),
        ("double precision", "0A000"),
        ("float8", "0A000"),
        ("money", "0A000"),
        ("time", "0A000"),
        ("timestamp", "0A000"),
        ("timestamptz(3)", "0A000"),
        ("interval", "0A000"),
        ("integer[]", "0A000"),
        ("char(3)", "0A000"),
        ("citext", "0A000"),
        ("inet", "0A000"),
        ("numeric(39,2)", "22023"),
        ("numeric(5,6)", "22023"),
        ("varchar(0)", "22023"),
        ("colour", "42704"),
    ] {
        let error = world.refusal(&format!("CREATE TABLE t (id int PRIMARY KEY, c {kind})"));
        assert_eq!(error.code, code, "{kind}: {error:?}");
        let name = kind.split(['(', '[']).next().unwrap();
        assert!(error.message.to_lowercase().contains(name), "{kind}: {error:?}");
    }
}

#[test]
fn constraints_are_named_as_postgresql_names_them() {
    let mut world = World::default();
    world.run(
        "CREATE TABLE t (id int CONSTRAINT \"Key\" PRIMARY KEY, a int UNIQUE, b int, \
         UNIQUE NULLS NOT DISTINCT (a, b), UNIQUE (a), CONSTRAINT t_check CHECK (a <> b), \
         CHECK (a + b > 0), CHECK (a > 0), CHECK (1 > 0), up int REFERENCES t)",
    );
    let table = world.table("t");
    assert_eq!(
        names_of(&table),
        [
            "t_a_key",
            "t_a_b_key",
            "t_a_key1",
            "t_up_fkey",
            "t_check",
            "t_check1",
            "t_a_check",
            "t_check2"
        ]
    );
    let Constraint::Unique { nulls_distinct: false, .. } = &table.constraints[1] else {
        panic!("{:?}", table.constraints[1]);
    };
    // Indexes share the names of their schema; a long name is cut where it is longest.
    world.run("CREATE TABLE t_b_idx (id int PRIMARY KEY)");
    world.run("CREATE INDEX ON t (b)");
    assert_eq!(world.record("t").indexes[0].name, "t_b_idx1");
    let long = "l".repeat(60);
    world.run(&format!("CREATE TABLE {long} (id int PRIMARY KEY, a int UNIQUE)"));
    assert_eq!(names_of(&world.table(&long)), [format!("{}_a_key", "l".repeat(57))]);
}

#[test]
fn foreign_keys_reach_keys_of_tables_and_the_ledgers_own_tables() {
    let mut world = World::default();
    world.run("CREATE TABLE pairs (x int, y bigint, PRIMARY KEY (x, y))");
    world.run(
        "CREATE TABLE t (id uuid PRIMARY KEY, a bigint, b smallint, up uuid REFERENCES t (id) \
         ON DELETE SET NULL, owner text REFERENCES users, wallet text REFERENCES wallets(id), \
         unit int REFERENCES tokens, symbol varchar(12) REFERENCES kanjo.tokens (symbol), \
         FOREIGN KEY (a, b) REFERENCES pairs (y, x) DEFERRABLE INITIALLY DEFERRED)",
    );
    let table = world.table("t");
    let targets: Vec<Target> = table
        .constraints
        .iter()
        .map(|constraint| match constraint {
            Constraint::Foreign { target, .. } => target.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let rows = |relation, columns: &[u16]| Target::Rows {
        relation: RelationId(relation),
        columns: columns.to_vec(),
    };
    assert_eq!(
        targets,
        [
            rows(2, &[0]),
            Target::Ledger(LedgerTable::Users),
            Target::Ledger(LedgerTable::Wallets),
            Target::Ledger(LedgerTable::Tokens),
            Target::Ledger(LedgerTable::Tokens),
            // In the order of the key that it leads to.
            rows(1, &[0, 1]),
        ]
    );
    let last = |world: &World, name: &str| match world.table(name).constraints.last() {
        Some(Constraint::Foreign { columns, target, .. }) => (columns.clone(), target.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(last(&world, "t").0, [2, 1]);
    // A key in the given order comes before one in another.
    world.run("ALTER TABLE pairs ADD UNIQUE (y, x)");
    world.run("CREATE TABLE u (a int, b int, PRIMARY KEY (a), FOREIGN KEY (a, b) REFERENCES pairs (y, x))");
    assert_eq!(last(&world, "u"), (vec![0, 1], rows(1, &[1, 0])));
    // The ledger's tables are in `public` only, beside tables of the same name elsewhere.
    let elsewhere = "CREATE TABLE w (id text PRIMARY KEY REFERENCES sales.users)";
    assert_eq!(world.refusal(elsewhere).code, "42P01");
    world.run("CREATE TABLE sales.users (id text PRIMARY KEY)");
    world.run(elsewhere);
    assert_eq!(last(&world, "w").1, rows(4, &[0]));
}

#[test]
fn definitions_that_do_not_go_together_are_refused_with_names_and_codes() {
    let world = shop();
    for (text, code, words) in [
        ("CREATE TABLE t (a int)", "0A000", "no primary key"),
        ("CREATE TABLE t (a int PRIMARY KEY, a text)", "42701", "\"a\" specified more than once"),
        ("CREATE TABLE t (a int PRIMARY KEY, b int PRIMARY KEY)", "42P16", "multiple primary keys"),
        ("CREATE TABLE t (a int PRIMARY KEY, UNIQUE (b))", "42703", "column \"b\" named in"),
        ("CREATE TABLE t (a int, PRIMARY KEY (a, a))", "42701", "\"a\" appears twice"),
        ("CREATE TABLE t (a jsonb PRIMARY KEY)", "0A000", "\"a\" of type jsonb"),
        ("CREATE TABLE t (a int NULL PRIMARY KEY)", "42601", "conflicting NULL"),
        ("CREATE TABLE t (a int PRIMARY KEY DEFERRABLE)", "0A000", "DEFERRABLE"),
        ("CREATE TABLE t (a text PRIMARY KEY GENERATED ALWAYS AS IDENTITY)", "22023", "\"a\""),
        ("CREATE TABLE t (a int PRIMARY KEY, CHECK (b > 0))", "42703", "column \"b\""),
        ("CREATE TABLE t (a int PRIMARY KEY, CHECK (a + 1))", "42804", "not type integer"),
        ("CREATE TABLE t (a int PRIMARY KEY, b int DEFAULT a)", "0A000", "column reference"),
        ("CREATE TABLE t (a int PRIMARY KEY, b int DEFAULT 'x')", "22P02", "integer: \"x\""),
        ("CREATE TABLE t (a int PRIMARY KEY, b bool DEFAULT 1)", "42804", "column \"b\" is of"),
        ("CREATE TABLE t (a int PRIMARY KEY, b int DEFAULT 1/0)", "22012", "division by zero"),
        ("CREATE TABLE t (a int PRIMARY KEY, b smallint DEFAULT 40000)", "22003", "smallint"),
        ("CREATE TABLE t (a text PRIMARY KEY REFERENCES products)", "42804", "t_a_fkey"),
        ("CREATE TABLE t (a text PRIMARY KEY REFERENCES products (name))", "42830", "products"),
        ("CREATE TABLE t (a int PRIMARY KEY REFERENCES products (nr))", "42703", "\"nr\""),
        ("CREATE TABLE t (a int PRIMARY KEY REFERENCES order_items)", "42830", "disagree"),
        ("CREATE TABLE t (a int PRIMARY KEY REFERENCES nothing)", "42P01", "\"nothing\""),
        ("CREATE TABLE t (a text PRIMARY KEY REFERENCES transactions)", "0A000", "transactions"),
        ("CREATE TABLE t (a int PRIMARY KEY REFERENCES wallets)", "42804", "t_a_fkey"),
        ("CREATE TABLE t (a text PRIMARY KEY REFERENCES tokens (id))", "42804", "t_a_fkey"),
        (
            "CREATE TABLE t (a int PRIMARY KEY REFERENCES products ON UPDATE CASCADE)",
            "0A000",
            "ON UPDATE",
        ),
        (
            "CREATE TABLE t (a int PRIMARY KEY REFERENCES products ON DELETE SET DEFAULT)",
            "0A000",
            "SET DEFAULT",
        ),
        ("CREATE TABLE products (a int PRIMARY KEY)", "42P07", "\"products\" already exists"),
        ("CREATE TABLE products_pkey (a int PRIMARY KEY)", "42P07", "products_pkey"),
        ("CREATE TABLE users (a int PRIMARY KEY)", "42P07", "\"users\" already exists"),
        ("CREATE TABLE pg_catalog.t (a int PRIMARY KEY)", "42939", "pg_catalog"),
        ("CREATE TABLE kanjo_history.t (a int PRIMARY KEY)", "42939", "kanjo_history"),
        ("CREATE TABLE a.b.c (a int PRIMARY KEY)", "0A000", "cross-database"),
        ("CREATE TEMP TABLE t (a int PRIMARY KEY)", "0A000", "TEMPORARY"),
        ("CREATE TABLE t AS SELECT 1", "0A000", "CREATE TABLE AS"),
        (
            "CREATE TABLE t (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a) STORED)",
            "0A000",
            "\"b\"",
        ),
        (
            "CREATE TABLE t (a int PRIMARY KEY, CONSTRAINT x UNIQUE (a), CONSTRAINT x CHECK (a > 0))",
            "42710",
            "\"x\"",
        ),
        ("CREATE INDEX ON products (lower(name))", "0A000", "lower(name)"),
        ("CREATE INDEX ON products (name) WHERE price > 0", "0A000", "partial"),
        ("CREATE INDEX ON products USING gin (name)", "0A000", "GIN"),
        ("CREATE INDEX ON products (colour)", "42703", "\"colour\""),
        ("CREATE INDEX products_pkey ON products (name)", "42P07", "products_pkey"),
        ("CREATE INDEX ON wallets (id)", "42501", "wallets"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "0A000", "MATERIALIZED"),
        ("CREATE SEQUENCE s", "0A000", "SEQUENCE"),
        ("COMMENT ON TABLE products IS 'x'", "0A000", "COMMENT ON"),
        ("CREATE SCHEMA pg_mine", "42939", "pg_mine"),
    ] {
        let error = world.refusal(text);
        assert_eq!(error.code, code, "{text}: {error:?}");
        assert!(error.message.contains(words), "{text}: {error:?}");
    }
    let long = format!("CREATE TABLE {} (a int PRIMARY KEY)", "x".repeat(64));
    assert_eq!(world.refusal(&long).code, "42622");
    let many: Vec<String> = (0..257).map(|at| format!("c{at} int")).collect();
    let many = format!("CREATE TABLE t ({}, PRIMARY KEY (c0))", many.join(", "));
    assert_eq!(world.refusal(&many).code, "54011");
}

#[test]
fn what_is_there_already_is_skipped_where_the_statement_says_so() {
    let world = shop();
    for text in [
        "CREATE TABLE IF NOT EXISTS products (x int)",
        "CREATE INDEX IF NOT EXISTS products_pkey ON products (name)",
        "CREATE SCHEMA IF NOT EXISTS sales",
        "CREATE SCHEMA sales",
        "ALTER TABLE IF EXISTS nothing ADD COLUMN x int",
        "ALTER TABLE products ADD COLUMN IF NOT EXISTS name int",
        "ALTER TABLE products DROP CONSTRAINT IF EXISTS nothing",
        "DROP TABLE IF EXISTS nothing, nothing_else",
        "DROP VIEW IF EXISTS nothing",
        "DROP INDEX IF EXISTS nothing",
        "DROP SEQUENCE IF EXISTS nothing",
        "DROP SCHEMA nothing",
    ] {
        let defined = world.plan(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert!(defined.changes.is_empty() && !defined.notices.is_empty(), "{text}: {defined:?}");
    }
}

#[test]
fn a_table_is_altered_action_by_action() {
    let mut world = shop();
    let defined = world.run(
        "ALTER TABLE products ADD COLUMN state varchar(10) NOT NULL DEFAULT 'new' CHECK \
         (state IN ('new', 'old')), ADD weight numeric(6,3) DEFAULT 1.5, ADD CONSTRAINT named \
         UNIQUE (name), ADD CHECK (weight < 100), DROP CONSTRAINT products_check",
    );
    assert_eq!((defined.tag, defined.changes.len()), ("ALTER TABLE", 6));
    let table = world.table("products");
    assert_eq!(table.columns[4].added, Some(Value::Text("new".to_owned())));
    assert_eq!(table.columns[5].added, Some(Value::Numeric(1_500)));
    assert_eq!(names_of(&table)[2..], ["products_state_check", "named", "products_weight_check"]);
    world.run("ALTER TABLE products OWNER TO clerk");
    assert_eq!(world.record("products").owner, CLERK);
    world.run("ALTER TABLE products RENAME TO goods");
    let statement = set_schema("alter table goods set schema \"Sales\";").unwrap();
    let moved = super::plan(&statement, &world).unwrap().unwrap();
    let change = RelationChange::Rename { schema: "Sales".to_owned(), name: "goods".to_owned() };
    assert_eq!(moved.changes[0].change, change);
    assert_eq!(set_schema("ALTER TABLE goods RENAME TO x"), None);
    for (text, code) in [
        ("ALTER TABLE goods RENAME COLUMN name TO title", "0A000"),
        ("ALTER TABLE goods DROP COLUMN name", "0A000"),
        ("ALTER TABLE goods ALTER COLUMN name TYPE varchar(10)", "0A000"),
        ("ALTER TABLE goods ALTER COLUMN name SET NOT NULL", "0A000"),
        ("ALTER TABLE goods ADD COLUMN at timestamptz DEFAULT now()", "0A000"),
        ("ALTER TABLE goods ADD COLUMN name text", "42701"),
        ("ALTER TABLE goods ADD COLUMN x int PRIMARY KEY", "42P16"),
        ("ALTER TABLE goods ADD PRIMARY KEY (name)", "42P16"),
        ("ALTER TABLE goods ADD CHECK (price > 1) NOT VALID", "0A000"),
        ("ALTER TABLE goods DROP CONSTRAINT goods_pkey", "0A000"),
        ("ALTER TABLE goods DROP CONSTRAINT nothing", "42704"),
        ("ALTER TABLE goods RENAME TO orders", "42P07"),
        ("ALTER TABLE goods OWNER TO nobody", "42704"),
        ("ALTER TABLE products ADD x int", "42P01"),
        ("ALTER TABLE wallets ADD x int", "42501"),
    ] {
        let error = world.refusal(text);
        assert_eq!(error.code, code, "{text}: {error:?}");
    }
}

#[test]
fn tables_go_when_nothing_references_them_or_with_what_references_them() {
    let mut world = shop();
    let error = world.refusal("DROP TABLE products");
    assert_eq!(error.code, "2BP01");
    assert!(error.hint.unwrap().contains("order_items_product_no_fkey on table order_items"));
    assert_eq!(world.refusal("DROP TABLE orders, products").code, "2BP01");
    let all = world.plan("DROP TABLE products, orders, order_items").unwrap();
    // Who references goes first.
    assert_eq!(all.changes[0].relation, Some(RelationId(3)));
    let defined = world.run("DROP TABLE products CASCADE");
    assert_eq!(
        defined.notices,
        ["drop cascades to constraint order_items_product_no_fkey on table order_items"]
    );
    assert_eq!(names_of(&world.table("order_items")), ["order_items_order_id_fkey"]);
    // Two that reference each other.
    world.run("CREATE TABLE a (id int PRIMARY KEY)");
    world.run("CREATE TABLE b (id int PRIMARY KEY REFERENCES a)");
    world.run("ALTER TABLE a ADD FOREIGN KEY (id) REFERENCES b");
    assert_eq!(world.refusal("DROP TABLE a").code, "2BP01");
    world.run("DROP TABLE a, b");
    assert_eq!(world.plan("DROP TABLE a").unwrap_err().code, "42P01");
    world.run("CREATE TABLE sales.a (id int PRIMARY KEY)");
    assert_eq!(world.refusal("DROP SCHEMA sales").code, "2BP01");
    assert_eq!(world.run("DROP SCHEMA sales CASCADE").changes.len(), 1);
    assert_eq!(world.refusal("DROP TABLE users").code, "42501");
}

#[test]
fn indexes_come_and_go_and_unique_ones_are_constraints() {
    let mut world = shop();
    world.run("CREATE INDEX CONCURRENTLY by_name ON products (name DESC, price)");
    world.run("CREATE UNIQUE INDEX one_name ON products USING btree (name)");
    let record = world.record("products");
    assert_eq!(record.indexes[0].columns, [1, 2]);
    assert!(world.table("products").unique_over(&[1]).is_some());
    world.run("CREATE TABLE t (id int PRIMARY KEY, of text REFERENCES products (name))");
    assert_eq!(world.refusal("DROP INDEX one_name").code, "2BP01");
    assert_eq!(world.refusal("ALTER TABLE products DROP CONSTRAINT one_name").code, "2BP01");
    assert_eq!(world.run("DROP INDEX by_name, one_name CASCADE").changes.len(), 3);
    assert!(names_of(&world.table("t")).is_empty() && world.record("products").indexes.is_empty());
    assert_eq!(world.refusal("DROP INDEX products_pkey").code, "2BP01");
    assert_eq!(world.refusal("DROP INDEX by_name").code, "42704");
}

#[test]
fn views_are_texts_and_are_replaced_with_their_grants() {
    let mut world = shop();
    world.run("CREATE VIEW cheap (no, title) AS SELECT product_no, name FROM products");
    let query = |world: &World| match world.record("cheap").kind {
        RelationKind::View(query) => query,
        RelationKind::Table(_) => panic!("a table"),
    };
    let text = "SELECT * FROM (SELECT product_no, name FROM products) AS cheap (no, title)";
    assert_eq!(query(&world), text);
    world.run("GRANT SELECT ON cheap TO PUBLIC");
    assert_eq!(world.refusal("CREATE VIEW cheap AS SELECT 1").code, "42P07");
    assert_eq!(world.run("CREATE OR REPLACE VIEW cheap AS SELECT 1 AS x").changes.len(), 3);
    assert_eq!(query(&world), "SELECT 1 AS x");
    assert_eq!(world.record("cheap").grants.len(), 1);
    assert!(
        world.plan("CREATE OR REPLACE VIEW cheap AS SELECT 1 AS x").unwrap().changes.is_empty()
    );
    for (text, code) in [
        ("CREATE OR REPLACE VIEW products AS SELECT 1", "42809"),
        ("DROP TABLE cheap", "42809"),
        ("DROP VIEW products", "42809"),
        ("ALTER TABLE cheap ADD x int", "42809"),
        ("CREATE INDEX ON cheap (x)", "42809"),
        ("CREATE TABLE t (a int PRIMARY KEY REFERENCES cheap)", "42809"),
    ] {
        assert_eq!(world.refusal(text).code, code, "{text}");
    }
    world.run("ALTER TABLE cheap RENAME TO dear");
    world.run("DROP VIEW dear");
}

#[test]
fn grants_are_added_to_and_taken_from_those_that_are_there() {
    let mut world = shop();
    world.run("GRANT SELECT, INSERT ON products, orders TO clerk, owner");
    world.run("GRANT SELECT ON TABLE products TO PUBLIC");
    let of = |to, rights| TableGrant { to, rights };
    let both = [of(None, RIGHT_SELECT), of(Some(CLERK), RIGHT_SELECT | RIGHT_INSERT)];
    assert_eq!(world.record("products").grants, both);
    assert_eq!(world.record("products").owner, OWNER);
    world.run("GRANT DELETE ON ALL TABLES IN SCHEMA public TO clerk");
    assert_eq!(world.record("order_items").grants, [of(Some(CLERK), RIGHT_DELETE)]);
    world.run("REVOKE ALL PRIVILEGES ON products FROM clerk, PUBLIC");
    assert!(world.record("products").grants.is_empty());
    world.run("GRANT ALL ON products TO clerk");
    assert_eq!(world.record("products").grants, [of(Some(CLERK), RIGHTS_ALL)]);
    assert!(world.plan("GRANT UPDATE ON products TO clerk").unwrap().changes.is_empty());
    for (text, code) in [
        ("GRANT SELECT ON products TO nobody", "42704"),
        ("GRANT SELECT (name) ON products TO clerk", "0A000"),
        ("GRANT TRUNCATE ON products TO clerk", "0A000"),
        ("GRANT SELECT ON products TO clerk WITH GRANT OPTION", "0A000"),
        ("GRANT USAGE ON SCHEMA public TO clerk", "0A000"),
        ("GRANT SELECT ON nothing TO clerk", "42P01"),
        ("GRANT SELECT ON wallets TO clerk", "42501"),
    ] {
        assert_eq!(world.refusal(text).code, code, "{text}");
    }
}
