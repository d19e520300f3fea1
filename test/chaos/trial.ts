import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RunView } from "../support/embedded.ts";
import { reportTable, type Findings } from "./invariants.ts";
import { Oracle } from "./oracle.ts";
import type { Site } from "./site.ts";

export const reportFolder = join(import.meta.dirname, "..", "..", ".drydock", "chaos");

const overStates = ["succeeded", "failed", "cancelled"];

/** A run that was submitted, and what it was submitted as. */
export interface Submitted {
  readonly id: string;
  /** The same submission once more. */
  again(findings: Findings): Promise<void>;
}

/** The same submission three times at once: one run. */
export async function submit({ drydock }: Site, name: string, spec: object, findings: Findings): Promise<Submitted> {
  const send = async (): Promise<string> => {
    const { body } = await drydock.request("POST", "/v1/runs", { ...spec, name }, { "idempotency-key": name });
    const { id } = body as { id?: string };
    return id ?? `no run: ${JSON.stringify(body)}`;
  };
  const ids = await Promise.all([send(), send(), send()]);
  const [id] = ids;
  if (id.startsWith("no run")) throw new Error(`${name} was not accepted: ${id}`);
  findings.expect(11, new Set(ids).size === 1, `${name} was submitted as ${ids.join(", ")}`);
  return {
    id,
    again: async (later) => {
      const repeated = await send();
      later.expect(11, repeated === id, `${name} was submitted again as ${repeated}`);
    },
  };
}

/** Waits for a run's end: it comes, and as a success. */
export async function expectSuccess({ drydock }: Site, id: string, findings: Findings): Promise<RunView | null> {
  const over = await drydock.runIn(id, overStates).catch(() => null);
  findings.expect(6, over?.state === "succeeded", `run ${id} is ${over?.state ?? "not over"}: ${over?.message ?? ""}`);
  return over;
}

/** Asks the oracle. What it saw is kept beside the report when an invariant is broken. */
export async function judge(site: Site, runIds: readonly string[], findings: Findings): Promise<void> {
  const evidence = await new Oracle(site).check(runIds, findings);
  if (findings.violations().length === 0) return;
  await mkdir(reportFolder, { recursive: true });
  await writeFile(join(reportFolder, `${slugOf(findings.fault)}.json`), JSON.stringify(evidence, null, 2));
}

/** Writes this part's table beside those of the other parts, and all of them into one report, whose path it prints. */
export async function report(part: string, title: string, all: readonly Findings[]): Promise<void> {
  const table = reportTable(title, all);
  await mkdir(reportFolder, { recursive: true });
  await writeFile(join(reportFolder, `part-${part}.md`), table);
  const parts = (await readdir(reportFolder)).filter((name) => /^part-.+\.md$/.test(name)).toSorted();
  const tables = await Promise.all(parts.map(async (name) => await readFile(join(reportFolder, name), "utf8")));
  const path = join(reportFolder, "report.md");
  await writeFile(path, tables.join("\n"));
  process.stdout.write(`\n${table}\nreport: ${path}\n`);
}

export function slugOf(fault: string): string {
  return fault
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, 40);
}
