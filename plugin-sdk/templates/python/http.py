"""Says hello, and to who posts something the same."""

import asyncio

from componentize_py_types import Ok
from poll_loop import PollLoop, Sink, Stream
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, Method_Post, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(answer(request, response_out))


async def answer(request: IncomingRequest, response_out: ResponseOutparam) -> None:
    response = OutgoingResponse(Fields())
    sink = Sink(response.body())
    ResponseOutparam.set(response_out, Ok(response))
    if isinstance(request.method(), Method_Post):
        stream = Stream(request.consume())
        while (data := await stream.next()) is not None:
            await sink.send(data)
    else:
        await sink.send(b"hello\n")
    sink.close()
