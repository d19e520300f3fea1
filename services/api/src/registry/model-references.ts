import { rollbackTarget, terminalRunStates, type Model } from "@drydock/spec";
import { and, eq, inArray, isNull, notInArray, or, sql, type SQL } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { Database } from "../store/database.ts";
import { evaluations, models, pipelineRuns, pipelines, runs, sweeps } from "../store/schema.ts";
import { productionEventsOf } from "./model-history.ts";

/** What refers to the versions of a model, by version: a sentence each. */
export type References = ReadonlyMap<number, readonly string[]>;

/**
 * Everything that would miss the files of a version: aliases, the version that a rollback goes back to, what is under way and uses it as base
 * or subject or has just made it, adapters that are put on it, pipelines that name it.
 */
export async function referencesOf(tx: Database, name: string, versions: readonly Model[]): Promise<References> {
  const target = rollbackTarget(await productionEventsOf(tx, name));
  const found = new Map<number, readonly string[]>();
  for (const model of versions) {
    if (model.filesRemovedAt !== null) continue;
    const reasons = model.aliases.map((alias) => `the alias "${alias}" means it`);
    if (model.version === target) reasons.push("a rollback would go back to it");
    found.set(model.version, [...reasons, ...(await usesOf(tx, model))]);
  }
  return found;
}

async function usesOf(tx: Database, { name, version, lineage }: Model): Promise<string[]> {
  const reference = `${name}@${version}`;
  const openRuns = await runsThatUse(tx, reference, lineage.runId);
  const openEvaluations = await tx
    .select({ id: evaluations.id })
    .from(evaluations)
    .where(and(inArray(evaluations.state, ["queued", "running"]), names(evaluations.spec, reference)));
  const openSweeps = await tx
    .select({ id: sweeps.id })
    .from(sweeps)
    .where(
      and(
        isNull(sweeps.endedAt),
        or(
          names(sweeps.spec, reference),
          names(sweeps.spec, lineage.runId),
          isPartOf("sweep", sweeps.id, lineage.runId),
        ),
      ),
    );
  const namingPipelines = await tx
    .select({ id: pipelines.name })
    .from(pipelines)
    .where(names(pipelines.spec, reference));
  const openPipelineRuns = await pipelineRunsThatUse(tx, reference, lineage.runId);
  const adapters = await tx
    .select({ name: models.name, version: models.version })
    .from(models)
    .where(
      and(eq(models.kind, "adapter"), isNull(models.filesRemovedAt), sql`${models.lineage}->>'base' = ${reference}`),
    );
  return [
    ...openRuns.map(({ id }) => `run ${id}, which is not over, uses it`),
    ...openEvaluations.map(({ id }) => `evaluation ${id}, which is not over, scores it`),
    ...openSweeps.map(({ id }) => `sweep ${id}, which is not over, uses it or has made it`),
    ...openPipelineRuns.map(({ id }) => `pipeline run ${id}, which is not over, uses it or has made it`),
    ...namingPipelines.map(({ id }) => `pipeline "${id}" names it`),
    ...adapters.map((adapter) => `the adapter ${adapter.name}@${adapter.version} is put on it`),
  ];
}

/** Runs under way that train from a version, or begin where the run that made it left off. */
async function runsThatUse(tx: Database, reference: string, maker: string): Promise<{ id: string }[]> {
  return await tx
    .select({ id: runs.id })
    .from(runs)
    .where(
      and(notInArray(runs.state, [...terminalRunStates]), or(names(runs.spec, reference), names(runs.spec, maker))),
    );
}

/** Runs of pipelines under way that name a version, or have made it. */
async function pipelineRunsThatUse(tx: Database, reference: string, maker: string): Promise<{ id: string }[]> {
  const isUsed = or(
    names(pipelineRuns.spec, reference),
    names(pipelineRuns.results, reference),
    names(pipelineRuns.results, maker),
    isPartOf("pipeline", pipelineRuns.id, maker),
  );
  return await tx
    .select({ id: pipelineRuns.id })
    .from(pipelineRuns)
    .where(and(isNull(pipelineRuns.endedAt), isUsed));
}

/** Whether a text is one of the values in a JSON document, wherever. What a document means need not be known to keep what it names. */
function names(column: PgColumn, text: string): SQL {
  return sql`strpos(${column}::text, ${JSON.stringify(text)}) > 0`;
}

/** Whether the run that made a version belongs to this sweep or this run of a pipeline. */
function isPartOf(kind: "sweep" | "pipeline", id: PgColumn, runId: string): SQL {
  return sql`exists (select 1 from ${runs} where ${runs.id} = ${runId} and ${runs.parent}->>'kind' = ${kind} and ${runs.parent}->>'id' = ${id})`;
}
