import { readdir } from "node:fs/promises";
import { createReadStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import type { KubeClient } from "../cluster/kube-client.ts";

// What an API server wrote, whoever asked for it. Signs of life (leases, nodes) are left out.

const writingVerbs = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];
const signsOfLife = ["leases", "nodes"];
const quietMs = 3000;

/** Writes that the API server has answered with success since its start, by resource. */
export async function writesByResource(admin: KubeClient): Promise<Map<string, number>> {
  const metrics = await admin.call<string>("GET", "/metrics");
  const counted = new Map<string, number>();
  for (const line of metrics.split("\n")) {
    const match = /^apiserver_request_total\{(.*)\} (\S+)$/.exec(line);
    if (match === null) continue;
    const label = (name: string): string => new RegExp(`\\b${name}="([^"]*)"`).exec(match[1] ?? "")?.[1] ?? "";
    if (!writingVerbs.includes(label("verb")) || signsOfLife.includes(label("resource"))) continue;
    if (label("code").startsWith("2")) add(counted, part(label("resource"), label("subresource")), Number(match[2]));
  }
  return counted;
}

/** What was written between two counts, most first. */
export function writesBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): Map<string, number> {
  const grown = [...after].map(([name, number]): [string, number] => [name, number - (before.get(name) ?? 0)]);
  return new Map(grown.filter(([, number]) => number > 0).toSorted(([, a], [, b]) => b - a));
}

export function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, number) => total + number, 0);
}

/** Until nobody has written for three seconds, so that what follows the last pod counts too; answers the counts. */
export async function writesWhenQuiet(admin: KubeClient, deadlineMs: number): Promise<Map<string, number>> {
  let latest = await writesByResource(admin);
  let changedAtMs = performance.now();
  while (performance.now() - changedAtMs < quietMs && performance.now() < deadlineMs) {
    await delay(500);
    const next = await writesByResource(admin);
    if (sum(next) !== sum(latest)) changedAtMs = performance.now();
    latest = next;
  }
  return latest;
}

interface AuditLine {
  readonly verb: string;
  readonly userAgent?: string;
  readonly user: { readonly username: string };
  readonly objectRef?: { readonly resource?: string; readonly subresource?: string };
  readonly responseStatus?: { readonly code?: number };
  readonly requestReceivedTimestamp: string;
}

/** The same from the audit logs in `folder`, by who wrote what and how, since `fromMs` of the wall clock. */
export async function writesByAgent(folder: string, fromMs: number): Promise<Map<string, number>> {
  const counted = new Map<string, number>();
  const names = await readdir(folder);
  for (const name of names.filter((file) => /^audit.*\.log$/.test(file)))
    for await (const line of createInterface({ input: createReadStream(join(folder, name)) })) {
      const entry = JSON.parse(line) as AuditLine;
      if (Date.parse(entry.requestReceivedTimestamp) < fromMs || !hasWritten(entry)) continue;
      const { resource = "", subresource = "" } = entry.objectRef ?? {};
      add(counted, `${agentOf(entry)}: ${entry.verb} ${part(resource, subresource)}`, 1);
    }
  return new Map([...counted].toSorted(([, a], [, b]) => b - a));
}

function hasWritten({ objectRef, responseStatus }: AuditLine): boolean {
  return responseStatus?.code?.toString().startsWith("2") === true && !signsOfLife.includes(objectRef?.resource ?? "");
}

/** The controllers of the controller manager have an account each; others are known by the name of their program. */
function agentOf({ user, userAgent = "" }: AuditLine): string {
  const account = /^system:serviceaccount:kube-system:(.+)$/.exec(user.username)?.[1];
  return account ?? /^[^/ ]+/.exec(userAgent)?.[0] ?? "unnamed";
}

function part(resource: string, subresource: string): string {
  return subresource === "" ? resource : `${resource}/${subresource}`;
}

function add(counts: Map<string, number>, name: string, number: number): void {
  counts.set(name, (counts.get(name) ?? 0) + number);
}
