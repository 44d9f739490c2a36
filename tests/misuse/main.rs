//! Mistakes with a journal are told by the compiler. In this package, since trybuild passes on the features
//! of a library only.

#[test]
fn g13_what_a_journal_cannot_keep_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/journal_misuse/*.rs");
}
