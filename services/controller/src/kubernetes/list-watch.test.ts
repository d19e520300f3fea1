import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { request } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLogger } from "@drydock/kit";
import { KubeApi } from "./kube-api.ts";
import type { KubeConnection } from "./kube-connection.ts";
import type { KubeObject } from "./kube-objects.ts";
import { ListWatch } from "./list-watch.ts";

// An API server that does as it is told, over real connections.
type Answer = (response: ServerResponse, url: URL) => void;
let server: Server;
let connection: KubeConnection;
let lists: Answer[] = [];
let watches: Answer[] = [];
const asked: URL[] = [];
const followed: ListWatch<KubeObject>[] = [];

beforeEach(async () => {
  asked.length = 0;
  server = createServer((incoming: IncomingMessage, response) => {
    const url = new URL(incoming.url ?? "/", "http://localhost");
    asked.push(url);
    const queue = url.searchParams.has("watch") ? watches : lists;
    const answer = queue.length > 1 ? queue.shift() : queue[0];
    answer?.(response, url);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  connection = {
    server: base,
    send: async ({ method, path, signal }) =>
      await new Promise((resolve, reject) => {
        request(new URL(path, base), { method, signal }, resolve).once("error", reject).end();
      }),
  };
});
afterEach(async () => {
  await Promise.all(followed.splice(0).map(async (watch) => await watch.stop()));
  server.closeAllConnections();
  server.close();
});

function pod(name: string, resourceVersion: string, uid = name): KubeObject {
  return { metadata: { name, uid, resourceVersion } };
}

const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  };
const list = (resourceVersion: string, ...items: KubeObject[]): Answer =>
  json(200, { metadata: { resourceVersion }, items });
const events =
  (...given: readonly object[]): Answer =>
  (response) => {
    response.writeHead(200).write(given.map((event) => `${JSON.stringify(event)}\n`).join(""));
  };

async function follow(): Promise<{ watch: ListWatch<KubeObject>; told: [string, string | null][] }> {
  const watch = new ListWatch<KubeObject>({
    api: new KubeApi(connection, { retryBudgetMs: 5000 }),
    path: "/api/v1/namespaces/runs/pods",
    labelSelector: "a=b",
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
    maximumDelayMs: 20,
  });
  const told: [string, string | null][] = [];
  watch.subscribe((name, object) => told.push([name, object?.metadata.uid ?? null]));
  followed.push(watch);
  await watch.start();
  return { watch, told };
}

test("a list is read page by page, and the watch goes on from its version with bookmarks and a time limit", async () => {
  lists = [
    json(200, { metadata: { continue: "next", resourceVersion: "5" }, items: [pod("a", "1")] }),
    list("7", pod("b", "2")),
  ];
  watches = [events()];
  const { watch } = await follow();
  expect(watch.list().map(({ metadata }) => metadata.name)).toEqual(["a", "b"]);
  await vi.waitUntil(() => asked.length === 3);
  expect(asked[1]?.searchParams.get("continue")).toBe("next");
  const { searchParams } = asked[2]!;
  expect(Object.fromEntries(searchParams)).toMatchObject({
    resourceVersion: "7",
    allowWatchBookmarks: "true",
    labelSelector: "a=b",
  });
  expect(Number(searchParams.get("timeoutSeconds"))).toBeGreaterThanOrEqual(240);
});

test("a bookmark moves the version on, so that a cut watch comes back where it was", async () => {
  lists = [list("1")];
  watches = [
    (response, url) => {
      events({ type: "BOOKMARK", object: { metadata: { name: "", resourceVersion: "42" } } })(response, url);
      response.end();
    },
    events(),
  ];
  await follow();
  await vi.waitUntil(() => asked.length >= 3);
  expect(asked[2]?.searchParams.get("resourceVersion")).toBe("42");
});

test.each<[string, Answer]>([
  ["an answer 500", json(500, { message: "etcd is away" })],
  ["an answer 429", json(429, { message: "slow down" }, { "retry-after": "0" })],
  ["a reset connection", (response) => void response.socket?.destroy()],
  [
    "a line cut in the middle",
    (response) => {
      response.writeHead(200).write('{"type":"ADDED","object":{"metadata":');
      setTimeout(() => response.socket?.destroy(), 20);
    },
  ],
  ["a line that is no JSON", (response) => void response.writeHead(200).end("{oops}\n")],
])("after %s the watch comes back by itself", async (_, answer) => {
  lists = [list("1")];
  watches = [answer, answer, events({ type: "ADDED", object: pod("late", "2") })];
  const { watch } = await follow();
  await vi.waitFor(() => expect(watch.get("late")).toBeDefined(), { timeout: 5000 });
});

test.each<[string, Answer]>([
  ["an answer 410", json(410, { message: "too old" })],
  ["an ERROR event of code 410", events({ type: "ERROR", object: { code: 410, message: "too old", metadata: {} } })],
])("after %s everything is listed again, and what is gone is told", async (_, answer) => {
  lists = [list("1", pod("gone", "1"), pod("kept", "1")), list("9", pod("kept", "1"), pod("new", "9"))];
  watches = [answer, events()];
  const { watch, told } = await follow();
  await vi.waitUntil(() => watch.get("new") !== undefined);
  expect(told).toEqual([
    ["gone", "gone"],
    ["kept", "kept"],
    ["gone", null],
    ["new", "new"],
  ]);
});

test("an object of the same name with another uid counts as gone and made again", async () => {
  lists = [list("1", pod("a", "1", "first"))];
  watches = [events({ type: "MODIFIED", object: pod("a", "2", "second") })];
  const { told } = await follow();
  await vi.waitUntil(() => told.length === 3);
  expect(told).toEqual([
    ["a", "first"],
    ["a", null],
    ["a", "second"],
  ]);
});

test("a listener that fails harms no other", async () => {
  lists = [list("1")];
  watches = [events({ type: "ADDED", object: pod("a", "2") }, { type: "DELETED", object: pod("a", "3") })];
  const watch = new ListWatch<KubeObject>({
    api: new KubeApi(connection),
    path: "/pods",
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
  });
  followed.push(watch);
  const told: string[] = [];
  watch.subscribe(() => {
    throw new Error("a bug");
  });
  watch.subscribe((name, object) => told.push(`${name} ${object === null ? "gone" : "there"}`));
  await watch.start();
  await vi.waitUntil(() => told.length === 2);
  expect(told).toEqual(["a there", "a gone"]);
});

test("a first list that is refused is the caller's to hear", async () => {
  lists = [json(403, { message: 'pods is forbidden: User "x" cannot list resource "pods"' })];
  await expect(follow()).rejects.toThrow(/cannot list resource "pods": apply k8s\/runs\/rbac.yaml/);
});
