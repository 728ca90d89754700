// An application of Hono's.

import { Hono } from "hono";

const app = new Hono();
app.get("/greet/:name", (context) => context.json({ hello: context.req.param("name") }));
app.post("/echo", async (context) => context.body(await context.req.arrayBuffer()));

addEventListener("fetch", (event) => event.respondWith(app.fetch(event.request)));
