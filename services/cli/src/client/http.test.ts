import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { z } from "zod";
import { exitCodeOf } from "../exit-codes.ts";
import { HttpClient } from "./http.ts";
import { followEvents, parseEvents, type ServerEvent } from "./server-events.ts";

const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(
    servers.splice(0).map((server) => new Promise((done) => (server.closeAllConnections(), server.close(done)))),
  );
});

async function serve(listener: RequestListener): Promise<HttpClient> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return new HttpClient({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key: "secret" });
}

const problem = (status: number, code: string, detail: string): string =>
  JSON.stringify({
    type: "about:blank",
    title: "t",
    status,
    code,
    detail,
    errors: [{ path: "training.lora.rank", code: "too_small", message: "rank 0 is below 1" }],
  });

test("a call carries the key, and a POST a key of its own that stays over retries", async () => {
  const seen: (string | undefined)[] = [];
  const client = await serve((request, response) => {
    seen.push(request.headers["idempotency-key"] as string | undefined);
    expect(request.headers.authorization).toBe("Bearer secret");
    response.statusCode = seen.length === 1 ? 503 : 200;
    response.end(seen.length === 1 ? problem(503, "storage_unavailable", "the storage is away") : "{}");
  });
  await client.postJson("/v1/plans", z.object({}), {});
  expect(seen).toHaveLength(2);
  expect(seen[0]).toBe(seen[1]);
  expect(seen[0]).toMatch(/^[0-9a-f-]{36}$/);
});

test.each([
  [400, 64, "invalid_run_spec"],
  [401, 6, "unauthenticated"],
  [404, 4, "run_not_found"],
  [409, 5, "already_over"],
  [422, 64, "plan_refused"],
])("a problem of status %i ends with exit code %i and the server's own sentence", async (status, exitCode, code) => {
  const client = await serve(
    (_request, response) => void response.writeHead(status).end(problem(status, code, "the server's own sentence")),
  );
  const error = await client.getJson("/v1/runs/x", z.object({})).catch((caught: unknown) => caught);
  expect(error).toMatchObject({
    code,
    message: "the server's own sentence",
    details: [{ path: "training.lora.rank" }],
  });
  expect(exitCodeOf(error)).toBe(exitCode);
});

test("an answer that is no problem+json is told by its first line", async () => {
  const client = await serve((_request, response) => void response.writeHead(404).end("<html>\nnginx"));
  await expect(client.getJson("/v1/runs", z.object({}))).rejects.toThrow("the server answered 404: <html>");
});

async function collect(events: AsyncIterable<ServerEvent>): Promise<ServerEvent[]> {
  const all: ServerEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

async function* chunked(text: string, size: number): AsyncGenerator<string> {
  for (let start = 0; start < text.length; start += size) yield text.slice(start, start + size);
}

test.each([1, 3, 1000])("events are the same however the stream is cut (%i characters at a time)", async (size) => {
  const text = ': hello\nretry: 1000\n\nid: 4\nevent: state.changed\ndata: {"a":\ndata: 1}\n\ndata:two\n\n';
  expect(await collect(parseEvents(chunked(text, size)))).toEqual([
    { id: "4", type: "state.changed", data: '{"a":\n1}' },
    { id: "4", type: "message", data: "two" },
  ]);
});

test("a stream that breaks is opened again after the last event, and ends at `end`", async () => {
  const asked: (string | undefined)[] = [];
  const client = await serve((request, response) => {
    asked.push(request.headers["last-event-id"] as string | undefined);
    response.writeHead(200, { "content-type": "text/event-stream" });
    if (asked.length === 1) {
      response.write("id: 1\ndata: one\n\nid: 2\ndata: two\n\n", () => response.destroy());
      return;
    }
    response.end("id: 3\ndata: three\n\nevent: end\ndata: {}\n\n");
  });
  const events = await collect(
    followEvents(client, "/v1/runs/r/events", { signal: new AbortController().signal, retryDelaysMs: [1, 1, 1] }),
  );
  expect(events.map(({ data }) => data)).toEqual(["one", "two", "three"]);
  expect(asked).toEqual([undefined, "2"]);
});
