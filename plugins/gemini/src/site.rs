//! The files that are served.

use std::fs::{self, File};
use std::io::{self, ErrorKind};

use crate::mime::media_type;
use crate::path::Path;
use crate::response::Response;
use crate::url::Url;

pub const SITE: &str = "/site";

/// What a folder is answered with.
const INDEX: &str = "index.gmi";

/// The file that a path names, or the way to it.
pub fn find(path: &Path, url: &Url) -> Result<Response, Response> {
    let mut file = [&[SITE.to_owned()], &path.names[..]].concat().join("/");
    let is_folder = fs::metadata(&file).map_err(unreadable)?.is_dir();
    if is_folder && !path.is_folder {
        // Only below a folder's slash do links from its index lead where they should.
        let query = url.query.map(|query| format!("?{query}")).unwrap_or_default();
        return Ok(Response::redirect(format!("{}/{query}", url.path)));
    }
    if path.is_folder {
        file = format!("{file}/{INDEX}");
    }
    let opened = File::open(&file).map_err(unreadable)?;
    // A folder can be opened, too.
    match opened.metadata().map_err(unreadable)?.is_file() {
        true => Ok(Response::file(media_type(&file), opened)),
        false => Err(Response::not_found()),
    }
}

fn unreadable(error: io::Error) -> Response {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => Response::not_found(),
        _ => {
            eprintln!("a file of {SITE} could not be read: {error}");
            Response::failed()
        }
    }
}
