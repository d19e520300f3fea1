import { Cron } from "croner";
import { InvalidError } from "@drydock/kit";
import type { PipelineSpec, PipelineTrigger } from "../contract/pipeline.ts";

type CronTrigger = Extract<PipelineTrigger, { type: "cron" }>;

const mostCaughtUp = 20;

/** @throws InvalidError `invalid_cron`, `cron_never_fires` */
export function checkCron(trigger: CronTrigger, path: string): void {
  const next = nextTime(trigger, new Date(), path);
  if (next === null)
    refuse("cron_never_fires", path, `the schedule "${trigger.expression}" never comes: no date fits it`);
}

/** The first time after `after` at which a schedule comes; null when it never does. @throws InvalidError `invalid_cron` */
export function nextTime(trigger: CronTrigger, after: Date, path = "triggers"): Date | null {
  try {
    return new Cron(trigger.expression, { timezone: trigger.timeZone, paused: true, mode: "5-or-6-parts" }).nextRun(
      after,
    );
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return refuse(
      "invalid_cron",
      path,
      `the schedule "${trigger.expression}" (${trigger.timeZone}) cannot be read: ${why}; write five fields, e.g. "0 3 * * 1" for Mondays at 3`,
    );
  }
}

/** The next time of any of a pipeline's schedules. */
export function nextScheduled({ triggers }: Pick<PipelineSpec, "triggers">, after: Date): Date | null {
  const times = triggers
    .filter((trigger) => trigger.type === "cron")
    .map((trigger) => nextTime(trigger, after))
    .filter((time) => time !== null);
  return times.toSorted((a, b) => a.getTime() - b.getTime())[0] ?? null;
}

/**
 * Times of a pipeline's schedules that are to be started now.
 *
 * @param since    up to when they were looked at before
 * @param graceMs  one that is no later than this counts as on time
 */
export function dueTimes(
  { triggers, catchUp }: Pick<PipelineSpec, "triggers" | "catchUp">,
  since: Date,
  now: Date,
  graceMs: number,
): Date[] {
  const passed = triggers
    .filter((trigger) => trigger.type === "cron")
    .flatMap((trigger) => timesBetween(trigger, since, now))
    .toSorted((a, b) => a.getTime() - b.getTime());
  if (catchUp === "all") return passed.slice(-mostCaughtUp);
  const last = passed.slice(-1);
  return catchUp === "latest" ? last : last.filter((time) => now.getTime() - time.getTime() <= graceMs);
}

/** The last times of a schedule in (since, now], at most as many as are caught up. */
function timesBetween(trigger: CronTrigger, since: Date, now: Date): Date[] {
  const times: Date[] = [];
  let at: Date | null = since;
  while ((at = nextTime(trigger, at)) !== null && at <= now) {
    times.push(at);
    if (times.length > mostCaughtUp) times.shift();
  }
  return times;
}

function refuse(code: string, path: string, message: string): never {
  throw new InvalidError(code, message, { details: [{ path, code, message }] });
}
