import { request as httpRequest, type Agent } from "node:http";
import { request as httpsRequest } from "node:https";
import { messageOf } from "@drydock/kit";
import type { WebhookPayload } from "@drydock/spec";
import { Webhook as StandardWebhook } from "standardwebhooks";

export interface SentWebhook {
  readonly id: string;
  readonly url: URL;
  readonly payload: WebhookPayload;
  /** Each signs: `whsec_…`, the current one first. */
  readonly secrets: readonly string[];
  readonly agent: Agent;
  readonly signal: AbortSignal;
}

/** What one try came to. `status` is null when there was no answer. */
export interface SendOutcome {
  readonly status: number | null;
  /** Null when the receiver has taken it. */
  readonly error: string | null;
}

/**
 * Posts an event once, signed as Standard Webhooks has it (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body. The time is that
 * of the try, so that a receiver may refuse what is old. Redirects are not followed: they could lead anywhere.
 */
export async function sendWebhook(sent: SentWebhook): Promise<SendOutcome> {
  const body = JSON.stringify(sent.payload);
  const now = new Date();
  const signatures = sent.secrets.map((secret) => new StandardWebhook(secret).sign(sent.id, now, body));
  const headers = {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    "user-agent": "drydock",
    "webhook-id": sent.id,
    "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
    "webhook-signature": signatures.join(" "),
  };
  try {
    const status = await post(sent, headers, body);
    return { status, error: status >= 200 && status < 300 ? null : `the receiver answered ${status}` };
  } catch (error) {
    return { status: null, error: messageOf(error) };
  }
}

async function post(
  { url, agent, signal }: SentWebhook,
  headers: Readonly<Record<string, string | number>>,
  body: string,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  const request = send(url, { method: "POST", headers, agent, signal }, (response) => {
    resolve(response.statusCode ?? 0);
    // Nobody needs the answer's text, and it may be endless.
    response.destroy();
  });
  request.on("error", reject);
  request.end(body);
  return await promise;
}
