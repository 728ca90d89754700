//! Paths in the configuration: they are relative to the directory of its file.

use std::path::{Path, PathBuf};

/// A value with the paths in it relative to `base`; `form` is what the help calls the value, and says where they are.
pub fn resolve(form: &str, value: &str, base: &Path) -> String {
    let join = |path: &str| base.join(path).display().to_string();
    match form {
        "TEXT|@FILE" => match value.strip_prefix('@') {
            Some(path) => format!("@{}", join(path)),
            None => value.to_owned(),
        },
        // A key is no file, and a file that is not there is no key either: the reader of keys says so.
        "FILE|KEY" => match base.join(value) {
            file if file.exists() => file.display().to_string(),
            _ => value.to_owned(),
        },
        "HOST::GUEST[:rw]" => match value.split_once("::") {
            Some((host, guest)) => format!("{}::{guest}", join(host)),
            None => value.to_owned(),
        },
        "NAME[:ro]=URL" => match value.split_once("=file:") {
            Some((name, path)) => format!("{name}=file:{}", join(path)),
            None => match value.split_once("ca=").filter(|(server, _)| server.ends_with(['?', '&'])) {
                Some((server, ca)) => format!("{server}ca={}", join(ca)),
                None => value.to_owned(),
            },
        },
        "NAME=CERT.pem,KEY.pem" => match value.split_once('=') {
            Some((name, files)) => {
                let files: Vec<String> = files.split(',').map(join).collect();
                format!("{name}={}", files.join(","))
            }
            None => value.to_owned(),
        },
        _ if names_a_path(form) && !is_a_word_of(form, value) && !value.contains("://") => join(value),
        _ => value.to_owned(),
    }
}

/// Whether a value of this form may be a path and nothing but a path.
fn names_a_path(form: &str) -> bool {
    form.split('|').any(|part| ["FILE", "DIR", "PATH"].contains(&part))
}

/// Whether the value is one of the words that may stand there in place of a path.
fn is_a_word_of(form: &str, value: &str) -> bool {
    form.split('|')
        .any(|part| value == part || value.strip_prefix(part).is_some_and(|rest| rest.starts_with(':')))
}

/// The directory of a file, absolute whatever becomes of the working directory.
pub fn base(file: &Path) -> std::io::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    Ok(file.parent().unwrap_or(Path::new("/")).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::keys::{Keys, value_name};
    use crate::cli::serve::ServeOptions;

    #[test]
    fn paths_are_relative_to_the_base_and_nothing_else_is() {
        for (form, value, resolved) in [
            ("FILE", "a.wasm", "/etc/a.wasm"),
            ("FILE", "/a.wasm", "/a.wasm"),
            ("FILE", "oci://host/a:1", "oci://host/a:1"),
            ("DIR", "../a", "/etc/../a"),
            ("journald|stderr|FILE", "journald", "journald"),
            ("journald|stderr|FILE", "journald:/run/log", "journald:/run/log"),
            ("journald|stderr|FILE", "log", "/etc/log"),
            ("TEXT|@FILE", "a", "a"),
            ("TEXT|@FILE", "@a", "@/etc/a"),
            ("FILE|KEY", "RWQ", "RWQ"),
            ("FILE|KEY", "passwd", "/etc/passwd"),
            ("HOST::GUEST[:rw]", "a::/b:rw", "/etc/a::/b:rw"),
            ("NAME=CERT.pem,KEY.pem", "x=a,/b", "x=/etc/a,/b"),
            ("NAME[:ro]=URL", "a:ro=file:b.db?durable=false", "a:ro=file:/etc/b.db?durable=false"),
            ("NAME[:ro]=URL", "a=file:///b.db", "a=file:///b.db"),
            ("NAME[:ro]=URL", "a=memory", "a=memory"),
            ("NAME[:ro]=URL", "a=nats://b/c?ca=d.pem", "a=nats://b/c?ca=/etc/d.pem"),
            ("NAME[:ro]=URL", "a=redis://b?hash=ca=c", "a=redis://b?hash=ca=c"),
            ("NAME=VALUE", "a=b", "a=b"),
            ("COUNT", "1", "1"),
        ] {
            assert_eq!(resolve(form, value, Path::new("/etc")), resolved, "{form}: {value}");
        }
    }

    /// A new form that has a path in it is to be known here.
    #[test]
    fn every_option_with_a_path_is_known() {
        let forms = ["TEXT|@FILE", "FILE|KEY", "HOST::GUEST[:rw]", "NAME=CERT.pem,KEY.pem"];
        for arg in Keys::of::<ServeOptions>().iter() {
            let form = value_name(arg);
            let may_be_path =
                ["FILE", "DIR", "PATH", ".pem", "HOST::"].iter().any(|word| form.contains(word));
            assert!(!may_be_path || names_a_path(form) || forms.contains(&form), "{form}");
        }
    }
}
