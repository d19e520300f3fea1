import type { Run, RunSpecInput, Sweep } from "@drydock/spec";
import { expect, test } from "vitest";
import { aSpec, onEachDatabase, useApi } from "../../test/support/api.ts";

onEachDatabase("runs that begin from a checkpoint", (location) => {
  const api = useApi(location);

  async function transition(id: string, to: string): Promise<void> {
    await api().ok("POST", `/internal/v1/runs/${id}/transitions`, { key: to, to, reason: "completed", message: to });
  }

  /** A run that is over, told of checkpoints at 10, 20 and 30, of which the first was removed; `best` was scored best. */
  async function source(changes: Partial<RunSpecInput> = {}, best: number | null = 20): Promise<string> {
    const { id } = await api().submitRun(changes);
    for (const to of ["queued", "scheduling", "running"]) await transition(id, to);
    const checkpoints = [10, 20, 30].map((step) => ({
      runId: id,
      step,
      attempt: 1,
      key: `runs/${id}/checkpoints/step-000000${step}`,
      sizeBytes: 1,
      manifestSha256: "a".repeat(64),
      isBest: step === best,
      scores: null,
      createdAt: new Date(0).toISOString(),
    }));
    await api().ok("POST", `/internal/v1/runs/${id}/reports`, { checkpoints });
    for (const { key } of checkpoints.slice(1)) await api().storage.put(`${key}/manifest.json`, "{}");
    await transition(id, "failed");
    return id;
  }

  test("the best checkpoint is taken, or the newest, or the one that is named; it is written with its step", async () => {
    const [scored, unscored] = [await source(), await source({}, null)];
    const stepOf = async (warmStart: RunSpecInput["warmStart"]): Promise<unknown> => {
      const { id } = await api().submitRun({ warmStart });
      return (await api().ok<Run>("GET", `/v1/runs/${id}`)).spec.warmStart;
    };
    expect(await stepOf({ run: scored })).toEqual({ run: scored, step: 20 });
    expect(await stepOf({ run: unscored })).toEqual({ run: unscored, step: 30 });
    expect(await stepOf({ run: scored, step: 30 })).toEqual({ run: scored, step: 30 });
  });

  test("all trials of a sweep begin from the same step", async () => {
    const run = await source();
    const { spec } = await api().ok<Sweep>("POST", "/v1/sweeps", {
      name: "from-there",
      run: aSpec({ dataset: await api().readyDataset(), warmStart: { run } }),
      space: { "training.learningRate": { type: "log", low: 1e-5, high: 1e-3 } },
      search: { kind: "random", trials: 2 },
    });
    expect(spec.run["warmStart"]).toEqual({ run, step: 20 });
  });

  test("a checkpoint that is not there, not settled or of other weights is refused at its field", async () => {
    const dataset = await api().readyDataset();
    const refusal = async (changes: Partial<RunSpecInput>, url = "/v1/runs") => {
      const { status, code, detail, errors } = await api().refused("POST", url, {
        body: aSpec({ dataset, ...changes }),
      });
      return { status, code, detail, path: errors?.[0]?.path };
    };
    const run = await source();
    const open = await api().submitRun();
    expect(await refusal({ warmStart: { run: "run_none" } })).toMatchObject({
      status: 404,
      code: "run_not_found",
      path: "warmStart.run",
    });
    expect(await refusal({ warmStart: { run: open.id } })).toEqual({
      status: 409,
      code: "run_not_over",
      path: "warmStart.run",
      detail: `run ${open.id} is validating and may still remove checkpoints: begin from it when it is over`,
    });
    expect(await refusal({ warmStart: { run, step: 10 } })).toEqual({
      status: 404,
      code: "checkpoint_not_found",
      path: "warmStart",
      detail: `run ${run} has no checkpoint of step 10 to begin from: kept are 20, 30`,
    });
    for (const url of ["/v1/runs", "/v1/plans"])
      expect(await refusal({ warmStart: { run }, training: { lora: { rank: 8 } } }, url)).toEqual({
        status: 422,
        code: "warm_start_mismatch",
        path: "training.lora.rank",
        detail:
          "the checkpoint is of training.lora.rank 16, this run's is 8: make them equal, or begin without warmStart",
      });
  });
});
