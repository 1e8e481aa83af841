//! What must not compile: each file of `compile/` is a program with one mistake, and beside it stands
//! what the compiler says to it.
//!
//! After a new program, or a new compiler that says it in other words: set `TRYBUILD=overwrite`, run this
//! test, and read what was written.

#[test]
fn mistakes_do_not_compile() {
    trybuild::TestCases::new().compile_fail("suite/compile/*.rs");
}
