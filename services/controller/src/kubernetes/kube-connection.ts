import { readFile } from "node:fs/promises";
import { Agent, request, type RequestOptions } from "node:https";
import type { IncomingMessage } from "node:http";
import { KubeConfig } from "@kubernetes/client-node";
import { InvalidError, messageOf } from "@drydock/kit";

export interface KubeRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path with query. */
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
  /** Ends the request, body included. */
  readonly signal: AbortSignal;
}

/** The way to one API server: address, trust and who we are. */
export interface KubeConnection {
  /** Address, for messages. */
  readonly server: string;
  /** Sends a request; resolves with the headers. Rejects only when no answer came. */
  send(request: KubeRequest): Promise<IncomingMessage>;
}

/**
 * A connection from a kubeconfig file, or from inside a pod when `path` is null. Only authentication is the client
 * library's: its calls have no deadline, drop fields that they do not know, and its watches stop for good on an error.
 *
 * @throws InvalidError `invalid_kubeconfig` naming the file and what is wrong with it
 */
export async function connectToCluster(path: string | null): Promise<KubeConnection> {
  const config = await loadConfig(path);
  const cluster = config.getCurrentCluster();
  const where = path ?? "the pod's service account";
  if (!cluster || !config.getCurrentUser())
    throw new InvalidError(
      "invalid_kubeconfig",
      `${where} has no current context with a cluster and a user: choose one with \`kubectl config use-context\``,
    );
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  return {
    server: cluster.server,
    send: async (sent) => await send(config, agent, cluster.server, sent),
  };
}

async function loadConfig(path: string | null): Promise<KubeConfig> {
  const config = new KubeConfig();
  if (path === null) {
    config.loadFromCluster();
    return config;
  }
  try {
    config.loadFromString(await readFile(path, "utf8"));
    return config;
  } catch (error) {
    throw new InvalidError(
      "invalid_kubeconfig",
      `the kubeconfig ${path} cannot be read (${messageOf(error)}): set KUBECONFIG to a file that \`kubectl\` works with`,
      { cause: error },
    );
  }
}

async function send(config: KubeConfig, agent: Agent, server: string, sent: KubeRequest): Promise<IncomingMessage> {
  const url = new URL(sent.path, server);
  const options: RequestOptions = { method: sent.method, signal: sent.signal, headers: {} };
  await config.applyToHTTPSOptions(options);
  const body = sent.body === undefined ? undefined : JSON.stringify(sent.body);
  const { agent: _own, headers, ...authentication } = options;
  return await new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        ...authentication,
        agent,
        headers: {
          ...(headers as Record<string, string>),
          accept: "application/json",
          "user-agent": "drydock-controller",
          ...(body === undefined
            ? {}
            : {
                "content-type": sent.contentType ?? "application/json",
                "content-length": String(Buffer.byteLength(body)),
              }),
        },
      },
      resolve,
    );
    outgoing.once("error", reject).end(body);
  });
}
