//! The page of codes says what the code says.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::expect_used)]

use kanjo_types::{Refusal, ResultCode};
use std::path::Path;

#[test]
fn every_code_stands_in_the_documentation_with_its_number_and_sentence() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/codes.md");
    let page = std::fs::read_to_string(page).expect("docs/codes.md");
    let results = ResultCode::ALL.iter().map(|code| (code.code(), *code as u8, code.sentence()));
    let refusals = Refusal::ALL.iter().map(|code| (code.code(), *code as u8, code.sentence()));
    for (code, number, sentence) in results.chain(refusals) {
        let row = format!("| `{code}` | {number} | {sentence} |");
        assert!(page.contains(&row), "docs/codes.md has no row that starts with\n{row}");
    }
}
