//! What must not compile: each file of `compile/` is a program with one mistake, and beside it stands
//! what the compiler says to it.
//!
//! After a new program, or a new compiler that says it in other words: set `TRYBUILD=overwrite`, run this
//! test, and read what was written.

use std::process::Command;

/// The compiler whose words are written down; another one may use others for the same mistakes.
const COMPILER: &str = concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".");

#[test]
fn mistakes_do_not_compile() {
    let version = Command::new("rustc").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    if version.starts_with(COMPILER) {
        trybuild::TestCases::new().compile_fail("suite/conformance/compile/*.rs");
    } else {
        println!("not compared: written for {COMPILER}x, and this is {version}");
    }
}
