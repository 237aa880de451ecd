//! The SQLSTATE that a result becomes where a node speaks SQL.

use crate::outcome::ResultCode;

impl ResultCode {
    /// Five characters: PostgreSQL's where it has a word for the failure, otherwise one of the
    /// class `KJ`, with the code's number.
    #[must_use]
    pub fn sqlstate(self) -> String {
        let standard = match self {
            Self::Ok => "00000",
            Self::NotPermitted => "42501",
            Self::StateChanged
            | Self::DefinitionChanged
            | Self::RowChanged
            | Self::MembershipChanged => "40001",
            Self::TooMuch | Self::RowTooLarge | Self::TooMany => "54000",
            Self::BalanceOverflow
            | Self::SupplyOverflow
            | Self::OutOfRange
            | Self::ArithmeticOverflow => "22003",
            Self::NoSuchRelation => "42P01",
            Self::RelationExists => "42P07",
            Self::NotATable => "42809",
            Self::BadDefinition => "42P16",
            Self::RelationInUse => "2BP01",
            Self::UnknownPart => "42704",
            Self::RowExists | Self::NotUnique => "23505",
            Self::NullValue => "23502",
            Self::WrongType => "42804",
            Self::TextTooLong => "22001",
            Self::BadText => "22P02",
            Self::CheckFailed => "23514",
            Self::ForeignMissing | Self::StillReferenced => "23503",
            Self::DivisionByZero => "22012",
            Self::KeyChanged => "0A000",
            _ => return format!("KJ{:03}", self as u8),
        };
        standard.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_five_characters_and_those_of_rows_are_postgresqls() {
        for code in ResultCode::ALL {
            let state = code.sqlstate();
            assert_eq!(state.len(), 5, "{code}");
            let is_own = state.starts_with("KJ");
            assert!(!is_own || *code < ResultCode::NoSuchRelation, "{code}");
        }
        assert_eq!(ResultCode::InsufficientFunds.sqlstate(), "KJ012");
    }
}
