import { terminalRunStates, type Run, type RunEvent } from "@drydock/spec";
import type { DrydockClient } from "../client/drydock-client.ts";
import { cliExitCodes } from "../exit-codes.ts";
import type { Output } from "../output/output.ts";
import { bar, formatDuration, formatScores } from "../output/quantities.ts";

const pollMs = 700;
/** Without a terminal a line is printed each time this share of the steps is done. */
const milestoneShare = 0.1;

/**
 * Follows runs to their end: each change of state as a line, progress as bars. With `--json` each event is a line, and
 * the finished runs come last.
 *
 * @returns the exit code: 0 when all succeeded, 3 when one failed or was cancelled, 130 after Ctrl-C
 */
export async function watchRuns(
  client: DrydockClient,
  ids: readonly string[],
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const ended = new AbortController();
  const events = ids.map((id) =>
    tellEvents(client, id, ids.length > 1, output, AbortSignal.any([signal, ended.signal])),
  );
  const runs = await pollUntilOver(client, ids, output, signal);
  if (runs === null) {
    ended.abort();
    await Promise.all(events);
    output.note("Stopped watching; the runs go on.");
    return cliExitCodes.interrupted;
  }
  await Promise.all(events); // Each stream ends with its run.
  for (const run of runs) output.item(run, () => describeEnd(run));
  return runs.every(({ state }) => state === "succeeded") ? cliExitCodes.done : cliExitCodes.unsuccessful;
}

async function tellEvents(
  client: DrydockClient,
  id: string,
  isOneOfMany: boolean,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const name = isOneOfMany ? `${(await client.getRun(id)).name}  ` : "";
  for await (const event of client.followEvents(id, signal, () => output.note("the server is away; trying again"))) {
    if (output.isJson) output.item({ runId: id, ...event }, () => "");
    else output.note(`${name}${describeEvent(event)}`);
  }
}

/** Null after Ctrl-C. */
async function pollUntilOver(
  client: DrydockClient,
  ids: readonly string[],
  output: Output,
  signal: AbortSignal,
): Promise<Run[] | null> {
  const milestones = new Map<string, number>();
  while (!signal.aborted) {
    const runs = await Promise.all(ids.map((id) => client.getRun(id)));
    if (runs.every(({ state }) => terminalRunStates.includes(state))) return runs;
    const isMilestone = runs.map((run) => isNewMilestone(run, milestones)).some(Boolean);
    output.status(runs.map((run) => describeProgress(run, runs.length > 1 ? 12 : 24)).join("  │  "), isMilestone);
    await pause(pollMs, signal);
  }
  return null;
}

function isNewMilestone({ id, progress: { step, totalSteps } }: Run, seen: Map<string, number>): boolean {
  const milestone = totalSteps === 0 ? 0 : Math.floor(step / totalSteps / milestoneShare);
  const isNew = milestone > (seen.get(id) ?? 0);
  seen.set(id, milestone);
  return isNew;
}

/** One run as a bar with its numbers. */
export function describeProgress(run: Run, width: number): string {
  const { step, totalSteps, loss } = run.progress;
  const timeLeft = describeTimeLeft(run);
  const numbers = [
    loss === null ? null : `loss ${loss.toFixed(3)}`,
    timeLeft === null ? null : `${timeLeft} left`,
  ].filter((part) => part !== null);
  if (run.waiting !== null) return `${run.name} waits: ${run.waiting.sentence}`;
  const state = run.state === "running" ? "" : ` ${run.state}`;
  return `${run.name} ${bar(totalSteps === 0 ? 0 : step / totalSteps, width)} ${step}/${totalSteps}${state}${numbers.length > 0 ? ` ${numbers.join(", ")}` : ""}`;
}

/** Null while the run does not train: what its last step said is then of no use. */
export function describeTimeLeft({
  state,
  progress: { remainingSeconds },
}: Pick<Run, "state" | "progress">): string | null {
  return remainingSeconds === null || (state !== "running" && state !== "pausing")
    ? null
    : formatDuration(remainingSeconds);
}

export function describeEvent(event: RunEvent): string {
  const change = event.from !== null && event.to !== null ? `${event.from} → ${event.to}` : event.type;
  const step = event.step === null ? "" : ` (step ${event.step})`;
  return `${event.time.slice(11, 19)}  ${change}${step}: ${event.message}`;
}

function describeEnd(run: Run): string {
  const scores =
    run.scores.after === null
      ? ""
      : `\n  before: ${formatScores(run.scores.before)}\n  after:  ${formatScores(run.scores.after)}`;
  return `${run.name}: ${run.state}. ${run.message}${run.model === null ? "" : `\n  model:  ${run.model}`}${scores}`;
}

/** Waits, or until the signal fires. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => resolve();
  const timer = setTimeout(done, milliseconds);
  signal.addEventListener("abort", done, { once: true });
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", done);
}
