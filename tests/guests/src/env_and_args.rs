//! Answers the arguments, the environment, the preopened directories and the lines of standard input, one `key=value` a
//! line.

use std::env;
use std::io::Write;

use crate::bindings::wasi::filesystem::preopens::get_directories;
use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        for argument in env::args() {
            writeln!(request.wfile, "arg={argument}")?;
        }
        for (name, value) in env::vars() {
            writeln!(request.wfile, "env={name}={value}")?;
        }
        for (_, path) in get_directories() {
            writeln!(request.wfile, "dir={path}")?;
        }
        for line in std::io::stdin().lines() {
            writeln!(request.wfile, "stdin={}", line?)?;
        }
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);

/// Named with a version of its own: the linker merges equal ones, and refuses a part of an interface.
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package guests:filesystem;

            world imports {
                import wasi:filesystem/preopens@0.2.1;
            }

            package wasi:filesystem@0.2.1 {
                interface types {
                    resource descriptor;
                }
                interface preopens {
                    use types.{descriptor};
                    get-directories: func() -> list<tuple<descriptor, string>>;
                }
            }
        ",
        generate_all,
    });
}
