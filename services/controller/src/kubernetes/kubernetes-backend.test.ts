import { once } from "node:events";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLogger, FolderStorage } from "@drydock/kit";
import { aGang } from "../../test/gang-spec.ts";
import { gangSettings } from "./gang-settings.ts";
import { KubeApi } from "./kube-api.ts";
import { KubernetesBackend } from "./kubernetes-backend.ts";

// An API server on which every Job is gone before its watch could tell of it.
let server: Server;
let backend: KubernetesBackend;

beforeEach(async () => {
  server = createServer((incoming, response) => {
    const url = new URL(incoming.url ?? "/", "http://localhost");
    if (url.searchParams.has("watch")) {
      response.writeHead(200).flushHeaders();
      return;
    }
    const isList = url.searchParams.has("limit");
    const body = isList
      ? { metadata: { resourceVersion: "1" }, items: [] }
      : { metadata: { name: "made", uid: "1" }, message: "not found", reason: "NotFound" };
    const status = isList ? 200 : incoming.method === "POST" ? 201 : 404;
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const api = new KubeApi({
    server: base,
    send: async ({ method, path, body, signal }) =>
      await new Promise((resolve, reject) => {
        request(new URL(path, base), { method, signal }, resolve)
          .once("error", reject)
          .end(body === undefined ? undefined : JSON.stringify(body));
      }),
  });
  backend = new KubernetesBackend({
    api,
    settings: gangSettings({ namespace: "runs", image: "worker:1" }),
    storage: new FolderStorage(tmpdir()),
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
    lookMs: 20,
  });
  await backend.connect();
});
afterEach(async () => {
  await backend.close();
  server.closeAllConnections();
  server.close();
});

test("a gang whose Job was made and deleted while the watch was away ends as vanished", async () => {
  const gang = await backend.start(aGang({ ranks: 2 }));
  const { ranks } = await gang.ended;
  expect(ranks.map(({ rank, reason, message }) => [rank, reason, message])).toEqual([
    [0, "vanished", "its Job was deleted from outside"],
    [1, "vanished", "its Job was deleted from outside"],
  ]);
});
