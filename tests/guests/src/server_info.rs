//! Answers all that a handler can know about the request, one `key=value` a line.

use std::io::Write;

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, UnixCredentials, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let server = request.server();
        let credentials = request.unix_credentials();
        write!(
            request.wfile,
            "id={}\nworker={}\nclient_address={}\nname={}\nserver_type={}\nserver_address={}\n\
             concurrency={}\nhandler_digest={}\ngeneration={}\n",
            request.connection.id(),
            request.connection.worker(),
            request.connection.client_address(),
            server.name,
            server.server_type,
            server.server_address,
            server.concurrency,
            server.handler_digest,
            server.generation,
        )?;
        if let Some(UnixCredentials { pid, uid, gid }) = credentials {
            let pid = pid.map_or("unknown".to_owned(), |pid| pid.to_string());
            write!(request.wfile, "pid={pid}\nuid={uid}\ngid={gid}\n")?;
        }
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);
