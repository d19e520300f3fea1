import { terminalRunStates, type Layout, type RunState } from "@drydock/spec";

const secondsPerHour = 3600;

/** When a run's attempts held workers. */
export interface UsedRun {
  readonly state: RunState;
  readonly layout: Pick<Layout, "gpus"> | null;
  readonly attempts: readonly { readonly startedAt: Date | string; readonly endedAt: Date | string | null }[];
}

/** GPU hours of all attempts of a run, one that goes on counted up to now. A worker without a GPU counts as one. */
export function gpuHoursOf({ state, layout, attempts }: UsedRun, now: Date): number {
  const isOver = terminalRunStates.includes(state);
  const seconds = attempts.map(({ startedAt, endedAt }) => {
    const end = endedAt ?? (isOver ? startedAt : now);
    return ((new Date(end).getTime() - new Date(startedAt).getTime()) / 1000) * (layout?.gpus ?? 1);
  });
  return seconds.reduce((sum, each) => sum + each, 0) / secondsPerHour;
}
