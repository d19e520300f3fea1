import { once } from "node:events";
import { createServer, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KubeApi } from "./kube-api.ts";
import type { KubeConnection } from "./kube-connection.ts";

type Answer = (response: ServerResponse) => void;
let server: Server;
let connection: KubeConnection;
let answers: Answer[] = [];
const asked: string[] = [];

beforeEach(async () => {
  asked.length = 0;
  server = createServer((incoming, response) => {
    asked.push(`${incoming.method} ${incoming.url}`);
    (answers.length > 1 ? answers.shift() : answers[0])?.(response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  connection = {
    server: "https://cluster",
    send: async ({ method, path, signal, body }) =>
      await new Promise((resolve, reject) => {
        request(new URL(path, base), { method, signal }, resolve)
          .once("error", reject)
          .end(body === undefined ? undefined : JSON.stringify(body));
      }),
  };
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const answer =
  (status: number, body: object, headers: Record<string, string> = {}): Answer =>
  (response) => {
    response.writeHead(status, headers).end(JSON.stringify(body));
  };
const job = { metadata: { name: "dd-1" } };
const jobs = "/apis/batch/v1/namespaces/runs/jobs";

test("a create is repeated when the server is busy or the answer is lost", async () => {
  answers = [
    answer(429, { message: "slow down" }),
    answer(503, { message: "etcd" }),
    (response) => void response.socket?.destroy(),
    answer(201, job),
  ];
  expect(await new KubeApi(connection).create(jobs, job)).toMatchObject(job);
  expect(asked).toHaveLength(4);
});

test("Retry-After is heard", async () => {
  answers = [answer(429, { message: "slow down" }, { "retry-after": "1" }), answer(201, job)];
  const askedAtMs = performance.now();
  await new KubeApi(connection).create(jobs, job);
  expect(performance.now() - askedAtMs).toBeGreaterThanOrEqual(1000);
});

test("a replace is not repeated: its version is old by then", async () => {
  answers = [answer(500, { message: "etcdserver: request timed out" })];
  await expect(new KubeApi(connection).replace(`${jobs}/dd-1`, job)).rejects.toThrow(/request timed out/);
  expect(asked).toHaveLength(1);
});

test("a server that does not answer is given up after the deadline, and named", async () => {
  answers = [() => undefined];
  const api = new KubeApi(connection, { deadlineMs: 50, retryBudgetMs: 0 });
  await expect(api.get("/api/v1/nodes/a")).rejects.toMatchObject({
    code: "kube_unavailable",
    isRetryable: true,
    message: expect.stringMatching(
      /^the Kubernetes API at https:\/\/cluster does not answer \(.*\): GET \/api\/v1\/nodes\/a$/,
    ),
  });
});

test.each<[number, object, object]>([
  [401, { message: "Unauthorized" }, { code: "kube_unauthenticated", status: 401 }],
  [
    403,
    { message: 'jobs.batch is forbidden: User "x" cannot create resource "jobs" in the namespace "runs"' },
    { code: "kube_forbidden", message: expect.stringContaining('cannot create resource "jobs"') },
  ],
  [403, { message: 'pods "a" is forbidden: exceeded quota: gpus, requested: 8, limited: 4' }, { code: "kube_quota" }],
  [
    403,
    {
      message:
        'jobs.batch "a" is forbidden: unable to create new content in namespace runs because it is being terminated',
    },
    { code: "kube_namespace_terminating" },
  ],
  [400, { message: 'admission webhook "policy" denied the request: no' }, { code: "kube_refused" }],
  [404, { message: "not there" }, { code: "kube_not_found" }],
  [409, { message: "there already", reason: "AlreadyExists" }, { code: "kube_exists" }],
  [409, { message: "somebody was faster", reason: "Conflict" }, { code: "kube_conflict" }],
  [422, { message: "spec.completions: Invalid value" }, { code: "kube_invalid" }],
])("an answer %i becomes an error that says what to do", async (status, body, expected) => {
  answers = [answer(status, body)];
  await expect(new KubeApi(connection, { retryBudgetMs: 0 }).create(jobs, job)).rejects.toMatchObject(expected);
});

test("what is gone is no error to delete and nothing to find", async () => {
  answers = [answer(404, { message: "not there" })];
  const api = new KubeApi(connection);
  await api.delete(`${jobs}/dd-1`);
  expect(await api.find(`${jobs}/dd-1`)).toBeNull();
});
