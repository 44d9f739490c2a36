//! Mistakes with a journal are told by the compiler. In a package of its own, so that nothing is compiled
//! along but a journal.

#[test]
fn g13_what_a_journal_cannot_keep_does_not_compile() {
    trybuild::TestCases::new().compile_fail("journal/*.rs");
}
