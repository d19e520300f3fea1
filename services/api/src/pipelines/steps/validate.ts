import { formatSeconds, type PipelineStep } from "@drydock/spec";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";

/** Waits for the newest version of the data set; one that failed ends the run with the reason. */
export async function validate(
  { datasets }: Pick<Services, "datasets">,
  { spec, results }: PipelineRunRow,
  { timeoutSeconds }: Extract<PipelineStep, { type: "validate" }>,
): Promise<StepOutcome> {
  const { latestVersion } = await datasets.get(spec.dataset);
  if (latestVersion === null || latestVersion === 0)
    return {
      kind: "end",
      state: "failed",
      message: `data set "${spec.dataset}" has no version yet: upload its files first`,
    };
  const version = await datasets.getVersion(spec.dataset, latestVersion);
  const reference = `${spec.dataset}@${latestVersion}`;
  if (version.state === "failed")
    return {
      kind: "end",
      state: "refused",
      message: `${reference} was refused: ${version.reason ?? "see its report"}`,
    };
  if (version.state === "ready") {
    const { rowsAccepted = 0, errors = 0, warnings = 0 } = version.report ?? {};
    const message = `${reference} is ready: ${rowsAccepted} rows, ${errors} errors, ${warnings} warnings`;
    return { kind: "done", message, results: { dataset: reference } };
  }
  const startedMs = Date.parse(results.startedAt["validate"] ?? "");
  return Date.now() - startedMs > timeoutSeconds * 1000
    ? { kind: "end", state: "failed", message: `${reference} was not checked within ${formatSeconds(timeoutSeconds)}` }
    : { kind: "wait" };
}
