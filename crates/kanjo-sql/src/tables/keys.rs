//! Conditions on the columns of a key, as ranges of the key's bytes.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use kanjo_types::record::RowKey;
use kanjo_types::{ActId, BundleId, ClaimId, Hash, PendingId, ScheduleId, UserId, WalletId};

/// Part of a key: a column, and how its value becomes bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub column: &'static str,
    pub form: Form,
}

/// How a value becomes bytes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    User,
    Wallet,
    Pending,
    Bundle,
    Schedule,
    Act,
    Claim,
    /// 4 bytes, most significant first.
    Number32,
    /// 8 bytes, most significant first.
    Number64,
}

/// A range of keys, both ends in it.
pub(crate) type Range = (RowKey, RowKey);

/// Most ranges that one statement is cut into; beyond, the table is read from end to end.
const RANGES_MAX: usize = 1_024;

/// What the conditions of a statement mean for the keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// Ascending, without overlap.
    pub ranges: Vec<Range>,
    /// For each condition: is it settled by the ranges?
    pub settled: Vec<bool>,
}

/// What a condition says of a column.
enum Said {
    /// It is one of these.
    One(Vec<Vec<u8>>),
    /// It lies between these, both included.
    Between(Vec<u8>, Vec<u8>),
}

/// The text is the one form of an id: other spellings of it are other texts.
fn id<T: std::str::FromStr + ToString>(text: &str, bytes: impl Fn(T) -> [u8; 16]) -> Vec<Vec<u8>> {
    let parsed = text.parse::<T>().ok().filter(|id| id.to_string() == text);
    parsed.map(|id| bytes(id).to_vec()).into_iter().collect()
}

impl Form {
    /// The bytes of a value; empty when no row has it; `None` when the value is of another type.
    fn bytes(self, value: &ScalarValue) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::Number32 | Self::Number64 => {
                let ScalarValue::Int64(Some(number)) = value else { return None };
                Some(self.number(i128::from(*number)).into_iter().collect())
            }
            _ => {
                let text = value.try_as_str()??;
                Some(match self {
                    Self::User => id(text, |id: UserId| id.0),
                    Self::Wallet => id(text, |id: WalletId| id.0),
                    Self::Pending => id(text, |id: PendingId| id.0),
                    Self::Bundle => id(text, |id: BundleId| id.0),
                    Self::Schedule => id(text, |id: ScheduleId| id.0),
                    Self::Act => id(text, |id: ActId| id.0),
                    Self::Claim => id(text, |id: ClaimId| id.0),
                    Self::Number32 | Self::Number64 => Vec::new(),
                })
            }
        }
    }

    fn number(self, number: i128) -> Option<Vec<u8>> {
        match self {
            Self::Number32 => Some(u32::try_from(number).ok()?.to_be_bytes().to_vec()),
            Self::Number64 => Some(u64::try_from(number).ok()?.to_be_bytes().to_vec()),
            _ => None,
        }
    }

    fn number_max(self) -> i128 {
        if self == Self::Number32 { i128::from(u32::MAX) } else { i128::from(u64::MAX) }
    }

    /// Numbers compared with a literal. Texts of ids don't sort as their bytes do.
    fn compared(self, operator: Operator, value: &ScalarValue) -> Option<Said> {
        if operator == Operator::Eq {
            return Some(Said::One(self.bytes(value)?));
        }
        let (Self::Number32 | Self::Number64, ScalarValue::Int64(Some(number))) = (self, value)
        else {
            return None;
        };
        let number = i128::from(*number);
        let (low, high) = match operator {
            Operator::Gt => (number + 1, self.number_max()),
            Operator::GtEq => (number, self.number_max()),
            Operator::Lt => (0, number - 1),
            Operator::LtEq => (0, number),
            _ => return None,
        };
        let (low, high) = (low.max(0), high.min(self.number_max()));
        let none = Said::One(Vec::new());
        if low > high {
            return Some(none);
        }
        Some(Said::Between(self.number(low)?, self.number(high)?))
    }
}

pub(crate) fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        _ => None,
    }
}

pub(crate) fn literal_of(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

/// What `filter` says about the column of `part`, if it is about that alone.
fn said(filter: &Expr, part: Part) -> Option<Said> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            match (said(left, part)?, said(right, part)?) {
                (Said::One(mut left), Said::One(right)) => {
                    left.extend(right);
                    Some(Said::One(left))
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, value) = match (column_of(left), literal_of(right)) {
                (Some(column), Some(value)) => (column, *op, value),
                _ => (column_of(right)?, op.swap()?, literal_of(left)?),
            };
            if column.name != part.column {
                return None;
            }
            part.form.compared(op, value)
        }
        Expr::InList(list) if !list.negated => {
            if column_of(&list.expr)?.name != part.column {
                return None;
            }
            let mut all = Vec::new();
            for item in &list.list {
                all.extend(part.form.bytes(literal_of(item)?)?);
            }
            Some(Said::One(all))
        }
        _ => None,
    }
}

fn padded(bytes: &[u8], fill: u8) -> RowKey {
    let mut key = [fill; 32];
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    RowKey(Hash(key))
}

fn cut(low: RowKey, high: RowKey, range: &Range) -> Option<Range> {
    let (low, high) = (low.max(range.0), high.min(range.1));
    (low <= high).then_some((low, high))
}

/// The ranges of keys that all of `filters` leave.
pub(crate) fn ranges(filters: &[&Expr], parts: &[Part]) -> Keys {
    let mut settled = vec![false; filters.len()];
    let mut ranges: Vec<Range> = vec![(RowKey::MIN, RowKey::MAX)];
    // Beginnings of keys that are known in full, from the first part on.
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
    for part in parts {
        let mut longer: Option<Vec<Vec<u8>>> = None;
        for (filter, settled) in filters.iter().zip(&mut settled) {
            let Some(said) = said(filter, *part) else { continue };
            let is_exact = matches!(said, Said::One(_));
            let spans: Vec<(Vec<u8>, Vec<u8>)> = match said {
                Said::One(values) => {
                    values.into_iter().map(|value| (value.clone(), value)).collect()
                }
                Said::Between(low, high) => vec![(low, high)],
            };
            let Some(new) = narrowed(&prefixes, &spans, &ranges) else { continue };
            ranges = new;
            *settled = true;
            if is_exact && longer.is_none() {
                let with = |prefix: &Vec<u8>, value: &Vec<u8>| [&prefix[..], &value[..]].concat();
                let all = prefixes
                    .iter()
                    .flat_map(|prefix| spans.iter().map(move |(value, _)| with(prefix, value)));
                longer = Some(all.collect());
            }
        }
        match longer {
            Some(longer) => prefixes = longer,
            None => break,
        }
    }
    Keys { ranges, settled }
}

/// What is left of `ranges` when the next part of the key lies in one of `spans`; `None` when it
/// would be too many pieces.
fn narrowed(
    prefixes: &[Vec<u8>],
    spans: &[(Vec<u8>, Vec<u8>)],
    ranges: &[Range],
) -> Option<Vec<Range>> {
    if prefixes.len().checked_mul(spans.len())?.checked_mul(ranges.len())? > RANGES_MAX * 8 {
        return None;
    }
    let mut left = Vec::new();
    for prefix in prefixes {
        for (low, high) in spans {
            let low = padded(&[&prefix[..], &low[..]].concat(), 0);
            let high = padded(&[&prefix[..], &high[..]].concat(), 0xff);
            left.extend(ranges.iter().filter_map(|range| cut(low, high, range)));
        }
    }
    left.sort_unstable();
    left.dedup();
    (left.len() <= RANGES_MAX).then_some(left)
}
