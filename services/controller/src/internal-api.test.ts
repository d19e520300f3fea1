import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { InternalApi } from "./internal-api.ts";

const closers: (() => void)[] = [];
afterEach(() => closers.splice(0).forEach((close) => close()));

/** An api that answers as scripted, then with `{}`. */
async function apiThat(
  ...answers: ((request: IncomingMessage, response: ServerResponse) => void)[]
): Promise<{ url: string; calls: string[] }> {
  const calls: string[] = [];
  const server = createServer((request, response) => {
    calls.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    (answers.shift() ?? ((_, answer) => answer.end("{}")))(request, response);
  }).listen(0, "127.0.0.1");
  closers.push(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server, "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
}

const status =
  (code: number, body = "") =>
  (_: IncomingMessage, response: ServerResponse): void =>
    void response.writeHead(code).end(body);
const cut = (request: IncomingMessage): void => void request.socket.destroy();

test("a call is tried again while the api or its database is away", async () => {
  const { url, calls } = await apiThat(cut, status(503), status(500));
  await new InternalApi(url, "key").putEvaluation("eval_1", {} as never);
  expect(calls).toEqual(Array.from({ length: 4 }, () => "PUT /internal/v1/evaluations/eval_1 Bearer key"));
});

test("a call that is refused is not tried again, and says what was answered", async () => {
  const { url, calls } = await apiThat(status(404, '{"code":"run_not_found"}'), status(400, '{"code":"invalid"}'));
  const api = new InternalApi(url, "key");
  await expect(api.run("run_1")).rejects.toThrow('GET /runs/run_1 was answered with 404: {"code":"run_not_found"}');
  await expect(api.run("run_1")).rejects.toMatchObject({ code: "api_refused", isRetryable: false });
  expect(calls).toHaveLength(2);
});

test("a refusal gives the api's own sentence, and its code as a detail", async () => {
  const { url } = await apiThat(status(422, '{"code":"stage_refused","detail":"weld@2 is archived","status":422}'));
  await expect(new InternalApi(url, "key").call("POST", "/models/weld/rollback", {})).rejects.toMatchObject({
    message: "POST /models/weld/rollback was answered with 422: weld@2 is archived",
    details: [{ code: "stage_refused", message: "weld@2 is archived" }],
  });
});

test("a hasty call is tried once: its caller tries again", async () => {
  const { url, calls } = await apiThat(cut);
  await expect(new InternalApi(url, "key").hasty().report("run_1", {})).rejects.toMatchObject({
    code: "api_unavailable",
  });
  expect(calls).toHaveLength(1);
});
