import { globSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleWorkflowCode, Runtime, Worker, type WorkflowBundleWithSourceMap } from "@temporalio/worker";
import { beforeAll, expect, test } from "vitest";
import { createLogger } from "@drydock/kit";
import { temporalLogger } from "./temporal-logger.ts";

const histories = join(import.meta.dirname, "..", "..", "..", "test", "golden", "histories");
const files = globSync("*/*.json", { cwd: histories }).toSorted();

let workflowBundle: WorkflowBundleWithSourceMap;
beforeAll(async () => {
  const logger = temporalLogger(createLogger("replay", { DRYDOCK_LOG_LEVEL: "silent" }));
  Runtime.install({ logger });
  workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(import.meta.resolve("@drydock/workflows")),
    logger,
  });
});

test("every workflow has recorded histories", () => {
  expect(new Set(files.map(dirname))).toEqual(
    new Set(["dataset", "evaluationRun", "fineTuneRun", "pipeline", "sweep"]),
  );
});

// A change of a workflow that old runs cannot follow fails here with DeterminismViolationError: guard it with a patch
// marker, or give the workflow a new name. Histories of a release are never removed while a run of it may be open.
test.each(files)("%s is followed by the workflows of today", async (file) => {
  const history: unknown = JSON.parse(readFileSync(join(histories, file), "utf8"));
  const replays = Worker.runReplayHistories({ workflowBundle }, [
    { workflowId: basename(relative(histories, file), ".json"), history },
  ]);
  for await (const { error } of replays) expect(error).toBeUndefined();
});
