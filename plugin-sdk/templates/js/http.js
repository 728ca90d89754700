// Says hello, and to who posts something the same.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  return new Response(request.method === "POST" ? request.body : "hello\n");
}
