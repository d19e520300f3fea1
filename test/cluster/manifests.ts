import { readFile, readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { KubeClient, KubeObject } from "./kube-client.ts";

/** The objects of a YAML text, in order. */
export function objectsOf(text: string): KubeObject[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as KubeObject | null)
    .filter((object) => object !== null);
}

/** The objects of a file, or of every YAML file of a folder but its kustomization. */
export async function readManifests(path: string): Promise<KubeObject[]> {
  if (extname(path) === ".yaml") return objectsOf(await readFile(path, "utf8"));
  const files = (await readdir(path)).filter((name) => name.endsWith(".yaml") && name !== "kustomization.yaml");
  return (await Promise.all(files.toSorted().map(async (name) => await readManifests(join(path, name))))).flat();
}

/** Plural names of kinds that end irregularly or that tests apply; anything else gets an `s`. */
const plurals: Readonly<Record<string, string>> = {
  NetworkPolicy: "networkpolicies",
  PriorityClass: "priorityclasses",
  WorkloadPriorityClass: "workloadpriorityclasses",
};

/** The path of the collection that an object belongs to. */
export function collectionOf({ apiVersion = "v1", kind = "", metadata }: KubeObject): string {
  const group = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const place = metadata.namespace === undefined ? "" : `/namespaces/${metadata.namespace}`;
  return `${group}${place}/${plurals[kind] ?? `${kind.toLowerCase()}s`}`;
}

const first = ["Namespace", "ServiceAccount", "CustomResourceDefinition", "ResourceFlavor", "ClusterQueue"];

/** Applies objects, those first that others need. */
export async function applyAll(client: KubeClient, objects: readonly KubeObject[]): Promise<void> {
  const rank = ({ kind = "" }: KubeObject): number => (first.includes(kind) ? first.indexOf(kind) : first.length);
  for (const object of objects.toSorted((a, b) => rank(a) - rank(b))) await client.apply(collectionOf(object), object);
}
