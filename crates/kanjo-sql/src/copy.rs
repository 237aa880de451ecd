//! COPY: rows in and out as text or CSV, in PostgreSQL's forms.

use crate::change::{column_of, parsed, query};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{
    CopyOption, CopySource, CopyTarget, Ident, ObjectName, SelectItem, Statement,
};
use pgwire::messages::data::DataRow;

/// Most bytes of a COPY FROM: more than a transaction can hold.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// What a COPY is about.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    /// Columns of a table; all when there are none.
    Table(ObjectName, Vec<Ident>),
    /// Rows of a query.
    Query(Box<Statement>),
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    csv: bool,
    delimiter: char,
    null: String,
    header: bool,
    quote: char,
    escape: char,
}

/// A COPY.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub subject: Subject,
    /// To the client?
    pub out: bool,
    pub form: Form,
}

/// A field of a row; nothing: NULL.
pub(crate) type Field = Option<String>;

impl Plan {
    /// Of a statement that is a COPY.
    pub(crate) fn of(statement: &Statement) -> Result<Self, SqlError> {
        let Statement::Copy { source, to, target, options, legacy_options, .. } = statement else {
            return Err(SqlError::new(code::INTERNAL, "no COPY"));
        };
        match (to, target) {
            (true, CopyTarget::Stdout) | (false, CopyTarget::Stdin) => {}
            _ => {
                let error = SqlError::not_supported("COPY from and to files of the node");
                return Err(error.hint("use STDIN and STDOUT, or \\copy of psql"));
            }
        }
        if !legacy_options.is_empty() {
            let error = SqlError::not_supported("COPY options without parentheses");
            return Err(error.hint("write WITH (FORMAT csv, HEADER)"));
        }
        let subject = match source {
            CopySource::Table { table_name, columns } => {
                Subject::Table(table_name.clone(), columns.clone())
            }
            CopySource::Query(query) => Subject::Query(Box::new(Statement::Query(query.clone()))),
        };
        Ok(Self { subject, out: *to, form: Form::new(options)? })
    }

    /// The query of a COPY TO.
    pub(crate) fn query(&self) -> Result<Statement, SqlError> {
        match &self.subject {
            Subject::Query(statement) => Ok(statement.as_ref().clone()),
            Subject::Table(name, columns) => {
                let (schema, table) = crate::change::split(name)?;
                let from = [&schema, &table].map(|name| crate::change::quoted(name)).join(".");
                let mut select = parsed(&format!("SELECT * FROM {from}"))?;
                if !columns.is_empty() {
                    let items = columns.iter().map(|name| {
                        SelectItem::UnnamedExpr(column_of(&table, &crate::change::folded(name)))
                    });
                    select.projection = items.collect();
                }
                query(select)
            }
        }
    }
}

impl Form {
    fn new(options: &[CopyOption]) -> Result<Self, SqlError> {
        let csv = options.iter().find_map(|option| match option {
            CopyOption::Format(name) => Some(name.value.to_lowercase()),
            _ => None,
        });
        let csv = match csv.as_deref() {
            None | Some("text") => false,
            Some("csv") => true,
            Some(other) => {
                let message = format!("COPY format \"{other}\" is not supported");
                return Err(SqlError::not_supported(message).hint("use text or csv"));
            }
        };
        let mut form = Self {
            csv,
            delimiter: if csv { ',' } else { '\t' },
            null: if csv { String::new() } else { "\\N".to_owned() },
            header: false,
            quote: '"',
            escape: '"',
        };
        let mut escape = None;
        for option in options {
            match option {
                CopyOption::Format(_) | CopyOption::Freeze(_) => {}
                CopyOption::Delimiter(delimiter) => form.delimiter = *delimiter,
                CopyOption::Null(null) => form.null.clone_from(null),
                CopyOption::Header(header) => form.header = *header,
                CopyOption::Quote(quote) if csv => form.quote = *quote,
                CopyOption::Escape(given) if csv => escape = Some(*given),
                CopyOption::Encoding(name) if name.to_lowercase().replace('-', "") == "utf8" => {}
                other => {
                    return Err(SqlError::not_supported(format!("COPY option {other}")));
                }
            }
        }
        form.escape = escape.unwrap_or(form.quote);
        let wrong = [form.delimiter, form.quote].iter().any(|mark| "\r\n\\".contains(*mark));
        if wrong || csv && form.delimiter == form.quote || form.null.contains(['\r', '\n']) {
            let message = "COPY delimiter, quote and null text must differ, without line breaks";
            return Err(SqlError::new(code::BAD_VALUE, message));
        }
        Ok(form)
    }

    /// The line of names, where one is wanted.
    pub(crate) fn header(&self, names: &[&str]) -> Option<String> {
        let names = names.iter().map(|name| Some((*name).to_owned())).collect::<Vec<Field>>();
        self.header.then(|| self.line(&names))
    }

    /// A row as a line.
    pub(crate) fn line(&self, fields: &[Field]) -> String {
        let mut line = String::new();
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                line.push(self.delimiter);
            }
            match field {
                None => line.push_str(&self.null),
                Some(text) if self.csv => self.write_csv(text, fields.len(), &mut line),
                Some(text) => self.write_text(text, &mut line),
            }
        }
        line.push('\n');
        line
    }

    fn write_csv(&self, text: &str, fields: usize, line: &mut String) {
        let special = [self.delimiter, self.quote, '\n', '\r'];
        // A line of "\." alone would end the data.
        if !text.contains(special) && text != self.null && !(fields == 1 && text == "\\.") {
            line.push_str(text);
            return;
        }
        line.push(self.quote);
        for letter in text.chars() {
            if letter == self.quote || letter == self.escape {
                line.push(self.escape);
            }
            line.push(letter);
        }
        line.push(self.quote);
    }

    fn write_text(&self, text: &str, line: &mut String) {
        for letter in text.chars() {
            match letter {
                '\\' => line.push_str("\\\\"),
                '\u{8}' => line.push_str("\\b"),
                '\u{c}' => line.push_str("\\f"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                '\u{b}' => line.push_str("\\v"),
                letter => {
                    if letter == self.delimiter {
                        line.push('\\');
                    }
                    line.push(letter);
                }
            }
        }
    }

    /// The rows of what a client sent, with the number of the line that each begins at.
    pub(crate) fn rows(&self, bytes: &[u8]) -> Result<Vec<(usize, Vec<Field>)>, SqlError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| SqlError::new("22021", "the data of COPY is not UTF-8"))?;
        let mut rows = if self.csv { self.rows_of_csv(text)? } else { self.rows_of_text(text) };
        if self.header && !rows.is_empty() {
            rows.remove(0);
        }
        Ok(rows)
    }

    fn rows_of_text(&self, text: &str) -> Vec<(usize, Vec<Field>)> {
        let mut rows = Vec::new();
        for (at, line) in text.split_terminator('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line == "\\." {
                break;
            }
            rows.push((at + 1, self.fields_of_text(line)));
        }
        rows
    }

    fn fields_of_text(&self, line: &str) -> Vec<Field> {
        let mut fields = Vec::new();
        let (mut raw, mut text) = (String::new(), String::new());
        let mut letters = line.chars();
        loop {
            let letter = letters.next();
            match letter {
                Some('\\') => {
                    raw.push('\\');
                    let Some(escaped) = letters.next() else {
                        text.push('\\');
                        continue;
                    };
                    raw.push(escaped);
                    text.push(match escaped {
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'v' => '\u{b}',
                        other => other,
                    });
                }
                Some(letter) if letter != self.delimiter => {
                    raw.push(letter);
                    text.push(letter);
                }
                _ => {
                    let text = std::mem::take(&mut text);
                    fields.push((raw != self.null).then_some(text));
                    raw.clear();
                    if letter.is_none() {
                        return fields;
                    }
                }
            }
        }
    }

    fn rows_of_csv(&self, text: &str) -> Result<Vec<(usize, Vec<Field>)>, SqlError> {
        let mut rows = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        let (mut field, mut was_quoted, mut quoted) = (String::new(), false, false);
        let (mut line, mut began) = (1, 1);
        let mut letters = text.chars().peekable();
        let mut is_open = false;
        while let Some(letter) = letters.next() {
            is_open = true;
            line += usize::from(letter == '\n');
            if quoted {
                let doubles = letter == self.escape
                    && letters
                        .peek()
                        .is_some_and(|next| *next == self.quote || *next == self.escape);
                if doubles {
                    field.extend(letters.next());
                } else if letter == self.quote {
                    quoted = false;
                } else {
                    field.push(letter);
                }
                continue;
            }
            match letter {
                '\r' if letters.peek() == Some(&'\n') => {}
                '\n' => {
                    if field == "\\." && fields.is_empty() && !was_quoted {
                        return Ok(rows);
                    }
                    self.finish(&mut fields, &mut field, &mut was_quoted);
                    rows.push((began, std::mem::take(&mut fields)));
                    (began, is_open) = (line, false);
                }
                letter if letter == self.quote => (quoted, was_quoted) = (true, true),
                letter if letter == self.delimiter => {
                    self.finish(&mut fields, &mut field, &mut was_quoted);
                }
                letter => field.push(letter),
            }
        }
        if quoted {
            let message = format!("unterminated CSV quoted field, which begins in line {began}");
            return Err(SqlError::new("22P04", message));
        }
        if is_open {
            self.finish(&mut fields, &mut field, &mut was_quoted);
            rows.push((began, fields));
        }
        Ok(rows)
    }

    fn finish(&self, fields: &mut Vec<Field>, field: &mut String, was_quoted: &mut bool) {
        let text = std::mem::take(field);
        let is_null = !std::mem::take(was_quoted) && text == self.null;
        fields.push((!is_null).then_some(text));
    }
}

/// The fields of a row as the wire carries it in text.
pub(crate) fn fields(row: &DataRow) -> Result<Vec<Field>, SqlError> {
    let broken = || SqlError::new(code::INTERNAL, "a row that is none");
    let mut rest: &[u8] = &row.data;
    let mut fields = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        rest = behind;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            fields.push(None);
            continue;
        };
        let (text, behind) = rest.split_at_checked(length).ok_or_else(broken)?;
        fields.push(Some(std::str::from_utf8(text).map_err(|_| broken())?.to_owned()));
        rest = behind;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(csv: bool) -> Form {
        let format = CopyOption::Format(Ident::new(if csv { "csv" } else { "text" }));
        Form::new(&[format]).unwrap()
    }

    #[test]
    fn csv_is_read_as_postgresql_reads_it() {
        let data = "1,tea,\r\n2,\"a,\"\"b\"\"\nc\",\"\"\n3,,x\n\\.\n4,no,more\n";
        let rows = form(true).rows(data.as_bytes()).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows,
            [
                (1, vec![text("1"), text("tea"), None]),
                (2, vec![text("2"), text("a,\"b\"\nc"), text("")]),
                (4, vec![text("3"), None, text("x")]),
            ]
        );
        assert_eq!(form(true).rows(b"1,\"open").unwrap_err().code, "22P04");
        assert_eq!(form(true).rows(&[0xff]).unwrap_err().code, "22021");
    }

    #[test]
    fn text_is_read_as_postgresql_reads_it() {
        let rows = form(false).rows(b"1\t\\N\ta\\tb\\\\\n2\t\t\\x\n\\.\n").unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows,
            [(1, vec![text("1"), None, text("a\tb\\")]), (2, vec![text("2"), text(""), text("x")]),]
        );
    }

    proptest! {
        #[test]
        fn what_goes_out_comes_in_again(
            csv: bool,
            rows in prop::collection::vec(
                prop::collection::vec(prop::option::of("[a-c,\"\\\\\t\n\r.N ]{0,6}"), 2..5), 0..6),
        ) {
            let form = form(csv);
            let lines: String = rows.iter().map(|row| form.line(row)).collect();
            let read = form.rows(lines.as_bytes()).unwrap();
            let read: Vec<Vec<Field>> = read.into_iter().map(|(_, fields)| fields).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
