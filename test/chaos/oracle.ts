import { NotFoundError, sha256, type ObjectStorage } from "@drydock/kit";
import type { CheckpointManifest, Run, RunEvent, StepMetric } from "@drydock/spec";
import { until, type Embedded } from "../support/embedded.ts";
import { askTemporal } from "./ask-temporal.ts";
import type { Findings } from "./invariants.ts";
import type { Site } from "./site.ts";

/** Workers of a run that is over are gone after so long. */
const collectedMs = 20_000;
/** The workflow of a run that is over ends after so long: a controller that was killed at the end is missed by its heartbeat first. */
const settledMs = 60_000;
/** Events of one workflow: a fixed part, and what each attempt may add. Measured: 40 and 12. */
const historyBase = 60;
const historyPerAttempt = 30;

const terminal = ["succeeded", "failed", "cancelled"];

/** Everything that can be seen of one run from outside. */
export interface Evidence {
  readonly run: Run;
  readonly events: readonly RunEvent[];
  readonly metrics: readonly StepMetric[];
}

/** Checks the invariants of runs that are over: by the REST API, the object storage, Temporal, and whoever runs the workers. */
export class Oracle {
  readonly #site: Site;

  constructor(site: Site) {
    this.#site = site;
  }

  /** @returns what was seen, to be kept when something does not hold */
  async check(runIds: readonly string[], findings: Findings): Promise<readonly Evidence[]> {
    const secrets = await this.#site.secrets();
    const evidence = await Promise.all(runIds.map(async (id) => await evidenceOf(this.#site.drydock, id)));
    for (const each of evidence) {
      checkTerminalState(each, findings);
      checkSteps(each, findings);
      checkAccounting(each, findings);
      await this.#checkCheckpoints(each, findings);
      findings.expect(12, !tells(JSON.stringify(each), secrets), `run ${each.run.id}: a secret in its answers`);
    }
    await this.#checkOrphans(runIds, findings);
    await this.#checkWorkflows(evidence, secrets, findings);
    for (const { name, text } of await this.#site.texts(runIds))
      findings.expect(12, !tells(text, secrets), `a secret in ${name}`);
    return evidence;
  }

  async #checkOrphans(runIds: readonly string[], findings: Findings): Promise<void> {
    for (const id of runIds) {
      let left: string[] = [];
      const isGone = await until(
        `nothing is left of ${id}`,
        async () => ((left = await this.#site.leftovers([id])).length > 0 ? null : true),
        collectedMs,
      ).catch(() => false);
      findings.expect(2, isGone, left.join("; "));
    }
  }

  /** Every manifest that is there is whole, no attempt went on from less than what had been told as saved. */
  async #checkCheckpoints({ run, events, metrics }: Evidence, findings: Findings): Promise<void> {
    const { storage } = this.#site;
    const newest = Math.max(1, ...run.attempts.map(({ epoch }) => epoch));
    for await (const { key } of storage.list(`runs/${run.id}/checkpoints/`)) {
      if (!key.endsWith("/manifest.json")) continue;
      const folder = key.slice(0, -"/manifest.json".length);
      const manifest = JSON.parse(Buffer.from(await storage.get(key)).toString()) as CheckpointManifest;
      for (const file of manifest.files) {
        const content = await contentOf(storage, `${folder}/${file.name}`);
        const isWhole = content !== null && sha256(content) === file.sha256;
        findings.expect(4, isWhole, `${folder}/${file.name} is not what its manifest says`);
      }
      findings.expect(5, manifest.epoch <= newest, `${folder} is of attempt ${manifest.epoch}`);
    }
    for (const { epoch, fromStep } of run.attempts.slice(1)) {
      const first = metrics.find(({ attempt }) => attempt === epoch)?.step;
      const saved = events.filter(({ type, attempt }) => type === "checkpoint.saved" && (attempt ?? 0) < epoch);
      const step = Math.max(0, ...saved.map((event) => event.step ?? 0));
      findings.expect(
        4,
        first === undefined || first > step,
        `run ${run.id}: attempt ${epoch} (from step ${fromStep}) went on at step ${first}, step ${step} was told as saved`,
      );
    }
  }

  async #checkWorkflows(evidence: readonly Evidence[], secrets: readonly string[], findings: Findings): Promise<void> {
    await askTemporal(this.#site.drydock, async (client) => {
      for (const { run } of evidence) {
        const handle = client.workflow.getHandle(run.id);
        let status = "";
        const isOver = async (): Promise<true | null> =>
          (status = (await handle.describe()).status.name) === "RUNNING" ? null : true;
        await until(`the workflow of ${run.id} ends`, isOver, settledMs).catch(() => null);
        findings.expect(3, status === "COMPLETED", `run ${run.id}: workflow ${status}`);
        const { events } = await handle.fetchHistory();
        const most = historyBase + historyPerAttempt * Math.max(1, run.attempts.length);
        findings.expect(10, (events ?? []).length <= most, `run ${run.id}: ${events?.length} events, at most ${most}`);
        findings.expect(12, !tells(textIn(events), secrets), `run ${run.id}: a secret in the workflow's history`);
      }
    });
  }
}

/** What the REST API tells of a run. */
export async function evidenceOf(drydock: Embedded, id: string): Promise<Evidence> {
  const items = async <Item>(list: string): Promise<Item[]> => {
    const found: Item[] = [];
    for (let cursor: string | null = ""; cursor !== null;) {
      const page: { items: Item[]; nextCursor: string | null } = await drydock.call(
        "GET",
        `/v1/runs/${id}/${list}?limit=200${cursor === "" ? "" : `&cursor=${cursor}`}`,
      );
      found.push(...page.items);
      cursor = page.nextCursor;
    }
    return found;
  };
  return {
    run: await drydock.call<Run>("GET", `/v1/runs/${id}`),
    events: await items<RunEvent>("events"),
    metrics: await items<StepMetric>("metrics"),
  };
}

async function contentOf(storage: ObjectStorage, key: string): Promise<Uint8Array | null> {
  try {
    return await storage.get(key);
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}

function checkTerminalState({ run, events }: Evidence, findings: Findings): void {
  const ends = events.filter(({ to, from }) => to !== from && terminal.includes(to ?? ""));
  findings.expect(3, ends.length === 1, `run ${run.id} ended ${ends.length} times`);
  findings.expect(3, ends.at(-1)?.to === run.state, `run ${run.id} is ${run.state}, its events say ${ends.at(-1)?.to}`);
  const after = events.filter(({ sequence, type }) => type === "state.changed" && sequence > (ends[0]?.sequence ?? 0));
  findings.expect(3, after.length === 0, `run ${run.id} changed its state after its end`);
}

/** Each step is there, and once a later attempt has reported, an earlier one is never heard again. */
function checkSteps({ run, metrics }: Evidence, findings: Findings): void {
  const ordered = metrics.toSorted((a, b) => a.sequence - b.sequence);
  const isFenced = ordered.every(({ attempt }, index) => attempt >= (ordered[index - 1]?.attempt ?? 0));
  findings.expect(5, isFenced, `run ${run.id}: an older attempt reported after a newer one`);
  if (run.state !== "succeeded") return;
  const { step, totalSteps } = run.progress;
  const steps = new Set(metrics.map((metric) => metric.step));
  findings.expect(8, steps.size === totalSteps, `run ${run.id}: ${steps.size} of ${totalSteps} steps were reported`);
  findings.expect(8, step === totalSteps, `run ${run.id} succeeded, its progress says step ${step} of ${totalSteps}`);
}

/** Attempts follow one another, each is ended, and losses do not use the retries up. */
function checkAccounting({ run }: Evidence, findings: Findings): void {
  for (const [index, attempt] of run.attempts.entries()) {
    findings.expect(8, attempt.endedAt !== null, `run ${run.id}: attempt ${attempt.epoch} is over and has no end`);
    findings.expect(8, attempt.epoch === index + 1, `run ${run.id}: attempt ${attempt.epoch} is number ${index + 1}`);
    const before = run.attempts[index - 1];
    if (before === undefined) continue;
    const isAfter = Date.parse(attempt.startedAt) >= Date.parse(before.endedAt ?? "9999-01-01T00:00:00Z");
    findings.expect(8, isAfter, `run ${run.id}: attempt ${attempt.epoch} started before the one before it had ended`);
  }
}

function tells(text: string, secrets: readonly string[]): boolean {
  return secrets.some((secret) => text.includes(secret));
}

/** All texts in a value, bytes read as UTF-8. */
function textIn(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("utf8");
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return "";
  return Object.values(value).map(textIn).join("\n");
}
