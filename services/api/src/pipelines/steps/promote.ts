import { parseModelReference, type PipelineStep } from "@drydock/spec";
import { setAlias } from "../../registry/change-model.ts";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../advance.ts";

/** Gigabytes are read to verify them: the controller does that, and says when it has. */
export async function promote(_services: unknown, { id, number, spec, results }: PipelineRunRow): Promise<StepOutcome> {
  const { name, version } = candidateOf(results.candidate);
  const message = `run ${number} of pipeline ${spec.name}`;
  return await Promise.resolve({ kind: "promote", name, version, key: `${id}/promote`, message });
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
