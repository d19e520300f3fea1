import type { Database } from "../store/database.ts";
import { PipelineStore, type PipelineRunRow } from "../store/pipeline-store.ts";
import { firePipelineTrigger } from "./fire-trigger.ts";

const actor = "drydock";

/** Starts the pipelines that wait for new versions of a data set, in the transaction that makes one ready. */
export async function startPipelinesOf(tx: Database, dataset: string, version: number): Promise<void> {
  for (const { name, state, spec } of await new PipelineStore(tx).all())
    if (state === "enabled" && spec.dataset === dataset && spec.triggers.some(({ type }) => type === "dataset"))
      await firePipelineTrigger(tx, name, {
        key: `dataset/${dataset}@${version}`,
        trigger: { type: "dataset", detail: `${dataset}@${version} is ready` },
        actor,
        now: new Date(),
      });
}

/** Starts the pipelines that follow one of which a run has succeeded. */
export async function startPipelinesAfter(database: Database, run: PipelineRunRow): Promise<void> {
  const followers = (await new PipelineStore(database).all()).filter(
    ({ state, spec }) =>
      state === "enabled" &&
      spec.triggers.some((trigger) => trigger.type === "pipeline" && trigger.pipeline === run.spec.name),
  );
  for (const { name } of followers)
    await database.transaction(
      async (tx) =>
        await firePipelineTrigger(tx, name, {
          key: `pipeline/${run.id}`,
          trigger: { type: "pipeline", detail: `run ${run.number} of pipeline ${run.spec.name} succeeded` },
          actor,
          now: new Date(),
        }),
    );
}
