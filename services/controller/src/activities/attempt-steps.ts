import type { Attempt } from "@drydock/spec";

/** A step of a report; attempt 0 is the one that reports. */
interface ToldStep {
  readonly step: number;
  readonly attempt: number;
}

/**
 * Where an attempt stands after steps were told. It starts from where the attempt before it was heard of last, which is a
 * guess: its own first step shows which checkpoint it really went on from.
 */
export function withSteps(
  { epoch, fromStep, lastStep }: Pick<Attempt, "epoch" | "fromStep" | "lastStep">,
  steps: readonly ToldStep[],
): Pick<Attempt, "fromStep" | "lastStep"> {
  const own = steps.filter(({ attempt }) => attempt === 0 || attempt === epoch);
  const [first, last] = [own[0], own.at(-1)];
  if (!first || !last) return { fromStep, lastStep };
  const isFirstHeardOf = lastStep === fromStep;
  return isFirstHeardOf
    ? { fromStep: first.step - 1, lastStep: last.step }
    : { fromStep, lastStep: Math.max(lastStep, last.step) };
}
