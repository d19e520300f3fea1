import { setTimeout as delay } from "node:timers/promises";
import type { KubeClient, KubeObject } from "../kube-client.ts";
import { applyAll } from "../manifests.ts";

/** Where a webhook server of the test cluster listens: a process on this computer instead of a Service. */
export interface WebhookPlace {
  readonly url: string;
  /** Base64 of the authority that signed its certificate. */
  readonly caBundle: string;
}

interface Webhook {
  readonly name: string;
  readonly clientConfig: { readonly service?: { readonly path?: string } };
  readonly [key: string]: unknown;
}

/**
 * Rewrites webhook configurations made for a Service in the cluster to a process beside it, and keeps the named ones
 * alone: an entry of a framework that is switched off would cost a call for each of its objects.
 *
 * @param keep  the name without its first letter (m or v) and suffix → what to add to the entry, such as a selector
 */
export function rewriteWebhooks(
  objects: readonly KubeObject[],
  prefix: string,
  { url, caBundle }: WebhookPlace,
  keep: Readonly<Record<string, object>>,
): KubeObject[] {
  return objects.map((object) => {
    const webhooks = (object["webhooks"] as Webhook[]).flatMap((webhook) => {
      const subject = /^[mv]([a-z]+)\./.exec(webhook.name)?.[1] ?? "";
      const additions = keep[subject];
      if (additions === undefined) return [];
      const path = webhook.clientConfig.service?.path ?? "";
      return [{ ...webhook, ...additions, clientConfig: { url: `${url}${path}`, caBundle } }];
    });
    return { ...object, metadata: { name: `${prefix}-${object.metadata.name}` }, webhooks };
  });
}

/** Points the conversion of the named resources to a process beside the cluster. */
export function rewriteConversions(
  definitions: readonly KubeObject[],
  { url, caBundle }: WebhookPlace,
  plurals: readonly string[],
): KubeObject[] {
  const webhook = { conversionReviewVersions: ["v1"], clientConfig: { url: `${url}/convert`, caBundle } };
  return definitions.map((definition) => {
    if (!plurals.includes(definition.metadata.name.split(".")[0] ?? "")) return definition;
    const spec = definition["spec"] as object;
    return { ...definition, spec: { ...spec, conversion: { strategy: "Webhook", webhook } } };
  });
}

/** Applies definitions of resources and waits until the API server serves them. */
export async function applyDefinitions(client: KubeClient, definitions: readonly KubeObject[]): Promise<void> {
  await applyAll(client, definitions);
  for (const { metadata } of definitions) {
    const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${metadata.name}`;
    while (!isEstablished(await client.call("GET", path))) await delay(50);
  }
}

function isEstablished(definition: KubeObject): boolean {
  const status = definition["status"] as { conditions?: { type: string; status: string }[] | null } | undefined;
  return (status?.conditions ?? []).some(
    (condition) => condition.type === "Established" && condition.status === "True",
  );
}
