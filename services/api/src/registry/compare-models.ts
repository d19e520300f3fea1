import { canonicalJson } from "@drydock/kit";
import type { Model, ModelComparison, RunSpec } from "@drydock/spec";
import { inArray } from "drizzle-orm";
import type { Database } from "../store/database.ts";
import { runs } from "../store/schema.ts";

/** A version with the spec of the run that made it; null when that run is not known here. */
export interface ModelWithSpec {
  readonly model: Model;
  readonly spec: RunSpec | null;
}

/** The specs of the runs that made some versions. */
export async function withSpecs(database: Database, versions: readonly Model[]): Promise<ModelWithSpec[]> {
  const rows = await database
    .select({ id: runs.id, spec: runs.spec })
    .from(runs)
    .where(inArray(runs.id, [...new Set(versions.map(({ lineage }) => lineage.runId))]));
  const specs = new Map(rows.map(({ id, spec }) => [id, spec]));
  return versions.map((model) => ({ model, spec: specs.get(model.lineage.runId) ?? null }));
}

/**
 * Versions of one model beside each other; the first is what others are measured against.
 *
 * @param versions  two or more
 */
export function compareModels(name: string, versions: readonly ModelWithSpec[]): ModelComparison {
  const lineages = versions.map(({ model }) => {
    const { scores: _scores, ...lineage } = model.lineage;
    return lineage;
  });
  return {
    name,
    versions: versions.map(({ model }) => ({
      version: model.version,
      stage: model.stage,
      aliases: model.aliases,
      kind: model.kind,
      base: model.lineage.base,
      runId: model.lineage.runId,
      dataset: model.lineage.dataset,
      datasetDigest: model.lineage.datasetDigest,
      codeVersion: model.lineage.codeVersion ?? null,
      sizeBytes: model.files.reduce((total, { sizeBytes }) => total + sizeBytes, 0),
      createdAt: model.createdAt,
    })),
    spec: differingFields(versions.map(({ spec }) => spec)),
    lineage: differingFields(lineages),
    scores: compareScores(versions.map(({ model }) => model.lineage.scores.after)),
    scoresBefore: versions.map(({ model }) => model.lineage.scores.before),
  };
}

/** The fields, as paths with dots, in which some objects differ, in order of their names. */
function differingFields(objects: readonly unknown[]): { path: string; values: unknown[] }[] {
  const fields = objects.map((object) => new Map(fieldsOf(object, "")));
  const paths = [...new Set(fields.flatMap((each) => [...each.keys()]))].toSorted();
  return paths
    .map((path) => ({ path, values: fields.map((each) => each.get(path) ?? null) }))
    .filter(({ values }) => new Set(values.map((value) => canonicalJson(value))).size > 1);
}

/** Leaves of an object by their paths; a list is one value. */
function fieldsOf(value: unknown, path: string): [string, unknown][] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return path === "" ? [] : [[path, value]];
  return Object.entries(value).flatMap(([name, member]) => fieldsOf(member, path === "" ? name : `${path}.${name}`));
}

function compareScores(scores: readonly (Readonly<Record<string, number>> | null)[]): ModelComparison["scores"] {
  const metrics = [...new Set(scores.flatMap((each) => Object.keys(each ?? {})))].toSorted();
  return metrics.map((metric) => {
    const values = scores.map((each) => each?.[metric] ?? null);
    const first = values[0] ?? null;
    return {
      metric,
      values,
      differences: values.map((value) => (value === null || first === null ? null : value - first)),
    };
  });
}
