import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLogger, FolderStorage } from "@drydock/kit";
import type { ClusterBackend, Gang } from "./cluster-backend.ts";
import { gangContract } from "../../../../test/support/gang-contract.ts";
import { LocalBackend } from "./local-backend.ts";
import { isAlive, type ProcessIdentity } from "./process-identity.ts";

// What a rank does is in the environment variable of its number.
const worker = `
const fs = require("node:fs");
fs.appendFileSync(process.env.NOTES, process.env.DRYDOCK_RANK + "/" + process.env.DRYDOCK_WORLD_SIZE + " ");
const does = {
  finish: () => process.exit(0),
  refuse: () => process.exit(65),
  lost: () => process.exit(75),
  wait: () => {
    process.on("SIGTERM", () => process.exit(143));
    const told = process.env.NOTES + "-" + process.env.GANG + "-" + process.env.DRYDOCK_RANK;
    setInterval(() => fs.existsSync(told) && process.exit(Number(fs.readFileSync(told, "utf8"))), 20);
  },
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

async function start(backend: ClusterBackend, ...does: string[]): Promise<Gang> {
  return await startNamed(backend, "run_1-a1", ...does);
}

async function startNamed(backend: ClusterBackend, name: string, ...does: string[]): Promise<Gang> {
  const gang = await backend.start({
    name,
    ranks: does.length,
    environment: { NOTES: join(root, "notes"), GANG: name },
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

test("a rank that lost its peers is not the cause", async () => {
  const { cause } = await (await start(controller(), "lost", "refuse")).ended;
  expect(cause).toMatchObject({ rank: 1, exitCode: 65 });
});

let number = 0;
gangContract({
  start: async (ranks) => {
    number += 1;
    const gang = await startNamed(controller(), `run_${number}-a1`, ...Array.from({ length: ranks }, () => "wait"));
    await vi.waitUntil(async () => (await notes()).length === ranks, { timeout: 10_000 });
    return gang;
  },
  startAgain: async (backend, { name, ranks }) =>
    await startNamed(backend, name, ...Array.from({ length: ranks }, () => "wait")),
  another: async () => controller(),
  end: async ({ name }, rank, exitCode) => {
    await writeFile(join(root, `notes-${name}-${rank}.new`), String(exitCode));
    await rename(join(root, `notes-${name}-${rank}.new`), join(root, `notes-${name}-${rank}`));
  },
  alive: async ({ name }) => {
    const entries = (await readdir(join(root, "pods"))).filter(
      (file) => file.startsWith(name) && file.endsWith(".json"),
    );
    const identities = await Promise.all(
      entries.map(async (file) => JSON.parse(await readFile(join(root, "pods", file), "utf8")) as ProcessIdentity),
    );
    return (await Promise.all(identities.map(isAlive))).filter(Boolean).length;
  },
});
