// Says hello, and to who posts something the same.

addEventListener("fetch", (event) => {
  const asked = event as FetchEvent;
  asked.respondWith(answer(asked.request));
});

async function answer(request: Request): Promise<Response> {
  return new Response(request.method === "POST" ? request.body : "hello\n");
}
