import { lookup } from "node:dns/promises";
import type { Agent as HttpAgent } from "node:http";
import { isIP } from "node:net";
import { InvalidError } from "@drydock/kit";
import ipaddr from "ipaddr.js";
import { RequestFilteringHttpAgent, RequestFilteringHttpsAgent } from "request-filtering-agent";

/**
 * Where webhooks may go: to public addresses by https, and wherever the configuration allows. Looked at when a webhook is written, so that
 * a person is told, and again at every connection, because a name may mean another address by then.
 */
export class WebhookTargets {
  readonly #allowed: readonly string[];
  readonly #agents: { readonly http: HttpAgent; readonly https: HttpAgent };

  /** @param allowed  addresses and networks (`10.1.2.3`, `10.0.0.0/8`) that are not public */
  constructor(allowed: readonly string[]) {
    this.#allowed = allowed.map((each) => (each.includes("/") ? each : ipaddr.parse(each).toString()));
    const filter = { allowIPAddressList: [...this.#allowed], keepAlive: false };
    this.#agents = { http: new RequestFilteringHttpAgent(filter), https: new RequestFilteringHttpsAgent(filter) };
  }

  /** The agent whose connections go nowhere else. */
  agentFor({ protocol }: URL): HttpAgent {
    return protocol === "https:" ? this.#agents.https : this.#agents.http;
  }

  /** @throws InvalidError `webhook_target_refused` saying what of the URL is not allowed */
  async check(text: string): Promise<void> {
    const url = new URL(text);
    if (url.username !== "" || url.password !== "")
      refuse("the URL carries a user name or password, which would be kept and shown: leave it out");
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
    const addresses = await addressesOf(host);
    const isPrivate = addresses.find((address) => !this.#isAllowed(address) && !isPublic(address));
    if (isPrivate !== undefined)
      refuse(
        `${host} is ${isPrivate === host ? "" : `${isPrivate}, `}not a public address, and this server sends nothing to its own network: use another, or let an administrator add it to DRYDOCK_WEBHOOK_ALLOW`,
      );
    if (url.protocol !== "https:" && !addresses.every((address) => this.#isAllowed(address)))
      refuse("what webhooks tell would go over the net in the clear: use an https URL");
  }

  #isAllowed(address: string): boolean {
    const parsed = ipaddr.parse(address);
    return this.#allowed.some((each) => {
      if (!each.includes("/")) return parsed.toString() === each;
      const network = ipaddr.parseCIDR(each);
      return parsed.kind() === network[0].kind() && parsed.match(network);
    });
  }
}

function isPublic(address: string): boolean {
  return ipaddr.parse(address).range() === "unicast";
}

async function addressesOf(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch (cause) {
    return refuse(`there is no host "${host}": check the name`, cause);
  }
}

function refuse(message: string, cause?: unknown): never {
  throw new InvalidError("webhook_target_refused", message, {
    details: [{ path: "url", code: "webhook_target_refused", message }],
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Whether a text is an address or a network. */
export function isAddressOrNetwork(text: string): boolean {
  return text.includes("/") ? ipaddr.isValidCIDR(text) : ipaddr.isValid(text);
}
