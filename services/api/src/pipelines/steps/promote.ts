import { parseModelReference, type PipelineStep } from "@drydock/spec";
import { setAlias } from "../../registry/change-model.ts";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";
import { productionOf } from "./evaluate.ts";

/**
 * Gigabytes are read to verify them: the controller does that, and says when it has. A candidate that was held against another version than the one
 * that is in production now is evaluated again.
 */
export async function promote(
  services: Pick<Services, "models">,
  { id, number, spec, results }: PipelineRunRow,
): Promise<StepOutcome> {
  const { candidate, production } = results;
  const { name, version } = candidateOf(candidate);
  const order = {
    kind: "promote",
    name,
    version,
    key: `${id}/promote`,
    message: `run ${number} of pipeline ${spec.name}`,
  } as const;
  if (production === undefined) return order;
  const now = await productionOf(services, name);
  if (now === production || now === candidate)
    return { ...order, expected: now === null ? null : candidateOf(now).version };
  const message = `${now ?? "nothing"} is in production by now, not ${production ?? "nothing"}: ${candidate} is held against that`;
  return { kind: "repeat", from: "evaluate", message };
}

/** Moves the alias that deployments follow. */
export async function deploy(
  { database }: Pick<Services, "database">,
  { id, results }: PipelineRunRow,
  { alias }: Extract<PipelineStep, { type: "deploy" }>,
): Promise<StepOutcome> {
  const { name, version } = candidateOf(results.candidate);
  await database.transaction(async (tx) => await setAlias(tx, { name, alias, version, actor: id, ifMatch: undefined }));
  return { kind: "done", message: `${name}@${alias} is version ${version} now` };
}

export function candidateOf(candidate: string | undefined): { readonly name: string; readonly version: number } {
  const parsed = parseModelReference(candidate ?? "");
  return { name: parsed?.name ?? "", version: Number(parsed?.version ?? 0) };
}
