import type { Pipeline, PipelineAdvance, PipelineEvent, PipelineRun } from "@drydock/spec";
import { eq } from "drizzle-orm";
import type { LightMyRequestResponse } from "fastify";
import { evaluations, runs } from "../../src/store/schema.ts";
import { aSpec, type TestApi } from "./api.ts";
import { registerModel } from "./registered-model.ts";

export const rule = "candidate.exact-match >= production.exact-match";

/** What tests do with pipelines, the controller's part and the workers' included. */
export function pipelineStage(api: () => TestApi) {
  let made = 0;

  async function body(change: object = {}): Promise<{ name: string; dataset: string; steps: object[] }> {
    const { dataset: _none, ...run } = aSpec({ name: `model-${++made}` });
    const dataset = await api().readyDataset();
    return {
      name: `nightly-${made}`,
      dataset,
      steps: [{ type: "validate" }, { type: "train", run }],
      ...change,
    };
  }
  const create = async (change: object = {}): Promise<Pipeline> =>
    await api().ok("POST", "/v1/pipelines", await body(change));
  const trigger = async (name: string): Promise<PipelineRun> =>
    await api().ok("POST", `/v1/pipelines/${name}/trigger`, {});
  const advance = async (id: string): Promise<PipelineAdvance> =>
    await api().ok("POST", `/internal/v1/pipeline-runs/${id}/advance`);
  const read = async (id: string): Promise<PipelineRun> => await api().ok("GET", `/v1/pipeline-runs/${id}`);
  const timeline = async (id: string): Promise<PipelineEvent[]> =>
    (await api().ok<{ items: PipelineEvent[] }>("GET", `/v1/pipeline-runs/${id}/timeline`)).items;
  /** Does what is to be done until the run waits for something. */
  async function settle(id: string): Promise<PipelineAdvance> {
    for (;;) {
      const next = await advance(id);
      if (next.kind !== "again") return next;
    }
  }
  async function finishTraining(id: string, name: string, version: number): Promise<void> {
    const { runId } = (await read(id)).results;
    await registerModel(api(), { name, version, runId: runId! });
    await api().services.database.update(runs).set({ state: "succeeded" }).where(eq(runs.id, runId!));
  }
  /** What the controller does when it is told to promote: it verifies the files, and asks the registry. */
  async function promoteCandidate(id: string, order: PipelineAdvance): Promise<LightMyRequestResponse> {
    if (order.kind !== "promote") throw new Error(`${id} is to ${order.kind}, not to promote`);
    const { kind: _kind, name, version, ...promotion } = order;
    const verification = await api().ok("POST", `/v1/models/${name}/versions/${version}/verification`, {});
    const body = { ...promotion, actor: id, pipelineRun: id, verification };
    return await api().send("POST", `/internal/v1/models/${name}/versions/${version}/promote`, { body });
  }
  async function finishEvaluations(id: string, answers: { candidate: number; production?: number }): Promise<void> {
    const { evaluations: asked } = (await read(id)).results;
    for (const side of ["candidate", "production"] as const) {
      const evaluationId = asked?.[side];
      if (!evaluationId) continue;
      const key = `evaluations/${evaluationId}/results.jsonl`;
      const rows = Array.from({ length: 50 }, (_, index) => ({
        rowId: String(index),
        imageKey: null,
        fileName: null,
        width: null,
        height: null,
        prompt: "?",
        expected: "a",
        answer: index < (answers[side] ?? 0) ? "a" : "b",
        expectedGroundings: [],
        answeredGroundings: [],
        isParsable: true,
        scores: {},
      }));
      await api().storage.put(key, Buffer.from(rows.map((row) => JSON.stringify(row)).join("\n")));
      await api()
        .services.database.update(evaluations)
        .set({ state: "succeeded", resultsKey: key, samples: 50, scores: { "exact-match": 2 * (answers[side] ?? 0) } })
        .where(eq(evaluations.id, evaluationId));
    }
  }
  const gated = (run: object, gate: object = {}, rest: object[] = [{ type: "promote" }]): object => ({
    steps: [{ type: "train", run }, { type: "evaluate" }, { type: "gate", rules: [rule], ...gate }, ...rest],
  });
  const runTemplate = (name: string): object => {
    const { dataset: _none, ...run } = aSpec({ name });
    return run;
  };

  return {
    create,
    body,
    trigger,
    advance,
    read,
    timeline,
    settle,
    finishTraining,
    promoteCandidate,
    finishEvaluations,
    gated,
    runTemplate,
  };
}
