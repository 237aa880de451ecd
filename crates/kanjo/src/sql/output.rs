//! Results: aligned, one value a line, CSV, JSON. Rows go out as they come; nothing is cut.

use serde_json::{Number, Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use tokio_postgres::types::Type;
use unicode_width::UnicodeWidthStr as _;

/// Rows that are measured together; wider values in later rows stand out of their column.
const MEASURED_ROWS_MAX: usize = 5_000;
/// The same in bytes.
const MEASURED_BYTES_MAX: usize = 8 << 20;
/// The largest whole number that every JSON reader takes exactly: 2⁵³ − 1.
const JSON_WHOLE_MAX: u64 = 9_007_199_254_740_991;
/// What stands for a value that is not there.
const NULL: &str = "NULL";

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Columns, for people.
    Aligned,
    /// One value a line, for people.
    Expanded,
    /// CSV with a header.
    Csv,
    /// One JSON object for each statement.
    Json,
}

impl Form {
    /// Is it read by people?
    pub fn is_for_people(self) -> bool {
        matches!(self, Self::Aligned | Self::Expanded)
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, which others may have as well.
    pub name: String,
    /// Its type on the wire.
    pub of: Type,
}

impl Column {
    /// A column of texts.
    pub fn text(name: &str) -> Self {
        Self { name: name.to_owned(), of: Type::TEXT }
    }

    fn is_number(&self) -> bool {
        let numbers =
            [Type::INT2, Type::INT4, Type::INT8, Type::NUMERIC, Type::FLOAT4, Type::FLOAT8];
        numbers.contains(&self.of)
    }
}

/// A type as SQL calls it.
pub fn type_name(of: &Type) -> &str {
    match *of {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        _ => of.name(),
    }
}

/// Values of a row, as texts.
pub type Row<'a> = [Option<&'a str>];

/// Prints one result.
pub trait Printer {
    /// The next row.
    fn row(&mut self, row: &Row<'_>) -> io::Result<()>;

    /// It is complete: `count` rows were selected or changed.
    fn end(&mut self, count: u64) -> io::Result<()>;

    /// It broke off.
    fn broken(&mut self, error: &Value) -> io::Result<()>;
}

/// Begins to print a result; without columns when the statement has none.
pub fn printer<'a>(
    form: Form,
    columns: Vec<Column>,
    out: &'a mut dyn Write,
) -> io::Result<Box<dyn Printer + 'a>> {
    Ok(match form {
        Form::Aligned => Box::new(Aligned::new(columns, out)),
        Form::Expanded => Box::new(Expanded::new(columns, out)),
        Form::Csv => Box::new(Csv::new(&columns, out)?),
        Form::Json => Box::new(Json::new(columns, out)?),
    })
}

/// Text as a terminal may have it: control characters, with which a value could rewrite the screen,
/// become symbols.
pub fn shown(text: &str) -> Cow<'_, str> {
    let is_unsafe = |letter: char| {
        letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{7f}' => out.push('\u{2421}'),
            '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(letter))),
            letter if is_unsafe(letter) => {
                let _ = write!(out, "<U+{:04X}>", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    Cow::Owned(out)
}

fn rows_line(count: u64) -> String {
    if count == 1 { "(1 row)".to_owned() } else { format!("({count} rows)") }
}

fn done_line(count: u64) -> String {
    match count {
        0 => "OK".to_owned(),
        1 => "OK, 1 row".to_owned(),
        count => format!("OK, {count} rows"),
    }
}

struct Aligned<'a> {
    columns: Vec<Column>,
    out: &'a mut dyn Write,
    widths: Vec<usize>,
    /// Rows that wait to be measured together, and their bytes.
    waiting: Vec<Vec<String>>,
    waiting_bytes: usize,
    has_header: bool,
}

impl<'a> Aligned<'a> {
    fn new(columns: Vec<Column>, out: &'a mut dyn Write) -> Self {
        let widths = columns.iter().map(|column| shown(&column.name).width()).collect();
        Self { columns, out, widths, waiting: Vec::new(), waiting_bytes: 0, has_header: false }
    }

    fn header(&mut self) -> io::Result<()> {
        let names = self.columns.iter().zip(&self.widths);
        let names: Vec<String> = names
            .map(|(column, width)| {
                let name = shown(&column.name);
                let space = width.saturating_sub(name.width());
                let left = space / 2;
                format!(" {}{name}{} ", " ".repeat(left), " ".repeat(space - left))
            })
            .collect();
        writeln!(self.out, "{}", names.join("|").trim_end())?;
        let lines: Vec<String> = self.widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(self.out, "{}", lines.join("+"))
    }

    fn flush(&mut self) -> io::Result<()> {
        for row in &self.waiting {
            for (width, value) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(value.width());
            }
        }
        if !self.has_header {
            self.has_header = true;
            self.header()?;
        }
        self.waiting_bytes = 0;
        for row in std::mem::take(&mut self.waiting) {
            let mut line = String::new();
            let cells = row.iter().zip(&self.widths).zip(&self.columns);
            for (number, ((value, width), column)) in cells.enumerate() {
                let space = " ".repeat(width.saturating_sub(value.width()));
                let (before, after) =
                    if column.is_number() { (space.as_str(), "") } else { ("", space.as_str()) };
                let bar = if number == 0 { "" } else { "|" };
                let _ = write!(line, "{bar} {before}{value}{after} ");
            }
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Printer for Aligned<'_> {
    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        let row: Vec<String> =
            row.iter().map(|value| shown(value.unwrap_or(NULL)).into_owned()).collect();
        self.waiting_bytes += row.iter().map(String::len).sum::<usize>();
        self.waiting.push(row);
        if self.waiting.len() >= MEASURED_ROWS_MAX || self.waiting_bytes >= MEASURED_BYTES_MAX {
            return self.flush();
        }
        Ok(())
    }

    fn end(&mut self, count: u64) -> io::Result<()> {
        if self.columns.is_empty() {
            return writeln!(self.out, "{}", done_line(count));
        }
        self.flush()?;
        writeln!(self.out, "{}", rows_line(count))
    }

    fn broken(&mut self, _: &Value) -> io::Result<()> {
        if self.waiting.is_empty() { Ok(()) } else { self.flush() }
    }
}

struct Expanded<'a> {
    columns: Vec<Column>,
    out: &'a mut dyn Write,
    width: usize,
    rows: u64,
}

impl<'a> Expanded<'a> {
    fn new(columns: Vec<Column>, out: &'a mut dyn Write) -> Self {
        let width = columns.iter().map(|column| shown(&column.name).width()).max().unwrap_or(0);
        Self { columns, out, width, rows: 0 }
    }
}

impl Printer for Expanded<'_> {
    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.rows += 1;
        writeln!(self.out, "-[ RECORD {} ]-", self.rows)?;
        for (column, value) in self.columns.iter().zip(row) {
            let name = shown(&column.name);
            let space = " ".repeat(self.width.saturating_sub(name.width()));
            writeln!(self.out, "{name}{space} | {}", shown(value.unwrap_or(NULL)))?;
        }
        Ok(())
    }

    fn end(&mut self, count: u64) -> io::Result<()> {
        let line = if self.columns.is_empty() { done_line(count) } else { rows_line(count) };
        writeln!(self.out, "{line}")
    }

    fn broken(&mut self, _: &Value) -> io::Result<()> {
        Ok(())
    }
}

struct Csv<'a>(csv::Writer<&'a mut dyn Write>);

impl<'a> Csv<'a> {
    fn new(columns: &[Column], out: &'a mut dyn Write) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        if !columns.is_empty() {
            writer.write_record(columns.iter().map(|column| &column.name))?;
        }
        Ok(Self(writer))
    }
}

impl Printer for Csv<'_> {
    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        Ok(self.0.write_record(row.iter().map(|value| value.unwrap_or_default()))?)
    }

    fn end(&mut self, _: u64) -> io::Result<()> {
        self.0.flush()
    }

    fn broken(&mut self, _: &Value) -> io::Result<()> {
        self.0.flush()
    }
}

struct Json<'a> {
    columns: Vec<Column>,
    /// Names of the columns, each only once.
    names: Vec<String>,
    out: &'a mut dyn Write,
    rows: u64,
}

/// Names of the columns; where one comes again, with its number behind it.
fn distinct(columns: &[Column]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::new();
    for column in columns {
        let mut name = column.name.clone();
        let mut number = 1u32;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{}_{number}", column.name);
        }
        names.push(name);
    }
    names
}

/// A value of a type in JSON: a number only where every reader takes it exactly.
fn json_value(of: &Type, text: &str) -> Value {
    let whole = || {
        let number = text.parse::<i64>().ok();
        number.filter(|number| number.unsigned_abs() <= JSON_WHOLE_MAX).map(Value::from)
    };
    let float = || text.parse().ok().and_then(Number::from_f64).map(Value::Number);
    let value = match *of {
        Type::BOOL => Some(Value::Bool(text == "t")),
        Type::INT2 | Type::INT4 | Type::INT8 => whole(),
        Type::FLOAT4 | Type::FLOAT8 => float(),
        _ => None,
    };
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

impl<'a> Json<'a> {
    fn new(columns: Vec<Column>, out: &'a mut dyn Write) -> io::Result<Self> {
        let names = distinct(&columns);
        let listed: Vec<Value> = names
            .iter()
            .zip(&columns)
            .map(|(name, column)| json!({ "name": name, "type": type_name(&column.of) }))
            .collect();
        write!(out, "{{\"columns\":{},\"rows\":[", Value::Array(listed))?;
        Ok(Self { columns, names, out, rows: 0 })
    }
}

impl Printer for Json<'_> {
    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.out.write_all(if self.rows == 0 { b"\n{" } else { b",\n{" })?;
        self.rows += 1;
        for (number, ((name, column), value)) in
            self.names.iter().zip(&self.columns).zip(row).enumerate()
        {
            let comma = if number == 0 { "" } else { "," };
            let value = value.map_or(Value::Null, |text| json_value(&column.of, text));
            write!(self.out, "{comma}{}:{value}", Value::from(name.as_str()))?;
        }
        self.out.write_all(b"}")
    }

    fn end(&mut self, count: u64) -> io::Result<()> {
        writeln!(self.out, "],\"count\":{count}}}")
    }

    fn broken(&mut self, error: &Value) -> io::Result<()> {
        let error = error.get("error").unwrap_or(&Value::Null);
        writeln!(self.out, "],\"error\":{error}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |name: &str, of| Column { name: name.to_owned(), of };
        vec![
            column("symbol", Type::TEXT),
            column("n", Type::INT8),
            column("amount", Type::NUMERIC),
            column("n", Type::BOOL),
        ]
    }

    const ROWS: [[Option<&str>; 4]; 3] = [
        [Some("円,"), Some("9007199254740992"), Some("0.10"), Some("t")],
        [Some("a\"b\n\u{1b}[2J"), Some("-7"), Some("12"), Some("f")],
        [None, Some("9007199254740991"), None, None],
    ];

    fn printed(form: Form) -> String {
        let mut out = Vec::new();
        let mut printer = printer(form, columns(), &mut out).expect("begun");
        for row in &ROWS {
            printer.row(row).expect("printed");
        }
        printer.end(3).expect("printed");
        drop(printer);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn columns_are_aligned_and_control_characters_shown() {
        let expected = "  symbol  |        n         | amount |  n
----------+------------------+--------+------
 円,      | 9007199254740992 |   0.10 | t
 a\"b␊␛[2J |               -7 |     12 | f
 NULL     | 9007199254740991 |   NULL | NULL
(3 rows)
";
        assert_eq!(printed(Form::Aligned), expected);
    }

    #[test]
    fn wider_values_that_come_late_are_printed_whole() {
        let mut out = Vec::new();
        let mut printer = printer(Form::Aligned, vec![Column::text("a")], &mut out).expect("begun");
        let wide = "x".repeat(300);
        for _ in 0..MEASURED_ROWS_MAX {
            printer.row(&[Some("y")]).expect("printed");
        }
        printer.row(&[Some(&wide)]).expect("printed");
        printer.end(5_001).expect("printed");
        drop(printer);
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains(&wide));
        assert_eq!(text.lines().count(), 2 + 5_001 + 1);
    }

    #[test]
    fn csv_is_quoted_and_keeps_every_byte() {
        let expected = "symbol,n,amount,n\n\"円,\",9007199254740992,0.10,t\n\
                        \"a\"\"b\n\u{1b}[2J\",-7,12,f\n,9007199254740991,,\n";
        assert_eq!(printed(Form::Csv), expected);
    }

    #[test]
    fn json_has_numbers_only_where_they_are_exact() {
        let json: Value = serde_json::from_str(&printed(Form::Json)).expect("JSON");
        assert_eq!(json["count"], 3);
        assert_eq!(json["columns"][2], json!({ "name": "amount", "type": "numeric" }));
        assert_eq!(
            json["rows"],
            json!([
                { "symbol": "円,", "n": "9007199254740992", "amount": "0.10", "n_2": true },
                { "symbol": "a\"b\n\u{1b}[2J", "n": -7, "amount": "12", "n_2": false },
                { "symbol": null, "n": 9_007_199_254_740_991_u64, "amount": null, "n_2": null },
            ])
        );
        assert_eq!(json_value(&Type::FLOAT8, "1.5"), json!(1.5));
        assert_eq!(json_value(&Type::FLOAT8, "NaN"), json!("NaN"));
    }

    #[test]
    fn one_value_a_line() {
        let text = printed(Form::Expanded);
        assert!(text.starts_with("-[ RECORD 1 ]-\nsymbol | 円,\nn      | 9007"), "{text}");
        assert!(text.ends_with("n      | NULL\n(3 rows)\n"), "{text}");
    }
}
