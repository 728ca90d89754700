//! Counts its requests by `wasi:keyvalue@0.2.0-draft`, and says what else that version finds.

use plugsock_sdk::{HandlerError, Request, RequestHandler, Result, export};

use wasi::keyvalue::store::Error;
use wasi::keyvalue::{atomics, batch, store};

mod bindings {
    wit_bindgen::generate!({
        path: "../../host/wit/keyvalue-draft.wit",
        world: "imports",
        generate_all,
    });
}

use bindings::wasi;

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let said = count().map_err(|error| HandlerError::new(format!("{error:?}")))?;
        Ok(request.send(said.as_bytes())?)
    }
}

export!(Guest: RequestHandler);

fn count() -> Result<String, Error> {
    let counts = store::open("counts")?;
    let count = atomics::increment(&counts, "requests", 1)?;
    counts.set("last", count.to_string().as_bytes())?;
    let last = counts.get("last")?.unwrap_or_default();
    batch::set_many(&counts, &[("a".to_owned(), vec![b'1']), ("b".to_owned(), vec![b'2'])])?;
    let found = batch::get_many(&counts, &["a".to_owned(), "none".to_owned()])?;
    batch::delete_many(&counts, &["a".to_owned()])?;
    counts.delete("b")?;
    let exist = ["a", "b", "last"].map(|key| counts.exists(key));
    let entries: Vec<(String, Vec<u8>)> =
        (0..2500).map(|number| (format!("page:{number:04}"), Vec::new())).collect();
    batch::set_many(&counts, &entries)?;
    let (mut keys, mut pages, mut cursor) = (0, 0, None);
    loop {
        let page = counts.list_keys(cursor)?;
        keys += page.keys.len();
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let missing = store::open("other").is_err_and(|error| matches!(error, Error::NoSuchStore));
    Ok(format!(
        "{count} {} {} {exist:?} {keys} {pages} {missing}\n",
        String::from_utf8_lossy(&last),
        found.len(),
    ))
}
