//! The program as its operators meet it: start, stop, commands, logs.
