import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLogger, FolderStorage } from "@drydock/kit";
import type { Gang } from "./cluster-backend.ts";
import { LocalBackend } from "./local-backend.ts";

// What a rank does is in the environment variable of its number.
const worker = `
require("node:fs").appendFileSync(process.env.NOTES, process.env.DRYDOCK_RANK + "/" + process.env.DRYDOCK_WORLD_SIZE + " ");
const does = {
  finish: () => process.exit(0),
  refuse: () => process.exit(65),
  lost: () => process.exit(75),
  wait: () => { process.on("SIGTERM", () => process.exit(143)); setInterval(() => {}, 1000); },
};
does[process.env["RANK_" + process.env.DRYDOCK_RANK]]();
`;

let root: string;
const gangs: Gang[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-gang-"));
  await writeFile(join(root, "worker.cjs"), worker);
  await writeFile(join(root, "notes"), "");
});
afterEach(async () => {
  for (const gang of gangs.splice(0)) {
    gang.kill();
    await gang.ended;
  }
  await rm(root, { recursive: true, force: true });
});

function controller(): LocalBackend {
  return new LocalBackend({
    command: [process.execPath, join(root, "worker.cjs")],
    directory: join(root, "pods"),
    storage: new FolderStorage(join(root, "store")),
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
  });
}

async function start(backend: LocalBackend, ...does: string[]): Promise<Gang> {
  const gang = await backend.start({
    name: "run_1-a1",
    ranks: does.length,
    environment: { NOTES: join(root, "notes") },
    secrets: Object.fromEntries(does.map((what, rank) => [`RANK_${rank}`, what])),
    memoryLimitBytes: null,
    placement: { accelerator: null, gpusPerRank: 0, queue: "default", priority: "normal", avoidNodes: [] },
    stopGraceMs: 1000,
    logKeys: does.map((_, rank) => `logs/rank-${rank}.log`),
  });
  gangs.push(gang);
  return gang;
}

async function notes(): Promise<string[]> {
  return (await readFile(join(root, "notes"), "utf8")).trim().split(" ").toSorted();
}

test("every rank knows its number and how many there are", async () => {
  const gang = await start(controller(), "finish", "finish", "finish");
  const { ranks } = await gang.ended;
  expect(ranks.map(({ rank, exitCode }) => [rank, exitCode])).toEqual([
    [0, 0],
    [1, 0],
    [2, 0],
  ]);
  expect(await notes()).toEqual(["0/3", "1/3", "2/3"]);
});

test("a rank that ends badly takes the others with it, and is named as the cause", async () => {
  const { cause, ranks } = await (await start(controller(), "wait", "refuse", "wait")).ended;
  expect(cause).toMatchObject({ rank: 1, exitCode: 65 });
  expect(ranks.map(({ signal }) => signal)).toEqual(["SIGKILL", null, "SIGKILL"]);
});

test("a rank that lost its peers is not the cause", async () => {
  const { cause } = await (await start(controller(), "lost", "refuse")).ended;
  expect(cause).toMatchObject({ rank: 1, exitCode: 65 });
});

test("a wish to stop reaches every rank", async () => {
  const gang = await start(controller(), "wait", "wait");
  await vi.waitUntil(async () => (await notes()).length === 2);
  gang.stop();
  expect((await gang.ended).ranks.map(({ exitCode }) => exitCode)).toEqual([143, 143]);
});

test("another controller finds the whole gang, and the same name starts no second one", async () => {
  await start(controller(), "wait", "wait");
  await vi.waitUntil(async () => (await notes()).length === 2);
  const second = controller();
  expect((await second.list()).map(({ name }) => name)).toEqual(["run_1-a1"]);
  const found = await start(second, "wait", "wait");
  expect(await notes()).toHaveLength(2);
  found.kill();
  expect((await found.ended).ranks).toHaveLength(2);
});
