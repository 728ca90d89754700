//! Looking into a guest: what a trap leaves, lines of source code, profiles.

mod core_dumps;
mod profiles;
mod source_lines;
