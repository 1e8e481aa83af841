//! The program as its operators meet it: start, stop, commands, logs, users.

mod commands;
mod logs;
mod metrics;
mod purge;
mod quota;
mod saga;
mod start;
mod stop;
mod users;

use nexus_tests::process::Ended;

/// Sees that a program ended with 1 and one clear line that has all of `parts`.
fn assert_one_clear_line(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let line = ended.stderr.strip_suffix('\n').unwrap();
    assert!(
        line.starts_with("nexus: ") && !line.contains('\n'),
        "{line}"
    );
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    let all = format!("{}{line}", ended.stdout);
    assert!(
        !all.contains("panic") && !all.contains("backtrace"),
        "{all}"
    );
}
